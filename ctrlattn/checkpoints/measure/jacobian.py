"""J_l = d f_l / d h at the stream h_l of a text: the Jacobian of one layer, as products with vectors.

J'w is one pull-back through the recorded layer. It is linear in w, so that its own pull-back is J v = d(J'w)'v/dw:
once it is recorded, J v costs little more than an evaluation of the layer, a third of forward-mode differentiation.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator

from ctrlattn.checkpoints.measure.layer_functions import LayerFunction, layer_functions
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.errors import InputError

_HEAD = 16  # numbers of a vector by which it is looked up before all are compared
_TOGETHER = 8  # vectors of which one pass through the recording takes the products; more at once are no faster

_Products = Callable[[torch.Tensor], torch.Tensor]  # of vectors (few, *shape) with a matrix


def layer_jacobian(checkpoint: Checkpoint, layer: int, ids: Any) -> LinearOperator:
    """Return the Jacobian of one layer of a network with respect to the stream of all tokens.

    It is J = d f(h)/d h, where f is the whole layer with its residual connections and norms and h the stream that it
    reads when the network runs on `ids`. Nothing else is varied: masks and positions stay, and there is no cache.

    Parameters
    ----------
    checkpoint : Checkpoint
    layer : int
        0 ... layers - 1.
    ids : (n,) token ids, str, or image
        As in `tap`.

    Returns
    -------
    scipy.sparse.linalg.LinearOperator
        J is (n d, n d), tokens one after the other, and is computed in float32 at least. `J @ v` and `J.T @ w` each
        cost about one evaluation of the layer, whose recorded pass the operator keeps in memory.

    Raises
    ------
    InputError
        A layer that is not there; bad ids; a stream that is not finite.

    References
    ----------
    Aubry et al., Transformer Block Coupling, arXiv 2407.07810, section 3.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> layer_jacobian(checkpoints.load(transformers.GPT2Model(config)), 1, [1, 2, 3]).shape
    (24, 24)
    """
    index = checkpoint.layer_index(layer)
    return recorded_jacobian(*layer_functions(checkpoint, ids, layers=(index,), wide=True)[0])


def recorded_jacobian(f: LayerFunction, h: torch.Tensor) -> LinearOperator:
    """Return the Jacobian of a layer function at h, for many products.

    `linear.jacobian_operator` takes any map, and pays for each J v anew; this one keeps both pull-backs.

    Parameters
    ----------
    f, h
        What `layer_function` returns.

    Returns
    -------
    scipy.sparse.linalg.LinearOperator
        (f(h).numel(), h.numel())

    Raises
    ------
    InputError
        An h, or a layer's output, that is not finite.

    Examples
    --------
    >>> J = recorded_jacobian(lambda h: h * h, torch.tensor([[1.0, 3.0]]))
    >>> (J @ np.ones(2)).tolist(), (J.T @ np.ones(2)).tolist()
    ([2.0, 6.0], [2.0, 6.0])
    """
    value, pull, push = _products_by_graph(f, h)
    if not (torch.isfinite(h).all() and torch.isfinite(value).all()):
        raise InputError("a Jacobian needs a finite stream: this layer reads or returns NaN or infinity")

    # numpy has no bfloat16.
    wide = h.dtype if h.dtype == torch.float64 else torch.float32

    def products(mapped: _Products, like: torch.Tensor, columns: np.ndarray) -> np.ndarray:
        batch = torch.as_tensor(np.ascontiguousarray(columns.T)).to(like).reshape(-1, *like.shape)
        parts = [mapped(vectors) for vectors in batch.split(_TOGETHER)]
        images = torch.cat(parts) if len(parts) > 1 else parts[0]
        # A sum is finite only where each number is; that of large numbers may overflow.
        if not images.sum().isfinite() and not torch.isfinite(images).all():
            raise InputError(f"a product with the Jacobian is not finite in {like.dtype}: load the network in float64")
        return np.asarray(images.to("cpu", wide).numpy()).reshape(len(images), -1).T

    return LinearOperator(
        (value.numel(), h.numel()),
        matvec=lambda v: products(push, h, v.reshape(-1, 1))[:, 0],
        rmatvec=lambda w: products(pull, value, w.reshape(-1, 1))[:, 0],
        matmat=lambda V: products(push, h, V),
        rmatmat=lambda W: products(pull, value, W),
        dtype=np.dtype(str(wide).removeprefix("torch.")),
    )


def _products_by_graph(f: LayerFunction, h: torch.Tensor) -> tuple[torch.Tensor, _Products, _Products]:
    """Return (f(h), W -> J'W, V -> J V) for vectors (few, *shape), by the graph of one evaluation and that of J'w."""
    stream = h.detach().requires_grad_()
    with torch.enable_grad():
        value = f(stream.clone())  # what a layer changes in place is no leaf
        w = torch.zeros_like(value).requires_grad_()
        back = _pull_back_at_once(value, stream, w, create_graph=True)
    return (
        value.detach(),
        lambda W: _pull_back(value, stream, W),
        lambda V: _pull_back(back, w, V),
    )


def _pull_back(output: torch.Tensor, source: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Return the pull-back of each vector, several at once: one product of large matrices beats many of small ones."""
    if len(vectors) == 1:
        return _pull_back_at_once(output, source, vectors[0])[None]
    try:
        return _pull_back_at_once(output, source, vectors, is_grads_batched=True)
    except RuntimeError:  # something in the layer takes no batch
        return torch.stack([_pull_back_at_once(output, source, vector) for vector in vectors])


def _pull_back_at_once(output: torch.Tensor, source: torch.Tensor, vectors: torch.Tensor, **how: bool) -> torch.Tensor:
    """Return the pull-back of `vectors` from `output` to `source`; zeros where nothing leads from one to the other."""
    if not output.requires_grad:
        batch = vectors.shape[: vectors.ndim - output.ndim]
        return source.new_zeros(*batch, *source.shape)
    options: dict[str, bool] = {"retain_graph": True, "allow_unused": True, "materialize_grads": True, **how}
    return torch.autograd.grad(output, source, vectors, **options)[0]


def remembering(operator: LinearOperator, few: int, spared: Callable[[], None] = lambda: None) -> LinearOperator:
    """Return the operator with a memory: it keeps its first few products J v and gives them again for the same v.

    Estimates of one seed start from the same random directions. `spared` is called for each product that is not made.

    Examples
    --------
    >>> from scipy.sparse.linalg import aslinearoperator
    >>> again = []
    >>> J = remembering(aslinearoperator(np.diag([1.0, 2.0])), 1, lambda: again.append(1))
    >>> (J @ np.ones(2)).tolist(), (J @ np.ones(2)).tolist(), len(again)
    ([1.0, 2.0], [1.0, 2.0], 1)
    """
    products: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def lookup(v: np.ndarray) -> np.ndarray | None:
        before, image = products.get(v[:_HEAD].tobytes(), (None, None))
        return image if before is not None and np.array_equal(before, v) else None

    def push(v: np.ndarray) -> np.ndarray:
        return pushed(v.reshape(-1, 1))[:, 0]

    def pushed(V: np.ndarray) -> np.ndarray:
        if V.shape[0] != operator.shape[1] or V.dtype != operator.dtype or not V.size:
            return np.asarray(operator @ V)
        images = [lookup(v) for v in V.T]
        new = [i for i, product in enumerate(images) if product is None]
        for i, product in zip(new, np.asarray(operator @ V[:, new]).T if new else (), strict=True):
            images[i] = product
            if len(products) < few:
                products.setdefault(V[:_HEAD, i].tobytes(), (V[:, i].copy(), product.copy()))
        for _ in range(len(images) - len(new)):
            spared()
        return np.array(images).T

    return LinearOperator(
        operator.shape,
        matvec=push,
        rmatvec=operator.rmatvec,
        matmat=pushed,
        rmatmat=operator.rmatmat,
        dtype=operator.dtype,
    )
