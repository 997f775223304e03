"""Figures of sparse observers: explained variance over the number of features, and how often features occur."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ctrlattn.plots.style import axes_of, escape, legend, styles, themed


@themed
def explained_variance(curves: Mapping[str, tuple[Sequence[float], Any]], *, ax: Axes | None = None) -> Axes:
    """Draw the explained share of the variance over L0, on a logarithmic axis.

    Parameters
    ----------
    curves : name -> (l0, explained)
    ax : Axes, optional

    Examples
    --------
    >>> explained_variance({"dictionary": ([1, 2, 4], [0.2, 0.4, 0.5])}).get_xscale()
    'log'
    """
    ax = axes_of(ax)
    looks = styles(list(curves))
    for name, (l0, explained) in curves.items():
        ax.plot(l0, explained, **looks[name], label=escape(name))
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set(xlabel="Features or components per example (L0)", ylabel="Explained share of the variance")
    ax.set_ylim(min(0.0, ax.get_ylim()[0]), 1)
    legend(ax)
    return ax


@themed
def feature_frequency(frequency: Any, *, ax: Axes | None = None) -> Axes:
    """Draw a histogram of features over the share of examples that have them, on a logarithmic axis.

    The label of the axis gives the number of features that never occur.

    Parameters
    ----------
    frequency : (features,)

    Examples
    --------
    >>> feature_frequency([0.0, 0.01, 0.1]).get_ylabel()
    'Features'
    """
    ax = axes_of(ax)
    shares = np.asarray(frequency, dtype=float)
    positive = shares[shares > 0]
    if len(positive):
        ax.hist(np.log10(positive), bins=30, color=styles(["features"])["features"]["color"], edgecolor="white")
    ax.xaxis.set_major_formatter(lambda value, _: f"{10**value:.2g}")
    ax.set(xlabel=f"Share of the examples (never: {int(np.sum(shares == 0))} features)", ylabel="Features")
    return ax
