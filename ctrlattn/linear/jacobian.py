"""J v = d/de f(x + e v) and J' w, without J: the Jacobian of any map as a scipy LinearOperator.

J v takes one forward-mode pass and J' w one reverse-mode pass, in the memory of one evaluation of f, never (n d)^2.
"""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from ctrlattn.arrays import Array, is_torch, namespace, require_finite, to_numpy
from ctrlattn.errors import InputTypeError


def jacobian_operator(f: Callable[[Array], Array], x: Array) -> LinearOperator:
    """The Jacobian of f at x, as products with vectors: `J @ v`, `J.T @ w`, and whatever scipy makes of these.

    Parameters
    ----------
    f : callable
        x -> f(x), any shapes; written for torch, or for both kinds of arrays as every predictor, norm and layer of
        this package is (it is called with torch tensors, also for a numpy x).
    x : numpy.ndarray or torch.Tensor, real floating point
        Operating point. Its dtype and device are those in which f is evaluated.

    Returns
    -------
    scipy.sparse.linalg.LinearOperator
        (f(x).size, x.size), on flattened numpy vectors in row-major order.

    Raises
    ------
    InputTypeError
        An x that is not a real floating-point array, an f that torch cannot differentiate.
    InputError
        NaN or infinity in x.

    Notes
    -----
    Where some operation of f has no forward mode, J v is the reverse mode of the reverse mode.

    Examples
    --------
    >>> import numpy as np
    >>> from ctrlattn import CausalMean, Loop, simulate
    >>> def two_layers(x):
    ...     return simulate(Loop(CausalMean()), x, 2, record="last").state
    >>> J = jacobian_operator(two_layers, np.ones((3, 1)))
    >>> (J @ np.eye(3)).tolist()  # (I - M)^2
    [[1.0, 0.0, 0.0], [-2.0, 1.0, 0.0], [-0.5, -1.0, 1.0]]
    """
    import torch

    namespace(x)
    require_finite("x", x)
    point = x.detach().clone() if is_torch(x) else torch.tensor(x)
    if point.is_complex():
        raise InputTypeError(
            f"jacobian_operator differentiates real maps, got x of {x.dtype}: split real and imaginary part"
        )
    value, pull = _pullback(f, point)
    rows, columns = value.numel(), point.numel()

    def back(w: np.ndarray) -> np.ndarray:
        return _flat(pull(_shaped(w, value))[0])

    def forward(v: np.ndarray) -> np.ndarray:
        return _flat(_push(f, point, _shaped(v, point), pull, value))

    return LinearOperator((rows, columns), matvec=forward, rmatvec=back, dtype=to_numpy(value).dtype)


def _pullback(f: Callable[[Array], Array], point: Any) -> tuple[Any, Any]:
    """f(x), and w -> J' w, which can be called any number of times."""
    import torch

    try:
        with _plain_attention():
            value, pull, *_ = torch.func.vjp(f, point)
    except (TypeError, AttributeError, RuntimeError, NotImplementedError) as error:
        raise InputTypeError(
            f"jacobian_operator differentiates with torch: {f!r} must accept torch tensors ({error})"
        ) from error
    if not is_torch(value):
        raise InputTypeError(f"f must return one array, got {type(value).__name__}")
    return value, pull


def _push(f: Callable[[Array], Array], point: Any, v: Any, pull: Any, value: Any) -> Any:
    """J v by forward mode; where an operation has none, J v = d(J' w)'v / dw."""
    import torch

    prepare_forward()
    try:
        with _plain_attention():
            return torch.func.jvp(f, (point,), (v,))[1]
    except (NotImplementedError, RuntimeError):
        return torch.func.vjp(lambda w: pull(w)[0], torch.zeros_like(value))[1](v)[0]


@cache
def prepare_forward() -> None:
    """The first forward derivative compiles what torch itself has deprecated, and warns; no user need hear it."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))


def _plain_attention() -> Any:
    """Of torch's attention on the CPU only the plain kernel has a forward mode."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)


def _shaped(vector: np.ndarray, template: Any) -> Any:
    import torch

    array = np.ascontiguousarray(vector)
    if np.iscomplexobj(array):
        raise InputTypeError("this Jacobian is real: apply it to the real and the imaginary part one by one")
    return torch.as_tensor(array).to(dtype=template.dtype, device=template.device).reshape(template.shape)


def _flat(result: Any) -> np.ndarray:
    return to_numpy(result).ravel()
