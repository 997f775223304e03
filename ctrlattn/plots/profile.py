"""Pictures of a feedback profile: gain over depth with its spread, heat maps layers x heads, eigenvalues, exponents.

Each takes the Dataset of `checkpoints.feedback_profile` and needs the part that it is named after.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from ctrlattn.plots.style import COLOURS, GREY, decibel, figure, legend, nyquist_line, sparse_markers, styles, themed

if TYPE_CHECKING:
    import xarray as xr

_LOOKS = {"attention": (COLOURS[0], "o", "solid"), "mlp": (COLOURS[6], "s", (0, (5, 1.5)))}
_NAMES = {"attention": "attention", "mlp": "MLP"}
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0)
_COUNTED = ("Layer", "Head", "Depth")
_LINEAR = 0.1  # gains beyond are drawn logarithmically: the first layers are often ten times the others


@themed
def feedback(profile: "xr.Dataset") -> Figure:
    """Median gain of each sublayer with the spread over the tokens, and the share of the state that it predicts.

    Examples
    --------
    >>> import xarray as xr
    >>> some = xr.Dataset({
    ...     "feedback_gain_quantile": (("layer", "sublayer", "quantile"), np.zeros((3, 2, 5))),
    ...     "negative_share": (("layer", "sublayer"), np.zeros((3, 2))),
    ...     "predicted_share": (("layer", "sublayer"), np.zeros((3, 2)))},
    ...     coords={"quantile": [0.05, 0.25, 0.5, 0.75, 0.95], "sublayer": ["attention", "mlp"]})
    >>> [ax.get_ylabel() for ax in feedback(some).axes]
    ['Gain ⟨F, x⟩/⟨x, x⟩', 'Share']
    """
    drawn = figure(height=5.4)
    top, bottom = drawn.subplots(2, 1, sharex=True, height_ratios=(1.6, 1.0))
    for kind, (colour, marker, dash) in _LOOKS.items():
        spread = profile["feedback_gain_quantile"].sel(sublayer=kind).to_numpy()
        layers = np.arange(len(spread))
        top.plot(layers, spread[:, 2], color=colour, marker=marker, linestyle=dash, label=f"{_NAMES[kind]}, median")
        top.fill_between(layers, spread[:, 1], spread[:, 3], color=colour, alpha=0.30, linewidth=0)
        top.fill_between(layers, spread[:, 0], spread[:, 4], color=colour, alpha=0.13, linewidth=0)
        for name, line, fill in (("negative_share", dash, "full"), ("predicted_share", (0, (1, 1.2)), "none")):
            share = profile[name].sel(sublayer=kind).to_numpy()
            words = "tokens with negative feedback" if fill == "full" else "variance of the state predicted"
            look = {"color": colour, "marker": marker, "linestyle": line, "fillstyle": fill}
            bottom.plot(layers, share, label=f"{_NAMES[kind]}, {words}", **look)
    top.axhline(0.0, color="black", linewidth=0.9)
    _signed_scale(top)
    top.set(ylabel="Gain ⟨F, x⟩/⟨x, x⟩", title="Below 0: negative feedback. Bands: 50 and 90 % of the tokens")
    top.legend(loc="best")
    bottom.set(xlabel="Layer", ylabel="Share", ylim=(-0.03, 1.03))
    bottom.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.3), ncols=2, borderaxespad=0)
    return _whole_numbers(drawn)


@themed
def heads(profile: "xr.Dataset") -> Figure:
    """Median gain of every head, layers x heads, and the parts of their sum by the token they come from.

    Examples
    --------
    >>> import xarray as xr
    >>> some = xr.Dataset({"head_gain": (("layer", "head", "token"), np.zeros((3, 2, 4))),
    ...     "source_gain": (("layer", "source"), np.zeros((3, 3)))},
    ...     coords={"source": ["self", "first", "others"]})
    >>> [ax.get_xlabel() for ax in heads(some).axes[:2]]
    ['Layer', 'Layer']
    """
    drawn = figure(height=5.6)
    top, bottom = drawn.subplots(2, 1, sharex=True)
    gain = profile["head_gain"].median("token").to_numpy()
    _map(top, gain.T, "Median gain of a head", diverging=True)
    top.set(xlabel="Layer", ylabel="Head")
    sources = [str(name) for name in profile["source"].to_numpy()]
    words = {"self": "the token itself", "first": "the first token", "others": "the other tokens"}
    for i, (name, look) in enumerate(styles(sources).items()):
        parts = profile["source_gain"].sel(source=name).to_numpy()
        layers = np.arange(len(parts))
        bottom.plot(layers, parts, label=words.get(name, name), **look, **sparse_markers(len(parts), i))
    bottom.axhline(0.0, color="black", linewidth=0.9)
    _signed_scale(bottom)
    bottom.set(xlabel="Layer", ylabel="Median gain, all heads", title="What attention adds along a token comes from")
    bottom.legend(loc="best", ncols=3)
    return _whole_numbers(drawn)


@themed
def value_maps(profile: "xr.Dataset") -> Figure:
    """Eigenvalues of W_O W_V of all heads in the complex plane, and the sign of each head.

    Where the stream was measured (part `diversity`) and a norm stands before the attention, each is divided by the
    median size that this norm measures: the gain of an attention mode of eigenvalue 1.

    Examples
    --------
    >>> import xarray as xr
    >>> some = xr.Dataset({"value_eigenvalue": (("layer", "head", "mode"), np.ones((3, 2, 4), dtype=complex)),
    ...     "value_positive": (("layer", "head"), np.ones((3, 2)))})
    >>> value_maps(some).axes[0].get_xlabel()
    'Real part'
    """
    drawn = figure(height=3.9)
    plane, signs = drawn.subplots(1, 2, width_ratios=(1.25, 1.0))
    modes = profile["value_eigenvalue"].to_numpy()
    scaled = "stream_rms" in profile and profile.attrs.get("norm") == "pre"
    if scaled:
        size = np.median(profile["stream_rms"].to_numpy()[:-1], axis=-1)[:, None, None]
        modes = modes / np.where(size > 0, size, 1.0)
    layer = np.broadcast_to(np.arange(len(modes))[:, None, None], modes.shape)
    points = plane.scatter(
        modes.real.ravel(), modes.imag.ravel(), c=layer.ravel(), s=3, cmap="cividis", linewidths=0, rasterized=True
    )
    drawn.colorbar(points, ax=plane, label="Layer", location="bottom", shrink=0.8)
    # All but the outermost in a thousand, so that one head does not hide the others.
    there = np.abs(modes[~np.isnan(modes)])
    reach = (float(np.quantile(there, 0.999)) if there.size else 0.0) or 1.0
    outside = int(np.sum(there > reach * 1.05))
    plane.axvline(0.0, color="black", linewidth=0.9)
    plane.set(
        xlim=(-1.05 * reach, 1.05 * reach), ylim=(-1.05 * reach, 1.05 * reach), xlabel="Real part",
        ylabel="Imaginary part",
        title="$W_O W_V$" + (" over the size of x" if scaled else "") + (f", {outside} outside" if outside else ""),
    )  # fmt: skip
    plane.set_aspect("equal")
    _map(signs, profile["value_positive"].to_numpy(), "Σ Re λ / Σ |λ|", diverging=True, limit=1.0)
    signs.set(xlabel="Head", ylabel="Layer", title="Each head: −1 erases, +1 copies")
    return _whole_numbers(drawn)


@themed
def attention_modes(profile: "xr.Dataset") -> Figure:
    """Eigenvalues of the attention matrices by layer over the ends of the stable intervals, and the unstable share.

    Examples
    --------
    >>> import xarray as xr
    >>> some = xr.Dataset({"attention_eigenvalue": (("layer", "head", "token"), np.ones((3, 2, 4), dtype=complex)),
    ...     "stable_interval": (("preset", "end"), [[0.1, 1.0]]),
    ...     "unstable_share": (("preset", "layer", "head"), np.zeros((1, 3, 2)))}, coords={"preset": ["neutreno"]})
    >>> [ax.get_xlabel() for ax in attention_modes(some).axes]
    ['Layer', 'Layer']
    """
    drawn = figure(height=3.9)
    left, right = drawn.subplots(1, 2)
    modes = profile["attention_eigenvalue"].to_numpy()
    quantiles = np.quantile(modes.real.reshape(len(modes), -1), (0.05, 0.25, 0.5, 0.75, 0.95), axis=1)
    layers = np.arange(len(modes))
    left.fill_between(layers, quantiles[0], quantiles[4], color=COLOURS[0], alpha=0.18, linewidth=0)
    left.fill_between(layers, quantiles[1], quantiles[3], color=COLOURS[0], alpha=0.35, linewidth=0)
    left.plot(layers, quantiles[2], color=COLOURS[0], marker="o", label="median; bands: 50 and 90 %")
    names = [str(name) for name in profile["preset"].to_numpy()]
    looks = styles(names)
    low, high = float(min(-0.1, quantiles[0].min())), 1.1
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
    return _whole_numbers(drawn)


@themed
def token_filter(profile: "xr.Dataset") -> Figure:
    """Gain of attention on waves along the tokens by layer, and on differences between tokens by head.

    Examples
    --------
    >>> import xarray as xr
    >>> some = xr.Dataset({"token_response": (("layer", "head", "omega"), np.ones((3, 2, 4))),
    ...     "difference_gain": (("layer", "head"), np.ones((3, 2)))}, coords={"omega": np.linspace(0, np.pi, 4)})
    >>> token_filter(some).axes[0].get_ylabel()
    'Gain (dB)'
    """
    drawn = figure(height=3.8)
    left, right = drawn.subplots(1, 2, width_ratios=(1.2, 1.0))
    omega = profile["omega"].to_numpy()
    response = decibel(profile["token_response"].median("head").to_numpy())
    scale = ScalarMappable(Normalize(0, max(len(response) - 1, 1)), "cividis")
    colours = scale.to_rgba(np.arange(len(response)))
    for i, curve in enumerate(response):
        left.plot(omega, curve, color=colours[i], linewidth=1.0)
    left.axhline(0.0, color="black", linewidth=0.9)
    nyquist_line(left, unit="token")
    left.set(ylabel="Gain (dB)", title="Waves along the tokens, median head")
    drawn.colorbar(scale, ax=left, label="Layer", location="bottom", shrink=0.8)
    _map(right, profile["difference_gain"].to_numpy(), "Gain on differences (below 1: low-pass)")
    right.set(xlabel="Head", ylabel="Layer", title="Differences between tokens")
    return _whole_numbers(drawn)


@themed
def diversity(profile: "xr.Dataset") -> Figure:
    """Mean cosine, effective rank and size of the tokens over depth.

    Examples
    --------
    >>> import xarray as xr
    >>> names = ("mean_cosine", "mean_cosine_ordinary", "effective_rank", "effective_rank_ordinary",
    ...          "effective_rank_centred")
    >>> some = xr.Dataset({name: ("depth", np.ones(4)) for name in names}
    ...                   | {"stream_rms": (("depth", "token"), np.ones((4, 5)))})
    >>> [ax.get_ylabel() for ax in diversity(some).axes]
    ['Mean cosine', 'Effective rank', 'RMS of the stream']
    """
    drawn = figure(height=3.6)
    panels = drawn.subplots(1, 3)
    labels = {
        "mean_cosine": "all tokens", "mean_cosine_ordinary": "without massive ones",
        "effective_rank": "all tokens", "effective_rank_ordinary": "without massive ones",
        "effective_rank_centred": "about their mean",
    }  # fmt: skip
    looks = styles(["all tokens", "without massive ones", "about their mean"])
    depth = np.arange(profile.sizes["depth"])
    for name, label in labels.items():
        ax = panels[0 if name.startswith("mean") else 1]
        look = looks[label]
        ax.plot(depth, profile[name], label=label, **look, **sparse_markers(len(depth), list(looks).index(label)))
    _log_scale(panels[1], *(profile[name].to_numpy() for name in labels if name.startswith("effective")))
    size = np.quantile(profile["stream_rms"].to_numpy(), (0.05, 0.5, 0.95, 1.0), axis=1)
    panels[2].fill_between(depth, size[0], size[2], color=COLOURS[0], alpha=0.25, linewidth=0, label="90 % of tokens")
    panels[2].plot(depth, size[1], color=COLOURS[0], marker="o", label="median", **sparse_markers(len(depth), 0))
    panels[2].plot(depth, size[3], color=COLOURS[1], linestyle=(0, (5, 1.5)), label="largest token")
    _log_scale(panels[2], size)
    for ax, label in zip(panels, ("Mean cosine", "Effective rank", "RMS of the stream"), strict=True):
        ax.set(xlabel="Depth (layers)", ylabel=label)
        ax.legend(loc="upper left", bbox_to_anchor=(-0.05, -0.2), borderaxespad=0, fontsize=8)
    return _whole_numbers(drawn)


@themed
def sinks(profile: "xr.Dataset") -> Figure:
    """Share of each head's attention that its strongest sink draws, and the largest token over depth.

    Examples
    --------
    >>> import xarray as xr
    >>> some = xr.Dataset({"sink_share": (("layer", "head"), np.ones((3, 2))),
    ...                    "massive_ratio": ("depth", np.ones(4)), "massive_token": ("depth", np.zeros(4, int))})
    >>> sinks(some).axes[1].get_ylabel()
    'Largest norm / median norm'
    """
    drawn = figure(height=3.6)
    left, right = drawn.subplots(1, 2)
    _map(left, profile["sink_share"].to_numpy(), "Share of the head's attention", limits=(0.0, 1.0))
    left.set(xlabel="Head", ylabel="Layer", title="Strongest sink")
    ratio, token = profile["massive_ratio"].to_numpy(), profile["massive_token"].to_numpy()
    depth = np.arange(len(ratio))
    right.plot(depth, ratio, color=GREY, linewidth=1.0)
    found = [int(t) for t in dict.fromkeys(token.tolist())]
    for name, look in styles([f"token {t}" for t in found]).items():
        there = token == int(name.split()[1])
        right.plot(depth[there], ratio[there], look["marker"], color=look["color"], label=name)
    _log_scale(right, ratio)
    right.set(xlabel="Depth (layers)", ylabel="Largest norm / median norm", title="Massive activation")
    if len(found) <= 8:
        right.legend(loc="best", fontsize=8)
    return _whole_numbers(drawn)


@themed
def gains(profile: "xr.Dataset") -> Figure:
    """Typical and worst gain of every layer, and the overlap of leading singular directions of layers.

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
    drawn = figure(width=9.4, height=3.4)
    left, middle, right = drawn.subplots(1, 3, width_ratios=(1.15, 1.0, 1.0))
    sigma, probes = profile["sigma"].to_numpy(), profile["random_gain"].to_numpy()
    layers = np.arange(len(sigma))
    left.plot(layers, sigma[:, 0], color=COLOURS[1], marker="^", label="worst direction, σ₁")
    for j in range(1, sigma.shape[1]):
        left.plot(layers, sigma[:, j], color=GREY, linewidth=0.8, label="next σ" if j == 1 else None)
    left.plot(layers, np.sqrt(np.mean(probes**2, axis=-1)), color=COLOURS[0], marker="o", label="random direction")
    left.axhline(1.0, color="black", linewidth=0.9)
    _log_scale(left, sigma, probes)
    left.set(xlabel="Layer", ylabel="Gain of a layer", title="Typical and worst gain")
    left.legend(loc="best", fontsize=8)
    for ax, name, title in (
        (middle, "alignment", "Out of one, into another"),
        (right, "feature_alignment", "Features only"),
    ):
        overlap = profile[name].to_numpy()
        off = overlap[~np.eye(len(overlap), dtype=bool)]
        _map(ax, overlap, "Overlap", limits=(0.0, max(0.05, float(np.max(off, initial=0.0)))))
        ax.set(xlabel="Layer that amplifies", ylabel="Layer that it comes from", title=title)
    return _whole_numbers(drawn)


@themed
def nonnormality(profile: "xr.Dataset") -> Figure:
    """Worst gain, numerical radius and spectral radius of every layer, and its departure from normality.

    Examples
    --------
    >>> import xarray as xr
    >>> names = ("spectral_radius", "spectral_radius_error", "numerical_radius", "departure", "departure_error")
    >>> len(nonnormality(xr.Dataset({name: ("layer", np.ones(3)) for name in names})).axes)
    2
    """
    drawn = figure(height=3.4)
    left, right = drawn.subplots(1, 2, width_ratios=(1.3, 1.0))
    radius, error = profile["spectral_radius"].to_numpy(), profile["spectral_radius_error"].to_numpy()
    layers = np.arange(len(radius))
    if "sigma" in profile:
        left.plot(layers, profile["sigma"][:, 0], color=COLOURS[1], marker="^", linestyle=(0, (5, 1.5)), label="σ₁")
    left.plot(layers, profile["numerical_radius"], color=COLOURS[3], marker="s", label="numerical radius, at least")
    left.plot(layers, radius, color=COLOURS[0], marker="o", linestyle=(0, (1, 1.2)), label="spectral radius")
    left.fill_between(
        layers, radius - error, radius + error, color=COLOURS[0], alpha=0.2, linewidth=0, label="its residual"
    )
    left.axhline(1.0, color="black", linewidth=0.9)
    _log_scale(left, radius - error, profile["numerical_radius"].to_numpy())
    left.set(xlabel="Layer", ylabel="Size", title="Three sizes of a Jacobian")
    left.legend(loc="best", fontsize=8)
    departure, spread = profile["departure"].to_numpy(), profile["departure_error"].to_numpy()
    right.errorbar(layers, departure, spread, color=COLOURS[2], marker="D", linewidth=1.2, capsize=2)
    right.axhline(np.sqrt(0.5), color="black", linewidth=0.9, linestyle=(0, (2, 2)))
    right.annotate("independent random entries", (0, np.sqrt(0.5)), va="bottom", fontsize=8)
    right.set(xlabel="Layer", ylabel="0: normal, 1: (J − I)² = 0", title="Departure from normality", ylim=(0, 1.02))
    return _whole_numbers(drawn)


@themed
def exponents(profile: "xr.Dataset") -> Figure:
    """Growth of the leading directions layer by layer, and added up.

    Examples
    --------
    >>> import xarray as xr
    >>> some = xr.Dataset({"exponent": ("exponent_index", np.ones(2)),
    ...                    "exponent_rate": (("layer", "exponent_index"), np.ones((3, 2)))})
    >>> [ax.get_ylabel() for ax in exponents(some).axes]
    ['Growth in one layer (nat)', 'Growth so far (nat)']
    """
    drawn = figure(height=3.6)
    left, right = drawn.subplots(1, 2)
    rates, found = profile["exponent_rate"].to_numpy(), profile["exponent"].to_numpy()
    finite = np.where(np.isfinite(rates), rates, np.nan)
    layers = np.arange(len(rates))
    names = [f"λ{_subscript(j + 1)} = {value:+.3f} nat/layer" for j, value in enumerate(found)]
    for j, (name, look) in enumerate(styles(names).items()):
        left.plot(layers, finite[:, j], **look, **sparse_markers(len(layers), j, 8))
        total = np.concatenate([[0.0], np.cumsum(finite[:, j])])
        right.plot(np.arange(len(total)), total, label=name, **look, **sparse_markers(len(total), j, 8))
    for ax in (left, right):
        ax.axhline(0.0, color="black", linewidth=0.9)
    left.set(xlabel="Layer", ylabel="Growth in one layer (nat)", title="Layer by layer")
    right.set(xlabel="Depth (layers)", ylabel="Growth so far (nat)", title="From the embedding upwards")
    right.legend(loc="best", fontsize=8)
    return _whole_numbers(drawn)


def _map(
    ax: Axes, matrix: np.ndarray, label: str, *, diverging: bool = False, limit: float | None = None,
    limits: tuple[float, float] | None = None,
) -> None:  # fmt: skip
    """A matrix as colours. Diverging: centred on 0, its largest 2 % at the end of the scale unless `limit` says."""
    scale: dict[str, Any] = {"cmap": "cividis"}
    if diverging:
        finite = np.abs(matrix[np.isfinite(matrix)])
        top = limit or (float(np.quantile(finite, 0.98)) if finite.size else 0.0) or 1.0
        scale = {"cmap": "PuOr_r", "vmin": -top, "vmax": top}
    elif limits is not None:
        scale |= {"vmin": limits[0], "vmax": limits[1]}
    image = ax.imshow(matrix, aspect="auto", interpolation="nearest", **scale)
    ax.grid(False)
    clipped = diverging and limit is None
    ax.figure.colorbar(image, ax=ax, label=label, extend="both" if clipped else "neither")


def _whole_numbers(drawn: Figure) -> Figure:
    """No tick between two layers, heads or depths."""
    for ax in drawn.axes:
        for axis in (ax.xaxis, ax.yaxis):
            if axis.get_label_text().split(" ")[0] in _COUNTED:
                axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
    return drawn


def _log_scale(ax: Axes, *values: np.ndarray) -> None:
    """Logarithmic where every value is positive."""
    if all(np.all(np.isfinite(v)) and np.all(v > 0) for v in values):
        ax.set_yscale("log")


def _signed_scale(ax: Axes) -> None:
    """Linear to 0.1, logarithmic beyond, with plain numbers."""
    low, high = ax.get_ylim()
    reach = max(abs(low), abs(high))
    if reach <= 2 * _LINEAR:
        return
    ax.set_yscale("symlog", linthresh=_LINEAR)
    shown = [v for v in _TICKS if _LINEAR / 2 <= v <= reach]
    ax.set_yticks([v for v in (*(-v for v in shown[::-1]), 0.0, *shown) if low <= v <= high])
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_locator(NullLocator())


def _subscript(number: int) -> str:
    return "".join(chr(0x2080 + int(digit)) for digit in str(number))
