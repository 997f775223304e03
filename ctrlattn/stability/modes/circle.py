"""Polynomials on the unit circle as series in c = cos w: |p|^2 is even, Im(n conj d) is sin w times an even series.

Chebyshev series have well-conditioned roots on [-1, 1], where powers of z do not.
"""

import numpy as np
from numpy.polynomial import chebyshev

# A double root may leave the real axis by the square root of the rounding error.
_REAL = 1e-6


def squared_modulus(p: np.ndarray) -> np.ndarray:
    """|p(e^{iw})|^2 as a Chebyshev series in cos w; p in descending powers.

    >>> squared_modulus(np.array([1.0, -1.0])).tolist()  # 2 - 2 cos w
    [2.0, -2.0]
    """
    power = np.correlate(p, p, "full")[len(p) - 1 :]
    return np.concatenate([power[:1], 2 * power[1:]])


def imaginary_part(num: np.ndarray, den: np.ndarray) -> np.ndarray:
    """Im(num conj(den)) / sin w on the unit circle, as a Chebyshev series in cos w.

    >>> imaginary_part(np.array([1.0, 0.0]), np.array([1.0])).tolist()  # Im z = sin w
    [1.0, 0.0]
    """
    size = max(len(num), len(den))
    n, d = (np.pad(p, (size - len(p), 0)) for p in (num, den))
    # num(z) den(1/z) = sum_k cross[middle - k] z^k; Im keeps the antisymmetric part, in sin(k w) = sin w U_{k-1}.
    cross, middle = np.correlate(n, d, "full"), size - 1
    series = np.zeros(max(size, 2))
    for k in range(1, size):
        series[:k] += (cross[middle - k] - cross[middle + k]) * _second_kind(k - 1)
    return series


def cosines_of_roots(series: np.ndarray) -> np.ndarray:
    """Real roots in [-1, 1] of a Chebyshev series; none for the zero series."""
    scale = np.max(np.abs(series), initial=0.0)
    if scale == 0.0:
        return np.empty(0)
    trimmed = chebyshev.chebtrim(series, 1e-14 * scale)
    if len(trimmed) < 2:
        return np.empty(0)
    roots = chebyshev.chebroots(trimmed)
    return np.clip(roots.real[(np.abs(roots.imag) < _REAL) & (np.abs(roots.real) <= 1 + 1e-12)], -1.0, 1.0)


def point(cosine: np.ndarray) -> np.ndarray:
    """e^{iw} on the upper half of the circle; exactly 1 and -1 at the ends."""
    return cosine + 1j * np.sqrt(np.clip(1.0 - cosine * cosine, 0.0, None))


def _second_kind(k: int) -> np.ndarray:
    """U_k as a series of the first kind: 2 (T_k + T_{k-2} + ...), T_0 counted once."""
    series = np.zeros(k + 1)
    series[k::-2] = 2.0
    if k % 2 == 0:
        series[0] = 1.0
    return series
