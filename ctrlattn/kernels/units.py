"""A - z I for z = 1 and -1 (0 in continuous time) in Hessenberg form, of a system of one input and one output.

Reference: `ctrlattn.linear.transfer`.
"""

import math

import numba
import numpy as np

from ctrlattn.kernels.lapack import BLOCK, dgehrd


@numba.njit(cache=True, nogil=True)
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
