"""e = beta r - x,  u = C(z) e: the controlled error over depth, without the layer that it acts on.

A `Loop` has one Tracking, and so has whatever closes its loop elsewhere: the values of an attention module, the output
of a steered network. Error, law, memory and the rule of layer 0 stand here and nowhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ctrlattn.arrays import Array, namespace, require_number, require_tokens, scaled
from ctrlattn.controllers import ControllerState, as_controller
from ctrlattn.errors import InputError
from ctrlattn.values import Value


class TrackingState(NamedTuple):
    """What is carried from layer to layer beside x."""

    reference: Array  # r, before the gain beta
    controller: ControllerState | None  # None until a controller has met its first error
    acting: bool  # False at layer 0, where no controller acts


@dataclass(frozen=True, eq=False, repr=False)
class Tracking(Value):
    """A state x that a controller leads to its reference r, layer by layer: e = beta r - x, u = C(z) e.

    At layer 0 the controller meets its first error, from which its memories start, and does not act: u = 0. It acts
    from layer 1 on.

    Parameters
    ----------
    controller : PID, LTIController or python-control system with dt = 1, optional
        C(z) is SISO and acts on each element of the error; with None u = 0 at every layer.
    reference_gain : float
        beta.

    Raises
    ------
    InputTypeError
        A controller of the wrong kind, a gain that is not a number.
    InputError
        A gain that is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from ctrlattn import PID
    >>> tracking, x = Tracking(PID(0.5)), np.array([[4.0]])
    >>> e, u, state = tracking.step(x, tracking.init(x))  # layer 0
    >>> e.item(), u.item()
    (0.0, 0.0)
    >>> e, u, state = tracking.step(np.array([[1.0]]), state)  # layer 1
    >>> e.item(), u.item()
    (3.0, 1.5)
    """

    controller: Any = None
    reference_gain: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "reference_gain", require_number("reference_gain", self.reference_gain))
        object.__setattr__(self, "controller", as_controller(self.controller))

    @staticmethod
    def init(x: Array, reference: Array | None = None) -> TrackingState:
        """Return the state before layer 0.

        Parameters
        ----------
        x : (..., n, d)
        reference : (..., n, d), optional
            r; None: x itself.

        Raises
        ------
        InputTypeError
            Mixed kinds, dtypes or devices; integers.
        InputError
            A reference of another shape than x, no token.
        """
        require_tokens(x)
        if reference is None:
            return TrackingState(x, None, acting=False)
        namespace(x, reference)
        _require_shape(reference, x)
        return TrackingState(reference, None, acting=False)

    def step(self, x: Array, state: TrackingState) -> tuple[Array, Array, TrackingState]:
        """Return (e, u, state of the next layer) of one layer, as a pure function.

        Parameters
        ----------
        x : (..., n, d)
        state : TrackingState
            What `init` or the step of the layer before returned.

        Raises
        ------
        InputError
            x of another shape than the reference.
        """
        _require_shape(state.reference, x)
        e = self.error(x, state.reference)
        memory = state.controller
        if self.controller is not None and memory is None:
            memory = self.controller.init(e)
        if self.controller is not None and state.acting:
            u, memory = self.controller.step(e, memory)
        else:
            u = namespace(e).zeros_like(e)
        return e, u, TrackingState(state.reference, memory, acting=True)

    def error(self, x: Array, reference: Array) -> Array:
        """Return e = beta r - x."""
        return self.target(reference) - x

    def target(self, reference: Array) -> Array:
        """Return beta r, where the error is 0."""
        return scaled(self.reference_gain, reference)


def require_one_memory(memories: Mapping[int, str]) -> None:
    """Raise InputError unless the controller of each layer can read what the controller before it leaves.

    Parameters
    ----------
    memories : mapping of layer to words
        What the memory of each layer's controller is, in words that are equal where the memories are of one form;
        layers without a controller hand a memory on and are left out.

    Examples
    --------
    >>> require_one_memory({0: "2 memories", 2: "2 memories"})
    """
    first = next(iter(memories), 0)
    for k, memory in memories.items():
        if memory != memories[first]:
            raise InputError(
                "the controller's memory carries across the layers, so all controllers of a sequence must be of one "
                f"kind and order: layer {first} has {memories[first]}, layer {k} has {memory}"
            )


def _require_shape(reference: Array, x: Array) -> None:
    if reference.shape != x.shape:
        raise InputError(f"the reference must be shaped as x, {tuple(x.shape)}, got {tuple(reference.shape)}")
