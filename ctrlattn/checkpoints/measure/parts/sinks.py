"""max_t |x_t| / median_t |x_t|, mean_i A_ij: the part of the profile with massive activations and attention sinks."""

from typing import TYPE_CHECKING

import numpy as np

from ctrlattn.checkpoints.measure.parts.measurement import (
    Measurement,
    PassCount,
    commented,
    labelled,
    require_matrices,
    stacked,
    without_matrix,
)
from ctrlattn.checkpoints.measure.sinks import attention_sink, massive_activation
from ctrlattn.signals import sink_mass

if TYPE_CHECKING:
    import xarray as xr


def sinks(measurement: Measurement) -> tuple["xr.Dataset", PassCount]:
    """Measure massive activations at every depth and attention sinks of every head, with the tokens that carry them.

    A layer without an attention matrix has no sink: nan. `null_share` is what no token draws: the sink is then a null
    key, which some networks learn as a parameter. Where a token has several streams, its norm is that of all of them,
    and `massive_lane` says in which of them the largest feature stands.
    """
    state = measurement.state
    massive = massive_activation(state)
    lane, feature = np.divmod(massive.feature, state.shape[-1] // measurement.lanes)
    lanes = {"massive_lane": (("depth",), lane, "stream with the largest feature", "lane")}
    matrices = require_matrices(measurement)
    sinks = [None if a is None else (*attention_sink(a), sink_mass(a).mean(-1)) for a in matrices]
    token, share, null = stacked(sinks)
    variables = labelled(
        measurement,
        massive_token=(("depth",), massive.token, "token of the largest stream", "token"),
        massive_feature=(("depth",), feature, "largest feature of that token", "feature"),
        massive_value=(("depth",), massive.value, "value of that feature"),
        massive_ratio=(("depth",), massive.ratio, "norm of that token over the median norm"),
        sink_token=(("layer", "head"), token, "token that draws most attention", "token"),
        sink_share=(("layer", "head"), share, "its share of all attention of the head"),
        null_share=(("layer", "head"), null, "mean mass of a row that no token draws, but a null key"),
        **(lanes if measurement.lanes > 1 else {}),
    )
    return commented(variables, without_matrix(matrices)), PassCount()
