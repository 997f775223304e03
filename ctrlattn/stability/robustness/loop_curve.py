"""L on the boundary, z = e^{iw} (s = iw): where L is real and negative, where |L| = 1, and where |1 + L| is least.

Two searches that share nothing say where to look: the grid of `boundary_search`, about the closed-loop poles, and
pencils of the loop that have the crossings as eigenvalues. What either suggests is polished on the response itself:
rounding of a pencil then costs no digit of a result, and nothing is listed that the response does not show.
"""

import math
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from ctrlattn.linear.lapack import on_contiguous
from ctrlattn.linear.realization import Realization
from ctrlattn.linear.transfer import BoundaryTransfer
from ctrlattn.stability.boundary_search import MIDDLE, OFFSETS, PER_DECADE, distinct, start_grid
from ctrlattn.stability.robustness.level_sets import NEAR, pencil_crossings, pencil_eigenvalues

_PENCIL = 16  # states up to which the pencils cost less than the grid
_BESIDE = np.array([-1e-3, -1e-6, 0.0, 1e-6, 1e-3])  # shares by which points of the grid lie beside a crossing
_UNIT = 1e-12  # from |L| = 1 at an end of the boundary
_REAL_AXIS = 1e-2  # share by which an eigenvalue may lie off the axis and still be tried: trying costs one response
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
    """Return the curve of a loop whose closed loop has these poles."""
    from ctrlattn.kernels import units as kernel

    sizes = np.abs(poles[poles != 0]) if loop.continuous else poles[:0]
    unit = float(np.exp(np.mean(np.log(sizes)))) if loop.continuous and len(sizes) else 1.0
    a, b, c = on_contiguous(kernel.in_equal_units, loop[:3], unit) if len(loop.a) else loop[:3]
    scaled = Realization(a, b, c, loop.d, loop.continuous)
    return LoopCurve(scaled, poles / unit, unit, BoundaryTransfer(*scaled[:5], balanced=True))


def searched(curve: LoopCurve, *, finer: int = 1) -> Crossed:
    """Return the crossings and the closest point, from a grid that adapts: none hides between two of its points."""
    from ctrlattn.kernels import curve as kernel

    w, values, inner, closest, at = kernel.searched(curve.transfer.sides, first_grid(curve, finer), curve.end)
    # A handful of points: calls of numpy would take longer than the numbers themselves.
    points = list(zip(w.tolist(), values.tolist(), strict=True))
    ends, inside, unit = points[:2], points[2 : 2 + inner], points[2 + inner :]
    real = ends + [x for x in inside if x[1].real < 0 and abs(x[1].imag) <= -_REAL * x[1].real]
    unit = [x for x in ends if abs(abs(x[1]) - 1) <= _UNIT] + unit
    return Crossed(*_sort_points(real), *_sort_points(unit), closest, at)


def _sort_points(points: list[tuple[float, complex]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the frequencies ascending, of several that are equal the first, and values there."""
    first: dict[float, complex] = {}
    for w, value in sorted(points, key=itemgetter(0)):
        first.setdefault(w, value)
    return np.array(list(first), dtype=float), np.array(list(first.values()), dtype=complex)


def first_grid(curve: LoopCurve, finer: int = 1) -> np.ndarray:
    """Return where L is looked at first, ascending: about the poles, and beside what the pencils suggest."""
    loop = curve.loop
    seeds = _crossing_seeds(loop) if 0 < len(loop.a) <= _PENCIL else np.zeros(0)
    if finer == 1:
        from ctrlattn.kernels import first_points as kernel

        poles = curve.poles.astype(complex)
        points = kernel.first_points(poles, loop.continuous, PER_DECADE, MIDDLE, OFFSETS, seeds, _BESIDE)
        points.sort()
        return points
    w = start_grid(curve.poles, continuous=loop.continuous, finer=finer)
    seeds = seeds[(seeds > w[0]) & (seeds < w[-1])]
    w = distinct(np.concatenate([w, np.multiply.outer(1 + _BESIDE, seeds).ravel()]))
    return w[(w > 0) & (w < curve.end)]


def _crossing_seeds(loop: Realization) -> np.ndarray:
    """Return what `real_axis_pencil` and the pencil of |L| = 1 suggest."""
    from ctrlattn.kernels import first_points as kernel

    seeds, converged = on_contiguous(kernel.suggested, loop[:4], loop.continuous, _REAL_AXIS, NEAR)
    return seeds if converged else np.concatenate([real_axis_pencil(loop), pencil_crossings(loop, 1.0)])


def real_axis_pencil(loop: Realization) -> np.ndarray:
    """Return the frequencies near which L - L~ is singular, so that L is real.

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
    s = s[np.isfinite(s) & (s.imag > 0) & (np.abs(s.real) <= _REAL_AXIS * np.abs(s))]
    return np.abs(s) if loop.continuous else 2 * np.arctan(np.abs(s))
