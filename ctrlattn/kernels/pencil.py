"""D_1 (L - s R) D_2 with rows and columns of both matrices together of length 1, about.

Reference: rows of |L|^2 + |R|^2 times the squared scales, in numpy.
"""

import math

import numba
import numpy as np

from ctrlattn.kernels.lapack import INNER, KERNEL

_SWEEPS = 6  # of the balancing of a pencil


@numba.njit(**KERNEL)
def balance_pencil(left, right):
    """Balance both matrices in place, by powers of two: QZ rounds relative to the largest entry."""
    n = len(left)
    sizes, rows, columns = np.empty((n, n)), np.ones(n), np.ones(n)
    for i in range(n):
        for j in range(n):
            x, y = abs(left[i, j]), abs(right[i, j])
            sizes[i, j] = x * x + y * y
    for _ in range(_SWEEPS):
        for i in range(n):
            total = 0.0
            for j in range(n):
                total += sizes[i, j] * columns[j] * columns[j]
            rows[i] = _inverse_root(total)
        for j in range(n):
            columns[j] = 0.0
        for i in range(n):
            for j in range(n):
                columns[j] += sizes[i, j] * rows[i] * rows[i]
        for j in range(n):
            columns[j] = _inverse_root(columns[j])
    for i in range(n):
        for j in range(n):
            left[i, j] *= rows[i] * columns[j]
            right[i, j] *= rows[i] * columns[j]


@numba.njit(**INNER)
def _inverse_root(square):
    """Return the power of two next to 1/sqrt(square); 1 of 0."""
    return math.ldexp(1.0, -round(math.log2(square) / 2)) if 0 < square < math.inf else 1.0
