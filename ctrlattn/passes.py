"""h' = h + u,  u = C(z) e,  e = F(h) - h + recall (h_0 - h): one pass of a looped network under a controller.

The map F is applied pass after pass. C = 1 is plain looping, C = g damps it, and recall leads the state back to h_0.
A pass of `looped.iterate`, a repeated span of a checkpoint, and the linear analysis all take the equation from here.
"""

from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

from ctrlattn.arrays import Array, is_array, namespace, require_finite, require_number
from ctrlattn.controllers import PID, ControllerState, as_controller
from ctrlattn.errors import InputError
from ctrlattn.values import Value


class PassState(NamedTuple):
    """What is carried from pass to pass beside h."""

    start: Array  # h_0, to which recall leads back
    controller: ControllerState | None  # None before the controller has met its first error


@dataclass(frozen=True, eq=False, repr=False)
class Passes(Value):
    """The loop over passes: a controller C(z) on the error e = F(h) - h + recall (h_0 - h), acting from pass 0 on.

    A controller of `Loop` waits for layer 1, since its error at layer 0 is no error of the loop. Here e_0 is the
    first update that F asks for, so the controller acts on it at once: PID(g) is h + g e in every pass.
    Memories start as everywhere: those of past errors at e_0, the integral at 0, an LTIController at zero state.

    Parameters
    ----------
    controller : PID, LTIController or python-control system with dt = 1, optional
        C(z), elementwise. None is C = 1: h' = F(h) without recall.
    recall : float
        k_r, at least 0.

    Raises
    ------
    InputTypeError
        A controller of the wrong kind, a recall that is not a number.
    InputError
        A controller of continuous time or one that is improper; a recall that is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> passes, h = Passes(PID(0.5), recall=1.0), np.array([[4.0]])
    >>> h, e, u, state = passes.step(h, np.array([[2.0]]), passes.init(h))  # F(h) = 2
    >>> h.item(), e.item(), u.item()
    (3.0, -2.0, -1.0)
    >>> passes.step(h, np.array([[2.0]]), state)[1].item()  # 2 - 3 + (4 - 3)
    0.0
    """

    controller: Any = None
    _: KW_ONLY
    recall: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "controller", as_controller(self.controller))
        object.__setattr__(self, "recall", require_number("recall", self.recall))
        if self.recall < 0:
            raise InputError(
                f"recall leads back to h_0 and must be at least 0, got {self.recall}: below 0 it drives away"
            )

    @property
    def law(self) -> Any:
        """The controller as linear analysis reads it: PID(1) where none is given."""
        return PID(1.0) if self.controller is None else self.controller

    def init(self, h: Array, reference: Array | None = None) -> PassState:
        """Return the state before pass 0, where `h` is h_0; recall leads back to `reference`, or to h_0 if it is None.

        Raises
        ------
        InputTypeError, InputError
            A reference of another kind, dtype, device or shape than h, or one that is not finite.
        """
        if reference is None:
            return PassState(h, None)
        namespace(h, reference)
        require_finite("reference", reference)
        if tuple(reference.shape) != tuple(h.shape):
            raise InputError(f"the reference must be shaped as h, {tuple(h.shape)}, got {tuple(reference.shape)}")
        return PassState(reference, None)

    def error(self, h: Array, prediction: Array, start: Array) -> Array:
        """Return e = F(h) - h + recall (h_0 - h) for a given F(h)."""
        return self._add_recall(prediction, h, start) - h

    def step(self, h: Array, prediction: Array, state: PassState) -> tuple[Array, Array, Array, PassState]:
        """Return (h', e, u, state of the next pass) of one pass, as a pure function.

        Parameters
        ----------
        h : any shape
        prediction : shaped as h
            F(h).
        state : PassState
            What `init` or the step of the pass before returned.
        """
        e = self.error(h, prediction, state.start)
        if self.controller is None:  # plain looping is F(h) to the last bit, which h + (F(h) - h) is not
            return self._add_recall(prediction, h, state.start), e, e, state
        memory = self.controller.init(e) if state.controller is None else state.controller
        u, memory = self.controller.step(e, memory)
        return h + u, e, u, PassState(state.start, memory)

    def _add_recall(self, prediction: Array, h: Array, start: Array) -> Array:
        """Return F(h) + recall (h_0 - h)."""
        none = not is_array(self.recall) and self.recall == 0
        return prediction if none else prediction + self.recall * (start - h)
