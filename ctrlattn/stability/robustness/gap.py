"""delta(P, Q) = sup_w |P - Q| / sqrt((1 + |P|^2)(1 + |Q|^2)): how far two plants are apart for the loops around them.

The distance is that of P and Q as points of a sphere, on a grid that knows where either turns fast, polished at each
peak. With P = n/d and Q = m/h, Vinnicombe's winding condition counts the roots of conj(d) h + conj(n) m: certified
roots of exact numbers.
"""

import math
from fractions import Fraction
from typing import Any

import numpy as np

from ctrlattn.arrays import require_real
from ctrlattn.errors import InputError
from ctrlattn.lazy import loaded
from ctrlattn.linear.polynomial_roots import integer_roots
from ctrlattn.linear.realization import Realization
from ctrlattn.linear.transfer import BoundaryTransfer
from ctrlattn.stability.boundary_search import start_grid
from ctrlattn.stability.modes.exact_gains import as_fractions, exact_fraction, plus, product
from ctrlattn.stability.robustness.margins import siso_loop

_ON_CIRCLE = 1e-9
_FINER = 4
_ZOOMS = 12

Exact = list[Fraction]


def nu_gap(plant: Any, other: Any) -> float:
    """Return the nu-gap of two SISO plants: what a loop with a larger robust margin than this cannot tell apart.

    A controller that stabilises P with margin b = min |1 + P C| / sqrt((1 + |P|^2)(1 + |C|^2)) stabilises every Q with
    nu_gap(P, Q) < b, and keeps at least sin(asin b - asin nu_gap) of it.

    Parameters
    ----------
    plant, other : control.StateSpace or control.TransferFunction
        SISO, real, discrete; a static gain needs no time base.

    Returns
    -------
    float
        In [0, 1]; 1 where no robust margin covers both, such as two loops that need different numbers of encirclements.

    Raises
    ------
    InputError
        As `margins`; continuous time.

    References
    ----------
    Vinnicombe, IEEE Trans. Automatic Control 38 (1993) 1371; Zhou and Doyle, Essentials of Robust Control, 1998.

    Examples
    --------
    >>> import control
    >>> round(nu_gap(control.tf(1, [1, -0.5], 1), control.tf(1, [1, -1], 1)), 6)  # at z = 1: 0.5/sqrt(1 + 0.25) / 1
    0.447214
    """
    (p, n, d), (q, m, h) = _fraction(plant), _fraction(other)
    winding = _roots(plus(product(d[::-1], h), product(n[::-1], m)))
    if winding is None or np.any(np.abs(np.abs(winding) - 1) <= _ON_CIRCLE):
        return 1.0
    if int(np.sum(np.abs(winding) < 1)) != len(h) - 1:
        return 1.0
    # Where |P|, |Q| or P - Q turn fast: roots of |n|^2 + |d|^2, of |m|^2 + |h|^2, of the winding, and the poles.
    turning = [_roots(plus(product(x, x[::-1]), product(y, y[::-1]))) for x, y in ((n, d), (m, h))]
    root_sets = [winding, *turning, *(_roots(x) for x in (d, h, plus(product(n, h), [-x for x in product(m, d)])))]
    roots = np.concatenate([x for x in root_sets if x is not None])
    sphere = BoundaryTransfer(*p[:5]), BoundaryTransfer(*q[:5])
    return _largest_distance(
        sphere, np.concatenate([[0.0], start_grid(roots, continuous=False, finer=_FINER), [math.pi]])
    )


def _largest_distance(sphere: tuple[BoundaryTransfer, BoundaryTransfer], w: np.ndarray) -> float:
    """Return the largest distance, zoomed in at every peak of the grid that may be it."""
    distance = _distance(sphere, w)
    best = float(distance.max())
    padded = np.concatenate([[-1.0], distance, [-1.0]])
    peaks = np.flatnonzero((padded[1:-1] >= padded[:-2]) & (padded[1:-1] >= padded[2:]) & (distance >= 0.5 * best))
    for at in peaks.tolist():
        low, high = w[max(at - 1, 0)], w[min(at + 1, len(w) - 1)]
        for _ in range(_ZOOMS):
            inner = np.linspace(low, high, 17)
            value = _distance(sphere, inner)
            top = int(np.argmax(value))
            low, high = inner[max(top - 1, 0)], inner[min(top + 1, 16)]
            best = max(best, float(value[top]))
    return min(best, 1.0)


def _distance(sphere: tuple[BoundaryTransfer, BoundaryTransfer], w: np.ndarray) -> np.ndarray:
    """Return |p_1 q_2 - p_2 q_1| of the unit vectors along (P, 1) and (Q, 1); (1, 0) at a pole."""
    points: list[np.ndarray] = []
    for transfer in sphere:
        value = transfer.at(w)[0, 0]
        at_pole = ~np.isfinite(value)
        vector = np.stack([np.where(at_pole, 1.0, value), np.where(at_pole, 0.0, 1.0)])
        points.append(vector / np.hypot(np.abs(vector[0]), np.abs(vector[1])))
    (p_1, p_2), (q_1, q_2) = points
    return np.abs(p_1 * q_2 - p_2 * q_1)


def _roots(p: Exact) -> np.ndarray | None:
    """Return the certified roots of exact numbers; None of the zero polynomial."""
    if not any(p):
        return None
    common = math.lcm(*(x.denominator for x in map(Fraction, p)))
    return integer_roots([int(x * common) for x in p])


def _fraction(system: Any) -> tuple[Realization, Exact, Exact]:
    """Return a discrete SISO plant with its exact (num, den), both of one length."""
    loop = siso_loop(system, "nu_gap")
    if loop.continuous and len(loop.a):  # a static gain is the same in both times
        raise InputError("nu_gap compares discrete plants (dt = 1), got a continuous plant: sample it first")
    if isinstance(system, loaded("control", "TransferFunction")):
        num, den = as_fractions(system.num[0][0]), as_fractions(system.den[0][0])
    else:
        num, den = exact_fraction(
            *(require_real("nu_gap: a plant", m) for m in (system.A, system.B, system.C, system.D))
        )
    return loop, [Fraction(0)] * (len(den) - len(num)) + num, den
