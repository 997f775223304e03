"""Re s < 0, |z| < 1 of the poles of a real matrix, where that is clear; states in equal units.

Reference: `ctrlattn.linear.boundary` and `ctrlattn.linear.balancing`, which also decide what is not clear.
"""

import math

import numba
import numpy as np

from ctrlattn.kernels.lapack import complex_solved, eigenvalues, scales, solved

_EPS = float(np.finfo(float).eps)
UNCLEAR = -1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def clear_poles(a, continuous, clear):
    """(1: all inside, 0: one is not, UNCLEAR; real parts; imaginary parts) of a matrix (n, n) without zero blocks.

    `clear` is the distance from the boundary, and of the matrix there from a singular one, in roundings of A.
    """
    n = len(a)
    a = _in_equal_units(a)
    trace, total = 0.0, 0.0
    for i in range(n):
        trace += a[i, i]
        for j in range(n):
            total += a[i, j] * a[i, j]
    centre = 0.0 if continuous else (1.0 if trace >= 0 else -1.0)
    for i in range(n):
        a[i, i] -= centre
    re, im, info = eigenvalues(a)
    if info != 0:
        return UNCLEAR, re, im
    outermost, first = -np.inf, 0
    for i in range(n):
        growth = re[i]
        if not continuous:
            size = np.hypot(re[i], im[i])
            growth = (2 * centre * re[i] + size * size) / (1 + np.hypot(re[i] + centre, im[i]))
        if not np.isfinite(growth):
            return UNCLEAR, re, im
        if growth > outermost:
            outermost, first = growth, i
    x, y = 0.0, im[first]
    if not continuous:
        size = np.hypot(re[first] + centre, im[first])
        x, y = ((re[first] + centre) / size, im[first] / size) if size > 0 else (1.0, 0.0)
    distance = clear * n * _EPS * np.sqrt(total)
    far = abs(outermost) > distance and _inverse_norm(a, x - centre, y) * distance < 1
    for i in range(n):
        re[i] += centre
    return (int(outermost < 0) if far else UNCLEAR), re, im


@numba.njit(cache=True, nogil=True)
def _in_equal_units(a):
    n = len(a)
    sizes = np.abs(a)
    for i in range(n):
        sizes[i, i] = 0.0
    scale = scales(sizes)
    units = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            units[i, j] = a[i, j] * scale[j] / scale[i]
    return units


@numba.njit(cache=True, nogil=True)
def _inverse_norm(a, x, y):
    """||(A - (x + i y) I)^-1||, Frobenius; inf of a singular one."""
    n = len(a)
    total = 0.0
    if y == 0.0:
        real = a.copy()
        for i in range(n):
            real[i, i] -= x
        inverse, info = solved(real, np.eye(n))
        total = np.sum(inverse * inverse)
    else:
        shifted = a.astype(np.complex128)
        for i in range(n):
            shifted[i, i] -= complex(x, y)
        turned, info = complex_solved(shifted, np.eye(n).astype(np.complex128))
        for row in turned:
            for z in row:
                total += z.real * z.real + z.imag * z.imag
    return np.sqrt(total) if info == 0 else np.inf


@numba.njit(cache=True, nogil=True, error_model="numpy")
def state_scaling(a, b, c):
    """The diagonal of D, powers of two, (n,), of real matrices."""
    n = len(a)
    into = np.abs(b).max() if b.size else 0.0
    out = np.abs(c).max() if c.size else 0.0
    common = 0
    if into > 0 and out > 0:
        common = (math.frexp(into)[1] - math.frexp(out)[1]) // 2
    down, up = math.ldexp(1.0, -common), math.ldexp(1.0, common)
    sizes = np.zeros((n + 1, n + 1))
    for i in range(n):
        for j in range(n):
            sizes[i, j] = abs(a[i, j])
        sizes[i, i] = 0.0
        row, column = 0.0, 0.0
        for j in range(b.shape[1]):
            row += (b[i, j] * down) ** 2
        for j in range(c.shape[0]):
            column += (c[j, i] * up) ** 2
        sizes[i, n] = abs(b[i, 0] * down) if b.shape[1] == 1 else np.sqrt(row)
        sizes[n, i] = abs(c[0, i] * up) if c.shape[0] == 1 else np.sqrt(column)
    scale = scales(sizes)
    return scale[:n] / scale[n] * up
