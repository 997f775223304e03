"""Where the response of one real loop is looked at, L by plain solves, and loops under a gain or a rotation.

Reference: `ctrlattn.stability.boundary_search.start_grid`, `numpy.linalg.solve` point by point, `numpy.linalg.eigvals`.
"""

import math

import numba
import numpy as np

from ctrlattn.kernels.boundary import memory_of, respond
from ctrlattn.kernels.curve import refined, zeros
from ctrlattn.kernels.lapack import complex_eigenvalues, complex_solved, eigenvalues, pencil_eigenvalues
from ctrlattn.kernels.levels import distinct, pencil_crossings

_BESIDE = (-1e-3, -1e-6, 0.0, 1e-6, 1e-3)  # shares by which points of the grid lie beside a crossing


@numba.njit(cache=True, nogil=True, error_model="numpy")
def start_grid(re, im, continuous, per_decade, middle, offsets):
    """Frequencies that are logarithmic from both ends, as near as the closest root asks, and dense near each other."""
    n = len(re)
    low, high = (np.inf, 0.0) if continuous else (1.0, 1.0)
    for i in range(n):
        size = np.hypot(re[i], im[i])
        if size > 1e-300:
            low = min(low, size if continuous else np.hypot(re[i] - 1, im[i]))
            high = max(high, size) if continuous else min(high, np.hypot(re[i] + 1, im[i]))
    if continuous:
        low, high = (1e-3 * low, 1e3 * high) if high > 0 else (1e-3, 1e3)
        spans = ((low, high), (high, high))
    else:
        spans = ((1e-3 * max(low, 1e-12), 1.0), (1e-3 * max(high, 1e-12), 1.0))
    first, second = _steps(spans[0][0], spans[0][1], per_decade), _steps(spans[1][0], spans[1][1], per_decade)
    end = np.inf if continuous else np.pi
    grid, count = np.empty(first + second + 2 + len(middle) + n * len(offsets)), 0
    for k in range(first + 1):
        grid[count] = spans[0][0] * np.exp(k * (math.log(spans[0][1] / spans[0][0]) / first))
        count += 1
    if not continuous:
        for k in range(second + 1):
            grid[count] = np.pi - spans[1][0] * np.exp(k * (math.log(spans[1][1] / spans[1][0]) / second))
            count += 1
        for w in middle:
            grid[count] = w
            count += 1
    for i in range(n):
        size = np.hypot(re[i], im[i])
        angle = abs(im[i]) if continuous else abs(np.arctan2(im[i], re[i]))
        distance = abs(re[i]) if continuous else abs(1 - size)
        if size > 1e-300 and angle > 0 and distance < 0.3 * min(angle, end - angle):
            for offset in offsets:
                grid[count] = angle + max(distance, 1e-12) * offset
                count += 1
    grid = distinct(grid[:count])
    return grid[(grid > 0) & (grid < end)]


@numba.njit(cache=True, nogil=True)
def _steps(low, high, per_decade):
    return int(per_decade * math.log10(high / low)) + 1


@numba.njit(cache=True, nogil=True)
def seen(a, b, c, d, sides, continuous, w, pencils, near):
    """(w, L, functions) on a grid that adapts, from the ascending w; with `pencils` also beside their crossings."""
    if pencils:
        lines = real_axis_pencil(a, b, c, continuous)
        circle = pencil_crossings(a, b, c, d, 1.0, continuous, near)[0]
        more, count = np.empty(len(_BESIDE) * (len(lines) + len(circle))), 0
        for crossings in (lines, circle):
            for seed in crossings:
                if w[0] < seed < w[-1]:
                    for share in _BESIDE:
                        more[count] = (1 + share) * seed
                        count += 1
        w = distinct(np.concatenate((w, more[:count])))
        if not continuous:
            w = w[w < np.pi]
    return refined(sides, w)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def real_axis_pencil(a, b, c, continuous):
    """Frequencies near which L - L~ is singular, so that L is real."""
    n = len(a)
    size = 2 * n + 1
    left, right = np.zeros((size, size)), np.zeros((size, size))
    left[:n, :n], left[n : 2 * n, n : 2 * n] = a, -a.T
    left[:n, 2 * n], left[n : 2 * n, 2 * n] = b[:, 0], -c[0]
    left[2 * n, :n], left[2 * n, n : 2 * n] = c[0], -b[:, 0]
    if not continuous:
        right[: 2 * n] = left[: 2 * n]
        right[n : 2 * n] = -left[n : 2 * n]
    for i in range(2 * n):
        if not continuous:
            left[i, i] -= 1.0 if i < n else -1.0
        right[i, i] += 1.0
    re, im, bottom, info = pencil_eigenvalues(left, right)
    hits, count = np.empty(size), 0
    for k in range(size if info == 0 else 0):
        s = complex(re[k] / bottom[k], im[k] / bottom[k])  # (z - 1)/(z + 1) = i tan(w/2)
        if np.isfinite(s.real) and np.isfinite(s.imag) and s.imag > 0 and abs(s.real) <= 1e-2 * abs(s):
            hits[count] = abs(s) if continuous else 2 * np.arctan(abs(s))
            count += 1
    return hits[:count]


@numba.njit(cache=True, nogil=True)
def real_axis(sides, w, f):
    """w inside the grid where L is real and negative."""
    memory = memory_of(sides)
    roots, count = zeros(sides, w, f, 0), 0
    for x in roots:
        respond(sides, x, memory)
        re, im = memory.y_re[0, 0], memory.y_im[0, 0]
        if np.isfinite(re) and np.isfinite(im) and re < 0 and abs(im) <= 1e-6 * np.hypot(re, im):
            roots[count] = x
            count += 1
    return roots[:count]


@numba.njit(cache=True, nogil=True)
def values(sides, w):
    """L at each frequency; infinite at a pole."""
    memory, response = memory_of(sides), np.empty(len(w), np.complex128)
    for k in range(len(w)):
        respond(sides, w[k], memory)
        re, im = memory.y_re[0, 0], memory.y_im[0, 0]
        response[k] = complex(re, im) if np.isfinite(re) and np.isfinite(im) else complex(np.inf, 0.0)
    return response


@numba.njit(cache=True, nogil=True)
def plain_values(a, b, c, d, w, continuous):
    """L by one plain solve for each frequency, which shares no step with the Hessenberg form; infinite at a pole."""
    n, response = len(a), np.empty(len(w), np.complex128)
    right = b.astype(np.complex128)
    for k in range(len(w)):
        response[k] = d[0, 0]
        if n == 0 or not np.isfinite(w[k]):
            continue
        shifted = -a.astype(np.complex128)
        point = complex(0.0, w[k]) if continuous else complex(np.cos(w[k]), np.sin(w[k]))
        for i in range(n):
            shifted[i, i] += point
        x, info = complex_solved(shifted, right)
        if info != 0:
            response[k] = complex(np.inf, 0.0)
            continue
        for i in range(n):
            response[k] += c[0, i] * x[i, 0]
    return response


@numba.njit(cache=True, nogil=True, error_model="numpy")
def largest_growth(a, b, c, d, gains, continuous):
    """Of the poles of 1 + K L = 0 for each complex gain K: |z| - 1, or Re s relative to the largest; nan where LAPACK
    has no answer, and -inf where the loop is not well posed."""
    n, growth = len(a), np.empty(len(gains))
    for k in range(len(gains)):
        gain = gains[k]
        direct = 1 + gain * d[0, 0]
        growth[k] = -np.inf
        if direct == 0:
            continue
        factor = gain / direct
        if gain.imag == 0:
            real = np.empty((n, n))
            for i in range(n):
                for j in range(n):
                    real[i, j] = a[i, j] - b[i, 0] * c[0, j] * factor.real
            re, im, info = eigenvalues(real)
        else:
            closed = np.empty((n, n), np.complex128)
            for i in range(n):
                for j in range(n):
                    closed[i, j] = a[i, j] - b[i, 0] * c[0, j] * factor
            poles, info = complex_eigenvalues(closed)
            re, im = poles.real.copy(), poles.imag.copy()
        if info != 0:
            growth[k] = np.nan
            continue
        sizes = np.hypot(re, im)
        growth[k] = np.max(re) / np.max(sizes) if continuous else np.max(sizes) - 1
    return growth
