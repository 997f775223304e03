"""Figure of dropped sublayers: increase of the loss over their number, with bands of two standard errors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ctrlattn.plots.style import axes_of, legend, styles, themed


@themed
def dropping(
    curves: Mapping[str, Mapping[str, Sequence[float]]], *, ax: Axes | None = None, title: str = "", top: Any = None
) -> Axes:
    """Draw the increase of the loss over the number of dropped sublayers.

    Parameters
    ----------
    curves : name -> {"count", "increase", "standard_error"}, (k,) each
        Increases in nats per token.
    ax : Axes, optional
    title : str
    top : float, optional
        Upper end of the axis; curves above it leave the figure.

    Returns
    -------
    Axes

    Examples
    --------
    >>> curve = {"count": [0, 8], "increase": [0.0, 0.3], "standard_error": [0.0, 0.01]}
    >>> dropping({"bare": curve}).get_xlabel()
    'Sublayers that are gone'
    """
    axes = axes_of(ax)
    for (name, curve), look in zip(curves.items(), styles(list(curves)).values(), strict=True):
        count, mean, error = (np.asarray(curve[key], float) for key in ("count", "increase", "standard_error"))
        axes.plot(count, mean, label=name, **look)
        axes.fill_between(count, mean - 2 * error, mean + 2 * error, color=look["color"], alpha=0.2, linewidth=0)
    axes.set(xlabel="Sublayers that are gone", ylabel="Increase of the loss (nats/token)", title=title)
    axes.set_ylim(bottom=0, top=top)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes)
    return axes
