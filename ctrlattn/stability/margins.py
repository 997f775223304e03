"""1 + K e^{-i phi} L(z) = 0 on the unit circle: the gain, phase, delay and modulus margins of a discrete loop.

z = 1 and z = -1 are always candidates: a real loop crosses the real axis there without any sign change to find,
and for the residual integrator 0.5/(z - 1) the crossing at z = -1 is the whole gain margin.
"""

import math
from dataclasses import dataclass
from typing import Any

import control
import numpy as np
from numpy.polynomial import chebyshev

from ctrlattn.stability.circle import cosines_of_roots, imaginary_part, point, squared_modulus

_ON_CIRCLE = 1e-9


@dataclass(frozen=True)
class Margins:
    """Margins of a negative-feedback loop with transfer L; inf where nothing destabilises it, nan if it is unstable."""

    stable: bool  # is the closed loop 1 + L = 0 stable at all?
    gain_margin: float  # smallest factor K > 1 on L that puts a pole on the circle
    phase_crossover: float  # rad/layer at which that happens
    gain_reduction: float  # largest factor K < 1 that does; 0 when none
    phase_margin: float  # degrees: smallest rotation of L, of either sign, that does
    gain_crossover: float  # rad/layer at which that happens
    delay_margin: float  # layers of pure delay that do
    modulus_margin: float  # min |1 + L| = 1/Ms
    modulus_frequency: float  # rad/layer of that minimum


def gain_margin(system: Any) -> float:
    """Smallest factor K > 1 for which the closed loop 1 + K L(z) = 0 has a pole on the unit circle.

    Parameters
    ----------
    system : control.StateSpace or control.TransferFunction
        L, SISO and discrete.

    Returns
    -------
    float
        inf when no factor does; nan when the loop is unstable at K = 1.

    Raises
    ------
    TypeError, ValueError
        As `margins`.

    Examples
    --------
    >>> import control
    >>> gain_margin(control.tf([0.5], [1, -1], 1))  # python-control 0.10 says infinite
    4.0
    """
    return margins(system).gain_margin


def margins(system: Any) -> Margins:
    """Gain, phase, delay and modulus margins of a SISO discrete loop, all crossings considered.

    Crossings are roots of polynomials in cos w, not grid points: with L = n/d, the real axis at Im(n conj d) = 0,
    the unit circle at |n|^2 = |d|^2, the modulus margin where the derivative of |d + n|^2 / |d|^2 vanishes.

    Parameters
    ----------
    system : control.StateSpace or control.TransferFunction
        L, SISO and discrete; frequencies in rad per sample (layer).

    Returns
    -------
    Margins

    Raises
    ------
    TypeError
        Not a linear system.
    ValueError
        Continuous time or MIMO.

    References
    ----------
    Astrom and Murray, Feedback Systems, 2nd edition, section 10.3.

    Examples
    --------
    >>> import control
    >>> found = margins(control.tf([0.5], [1, -1], 1))
    >>> found.gain_margin, round(found.phase_margin, 2), found.modulus_margin
    (4.0, 75.52, 0.75)
    """
    num, den = _fraction(system)
    closed = np.polyadd(num, den)
    if not _schur(closed):
        return Margins(False, *[math.nan] * 8)
    factor, crossover, reduction = _gain_margins(num, den)
    phase, gain_crossover, delay = _phase_margins(num, den)
    modulus, frequency = _modulus_margin(closed, den)
    return Margins(True, factor, crossover, reduction, phase, gain_crossover, delay, modulus, frequency)


def _fraction(system: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(system, control.StateSpace | control.TransferFunction):
        raise TypeError(f"margins are of a StateSpace or TransferFunction, got {type(system).__name__}")
    if (system.ninputs, system.noutputs) != (1, 1):
        raise ValueError(f"margins are of a SISO loop, got {system.ninputs} inputs and {system.noutputs} outputs")
    if system.dt is None or system.dt == 0:
        raise ValueError("margins over depth are of a discrete-time loop (dt = 1), got continuous time")
    if isinstance(system, control.StateSpace) and system.nstates == 0:
        return system.D[0], np.ones(1)
    fraction = system if isinstance(system, control.TransferFunction) else control.tf(system)
    num, den = (np.trim_zeros(np.asarray(p[0][0], dtype=float), "f") for p in (fraction.num, fraction.den))
    return (num if len(num) else np.zeros(1)), den


def _schur(p: np.ndarray) -> bool:
    roots = np.roots(p)
    return bool(np.all(np.abs(roots) < 1)) if len(roots) else True


def _gain_margins(num: np.ndarray, den: np.ndarray) -> tuple[float, float, float]:
    z = point(np.concatenate([[1.0, -1.0], cosines_of_roots(imaginary_part(num, den))]))
    value = _response(num, den, z).real
    factors = np.full(len(z), -1.0)
    hit = np.isfinite(value) & (value < -1e-300)
    factors[hit] = -1.0 / value[hit]
    above = np.where(factors > 1, factors, math.inf)
    below = factors[(factors > 0) & (factors < 1)]
    first = int(np.argmin(above))
    crossover = float(np.angle(z[first])) if np.isfinite(above[first]) else math.nan
    return float(above[first]), abs(crossover), float(np.max(below, initial=0.0))


def _phase_margins(num: np.ndarray, den: np.ndarray) -> tuple[float, float, float]:
    z = point(cosines_of_roots(chebyshev.chebsub(squared_modulus(num), squared_modulus(den))))
    value = _response(num, den, z)
    z, value = z[np.isfinite(value)], value[np.isfinite(value)]
    if not len(z):
        return math.inf, math.nan, math.inf
    omega, rotation = np.angle(z), np.angle(-value)
    first = int(np.argmin(np.abs(rotation)))
    turning = omega > _ON_CIRCLE  # no delay turns z = 1
    delays = np.mod(rotation[turning], 2 * np.pi) / omega[turning]
    return float(np.degrees(abs(rotation[first]))), float(omega[first]), float(np.min(delays, initial=math.inf))


def _modulus_margin(closed: np.ndarray, den: np.ndarray) -> tuple[float, float]:
    top, bottom = squared_modulus(closed), squared_modulus(den)
    slope = chebyshev.chebsub(
        chebyshev.chebmul(chebyshev.chebder(top), bottom), chebyshev.chebmul(top, chebyshev.chebder(bottom))
    )
    z = point(np.concatenate([[1.0, -1.0], cosines_of_roots(slope)]))
    distance = np.abs(_response(closed, den, z))  # |1 + L|
    first = int(np.argmin(distance))
    return float(distance[first]), float(np.angle(z[first]))


def _response(num: np.ndarray, den: np.ndarray, z: np.ndarray) -> np.ndarray:
    """num/den at z; infinite at a pole on the circle."""
    bottom = np.polyval(den, z)
    pole = np.abs(bottom) <= _ON_CIRCLE * np.sum(np.abs(den))
    return np.where(pole, np.inf, np.polyval(num, z) / np.where(pole, 1.0, bottom))
