"""1 + K e^{-i phi} L = 0 on the boundary: the gain, phase, delay and modulus margins of a loop, with all crossings.

The boundary is the unit circle, z = e^{iw}, or in continuous time the imaginary axis, s = iw. Both of its ends are
always candidates: a real loop meets the real axis at z = 1 and z = -1 (s = 0 and infinity) without any sign change to
find, and for the residual integrator 0.5/(z - 1) the crossing at z = -1 is the whole gain margin.
"""

import cmath
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ctrlattn import showing
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.lazy import loaded
from ctrlattn.linear.lapack import eigenvalues, on_contiguous
from ctrlattn.linear.polynomial_roots import accurate_roots
from ctrlattn.linear.realization import Realization, realization, require_real_system
from ctrlattn.linear.state_matrix import require_size
from ctrlattn.loop import refuse_loop_sequence
from ctrlattn.stability.robustness import loop_curve as curves
from ctrlattn.stability.robustness.loop_curve import Crossed, LoopCurve

_LARGEST = 1000  # states
_EIGENVALUES = 50  # states up to which scaled loops are checked by their eigenvalues too
_RESIDUAL = 1e-6  # |1 + K e^{-i phi} L| that is still taken for a pole on the boundary
_LAST_DIGITS = 1e-15  # a root is exact to its last digit: this near the boundary it is on it
_FAR = 1e8  # gains beyond this, or below its inverse, are left out where rounding hides the response
_MOVES = 3  # of the last digits of the matrices, which show whether it does
_UNSTABLE = 1e-7  # distance of a pole beyond the boundary that is no matter of rounding
_TURN = 1e-9  # below this share of the largest crossing, w counts as 0, where no delay turns


@dataclass(frozen=True)
class Margins:
    """Margins of a negative-feedback loop with transfer L; inf where nothing destabilises it, nan if it is unstable.

    Frequencies are in rad per sample (rad/layer over depth), in continuous time in rad per unit of time.
    """

    stable: bool  # is the closed loop 1 + L = 0 stable at all?
    gain_margin: float  # smallest factor K > 1 on L that puts a pole on the boundary
    phase_crossover: float  # frequency at which that happens
    gain_reduction: float  # largest factor K < 1 that does; 0 when none
    phase_margin: float  # degrees: smallest rotation of L, of either sign, that does
    gain_crossover: float  # frequency at which that happens
    delay_margin: float  # layers (time) of pure delay that do
    modulus_margin: float  # min |1 + L| = 1/Ms
    modulus_frequency: float  # frequency of that minimum
    residual: float = math.nan  # largest |1 + K e^{-i phi} L| over the gains and rotations above; 0 in exact arithmetic
    system = None  # the loop L that was given; no field, since it is no figure

    def plot(self, **options: Any) -> Any:
        """Plot the Nyquist curve of the loop with these margins; options as for `plots.nyquist`."""
        return showing.plot(self, **options)


class Crossings(NamedTuple):
    """Every crossing of a loop, stable or not, each group ascending in frequency."""

    gain_frequency: np.ndarray  # where L is real and negative
    gain_factor: np.ndarray  # K = -1/L > 0 there
    phase_frequency: np.ndarray  # where |L| = 1
    phase: np.ndarray  # degrees in (-180, 180]: L e^{-i phase} = -1 there
    delay: np.ndarray  # layers (time) of pure delay that turn L onto -1 there; inf at w = 0


def gain_margin(system: Any) -> float:
    """Return the smallest factor K > 1 for which the closed loop 1 + K L(z) = 0 has a pole on the boundary.

    Parameters
    ----------
    system : control.StateSpace or control.TransferFunction
        L, SISO, discrete or continuous.

    Returns
    -------
    float
        inf when no factor does; nan when the loop is unstable at K = 1.

    Raises
    ------
    InputError
        As `margins`.

    Examples
    --------
    >>> import control
    >>> gain_margin(control.tf([0.5], [1, -1], 1))  # python-control 0.10 says infinite
    4.0
    """
    return margins(system).gain_margin


def margins(system: Any) -> Margins:
    """Return the gain, phase, delay and modulus margins of a SISO loop, all crossings considered.

    Crossings are found on the response of the state space, by a grid that adapts and by a pencil of the loop, and
    polished there. Every margin is checked before it is returned: the loop times its gain or rotation has a pole
    on the boundary, and loops scaled and turned by less have none beyond it.

    Parameters
    ----------
    system : control.StateSpace or control.TransferFunction
        L, SISO; time domain as the system says.

    Returns
    -------
    Margins

    Raises
    ------
    InputTypeError
        Not a linear system.
    InputError
        MIMO, improper, more than 1000 states.
    ArithmeticError
        A check fails, or rounding decides whether the closed loop is stable: no digit of a margin would be sure.

    References
    ----------
    Astrom and Murray, Feedback Systems, 2nd edition, section 10.3.

    Examples
    --------
    >>> import control
    >>> m = margins(control.tf([0.5], [1, -1], 1))
    >>> m.gain_margin, round(m.phase_margin, 2), m.modulus_margin
    (4.0, 75.52, 0.75)
    """
    loop = siso_loop(system, "margins")
    return showing.about(_of_loop(loop, *_closed_loop(system, loop)), system)


def margins_of_matrices(matrices: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]) -> Margins:
    """Return `margins` of A, B, C, D over depth, so that a process that measures many loops needs no python-control.

    Raises
    ------
    InputError, ArithmeticError
        As `margins`.

    Examples
    --------
    >>> import numpy as np
    >>> margins_of_matrices(tuple(np.array([[x]]) for x in (1.0, 1.0, 0.5, 0.0))).gain_margin  # 0.5/(z - 1)
    4.0
    """
    loop = realization(matrices, "margins")
    _require_siso(loop.d.shape[1], loop.d.shape[0], "margins")
    _require_judged(loop, "margins")
    return _of_loop(loop, *_closed_loop(matrices, loop))


def crossings(system: Any) -> Crossings:
    """Return all phase and gain crossovers of a SISO loop, whether it is stable or not.

    Parameters
    ----------
    system : control.StateSpace or control.TransferFunction
        L, SISO; time domain as the system says.

    Returns
    -------
    Crossings

    Raises
    ------
    InputError
        As `margins`.

    Examples
    --------
    >>> import control
    >>> points = crossings(control.tf([0.5], [1, -1], 1))
    >>> points.gain_factor.tolist(), points.gain_frequency.round(4).tolist(), points.phase.round(2).tolist()
    ([4.0], [3.1416], [75.52])
    """
    loop = siso_loop(system, "crossings")
    curve = curves.loop_curve(loop, _closed_loop(system, loop, decide=False)[0])
    points = curves.searched(curve)
    gains, rotations = _gains(curve, points), _rotations(curve, points)
    _require_return_differences(curve, gains, rotations)
    frequency, factor = np.array(gains, dtype=float).reshape(-1, 2).T.copy()
    listed = [(x.frequency, x.degrees, x.delay) for x in rotations]
    omega, rotation, delays = np.array(listed, dtype=float).reshape(-1, 3).T.copy()
    return Crossings(curve.unit * frequency, factor, curve.unit * omega, rotation, delays / curve.unit)


def siso_loop(system: Any, quantity: str) -> Realization:
    """Return the realization of a real SISO system that knows its time."""
    refuse_loop_sequence(system, quantity)
    if not isinstance(system, loaded("control", "StateSpace", "TransferFunction")):
        raise InputTypeError(f"{quantity} takes a StateSpace or TransferFunction, got {type(system).__name__}")
    _require_siso(system.ninputs, system.noutputs, quantity)
    loop = realization(system, quantity)
    _require_judged(loop, quantity)
    return loop


def _require_siso(inputs: int, outputs: int, quantity: str) -> None:
    if (inputs, outputs) != (1, 1):
        raise InputError(
            f"{quantity} takes a SISO system, got {inputs} inputs and {outputs} outputs; disk_margin "
            "and loop_margins take several channels"
        )


def _require_judged(loop: Realization, quantity: str) -> None:
    require_size(len(loop.a), _LARGEST, quantity, "Reduce the order with balanced_truncation.")
    require_real_system(loop, quantity, "; disk_margin takes complex ones")


def _closed_loop(system: Any, loop: Realization, *, decide: bool = True) -> tuple[np.ndarray, bool]:
    """Return (poles of 1 + L = 0, whether all are inside); one not well posed has those of L, and is not stable."""
    closed = _closed_loop_matrix(loop, 1.0)
    if closed is None:
        return eigenvalues(loop.a), False
    if not isinstance(system, loaded("control", "TransferFunction")):
        stable, closed_poles = Realization(closed, *loop[1:5]).stable_poles() if decide else (False, np.zeros(0))
        return closed_poles if stable else eigenvalues(closed), stable
    poles = accurate_roots(system.num[0][0], system.den[0][0])
    growth = poles.real / np.maximum(np.abs(poles), 1e-300) if loop.continuous else np.abs(poles) - 1
    return poles, bool(np.max(growth, initial=-1.0) < -_LAST_DIGITS)


def _closed_loop_matrix(loop: Realization, gain: complex) -> np.ndarray | None:
    """Return A - K b c/(1 + K d), the state matrix of the loop under K; None where it is not well posed."""
    direct = 1 + gain * loop.d[0, 0]
    return None if direct == 0 else loop.a - loop.b @ loop.c * (gain / direct)


def _of_loop(loop: Realization, poles: np.ndarray, stable: bool) -> Margins:
    if not stable:
        return Margins(False, *[math.nan] * 8)
    curve = curves.loop_curve(loop, poles)
    result = _margins(curve, curves.searched(curve))
    if not _holds(curve, result):
        result = _margins(curve, curves.searched(curve, finer=8))
        if not _holds(curve, result):
            raise ArithmeticError(
                "margins: the closed loop is unstable for a gain or rotation below the margin that its response shows, "
                "so that rounding decides either. Give the system in modal form, or as a transfer function"
            )
    return result


def _margins(curve: LoopCurve, points: Crossed) -> Margins:
    gains, rotations = _gains(curve, points), _rotations(curve, points)
    residual = _require_return_differences(curve, gains, rotations)
    factor, crossover, reduction = _gain_margins(gains)
    phase, gain_crossover = min(
        ((abs(x.degrees), x.frequency) for x in rotations), default=(math.inf, math.nan), key=_size
    )
    delay = min((x.delay for x in rotations), default=math.inf)
    return Margins(
        True, factor, crossover * curve.unit, reduction, phase, gain_crossover * curve.unit,
        delay / curve.unit, points.closest, points.at * curve.unit, residual,
    )  # fmt: skip


def _gains(curve: LoopCurve, points: Crossed) -> list[tuple[float, float]]:
    """Return (frequency, K = -1/L) wherever L is real and negative, both ends included, ascending in frequency."""
    value = _without_noise(curve, points.real_axis, points.real_values.real)
    # A handful of points: calls of numpy would take longer than the numbers themselves.
    return [
        (w, -1 / x) for w, x in zip(points.real_axis.tolist(), value.tolist(), strict=True) if -math.inf < x < -1e-300
    ]


def _without_noise(curve: LoopCurve, w: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return L at crossings of the real axis; nan where it is so small or large that rounding of the matrices decides.

    Far from 1 the response is a difference of large terms, and what rounding leaves of it is no crossing. Where a plain
    solve contradicts it, that solve counts, if it stays what it is when the last digits of the matrices move.
    """
    size = np.abs(value)
    doubtful = np.isfinite(value) & ((size <= 1 / _FAR) | (size >= _FAR))
    if not doubtful.any():
        return value
    plain = _plain_values(curve.loop, w[doubtful])
    plain[~np.isfinite(plain)] = np.nan  # a pole
    accepted = _RESIDUAL * np.abs(plain)
    agrees = np.abs(value[doubtful] - plain) <= accepted
    if agrees.all():
        return value
    neighbours = [_plain_values(g, w[doubtful]) for g in _disturbed_loops(curve.loop)]
    with np.errstate(invalid="ignore"):
        steady = np.all([np.abs(m - plain) <= accepted for m in neighbours], axis=0) & (np.abs(plain.imag) <= accepted)
    settled = value.copy()
    settled[doubtful] = np.where(agrees, value[doubtful], np.where(steady, plain.real, np.nan))
    return settled


def _disturbed_loops(g: Realization) -> Iterator[Realization]:
    """Return loops whose matrices differ from those of g in the last digit, at random."""
    rng = np.random.default_rng(0)
    eps = np.finfo(float).eps
    for _ in range(_MOVES):
        a, b, c = (m * (1 + eps * rng.uniform(-1, 1, m.shape)) for m in g[:3])
        yield Realization(a, b, c, *g[3:])


def _gain_margins(gains: list[tuple[float, float]]) -> tuple[float, float, float]:
    reduction = max((factor for _, factor in gains if factor < 1), default=0.0)
    above = [(factor, w) for w, factor in gains if 1 < factor < math.inf]
    return *min(above, default=(math.inf, math.nan), key=_size), reduction


def _size(pair: tuple[float, float]) -> float:
    """Return the size of a margin; of equal ones the first in frequency is the least."""
    return pair[0]


class _Rotation(NamedTuple):
    frequency: float
    turn: complex  # e^{-i phi}
    degrees: float  # phi
    delay: float


def _rotations(curve: LoopCurve, points: Crossed) -> list[_Rotation]:
    """Return the rotations wherever |L| = 1, ascending in frequency."""
    frequencies = points.unit_circle.tolist()
    still = _TURN * (max((w for w in frequencies if math.isfinite(w)), default=0.0) if curve.loop.continuous else 1.0)
    rotations = []
    for w, value in zip(frequencies, points.unit_values.tolist(), strict=True):
        angle = cmath.phase(-value)
        angle = math.pi if angle <= -math.pi else angle  # (-pi, pi]
        delay = angle % (2 * math.pi) / w if w > still else math.inf
        rotations.append(_Rotation(w, cmath.rect(1.0, -angle), math.degrees(angle), delay))
    return rotations


def _return_differences(curve: LoopCurve, factors: list[tuple[float, complex]]) -> list[float]:
    """Return |1 + K L| by one plain solve for each (frequency, K): a pole on the boundary makes it 0."""
    response = _plain_values(curve.loop, np.array([w for w, _ in factors])).tolist()
    return_differences = [1 + k * x for (_, k), x in zip(factors, response, strict=True)]
    return [math.hypot(z.real, z.imag) if cmath.isfinite(z) else math.inf for z in return_differences]


def _plain_values(g: Realization, w: np.ndarray) -> np.ndarray:
    """Return L by one plain solve for each frequency; infinite at a pole."""
    from ctrlattn.kernels import loop as kernel

    return on_contiguous(kernel.plain_values, g[:4], np.ascontiguousarray(w, dtype=float), g.continuous)


def _require_return_differences(
    curve: LoopCurve, gains: list[tuple[float, float]], rotations: list[_Rotation]
) -> float:
    """Return the largest |1 + K L|; raise ArithmeticError where one is no matter of rounding."""
    factors = [(w, complex(factor)) for w, factor in gains] + [(x.frequency, x.turn) for x in rotations]
    residual = max(_return_differences(curve, factors), default=0.0)
    if residual > _RESIDUAL:
        raise ArithmeticError(
            f"margins: a scaled loop misses a pole on the boundary by {residual:.1g}, since rounding of its matrices "
            "alone moves the response by as much. Give the system in modal form, or as a transfer function"
        )
    return residual


def _holds(curve: LoopCurve, m: Margins) -> bool:
    """Tell whether closed loops scaled and turned by nine tenths of the margins are stable by their eigenvalues."""
    n = len(curve.loop.a)
    if not 0 < n <= _EIGENVALUES:
        return True
    above = 1 + 0.9 * (m.gain_margin - 1) if math.isfinite(m.gain_margin) else 10.0
    turn = cmath.rect(1.0, math.radians(0.9 * min(m.phase_margin, 180.0)))
    from ctrlattn.kernels import loop as kernel

    # The loop is real: turned the other way it has the conjugate poles.
    gains = np.array([above, 1 - 0.9 * (1 - m.gain_reduction), turn], dtype=complex)
    growth = on_contiguous(kernel.largest_growth, curve.loop[:4], gains, curve.loop.continuous)
    return all(x < _UNSTABLE for x in growth.tolist())
