"""p_0(e^{iw}) + g_1 p_1(e^{iw}) + g_2 p_2(e^{iw}) = 0: the plane of two gains, cut where a pole is on the unit circle.

D-decomposition. Each frequency gives two real equations for (g_1, g_2): one point of a curve where they are
independent, a whole line where they coincide (z = 1 and z = -1 of a real mode). Along g_2 at a fixed g_1 the cuts are
roots of a polynomial of exact numbers, and eigenvalues of the closed loop verify each interval.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ctrlattn.arrays import require_real
from ctrlattn.errors import InputError
from ctrlattn.linear.boundary import EPS
from ctrlattn.linear.lapack import spectral_radii
from ctrlattn.loop import Loop
from ctrlattn.stability.modes.exact_gains import Polynomial, parallel_points, slope, values_at
from ctrlattn.stability.modes.gain_pencils import (
    GainFactors,
    mode_matrices,
    mode_matrix,
    mode_pencil,
    mode_polynomials,
    parts,
    require_gains,
    require_values,
)
from ctrlattn.stability.modes.gain_polynomials import gain_modes, real_if_real
from ctrlattn.stability.modes.intervals import Interval, intersection, stable_intervals

_DEPENDENT = 1e-12  # sine of the angle below which two terms are parallel
_NEXT_DOUBLE = 2 * EPS  # how far rounding moves a point of the circle
_ONE_LINE = 1e-9  # and below which all three are, so that a whole line of gains has its pole there
_SINGULAR = 1e-9  # of the closed-loop matrix, how near to having the pole it must be


def gain_intervals(loop: Loop, axes: Sequence[Any], spectrum: Any, first: float) -> list[Interval]:
    """Return the open intervals of the second gain for which all modes are stable, the first gain being given.

    Parameters
    ----------
    loop : Loop
        Parallel order, no normalizer, as for `mode`; the gains that are not varied are its own.
    axes : two gains
        Each "kp", "ki", "kd", "skip", "feedback" (absolute values), or an LTI system G(z), SISO with dt = 1, which
        acts as g G(z) in parallel to the controller. The loop must be affine in them, as it is for all of these;
        `ema` of a PID is not.
    spectrum : (modes,) real or complex
        Eigenvalues of the attention matrix, one or a whole measured spectrum.
    first : float
        The first gain.

    Returns
    -------
    list of (low, high)
        Ascending; (-inf, inf) where no mode depends on the gain.

    Raises
    ------
    InputError
        Not two gains, one of them twice, a loop that is not linear and time-invariant, values that are not finite.
    ArithmeticError
        Eigenvalues of the closed loop contradict an interval, since rounding of the matrices moves them.

    References
    ----------
    Neimark 1948; Gryazina, Polyak, Tremba, D-decomposition technique state-of-the-art, Automation and Remote Control
    69 (2008) 1991.

    Examples
    --------
    >>> from ctrlattn import PID, CausalMean, Loop
    >>> loop = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5, 0.05))
    >>> low, high = gain_intervals(loop, ("kp", "ki"), 0.5, 0.8)[0]  # I > 0, P + I/2 < 1.4
    >>> abs(round(low, 9)), round(high, 9)
    (0.0, 1.2)
    """
    modes = _plane_modes(loop, axes, spectrum, "gain_intervals")
    return _slice(modes, parts(loop, axes), _number(first), "gain_intervals")


def gain_region(loop: Loop, axes: Sequence[Any], spectrum: Any, first: Any) -> list[list[Interval]]:
    """Return `gain_intervals` at each value of the first gain: the region as exact slices.

    Parameters
    ----------
    loop, axes, spectrum : as for `gain_intervals`
    first : (m,)

    Returns
    -------
    list of m lists of (low, high)

    Examples
    --------
    >>> from ctrlattn import PID, CausalMean, Loop
    >>> loop = Loop(CausalMean(), controller=PID(0.6))
    >>> gain_region(loop, ("skip", "kp"), 0.0, [0.0, 1.0])  # |skip - kp| < 1
    [[(-1.0, 1.0)], [(0.0, 2.0)]]
    """
    modes, over = _plane_modes(loop, axes, spectrum, "gain_region"), parts(loop, axes)
    slices = require_values([first] if np.isscalar(first) else first, "gain_region")
    return [_slice(modes, over, float(value), "gain_region") for value in slices]


def gain_boundary(loop: Loop, axes: Sequence[Any], a: complex, omega: Any) -> np.ndarray:
    """Return the gains for which mode a has a pole at e^{iw}: the curve of the D-decomposition.

    Parameters
    ----------
    loop, axes : as for `gain_intervals`
    a : real or complex
        One eigenvalue of the attention matrix; a complex one needs -pi < w < pi.
    omega : (m,)
        rad/layer.

    Returns
    -------
    (m, 2)
        nan where the two equations are dependent; such frequencies give a line or nothing, see `gain_lines`.

    Raises
    ------
    InputError
        As `gain_intervals`; more than one mode.
    ArithmeticError
        The closed-loop matrix with these gains has no pole at e^{iw}: rounding of the state space moves it.

    Examples
    --------
    >>> import numpy as np
    >>> from ctrlattn import PID, CausalMean, Loop
    >>> loop = Loop(CausalMean(), skip=0.0, feedback=1.0)
    >>> abs(gain_boundary(loop, ("kp", "feedback"), 0.5j, [np.pi / 2]).round(12)).tolist()  # z = -kp + 0.5i feedback
    [[0.0, 2.0]]
    """
    z = np.exp(1j * np.atleast_1d(require_real("omega", omega)))
    alpha, over = _one_mode(loop, axes, a, "gain_boundary"), parts(loop, axes)
    fixed, terms = mode_polynomials(over, alpha)
    p0, p1, p2 = _values((fixed, *terms), z)
    cross = cross_product(p1, p2)
    dependent = np.abs(cross) <= _DEPENDENT * np.abs(p1) * np.abs(p2)  # as where a system has a zero
    safe = np.where(dependent, 1.0, cross)
    gains = np.stack([-cross_product(p0, p2) / safe, -cross_product(p1, p0) / safe], axis=1) + 0.0
    _require_pole(over, alpha, gains[~dependent], z[~dependent], "gain_boundary")
    return np.where(dependent[:, None], np.nan, gains)


def gain_lines(loop: Loop, axes: Sequence[Any], a: complex) -> list[tuple[float, float, float]]:
    """Return lines c_1 g_1 + c_2 g_2 = c_0 of gains for which mode a has a pole at one and the same point z, |z| = 1.

    Parameters
    ----------
    loop, axes, a : as for `gain_boundary`

    Returns
    -------
    list of (c_1, c_2, c_0), (c_1, c_2) of length 1
        z = 1 and z = -1 first. Three points of each line are checked on the closed-loop matrix.

    Raises
    ------
    InputError, ArithmeticError
        As `gain_boundary`.

    Examples
    --------
    >>> from ctrlattn import PID, CausalMean, Loop
    >>> loop = Loop(CausalMean(), controller=PID(0.6))
    >>> gain_lines(loop, ("ki", "kp"), 0.5)[0]  # z = 1: I = 0
    (1.0, 0.0, 0.0)
    """
    alpha, over = _one_mode(loop, axes, a, "gain_lines"), parts(loop, axes)
    fixed, terms = mode_polynomials(over, alpha)
    points = _line_points(fixed, terms)
    lines: list[tuple[float, float, float]] = []
    for z, *values in zip(points, *_values((fixed, *terms), points), strict=True):
        line = _line(*map(complex, values))
        if line is None or any(np.allclose(line, other, rtol=_ONE_LINE, atol=_ONE_LINE) for other in lines):
            continue
        c1, c2, c0 = line
        gains = np.array([c1 * c0, c2 * c0]) + np.array([[-1.0], [0.0], [1.0]]) * np.array([-c2, c1])
        _require_pole(over, alpha, gains, np.full(3, z), "gain_lines")
        lines.append(line)
    return lines


def _line_points(fixed: Polynomial, terms: Sequence[Polynomial]) -> np.ndarray:
    """Return points of the circle where the terms can be parallel: 1 and -1, where all are real, and exact roots."""
    points = parallel_points(*terms)
    if points is None:  # parallel everywhere, as skip and feedback of a real mode: the fixed term decides
        both = (parallel_points(fixed, p) for p in terms)
        points = np.concatenate([[], *(z for z in both if z is not None)])
    return np.concatenate([[1.0, -1.0], points]).astype(complex)


def _line(p0: complex, p1: complex, p2: complex) -> tuple[float, float, float] | None:
    """Return the line of gains with p_0 + g_1 p_1 + g_2 p_2 = 0 where the three are parallel."""
    size = math.hypot(abs(p1), abs(p2))
    scale = _ONE_LINE * (abs(p0) + size)
    if size <= scale or max(abs(cross_product(p, q)) for p, q in ((p0, p1), (p0, p2), (p1, p2))) > scale * size:
        return None
    direction = (p1 if abs(p1) >= abs(p2) else p2).conjugate()
    c1, c2, c0 = ((direction * p).real for p in (p1, p2, -p0))
    length = math.hypot(c1, c2)
    sign = math.copysign(1.0, c1 if abs(c1) > 1e-12 * length else c2) / length
    return sign * c1 + 0.0, sign * c2 + 0.0, sign * c0 + 0.0


def gain_radius(loop: Loop, axes: Sequence[Any], spectrum: Any, gains: Any) -> np.ndarray:
    """Return the largest modulus of the closed-loop poles over all modes: below 1 inside the region.

    Parameters
    ----------
    loop, spectrum : as for `gain_intervals`
    axes : any number of gains
    gains : (..., number of axes)

    Returns
    -------
    (...)

    Raises
    ------
    InputError
        As `gain_intervals`; gains that are not finite, or not one for each axis.

    Examples
    --------
    >>> from ctrlattn import PID, CausalMean, Loop
    >>> loop = Loop(CausalMean(), controller=PID(0.6))
    >>> round(float(gain_radius(loop, ("skip", "kp"), [0.0, 0.5], [1.0, 0.6])), 12)  # poles 0.4 and -0.1
    0.4
    """
    modes = gain_modes(loop, axes, spectrum, "gain_radius")
    points = require_gains(gains, len(axes), "gain_radius")
    over = parts(loop, axes)
    sizes = [spectral_radii(mode_matrices(over, real_if_real(a), points)) for a in modes]
    return np.max(sizes, axis=0)


def _plane_modes(loop: Loop, axes: Sequence[Any], spectrum: Any, quantity: str) -> np.ndarray:
    two = isinstance(axes, list | tuple | np.ndarray) and len(axes) == 2
    if not two or (isinstance(axes[0], str) and axes[0] == axes[1]):
        raise InputError(f"{quantity} takes two different gains, got {axes!r}")
    modes = gain_modes(loop, axes, spectrum, quantity)
    if len(modes) > 1:  # a mode and its conjugate have the same region
        modes = np.unique(modes.real + 1j * np.abs(modes.imag))
    return modes


def _one_mode(loop: Loop, axes: Sequence[Any], a: Any, quantity: str) -> complex:
    modes = _plane_modes(loop, axes, a, quantity)
    if np.size(a) != 1:
        raise InputError(f"{quantity} is of one mode, got {np.size(a)} eigenvalues")
    return real_if_real(complex(modes[0]))


def _number(value: Any) -> float:
    return float(require_gains([value], 1, "the first gain")[0])


def _slice(modes: np.ndarray, over: GainFactors, first: float, quantity: str) -> list[Interval]:
    """Return what the stable intervals of all modes, found one by one, have in common."""
    inside: list[Interval] = [(-math.inf, math.inf)]
    for a in map(real_if_real, modes):
        stable = stable_intervals(mode_pencil(over, a, first), mode_matrix(over, a, first), quantity)
        inside = intersection(inside, stable)
        if not inside:
            break
    return inside


def _values(polynomials: Sequence[Polynomial], z: np.ndarray) -> list[np.ndarray]:
    """Return each polynomial at points (m,) of the circle; 0 where a root is as near as the next double."""
    pairs = [(values_at(p, z), values_at(slope(p), z)) for p in polynomials]
    return [np.where(np.abs(value) <= _NEXT_DOUBLE * np.abs(falls), 0.0, value) for value, falls in pairs]


def _require_pole(over: GainFactors, a: complex, gains: np.ndarray, z: np.ndarray, quantity: str) -> None:
    """Check it the second way: the closed-loop matrix M at gains (m, 2) has the eigenvalue z, M - zI being singular."""
    if not len(gains):
        return
    matrices = mode_matrices(over, a, gains)
    sigma = np.linalg.svd(matrices - z[:, None, None] * np.eye(matrices.shape[-1]), compute_uv=False)
    regular = sigma[:, -1] > _SINGULAR * sigma[:, 0]
    if np.any(regular):
        at = int(np.argmax(regular))
        raise ArithmeticError(
            f"{quantity}: exact numbers give the gains {gains[at].tolist()} for a pole at {z[at]:.6g}, and the "
            "closed-loop matrix has none there: rounding of the state space moves its poles. Give the system in "
            "triangular (modal) form"
        )


def cross_product(p: Any, q: Any) -> Any:
    """Return Im(conj(p) q): twice the area between the two, 0 where they are parallel."""
    return p.real * q.imag - p.imag * q.real
