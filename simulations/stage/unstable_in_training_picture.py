"""This module draws the scores over the share of unstable modes of the scene `16_unstable_in_training.py`."""

import numpy as np
from matplotlib.figure import Figure

COLOURS = {"law": ("C0", "o"), "random signs": ("C1", "s")}
LABELS = {"loss": "loss (nats)", "growth": "growth of a push (log10)", "similarity": "cosine between tokens"}


def draw(numbers):
    """One row for each depth, one column for each score; a mark for each run, with its gain."""
    depths = numbers["depths"]
    figure = Figure(figsize=(12, 3.4 * len(depths)), layout="constrained")
    for line, (depth, row) in zip(figure.subplots(len(depths), 3, squeeze=False), depths.items(), strict=True):
        for axes, (score, label) in zip(line, LABELS.items(), strict=True):
            for law, runs in row["runs"].items():
                colour, marker = COLOURS[law]
                for i, (gain, run) in enumerate(runs.items()):
                    name = law if i == 0 else None
                    axes.plot(run["outside"], run[score], marker, color=colour, alpha=0.6, label=name)
                    if law == "law":
                        place = (np.mean(run["outside"]), np.mean(run[score]))
                        axes.annotate(f"K = {gain}", place, (0, 8), textcoords="offset points", ha="center", fontsize=7)
            axes.set(xlabel="share of unstable modes", ylabel=label, title=f"depth {depth}")
        line[0].legend(fontsize=8)
    return figure
