"""x_0, x_1, ...: tensors of one shape, copied one behind the other into an array whose size is known beforehand."""

from collections.abc import Sequence

import numpy as np
import torch


def room(shape: Sequence[int], dtype: str) -> np.ndarray:
    """Return an array of arbitrary numbers, to be written into.

    numpy asks the system for pages of 2 MB. Where free memory is in pieces, the system moves other pages to make room:
    for the signals of 256 tokens that took .1 to .3 of a forward pass. torch takes small pages, which took .07 of it.

    >>> room((2, 3), "float32").shape
    (2, 3)
    """
    array: np.ndarray = torch.empty(*shape, dtype=getattr(torch, dtype)).numpy()
    return array


class Column:
    """Room for the signals of all layers, filled while the network runs, so that none is held twice.

    Parameters
    ----------
    count : int
        How many tensors are expected; more of them find room as well.

    Examples
    --------
    >>> column = Column(2)
    >>> column.put(torch.ones(1, 3, dtype=torch.bfloat16))
    >>> column.put(torch.zeros(1, 3))
    >>> column.array().shape, column.array().dtype
    ((2, 1, 3), dtype('float32'))
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._used = 0
        self._room = np.empty(0, np.float32)

    def put(self, t: torch.Tensor) -> None:
        """Copy a tensor of the shape of the first one; numpy has no bfloat16, which is kept in float32."""
        dtype = str(torch.promote_types(t.dtype, torch.float32)).removeprefix("torch.")
        if not self._used:
            self._room = room((max(self._count, 1), *t.shape), dtype)
        elif self._used == len(self._room):
            self._room = np.concatenate([self._room, np.empty_like(self._room)])
        self._room = self._room.astype(np.promote_types(self._room.dtype, dtype), copy=False)
        torch.from_numpy(self._room[self._used]).copy_(t)
        self._used += 1

    def array(self) -> np.ndarray:
        """Return the tensors that `put` has copied, as (number of them, ...)."""
        return self._room[: self._used]
