"""This module draws the gain of attention over layers and heads for the scene `08_feedback_sign.py`."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from stage.feedback_sign import LOOKS, SOURCES


def scale_of(axes):
    """Linear to 0.1, logarithmic beyond: first layers are ten times the others."""
    reach = max(abs(end) for end in axes.get_ylim())
    if reach > 0.2:
        axes.set_yscale("symlog", linthresh=0.1)
        ticks = [v for v in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 50, 100) if v <= reach]
        ticks = [-v for v in ticks[::-1]] + [0] + ticks
        axes.set_yticks([v for v in ticks if axes.get_ylim()[0] <= v <= axes.get_ylim()[1]])
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_locator(NullLocator())


def draw(networks):
    """Gain over depth with its controls; the same of the trained network by source; every head."""
    figure = Figure(figsize=(4.6 * len(networks), 9.5), layout="constrained")
    rows = figure.subplots(3, len(networks), squeeze=False)
    for column, (name, result) in enumerate(networks.items()):
        top, middle, bottom = rows[:, column]
        for condition, (colour, marker, line) in LOOKS.items():
            row = result["layers"][condition]["gain"]
            gain = {end: np.array(row[end])[:, 0] for end in ("mean", "low", "high")}
            where = np.arange(len(gain["mean"]))
            top.plot(where, gain["mean"], color=colour, marker=marker, ls=line, ms=3.5, lw=1.2, label=condition)
            top.fill_between(where, gain["low"], gain["high"], color=colour, alpha=0.18, lw=0)
        looks = zip(SOURCES, (("0.45", "s", "--"), ("#ffa90e", "^", ":"), ("#bd1f01", "o", "-")), strict=True)
        for source, (colour, marker, line) in looks:
            parts = np.array(result["source_gain"]["trained"][source]["mean"])
            middle.plot(
                np.arange(len(parts)), parts, color=colour, marker=marker, ls=line, ms=3.5, lw=1.2, label=source
            )
        for axes in (top, middle):
            axes.axhline(0.0, color="k", lw=0.8)
            scale_of(axes)
            axes.set(xlabel="layer", ylabel="gain <F, x>/<x, x> (1)")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        heads = np.array(result["head_gain"]["trained"]["mean"]).T
        limit = np.quantile(np.abs(heads), 0.93)  # one layer must not hide the others
        image = bottom.imshow(heads, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        figure.colorbar(image, ax=bottom, label="median gain", location="bottom", shrink=0.8, extend="both")
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
        bottom.set(xlabel="layer", ylabel="head", title="every head, trained")
        top.set_title(f"{name}: gain of attention")
        middle.set_title("trained, by the token it comes from")
    rows[0, 0].legend(fontsize=8)
    rows[1, 0].legend(fontsize=8)
    return figure
