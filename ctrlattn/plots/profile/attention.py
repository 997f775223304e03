"""Figures of a profile's attention: its eigenvalues over depth, and attention as a filter along the tokens."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ctrlattn.plots.profile.scales import map_of, whole_numbers
from ctrlattn.plots.style import COLOURS, decibel, figure, legend, nyquist_line, sparse_markers, styles, themed

if TYPE_CHECKING:
    import xarray as xr


@themed
def attention_modes(profile: "xr.Dataset") -> Figure:
    """Draw the eigenvalues of attention by layer with the ends of the stable intervals, and the unstable share.

    Examples
    --------
    >>> import xarray as xr
    >>> some = xr.Dataset({"attention_eigenvalue": (("layer", "head", "token"), np.ones((3, 2, 4), dtype=complex)),
    ...     "stable_interval": (("preset", "end"), [[0.1, 1.0]]),
    ...     "unstable_share": (("preset", "layer", "head"), np.zeros((1, 3, 2)))}, coords={"preset": ["neutreno"]})
    >>> [ax.get_xlabel() for ax in attention_modes(some).axes]
    ['Layer', 'Layer']
    """
    fig = figure(height=3.9)
    left, right = fig.subplots(1, 2)
    modes = profile["attention_eigenvalue"].to_numpy()
    quantiles = np.quantile(modes.real.reshape(len(modes), -1), (0.05, 0.25, 0.5, 0.75, 0.95), axis=1)
    layers = np.arange(len(modes))
    left.fill_between(layers, quantiles[0], quantiles[4], color=COLOURS[0], alpha=0.18, linewidth=0)
    left.fill_between(layers, quantiles[1], quantiles[3], color=COLOURS[0], alpha=0.35, linewidth=0)
    left.plot(layers, quantiles[2], color=COLOURS[0], marker="o", label="median; bands: 50 and 90 %")
    names = [str(name) for name in profile["preset"].to_numpy()]
    looks = styles(names)
    low, high = float(min(-0.1, np.nanmin(quantiles[0]))), 1.1
    for name in names:
        for end in profile["stable_interval"].sel(preset=name).to_numpy():
            if low < end < high and end not in (0.0, 1.0):
                look = looks[name]
                left.axhline(end, color=look["color"], linestyle=look["linestyle"], linewidth=1.2)
                left.annotate(f"{name} {end:.2f}", (layers[-1], end), ha="right", va="bottom", fontsize=8)
    left.set(xlabel="Layer", ylabel="Real part", title="Attention eigenvalues", ylim=(low, high))
    left.legend(loc="upper right")
    for name in names:
        share = profile["unstable_share"].sel(preset=name).mean("head").to_numpy()
        right.plot(layers, share, label=name, **looks[name], **sparse_markers(len(layers), names.index(name)))
    right.set(xlabel="Layer", ylabel="Share of modes", title="Unstable in the loop of", ylim=(-0.03, 1.03))
    legend(right)
    return whole_numbers(fig)


@themed
def token_filter(profile: "xr.Dataset") -> Figure:
    """Draw the gain of attention on waves along the tokens by layer, and on differences between tokens by head.

    Examples
    --------
    >>> import xarray as xr
    >>> some = xr.Dataset({"token_response": (("layer", "head", "omega"), np.ones((3, 2, 4))),
    ...     "difference_gain": (("layer", "head"), np.ones((3, 2)))}, coords={"omega": np.linspace(0, np.pi, 4)})
    >>> token_filter(some).axes[0].get_ylabel()
    'Gain (dB)'
    """
    fig = figure(height=3.8)
    left, right = fig.subplots(1, 2, width_ratios=(1.2, 1.0))
    omega = profile["omega"].to_numpy()
    response = decibel(profile["token_response"].median("head").to_numpy())
    scale = ScalarMappable(Normalize(0, max(len(response) - 1, 1)), "cividis")
    colours = scale.to_rgba(np.arange(len(response)))
    for i, curve in enumerate(response):
        left.plot(omega, curve, color=colours[i], linewidth=1.0)
    left.axhline(0.0, color="black", linewidth=0.9)
    nyquist_line(left, unit="token")
    left.set(ylabel="Gain (dB)", title="Waves along the tokens, median head")
    fig.colorbar(scale, ax=left, label="Layer", location="bottom", shrink=0.8)
    map_of(right, profile["difference_gain"].to_numpy(), "Gain on differences (below 1: low-pass)")
    right.set(xlabel="Head", ylabel="Layer", title="Differences between tokens")
    return whole_numbers(fig)
