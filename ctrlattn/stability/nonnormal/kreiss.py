"""K(A) = sup over |z| > 1 of (|z| - 1) ||(zI - A)^-1||, the Kreiss constant;  K <= sup_k ||A^k|| <= e n K.

In continuous time K = sup over Re z > 0 of Re z ||(zI - A)^-1||, and K <= sup_t ||e^{At}|| <= e n K.
"""

import heapq
import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg

from ctrlattn.errors import require_flag
from ctrlattn.linear.state_matrix import EPS, require_size, state_matrix
from ctrlattn.linear.triangular import is_triangular, poles
from ctrlattn.stability.nonnormal.numerical_range import numerical_abscissa, numerical_radius
from ctrlattn.stability.nonnormal.pseudospectral_bounds import outer_positions, upper_schur
from ctrlattn.stability.nonnormal.resolvent_levels import least_sigma

LARGEST = 1000
_RTOL = 1e-8
# Relative gap between the bounds that ends the search after each evaluation; a supremum that is flat near the border of
# stability takes many evaluations.
_GAPS = 80 * [_RTOL] + 80 * [1e-6] + 160 * [1e-4] + 320 * [1e-3]
_STARTS = (1.0, 0.1, 0.01)  # first evaluations, of the distance at which the norm of A alone proves K > 1
_ON_BORDER = 1e-10  # eigenvalues this near to the border count as on it; those of a triangular matrix are exact
_LOWEST = 1e-7  # least distance from the border at which the resolvent is evaluated where eigenvalues lie on it


class _Node(NamedTuple):
    t: float  # log r, or x
    log_m: float  # log max ||(zI - A)^-1|| on that circle or line
    position: float
    log_k: float


def kreiss_constant(A: Any, *, continuous: bool | None = None) -> float:
    """Return the Kreiss constant: how far the resolvent exceeds that of a matrix whose powers never grow.

    The search converges globally. The maximum M(r) of the resolvent norm on a circle (line) comes from its level sets.
    By Hadamard's three-circles (three-lines) theorem log M is convex in log r (in x): a chord between two values is an
    upper bound between them. Branch and bound over that one variable ends when the upper bound meets the best value.

    Parameters
    ----------
    A : (n, n) array, real or complex, or control.StateSpace
    continuous : bool, optional
        Time domain of a matrix, discrete by default; a system has its own.

    Returns
    -------
    float
        K >= 1, with bounds that agree to a relative 1e-8. They agree to 1e-6, 1e-4 and 1e-3 where more than 80, 160 and
        320 evaluations are needed (with eigenvalues on or close to the border). It is exactly 1 if and only if the
        numerical radius is at most 1 (numerical abscissa at most 0). It is inf where powers grow without bound: with an
        eigenvalue outside, or a defective one on the border. Eigenvalues are computed in double precision, and those
        within 1e-10 of the border count as on it unless A is triangular. A dense matrix that rounding makes unstable
        therefore has inf.

    Raises
    ------
    InputError
        The matrix is not square or not finite, n > 1000, a sequence of loops is given, or `continuous` contradicts
        the system.
    ArithmeticError
        A perturbation of the size of rounding makes the stable matrix unstable.

    References
    ----------
    Kreiss, BIT 2 (1962) 153; Trefethen and Embree, Spectra and Pseudospectra, 2005, section 18; Mitchell, SIAM J.
    Matrix Anal. Appl. 41 (2020) 1814.

    Examples
    --------
    >>> A = np.array([[0.5, 2.0], [0.0, 0.5]])  # c/(4 (1 - a)) + (1 - a)/c
    >>> round(kreiss_constant(A), 6)
    1.25
    >>> kreiss_constant(np.array([[1.0, 0.0], [-1.0, 1.0]]))  # the automaton on two tokens
    inf
    """
    continuous = None if continuous is None else require_flag("continuous", continuous)
    a, continuous = state_matrix(A, "kreiss_constant", continuous)
    require_size(len(a), LARGEST, "kreiss_constant", "transient_growth(..., bounds=False) measures the growth itself")
    spectrum = poles(a)
    outside = np.max(spectrum.real) if continuous else np.max(np.abs(spectrum)) - 1
    scale = max(float(np.linalg.norm(a, 2)), EPS) if continuous else 1.0
    border = (8 * EPS if is_triangular(a) else _ON_BORDER) * scale
    if outside > border:
        return math.inf
    reach = numerical_abscissa(a) / scale if continuous else numerical_radius(a)
    if reach <= (1e-12 if continuous else 1 + 1e-12):
        return 1.0
    on = np.abs(spectrum.real if continuous else np.abs(spectrum) - 1) <= border
    if np.any(on) and _defective(a, spectrum[on], scale):
        return math.inf
    return _search(a / scale, spectrum / scale, reach, bool(np.any(on)), continuous)


def _search(a: np.ndarray, spectrum: np.ndarray, reach: float, on_border: bool, continuous: bool) -> float:
    """Search by branch and bound over t = log r (discrete) or t = x (continuous)."""
    starts = outer_positions(spectrum, continuous)

    def node(t: float, *positions: float) -> _Node:
        level = t if continuous else math.exp(t)
        sigma, position = least_sigma(a, level, continuous, [*starts, *positions])
        if sigma <= 100 * len(a) * EPS * (level + np.linalg.norm(a, 2)):
            raise ArithmeticError(
                f"kreiss_constant: at distance {_distance(t, continuous):.1e} from the border of stability the "
                f"resolvent exceeds {1 / max(sigma, 1e-300):.1e}, where double precision cannot tell the constant from "
                "infinity; transient_growth(..., bounds=False) measures the growth itself"
            )
        return _Node(t, -math.log(sigma), position, math.log(_distance(t, continuous)) - math.log(sigma))

    far = _beyond_one(a, reach, continuous)
    best = max((node(_place(far * share, continuous)) for share in _STARTS), key=lambda item: item.log_k)
    low, high = _range(a, best, reach, starts, on_border, continuous)
    ends = node(_place(low, continuous)), node(_place(high, continuous))
    best = max(best, *ends, key=lambda item: item.log_k)
    ties = itertools.count()  # nodes are not compared
    heap = [(-_bound(*ends, continuous)[0], next(ties), *ends)]
    for gap in _GAPS:
        upper, _, left, right = heapq.heappop(heap)
        if -upper <= best.log_k + gap:
            return max(1.0, math.exp(best.log_k))
        # The chord exceeds the values at both ends here, so that this place is inside.
        new = node(_bound(left, right, continuous)[1], left.position, right.position)
        best = max(best, new, key=lambda item: item.log_k)
        for pair in ((left, new), (new, right)):
            heapq.heappush(heap, (-_bound(*pair, continuous)[0], next(ties), *pair))
    raise ArithmeticError(f"kreiss_constant has not closed its bounds within {len(_GAPS)} evaluations")


def _distance(t: float, continuous: bool) -> float:
    """Return the distance from the border: r - 1, or x."""
    return t if continuous else math.expm1(t)


def _place(distance: float, continuous: bool) -> float:
    return distance if continuous else math.log1p(distance)


def _beyond_one(a: np.ndarray, reach: float, continuous: bool) -> float:
    """Return a distance from the border where (distance) ||R|| > 1: ||(zI - A) x||^2 = |z|^2 - 2 |z| w + ||Ax||^2."""
    square = float(np.linalg.norm(a, 2)) ** 2
    return square / reach if continuous else max((square - 1) / (reach - 1) - 1, reach)


def _range(
    a: np.ndarray, best: _Node, reach: float, starts: list[float], on_border: bool, continuous: bool
) -> tuple[float, float]:
    """Return (least, largest) distance from the border between which (distance) ||R|| can exceed the value `best`."""
    k = math.exp(best.log_k)
    here = _distance(best.t, continuous)
    # ||R(z)|| <= 1/(|z| - w), or 1/(x - omega)
    over = max(k - 1, _RTOL)
    high = k * reach / over if continuous else (k * reach - 1) / over - 1
    if on_border:
        return _LOWEST, max(high, 2 * here)  # here >= 0.01: no norm is below the numerical radius
    border = least_sigma(a, 0.0 if continuous else 1.0, continuous, starts)[0]  # M falls with distance from the border
    return min(max(k * border, 1e-12), here / 2), max(high, 2 * here)


def _bound(left: _Node, right: _Node, continuous: bool) -> tuple[float, float]:
    """Return (largest value of log(distance) + chord of log M between two nodes, its position t)."""
    slope = (right.log_m - left.log_m) / (right.t - left.t)
    if continuous:
        t = -1 / slope if slope < 0 else right.t
    else:
        t = -math.log1p(1 / slope) if slope < -1 else right.t
    t = min(max(t, left.t), right.t)
    return math.log(_distance(t, continuous)) + left.log_m + slope * (t - left.t), t


def _defective(a: np.ndarray, on: np.ndarray, scale: float) -> bool:
    """Tell whether some eigenvalue on the border has a Jordan block: its block of the Schur form is not diagonal."""
    near = (8 * EPS if is_triangular(a) else 1e-7) * scale
    groups = [on[np.abs(on - value) <= near] for value in on]
    if max(len(group) for group in groups) == 1:
        return False
    t = upper_schur(a).astype(complex)
    tolerance = 100 * len(a) * EPS * np.linalg.norm(a)
    for group in groups:
        select = np.abs(np.diagonal(t) - group.mean()) <= 2 * near
        schur_form = scipy.linalg.lapack.ztrsen(select, t, np.eye(len(t), dtype=complex), job="N")[0]
        size = np.count_nonzero(select)
        if np.max(np.abs(np.triu(schur_form[:size, :size], 1)), initial=0.0) > tolerance:
            return True
    return False
