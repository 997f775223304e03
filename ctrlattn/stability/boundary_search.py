"""f(w) = 0 along the boundary, z = e^{iw} (s = iw): all zeros of functions of a response, seen on a grid that adapts.

The grid starts about given poles and zeros of the response, since it turns fast only near them, and halves its steps
until no sign can change unseen between two points. Zeros are polished on the response itself.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_ROUNDS = 45  # halvings of a step; each but the first few concerns a handful of places
_STALLED = 6  # halvings that may bend the curve as much as the one before, as they do on the way to a sharp feature
_MOST = 20_000  # points; a response that asks for more is noise
_TOUCH = 1e-9  # a function this near zero at its turning point touches it
PER_DECADE = 7
MIDDLE = np.linspace(1, 2.2, 12)  # rad per sample
OFFSETS = np.array([-8.0, -4.0, -2.0, -1.0, -0.4, 0.0, 0.4, 1.0, 2.0, 4.0, 8.0])  # in distances from the boundary

BoundaryResponse = Callable[[np.ndarray], np.ndarray]
Functions = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Samples(NamedTuple):
    """Ascending frequencies inside (0, end), the response there, and the functions (k, m) of it."""

    w: np.ndarray
    values: np.ndarray
    functions: np.ndarray


def start_grid(roots: np.ndarray, *, continuous: bool, finer: int = 1) -> np.ndarray:
    """Return frequencies, logarithmic from both ends, as near as the closest root asks, and dense near each other one.

    Parameters
    ----------
    roots : (n,) complex
        Poles and zeros of the response.
    continuous : bool
    finer : int
        Every step is divided by it.

    Returns
    -------
    (m,)
        Ascending, inside (0, pi) or (0, inf).
    """
    roots = roots[np.abs(roots) > 1e-300]
    if continuous:
        sizes = np.abs(roots) if len(roots) else np.array([1.0])
        w = _decades(1e-3 * sizes.min(), 1e3 * sizes.max())
        angle, distance, end = np.abs(roots.imag), np.abs(roots.real), math.inf
    else:
        low, high = (max(float(np.abs(roots - z).min(initial=1.0)), 1e-12) for z in (1.0, -1.0))
        w = np.concatenate([_decades(1e-3 * low, 1.0), math.pi - _decades(1e-3 * high, 1.0), MIDDLE])
        angle, distance, end = np.abs(np.angle(roots)), np.abs(1 - np.abs(roots)), math.pi
    sharp = (angle > 0) & (distance < 0.3 * np.minimum(angle, end - angle))
    near = (angle[sharp, None] + np.maximum(distance[sharp, None], 1e-12) * OFFSETS).ravel()
    w = distinct(np.concatenate([w, near]))
    w = w[(w > 0) & (w < end)]
    if finer == 1:
        return w
    return np.interp(np.arange(finer * (len(w) - 1) + 1) / finer, np.arange(len(w)), w)


def _decades(low: float, high: float) -> np.ndarray:
    steps = int(PER_DECADE * math.log10(high / low)) + 1
    return low * np.exp(np.arange(steps + 1) * (math.log(high / low) / steps))


def distinct(values: np.ndarray) -> np.ndarray:
    """Return the values ascending, each once; `numpy.unique` takes three times as long for few.

    >>> distinct(np.array([2.0, 1.0, 2.0])).tolist()
    [1.0, 2.0]
    """
    values = np.sort(values)
    return values[np.concatenate([[True], values[1:] != values[:-1]])] if len(values) else values


def samples(response: BoundaryResponse, functions: Functions, w: np.ndarray) -> Samples:
    """Halve the steps where a sign change may hide, until they show it, or show that only rounding bends the curve."""
    values = response(w)
    f = functions(w, values)
    active = np.arange(len(w) - 1)
    bend, stalled = np.full((len(f), len(active)), np.inf), np.zeros(len(active), dtype=int)
    for _ in range(_ROUNDS):
        if not len(active) or len(w) > _MOST:
            break
        left, right, middle = w[active], w[active + 1], (w[active] + w[active + 1]) / 2
        inserted = response(middle)
        f_middle = functions(middle, inserted)
        hidden, curvature = _hidden_zeros(f[:, active], f_middle, f[:, active + 1])
        w, values = np.insert(w, active + 1, middle), np.insert(values, active + 1, inserted)
        f = np.insert(f, active + 1, f_middle, axis=1)
        # A smooth curve bends four times less over half the step; noise and jumps bend as much at every step.
        stalled = stalled + np.any(hidden & (curvature > 0.7 * bend), axis=0)
        pending = np.any(hidden, axis=0) & (stalled < _STALLED) & (right - left > 1e-14 * right)
        halves = (active + np.arange(len(active)))[pending]  # each point pushes what is behind it
        active = np.stack([halves, halves + 1], axis=1).ravel()
        bend, stalled = np.repeat(curvature[:, pending], 2, axis=1), np.repeat(stalled[pending], 2)
    return Samples(w, values, f)


def _hidden_zeros(left: np.ndarray, middle: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (may a function cross zero between the three points, unseen; curvature), each (k, m).

    A parabola through the three crosses twice only if its turning point is inside and as deep as the values.
    """
    curvature, slope = np.abs(left - 2 * middle + right), np.abs(left - right)
    lowest = np.minimum(np.minimum(np.abs(left), np.abs(right)), np.abs(middle))
    sign_changes = (left * middle < 0) | (middle * right < 0)
    return np.where(sign_changes, 2 * curvature > slope, (2 * curvature > lowest) & (4 * curvature > slope)), curvature


def zeros(response: BoundaryResponse, functions: Functions, grid: Samples, which: int) -> np.ndarray:
    """Return the zeros of one of the functions inside the grid: polished sign changes, and where it touches zero.

    A function that is 0 wherever it is seen has none.
    """
    f = grid.functions[which]
    sure = np.flatnonzero(f != 0)
    if not len(sure):
        return np.zeros(0)
    change = np.flatnonzero(np.sign(f[sure[:-1]]) != np.sign(f[sure[1:]]))
    brackets = sure[change], sure[change + 1]

    def function(w: np.ndarray) -> np.ndarray:
        return functions(w, response(w))[which]

    sign_changes = _polish(function, *(grid.w[i] for i in brackets), *(f[i] for i in brackets))
    size = np.abs(f)
    inner = np.flatnonzero((size[1:-1] <= size[:-2]) & (size[1:-1] <= size[2:]) & (size[1:-1] < _TOUCH)) + 1
    touching = grid.w[inner[f[inner - 1] * f[inner + 1] > 0]]
    # Rounding also makes a turning point next to a crossing, which is listed already.
    apart = np.abs(touching[:, None] - sign_changes) > _TOUCH * touching[:, None]
    return np.concatenate([sign_changes, touching[apart.all(axis=1)]])


def _polish(
    function: Callable[[np.ndarray], np.ndarray], a: np.ndarray, b: np.ndarray, fa: np.ndarray, fb: np.ndarray
) -> np.ndarray:
    """Return the zero in each bracket at once, by inverse quadratic steps where they are safe, by halves where not.

    The method is that of Chandrupatla, Adv. Eng. Software 28 (1997) 145.
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
