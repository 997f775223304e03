"""Figures of Lyapunov exponents, their running estimates and spectra, and of bifurcation diagrams."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctrlattn.plots.style import COLOURS, GREY, axes_of, escape, figure, sparse_markers, styles, themed

_LABELLED = 6  # with more curves than this, none has a label


@themed
def lyapunov_spectrum(running: np.ndarray, *, title: str = "", unit: str = "layer") -> Figure:
    """Draw the running estimate of each exponent, and its final value with the range of its second half.

    Parameters
    ----------
    running : (steps, k)
        Running estimate of `lyapunov_exponents(..., history=True)`; -inf is drawn as a mark at the foot.
    title : str
    unit : str
        Name of one step, such as "layer".

    Examples
    --------
    >>> import numpy as np
    >>> [ax.get_xlabel() for ax in lyapunov_spectrum(np.full((9, 2), 0.5)).axes]
    ['Steps averaged (layers)', 'Exponent, by size']
    """
    running = np.asarray(running, dtype=float)
    fig = figure(height=3.2)
    left, right = fig.subplots(1, 2, width_ratios=(1.6, 1.0))
    steps = np.arange(1, len(running) + 1)
    finite = np.where(np.isfinite(running), running, np.nan)
    few = running.shape[1] <= _LABELLED
    for j in range(running.shape[1]):
        colour = COLOURS[j % len(COLOURS)] if few else GREY
        left.plot(steps, finite[:, j], color=colour, linewidth=1.4 if few else 0.8)
        if few and np.isfinite(finite[-1, j]):
            left.annotate(f" {j + 1}", (steps[-1], finite[-1, j]), va="center", fontsize=8.5, color=colour)
    left.set_xscale("log")
    left.axhline(0.0, color="black", linewidth=0.9)
    left.set(
        xlabel=f"Steps averaged ({unit}s)",
        ylabel=f"Running estimate (nats/{unit})",
        title=escape(title or "Convergence"),
    )
    _draw_ends(right, finite, unit)
    return fig


@themed
def lyapunov_spectra(running: Mapping[str, np.ndarray], *, title: str = "", unit: str = "layer") -> Figure:
    """Draw the running estimate of the largest exponent of several systems, and the final spectrum of each.

    Parameters
    ----------
    running : (steps, k) by name
        Running estimates of `lyapunov_exponents(..., history=True)`; exponents of -inf are left out.
    title : str
    unit : str
        Name of one step, such as "layer".

    Examples
    --------
    >>> import numpy as np
    >>> [ax.get_xlabel() for ax in lyapunov_spectra({"a": np.full((9, 2), 0.5)}).axes]
    ['Steps averaged (layers)', 'Exponent, by size']
    """
    fig = figure(height=3.6)
    left, right = fig.subplots(1, 2, width_ratios=(1.4, 1.2))
    for i, (name, look) in enumerate(styles(list(running)).items()):
        finite = np.where(np.isfinite(running[name]), running[name], np.nan)
        steps, rank = np.arange(1, len(finite) + 1), np.arange(1, finite.shape[1] + 1)
        left.plot(steps, finite[:, 0], label=escape(name), **look, **sparse_markers(len(finite), i))
        half = finite[len(finite) // 2 :]
        right.vlines(rank, half.min(axis=0), half.max(axis=0), color=look["color"], linewidth=3.0, alpha=0.35)
        right.plot(rank, finite[-1], color=look["color"], marker=look["marker"], linestyle="none")
    for ax in (left, right):
        ax.axhline(0.0, color="black", linewidth=0.9)
    left.set(xlabel=f"Steps averaged ({unit}s)", ylabel=f"Running estimate (nats/{unit})", title="Largest exponent")
    right.set(xlabel="Exponent, by size", ylabel=f"Exponent (nats/{unit})", title="Spectrum")
    right.annotate("bars: range, second half", (0.02, 0.02), xycoords="axes fraction", fontsize=8, color=GREY)
    right.xaxis.get_major_locator().set_params(integer=True)
    if title:
        fig.suptitle(escape(title), x=0.01, ha="left", fontsize=10.5)
    handles, labels = left.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower left", ncols=4)
    return fig


def _draw_ends(ax: Axes, finite: np.ndarray, unit: str) -> None:
    """Draw the final estimates in order, with the range of their second half, and marks for exponents of -inf."""
    rank = np.arange(1, finite.shape[1] + 1)
    half = finite[len(finite) // 2 :]
    finite_ends = np.isfinite(finite[-1])
    if finite_ends.any():
        low, high = half[:, finite_ends].min(0), half[:, finite_ends].max(0)
        ax.vlines(rank[finite_ends], low, high, color=GREY, linewidth=3.0, label="range, second half")
        ax.plot(rank[finite_ends], finite[-1, finite_ends], "D", color="black", markersize=3.8, label="estimate")
    if not finite_ends.all():
        foot = ax.get_ylim()[0]
        ax.plot(
            rank[~finite_ends],
            np.full(int(np.sum(~finite_ends)), foot),
            "v",
            color=COLOURS[1],
            label="−∞",
            clip_on=False,
        )
    ax.axhline(0.0, color="black", linewidth=0.9)
    ax.set_xlim(0.5, finite.shape[1] + 0.5)
    ax.set_xticks(rank if len(rank) <= 10 else np.unique(np.linspace(1, len(rank), 6).astype(int)))
    ax.set(xlabel="Exponent, by size", ylabel=f"Exponent (nats/{unit})", title="Spectrum")
    ax.legend(loc="best", fontsize=8)


@themed
def bifurcation(
    gains: np.ndarray,
    values: np.ndarray,
    *,
    exponent: np.ndarray | None = None,
    branches: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...] = (),
    marks: tuple[tuple[str, float], ...] = (),
    xlabel: str = "Gain",
    ylabel: str = "State",
    title: str = "",
) -> Figure:
    """Draw a bifurcation diagram: the states after the transient over the gain, and below it the largest exponent.

    Parameters
    ----------
    gains : (m,)
    values : (m, keep)
        Observed states; gains with nan, where the state overflowed, are shaded.
    exponent : (m,), optional
    branches : of (gain, value, stable), each (p,)
        Branches of fixed points; the line is full where they are stable and dashed elsewhere.
    marks : of (kind, gain)
        Bifurcations, as `continue_fixed_point` returns them.

    Examples
    --------
    >>> import numpy as np
    >>> bifurcation(np.linspace(0, 1, 3), np.zeros((3, 4))).axes[0].get_ylabel()
    'State'
    """
    gains, values = np.asarray(gains, dtype=float), np.asarray(values, dtype=float)
    fig = figure(height=3.4 if exponent is None else 4.8)
    ratios = [2.0] if exponent is None else [2.0, 1.0]
    panels = fig.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    ax = panels[0]
    ax.plot(
        np.repeat(gains, values.shape[1]),
        values.ravel(),
        ".",
        color="black",
        markersize=1.2,
        markeredgewidth=0,
        rasterized=True,
    )
    for gain, value, stable in branches:
        ax.plot(gain, np.where(stable, value, np.nan), color=COLOURS[0], linewidth=1.8)
        # The dashed line starts at the last stable point, so that the two lines meet.
        off = ~stable | np.append(~stable[1:], False) | np.append(False, ~stable[:-1])
        ax.plot(gain, np.where(off, value, np.nan), color=COLOURS[1], linewidth=1.2, linestyle=(0, (4, 2)))
    for kind, where in marks:
        for panel in panels:
            panel.axvline(where, color=GREY, linewidth=0.9, linestyle=(0, (2, 2)))
        ax.annotate(f" {kind} {where:.4g}", (where, 1.0), xycoords=("data", "axes fraction"), va="top", fontsize=8)
    _shade_lost(panels, gains, np.isnan(values).any(axis=1))
    ax.set(ylabel=ylabel, title=escape(title))
    if exponent is not None:
        size = np.asarray(exponent, dtype=float)
        low = axes_of(panels[1])
        low.plot(gains, np.where(np.isfinite(size), size, np.nan), color=COLOURS[3], linewidth=1.0)
        low.axhline(0.0, color="black", linewidth=0.9)
        low.set_ylabel("Exponent (nats/step)")
    panels[-1].set_xlabel(xlabel)
    return fig


def _shade_lost(panels: np.ndarray, gains: np.ndarray, overflow: np.ndarray) -> None:
    if not overflow.any():
        return
    width = float(np.min(np.diff(np.sort(gains)))) if len(gains) > 1 else 1.0
    for panel in panels:
        for gain in gains[overflow]:
            panel.axvspan(gain - width / 2, gain + width / 2, facecolor="#eef1f4", edgecolor="none", zorder=0)
