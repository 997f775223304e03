"""G(s) = 2^e H(s/t): a system in units in which its states, its gain and its time are of size 1.

A tolerance means the same for H in whatever unit G was given, and products of its matrices do not overflow. All
factors are powers of two, so that scaling rounds nothing.
"""

import math
from typing import NamedTuple

import numpy as np

from ctrlattn.linear.balancing import state_scaling
from ctrlattn.linear.boundary import boundary_point, growth
from ctrlattn.linear.lapack import eigenvalues, solved
from ctrlattn.linear.realization import Realization
from ctrlattn.linear.transfer import Transfer

_SMALLEST = -1000  # exponent of what counts as zero
_POLES = 2  # at which the gain is sampled
_FEW = 100  # states up to which a solve for each costs less than a reduced form


class Scaled(NamedTuple):
    """G(s) = 2^exponent system(s/rate), x = states 2^into x_system; rate is 1 in discrete time."""

    system: Realization
    exponent: int
    rate: float
    states: np.ndarray  # (n,)
    into: int


def scaled(g: Realization, gain: float = 0.0, poles: np.ndarray | None = None, *, by_entries: bool = False) -> Scaled:
    """Return the system in units in which its states, its gain and its time are of size 1.

    Parameters
    ----------
    g : Realization
    gain : float
        The size of G - D that the system is to have instead of 1; 0: sampled at the poles next to the boundary.
    poles : (n,), optional
        Eigenvalues of A, where they are known.
    by_entries : bool
        B and C are to have the size 1, whatever the gain: for who asks no tolerance of the gain, nothing is sampled.

    Returns
    -------
    Scaled

    Examples
    --------
    >>> small = Realization(np.array([[0.5]]), np.array([[2.0**-99]]), np.array([[2.0**300]]), np.zeros((1, 1)), False)
    >>> scaled(small).exponent, scaled(small).system.b * scaled(small).system.c  # G(1) = 2^202
    (203, array([[0.25]]))
    """
    into, of_c, direct = (_exponent(m) for m in (g.b, g.c, g.d))
    if by_entries:
        dynamic = into + of_c
    elif gain > 0:
        dynamic = _exponent_of(gain)
    else:
        unit = Realization(g.a, _times(g.b, -into), _times(g.c, -of_c), g.d, g.continuous)
        dynamic = into + of_c + _exponent_of(_sampled_gain(unit, poles))
    into += (dynamic - into - of_c) // 2
    b, c = _times(g.b, -into), _times(g.c, into - dynamic)
    states = state_scaling(g.a, b, c)
    a = g.a * states / states[:, None]
    half = _exponent(a) // 2 if g.continuous and np.any(a) else 0
    exponent = max(dynamic, direct)
    b, c = _times(b / states[:, None], -half), _times(c * states, dynamic - exponent - half)
    system = Realization(_times(a, -2 * half), b, c, _times(g.d, -exponent), g.continuous)
    return Scaled(system, exponent, float(np.ldexp(1.0, 2 * half)), states, into)


def _sampled_gain(g: Realization, poles: np.ndarray | None) -> float:
    """Return the largest response at a few poles, which is next to the peak; 1 where there is none."""
    if not g.d.size or not len(g.a):
        return 1.0
    poles = eigenvalues(g.a) if poles is None else poles
    if g.real():
        poles = poles[poles.imag >= 0]
    beside = poles[np.argsort(-growth(poles, g.continuous))[:_POLES]].tolist()
    points = [*(boundary_point(complex(p), g.continuous) for p in beside), 0j if g.continuous else complex(1.0)]
    sizes = [float(np.abs(value).max()) for value in _dynamic_responses(g, points)]
    return max((size for size in sizes if math.isfinite(size)), default=0.0) or 1.0


def _dynamic_responses(g: Realization, points: list[complex]) -> list[np.ndarray]:
    """Return C (zI - A)^-1 B at each of the points."""
    if len(g.a) < _FEW:
        eye = np.eye(len(g.a))
        try:
            # A real point has a real response: half the work of a complex one.
            return [g.c @ solved((z if z.imag else z.real) * eye - g.a, g.b) for z in points]
        except np.linalg.LinAlgError:  # some point is a pole
            pass
    return list(Transfer(g.a, g.b, g.c, np.zeros_like(g.d)).at(np.array(points)).transpose(2, 0, 1))


def times_power(value: float, exponent: int, quantity: str) -> float:
    """Return value 2^exponent; raise ArithmeticError where that is no float.

    >>> times_power(0.75, 2, "hinf_norm")
    3.0
    """
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        raise ArithmeticError(
            f"{quantity}: {value:.3g} 2^{exponent} is beyond the largest float: rescale inputs or outputs"
        ) from None


def _exponent(m: np.ndarray) -> int:
    return _exponent_of(float(np.abs(m).max()) if m.size else 0.0)


def _exponent_of(largest: float) -> int:
    return max(math.frexp(largest)[1], _SMALLEST) if largest > 0 else _SMALLEST


def _times(m: np.ndarray, exponent: int) -> np.ndarray:
    """Return m 2^exponent, whose factor alone may be beyond the floats."""
    if abs(exponent) <= -_SMALLEST:
        return m * math.ldexp(1.0, exponent) if exponent else m
    half = max(exponent, 2 * _SMALLEST) // 2
    return m * math.ldexp(1.0, half) * math.ldexp(1.0, max(exponent, 2 * _SMALLEST) - half)
