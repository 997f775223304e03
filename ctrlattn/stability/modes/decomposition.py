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
from ctrlattn.loop import Loop
from ctrlattn.stability.modes.gain_pencils import (
    Parts,
    mode_matrices,
    mode_matrix,
    mode_pencil,
    parts,
    require_gains,
    require_values,
)
from ctrlattn.stability.modes.gain_polynomials import Family, family, values
from ctrlattn.stability.modes.intervals import Interval, intersection, radius, stable_intervals

_NEAR = 1e-4  # a root this close to the circle is polished


def gain_intervals(loop: Loop, axes: Sequence[Any], spectrum: Any, first: float) -> list[Interval]:
    """The open intervals of the second gain for which all modes are stable, the first gain being given.

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
    plane, over = _plane(loop, axes, spectrum, "gain_intervals"), parts(loop, axes)
    return _slice(plane, over, _number(first), "gain_intervals")


def gain_region(loop: Loop, axes: Sequence[Any], spectrum: Any, first: Any) -> list[list[Interval]]:
    """`gain_intervals` at each value of the first gain: the region as exact slices.

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
    plane, over = _plane(loop, axes, spectrum, "gain_region"), parts(loop, axes)
    slices = require_values([first] if np.isscalar(first) else first, "gain_region")
    return [_slice(plane, over, float(value), "gain_region") for value in slices]


def gain_boundary(loop: Loop, axes: Sequence[Any], a: complex, omega: Any) -> np.ndarray:
    """The gains for which mode a has a pole at e^{iw}: the curve of the D-decomposition.

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

    Examples
    --------
    >>> import numpy as np
    >>> from ctrlattn import PID, CausalMean, Loop
    >>> loop = Loop(CausalMean(), skip=0.0, feedback=1.0)
    >>> abs(gain_boundary(loop, ("kp", "feedback"), 0.5j, [np.pi / 2]).round(12)).tolist()  # z = -kp + 0.5i feedback
    [[0.0, 2.0]]
    """
    z = np.exp(1j * np.atleast_1d(require_real("omega", omega)))
    p0, p1, p2 = _on_circle(_plane(loop, axes, a, "gain_boundary"), z)
    cross = _cross(p1, p2)
    dependent = np.abs(cross) <= 1e-12 * np.abs(p1) * np.abs(p2)
    safe = np.where(dependent, 1.0, cross)
    gains = np.stack([-_cross(p0, p2) / safe, -_cross(p1, p0) / safe], axis=-1)
    return np.where(dependent[:, None], np.nan, gains + 0.0)


def gain_lines(loop: Loop, axes: Sequence[Any], a: complex) -> list[tuple[float, float, float]]:
    """Lines c_1 g_1 + c_2 g_2 = c_0 of gains for which mode a has a pole at one and the same point of the circle.

    Parameters
    ----------
    loop, axes, a : as for `gain_boundary`

    Returns
    -------
    list of (c_1, c_2, c_0), (c_1, c_2) of length 1

    Examples
    --------
    >>> from ctrlattn import PID, CausalMean, Loop
    >>> loop = Loop(CausalMean(), controller=PID(0.6))
    >>> gain_lines(loop, ("ki", "kp"), 0.5)[0]  # z = 1: I = 0
    (1.0, 0.0, 0.0)
    """
    plane = _plane(loop, axes, a, "gain_lines")
    # z = 1 and -1 by name, the other frequencies where p_1 and p_2 are parallel.
    z = np.concatenate([[1.0, -1.0], _real_crossings(plane.terms[0], plane.terms[1])[0]])
    z = z[np.isfinite(z) & (np.abs(z.imag) > 1e-7)].tolist()
    lines = []
    for point in (1.0, -1.0, *z):
        p0, p1, p2 = (complex(value[0]) for value in _on_circle(plane, np.array([point])))
        size = math.hypot(abs(p1), abs(p2))
        scale = 1e-9 * (abs(p0) + size)
        if size <= scale or max(abs(_cross(p, q)) for p, q in ((p0, p1), (p0, p2), (p1, p2))) > scale * size:
            continue
        direction = (p1 if abs(p1) >= abs(p2) else p2).conjugate()
        direction /= abs(direction)
        c1, c2, c0 = ((direction * p).real for p in (p1, p2, -p0))
        sign = math.copysign(1.0, c1 if abs(c1) > 1e-12 * size else c2) / math.hypot(c1, c2)
        lines.append((sign * c1 + 0.0, sign * c2 + 0.0, sign * c0 + 0.0))
    return lines


def gain_radius(loop: Loop, axes: Sequence[Any], spectrum: Any, gains: Any) -> np.ndarray:
    """Largest modulus of the closed-loop poles over all modes: below 1 inside the region.

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
    modes = family(loop, axes, spectrum, "gain_radius").modes
    points = require_gains(gains, len(axes), "gain_radius")
    over = parts(loop, axes)
    sizes = [radius(mode_matrices(over, a.real if a.imag == 0 else a, points)) for a in modes]
    return np.max(sizes, axis=0)


def _plane(loop: Loop, axes: Sequence[Any], spectrum: Any, quantity: str) -> Family:
    if isinstance(axes, str) or len(axes) != 2 or (isinstance(axes[0], str) and axes[0] == axes[1]):
        raise InputError(f"{quantity} takes two different gains, got {axes!r}")
    modes = np.atleast_1d(np.asarray(spectrum, dtype=complex)).ravel()
    if np.size(spectrum) > 1:  # a mode and its conjugate have the same region
        modes = np.unique(modes.real + 1j * np.abs(modes.imag))
    return family(loop, axes, modes, quantity)


def _number(value: Any) -> float:
    return float(require_gains([value], 1, "the first gain")[0])


def _slice(plane: Family, over: Parts, first: float, quantity: str) -> list[Interval]:
    """Mode by mode; then the intersection."""
    inside: list[Interval] = [(-math.inf, math.inf)]
    for a in plane.modes:
        mode = a.real if a.imag == 0 else a
        own = stable_intervals(mode_pencil(over, mode, first), mode_matrix(over, mode, first), quantity)
        inside = intersection(inside, own)
        if not inside:
            break
    return inside


def _real_crossings(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(z, g) with p(z) + g q(z) = 0, |z| = 1 and g real, row by row; nan where there is none.

    Im(p conj q) = 0: roots of p q~ - p~ q, with p~ the reversed conjugate, and z = 1, -1.
    """
    rows = []
    for p_k, q_k in zip(p, q, strict=True):
        h = np.polysub(np.polymul(p_k, q_k[::-1].conj()), np.polymul(p_k[::-1].conj(), q_k))
        size = np.abs(h)
        nonzero = np.flatnonzero(size > 1e-14 * np.max(size, initial=0.0))
        zeros = np.roots(h[nonzero[0] : nonzero[-1] + 1]) if len(nonzero) > 1 else np.zeros(0)
        near = zeros[np.abs(np.abs(zeros) - 1) < _NEAR]
        rows.append(np.concatenate([[0.0, np.pi], _polished(p_k, q_k, np.angle(near))]))
    width = max(map(len, rows))
    omega = np.array([np.pad(row, (0, width - len(row)), constant_values=np.nan) for row in rows])
    z = np.where(np.isin(omega, [0.0, np.pi]), np.cos(omega) + 0j, np.exp(1j * omega))
    top, bottom = values(p, z), values(q, z)
    free = np.abs(bottom) <= 1e-12 * np.sum(np.abs(q), axis=-1, keepdims=True)
    gain = np.where(free, np.nan, -(top * bottom.conj()).real / np.where(free, 1.0, np.abs(bottom) ** 2))
    return z.ravel(), gain + 0.0  # no negative zero


def _polished(p: np.ndarray, q: np.ndarray, omega: np.ndarray) -> np.ndarray:
    """Newton steps on Im(p conj q) = 0 over w; d p(e^{iw})/dw = i z p'(z)."""
    slope = np.arange(len(p) - 1, -1, -1)
    for _ in range(3):
        z = np.exp(1j * omega)
        top, bottom = values(p, z), values(q, z)
        value = (top * bottom.conj()).imag
        moved = values(1j * slope * p, z) * bottom.conj() + top * values(1j * slope * q, z).conj()
        flat = np.abs(moved.imag) <= 1e-8 * np.abs(moved)
        step = np.where(flat, 0.0, value / np.where(flat, 1.0, moved.imag))
        omega = omega - np.clip(step, -1e-3, 1e-3)
    return omega


def _on_circle(plane: Family, z: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(values(p[0], z) for p in (plane.fixed, *plane.terms))


def _cross(p: Any, q: Any) -> Any:
    """Im(conj(p) q): twice the area between the two, 0 where they are parallel."""
    return p.real * q.imag - p.imag * q.real
