"""w(A) = max_t lambda_max((e^{it} A + e^{-it} A*)/2): numerical radius and numerical abscissa; ||A^k|| <= 2 w^k."""

from typing import Any

import numpy as np
import scipy.linalg

from ctrlattn.linear.state_matrix import continuous_matrix, discrete_matrix, require_size
from ctrlattn.stability.nonnormal.powers_of_two import exponent_of, scaled, scaled_array
from ctrlattn.stability.nonnormal.resolvent_levels import middles, unit_eigenvalues

_LARGEST = 2000
_ROUNDS = 60
_RTOL = 1e-12


def numerical_radius(A: Any) -> float:
    """Return the largest |x* A x| over unit vectors x.

    The powers satisfy ||A^k|| <= 2 w(A)^k, and the Kreiss constant is 1 if and only if w <= 1. Let H(t) = (e^{it} A +
    e^{-it} A*)/2. The angles t at which lambda_max(H(t)) takes a given value are eigenvalues of a quadratic pencil on
    the unit circle. All of them are computed, so that the maximum is global.

    Parameters
    ----------
    A : (n, n) array, real or complex, or a discrete control.StateSpace

    Returns
    -------
    float
        w, to a relative 1e-12.

    Raises
    ------
    InputError
        The system is continuous (use numerical_abscissa), the matrix is not square or not finite, or n > 2000.
    ArithmeticError
        The radius overflows, or has not settled.

    References
    ----------
    Mengi and Overton, IMA J. Numer. Anal. 25 (2005) 648; He and Watson, IMA J. Numer. Anal. 17 (1997) 335.

    Examples
    --------
    >>> round(numerical_radius(np.array([[0.0, 1.0], [0.0, 0.0]])), 12)
    0.5
    """
    a = discrete_matrix(A, "numerical_radius", "numerical_abscissa")
    require_size(len(a), _LARGEST, "numerical_radius", "||A||/2 <= w <= ||A|| holds for every matrix")
    exponent = exponent_of(a)
    return scaled(_moderate_radius(scaled_array(a, -exponent)), exponent)


def _moderate_radius(a: np.ndarray) -> float:
    """Return the numerical radius of a matrix whose entries are about 1, so that no product overflows."""
    if not np.iscomplexobj(a) and np.all(a >= 0):
        return _top(a, 0.0)  # a nonnegative matrix has its maximum at angle 0
    starts = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    heights = [_top(a, t) for t in starts]
    best, away = max(heights), float(starts[int(np.argmin(heights))])
    for _ in range(_ROUNDS):
        if best <= 0.0:
            return 0.0
        angles = _angles_at(a, best * (1 + _RTOL), away)
        tops = [_top(a, t) for t in (*middles(angles, 2 * np.pi), *angles)]
        if not tops or max(tops) <= best * (1 + _RTOL):
            return best
        best = max(tops)
    raise ArithmeticError(f"the numerical radius has not settled within {_ROUNDS} rounds")


def numerical_abscissa(A: Any) -> float:
    """Return lambda_max((A + A*)/2), in continuous time: the initial growth rate of ||e^{At}||.

    Parameters
    ----------
    A : (n, n) array, real or complex, or a continuous control.StateSpace

    Returns
    -------
    float

    Raises
    ------
    InputError
        The system is discrete (use numerical_radius), or the matrix is not square or not finite.

    References
    ----------
    Trefethen and Embree, Spectra and Pseudospectra, 2005, section 17.

    Examples
    --------
    >>> numerical_abscissa(np.array([[-1.0, 4.0], [0.0, -1.0]]))
    1.0
    """
    return _top(continuous_matrix(A, "numerical_abscissa", "numerical_radius"), 0.0)


def _top(a: np.ndarray, angle: float) -> float:
    """Return lambda_max of the Hermitian part of e^{it} A."""
    matrix = a if angle == 0.0 else np.exp(1j * angle) * a
    last = len(a) - 1
    hermitian = (matrix + matrix.conj().T) / 2
    return float(scipy.linalg.eigvalsh(hermitian, subset_by_index=[last, last], check_finite=False)[0])


def _angles_at(a: np.ndarray, height: float, away: float) -> np.ndarray:
    """Return the angles at which `height` is an eigenvalue of H(t): e^{2it} A - 2 height e^{it} + A* is singular."""
    n, eye = len(a), np.eye(len(a))
    zero = np.zeros((n, n))
    p = np.block([[2 * height * eye, -a.conj().T], [eye, zero]])
    q = np.block([[a, zero], [zero, eye]])
    return unit_eigenvalues(p, q, away)
