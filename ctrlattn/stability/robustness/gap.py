"""delta(P, Q) = sup_w |P - Q| / sqrt((1 + |P|^2)(1 + |Q|^2)): how far two plants are apart for the loops around them.

With P = n/d and Q = m/h all is polynomial on the circle: |n h - m d|^2 against (|n|^2 + |d|^2)(|m|^2 + |h|^2), the
extrema at roots of a derivative. Vinnicombe's winding condition counts the roots of conj(d) h + conj(n) m.
"""

import math
from typing import Any

import control
import numpy as np
from numpy.polynomial import chebyshev

from ctrlattn.errors import InputError
from ctrlattn.stability.modes import circle
from ctrlattn.stability.robustness.margins import siso_loop

_ON_CIRCLE = 1e-9


def nu_gap(plant: Any, other: Any) -> float:
    """The nu-gap of two SISO plants: what a loop with a larger robust margin than this cannot tell apart.

    A controller that stabilises P with margin b = min |1 + P C| / sqrt((1 + |P|^2)(1 + |C|^2)) stabilises every Q with
    nu_gap(P, Q) < b, and keeps at least sin(asin b - asin nu_gap) of it.

    Parameters
    ----------
    plant, other : control.StateSpace or control.TransferFunction
        SISO, real, discrete.

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
    (n, d), (m, h) = _fraction(plant), _fraction(other)
    if not _winds_as_it_must(n, d, m, h):
        return 1.0
    apart = np.polyadd(np.polymul(n, h), np.polymul(-m, d))
    top = circle.squared_modulus(apart)
    squares = [circle.squared_modulus(p) for p in (n, d, m, h)]
    bottom = chebyshev.chebmul(chebyshev.chebadd(*squares[:2]), chebyshev.chebadd(*squares[2:]))
    slope = chebyshev.chebsub(
        chebyshev.chebmul(chebyshev.chebder(top), bottom), chebyshev.chebmul(top, chebyshev.chebder(bottom))
    )
    cosines = np.concatenate([[1.0, -1.0], circle.cosines_of_roots(slope)])
    share = np.max(chebyshev.chebval(cosines, top) / chebyshev.chebval(cosines, bottom))
    return math.sqrt(min(max(float(share), 0.0), 1.0))


def _winds_as_it_must(n: np.ndarray, d: np.ndarray, m: np.ndarray, h: np.ndarray) -> bool:
    """z^order (conj(d) h + conj(n) m), order that of d: as many roots inside as the other has poles."""
    reversed_n, reversed_d = np.pad(n, (len(d) - len(n), 0))[::-1], d[::-1]
    roots = np.roots(np.polyadd(np.polymul(reversed_d, h), np.polymul(reversed_n, m)))
    if np.any(np.abs(np.abs(roots) - 1) <= _ON_CIRCLE):
        return False
    return int(np.sum(np.abs(roots) < 1)) == len(h) - 1


def _fraction(system: Any) -> tuple[np.ndarray, np.ndarray]:
    """(num, den) of a discrete SISO plant."""
    if siso_loop(system, "nu_gap").continuous:
        raise InputError("nu_gap compares discrete plants (dt = 1), got a continuous plant: sample it first")
    fraction = control.tf(system)
    num, den = (np.trim_zeros(np.asarray(p[0][0], dtype=float), "f") for p in (fraction.num, fraction.den))
    return (num if len(num) else np.zeros(1)), den
