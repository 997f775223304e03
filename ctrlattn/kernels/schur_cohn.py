"""k_n = p_n, p <- (p - k conj(p reversed))/(1 - |k|^2): where the roots of many monic polynomials lie, by their signs.

Reference: ctrlattn.linear.mode_polynomial.reflection, in plain numpy.
"""

import numba
import numpy as np

INSIDE, OUTSIDE, UNSURE = 0, 1, 2


@numba.njit(cache=True, nogil=True, error_model="numpy")
def verdicts(fixed, slope, alpha, near):
    """Tell where the roots of fixed_i - alpha_j slope lie: inside the circle, not all inside, or too near it to say.

    Parameters
    ----------
    fixed : (cells, n + 1) of the type of alpha
        Monic, descending powers.
    slope : (n + 1,) of the type of alpha
        Its first coefficient is 0.
    alpha : (m,) float64 or complex128
    near : float
        A reflection coefficient whose modulus is within `near` of 1 decides nothing.

    Returns
    -------
    (cells, m) int8
        INSIDE, OUTSIDE or UNSURE.
    """
    cells, order = fixed.shape[0], fixed.shape[1] - 1
    result = np.empty((cells, len(alpha)), np.int8)
    p = np.empty(order + 1, fixed.dtype)
    for i in range(cells):
        for j in range(len(alpha)):
            for m in range(order + 1):
                p[m] = fixed[i, m] - alpha[j] * slope[m]
            result[i, j] = _verdict(p, order, near)
    return result


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _verdict(p, order, near):
    for n in range(order, 0, -1):
        k = p[n]
        size = abs(k)
        if size > 1.0 + near:
            return OUTSIDE
        if not size < 1.0 - near:
            return UNSURE
        scale = 1.0 / (1.0 - size * size)
        for i in range((n + 1) // 2 + 1):  # both ends at once, since each needs the other as it was
            j = n - i
            if i > j:
                break
            low, high = p[i], p[j]
            p[i] = (low - k * np.conj(high)) * scale
            p[j] = (high - k * np.conj(low)) * scale
        p[0] = 1.0
    return INSIDE
