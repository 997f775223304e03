"""eig(W_O W_V): the part of the profile with the value-output map of every head."""

from typing import TYPE_CHECKING

import numpy as np

from ctrlattn.checkpoints.measure.heads import head_contributions
from ctrlattn.checkpoints.measure.parts.measurement import (
    Measurement,
    PassCount,
    attending,
    commented,
    labelled,
    stacked,
)
from ctrlattn.checkpoints.measure.value_maps import ValueGains, value_gains
from ctrlattn.checkpoints.network.on_disk import weights_of

if TYPE_CHECKING:
    import xarray as xr


def value_output(measurement: Measurement) -> tuple["xr.Dataset", PassCount]:
    """Measure eigenvalues, sign and norm of W_O W_V of every head.

    They are nan in a layer whose attention was dropped, and in one whose heads do not sum to what its attention adds:
    there W_O W_V is not what multiplies a mode, and the attribute `comment` says so.
    """
    network = measurement.checkpoint
    faults: list[str] = []
    layers: list[ValueGains | None] = []
    for i, has in enumerate(attending(network)):
        with weights_of(network.layers[i]):
            gains = value_gains(network, i) if has else None
            try:
                if has:
                    head_contributions(network, i, measurement.recorded)
            except ArithmeticError as error:
                faults.append(str(error))
                gains = gains and ValueGains(*(np.full_like(field, np.nan) for field in gains))
        layers.append(gains)
    modes, trace, positive, norm = stacked(layers)
    where = ("layer", "head")
    variables = labelled(
        measurement,
        value_eigenvalue=((*where, "mode"), modes, "eigenvalue of W_O W_V, norm weights folded in"),
        value_trace=(where, trace, "trace of W_O W_V"),
        value_positive=(where, positive, "sum of Re / sum of modulus of the eigenvalues of W_O W_V"),
        value_norm=(where, norm, "largest singular value of W_O W_V"),
    )
    return commented(variables, faults), PassCount()
