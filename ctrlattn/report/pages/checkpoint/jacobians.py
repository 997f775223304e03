"""Sections of a profile's page: sigma(J), rho(J), w(J) of every layer Jacobian, and the exponents of their product."""

from typing import TYPE_CHECKING

import numpy as np

from ctrlattn import plots
from ctrlattn.report.pages.checkpoint.lookup import token, variables
from ctrlattn.report.section import Picture, Section
from ctrlattn.report.words import listed, number, percent

if TYPE_CHECKING:
    import xarray as xr

_GAIN = (
    "random_gain", "sigma", "sigma_error", "worst_token", "worst_token_share", "amplified_token", "left_right_cosine",
    "alignment", "right_alignment", "feature_alignment",
)  # fmt: skip
_NORMALITY = (
    "spectral_radius", "spectral_radius_error", "numerical_radius", "departure", "departure_error",
)  # fmt: skip
_EXPONENTS = ("exponent", "exponent_rate", "exponent_change", "exponent_token", "exponent_token_share")


def sections(profile: "xr.Dataset") -> list[Section]:
    """Return sections on gain, non-normality and exponents, as far as they were measured."""
    parts = []
    if "sigma" in profile:
        parts.append(_gain(profile))
    if "spectral_radius" in profile:
        parts.append(_normality(profile))
    if "exponent" in profile:
        parts.append(_exponents(profile))
    return parts


def _gain(profile: "xr.Dataset") -> Section:
    typical = np.median(profile["random_gain"].to_numpy(), axis=-1)
    worst = profile["sigma"].to_numpy()[:, 0]
    top = int(worst.argmax())
    align = profile["alignment"].to_numpy()
    following = float(np.mean(np.diagonal(align, 1))) if len(align) > 1 else float("nan")
    features = profile["feature_alignment"].to_numpy()
    shared = float(np.mean(np.diagonal(features, 1))) if len(features) > 1 else float("nan")
    return Section(
        key="gain",
        title=f"A push of random direction leaves a layer at most {number(typical.max())} times as large, the worst "
        f"{number(worst[top])} times",
        sentences=(
            f"A small push in a random direction leaves a layer {number(typical.min())} to {number(typical.max())} "
            f"times as large (median {number(float(np.median(typical)))}); in the worst direction "
            f"{number(float(np.median(worst)))} times in the median layer and {number(worst[top])} times in layer "
            f"{top}, where {percent(float(profile['worst_token_share'][top]))} of that direction lies on "
            f"{token(profile, profile['worst_token'][top])}.",
            "The direction that a layer makes largest meets the directions that the next layer amplifies with an "
            f"overlap of {number(following)} in the mean (1: the same space; unrelated ones have about 0); as "
            f"directions of features, whatever tokens they lie on, of {number(shared)}.",
        ),
        pictures=(
            Picture("gain", "Typical and worst gain of every layer, and the overlap of leading directions of layers",
                    plots.profile.gains(profile)),
        ),
        numbers={
            "typical": typical,
            "worst": worst,
            "mean_overlap_with_next": following,
            "mean_feature_overlap_with_next": shared,
        },
        variables=variables(profile, _GAIN),
    )  # fmt: skip


def _normality(profile: "xr.Dataset") -> Section:
    radius, reach = profile["spectral_radius"].to_numpy(), profile["numerical_radius"].to_numpy()
    departure = profile["departure"].to_numpy()
    third = max(1, len(radius) // 3)
    return Section(
        key="nonnormality",
        title=f"Eigenvalues of a layer's Jacobian reach {number(float(np.median(radius)))}, its numerical range "
        f"{number(float(np.median(reach)))}, in the median",
        sentences=(
            f"The spectral radius of a layer's Jacobian is {number(float(np.median(radius)))} in the median, its "
            f"numerical radius at least {number(float(np.median(reach)))}: eigenvalues alone understate what a layer "
            "does to a push.",
            "Its departure from normality, ‖GᵀG − GGᵀ‖ / (√2 ‖GᵀG‖) with G = J − I (0 for a normal one, at most 1), "
            f"is {number(float(departure[:third].mean()))} in "
            f"the first third of the layers and {number(float(departure[-third:].mean()))} in the last.",
        ),
        pictures=(
            Picture("nonnormality", "Spectral radius, numerical radius and departure from normality of every layer",
                    plots.profile.nonnormality(profile)),
        ),
        numbers={"spectral_radius": radius, "numerical_radius": reach, "departure": departure},
        variables=variables(profile, _NORMALITY),
    )  # fmt: skip


def _exponents(profile: "xr.Dataset") -> Section:
    exponents = profile["exponent"].to_numpy()
    change = float(np.abs(profile["exponent_change"].to_numpy()).max())
    layers = profile.sizes["layer"]
    return Section(
        key="exponents",
        title=f"Over the whole depth the worst push is multiplied by {number(float(np.exp(exponents[0] * layers)), 1)}",
        sentences=(
            f"The leading finite-time Lyapunov exponents over {layers} layers are "
            f"{listed([number(value, 3) for value in exponents])} per layer: a push in the worst direction grows by "
            f"{number(float(np.exp(exponents[0] * layers)), 1)} from the embedding to the last layer. "
            f"{percent(float(profile['exponent_token_share'][0]))} of that direction lies on "
            f"{token(profile, profile['exponent_token'][0])}.",
            f"The last sweep changed them by at most {number(change, 4)}.",
        ),
        pictures=(
            Picture("exponents", "Growth of the leading directions layer by layer", plots.profile.exponents(profile)),
        ),
        numbers={"exponents": exponents, "largest_change": change},
        variables=variables(profile, _EXPONENTS),
    )
