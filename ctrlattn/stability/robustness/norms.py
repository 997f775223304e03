"""||G||_2^2 = tr(C P C* + D D*), ||G||_inf = sup_w sigma_max(G(e^{iw})): size of a stable system, in either time.

The peak is climbed on the response, from a grid that is dense about the poles, and closed in by level sets where the
climb missed it. It is returned when two eigenvalue problems that share no step show nothing above its upper bound.
Beyond a dozen states one of them is enough for a peak that the climb alone has reached, if that one is well
conditioned: the response and the level test are two ways already.
"""

import math
from typing import Any

import numpy as np

from ctrlattn.arrays import require_number
from ctrlattn.errors import InputError, require_flag
from ctrlattn.linear.boundary import growth
from ctrlattn.linear.lapack import eigenvalues, frobenius, solved_on_both_sides
from ctrlattn.linear.realization import Realization, realization
from ctrlattn.linear.scaling import scaled, times_power
from ctrlattn.linear.state_matrix import require_size
from ctrlattn.linear.transfer import BoundaryTransfer, shifted
from ctrlattn.stability.boundary_search import distinct
from ctrlattn.stability.robustness.first_look import BOTH, CLIMBS, LOST, RESOLVED, PeakGain, first_look
from ctrlattn.stability.robustness.gramians import gramian_factors, proven_factors, require_dense
from ctrlattn.stability.robustness.level_sets import (
    hamiltonian_crossings,
    is_well_conditioned,
    largest_gains,
    level_crossings,
    pencil_crossings,
    pole_grid,
)  # fmt: skip

__all__ = ["PeakGain", "h2_norm", "hinf_norm", "largest_gain", "level_crossings", "level_set_peak", "peak_gain"]

_EPS = float(np.finfo(float).eps)
_LARGEST = 1000
_STEPS = 60
_CROWDED = 100  # distances from the boundary within which two resonances are one band
_NOISY = 4
_NARROWER = 8.0
_FEW_CHANNELS = 2  # inputs or outputs for which the climb is compiled
_STENCIL = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
_AT_A_POLE = "the response at {:.6g} (scaled) is not finite: a pole is there, within rounding"
_ZERO = 1e-14  # of ||B|| ||C|| + ||D||: a response that is known so well is known well enough, be it 0


def h2_norm(system: Any, *, continuous: bool = False) -> float:
    """Return ||G||_2, the root of the output variance under white noise of unit variance (or unit intensity).

    Parameters
    ----------
    system : control.StateSpace, control.TransferFunction, or (A, B, C, D), real or complex
    continuous : bool
        Time domain of a tuple.

    Returns
    -------
    float
        inf for an unstable or marginal system, hidden modes included, and for a continuous one with a direct term.

    Raises
    ------
    InputError
        As `realization`: improper, not finite, misshapen.
    ArithmeticError
        Where rounding takes the digits of a gramian, or the norm is no float.

    References
    ----------
    Zhou, Doyle, Glover, Robust and Optimal Control, 1996, sections 4.3 and 21.

    Examples
    --------
    >>> import control
    >>> round(h2_norm(control.tf([1], [1, -0.5], 1)), 12)  # 1/sqrt(1 - 0.25)
    1.154700538379
    """
    continuous = require_flag("continuous", continuous)
    g = realization(system, "h2_norm", continuous=continuous)
    require_dense(g, "h2_norm")
    factors = proven_factors(g)
    if factors is None:
        stable, poles = g.stable_poles()
        if not stable or (g.continuous and np.any(g.d)):
            return math.inf
        unit = scaled(g, poles=poles)
        factors = unit, *gramian_factors(unit.system, poles / unit.rate)
    unit, p_factor, q_factor = factors
    return times_power(_h2(unit.system, p_factor, q_factor) * math.sqrt(unit.rate), unit.exponent, "h2_norm")


def _h2(g: Realization, p_factor: np.ndarray, q_factor: np.ndarray) -> float:
    """Return tr(C P C*) = tr(B* Q B): from the inputs, and as a check from the outputs."""
    value, second = frobenius(g.c @ p_factor), frobenius(g.b.conj().T @ q_factor)
    noise = _ZERO * frobenius(g.c) * frobenius(p_factor)
    if abs(value - second) > LOST * value + noise:
        raise ArithmeticError(
            f"h2_norm: rounding takes the digits: {value:.6g} from the inputs, {second:.6g} from the outputs (scaled). "
            "Give the system in triangular (modal) form"
        )
    return math.hypot(value, frobenius(g.d))


def hinf_norm(system: Any, *, tol: float = 1e-9, continuous: bool = False) -> float:
    """Return ||G||_inf = sup_w sigma_max(G): the peak gain, over all frequencies and directions.

    Parameters
    ----------
    system, continuous : as for `h2_norm`
    tol : float
        Relative accuracy: no frequency exceeds the result by more than the factor 1 + 2 tol.

    Returns
    -------
    float
        inf for an unstable or marginal system, hidden modes included.

    Raises
    ------
    InputError
        As `realization`; a tol that is not in [1e-12, 1); more than 1000 states.
    ArithmeticError
        A matrix whose stability rounding decides, see `is_stable_matrix`; a response at the peak that rounding of A
        changes by a share of more than 1e-6; an overflow.

    References
    ----------
    Bruinsma and Steinbuch, Systems & Control Letters 14 (1990) 287; Boyd and Balakrishnan, 15 (1990) 1.

    Examples
    --------
    >>> import control
    >>> hinf_norm(control.tf([1], [1, -0.5, 0, 0], 1))  # two pure delays: poles at 0
    2.0
    """
    continuous = require_flag("continuous", continuous)
    return peak_gain(system, tol=tol, continuous=continuous).value


def peak_gain(system: Any, *, tol: float = 1e-9, continuous: bool = False) -> PeakGain:
    """Return ||G||_inf with the frequency at which it is attained and the level that is shown to be reached nowhere.

    The level is tested by two eigenvalue problems, beyond 12 states by one where that is well conditioned, and on a
    grid about the poles; at the frequency the response is computed a second time, and `residual` says what rounding of
    A may change there. Resonances that crowd in a band which rounding of A does not resolve are refused.

    Parameters
    ----------
    system, tol, continuous : as for `hinf_norm`

    Returns
    -------
    PeakGain

    Examples
    --------
    >>> import control
    >>> peak_gain(control.tf([1], [1, 0.5], 1))[:2]  # z = -1
    (2.0, 3.141592653589793)
    """
    continuous = require_flag("continuous", continuous)
    tol = float(require_number("tol", tol))
    if not 1e-12 <= tol < 1:
        raise InputError(f"tol must lie in [1e-12, 1), got {tol}")
    g = realization(system, "hinf_norm", continuous=continuous)
    require_pencil(g, "hinf_norm")
    stable, poles = g.stable_poles()
    if not stable:
        return PeakGain(math.inf, math.nan, math.inf)
    return level_set_peak(g, tol, poles)


def require_pencil(g: Realization, quantity: str) -> None:
    """Raise InputError where the pencil of `level_crossings` would take hours."""
    require_size(len(g.a), _LARGEST, quantity, "Reduce the order with balanced_truncation.")


def level_set_peak(g: Realization, tol: float, poles: np.ndarray | None = None) -> PeakGain:
    """Return `peak_gain` of a realization known to be stable, and of its poles where they are known."""
    if poles is None:
        poles = eigenvalues(g.a)
    at_once = first_look(g, tol, poles)
    if at_once is not None:
        return at_once
    unit = scaled(g, poles=poles)
    peak = _closed_in(unit.system, tol, poles / unit.rate)
    value, upper = (times_power(x, unit.exponent, "hinf_norm") for x in (peak.value, peak.upper))
    return PeakGain(value, unit.rate * peak.frequency, upper, peak.residual)


def largest_gain(g: Realization, frequency: float) -> float:
    """Return sigma_max(G) at one frequency."""
    return float(largest_gains(g.responses(np.array([frequency])))[0])


def _closed_in(g: Realization, tol: float, poles: np.ndarray) -> PeakGain:
    """Go up from the best of a grid, until no eigenvalue problem shows a higher point."""
    _require_resolved(g, poles)
    response = BoundaryTransfer(*g[:4], g.continuous, balanced=True)
    grid = pole_grid(g, poles)
    value, frequency = highest_point(response, distinct(np.abs(grid) if g.real() else grid))
    if value == 0.0:  # at more points than a transfer function that is not zero has zeros
        return PeakGain(0.0, 0.0, 0.0)
    residual = 0.0
    for step in range(_STEPS):
        if step == _NOISY:  # steps that rounding leads up end only at a level above rounding
            residual = _residual(g, frequency, value)
        level = value * (1 + 2 * max(tol, residual))
        higher, where = _peak_above(g, response, level, hamiltonian_crossings)
        if higher <= level:
            residual = _residual(g, frequency, value)
            level = value * (1 + 2 * max(tol, residual))
            # In continuous time the condition says nothing of frequencies that lie many decades apart.
            if step == 0 and len(g.a) > BOTH and not g.continuous and is_well_conditioned(g, level):
                return PeakGain(value, frequency, level, residual)
            higher, where = _peak_above(g, response, level, pencil_crossings)
        if higher <= level:
            return PeakGain(value, frequency, level, residual)
        value, frequency = higher, where
    raise ArithmeticError("the level sets do not close in on the peak: rescale the system")


def _require_resolved(g: Realization, poles: np.ndarray) -> None:
    """Raise ArithmeticError where resonances crowd in a band so narrow that both eigenvalue problems round it away.

    A resonance that stands alone has its peak on the grid; between several the peak may be anywhere, and a band that is
    narrower than the last digits of |A| has no crossing that the eigenvalue problems see.
    """
    distance = np.abs(growth(poles, g.continuous))
    frequency = poles.imag if g.continuous else np.angle(poles)
    order = np.argsort(frequency)
    frequency, distance = frequency[order], distance[order]
    near = np.diff(frequency) < _CROWDED * (distance[1:] + distance[:-1])
    thin = np.minimum(distance[1:], distance[:-1]) < RESOLVED * _EPS * frobenius(g.a)
    inside = (frequency[1:] * frequency[:-1] > 0) & (np.abs(frequency[1:]) < (np.inf if g.continuous else np.pi))
    crowd = np.flatnonzero(near & thin & inside)  # an end of the axis is a point of the grid
    if len(crowd):
        raise ArithmeticError(
            f"the peak gain is lost: near {abs(frequency[crowd[0]]):.3g} (scaled) several lightly damped poles share a "
            "band that rounding of A does not resolve beside its largest entries. Give slow and fast parts as systems "
            "of their own"
        )


def _peak_above(g: Realization, response: BoundaryTransfer, level: float, crossings_of: Any) -> tuple[float, float]:
    """Return the highest point at the crossings of the level and in the middle between them.

    A band about an end, w = 0, pi or infinity, has one edge: the ends are points of the grid.
    """
    crossings = crossings_of(g, level)
    if crossings is None:
        return 0.0, 0.0
    return _peak_at(g, response, np.concatenate([crossings, (crossings[1:] + crossings[:-1]) / 2]))


def _residual(g: Realization, frequency: float, value: float) -> float:
    """Return the share of the value that rounding of A may change at this frequency; compute the value a second time.

    |dG| <= |C (zI - A)^-1| |dA| |(zI - A)^-1 B|: from the outputs this time, by a solve with the transposed matrix.
    """
    if not math.isfinite(value):
        raise ArithmeticError(_AT_A_POLE.format(frequency))
    if not math.isfinite(frequency) or not len(g.a):
        return 0.0
    point, a = shifted(g.a, frequency, continuous=g.continuous)
    try:
        inputs, outputs = solved_on_both_sides(point * np.eye(len(a)) - a, g.b, g.c)
    except np.linalg.LinAlgError:
        raise ArithmeticError(_AT_A_POLE.format(frequency)) from None
    change = np.abs(outputs) @ (abs(point) * np.abs(inputs) + np.abs(a) @ np.abs(inputs))
    residual = 4 * _EPS * frobenius(change) / value
    second = float(largest_gains((outputs @ g.b + g.d)[:, :, None])[0])
    size = frobenius(g.b) * frobenius(g.c) + frobenius(g.d)
    settled = max(residual * value, abs(second - value)) <= _ZERO * size  # also where the value is 0, but for rounding
    if not settled and (residual > LOST or abs(second - value) > max(1e-8, 10 * residual) * value):
        share = max(residual, abs(second - value) / value)
        raise ArithmeticError(
            f"the peak gain is lost: at {frequency:.6g} rounding of A changes it by a share of {share:.0e}. Give the "
            "system in triangular (modal) form"
        )
    return residual


def _peak_at(g: Realization, response: BoundaryTransfer, frequencies: np.ndarray) -> tuple[float, float]:
    if not len(frequencies):
        return 0.0, 0.0
    w = np.abs(frequencies) if g.real() else frequencies
    gains = largest_gains(response.at(w))
    at = int(np.argmax(gains))
    return float(gains[at]), float(w[at])


def highest_point(response: BoundaryTransfer, w: np.ndarray) -> tuple[float, float]:
    """Return (sigma_max, w): the highest point of an ascending grid, then the tops of ever narrower parabolas."""
    if response.is_real and min(response.d.shape) <= _FEW_CHANNELS:
        from ctrlattn.kernels import boundary as kernel

        value, frequency = kernel.climbed(response.sides, w, CLIMBS)
        return float(value), float(frequency)
    return climbed(response, w)


def climbed(response: BoundaryTransfer, w: np.ndarray) -> tuple[float, float]:
    """Return the same in plain numpy, for any system."""
    gains = largest_gains(response.at(w))
    at = int(np.argmax(gains))
    value, frequency = float(gains[at]), float(w[at])
    if not 0 < at < len(w) - 1 or not np.isfinite([value, w[at + 1]]).all():
        return value, frequency
    top, step = frequency, max(w[at] - w[at - 1], w[at + 1] - w[at])
    for _ in range(CLIMBS):
        step /= _NARROWER
        points = np.clip(top + step * _STENCIL, w[at - 1], w[at + 1])
        gains = largest_gains(response.at(points))
        best = int(np.argmax(gains))
        if gains[best] > value:
            value, frequency = float(gains[best]), float(points[best])
        left, middle, right = gains[(i := min(max(best, 1), len(gains) - 2)) - 1 : i + 2].tolist()
        bend = left - 2 * middle + right
        top = float(points[i]) + (0.5 * (left - right) / bend * step / 2 if bend < 0 else 0.0)
    return value, frequency
