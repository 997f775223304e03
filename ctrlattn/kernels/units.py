"""A system of one input and one output with its states in equal units, and A - z I for z = 1 and -1 (0 in continuous
time) in Hessenberg form.

Reference: `ctrlattn.linear.balancing` and `ctrlattn.linear.transfer`.
"""

import math

import numba
import numpy as np

from ctrlattn.kernels.lapack import BLOCK, KERNEL, SCALE, dgebal, dgehrd


@numba.njit(**KERNEL, error_model="numpy")
def in_equal_units(a, b, c, rate):
    """(D^-1 A D/rate, D^-1 B/rate, C D), D in powers of two: rows and columns of the system are of equal size."""
    n, into, away = len(a), 0.0, 0.0
    for i in range(n):
        into, away = max(into, abs(b[i, 0])), max(away, abs(c[0, i]))
    # Inputs in units of outputs are one factor of all states: taken out first, no scale is very large.
    common = (math.frexp(into)[1] - math.frexp(away)[1]) // 2 if into > 0 and away > 0 else 0
    down, up = math.ldexp(1.0, -common), math.ldexp(1.0, common)
    sizes, scale = np.zeros((n + 1, n + 1)), np.empty(n + 1)
    for i in range(n):
        sizes[n, i], sizes[i, n] = abs(b[i, 0] * down), abs(c[0, i] * up)
        for j in range(n):
            sizes[j, i] = abs(a[i, j]) if i != j else 0.0
    dgebal(SCALE, n + 1, sizes, n + 1, 1, n + 1, scale)
    scaled, right, out = np.empty((n, n)), np.empty((n, 1)), np.empty((1, n))
    for i in range(n):
        scale[i] = scale[i] / scale[n] * up
    for i in range(n):
        right[i, 0], out[0, i] = b[i, 0] / scale[i] / rate, c[0, i] * scale[i]
        for j in range(n):
            scaled[i, j] = a[i, j] * scale[j] / scale[i] / rate
    return scaled, right, out


@numba.njit(**KERNEL)
def single_reduced(a, b, c, continuous):
    """(H transposed (k, n, n), b (k, 1, n), c (k, 1, n)) for each centre; b has one entry that is not zero.

    Reducing [[0, c], [b, A]] leaves its corner where it is. In one unit, powers of two, no part rounds another.
    """
    n, count = len(a), 1 if continuous else 2
    columns, right, out = np.empty((count, n, n)), np.zeros((count, 1, n)), np.empty((count, 1, n))
    room = (n + 1 + BLOCK + 1) * BLOCK
    matrix, tau, work = np.empty((n + 1, n + 1)), np.empty(n + 1), np.empty(room)
    for k in range(count):
        centre, largest, into, away = 0.0 if continuous else 1.0 - 2 * k, 0.0, 0.0, 0.0
        for i in range(n):
            for j in range(n):
                x = a[i, j] - (centre if i == j else 0.0)
                matrix[1 + j, 1 + i] = x
                largest = max(largest, abs(x))
            into, away = max(into, abs(b[i, 0])), max(away, abs(c[0, i]))
        unit = math.frexp(largest)[1]
        to_b, to_c = math.frexp(into)[1] - unit, math.frexp(away)[1] - unit
        matrix[0, 0] = 0.0
        for i in range(n):
            matrix[0, i + 1] = b[i, 0] * math.ldexp(1.0, -to_b)
            matrix[i + 1, 0] = c[0, i] * math.ldexp(1.0, -to_c)
        dgehrd(n + 1, 1, n + 1, matrix, n + 1, tau, work, room)
        right[k, 0, 0] = matrix[0, 1] * math.ldexp(1.0, to_b)
        for i in range(n):
            out[k, 0, i] = matrix[i + 1, 0] * math.ldexp(1.0, to_c)
            for j in range(n):
                columns[k, j, i] = matrix[1 + j, 1 + i]
    return columns, right, out
