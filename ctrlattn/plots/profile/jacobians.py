"""Figures of a profile's layer Jacobians: σ₁, numerical and spectral radius, departure from normality, exponents."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from ctrlattn.plots.profile.scales import log_scale, map_of, whole_numbers
from ctrlattn.plots.style import COLOURS, GREY, figure, sparse_markers, styles, themed

if TYPE_CHECKING:
    import xarray as xr


@themed
def gains(profile: "xr.Dataset") -> Figure:
    """Draw typical and worst-case gain of every layer, and the overlap of leading singular directions of layers.

    Examples
    --------
    >>> import xarray as xr
    >>> some = xr.Dataset({"random_gain": (("layer", "probe"), np.ones((3, 2))),
    ...     "sigma": (("layer", "singular"), np.ones((3, 2))),
    ...     "alignment": (("layer", "layer_to"), np.eye(3)),
    ...     "feature_alignment": (("layer", "layer_to"), np.eye(3))})
    >>> gains(some).axes[0].get_ylabel()
    'Gain of a layer'
    """
    fig = figure(width=9.4, height=3.4)
    left, middle, right = fig.subplots(1, 3, width_ratios=(1.15, 1.0, 1.0))
    sigma, probes = profile["sigma"].to_numpy(), profile["random_gain"].to_numpy()
    layers = np.arange(len(sigma))
    left.plot(layers, sigma[:, 0], color=COLOURS[1], marker="^", label="worst direction, σ₁")
    for j in range(1, sigma.shape[1]):
        left.plot(layers, sigma[:, j], color=GREY, linewidth=0.8, label="next σ" if j == 1 else None)
    left.plot(layers, np.sqrt(np.mean(probes**2, axis=-1)), color=COLOURS[0], marker="o", label="random direction")
    left.axhline(1.0, color="black", linewidth=0.9)
    log_scale(left, sigma, probes)
    left.set(xlabel="Layer", ylabel="Gain of a layer", title="Typical and worst gain")
    left.legend(loc="best", fontsize=8)
    for ax, name, title in (
        (middle, "alignment", "Out of one, into another"),
        (right, "feature_alignment", "Features only"),
    ):
        overlap = profile[name].to_numpy()
        off = overlap[~np.eye(len(overlap), dtype=bool)]
        map_of(ax, overlap, "Overlap", limits=(0.0, max(0.05, float(np.max(off, initial=0.0)))))
        ax.set(xlabel="Layer that amplifies", ylabel="Layer that it comes from", title=title)
    return whole_numbers(fig)


@themed
def nonnormality(profile: "xr.Dataset") -> Figure:
    """Draw worst-case gain, numerical and spectral radius of every layer, and its departure from normality.

    Examples
    --------
    >>> import xarray as xr
    >>> names = ("spectral_radius", "spectral_radius_error", "numerical_radius", "departure", "departure_error")
    >>> len(nonnormality(xr.Dataset({name: ("layer", np.ones(3)) for name in names})).axes)
    2
    """
    fig = figure(height=3.4)
    left, right = fig.subplots(1, 2, width_ratios=(1.3, 1.0))
    radius, error = profile["spectral_radius"].to_numpy(), profile["spectral_radius_error"].to_numpy()
    layers = np.arange(len(radius))
    if "sigma" in profile:
        left.plot(layers, profile["sigma"][:, 0], color=COLOURS[1], marker="^", linestyle=(0, (5, 1.5)), label="σ₁")
    left.plot(layers, profile["numerical_radius"], color=COLOURS[3], marker="s", label="numerical radius, at least")
    left.plot(layers, radius, color=COLOURS[0], marker="o", linestyle=(0, (1, 1.2)), label="spectral radius")
    left.fill_between(
        layers, radius - error, radius + error, color=COLOURS[0], alpha=0.2, linewidth=0, label="its error, first order"
    )
    left.axhline(1.0, color="black", linewidth=0.9)
    log_scale(left, radius - error, profile["numerical_radius"].to_numpy())
    left.set(xlabel="Layer", ylabel="Size", title="Three sizes of a Jacobian")
    left.legend(loc="best", fontsize=8)
    departure, spread = profile["departure"].to_numpy(), profile["departure_error"].to_numpy()
    right.errorbar(layers, departure, spread, color=COLOURS[2], marker="D", linewidth=1.2, capsize=2)
    right.axhline(np.sqrt(0.5), color="black", linewidth=0.9, linestyle=(0, (2, 2)))
    right.annotate("independent random entries", (0, np.sqrt(0.5)), va="bottom", fontsize=8)
    right.set(xlabel="Layer", ylabel="0: normal, 1: (J − I)² = 0", title="Departure from normality", ylim=(0, 1.02))
    return whole_numbers(fig)


@themed
def exponents(profile: "xr.Dataset") -> Figure:
    """Draw the growth of the leading directions in each layer, and summed up to each depth.

    Examples
    --------
    >>> import xarray as xr
    >>> some = xr.Dataset({"exponent": ("exponent_index", np.ones(2)),
    ...                    "exponent_rate": (("layer", "exponent_index"), np.ones((3, 2)))})
    >>> [ax.get_ylabel() for ax in exponents(some).axes]
    ['Growth in one layer (nat)', 'Growth so far (nat)']
    """
    fig = figure(height=3.6)
    left, right = fig.subplots(1, 2)
    rates, exponent = profile["exponent_rate"].to_numpy(), profile["exponent"].to_numpy()
    finite = np.where(np.isfinite(rates), rates, np.nan)
    layers = np.arange(len(rates))
    names = [f"λ{_subscript(j + 1)} = {value:+.3f} nat/layer" for j, value in enumerate(exponent)]
    for j, (name, look) in enumerate(styles(names).items()):
        left.plot(layers, finite[:, j], **look, **sparse_markers(len(layers), j, 8))
        total = np.concatenate([[0.0], np.cumsum(finite[:, j])])
        right.plot(np.arange(len(total)), total, label=name, **look, **sparse_markers(len(total), j, 8))
    for ax in (left, right):
        ax.axhline(0.0, color="black", linewidth=0.9)
    left.set(xlabel="Layer", ylabel="Growth in one layer (nat)", title="Layer by layer")
    right.set(xlabel="Depth (layers)", ylabel="Growth so far (nat)", title="From the embedding upwards")
    right.legend(loc="best", fontsize=8)
    return whole_numbers(fig)


def _subscript(number: int) -> str:
    return "".join(chr(0x2080 + int(digit)) for digit in str(number))
