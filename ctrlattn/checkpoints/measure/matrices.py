"""A_ij >= 0, sum_j A_ij <= 1, A_ij = 0 for j > i in a causal network: what is an attention matrix, by its behaviour.

What a module returns in the place of a matrix may be none: a state, scores in front of a softmax. It is never analysed
as attention. Rows that sum to less than 1 belong to a sink: a null key that draws the rest and has nothing to give.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ctrlattn.checkpoints.measure.columns import room

_ROW = 1e-3  # of a row that misses so much, a sink takes the rest


def gathered(outputs: Sequence[torch.Tensor | None], *, causal: bool) -> tuple[np.ndarray | None, dict[str, Any]]:
    """Gather the matrices of all layers, and the attributes that say what they are.

    Parameters
    ----------
    outputs : sequence of (1, heads, n, n) or None
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
    matrices = Matrices(len(outputs), causal=causal)
    for i, a in enumerate(outputs):
        matrices.put(i, a)
    return matrices.whole()


class Matrices:
    """The matrices of a network, each judged and copied as soon as its layer has run, so that none is held twice.

    Parameters
    ----------
    count : int
        Layers.
    causal : bool

    Attributes
    ----------
    certain : bool
        Whether all of them hold numbers of at least 0 whose rows sum to 1 within a thousandth, or to less.

    Examples
    --------
    >>> matrices = Matrices(1, causal=True)
    >>> matrices.put(0, torch.eye(2)[None, None])
    >>> matrices.whole()
    (array([[[[1., 0.],
             [0., 1.]]]], dtype=float32), {})
    """

    def __init__(self, count: int, *, causal: bool) -> None:
        self._causal = causal
        self._room: np.ndarray | None = None
        self._missing = set(range(count))
        self._faults: dict[int, str] = {}
        self._shapes: set[tuple[int, ...]] = set()
        # What rows miss. It has its room beforehand: small tensors that stay between large ones that go would keep
        # the next large one out of the space of the last.
        self._mass = torch.empty(0)
        self.certain = True
        self._rounding = 0.0
        self._count = count

    def put(self, i: int, a: torch.Tensor | None) -> None:
        """Take what layer i returns as its matrix: (1, heads, n, n), or None."""
        if a is None:
            return
        sums = a.sum(-1) if a.ndim > 1 else a
        fault, least, largest = _fault_and_sums(a, sums, causal=self._causal)
        if fault:
            self._faults[i] = fault
            return
        self.certain = self.certain and least >= 0 and largest <= 1 + _ROW
        self._missing.discard(i)
        self._shapes.add(tuple(a.shape[1:]))
        self._rounding = max(self._rounding, _rounding(a))
        if len(self._shapes) > 1:
            self._room = None  # they cannot stand in one array
            return
        wide = str(torch.promote_types(a.dtype, torch.float32)).removeprefix("torch.")
        if self._room is None:
            self._room = room((self._count, *a.shape[1:]), wide)
            self._mass = torch.zeros((self._count, *sums.shape[1:]), dtype=sums.dtype)
        self._room = self._room.astype(np.promote_types(self._room.dtype, wide), copy=False)
        torch.from_numpy(self._room[i]).copy_(a[0])
        self._mass[i] = 1 - sums[0]

    def whole(self) -> tuple[np.ndarray | None, dict[str, Any]]:
        """Return the matrices of all layers and their attributes, as `gathered` does."""
        faults = [f"what layer {i} returns as its matrix is none: {fault}" for i, fault in self._faults.items()]
        if self._room is None:
            shapes = sorted(self._shapes)
            several = f"the attention matrices of the layers have {len(shapes)} shapes: {shapes}"
            return None, {
                "no_matrix": "; ".join([several if shapes else "no layer returns an attention matrix", *faults])
            }
        missing = sorted(self._missing)
        self._room[missing] = np.nan
        absent = absent_matrices(missing)
        attrs: dict[str, Any] = {"no_matrix": "; ".join([absent, *faults])} if absent else {}
        mass = self._mass[[i for i in range(self._count) if i not in self._missing]]
        if float(mass.amax()) > self._rounding:
            attrs |= {"sinks": 1, "sink_mass": float(mass.clamp_min(0).double().mean())}
        return self._room, attrs


def fault_of(a: torch.Tensor, *, causal: bool) -> str:
    """Say why a tensor (..., n, m) is no attention matrix; "" where it is one, with or without a sink.

    >>> fault_of(torch.tensor([[1.0, 0.0], [0.5, 0.25]]), causal=True)
    ''
    >>> fault_of(torch.tensor([[0.5, 0.5], [0.5, 0.5]]), causal=True)
    'a token has weight on those behind it in a causal network'
    """
    return _fault_and_sums(a, a.sum(-1) if a.ndim > 1 else a, causal=causal)[0]


def _fault_and_sums(a: torch.Tensor, sums: torch.Tensor, *, causal: bool) -> tuple[str, float, float]:
    """Return (`fault_of` a matrix whose rows have these sums, its least weight, its largest sum of a row)."""
    if a.ndim < 2 or a.shape[-1] != a.shape[-2] or not a.is_floating_point():
        return f"its shape is {tuple(a.shape)}", 0.0, 0.0
    rounding, least, largest = _rounding(a), float(a.amin()), float(sums.amax())
    fault = ""
    if not np.isfinite(largest) or not least >= -rounding:
        fault = "its weights are negative, or no numbers"
    elif largest > 1 + rounding:
        fault = f"a row sums to {largest:.3g}"
    elif causal and _largest_above_diagonal(a) > rounding:
        fault = "a token has weight on those behind it in a causal network"
    return fault, least, largest


def absent_matrices(layers: Sequence[int]) -> str:
    """Return the sentence on layers without an attention matrix; "" for none.

    >>> absent_matrices([0, 2])
    'layers 0, 2 have no attention matrix: theirs is nan'
    """
    if not layers:
        return ""
    word = "layer" if len(layers) == 1 else "layers"
    predicate = "has no attention matrix: its is nan" if len(layers) == 1 else "have no attention matrix: theirs is nan"
    return f"{word} {', '.join(map(str, layers))} {predicate}"


def _rounding(a: torch.Tensor) -> float:
    return max(_ROW, 4 * torch.finfo(a.dtype).eps)


def _largest_above_diagonal(a: torch.Tensor) -> float:
    """Return the largest weight above the diagonal; heads go first, since `triu` of all writes as much as it reads."""
    return float(a.flatten(0, -3).amax(0).triu(1).amax() if a.ndim > 2 else a.triu(1).amax())
