"""rho(J) = max_i rho(d y_i / d x_i) of a causal layer, whose Jacobian is block-triangular over the tokens.

Everything in a layer but attention acts on each token alone. Where attention sees keys and values of the other tokens
as constants, one product with the Jacobian gives (D_1 v_1, ..., D_n v_n), the product of all n diagonal blocks. Values
stay what they are: only the derivative loses what flows between tokens.

Whether that holds in a layer, whatever it is made of, is seen in the Jacobian of the layer itself.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from ctrlattn.checkpoints.measure.jacobian import recorded_jacobian
from ctrlattn.checkpoints.measure.layer_functions import LayerFunction, layer_functions
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.watch import attention
from ctrlattn.errors import InputError

if TYPE_CHECKING:
    from ctrlattn.stability.nonnormal.block_krylov import BlockRadius

_SETTLED = 1e-6  # residual at which the steps end, as a share of the radius
# Of what is checked, as a share of the radius. transformers computes norms and eager softmax in float32 in any network.
_TOLERANCE = 3e-4


class CausalRadius(NamedTuple):
    """Spectral radius of the Jacobian of a causal layer."""

    radius: float
    error: float  # |J v - lambda v| in the rows of the token, with J of the whole layer
    token: int  # the token whose own block has that eigenvalue
    steps: int  # products with the diagonal blocks


def causal_radius(checkpoint: Checkpoint, layer: int, ids: Any, *, seed: int = 0) -> CausalRadius:
    """Spectral radius of the Jacobian of one causal layer, from its n diagonal blocks.

    rho(J) = max_i rho(d f(h)_i / d h_i), since f(h)_i depends on h_1 ... h_i alone.

    Parameters
    ----------
    checkpoint : Checkpoint
    layer : int
        0 ... layers - 1.
    ids : (n,) token ids, str, or image
        As in `tap`.
    seed : int
        Of the vectors from which the Arnoldi steps start.

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
    """`causal_radius` of a layer function at h, whose whole Jacobian checks it.

    Raises
    ------
    ArithmeticError
        As for `causal_radius`.
    """
    from ctrlattn.stability.nonnormal.block_krylov import block_radius

    n, d = len(h), h[0].numel()  # several streams of a token are one block
    with attention(checkpoint.model, "sdpa"), _OwnTokens():
        blocks = recorded_jacobian(f, h)

    def product(v: np.ndarray) -> np.ndarray:
        return np.asarray(blocks @ v.ravel().astype(blocks.dtype), np.float64).reshape(n, d)

    outermost = block_radius(product, (n, d), tolerance=_SETTLED, seed=seed)
    _require_triangular(product, jacobian, (n, d), outermost, seed)
    error = _error_in(jacobian, (n, d), outermost)
    radius = abs(outermost.value)
    if not outermost.settled or error > _TOLERANCE * radius:
        raise ArithmeticError(
            f"the eigenvalue {outermost.value:.6g} of the block of token {outermost.block} is not settled after "
            f"{outermost.steps} Arnoldi steps: the residual in the whole Jacobian is {error:.2g}"
        )
    return CausalRadius(radius, error, outermost.block, outermost.steps)


def _require_triangular(
    product: Any, jacobian: LinearOperator, shape: tuple[int, int], outermost: "BlockRadius", seed: int
) -> None:
    """Raise ArithmeticError unless the whole Jacobian has these blocks on its diagonal, and nothing above them."""
    n, d = shape
    rng = np.random.default_rng(seed + 1)
    v = rng.standard_normal(shape) / np.sqrt(d)
    diagonal = product(v)  # with all tokens at once, as the steps were
    tokens = sorted({n - 1, outermost.block, int(rng.integers(n))})
    own = np.zeros((len(tokens), n, d))
    for tangent, token in zip(own, tokens, strict=True):
        tangent[token] = v[token]
    for token, whole in zip(tokens, _times(jacobian, own), strict=True):
        above = float(np.abs(whole[:token]).max(initial=0.0))
        apart = float(np.linalg.norm(whole[token] - diagonal[token]))
        if max(above, apart) > _TOLERANCE * max(abs(outermost.value), float(np.linalg.norm(whole[token]))):
            raise ArithmeticError(
                f"what mixes the tokens of this layer is not causal attention alone: at token {token}, the whole "
                f"Jacobian differs from the diagonal block by {apart:.2g}, and from 0 in earlier tokens by {above:.2g}"
            )


def _error_in(jacobian: LinearOperator, shape: tuple[int, int], outermost: "BlockRadius") -> float:
    """|J v - lambda v| in the rows of the token of an eigenpair."""
    i, v = outermost.block, outermost.vector
    tangents = np.zeros((2, *shape))
    tangents[:, i] = v.real, v.imag
    real, imaginary = _times(jacobian, tangents)[:, i]
    return float(np.linalg.norm(real + 1j * imaginary - outermost.value * v))


def _times(jacobian: LinearOperator, tangents: np.ndarray) -> np.ndarray:
    """J of each tangent, (few, n, d), all of them at once."""
    columns = tangents.reshape(len(tangents), -1).T.astype(jacobian.dtype)
    return np.asarray(jacobian @ columns, np.float64).T.reshape(tangents.shape)


class _OwnTokens(TorchFunctionMode):
    """Inside it, the derivative of attention reaches no token but the one that attends."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is scaled_dot_product_attention:
            return _own_tokens(*args, **(kwargs or {}))
        return function(*args, **(kwargs or {}))


def _own_tokens(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """softmax(q k')v whose derivative in row i reaches q_i, k_i and v_i alone; the arguments are those of torch."""
    groups = q.shape[-3] // k.shape[-3] if enable_gqa else 1
    k, v = k.repeat_interleave(groups, -3), v.repeat_interleave(groups, -3)
    if q.shape[-2] != k.shape[-2]:
        raise ArithmeticError(f"{q.shape[-2]} queries read {k.shape[-2]} keys: there is no own token of each")
    c = q.shape[-1] ** -0.5 if scale is None else scale
    others, values = k.detach(), v.detach()
    scores = c * (q @ others.mT) + torch.diag_embed(c * (q.detach() * (k - others)).sum(-1))
    if is_causal:
        n = q.shape[-2]
        attn_mask = torch.ones(n, n, dtype=torch.bool, device=q.device).tril()
    if attn_mask is not None:
        is_bool = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -torch.inf) if is_bool else scores + attn_mask
    a = scores.softmax(-1)
    own = torch.diagonal(a.detach(), dim1=-2, dim2=-1)
    return a @ values + own[..., None] * (v - values)
