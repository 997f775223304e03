"""Along the tokens: H(w) = |A e^{iwt}| / |e^{iwt}|, and how alike the tokens have become.

A row-stochastic attention matrix passes the constant signal (w = 0) unchanged; what it does to the differences
between tokens tells whether it smooths (low-pass) or sharpens (high-pass). Where a null key takes a part of each row,
the constant signal shrinks too, by the root mean square of the row sums.
"""

from typing import Any

import numpy as np

from ctrlattn.arrays import Array, namespace, require_attention, require_real, require_tokens, wide
from ctrlattn.errors import InputError


def token_frequency_response(matrices: Array, omega: Array) -> np.ndarray:
    """Return the gain of attention on a wave along the tokens, |A v| / |v| with v_t = e^{i w t}.

    Parameters
    ----------
    matrices : (..., n, n)
    omega : (m,)
        Frequency along the tokens, rad/token.

    Returns
    -------
    (..., m) float64
        1 at w = 0 for row-stochastic matrices, the root mean square of the row sums for others.

    References
    ----------
    Wang, Zheng, Chen, Wang, Anti-Oversmoothing in Deep Vision Transformers via the Fourier Domain Analysis,
    arXiv 2203.05962, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> token_frequency_response(np.full((4, 4), 0.25), np.array([0.0, np.pi])).round(12).tolist()
    [1.0, 0.0]
    """
    a = require_attention(matrices)
    n = a.shape[-1]
    waves = np.exp(1j * np.outer(np.arange(n), _frequencies(omega)))
    return np.linalg.norm(a @ waves, axis=-2) / np.sqrt(n)


def difference_gain(matrices: Array) -> np.ndarray:
    """Return the typical gain on the differences between tokens: |P A P|_F / |P|_F, P = I - 11^T/n.

    The constant mode has gain 1 where rows sum to 1, so that a value below 1 is a low-pass filter along the tokens and
    a value above 1 a high-pass filter; 0 is perfect averaging. It is the root mean square gain over random
    zero-mean signals, measured after removing the mean again.

    Parameters
    ----------
    matrices : (..., n, n)

    Returns
    -------
    (...,) float64
        nan for a single token, which has no differences.

    Examples
    --------
    >>> import numpy as np
    >>> difference_gain(np.eye(3)).item(), difference_gain(np.full((3, 3), 1 / 3)).round(12).item()
    (1.0, 0.0)
    """
    a = require_attention(matrices)
    n = a.shape[-1]
    if n == 1:
        return np.full(a.shape[:-2], np.nan)
    centred = a - a.mean(axis=-1, keepdims=True)
    centred = centred - centred.mean(axis=-2, keepdims=True)
    return np.sqrt(np.sum(centred**2, axis=(-2, -1)) / (n - 1))


def mean_cosine(x: Array) -> Array:
    """Return the mean cosine similarity over all pairs of different tokens, (..., n, d) -> (...).

    It is 1 when all tokens point the same way (oversmoothing) and nan for a single token. A zero token has cosine 0
    with every other.

    Parameters
    ----------
    x : (..., n, d)
        The sums are in float64, whatever x is.

    Examples
    --------
    >>> import numpy as np
    >>> mean_cosine(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])).round(6).item()
    0.333333
    """
    xp = _real_namespace(x, "mean_cosine")
    require_tokens(x)
    n, x = x.shape[-2], wide(x)
    size = xp.sqrt(xp.sum(x * x, -1, keepdims=True))
    zero = size == 0
    unit = x / xp.where(zero, xp.ones_like(size), size)
    # sum over pairs of u_i . u_j = |sum u|^2 - sum |u|^2
    total = xp.sum(unit, -2)
    pairs = xp.sum(total * total, -1) - xp.sum(unit * unit, (-2, -1))
    # Of equal tokens rounding gives 1 + 2e-16.
    return xp.clip(pairs / (n * (n - 1)), -1.0, 1.0) if n > 1 else pairs * float("nan")


def participation_rank(x: Array) -> Array:
    """Return (sum s^2)^2 / sum s^4 over the singular values of the tokens, (..., n, d) -> (...).

    It is the effective number of directions that the tokens, not centred, span: 1 when all are parallel, min(n, d) when
    all directions are used alike; 0 for zero tokens.

    Parameters
    ----------
    x : (..., n, d)
        The sums are in float64, whatever x is.

    Examples
    --------
    >>> import numpy as np
    >>> participation_rank(np.eye(4)).item(), participation_rank(np.ones((4, 3))).round(12).item()
    (4.0, 1.0)
    """
    xp = _real_namespace(x, "participation_rank")
    require_tokens(x)
    x = wide(x)
    # Both sums are traces of a Gram matrix, the smaller one: no singular value decomposition is needed.
    n, d = x.shape[-2:]
    gram = x @ x.swapaxes(-1, -2) if n <= d else x.swapaxes(-1, -2) @ x
    fourth = xp.sum(gram * gram, (-2, -1))
    square = xp.sum(x * x, (-2, -1))
    zero = fourth == 0
    return xp.where(zero, xp.zeros_like(fourth), square * square / xp.where(zero, xp.ones_like(fourth), fourth))


def _frequencies(value: Any) -> np.ndarray:
    omega = require_real("omega", value)
    if not np.all(np.isfinite(omega)):
        raise InputError("omega must be finite")
    return omega


def _real_namespace(x: Array, quantity: str) -> Any:
    """Return the library of a real signal; x * x is no square of a length where x is complex."""
    xp = namespace(x)
    if "complex" in str(x.dtype):
        raise InputError(f"{quantity}: the signal must be real, got complex values")
    return xp
