"""A_ij >= 0, sum_j A_ij <= 1, A_ij = 0 for j > i in a causal network: what is an attention matrix, by its behaviour.

What a module returns in the place of a matrix may be none: a state, scores in front of a softmax. It is never analysed
as attention. Rows that sum to less than 1 belong to a sink: a null key that draws the rest and has nothing to give.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

_ROW = 1e-3  # of a row that misses so much, a sink takes the rest


def gathered(given: Sequence[torch.Tensor | None], *, causal: bool) -> tuple[np.ndarray | None, dict[str, Any]]:
    """The matrices of all layers, and what is to be said of them.

    Parameters
    ----------
    given : sequence of (1, heads, n, n) or None
        What each layer returns as its matrix.
    causal : bool
        Whether no token sees those behind it.

    Returns
    -------
    matrices : (layers, heads, n, n) or None
        nan in a layer without one; None where no layer has one, or they have several shapes.
    attrs : dict
        Attributes of a Dataset: `no_matrix`, a sentence; `sinks` = 1 and `sink_mass`, the mean mass of a row that goes
        to no token, where there is any.

    Examples
    --------
    >>> half = torch.full((1, 1, 2, 2), 0.25)
    >>> matrices, attrs = gathered([None, half], causal=False)
    >>> matrices.shape, attrs["no_matrix"], attrs["sink_mass"]
    ((2, 1, 2, 2), 'layer 0 has no attention matrix: its is nan', 0.5)
    """
    faults = {i: fault for i, a in enumerate(given) if a is not None and (fault := fault_of(a, causal=causal))}
    there = [None if a is None or i in faults else a[0] for i, a in enumerate(given)]
    told = [f"what layer {i} returns as its matrix is none: {fault}" for i, fault in faults.items()]
    shapes = sorted({tuple(a.shape) for a in there if a is not None})
    if len(shapes) != 1:
        several = f"the attention matrices of the layers have {len(shapes)} shapes: {shapes}"
        none = "no layer returns an attention matrix"
        return None, {"no_matrix": "; ".join([several if shapes else none, *told])}
    like = next(a for a in there if a is not None)
    stacked = torch.stack([torch.full_like(like, torch.nan) if a is None else a for a in there])
    matrices = stacked.to(torch.promote_types(stacked.dtype, torch.float32)).numpy(force=True)
    absent = absent_matrices([i for i, a in enumerate(there) if a is None])
    attrs: dict[str, Any] = {"no_matrix": "; ".join([absent, *told])} if absent else {}
    mass = torch.stack([1 - a.sum(-1) for a in there if a is not None])
    if float(mass.amax()) > _rounding(like):
        attrs |= {"sinks": 1, "sink_mass": float(mass.clamp_min(0).double().mean())}
    return matrices, attrs


def fault_of(a: torch.Tensor, *, causal: bool) -> str:
    """Why a tensor (..., n, m) is no attention matrix; "" where it is one, with or without a sink.

    >>> fault_of(torch.tensor([[1.0, 0.0], [0.5, 0.25]]), causal=True)
    ''
    >>> fault_of(torch.tensor([[0.5, 0.5], [0.5, 0.5]]), causal=True)
    'a token has weight on those behind it in a causal network'
    """
    if a.ndim < 2 or a.shape[-1] != a.shape[-2] or not a.is_floating_point():
        return f"its shape is {tuple(a.shape)}"
    rounding = _rounding(a)
    largest = float(a.sum(-1).amax())
    if not np.isfinite(largest) or not float(a.amin()) >= -rounding:
        return "its weights are negative, or no numbers"
    if largest > 1 + rounding:
        return f"a row sums to {largest:.3g}"
    if causal and _ahead(a) > rounding:
        return "a token has weight on those behind it in a causal network"
    return ""


def absent_matrices(layers: Sequence[int]) -> str:
    """The sentence on layers without an attention matrix; "" for none.

    >>> absent_matrices([0, 2])
    'layers 0, 2 have no attention matrix: theirs is nan'
    """
    if not layers:
        return ""
    word = "layer" if len(layers) == 1 else "layers"
    rest = "has no attention matrix: its is nan" if len(layers) == 1 else "have no attention matrix: theirs is nan"
    return f"{word} {', '.join(map(str, layers))} {rest}"


def _rounding(a: torch.Tensor) -> float:
    return max(_ROW, 4 * torch.finfo(a.dtype).eps)


def _ahead(a: torch.Tensor, block: int = 32) -> float:
    """The largest weight above the diagonal, block by block: `triu` of the whole would write as much as it reads."""
    n = a.shape[-1]
    edges = range(0, n, block)
    beside = [a[..., i : i + block, i + block :].amax() for i in edges if i + block < n]
    on = [a[..., i : i + block, i : i + block].triu(1).amax() for i in edges]
    return float(torch.stack([*beside, *on]).amax())
