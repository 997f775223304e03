"""Re s < 0, |z| < 1: on which side of the boundary the poles lie, as far as the digits of A can tell.

Each irreducible diagonal block decides alone, and a block of one state is its own pole, exactly. For the others a
pole counts as inside only if a change of every entry in its last digits cannot move it to the boundary,
|d lambda| <= eps |y|* |A| |x| / |y* x|, y and x its left and right eigenvector.
"""

from typing import Any

import numpy as np
from scipy.linalg import eig

from ctrlattn.arrays import require_real
from ctrlattn.linear.balancing import balanced
from ctrlattn.linear.lapack import COMPILED, eigenvalues, frobenius, on_contiguous, singular_values, solved
from ctrlattn.linear.polynomial_roots import accurate_roots
from ctrlattn.linear.triangular import diagonal_blocks

EPS = float(np.finfo(float).eps)
_DIGITS = 4  # last digits of each entry, in units of eps and for each state, that a pole must survive
_CLEAR = 1e4  # a distance from singular of so many roundings needs no second look
_BESIDE = 1e-6  # an uncertain pole that rounding moves by less lies on the boundary, for all that matters


def is_stable_matrix(a: np.ndarray, *, continuous: bool) -> bool:
    """Tell whether all eigenvalues lie strictly inside; one on the boundary within rounding does not.

    Parameters
    ----------
    a : (n, n), finite
    continuous : bool

    Returns
    -------
    bool

    Raises
    ------
    ArithmeticError
        A pole so sensitive that rounding moves it far across the boundary, as in a dense, nearly defective matrix.

    References
    ----------
    Higham and Higham, SIAM J. Matrix Anal. Appl. 20 (1998) 493: the componentwise condition of an eigenvalue.

    Examples
    --------
    >>> rotation = np.array([[0.6, 0.8], [-0.8, 0.6]])  # poles of modulus 1, in exact numbers
    >>> is_stable_matrix(0.99 * rotation, continuous=False), is_stable_matrix(rotation, continuous=False)
    (True, False)
    """
    return stable_poles(a, continuous=continuous)[0]


def stable_poles(a: np.ndarray, *, continuous: bool) -> tuple[bool, np.ndarray]:
    """Return `is_stable_matrix`, and with a yes the eigenvalues that said so, (n,), block by block.

    >>> stable_poles(np.diag([0.5, -0.25]), continuous=False)
    (True, array([ 0.5 , -0.25]))
    """
    whole = len(a) > 1 and bool(a.all())  # without a zero there is one block, which need not be looked for
    blocks = [] if whole else diagonal_blocks(a)
    if whole or len(blocks) == 1 < len(a):
        return _stable_block(a, continuous)
    single = np.array([block[0] for block in blocks if len(block) == 1], dtype=int)
    alone = np.diagonal(a)[single]
    # First what costs nothing: one pole outside decides, however uncertain another may be.
    if np.any(growth(alone, continuous) >= -EPS * np.abs(alone)):
        return False, alone
    poles = [alone]
    for block in blocks:
        if len(block) > 1:
            stable, block_poles = _stable_block(a[np.ix_(block, block)], continuous)
            if not stable:
                return False, block_poles
            poles.append(block_poles)
    return True, np.concatenate(poles)


def clear_distance(a: np.ndarray) -> float:
    """Return the distance from the next matrix with a pole on the boundary that counts as clear: many roundings of A.

    >>> clear_distance(np.array([[0.0]]))
    0.0
    """
    return _CLEAR * len(a) * EPS * frobenius(a)


def clearly_stable(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tell of each of many small matrices whether all its poles lie inside the circle, and whether that is clear.

    It is clear where neither the growth of the outermost pole nor the distance of z I - A from a singular matrix is
    within many roundings of 0, z the point of the circle beside this pole. `is_stable_matrix` decides the rest.

    Parameters
    ----------
    matrices : (m, n, n), finite

    Examples
    --------
    >>> stable, clear = clearly_stable(np.array([[[0.5]], [[1.5]], [[1.0]]]))
    >>> stable[:2].tolist(), clear.tolist()
    ([True, False], [True, True, False])
    """
    poles = np.linalg.eigvals(matrices)
    outermost = np.take_along_axis(poles, np.argmax(np.abs(poles), axis=-1)[:, None], -1)[:, 0]
    size = np.abs(outermost)
    beside = np.where(size > 0, outermost / np.where(size > 0, size, 1.0), 1.0)
    singular = np.linalg.svd(beside[:, None, None] * np.eye(matrices.shape[-1]) - matrices, compute_uv=False)[:, -1]
    rounding = matrices.shape[-1] * EPS * np.linalg.norm(matrices, axis=(-2, -1))
    return size < 1, np.minimum(singular, np.abs(size - 1)) > _CLEAR * rounding


def is_marginal(denominator: Any, *, continuous: bool) -> bool:
    """Tell whether a root lies on the boundary, as far as the last digits of the coefficients tell.

    z0 on the boundary is a root of a polynomial next to p if |p(z0)| <= 4 eps sum |p_i| |z0|^i.

    >>> is_marginal(np.poly([1.0, 0.7, 0.99]), continuous=False), is_marginal([1.0, -0.999], continuous=False)
    (True, False)
    """
    p = np.trim_zeros(require_real("the coefficients", denominator), "f")
    roots = accurate_roots(p)
    beside = roots[np.abs(growth(roots, continuous)) <= _BESIDE * np.abs(roots)]
    with np.errstate(over="ignore", invalid="ignore"):
        points = np.array([boundary_point(complex(r), continuous) for r in beside])
        rounding = _DIGITS * EPS * np.polyval(np.abs(p), np.abs(points))
        return bool(np.any(np.abs(np.polyval(p, points)) <= rounding))


def growth(poles: Any, continuous: bool) -> np.ndarray:
    """Return Re s, or |z| - 1.

    >>> growth(np.array([0.5, -2.0]), False).tolist()
    [-0.5, 1.0]
    """
    return np.real(poles) if continuous else np.abs(poles) - 1


def boundary_point(pole: complex, continuous: bool) -> complex:
    """Return the point of the boundary next to a pole.

    >>> boundary_point(-0.5 + 0j, False), boundary_point(-0.5 + 2j, True)
    ((-1+0j), 2j)
    """
    if continuous:
        return 1j * pole.imag
    return pole / abs(pole) if pole else 1.0 + 0j


def _stable_block(a: np.ndarray, continuous: bool) -> tuple[bool, np.ndarray]:
    if not np.iscomplexobj(a) and len(a) <= COMPILED:
        from ctrlattn.kernels import poles as kernel

        stable, poles = on_contiguous(kernel.clear_poles, (a,), continuous, _CLEAR)
        if stable != kernel.UNCLEAR:
            return bool(stable), poles
    return _stable_in_plain_numpy(a, continuous)


def _stable_in_plain_numpy(a: np.ndarray, continuous: bool) -> tuple[bool, np.ndarray]:
    # Near z = 1 and z = -1 the difference from the nearer one is almost exact: clusters there keep their digits.
    a = balanced(a)
    # ||A - z I||^2 = ||A||^2 - 2 z Re tr A + n for z = 1 and z = -1.
    centre = 0.0 if continuous else (1.0 if a.trace().real >= 0 else -1.0)
    shifted = _shift(a, centre)
    offsets = eigenvalues(shifted)
    inside = _growth(offsets, centre)
    first = int(np.argmax(inside))
    beside = boundary_point(complex(offsets[first]) + centre, continuous)
    clear = clear_distance(a)
    if abs(float(inside[first])) > clear and _is_far_from_singular(_shift(a, beside), clear):
        return bool(inside[first] < 0), offsets + centre
    return _decide(a, shifted, centre), offsets + centre


def _shift(a: np.ndarray, z: complex) -> np.ndarray:
    """Return A - z I, real for a real matrix and a point on the real axis."""
    is_complex = np.iscomplexobj(a) or z.imag != 0
    shifted = a.astype(complex if is_complex else float, order="C")
    shifted.ravel()[:: len(a) + 1] -= z if is_complex else z.real
    return shifted


def _is_far_from_singular(a: np.ndarray, distance: float) -> bool:
    """Tell whether the smallest singular value is larger, where its lower bound 1/||A^-1||_F does not say so yet."""
    try:
        bound = frobenius(solved(a, np.eye(len(a))))
    except np.linalg.LinAlgError:
        return False
    return bound * distance < 1 or bool(singular_values(a)[-1] > distance)


def _growth(offsets: np.ndarray, centre: float) -> np.ndarray:
    """Return the growth of centre + offsets; no digits cancel where |z| is close to 1."""
    if centre == 0.0:
        return offsets.real
    return (2 * centre * offsets.real + np.abs(offsets) ** 2) / (1 + np.abs(centre + offsets))


def _decide(a: np.ndarray, shifted: np.ndarray, centre: float) -> bool:
    """Decide pole by pole, each with its own uncertainty."""
    _, y, x = eig(shifted, left=True)
    aligned = np.sum(y.conj() * x, axis=0)
    tiny = np.finfo(float).tiny
    with np.errstate(over="ignore", invalid="ignore"):
        sensitivity = np.sum(np.abs(y) * (np.abs(a) @ np.abs(x)), axis=0) / np.maximum(np.abs(aligned), tiny)
        # The Rayleigh quotient of both vectors forgives their errors: small eigenvalues of a graded A are right.
        offsets = np.sum(y.conj() * (shifted @ x), axis=0) / np.where(np.abs(aligned) > tiny, aligned, tiny)
        inside, uncertain = _growth(offsets, centre), _DIGITS * len(a) * EPS * sensitivity
    if np.any(inside > uncertain):
        return False
    open_cases = ~(inside < -uncertain)  # also where there is no number
    if not np.any(open_cases):
        return True
    worst = int(np.argmax(np.where(open_cases, uncertain, 0.0)))
    if uncertain[worst] <= _BESIDE * max(abs(offsets[worst] + centre), float(np.linalg.norm(a)) * 1e-3):
        return False
    raise ArithmeticError(
        f"stability cannot be decided in double precision: the computed eigenvalue {offsets[worst] + centre:.4g} is so "
        "sensitive that rounding moves it across the boundary. Give the system in triangular (modal) form"
    )
