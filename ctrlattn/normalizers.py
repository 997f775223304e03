"""x <- x / size(x) per token: root-mean-square norm, layer norm, unit norm.

Each acts on the last axis alone, so that a token is normalised the same in any order of updates. Weights are
bound with functools.partial(rms_norm, weight=w). An epsilon is made a Python number first: a numpy scalar would turn
float32 signals into float64.
"""

from types import ModuleType

import numpy as np

from ctrlattn.arrays import Array, is_torch, machine_epsilon, namespace, require_number
from ctrlattn.errors import InputError

_LARGEST = 1e150


def rms_norm(x: Array, *, weight: Array | None = None, eps: float | None = None) -> Array:
    """Return x / sqrt(mean(x^2) + eps) * weight, over the last axis.

    Parameters
    ----------
    x : (..., n, d)
    weight : (d,), optional
    eps : float, optional
        None stands for the machine epsilon of the dtype, as in torch.nn.functional.rms_norm.

    Raises
    ------
    InputError
        A weight that is not (d,), an epsilon that is not finite, a single number in the place of x.

    References
    ----------
    Zhang and Sennrich, Root Mean Square Layer Normalization, arXiv 1910.07467, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> rms_norm(np.array([3.0, -3.0])).round(12).tolist()
    [1.0, -1.0]
    """
    xp, eps = _library_and_epsilon(x, eps)
    x = _within_range(x)
    return _apply_weight(x / xp.sqrt(xp.mean(x * x, -1, keepdims=True) + eps), weight)


def layer_norm(x: Array, *, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5) -> Array:
    """Return (x - mean) / sqrt(var + eps) * weight + bias, over the last axis; the variance divides by d.

    Parameters
    ----------
    x : (..., n, d)
    weight, bias : (d,), optional
    eps : float
        The default is that of torch.nn.functional.layer_norm.

    Raises
    ------
    InputError
        A weight or bias that is not (d,), an epsilon that is not finite, a single number in the place of x.

    References
    ----------
    Ba, Kiros, Hinton, Layer Normalization, arXiv 1607.06450, equation 3.

    Examples
    --------
    >>> import numpy as np
    >>> layer_norm(np.array([1.0, 3.0]), eps=0.0).tolist()
    [-1.0, 1.0]
    """
    xp, eps = _library_and_epsilon(x, eps)
    x = _within_range(x)
    centred = x - xp.mean(x, -1, keepdims=True)
    y = _apply_weight(centred / xp.sqrt(xp.mean(centred * centred, -1, keepdims=True) + eps), weight)
    return y if bias is None else y + _feature_vector("bias", bias, x)


def unit_norm(x: Array, *, eps: float | None = None) -> Array:
    """Return x / sqrt(|x|^2 + eps^2), over the last axis: the point of the unit sphere; 0 stays 0.

    Parameters
    ----------
    x : (..., n, d)
    eps : float, optional
        None stands for the machine epsilon of the dtype.

    Raises
    ------
    InputError
        An epsilon that is not finite, a single number in the place of x.

    Examples
    --------
    >>> import numpy as np
    >>> unit_norm(np.array([3.0, 4.0])).tolist()
    [0.6, 0.8]
    """
    xp, eps = _library_and_epsilon(x, eps)
    x = _within_range(x)
    return x / xp.sqrt(xp.sum(x * x, -1, keepdims=True) + eps * eps)


def _within_range(x: Array) -> Array:
    """Bring to 2^60 the tokens of float64 in numpy whose squares would overflow: beside that epsilon is nothing."""
    if is_torch(x) or x.dtype != np.float64 or not np.max(np.abs(x), initial=0.0) > _LARGEST:
        return x
    largest = np.max(np.abs(x), axis=-1, keepdims=True)
    return np.ldexp(x, np.where(largest > _LARGEST, 60 - np.frexp(largest)[1], 0))


def _library_and_epsilon(x: Array, eps: float | None) -> tuple[ModuleType, float]:
    """Return the library of x, once x has features, and epsilon as a Python number."""
    xp = namespace(x)
    if x.ndim == 0:
        raise InputError("a norm is taken over the features, the last axis: it needs (..., d), got a single number")
    return xp, machine_epsilon(x) if eps is None else float(require_number("eps", eps))


def _apply_weight(x: Array, weight: Array | None) -> Array:
    return x if weight is None else x * _feature_vector("weight", weight, x)


def _feature_vector(name: str, vector: Array, x: Array) -> Array:
    """Return the vector itself, once it has one number for each feature; another might broadcast over the tokens."""
    namespace(x, vector)
    if tuple(vector.shape) != (x.shape[-1],):
        raise InputError(
            f"{name} must have shape {(x.shape[-1],)}, one number for each feature, got {tuple(vector.shape)}"
        )
    return vector
