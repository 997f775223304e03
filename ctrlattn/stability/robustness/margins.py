"""1 + K e^{-i phi} L = 0 on the boundary: the gain, phase, delay and modulus margins of a loop, with all crossings.

The boundary is the unit circle, z = e^{iw}, or in continuous time the imaginary axis, s = iw. Both of its ends are
always candidates: a real loop meets the real axis at z = 1 and z = -1 (s = 0 and infinity) without any sign change to
find, and for the residual integrator 0.5/(z - 1) the crossing at z = -1 is the whole gain margin.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import control
import numpy as np
from numpy.polynomial import chebyshev

from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.linear.realization import realization
from ctrlattn.loop import refuse_loop_sequence
from ctrlattn.stability.modes import axis, circle

_ON_CIRCLE = 1e-9
_LARGEST = 300  # states whose polynomials are tried at all
_ACCURATE = 1e-6  # relative difference of polynomials and state space that is still taken for the same system


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


class Crossings(NamedTuple):
    """Every crossing of a loop, stable or not, each group ascending in frequency."""

    gain_frequency: np.ndarray  # where L is real and negative
    gain_factor: np.ndarray  # K = -1/L > 0 there
    phase_frequency: np.ndarray  # where |L| = 1
    phase: np.ndarray  # degrees in (-180, 180]: L e^{-i phase} = -1 there
    delay: np.ndarray  # layers (time) of pure delay that turn L onto -1 there; inf at w = 0


def gain_margin(system: Any) -> float:
    """Smallest factor K > 1 for which the closed loop 1 + K L(z) = 0 has a pole on the boundary.

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
    """Gain, phase, delay and modulus margins of a SISO loop, all crossings considered.

    Crossings are roots of polynomials in cos w (in w^2 in continuous time), not grid points: with L = n/d, the real
    axis at Im(n conj d) = 0, the unit circle at |n|^2 = |d|^2, the modulus margin where the derivative of
    |d + n|^2 / |d|^2 vanishes.

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
        MIMO, improper, no time base, or a state space whose transfer polynomials lose its digits.

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
    num, den, continuous, unit = loop_fraction(system)
    closed = np.polyadd(num, den)
    if not _stable(closed, den, continuous):
        return Margins(False, *[math.nan] * 8)
    factor, crossover, reduction = _gain_margins(*_real_axis(num, den, continuous))
    omega, rotation, delays = _unit_modulus(num, den, continuous)
    first = int(np.argmin(np.abs(rotation))) if len(omega) else None
    phase, gain_crossover = (math.inf, math.nan) if first is None else (abs(rotation[first]), omega[first])
    modulus, frequency = _modulus_margin(closed, den, continuous)
    delay = float(np.min(delays, initial=math.inf))
    return Margins(
        True, factor, crossover * unit, reduction, float(phase), float(gain_crossover) * unit, delay / unit, modulus,
        frequency * unit,
    )  # fmt: skip


def crossings(system: Any) -> Crossings:
    """All phase and gain crossovers of a SISO loop, whether it is stable or not.

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
    >>> crossed = crossings(control.tf([0.5], [1, -1], 1))
    >>> crossed.gain_factor.tolist(), crossed.gain_frequency.round(4).tolist(), crossed.phase.round(2).tolist()
    ([4.0], [3.1416], [75.52])
    """
    num, den, continuous, unit = loop_fraction(system)
    frequency, factor = _real_axis(num, den, continuous)
    hit = factor > 0
    order = np.argsort(frequency[hit], kind="stable")
    omega, rotation, delays = _unit_modulus(num, den, continuous)
    by_omega = np.argsort(omega, kind="stable")
    return Crossings(
        unit * frequency[hit][order], factor[hit][order],
        unit * omega[by_omega], rotation[by_omega], delays[by_omega] / unit,
    )  # fmt: skip


def loop_fraction(system: Any) -> tuple[np.ndarray, np.ndarray, bool, float]:
    """(num, den, continuous, unit): in continuous time s is measured in units of a typical pole."""
    refuse_loop_sequence(system, "margins")
    if not isinstance(system, control.StateSpace | control.TransferFunction):
        raise InputTypeError(f"margins are of a StateSpace or TransferFunction, got {type(system).__name__}")
    if (system.ninputs, system.noutputs) != (1, 1):
        raise InputError(
            f"margins are of a SISO loop, got {system.ninputs} inputs and {system.noutputs} outputs: use disk_margin "
            "or loop_margins"
        )
    if system.dt is None:
        raise InputError("margins need a time base: dt = 0 (continuous) or dt = 1 (a layer), got None")
    continuous = system.dt == 0
    if isinstance(system, control.StateSpace) and system.nstates == 0:
        return system.D[0], np.ones(1), continuous, 1.0
    if isinstance(system, control.StateSpace):
        realization(system, "margins")  # finite, before python-control computes zeros
        if system.nstates > _LARGEST:
            raise InputError(
                f"margins work with the transfer polynomials, which lose their digits long before order "
                f"{system.nstates}: use disk_margin or hinf_norm, or reduce the order with balanced_truncation"
            )
    fraction = system if isinstance(system, control.TransferFunction) else control.tf(system)
    num, den = (np.trim_zeros(np.asarray(p[0][0], dtype=float), "f") for p in (fraction.num, fraction.den))
    if not (np.all(np.isfinite(num)) and np.all(np.isfinite(den))):
        raise InputError("margins: the coefficients of the loop must be finite")
    if len(num) > len(den):
        raise InputError(f"margins: the loop is improper (degree {len(num) - 1} over {len(den) - 1})")
    if isinstance(system, control.StateSpace):
        _require_same(system, num, den, continuous)
    num, unit = (num if len(num) else np.zeros(1)), _typical_pole(den) if continuous else 1.0
    num, den = (p * unit ** np.arange(len(p) - len(den), len(p) - len(den) - len(p), -1.0) for p in (num, den))
    return num, den, continuous, unit


def _typical_pole(den: np.ndarray) -> float:
    """The geometric mean of the poles that are not 0; 1 where there is none."""
    trimmed = np.trim_zeros(den, "b")
    return float(np.abs(trimmed[-1] / trimmed[0]) ** (1 / (len(trimmed) - 1))) if len(trimmed) > 1 else 1.0


def _require_same(system: control.StateSpace, num: np.ndarray, den: np.ndarray, continuous: bool) -> None:
    """Polynomials of a high order lose digits silently: compare them with the state space they come from."""
    g = realization(system, "margins")
    size = float(np.max(np.abs(np.linalg.eigvals(g.a)), initial=1e-300))
    for frequency in (0.4, 1.3, 2.6):
        w = frequency * (size if continuous else 1.0)
        exact = complex(g.response(w)[0, 0])
        value = complex(_response(num, den, np.array([1j * w if continuous else np.exp(1j * w)]))[0])
        if abs(value - exact) > _ACCURATE * max(abs(exact), 1e-12):
            raise InputError(
                f"margins work with the transfer polynomials, which at order {len(g.a)} differ from the state space by "
                f"{abs(value - exact) / max(abs(exact), 1e-12):.1g}: use disk_margin or hinf_norm, or reduce the order "
                "with balanced_truncation"
            )


def _stable(closed: np.ndarray, den: np.ndarray, continuous: bool) -> bool:
    closed = np.trim_zeros(closed, "f")
    if len(closed) < len(den):  # 1 + L vanishes at infinity: not well posed
        return False
    roots = np.roots(closed)
    inside = roots.real < 0 if continuous else np.abs(roots) < 1
    return bool(np.all(inside))


def _real_axis(num: np.ndarray, den: np.ndarray, continuous: bool) -> tuple[np.ndarray, np.ndarray]:
    """(frequency, factor -1/L) wherever L is real; a factor of -1 where it is not negative."""
    if continuous:
        frequency = np.concatenate([[0.0, math.inf], axis.frequencies_of_roots(axis.imaginary_part(num, den))])
        z = axis.point(frequency)
    else:
        z = circle.point(np.concatenate([[1.0, -1.0], circle.cosines_of_roots(circle.imaginary_part(num, den))]))
        frequency = np.abs(np.angle(z))
    value = _response(num, den, z).real
    hit = np.isfinite(value) & (value < -1e-300)
    frequency, at = np.unique(frequency, return_index=True)
    factor = np.full(len(z), -1.0)
    factor[hit] = -1.0 / value[hit]
    return frequency, factor[at]


def _gain_margins(frequency: np.ndarray, factors: np.ndarray) -> tuple[float, float, float]:
    above = np.where(factors > 1, factors, math.inf)
    below = factors[(factors > 0) & (factors < 1)]
    first = int(np.argmin(above))
    crossover = float(frequency[first]) if np.isfinite(above[first]) else math.nan
    return float(above[first]), crossover, float(np.max(below, initial=0.0))


def _unit_modulus(num: np.ndarray, den: np.ndarray, continuous: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(frequency, rotation in degrees, delay) wherever |L| = 1."""
    if continuous:
        z = axis.point(
            axis.frequencies_of_roots(np.polysub(axis.squared_modulus(num), axis.squared_modulus(den)))
        )  # fmt: skip
    else:
        z = circle.point(
            circle.cosines_of_roots(chebyshev.chebsub(circle.squared_modulus(num), circle.squared_modulus(den)))
        )
    value = _response(num, den, z)
    z, value = z[np.isfinite(value)], value[np.isfinite(value)]
    omega, rotation = z.imag if continuous else np.angle(z), np.angle(-value)
    turning = omega > _ON_CIRCLE * (1.0 if not continuous else np.max(omega, initial=0.0))  # no delay turns w = 0
    delays = np.where(turning, np.mod(rotation, 2 * np.pi) / np.where(turning, omega, 1.0), math.inf)
    return omega, np.degrees(rotation), delays


def _modulus_margin(closed: np.ndarray, den: np.ndarray, continuous: bool) -> tuple[float, float]:
    if continuous:
        top, bottom = axis.squared_modulus(closed), axis.squared_modulus(den)
        frequency = np.concatenate([[0.0, math.inf], axis.frequencies_of_roots(axis.slope_of_ratio(top, bottom))])
        z = axis.point(frequency)
    else:
        top, bottom = circle.squared_modulus(closed), circle.squared_modulus(den)
        slope = chebyshev.chebsub(
            chebyshev.chebmul(chebyshev.chebder(top), bottom), chebyshev.chebmul(top, chebyshev.chebder(bottom))
        )
        z = circle.point(np.concatenate([[1.0, -1.0], circle.cosines_of_roots(slope)]))
        frequency = np.angle(z)
    distance = np.abs(_response(closed, den, z))  # |1 + L|
    first = int(np.argmin(distance))
    return float(distance[first]), float(frequency[first])


def _response(num: np.ndarray, den: np.ndarray, z: np.ndarray) -> np.ndarray:
    """num/den at z; infinite at a pole on the boundary, the ratio of the leading coefficients at infinity."""
    finite = np.isfinite(z)
    inside = np.where(finite, z, 0.0)
    bottom = np.polyval(den, inside)
    pole = np.abs(bottom) <= _ON_CIRCLE * np.polyval(np.abs(den), np.abs(inside))
    value = np.where(pole, np.inf, np.polyval(num, inside) / np.where(pole, 1.0, bottom))
    at_infinity = num[0] / den[0] if len(num) == len(den) else 0.0
    return np.where(finite, value, at_infinity)
