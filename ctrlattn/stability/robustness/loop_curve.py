"""L on the boundary, z = e^{iw} (s = iw): where L is real and negative, where |L| = 1, and where |1 + L| is least.

Two searches that share nothing say where to look: the grid of `boundary_search`, about the closed-loop poles, and
pencils of the loop that have the crossings as eigenvalues. What either suggests is polished on the response itself:
rounding of a pencil then costs no digit of a result, and nothing is listed that the response does not show.
"""

import math
from typing import NamedTuple

import numpy as np

from ctrlattn.linear.lapack import on_contiguous
from ctrlattn.linear.realization import Realization
from ctrlattn.linear.transfer import BoundaryTransfer
from ctrlattn.stability.boundary_search import MIDDLE, OFFSETS, PER_DECADE, Samples, start_grid
from ctrlattn.stability.robustness.level_sets import NEAR

_PENCIL = 16  # states up to which the pencils cost less than the grid


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
        from ctrlattn.kernels import loop as kernel

        return kernel.values(self.transfer.sides, np.ascontiguousarray(w, dtype=float))


def loop_curve(loop: Realization, poles: np.ndarray) -> LoopCurve:
    """The curve of a loop whose closed loop has these poles."""
    from ctrlattn.kernels import poles as kernel

    sizes = np.abs(poles[poles != 0]) if loop.continuous else poles[:0]
    unit = float(np.exp(np.mean(np.log(sizes)))) if loop.continuous and len(sizes) else 1.0
    scale = on_contiguous(kernel.state_scaling, loop[:3])
    a, b, c = loop.a * scale / scale[:, None] / unit, loop.b / scale[:, None] / unit, loop.c * scale
    scaled = Realization(a, b, c, loop.d, loop.continuous)
    return LoopCurve(scaled, poles / unit, unit, BoundaryTransfer(*scaled[:5], balanced=True))


def adaptive_grid(curve: LoopCurve, *, finer: int = 1) -> Samples:
    """L where it decides: no crossing and no dip of |1 + L| hides between two neighbours."""
    from ctrlattn.kernels import loop as kernel

    loop, poles = curve.loop, curve.poles
    if finer == 1:
        re, im = poles.real.copy(), poles.imag.copy()
        w = kernel.start_grid(re, im, loop.continuous, PER_DECADE, MIDDLE, OFFSETS)
    else:
        w = start_grid(poles, continuous=loop.continuous, finer=finer)
    pencils = 0 < len(loop.a) <= _PENCIL
    return Samples(*on_contiguous(kernel.seen, loop[:4], curve.transfer.sides, loop.continuous, w, pencils, NEAR))


def real_axis(curve: LoopCurve, grid: Samples) -> np.ndarray:
    """w inside (0, end) where L is real and negative."""
    from ctrlattn.kernels import loop as kernel

    return kernel.real_axis(curve.transfer.sides, grid.w, np.ascontiguousarray(grid.functions[0]))


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
    from ctrlattn.kernels import loop as kernel

    return on_contiguous(kernel.real_axis_pencil, loop[:3], loop.continuous)


def _zeros(curve: LoopCurve, grid: Samples, which: int) -> np.ndarray:
    from ctrlattn.kernels import curve as kernel

    return kernel.zeros(curve.transfer.sides, grid.w, np.ascontiguousarray(grid.functions[which]), which)
