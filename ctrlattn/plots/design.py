"""Figures of a design: the trade-off of margin against settling time, and its certificate mode by mode."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctrlattn.plots.style import COLOURS, GREY, axes_of, escape, figure, legend, styles, themed

_NAMES = {
    "modulus_margin": "Modulus margin min|1 + L|",
    "disk_margin": "Disk margin (balanced)",
    "settling": "Settling (layers)",
    "overshoot": "Overshoot (share)",
    "steady_state_error": "Steady-state error",
}
_SHORT = {
    "modulus_margin": "Modulus\nmargin",
    "disk_margin": "Disk\nmargin",
    "settling": "Settling\n(layers)",
    "overshoot": "Overshoot\n(share)",
    "steady_state_error": "Steady-state\nerror",
}


@themed
def trade_off(
    curves: Mapping[str, Mapping[str, np.ndarray]],
    *,
    marks: Mapping[str, tuple[float, float]] | None = None,
    margin: str = "modulus_margin",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw the largest margin of the worst mode for each settling time; above and to the left is better.

    Parameters
    ----------
    curves : name -> {measure -> (q,)}
        `Design.trade_off.values` of several laws or terms.
    marks : name -> (settling, margin), optional
        Points of single controllers, such as the published ones.
    margin : "modulus_margin" or "disk_margin"

    Examples
    --------
    >>> import numpy as np
    >>> trade_off({"PI": {"settling": np.array([5.0]), "modulus_margin": np.array([0.5])}}).get_xlabel()
    'Settling of the slowest mode (layers)'
    """
    ax = axes_of(ax)
    for name, look in styles(list(curves)).items():
        ax.step(curves[name]["settling"], curves[name][margin], where="post", label=escape(name), **look)
    for (name, (settling, value)), marker in zip((marks or {}).items(), "*XhdPpsv^<>8o" * 9, strict=False):
        ax.plot(settling, value, marker, color="black", markersize=9, markerfacecolor="white", label=escape(name))
    ax.set_xscale("log")
    ax.set_xticks([3, 5, 10, 20, 50, 100, 200], ["3", "5", "10", "20", "50", "100", "200"])
    ax.set_xticks([], minor=True)
    ax.set_ylim(bottom=0)
    ax.set(xlabel="Settling of the slowest mode (layers)", ylabel=_NAMES[margin], title=escape(title))
    legend(ax)
    return ax


@themed
def certificate(
    a: np.ndarray, measures: Mapping[str, np.ndarray], limits: Mapping[str, float], *, title: str = ""
) -> Figure:
    """Draw each required measure of every mode against its limit; the forbidden side is shaded.

    Parameters
    ----------
    a : (m,) complex
        Attention modes; the axis is their real part.
    measures : name -> (m,)
        Values by mode; inf is drawn as a mark at the top.
    limits : name -> number
        Limits of the specification.

    Examples
    --------
    >>> import numpy as np
    >>> certificate(np.array([0.5]), {"settling": np.array([4.0])}, {"settling": 9.0}).axes[0].get_ylim()[0]
    np.float64(0.0)
    """
    fig = figure(height=1.0 + 1.4 * len(limits))
    panels = np.atleast_1d(fig.subplots(len(limits), 1, sharex=True))
    for ax, colour, (name, limit) in zip(panels, COLOURS * 2, limits.items(), strict=False):
        value = np.asarray(measures[name], dtype=float)
        finite = np.isfinite(value)
        ax.plot(np.real(a)[finite], value[finite], ".", color=colour, markersize=3.5, rasterized=True)
        top = 1.15 * max(float(np.max(value[finite], initial=0.0)), limit, 1e-9)
        if not finite.all():  # an empty line would have an infinite extent if it were not clipped
            ax.plot(np.real(a)[~finite], np.full(int(np.sum(~finite)), top), "^", color=colour, clip_on=False)
        ax.set_ylim(0, top)
        low, high = (0.0, limit) if "margin" in name else (limit, top)
        ax.axhspan(low, high, facecolor="#f1f3f6", hatch="////", edgecolor=GREY, linewidth=0, zorder=0)
        ax.axhline(limit, color="black", linewidth=1.0)
        ax.set_ylabel(_SHORT[name], fontsize=8.5)
    panels[0].set_title(escape(title))
    panels[-1].set_xlabel("Real part of the attention eigenvalue a")
    return fig
