"""Figures of a profile's tokens: mean cosine, effective rank and RMS over depth, attention sinks."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from ctrlattn.plots.profile.scales import log_scale, map_of, whole_numbers
from ctrlattn.plots.style import COLOURS, GREY, figure, sparse_markers, styles, themed

if TYPE_CHECKING:
    import xarray as xr


@themed
def diversity(profile: "xr.Dataset") -> Figure:
    """Draw mean cosine, effective rank and RMS of the tokens over depth.

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
    fig = figure(height=3.6)
    panels = fig.subplots(1, 3)
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
    log_scale(panels[1], *(profile[name].to_numpy() for name in labels if name.startswith("effective")))
    size = np.quantile(profile["stream_rms"].to_numpy(), (0.05, 0.5, 0.95, 1.0), axis=1)
    panels[2].fill_between(depth, size[0], size[2], color=COLOURS[0], alpha=0.25, linewidth=0, label="90 % of tokens")
    panels[2].plot(depth, size[1], color=COLOURS[0], marker="o", label="median", **sparse_markers(len(depth), 0))
    panels[2].plot(depth, size[3], color=COLOURS[1], linestyle=(0, (5, 1.5)), label="largest token")
    log_scale(panels[2], size)
    for ax, label in zip(panels, ("Mean cosine", "Effective rank", "RMS of the stream"), strict=True):
        ax.set(xlabel="Depth (layers)", ylabel=label)
        ax.legend(loc="upper left", bbox_to_anchor=(-0.05, -0.2), borderaxespad=0, fontsize=8)
    return whole_numbers(fig)


@themed
def sinks(profile: "xr.Dataset") -> Figure:
    """Draw the share of each head's attention that its strongest sink takes, and the largest token norm over depth.

    Examples
    --------
    >>> import xarray as xr
    >>> some = xr.Dataset({"sink_share": (("layer", "head"), np.ones((3, 2))),
    ...                    "massive_ratio": ("depth", np.ones(4)), "massive_token": ("depth", np.zeros(4, int))})
    >>> sinks(some).axes[1].get_ylabel()
    'Largest norm / median norm'
    """
    fig = figure(height=3.6)
    left, right = fig.subplots(1, 2)
    map_of(left, profile["sink_share"].to_numpy(), "Share of the head's attention", limits=(0.0, 1.0))
    left.set(xlabel="Head", ylabel="Layer", title="Strongest sink")
    ratio, token = profile["massive_ratio"].to_numpy(), profile["massive_token"].to_numpy()
    depth = np.arange(len(ratio))
    right.plot(depth, ratio, color=GREY, linewidth=1.0)
    indices = [int(t) for t in dict.fromkeys(token.tolist())]
    for name, look in styles([f"token {t}" for t in indices]).items():
        is_token = token == int(name.split()[1])
        right.plot(depth[is_token], ratio[is_token], look["marker"], color=look["color"], label=name)
    log_scale(right, ratio)
    right.set(xlabel="Depth (layers)", ylabel="Largest norm / median norm", title="Massive activation")
    if len(indices) <= 8:
        right.legend(loc="best", fontsize=8)
    return whole_numbers(fig)
