"""L real, |L| = 1, and |1 + L| least along the boundary: the search on the response of one real loop, compiled.

Reference: ctrlattn.stability.boundary_search.
"""

import numba
import numpy as np

from ctrlattn.kernels.boundary import memory_of, respond

_NOISE = 1e-13  # a function below it is 0 within rounding
_DEEPEST = 45  # halvings of a step; each but the first few concerns a handful of places
_STALLED = 6  # halvings that may bend the curve as much as the one before, as they do on the way to a sharp feature
_MOST = 20_000  # points; a response that asks for more is noise
_TOUCH = 1e-9  # a function this near zero at its turning point touches it
_POLISH = 100
_PARTS = 4  # of each side of a dip, to see the lowest of several
_SAME = 1e-9  # relative distance of two points that are one
_SECTIONS = 36  # each leaves .62 of a bracket; half the digits of w are enough, the distance being flat at its least
_GOLDEN = (3 - 5**0.5) / 2


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _functions(sides, w, memory, f):
    """f: Im L/|L| over sin w (over w/(1 + w^2) in continuous time), (|L| - 1)/(|L| + 1), and |1 + L| of a SISO L.

    The first two are 0 within rounding. Returns L.
    """
    respond(sides, w, memory)
    value = complex(memory.y_re[0, 0], memory.y_im[0, 0])
    if not (np.isfinite(value.real) and np.isfinite(value.imag)):
        f[0], f[1], f[2] = 0.0, 1.0, 1e300
        return complex(np.inf, 0.0)
    size = abs(value)
    sine = value.imag / size if size > 0 else 0.0
    level = (size - 1) / (size + 1)
    base = w / (1 + w * w) if len(sides.columns) == 1 else np.sin(w)
    f[0] = 0.0 if abs(sine) < _NOISE else sine / base
    f[1] = 0.0 if abs(level) < _NOISE else level
    f[2] = min(abs(1 + value), 1e300)
    return value


@numba.njit(cache=True, nogil=True, error_model="numpy")
def refined(sides, start):
    """(w, L, functions (3, m)): steps of the ascending grid `start` are halved where a sign change may hide.

    Reference: `boundary_search.samples`.
    """
    memory = memory_of(sides)
    size = 4 * len(start) + 64
    w, values, f = np.empty(size), np.empty(size, np.complex128), np.empty((3, size))
    # A stack of right ends: frequency, response, functions, the bends before, and (halvings, stalled ones).
    ends, end_values, end_f = np.empty(_DEEPEST + 2), np.empty(_DEEPEST + 2, np.complex128), np.empty((_DEEPEST + 2, 3))
    bends, counts = np.empty((_DEEPEST + 2, 3)), np.zeros((_DEEPEST + 2, 2), np.int64)
    work = np.empty(3)
    last = 0
    w[0], values[0] = start[0], _functions(sides, start[0], memory, work)
    for i in range(3):
        f[i, 0] = work[i]
    for k in range(1, len(start)):
        top = 0
        ends[0], end_values[0] = start[k], _functions(sides, start[k], memory, end_f[0])
        counts[0, 0] = counts[0, 1] = 0
        for i in range(3):
            bends[0, i] = np.inf
        while top >= 0:
            if last + 3 > size:
                w, values, f = _longer(w, values, f)
                size = len(w)
            middle = (w[last] + ends[top]) / 2
            middle_value = _functions(sides, middle, memory, work)
            hides, stalls = False, False
            for i in range(3):
                hidden, bend = _hidden(f[i, last], work[i], end_f[top, i])
                hides = hides or hidden
                # A smooth curve bends four times less over half the step; noise and jumps bend as much at every step.
                stalls = stalls or (hidden and bend > 0.7 * bends[top, i])
                bends[top, i] = bend
            if stalls:
                counts[top, 1] += 1
            again = hides and counts[top, 1] < _STALLED and counts[top, 0] < _DEEPEST - 1 and last < _MOST
            if again and ends[top] - w[last] > 1e-14 * ends[top]:
                counts[top, 0] += 1
                top += 1
                ends[top], end_values[top] = middle, middle_value
                for i in range(2):
                    counts[top, i] = counts[top - 1, i]
                for i in range(3):
                    end_f[top, i], bends[top, i] = work[i], bends[top - 1, i]
                continue
            w[last + 1], values[last + 1] = middle, middle_value
            w[last + 2], values[last + 2] = ends[top], end_values[top]
            for i in range(3):
                f[i, last + 1], f[i, last + 2] = work[i], end_f[top, i]
            last += 2
            top -= 1
    return w[: last + 1], values[: last + 1], f[:, : last + 1]


@numba.njit(cache=True, nogil=True)
def _longer(w, values, f):
    size = len(w)
    more_w, more_values, more_f = np.empty(2 * size), np.empty(2 * size, np.complex128), np.empty((3, 2 * size))
    for k in range(size):
        more_w[k], more_values[k] = w[k], values[k]
        for i in range(3):
            more_f[i, k] = f[i, k]
    return more_w, more_values, more_f


@numba.njit(cache=True, nogil=True)
def _hidden(left, middle, right):
    """(may the function cross zero between the three points, unseen; curvature), as in `boundary_search`."""
    curvature, slope = abs(left - 2 * middle + right), abs(left - right)
    if left * middle < 0 or middle * right < 0:
        return 2 * curvature > slope, curvature
    lowest = min(abs(left), abs(middle), abs(right))
    return 2 * curvature > lowest and 4 * curvature > slope, curvature


@numba.njit(cache=True, nogil=True)
def zeros(sides, w, f, which):
    """Zeros of one of the functions, f (m,) on the grid w: polished sign changes, and where it touches zero.

    Reference: `boundary_search.zeros`.
    """
    memory, work = memory_of(sides), np.empty(3)
    roots, count, before = np.empty(len(w)), 0, -1
    for i in range(len(w)):
        if f[i] == 0:
            continue
        if before >= 0 and f[before] * f[i] < 0:
            roots[count] = _polished(sides, which, w[before], w[i], f[before], f[i], memory, work)
            count += 1
        before = i
    if before < 0:  # 0 wherever it is seen: it has no zero that is one
        return roots[:0]
    crossed = count
    for i in range(1, len(w) - 1):
        size = abs(f[i])
        touches = size <= abs(f[i - 1]) and size <= abs(f[i + 1]) and size < _TOUCH and f[i - 1] * f[i + 1] > 0
        if touches:  # rounding also makes a turning point next to a crossing, which is listed already
            for k in range(crossed):
                touches = touches and abs(roots[k] - w[i]) > _TOUCH * w[i]
        if touches:
            roots[count] = w[i]
            count += 1
    return roots[:count]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _polished(sides, which, a, b, fa, fb, memory, work):
    """The zero in a bracket, by inverse quadratic steps where they are safe, by halves where not.

    Chandrupatla, Adv. Eng. Software 28 (1997) 145.
    """
    step = 0.5
    for _ in range(_POLISH):
        x = a + step * (b - a)
        _functions(sides, x, memory, work)
        fx = work[which]
        if np.sign(fx) == np.sign(fa):
            c, fc = a, fa
        else:
            c, fc = b, fb
            b, fb = a, fa
        a, fa = x, fx
        best = a if abs(fa) < abs(fb) else b
        if abs(b - a) <= 4e-16 * abs(best) or fa == 0 or fb == 0:
            break
        xi, phi, ratio = (a - b) / (c - b), (fa - fb) / (fc - fb), (c - a) / (b - a)
        step = 0.5
        if phi * phi < xi and (1 - phi) * (1 - phi) < 1 - xi:
            inverse = fa / (fb - fa) * fc / (fb - fc) + ratio * fa / (fc - fa) * fb / (fc - fb)
            step = inverse if np.isfinite(inverse) else 0.5
        least = min(2e-16 * abs(best) / abs(b - a), 0.5)
        step = min(max(step, least), 1 - least)
    return best


@numba.njit(cache=True, nogil=True)
def closest(sides, w, distance):
    """(min |1 + L|, frequency) from its values on an ascending grid: the lowest, and every dip that is next to it."""
    memory, work = memory_of(sides), np.empty(3)
    first = np.argmin(distance)
    lowest, at = distance[first], w[first]
    near = 1.5 * lowest
    for k in range(1, len(w) - 1):
        if distance[k] <= min(distance[k - 1], distance[k + 1]) and distance[k] <= near:
            left, right = k - 1, k + 1
            # Points next to each other, about a crossing, differ by rounding alone: a dip reaches beyond them.
            while left > 0 and w[k] - w[left] < _SAME * w[k]:
                left -= 1
            while right < len(w) - 1 and w[right] - w[k] < _SAME * w[k]:
                right += 1
            high = w[right] if np.isfinite(w[right]) else 1e3 * w[k]
            depth, there = _dip(sides, w[left], w[k], high, memory, work)
            if depth < lowest:
                lowest, at = depth, there
    return lowest, at


@numba.njit(cache=True, nogil=True)
def _dip(sides, low, middle, high, memory, work):
    """The same between two frequencies: the lowest of a few parts on either side, and from there golden sections."""
    lowest, at, left, right = np.inf, middle, low, high
    for k in range(2 * _PARTS + 1):
        share = k / _PARTS
        w = low + (middle - low) * share if k <= _PARTS else middle + (high - middle) * (share - 1)
        _functions(sides, w, memory, work)
        if work[2] < lowest:
            lowest, at = work[2], w
            left = max(low, w - (middle - low if k <= _PARTS else high - middle) / _PARTS)
            right = min(high, w + (middle - low if k < _PARTS else high - middle) / _PARTS)
    for _ in range(_SECTIONS):
        w = at + _GOLDEN * (right - at) if right - at > at - left else at - _GOLDEN * (at - left)
        _functions(sides, w, memory, work)
        if work[2] < lowest:
            if w > at:
                left = at
            else:
                right = at
            lowest, at = work[2], w
        elif w > at:
            right = w
        else:
            left = w
    return lowest, at
