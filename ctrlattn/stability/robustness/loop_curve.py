"""L on the boundary, z = e^{iw} (s = iw): where L is real and negative, where |L| = 1, and where |1 + L| is least.

Two searches that share nothing say where to look: the grid of `boundary_search`, about the closed-loop poles, and
pencils of the loop that have the crossings as eigenvalues. What either suggests is polished on the response itself:
rounding of a pencil then costs no digit of a result, and nothing is listed that the response does not show.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigvals

from ctrlattn.linear.balancing import state_scaling
from ctrlattn.linear.realization import Realization
from ctrlattn.linear.transfer import BoundaryTransfer
from ctrlattn.stability.boundary_search import Samples, samples, start_grid, zeros
from ctrlattn.stability.robustness.level_sets import pencil_crossings

_PENCIL = 16  # states up to which the pencils cost less than the grid
_NOISE = 1e-13
_ZOOMS = 6  # each divides the way by eight; the distance is flat at its least, so that half the digits of w are enough
_SIXTEENTHS = np.arange(17) / 16


class LoopCurve(NamedTuple):
    """A real SISO loop in units of a typical pole, its states scaled, and where its closed loop has its poles."""

    loop: Realization
    poles: np.ndarray  # of the closed loop
    unit: float  # frequencies here times `unit` are those of the system
    transfer: BoundaryTransfer

    @property
    def end(self) -> float:
        return math.inf if self.loop.continuous else math.pi

    def functions(self, w: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(3, m): sin(arg L)/sin w, in continuous time over w/(1 + w^2), (|L| - 1)/(|L| + 1), and |1 + L|.

        The first two are 0 within rounding.
        """
        with np.errstate(all="ignore"):
            size = np.abs(values)
            sine = np.where(np.isfinite(size) & (size > 0), values.imag / size, 0.0)
            level = np.where(np.isfinite(size), (size - 1) / (size + 1), 1.0)
        base = w / (1 + w * w) if self.loop.continuous else np.sin(w)
        near = [np.where(np.abs(f) < _NOISE, 0.0, f / scale) for f, scale in ((sine, base), (level, 1.0))]
        return np.stack([*near, np.minimum(np.abs(1 + values), 1e300)])

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


def adaptive_grid(curve: LoopCurve, *, finer: int = 1) -> Samples:
    """L where it decides: no crossing and no dip of |1 + L| hides between two neighbours."""
    w = start_grid(curve.poles, continuous=curve.loop.continuous, finer=finer)
    if not len(curve.loop.a):
        values = curve.values(w)
        return Samples(w, values, curve.functions(w, values))
    if len(curve.loop.a) <= _PENCIL:
        seeds = np.concatenate([real_axis_pencil(curve.loop), pencil_crossings(curve.loop, 1.0)])
        seeds = seeds[(seeds > w[0]) & (seeds < w[-1])]
        w = np.unique(np.concatenate([w, *(seeds * (1 + share) for share in (-1e-3, -1e-6, 0.0, 1e-6, 1e-3))]))
        w = w[w < curve.end]
    return samples(curve.values, curve.functions, w)


def real_axis(curve: LoopCurve, grid: Samples) -> np.ndarray:
    """w inside (0, end) where L is real and negative."""
    w = zeros(curve.values, curve.functions, grid, 0)
    values = curve.values(w)
    return w[np.isfinite(values) & (values.real < 0) & (np.abs(values.imag) <= 1e-6 * np.abs(values))]


def unit_circle(curve: LoopCurve, grid: Samples) -> np.ndarray:
    """w in [0, end] where |L| = 1."""
    ends = np.array([0.0, curve.end])
    at_ends = ends[np.abs(np.abs(curve.values(ends)) - 1) <= 1e-12]
    return np.concatenate([zeros(curve.values, curve.functions, grid, 1), at_ends])


def closest_to_minus_one(curve: LoopCurve, grid: Samples) -> tuple[float, float]:
    """(min |1 + L|, w)."""
    w = np.concatenate([[0.0], grid.w, [curve.end]])
    ends = curve.values(w[[0, -1]])
    distance = np.abs(1 + np.concatenate([ends[:1], grid.values, ends[1:]]))
    inner = np.flatnonzero((distance[1:-1] <= distance[:-2]) & (distance[1:-1] <= distance[2:])) + 1
    near = inner[distance[inner] <= 1.5 * distance.min()]
    best = [(float(distance.min()), float(w[int(np.argmin(distance))]))]
    best += [_zoomed(curve, w[i - 1], w[i], w[i + 1]) for i in near]
    return min(best)


def real_axis_pencil(loop: Realization) -> np.ndarray:
    """Frequencies near which L - L~ is singular, so that L is real.

    x = A x + B u and its adjoint p, driven by u, make one pencil with both ends of the boundary as eigenvalues. It is
    written in z - 1 over z + 1, so that what lies near 1 is not lost in rounding of 1.
    """
    a, b, c = loop[:3]
    n = len(a)
    eye, zero, column = np.eye(n), np.zeros((n, n)), np.zeros((n, 1))
    last, row = np.hstack([c, -b.T, np.zeros((1, 1))]), np.zeros((1, 2 * n + 1))
    if loop.continuous:
        left = np.vstack([np.hstack([a, zero, b]), np.hstack([zero, -a.T, -c.T]), last])
        right = np.vstack([np.hstack([eye, zero, column]), np.hstack([zero, eye, column]), row])
    else:
        left = np.vstack([np.hstack([a - eye, zero, b]), np.hstack([zero, eye - a.T, -c.T]), last])
        right = np.vstack([np.hstack([a + eye, zero, b]), np.hstack([zero, eye + a.T, c.T]), row])
    top, bottom = eigvals(left, right, homogeneous_eigvals=True, check_finite=False)
    with np.errstate(all="ignore"):
        s = top / bottom  # (z - 1)/(z + 1) = i tan(w/2)
    s = s[np.isfinite(s) & (s.imag > 0) & (np.abs(s.real) <= 1e-2 * np.abs(s))]
    return np.abs(s) if loop.continuous else 2 * np.arctan(np.abs(s))


def _zoomed(curve: LoopCurve, low: float, middle: float, high: float) -> tuple[float, float]:
    """(min |1 + L|, w) between two neighbours of a point that is lower than both."""
    if not math.isfinite(high):
        low, high = low, 1e3 * middle
    for _ in range(_ZOOMS):
        w = low + (high - low) * _SIXTEENTHS
        distance = np.abs(1 + curve.values(w))
        at = int(np.argmin(distance))
        low, high = w[max(at - 1, 0)], w[min(at + 1, 16)]
    return float(distance[at]), float(w[at])
