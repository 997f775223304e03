"""Figures over depth: feedback gain, time response, Bode magnitude of S and T, gang of four."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ctrlattn.plots.style import (
    COLOURS,
    GREY,
    axes_of,
    decibel,
    escape,
    figure,
    legend,
    nyquist_line,
    sparse_markers,
    styles,
    themed,
)

_CLIP = 3.0  # a response beyond this many times the bounded ones is cut off, and the legend says so
_FLOOR_DB = -60.0
_TITLES = {
    "S": "S: reference to error",
    "T": "T: reference to state",
    "PS": "PS: disturbance to state",
    "CS": "CS: reference to control",
}


@themed
def feedback_gain(gains: Mapping[str, np.ndarray], *, title: str) -> Figure:
    """Draw the gain of each sublayer along its own state: median, quartiles, 5 to 95 % of the tokens, layer by layer.

    Parameters
    ----------
    gains : kind of sublayer -> (layers, tokens)
    title : str

    Examples
    --------
    >>> import numpy as np
    >>> [ax.get_xlabel() for ax in feedback_gain({"attention": np.zeros((2, 3))}, title="toy").axes]
    ['Layer']
    """
    fig = figure(height=1.1 + 1.9 * len(gains))
    fig.suptitle(escape(title), x=0.01, ha="left", fontsize=10.5)
    panels = np.atleast_1d(fig.subplots(len(gains), 1, sharex=True))
    for ax, colour, (kind, gain) in zip(panels, COLOURS, gains.items(), strict=False):
        low, first, middle, third, high = np.quantile(gain, [0.05, 0.25, 0.5, 0.75, 0.95], axis=1)
        layer = np.arange(len(gain))
        ax.axhspan(-1e9, 0.0, color="#f1f3f6", zorder=0)
        ax.vlines(layer, low, high, color=GREY, linewidth=1.0, label="5 to 95 % of tokens")
        ax.vlines(layer, first, third, color=colour, linewidth=5.0, alpha=0.75, label="quartiles")
        ax.plot(layer, middle, "D", color="black", markersize=3.6, label="median")
        ax.axhline(0.0, color="black", linewidth=0.9)
        span = max(float(np.max(np.abs([low, high]))), 1e-12)
        if span > 20 * float(np.median(np.maximum(np.abs(low), np.abs(high)))):
            # The scale is linear near 0 and logarithmic beyond, so that one massive activation hides no other layer.
            ax.set_yscale("symlog", linthresh=0.2, linscale=1.5)
        ax.set_ylim(-1.2 * span if low.min() < -0.1 * span else -0.2 * span, 1.2 * span)
        ax.set_title(escape(kind))
        ax.set_ylabel("Gain ⟨F(x),x⟩/⟨x,x⟩")
        ax.text(0.995, 0.03, "below 0: negative feedback", transform=ax.transAxes, ha="right", fontsize=8, color=GREY)
    panels[-1].set_xlabel("Layer")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].legend(loc="upper right", ncols=3, fontsize=8)
    return fig


@themed
def time_response(
    responses: Mapping[str, np.ndarray],
    *,
    ylabel: str,
    reference: float | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw responses over the layers; a (layers + 1, 3) response is drawn as quartile band and median.

    A response that grows far beyond the others is cut off at the frame, and the legend says where it ends.

    Parameters
    ----------
    responses : name -> (layers + 1,) or (layers + 1, 3)
    reference : float, optional
        The value to reach; it is drawn with its 2 % band.

    Examples
    --------
    >>> import numpy as np
    >>> time_response({"softmax": np.ones(4)}, ylabel="state").get_xlabel()
    'Depth (layers)'
    """
    from ctrlattn.linear.mode_polynomial import BAND

    ax = axes_of(ax)
    if reference is not None:
        ax.axhspan(reference - BAND, reference + BAND, color="#eef1f4", zorder=0)
        ax.axhline(reference, color="black", linewidth=0.9, linestyle=(0, (1, 2)), label=f"reference ± {BAND:.0%}")
    low, high = _bounded_limits(responses, reference)
    for i, (name, look) in enumerate(styles(list(responses)).items()):
        y = np.asarray(responses[name], dtype=float)
        band, middle = (y, y[:, 1]) if y.ndim == 2 else (None, y)
        depth = np.arange(len(middle))
        beyond = np.flatnonzero(~((middle >= low) & (middle <= high)))
        note = f" (leaves the frame at {beyond[0]}, ends at {middle[-1]:.2g})" if len(beyond) else ""
        if _turns_round(middle, high - low):
            _between_layers(ax, middle, f"{escape(name)}: turns at each layer{note}", look, filled=not len(beyond))
            continue
        if band is not None:
            ax.fill_between(depth, band[:, 0], band[:, 2], color=look["color"], alpha=0.16, linewidth=0)
        ax.plot(depth, middle, label=escape(name) + note, **look, **sparse_markers(len(depth), i))
    ax.set_ylim(low, high)
    ax.set(xlabel="Depth (layers)", ylabel=ylabel, title=escape(title))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(ax)
    return ax


@themed
def bode_magnitude(
    omega: np.ndarray,
    responses: Mapping[str, np.ndarray],
    *,
    bands: Mapping[str, np.ndarray] | None = None,
    ylabel: str,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw magnitudes in dB over rad/layer, on a linear axis up to the Nyquist frequency.

    Parameters
    ----------
    omega : (m,) in [0, pi]
    responses : name -> (m,) magnitude or complex response
    bands : name -> (2, m), optional
        Lower and upper magnitude, shaded.

    Examples
    --------
    >>> import numpy as np
    >>> bode_magnitude(np.linspace(0, 3, 4), {"S": np.ones(4)}, ylabel="|S| (dB)").get_ylabel()
    '|S| (dB)'
    """
    ax = axes_of(ax)
    for i, (name, look) in enumerate(styles(list(responses)).items()):
        if bands is not None and name in bands:
            lower, upper = np.clip(decibel(bands[name]), _FLOOR_DB, None)
            ax.fill_between(omega, lower, upper, color=look["color"], alpha=0.16, linewidth=0)
        ax.plot(omega, decibel(responses[name]), label=escape(name), **look, **sparse_markers(len(omega), i))
    ax.axhline(0.0, color="black", linewidth=0.9)
    nyquist_line(ax)
    ax.set_ylim(bottom=max(ax.get_ylim()[0], _FLOOR_DB))
    ax.set(ylabel=ylabel, title=escape(title))
    legend(ax)
    return ax


@themed
def gang_of_four(omega: np.ndarray, responses: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Draw S, T, PS and CS of each loop, in dB over rad/layer.

    Parameters
    ----------
    omega : (m,)
    responses : name -> {"S", "T", "PS", "CS" -> (m,)}

    Examples
    --------
    >>> import numpy as np
    >>> four = dict.fromkeys(("S", "T", "PS", "CS"), np.ones(4))
    >>> len(gang_of_four(np.linspace(0, 3, 4), {"neutreno": four}).axes)
    4
    """
    fig = figure(height=5.0)
    panels = fig.subplots(2, 2, sharex=True)
    for ax, (key, title) in zip(panels.flat, _TITLES.items(), strict=True):
        for i, (name, look) in enumerate(styles(list(responses)).items()):
            curve = decibel(responses[name][key])
            ax.plot(omega, curve, label=escape(name), **look, **sparse_markers(len(omega), i, count=8))
        ax.axhline(0.0, color="black", linewidth=0.9)
        ax.set_title(title)
        ax.set_ylabel("Magnitude (dB)")
        nyquist_line(ax)
        ax.set_ylim(bottom=max(ax.get_ylim()[0], _FLOOR_DB))
    for ax in panels[0]:
        ax.set_xlabel("")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower left", ncols=4)
    return fig


def _turns_round(y: np.ndarray, frame: float) -> bool:
    """Tell whether a response changes direction at nearly every layer, so far that lines would fill the frame.

    >>> _turns_round(np.array([0.0, 1, 0, 1, 0, 1, 0, 1]), 1.0), _turns_round(np.arange(8.0), 8.0)
    (True, False)
    """
    way = np.diff(y[np.isfinite(y)])
    if len(way) < 6 or float(np.median(np.abs(way))) < 0.1 * frame:
        return False
    return float(np.mean(way[1:] * way[:-1] < 0)) > 0.8


def _between_layers(ax: Axes, y: np.ndarray, label: str, look: Mapping[str, Any], *, filled: bool) -> None:
    """Draw lines through the even and the odd layers, with a mark at every layer, and the area between them."""
    depth = np.arange(len(y))
    even, odd = (np.interp(depth, depth[i::2], y[i::2]) for i in (0, 1))
    even[0] = odd[0] = y[0]
    line = {"color": look["color"], "marker": look["marker"], "linewidth": 0.9, "markersize": 3.4}
    if filled:
        ax.fill_between(depth, even, odd, color=look["color"], alpha=0.13, linewidth=0)
    ax.plot(depth[::2], y[::2], label=label, **line)
    ax.plot(np.append(0, depth[1::2]), np.append(y[0], y[1::2]), **line)


def _bounded_limits(responses: Mapping[str, np.ndarray], reference: float | None) -> tuple[float, float]:
    """Return limits that hold every bounded response, so that a diverging one does not flatten the others."""
    ends = [np.asarray(y, dtype=float) for y in responses.values()]
    sizes = [float(np.max(np.abs(y), initial=0.0, where=np.isfinite(y))) for y in ends]
    typical = max(float(np.median(sizes)), abs(reference or 0.0), 1e-12)
    bounded = [y[np.isfinite(y)] for y, size in zip(ends, sizes, strict=True) if size <= _CLIP * typical]
    values = np.concatenate([np.ravel(y) for y in bounded] + [np.array([0.0, reference or 0.0])])
    values = np.clip(values, -_CLIP * typical, _CLIP * typical)
    pad = 0.07 * max(float(np.ptp(values)), 1e-12)
    return float(values.min() - pad), float(values.max() + pad)
