"""The open intervals of a real gain g for which p + g q is stable, each verified on state matrices.

The gains that put a root on the circle come from exact numbers. Eigenvalues of the closed loop, in coordinates that
keep clusters, are the second way: stable just inside each end and at inner points, not stable just outside. Where
rounding could decide the eigenvalues, certified roots do.
"""

import math
from collections.abc import Callable

import numpy as np

from ctrlattn.linear.boundary import EPS, clearly_stable, is_stable_matrix
from ctrlattn.linear.lapack import spectral_radii
from ctrlattn.stability.modes.exact_gains import Pencil, critical_gains, stable_at

Interval = tuple[float, float]
MatricesAt = Callable[[np.ndarray], np.ndarray]

_STEPS = (1e-6, 1e-4, 1e-2)  # how near to an end its two sides must differ, as shares of the interval
_MOST_UNSURE = 1e-2


def stable_intervals(g: Pencil, matrices: MatricesAt, quantity: str) -> list[Interval]:
    """Return all stable intervals of the gain, ascending.

    Parameters
    ----------
    g : Pencil
    matrices : function of gains (m,)
        The closed-loop state matrices (m, n, n), real or complex.
    quantity : str
        What is asked, for messages.

    Returns
    -------
    list of (low, high)
        Two intervals touch where a root touches the circle and turns back.

    Raises
    ------
    ArithmeticError
        The state matrix contradicts an interval: rounding of its entries moves the ends.
    """
    cuts = critical_gains(g)
    if cuts is None:
        return []
    edges = np.concatenate([[-math.inf], cuts, [math.inf]])
    inside = _are_inside(g, matrices, _middles(cuts))
    intervals = [
        (float(low), float(high)) for low, high, stable in zip(edges[:-1], edges[1:], inside, strict=True) if stable
    ]
    for interval in intervals:
        if not any(_is_confirmed(interval, intervals, cuts, matrices, share) for share in _STEPS):
            raise ArithmeticError(
                f"{quantity}: exact numbers give the stable interval {interval}, and the eigenvalues of the closed "
                "loop contradict it near an end or inside: rounding of the entries of the state space moves its poles "
                "across the circle. Give the system in triangular (modal) form"
            )
    return intervals


def intersection(first: list[Interval], second: list[Interval]) -> list[Interval]:
    """Return what both unions have in common, ascending.

    >>> intersection([(0.0, 2.0), (3.0, 5.0)], [(1.0, 4.0)])
    [(1.0, 2.0), (3.0, 4.0)]
    """
    pairs = [(max(a[0], b[0]), min(a[1], b[1])) for a in first for b in second]
    return sorted(pair for pair in pairs if pair[0] < pair[1])


def unsure(states: int) -> float:
    """Return how far from the circle a computed radius decides nothing: eigenvalues of a cluster move by eps^(1/n)."""
    return min(4 * EPS ** (1 / max(states, 1)), _MOST_UNSURE)


def _are_inside(g: Pencil, matrices: MatricesAt, gains: np.ndarray) -> list[bool]:
    closed = matrices(gains)
    near = unsure(closed.shape[-1])
    sizes = spectral_radii(closed).tolist()
    return [stable_at(g, gain) if abs(size - 1) <= near else size < 1 for gain, size in zip(gains, sizes, strict=True)]


def _middles(cuts: np.ndarray) -> np.ndarray:
    if not len(cuts):
        return np.zeros(1)
    outer = cuts[0] - 1 - abs(cuts[0]), cuts[-1] + 1 + abs(cuts[-1])
    return np.concatenate([outer[:1], cuts[:-1] + (cuts[1:] - cuts[:-1]) / 2, outer[1:]])


def _is_confirmed(
    interval: Interval, intervals: list[Interval], cuts: np.ndarray, matrices: MatricesAt, share: float
) -> bool:
    low, high = interval
    finite = [end for end in interval if math.isfinite(end)]
    width = high - low if len(finite) == 2 else 1 + max(map(abs, finite), default=0.0)
    start = low if math.isfinite(low) else (high if math.isfinite(high) else 0.0) - width
    points = [start + x * width for x in (share, 0.25, 0.5, 0.75, 1 - share)]
    for end, away in ((low, -1), (high, 1)):
        if math.isfinite(end):
            beyond = cuts[cuts < end][-1:] if away < 0 else cuts[cuts > end][:1]
            gap = min([width, *np.abs(beyond - end).tolist()])
            points.append(end + away * share * gap)
    expected = np.array([any(a < x < b for a, b in intervals) for x in points])
    closed = matrices(np.array(points))
    stable, clear = clearly_stable(closed)
    if np.any(clear & (stable != expected)):
        return False
    return all(_agrees(closed[k], bool(expected[k])) for k in np.flatnonzero(~clear))


def _agrees(matrix: np.ndarray, stable: bool) -> bool:
    try:
        return is_stable_matrix(matrix, continuous=False) == stable
    except ArithmeticError:  # the eigenvalues cannot tell, and the certified roots stand
        return True
