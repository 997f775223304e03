"""rho(J) = max_i rho(d y_i / d x_i) of a causal layer, whose Jacobian is block-triangular over the tokens.

Everything in a layer but attention acts on each token alone. Where attention sees keys and values of the other tokens
as constants, one product with the Jacobian gives (D_1 v_1, ..., D_n v_n), the product of all n diagonal blocks. Values
stay what they are: only the derivative loses what flows between tokens.

Whether that holds in a layer, whatever it is made of, is seen in the Jacobian of the layer itself.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from ctrlattn.checkpoints.measure.jacobian import recorded_jacobian
from ctrlattn.checkpoints.measure.layer_functions import LayerFunction, RecalledLayer, layer_functions
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.watch import attention
from ctrlattn.errors import InputError

if TYPE_CHECKING:
    from ctrlattn.stability.nonnormal.block_krylov import BlockRadius, Product

_ALIKE = 1e-5  # of a product with few tokens from that with all, as a share: rounding of float32 is a tenth of it
_SETTLED = 1e-6  # residual at which the steps end, as a share of the radius
# Of what is checked, as a share of the radius. transformers computes norms and eager softmax in float32 in any network.
_TOLERANCE = 3e-4


class CausalRadius(NamedTuple):
    """Spectral radius of the Jacobian of a causal layer."""

    radius: float
    error: float  # first-order error: condition |J v - lambda v|, the rows of the token in J of the whole layer
    condition: float  # of the eigenvalue in the block of the token, 1 / |y* v| with the left Ritz vector y
    token: int  # the token whose own block has that eigenvalue
    steps: int  # products with the diagonal blocks
    checks: int  # products with the whole Jacobian


def causal_radius(checkpoint: Checkpoint, layer: int, ids: Any, *, seed: int = 0) -> CausalRadius:
    """Return the spectral radius of the Jacobian of one causal layer, from its n diagonal blocks.

    rho(J) = max_i rho(d f(h)_i / d h_i), since f(h)_i depends on h_1 ... h_i alone.

    Parameters
    ----------
    checkpoint : Checkpoint
    layer : int
        0 ... layers - 1.
    ids : (n,) token ids, str, or image
        As in `tap`.
    seed : int
        Seed of the vectors from which the Arnoldi steps start.

    Returns
    -------
    CausalRadius

    Raises
    ------
    InputError
        As for `layer_jacobian`; a network that is not causal.
    ArithmeticError
        Something in the layer other than attention mixes tokens, or the eigenvalue does not settle: the message says
        what the check with the whole Jacobian gave.

    References
    ----------
    Golub and Van Loan, Matrix Computations, section 7.1.2.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> network = checkpoints.load(transformers.GPT2Model(config))
    >>> J = checkpoints.layer_jacobian(network, 1, [1, 2, 3]) @ np.eye(24, dtype=np.float32)
    >>> bool(abs(causal_radius(network, 1, [1, 2, 3]).radius - abs(np.linalg.eigvals(J)).max()) < 1e-5)
    True
    """
    if not checkpoint.causal:
        raise InputError(f"{checkpoint.name} is not causal: the Jacobians of its layers are not block-triangular")
    f, h = layer_functions(checkpoint, ids, layers=(checkpoint.layer_index(layer),), wide=True)[0]
    return radius_of_blocks(checkpoint, f, h, recorded_jacobian(f, h), seed=seed)


def radius_of_blocks(
    checkpoint: Checkpoint, f: LayerFunction, h: torch.Tensor, jacobian: LinearOperator, *, seed: int = 0
) -> CausalRadius:
    """Return the `causal_radius` of a layer function at h; the whole Jacobian of the layer checks it.

    Raises
    ------
    ArithmeticError
        As for `causal_radius`.
    """
    from ctrlattn.stability.nonnormal.block_krylov import block_radius

    n, d = len(h), h[0].numel()  # several streams of a token are one block
    with attention(checkpoint.model, "sdpa"):
        blocks = _TokenBlocks(f, h)
        outermost = block_radius(blocks.product, (n, d), tolerance=_SETTLED, seed=seed, narrowed=blocks.of_tokens)
    residual, checks = _eigenpair_error(outermost, blocks.product, jacobian, (n, d), seed)
    radius, error = abs(outermost.value), outermost.condition * residual
    if not outermost.settled or error > _TOLERANCE * radius:
        raise ArithmeticError(
            f"the eigenvalue {outermost.value:.6g} of the block of token {outermost.block} is not settled after "
            f"{outermost.steps} Arnoldi steps: its residual in the whole Jacobian is {residual:.2g}, and its condition "
            f"{outermost.condition:.2g}"
        )
    return CausalRadius(radius, error, outermost.condition, outermost.block, outermost.steps, checks)


class _TokenBlocks:
    """Products with the diagonal blocks of a layer: of all tokens, or of few of them alone."""

    def __init__(self, f: LayerFunction, h: torch.Tensor) -> None:
        self._f, self._h, self._own_tokens = f, h, _OwnTokens()
        self._of_all = _token_product(f, h, self._own_tokens)
        self._last = (np.zeros((len(h), 1)),) * 2
        self._few: tuple[np.ndarray, Product] | None = None

    def product(self, v: np.ndarray) -> np.ndarray:
        """Return (D_1 v_1, ..., D_n v_n), (n, d) -> (n, d)."""
        self._last = v, self._of_all(v)
        return self._last[1]

    def of_tokens(self, tokens: np.ndarray) -> "Product":
        """Return products with the blocks of these tokens; of fewer of them later, by zeros in place of the others."""
        from ctrlattn.stability.nonnormal.block_krylov import among

        if self._few is None:
            self._few = tokens, self._product_alone(tokens) or among(self._of_all, tokens, len(self._h))
        recorded, product = self._few
        return among(product, np.searchsorted(recorded, tokens), len(recorded))

    def _product_alone(self, tokens: np.ndarray) -> "Product | None":
        """Run the layer over these tokens alone; return None where that does not give the last product of all again."""
        if not isinstance(self._f, RecalledLayer):
            return None
        rows = torch.as_tensor(tokens, device=self._h.device)
        v, product_of_all = (whole[tokens] for whole in self._last)
        try:
            alone = self._f.of_tokens(rows, len(self._h))
            product = _token_product(alone, self._h[rows], _OwnTokens(rows, self._own_tokens.keys_and_values))
            differences = np.linalg.norm(product(v) - product_of_all, axis=1)
        except Exception:  # a layer may raise anything on other tokens than it was called with
            return None
        return product if np.all(differences <= _ALIKE * np.linalg.norm(product_of_all, axis=1)) else None


def _token_product(f: LayerFunction, h: torch.Tensor, own_tokens: "_OwnTokens") -> "Product":
    """Return the map (tokens, d) -> (tokens, d) by the recorded pass of a layer over some tokens."""
    with own_tokens:
        blocks = recorded_jacobian(f, h)

    def product(v: np.ndarray) -> np.ndarray:
        return np.asarray(blocks @ v.ravel().astype(blocks.dtype), np.float64).reshape(v.shape)

    return product


def _eigenpair_error(
    outermost: "BlockRadius", product: "Product", jacobian: LinearOperator, shape: tuple[int, int], seed: int
) -> tuple[float, int]:
    """Return |J v - lambda v| in the rows of the token of an eigenpair, and the products it took, all of them at once.

    Raises
    ------
    ArithmeticError
        As `_require_triangular`.
    """
    n, d = shape
    rng = np.random.default_rng(seed + 1)
    v = rng.standard_normal(shape) / np.sqrt(d)
    tokens = sorted({n - 1, outermost.block, int(rng.integers(n))})
    pair = [part for part in (outermost.vector.real, outermost.vector.imag) if part.any()]
    products = _times(jacobian, _tangents([*tokens, *[outermost.block] * len(pair)], [*v[tokens], *pair], shape))
    _require_triangular(tokens, products[: len(tokens)], product(v), outermost)
    return _error_of(outermost, products[len(tokens) :]), len(products)


def _require_triangular(
    tokens: Sequence[int], products: np.ndarray, diagonal: np.ndarray, outermost: "BlockRadius"
) -> None:
    """Raise ArithmeticError unless the whole Jacobian has these blocks on its diagonal, and nothing above them.

    `products` is what the Jacobian makes of a vector at each of the tokens. `diagonal` is what the blocks make of all
    those vectors with all tokens at once, as in the first steps.
    """
    for token, whole in zip(tokens, products, strict=True):
        above = float(np.abs(whole[:token]).max(initial=0.0))
        difference = float(np.linalg.norm(whole[token] - diagonal[token]))
        if max(above, difference) > _TOLERANCE * max(abs(outermost.value), float(np.linalg.norm(whole[token]))):
            raise ArithmeticError(
                f"what mixes the tokens of this layer is not causal attention alone: at token {token}, the whole "
                f"Jacobian differs from the diagonal block by {difference:.2g}, and from 0 in earlier tokens by "
                f"{above:.2g}"
            )


def _error_of(outermost: "BlockRadius", products: np.ndarray) -> float:
    """Return |J v - lambda v| in the rows of the token of an eigenpair, from J of its parts that are not zero."""
    parts = iter(products[:, outermost.block])
    real, imaginary = (next(parts) if part.any() else part for part in (outermost.vector.real, outermost.vector.imag))
    return float(np.linalg.norm(real + 1j * imaginary - outermost.value * outermost.vector))


def _tangents(tokens: Sequence[int], vectors: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Return one tangent for each vector, (few, n, d): it is the vector at its token, and zero at all others.

    >>> _tangents([1], [np.array([2.0, 3.0])], (2, 2)).tolist()
    [[[0.0, 0.0], [2.0, 3.0]]]
    """
    tangents = np.zeros((len(tokens), *shape))
    tangents[np.arange(len(tokens)), tokens] = vectors
    return tangents


def _times(jacobian: LinearOperator, tangents: np.ndarray) -> np.ndarray:
    """Return J of each tangent, (few, n, d), all of them at once."""
    columns = tangents.reshape(len(tangents), -1).T.astype(jacobian.dtype)
    return np.asarray(jacobian @ columns, np.float64).T.reshape(tangents.shape)


class _OwnTokens(TorchFunctionMode):
    """Inside it, the derivative of attention reaches no token but the one that attends.

    With `tokens` the pass runs over these tokens alone, and they attend to the keys and values that a pass over all
    tokens has recorded.
    """

    def __init__(
        self, tokens: torch.Tensor | None = None, keys_and_values: Sequence[tuple[torch.Tensor, torch.Tensor]] = ()
    ) -> None:
        super().__init__()
        self._tokens, self._before = tokens, iter(keys_and_values)
        self.keys_and_values: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is scaled_dot_product_attention:
            return self._attention(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))

    def _attention(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        """Return softmax(q k')v; its derivative in row i reaches q_i, k_i and v_i alone. The arguments are torch's."""
        if q.shape[-2] != k.shape[-2]:
            raise ArithmeticError(f"{q.shape[-2]} queries read {k.shape[-2]} keys: there is no own token of each")
        self.keys_and_values.append((k.detach(), v.detach()))
        others, values = self.keys_and_values[-1] if self._tokens is None else next(self._before)
        groups = q.shape[-3] // k.shape[-3] if enable_gqa else 1
        k, v, others, values = (t.repeat_interleave(groups, -3) for t in (k, v, others, values))
        n = others.shape[-2]
        rows = slice(None) if self._tokens is None else self._tokens
        diagonal = torch.eye(n, dtype=q.dtype, device=q.device)[rows]
        c = q.shape[-1] ** -0.5 if scale is None else scale
        # What is added is zero: it brings the derivative alone.
        scores = c * (q @ others.mT) + (c * (q.detach() * (k - k.detach())).sum(-1))[..., None] * diagonal
        if is_causal:
            attn_mask = torch.ones(n, n, dtype=torch.bool, device=q.device).tril()[rows]
        if attn_mask is not None:
            is_bool = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, -torch.inf) if is_bool else scores + attn_mask
        a = scores.softmax(-1)
        return a @ values + (a.detach() * diagonal).sum(-1)[..., None] * (v - v.detach())
