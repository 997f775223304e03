"""G(s) = 2^e H(s/t), and H in Hessenberg form on each side of the boundary, of a real system.

Reference: `ctrlattn.linear.scaling`; the response by `numpy.linalg.solve`.
"""

import math

import numba
import numpy as np

from ctrlattn.kernels.boundary import Sides
from ctrlattn.kernels.lapack import complex_solved, hessenberg, solved, turned
from ctrlattn.kernels.poles import state_scaling

SMALLEST = -1000  # exponent of what counts as zero


@numba.njit(cache=True, nogil=True)
def scaled(a, b, c, d, gain, re, im, continuous):
    """(A, B, C, D, exponent, half, states, into), the rate being 4^half; where `gain` is 0 the poles' gain counts."""
    into, out, direct = _exponent(b), _exponent(c), _exponent(d)
    dynamic = _exponent_of(gain)
    if not gain > 0:
        dynamic = into + out + _exponent_of(_sampled_gain(a, _times(b, -into), _times(c, -out), re, im, continuous))
    into += (dynamic - into - out) // 2
    b, c = _times(b, -into), _times(c, into - dynamic)
    states = state_scaling(a, b, c)
    a = a * states / states.reshape(-1, 1)
    half = 0
    if continuous and np.any(a):
        half = _exponent(a) // 2
    exponent = max(dynamic, direct)
    b, c = _times(b / states.reshape(-1, 1), -half), _times(c * states, dynamic - exponent - half)
    return _times(a, -2 * half), b, c, _times(d, -exponent), exponent, half, states, into


@numba.njit(cache=True, nogil=True)
def _sampled_gain(a, b, c, re, im, continuous):
    """The largest response next to the two poles of the most growth, and at w = 0."""
    n = len(a)
    if n == 0 or b.size == 0 or c.size == 0:
        return 1.0
    first, second = -1, -1
    most, next_most = -np.inf, -np.inf
    for i in range(len(re)):
        growth = re[i] if continuous else np.hypot(re[i], im[i])
        if im[i] < 0:
            continue
        if growth > most:
            second, next_most = first, most
            first, most = i, growth
        elif growth > next_most:
            second, next_most = i, growth
    largest = 0.0
    for i in (first, second, n):
        x, y = (0.0 if continuous else 1.0), 0.0
        if i == -1:
            continue
        if i < n:
            x, y = (0.0 if continuous else re[i]), im[i]
            size = np.hypot(x, y)
            if not continuous:
                x, y = (x / size, y / size) if size > 0 else (1.0, 0.0)
        gain = _gain_at(a, b, c, x, y)
        if np.isfinite(gain):
            largest = max(largest, gain)
    return largest if largest > 0 else 1.0


@numba.njit(cache=True, nogil=True)
def _gain_at(a, b, c, x, y):
    """The largest entry of C (zI - A)^-1 B; inf at a pole."""
    n = len(a)
    largest = 0.0
    if y == 0.0:
        shifted = -a
        for i in range(n):
            shifted[i, i] += x
        states, info = solved(shifted, b)
    else:
        complex_shifted = -a.astype(np.complex128)
        for i in range(n):
            complex_shifted[i, i] += complex(x, y)
        complex_states, info = complex_solved(complex_shifted, b.astype(np.complex128))
    if info != 0:
        return np.inf
    for p in range(c.shape[0]):
        for m in range(b.shape[1]):
            total = 0j
            for i in range(n):
                total += c[p, i] * (states[i, m] if y == 0.0 else complex_states[i, m])
            if not (np.isfinite(total.real) and np.isfinite(total.imag)):
                return np.inf
            largest = max(largest, abs(total))
    return largest


@numba.njit(cache=True, nogil=True)
def _exponent(m):
    return _exponent_of(np.abs(m).max()) if m.size else SMALLEST


@numba.njit(cache=True, nogil=True)
def _exponent_of(largest):
    return max(int(math.frexp(largest)[1]), SMALLEST) if largest > 0 else SMALLEST


@numba.njit(cache=True, nogil=True)
def _times(m, exponent):
    """m 2^exponent, whose factor alone may be beyond the floats."""
    if abs(exponent) <= -SMALLEST:
        return m * math.ldexp(1.0, exponent)
    half = max(exponent, 2 * SMALLEST) // 2
    return m * math.ldexp(1.0, half) * math.ldexp(1.0, max(exponent, 2 * SMALLEST) - half)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def sides_of(a, b, c, d, continuous, balanced):
    """A - z I for z = 1 and -1 (0 in continuous time) in Hessenberg form.

    What is below the subdiagonal is never read. One input has one entry that is not zero, unless A already has the
    form: then nothing moves, so that its zeros stay zeros.
    """
    n, inputs, outputs = len(a), b.shape[1], c.shape[0]
    count = 1 if continuous else 2
    sides = Sides(np.empty((count, n, n)), np.zeros((count, inputs, n)), np.empty((count, outputs, n)), d.copy())
    below, above = False, False
    for i in range(n):
        for j in range(n):
            if a[i, j] != 0:
                below, above = below or j < i - 1, above or j > i
    if below and above and not balanced:
        scale = state_scaling(a, b, c)
        a, b, c = a * scale / scale.reshape(-1, 1), b / scale.reshape(-1, 1), c * scale
    for k in range(count):
        shifted = a.copy()
        for i in range(n):
            shifted[i, i] -= 0.0 if continuous else 1.0 - 2 * k
        if not below:
            sides.columns[k], sides.b[k], sides.c[k] = shifted.T, b.T, c
        elif not above:  # lower triangular: states in the other order
            for i in range(n):
                for j in range(n):
                    sides.columns[k, j, i] = shifted[n - 1 - i, n - 1 - j]
                for j in range(inputs):
                    sides.b[k, j, i] = b[n - 1 - i, j]
                for j in range(outputs):
                    sides.c[k, j, i] = c[j, n - 1 - i]
        elif inputs == 1 and outputs == 1:
            _reduce_single(shifted, b, c, sides, k)
        else:
            reduced, tau = hessenberg(shifted)
            sides.columns[k], sides.b[k], sides.c[k] = reduced, b.T, c
            turned(reduced, tau, sides.b[k])
            turned(reduced, tau, sides.c[k])
    return sides


@numba.njit(cache=True, nogil=True)
def _reduce_single(a, b, c, sides, k):
    """Reducing [[0, c], [b, A]] leaves its corner where it is. In one unit, powers of two, no part rounds another."""
    n = len(a)
    size, into, out = math.frexp(np.abs(a).max())[1], math.frexp(np.abs(b).max())[1], math.frexp(np.abs(c).max())[1]
    whole = np.zeros((n + 1, n + 1))
    into_one, out_one = math.ldexp(1.0, size - into), math.ldexp(1.0, size - out)
    for i in range(n):
        whole[i + 1, 0], whole[0, i + 1] = b[i, 0] * into_one, c[0, i] * out_one
        for j in range(n):
            whole[i + 1, j + 1] = a[i, j]
    reduced = hessenberg(whole)[0]
    sides.columns[k] = reduced[1:, 1:]
    sides.b[k, 0, 0] = reduced[0, 1] * math.ldexp(1.0, into - size)
    for i in range(n):
        sides.c[k, 0, i] = reduced[i + 1, 0] * math.ldexp(1.0, out - size)
