"""Figures of a profile's feedback: g = ⟨F(x), x⟩/⟨x, x⟩ over depth and by head, and the eigenvalues of W_O W_V."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from ctrlattn.plots.profile.scales import map_of, signed_scale, whole_numbers
from ctrlattn.plots.style import COLOURS, figure, sparse_markers, styles, themed

if TYPE_CHECKING:
    import xarray as xr

# Of a traced network a layer may have others: a mixer, or a second MLP.
_LOOKS = {
    "attention": (COLOURS[0], "o", "solid"),
    "mlp": (COLOURS[6], "s", (0, (5, 1.5))),
    "mixer": (COLOURS[2], "^", (0, (3, 1, 1, 1))),
}
_OTHER = (COLOURS[4], "D", (0, (1, 1)))
_NAMES = {"attention": "attention", "mlp": "MLP"}


@themed
def feedback(profile: "xr.Dataset") -> Figure:
    """Draw the median gain of each sublayer with its spread over tokens, and the share of the state that it predicts.

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
    fig = figure(height=5.4)
    top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=(1.6, 1.0))
    for kind in map(str, profile["sublayer"].to_numpy()):
        colour, marker, dash = _LOOKS.get(kind, _OTHER)
        spread = profile["feedback_gain_quantile"].sel(sublayer=kind).to_numpy()
        layers = np.arange(len(spread))
        top.plot(
            layers, spread[:, 2], color=colour, marker=marker, linestyle=dash, label=f"{_NAMES.get(kind, kind)}, median"
        )
        top.fill_between(layers, spread[:, 1], spread[:, 3], color=colour, alpha=0.30, linewidth=0)
        top.fill_between(layers, spread[:, 0], spread[:, 4], color=colour, alpha=0.13, linewidth=0)
        for name, line, fill in (("negative_share", dash, "full"), ("predicted_share", (0, (1, 1.2)), "none")):
            share = profile[name].sel(sublayer=kind).to_numpy()
            words = "tokens with negative feedback" if fill == "full" else "variance of the state predicted"
            look = {"color": colour, "marker": marker, "linestyle": line, "fillstyle": fill}
            bottom.plot(layers, share, label=f"{_NAMES.get(kind, kind)}, {words}", **look)
    top.axhline(0.0, color="black", linewidth=0.9)
    signed_scale(top)
    top.set(ylabel="Gain ⟨F, x⟩/⟨x, x⟩", title="Below 0: negative feedback. Bands: 50 and 90 % of the tokens")
    top.legend(loc="best")
    bottom.set(xlabel="Layer", ylabel="Share", ylim=(-0.03, 1.03))
    bottom.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.3), ncols=2, borderaxespad=0)
    return whole_numbers(fig)


@themed
def heads(profile: "xr.Dataset") -> Figure:
    """Draw the median gain of every head, layers x heads, and the gain of all heads together by source token.

    Examples
    --------
    >>> import xarray as xr
    >>> some = xr.Dataset({"head_gain": (("layer", "head", "token"), np.zeros((3, 2, 4))),
    ...     "source_gain": (("layer", "source"), np.zeros((3, 3)))},
    ...     coords={"source": ["self", "first", "others"]})
    >>> [ax.get_xlabel() for ax in heads(some).axes[:2]]
    ['Layer', 'Layer']
    """
    fig = figure(height=5.6)
    top, bottom = fig.subplots(2, 1, sharex=True)
    gain = profile["head_gain"].median("token").to_numpy()
    map_of(top, gain.T, "Median gain of a head", diverging=True)
    top.set(xlabel="Layer", ylabel="Head")
    sources = [str(name) for name in profile["source"].to_numpy()]
    words = {"self": "the token itself", "first": "the first token", "others": "the other tokens"}
    for i, (name, look) in enumerate(styles(sources).items()):
        parts = profile["source_gain"].sel(source=name).to_numpy()
        layers = np.arange(len(parts))
        bottom.plot(layers, parts, label=words.get(name, name), **look, **sparse_markers(len(parts), i))
    bottom.axhline(0.0, color="black", linewidth=0.9)
    signed_scale(bottom)
    bottom.set(xlabel="Layer", ylabel="Median gain, all heads", title="What attention adds along a token comes from")
    bottom.legend(loc="best", ncols=3)
    return whole_numbers(fig)


@themed
def value_maps(profile: "xr.Dataset") -> Figure:
    """Draw the eigenvalues of W_O W_V of all heads in the complex plane, and the sign of each head.

    Where the stream was measured (part `diversity`) and a norm stands before the attention, each eigenvalue is divided
    by the median size that this norm divides by. It is then the gain of an attention mode of eigenvalue 1.

    Examples
    --------
    >>> import xarray as xr
    >>> some = xr.Dataset({"value_eigenvalue": (("layer", "head", "mode"), np.ones((3, 2, 4), dtype=complex)),
    ...     "value_positive": (("layer", "head"), np.ones((3, 2)))})
    >>> value_maps(some).axes[0].get_xlabel()
    'Real part'
    """
    fig = figure(height=3.9)
    plane, signs = fig.subplots(1, 2, width_ratios=(1.25, 1.0))
    modes = profile["value_eigenvalue"].to_numpy()
    scaled = "stream_rms" in profile and profile.attrs.get("norm") == "pre"
    if scaled:
        size = np.median(profile["stream_rms"].to_numpy()[:-1], axis=-1)[:, None, None]
        modes = modes / np.where(size > 0, size, 1.0)
    layer = np.broadcast_to(np.arange(len(modes))[:, None, None], modes.shape)
    points = plane.scatter(
        modes.real.ravel(), modes.imag.ravel(), c=layer.ravel(), s=3, cmap="cividis", linewidths=0, rasterized=True
    )
    fig.colorbar(points, ax=plane, label="Layer", location="bottom", shrink=0.8)
    # The outermost thousandth is left out, so that one head does not hide the others.
    sizes = np.abs(modes[~np.isnan(modes)])
    reach = (float(np.quantile(sizes, 0.999)) if sizes.size else 0.0) or 1.0
    outside = int(np.sum(sizes > reach * 1.05))
    plane.axvline(0.0, color="black", linewidth=0.9)
    plane.set(
        xlim=(-1.05 * reach, 1.05 * reach), ylim=(-1.05 * reach, 1.05 * reach), xlabel="Real part",
        ylabel="Imaginary part",
        title="$W_O W_V$" + (" over the size of x" if scaled else "") + (f", {outside} outside" if outside else ""),
    )  # fmt: skip
    plane.set_aspect("equal")
    map_of(signs, profile["value_positive"].to_numpy(), "Σ Re λ / Σ |λ|", diverging=True, limit=1.0)
    signs.set(xlabel="Head", ylabel="Layer", title="Each head: −1 erases, +1 copies")
    return whole_numbers(fig)
