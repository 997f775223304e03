"""xp = namespace(x): one implementation, two array kinds.

numpy and torch agree on most spellings; this file holds the few on which they differ. The arguments decide
which library computes: nothing here is global, and nothing is copied from one kind or device to another.
"""

import math
import sys
from dataclasses import fields, is_dataclass, replace
from functools import partial
from itertools import combinations
from types import ModuleType
from typing import Any

import numpy as np

from ctrlattn.errors import InputError, InputTypeError

Array = Any  # numpy.ndarray or torch.Tensor: what the user gives comes back
_USUAL = (np.dtype(np.float64), np.dtype(np.float32))


def is_torch(x: Any) -> bool:
    """Tell whether x is a torch tensor; torch is never imported, since no tensor exists before someone else did."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def is_plain_tensor(x: Any) -> bool:
    """Tell whether x is numbers in main memory and nothing else: no gradient, no transform of torch, no compiling."""
    import torch

    if torch.compiler.is_compiling() or type(x) is not torch.Tensor or x.device.type != "cpu":
        return False
    if x.dtype not in (torch.float32, torch.float64) or (x.requires_grad and torch.is_grad_enabled()):
        return False
    if torch.autograd.forward_ad.unpack_dual(x).tangent is not None:
        return False
    try:
        x.data_ptr()  # a tensor of vmap or jacrev has none
    except RuntimeError:
        return False
    return True


def is_array(x: Any) -> bool:
    """Tell whether x is an array of numpy or torch; a masked array or a matrix, whose operators differ, is none."""
    return is_torch(x) or (isinstance(x, np.ndarray) and not isinstance(x, np.ma.MaskedArray | np.matrix))


def namespace(*arrays: Array) -> ModuleType:
    """Return the library of the arrays, numpy or torch, after checking that all are of one kind.

    Parameters
    ----------
    *arrays : numpy.ndarray or torch.Tensor
        All of one kind, one floating (or complex) dtype and one device.

    Raises
    ------
    InputTypeError
        Something that is not an array, an integer dtype, or a mixture of kinds, dtypes or devices.

    Examples
    --------
    >>> import numpy as np
    >>> namespace(np.ones(3), np.zeros((2, 3))).__name__
    'numpy'
    """
    if _all_usual(arrays):
        return np
    torch = sys.modules.get("torch")
    if torch is not None and _usual_tensors(torch, arrays):
        return torch
    first = arrays[0]
    for x in arrays:
        if not is_array(x):
            raise InputTypeError(f"expected a numpy array or a torch tensor, got {type(x).__name__}")
        if is_torch(x) != is_torch(first):
            raise InputTypeError("numpy and torch arrays are mixed: convert one of them (Loop.to moves a whole loop)")
        if x.dtype != first.dtype:
            raise InputTypeError(f"dtypes are mixed: {first.dtype} and {x.dtype}; convert one of them")
        if is_torch(x) and x.device != first.device:
            raise InputTypeError(f"devices are mixed: {first.device} and {x.device}; move one of them")
    if torch is not None and is_torch(first):
        if not (first.dtype.is_floating_point or first.dtype.is_complex):
            raise InputTypeError(f"a signal must be floating point, got {first.dtype}: use x.double()")
        return torch
    if not np.issubdtype(first.dtype, np.inexact):
        raise InputTypeError(f"a signal must be floating point, got {first.dtype}: use x.astype(float)")
    if not first.dtype.isnative:  # as read from some files; numpy computes in the other byte order
        raise InputTypeError(
            f"a signal must be in the byte order of this machine, got {first.dtype}: use x.astype(float)"
        )
    return np


def _all_usual(arrays: tuple[Array, ...]) -> bool:
    """Tell whether all are plain numpy of one usual dtype, and so pass every check of `namespace`.

    The answer takes a sixth of the time of those checks. `namespace` is called a dozen times in each layer, and with
    small signals `simulate` spent half of its time there.
    """
    dtype = getattr(arrays[0], "dtype", None)
    for x in arrays:
        if type(x) is not np.ndarray or x.dtype is not dtype:
            return False
    return dtype is _USUAL[0] or dtype is _USUAL[1]


def _usual_tensors(torch: ModuleType, arrays: tuple[Array, ...]) -> bool:
    """Tell whether all are plain tensors of one usual dtype in main memory, at a third of the time of the checks."""
    dtype = getattr(arrays[0], "dtype", None)
    for x in arrays:
        if type(x) is not torch.Tensor or x.dtype is not dtype or not x.is_cpu:
            return False
    return dtype is torch.float64 or dtype is torch.float32


def like(value: Any, template: Array) -> Array:
    """Return `value` with the kind, dtype and device of `template`; no imaginary part is dropped for a real one."""
    if type(value) is type(template) is np.ndarray and value.dtype is template.dtype:
        return value
    if _is_complex(value) and not _is_complex(template):
        value = require_real("what is converted to a real array", value)
    if is_torch(template):
        import torch

        source = value if is_torch(value) else torch.as_tensor(np.asarray(value))
        return source.to(dtype=template.dtype, device=template.device)
    return np.asarray(to_numpy(value), dtype=template.dtype)


def _is_complex(x: Any) -> bool:
    return bool(x.dtype.is_complex) if is_torch(x) else np.iscomplexobj(x)


def to_numpy(x: Any) -> np.ndarray:
    """Return a numpy view or copy of any array, for analysis and output; gradients are left behind."""
    if not is_torch(x):
        return np.asarray(x)
    x = x.detach().cpu()
    return (x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy()  # numpy has no bfloat16


def move(holder: Any, template: Array) -> Any:
    """Return `holder` with every array inside it (dataclass fields, partial arguments, sequences) made `like` template.

    What a torch module or a closure holds stays: move a module by its own `to` first.
    """
    if is_array(holder):
        return like(holder, template)
    if is_dataclass(holder) and not isinstance(holder, type):
        return replace(holder, **{f.name: move(getattr(holder, f.name), template) for f in fields(holder) if f.init})
    if isinstance(holder, partial):
        keywords = {name: move(value, template) for name, value in holder.keywords.items()}
        return partial(holder.func, *move(holder.args, template), **keywords)
    if type(holder) in (list, tuple):
        return type(holder)(move(item, template) for item in holder)
    return holder


def require_finite(name: str, x: Array) -> None:
    """Raise InputError that names the first NaN or infinity of `x`.

    A batched tensor of `torch.func.vmap` has no single truth value: inside such a transform nothing is checked.
    """
    xp = namespace(x)
    try:
        # A finite sum has finite terms, and takes no memory; an infinite one may be an overflow.
        with np.errstate(over="ignore", invalid="ignore"):
            if math.isfinite(abs(xp.sum(x.detach() if is_torch(x) else x))):
                return
        bad = ~xp.isfinite(x)
        is_finite = not bool(bad.any())
    except RuntimeError:
        return
    if not is_finite:
        where = tuple(int(i) for i in np.argwhere(to_numpy(bad))[0])
        raise InputError(f"{name} must be finite: found {to_numpy(x)[where]} at index {where}")


def require_tokens(x: Array) -> None:
    """Raise InputError unless `x` is a signal, (..., tokens, features) with at least one of each."""
    namespace(x)
    if x.ndim < 2 or x.shape[-2] == 0 or x.shape[-1] == 0:
        raise InputError(f"a signal is (..., tokens, features) with at least one of each, got shape {tuple(x.shape)}")


def require_number(name: str, value: Any) -> Any:
    """Return the finite number itself; one of numpy as a Python float, which leaves float32 signals float32.

    A torch scalar stays what it is, since it may carry a gradient.

    >>> import numpy as np
    >>> require_number("kp", np.float64(0.5))
    0.5
    """
    number = value.detach() if is_torch(value) else value
    if isinstance(number, complex | np.complexfloating | np.ndarray) and np.iscomplexobj(number):
        raise InputTypeError(f"{name} must be real, got complex values")
    try:
        finite = math.isfinite(number)
    except (TypeError, ValueError, RuntimeError):
        raise InputTypeError(f"{name} must be a number, got {value!r}") from None
    except OverflowError:
        raise InputError(f"{name} must be finite, got an integer beyond the largest float") from None
    if not finite:
        raise InputError(f"{name} must be finite, got {value}")
    return value if is_torch(value) else float(value)


def require_gain(name: str, value: Any) -> Any:
    """Return a finite number as `require_number` returns it, or the vector (d,) of one number for each feature itself.

    >>> import numpy as np
    >>> require_gain("skip", np.array([1.0, 0.5])).tolist()
    [1.0, 0.5]
    """
    if not is_array(value) or value.ndim == 0:
        return require_number(name, value)
    if _is_complex(value):
        raise InputTypeError(f"{name} must be real, got complex values")
    if value.ndim != 1 or value.shape[0] == 0:
        raise InputError(f"{name} must be a number, or (d,) with one number a feature, got shape {tuple(value.shape)}")
    require_finite(name, value)
    return value


def require_features(x: Array, **gains: Any) -> None:
    """Raise InputError unless each gain is a number, or of the kind of `x` with one number for each of its features.

    >>> import numpy as np
    >>> require_features(np.ones((4, 3)), skip=np.ones(2))
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: skip must have one number for each of the 3 features of the signal, got 2
    """
    for name, gain in gains.items():
        if type(gain) is float or not is_vector(gain):  # the usual kind first: this is asked in each layer
            continue
        try:
            namespace(x, gain)
        except InputTypeError as error:
            raise InputTypeError(f"{name} must be like the signal: {error}") from None
        if gain.shape[0] != x.shape[-1]:
            raise InputError(
                f"{name} must have one number for each of the {x.shape[-1]} features of the signal, got {gain.shape[0]}"
            )


def is_vector(gain: Any) -> bool:
    """Tell whether a gain is one number for each feature, and not one for all.

    >>> is_vector(1.0), is_vector(np.ones(3))
    (False, True)
    """
    return is_array(gain) and gain.ndim == 1


def require_positive(name: str, value: Any) -> Any:
    """Return the finite number itself, as `require_number` returns it, once it is greater than 0.

    >>> require_positive("temperature", 2)
    2.0
    """
    number = require_number(name, value)
    if not number > 0:
        raise InputError(f"{name} must be positive and finite, got {value}")
    return number


def require_numbers(name: str, value: Any) -> np.ndarray:
    """Return `value` as a float64 array of numpy, or as a complex128 one where its type is complex.

    Raises
    ------
    InputTypeError
        Something that does not hold numbers, such as lists of different lengths.

    Examples
    --------
    >>> require_numbers("modes", [1, 0.5j]).tolist()
    [(1+0j), 0.5j]
    >>> require_numbers("modes", [[1], [2, 3]])
    Traceback (most recent call last):
    ...
    ctrlattn.InputTypeError: modes must be a number or an array of numbers, got list
    """
    try:
        array = to_numpy(value)
    except ValueError:  # lists of different lengths
        array = np.array(None)
    if array.dtype.kind not in "biufc":
        raise InputTypeError(f"{name} must be a number or an array of numbers, got {type(value).__name__}")
    return np.asarray(array, dtype=np.complex128 if np.iscomplexobj(array) else np.float64)


def require_real(name: str, value: Any) -> np.ndarray:
    """Return `value` as a float64 array of numpy; raise InputError where the cast would lose an imaginary part.

    A complex type whose imaginary parts are all 0 is real: eigenvalues come in one.

    Raises
    ------
    InputError
        An imaginary part that is not 0.
    InputTypeError
        Something that does not hold numbers.

    Examples
    --------
    >>> require_real("gains", [0, 1]).tolist()
    [0.0, 1.0]
    >>> require_real("gains", [0.5, 0.2j])
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: gains must be real, got complex values
    """
    if type(value) is np.ndarray and value.dtype is _USUAL[0]:  # the usual kind first
        return value
    array = require_numbers(name, value)
    if np.iscomplexobj(array) and np.any(array.imag != 0):
        raise InputError(f"{name} must be real, got complex values")
    return np.asarray(array.real, dtype=np.float64)


def require_attention(matrices: Any) -> np.ndarray:
    """Return attention matrices (..., n, n) in float64, checked to be real and finite.

    >>> require_attention([[1, 0], [0.5, 0.5]]).shape
    (2, 2)
    >>> require_attention([1.0])
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: attention matrices are (..., n, n), got shape (1,)
    """
    a = require_real("the attention matrices", matrices)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2] or a.shape[-1] == 0:
        raise InputError(f"attention matrices are (..., n, n), got shape {a.shape}")
    require_finite("the attention matrices", a)
    return a


def require_batches(**signals: Array | None) -> None:
    """Raise InputError unless the dimensions before the last two broadcast against each other; None is left out.

    >>> import numpy as np
    >>> require_batches(query=np.ones((5, 1, 2)), keys=np.ones((4, 1, 2)))
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: the batches of query (5, 1, 2) and keys (4, 1, 2) do not fit
    """
    batched = {name: tuple(x.shape) for name, x in signals.items() if x is not None and x.ndim > 2}
    for (first, a), (second, b) in combinations(batched.items(), 2):
        sides = zip(reversed(a[:-2]), reversed(b[:-2]), strict=False)
        if any(1 not in pair and pair[0] != pair[1] for pair in sides):
            raise InputError(f"the batches of {first} {a} and {second} {b} do not fit")


def scaled(gain: Any, x: Array) -> Array:
    """Return gain x, without the operation for the gains 1 and -1 of most loops.

    >>> import numpy as np
    >>> scaled(-1.0, np.ones(2)).tolist()
    [-1.0, -1.0]
    """
    if isinstance(gain, float) and abs(gain) == 1.0:
        return x if gain == 1.0 else -x
    return gain * x


def combined(a: Any, x: Array, b: Any, y: Array) -> Array:
    """Return a x + b y; where b is -1 it is one difference, which has the same bits.

    >>> import numpy as np
    >>> combined(2.0, np.ones(2), -1.0, np.ones(2)).tolist()
    [1.0, 1.0]
    """
    if isinstance(b, float) and b == -1.0:
        return scaled(a, x) - y
    return scaled(a, x) + scaled(b, y)


def machine_epsilon(x: Array) -> float:
    """Return the spacing of floating-point numbers at 1 for the dtype of `x`."""
    return float(namespace(x).finfo(x.dtype).eps)


def arange(n: int, template: Array) -> Array:
    """Return 0, 1, ..., n - 1 with the kind, dtype and device of `template`."""
    if is_torch(template):
        import torch

        return torch.arange(n, dtype=template.dtype, device=template.device)
    return np.arange(n, dtype=template.dtype)


def running_sum(x: Array) -> Array:
    """Return x_0 + ... + x_i for every token i; float32 is summed in float64: numpy adds one token after another."""
    xp = namespace(x)
    return xp.cumsum(x, -2) if xp is not np else np.cumsum(x, -2, dtype=_wide_dtype(x)).astype(x.dtype)


def token_sum(x: Array) -> Array:
    """Return the sum over all tokens, (..., 1, d), summed as `running_sum` is."""
    xp = namespace(x)
    return (
        x.sum(-2, keepdims=True) if xp is not np else np.sum(x, -2, keepdims=True, dtype=_wide_dtype(x)).astype(x.dtype)
    )


def _wide_dtype(x: np.ndarray) -> Any:
    return np.promote_types(x.dtype, np.float64)


def wide(x: Array) -> Any:
    """Return the same numbers in float64, for sums: in float16 a square overflows at 256.

    >>> wide(np.ones(1, np.float32)).dtype
    dtype('float64')
    """
    return x.double() if is_torch(x) else np.asarray(x, _wide_dtype(np.asarray(x)))


def softmax(scores: Array) -> Array:
    """Return exp(s_j) / sum_j exp(s_j) over the last axis.

    >>> import numpy as np
    >>> softmax(np.zeros(4)).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    xp = namespace(scores)
    if xp is not np:
        return xp.softmax(scores, -1)
    if np.iscomplexobj(scores):
        raise InputTypeError("softmax needs real scores: attention is not defined for a complex signal")
    powers = np.exp(scores - np.amax(scores, axis=-1, keepdims=True))
    return powers / np.sum(powers, axis=-1, keepdims=True)


def attention_weights(q: Array, k: Array, *, scale: float, bias: Array | None = None) -> Array:
    """Return softmax(scale q k^T + bias), (..., m, d), (..., n, d) -> (..., m, n); a bias of -inf hides a key."""
    scores = scale * (q @ k.swapaxes(-1, -2))
    return softmax(scores if bias is None else scores + bias)


def attend(q: Array, k: Array, v: Array, *, scale: float, bias: Array | None = None) -> Array:
    """Return softmax(scale q k^T + bias) v: scaled_dot_product_attention in torch, the formula in numpy."""
    xp = namespace(q, k, v)
    if xp is np:
        return attention_weights(q, k, scale=scale, bias=bias) @ v
    batch = xp.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (t.expand(*batch, *t.shape[-2:]) for t in (q, k, v))
    return xp.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)


def causal_bias(n: int, template: Array) -> Array:
    """Return a bias (n, n): 0 where key <= query, -inf where the key lies in the future."""
    i = arange(n, template)
    return namespace(template).where(i[None, :] <= i[:, None], 0.0 * i, -float("inf"))
