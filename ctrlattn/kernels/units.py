"""A system with its states, its gain and its time in equal units, and A - z I for z = 1 and -1 (0 in continuous time)
in Hessenberg form.

Reference: `ctrlattn.linear.balancing`, `ctrlattn.linear.scaling` and `ctrlattn.linear.transfer`.
"""

import math

import numba
import numpy as np

from ctrlattn.kernels.lapack import BLOCK, INLINED, KERNEL, LEFT, SCALE, TURNED, dgebal, dgehrd, dormhr

_SMALLEST = -1000  # exponent of what counts as zero


@numba.njit(**KERNEL, error_model="numpy")
def in_equal_units(a, b, c, rate):
    """Return (D^-1 A D/rate, D^-1 B/rate, C D), D in powers of two: rows and columns of the system are of equal size.

    The system has one input and one output.
    """
    n, into, away = len(a), 0.0, 0.0
    a_scaled, b_scaled, c_scaled, scale = np.empty((n, n)), np.empty((n, 1)), np.empty((1, n)), np.empty(n + 1)
    for i in range(n):
        into, away = max(into, abs(b[i, 0])), max(away, abs(c[0, i]))
    # Inputs in units of outputs are one factor of all states: taken out first, no scale is very large.
    common = (math.frexp(into)[1] - math.frexp(away)[1]) // 2 if into > 0 and away > 0 else 0
    _state_scaling(a, b, c, math.ldexp(1.0, -common), math.ldexp(1.0, common), scale)
    for i in range(n):
        scale[i] = scale[i] / scale[n] * math.ldexp(1.0, common)
    for i in range(n):
        b_scaled[i, 0], c_scaled[0, i] = b[i, 0] / scale[i] / rate, c[0, i] * scale[i]
        for j in range(n):
            a_scaled[i, j] = a[i, j] * scale[j] / scale[i] / rate
    return a_scaled, b_scaled, c_scaled


@numba.njit(**INLINED)
def _state_scaling(a, b, c, b_unit, c_unit, scale):
    """Write the diagonal of D over its last entry, which is that of inputs and outputs, into `scale` (n + 1,)."""
    n = len(a)
    sizes = np.zeros((n + 1, n + 1))
    for i in range(n):
        for j in range(n):
            if i != j:
                sizes[j, i] = abs(a[i, j])
        for k in range(b.shape[1]):
            sizes[n, i] = math.hypot(sizes[n, i], b[i, k] * b_unit)
        for p in range(len(c)):
            sizes[i, n] = math.hypot(sizes[i, n], c[p, i] * c_unit)
    dgebal(SCALE, n + 1, sizes, n + 1, 1, n + 1, scale)


@numba.njit(**KERNEL, error_model="numpy")
def scaled(a, b, c, d, dynamic, continuous):
    """Return (the most extreme exponent, A, B, C, D, exponent, half, states, into) of a system whose G - D is about
    2^dynamic; the rate is 4^half, and of `states` the last one is that of inputs and outputs."""
    n, inputs, outputs, largest = len(a), b.shape[1], len(c), 0.0
    a_scaled, b_scaled = np.empty((n, n)), np.empty((n, inputs))
    c_scaled, d_scaled = np.empty((outputs, n)), np.empty(d.shape)
    b_size, c_size, direct = _exponent_of(b), _exponent_of(c), _exponent_of(d)
    into = b_size + (dynamic - b_size - c_size) // 2
    away, exponent, common = dynamic - into, max(dynamic, direct), 0
    if b_size > _SMALLEST and c_size > _SMALLEST:
        common = (b_size - into - c_size + away) // 2
    states = np.empty(n + 1)
    _state_scaling(a, b, c, math.ldexp(1.0, -into - common), math.ldexp(1.0, common - away), states)
    for i in range(n):
        states[i] = states[i] / states[n] * math.ldexp(1.0, common)
    for i in range(n):
        for j in range(n):
            a_scaled[i, j] = a[i, j] * states[j] / states[i]
            largest = max(largest, abs(a_scaled[i, j]))
    half = math.frexp(largest)[1] // 2 if continuous and largest > 0 else 0
    to_a, to_b = math.ldexp(1.0, -2 * half), math.ldexp(1.0, -into - half)
    to_c = math.ldexp(1.0, into - exponent - half)
    for i in range(n):
        for j in range(n):
            a_scaled[i, j] *= to_a
        for k in range(inputs):
            b_scaled[i, k] = b[i, k] / states[i] * to_b
        for p in range(outputs):
            c_scaled[p, i] = c[p, i] * states[i] * to_c
    for p in range(outputs):
        for k in range(inputs):
            d_scaled[p, k] = d[p, k] * math.ldexp(1.0, -exponent)
    extreme = max(abs(into) + abs(half), abs(away), abs(exponent) + abs(into) + abs(half))
    return extreme, a_scaled, b_scaled, c_scaled, d_scaled, exponent, half, states, into


@numba.njit(**INLINED)
def _exponent_of(m):
    largest = 0.0
    for i in range(m.shape[0]):
        for j in range(m.shape[1]):
            largest = max(largest, abs(m[i, j]))
    return max(math.frexp(largest)[1], _SMALLEST) if largest > 0 else _SMALLEST


@numba.njit(**KERNEL)
def single_reduced(a, b, c, continuous):
    """Return (H transposed (k, n, n), b (k, 1, n), c (k, 1, n)) for each centre; b has one entry that is not zero.

    Reducing [[0, c], [b, A]] leaves its corner where it is. In one unit, powers of two, no part rounds another.
    """
    n, count = len(a), 1 if continuous else 2
    columns, b_reduced, c_reduced = np.empty((count, n, n)), np.zeros((count, 1, n)), np.empty((count, 1, n))
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
        b_reduced[k, 0, 0] = matrix[0, 1] * math.ldexp(1.0, to_b)
        for i in range(n):
            c_reduced[k, 0, i] = matrix[i + 1, 0] * math.ldexp(1.0, to_c)
            for j in range(n):
                columns[k, j, i] = matrix[1 + j, 1 + i]
    return columns, b_reduced, c_reduced


@numba.njit(**KERNEL)
def several_reduced(a, b, c, continuous):
    """Return (H transposed (k, n, n), b transposed (k, inputs, n), c (k, outputs, n)) for each centre."""
    n, inputs, outputs, count = len(a), b.shape[1], len(c), 1 if continuous else 2
    columns, b_reduced, c_reduced = np.empty((count, n, n)), np.empty((count, inputs, n)), np.empty((count, outputs, n))
    room = (n + inputs + outputs + BLOCK + 1) * BLOCK
    tau, work = np.empty(n), np.empty(room)
    for k in range(count):
        for i in range(n):
            for j in range(n):
                columns[k, j, i] = a[i, j]
            columns[k, i, i] -= 0.0 if continuous else 1.0 - 2 * k
            for m in range(inputs):
                b_reduced[k, m, i] = b[i, m]
            for p in range(outputs):
                c_reduced[k, p, i] = c[p, i]
        matrix = (columns, k * n * n)
        dgehrd(n, 1, n, matrix, n, tau, work, room)
        dormhr(LEFT, TURNED, n, inputs, 1, n, matrix, n, tau, (b_reduced, k * inputs * n), n, work, room)
        dormhr(LEFT, TURNED, n, outputs, 1, n, matrix, n, tau, (c_reduced, k * outputs * n), n, work, room)
    return columns, b_reduced, c_reduced
