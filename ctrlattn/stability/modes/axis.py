"""Polynomials on the imaginary axis as polynomials in x = w^2: p(iw) = E(x) + i w O(x), |p|^2 = E^2 + x O^2.

The continuous-time sister of `circle`: powers in descending order, roots x >= 0.
"""

import numpy as np

from ctrlattn.arrays import require_real

_REAL = 1e-6


def squared_modulus(p: np.ndarray) -> np.ndarray:
    """|p(iw)|^2 as a polynomial in x = w^2.

    >>> squared_modulus(np.array([1.0, 2.0])).tolist()  # |iw + 2|^2 = x + 4
    [1.0, 4.0]
    """
    even, odd = _halves(p)
    return np.polyadd(np.polymul(even, even), np.append(np.polymul(odd, odd), 0.0))


def imaginary_part(num: np.ndarray, den: np.ndarray) -> np.ndarray:
    """Im(num conj(den)) / w as a polynomial in x = w^2.

    >>> imaginary_part(np.array([1.0, 0.0]), np.array([1.0])).tolist()  # Im iw = w
    [1.0]
    """
    (even, odd), (even_d, odd_d) = _halves(num), _halves(den)
    return np.polysub(np.polymul(odd, even_d), np.polymul(even, odd_d))


def frequencies_of_roots(p: np.ndarray) -> np.ndarray:
    """w = sqrt(x) of the roots x >= 0, a root at 0 included; none for the zero polynomial."""
    size = np.abs(p)
    first = int(np.argmax(size > 1e-15 * np.max(size, initial=0.0)))  # what a cancellation left of a leading power
    roots = np.roots(p[first:]) if len(p) - first > 1 else np.empty(0)
    near = (np.abs(roots.imag) <= _REAL * np.abs(roots)) & (roots.real >= 0)
    return np.sqrt(roots.real[near])


def slope_of_ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top' bottom - top bottom', whose roots are the extrema of top/bottom.

    >>> slope_of_ratio(np.array([1.0, 0.0, 1.0]), np.array([1.0])).tolist()  # (x^2 + 1)' = 2 x
    [0.0, 2.0, 0.0]
    """
    return np.polysub(np.polymul(_slope(top), bottom), np.polymul(top, _slope(bottom)))


def _slope(p: np.ndarray) -> np.ndarray:
    return p[:-1] * np.arange(len(p) - 1, 0, -1) if len(p) > 1 else np.zeros(1)


def point(frequency: np.ndarray) -> np.ndarray:
    """s = iw, w = infinity included (where 1j * w would be nan)."""
    s = np.zeros(len(frequency), dtype=complex)
    s.imag = frequency
    return s


def _halves(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E and O in descending powers of x: (iw)^{2k} = (-x)^k, (iw)^{2k+1} = iw (-x)^k."""
    rising = require_real("the coefficients", p)[::-1]
    even, odd = rising[::2], rising[1::2]
    signed = [half * (-1.0) ** np.arange(len(half)) for half in (even, odd)]
    return signed[0][::-1], (signed[1][::-1] if len(odd) else np.zeros(1))
