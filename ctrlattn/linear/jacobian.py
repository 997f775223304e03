"""J v = d/de f(x + e v) and J' w, without J: the Jacobian of any map as a scipy LinearOperator.

J v takes one forward-mode pass and J' w one reverse-mode pass, in the memory of one evaluation of f, never (n d)^2.
Many products at one point are cheaper together (`jacobian_products`): what depends on x alone is computed once.
"""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from ctrlattn.arrays import Array, is_torch, namespace, require_finite, to_numpy
from ctrlattn.errors import InputTypeError

_AGREES = 1e3  # rounding units by which two products of one Jacobian may differ


def jacobian_operator(f: Callable[[Array], Array], x: Array) -> LinearOperator:
    """Return the Jacobian of f at x, as products with vectors: `J @ v`, `J.T @ w`, and what scipy makes of these.

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
        return _flat(pull(_shape_like(w, value))[0])

    def forward(v: np.ndarray) -> np.ndarray:
        return _flat(_push(f, point, _shape_like(v, point), pull, value))

    return LinearOperator((rows, columns), matvec=forward, rmatvec=back, dtype=to_numpy(value).dtype)


def jacobian_products(f: Callable[[Array], Array], x: Array) -> Callable[[np.ndarray], np.ndarray]:
    """Return V -> J(x) V for blocks of directions, with all that depends on x alone computed once.

    J v is the derivative of J' w along w, which is linear in w: its graph is made once, for about two evaluations of
    f, and a product then costs one, or less in a block. The first product is compared with `jacobian_operator`; where
    the two differ, or where f has no second derivative in torch, that one makes all products.

    Parameters
    ----------
    f, x : as for `jacobian_operator`

    Returns
    -------
    callable (x.size, k) -> (f(x).size, k)
        float64 of numpy; the products are taken in the dtype and on the device of x.

    Raises
    ------
    InputTypeError, InputError
        As for `jacobian_operator`.

    References
    ----------
    Pearlmutter, Neural Computation 6 (1994) 147, for products without the matrix; the derivative of a derivative
    that is linear is the usual way to forward mode from reverse mode.

    Examples
    --------
    >>> import numpy as np
    >>> jacobian_products(lambda x: x * x, np.array([1.0, 3.0]))(np.eye(2)).tolist()
    [[2.0, 0.0], [0.0, 6.0]]
    """
    import torch

    operator = jacobian_operator(f, x)
    point = x.detach().clone() if is_torch(x) else torch.tensor(x)
    adjoint, w = _adjoint(f, point)
    if adjoint is None:
        return lambda v: _column_by_column(operator, v)
    probe = np.random.default_rng(0).standard_normal((point.numel(), 1))
    expected = _column_by_column(operator, probe)
    allowed = _AGREES * float(torch.finfo(point.dtype).eps) * np.linalg.norm(expected)
    try:
        with np.errstate(invalid="ignore"):  # a derivative that is not finite agrees with nothing
            off = _block(adjoint, w, point, np.hstack([probe, -probe])) - expected * [1, -1]
        agrees = bool(np.linalg.norm(off) <= allowed)
    except RuntimeError:  # an operation of f whose derivative cannot be taken twice, or not mapped over directions
        agrees = False
    if not agrees:
        return lambda v: _column_by_column(operator, v)
    return lambda v: _block(adjoint, w, point, v)


def _adjoint(f: Callable[[Array], Array], point: Any) -> tuple[Any, Any]:
    """Return (J' w, w) with the graph that leads from w to J' w, or (None, w) where f has no such graph."""
    import torch

    with torch.enable_grad(), _plain_attention():
        point = point.requires_grad_(True)
        value = f(point)
        w = torch.zeros_like(value, requires_grad=True)
        if not value.requires_grad:
            return None, w
        try:
            pulled = torch.autograd.grad(value, point, w, create_graph=True, allow_unused=True)[0]
        except RuntimeError:
            return None, w
    return (pulled if pulled is not None and pulled.requires_grad else None), w


def _block(adjoint: Any, w: Any, point: Any, v: np.ndarray) -> np.ndarray:
    """Return J V for the columns of V at once."""
    import torch

    directions = torch.as_tensor(np.ascontiguousarray(v.T)).to(dtype=point.dtype, device=point.device)
    directions = directions.reshape(-1, *point.shape)
    single = len(directions) == 1
    products = torch.autograd.grad(
        adjoint, w, directions[0] if single else directions, retain_graph=True, is_grads_batched=not single
    )[0]
    return to_numpy(products).reshape(v.shape[1], -1).T.astype(np.float64)


def _column_by_column(operator: LinearOperator, v: np.ndarray) -> np.ndarray:
    columns = [operator @ column for column in v.T]
    return np.array(columns, dtype=np.float64).reshape(v.shape[1], operator.shape[0]).T


def _pullback(f: Callable[[Array], Array], point: Any) -> tuple[Any, Any]:
    """Return f(x), and w -> J' w, which can be called any number of times."""
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
    """Return J v by forward mode; where an operation has none, J v = d(J' w)'v / dw."""
    import torch

    prepare_forward()
    try:
        with _plain_attention():
            return torch.func.jvp(f, (point,), (v,))[1]
    except (NotImplementedError, RuntimeError):
        return torch.func.vjp(lambda w: pull(w)[0], torch.zeros_like(value))[1](v)[0]


@cache
def prepare_forward() -> None:
    """Take the first forward derivative unheard: it compiles what torch itself has deprecated, and warns of it."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))


def _plain_attention() -> Any:
    """Choose torch's plain attention: on the CPU only this kernel has a forward mode."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)


def _shape_like(vector: np.ndarray, template: Any) -> Any:
    import torch

    array = np.ascontiguousarray(vector)
    if np.iscomplexobj(array):
        raise InputTypeError("this Jacobian is real: apply it to the real and the imaginary part one by one")
    return torch.as_tensor(array).to(dtype=template.dtype, device=template.device).reshape(template.shape)


def _flat(result: Any) -> np.ndarray:
    return to_numpy(result).ravel()
