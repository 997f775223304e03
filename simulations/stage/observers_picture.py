"""This module draws the explained variance and the likeness of features of the scene `10_observers.py`."""

import numpy as np

from ctrlattn.plots.observers import explained_variance
from ctrlattn.plots.style import GREY, figure, styles, themed


@themed
def picture(numbers):
    """Curves of the middle layer, differences by layer, likeness of networks."""
    fig = figure(width=15.5, height=4.6)
    panels = list(fig.subplots(1, 3).flat)
    layers = numbers["size"]["layers"]
    middle = layers[len(layers) // 2]
    curves, first = {}, min(row["seed"] for row in numbers["rows"])
    for row in numbers["rows"]:
        if row["layer"] == middle and row["seed"] == first:
            curves[row["signal"]] = (row["counts"], row["curve"])
            curves[f"components of {row['signal']}"] = (row["counts"], row["principal"])
    explained_variance(curves, ax=panels[0])
    panels[0].legend(loc="best")
    panels[0].set_title(f"Layer {middle}")
    _differences(panels[1], numbers["differences"])
    _likeness(panels[2], numbers["universality"])
    return fig


def _differences(ax, rows):
    names = {"explained": "explained share", "purity": "share on one token"}
    looks = styles(list(names.values()))
    for k, (score, name) in enumerate(names.items()):
        some = [row for row in rows if row["score"] == score and row["signal"] == "error"]
        x = np.arange(len(some)) + 0.1 * (k - 0.5)
        y = np.array([row["mean"] for row in some])
        bars = [y - [row["low"] for row in some], np.array([row["high"] for row in some]) - y]
        look = looks[name]
        ax.errorbar(
            x, y, yerr=bars, color=look["color"], marker=look["marker"], linestyle="none", capsize=3, label=name
        )
    ax.axhline(0, color=GREY, linewidth=1.0)
    layers = sorted({row["layer"] for row in rows})
    ax.set_xticks(range(len(layers)), layers)
    ax.set(xlabel="Layer", ylabel="Error less state (shares), 95 % over seeds")
    ax.legend(loc="best")


def _likeness(ax, pairs):
    looks = styles(["SVCCA", "RSA"])
    for k, measure in enumerate(("svcca", "rsa")):
        look = looks[measure.upper()]
        y = np.arange(len(pairs)) + 0.25 * (k - 0.5)
        ax.plot([pair[measure]["value"] for pair in pairs.values()], y, color=look["color"], marker=look["marker"],
                linestyle="none", label=f"{measure.upper()}, paired by correlation")  # fmt: skip
        ax.plot([pair[measure]["highest"] for pair in pairs.values()], y, color=look["color"], marker="|",
                markersize=12, linestyle="none", label=f"{measure.upper()}, highest of random pairs")  # fmt: skip
    ax.set_yticks(range(len(pairs)), [name.replace(" and ", "\nand ") for name in pairs])
    ax.set_ylim(len(pairs) - 0.4, -1.4)
    ax.set_xlabel("Likeness of the directions of paired features (1)")
    ax.legend(loc="best")
