"""x = p + v, F ~ g_p p + g_v v: does attention add what earlier tokens predict of the state, or take it away?

This module measures for the scene `18_innovation.py` the gains of attention's contribution F along the prediction p of
a state and along its innovation v, layer by layer and document by document, beside controls and planted automata.
"""

import json
import sys
from collections import namedtuple
from hashlib import sha256

import numpy as np
import torch
from scipy.linalg import solve

from ctrlattn.checkpoints.network.watch import watch
from ctrlattn.files import atomic
from stage.feedback_sign import spans, window
from stage.statistics import max_t

Size = namedtuple("Size", "documents tokens folds strengths")

PENALTIES = (0.003, 0.03, 0.3)  # times the mean square of a feature
SKIPPED = 4  # first tokens: the sink, and those with nearly nothing before them
STATES = ("raw", "centred")
CONDITIONS = ("text", "permuted tokens")


def normed(x, F):
    """State and contribution over the state's RMS: the units in which a layer reads its stream."""
    size = np.sqrt((x**2).mean(-1, keepdims=True))
    return x / size, F / size


def earlier_mean(x):
    """Mean of the normed tokens before each one, without the first, which rests attention: (..., n, d)."""
    sums = np.cumsum(x[..., 1:, :], -2)
    count = np.arange(1, x.shape[-2])[:, None]
    mean = np.zeros_like(x)
    mean[..., 2:, :] = (sums / count)[..., :-1, :]
    return mean


def planting(strength):
    """A watcher that puts the automaton, -strength times the mean of earlier normed tokens, in attention's place."""

    def automaton(_sublayer, x, _u, _F):
        size = x.pow(2).mean(-1, keepdim=True).sqrt()
        mean = torch.as_tensor(earlier_mean((x / size).numpy(force=True)), dtype=x.dtype)
        return -strength * size * mean

    return automaton


def recorded(checkpoint, ids, plant=None):
    """(x, F) of every attention sublayer on one text, normed, each (layers, n, d), in half precision."""
    sublayers, pairs = [s for s in checkpoint.sublayers() if s.kind == "attention"], []

    def keep(sublayer, x, u, F):
        F = F if plant is None else plant(sublayer, x, u, F)
        pairs.append(normed(x[0].double().numpy(), F[0].double().numpy()))
        return None if plant is None else F

    with watch(sublayers, keep), torch.no_grad():
        checkpoint.model.base_model(input_ids=torch.as_tensor(ids)[None])
    return np.array(pairs).swapaxes(0, 1).astype(np.float16)


def records_of(folder, name, condition, load, texts, size, plant=None):
    """Files with the signals of every document, from the folder where they are there."""
    files, checkpoint = [], None
    for i, text in enumerate(texts):
        mark = sha256(json.dumps([name, condition, text, size.tokens]).encode()).hexdigest()[:16]
        files.append(folder / f"{name} {condition} {i} {mark}.npy")
        if files[-1].exists():
            continue
        checkpoint = checkpoint or load()
        shuffle = np.random.default_rng(i) if condition == "permuted tokens" else None
        signals = recorded(checkpoint, window(checkpoint, text, size.tokens, shuffle), plant)
        with atomic(files[-1]) as path, open(path, "wb") as stream:
            np.save(stream, signals)
        print(f"{name}: {condition}, document {i + 1} of {len(texts)}", file=sys.stderr, flush=True)
    return files


class Moments:
    """Means and second moments of features Z and targets Y over some rows; sums of them are those of all rows."""

    def __init__(self, Z, Y):
        self.n, self.z, self.y, self.ZZ, self.ZY = len(Z), Z.sum(0), Y.sum(0), Z.T @ Z, Z.T @ Y

    def __add__(self, moments):
        total = object.__new__(Moments)
        for name, value in vars(self).items():
            setattr(total, name, value + getattr(moments, name))
        return total

    def ridge(self, penalty):
        """W, c of Y ~ Z W + c, with |W|^2 weighted by the penalty and the mean square of a centred feature."""
        z, y = self.z / self.n, self.y / self.n
        scatter = self.ZZ - self.n * np.outer(z, z)
        scatter[np.diag_indices_from(scatter)] += penalty * np.trace(scatter) / len(z)
        W = solve(scatter, self.ZY - self.n * np.outer(z, y), assume_a="pos", check_finite=False)
        return W, y - z @ W


def predicted(Z, Y, fold):
    """(prediction of Y by Z, mean of Y, penalty of each fold) from rows of other folds, the penalty chosen there.

    Products are in single precision: the signals are stored in half precision, and the penalty keeps the equations well
    conditioned.
    """
    Z, Y = (Z - Z.mean(0)).astype(np.float32), Y.astype(np.float32)  # a mean that dwarfs the rest would cancel
    parts = [Moments(Z[fold == k], Y[fold == k]) for k in range(fold.max() + 1)]
    out, mean, penalties = np.empty_like(Y), np.empty_like(Y), []
    for k in range(len(parts)):
        validation = (k + 1) % len(parts)
        fitting = sum((m for j, m in enumerate(parts) if j not in (k, validation)), start=_nothing(Z, Y))
        rows = fold == validation
        errors = [((Y[rows] - Z[rows] @ W - c) ** 2).sum() for W, c in map(fitting.ridge, PENALTIES)]
        penalties.append(PENALTIES[int(np.argmin(errors))])
        training = fitting + parts[validation]
        W, c = training.ridge(penalties[-1])
        out[fold == k], mean[fold == k] = Z[fold == k] @ W + c, training.y / training.n
    return out, mean, penalties


def _nothing(Z, Y):
    return Moments(Z[:0], Y[:0])


def two_gains(F, p, v):
    """(g_p, g_v) of F ~ g_p p + g_v v by least squares over all tokens and features of a document.

    >>> p, v = np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])
    >>> two_gains(2 * p - 3 * v, p, v).round(9).tolist()
    [2.0, -3.0]
    """
    across = (p * v).sum()
    return np.linalg.solve([[(p * p).sum(), across], [across, (v * v).sum()]], [(F * p).sum(), (F * v).sum()])


def layer_gains(signals, size, planted):
    """{quantity: one value a document} of one layer; `signals` has (x, F) of every document, each (n, d)."""
    rows = [np.arange(SKIPPED, len(x)) for x, _ in signals]
    document = np.repeat(np.arange(len(signals)), [len(r) for r in rows])
    means = [earlier_mean(x) for x, _ in signals]
    x = np.concatenate([x[r] for (x, _), r in zip(signals, rows, strict=True)])
    F = np.concatenate([F[r] for (_, F), r in zip(signals, rows, strict=True)])
    previous = np.concatenate([x[r - 1] for (x, _), r in zip(signals, rows, strict=True)])
    mean = np.concatenate([m[r] for m, r in zip(means, rows, strict=True)])
    fold = document % size.folds
    p, x_mean, _ = predicted(np.concatenate([previous, mean], 1), x, fold)
    contributions = {"attention": F}
    if planted:
        own_token, F_mean, _ = predicted(x, F, fold)
        contributions["own token"] = own_token
        noise = _unrelated(F - F_mean, document)
        contributions |= {f"planted {s:g}": noise - s * mean for s in size.strengths}
    else:
        F_mean = _mean_elsewhere(F, fold)
    return _by_document(contributions, x, p, x_mean, F_mean, document)


def _mean_elsewhere(F, fold):
    means = np.array([F[fold != k].mean(0) for k in range(fold.max() + 1)])
    return means[fold]


def _unrelated(F, document):
    """The contribution of another token of the document, with a sign drawn for the document: no gain on average."""
    out = np.empty_like(F)
    for i in np.unique(document):
        rng, rows = np.random.default_rng(int(i)), np.flatnonzero(document == i)
        out[rows] = rng.choice([-1.0, 1.0]) * F[rng.permutation(rows)]
    return out


def _share(y, prediction, mean):
    """Share of the variance of y about the mean that the prediction has."""
    return float(1 - ((y - prediction) ** 2).sum() / ((y - mean) ** 2).sum())


def _by_document(contributions, x, p, x_mean, F_mean, document):
    values = {"share of the variance": [], "share of the token alone": [], "squared size": []}
    for i in range(document.max() + 1):
        at = document == i
        v, centred = x[at] - p[at], p[at] - x_mean[at]
        values["share of the variance"].append(_share(x[at], p[at], x_mean[at]))
        values["squared size"].append(float((contributions["attention"][at] ** 2).mean()))
        if "own token" in contributions:
            own_token, attention = contributions["own token"][at], contributions["attention"][at]
            values["share of the token alone"].append(_share(attention, own_token, F_mean[at]))
        for name, F in contributions.items():
            raw = two_gains(F[at], p[at], v)
            shift = 0.0 if name.startswith("planted") else F_mean[at]
            for state, pair in zip(STATES, (raw, two_gains(F[at] - shift, centred, v)), strict=True):
                values.setdefault(f"{name}, {state}", []).append(pair.tolist())
    return values


def measured(folder, name, condition, files, size):
    """{quantity: (documents, layers[, 2])}, layer by layer, each layer kept in a file."""
    names = sha256(" ".join(f.name for f in files).encode()).hexdigest()[:16]
    arrays = [np.load(file, mmap_mode="r") for file in files]
    layers = []
    for layer in range(arrays[0].shape[1]):
        path = folder / f"{name} {condition} layer {layer} {names}.json"
        if not path.exists():
            signals = [tuple(a[:, layer].astype(float)) for a in arrays]
            values = layer_gains(signals, size, planted=condition == "text")
            with atomic(path) as partial:
                partial.write_text(json.dumps(values), encoding="utf-8")
            print(f"{name}: {condition}, layer {layer} of {arrays[0].shape[1]}", file=sys.stderr, flush=True)
        layers.append(json.loads(path.read_text(encoding="utf-8")))
    return {key: np.array([values[key] for values in layers]).swapaxes(0, 1) for key in layers[0]}


def summary(values):
    """Simultaneous intervals of everything that the decision needs, and the mean share that p has of a layer."""
    text = values["text"]
    differences = {
        f"difference, {condition}, {state}": gap(columns[f"attention, {state}"])
        for condition, columns in values.items()
        for state in STATES
    }
    differences["g_p, text, centred"] = text["attention, centred"][..., 0]
    if "permuted tokens" in values:
        for state in STATES:
            both = (differences[f"difference, {condition}, {state}"] for condition in CONDITIONS)
            differences[f"text less permuted, {state}"] = next(both) - next(both)
    if "own token, raw" in text:
        for state in STATES:
            own_gap = gap(text[f"own token, {state}"])
            differences[f"own token, {state}"] = own_gap
            differences[f"beyond the token, {state}"] = differences[f"difference, text, {state}"] - own_gap
    differences |= {name: gap(pair) for name, pair in text.items() if name.startswith("planted")}
    differences |= {
        f"error, {condition}": error_steps(columns["share of the variance"]) for condition, columns in values.items()
    }
    layers = {
        name: text[name].mean(0).round(5).tolist()
        for name in ("share of the variance", "share of the token alone", "squared size")
        if text[name].size
    }
    return {**layers, "intervals": {name: max_t(rows.round(5)) for name, rows in differences.items()}}


def error_steps(share):
    """Change from a layer to the next of the share of the variance that earlier tokens leave, |v|^2 over |x - mean|^2.

    >>> error_steps(np.array([[0.1, 0.3, 0.2]])).round(9).tolist()
    [[-0.2, 0.1]]
    """
    return -np.diff(share, axis=1)


def error_words(name, entries, condition):
    """From which layers to the next the share that earlier tokens leave of the state falls, and from which it grows."""
    row = entries[f"error, {condition}"]
    falls = [k for k, high in enumerate(row["high"]) if high < 0]
    grows = [k for k, low in enumerate(row["low"]) if low > 0]
    return (
        f"{name}, {condition}: what earlier tokens leave of the next layer's state is less after layers {spans(falls)} "
        f"and more after {spans(grows)} of {len(row['low'])}"
    )


def gap(pairs):
    """g_p - g_v."""
    return pairs[..., 0] - pairs[..., 1]


def judged(intervals):
    """Lists of layers by the decision that was planned; what is neither added nor subtracted is undecided."""

    def below(name):
        return np.array(intervals[name]["high"]) < 0 if name in intervals else False

    def above(name):
        return np.array(intervals[name]["low"]) > 0 if name in intervals else False

    def layers(mask):
        return np.flatnonzero(mask).tolist()

    keys = ("difference, text, raw", "difference, text, centred", "g_p, text, centred")
    subtracts, adds = (np.all([side(name) for name in keys], axis=0) for side in (below, above))
    strengths = sorted({name.split(",")[0] for name in intervals if name.startswith("planted")})
    return {
        "layers": len(adds),
        "adds": layers(adds),
        "subtracts": layers(subtracts),
        "undecided": layers(~(adds | subtracts)),
        "by order": layers(subtracts & below("text less permuted, centred")),
        "token alone subtracts": layers(subtracts & below("own token, centred")),
        "adds beyond the token": layers(above("beyond the token, centred")),
        "subtracts beyond the token": layers(below("beyond the token, centred")),
        "more on text": layers(above("text less permuted, centred")),
        "less on text": layers(below("text less permuted, centred")),
        "power": {
            state: {s.removeprefix("planted "): layers(below(f"{s}, {state}")) for s in strengths} for state in STATES
        },
    }


def per_layer(network):
    """The means over documents of a network that are no difference of gains."""
    return {name: value for name, value in network.items() if name not in ("intervals", "judgement")}
