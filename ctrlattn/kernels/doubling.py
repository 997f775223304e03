"""F F* = B B* + A B B* A* + ... and a bound of R + A R A* + ..., for few states, by doubling: A, A^2, A^4 ...

Reference: ctrlattn.stability.robustness.power_sums, in plain numpy.
"""

import numba
import numpy as np

from ctrlattn.kernels.lapack import INNER, KERNEL

_FAST = {"reassoc", "contract", "nsz", "arcp"}
_EPS = float(np.finfo(float).eps)


@numba.njit(**KERNEL, fastmath=_FAST, error_model="numpy")
def squares(a, most):
    """Return (A, A^2, A^4 ..., (k, n, n); their sizes; whether the next one overflows), until they vanish.

    Sizes are roots of sums of squares. There are `most` of them at most.
    """
    n, count, overflow = len(a), 1, False
    powers, sizes = np.empty((most, n, n)), np.empty(most)
    for i in range(n):
        for j in range(n):
            powers[0, i, j] = a[i, j]
    sizes[0] = _size(powers[0])
    while count < most and sizes[count - 1] > _EPS * _EPS:
        last, square = powers[count - 1], powers[count]
        for i in range(n):
            for j in range(n):
                square[i, j] = 0.0
            for k in range(n):
                for j in range(n):
                    square[i, j] += last[i, k] * last[k, j]
        sizes[count] = _size(square)
        if not sizes[count] < np.inf:
            overflow = True
            break
        count += 1
    return powers[:count], sizes[:count], overflow


@numba.njit(**KERNEL, fastmath=_FAST, error_model="numpy")
def factor(b, powers):
    """Return (F, lower triangular (n, n); whether the last steps vanish), from the squares of A."""
    n = len(b)
    f, step = np.zeros((n, n)), np.zeros((n, n))
    for j in range(b.shape[1]):
        for i in range(n):
            step[i, 0] = b[i, j]
        _join(f, step, 1)
    rank = _rank(f)
    for power in powers:
        for i in range(n):
            for j in range(rank):
                step[i, j] = 0.0
            for k in range(n):
                for j in range(rank):
                    step[i, j] += power[i, k] * f[k, j]
        size, change = 0.0, 0.0
        for i in range(n):
            for j in range(rank):
                size += f[i, j] * f[i, j]
                change += step[i, j] * step[i, j]
        if np.sqrt(change) <= _EPS * _EPS * np.sqrt(size):
            return f, True
        _join(f, step, rank)
        rank = _rank(f)
    return f, False


@numba.njit(**INNER)
def _rank(f):
    """Return the number of columns up to the last that is not zero."""
    n = len(f)
    for j in range(n - 1, -1, -1):
        for i in range(j, n):
            if f[i, j] != 0.0:
                return j + 1
    return 0


@numba.njit(**INNER, fastmath=_FAST, error_model="numpy")
def _join(f, step, count):
    """Make F that of F F* + S S*, S the first columns of `step`, in place: a reflection for each row takes S out of it.

    A reflection turns one column of F and all of S, so that what it reads of each row lies in one piece.
    """
    n = len(f)
    for j in range(n):
        largest = abs(f[j, j])
        for i in range(count):
            largest = max(largest, abs(step[j, i]))
        if largest == 0.0:
            continue
        total = (f[j, j] / largest) ** 2
        for i in range(count):
            total += (step[j, i] / largest) ** 2
        length = -np.copysign(largest * np.sqrt(total), f[j, j])
        top = f[j, j] - length
        for i in range(count):
            step[j, i] /= top
        scale = -top / length
        for m in range(j + 1, n):
            along = f[m, j]
            for i in range(count):
                along += step[j, i] * step[m, i]
            along *= scale
            f[m, j] -= along
            for i in range(count):
                step[m, i] -= along * step[j, i]
        f[j, j] = length


@numba.njit(**KERNEL, fastmath=_FAST)
def bounded(residual, powers, tails, enough):
    """Return a bound of ||R + A R A* + ...||_F for a symmetric R; as few terms are summed as bring it to `enough`.

    `tails` bounds, for each k, the sum of all ||A^(m 2^k)||^2; a sum without an end is its own bound.
    """
    n = len(residual)
    e, half = residual.copy(), np.empty((n, n))
    size = _size(e)
    for k in range(len(powers)):
        if size * tails[k] <= enough:
            return size * tails[k]
        power, change = powers[k], 0.0
        for i in range(n):
            for j in range(n):
                half[i, j] = 0.0
            for m in range(n):
                for j in range(n):
                    half[i, j] += power[i, m] * e[m, j]
        for i in range(n):
            for j in range(n):
                step = 0.0
                for m in range(n):
                    step += half[i, m] * power[j, m]
                change += step * step
                e[i, j] += step
        size = _size(e)
        if np.sqrt(change) <= _EPS * size:
            break
    return size


@numba.njit(**INNER, fastmath=_FAST)
def _size(a):
    total = 0.0
    for i in range(len(a)):
        for j in range(len(a)):
            total += a[i, j] * a[i, j]
    return np.sqrt(total)
