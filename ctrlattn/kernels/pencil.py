"""L - s R, singular where sigma_max(G) = level, and D_1 (L - s R) D_2 with rows and columns of length 1, about.

References: `ctrlattn.stability.robustness.level_sets`; rows of |L|^2 + |R|^2 times the squared scales, in numpy.
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


@numba.njit(cache=True, nogil=True)
def level_pencil(a, b, c, d, level, continuous):
    """(L, R) of a real system, balanced."""
    n, inputs = b.shape
    outputs, root = len(c), np.sqrt(level)
    size = 2 * n + inputs
    left, right = np.zeros((size, size)), np.zeros((size, size))
    for i in range(n):
        for j in range(n):
            left[i, j], left[n + i, n + j] = a[i, j], -a[j, i]
            for k in range(outputs):
                left[n + i, j] -= (c[k, i] / root) * (c[k, j] / root)
        for j in range(inputs):
            left[i, 2 * n + j] = left[2 * n + j, n + i] = b[i, j] / root
            for k in range(outputs):
                left[2 * n + j, i] += (d[k, j] / level) * (c[k, i] / root)
            left[n + i, 2 * n + j] = -left[2 * n + j, i]
    for i in range(inputs):
        left[2 * n + i, 2 * n + i] = -1.0
        for j in range(inputs):
            for k in range(outputs):
                left[2 * n + i, 2 * n + j] += (d[k, i] / level) * (d[k, j] / level)
    for i in range(size):
        if continuous:
            right[i, i] = 1.0 if i < 2 * n else 0.0
            continue
        for j in range(size):
            right[i, j] = -left[i, j] if n <= i < 2 * n else left[i, j]
        if i < 2 * n:
            left[i, i] += -1.0 if i < n else 1.0
            right[i, i] += 1.0
    balance_pencil(left, right)
    return left, right
