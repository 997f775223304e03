"""x <- unit(x + g_j read_j(x)), x <- x + g A(x) norm(x): which gains g are negative?

This module trains networks whose gains are fixed at +-1 or learned, and tests what its plans ask. Every run is kept.
"""

import platform
import time
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from ctrlattn.nn import ReadTransformer
from ctrlattn.nn.experiment.resume import stored
from ctrlattn.nn.experiment.statistics import holm, paired
from stage.read_alone import Size, fit
from stage.signed_attention import SignedTransformer
from stage.statistics import interval

PATTERNS = tuple("".join(signs) for signs in product("-+", repeat=3))
READS = ("association", "context", "MLP")
SMALL = {"dim": 8, "layers": 1, "heads": 2, "context": 8, "batch": 4, "steps": 10, "windows": 16}


@dataclass(frozen=True)
class Material:
    """What all runs of a plan share: where they are kept, the plan, the text and its parts, the size."""

    folder: object
    plan: dict
    parts: dict
    vocabulary: int
    size: Size


def material(folder, plan, parts, vocabulary, small, seed=0):
    """The material of a plan, its seeds moved by `seed`; its own size, or a tiny one that says nothing."""
    size = Size(**(SMALL if small else plan["size"]), searched=0, seeds=0)
    seeds = {name: [each + seed for each in plan[name]] for name in ("selection", "seeds")}
    if small:
        seeds = {"selection": seeds["selection"][:1], "seeds": seeds["seeds"][:2], "rates": plan["rates"][:1]}
    return Material(folder, {**plan, **seeds}, parts, vocabulary, size)


def without_order(parts, context):
    """The same characters in random order within pieces as long as a window: composition without order."""
    rng = np.random.default_rng(0)
    pieces = {name: np.array_split(ids, max(len(ids) // (context + 1), 1)) for name, ids in parts.items()}
    return {name: np.concatenate([rng.permutation(piece) for piece in some]) for name, some in pieces.items()}


def reads(arm, seed, m):
    """The reading network of an arm: signs such as "-+-", or gains that are learned."""
    learned = arm not in PATTERNS
    sign = m.plan["learned"][arm] if learned else [float(f"{each}1") for each in arm]
    shape = {"dim": m.size.dim, "slots": m.plan["slots"], "layers": m.size.layers, "context": m.size.context}
    return ReadTransformer(m.vocabulary, **shape, sign=sign, learned_sign=learned, seed=seed)


def run(arm, rate, seed, m, build):
    """One run from its file, or trained and written there; `build` makes the network of an arm."""

    def make():
        model, began = build(arm, seed, m), time.strftime("%Y-%m-%dT%H:%M:%S")
        parts = without_order(m.parts, m.size.context) if "no order" in arm else m.parts
        result = fit(model, rate, seed, parts, m.size, marks=2)
        gains = [layer.sign.tolist() for layer in model.layers]
        versions = {"python": platform.python_version(), "numpy": np.__version__, "torch": str(torch.__version__)}
        return {**result, "gains": gains, "began": began, "versions": versions}

    size = {key: value for key, value in m.size._asdict().items() if key not in ("searched", "seeds")}
    settings = {"arm": arm, "rate": rate, "seed": seed, **size, "plan": m.plan["sha256"]}
    return stored(m.folder, f"{arm.replace(' ', '_')}_{rate:g}_{seed}", settings, make)


def runs_of(arms, m, build):
    """{arm: its search and its runs at the rate that the search chose}."""
    result = {}
    for arm in arms:
        losses_at = {}
        for rate in m.plan["rates"]:
            losses_at[rate] = float(np.mean([run(arm, rate, seed, m, build)["one"] for seed in m.plan["selection"]]))
        rate = min(losses_at, key=losses_at.get)
        runs = [run(arm, rate, seed, m, build) for seed in m.plan["seeds"]]
        result[arm] = {
            "search": {f"{r:g}": loss for r, loss in losses_at.items()},
            "rate": rate,
            "losses": [each["two"] for each in runs],
            "gains": [each["gains"] for each in runs],
            "began": runs[0]["began"],
            "versions": runs[0]["versions"],
        }
    return result


def judged(differences, directions, alpha):
    """Each test of the plan: Student's interval, sign flips, Holm over all; in the order of the plan."""
    results = {name: paired(differences[name], direction) for name, direction in directions.items()}
    corrected = holm({name: result.p_sign_flip for name, result in results.items()})
    return {
        name: {
            "values": [float(value) for value in differences[name]],
            "direction": directions[name],
            "mean": result.mean,
            "low": result.low,
            "high": result.high,
            "p_sign_flip": result.p_sign_flip,
            "p_holm": corrected[name],
            "holds": corrected[name] < alpha,
        }
        for name, result in results.items()
    }


def losses_of(arms, place=None, sign=None, within=PATTERNS):
    """(patterns, seeds) losses of the patterns that have `sign` at `place`."""
    return np.array([arms[p]["losses"] for p in within if place is None or p[place] == sign])


def gains_of(arm):
    """(seeds, reads) learned gains, each the mean over layers."""
    return np.array(arm["gains"]).mean(1)


def read_differences(arms):
    """What the plan of the reads tests, one value for each seed."""
    plus, minus = losses_of(arms, 1, "+"), losses_of(arms, 1, "-")
    subtracted = [p for p in PATTERNS if p[1] == "-"]

    def effect(place):
        with_plus, with_minus = (losses_of(arms, place, sign, subtracted).mean(0) for sign in "+-")
        return with_plus - with_minus

    start, from_one = gains_of(arms["from 0"]), gains_of(arms["from +1"])
    return {
        "context: loss of the four with + less that of the four with -": plus.mean(0) - minus.mean(0),
        "context: best with + less worst with -": plus.min(0) - minus.max(0),
        "association, context -: loss with + less with -": effect(0),
        "MLP, context -: loss with + less with -": effect(2),
        "learned from 0: gain of the context": start[:, 1],
        "learned from +1: gain of the context": from_one[:, 1],
        "learned from 0: gain of the association": start[:, 0],
        "learned from 0: gain of the MLP": start[:, 2],
    }


def measure_reads(m):
    """Every number of the reading networks."""
    arms = runs_of([*PATTERNS, *m.plan["learned"]], m, reads)
    return {
        "plan": m.plan,
        "size": m.size._asdict(),
        "arms": arms,
        "intervals": {arm: interval(each["losses"]) for arm, each in arms.items()},
        "gains": {
            arm: {name: interval(gains_of(arms[arm])[:, j]) for j, name in enumerate(READS)}
            for arm in m.plan["learned"]
        },
        "tests": judged(read_differences(arms), m.plan["tests"], m.plan["alpha"]),
    }


def attention(arm, seed, m):
    """The transformer of an arm such as "fixed strict -1" or "learned from 0"."""
    *kind, sign = arm.removesuffix(" from 0").split() + ([] if not arm.endswith("from 0") else ["0"])
    block = {"fixed": "fixed" in kind, "strict": "strict" in kind, "sign": float(sign), "learned": "from 0" in arm}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = (m.vocabulary, m.size.dim, m.size.layers, m.size.heads, m.size.context)
        return SignedTransformer(*shape, **block)


def attention_differences(arms):
    """What the plan of attention tests, one value for each seed."""

    def less(a, b):
        return np.subtract(arms[a]["losses"], arms[b]["losses"])

    def gain(arm):
        return np.array(arms[arm]["gains"]).mean(1)

    return {
        "fixed: loss at -1 less at +1": less("fixed -1", "fixed +1"),
        "fixed: loss at -1 less without attention": less("fixed -1", "fixed 0"),
        "fixed: loss at +1 less without attention": less("fixed +1", "fixed 0"),
        "fixed: gain learned from 0": gain("fixed from 0"),
        "fixed strict: gain learned from 0": gain("fixed strict from 0"),
        "learned: gain learned from 0": gain("learned from 0"),
    }


def measure_attention(m):
    """Every number of the ordinary transformers."""
    arms = runs_of(m.plan["arms"], m, attention)
    return {
        "plan": m.plan,
        "size": m.size._asdict(),
        "arms": arms,
        "intervals": {arm: interval(each["losses"]) for arm, each in arms.items()},
        "tests": judged(attention_differences(arms), m.plan["tests"], m.plan["alpha"]),
    }
