"""sigma_max(G) = level in discrete time, where: imaginary eigenvalues of a Hamiltonian matrix, of a real system.

Reference: `ctrlattn.stability.robustness.level_sets`, which also answers where there is no answer here.
"""

import math

import numba
import numpy as np

from ctrlattn.kernels.lapack import BLOCK, KERNEL, NO, TURNED, dgeev, dgemm, dgesv, dgesvd, is_moderate


@numba.njit(**KERNEL, error_model="numpy")
def crossings_about(sign, a, c, b, d, level, near, sound):
    """Return (frequencies, condition) from G(z (1 + s)/(1 - s)) for z = 1 or -1, as `sign` says; the condition is that
    of the map and of I - D'D/level^2, infinite where LAPACK has no answer. Beyond `sound` no frequency is looked for.

    What stands in memory row by row is, column by column, the system of A', C', B', D', whose singular values are the
    same: LAPACK and BLAS are given that one. Their calls compile in a tenth of the time of the loops that they are.
    """
    n, inputs, outputs = len(a), len(b), c.shape[1]
    twice, room, count, square, inverse, largest = 2 * n, (2 + BLOCK) * 2 * n, 0, 0.0, 0.0, 0.0
    x, y = np.zeros((twice + inputs, n)), np.empty((n + inputs, outputs))
    closing, output = np.empty((twice, inputs)), np.zeros((twice, outputs))
    whole, inner, direct = np.zeros((twice, twice)), np.zeros((inputs, inputs)), np.empty((inputs, outputs))
    values, pivots, root = np.empty(2 * twice + room), np.empty(twice, np.int32), math.sqrt(2 / level)
    work, into, im = (values, 2 * twice), (x, twice * n), (values, twice)
    for i in range(n):
        for j in range(n):
            whole[i, j] = x[i, j] = sign * a[i, j]
        whole[i, i] += 1.0
        x[i, i] -= 1.0
        x[n + i, i] = 1.0
        for k in range(inputs):
            x[twice + k, i] = sign * b[k, i]
    # (I + A)^-1 [A - I, I, B], and C times the last two.
    info = dgesv(n, twice + inputs, whole, twice, pivots, x, n)
    dgemm(NO, NO, outputs, n + inputs, n, 1.0, c, outputs, (x, n * n), n, 0.0, y, outputs)
    for i in range(n):
        for j in range(n):
            inverse += x[n + i, j] * x[n + i, j]
            whole[i, j], whole[n + j, n + i] = x[i, j], -x[i, j]
            square += x[i, j] * x[i, j]
        for k in range(inputs):
            x[twice + k, i] *= root
            closing[n + i, k] = x[twice + k, i]
        for p in range(outputs):
            y[i, p] *= root
            output[i, p] = y[i, p]
    for k in range(inputs):
        inner[k, k] = 1.0
        for p in range(outputs):
            y[n + k, p] = direct[k, p] = (d[k, p] - y[n + k, p]) / level
            largest = max(largest, abs(direct[k, p]))
    if info == 0 and largest > 0:
        info = dgesvd(NO, NO, outputs, inputs, (y, n * outputs), outputs, values, x, 1, x, 1, work, room)
        largest = values[0]
    share = 1 - largest * largest
    condition = max(math.sqrt(inverse), 1 / share) if info == 0 and share > 0 else np.inf
    # u = (I - D'D)^-1 [D'C, B'] [x; p], y = [C, 0] + D u, x' = A x + B u, p' = -A' p - C' y.
    dgemm(TURNED, NO, inputs, n, outputs, 1.0, direct, outputs, y, outputs, 0.0, closing, inputs)
    dgemm(TURNED, NO, inputs, inputs, outputs, -1.0, direct, outputs, direct, outputs, 1.0, inner, inputs)
    info = dgesv(inputs, twice, inner, inputs, pivots, closing, inputs)
    dgemm(NO, NO, n, twice, inputs, 1.0, into, n, closing, inputs, 1.0, whole, twice)
    dgemm(NO, NO, outputs, twice, inputs, 1.0, direct, outputs, closing, inputs, 1.0, output, outputs)
    dgemm(TURNED, NO, n, twice, outputs, -1.0, y, outputs, output, outputs, 1.0, (whole, n), twice)
    if info != 0 or not is_moderate(whole):
        condition = np.inf
    if not condition <= sound:
        twice = 0
    if dgeev(NO, NO, twice, whole, max(twice, 1), values, im, work, 1, work, 1, work, room) != 0:
        twice, condition = 0, np.inf
    for k in range(twice):  # of each pair of conjugates one is enough
        x_re, x_im = values[k], values[twice + k]
        if x_im >= 0 and abs(x_re) <= near * math.hypot(x_re, x_im) + 1e-9 * math.sqrt(square):
            w = 2 * math.atan(x_im)
            values[count] = w if sign > 0 else math.pi - w
            count += 1
    return values[:count], condition
