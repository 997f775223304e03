"""eig(W_O W_V): the part of the profile with the value-output map of every head."""

from typing import TYPE_CHECKING

from ctrlattn.checkpoints.measure.parts.measurement import Measurement, Passes, attending, labelled, stacked
from ctrlattn.checkpoints.measure.value_maps import value_gains

if TYPE_CHECKING:
    import xarray as xr


def value_output(measurement: Measurement) -> tuple["xr.Dataset", Passes]:
    """Eigenvalues, sign and norm of W_O W_V of every head; nan in a layer whose attention was dropped."""
    there = attending(measurement.checkpoint)
    layers = [value_gains(measurement.checkpoint, i) if has else None for i, has in enumerate(there)]
    modes, trace, positive, norm = stacked(layers)
    where = ("layer", "head")
    variables = labelled(
        measurement,
        value_eigenvalue=((*where, "mode"), modes, "eigenvalue of W_O W_V, norm weights folded in"),
        value_trace=(where, trace, "trace of W_O W_V"),
        value_positive=(where, positive, "sum of Re / sum of modulus of the eigenvalues of W_O W_V"),
        value_norm=(where, norm, "largest singular value of W_O W_V"),
    )
    return variables, Passes()
