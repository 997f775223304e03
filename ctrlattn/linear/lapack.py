"""A x = lambda x, s_i(A), A x = b: LAPACK's own routines for small matrices, with the outcome looked at.

For five states numpy's wrappers of eigenvalues and singular values take 20 to 35 microseconds, and LAPACK 5 to 10 of
them. Functions that solve a dozen such problems for one answer call these. The LAPACK of scipy 1.17 scales matrices of
very large or very small entries before it looks for eigenvalues, and does not scale the eigenvalues back: those
matrices go to numpy.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy.linalg import lapack

_SMALL = 1e-100
COMPILED = 50  # states up to which calls of numpy cost enough for compiled code, whose own loops are plain


def eigenvalues(a: np.ndarray) -> np.ndarray:
    """Return the eigenvalues of a finite square matrix, (n,) complex, or real where all are.

    Raises
    ------
    numpy.linalg.LinAlgError
        Entries that are no numbers, or an iteration without an end.

    Examples
    --------
    >>> sorted(eigenvalues(np.array([[0.0, 1.0], [1.0, 0.0]])).tolist())
    [-1.0, 1.0]
    """
    if not len(a):
        return np.zeros(0)
    if not _is_moderate(a):
        return np.linalg.eigvals(a)
    if np.iscomplexobj(a):
        values, _, _, info = lapack.zgeev(a, compute_vl=0, compute_vr=0)
    else:
        values, im, _, _, info = lapack.dgeev(a, compute_vl=0, compute_vr=0)
        if im.any():
            values = values + 1j * im
    if info != 0:
        raise np.linalg.LinAlgError("Eigenvalues did not converge")
    return values


def spectral_radii(matrices: np.ndarray) -> np.ndarray:
    """Return max |lambda_i|, the largest modulus of the eigenvalues of each matrix, (..., n, n) -> (...).

    >>> spectral_radii(np.array([[0.5, 4.0], [0.0, -2.0]])).item()
    2.0
    """
    return np.asarray(np.abs(np.linalg.eigvals(matrices)).max(axis=-1))


def singular_values(a: np.ndarray) -> np.ndarray:
    """Return the singular values of a finite matrix, descending; an empty one has none.

    Raises
    ------
    numpy.linalg.LinAlgError
        As `eigenvalues`.

    Examples
    --------
    >>> singular_values(np.array([[0.0, 2.0], [1.0, 0.0]])).tolist()
    [2.0, 1.0]
    """
    return _decompose(a, 0)[1] if a.size else np.zeros(0)


def singular_vectors(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (U, s, V*) of a finite matrix, with as many columns of U and rows of V* as there are values.

    Raises
    ------
    numpy.linalg.LinAlgError
        As `eigenvalues`.

    Examples
    --------
    >>> u, s, vh = singular_vectors(np.array([[0.0, 2.0], [1.0, 0.0]]))
    >>> (u * s @ vh).tolist()
    [[0.0, 2.0], [1.0, 0.0]]
    """
    if not a.size:
        return np.linalg.svd(a, full_matrices=False)
    return _decompose(a, 1)


def solved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return x of A x = b, for b (n, k).

    Raises
    ------
    numpy.linalg.LinAlgError
        An exactly singular matrix.

    Examples
    --------
    >>> solved(np.array([[2.0]]), np.array([[3.0]])).tolist()
    [[1.5]]
    """
    if not b.size:
        return np.zeros(b.shape, np.result_type(a, b))
    solve = lapack.zgesv if np.iscomplexobj(a) or np.iscomplexobj(b) else lapack.dgesv
    _, _, x, info = solve(a, b)
    if info != 0:
        raise np.linalg.LinAlgError("Singular matrix")
    return x


def inverted(a: np.ndarray) -> np.ndarray:
    """Return A^-1 of a complex A.

    Raises
    ------
    numpy.linalg.LinAlgError
        An exactly singular matrix.

    Examples
    --------
    >>> inverted(np.array([[2.0j]])).tolist()
    [[-0.5j]]
    """
    factors, pivots, info = lapack.zgetrf(a)
    if info != 0:
        raise np.linalg.LinAlgError("Singular matrix")
    return lapack.zgetri(factors, pivots)[0]


def solved_on_both_sides(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (A^-1 b, c A^-1) of a complex A: one factorization, solved with A and with its transpose.

    Raises
    ------
    numpy.linalg.LinAlgError
        An exactly singular matrix.

    Examples
    --------
    >>> [x.tolist() for x in solved_on_both_sides(np.array([[2.0j]]), np.array([[4.0]]), np.array([[1.0]]))]
    [[[-2j]], [[-0.5j]]]
    """
    factors, pivots, info = lapack.zgetrf(a)
    if info != 0:
        raise np.linalg.LinAlgError("Singular matrix")
    x = lapack.zgetrs(factors, pivots, b)[0] if b.size else b.astype(complex)
    y = lapack.zgetrs(factors, pivots, c.T, trans=1)[0].T if c.size else c.astype(complex)
    return x, y


def on_contiguous(kernel: Any, matrices: Iterable[np.ndarray], *others: Any) -> Any:
    """Return what compiled code says of matrices, row by row in memory, and of what follows them.

    The code would be compiled once more for any other order.

    >>> on_contiguous(lambda a, scale: a * scale, [np.eye(2).T], 3.0).tolist()
    [[3.0, 0.0], [0.0, 3.0]]
    """
    return kernel(*(np.ascontiguousarray(m) for m in matrices), *others)


def frobenius(a: np.ndarray) -> float:
    """Return the root of the sum of all |a_ij|^2; `numpy.linalg.norm` takes four times as long for few entries.

    >>> frobenius(np.array([[3.0, 4.0j]]))
    5.0
    """
    return math.sqrt(np.vdot(a, a).real)


def _decompose(a: np.ndarray, vectors: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not np.isfinite(a).all():
        raise np.linalg.LinAlgError("Array must not contain infs or NaNs")
    solve = lapack.zgesdd if np.iscomplexobj(a) else lapack.dgesdd
    u, values, vh, info = solve(a, compute_uv=vectors, full_matrices=0)
    if info != 0:
        raise np.linalg.LinAlgError("SVD did not converge")
    return u, values, vh


def _is_moderate(a: np.ndarray) -> bool:
    """Tell whether the largest entry is a number in the middle of the floats."""
    return bool(_SMALL < np.abs(a).max() < 1 / _SMALL)
