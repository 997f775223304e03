"""Figures of non-normal matrices: contours of sigma_min(zI - A), and transient growth ||A^k|| between its bounds."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ctrlattn.errors import require_flag
from ctrlattn.plots.style import COLOURS, GREY, axes_of, escape, legend, sparse_markers, themed

_CIRCLE = np.exp(1j * np.linspace(0, 2 * np.pi, 361))


@themed
def pseudospectrum_contours(
    re: np.ndarray,
    im: np.ndarray,
    sigma: np.ndarray,
    eigenvalues: Any,
    *,
    continuous: bool = False,
    title: str = "Pseudospectra",
    ax: Axes | None = None,
) -> Axes:
    """Draw contours of sigma_min at powers of ten, with the eigenvalues and the border of stability.

    Inside the contour 10^-k lies every pole that a perturbation of norm 10^-k can cause. Where such a contour leaves
    the unit circle (the left half-plane), a perturbation of that size can make the loop unstable.

    Parameters
    ----------
    re : (m,)
    im : (k,)
    sigma : (k, m)
        ctrlattn.pseudospectrum(A, re[None, :] + 1j * im[:, None]).
    eigenvalues : complex, any number
    continuous : bool
        Whether the border of stability is the imaginary axis instead of the unit circle.

    Examples
    --------
    >>> import numpy as np
    >>> axis = np.linspace(-2, 2, 9)
    >>> pseudospectrum_contours(axis, axis, np.abs(axis[None, :] + 1j * axis[:, None]), [0.0]).get_xlabel()
    'Re z'
    """
    continuous = require_flag("continuous", continuous)
    ax = axes_of(ax, height=4.8)
    power = np.log10(np.maximum(np.nan_to_num(np.asarray(sigma, dtype=float), posinf=1e300), 1e-16))
    levels = np.arange(max(-12, np.floor(power.min())), np.ceil(power.max()) + 1)
    levels = levels[:: max(1, len(levels) // 9)]
    if power.min() < power.max():
        contours = ax.contour(re, im, power, levels=levels, colors=COLOURS[0], linestyles="solid", linewidths=1.1)
        # The innermost contours are too small for labels; the level of each is a tenth of the one around it.
        ax.clabel(contours, levels=levels[-5:], fmt=lambda level: f"$10^{{{level:.0f}}}$", fontsize=7.5)
    poles = np.atleast_1d(np.asarray(eigenvalues, dtype=complex))
    if continuous:
        border = ax.axvline(0.0, color="black", linewidth=1.2, linestyle=(0, (5, 2)))
    else:
        (border,) = ax.plot(_CIRCLE.real, _CIRCLE.imag, color="black", linewidth=1.2, linestyle=(0, (5, 2)))
    (points,) = ax.plot(poles.real, poles.imag, "x", color=COLOURS[1], markersize=6, markeredgewidth=1.6)
    contour = Line2D([], [], color=COLOURS[0], linewidth=1.1)
    ax.set(xlim=(re[0], re[-1]), ylim=(im[0], im[-1]), aspect="equal", xlabel="Re z", ylabel="Im z")
    ax.set_title(escape(title))
    names = ["eigenvalues", "imaginary axis" if continuous else "unit circle", r"$\sigma_{\min}(zI - A)$"]
    handles = [points, border, contour]
    ax.legend(handles, names, loc="upper left", bbox_to_anchor=(-0.02, -0.13), ncols=3, borderaxespad=0)
    return ax


@themed
def transient_growth(
    growth: Any, *, title: str = "Growth before settling", unit: str = "layers", ax: Axes | None = None
) -> Axes:
    """Draw ||A^k|| on a logarithmic axis, with its upper bound, spectral radius^k, and the Kreiss bounds of its peak.

    Parameters
    ----------
    growth : ctrlattn.stability.TransientGrowth
        Bounds that are nan or infinite are left out.

    Examples
    --------
    >>> import numpy as np
    >>> from ctrlattn import transient_growth as measure
    >>> transient_growth(measure(np.array([[0.5, 2.0], [0.0, 0.5]]), 10)).get_xlabel()
    'Time (layers)'
    """
    ax = axes_of(ax, height=4.0)
    curves: tuple[tuple[str, np.ndarray, str, str, Any], ...] = (
        ("norm of the power", growth.norms, COLOURS[0], "o", "solid"),
        ("bound of each power", growth.ceiling, COLOURS[3], "v", (0, (1, 1.2))),
        ("eigenvalues alone", growth.asymptotic, GREY, "s", (0, (5, 1.5))),
    )
    for index, (label, values, colour, marker, dash) in enumerate(curves):
        curve = np.where(_is_drawable(values), values, np.nan)
        if np.any(np.isfinite(curve)):
            ax.plot(
                growth.times, curve, label=label, color=colour, marker=marker, linestyle=dash,
                **sparse_markers(len(curve), index),
            )  # fmt: skip
    lines: tuple[tuple[str, float, Any], ...] = (
        ("K", growth.lower, (0, (7, 2))),
        ("e n K", growth.upper, (0, (7, 2, 1, 2))),
    )
    for label, level, dash in lines:
        if level < 1e140:
            side = "≤" if label == "K" else "≥"
            note = f"{label} = {level:.3g} {side} peak"
            ax.axhline(level, color=COLOURS[1], linewidth=1.3, linestyle=dash, label=note)
    norms = growth.norms[_is_drawable(growth.norms)]
    tops = [v for v in (growth.upper, growth.lower) if v < 1e140]
    low, high = max(norms.min() / 2, norms.max() * 1e-8), 3 * max([norms.max(), *tops])
    ax.set_ylim(low, high)
    ax.set_yscale("log")
    ax.set(xlabel=f"Time ({unit})", ylabel="Amplification (2-norm)", title=escape(title))
    legend(ax)
    return ax


def _is_drawable(values: np.ndarray) -> np.ndarray:
    """Tell of each value whether it can be shown on a logarithmic axis without overflow."""
    return (values > 1e-140) & (values < 1e140)
