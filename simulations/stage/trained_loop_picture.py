"""This module draws how a push grows in the scene `09_trained_loop.py`, and what holding a part still does."""

import numpy as np

from ctrlattn.plots.style import GREY, figure, styles, themed
from stage.trained_loop import AMPLITUDES, ARMS, CHAINS, CLOSE, HELD


@themed
def draw(arms):
    """Growth of the values for each law; errors by amplitude; what holding a part does."""
    fig = figure(width=13.0, height=7.4)
    panels = list(fig.subplots(2, 3).flat)
    for ax, arm in zip((panels[0], panels[1], panels[3], panels[4]), ARMS, strict=True):
        _growth(ax, arm, arms[arm])
    _errors(panels[2], arms)
    _held(panels[5], arms)
    both = [panels[0].get_legend_handles_labels(), panels[2].get_legend_handles_labels()]
    fig.legend(*both[0], loc="outside upper left", ncols=4)
    fig.legend(*both[1], loc="outside lower right", ncols=4)
    return fig


def _growth(ax, arm, whens):
    looks = {
        ("trained", CHAINS[0]): ("#000000", "o", "solid", "network, trained"),
        ("untrained", CHAINS[0]): (GREY, "s", (0, (1, 1.2)), "network, untrained"),
        ("trained", CHAINS[1]): ("#3f90da", "v", (0, (5, 1.5)), "chain, attention of each layer"),
        ("trained", CHAINS[2]): ("#bd1f01", "^", (0, (4, 1.2, 1, 1.2)), "chain, attention of layer 1"),
    }
    for (when, name), (colour, marker, dash, label) in looks.items():
        rows = whens[when]["growth"][name]
        middle, low, high = (10 ** np.array([row[key] for row in rows]) for key in ("mean", "low", "high"))
        across = np.arange(1, len(rows) + 1)
        ax.plot(across, middle, color=colour, marker=marker, linestyle=dash, label=label)
        ax.fill_between(across, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.axhline(1.0, color=GREY, linewidth=0.8)
    ax.set_xticks(across)
    ax.set(yscale="log", xlabel="Layer", ylabel="Change of the values (layer 1: 1)", title=arm)


def _errors(ax, arms):
    for arm, look in styles(ARMS).items():
        error = arms[arm]["trained"]["error"]
        ax.loglog(AMPLITUDES, [error[f"{a:g}"]["median"] for a in AMPLITUDES], **look, label=arm)
        if arm != "softmax":
            hollow = {"color": look["color"], "marker": look["marker"], "markerfacecolor": "none", "markersize": 9}
            ax.plot(AMPLITUDES[0], error["without memory"]["median"], linestyle="none", **hollow)
    ax.axhline(CLOSE, color=GREY, linewidth=0.8)
    title = "Last layer, trained (hollow: without memory)"
    ax.set(xlabel="Push over the length of the stream", ylabel="Relative error, median", title=title)


def _held(ax, arms):
    names = [name for name in HELD if HELD[name]]
    for k, (arm, look) in enumerate(styles(ARMS).items()):
        rows = [arms[arm]["trained"]["lifted"][name] for name in names]
        middle, low, high = (10 ** np.array([row[key] for row in rows]) for key in ("mean", "low", "high"))
        place = np.arange(len(names)) + (k - 1.5) * 0.17
        bars = [middle - low, high - middle]
        ax.errorbar(middle, place, xerr=bars, color=look["color"], marker=look["marker"], linestyle="none", label=arm)
    ax.axvline(1.0, color=GREY, linewidth=0.8)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(xlabel="Growth of the stream over that with nothing held", title="A part held, trained")
