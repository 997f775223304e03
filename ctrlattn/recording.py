"""(x_k, y_k, e_k, u_k) of every layer, kept while a scan runs.

Arrays of numpy are written where they stay, since a list of them would be copied into one array at the end, on memory
that nobody has touched before. Those of torch are collected and stacked, so that a gradient finds its way back. Where
nothing acts, the control is zero and no layer reads the error: both are made at the end.

The system hands out a page of memory at its first touch, which costs more than the sums of a layer. The memory of small
recordings is therefore used again, once nobody holds any of its signals. Who simulates in a loop pays for the pages
once.
"""

import math
import mmap
from collections import deque
from typing import Any, Protocol

import numpy as np

from ctrlattn.arrays import Array, is_plain_tensor, is_torch, namespace

_LARGE = 2**22  # bytes of one signal over depth
_PAGES = 2**17  # bytes from which zeros are pages of their own
# Memory that nobody holds: of two recordings, since `run = simulate(...)` in a loop holds the last one while the next
# is made. Four signals below _LARGE bound each.
_free: deque[Any] = deque(maxlen=2)

FourSignals = tuple[Array, Array, Array, Array]


class Recording(Protocol):
    """What a scan over layers writes to."""

    def add(self, x: Array, y: Array, e: Array | None, u: Array | None) -> None:
        """Record a layer's signals and the state behind it; u is None where nothing acts, e where it comes later."""

    def whole(self) -> FourSignals:
        """Return the state (layers + 1, ..., n, d), and prediction, error and control (layers, ..., n, d)."""


def recording(x: Array, layers: int, *, acts: bool, target: Array | None = None) -> Recording:
    """Begin a recording of so many layers from the state x on; `acts` says whether any of them has a control.

    With a `target`, beta r of all layers, the errors target - x are made of all states at the end: `add` is given none.

    >>> record = recording(np.ones((2, 1)), 1, acts=False)
    >>> record.add(np.zeros((2, 1)), np.ones((2, 1)), np.zeros((2, 1)), None)
    >>> [signal.shape for signal in record.whole()]
    [(2, 2, 1), (1, 2, 1), (1, 2, 1), (1, 2, 1)]
    """
    return Collected(x, acts, target) if is_torch(x) else Written(x, layers, acts, target)


class Written:
    """Signals of numpy, each written where it stays."""

    def __init__(self, x: Any, layers: int, acts: bool, target: Any = None) -> None:
        self.done, self.acts, self.target = 0, acts, target
        self.state, self.prediction, self.error, *control = _arrays([layers + 1, *[layers] * (2 + acts)], x)
        self.state[0] = x
        self.control = control[0] if acts else _zeros((layers, *x.shape), x)

    def add(self, x: Any, y: Any, e: Any, u: Any | None) -> None:
        k = self.done
        self.state[k + 1], self.prediction[k] = x, y
        if e is not None:
            self.error[k] = e
        if u is not None:
            self.control[k] = u
        elif self.acts:
            self.control[k] = 0
        self.done = k + 1

    def whole(self) -> FourSignals:
        if self.target is not None:
            np.subtract(self.target, self.state[:-1], out=self.error)
        return self.state, self.prediction, self.error, self.control


def _arrays(lengths: list[int], x: Any) -> list[Any]:
    """Return arrays of so many signals like x: parts of one array while it is small.

    Larger ones are apart, so that who keeps one does not keep all; from four megabytes on numpy asks for large pages.
    """
    if x.nbytes * max(lengths) >= _LARGE:
        return [np.empty((length, *x.shape), x.dtype) for length in lengths]
    memory = _array((sum(lengths), *x.shape), x)
    return np.split(memory, np.cumsum(lengths)[:-1])


class _Lent:
    """Memory lent to arrays: every one of them holds this object, so that its end says that nobody reads it."""

    def __init__(self, memory: Any, shape: tuple[int, ...], dtype: Any) -> None:
        self._memory = memory
        place = memory.__array_interface__["data"]
        self.__array_interface__ = {"shape": shape, "typestr": dtype.str, "data": place, "version": 3}

    def __del__(self, free: deque[Any] = _free) -> None:
        free.append(self._memory)


def _array(shape: tuple[int, ...], x: Any) -> Any:
    """Return an array like x, of any content, in memory that an earlier one has left where that fits."""
    dtype = _dtype(x)
    size = math.prod(shape) * dtype.itemsize
    try:
        memory = _free.pop()
    except IndexError:
        memory = None
    if memory is None or not size <= memory.nbytes <= 4 * size:
        memory = np.empty(size, np.uint8)
    return _in_library_of(x, np.asarray(_Lent(memory, shape, dtype)))


def _zeros(shape: tuple[int, ...], x: Any) -> Any:
    """Return zeros like x that cost nothing before they are read, in new pages: used memory had to be cleared."""
    dtype = _dtype(x)
    size = math.prod(shape) * dtype.itemsize
    return _in_library_of(x, np.zeros(shape, dtype) if size < _PAGES else np.ndarray(shape, dtype, mmap.mmap(-1, size)))


def _dtype(x: Any) -> Any:
    return np.dtype(str(x.dtype).removeprefix("torch.")) if is_torch(x) else x.dtype


def _in_library_of(x: Any, array: Any) -> Any:
    """Return the array as one of the library of x, in the same memory."""
    return namespace(x).from_numpy(array) if is_torch(x) else array


class Collected:
    """Signals of torch, stacked at the end."""

    def __init__(self, x: Any, acts: bool, target: Any = None) -> None:
        self.acts, self.target = acts, target
        self.states: list[Any] = [x]
        self.rest: tuple[list[Any], ...] = ([], [], [])

    def add(self, x: Any, y: Any, e: Any, u: Any | None) -> None:
        self.states.append(x)
        for signals, signal in zip(self.rest, (y, e, u), strict=True):
            signals.append(signal)

    def whole(self) -> FourSignals:
        x, (y, e, u), layers = self.states[0], self.rest, len(self.rest[0])
        if not layers:
            states = namespace(x).stack(self.states)
            return states, states[:0], states[:0], states[:0]
        zero = namespace(x).zeros_like(x)
        controls = [[zero if each is None else each for each in u]] if self.acts else []
        signals = [self.states, y, *([e] if self.target is None else []), *controls]
        if self._are_numbers() and x.nbytes * len(self.states) < _LARGE:
            try:
                state, prediction, error, *control = self._signal_parts(signals)
                return state, prediction, error, control[0] if self.acts else _zeros(error.shape, x)
            except NotImplementedError:  # one gain of one error has a forward derivative: torch writes none in place
                pass
        state, prediction, *others = [namespace(x).stack(signal) for signal in signals]
        error = others.pop(0) if self.target is None else self.target - state[:-1]
        return state, prediction, error, others[0] if self.acts else namespace(x).zeros_like(error)

    def _are_numbers(self) -> bool:
        """Tell whether no signal has a gradient or stands for a batch; what y and u have, the last state has too."""
        errors = self.rest[1] if self.target is None else [self.target]
        gains = any(signal.requires_grad for signal in errors)
        return not gains and all(is_plain_tensor(signal) for signal in (self.states[-1], errors[-1]))

    def _signal_parts(self, signals: list[list[Any]]) -> list[Any]:
        """Return the state, prediction, error and control, if any, as parts of one array."""
        x, ends = self.states[0], np.cumsum([len(signal) for signal in signals]).tolist()
        layers = ends[0] - 1
        memory = _array((ends[-1] + (0 if self.target is None else layers), *x.shape), x)
        namespace(x).stack([each for signal in signals for each in signal], out=memory[: ends[-1]])
        parts = [memory[end - len(signal) : end] for end, signal in zip(ends, signals, strict=True)]
        if self.target is not None:
            parts.insert(2, namespace(x).sub(self.target, parts[0][:-1], out=memory[ends[-1] :]))
        return parts
