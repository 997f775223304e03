"""F = f_{b-1} o ... o f_a: a span of layers as one map of the stream, its passes, and eigenvalues of its Jacobian."""

from typing import Any, NamedTuple

import numpy as np
import torch

from ctrlattn.checkpoints.measure.jacobian import recorded_jacobian
from ctrlattn.checkpoints.measure.layer_functions import LayerFunction, layer_functions
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.errors import require_whole
from ctrlattn.looped import iterate

_SMALL = 1e-2  # residual of an eigenvalue that is believed, as a share of its modulus
_KRYLOV = 80  # products with J, unless asked otherwise


class SpanModes(NamedTuple):
    """Outer eigenvalues of J = F'(h) at the stream that enters the span.

    Attributes
    ----------
    eigenvalues : (m,) complex
        Of largest real part first.
    residuals : (m,)
        |J v - lambda v| for the vector v of length 1 that belongs to each, by one more product with J.
    size : int
        Order of J.
    """

    eigenvalues: np.ndarray
    residuals: np.ndarray
    size: int


class SpanPasses(NamedTuple):
    """How one span moves the stream of a text, pass after pass."""

    residual: np.ndarray  # (passes,) |F(h_k) - h_k|/|h_k|
    norm: np.ndarray  # (passes + 1,) |h_k|/|h_0|


def span_function(checkpoint: Checkpoint, layers: tuple[int, int], ids: Any) -> tuple[LayerFunction, torch.Tensor]:
    """The layers a ... b - 1 as one function of the stream, and the stream that enters them for this text.

    Parameters
    ----------
    checkpoint : Checkpoint
    layers : (a, b)
    ids : (n,) token ids, str, or image

    Returns
    -------
    F : callable, (..., n, d) -> (..., n, d)
        As of `layer_function`.
    h : (n, d)

    Raises
    ------
    InputError
        A layer that is not there; bad ids.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=3, n_embd=8, n_head=2, vocab_size=9)
    >>> F, h = span_function(checkpoints.load(transformers.GPT2Model(config)), (1, 3), [1, 2, 3])
    >>> tuple(F(h).shape)
    (3, 8)
    """
    functions = layer_functions(checkpoint, ids, layers=tuple(range(*layers)))

    def span(h: torch.Tensor) -> torch.Tensor:
        for f, _ in functions:
            h = f(h)
        return h

    return span, functions[0][1]


def span_modes(F: LayerFunction, h: torch.Tensor, *, products: int = _KRYLOV, seed: int = 0) -> SpanModes:
    """Outer eigenvalues of F'(h) by Arnoldi's method: one Krylov space shows both the largest and the rightmost.

    An eigenvalue is returned where its residual is below a hundredth of its modulus; others of the space are not.

    Parameters
    ----------
    F, h
        Of `span_function`.
    products : int
        Products with J.
    seed : int
        Of the first vector.

    Returns
    -------
    SpanModes
        Empty where nothing has converged.

    Raises
    ------
    InputError
        A stream that is not finite; fewer than two products.

    References
    ----------
    Saad, Numerical Methods for Large Eigenvalue Problems, 2011, section 6.2.

    Examples
    --------
    >>> modes = span_modes(lambda h: h * torch.tensor([3.0, -1.0, 0.5]), torch.ones(1, 3), products=3)
    >>> modes.eigenvalues.real.round(4).tolist()
    [3.0, 0.5, -1.0]
    """
    products = min(require_whole("products", products, least=2), h.numel())
    J = recorded_jacobian(F, h)
    V, H = _arnoldi(J, products, seed)
    m = H.shape[1]
    values, vectors = np.linalg.eig(H[:m])
    order = np.lexsort((values.imag, -values.real))
    # |h_{m+1,m} y_m| is the residual of a Ritz pair in exact arithmetic, and chooses those that are worth a product.
    near = [i for i in order if abs(H[m, m - 1] * vectors[m - 1, i]) < _SMALL * abs(values[i])]
    checked = [(values[i], _residual(J, V[:, :m] @ vectors[:, i], values[i])) for i in near if values[i].imag >= 0]
    good = [(value, size) for value, size in checked if size < _SMALL * abs(value)]
    both = [(v, size) for value, size in good for v in ((value, value.conjugate()) if value.imag else (value,))]
    return SpanModes(
        np.array([v for v, _ in both], dtype=complex), np.array([size for _, size in both]), int(J.shape[0])
    )


def span_passes(
    F: LayerFunction, h: torch.Tensor, passes: int, controller: Any = None, recall: float = 0.0
) -> SpanPasses:
    """Residual and norm of the stream over passes under a controller, without the rest of the network.

    Raises
    ------
    InputError
        As for `looped.iterate`.

    Examples
    --------
    >>> from ctrlattn import PID
    >>> span_passes(lambda h: 0 * h, torch.ones(2, 2), 2, PID(0.5)).norm.tolist()
    [1.0, 0.5, 0.25]
    """
    with torch.no_grad():
        run = iterate(F, h, passes, controller, recall)
    states = run.state.double().flatten(1).norm(dim=1).cpu().numpy()
    assert run.prediction is not None
    away = (run.prediction - run.state[:-1]).double().flatten(1).norm(dim=1).cpu().numpy()
    tiny = np.finfo(float).tiny
    return SpanPasses(away / np.maximum(states[:-1], tiny), states / max(states[0], tiny))


def _arnoldi(J: Any, products: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """J V_m = V_{m+1} H: an orthonormal basis in float64, every vector orthogonalised twice."""
    V = np.zeros((J.shape[0], products + 1))
    H = np.zeros((products + 1, products))
    start = np.random.default_rng(seed).standard_normal(J.shape[0])
    V[:, 0] = start / np.linalg.norm(start)
    for m in range(products):
        w = np.asarray(J @ V[:, m], dtype=float)
        size = np.linalg.norm(w)
        for _ in range(2):
            share = V[:, : m + 1].T @ w
            w = w - V[:, : m + 1] @ share
            H[: m + 1, m] += share
        H[m + 1, m] = np.linalg.norm(w)
        if H[m + 1, m] <= 1e-12 * size:  # the space is invariant: its eigenvalues are exact
            H[m + 1, m] = 0.0
            return V, H[: m + 2, : m + 1]
        V[:, m + 1] = w / H[m + 1, m]
    return V, H


def _residual(J: Any, v: np.ndarray, value: complex) -> float:
    """|J v - lambda v|/|v|, v complex and J real."""
    image = np.asarray(J @ v.real, dtype=float) + (1j * np.asarray(J @ v.imag, dtype=float) if value.imag else 0)
    v = v if value.imag else v.real
    return float(np.linalg.norm(image - value * v) / np.linalg.norm(v))
