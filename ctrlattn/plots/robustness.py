"""Figures of robustness: stable regions of two gains, disk margins on Nyquist curves, harmonic balance."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Patch

from ctrlattn.errors import require_flag
from ctrlattn.plots.style import COLOURS, GREY, axes_of, escape, panels_of, styles, themed

_INSIDE = "#dbe8f6"
_HALVINGS = 8
_DASHED = (0, (4, 2))


@themed
def gain_regions(
    first: np.ndarray,
    slices: Mapping[str, Sequence[Sequence[tuple[float, float]]]],
    *,
    labels: tuple[str, str],
    second: tuple[float, float],
    boundaries: Mapping[str, Sequence[np.ndarray]] | None = None,
    marks: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Draw stable regions of two gains, one panel per region; slices are filled, boundary curves are black.

    Parameters
    ----------
    first : (m,) ascending
        Values of the first gain.
    slices : name -> m lists of (low, high)
        As `ctrlattn.gain_region` returns them.
    labels : names of the two gains
    second : (low, high)
        Frame of the second gain; a slice that extends beyond it is cut off.
    boundaries : name -> curves (k, 2), optional
        As `gain_boundary` returns them, nan for gaps.
    marks : label -> (first, second), optional

    Examples
    --------
    >>> import numpy as np
    >>> fig = gain_regions(np.arange(3.0), {"P": [[(0.0, 1.0)]] * 3}, labels=("kp", "ki"), second=(-1, 2))
    >>> fig.axes[0].get_ylabel()
    'ki'
    """
    fig, panels = panels_of(len(slices), 3, height=2.7, margin=0.7)
    half = float(np.diff(first).max()) / 2 if len(first) > 1 else 0.5
    for ax, (name, region) in zip(panels.flat, slices.items(), strict=False):
        strips = _strips(first, [np.clip(np.reshape(part, (-1, 2)), *second) for part in region], half)
        ax.add_collection(PolyCollection(strips, facecolor=_INSIDE, edgecolor=_INSIDE, linewidth=0.4))
        for curve in (boundaries or {}).get(name, ()):
            ax.plot(curve[:, 0], curve[:, 1], color="black", linewidth=0.8)
        for (label, point), marker in zip((marks or {}).items(), "^Dsov", strict=False):
            ax.plot(*point, marker, color="#bd1f01", markeredgecolor="black", markersize=7, label=escape(label))
        ax.set(xlim=(first[0] - half, first[-1] + half), ylim=second, title=escape(name))
    for ax in panels[-1]:
        ax.set_xlabel(escape(labels[0]))
    for ax in panels[:, 0]:
        ax.set_ylabel(escape(labels[1]))
    handles, _ = panels[0, 0].get_legend_handles_labels()
    area = Patch(facecolor=_INSIDE, edgecolor=GREY, label="all modes stable")
    fig.legend(handles=[area, *handles], loc="outside lower left", ncols=4)
    return fig


def refine_slices(
    first: np.ndarray,
    slices: Mapping[str, Sequence[Sequence[tuple[float, float]]]],
    slices_of: Callable[[str, np.ndarray], Sequence[Sequence[tuple[float, float]]]],
) -> tuple[np.ndarray, dict[str, list[Sequence[tuple[float, float]]]]]:
    """Add slices towards the tips of all regions, where an interval begins or ends: halve until no step shows.

    >>> at, region = refine_slices(np.array([0.0, 1.0]), {"P": [[], [(0, 1)]]}, lambda _, x: [[(0, 1)]] * len(x))
    >>> float(at[1])
    0.00390625
    """
    at, regions = np.asarray(first, dtype=float), {name: list(region) for name, region in slices.items()}
    for _ in range(_HALVINGS):
        changed = np.unique(
            [i for region in regions.values() for i, (a, b) in enumerate(pairwise(region)) if len(a) != len(b)]
        ).astype(int)
        if not len(changed):
            break
        between = (at[changed] + at[changed + 1]) / 2
        for name, region in regions.items():
            for place, part in sorted(zip((changed + 1).tolist(), slices_of(name, between), strict=True), reverse=True):
                region.insert(place, part)
        at = np.insert(at, changed + 1, between)
    return at, regions


def _strips(first: np.ndarray, slices: list[np.ndarray], half: float) -> list[list[tuple[float, float]]]:
    """Draw the area between neighbouring slices: straight if both have as many intervals, else each to the middle."""
    strips = []
    for i in range(-1, len(first)):
        left, right = slices[max(i, 0)], slices[min(i + 1, len(first) - 1)]
        x0 = first[i] if i >= 0 else first[0] - half
        x1 = first[i + 1] if i + 1 < len(first) else first[-1] + half
        if len(left) == len(right):
            pairs = [(x0, a, x1, b) for a, b in zip(left, right, strict=True)]
        else:
            middle = (x0 + x1) / 2
            pairs = [(x0, a, middle, a) for a in left] + [(middle, b, x1, b) for b in right]
        strips += [[(u, a[0]), (v, b[0]), (v, b[1]), (u, a[1])] for u, a, v, b in pairs if a[0] < a[1] or b[0] < b[1]]
    return strips


@themed
def nyquist_disks(responses: Mapping[str, np.ndarray], disks: Mapping[str, Any]) -> Figure:
    """Draw `nyquist_disk` of each loop in a panel of its own, where disks of nearly one size do not hide each other.

    Examples
    --------
    >>> import control, numpy as np
    >>> from ctrlattn import disk_margin
    >>> L = control.tf([0.5], [1, -0.5], 1)
    >>> len(nyquist_disks({"P": L(np.exp(1j * np.linspace(0.1, 3, 9)))}, {"P": disk_margin(L)}).axes)
    1
    """
    fig, panels = panels_of(len(responses), 3, height=2.4, margin=0.3)
    for ax, name in zip(panels.flat, responses, strict=False):
        nyquist_disk({name: responses[name]}, {name: disks[name]}, ax=ax)
        ax.get_legend().remove()
        ax.set_title(escape(name))
    for ax in panels[:, 1:].flat:
        ax.set_ylabel("")
    return fig


@themed
def nyquist_disk(
    responses: Mapping[str, np.ndarray], disks: Mapping[str, Any], *, discrete: bool = True, ax: Axes | None = None
) -> Axes:
    """Draw Nyquist curves and, for each, the disk of -1/f that its disk margin excludes, with the point of contact.

    Parameters
    ----------
    responses : name -> complex (m,)
        L along the frequencies.
    disks : name -> ctrlattn.stability.DiskMargin
        Disk margin of one channel.
    discrete : bool
        Whether the frequency in the legend is in rad/layer, rather than in rad per unit of time.

    Examples
    --------
    >>> import control, numpy as np
    >>> from ctrlattn import disk_margin
    >>> L = control.tf([0.5], [1, -0.5], 1)
    >>> nyquist_disk({"P": L(np.exp(1j * np.linspace(0.1, 3, 9)))}, {"P": disk_margin(L)}).get_xlabel()
    'Re L'
    """
    discrete = require_flag("discrete", discrete)
    ax = axes_of(ax, height=4.6)
    unit = "rad/layer" if discrete else "rad/time"
    for name, look in styles(list(responses)).items():
        curve, disk = np.asarray(responses[name]), disks[name]
        line: dict[str, Any] = {**look, "marker": "None"}
        low, high, phase = disk.gain_low, disk.gain_high, disk.phase
        words = (
            f"gains {low:.2f} to {high:.2f}, ±{phase:.0f}° at once, critical at {disk.frequency:.2f} {unit}"
            if disk.margin > 0
            else "unstable"
        ).replace("inf", "∞")
        ax.plot(curve.real, curve.imag, label=f"{escape(name)}: {words}", **line)
        ax.plot(curve.real, -curve.imag, **{**line, "linewidth": 0.8})
        if np.isfinite(high) and low > 0 and high > low:
            middle, radius = ((-1 / high - 1 / low) / 2, 0.0), (1 / low - 1 / high) / 2
            ax.add_patch(Circle(middle, radius, facecolor=look["color"], alpha=0.14, edgecolor="none"))
            ax.add_patch(Circle(middle, radius, fill=False, edgecolor=look["color"], linestyle=_DASHED))
            touch = -1 / disk.perturbation[0]
            for side in (touch, np.conj(touch)):
                ax.plot(side.real, side.imag, look["marker"], color=look["color"], markeredgecolor="black")
    _critical_point(ax)
    ax.set_title("Nyquist curve; shaded: −1/f for all factors f of the disk margin")
    ax.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.13), ncols=1, borderaxespad=0)
    return ax


@themed
def harmonic_balance(
    response: np.ndarray,
    gains: np.ndarray,
    *,
    sector: tuple[float, float] | None = None,
    cycles: Mapping[str, complex] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw G(e^{iw}), the locus -1/N(A) of a describing function, and the disk of the circle criterion.

    An oscillation is predicted where the two curves cross. None is possible where the curve of G neither enters nor
    encircles the disk.

    Parameters
    ----------
    response : complex (m,)
    gains : (k,)
        Describing function over ascending amplitudes.
    sector : (low, high), optional
        0 <= low < high.
    cycles : label -> point of the plane, optional

    Examples
    --------
    >>> import numpy as np
    >>> harmonic_balance(np.array([1.0, -0.5 + 0.1j]), np.array([1.0, 0.5]), sector=(0.0, 1.0)).get_ylabel()
    'Im G'
    """
    ax = axes_of(ax, height=4.6)
    curve, locus = np.asarray(response), -1 / np.asarray(gains, dtype=complex)
    ax.plot(curve.real, curve.imag, color=COLOURS[0], label="G")
    ax.plot(curve.real, -curve.imag, color=COLOURS[0], linewidth=0.8)
    look: dict[str, Any] = {"color": COLOURS[1], "linestyle": (0, (5, 1.5)), "marker": "^"}
    grows = "right" if abs(locus[-1]) < abs(locus[0]) else "left"
    label = f"−1/N(A), A grows to the {grows}"
    ax.plot(locus.real, locus.imag, label=label, markevery=max(len(locus) // 12, 1), **look)
    if sector is not None:
        _draw_forbidden_disk(ax, *sector)
    for (label, point), marker in zip((cycles or {}).items(), "DsoP", strict=False):
        ax.plot(np.real(point), np.imag(point), marker, color="black", markersize=7, label=escape(label))
    size = 1.15 * max(float(np.max(np.abs(curve))), 1.2)
    ax.set(xlim=(-size, size), ylim=(-0.8 * size, 0.8 * size), aspect="equal", xlabel="Re G", ylabel="Im G")
    ax.set_title("Harmonic balance and circle criterion")
    ax.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.13), ncols=1, borderaxespad=0)
    return ax


def _draw_forbidden_disk(ax: Axes, low: float, high: float) -> None:
    """Draw the disk with the diameter from -1/low to -1/high; a half plane for low = 0."""
    words = f"circle criterion, sector [{low:g}, {high:g}]"
    if low <= 0:
        ax.axvspan(-1e9, -1 / high, facecolor="#f3f4f6", hatch="////", edgecolor="#b3bac4", label=words, zorder=0)
        return
    look: dict[str, Any] = {"facecolor": "#f3f4f6", "hatch": "////", "edgecolor": "#b3bac4", "zorder": 0}
    ax.add_patch(Circle((-(1 / low + 1 / high) / 2, 0), (1 / low - 1 / high) / 2, label=words, **look))


def _critical_point(ax: Axes) -> None:
    ax.plot(-1, 0, "+", color="black", markersize=11, markeredgewidth=1.8)
    ax.annotate("−1", (-1, 0), textcoords="offset points", xytext=(-20, -14))
    ax.set(xlim=(-2.6, 2.2), ylim=(-1.9, 1.9), aspect="equal", xlabel="Re L", ylabel="Im L")
