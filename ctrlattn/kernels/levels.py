"""sigma_max(G) = level, where, and sup sigma_max(G) closed in by level sets: a stable real system in good units.

Reference: `ctrlattn.stability.robustness.level_sets` and `ctrlattn.stability.robustness.norms`, which also decide what
is no number here.
"""

import math
from typing import NamedTuple

import numba
import numpy as np

from ctrlattn.kernels.boundary import climbed, largest_gain, largest_singular_value, memory_of
from ctrlattn.kernels.lapack import eigenvalues, pencil_eigenvalues, solved, solved_on_both_sides
from ctrlattn.kernels.pencil import balance_pencil
from ctrlattn.kernels.units import scaled, sides_of

_EPS = float(np.finfo(float).eps)


class Rules(NamedTuple):
    """The constants of the reference."""

    near: float  # of the boundary
    sound: float  # condition of a map to continuous time
    steps: int
    noisy: int
    both: int  # states up to which both eigenvalue problems are solved
    crowded: float
    resolved: float
    lost: float
    zero: float
    climbs: int
    offsets: np.ndarray
    shares: np.ndarray
    decades: np.ndarray


@numba.njit(cache=True, nogil=True)
def distinct(values):
    """Ascending, each once."""
    values = np.sort(values)
    count = 0
    for i in range(len(values)):
        if i == 0 or values[i] != values[i - 1]:
            values[count] = values[i]
            count += 1
    return values[:count]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def pencil_crossings(a, b, c, d, level, continuous, near):
    """(ascending frequencies, info) from the pencil."""
    n, m = b.shape
    root = np.sqrt(level)
    b, c, d = b / root, c / root, d / level
    size = 2 * n + m
    left, right = np.zeros((size, size)), np.zeros((size, size))
    left[:n, :n], left[:n, 2 * n :] = a, b
    left[n : 2 * n, n : 2 * n], left[2 * n :, n : 2 * n] = -a.T, b.T
    for i in range(n):
        for j in range(n):
            left[n + i, j] = -_inner(c, c, i, j)
        for j in range(m):
            left[n + i, 2 * n + j] = -_inner(c, d, i, j)
            left[2 * n + j, i] = -left[n + i, 2 * n + j]
    for i in range(m):
        for j in range(m):
            left[2 * n + i, 2 * n + j] = _inner(d, d, i, j) - (1.0 if i == j else 0.0)
    if not continuous:
        right[:], right[n : 2 * n] = left, -left[n : 2 * n]
    for i in range(2 * n):
        if not continuous:
            left[i, i] -= 1.0 if i < n else -1.0
        right[i, i] += 1.0
    balance_pencil(left, right)
    re, im, bottom, info = pencil_eigenvalues(left, right)
    if info != 0:
        return np.zeros(0), info
    hits, count, norm = np.empty(size), 0, np.sqrt(np.sum(a * a))
    for k in range(size):
        x, y, z = re[k], im[k], bottom[k]
        if continuous:
            top = np.hypot(x, y)
            if not abs(z) > 1e-14 * np.hypot(top, z):
                continue
            x, y = x / z, y / z
            if abs(x) <= near * np.hypot(x, y) + 1e-9 * norm:
                hits[count] = abs(y)
                count += 1
            continue
        # An infinite eigenvalue is z = -1.
        if z == 0:
            x, y = -y, x
        elif z < 0:
            x, y, z = -x, -y, -z
        top = np.hypot(x, y)
        if abs(x) <= near * top + 1e-9 * (z + top * top / max(z, 1e-300)):
            hits[count] = abs(2 * np.arctan2(y, z))
            count += 1
    return distinct(hits[:count]), 0


@numba.njit(cache=True, nogil=True)
def _inner(x, y, i, j):
    total = 0.0
    for k in range(len(x)):
        total += x[k, i] * y[k, j]
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def hamiltonian_crossings(a, b, c, d, level, continuous, near, sound):
    """(ascending frequencies, condition) from the Hamiltonian matrix of the first view of good condition, among those
    of real matrices; a condition beyond `sound` says that there is none, or that LAPACK failed."""
    n, m = b.shape
    condition, view = np.inf, 0
    for view in range(2):
        va, vb, vc, vd, size = _view(a, b, c, d, continuous, view)
        if not np.isfinite(size):
            continue
        largest = 0.0
        if np.any(vd != 0):
            if not np.all(np.isfinite(vd)):
                continue
            largest = largest_singular_value(vd, np.zeros_like(vd))
        room = 1 - (largest / level) ** 2
        condition = max(size, 1 / room) if room > 0 else np.inf
        if condition <= sound:
            break
    if not condition <= sound:
        return np.zeros(0), np.inf
    vb, vc, vd = vb / np.sqrt(level), vc / np.sqrt(level), vd / level
    closing = np.zeros((m, 2 * n))
    closing[:, :n], closing[:, n:] = vd.T @ vc, vb.T
    if np.any(vd != 0):
        closing, info = solved(np.eye(m) - vd.T @ vd, closing)
        if info != 0:
            return np.zeros(0), np.inf
    first, second = np.ascontiguousarray(closing[:, :n]), np.ascontiguousarray(closing[:, n:])
    f = va + vb @ first
    matrix = np.empty((2 * n, 2 * n))
    matrix[:n, :n], matrix[:n, n:] = f, vb @ second
    matrix[n:, :n], matrix[n:, n:] = -(np.ascontiguousarray(vc.T) @ (vc + vd @ first)), -f.T
    re, im, info = eigenvalues(matrix)
    if info != 0:
        return np.zeros(0), np.inf
    hits, count, norm = np.empty(2 * n), 0, np.sqrt(np.sum(va * va))
    for k in range(2 * n):
        if abs(re[k]) <= near * np.hypot(re[k], im[k]) + 1e-9 * norm:
            w = im[k]
            if continuous:
                w = w if view == 0 else -1 / (w if w != 0 else 2.2250738585072014e-308)
            elif view == 0:
                w = 2 * np.arctan(w)
            else:
                w = (2 * np.pi + 2 * np.arctan(w)) % (2 * np.pi) - np.pi
            hits[count] = abs(w)
            count += 1
    return distinct(hits[:count]), condition


@numba.njit(cache=True, nogil=True)
def _view(a, b, c, d, continuous, which):
    """(A, B, C, D, norm of the inverse that made it) in continuous time: G(s) and G(1/s), or G(z (1 + s)/(1 - s)) for
    z = 1 and z = -1; infinite where it is none."""
    n = len(a)
    if continuous and which == 0:
        return a, b, c, d, 1.0
    eye = np.eye(n)
    if continuous:
        inverse, info = solved(a, eye)
        into, out = inverse @ b, c @ inverse
        return inverse, into, -out, d - c @ into, np.sqrt(np.sum(inverse * inverse)) if info == 0 else np.inf
    sign = 1.0 - 2 * which
    inverse, info = solved(eye + sign * a, eye)
    into, out = inverse @ (sign * b), c @ inverse
    root = np.sqrt(2.0)
    size = np.sqrt(np.sum(inverse * inverse)) if info == 0 else np.inf
    return inverse @ (sign * a - eye), root * into, root * out, d - c @ into, size


@numba.njit(cache=True, nogil=True, error_model="numpy")
def pole_grid(re, im, continuous, rules):
    """Frequencies about each pole, as dense as it is close to the boundary, and all decades between, ascending."""
    n, k = len(re), len(rules.offsets)
    base = 2 + (len(rules.shares) if continuous else 2 * len(rules.decades))
    grid = np.empty(base + (2 if continuous else 1) * n * k)
    grid[0], grid[1] = 0.0, (np.inf if continuous else np.pi)
    if continuous:
        low, high = 1.0, 1.0
        for i in range(n):
            size = np.hypot(re[i], im[i])
            if size > 0:
                low, high = min(low, size), max(high, size)
        low, high = low / 10, high * 10
        for i in range(len(rules.shares)):
            grid[2 + i] = low * np.exp(math.log(high / low) * rules.shares[i])
    else:
        for i in range(len(rules.decades)):
            grid[2 + i], grid[2 + len(rules.decades) + i] = rules.decades[i], np.pi - rules.decades[i]
    at = base
    for i in range(n):
        size = np.hypot(re[i], im[i])
        centre = im[i] if continuous else np.arctan2(im[i], re[i])
        width = abs(re[i]) if continuous else abs(1 - size)
        for j in range(k):
            w = centre + rules.offsets[j] * width
            grid[at] = abs(w if continuous else (abs(w) + np.pi) % (2 * np.pi) - np.pi)
            at += 1
            if continuous:
                grid[at] = abs(np.sqrt(abs(size * size - 2 * re[i] * re[i])) + rules.offsets[j] * width)
                at += 1
    return distinct(grid)


@numba.njit(cache=True, nogil=True)
def _crowds(a, re, im, continuous, rules):
    """Whether resonances crowd in a band so narrow that both eigenvalue problems round it away."""
    n = len(re)
    frequency, distance = np.empty(n), np.empty(n)
    for i in range(n):
        distance[i] = abs(re[i] if continuous else np.hypot(re[i], im[i]) - 1)
        frequency[i] = im[i] if continuous else np.arctan2(im[i], re[i])
    order = np.argsort(frequency)
    thin = rules.resolved * _EPS * np.sqrt(np.sum(a * a))
    for k in range(n - 1):
        i, j = order[k], order[k + 1]
        near = frequency[j] - frequency[i] < rules.crowded * (distance[i] + distance[j])
        inside = frequency[i] * frequency[j] > 0 and (continuous or abs(frequency[j]) < np.pi)
        if near and inside and min(distance[i], distance[j]) < thin:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def _highest(sides, crossings):
    """The highest point at the crossings of a level and in the middle between them."""
    memory = memory_of(sides)
    value, at = 0.0, 0.0
    for k in range(2 * len(crossings) - 1):
        w = crossings[k // 2] if k % 2 == 0 else (crossings[k // 2] + crossings[k // 2 + 1]) / 2
        gain = largest_gain(sides, w, memory)
        if gain > value:
            value, at = gain, w
    return value, at


@numba.njit(cache=True, nogil=True, error_model="numpy")
def rounding_share(a, b, c, d, continuous, frequency, value, rules):
    """Share of the value that rounding of A may change; nan where it is lost or does not agree with a second way."""
    n = len(a)
    if not np.isfinite(value):
        return np.nan
    if n == 0 or not np.isfinite(frequency):
        return 0.0
    re, im, centre = 0.0, frequency, 0.0
    if not continuous:
        centre = 1.0 if np.cos(frequency) >= 0 else -1.0
        turn = frequency if centre > 0 else frequency - np.copysign(np.pi, frequency)
        re, im = -2 * centre * np.sin(turn / 2) ** 2, centre * np.sin(turn)
    size = np.hypot(re, im)
    shifted = -a.astype(np.complex128)
    for i in range(n):
        shifted[i, i] = complex(re - (a[i, i] - centre), im)
    into, out, info = solved_on_both_sides(shifted, b.astype(np.complex128), c.astype(np.complex128))
    if info != 0:
        return np.nan
    outputs, inputs = d.shape
    moved, again_re, again_im = 0.0, d.copy(), d.copy()
    for m in range(inputs):
        weights = np.empty(n)
        for i in range(n):
            total = size * abs(into[m, i])
            for j in range(n):
                total += abs(a[i, j] - (centre if i == j else 0.0)) * abs(into[m, j])
            weights[i] = total
        for p in range(outputs):
            total, response = 0.0, 0j
            for i in range(n):
                total += abs(out[p, i]) * weights[i]
                response += out[p, i] * b[i, m]
            moved += total * total
            again_re[p, m] += response.real
            again_im[p, m] = response.imag
    residual = 4 * _EPS * np.sqrt(moved) / value
    again = largest_singular_value(again_re, again_im)
    whole = np.sqrt(np.sum(b * b)) * np.sqrt(np.sum(c * c)) + np.sqrt(np.sum(d * d))
    if max(residual * value, abs(again - value)) <= rules.zero * whole:
        return residual
    if residual <= rules.lost and abs(again - value) <= max(1e-8, 10 * residual) * value:
        return residual
    return np.nan


@numba.njit(cache=True, nogil=True)
def peak(a, b, c, d, continuous, re, im, tol, rules):
    """(value, frequency, upper, residual, exponent, half) of a stable system in any units, as those of `units.scaled`:
    value and upper are to be multiplied by 2^exponent, the frequency by 4^half."""
    a, b, c, d, exponent, half, _, _ = scaled(a, b, c, d, 0.0, re, im, continuous)
    rate = math.ldexp(1.0, -2 * half)
    value, frequency, upper, residual = closed_in(a, b, c, d, continuous, re * rate, im * rate, tol, rules)
    return value, frequency, upper, residual, exponent, half


@numba.njit(cache=True, nogil=True, error_model="numpy")
def closed_in(a, b, c, d, continuous, re, im, tol, rules):
    """(value, frequency, upper, residual), up from the best of a grid; all nan where the reference has to say more.

    Two inputs or outputs at most.
    """
    nothing = (np.nan, np.nan, np.nan, np.nan)
    if _crowds(a, re, im, continuous, rules):
        return nothing
    sides = sides_of(a, b, c, d, continuous, True)
    value, frequency = climbed(sides, pole_grid(re, im, continuous, rules), rules.climbs)
    if value == 0.0:  # at more points than a transfer function that is not zero has zeros
        return 0.0, 0.0, 0.0, 0.0
    residual = 0.0
    for step in range(rules.steps):
        if step == rules.noisy:  # steps that rounding leads up end only at a level above rounding
            residual = rounding_share(a, b, c, d, continuous, frequency, value, rules)
        if not (np.isfinite(residual) and np.isfinite(value)):
            return nothing
        level = value * (1 + 2 * max(tol, residual))
        crossings, condition = hamiltonian_crossings(a, b, c, d, level, continuous, rules.near, rules.sound)
        if not condition <= rules.sound:
            return nothing
        higher, where = _highest(sides, crossings)
        if higher <= level:
            residual = rounding_share(a, b, c, d, continuous, frequency, value, rules)
            if not np.isfinite(residual):
                return nothing
            level = value * (1 + 2 * max(tol, residual))
            if step == 0 and len(a) > rules.both and not continuous:
                return value, frequency, level, residual
            crossings, info = pencil_crossings(a, b, c, d, level, continuous, rules.near)
            if info != 0:
                return nothing
            higher, where = _highest(sides, crossings)
        if higher <= level:
            return value, frequency, level, residual
        value, frequency = higher, where
    return nothing
