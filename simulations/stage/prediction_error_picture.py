"""This module draws the similarities of tokens and the shares of hits of the scene `01_prediction_error.py`."""

from itertools import product

import numpy as np
from matplotlib.figure import Figure

from stage.prediction_error import CONTROLS, PASSES, RMS, SEQUENCE, VARIANTS, after, cosines, embed, successors


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
    """Similarity of the tokens of one draw before and after, as pictures, and as inner products."""
    x = embed(SEQUENCE, 1, 64, seed)[0]
    views = {"before": x, "plain": after(VARIANTS["plain"], x), "RMS": after(RMS, x)}
    maps = {f"{name}: cosine": (cosines(x), 1) for name, x in views.items()}
    maps |= {f"{name}: inner product, of E 1": (x @ x.T / np.sum(x[-1] ** 2), 4) for name, x in views.items()}
    for ax, (title, (picture, limit)) in zip(axes, maps.items(), strict=True):
        ax.imshow(picture, cmap="PuOr_r", vmin=-limit, vmax=limit)
        ax.set_xticks(range(12), SEQUENCE)
        ax.set_yticks(range(12), SEQUENCE)
        ax.set_title(f"{title} (-{limit} to {limit})", fontsize=9)
        for j in range(12):
            ax.text(j, 11, f"{picture[-1, j]:.1f}", ha="center", va="center", fontsize=5.5)


def draw_passes(ax, shares):
    """Share of hits over passes, with its control."""
    looks = (("plain", "C0", "o"), ("RMS", "C1", "s"), ("RMS, token 0 too", "0.4", "^"))
    for (v, colour, marker), (setting, dash) in product(looks, (("d = 64", "-"), ("all distinct, d = 64", ":"))):
        passes, intervals = zip(*shares[setting][v].items(), strict=True)
        share, low, high = np.array([[r[end] for end in ("share", "low", "high")] for r in intervals]).T
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
    for (group, by_variant), look in zip(table.items(), ("C0o", "C1s", "C2v", "C3^"), strict=True):
        for p, dash in ((str(PASSES), "-"), ("0", ":")):
            ax.plot(
                [r["share"] for r in by_variant["RMS"][p]], dash + look[2], color=look[:2], label=f"{group}, {p} passes"
            )
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
