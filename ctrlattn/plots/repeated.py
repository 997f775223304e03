"""Figures of a repeated span: loss, residual and norm over passes, and eigenvalues of J over regions of stability."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter

from ctrlattn.plots.style import COLOURS, GREY, axes_of, escape, figure, legend, panels_of, styles, themed

_FAINT = "#f3f4f6"
_PANEL, _HIGHEST = 3.0, 3.6  # inches: the width of one of two panels, and the height of its picture at most
_GRID = 121  # points a side of the plane on which the regions are drawn
_STRIP, _TOWER = 0.5, 1.0  # least and largest height of the plane, as a share of its width
_LINTHRESH = 0.02  # nats: smaller changes of the loss are drawn on a linear scale, larger ones on a logarithmic


@themed
def loss_over_passes(
    changes: Mapping[str, Mapping[int, float]],
    errors: Mapping[str, Mapping[int, float]],
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw the change of the loss against the passes, law by law, with standard errors; linear near 0, then log.

    Parameters
    ----------
    changes, errors : law -> {passes -> nats/token}

    Examples
    --------
    >>> loss_over_passes({"naive": {1: 0.0, 2: 0.2}}, {"naive": {1: 0.0, 2: 0.1}}).get_xlabel()
    'Passes of the span'
    """
    ax = axes_of(ax, height=3.9)
    passes = [1] + [k for values in changes.values() for k in values]
    for name, look in styles(list(changes)).items():
        ks = sorted(changes[name])
        bars = [errors[name][k] for k in ks]
        ax.errorbar(ks, [changes[name][k] for k in ks], yerr=bars, capsize=2.0, label=escape(name), **look)
    ax.axhline(0.0, color="black", linewidth=0.9)
    ax.set_yscale("symlog", linthresh=_LINTHRESH)
    ax.yaxis.set_major_formatter(ScalarFormatter())
    _whole_passes(ax, max(passes))
    ax.set(xlabel="Passes of the span", ylabel="Change of the loss (nats/token)")
    legend(ax)
    return ax


@themed
def motion_over_passes(residual: Mapping[str, np.ndarray], norm: Mapping[str, np.ndarray]) -> Figure:
    """Draw |F(h) - h|/|h| before each pass, and |h|/|h_0| after each, law by law; both are logarithmic.

    Examples
    --------
    >>> import numpy as np
    >>> fig = motion_over_passes({"naive": np.ones(2)}, {"naive": np.ones(3)})
    >>> [ax.get_ylabel() for ax in fig.axes]
    ['Residual |F(h) − h|/|h|', 'Norm |h|/|h₀|']
    """
    fig = figure(height=3.6)
    left, right = fig.subplots(1, 2)
    for name, look in styles(list(residual)).items():
        left.plot(np.arange(len(residual[name])) + 1, residual[name], label=escape(name), **look)
        right.plot(np.arange(len(norm[name])), norm[name], **look)
    left.set(xlabel="Pass", ylabel="Residual |F(h) − h|/|h|", yscale="log")
    right.set(xlabel="Passes made", ylabel="Norm |h|/|h₀|", yscale="log")
    for ax in (left, right):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def plane_around(modes: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (Re, Im) of a part of the plane that holds the eigenvalues, the unit circle and `edge`, (121,) each.

    Its units are drawn equal on both axes, so that it is neither a strip nor a tower.

    Parameters
    ----------
    modes : (m,) complex
    edge : float
        1 + recall.

    Examples
    --------
    >>> re, im = plane_around(np.array([0.5, 14.0]), 1.0)
    >>> bool(re[0] < -1), bool(re[-1] > 14), round(float(np.ptp(im) / np.ptp(re)), 6)
    (True, True, 0.5)
    """
    low, high = min(float(modes.real.min()), -1.0), max(float(modes.real.max()), edge)
    tall, wide = 1.15 * max(float(np.abs(modes.imag).max()), 1.0), 1.16 * (high - low)
    wide, tall, middle = max(wide, 2 * tall / _TOWER), max(tall, wide * _STRIP / 2), (low + high) / 2
    return np.linspace(middle - wide / 2, middle + wide / 2, _GRID), np.linspace(-tall, tall, _GRID)


@themed
def modes_over_regions(
    eigenvalues: np.ndarray,
    regions: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    edges: Mapping[str, float],
) -> Figure:
    """Draw eigenvalues of J over the region that each law leaves stable, in equal units; the unstable area is hatched.

    Parameters
    ----------
    eigenvalues : (m,) complex
    regions : law -> (re (m,), im (k,), radius (k, m))
        Largest modulus of a pole of the loop on a grid of the plane.
    edges : law -> 1 + recall
        The real part that no stable C with C(1) > 0 lets a real eigenvalue reach.

    Examples
    --------
    >>> import numpy as np
    >>> plane = (np.linspace(-1, 2, 3), np.linspace(-1, 1, 3), np.zeros((3, 3)))
    >>> modes_over_regions(np.zeros(2), {"naive": plane}, {"naive": 1.0}).axes[0].get_xlabel()
    'Re λ'
    """
    first, *_ = regions.values()
    shape = np.ptp(first[1]) / np.ptp(first[0])
    fig, panels = panels_of(len(regions), 2, height=min(_PANEL * shape, _HIGHEST) + 0.3, margin=0.9)
    for ax, (name, (re, im, radius)) in zip(panels.flat, regions.items(), strict=False):
        if radius.max() > 1:
            ax.contourf(re, im, radius, levels=[1.0, radius.max()], colors=[_FAINT], hatches=["////"])
        if radius.min() < 1 < radius.max():
            ax.contour(re, im, radius, levels=[1.0], colors=["black"], linewidths=1.1)
        ax.axvline(edges[name], color=GREY, linewidth=1.2, linestyle=(0, (4, 2)), label="1 + recall")
        ax.plot(
            eigenvalues.real, eigenvalues.imag, linestyle="none", marker="o", markersize=4.0, color=COLOURS[1],
            markeredgecolor="black", markeredgewidth=0.4, label="eigenvalues of J",
        )  # fmt: skip
        ax.set(title=escape(name), xlim=(re[0], re[-1]), ylim=(im[0], im[-1]), aspect="equal")
        ax.label_outer()
    for ax in panels.flat[len(regions) - panels.shape[1] : len(regions)]:  # the lowest of each column
        ax.tick_params(labelbottom=True)
        ax.set_xlabel("Re λ")
    for ax in panels[:, 0]:
        ax.set_ylabel("Im λ")
    handles, _ = panels[0, 0].get_legend_handles_labels()
    area = Patch(facecolor=_FAINT, hatch="////", edgecolor="#b3bac4", label="unstable")
    fig.legend(handles=[*handles, area], loc="outside lower left", ncols=3)
    return fig


@themed
def rightmost_over_depth(
    spans: Sequence[tuple[int, int]], rightmost: np.ndarray, largest: np.ndarray, *, edge: float, ax: Axes | None = None
) -> Axes:
    """Draw the largest real part and the largest modulus of the eigenvalues of J, span by span over depth.

    Parameters
    ----------
    spans : sequence of (a, b)
    rightmost, largest : (spans,)
        nan where no eigenvalue has converged.
    edge : float
        1 + recall.

    Examples
    --------
    >>> import numpy as np
    >>> rightmost_over_depth([(0, 2), (2, 4)], np.ones(2), np.ones(2), edge=1.0).get_xlabel()
    'Layers of the span'
    """
    ax = axes_of(ax, height=3.6)
    names = [f"{a}–{b - 1}" if b - a > 1 else f"{a}" for a, b in spans]
    looks = styles(["largest real part", "largest modulus"])
    for (name, look), values in zip(looks.items(), (rightmost, largest), strict=True):
        ax.plot(range(len(spans)), values, label=name, **look)
    ax.axhline(edge, color=GREY, linewidth=1.2, linestyle=(0, (4, 2)), label="1 + recall")
    every = max(len(names) // 10, 1)
    ax.set_xticks(range(0, len(names), every), names[::every])
    ax.set(xlabel="Layers of the span", ylabel="Eigenvalues of J", yscale="log")
    legend(ax)
    return ax


def _whole_passes(ax: Axes, most: int) -> None:
    """Show passes as whole numbers; far counts stand on a logarithmic axis, since they double."""
    if most > 8:
        ax.set_xscale("log", base=2)
        ticks = [2**i for i in range(most.bit_length()) if 2**i <= most]
        ax.set_xticks(ticks, [str(k) for k in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
