"""(x_k, y_k, e_k, u_k) of every layer, kept while a scan runs.

Arrays of numpy are written where they stay, since a list of them would be copied into one array at the end, on memory
that nobody has touched before. Those of torch are collected and stacked, so that a gradient finds its way back. Where
nothing acts, the control is zero and no layer reads the error: both are made at the end, for all layers at once.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ctrlattn.arrays import Array, is_torch, namespace

_LARGE = 2**22  # bytes

FourSignals = tuple[Array, Array, Array, Array]
Errors = Callable[[Array], Array]  # states (layers, ..., n, d) -> their errors


class Recording(Protocol):
    """What a scan over layers writes to."""

    def add(self, x: Array, y: Array, e: Array | None, u: Array | None) -> None:
        """The signals of one layer and the state behind it; u is None where nothing acts, e where it comes later."""

    def whole(self) -> FourSignals:
        """State (layers + 1, ..., n, d), prediction, error and control (layers, ..., n, d)."""


def recording(x: Array, layers: int, *, acts: bool, errors: Errors | None = None) -> Recording:
    """A recording of so many layers from the state x on; `acts` says whether any of them has a control.

    With `errors` the errors are made of all states at the end, and `add` is given none.

    >>> record = recording(np.ones((2, 1)), 1, acts=False)
    >>> record.add(np.zeros((2, 1)), np.ones((2, 1)), np.zeros((2, 1)), None)
    >>> [signal.shape for signal in record.whole()]
    [(2, 2, 1), (1, 2, 1), (1, 2, 1), (1, 2, 1)]
    """
    return Collected(x, acts, errors) if is_torch(x) else Written(x, layers, acts, errors)


class Written:
    """Signals of numpy, each written where it stays."""

    def __init__(self, x: Any, layers: int, acts: bool, errors: Errors | None = None) -> None:
        self.done, self.acts, self.errors = 0, acts, errors
        self.state, self.prediction, *rest = _arrays([layers + 1, *[layers] * (1 + (not errors) + acts)], x)
        self.state[0] = x
        # Memory of zeros costs nothing before it is written.
        self.control = rest.pop() if acts else np.zeros((layers, *x.shape), x.dtype)
        self.error: Any = rest.pop() if not errors else None

    def add(self, x: Any, y: Any, e: Any, u: Any | None) -> None:
        k = self.done
        self.state[k + 1], self.prediction[k] = x, y
        if not self.errors:
            self.error[k] = e
        if u is not None:
            self.control[k] = u
        elif self.acts:
            self.control[k] = 0
        self.done += 1

    def whole(self) -> FourSignals:
        # One difference of all states, which is an array of its own: a copy of it to another place is work for nothing.
        error = self.errors(self.state[:-1]) if self.errors else self.error
        return self.state, self.prediction, error, self.control


def _arrays(lengths: list[int], x: Any) -> list[Any]:
    """Arrays of so many signals like x: parts of one array while it is small.

    The system hands out a page of memory at its first touch, which costs more than the sums of a layer. From four
    megabytes on numpy asks for large pages. Larger ones are apart, so that who keeps one does not keep all.
    """
    if x.nbytes * max(lengths) >= _LARGE:
        return [np.empty((length, *x.shape), x.dtype) for length in lengths]
    whole = np.empty((sum(lengths), *x.shape), x.dtype)
    return np.split(whole, np.cumsum(lengths)[:-1])


class Collected:
    """Signals of torch, stacked at the end."""

    def __init__(self, x: Any, acts: bool, errors: Errors | None = None) -> None:
        self.acts, self.errors = acts, errors
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
        signals = _stacked([self.states, y, *([] if self.errors else [e]), *controls], x)
        error = self.errors(signals[0][:-1]) if self.errors else signals[2]
        control = signals[-1] if self.acts else namespace(x).zeros_like(error)
        return signals[0], signals[1], error, control


def _stacked(signals: list[list[Any]], x: Any) -> list[Any]:
    """Each list as one array: parts of one array, as in `_arrays`, while it is small and no gradient flows."""
    xp = namespace(x)
    if x.nbytes * len(signals[0]) >= _LARGE or any(each.requires_grad for signal in signals for each in signal):
        return [xp.stack(signal) for signal in signals]
    whole = xp.stack([each for signal in signals for each in signal])
    ends = np.cumsum([len(signal) for signal in signals])
    return [whole[end - len(signal) : end] for end, signal in zip(ends.tolist(), signals, strict=True)]
