"""Section of a profile's page: eig(W_O W_V), the gain that multiplies every attention mode of a head."""

from typing import TYPE_CHECKING

import numpy as np

from ctrlattn import plots
from ctrlattn.report.pages.checkpoint.lookup import largest, variables
from ctrlattn.report.section import Picture, Section
from ctrlattn.report.words import number, percent

if TYPE_CHECKING:
    import xarray as xr


def sections(profile: "xr.Dataset") -> list[Section]:
    """Return the section on the value-output maps of all heads, or none where they were not measured."""
    if "value_eigenvalue" not in profile:
        return []
    modes = profile["value_eigenvalue"].to_numpy()
    positive, norm = profile["value_positive"].to_numpy(), profile["value_norm"].to_numpy()
    radius = np.abs(modes).max(axis=-1)
    big = largest(radius)
    finite = np.isfinite(positive)  # a layer whose attention was dropped has no map
    negative_share = float(np.mean(modes.real[finite] < 0))
    return [
        Section(
            key="value_output",
            title=f"{percent(float(np.mean(positive[finite] < 0)))} of the heads have values of negative feedback",
            sentences=(
                "A head adds A x W_V W_O. An attention mode a of the head is multiplied by an eigenvalue λ of W_O W_V "
                "(with the norm's weights folded in), so that a·λ is the gain of that mode. Along an eigenvector whose "
                "λ has a negative real part the head is negative feedback. In the picture the eigenvalues are divided "
                "by the size that the norm divides by, where it was measured.",
                f"Of {modes.size} eigenvalues {percent(negative_share)} have a negative real part; "
                f"{percent(float(np.mean(positive[finite] < 0)))} of the heads are negative on the whole (sum of the "
                f"real parts below zero). The largest modulus is {number(radius[big])}, head {big[1]} of layer "
                f"{big[0]}.",
                f"The maps are far from normal: the largest singular value of a head exceeds its spectral radius by "
                f"{number(float(np.nanmedian(norm / np.where(radius > 0, radius, np.nan))))} times in the median.",
            ),
            pictures=(
                Picture("value-output", "Eigenvalues of W_O W_V in the complex plane, and the sign of every head",
                        plots.profile.value_maps(profile)),
            ),
            numbers={
                "negative_share": negative_share,
                "negative_share_of_heads": float(np.mean(positive[finite] < 0)),
                "largest_modulus": float(radius[big]),
            },
            variables=variables(profile, ("value_eigenvalue", "value_trace", "value_positive", "value_norm")),
        )
    ]  # fmt: skip
