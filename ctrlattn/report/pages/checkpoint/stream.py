"""Sections of a profile's page: similarity of the tokens over depth, massive activations and attention sinks."""

from typing import TYPE_CHECKING

import numpy as np

from ctrlattn import plots
from ctrlattn.report.pages.checkpoint.lookup import most_common, no_matrix, token, variables
from ctrlattn.report.section import Picture, Section
from ctrlattn.report.words import layer_list, number, percent

if TYPE_CHECKING:
    import xarray as xr

_DIVERSITY = (
    "mean_cosine", "mean_cosine_ordinary", "effective_rank", "effective_rank_ordinary", "effective_rank_centred",
    "stream_rms", "layer_cosine",
)  # fmt: skip
_SINKS = (
    "massive_token", "massive_lane", "massive_feature", "massive_value", "massive_ratio", "sink_token", "sink_share",
    "null_share",
)  # fmt: skip
_NULL = 1e-3  # less of a row is rounding
_MASSIVE = 10.0  # a token of more than so many times the median norm is called a massive activation


def sections(profile: "xr.Dataset") -> list[Section]:
    """Return sections on diversity and sinks, as far as they were measured."""
    parts = []
    if "mean_cosine" in profile:
        parts.append(_diversity(profile))
    if "sink_share" in profile:
        parts.append(_sinks(profile))
    return parts


def _diversity(profile: "xr.Dataset") -> Section:
    cosine, rank = profile["mean_cosine_ordinary"].to_numpy(), profile["effective_rank_centred"].to_numpy()
    top, turn = int(cosine.argmax()), profile["layer_cosine"].to_numpy()
    return Section(
        key="diversity",
        title=f"The tokens end {_comparative(float(cosine[-1] - cosine[0]))} alike than they began",
        sentences=(
            f"Different tokens (the massive ones left out) have a mean cosine of {number(cosine[0])} at the embedding, "
            f"at most {number(cosine[top])} at depth {top}, and {number(cosine[-1])} at the end. The effective rank of "
            f"the tokens about their mean goes from {number(rank[0], 1)} to {number(rank[-1], 1)}, at least "
            f"{number(rank.min(), 1)} at depth {int(rank.argmin())}.",
            f"A layer turns the stream least in layer {int(turn.argmax())} (median cosine between before and after "
            f"{number(turn.max(), 3)}) and most in layer {int(turn.argmin())} ({number(turn.min(), 3)}).",
        ),
        pictures=(
            Picture("diversity", "Mean cosine, effective rank and size of the tokens over depth",
                    plots.profile.diversity(profile)),
        ),
        numbers={"mean_cosine": cosine, "effective_rank_centred": rank, "layer_cosine": turn},
        variables=variables(profile, _DIVERSITY),
    )  # fmt: skip


def _comparative(rise: float) -> str:
    """Say more, less or no more, by the change of the mean cosine as it is shown.

    >>> _comparative(0.2), _comparative(-0.2), _comparative(0.001)
    ('more', 'less', 'no more')
    """
    return "no more" if abs(rise) < 0.005 else "more" if rise > 0 else "less"


def _sinks(profile: "xr.Dataset") -> Section:
    ratio, share = profile["massive_ratio"].to_numpy(), profile["sink_share"].to_numpy()
    top = int(ratio.argmax())
    finite = np.isfinite(share)  # a layer may have no attention matrix
    sink, frequency = most_common(profile["sink_token"].to_numpy()[finite])
    massive = np.flatnonzero(ratio > _MASSIVE)
    lane = f"stream {int(profile['massive_lane'][top])}, " if "massive_lane" in profile else ""
    which = token(profile, profile["massive_token"][top])
    feature, value = int(profile["massive_feature"][top]), float(profile["massive_value"][top])
    verdict = (
        f"There is a massive activation, a token of more than {_MASSIVE:.0f} times the median norm, at "
        f"{layer_list(massive, 'depth')}. It is largest at depth {top}: {which}, {lane}feature {feature}, value "
        f"{number(value, 0)}, {number(ratio[top], 0)} times the median norm."
        if massive.size
        else f"There is no massive activation: the largest token norm is {number(ratio[top], 1)} times the median."
    )
    null = _null(profile)
    return Section(
        key="sinks",
        title=f"A massive activation stands at {layer_list(massive, 'depth')}"
        if massive.size
        else "No token has a massive activation",
        sentences=(
            verdict,
            f"In {percent(frequency)} of the heads {token(profile, sink)} draws most attention; over all heads the "
            f"strongest sink takes {percent(float(np.median(share[finite])))} of the attention in the median and "
            f"{percent(float(share[finite].max()))} at most.",
            *null,
            *no_matrix(share),
        ),
        pictures=(
            Picture("sinks", "Share of the attention that the strongest sink of every head draws",
                    plots.profile.sinks(profile)),
        ),
        numbers={"massive_ratio": ratio, "massive_token": profile["massive_token"].to_numpy(), "sink_share": share},
        variables=variables(profile, _SINKS),
    )  # fmt: skip


def _null(profile: "xr.Dataset") -> list[str]:
    """Return a sentence on the attention that no token draws, where there is any."""
    if "null_share" not in profile:
        return []
    share = profile["null_share"].to_numpy()
    share = share[np.isfinite(share)]
    if not share.size or share.max() < _NULL:
        return []
    return [
        f"A null key takes {percent(float(share.mean()))} of all attention, and {percent(float(share.max()))} in one "
        "head: rows sum to less than 1, so that the mean of the tokens is no mode with the eigenvalue 1, and a layer "
        "shrinks it."
    ]
