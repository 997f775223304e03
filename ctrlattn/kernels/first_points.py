"""Where the response of one real loop is looked at first: about its poles, and beside what two pencils suggest.

Reference: `ctrlattn.stability.boundary_search.start_grid`, and for the pencils
`ctrlattn.stability.robustness.loop_curve` with `ctrlattn.stability.robustness.level_sets`.
"""

import math

import numba
import numpy as np

from ctrlattn.kernels.lapack import INNER, KERNEL, NO, dggev
from ctrlattn.kernels.pencil import balance_pencil

_TINY = 1e-300  # a root below it is at 0


@numba.njit(**KERNEL, error_model="numpy")
def first_points(poles, continuous, per_decade, middle, offsets, seeds, beside):
    """Return frequencies inside the boundary, in no order: from both ends in steps of a decade, about each pole at
    `offsets` of its distance from the boundary, and by the shares `beside` off what the pencils suggest."""
    low, high, end = 1.0, 1.0, np.pi
    for pole in poles:
        if abs(pole) > _TINY:
            low, high = min(low, abs(pole - 1)), min(high, abs(pole + 1))
    low, high = 1e-3 * max(low, 1e-12), 1e-3 * max(high, 1e-12)
    top = 1.0
    if continuous:
        low, high, end = np.inf, 0.0, np.inf
        for pole in poles:
            if abs(pole) > _TINY:
                low, high = min(low, abs(pole)), max(high, abs(pole))
        low, top = (1e-3 * low, 1e3 * high) if high > 0 else (1e-3, 1e3)
    steps = int(per_decade * math.log10(top / low)) + 1
    others = int(per_decade * math.log10(1 / high)) + 1 if not continuous else 0
    room = steps + others + 2 + len(middle) + len(poles) * len(offsets) + len(seeds) * len(beside)
    w, count, slope = np.empty(room), 0, math.log(top / low) / steps
    for k in range(steps + 1):
        w[count] = low * math.exp(k * slope)
        count += 1
    if not continuous:
        slope = math.log(1 / high) / others
        for k in range(others + 1):
            w[count] = math.pi - high * math.exp(k * slope)
            count += 1
        for x in middle:
            w[count] = x
            count += 1
    for pole in poles:
        angle = abs(pole.imag) if continuous else abs(math.atan2(pole.imag, pole.real))
        distance = abs(pole.real) if continuous else abs(1 - abs(pole))
        if abs(pole) > _TINY and angle > 0 and distance < 0.3 * min(angle, end - angle):
            for x in offsets:
                w[count] = angle + max(distance, 1e-12) * x
                count += 1
    first, last = end, 0.0
    for k in range(count):
        if 0 < w[k] < end:
            first, last = min(first, w[k]), max(last, w[k])
    for seed in seeds:
        if first < seed < last:
            for x in beside:
                w[count] = (1 + x) * seed
                count += 1
    inside = 0
    for k in range(count):
        if 0 < w[k] < end:
            w[inside] = w[k]
            inside += 1
    return w[:inside]


@numba.njit(**KERNEL, error_model="numpy")
def suggested(a, b, c, d, continuous, near, nearer):
    """Return (frequencies near which L is real or |L| = 1, whether QZ converged), by two pencils of L and its adjoint.

    A real L is an eigenvalue of the first one as far as `near` says, and |L| = 1 of the second as far as `nearer` does.
    """
    n, u, square = len(a), 2 * len(a), 0.0
    size, room = u + 1, 16 * (u + 1)
    re, im, bottom, work = np.empty(size), np.empty(size), np.empty(size), np.empty(room)
    hits, count = np.empty(2 * size), 0
    for i in range(n):
        for j in range(n):
            square += a[i, j] * a[i, j]
    for of_circle in range(2):
        left, right = np.zeros((size, size)), np.zeros((size, size))
        direct, sign = (d[0, 0], 1.0) if of_circle else (1.0, -1.0)
        for i in range(n):
            for j in range(n):
                left[i, j], left[n + i, n + j] = a[i, j], -a[j, i]
                left[n + i, j] = -of_circle * c[0, i] * c[0, j]
            left[i, u], left[n + i, u] = b[i, 0], -c[0, i] * direct
            left[u, i], left[u, n + i] = direct * c[0, i], sign * b[i, 0]
        left[u, u] = direct * direct - 1  # 0 of the first
        for i in range(u):
            side = 1.0 if i < n else -1.0
            if not continuous:
                for j in range(size):
                    right[i, j] = side * left[i, j]
                right[u, i] = of_circle * left[u, i]
                left[i, i] -= side
            right[i, i] += 1.0
        if of_circle:
            right[u, u] = 0.0 if continuous else left[u, u]
            balance_pencil(left, right)
        if dggev(NO, NO, size, left, size, right, size, re, im, bottom, work, 1, work, 1, work, room) != 0:
            return hits[:count], False
        for k in range(size):
            if of_circle:
                w = _of_circle(re[k], im[k], bottom[k], continuous, nearer, math.sqrt(square))
            else:
                w = _of_real_axis(re[k] / bottom[k], im[k] / bottom[k], continuous, near)
            if w >= 0:
                hits[count] = w
                count += 1
    return hits[:count], True


@numba.njit(**INNER, error_model="numpy")
def _of_real_axis(x, y, continuous, near):
    """Return the frequency of (z - 1)/(z + 1) = i tan(w/2), or of s; -1 where it is none."""
    size = math.hypot(x, y)
    if not (math.isfinite(size) and y > 0 and abs(x) <= near * size):
        return -1.0
    return size if continuous else 2 * math.atan(size)


@numba.njit(**INNER, error_model="numpy")
def _of_circle(re, im, bottom, continuous, near, norm):
    """Return the frequency of (re + i im)/bottom; -1 where it is none."""
    size = math.hypot(re, im)
    if continuous:
        if not abs(bottom) > 1e-14 * math.hypot(size, bottom):
            return -1.0
        return abs(im / bottom) if abs(re / bottom) <= near * size / abs(bottom) + 1e-9 * norm else -1.0
    if bottom == 0:  # an infinite one is z = -1
        re, im = -im, re
    elif bottom < 0:
        re, im, bottom = -re, -im, -bottom
    on_circle = 1e-9 * (bottom + size * size / max(bottom, 1e-300))
    return abs(2 * math.atan2(im, bottom)) if abs(re) <= near * size + on_circle else -1.0
