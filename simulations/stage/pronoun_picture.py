"""This module draws the logits, the attention and the shares of solved draws of the scene `05_pronoun.py`."""

from itertools import product

import numpy as np
from matplotlib.figure import Figure

from stage.pronoun import CLAIMED_ATTENTION, CLAIMED_LOGITS, FIRST, FIRST_PAIR, GROUPS


def draw(numbers):
    """Logits and attention of both sentences; shares by dimension, pair and order."""
    figure = Figure(figsize=(18, 10), layout="constrained")
    axes = figure.subplot_mosaic("ACE;BDE", width_ratios=(1, 1, 1.1))
    for k, sentence in enumerate(FIRST_PAIR.sentences):
        bars, image = axes["AC"[k]], axes["BD"[k]]
        logits = {g: numbers["observed"][g]["logits"][k] for g in ("-1", "+1")} | {"claimed": CLAIMED_LOGITS[k]}
        for i, (name, values) in enumerate(logits.items()):
            bars.bar(np.arange(8) + 0.27 * (i - 1), values, 0.27, label=name, color=("C0", "C1", "lightgrey")[i])
        bars.set_xticks(range(8), FIRST_PAIR.words, rotation=40, ha="right")
        bars.set_title(f"{' '.join(sentence[:-1])} *{sentence[-1]}", fontsize=10)
        bars.set(ylim=(-1.4, 2), ylabel="logit of the probe (mean of draws)")
        bars.legend(loc="lower left", ncols=3, fontsize=8)
        observations = numbers["observed"].items()
        rows = {f"{g}: {at}": row[k] for g, means in observations for at, row in means["attention"].items()}
        rows |= {f"claimed: {at}": row for at, row in CLAIMED_ATTENTION.items() if k == 1}
        image.imshow(list(rows.values()), cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
        for (i, row), j in product(enumerate(rows.values()), range(8)):
            image.text(j, i, f"{row[j]:.2f}" if row[j] >= 0.005 else "", ha="center", fontsize=8)
        image.set_yticks(range(len(rows)), rows)
        image.set_xticks(range(8), sentence, rotation=40, ha="right")
    for i, g in enumerate(("-1", "+1")):
        shares = {f"{group}: {name}": r for group in (FIRST, *GROUPS) for name, r in numbers[group][g].items()}
        ends = ("solved", "low", "high", "strict")
        success, low, high, strict = np.array([[r[end] for end in ends] for r in shares.values()]).T
        place = np.arange(len(shares)) + 0.4 * i
        axes["E"].barh(place, success, 0.4, xerr=(success - low, high - success), label=f"feedback {g}", color=f"C{i}")
        axes["E"].plot(strict, place, "k*", label="strictly" if i else None)
    axes["E"].set_yticks(np.arange(len(shares)) + 0.2, shares, fontsize=7)
    axes["E"].set(xlim=(-0.02, 1.02), ylim=(len(shares) + 1.5, -0.5), title="share of draws solved (Wilson 95 %)")
    axes["E"].legend(loc="lower center", ncols=3, fontsize=8)
    return figure
