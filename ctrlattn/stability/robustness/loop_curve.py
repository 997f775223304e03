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
from ctrlattn.stability.boundary_search import distinct, start_grid
from ctrlattn.stability.robustness.level_sets import pencil_crossings, pencil_eigenvalues

_PENCIL = 16  # states up to which the pencils cost less than the grid
_BESIDE = np.array([-1e-3, -1e-6, 0.0, 1e-6, 1e-3])  # shares by which points of the grid lie beside a crossing
_UNIT = 1e-12  # from |L| = 1 at an end of the boundary
_REAL = 1e-6  # of |L| that the imaginary part of a real L may have


class Crossed(NamedTuple):
    """What is on the curve, ascending in frequency, both ends of the boundary included."""

    real_axis: np.ndarray  # where L is real and negative inside the boundary, and at its ends whatever L is
    real_values: np.ndarray  # L there, complex; infinite at a pole
    unit_circle: np.ndarray  # where |L| = 1
    unit_values: np.ndarray  # L there
    closest: float  # min |1 + L|
    at: float  # and where


class LoopCurve(NamedTuple):
    """A real SISO loop in units of a typical pole, its states scaled, and where its closed loop has its poles."""

    loop: Realization
    poles: np.ndarray  # of the closed loop
    unit: float  # frequencies here times `unit` are those of the system
    transfer: BoundaryTransfer

    @property
    def end(self) -> float:
        return math.inf if self.loop.continuous else math.pi


def loop_curve(loop: Realization, poles: np.ndarray) -> LoopCurve:
    """The curve of a loop whose closed loop has these poles."""
    sizes = np.abs(poles[poles != 0]) if loop.continuous else poles[:0]
    unit = float(np.exp(np.mean(np.log(sizes)))) if loop.continuous and len(sizes) else 1.0
    scale = state_scaling(loop.a, loop.b, loop.c)
    a, b, c = loop.a * scale / scale[:, None] / unit, loop.b / scale[:, None] / unit, loop.c * scale
    scaled = Realization(a, b, c, loop.d, loop.continuous)
    return LoopCurve(scaled, poles / unit, unit, BoundaryTransfer(*scaled[:5], balanced=True))


def searched(curve: LoopCurve, *, finer: int = 1) -> Crossed:
    """Crossings and the closest point, from a grid that adapts: none hides between two of its points."""
    from ctrlattn.kernels import curve as kernel

    w, values, inner, closest, at = kernel.searched(curve.transfer.sides, first_grid(curve, finer), curve.end)
    ends, inside = np.arange(2), np.arange(2, 2 + inner)
    negative = inside[(values.real[inside] < 0) & (np.abs(values.imag[inside]) <= -_REAL * values.real[inside])]
    real = _ascending(w, np.concatenate([ends, negative]))
    at_ends = ends[np.abs(np.abs(values[:2]) - 1) <= _UNIT]
    unit = _ascending(w, np.concatenate([at_ends, np.arange(2 + inner, len(w))]))
    return Crossed(w[real], values[real], w[unit], values[unit], closest, at)


def _ascending(w: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Indices by ascending frequency, of several that are equal the first."""
    chosen = chosen[np.argsort(w[chosen], kind="stable")]
    return chosen[np.concatenate([[True], w[chosen[1:]] != w[chosen[:-1]]])] if len(chosen) else chosen


def first_grid(curve: LoopCurve, finer: int = 1) -> np.ndarray:
    """Where L is looked at first, ascending: about the poles, and beside what the pencils suggest."""
    loop = curve.loop
    w = start_grid(curve.poles, continuous=loop.continuous, finer=finer)
    if 0 < len(loop.a) <= _PENCIL:
        seeds = np.concatenate([real_axis_pencil(loop), pencil_crossings(loop, 1.0)])
        seeds = seeds[(seeds > w[0]) & (seeds < w[-1])]
        w = distinct(np.concatenate([w, np.multiply.outer(1 + _BESIDE, seeds).ravel()]))
    return w[(w > 0) & (w < curve.end)]


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
