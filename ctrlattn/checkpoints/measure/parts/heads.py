"""<F^h(x), x>/<x, x>: the part of the profile with the feedback gain of every head, split by source token."""

from typing import TYPE_CHECKING

import numpy as np

from ctrlattn.checkpoints.measure.heads import SOURCES, HeadFeedback, head_feedback
from ctrlattn.checkpoints.measure.parts.measurement import (
    Measurement,
    PassCount,
    attending,
    commented,
    each_layer,
    labelled,
    stacked,
)
from ctrlattn.checkpoints.network.on_disk import weights_of

if TYPE_CHECKING:
    import xarray as xr


def heads(measurement: Measurement) -> tuple["xr.Dataset", PassCount]:
    """Measure the feedback gain of every head, split by source token.

    It is nan in a layer whose attention was dropped, and in one whose heads do not sum to what its attention adds: the
    attribute `comment` says which.
    """
    network = measurement.checkpoint
    present = attending(network)
    faults: list[str] = []
    count, n = network.heads, measurement.state.shape[1]
    gap = HeadFeedback(*(np.full(shape, np.nan) for shape in ((count, n), (count, len(SOURCES), n), (count, n))))

    def measure(i: int) -> HeadFeedback:
        if not present[i]:
            return gap
        try:
            with weights_of(network.layers[i]):
                return head_feedback(network, i, measurement.recorded)
        except ArithmeticError as error:
            faults.append(str(error))
            return gap

    layers = each_layer(measurement, "heads", measure)
    gain, sources, size = stacked(layers)
    negative = np.where(np.isnan(gain[..., 0]), np.nan, np.mean(gain < 0, axis=-1))
    variables = labelled(
        measurement,
        head_gain=(("layer", "head", "token"), gain.astype(np.float32), "gain of the feedback of a head"),
        head_source_gain=(
            ("layer", "head", "source"),
            np.median(sources, axis=-1),
            "median over the tokens of a head's gain, split by source token",
        ),
        source_gain=(
            ("layer", "source"),
            np.median(sources.sum(axis=1), axis=-1),
            "median over the tokens of the gain of all heads together, split by source token",
        ),
        head_negative_share=(("layer", "head"), negative, "share of tokens with negative feedback"),
        head_ratio=(("layer", "head"), np.median(size, axis=-1), "median of |F_head|/|x| over the tokens"),
        source=("source", np.array(SOURCES), "token that the contribution comes from"),
    )
    return commented(variables, faults), PassCount()
