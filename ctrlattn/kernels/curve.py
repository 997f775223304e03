"""L real, |L| = 1, and |1 + L| least along the boundary: the search on the response of one real loop, compiled.

Reference: ctrlattn.stability.boundary_search.
"""

import math

import numba
import numpy as np

from ctrlattn.kernels.boundary import memory_of, respond
from ctrlattn.kernels.lapack import INNER, KERNEL

_NOISE = 1e-13  # a function below it is 0 within rounding
_DEEPEST = 45  # halvings of a step; each but the first few concerns a handful of places
_STALLED = 6  # halvings that may bend the curve as much as the one before, as they do on the way to a sharp feature
_MOST = 20_000  # points; a response that asks for more is noise
_TOUCH = 1e-9  # a function this near zero at its turning point touches it
_POLISH = 100
_PARTS = 4  # of each side of a dip, to see the lowest of several
_SAME = 1e-9  # relative distance of two points that are one
_SECTIONS = 60  # at most; golden ones leave .62 of a bracket each
_HALF = 2e-8  # of a bracket: half the digits of w are enough, the distance being flat at its least
_FARTHEST = 1e300
_GOLDEN = (3 - 5**0.5) / 2


@numba.njit(**KERNEL)
def searched(sides, start, end):
    """Return (w, L, number of them, min |1 + L|, where): w = 0, the end, zeros of Im L, so many, then of |L| - 1.

    `start` is an ascending grid inside (0, end), which may hold a point again and again.
    """
    memory, work = memory_of(sides), np.empty(4)
    points = refined(sides, start, end, memory)
    w, values = np.empty(4 * len(points)), np.empty(4 * len(points), np.complex128)
    w[0], w[1], count, crossings = 0.0, end, 2, 0
    for which in range(2):
        for x in zeros(sides, points, which, memory):
            w[count] = x
            count += 1
        crossings = count - 2 if which == 0 else crossings
    for i in range(count):
        values[i] = _look(sides, w[i], memory, work)
    least, at = closest(sides, points, memory)
    return w[:count], values[:count], crossings, least, at


@numba.njit(**INNER, error_model="numpy")
def _look(sides, w, memory, point):
    """Write a point: Im L/|L| over sin w (over w/(1 + w^2) if continuous), (|L| - 1)/(|L| + 1), |1 + L|, and w itself.

    The first two are 0 within rounding. It returns L.
    """
    respond(sides, w, memory)
    re, im = memory.y[0, 0, 0], memory.y[1, 0, 0]
    point[0], point[1], point[2], point[3] = 0.0, 1.0, _FARTHEST, w
    size = math.hypot(re, im)
    if not math.isfinite(size):
        return complex(np.inf, 0.0)
    sine, level = im / size if size > 0 else 0.0, (size - 1) / (size + 1)
    base = w / (1 + w * w) if len(sides.columns) == 1 else math.sin(w)
    point[0] = 0.0 if abs(sine) < _NOISE else sine / base
    point[1] = 0.0 if abs(level) < _NOISE else level
    point[2] = min(math.hypot(1 + re, im), _FARTHEST)
    return complex(re, im)


@numba.njit(**KERNEL, error_model="numpy")
def refined(sides, start, end, memory):
    """Return points (m, 4) as of `_look`, from w = 0 to the end: steps of the grid `start` inside are halved where a
    sign change may hide.

    Reference: `boundary_search.samples`.
    """
    middle = np.empty(4)
    points = np.empty((4 * len(start) + 64, 4))
    # A stack of right ends, the bends before, and halvings and stalled ones.
    ends, bends, counts = (
        np.empty((_DEEPEST + 2, 4)),
        np.empty((_DEEPEST + 2, 3)),
        np.zeros((_DEEPEST + 2, 2), np.int64),
    )
    _look(sides, 0.0, memory, points[0])
    _look(sides, start[0], memory, points[1])
    last = 1
    for k in range(1, len(start)):
        if start[k] == start[k - 1]:
            continue
        top = 0
        _look(sides, start[k], memory, ends[0])
        counts[0, 0] = counts[0, 1] = 0
        for i in range(3):
            bends[0, i] = np.inf
        while top >= 0:
            if last + 4 > len(points):
                points = _lengthen(points)
            left, right = points[last, 3], ends[top, 3]
            _look(sides, (left + right) / 2, memory, middle)
            hides, stalls = False, False
            for i in range(3):
                hidden, bend = _hidden_zero(points[last, i], middle[i], ends[top, i])
                hides = hides or hidden
                # A smooth curve bends four times less over half the step; noise and jumps bend as much at every step.
                stalls = stalls or (hidden and bend > 0.7 * bends[top, i])
                bends[top, i] = bend
            if stalls:
                counts[top, 1] += 1
            unresolved = hides and counts[top, 1] < _STALLED and counts[top, 0] < _DEEPEST - 1 and last < _MOST
            if unresolved and right - left > 1e-14 * right:
                counts[top, 0] += 1
                top += 1
                counts[top, 0], counts[top, 1] = counts[top - 1, 0], counts[top - 1, 1]
                for i in range(3):
                    bends[top, i] = bends[top - 1, i]
                for i in range(4):
                    ends[top, i] = middle[i]
                continue
            for i in range(4):
                points[last + 1, i], points[last + 2, i] = middle[i], ends[top, i]
            last += 2
            top -= 1
    _look(sides, end, memory, points[last + 1])
    return points[: last + 2]


@numba.njit(**INNER)
def _lengthen(points):
    more = np.empty((2 * len(points), 4))
    for k in range(len(points)):
        for i in range(4):
            more[k, i] = points[k, i]
    return more


@numba.njit(**INNER)
def _hidden_zero(left, middle, right):
    """Tell whether a function may cross zero unseen between three points, and its curvature; see `boundary_search`."""
    curvature, slope = abs(left - 2 * middle + right), abs(left - right)
    if left * middle < 0 or middle * right < 0:
        return 2 * curvature > slope, curvature
    lowest = min(abs(left), abs(middle), abs(right))
    return 2 * curvature > lowest and 4 * curvature > slope, curvature


@numba.njit(**KERNEL)
def zeros(sides, points, which, memory):
    """Return the zeros inside the boundary of one of the first two functions: polished sign changes and touched zeros.

    Reference: `boundary_search.zeros`.
    """
    work = np.empty(4)
    roots, count, before = np.empty(2 * len(points)), 0, 0
    for i in range(1, len(points) - 1):
        here = points[i, which]
        if here != 0 and before > 0 and points[before, which] * here < 0:
            roots[count] = _polish(
                sides, which, points[before, 3], points[i, 3], points[before, which], here, memory, work
            )
            count += 1
        if here != 0:
            before = i
    if before == 0:  # 0 wherever it is seen: it has no zero that is one
        return roots[:0]
    crossings = count
    for i in range(2, len(points) - 2):
        size, left, right = abs(points[i, which]), points[i - 1, which], points[i + 1, which]
        touches = size <= abs(left) and size <= abs(right) and size < _TOUCH and left * right > 0
        for k in range(
            crossings if touches else 0
        ):  # rounding also makes one next to a crossing, which is listed already
            touches = touches and abs(roots[k] - points[i, 3]) > _TOUCH * points[i, 3]
        if touches:
            roots[count] = points[i, 3]
            count += 1
    return roots[:count]


@numba.njit(**INNER, error_model="numpy")
def _polish(sides, which, a, b, fa, fb, memory, work):
    """Return the zero in a bracket, by inverse quadratic steps where they are safe, by halves where not.

    Chandrupatla, Adv. Eng. Software 28 (1997) 145.
    """
    step = 0.5
    for _ in range(_POLISH):
        x = a + step * (b - a)
        _look(sides, x, memory, work)
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


@numba.njit(**KERNEL)
def closest(sides, points, memory):
    """Return (min |1 + L|, frequency) from points that ascend: the lowest, and every dip that is next to it."""
    work, first = np.empty(4), 0
    for k in range(1, len(points)):
        first = k if points[k, 2] < points[first, 2] else first
    lowest, at = points[first, 2], points[first, 3]
    near = 1.5 * lowest
    for k in range(1, len(points) - 1):
        if points[k, 2] <= min(points[k - 1, 2], points[k + 1, 2], near):
            left, right, w = k - 1, k + 1, points[k, 3]
            # Points next to each other, about a crossing, differ by rounding alone: a dip reaches beyond them.
            while left > 0 and w - points[left, 3] < _SAME * w:
                left -= 1
            while right < len(points) - 1 and points[right, 3] - w < _SAME * w:
                right += 1
            high = points[right, 3] if math.isfinite(points[right, 3]) else 1e3 * w
            depth, place = _dip(sides, points[left, 3], w, high, memory, work)
            if depth < lowest:
                lowest, at = depth, place
    return lowest, at


@numba.njit(**INNER)
def _dip(sides, low, middle, high, memory, work):
    """Return (min |1 + L|, frequency) between two frequencies: the lowest of a few parts each side, then a descent."""
    lowest, at, left, right = np.inf, middle, low, high
    for k in range(2 * _PARTS + 1):
        share = k / _PARTS
        w = low + (middle - low) * share if k <= _PARTS else middle + (high - middle) * (share - 1)
        _look(sides, w, memory, work)
        if work[2] < lowest:
            lowest, at = work[2], w
            left = max(low, w - (middle - low if k <= _PARTS else high - middle) / _PARTS)
            right = min(high, w + (middle - low if k < _PARTS else high - middle) / _PARTS)
    return _descend(sides, left, right, lowest, at, memory, work)


@numba.njit(**INNER, error_model="numpy")
def _descend(sides, left, right, lowest, at, memory, work):
    """Return the lowest point of a bracket: tops of parabolas through the three lowest points, else golden sections.

    Brent, Algorithms for Minimization without Derivatives, 1973, chapter 5.
    """
    close = _HALF * (right - left)
    second, third, of_second, of_third = at, at, lowest, lowest
    step, before = 0.0, 0.0
    for _ in range(_SECTIONS):
        middle = (left + right) / 2
        if abs(at - middle) <= 2 * close - (right - left) / 2:
            break
        r, q = (at - second) * (lowest - of_third), (at - third) * (lowest - of_second)
        p, q = (at - third) * q - (at - second) * r, 2 * (q - r)
        if q > 0:
            p = -p
        q, before, step_before = abs(q), step, before
        if abs(p) < abs(q * step_before / 2) and q * (left - at) < p < q * (right - at):
            step = p / q
        else:
            before = (right - at) if at < middle else (left - at)
            step = _GOLDEN * before
        w = at + (step if abs(step) >= close else np.copysign(close, step))
        _look(sides, w, memory, work)
        value = work[2]
        if value <= lowest:
            left, right = (at, right) if w >= at else (left, at)
            third, of_third, second, of_second, at, lowest = second, of_second, at, lowest, w, value
            continue
        left, right = (w, right) if w < at else (left, w)
        if value <= of_second or second == at:
            third, of_third, second, of_second = second, of_second, w, value
        elif value <= of_third or third in (at, second):
            third, of_third = w, value
    return lowest, at
