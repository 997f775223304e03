"""u = clip(f C(z; theta) e): gains that are learned, kept stable by parametrisation, scheduled over depth, saturated.

Both classes are controllers like any other: `init`, `step`, `realization`, `fraction`. The laws themselves are those
of `ctrlattn.controllers`.
"""

import math
from typing import Any, NamedTuple, cast

import torch

from ctrlattn.controllers import PID, ControllerState, Form, Fraction, Realization, as_controller
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.stability.modes.regions import Interval
from ctrlattn.stability.modes.zero_exclusion import stable_spread


class Gains(NamedTuple):
    """What `PID.step` reads. A PID checks its numbers when it is made, which no compiled graph can hold."""

    kp: Any
    ki: Any
    kd: Any
    form: Form
    ema: float


class LearnedPID(torch.nn.Module):
    """A PID law whose gains are learned; theta = 0 is where it starts.

        gains = start + theta                           without a region
        gains = start (1 + spread tanh theta)           inside a box that is stable for every mode of the region

    One instance given to all layers is shared (a state dict then names its parameter in every block); one instance a
    layer learns its own gains. The region speaks of the value chain v <- A v + u: in a trained network, which projects
    again at every layer, alpha is an eigenvalue of attention times one of W_O W_V.

    Parameters
    ----------
    start : PID
        Law, first gains, and g, which stays.
    region : (low, high), optional
        Real modes alpha for which the loop must stay stable, whatever is learned.
    spread : float
        Largest relative change of a gain, in (0, 1); made smaller where the region asks for it, which the attribute
        `spread` then says.

    Raises
    ------
    InputTypeError
        `start` is no PID.
    InputError
        A region that the first gains do not keep stable, a spread outside (0, 1).

    Examples
    --------
    >>> law = LearnedPID(PID(0.8, 0.5, 0.05, form="ema"), region=(0.0, 1.0))
    >>> law.fixed().kp, round(law.spread, 3)
    (0.8, 0.393)
    >>> LearnedPID(PID(0.8, 0.5, 0.05), region=(0.0, 1.0))
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: the gains 0.8/0.5/0.05 (printed) are not stable on the region (0.0, 1.0): they are for ...
    """

    def __init__(self, start: PID, *, region: Interval | None = None, spread: float = 0.5) -> None:
        super().__init__()
        if not isinstance(start, PID):
            raise InputTypeError(f"start must be a PID, got {type(start).__name__}")
        if not 0 < spread < 1:
            raise InputError(f"spread must lie in (0, 1), got {spread}")
        self.start, self.form, self.region = start, start.form, region
        self.spread = None if region is None else stable_spread(start, region, spread)
        self.theta = torch.nn.Parameter(torch.zeros(3))

    def gains(self) -> Gains:
        """The gains of this moment, scalars with a gradient."""
        return self._gains(self.theta)

    def init(self, e: torch.Tensor) -> ControllerState:
        """As PID.init."""
        return PID.init(cast(PID, self), e)

    def step(self, e: torch.Tensor, state: ControllerState) -> tuple[torch.Tensor, ControllerState]:
        """As PID.step, with the gains of this moment."""
        return PID.step(cast(PID, self.gains()), e, state)

    def fixed(self) -> PID:
        """What has been learned, for analysis: a PID with plain numbers."""
        kp, ki, kd, form, ema = self._gains(self.theta.detach().double())
        return PID(float(kp), float(ki), float(kd), form=form, ema=ema)

    def _gains(self, theta: torch.Tensor) -> Gains:
        first = (self.start.kp, self.start.ki, self.start.kd)
        change = theta if self.spread is None else self.spread * torch.tanh(theta)
        kp, ki, kd = (
            gain + c if self.spread is None else gain * (1 + c) for gain, c in zip(first, change.unbind(), strict=True)
        )
        return Gains(kp, ki, kd, self.form, self.start.ema)

    def realization(self) -> Realization:
        """(A, B, C, D) of what has been learned."""
        return self.fixed().realization()

    def fraction(self) -> Fraction:
        """(num, den) of what has been learned."""
        return self.fixed().fraction()


class Actuator(torch.nn.Module):
    """u = clip(f C(z) e, -limit, limit): a gain f of this layer (schedule over depth) and saturation.

    Anti-windup by conditional integration: where u is clipped and e drives it further out, an integral (for an
    LTIController: its state) stays what it was.

    Parameters
    ----------
    controller : PID, LTIController, LearnedPID or python-control system
    gain : float
        f.
    limit : float, optional
        Largest |u|, positive.

    Raises
    ------
    InputError
        A gain that is not finite, a limit that is not positive.

    Examples
    --------
    >>> e = torch.ones(1)
    >>> actuator = Actuator(PID(0.0, 1.0), limit=2.5)
    >>> state = actuator.init(e)
    >>> for _ in range(10):
    ...     u, state = actuator.step(e, state)
    >>> u.tolist(), actuator.step(-e, state)[0].tolist()
    ([2.5], [1.0])
    """

    def __init__(self, controller: Any, *, gain: float = 1.0, limit: float | None = None) -> None:
        super().__init__()
        if not math.isfinite(gain):
            raise InputError(f"gain must be finite, got {gain}")
        if limit is not None and not limit > 0:
            raise InputError(f"limit must be positive, got {limit}")
        self.controller = as_controller(controller)
        if self.controller is None:
            raise InputTypeError("an Actuator needs a controller: a PID, an LTIController or a LearnedPID")
        self.gain, self.limit = float(gain), limit
        self.is_pid = isinstance(self.controller, PID | LearnedPID)

    def init(self, e: torch.Tensor) -> ControllerState:
        """As the controller's."""
        return self.controller.init(e)

    def step(self, e: torch.Tensor, state: ControllerState) -> tuple[torch.Tensor, ControllerState]:
        """The controller's step, scaled and clipped."""
        u, new = self.controller.step(e, state)
        u = u if self.gain == 1.0 else self.gain * u
        if self.limit is None:
            return u, new
        clipped = torch.clamp(u, -self.limit, self.limit)
        winding = (u != clipped) & (u * self.gain * e > 0)
        # A PID's first memory is its integral; the errors it remembers are no windup.
        held = 1 if self.is_pid else len(new)
        pairs = zip(new[:held], state[:held], strict=True)
        return clipped, (*(torch.where(winding, old, s) for s, old in pairs), *new[held:])

    def realization(self) -> Realization:
        """(A, B, C, D) between the limits."""
        a, b, c, d = self.controller.realization()
        return a, b, self.gain * c, self.gain * d

    def fraction(self) -> Fraction:
        """(num, den) between the limits."""
        num, den = self.controller.fraction()
        return self.gain * num, den
