"""Room for weights that come and go, outside of the heap of the C library.

Where a small tensor that stays lies behind a large one that is gone, the heap keeps the room of both: the copies that a
pass records of each layer make a process grow by what the layers read. Pages of the system's own go back as a whole. As
fresh ones cost more than reading a weight into them, a few are used again once no tensor is left in them.
"""

import math
import mmap
import threading
import weakref

import torch

_KEPT = 2  # of one size
_LEAST = 1 << 20  # bytes; smaller ones do not make a heap grow


class OwnPages:
    """Uninitialised float32 tensors, large ones in pages of their own.

    Examples
    --------
    >>> pages = OwnPages()
    >>> first, second = pages.room((512, 1024)), pages.room((512, 1024))
    >>> place = first.data_ptr()
    >>> place == second.data_ptr()
    False
    >>> del first
    >>> pages.room((1024, 512)).data_ptr() == place
    True
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, list[tuple[mmap.mmap, weakref.ref[memoryview]]]] = {}

    def room(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a tensor of this shape, whose numbers are whatever was there."""
        size = math.prod(shape) * torch.float32.itemsize
        if size < _LEAST:
            return torch.empty(shape)
        with self._lock:
            pool = self._kept.setdefault(size, [])
            # A tensor and all views of it hold the one view of the memory that it was made from.
            free = next((pair for pair in pool if pair[1]() is None), None)
            memory = mmap.mmap(-1, size) if free is None else free[0]
            view = memoryview(memory)
            if free is not None:
                pool.remove(free)
            if len(pool) < _KEPT:
                pool.append((memory, weakref.ref(view)))
            return torch.frombuffer(view, dtype=torch.float32).reshape(shape)
