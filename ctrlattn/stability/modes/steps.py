"""alpha_h = 1 + h (alpha - 1), P_h = h P, I_h = h^2 I, D_h = D: how small a step keeps the printed law stable?

The continuous loop (1 + D) s^2 + (1 - alpha + P) s + I is stable for every alpha < 1 + P; the unit step of a layer
loses that, and a step h < 1 gives it back.
"""

import math
from typing import Any

import numpy as np

from ctrlattn.arrays import require_positive
from ctrlattn.controllers import PID
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.stability.modes.regions import is_stable

_SMALLEST, _LARGEST, _GRID = 1e-3, 1e3, 300


def with_step(pid: PID, h: float) -> PID:
    """Return the printed law of a chain that takes steps of size h: PID(h P, h^2 I, D), for modes 1 + h (alpha - 1).

    Parameters
    ----------
    pid : PID
        form="printed".
    h : float
        Step, in layers; 1 is the law itself.

    Raises
    ------
    InputTypeError
        Not a PID.
    InputError
        The ema form, which is no sampling of a continuous PID; a step that is not positive.

    Examples
    --------
    >>> with_step(PID(0.8, 0.5, 0.05), 0.5).ki
    0.125
    """
    if not isinstance(pid, PID):
        raise InputTypeError(f"a step size belongs to a PID, got {type(pid).__name__}")
    if pid.form != "printed":
        raise InputError('a step size belongs to the sampled continuous law: it takes form="printed"')
    h = float(require_positive("the step", h))
    return PID(h * pid.kp, h * h * pid.ki, pid.kd)


def largest_stable_step(pid: PID, alpha: Any) -> float:
    """Return the h up to which every smaller step leaves all modes stable; 0 where none does, infinite where all do.

    Real modes with I >= 0, 0 <= D < 1 have h = 4 (1 - D) / [b + sqrt(b^2 + 4 I (1 - D))], b = 1 - alpha + P > 0, for
    the smallest alpha. For complex modes and other gains the closed-loop poles decide. The step is bisected to 1e-9
    relative behind the first unstable one on a grid of 50 steps per decade from .001 on.

    Parameters
    ----------
    pid : PID
        form="printed".
    alpha : real or complex, any shape
        Modes of the chain with unit steps, skip + feedback a.

    Raises
    ------
    InputError
        The ema form; an alpha that is not finite; no mode at all.

    Examples
    --------
    >>> round(largest_stable_step(PID(0.8, 0.5, 0.05), 0.0), 6)
    0.934314
    """
    modes = np.unique(np.asarray(alpha))
    if modes.size == 0 or not np.all(np.isfinite(modes)):
        raise InputError("largest_stable_step needs at least one mode alpha, all of them finite")
    with_step(pid, 1.0)  # refuses the ema form
    if not (pid.ki >= 0 and 0 <= pid.kd < 1):
        return _by_bisection(pid, modes)
    real, upper = modes[modes.imag == 0].real, modes[modes.imag > 0]
    lower = modes[modes.imag < 0]  # its mirror image is as good
    complex_modes = np.unique(np.concatenate([upper, lower.conj()]))
    return min(_of_real_modes(pid, real), _by_bisection(pid, complex_modes))


def _of_real_modes(pid: PID, alpha: np.ndarray) -> float:
    """Return the closed form, which falls as alpha falls; 0 where the continuous loop is unstable for the largest."""
    if alpha.size == 0:
        return math.inf
    if alpha.max() >= 1 + pid.kp:
        return 0.0
    b = 1 - float(alpha.min()) + pid.kp
    # (-b + sqrt(b^2 + 4 I (1 - D))) / I without the difference, so that I = 0 is no special case.
    return 4 * (1 - pid.kd) / (b + math.sqrt(b * b + 4 * pid.ki * (1 - pid.kd)))


def _by_bisection(pid: PID, alpha: np.ndarray) -> float:
    """Find the first step on a geometric grid that leaves a mode unstable, and refine it."""

    def stable(h: float) -> bool:
        return bool(np.all(is_stable(with_step(pid, h), 1 + h * (alpha - 1))))

    if alpha.size == 0:
        return math.inf
    steps = np.geomspace(_SMALLEST, _LARGEST, _GRID)
    unstable = next((k for k, h in enumerate(steps) if not stable(float(h))), None)
    if unstable is None:
        return math.inf
    if unstable == 0:
        return 0.0
    low, high = float(steps[unstable - 1]), float(steps[unstable])
    while high - low > 1e-9 * high:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if stable(middle) else (low, middle)
    return low
