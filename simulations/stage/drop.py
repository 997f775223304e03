"""x + F(norm(x)) -> x, or x + G norm(x) + b: sublayers taken out of a real network, bare or with a static gain.

This module measures for the scene `03_drop.py` how much the loss of a network grows when sublayers or heads are taken
out, how much of that a static gain or a memory wins back, and what speed and cache it saves.
"""

import json
import os
import re
import sys
import textwrap
import time
import zlib
from collections import namedtuple
from pathlib import Path

import numpy as np
import torch

from ctrlattn import checkpoints
from ctrlattn.checkpoints import (
    Calibration,
    choose,
    cost,
    drop,
    drop_heads,
    evaluate,
    head_importance,
    importance,
    load,
)
from ctrlattn.checkpoints.network.structure import stand_in
from ctrlattn.checkpoints.reduce.compensate import settings_of
from ctrlattn.files import atomic
from stage.drop_documents import owners_of, works_at, works_of
from stage.statistics import interval, standard_error

Size = namedtuple("Size", "length calibration selection test plays")

SMALL = Size(length=16, calibration=24, selection=6, test=8, plays=4)

FULL = Size(length=256, calibration=32, selection=16, test=16, plays=8)

PARTS = {"calibration": 160, "selection": 50}  # documents; the others are test

BARE = {"attention": (4, 8, 15, 20), "mlp": (4, 8, 15), "blocks": (4, 8, 15)}

GAINS = {
    "cosine + gain": (8, 15),
    "chosen + gain": (4, 8, 12, 15, 20),
    "cosine + memory": (8,),
    "chosen + memory": (8, 15),
}

GAPS = (64, 448)  # tokens between a passage and its copy

PASSAGE = 64

HEADS = (4, 8)  # times the heads of a layer

ABLATIONS = {"rank 255": {"rank": 255}}

NAMES = {"attention": "attention, by cosine", "mlp": "MLP, by cosine", "blocks": "blocks, by cosine"}


def split(path, tokenizer, size, seed):
    """{"calibration", "selection", "test"} -> (windows, length), no document in two of them."""
    documents = [line.strip() for line in Path(path).read_text(encoding="utf-8").split("\n") if line.strip()]
    order = np.random.default_rng(seed).permutation(len(documents))
    ends = np.cumsum(list(PARTS.values()))
    order_of = dict(zip((*PARTS, "test"), np.split(order, ends), strict=True))

    def tokens(texts):
        return [i for text in texts for i in tokenizer(text + "\n\n", add_special_tokens=False)["input_ids"]]

    def windows(name, texts):
        ids = tokens(texts)
        all_windows = np.array(ids[: len(ids) // size.length * size.length]).reshape(-1, size.length)
        return all_windows[np.linspace(0, len(all_windows) - 1, getattr(size, name)).astype(int)]

    parts = {name: windows(name, [documents[k] for k in indices]) for name, indices in order_of.items()}
    first = tokens([documents[k] for k in order_of["calibration"]])[: 16 * size.length]
    parts["long"] = np.array(first[: len(first) // 2 * 2]).reshape(2, -1)  # two windows of eight times the length
    for name in PARTS:
        parts[f"{name}, varied"] = repeated(windows(name, wrapped([documents[k] for k in order_of[name]], seed)))
    return parts, {name: sorted(int(k) for k in indices) for name, indices in order_of.items()}


def owners_of_test(path, tokenizer, size, seed):
    """The documents of each test window that `split` makes of a text."""
    documents = [line.strip() for line in Path(path).read_text(encoding="utf-8").split("\n") if line.strip()]
    test = np.random.default_rng(seed).permutation(len(documents))[sum(PARTS.values()) :].tolist()
    lengths = [len(tokenizer(documents[k] + "\n\n", add_special_tokens=False)["input_ids"]) for k in test]
    return owners_of(lengths, test, size.length, size.test)


def wrapped(documents, seed):
    """Every other document set in lines, as typed text is, a sentence a paragraph."""
    rng = np.random.default_rng(seed)
    widths = rng.integers(35, 75, len(documents))
    lines = [
        "\n".join(textwrap.fill(sentence, int(width)) for sentence in re.split(r"(?<=[.?!]) ", document))
        for document, width in zip(documents, widths, strict=True)
    ]
    return [lines[k] if k % 2 else document for k, document in enumerate(documents)]


def repeated(windows):
    """Every other window says its first half again: what only copying from the context predicts."""
    half = windows.shape[1] // 2
    return np.array([np.concatenate([w[:half], w[:half]]) if k % 2 else w for k, w in enumerate(windows)])


def plays(path, tokenizer, size, seed):
    """Windows from places drawn at random, and as many again as half the calibration, none of them near those.

    The text is a file, or a folder of files in the order of their names, each of which is a document. Returns the
    windows, those for calibration, and the documents of both (None for a file).
    """
    texts, names = works_of(path) if Path(path).is_dir() else ([Path(path).read_text("utf-8", errors="replace")], None)
    text, rng = "".join(texts), np.random.default_rng(seed + 1)
    room = 12 * size.length
    starts = np.sort(rng.integers(len(text) // 20, len(text) - room, size.plays))
    more = rng.integers(len(text) // 20, len(text) - room, 2 * size.calibration)
    more = more[np.abs(more[:, None] - starts).min(1) > 2 * room][: size.calibration // 2]

    def cut(start):
        return tokenizer(text[start : start + room], add_special_tokens=False)["input_ids"][2 : 2 + size.length]

    where = [None if names is None else works_at(texts, names, places) for places in (starts, more)]
    return np.array([cut(s) for s in starts]), np.array([cut(s) for s in more]), where


def tiny(seed):
    """A random network and a random text."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=24, num_hidden_layers=6, num_attention_heads=3, intermediate_size=32,
        initializer_range=0.3, bos_token_id=0, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        checkpoint = load(transformers.LlamaForCausalLM(config), attention="sdpa")
    rng = np.random.default_rng(seed)
    texts = {name: rng.integers(64, size=(getattr(SMALL, name), SMALL.length)) for name in SMALL._fields[1:]}
    texts |= {f"{name}, varied": texts[name] for name in PARTS} | {"both kinds": texts["calibration"]}
    texts["long"] = texts["calibration"]
    return checkpoint, texts, {}


class Runs:
    """Configurations, each kept in a file."""

    def __init__(self, folder, checkpoint, texts, settings):
        self.folder, self.checkpoint, self.texts, self.settings = folder, checkpoint, texts, settings

    def stored(self, name, make):
        """The result of that name from its file, or else made and written there."""
        file = self.folder / f"{name.replace(' ', '_').replace(',', '')}.json"
        if file.exists() and (entry := json.loads(file.read_text(encoding="utf-8")))["settings"] == self.settings:
            return entry["result"]
        began = time.perf_counter()
        result = {**make(), "seconds": time.perf_counter() - began}
        with atomic(file) as path:
            path.write_text(json.dumps({"settings": self.settings, "result": result}), encoding="utf-8")
        print(f"{name}: {result.get('test', '')} {result['seconds']:.0f} s", file=sys.stderr, flush=True)
        return result

    def losses(self, checkpoint):
        return {name: evaluate(checkpoint, self.texts[name]).window_losses.tolist() for name in ("test", "plays")}

    def network(self, name, make):
        """A smaller network, saved once for these settings and loaded from there."""
        folder = self.folder / f"{name}-{zlib.crc32(json.dumps(self.settings).encode()):08x}"
        if not (folder / "config.json").exists():
            checkpoints.save(make(), folder)
        return load(folder, attention="sdpa")

    def dropped(self, name, compensate=None, **sublayers):
        """Increase of the loss by a drop."""
        layers = [int(i) for i in sorted(*sublayers.values())]
        return self.compared(name, lambda: drop(self.checkpoint, **sublayers, compensate=compensate), layers)

    def compared(self, name, change, layers):
        """Increase of the loss by a change, paired with the whole network."""
        full_losses = self.stored("whole", lambda: {"losses": self.losses(self.checkpoint)})["losses"]

        def make():
            began = time.perf_counter()
            smaller = change()
            fit = time.perf_counter() - began
            more = {part: np.subtract(losses, full_losses[part]) for part, losses in self.losses(smaller).items()}
            numbers = {
                p: {"increase": float(d.mean()), "standard_error": standard_error(d), "values": d.tolist()}
                for p, d in more.items()
            }
            return {**numbers, "layers": layers, "fit_seconds": fit}

        return self.stored(name, make)


def ranked(runs):
    """Layers by cosine importance, the least important first; attention, mlp, blocks."""

    def make():
        scores = importance(runs.checkpoint, runs.texts["calibration"][: max(1, 4096 // runs.settings["length"])])
        return {"blocks" if k == "block" else k: v.to_numpy().tolist() for k, v in scores.data_vars.items()}

    scores = runs.stored("importance", make)
    return {kind: np.argsort(scores[kind]).tolist() for kind in BARE}, scores


def fitting(runs, text="calibration", memory=False, **options):
    """A calibration on one of the texts."""
    return Calibration(runs.texts[text], memory=memory, **options)


def chosen(runs, count, layout="", memory=False):
    """The order in which `choose` takes attention layers."""

    def make():
        how = fitting(runs, f"calibration{layout}", memory)
        choice = choose(runs.checkpoint, count, how, runs.texts[f"selection{layout}"])
        return {"order": list(choice.order), "predicted": choice.predicted.tolist()}

    return runs.stored(f"choice{layout}{' memory' * memory}", make)


def measure(runs):
    """Every configuration."""
    depth = len(runs.checkpoint.layers)
    order, scores = ranked(runs)
    largest = min(max(GAINS["chosen + gain"]), depth - 1)
    choice = chosen(runs, largest)
    eight = choice["order"][: min(8, largest)]
    remembered = chosen(runs, largest, memory=True)
    orders = dict.fromkeys(GAINS, order["attention"])
    orders |= {"chosen + gain": choice["order"], "chosen + memory": remembered["order"]}
    curves = {}

    def run(curve, count):
        if count >= depth:
            return
        if curve in BARE:
            result = runs.dropped(f"{curve} {count}", **{curve: order[curve][:count]})
        else:
            layers, how = orders[curve][:count], fitting(runs, memory="memory" in curve)
            result = runs.dropped(f"{curve} {count}", compensate=how, attention=layers)
        numbers = {part: result[part] for part in ("test", "plays", "fit_seconds") if part in result}
        curves.setdefault(NAMES.get(curve, curve), {})[count] = numbers

    # The numbers of sublayers that most is said about come first, the ends of the curves last.
    jobs = [(curve, count) for curve, counts in {**GAINS, **BARE}.items() for count in counts]
    for curve, count in jobs:
        if count == 8:
            run(curve, count)
    for curve, count in jobs:
        if count == 15:
            run(curve, count)
    at_eight = eights(runs, order, scores, eight, remembered["order"][: len(eight)])
    for curve, count in jobs:
        if count not in (8, 15):
            run(curve, count)
    for layers in HEADS:
        curves.setdefault("heads, by cosine", {})[layers] = heads(runs, layers * runs.checkpoint.heads)
    return {
        "curves": {name: dict(sorted(points.items())) for name, points in curves.items()},
        "importance": scores,
        "choice": choice,
        "choice with memory": remembered,
        "parameters": sizes(runs),
        **at_eight,
    }


def eights(runs, order, scores, chosen_eight, remembered):
    """Whatever is said of eight layers alone."""
    cosine = order["attention"][: len(chosen_eight)]
    lines = chosen(runs, min(20, len(runs.checkpoint.layers) - 1), ", varied")["order"][: len(chosen_eight)]
    return {
        "copies": copies(runs, cosine, chosen_eight, remembered),
        "speed": runs.stored("speed", lambda: speed(runs, chosen_eight, remembered)),
        "by maximum": {kind: worst(runs, kind, scores) for kind in BARE},
        "long windows": longer(runs, len(chosen_eight)),
        "MLP alone": [alone(runs, layer) for layer in sorted(order["mlp"][: len(chosen_eight)])],
        "ablations": {name: ablated(runs, name, chosen_eight, **options) for name, options in ABLATIONS.items()},
        "varied": runs.dropped("varied", compensate=fitting(runs, "calibration, varied"), attention=lines),
        "both kinds": runs.dropped("both kinds", compensate=fitting(runs, "both kinds"), attention=cosine),
        "bare at the chosen": runs.dropped("bare at the chosen", attention=chosen_eight),
    }


def worst(runs, kind, scores):
    """As many as eight by the maximum of importance over tokens instead of its mean."""
    turn = np.array(scores["block_max" if kind == "blocks" else f"{kind}_max"])
    least = [int(i) for i in np.argsort(turn)[: min(8, len(turn) - 1)]]
    return runs.dropped(f"{kind} by maximum", **{kind: least})


def longer(runs, count):
    """The least important MLPs by the mean over two long windows, and the one with the worst position alone."""

    def make():
        scores = importance(runs.checkpoint, runs.texts["long"])
        return {"mean": scores["mlp"].to_numpy().tolist(), "max": scores["mlp_max"].to_numpy().tolist()}

    scores = runs.stored("importance of long windows", make)
    least = np.argsort(scores["mean"])[:count].tolist()
    return {
        "together": runs.dropped("mlp by long windows", mlp=least),
        "worst": alone(runs, max(least, key=lambda layer: scores["max"][layer])),
    }


def alone(runs, layer):
    return runs.dropped(f"MLP {layer} alone", mlp=[layer])


def remembering(runs, layers):
    """The network with gains that remember in these layers."""
    return runs.network(
        "memory", lambda: drop(runs.checkpoint, attention=layers, compensate=fitting(runs, memory=True))
    )


def copies(runs, cosine, eight, remembered):
    """Loss of a passage, and of the same passage said again after a gap of other text."""

    def make():
        def gained():
            return drop(runs.checkpoint, attention=eight, compensate=fitting(runs))

        networks = {
            "whole": runs.checkpoint,
            "cosine, bare": drop(runs.checkpoint, attention=cosine),
            "chosen + gain": runs.network("gain", gained),
            "chosen + memory": remembering(runs, remembered),
        }
        return {name: {str(gap): copied(runs, network, gap) for gap in GAPS} for name, network in networks.items()}

    return runs.stored("copies", make)


def copied(runs, checkpoint, gap):
    """Mean loss of a passage when first said and when said again, with its interval over texts and the values."""
    length = min(PASSAGE, runs.settings["length"] // 2)
    texts = np.asarray(runs.texts["test"])[: runs.settings["test"] // 2 * 2]
    between = np.resize(np.roll(texts, 1, axis=0), (len(texts), max(gap, 1)))
    both = torch.as_tensor(np.concatenate([texts[:, :length], between, texts[:, :length]], 1))[::2]
    with torch.inference_mode():
        losses = [
            torch.nn.functional.cross_entropy(
                checkpoint.model(input_ids=ids[None]).logits[0, :-1].float(), ids[1:], reduction="none"
            )
            for ids in both
        ]
    each = np.array([[float(x[: length - 1].mean()), float(x[1 - length :].mean())] for x in losses])
    repetition = interval(each[:, 1])
    return {
        "first": float(each[:, 0].mean()),
        "again": repetition.pop("mean"),
        "standard_error": standard_error(each[:, 1]),
        **repetition,
    }


def heads(runs, count):
    """As many heads as so many layers have, wherever they are, the least important first."""

    def make():
        ids = runs.texts["calibration"][: max(1, 4096 // runs.settings["length"])]
        return {"turn": head_importance(runs.checkpoint, ids)["turn"].to_numpy().tolist()}

    turn = np.array(runs.stored("head importance", make)["turn"])
    least = [tuple(int(i) for i in np.unravel_index(k, turn.shape)) for k in np.argsort(turn, axis=None)[:count]]
    result = runs.compared(f"heads {count}", lambda: drop_heads(runs.checkpoint, least), [list(head) for head in least])
    return {part: result[part] for part in ("test", "plays")}


def ablated(runs, name, layers, **options):
    """The same layers with another setting of the gains."""
    if "rank" in options:
        options["rank"] = min(options["rank"], runs.checkpoint.width // 2 - 1)
    return runs.dropped(f"ablation {name}", compensate=fitting(runs, **options), attention=layers)


def sizes(runs):
    """Parameters of one attention layer, and of what stands for it."""
    sublayer = runs.checkpoint.sublayers("attention")[0]
    rank = {"rank": min(ABLATIONS["rank 255"]["rank"], runs.checkpoint.width // 2 - 1)}
    gains = {"gain": {}, "gain of rank 255": rank, "gain with memory": {"memory": True}}
    modules = {"attention": sublayer.module} | {
        name: stand_in(sublayer, settings_of(runs.checkpoint, "attention", fitting(runs, **options)))
        for name, options in gains.items()
    }
    return {name: sum(p.numel() for p in module.parameters()) for name, module in modules.items()}


def speed(runs, layers, remembered):
    """Prefill and generation with a cache in float32, in turn; parameters; bytes of the cache."""
    networks = {
        "whole": runs.checkpoint,
        "eight layers bare": drop(runs.checkpoint, attention=layers),
        "eight with memory": remembering(runs, remembered),
    }
    ids = runs.texts["test"][:1]
    with torch.autocast("cpu", enabled=False):
        costs = cost(networks, ids)
    costs = {name: result._asdict() for name, result in costs.items()}
    return {"networks": costs, "prompt": ids.shape[1], "load": os.getloadavg()[0], "threads": torch.get_num_threads()}


def curves_of(numbers, part):
    """name -> count, increase, standard_error, with nothing dropped at 0."""
    curves = {}
    for name, points in numbers["curves"].items():
        some = sorted((int(count), point[part]) for count, point in points.items())
        curves[name] = {
            "count": [0, *(count for count, _ in some)],
            **{key: [0.0, *(p[key] for _, p in some)] for key in ("increase", "standard_error")},
        }
    return curves
