"""L on the boundary, z = e^{iw} (s = iw): where L is real and negative, where |L| = 1, and where |1 + L| is least.

Two searches that share nothing say where to look: the grid of `boundary_search`, about the closed-loop poles, and
pencils of the loop that have the crossings as eigenvalues. What either suggests is polished on the response itself:
rounding of a pencil then costs no digit of a result, and nothing is listed that the response does not show.
"""

import math
from typing import NamedTuple

import numpy as np

from ctrlattn.linear.balancing import state_scaling
from ctrlattn.linear.realization import Realization
from ctrlattn.linear.transfer import BoundaryTransfer
from ctrlattn.stability.boundary_search import Samples, distinct, start_grid
from ctrlattn.stability.robustness.level_sets import pencil_crossings, pencil_eigenvalues

_PENCIL = 16  # states up to which the pencils cost less than the grid
_BESIDE = np.array([-1e-3, -1e-6, 0.0, 1e-6, 1e-3])  # shares by which points of the grid lie beside a crossing


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
    return LoopCurve(scaled, poles / unit, unit, BoundaryTransfer(*scaled[:5], balanced=True))


def adaptive_grid(curve: LoopCurve, *, finer: int = 1) -> Samples:
    """L where it decides: no crossing and no dip of |1 + L| hides between two neighbours."""
    from ctrlattn.kernels import curve as kernel

    w = start_grid(curve.poles, continuous=curve.loop.continuous, finer=finer)
    if 0 < len(curve.loop.a) <= _PENCIL:
        seeds = np.concatenate([real_axis_pencil(curve.loop), pencil_crossings(curve.loop, 1.0)])
        seeds = seeds[(seeds > w[0]) & (seeds < w[-1])]
        w = distinct(np.concatenate([w, np.multiply.outer(1 + _BESIDE, seeds).ravel()]))
        w = w[w < curve.end]
    return Samples(*kernel.refined(curve.transfer.sides, w))


def real_axis(curve: LoopCurve, grid: Samples) -> np.ndarray:
    """w inside (0, end) where L is real and negative."""
    w = _zeros(curve, grid, 0)
    values = curve.values(w)
    return w[np.isfinite(values) & (values.real < 0) & (np.abs(values.imag) <= 1e-6 * np.abs(values))]


def unit_circle(curve: LoopCurve, grid: Samples) -> np.ndarray:
    """w in [0, end] where |L| = 1."""
    ends = np.array([0.0, curve.end])
    at_ends = ends[np.abs(np.abs(curve.values(ends)) - 1) <= 1e-12]
    return np.concatenate([_zeros(curve, grid, 1), at_ends])


def closest_to_minus_one(curve: LoopCurve, grid: Samples) -> tuple[float, float]:
    """(min |1 + L|, w)."""
    from ctrlattn.kernels import curve as kernel

    w = np.concatenate([[0.0], grid.w, [curve.end]])
    ends = np.minimum(np.abs(1 + curve.values(w[[0, -1]])), 1e300)
    return kernel.closest(curve.transfer.sides, w, np.concatenate([ends[:1], grid.functions[2], ends[1:]]))


def real_axis_pencil(loop: Realization) -> np.ndarray:
    """Frequencies near which L - L~ is singular, so that L is real.

    x = A x + B u and its adjoint p, driven by u, make one pencil with both ends of the boundary as eigenvalues. It is
    written in z - 1 over z + 1, so that what lies near 1 is not lost in rounding of 1.
    """
    a, b, c = loop[:3]
    n = len(a)
    eye, x, p, u = np.eye(n), slice(0, n), slice(n, 2 * n), 2 * n
    left, right = np.zeros((2, 2 * n + 1, 2 * n + 1))
    left[x, x], left[x, u], left[p, p], left[p, u] = a, b[:, 0], -a.T, -c[0]
    left[u, x], left[u, p] = c[0], -b[:, 0]
    if loop.continuous:
        right[x, x] = right[p, p] = eye
    else:
        right[x], right[p] = left[x], -left[p]
        left[x, x] -= eye
        left[p, p] += eye
        right[x, x] += eye
        right[p, p] += eye
    top, bottom = pencil_eigenvalues(left, right)
    with np.errstate(all="ignore"):
        s = top / bottom  # (z - 1)/(z + 1) = i tan(w/2)
    s = s[np.isfinite(s) & (s.imag > 0) & (np.abs(s.real) <= 1e-2 * np.abs(s))]
    return np.abs(s) if loop.continuous else 2 * np.arctan(np.abs(s))


def _zeros(curve: LoopCurve, grid: Samples, which: int) -> np.ndarray:
    from ctrlattn.kernels import curve as kernel

    return kernel.zeros(curve.transfer.sides, grid.w, np.ascontiguousarray(grid.functions[which]), which)
