"""Section of a profile's page: eig(A) over the stability regions, and A as a filter along the tokens."""

from typing import TYPE_CHECKING

import numpy as np

from ctrlattn import plots
from ctrlattn.report.pages.checkpoint.lookup import no_matrix, variables
from ctrlattn.report.section import Picture, Section
from ctrlattn.report.words import layer_list, number, percent

if TYPE_CHECKING:
    import xarray as xr

_VARIABLES = ("attention_eigenvalue", "unstable_share", "stable_interval", "difference_gain", "token_response")


def sections(profile: "xr.Dataset") -> list[Section]:
    """Return the section on the spectra of the attention matrices, or none where they were not measured."""
    if "attention_eigenvalue" not in profile:
        return []
    modes = profile["attention_eigenvalue"].to_numpy()
    modes = modes[np.isfinite(modes)]  # a layer may have no attention matrix
    unstable = profile["unstable_share"].mean(("layer", "head"))
    shares = {str(name): float(share) for name, share in zip(profile["preset"].to_numpy(), unstable, strict=True)}
    smoothing = profile["difference_gain"].to_numpy()
    high = np.flatnonzero(np.median(smoothing, axis=-1) > 1)
    median = float(np.nanmedian(smoothing))
    missing = no_matrix(smoothing)
    where = f"every layer{' with an attention matrix' if missing else ''}"
    where = f"{where} but {layer_list(high)}" if high.size else where
    words = ", ".join(f"{name} {percent(share)}" for name, share in shares.items())
    return [
        Section(
            key="attention",
            title=f"Along the tokens the median head smooths in {where}",
            sentences=(
                f"Of {modes.size} attention eigenvalues {percent(float(np.mean(modes.real < 0.15)))} have a real part "
                f"below .15. Share of modes that would be unstable in the loop of: {words}.",
                "A head passes differences between tokens with a gain below 1 where it is a low-pass: the median gain "
                f"is {number(median)}; the median head is a low-pass in {where}.",
                *missing,
            ),
            pictures=(
                Picture("attention-modes", "Eigenvalues of the attention matrices and the stability region",
                        plots.profile.attention_modes(profile)),
                Picture("token-filter", "Gain of attention on waves along the tokens, layer by layer",
                        plots.profile.token_filter(profile)),
            ),
            caveat=(
                "Stability is that of the loop with this matrix frozen and repeated at every layer; a real network "
                "has another one at each layer. It says what the controller would do to the mode, not that the "
                "network diverges."
            ),
            numbers={"unstable_share": shares, "median_difference_gain": median},
            variables=variables(profile, _VARIABLES),
        )
    ]  # fmt: skip
