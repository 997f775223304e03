"""rho_eps = max |z|, alpha_eps = max Re z over sigma_min(zI - A) <= eps: pseudospectral radius and abscissa.

The pseudospectrum holds the eigenvalues of every A + E with ||E|| <= eps. The distance to instability is the smallest
eps at which it reaches the border of stability.
"""

import math
from typing import Any

import numpy as np
import scipy.linalg

from ctrlattn.arrays import require_number
from ctrlattn.errors import InputError, require_flag
from ctrlattn.linear.state_matrix import continuous_matrix, discrete_matrix, require_size, state_matrix
from ctrlattn.linear.triangular import is_triangular, poles
from ctrlattn.stability.nonnormal.powers_of_two import exponent_of, scaled, scaled_array
from ctrlattn.stability.nonnormal.resolvent_levels import at, crossings, least_sigma, middles, outward, sigma_min

_LARGEST = 1000
_HINT = "sigma_min on a grid, `pseudospectrum`, goes further"
_ROUNDS = 100


def pseudospectral_radius(A: Any, eps: float) -> float:
    """Return max |z| over sigma_min(zI - A) <= eps: the largest pole that a disturbance of norm eps can make.

    The criss-cross algorithm goes outward along a ray to the boundary of the pseudospectrum. On the circle through
    that point it finds all arcs inside the pseudospectrum, and goes outward again through their midpoints. It
    converges to the global maximum, quadratically.

    Parameters
    ----------
    A : (n, n) array, real or complex, or a discrete control.StateSpace
    eps : float
        Norm of the disturbance; 0 gives the spectral radius.

    Returns
    -------
    float

    Raises
    ------
    InputError
        The system is continuous, the matrix is not square or not finite, eps < 0, n > 1000, or a sequence of loops is
        given.

    References
    ----------
    Mengi and Overton, IMA J. Numer. Anal. 25 (2005) 648.

    Examples
    --------
    >>> round(pseudospectral_radius(np.diag([0.5, 0.2]), 0.1), 12)  # a normal matrix: the eigenvalue plus eps
    0.6
    """
    return _outermost(discrete_matrix(A, "pseudospectral_radius", "pseudospectral_abscissa"), eps, False)


def pseudospectral_abscissa(A: Any, eps: float) -> float:
    """Return max Re z over sigma_min(zI - A) <= eps, in continuous time.

    Parameters
    ----------
    A : (n, n) array, real or complex, or a continuous control.StateSpace
    eps : float

    Returns
    -------
    float

    Raises
    ------
    InputError
        As for `pseudospectral_radius`, and for a discrete system.

    References
    ----------
    Burke, Lewis and Overton, IMA J. Numer. Anal. 23 (2003) 359.

    Examples
    --------
    >>> round(pseudospectral_abscissa(np.diag([-0.5, -2.0]), 0.1), 12)
    -0.4
    """
    return _outermost(continuous_matrix(A, "pseudospectral_abscissa", "pseudospectral_radius"), eps, True)


def distance_to_instability(A: Any, *, continuous: bool | None = None) -> float:
    """Return the norm of the least disturbance that makes A unstable: min sigma_min(zI - A) over the border.

    The border of stability is the unit circle in discrete time and the imaginary axis in continuous time. The distance
    is 0 where A is not stable. It is the inverse of the H-infinity norm of the resolvent.

    Parameters
    ----------
    A : (n, n) array, real or complex, or control.StateSpace
    continuous : bool, optional
        Time domain of a matrix, discrete by default; a system has its own.

    Returns
    -------
    float
        The distance, to a relative 1e-10, or to about 1e-15 n ||A|| where that is larger.

    Raises
    ------
    InputError
        The matrix is not square or not finite, n > 1000, `continuous` contradicts the system, or a sequence of loops
        is given.

    References
    ----------
    Byers, SIAM J. Sci. Stat. Comput. 9 (1988) 875; Boyd and Balakrishnan, Systems and Control Letters 15 (1990) 1.

    Examples
    --------
    >>> round(distance_to_instability(np.diag([0.5, 0.2])), 12)
    0.5
    """
    continuous = None if continuous is None else require_flag("continuous", continuous)
    a, continuous = state_matrix(A, "distance_to_instability", continuous)
    require_size(len(a), _LARGEST, "distance_to_instability", _HINT)
    spectrum = poles(a)
    border = 0.0 if continuous else 1.0
    if np.max(spectrum.real if continuous else np.abs(spectrum)) >= border:
        return 0.0
    return least_sigma(a, border, continuous, outer_positions(spectrum, continuous))[0]


def henrici_departure(A: Any) -> float:
    """Return sqrt(||A||_F^2 - sum |lambda|^2), the norm of the strict upper Schur triangle: 0 for a normal matrix.

    Parameters
    ----------
    A : (n, n) array, real or complex, or control.StateSpace

    Returns
    -------
    float
        Computed from the Schur form, without the cancellation of the difference.

    Raises
    ------
    InputError
        A matrix that is not square or not finite.

    References
    ----------
    Henrici, Numerische Mathematik 4 (1962) 24.

    Examples
    --------
    >>> henrici_departure(np.array([[0.5, 3.0], [0.0, 0.5]]))
    3.0
    """
    a, _ = state_matrix(A, "henrici_departure")
    exponent = exponent_of(a)
    return scaled(float(np.linalg.norm(np.triu(upper_schur(scaled_array(a, -exponent)), 1))), exponent)


def upper_schur(a: np.ndarray) -> np.ndarray:
    """Return upper triangular T such that zI - T has the singular values of zI - A; exact for a triangular A."""
    if not np.any(np.tril(a, -1)):
        return a
    # A lower triangular A is transposed: A' and its shifts have the same singular values.
    return a.T if is_triangular(a) else scipy.linalg.schur(a, output="complex")[0]


def outer_positions(eigenvalues: np.ndarray, continuous: bool, count: int = 4) -> list[float]:
    """Return the angles (imaginary parts) of the outermost eigenvalues, where the resolvent is likely to be largest."""
    order = np.argsort(-(eigenvalues.real if continuous else np.abs(eigenvalues)), kind="stable")[:count]
    outermost = eigenvalues[order]
    return [float(p) for p in (outermost.imag if continuous else np.mod(np.angle(outermost), 2 * np.pi))]


def _outermost(a: np.ndarray, eps: float, continuous: bool) -> float:
    eps = float(require_number("eps", eps))
    if eps < 0:
        raise InputError(f"eps must be >= 0, got {eps}")
    exponent = exponent_of(np.append(np.abs(a), eps))
    return scaled(_moderate_outermost(scaled_array(a, -exponent), math.ldexp(eps, -exponent), continuous), exponent)


def _moderate_outermost(a: np.ndarray, eps: float, continuous: bool) -> float:
    """Return the pseudospectral radius or abscissa where the largest entry, or eps, is about 1: none underflows."""
    spectrum = poles(a)
    level = float(np.max(spectrum.real if continuous else np.abs(spectrum)))
    if eps == 0.0:
        return level
    require_size(len(a), _LARGEST, "the pseudospectral radius or abscissa", _HINT)
    positions = outer_positions(spectrum, continuous)
    for _ in range(_ROUNDS):
        reached = max((outward(a, eps, position, continuous) for position in positions), default=level)
        gained = reached - level
        level = max(level, reached)
        if gained <= 1e-13 * max(abs(level), eps):
            return level
        positions = _midpoints_inside(a, eps, level, continuous)
    raise ArithmeticError(f"criss-cross has not settled within {_ROUNDS} rounds: the matrix is too ill-conditioned")


def _midpoints_inside(a: np.ndarray, eps: float, level: float, continuous: bool) -> list[float]:
    """Return the midpoints of the arcs (intervals) of this level that lie in the pseudospectrum."""
    ends = crossings(a, level, eps, continuous, _far_angle(a, level))
    between = middles(ends, None if continuous else 2 * np.pi)
    return [float(p) for p in between if sigma_min(a, at(level, p, continuous)) < eps * (1 - 1e-12)]


def _far_angle(a: np.ndarray, level: float) -> float:
    """Return an angle at which the circle is far from the spectrum, and which is therefore not a crossing."""
    angles = (np.pi, 0.0, 0.5 * np.pi, 1.5 * np.pi, 0.7, 2.1, 3.7, 5.3)
    return max(angles, key=lambda t: sigma_min(a, level * np.exp(1j * t)))
