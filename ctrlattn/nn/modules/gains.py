"""u = clip(f C(z; theta) e): a PID whose gains theta are learned inside a stable box, and an actuator that saturates.

Both classes are controllers with `init`, `step`, `realization` and `fraction`. The PID laws themselves stand in
`ctrlattn.controllers`.
"""

import math
from typing import Any, NamedTuple, cast

import torch

from ctrlattn.controllers import PID, ControllerState, Fraction, PIDForm, Realization, as_controller
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.stability.modes.intervals import Interval
from ctrlattn.stability.modes.zero_exclusion import stable_spread
from ctrlattn.values import short


class TensorGains(NamedTuple):
    """The numbers that `PID.step` reads, as tensors: a PID itself checks its numbers, which a traced graph cannot."""

    kp: Any
    ki: Any
    kd: Any
    form: PIDForm
    ema: float


class LearnedPID(torch.nn.Module):
    """A PID law whose gains are learned; theta = 0 gives the initial gains `start`.

        gains = start + theta                           without a region
        gains = start (1 + spread tanh theta)           inside a box that is stable for every mode of the region

    All layers share one instance that is given to all of them (a state dict then names its parameter in every block).
    With one instance per layer, each layer learns its own gains. The region is that of the value chain v <- A v + u. A
    trained network projects again at every layer: there alpha is an eigenvalue of attention times one of W_O W_V.

    Parameters
    ----------
    start : PID
        Form of the law, initial gains, and the weight g of the newest error, which is not learned.
    region : (low, high), optional
        Interval of real modes alpha for which the loop stays stable, whatever is learned.
    spread : float
        Largest relative change of a gain, in (0, 1). It is reduced where stability on the region requires it; the
        attribute `spread` holds the value in use.

    Raises
    ------
    InputTypeError
        `start` is not a PID.
    InputError
        The initial gains are not stable on the region, or the spread lies outside (0, 1).

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

    def extra_repr(self) -> str:
        """Name the law that is learned so far."""
        region = "" if self.region is None else f", region={self.region}, spread={self.spread:.4g}"
        return f"now {short(self.fixed())}{region}"

    def gains(self) -> TensorGains:
        """Return the current gains, scalars with a gradient."""
        return self._gains(self.theta)

    def init(self, e: torch.Tensor) -> ControllerState:
        """Return the memory before the first step, as PID.init gives it."""
        return PID.init(cast(PID, self), e)

    def step(self, e: torch.Tensor, state: ControllerState) -> tuple[torch.Tensor, ControllerState]:
        """Take PID.step with the current gains."""
        return PID.step(cast(PID, self.gains()), e, state)

    def fixed(self) -> PID:
        """Return a PID with the current gains as plain numbers, for analysis."""
        kp, ki, kd, form, ema = self._gains(self.theta.detach().double())
        return PID(float(kp), float(ki), float(kd), form=form, ema=ema)

    def _gains(self, theta: torch.Tensor) -> TensorGains:
        first = (self.start.kp, self.start.ki, self.start.kd)
        change = theta if self.spread is None else self.spread * torch.tanh(theta)
        kp, ki, kd = (
            gain + c if self.spread is None else gain * (1 + c) for gain, c in zip(first, change.unbind(), strict=True)
        )
        return TensorGains(kp, ki, kd, self.form, self.start.ema)

    def realization(self) -> Realization:
        """Return (A, B, C, D) with the current gains."""
        return self.fixed().realization()

    def fraction(self) -> Fraction:
        """Return (num, den) with the current gains."""
        return self.fixed().fraction()


class Actuator(torch.nn.Module):
    """u = clip(f C(z) e, -limit, limit): a gain f per layer, which schedules control over depth, and saturation.

    Anti-windup is by conditional integration. Where u is clipped and e drives it further out, the integral of a PID
    (the whole state of an LTIController) is not updated.

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
        The gain is not finite, or the limit is not positive.

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

    def extra_repr(self) -> str:
        """Name the law, its gain and its limit."""
        law = "" if isinstance(self.controller, torch.nn.Module) else f"{short(self.controller)}, "
        return f"{law}gain={self.gain:g}" + ("" if self.limit is None else f", limit={self.limit:g}")

    def init(self, e: torch.Tensor) -> ControllerState:
        """Return the memory before the first step, as the controller gives it."""
        return self.controller.init(e)

    def step(self, e: torch.Tensor, state: ControllerState) -> tuple[torch.Tensor, ControllerState]:
        """Take the controller's step, scaled and clipped."""
        u, new = self.controller.step(e, state)
        u = u if self.gain == 1.0 else self.gain * u
        if self.limit is None:
            return u, new
        clipped = torch.clamp(u, -self.limit, self.limit)
        winding = (u != clipped) & (u * self.gain * e > 0)
        # The first memory of a PID is its integral; its memories of the error do not wind up.
        integrals = 1 if self.is_pid else len(new)
        pairs = zip(new[:integrals], state[:integrals], strict=True)
        return clipped, (*(torch.where(winding, old, s) for s, old in pairs), *new[integrals:])

    def realization(self) -> Realization:
        """Return (A, B, C, D) of the linear law, which holds while u is within the limits."""
        a, b, c, d = self.controller.realization()
        return a, b, self.gain * c, self.gain * d

    def fraction(self) -> Fraction:
        """Return (num, den) of the linear law, which holds while u is within the limits."""
        num, den = self.controller.fraction()
        return self.gain * num, den
