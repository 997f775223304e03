"""mean cos(x_i, x_j), (sum s^2)^2 / sum s^4: the part of the profile with the similarity and rank of the tokens."""

from typing import TYPE_CHECKING

import numpy as np

from ctrlattn.checkpoints.measure.parts.measurement import Measurement, PassCount, labelled, rounding_of
from ctrlattn.checkpoints.measure.sinks import ordinary_tokens
from ctrlattn.signals import cosine, varied

if TYPE_CHECKING:
    import xarray as xr


def diversity(measurement: Measurement) -> tuple["xr.Dataset", PassCount]:
    """Measure mean cosine, participation rank and RMS of the tokens at every depth."""
    from ctrlattn.frequency import mean_cosine, participation_rank

    state = measurement.state
    ordinary = state[:, ordinary_tokens(state)]
    rms = np.linalg.norm(state, axis=-1) / np.sqrt(state.shape[-1])
    turn = np.median(cosine(state[1:], state[:-1]), axis=-1)
    variables = labelled(
        measurement,
        mean_cosine=(("depth",), mean_cosine(state), "mean cosine between different tokens"),
        mean_cosine_ordinary=(("depth",), mean_cosine(ordinary), "mean cosine without massive tokens"),
        effective_rank=(("depth",), participation_rank(state), "participation rank of the tokens"),
        effective_rank_ordinary=(("depth",), participation_rank(ordinary), "participation rank, no massive tokens"),
        effective_rank_centred=(
            ("depth",),
            participation_rank(varied(ordinary, rounding_of(measurement.checkpoint))),
            "participation rank of the tokens about their mean, without massive ones",
        ),
        stream_rms=(("depth", "token"), rms, "root mean square of the features of the stream"),
        layer_cosine=(
            ("layer",),
            turn,
            "median cosine between the streams before and after",
        ),
    )
    return variables, PassCount()
