"""Figures of a reduction: importance of the sublayers over depth, and the predicted change of the loss."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ctrlattn.plots.style import axes_of, figure, sparse_markers, styles, themed


@themed
def importance(scores: Mapping[str, np.ndarray], gone: Mapping[str, tuple[int, ...]]) -> Figure:
    """Draw mean (line) and maximum (dots) of 1 - cos(x, x + F), layer by layer; a ring marks a dropped sublayer.

    Parameters
    ----------
    scores : "attention", "mixer", "mlp", "block", those that there are, each also with "_max" -> (layers,)
        A layer without a sublayer of the kind has nan.
    gone : "attention", "mixer", "mlp", "blocks" -> layers

    Examples
    --------
    >>> import numpy as np
    >>> zero = np.zeros(3)
    >>> names = ("attention", "mlp", "block")
    >>> fig = importance({name + end: zero for name in names for end in ("", "_max")}, {"attention": (1,)})
    >>> [ax.get_xlabel() for ax in fig.axes]
    ['Layer', 'Layer', 'Layer']
    """
    titles = {
        "attention": ("Attention", "attention"),
        "mixer": ("Mixer", "mixer"),
        "mlp": ("MLP", "mlp"),
        "block": ("Whole layer", "blocks"),
    }
    titles = {name: words for name, words in titles.items() if name in scores}
    fig = figure(height=3.2)
    panels = fig.subplots(1, len(titles), sharey=True)
    look = next(iter(styles(["mean"]).values()))
    for ax, (name, (title, part)) in zip(panels, titles.items(), strict=True):
        mean, worst = scores[name], scores[f"{name}_max"]
        layers = np.arange(len(mean))
        ax.plot(layers, mean, label="mean over positions", **look, **sparse_markers(len(mean), 0))
        ax.plot(layers, worst, linestyle="none", marker=".", color="black", markersize=3.5, label="worst position")
        dropped_layers = list(gone.get(part, ()))
        if dropped_layers:
            ring = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "markeredgecolor": "#bd1f01"}
            ax.plot(dropped_layers, mean[dropped_layers], linestyle="none", label="taken out", **ring)
        ax.set(xlabel="Layer", title=title)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylabel("Importance, 1 − cos")
    handles = {text: line for ax in panels for line, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    return fig


@themed
def predicted(cost: np.ndarray, *, ax: Axes | None = None) -> Axes:
    """Draw the predicted change of the loss over the number of sublayers that gains replace.

    Examples
    --------
    >>> import numpy as np
    >>> predicted(np.array([0.01, 0.03])).get_ylabel()
    'Predicted change of the loss (nats/token)'
    """
    ax = axes_of(ax, height=3.2)
    count = np.arange(1, len(cost) + 1)
    look = next(iter(styles(["predicted"]).values()))
    ax.plot(count, cost, **look, **sparse_markers(len(count), 0))
    ax.axhline(0.0, color="black", linewidth=0.9)
    ax.set_xlim(0.5, len(cost) + 0.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set(xlabel="Sublayers replaced", ylabel="Predicted change of the loss (nats/token)")
    return ax
