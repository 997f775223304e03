"""Sections of a profile's page: <F(x), x>/<x, x>, the sign of the feedback of every sublayer and head."""

from typing import TYPE_CHECKING

import numpy as np

from ctrlattn import plots
from ctrlattn.report.pages.checkpoint.lookup import largest, variables
from ctrlattn.report.section import Picture, Section
from ctrlattn.report.words import count, layer_list, listed, number, percent

if TYPE_CHECKING:
    import xarray as xr

_NAMES = {"attention": "Attention", "mlp": "The MLP"}
_SUBLAYER = (
    "feedback_gain", "feedback_cosine", "feedback_gain_quantile", "negative_share", "contribution_ratio",
    "predictor_gain", "predicted_share", "left_out",
)  # fmt: skip
_HEAD = ("head_gain", "head_source_gain", "source_gain", "head_negative_share", "head_ratio")
_SOURCES = {"self": "the token itself", "first": "the first token", "others": "the other tokens"}


def sections(profile: "xr.Dataset") -> list[Section]:
    """Return sections on sublayers and heads, as far as they were measured."""
    parts = []
    if "feedback_gain" in profile:
        parts.append(_sublayers(profile))
    if "head_gain" in profile:
        parts.append(_heads(profile))
    return parts


def _sublayers(profile: "xr.Dataset") -> Section:
    gain, kinds = profile["feedback_gain"].median("token"), [str(kind) for kind in profile["sublayer"].to_numpy()]
    return Section(
        key="feedback",
        title=_title(profile, kinds),
        sentences=(
            "The gain of a sublayer F on a token x of the stream is ⟨F(x), x⟩ / ⟨x, x⟩: below zero it takes away from "
            "the state what is there (negative feedback), above zero it adds.",
            *(_sign(profile, kind) for kind in kinds),
            _prediction_sentence(profile),
        ),
        pictures=(
            Picture("feedback", "Gain of the feedback of every sublayer, with its spread over the tokens",
                    plots.profile.feedback(profile)),
        ),
        numbers={
            kind: {
                "median_gain": gain.sel(sublayer=kind).to_numpy(),
                "negative_share": profile["negative_share"].sel(sublayer=kind).to_numpy(),
                "predicted_share": profile["predicted_share"].sel(sublayer=kind).to_numpy(),
            }
            for kind in kinds
        },
        variables=variables(profile, _SUBLAYER),
    )  # fmt: skip


def _title(profile: "xr.Dataset", kinds: list[str]) -> str:
    """Say in how many layers the first sublayer works against the state."""
    middle = np.median(profile["feedback_gain"].sel(sublayer=kinds[0]).to_numpy(), axis=-1)
    middle = middle[np.isfinite(middle)]
    return f"{_name(kinds[0])} is negative feedback in {int(np.sum(middle < 0))} of {count(len(middle), 'layer')}"


def _sign(profile: "xr.Dataset", kind: str) -> str:
    """Say the sign in one sentence; layers without such a sublayer are left out."""
    gain = profile["feedback_gain"].sel(sublayer=kind).to_numpy()
    layers = np.flatnonzero(np.isfinite(gain[:, 0]))
    gain = gain[layers]
    middle = np.median(gain, axis=-1)
    low, high = int(middle.argmin()), int(middle.argmax())
    share = float(np.mean(gain < 0))
    return (
        f"{_name(kind)} is negative feedback on {percent(share)} of all tokens and layers; its median is below zero "
        f"in {layer_list(layers[middle < 0])} of {len(middle)}. It is lowest in layer {layers[low]} "
        f"({number(middle[low])}, negative on {percent(float(np.mean(gain[low] < 0)))} of the tokens) and highest in "
        f"layer {layers[high]} ({number(middle[high])}, negative on {percent(float(np.mean(gain[high] < 0)))})."
    )


def _name(kind: str) -> str:
    return _NAMES.get(kind, f"The {kind}")


def _kind_word(kind: str) -> str:
    return {"attention": "attention", "mlp": "the MLP"}.get(kind, f"the {kind}")


def _prediction_sentence(profile: "xr.Dataset") -> str:
    share = profile["predicted_share"].to_numpy()
    layer, place = largest(share)
    kinds = [str(kind) for kind in profile["sublayer"].to_numpy()]
    massive = int(profile["left_out"])
    without = f" (without {count(massive, 'token')} of massive norm)" if massive else ""
    medians = [f"{percent(float(np.nanmedian(share[:, i])))} for {_kind_word(kind)}" for i, kind in enumerate(kinds)]
    return (
        f"As a predictor of the state, up to one gain for all features{without}, {_kind_word(kinds[place])} of layer "
        f"{layer} explains most: {percent(share[layer, place])} of the variance; the median over the layers is "
        f"{listed(medians)}."
    )


def _heads(profile: "xr.Dataset") -> Section:
    gain = profile["head_gain"].median("token").to_numpy()
    low, high = largest(-gain), largest(gain)
    negative = float(np.mean(gain[np.isfinite(gain)] < 0))
    sources = {str(name): profile["source_gain"].sel(source=name).to_numpy() for name in profile["source"].to_numpy()}
    return Section(
        key="heads",
        title=f"{percent(negative)} of the heads push against the state",
        sentences=(
            f"A head's median gain is negative in {percent(negative)} of the {gain.size} heads. Head {low[1]} of layer "
            f"{low[0]} pushes hardest against the state ({number(gain[low])}), head {high[1]} of layer {high[0]} "
            f"hardest along it ({number(gain[high])}).",
            "What all heads together add along a token comes from three places: "
            + "; ".join(f"{_SOURCES.get(name, name)}, {_span(gains)}" for name, gains in sources.items())
            + ".",
        ),
        pictures=(
            Picture("heads", "Median feedback gain of every head, layers by heads", plots.profile.heads(profile)),
        ),
        numbers={
            "median_gain": gain,
            "negative_share_of_heads": negative,
            "gain_by_source": sources,
        },
        variables=variables(profile, _HEAD),
    )


def _span(gains: np.ndarray) -> str:
    low, high = int(np.nanargmin(gains)), int(np.nanargmax(gains))
    return (
        f"between {number(gains[low], 3)} (layer {low}) and {number(gains[high], 3)} (layer {high}), below zero in "
        f"{count(int(np.sum(gains < 0)), 'layer')}"
    )
