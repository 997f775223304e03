"""|C (zI - A)^-1| |dA| |(zI - A)^-1 B|: what rounding of A may change of a response, of a real system at one frequency.

Reference: `ctrlattn.stability.robustness.norms`.
"""

import math

import numba
import numpy as np

from ctrlattn.kernels.boundary import point
from ctrlattn.kernels.lapack import BLOCK, KERNEL, NO, TURNED, dgemm, zgemm, zgesvd, zgetrf, zgetrs


@numba.njit(**KERNEL, error_model="numpy")
def moved(a, b, c, d, w, continuous):
    """Return (how far |dA| = |z| + |A| moves G at most, Frobenius; sigma_max(G), by the outputs; is zI - A regular).

    On the circle A and z stand for what is left of them beside 1 or -1, whichever is nearer.
    """
    n, inputs, outputs = len(a), b.shape[1], len(c)
    side, re, im = point(w, 1 if continuous else 2)
    centre, total, room = 0.0 if continuous else 1.0 - 2 * side, 0.0, (inputs + outputs) * BLOCK
    matrix, response = np.empty((n, n), np.complex128), np.empty((inputs, outputs), np.complex128)
    b_solved, c_solved = np.empty((2 * inputs, n), np.complex128), np.empty((outputs, n), np.complex128)
    sizes, pivots, change = np.empty((n + 2 * inputs + outputs, n)), np.empty(n, np.int32), np.empty((inputs, outputs))
    work, values = np.empty(room, np.complex128), np.empty(6 * (inputs + outputs))
    for i in range(n):
        for j in range(n):
            entry = a[i, j] - (centre if i == j else 0.0)
            matrix[i, j], sizes[i, j] = -entry, abs(entry)
        matrix[i, i] += complex(re, im)
        for k in range(inputs):
            b_solved[k, i] = b_solved[inputs + k, i] = b[i, k]
        for p in range(outputs):
            c_solved[p, i] = c[p, i]
    info = zgetrf(n, n, matrix, n, pivots)
    # What stands in memory row by row is the transposed matrix to LAPACK.
    zgetrs(TURNED, n, inputs, matrix, n, pivots, b_solved, n)
    zgetrs(NO, n, outputs, matrix, n, pivots, c_solved, n)
    for i in range(n):
        for k in range(inputs):
            size = math.hypot(b_solved[k, i].real, b_solved[k, i].imag)
            sizes[n + k, i] = sizes[n + inputs + k, i] = size
        for p in range(outputs):
            sizes[n + 2 * inputs + p, i] = math.hypot(c_solved[p, i].real, c_solved[p, i].imag)
    for k in range(inputs):
        for p in range(outputs):
            response[k, p] = d[p, k]
    size, unit, x, product = math.hypot(re, im), complex(1.0, 0.0), (sizes, n * n), (sizes, (n + inputs) * n)
    weights, original = (sizes, (n + 2 * inputs) * n), (b_solved, inputs * n)
    dgemm(TURNED, NO, n, inputs, n, 1.0, sizes, n, x, n, size, product, n)
    dgemm(TURNED, NO, outputs, inputs, n, 1.0, weights, n, product, n, 0.0, change, outputs)
    zgemm(TURNED, NO, outputs, inputs, n, unit, c_solved, n, original, n, unit, response, outputs)
    finite = True
    for k in range(inputs):
        for p in range(outputs):
            total += change[k, p] * change[k, p]
            finite = finite and math.isfinite(response[k, p].real) and math.isfinite(response[k, p].imag)
    more = (values, inputs + outputs)
    if not finite or zgesvd(NO, NO, outputs, inputs, response, outputs, values, work, 1, work, 1, work, room, more):
        values[0] = np.inf
    return math.sqrt(total), values[0], info == 0
