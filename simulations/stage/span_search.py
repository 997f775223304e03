"""min over laws of loss(law), stage by stage on fresh documents, then one law on documents that no stage has read.

This module measures for the scene of the search over spans. Every span at every stage is a file: a search that was
stopped goes on where it was. The plan is a TOML file that was written before; results carry its digest.
"""

import tomllib
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import numpy as np

from ctrlattn import Spec, checkpoints, tune
from ctrlattn.checkpoints.measure.loop_study import recalled
from ctrlattn.checkpoints.network.inputs import token_ids
from ctrlattn.design import InfeasibleError
from ctrlattn.errors import InputError
from ctrlattn.identity import digest, of_network
from ctrlattn.passes import Passes
from ctrlattn.stability import odd_number_limit
from stage.repeated_span import measured
from stage.spans import Law, Streams, halved, spans_of
from stage.statistics import half_width, interval

PLAN = Path(__file__).parents[1] / "configs" / "span_search.toml"
STAGES = ("coarse", "fine", "close", "held_out")
_SETTLING, _MARGIN = 50, 0.5  # as on the page of one loop
_MODES_TOKENS = 64


def plan_of(path=PLAN):
    """The plan, and its digest; a plan that follows another one has its tables too."""
    plan = tomllib.loads(path.read_text(encoding="utf-8"))
    if "follows" in plan:
        plan = {**plan_of(path.with_name(plan["follows"]))[0], **plan}
    return plan, digest(plan)


def documents_of(news):
    """The lines of a file, or of gensim's news."""
    if news is None:
        if find_spec("gensim") is None:
            raise InputError("--full needs news: install gensim, which ships lee_background.cor, or --text FILE")
        news = Path(find_spec("gensim").origin).parent / "test" / "test_data" / "lee_background.cor"
    lines = [line.strip() for line in Path(news).read_text(encoding="utf-8").split("\n")]
    return [line for line in lines if line]


def windows_by_stage(checkpoint, documents, plan):
    """{stage: (documents, tokens)}: the first tokens of each document that is long enough, no document twice."""
    tokens = plan["tokens"]
    ids = [list(text.encode()) if checkpoint.tokenizer is None else token_ids(checkpoint, text) for text in documents]
    windows = np.array([row[:tokens] for row in ids if len(row) >= tokens])
    windows = windows[np.random.default_rng(plan["seed"]).permutation(len(windows))]
    ends = np.cumsum([0, *(plan["documents"][stage] for stage in STAGES)])
    parts = {stage: windows[a:b] for stage, a, b in zip(STAGES, ends[:-1], ends[1:], strict=True)}
    if len(parts["held_out"]) < 2:
        raise InputError(f"{len(windows)} documents have {tokens} tokens, at least {ends[-2] + 2} are needed")
    return parts


def shuffled(windows, seed):
    """The same tokens of each window in random order; the first stays, where some networks want their own sign."""
    rng = np.random.default_rng(seed)
    return {
        stage: np.concatenate([rows[:, :1], rng.permuted(rows[:, 1:], axis=1)], axis=1)
        for stage, rows in windows.items()
    }


class Search:
    """One search: a network, the windows of each stage, a plan, and the folder of what was measured."""

    def __init__(self, folder, checkpoint, windows, plan):
        self.folder, self.checkpoint, self.windows, self.plan = folder, checkpoint, windows, plan
        self.mark = of_network(checkpoint.model)
        self._quick = None  # made where something is missing, since copying weights takes its time

    @property
    def quick(self):
        """The network with linear maps in bfloat16."""
        self._quick = self._quick or halved(self.checkpoint)
        return self._quick

    def changes(self, stage, laws):
        """{law: (documents,)}: change of the loss on the windows of a stage, span by span from their files."""
        windows = self.windows[stage]
        identity = [self.mark, windows.tolist(), "bfloat16"]
        streams = []

        def stream():
            if not streams:
                streams.append(Streams(self.quick, windows))
            return streams[0]

        source = np.array(measured(self.folder, f"{stage}, source", identity, lambda: stream().source().tolist()))
        changes = {}
        for (a, b), span_laws in groupby(sorted(set(laws)), key=lambda law: law[:2]):
            span_laws = list(span_laws)
            rows = measured(
                self.folder,
                f"{stage}, layers {a} to {b - 1}",
                [*identity, span_laws],
                lambda span_laws=span_laws: [stream().losses(span_laws)[law].tolist() for law in span_laws],
            )
            changes |= {law: np.array(row) - source for law, row in zip(span_laws, rows, strict=True)}
        return changes

    def coarse(self):
        """Every span under few laws."""
        pairs, once = (self.plan["coarse"][name] for name in ("way_and_passes", "once"))
        spans = spans_of(self.plan["lengths"], len(self.checkpoint.layers))
        loops = [Law(a, b, k, way / k) for a, b in spans for way, k in pairs]
        return self.changes("coarse", [*loops, *(Law(a, b, 1, way) for a, b in spans for way in once)])

    def fine(self, coarse):
        """The best spans under all laws."""
        plan = self.plan["fine"]
        laws = [
            Law(a, b, k, way / k, recall=recall)
            for a, b in best_spans(loops_of(coarse), plan["spans"])
            for way in plan["way"] for k in plan["passes"] for recall in plan["recall"]
        ]  # fmt: skip
        spans = best_spans(singles_of(coarse), plan["once_spans"])
        return self.changes("fine", [*laws, *(Law(a, b, 1, way) for a, b in spans for way in plan["once"])])

    def close(self, fine):
        """The best laws, PID laws about the first of them, and tuned ones; single scalings; in float32."""
        plan = self.plan["close"]
        laws = ranked(loops_of(fine))[: plan["laws"]]
        pid = [law for best in laws[: plan["pid_about"]] for law in pid_about(best, plan)]
        spans = self.tuned_spans(fine)
        tuned = [Law(*span, plan["tuned_passes"], *row) for span in spans for row in self.tuned(span)["laws"]]
        once = ranked(singles_of(fine))[: plan["once"]]
        return self.changes("close", [*laws, *pid, *tuned, *once])

    def tuned_spans(self, fine):
        """The spans whose spectrum is measured."""
        return best_spans(loops_of(fine), self.plan["close"]["tuned_spans"])

    def tuned(self, span):
        """{"laws": [[kp, ki, kd, recall], ...], "said"}: what the measured spectrum of a span leads to."""
        ids = self.windows["coarse"][0, :_MODES_TOKENS]
        identity = [self.mark, ids.tolist(), list(span), self.plan["seed"]]

        def work():
            F, h = checkpoints.span_function(self.checkpoint, span, ids)
            try:
                modes = checkpoints.span_modes(F, h, seed=self.plan["seed"])
            except ArithmeticError as error:
                return {"laws": [], "said": f"no spectrum: {error}"}
            least = odd_number_limit(modes.eigenvalues).recall
            law = recalled(modes, max(1.1 * least, 0.5))
            laws = [[law.controller.kp, 0.0, 0.0, law.recall]]
            spec = Spec(settling=_SETTLING, modulus_margin=_MARGIN)
            options = {"terms": "PD", "most_recall": max(4 * least, 2.0), "curve": False, "seed": self.plan["seed"]}
            try:
                design = tune(Passes(), modes.design_points(), spec, **options)
            except InfeasibleError as error:
                return {"laws": laws, "said": f"no tuned law: {error.why}"}
            pid = design.controller
            return {"laws": [*laws, [pid.kp, pid.ki, pid.kd, design.loop.recall]], "said": "tuned"}

        return measured(self.folder, f"spectrum of layers {span[0]} to {span[1] - 1}", identity, work)


def loops_of(changes):
    return {law: each for law, each in changes.items() if law.passes > 1}


def singles_of(changes):
    return {law: each for law, each in changes.items() if law.passes == 1}


def ranked(changes):
    """Laws by their mean change, the least first; equal ones by their names."""
    return sorted(changes, key=lambda law: (float(np.mean(changes[law])), law))


def best_spans(changes, count):
    """Spans by their best law."""
    return list(dict.fromkeys(law[:2] for law in ranked(changes)))[:count]


def pid_about(law, plan):
    """Laws of the same way with an integral, and with a derivative.

    >>> [round(each.way, 9) for each in pid_about(Law(0, 1, 2, 0.5), {"integral": [0.5], "derivative": [0.5]})]
    [1.0, 1.0]
    """
    total, sums = law.passes * law.kp, law.passes * (law.passes + 1) / 2
    integral = [law._replace(kp=law.kp * (1 - share), ki=total * share / sums) for share in plan["integral"]]
    return [*integral, *(law._replace(kd=share * law.kp) for share in plan["derivative"])]


def search(run):
    """All stages, one choice, and what became of it on documents that no stage has read, as plain numbers."""
    plan = run.plan
    coarse = run.coarse()
    fine = run.fine(coarse)
    close = run.close(fine)
    laws = chosen(close, len(run.checkpoint.layers), plan["seed"])
    changes = run.changes("held_out", laws.values())
    held_out = {name: changes[law] for name, law in laws.items()}
    stages = {"coarse": coarse, "fine": fine, "close": close}
    return {
        "laws": {name: list(law) for name, law in laws.items()},
        "spectra": {f"{a} to {b - 1}": run.tuned((a, b)) for a, b in run.tuned_spans(fine)},
        "comparisons": comparisons(held_out),
        "chance": by_chance(loops_of(close), plan["seed"]),
        "steps": {name: steps_of(each, laws["loop"]) for name, each in stages.items()},
        "held out": {name: each.round(6).tolist() for name, each in held_out.items()},
        "stages": {name: [[*law, *each.round(5).tolist()] for law, each in part.items()]
                   for name, part in stages.items()},
    }  # fmt: skip


def chosen(close, count, seed):
    """The best loop of the last stage, its span scaled alike, the best single scaling, the loop on a random span."""
    loop, single = (ranked(kind(close))[0] for kind in (loops_of, singles_of))
    starts = [a for a in range(count - loop.b + loop.a + 1) if a != loop.a] or [loop.a]
    elsewhere = loop.at(int(np.random.default_rng(seed).choice(starts)))
    return {"loop": loop, "scaled alike": loop.once, "best single": single, "random span": elsewhere}


def comparisons(held_out):
    """{name: {"mean", "half"}}: paired by document, Student's at 95 % for all of them together."""
    pairs = {
        "loop - network": ("loop", None),
        "loop - scaled alike": ("loop", "scaled alike"),
        "loop - best single": ("loop", "best single"),
        "best single - network": ("best single", None),
        "random span - network": ("random span", None),
    }
    return joint({name: held_out[a] - (0 if b is None else held_out[b]) for name, (a, b) in pairs.items()})


def joint(each):
    """{name: interval, "half", "documents"} of differences by document, Student's at 95 % for all of them together."""
    return {
        name: {**interval(d, len(each)), "half": float(half_width(d, len(each))), "documents": len(d)}
        for name, d in each.items()
    }


def by_chance(changes, seed, draws=10_000):
    """The least mean of as many laws without effect: each centred, documents with random signs for all laws alike."""
    rows = np.array(list(changes.values()))
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(draws, rows.shape[1]))
    least = (signs @ (rows - rows.mean(1, keepdims=True)).T / rows.shape[1]).min(1)
    return {"mean": float(least.mean()), "low": float(np.quantile(least, 0.05)), "laws": len(rows)}


def steps_of(changes, loop):
    """How many laws a stage had, how many of each kind were below 0, and the best of each kind."""

    def kind(laws):
        means = {law: float(np.mean(each)) for law, each in laws.items()}
        best = min(means, key=means.get)
        return {
            "laws": len(means),
            "below": sum(m < 0 for m in means.values()),
            "best": list(best),
            "mean": means[best],
        }

    row = {"loops": kind(loops_of(changes)), "singles": kind(singles_of(changes))}
    return row | ({"chosen": float(np.mean(changes[loop]))} if loop in changes else {})
