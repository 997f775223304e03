"""L on the boundary, z = e^{iw} (s = iw): where L is real and negative, where |L| = 1, and where |1 + L| is least.

Two searches that share nothing say where to look. A grid starts at the closed-loop poles, since the curve turns fast
only near them, and halves its steps until no sign can change unseen between two points. A pencil of the loop has
the crossings as eigenvalues. What either suggests is polished on the response itself: rounding of a pencil then
costs no digit of a result, and nothing is listed that the response does not show.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigvals

from ctrlattn.linear.balancing import state_scaling
from ctrlattn.linear.realization import Realization
from ctrlattn.linear.transfer import BoundaryTransfer

_PENCIL = 16  # states up to which the pencils cost less than the grid
_ROUNDS = 45  # halvings of a step; each but the first few concerns a handful of places
_STALLED = 6  # halvings that may bend the curve as much as the one before, as they do on the way to a sharp feature
_TOUCH = 1e-9  # a curve this near an axis, relative to its size, touches it
_NOISE = 1e-13
_PER_DECADE = 7

Function = Callable[[np.ndarray, np.ndarray], np.ndarray]


class LoopCurve(NamedTuple):
    """A real SISO loop in units of a typical pole, its states scaled, and where its closed loop has its poles."""

    loop: Realization
    poles: np.ndarray  # of the closed loop
    unit: float  # frequencies here times `unit` are those of the system
    transfer: BoundaryTransfer

    @property
    def end(self) -> float:
        return math.inf if self.loop.continuous else math.pi

    def values(self, w: np.ndarray) -> np.ndarray:
        """L; infinite at a pole."""
        values = self.transfer.at(w)[0, 0]
        return np.where(np.isfinite(values), values, np.inf)


def loop_curve(loop: Realization, poles: np.ndarray) -> LoopCurve:
    """The curve of a loop whose closed loop has these poles."""
    sizes = np.abs(poles[poles != 0])
    unit = float(np.exp(np.mean(np.log(sizes)))) if loop.continuous and len(sizes) else 1.0
    scale = state_scaling(loop.a, loop.b, loop.c)
    a, b, c = loop.a * scale / scale[:, None] / unit, loop.b / scale[:, None] / unit, loop.c * scale
    scaled = Realization(a, b, c, loop.d, loop.continuous)
    return LoopCurve(scaled, poles / unit, unit, BoundaryTransfer(*scaled[:5]))


def real_axis(curve: LoopCurve, grid: "Grid") -> np.ndarray:
    """w inside (0, end) where L is real and negative."""
    candidates = _zeros(curve, grid, 0)
    values = curve.values(candidates)
    negative = np.isfinite(values) & (values.real < 0) & (np.abs(values.imag) <= 1e-6 * np.abs(values))
    return candidates[negative]


def unit_circle(curve: LoopCurve, grid: "Grid") -> np.ndarray:
    """w in [0, end] where |L| = 1."""
    inside = _zeros(curve, grid, 1)
    ends = np.array([0.0, curve.end])
    return np.concatenate([inside, ends[np.abs(np.abs(curve.values(ends)) - 1) <= 1e-12]])


def closest_to_minus_one(curve: LoopCurve, grid: "Grid") -> tuple[float, float]:
    """(min |1 + L|, w)."""
    w = np.concatenate([[0.0], grid.w, [curve.end]])
    distance = np.abs(1 + np.concatenate([curve.values(w[[0]]), grid.values, curve.values(w[[-1]])]))
    inner = np.flatnonzero((distance[1:-1] <= distance[:-2]) & (distance[1:-1] <= distance[2:])) + 1
    near = inner[distance[inner] <= 1.5 * distance.min()]
    best = [(float(distance.min()), float(w[int(np.argmin(distance))]))]
    best += [_zoomed(curve, w[i - 1], w[i], w[i + 1]) for i in near]
    return min(best)


class Grid(NamedTuple):
    """Frequencies inside (0, end), ascending, and L there."""

    w: np.ndarray
    values: np.ndarray


def adaptive_grid(curve: LoopCurve, *, finer: int = 1) -> Grid:
    """Points so dense that between two neighbours none of the functions changes its sign twice."""
    w = _start(curve, finer)
    if not len(curve.loop.a):
        return Grid(w, curve.values(w))
    if len(curve.loop.a) <= _PENCIL:
        seeds = np.concatenate([pencil_frequencies(curve.loop, -1.0), pencil_frequencies(curve.loop, 1.0)])
        seeds = seeds[(seeds > w[0]) & (seeds < w[-1])]
        w = np.unique(np.concatenate([w, *(seeds * (1 + share) for share in (-1e-3, -1e-6, 0.0, 1e-6, 1e-3))]))
        w = w[w < (curve.end if not curve.loop.continuous else math.inf)]
    return _refined(curve, w)


def _refined(curve: LoopCurve, w: np.ndarray) -> Grid:
    """Steps are halved where a sign change may hide, until they show it, or show that only rounding bends the curve."""
    values = curve.values(w)
    active = np.arange(len(w) - 1)
    bend, stalled = np.full((3, len(active)), np.inf), np.zeros(len(active), dtype=int)
    for _ in range(_ROUNDS):
        if not len(active):
            break
        middle = (w[active] + w[active + 1]) / 2
        inserted = curve.values(middle)
        ends = (w[active], middle, w[active + 1]), (values[active], inserted, values[active + 1])
        w, values = np.insert(w, active + 1, middle), np.insert(values, active + 1, inserted)
        hidden, curvature = _unresolved(curve, *ends)
        # A smooth curve bends four times less over half the step; noise and jumps bend as much at every step.
        stalled = np.where(np.any(hidden & (curvature > 0.7 * bend), axis=0), stalled + 1, 0)
        again = np.any(hidden, axis=0) & (stalled < _STALLED) & (ends[0][2] - ends[0][0] > 1e-14 * ends[0][2])
        halves = (active + np.arange(len(active)))[again]  # each point pushes what is behind it
        active = np.stack([halves, halves + 1], axis=1).ravel()
        bend, stalled = np.repeat(curvature[:, again], 2, axis=1), np.repeat(stalled[again], 2)
    return Grid(w, values)


def pencil_frequencies(loop: Realization, sign: float) -> np.ndarray:
    """Frequencies near which L - L~ (sign -1: L real) or L L~ - 1 (sign 1: |L| = 1) is singular.

    x = A x + B u and its adjoint p, driven by u (by y = C x + D u), make one pencil with both ends of the boundary as
    eigenvalues. It is written in z - 1 over z + 1, so that what lies near 1 is not lost in rounding of 1.
    """
    a, b, c, d = loop[:4]
    n = len(a)
    eye, zero, column = np.eye(n), np.zeros((n, n)), np.zeros((n, 1))
    into = (c.T @ c, c.T @ d) if sign > 0 else (zero, c.T)
    last = np.hstack([d.T @ c, b.T, d.T @ d - 1]) if sign > 0 else np.hstack([c, -b.T, np.zeros((1, 1))])
    row = np.zeros((1, 2 * n + 1))
    if loop.continuous:
        left = np.vstack([np.hstack([a, zero, b]), np.hstack([-into[0], -a.T, -into[1]]), last])
        right = np.vstack([np.hstack([eye, zero, column]), np.hstack([zero, eye, column]), row])
    else:
        left = np.vstack([np.hstack([a, zero, b]), np.hstack([zero, eye, column]), last])
        right = np.vstack([np.hstack([eye, zero, column]), np.hstack([into[0], a.T, into[1]]), row])
        left, right = (
            np.vstack([left[: 2 * n] - right[: 2 * n], last]),
            np.vstack([left[: 2 * n] + right[: 2 * n], row]),
        )
    top, bottom = eigvals(left, right, homogeneous_eigvals=True, check_finite=False)
    with np.errstate(all="ignore"):
        s = top / bottom  # (z - 1)/(z + 1) = i tan(w/2)
    s = s[np.isfinite(s) & (s.imag > 0) & (np.abs(s.real) <= 1e-2 * np.abs(s))]
    return np.abs(s) if loop.continuous else 2 * np.arctan(np.abs(s))


def _start(curve: LoopCurve, finer: int) -> np.ndarray:
    """Logarithmic from both ends, as near as the closest pole asks for, and dense near each lightly damped pole."""
    poles = curve.poles[np.abs(curve.poles) > 1e-300]
    if curve.loop.continuous:
        sizes = np.abs(poles) if len(poles) else np.ones(1)
        w = _decades(1e-3 * sizes.min(), 1e3 * sizes.max())
        angle, damping = np.abs(poles.imag), np.abs(poles.real)
    else:
        low, high = (max(float(np.min(np.abs(poles - end), initial=1.0)), 1e-12) for end in (1.0, -1.0))
        w = np.concatenate([_decades(1e-3 * low, 1.0), math.pi - _decades(1e-3 * high, 1.0), np.linspace(1, 2.2, 12)])
        angle, damping = np.abs(np.angle(poles)), np.abs(1 - np.abs(poles))
    sharp = (angle > 0) & (damping < 0.3 * np.minimum(angle, math.inf if curve.loop.continuous else math.pi - angle))
    offsets = np.array([-8.0, -4.0, -2.0, -1.0, -0.4, 0.0, 0.4, 1.0, 2.0, 4.0, 8.0])
    near = (angle[sharp, None] + np.maximum(damping[sharp, None], 1e-12) * offsets).ravel()
    w = np.unique(np.concatenate([w, near]))
    w = w[(w > 0) & (w < curve.end)]
    return np.interp(np.arange(finer * (len(w) - 1) + 1) / finer, np.arange(len(w)), w)


def _decades(low: float, high: float) -> np.ndarray:
    return np.geomspace(low, high, int(_PER_DECADE * math.log10(high / low)) + 2)


def _functions(curve: LoopCurve, w: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(2, m): sin(arg L)/sin w, in continuous time over w/(1 + w^2), and (|L| - 1)/(|L| + 1); 0 within rounding."""
    with np.errstate(all="ignore"):
        size = np.abs(values)
        sine = np.where(np.isfinite(size) & (size > 0), values.imag / size, 0.0)
        level = np.where(np.isfinite(size), (size - 1) / (size + 1), 1.0)
    base = w / (1 + w * w) if curve.loop.continuous else np.sin(w)
    return np.stack([np.where(np.abs(sine) < _NOISE, 0.0, sine / base), np.where(np.abs(level) < _NOISE, 0.0, level)])


def _unresolved(
    curve: LoopCurve, w: tuple[np.ndarray, ...], values: tuple[np.ndarray, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """(hidden, curvature), each (3, m): may a function cross zero, or |1 + L| dip, between left, middle and right?

    A parabola through the three crosses twice only if its turning point is inside and as deep as the values.
    """
    seen = [np.vstack([_functions(curve, *pair), np.abs(1 + pair[1])[None]]) for pair in zip(w, values, strict=True)]
    left, middle, right = np.nan_to_num(np.array(seen), posinf=1e300)
    curvature, slope = np.abs(left - 2 * middle + right), np.abs(left - right)
    lowest = np.minimum(np.minimum(np.abs(left), np.abs(right)), np.abs(middle))
    crossed = (left * middle < 0) | (middle * right < 0)
    return np.where(crossed, 2 * curvature > slope, (2 * curvature > lowest) & (4 * curvature > slope)), curvature


def _zeros(curve: LoopCurve, grid: Grid, which: int) -> np.ndarray:
    """Zeros of one of the functions: polished sign changes, and where it touches zero."""
    f = _functions(curve, *grid)[which]
    sure = np.flatnonzero(f != 0)
    if not len(sure):
        return np.zeros(0)  # zero everywhere: no crossing is one
    change = np.flatnonzero(f[sure[:-1]] * f[sure[1:]] < 0)
    brackets = sure[change], sure[change + 1]

    def function(w: np.ndarray) -> np.ndarray:
        return _functions(curve, w, curve.values(w))[which]

    crossed = _polished(function, *(grid.w[i] for i in brackets), *(f[i] for i in brackets))
    size = np.abs(f)
    inner = np.flatnonzero((size[1:-1] <= size[:-2]) & (size[1:-1] <= size[2:]) & (size[1:-1] < _TOUCH)) + 1
    touching = [i for i in inner if f[i - 1] * f[i + 1] > 0]
    return np.concatenate([crossed, grid.w[touching]])


def _polished(
    function: Callable[[np.ndarray], np.ndarray], a: np.ndarray, b: np.ndarray, fa: np.ndarray, fb: np.ndarray
) -> np.ndarray:
    """The zero in each bracket at once, by inverse quadratic steps where they are safe, by halves where not.

    Chandrupatla, Adv. Eng. Software 28 (1997) 145.
    """
    a, b, fa, fb = a.copy(), b.copy(), fa.copy(), fb.copy()
    if not len(a):
        return a
    step = np.full(len(a), 0.5)
    for _ in range(100):
        x = a + step * (b - a)
        fx = function(x)
        same = np.sign(fx) == np.sign(fa)
        c, fc = np.where(same, a, b), np.where(same, fa, fb)
        b, fb = np.where(same, b, a), np.where(same, fb, fa)
        a, fa = x, fx
        best = np.where(np.abs(fa) < np.abs(fb), a, b)
        if np.all((np.abs(b - a) <= 4e-16 * np.abs(best)) | (fa == 0) | (fb == 0)):
            break
        with np.errstate(all="ignore"):
            xi, phi, ratio = (a - b) / (c - b), (fa - fb) / (fc - fb), (c - a) / (b - a)
            inverse = fa / (fb - fa) * fc / (fb - fc) + ratio * fa / (fc - fa) * fb / (fc - fb)
            safe = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi) & np.isfinite(inverse)
            least = 2e-16 * np.abs(best) / np.abs(b - a)
        step = np.clip(np.where(safe, inverse, 0.5), np.fmin(least, 0.5), 1 - np.fmin(least, 0.5))
    return best


def _zoomed(curve: LoopCurve, low: float, middle: float, high: float) -> tuple[float, float]:
    """(min |1 + L|, w) between two neighbours of a point that is lower than both."""
    if not math.isfinite(high):
        low, high = low, 1e3 * middle
    for _ in range(7):
        w = np.linspace(low, high, 17)
        distance = np.abs(1 + curve.values(w))
        at = int(np.argmin(distance))
        low, high = w[max(at - 1, 0)], w[min(at + 1, 16)]
    return float(distance[at]), float(w[at])
