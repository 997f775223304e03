"""G(z) = d + c (zI - H)^-1 b along the boundary, H upper Hessenberg and real.

Columns of zI - H are cleared from the last to the first, with pivots: what is left of a column waits for the next one,
so that two columns are all the memory. Where b has its first entry alone, no right-hand side is carried along. On the
circle H stands for A - I or A + I, whichever is nearer, and z for z - 1 or z + 1, which is computed without cancelling.

Reference in plain numpy: `numpy.linalg.solve`, point by point.
"""

import math
from typing import NamedTuple

import numba
import numpy as np
from numba import carray, types  # type: ignore[attr-defined]

from ctrlattn.kernels.lapack import INLINED, INNER, KERNEL, called_by_address

_FAST = {"reassoc", "contract", "nsz", "arcp"}
NARROWER = 8.0  # a step of a climb than the one before


class Sides(NamedTuple):
    """A system for each side of the boundary: at z = 1 and z = -1, or in continuous time alone; C-contiguous."""

    columns: np.ndarray  # (sides, n, n): H transposed
    b: np.ndarray  # (sides, inputs, n)
    c: np.ndarray  # (sides, outputs, n)
    d: np.ndarray  # (outputs, inputs)


@numba.njit(**KERNEL, fastmath=_FAST, error_model="numpy")
def responses(sides, w):
    """Return G at each frequency, (m, outputs, inputs); D at an infinite one, not finite at a pole."""
    outputs, inputs = sides.d.shape
    values = np.empty((len(w), outputs, inputs), np.complex128)
    memory = memory_of(sides)
    for k in range(len(w)):
        respond(sides, w[k], memory)
        for p in range(outputs):
            for m in range(inputs):
                values[k, p, m] = complex(memory.y[0, p, m], memory.y[1, p, m])
    return values


@numba.njit(**KERNEL, error_model="numpy")
def circle_grid(poles, base, offsets):
    """Return (frequencies in [0, pi]: those of `base`, and about each pole at `offsets` of its distance from the
    circle; the least of these distances; the angle there). Reference: `ctrlattn.stability.robustness.level_sets`."""
    w, count, nearest, beside = np.empty(len(base) + len(poles) * len(offsets)), len(base), np.inf, 0.0
    for k in range(count):
        w[k] = base[k]
    for i in range(len(poles)):
        re, im = poles[i].real, poles[i].imag
        distance, centre = abs(1 - math.hypot(re, im)), math.atan2(im, re)
        if distance < nearest:
            nearest, beside = distance, abs(centre)
        for k in range(len(offsets)):
            angle = abs(centre + offsets[k] * distance)
            w[count] = min(angle, abs(2 * math.pi - angle))
            count += 1
    return w, nearest, beside


@numba.njit(**KERNEL, error_model="numpy")
def climbed(sides, w, climbs):
    """Return (sigma_max, frequency): the highest point of a grid in any order, and from there the tops of parabolas.

    It takes two inputs or outputs at most. Reference: `ctrlattn.stability.robustness.norms`.
    """
    memory, points, gains = memory_of(sides), w, np.empty(max(len(w), 5))
    value, frequency, low, high, top, step = -1.0, 0.0, -np.inf, np.inf, 0.0, 0.0
    for climb in range(climbs + 1):
        if climb == 1:
            for i in range(len(w)):
                if w[i] < frequency:
                    low = max(low, w[i])
                elif w[i] > frequency:
                    high = min(high, w[i])
            if not (np.isfinite(value) and np.isfinite(high - low)):
                return value, frequency
            points, top, step = np.empty(5), frequency, max(frequency - low, high - frequency)
        step /= NARROWER
        for i in range(5 * min(climb, 1)):
            points[i] = min(max(top + step * 0.5 * (i - 2), low), high)
        best = 0
        for i in range(len(points)):
            respond(sides, points[i], memory)
            gains[i] = _largest_gain(memory.y[0], memory.y[1])
            best = i if gains[i] > gains[best] else best
        if gains[best] > value:
            value, frequency = gains[best], points[best]
        if climb > 0:
            i = min(max(best, 1), 3)
            bend = gains[i - 1] - 2 * gains[i] + gains[i + 1]
            top = points[i]
            if bend < 0:
                top += 0.25 * (gains[i - 1] - gains[i + 1]) / bend * step
    return value, frequency


@numba.njit(**INLINED)
def _largest_gain(re, im):
    """Return sigma_max of one response, in closed form; inf where it is not finite."""
    outputs, inputs = re.shape
    unit = 0.0
    for p in range(outputs):
        for m in range(inputs):
            if not (np.isfinite(re[p, m]) and np.isfinite(im[p, m])):
                return np.inf
            unit = max(unit, abs(re[p, m]), abs(im[p, m]))
    if unit == 0.0:
        return 0.0
    # The Gram matrix of the two rows or columns; of a single one all but `first` is 0.
    first, second, cross_re, cross_im = 0.0, 0.0, 0.0, 0.0
    by_columns = inputs <= 2
    for k in range(outputs if by_columns else inputs):
        a_re, a_im = (re[k, 0], im[k, 0]) if by_columns else (re[0, k], im[0, k])
        a_re, a_im = a_re / unit, a_im / unit
        first += a_re * a_re + a_im * a_im
        if (inputs if by_columns else outputs) == 2:
            b_re, b_im = (re[k, 1], im[k, 1]) if by_columns else (re[1, k], im[1, k])
            b_re, b_im = b_re / unit, b_im / unit
            second += b_re * b_re + b_im * b_im
            cross_re += a_re * b_re + a_im * b_im
            cross_im += a_re * b_im - a_im * b_re
    half = (first - second) / 2
    return unit * np.sqrt((first + second) / 2 + np.sqrt(half * half + cross_re * cross_re + cross_im * cross_im))


class Memory(NamedTuple):
    """The column that waits, entries of C under it, right-hand sides, and the response: real and imaginary parts."""

    v: np.ndarray  # (2, n)
    c: np.ndarray  # (2, outputs)
    x: np.ndarray  # (2, inputs, n)
    y: np.ndarray  # (2, outputs, inputs)


@numba.njit(**KERNEL)
def memory_of(sides):
    n = sides.columns.shape[1]
    outputs, inputs = sides.d.shape
    return Memory(np.empty((2, n)), np.empty((2, outputs)), np.empty((2, inputs, n)), np.empty((2, outputs, inputs)))


@numba.njit(**INNER, fastmath=_FAST, error_model="numpy")
def _subtract(x_re, x_im, k_re, k_im, v_re, v_im, count):
    for r in range(count):
        x_re[r] -= k_re * v_re[r] - k_im * v_im[r]
        x_im[r] -= k_re * v_im[r] + k_im * v_re[r]


@numba.njit(**INNER)
def point(w, sides):
    """Return (side, real, imaginary part of the point less the one that H stands about)."""
    if sides == 1:
        return 0, 0.0, w
    if np.cos(w) >= 0:
        return 0, -2.0 * np.sin(w / 2) ** 2, np.sin(w)
    angle = w - np.copysign(np.pi, w)
    return 1, 2.0 * np.sin(angle / 2) ** 2, -np.sin(angle)


_NUMBER, _FLOATS = types.CPointer(types.int32), types.CPointer(types.float64)


# Reached by its address: called in the usual way, its code would be compiled once more with each of its callers.
@numba.cfunc(types.void(*[_NUMBER] * 4, *[_FLOATS] * 9, _NUMBER), cache=True, fastmath=_FAST, error_model="numpy")
def _respond(its_count, its_n, its_outputs, its_inputs, its_columns, its_b, its_c, its_d, its_w, v, cv, x, y, info):
    count, n, outputs, inputs, w = its_count[0], its_n[0], its_outputs[0], its_inputs[0], its_w[0]
    d, y_re_im = carray(its_d, (outputs, inputs)), carray(y, (2, outputs, inputs))
    y_re, y_im = y_re_im[0], y_re_im[1]
    for p in range(outputs):
        for m in range(inputs):
            y_re[p, m], y_im[p, m] = d[p, m], 0.0
    if n == 0 or not np.isfinite(w):
        return
    all_columns = carray(its_columns, (count, n, n))
    all_b, all_c = carray(its_b, (count, inputs, n)), carray(its_c, (count, outputs, n))
    v_re_im, c_re_im = carray(v, (2, n)), carray(cv, (2, outputs))
    x_re_im = carray(x, (2, inputs, n))
    v_re, v_im, c_re, c_im, x_re, x_im = v_re_im[0], v_re_im[1], c_re_im[0], c_re_im[1], x_re_im[0], x_re_im[1]
    side, z_re, z_im = point(w, count)
    columns, b, c = all_columns[side], all_b[side], all_c[side]
    h = columns[n - 1]
    for r in range(n):
        v_re[r], v_im[r] = -h[r], 0.0
    v_re[n - 1] += z_re
    v_im[n - 1] = z_im
    for p in range(outputs):
        c_re[p], c_im[p] = c[p, n - 1], 0.0
    for m in range(inputs):
        for r in range(n):
            x_re[m, r], x_im[m, r] = b[m, r], 0.0
    for i in range(n - 1, -1, -1):
        h = columns[max(i - 1, 0)]
        below, re, im = -h[i] if i > 0 else 0.0, v_re[i], v_im[i]
        size = re * re + im * im
        if below * below > size:  # column i - 1 has the pivot, and the one that waits goes on waiting
            f_re, f_im = re / below, im / below
            for m in range(inputs):
                if x_re[m, i] != 0.0 or x_im[m, i] != 0.0:
                    k_re, k_im = x_re[m, i] / below, x_im[m, i] / below
                    for r in range(i):
                        x_re[m, r] += k_re * h[r]
                        x_im[m, r] += k_im * h[r]
                    x_re[m, i - 1] -= k_re * z_re - k_im * z_im
                    x_im[m, i - 1] -= k_re * z_im + k_im * z_re
                    for p in range(outputs):
                        y_re[p, m] += c[p, i - 1] * k_re
                        y_im[p, m] += c[p, i - 1] * k_im
            for r in range(i):
                v_re[r] += f_re * h[r]
                v_im[r] += f_im * h[r]
            v_re[i - 1] -= f_re * z_re - f_im * z_im
            v_im[i - 1] -= f_re * z_im + f_im * z_re
            for p in range(outputs):
                c_re[p] -= f_re * c[p, i - 1]
                c_im[p] -= f_im * c[p, i - 1]
            continue
        scale = 1.0 / size
        for m in range(inputs):
            if x_re[m, i] != 0.0 or x_im[m, i] != 0.0:
                k_re = (x_re[m, i] * re + x_im[m, i] * im) * scale
                k_im = (x_im[m, i] * re - x_re[m, i] * im) * scale
                _subtract(x_re[m], x_im[m], k_re, k_im, v_re, v_im, i)
                for p in range(outputs):
                    y_re[p, m] += c_re[p] * k_re - c_im[p] * k_im
                    y_im[p, m] += c_re[p] * k_im + c_im[p] * k_re
        if i == 0:
            return
        f_re, f_im = below * re * scale, -below * im * scale
        for r in range(i):
            re, im = v_re[r], v_im[r]
            v_re[r] = f_im * im - f_re * re - h[r]
            v_im[r] = -f_re * im - f_im * re
        v_re[i - 1] += z_re
        v_im[i - 1] += z_im
        for p in range(outputs):
            re, im = c_re[p], c_im[p]
            c_re[p] = c[p, i - 1] - f_re * re + f_im * im
            c_im[p] = -f_re * im - f_im * re


_by_address = called_by_address("respond", int(_respond.address or 0))


@numba.njit(**KERNEL)
def respond(sides, w, memory):
    """Compute the response at one point into `memory.y`."""
    count, n, _ = sides.columns.shape
    outputs, inputs = sides.d.shape
    _by_address(
        count, n, outputs, inputs, sides.columns, sides.b, sides.c, sides.d, w, memory.v, memory.c, memory.x, memory.y
    )
