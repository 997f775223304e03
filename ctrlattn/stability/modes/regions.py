"""p(z) = (z - alpha) den(z) + num(z): for which modes alpha does the controller C = num/den give a stable loop?

Region boundary (D-decomposition): alpha(w) = e^{iw} + C(e^{iw}), 0 <= w <= pi, and its mirror image.
"""

import math
from itertools import pairwise
from typing import Any

import numpy as np

from ctrlattn.arrays import require_real
from ctrlattn.controllers import PID
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.linear.lapack import spectral_radii
from ctrlattn.linear.mode_matrix import exact_poles, mode_matrix
from ctrlattn.linear.mode_polynomial import attention_eigenvalue, open_loop_pole
from ctrlattn.loop import Loop, require_scalar_gains
from ctrlattn.stability.modes.closed_loop import controller_response, known_controller, mode_pencil, pencil_in_alpha
from ctrlattn.stability.modes.critical import critical_modes
from ctrlattn.stability.modes.exact_gains import stable_at
from ctrlattn.stability.modes.intervals import Interval, stable_intervals, unsure

_ON_CIRCLE = 1e-7
_SAME = 1e-12  # relative width of a segment that only rounding opened
_NEXT = 1e-4  # how near an end its two sides are checked, as a share of the interval
MARGINAL = 1e-9  # a pole this close to the unit circle is on it: the consensus mode of plain softmax


def stability_interval(controller: Any) -> Interval:
    """Return the open interval of real alpha for which the loop is stable; (nan, nan) when there is none.

    For the printed PID law, all three Jury conditions of the cubic are linear in alpha, so that for every real
    gain the set is one interval, with P, I, D the gains:
    P + I/2 + 2D - 1 < alpha < 1 + P + I D/(1+D), provided |D| < 1 and I >= 0; else empty (also for I > 4(1+D)).
    Poles on both sides of both ends confirm it; where they do not, and for any other controller, it is
    `stability_set`, where that is one interval.

    Parameters
    ----------
    controller : PID, LTIController or python-control system with dt = 1

    Returns
    -------
    (low, high)
        In units of alpha = skip + feedback a.

    Raises
    ------
    InputError
        The stable set is a union of several intervals.

    References
    ----------
    Jury, Theory and Application of the z-Transform Method, 1964, chapter 3.

    Examples
    --------
    >>> low, high = stability_interval(PID(0.8, 0.5, 0.05))
    >>> round(low, 6), round(high, 6)
    (0.15, 1.82381)
    """
    controller = known_controller(controller, "stability_interval")
    if isinstance(controller, PID) and controller.form == "printed":
        low, high = map(float, printed_interval(controller.kp, controller.ki, controller.kd))
        if low < high and _ends_hold(controller, [(low, high)]):
            return low, high
    intervals = stability_set(controller)
    if len(intervals) > 1:
        raise InputError(f"the stable set is a union of {len(intervals)} intervals {intervals}: use stability_set")
    return intervals[0] if intervals else (math.nan, math.nan)


def printed_interval(kp: Any, ki: Any, kd: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return (low, high) of the printed law by `stability_interval`'s closed form, shaped as the gains; nan if empty.

    >>> [float(end.round(6)) for end in printed_interval(0.8, 0.5, 0.05)]
    [0.15, 1.82381]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.asarray(kp + ki / 2 + 2 * kd - 1)
        high = np.asarray(1 + kp + ki * kd / (1 + np.asarray(kd)))
        stable = (np.asarray(ki) >= 0) & (np.abs(kd) < 1) & (low < high)
    return np.where(stable, low, np.nan), np.where(stable, high, np.nan)


def stability_set(controller: Any) -> list[Interval]:
    """Return all open intervals of real alpha for which the loop is stable, in ascending order.

    A closed-loop pole can cross the unit circle only at alpha = e^{iw} + C(e^{iw}) real: at z = 1, at z = -1 and
    where the imaginary part vanishes. Each segment in between is decided by its poles. A mode of the controller
    that the loop cannot move (a common root of num and den) counts. Every interval is checked: next to both ends the
    poles are inside the circle on one side and not on the other. Where they are not, exact numbers decide.

    Parameters
    ----------
    controller : PID, LTIController or python-control system with dt = 1

    Returns
    -------
    list of (low, high)

    Raises
    ------
    ArithmeticError
        The poles next to an end contradict it, since rounding of the controller decides where it is.

    Examples
    --------
    >>> [(round(low, 3), round(high, 3)) for low, high in stability_set(PID(0.8, 0.5, 0.05, form="ema"))]
    [(-0.388, 2.041)]
    """
    controller = known_controller(controller, "stability_set")
    for finer in (1, 8):
        critical = critical_modes(controller, finer=finer)
        intervals = _stable_segments(controller, critical)
        if _ends_hold(controller, intervals):
            return intervals
    return stable_intervals(pencil_in_alpha(controller), lambda alpha: mode_matrix(controller, alpha), "stability_set")


def _stable_segments(controller: Any, critical: np.ndarray) -> list[Interval]:
    """Return the stable segments; |alpha| beyond all critical values is unstable, since one pole follows alpha."""
    intervals: list[Interval] = []
    for low, high in pairwise(critical.tolist()):
        if high - low <= _SAME * max(abs(low), abs(high)) or not _inside(controller, (low + high) / 2):
            continue
        # A crossing that was none (rounding) parts two segments at a stable point: join them.
        if intervals and intervals[-1][1] == low and _inside(controller, low, _ON_CIRCLE):
            intervals[-1] = (intervals[-1][0], high)
        else:
            intervals.append((low, high))
    return intervals


def _ends_hold(controller: Any, intervals: list[Interval]) -> bool:
    """Tell whether it is stable on this side of both ends, not on the other, unless the next interval begins there."""
    ends = {end for pair in intervals for end in pair}
    for low, high in intervals:
        near = _NEXT * min(high - low, 1.0)
        if not (_inside(controller, low + near) and _inside(controller, high - near)):
            return False
        for end, sign in ((low, -1), (high, 1)):
            shared = sum(end in pair for pair in intervals) == 2
            free = all(other == end or abs(other - end) > 2 * near for other in ends)
            if not shared and free and _inside(controller, end + sign * near, 1e-9):
                return False
    return True


def _inside(controller: Any, alpha: float, margin: float = 0.0) -> bool:
    """Tell whether all closed-loop poles are within 1 - margin, by exact roots where the coefficients are given."""
    poles = exact_poles(controller, alpha)
    poles = closed_loop_poles(controller, alpha) if poles is None else poles
    return bool(np.max(np.abs(poles)) < 1 - margin)


def region_boundary(controller: Any, omega: np.ndarray) -> np.ndarray:
    """alpha(w) = e^{iw} + C(e^{iw}): the modes for which a closed-loop pole lies on the unit circle at angle w.

    Parameters
    ----------
    controller : PID, LTIController or python-control system with dt = 1
    omega : (m,)
        rad/layer.

    Returns
    -------
    (m,) complex
        Infinite where the controller has a pole on the circle.

    Raises
    ------
    InputError
        No controller; a frequency that is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> region_boundary(PID(0.5), np.array([0.0, np.pi])).real.tolist()
    [1.5, -0.5]
    """
    omega = require_real("omega", _numbers(omega, "omega"))
    values = np.exp(1j * omega.ravel()) + controller_response(
        known_controller(controller, "region_boundary"), omega.ravel()
    )
    return values.reshape(omega.shape)


def closed_loop_poles(controller: Any, alpha: Any) -> np.ndarray:
    """Return the roots of (z - alpha) den(z) + num(z) for every alpha, as eigenvalues of `mode_matrix`.

    Parameters
    ----------
    controller : PID, LTIController, python-control system with dt = 1, or None (no controller)
    alpha : real or complex, any shape

    Returns
    -------
    (..., order + 1) complex

    Raises
    ------
    InputError
        An alpha that is not finite.

    Examples
    --------
    >>> closed_loop_poles(PID(0.6), 0.5).round(12).tolist()
    [(-0.1+0j)]
    """
    return np.linalg.eigvals(mode_matrix(controller, _numbers(alpha, "alpha"))).astype(complex)


def spectral_radius(controller: Any, alpha: Any) -> np.ndarray:
    """Return the largest modulus of the closed-loop poles, shaped as alpha.

    >>> round(float(spectral_radius(PID(0.6), 0.5)), 12)
    0.1
    """
    return np.abs(closed_loop_poles(controller, alpha)).max(axis=-1)


def is_stable(controller: Any, alpha: Any) -> np.ndarray:
    """Tell whether all closed-loop poles lie strictly inside the unit circle, shaped as alpha.

    Certified roots of the exact polynomial decide wherever rounding of the eigenvalues could. A pole on the circle
    within its last digits is not inside.

    >>> is_stable(PID(0.8, 0.5, 0.05), [0.1, 0.2]).tolist()
    [False, True]
    """
    alpha = _numbers(alpha, "alpha")
    matrices = mode_matrix(controller, alpha.ravel())
    size = spectral_radii(matrices)
    stable = size < 1.0
    for at in np.flatnonzero(np.abs(size - 1) <= unsure(matrices.shape[-1])):
        stable[at] = stable_at(mode_pencil(controller, complex(alpha.ravel()[at])), 0.0)
    return stable.reshape(alpha.shape)


def mode_intervals(loop: Loop) -> list[Interval]:
    """Return the open intervals of real attention eigenvalues a for which the loop is stable, ascending; [] if none.

    They are `stability_set` in terms of a, alpha = skip + feedback a. With feedback = 0 either all a are stable or
    none.

    Parameters
    ----------
    loop : Loop

    Returns
    -------
    list of (low, high)

    Examples
    --------
    >>> from ctrlattn import CausalMean
    >>> mode_intervals(Loop(CausalMean(), skip=1.0, feedback=-1.0))  # 1 - a inside the circle
    [(0.0, 2.0)]
    """
    controller = require_scalar_gains(loop, "mode_intervals").controller or PID()
    if loop.feedback == 0:
        return [(-math.inf, math.inf)] if bool(is_stable(controller, open_loop_pole(loop, 0.0))) else []
    ends = (attention_eigenvalue(loop, np.array(pair)) + 0.0 for pair in stability_set(controller))  # no -0
    return sorted((float(min(pair)), float(max(pair))) for pair in ends)


def mode_radius(loop: Loop, a: Any) -> np.ndarray:
    """Return the largest modulus of the closed-loop poles of each attention eigenvalue a, shaped as a.

    >>> from ctrlattn import CausalMean
    >>> float(mode_radius(Loop(CausalMean(), skip=1.0, feedback=-1.0), 0.25))
    0.75
    """
    return spectral_radius(loop.controller, open_loop_pole(loop, a))


def unstable_share(loop: Loop, modes: np.ndarray) -> np.ndarray:
    """Return the share of the modes (..., m) whose closed loop has a pole outside the unit circle: (...).

    A pole within 1e-9 of the circle counts as on it, not outside.

    >>> from ctrlattn import CausalMean
    >>> float(unstable_share(Loop(CausalMean(), skip=1.0, feedback=-1.0), np.array([-0.5, 0.0, 0.5, 1.0])))
    0.25
    """
    return np.asarray(np.mean(mode_radius(loop, modes) > 1 + MARGINAL, axis=-1))


def _numbers(values: Any, name: str) -> np.ndarray:
    """Return finite numbers, real or complex."""
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "iufc":
        raise InputTypeError(f"{name} must be a number or an array of numbers, got {type(values).__name__}")
    if not np.all(np.isfinite(array)):
        raise InputError(f"{name} must be finite")
    return array
