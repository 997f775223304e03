"""|x' - N(s x + sum_k c_k F_k)| <= tolerance: nothing is loaded without a row unless the sums of its layers hold."""

from typing import Any

import torch

from ctrlattn.checkpoints.trace.run import trace
from ctrlattn.checkpoints.trace.structure import Call, Structure
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
    own = tolerance(next(model.parameters()).dtype)
    worst = max(structure.calls, key=lambda call: call.error / limit_of(call, own))
    if not worst.error <= limit_of(worst, own):
        raise InputError(
            f"the parts of layer {structure.layers[worst.layer]} do not sum to what it gives: they differ by "
            f"{worst.error:.1e} of the largest, and at most {limit_of(worst, own):.0e} is rounding"
        )
    return structure


def limit_of(call: Call, own: float) -> float:
    """The largest error of a call that is rounding, where a network of its own tolerance computes in a coarser type."""
    return max([own, *(limit for dtype, limit in TOLERANCE.items() if torch.finfo(dtype).eps <= call.rounding)])
