"""D_1 (L - s R) D_2 with rows and columns of both matrices together of length 1, about.

Reference: rows of |L|^2 + |R|^2 times the squared scales, in numpy.
"""

import numba
import numpy as np

_SWEEPS = 6  # of the balancing of a pencil


@numba.njit(cache=True, nogil=True)
def balance_pencil(left, right):
    """Both matrices in place, by powers of two: QZ rounds relative to the largest entry."""
    n = len(left)
    sizes = np.abs(left) ** 2 + np.abs(right) ** 2
    rows, columns = np.ones(n), np.ones(n)
    for _ in range(_SWEEPS):
        for i in range(n):
            total = 0.0
            for j in range(n):
                total += sizes[i, j] * columns[j] * columns[j]
            rows[i] = 2.0 ** -np.round(np.log2(total) / 2) if total > 0 else 1.0
        for j in range(n):
            columns[j] = 0.0
        for i in range(n):
            for j in range(n):
                columns[j] += sizes[i, j] * rows[i] * rows[i]
        for j in range(n):
            columns[j] = 2.0 ** -np.round(np.log2(columns[j]) / 2) if columns[j] > 0 else 1.0
    for i in range(n):
        for j in range(n):
            left[i, j] *= rows[i] * columns[j]
            right[i, j] *= rows[i] * columns[j]
