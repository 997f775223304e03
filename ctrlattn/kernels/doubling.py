"""F F* = B B* + A B B* A* + ... and E = R + A R A* + ..., for few states, by doubling: A is squared at each step.

Reference: ctrlattn.stability.robustness.gramians, in plain numpy.
"""

import numba
import numpy as np

_FAST = {"reassoc", "contract", "nsz", "arcp"}
_EPS = float(np.finfo(float).eps)


@numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def factor(a, b, powers, known=0):
    """(F transposed, upper triangular (n, n); number of powers): those of A transposed are left in `powers` (k, n, n).

    The first `known` of them stand there already. The number is 0 where the powers grow beyond all floats, and one more
    than there is room for where they do not vanish.
    """
    n = len(a)
    r, below = np.zeros((n, n)), np.zeros((n, n))
    for j in range(b.shape[1]):
        for i in range(n):
            below[0, i] = b[i, j]
        _triangular(r, below, 1)
    rank = _rank(r)
    if known == 0:
        for i in range(n):
            for j in range(n):
                powers[0, i, j] = a[j, i]
    for k in range(len(powers)):
        power = powers[k]
        size, step = 0.0, 0.0
        for i in range(rank):
            for j in range(n):
                below[i, j] = 0.0
                size += r[i, j] * r[i, j]
            for m in range(i, n):
                for j in range(n):
                    below[i, j] += r[i, m] * power[m, j]
            for j in range(n):
                step += below[i, j] * below[i, j]
        if not np.isfinite(step):
            return r, 0
        if np.sqrt(step) <= _EPS * _EPS * np.sqrt(size):
            return r, k + 1
        _triangular(r, below, rank)
        rank = _rank(r)
        if known <= k + 1 < len(powers):
            _product(power, power, powers[k + 1])
    return r, len(powers) + 1


@numba.njit(cache=True, nogil=True)
def _rank(r):
    """Rows up to the last that is not zero."""
    n = len(r)
    for i in range(n - 1, -1, -1):
        for j in range(i, n):
            if r[i, j] != 0.0:
                return i + 1
    return 0


@numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _triangular(r, below, count):
    """R of [R; first rows of `below`], in place, by reflections: each takes a row of R and all rows below."""
    n = len(r)
    w = np.empty(n)
    for j in range(n):
        largest = abs(r[j, j])
        for i in range(count):
            largest = max(largest, abs(below[i, j]))
        if largest == 0.0:
            continue
        total = (r[j, j] / largest) ** 2
        for i in range(count):
            total += (below[i, j] / largest) ** 2
        length = -np.copysign(largest * np.sqrt(total), r[j, j])
        top = r[j, j] - length
        for m in range(j + 1, n):
            w[m] = r[j, m]
        for i in range(count):
            v = below[i, j] / top
            below[i, j] = v
            for m in range(j + 1, n):
                w[m] += v * below[i, m]
        scale = -top / length
        for m in range(j + 1, n):
            w[m] *= scale
            r[j, m] -= w[m]
        for i in range(count):
            v = below[i, j]
            for m in range(j + 1, n):
                below[i, m] -= v * w[m]
        r[j, j] = length


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def summed(residual, powers):
    """R + A R A* + ... for a symmetric R, with the powers that `factor` has left."""
    n = len(residual)
    e, half, transposed, step = residual.copy(), np.empty((n, n)), np.empty((n, n)), np.empty((n, n))
    for power in powers:
        for i in range(n):
            for j in range(n):
                transposed[j, i] = power[i, j]
        _product(transposed, e, half)
        _product(half, power, step)
        size, change = 0.0, 0.0
        for i in range(n):
            for j in range(n):
                e[i, j] += step[i, j]
                size += e[i, j] * e[i, j]
                change += step[i, j] * step[i, j]
        if np.sqrt(change) <= _EPS * np.sqrt(size):
            break
    return e


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def _product(a, b, out):
    n = len(a)
    for i in range(n):
        for j in range(n):
            out[i, j] = 0.0
        for k in range(n):
            for j in range(n):
                out[i, j] += a[i, k] * b[k, j]
