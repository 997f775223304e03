"""A -> D^-1 A D, B -> D^-1 B, C -> C D: states in units in which rows and columns of the system are of equal size.

Algorithms for dense matrices are exact for a system that differs by rounding of the largest entry. In units of which
one is 1e6 times another, that rounding is larger than the small entries.
"""

import math

import numpy as np
from scipy.linalg.lapack import dgebal


def state_scaling(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return the diagonal of D, powers of two, so that scaling rounds nothing.

    Parameters
    ----------
    a (n, n), b (n, m), c (p, n) : real or complex

    Returns
    -------
    (n,)

    References
    ----------
    Parlett and Reinsch, Numer. Math. 13 (1969) 293, with inputs and outputs as one more state, which keeps its unit.

    Examples
    --------
    >>> state_scaling(np.array([[0.5]]), np.array([[4.0]]), np.array([[1.0]])).tolist()
    [2.0]
    """
    n = len(a)
    # Inputs in units of outputs are one factor of all states: taken out first, no scale is very large.
    b_size, c_size = (float(np.abs(m).max()) if m.size else 0.0 for m in (b, c))
    common = (math.frexp(b_size)[1] - math.frexp(c_size)[1]) // 2 if b_size > 0 and c_size > 0 else 0
    b, c = b * math.ldexp(1.0, -common), c * math.ldexp(1.0, common)
    sizes = np.zeros((n + 1, n + 1))
    sizes[:n, :n] = np.abs(a)
    sizes.ravel()[:: n + 2] = 0.0  # no scaling moves it, and LAPACK counts it: a large one would hide what is around it
    sizes[:n, n], sizes[n, :n] = _lengths(b), _lengths(c.T)
    scale = scales(sizes)
    return scale[:n] / scale[n] * math.ldexp(1.0, common)


def balanced(a: np.ndarray) -> np.ndarray:
    """Return D^-1 A D with rows and columns of equal size, D diagonal in powers of two.

    >>> balanced(np.array([[0.5, 2.0**20], [2.0**-20, 0.5]])).tolist()
    [[0.5, 1.0], [1.0, 0.5]]
    """
    sizes = np.abs(a)
    sizes.ravel()[:: len(a) + 1] = 0.0
    scale = scales(sizes)
    return a * scale / scale[:, None]


def _lengths(rows: np.ndarray) -> np.ndarray:
    return np.abs(rows[:, 0]) if rows.shape[1] == 1 else np.linalg.norm(rows, axis=1)


def scales(sizes: np.ndarray) -> np.ndarray:
    """Return the diagonal of D, powers of two, that makes rows and columns of D^-1 S D of equal size, S (n, n) real.

    >>> scales(np.array([[0.0, 16.0], [1.0, 0.0]])).tolist()
    [4.0, 1.0]
    """
    return dgebal(sizes, scale=1, permute=0)[3] if len(sizes) else np.ones(0)
