"""sup_w sigma_max(G(e^{iw})) of a small dense system whose first climb reaches the peak: nothing but compiled code.

Of such a system most of the time is Python's between the kernels, so that this straight way is taken first. It says
nothing where one of its checks fails: `norms` then starts again, step by step.

Two eigenvalue problems confirm the peak: the Hamiltonian matrices of G(z (1 + s)/(1 - s)) about z = 1 and z = -1. They
rest on different inverses, (I + A)^-1 and (I - A)^-1, each of good condition: no rounding is common to both. The
frequency at which one map is most exact is where the other one is least. The response itself is a third way, and shares
nothing with either. Where the peak lies at z = 1 or -1, one of the maps has no good condition, since its direct term is
the response there: the pencil takes its place. Beyond a dozen states one of them is enough.
"""

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ctrlattn.linear.lapack import COMPILED, frobenius
from ctrlattn.linear.realization import Realization
from ctrlattn.linear.scaling import times_power
from ctrlattn.stability.robustness.level_sets import CIRCLE, NEAR, OFFSETS, SOUND, pencil_crossings

_EPS = float(np.finfo(float).eps)
_MODERATE = 1000  # exponent of a factor that is a float by itself
BOTH = 12  # states up to which two eigenvalue problems are solved, however good the condition of the first
CLIMBS = 4
LOST = 1e-6  # a peak gain that rounding changes by more is refused
RESOLVED = 100  # last digits of |A| within which a distance from the boundary is rounding


class PeakGain(NamedTuple):
    """sup_w sigma_max(G) lies in [value, upper]; value is attained at `frequency`."""

    value: float
    frequency: float  # rad per sample or per unit of time; inf where only the direct term attains it
    upper: float
    residual: float = 0.0  # share of the value that rounding may have changed


def first_look(g: Realization, tol: float, poles: np.ndarray) -> PeakGain | None:
    """Return the peak of a stable system, if the climb reaches it and every check holds; None in any other case."""
    n, channels = len(g.a), g.d.shape
    if g.continuous or not 2 < n <= COMPILED or not 0 < min(channels) <= 2 or max(channels) > COMPILED:
        return None
    if not (g.real() and g.a.all()):
        return None
    from ctrlattn.kernels import boundary, level_sets, rounding, units

    a, b, c, d = map(np.ascontiguousarray, g[:4])
    grid, nearest, beside = boundary.circle_grid(np.asarray(poles, dtype=complex), CIRCLE, OFFSETS)
    gain = max(rounding.moved(a, b, c, np.zeros(channels), w, False)[1] for w in (beside, 0.0))
    if not 0 < gain < math.inf:
        return None
    extreme, a, b, c, d, exponent, *_ = units.scaled(a, b, c, d, math.frexp(gain)[1], False)
    if extreme > _MODERATE or not nearest > RESOLVED * _EPS * frobenius(a):
        return None
    reduced = units.single_reduced if channels == (1, 1) else units.several_reduced
    columns, inputs, outputs = reduced(a, b, c, False)
    sides = boundary.Sides(columns, inputs, outputs, d)
    value, frequency = boundary.climbed(sides, grid, CLIMBS)
    if not 0 < value < math.inf:
        return None
    change, second, regular = rounding.moved(a, b, c, d, frequency, False)
    residual = 4 * _EPS * change / value
    if not (regular and residual <= LOST and abs(second - value) <= max(1e-8, 10 * residual) * value):
        return None
    level = value * (1 + 2 * max(tol, residual))
    tests = 0
    for z in (1.0, -1.0):
        crossings, condition = level_sets.crossings_about(z, a, b, c, d, level, NEAR, SOUND)
        tests += condition <= SOUND
        if _peak_between(sides, crossings) > level:
            return None
        if tests and n > BOTH:
            break
    if not tests:
        return None
    if (
        tests == 1
        and n <= BOTH
        and _peak_between(sides, pencil_crossings(Realization(a, b, c, d, False), level)) > level
    ):
        return None
    quantity = "hinf_norm"
    return PeakGain(times_power(value, exponent, quantity), frequency, times_power(level, exponent, quantity), residual)


def _peak_between(sides: Any, crossings: np.ndarray) -> float:
    """Return the largest sigma_max at the crossings and in the middle between them; infinite where it is no number."""
    from ctrlattn.kernels.boundary import climbed

    edges = sorted(crossings.tolist())
    points = [*edges, *((x + y) / 2 for x, y in pairwise(edges))]
    return climbed(sides, np.array(points), 0)[0] if points else 0.0
