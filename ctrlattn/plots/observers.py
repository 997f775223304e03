"""Pictures of sparse observers: explained variance against the number of features, beside principal components."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctrlattn.plots.style import GREY, axes_of, escape, figure, legend, styles, themed


@themed
def explained_variance(curves: Mapping[str, tuple[Sequence[float], Any]], *, ax: Axes | None = None) -> Axes:
    """Share of the variance that is explained, against L0 on a logarithmic axis.

    Parameters
    ----------
    curves : name -> (l0, explained)
    ax : Axes, optional

    Examples
    --------
    >>> explained_variance({"dictionary": ([1, 2, 4], [0.2, 0.4, 0.5])}).get_xscale()
    'log'
    """
    drawn = axes_of(ax)
    looks = styles(list(curves))
    for name, (l0, explained) in curves.items():
        drawn.plot(l0, explained, **looks[name], label=escape(name))
    drawn.set_xscale("log", base=2)
    drawn.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    drawn.set(xlabel="Features or components an example (L0)", ylabel="Explained share of the variance")
    drawn.set_ylim(min(0.0, drawn.get_ylim()[0]), 1)
    legend(drawn)
    return drawn


@themed
def feature_frequency(frequency: Any, *, ax: Axes | None = None) -> Axes:
    """How many features occur in which share of the examples, on a logarithmic axis; those that never do are named.

    Parameters
    ----------
    frequency : (features,)

    Examples
    --------
    >>> feature_frequency([0.0, 0.01, 0.1]).get_ylabel()
    'Features'
    """
    drawn = axes_of(ax)
    shares = np.asarray(frequency, dtype=float)
    there = shares[shares > 0]
    if len(there):
        drawn.hist(np.log10(there), bins=30, color=styles(["features"])["features"]["color"], edgecolor="white")
    drawn.xaxis.set_major_formatter(lambda value, _: f"{10**value:.2g}")
    drawn.set(xlabel=f"Share of the examples (never: {int(np.sum(shares == 0))} features)", ylabel="Features")
    return drawn


@themed
def steering(runs: Mapping[str, Any], setpoint: float, *, unit: str = "feature along the stream") -> Figure:
    """A steered feature over depth, and what it costs.

    Parameters
    ----------
    runs : law -> mapping with "layers", "output" (mean over tokens, by layer) and "loss" (nats above the unsteered)
    setpoint : float
    unit : str

    Examples
    --------
    >>> run = {"layers": [1, 2], "output": [0.0, 1.0], "loss": 0.1, "reached": 1.0}
    >>> len(steering({"P": run}, 1.0).axes)
    2
    """
    looks = styles(list(runs))
    drawn = figure(width=9.6, height=3.8)
    left, right = drawn.subplots(1, 2, width_ratios=(1.6, 1))
    for name, run in runs.items():
        left.plot(run["layers"], run["output"], **looks[name], label=escape(name))
        right.plot(run["reached"], run["loss"], color=looks[name]["color"], marker=looks[name]["marker"], markersize=8)
    left.axhline(setpoint, color=GREY, linewidth=1.0, linestyle=(0, (2, 2)))
    left.set(xlabel="Layer", ylabel=escape(unit[:1].upper() + unit[1:]))
    legend(left)
    right.axvline(setpoint, color=GREY, linewidth=1.0, linestyle=(0, (2, 2)))
    right.set(xlabel="Reached at the last layer", ylabel="Loss above the unsteered (nats a token)")
    return drawn
