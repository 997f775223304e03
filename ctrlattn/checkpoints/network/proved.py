"""|x' - N(s x + sum_k c_k F_k)| <= tolerance: nothing is loaded without a row unless the sums of its layers hold."""

from typing import Any

import torch

from ctrlattn.checkpoints.trace.run import trace
from ctrlattn.checkpoints.trace.structure import Structure
from ctrlattn.errors import InputError

# Of the sum of a layer, relative to its largest part.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}


def tolerance(dtype: torch.dtype) -> float:
    """The largest error that the sum of a layer may have in this type.

    >>> tolerance(torch.float32)
    0.0001
    """
    return TOLERANCE.get(dtype, TOLERANCE[torch.bfloat16])


def proved(model: Any, inputs: dict[str, Any] | None = None) -> Structure:
    """The traced structure of a network, once the sum of every layer holds on its own weights.

    Raises
    ------
    InputError
        What `trace` refuses; a sum that does not hold, with the layer and the largest error.
    """
    structure = trace(model, inputs)
    worst = max(structure.calls, key=lambda call: call.error)
    limit = tolerance(next(model.parameters()).dtype)
    if not worst.error <= limit:
        raise InputError(
            f"the parts of layer {structure.layers[worst.layer]} do not sum to what it gives: they differ by "
            f"{worst.error:.1e} of the largest, and at most {limit:.0e} is rounding"
        )
    return structure
