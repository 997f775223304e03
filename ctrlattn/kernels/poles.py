"""Re s < 0, |z| < 1 of the poles of a real matrix, where that is clear.

Reference: `ctrlattn.linear.boundary`, which also decides what is not clear.
"""

import math

import numba
import numpy as np

from ctrlattn.kernels.lapack import BLOCK, KERNEL, NO, SCALE, dgebal, dgeev, is_moderate, zgesv

_EPS = float(np.finfo(float).eps)
UNCLEAR = -1


@numba.njit(**KERNEL, error_model="numpy")
def clear_poles(a, continuous, clear):
    """Return (1: all inside, 0: one is not, UNCLEAR; the poles) of a matrix (n, n) without zero blocks.

    `clear` is the distance from the boundary, and of the matrix there from a singular one, in roundings of A.
    """
    n = len(a)
    re, im, scale, matrix, shifted = np.empty(n), np.empty(n), np.empty(n), np.empty((n, n)), np.empty((n, n))
    poles = np.empty(n, np.complex128)
    for i in range(n):
        for j in range(n):
            matrix[j, i] = abs(a[i, j]) if i != j else 0.0
    dgebal(SCALE, n, matrix, n, 1, n, scale)
    trace, total = 0.0, 0.0
    for i in range(n):
        trace += a[i, i]
        for j in range(n):
            shifted[i, j] = a[i, j] * scale[j] / scale[i]
            total += shifted[i, j] * shifted[i, j]
    centre = 0.0 if continuous else (1.0 if trace >= 0 else -1.0)
    for i in range(n):
        shifted[i, i] -= centre
        for j in range(n):
            matrix[j, i] = shifted[i, j]
    room = (2 + BLOCK) * n
    work = np.empty(room)
    if not is_moderate(shifted) or dgeev(NO, NO, n, matrix, n, re, im, work, 1, work, 1, work, room) != 0:
        return UNCLEAR, poles
    outermost, first = -np.inf, 0
    for i in range(n):
        growth = re[i]
        if not continuous:
            size = np.hypot(re[i], im[i])
            growth = (2 * centre * re[i] + size * size) / (1 + np.hypot(re[i] + centre, im[i]))
        if not np.isfinite(growth):
            return UNCLEAR, poles
        if growth > outermost:
            outermost, first = growth, i
    x, y = 0.0, im[first]
    if not continuous:
        size = np.hypot(re[first] + centre, im[first])
        x, y = (1.0, 0.0) if size == 0 else ((re[first] + centre) / size, im[first] / size)
    for i in range(n):
        poles[i] = complex(re[i] + centre, im[i])
    # Far from singular, by the norm of the inverse of A less the point of the boundary.
    pivots, inverse = np.empty(n, np.int32), 0.0
    difference, columns = np.empty((n, n), np.complex128), np.zeros((n, n), np.complex128)
    for i in range(n):
        for j in range(n):
            difference[i, j] = shifted[i, j]
        difference[i, i] -= complex(x - centre, y)
        columns[i, i] = 1.0
    info = zgesv(n, n, difference, n, pivots, columns, n)
    for row in columns:
        for z in row:
            inverse += z.real * z.real + z.imag * z.imag
    distance = clear * n * _EPS * math.sqrt(total)
    if info == 0 and abs(outermost) > distance and math.sqrt(inverse) * distance < 1:
        return int(outermost < 0), poles
    return UNCLEAR, poles
