"""Figures of trained loops: accuracy and residual over passes beyond training, and radii beside what became of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ctrlattn.plots.style import GREY, escape, figure, styles, themed


@themed
def over_passes(result: Mapping[str, Any]) -> Figure:
    """Draw accuracy at the trained size and at larger ones, and the residual, against passes; one curve for each arm.

    Parameters
    ----------
    result : mapping
        What `nn.experiment.loop_comparison.compare_loops` returns; `curves` and `passes` are read.

    Examples
    --------
    >>> curves = {"accuracy, size x 1": [0.0, 1.0], "residual, size x 1": [1.0, 0.5]}
    >>> len(over_passes({"curves": {"plain": curves}, "passes": 1}).axes)
    2
    """
    arms = list(result["curves"])
    names = [name for name in result["curves"][arms[0]] if name.startswith("accuracy, size")]
    panels = [*names, "residual, size x 1"]
    columns = 2
    rows = -(-len(panels) // columns)
    fig, looks = figure(width=10.0, height=1.0 + 3.0 * rows), styles(arms)
    axes = fig.subplots(rows, columns, squeeze=False).flat
    for ax, name in zip(axes, panels, strict=False):
        for arm in arms:
            values = np.asarray(result["curves"][arm].get(name, []), dtype=float)
            every = max(len(values) // 8, 1)
            ax.plot(np.arange(len(values)), values, **looks[arm], markevery=every, label=escape(arm))
        ax.axvline(result["passes"], color=GREY, linewidth=1.0)
        size = name.rpartition("x ")[2]
        if name.startswith("accuracy"):
            ax.set(ylim=(-0.03, 1.03), ylabel="Share of problems solved", title=f"Size of training x {size}")
        else:
            ax.set(yscale="log", ylabel="Residual |F(h) − h|/|h|", title="Size of training")
        ax.set_xlabel("Passes; the line is the number of training")
    for ax in list(axes):
        ax.set_visible(False)
    fig.legend(*fig.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=min(len(arms), 5))
    return fig


@themed
def radii(result: Mapping[str, Any]) -> Figure:
    """Draw the largest |pole| at the trained passes (median over problems) against the fall of accuracy beyond, by arm.

    Parameters
    ----------
    result : mapping
        `forecasts` are read: rows with arm, radius and collapsed.

    Examples
    --------
    >>> rows = [{"arm": "plain", "radius": [1.1], "residual": [0.1], "collapsed": True}]
    >>> radii({"forecasts": rows}).axes[0].get_xlabel()
    'Largest |pole| after the passes of training'
    """
    rows = [row for row in result["forecasts"] if row["collapsed"] is not None]
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    fig, looks = figure(height=0.9 + 0.33 * max(len(arms), 3)), styles(arms)
    panels = fig.subplots(1, 2, sharey=True)
    for ax, key in zip(panels, ("radius", "residual"), strict=True):
        for k, arm in enumerate(arms):
            for row in (row for row in rows if row["arm"] == arm and row[key]):  # none where nothing was measured
                fill = looks[arm]["color"] if row["collapsed"] else "none"
                marker, colour = looks[arm]["marker"], looks[arm]["color"]
                ax.plot(float(np.median(row[key])), k, marker, markerfacecolor=fill, color=colour)
        ax.axvline(1.0 if key == "radius" else 0.1, color=GREY, linewidth=1.0)
    panels[0].set_yticks(range(len(arms)), [escape(arm) for arm in arms])
    panels[0].invert_yaxis()
    panels[0].set_xlabel("Largest |pole| after the passes of training")
    panels[1].set_xlabel("Residual |F(h) − h|/|h| there; full: accuracy fell beyond")
    return fig
