"""miss = RMS(r - f·x)/way and loss, over features: loops, pushes, and the clamp x <- x + (r_l - f·x) f.

This module measures for the scene `19_steering_features.py` many features of two networks; each is kept in a file.
"""

import json
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import normalize

from ctrlattn.checkpoints import evaluate
from ctrlattn.checkpoints.network.watch import first, hooked, stream_of
from ctrlattn.files import atomic
from ctrlattn.observers import Settings, SignalSource, measures, train
from ctrlattn.observers.source import window_of
from ctrlattn.observers.steering import Law, Plant, calibrate, feedforward, identify, steered
from ctrlattn.observers.study import observed
from ctrlattn.provenance import provenance
from stage.feedback_sign import window
from stage.page_file import read_json
from stage.plan_file import CONFIGS
from stage.statistics import interval
from stage.steering import laws_for, path_of
from stage.verdict import signed

Size = namedtuple("Size", "features k blocks block held characters documents tokens steered networks")

LAWS = (
    "no law", "push", "led, path", "P led, path", "PI led, path", "clamp, path", "push, late", "P led, late path",
    "clamp, late path", "clamp of the output",
)  # fmt: skip

COMPARISONS = [tuple(row) for row in json.loads((CONFIGS / "steering_features.json").read_bytes())["comparisons"]]

UNPLANNED = [
    *(("loss", law, "clamp of the output") for law in ("PI led, path", "P led, late path", "P led, path")),
    *((figure, "P led, path", "clamp, path") for figure in ("miss", "loss")),
    *(("loss", "P led, path", push) for push in ("push", "push, late")),
]  # asked afterwards; those of P led from the first layer since no PI gains were found in Gemma-3


def parted(text, folder, size):
    """(texts for calibration, texts for judgement, file with all other lines) of a text with one document a line."""
    lines = [line.strip() for line in Path(text).read_text(encoding="utf-8").split("\n") if line.strip()]
    long = [k for k, line in enumerate(lines) if len(line) >= size.characters]
    indices = [long[i] for i in np.linspace(0, len(long) - 1, size.documents).astype(int)]
    rest_file = folder / "dictionary_text.txt"
    with atomic(rest_file) as path:
        path.write_text("\n".join(line for k, line in enumerate(lines) if k not in indices) + "\n", encoding="utf-8")
    return [lines[k] for k in indices[::2]], [lines[k] for k in indices[1::2]], rest_file


def directions(checkpoint, text, layer, size, folder, facts):
    """(number of the feature, its direction) in the order in which they are drawn."""
    source = SignalSource(checkpoint, text, layer, ("state",), size=size.block, context=size.tokens)
    settings = Settings(size.features, size.k, blocks=size.blocks, dead_after=8000, seed=0, start="unit")
    state = folder / f"{facts['network']}.safetensors"
    dictionary, _ = train(lambda block: source.block(block)["state"], settings, state=state, facts=facts)
    held_states = observed(source, source.held_out(size.held), "state").flatten(0, 1)
    frequency = measures.quality(dictionary, held_states).frequency
    order = np.random.default_rng(0).permutation(np.flatnonzero((frequency > 0.005) & (frequency < 0.05)))
    return [(int(i), dictionary.decoder[i].numpy()) for i in order[: size.steered]]


def clamps(checkpoint, direction, path, depths):
    """Hooks that set f·x of every kept token to path[depth]: in front of a layer, or behind the last one."""
    layers, tokens_of = checkpoint.layers, window_of(checkpoint).kept
    f = normalize(torch.as_tensor(direction, dtype=next(checkpoint.model.parameters()).dtype), dim=0)

    def clamped(x, depth):
        tokens, new = tokens_of(x.shape[1]), x.clone()
        new[:, tokens] += (path[depth] - x[:, tokens] @ f)[..., None] * f
        return new

    def before(depth):
        def hook(module, args, kwargs):
            new = clamped(stream_of(args, kwargs), depth)
            return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

        return hook

    def behind(module, args, kwargs, output):
        new = clamped(first(output), len(layers))
        return (new, *output[1:]) if isinstance(output, tuple) else new

    inside = [(layers[depth], before(depth), True) for depth in depths if depth < len(layers)]
    return inside + [(layers[-1], behind, False)] * (len(layers) in depths)


def laws_of(checkpoint, direction, ids, layer, late):
    """({law: (Law, path, first layer, depths of the clamp)}, reasons of what was not found) from the calibration."""
    depth = len(checkpoint.layers)
    plant = identify(checkpoint, direction, ids, start=layer)
    end = Plant(*(part[late - layer :] for part in plant))
    path, end_path = path_of(plant), path_of(end)
    target = float(path[-1])
    pushes = [calibrate(checkpoint, direction, target, ids, start=start) for start in (layer, late)]
    laws = {
        "no law": (Law(), path, layer, ()),
        "push": (pushes[0], path, layer, ()),
        "led, path": (Law(push=feedforward(plant, path)), path, layer, ()),
        "clamp, path": (Law(), path, layer, range(layer + 1, depth)),
        "push, late": (pushes[1], end_path, late, ()),
        "clamp, late path": (Law(), end_path, late, range(late + 1, depth)),
        "clamp of the output": (Law(), path, layer, (depth,)),
    }
    refusals, early, last = {}, laws_for(plant), laws_for(end)
    loops = (
        ("P led, path", early["P"], plant, path, layer), ("PI led, path", early["PI"], plant, path, layer),
        ("P led, late path", last["P"], end, end_path, late),
    )  # fmt: skip
    for name, controller, closed_loop, along, start in loops:
        if isinstance(controller, str):
            refusals[name] = controller
        else:
            laws[name] = (Law(controller, push=feedforward(closed_loop, along)), along, start, ())
    return laws, refusals


def one(checkpoint, direction, calibration, judged, layer, late):
    """{law: mean error, miss and loss, both also of each document} of one feature."""
    laws, refusals = laws_of(checkpoint, direction, calibration, layer, late)
    ends, losses = {}, {}
    for name in (name for name in LAWS if name in laws):
        law, path, start, depths = laws[name]
        by_depth = dict(enumerate(path, start))
        with (
            hooked(clamps(checkpoint, direction, by_depth, depths)),
            steered(checkpoint, direction, law, path, start=start) as outputs,
        ):
            losses[name] = evaluate(checkpoint, judged).window_losses
        ends[name] = torch.cat(outputs[len(checkpoint.layers)]).double().numpy()
    target = float(laws["push"][1][-1])
    way = target - ends["no law"].mean()
    rows = {}
    for name, end in ends.items():
        more = losses[name] - losses["no law"]
        rows[name] = {
            "error": float((target - end.mean()) / way),
            "miss": float(np.sqrt(np.mean((target - end) ** 2)) / abs(way)),
            "misses": (np.sqrt(np.mean((target - end) ** 2, axis=1)) / abs(way)).tolist(),
            "loss": float(more.mean()),
            "losses": more.tolist(),
        }
    return {"laws": rows, "refused": refusals, "way": float(way)}


def measured(checkpoint, name, text, size, plan, folder):
    """[{feature, laws, what ran it}] of a network, kept in files; those that are there are not run again."""
    where = size.networks[name]
    calibration, judged, rest_file = parted(text, folder, size)
    calibration, judged = (
        np.array([window(checkpoint, t, size.tokens) for t in part]) for part in (calibration, judged)
    )
    facts, rows = {"network": name, "plan": plan}, []
    for number, direction in directions(checkpoint, rest_file, where["layer"], size, folder, facts):
        file = folder / f"{name}-{number}.json"
        if not file.exists() or (row := read_json(file))["plan"] != plan:
            start = time.process_time()
            figures = one(checkpoint, direction, calibration, judged, **where)
            seconds = round(time.process_time() - start, 1)
            row = {"feature": number, "plan": plan, "run": provenance(plan), "cpu_seconds": seconds, **figures}
            with atomic(file) as path:
                path.write_text(json.dumps(row), encoding="utf-8")
            print(f"{name}: feature {number}", file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def summary(rows, networks):
    """Intervals over the features of one network: each figure of each law, and what is compared."""
    laws = {}
    for name in LAWS:
        figures = [row["laws"][name] for row in rows if name in row["laws"]]
        if len(figures) > 1:
            laws[name] = {key: interval([figure[key] for figure in figures]) for key in ("error", "miss", "loss")}
    planned = paired(rows, COMPARISONS, len(COMPARISONS) * networks)
    refusals = [law for row in rows for law in row["refused"]]
    return {
        "laws": laws,
        "comparisons": planned,
        "unplanned": paired(rows, UNPLANNED, 1),
        "by document": by_document(rows),
        "features": [row["feature"] for row in rows],
        "refused": {law: refusals.count(law) for law in dict.fromkeys(refusals)},
    }


def paired(rows, comparisons, together):
    """[{figure, law, against, interval of the difference by feature, 95 % for so many together}]."""
    results = []
    for key, law, against in comparisons:
        pairs = [(row["laws"][law][key], row["laws"][against][key]) for row in rows if {law, against} <= {*row["laws"]}]
        if len(pairs) > 1:
            ends = interval([a - b for a, b in pairs], together)
            results.append({"figure": key, "law": law, "against": against, **ends})
    return results


def by_document(rows):
    """The planned differences over documents, each the mean of the features; asked afterwards, alone at 95 %."""
    results = []
    for key, law, against in COMPARISONS:
        each = {"miss": "misses", "loss": "losses"}[key]
        both = [row["laws"] for row in rows if {law, against} <= {*row["laws"]} and each in row["laws"][law]]
        if both:  # an earlier run kept the features alone
            gaps = np.mean([np.subtract(laws[law][each], laws[against][each]) for laws in both], axis=0)
            results.append({"figure": key, "law": law, "against": against, **interval(gaps)})
    return results


def decided(networks, planned):
    """The decisions of the plan: {question: yes, no, more, less or undecided}; none without all planned networks."""
    signs = {}
    for network in networks.values():
        for row in network["comparisons"]:
            sign = -1 if row["high"] < 0 else 1 if row["low"] > 0 else 0
            signs.setdefault((row["figure"], row["law"], row["against"]), []).append(sign)

    def all_of(key, word, reverse):
        """The word where every network is below 0, the other one where every network is above."""
        network_signs = signs.get(key, [])
        if len(network_signs) < planned:
            return "undecided"
        return word if max(network_signs) < 0 else reverse if min(network_signs) > 0 else "undecided"

    def clamp(law, against):
        pairs = list(zip(*(signs.get((figure, law, against), []) for figure in ("miss", "loss")), strict=True))
        if len(pairs) < planned:
            return "undecided"
        if all(min(pair) < 0 and max(pair) <= 0 for pair in pairs):
            return "more"
        return "less" if all(max(pair) > 0 and min(pair) >= 0 for pair in pairs) else "undecided"

    return {
        "P led, late path brings tokens nearer than the late push": all_of(COMPARISONS[0], "yes", "no"),
        "P led, late path does more than the clamp": clamp("P led, late path", "clamp, late path"),
        "PI led, path does more than the clamp": clamp("PI led, path", "clamp, path"),
    }


def table(networks):
    """(head, rows): what tokens miss and what it costs, law by law."""
    head = ["law", *(f"{name}: {words}" for name in networks for words in ("mean misses", "tokens miss", "loss, nats"))]
    rows = []
    for law in LAWS:
        cells = []
        for network in networks.values():
            row = network["laws"].get(law)
            cells += ["–"] * 3 if row is None else [signed(row[key]) for key in ("error", "miss", "loss")]
        rows.append([law, *cells])
    return head, rows
