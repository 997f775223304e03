"""L by plain solves, and the poles of 1 + K L = 0 for gains and rotations K, of one real loop.

Reference: `numpy.linalg.solve` point by point, `numpy.linalg.eigvals`.
"""

import math

import numba
import numpy as np

from ctrlattn.kernels.lapack import BLOCK, KERNEL, NO, dgeev, is_moderate, zgeev, zgesv


@numba.njit(**KERNEL)
def plain_values(a, b, c, d, w, continuous):
    """Return L by one plain solve a frequency, which shares no step with the Hessenberg form; infinite at a pole."""
    n, response = len(a), np.empty(len(w), np.complex128)
    shifted, x, pivots = np.empty((n, n), np.complex128), np.empty(n, np.complex128), np.empty(n, np.int32)
    for k in range(len(w)):
        re, im = d[0, 0], 0.0
        if n > 0 and math.isfinite(w[k]):
            point = complex(0.0, w[k]) if continuous else complex(math.cos(w[k]), math.sin(w[k]))
            for i in range(n):
                for j in range(n):
                    shifted[j, i] = -a[i, j]
                shifted[i, i] += point
                x[i] = b[i, 0]
            if zgesv(n, 1, shifted, n, pivots, x, n) != 0:
                re, im = np.inf, 0.0
            else:
                for i in range(n):
                    re += c[0, i] * x[i].real
                    im += c[0, i] * x[i].imag
        response[k] = complex(re, im)
    return response


@numba.njit(**KERNEL, error_model="numpy")
def largest_growth(a, b, c, d, gains, continuous):
    """Return the largest growth of a pole of 1 + K L = 0 for each complex gain K: |z| - 1, or Re s relative to the
    largest; nan where LAPACK has no answer, and -inf where the loop is not well posed."""
    n, growth, room = len(a), np.empty(len(gains)), (2 + BLOCK) * len(a)
    re, im, real = np.empty(n), np.empty(n), np.empty((n, n))
    closed, poles = np.empty((n, n), np.complex128), np.empty(n, np.complex128)
    work, complex_work, more = np.empty(room), np.empty(room, np.complex128), np.empty(2 * n)
    for k in range(len(gains)):
        growth[k] = -np.inf
        direct = 1 + gains[k] * d[0, 0]
        if direct == 0:
            continue
        factor = gains[k] / direct
        for i in range(n):
            for j in range(n):
                real[i, j] = a[i, j] - b[i, 0] * c[0, j] * factor.real
                closed[i, j] = complex(real[i, j], -b[i, 0] * c[0, j] * factor.imag)
        info = 1 - is_moderate(real)
        if info == 0 and factor.imag == 0:
            info = dgeev(NO, NO, n, real, n, re, im, work, 1, work, 1, work, room)
        elif info == 0:
            info = zgeev(NO, NO, n, closed, n, poles, poles, 1, poles, 1, complex_work, room, more)
        largest, size = -np.inf, 0.0
        for i in range(n):
            x, y = (re[i], im[i]) if factor.imag == 0 else (poles[i].real, poles[i].imag)
            size = max(size, math.hypot(x, y))
            largest = max(largest, x)
        growth[k] = np.nan if info != 0 else (largest / size if continuous else size - 1)
    return growth
