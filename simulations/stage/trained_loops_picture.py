"""This module draws the accuracy of trained loops over passes for the scene of trained loops."""

import numpy as np

from ctrlattn.plots.style import GREY, escape, figure, styles, themed
from ctrlattn.plots.trained_loops import over_passes

_SHOWN = "accuracy, size x 1"


def draw(results):
    """Accuracy at three sizes and the residual against passes; of several comparisons the accuracy of each."""
    return over_passes(*results.values()) if len(results) == 1 else of_several(results)


@themed
def of_several(results):
    """Accuracy against passes at the size of training: one panel for each comparison, one curve for each arm."""
    arms = list(dict.fromkeys(arm for result in results.values() for arm in result["curves"]))
    rows, looks = -(-len(results) // 2), styles(arms)
    fig = figure(width=10.0, height=1.0 + 3.0 * rows)
    axes = list(fig.subplots(rows, 2, squeeze=False).flat)
    curves = {}
    for ax, (name, result) in zip(axes, results.items(), strict=False):
        for arm, each in result["curves"].items():
            values = np.asarray(each.get(_SHOWN, []), dtype=float)
            every = max(len(values) // 8, 1)
            (curves[arm],) = ax.plot(np.arange(len(values)), values, **looks[arm], markevery=every)
        ax.axvline(result["passes"], color=GREY, linewidth=1.0)
        ax.set(ylim=(-0.03, 1.03), ylabel="Share of problems solved", title=escape(name))
        ax.set_xlabel("Passes; the line is the number of training")
    for ax in axes[len(results) :]:
        ax.set_visible(False)
    names = [arm for arm in arms if arm in curves]
    fig.legend([curves[arm] for arm in names], map(escape, names), loc="outside lower center", ncols=5)
    return fig
