"""y = W_O (softmax(q k^T / sqrt(D)) v + u),  u = C(z) e over depth,  e = beta v_0 - v: attention with a controller.

Depth is time. The state of the controlled loop is the value v of one layer, and its reference is v_0, the value at
layer 0. `Tracking` holds the error, the law and the memory. The state that one layer hands to the next is returned by
the module and never stored on it.
"""

from functools import partial
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from ctrlattn.errors import InputError, require_flag
from ctrlattn.nn.modules.relatives import Mixing
from ctrlattn.nn.modules.sizes import require_heads
from ctrlattn.tracking import Tracking, TrackingState
from ctrlattn.values import short

DepthState = TrackingState  # v_0 and the memory of the controller, (..., n, heads, D) each
PastPair = tuple[torch.Tensor, torch.Tensor]  # keys and values of earlier tokens, (..., n, kv_heads, D) each


class ControlledAttention(torch.nn.Module):
    """Multi-head attention whose values track those of the first layer under a controller over depth.

        q, k, v = x W_qkv + b                       v includes its bias
        e = beta v_0 - v;   u = C(z) e              u = 0 at layer 0, where v_0 is handed on unscaled
        y = (softmax(q k^T / sqrt(D)) v + u) W_O    per head, after attention dropout and before `proj`

    Parameters have the names and the layout of timm's DeiT: `qkv.weight` (rows Q, then K, then V), `qkv.bias`,
    `proj.weight`, `proj.bias`. Attention is scaled_dot_product_attention, which forms no n x n matrix. The one
    exception is the mask of a causal module that is given `padding`.

    Parameters
    ----------
    dim, heads : int
        Number of features d, a multiple of the number of heads; D = d / heads.
    controller : PID, LTIController, LearnedPID, Actuator, python-control system with dt = 1, or None
    reference_gain : float
        beta.
    qkv_bias : bool
    causal : bool
        Whether a token reads only itself and the tokens before it.
    kv_heads : int, optional
        Number of key and value heads in grouped-query attention, a divisor of heads. v is repeated to the query heads
        before the error is computed.
    dropout : float
        Share of the attention weights that training sets to 0.
    mixing : module, optional
        Another attention law in the place of softmax(q k^T / sqrt(D)) v, made for this layer; see nn.relatives.

    Raises
    ------
    InputTypeError
        The controller is of the wrong kind.
    InputError
        The head counts do not divide, or a gain is not finite. At the call: the width, the depth_state or the padding
        has the wrong shape, or a cache is given without causal attention.

    References
    ----------
    Nguyen, Uribe, Nguyen, Baraniuk, PIDformer, ICML 2024, arXiv 2402.15989, section 3; Nguyen, Nguyen, Baraniuk,
    NeuTRENO, arXiv 2312.00751; parameter names as in timm's Attention.

    Examples
    --------
    >>> from ctrlattn import PID
    >>> layer = ControlledAttention(8, 2, controller=PID(0.8, 0.5, 0.05), reference_gain=1.0)
    >>> x = torch.ones(1, 3, 8)
    >>> y, depth_state = layer(x)
    >>> y, depth_state = layer(y, depth_state)
    >>> y.shape, depth_state.reference.shape, len(depth_state.controller)
    (torch.Size([1, 3, 8]), torch.Size([1, 3, 2, 4]), 2)
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        controller: Any = None,
        reference_gain: float = 1.0,
        qkv_bias: bool = True,
        causal: bool = False,
        kv_heads: int | None = None,
        dropout: float = 0.0,
        mixing: Any = None,
    ) -> None:
        qkv_bias = require_flag("qkv_bias", qkv_bias)
        causal = require_flag("causal", causal)
        super().__init__()
        require_heads(dim, heads, kv_heads)
        kv_heads = heads if kv_heads is None else kv_heads
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, dim // heads
        self.causal, self.dropout = causal, dropout
        self.mixing: Mixing | None = mixing
        if mixing is not None and causal and not mixing.masks:
            raise InputError(f"{type(mixing).__name__} mixes all tokens: it has no causal form")
        self.tracking = Tracking(controller, reference_gain)
        self.controller = self.tracking.controller  # a module among the modules, where its gains are learned
        self.qkv = torch.nn.Linear(dim, (heads + 2 * kv_heads) * self.head_dim, bias=qkv_bias)
        self.proj = torch.nn.Linear(dim, dim)

    def extra_repr(self) -> str:
        """Name what is not a module of its own: the heads, the law and the gain of its reference."""
        law = "" if isinstance(self.controller, torch.nn.Module | None) else f", controller={short(self.controller)}"
        beta = "" if self.controller is None else f", reference_gain={short(self.tracking.reference_gain)}"
        groups = "" if self.kv_heads == self.heads else f", kv_heads={self.kv_heads}"
        return f"heads={self.heads}{groups}, causal={self.causal}{law}{beta}"

    def forward(
        self, x: torch.Tensor, depth_state: DepthState | None = None, *, padding: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, DepthState]:
        """Run one layer of attention with its control.

        Parameters
        ----------
        x : (..., n, d)
        depth_state : optional
            State that the previous layer returned; None at layer 0.
        padding : (..., n) bool, optional
            True where there is a token, False where there is padding.

        Returns
        -------
        (y, depth_state)
            y : (..., n, d)
        """
        y, depth_state, _ = self.decode(x, depth_state, padding=padding)
        return y, depth_state

    def decode(
        self,
        x: torch.Tensor,
        depth_state: DepthState | None = None,
        past: PastPair | None = None,
        *,
        padding: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, DepthState, PastPair]:
        """Run `forward` for tokens that follow those of `past`; return the keys and values of all tokens as well.

        The control acts on each token alone: depth_state holds the tokens of x, and needs no cache.
        """
        if x.shape[-1] != self.proj.in_features:
            raise InputError(f"tokens must have {self.proj.in_features} features, got shape {tuple(x.shape)}")
        if past is not None and not self.causal:
            raise InputError("a cache needs causal=True: without it, earlier tokens would read the new ones as well")
        q, k, v = self.project(x)
        if padding is not None and self.mixing is not None and not self.mixing.masks:
            raise InputError(f"{type(self.mixing).__name__} mixes all tokens: it takes no padding")
        new_values, first = v, depth_state
        if self.mixing is not None and first is not None:
            v = self.mixing.values(v, self._undo_repeat(first.reference).to(v.dtype))
        u, depth_state = control_values(self.tracking, self.repeat(new_values), depth_state)
        k, v = (k, v) if past is None else (torch.cat([old, new], -3) for old, new in zip(past, (k, v), strict=True))
        mask, is_causal = self._mask(x.shape[-2], k.shape[-3], padding, x.device)
        heads = (t.transpose(-2, -3) for t in (q, self.repeat(k), self.repeat(v)))
        y = self.mix(*heads, mask=mask, is_causal=is_causal)
        y = (y if self.mixing is None else self.mixing.finish(y)).transpose(-2, -3)
        y = y if u is None else y + u
        return self.proj(y.flatten(-2)), depth_state, (k, v)

    def mix(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor | None, is_causal: bool
    ) -> torch.Tensor:
        """Return A v for softmax attention or another mixing law A, linear in v; all arrays are (..., heads, n, D)."""
        is_causal = require_flag("is_causal", is_causal)
        if self.mixing is None:
            return self.attend(q, k, v, mask=mask, is_causal=is_causal)
        return self.mixing(partial(self.attend, mask=mask, is_causal=is_causal), q, k, v)

    def attend(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor | None, is_causal: bool
    ) -> torch.Tensor:
        """Return softmax(q k^T / sqrt(D)) v; all arrays are (..., heads, n, D)."""
        is_causal = require_flag("is_causal", is_causal)
        dropout = self.dropout if self.training else 0.0
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=is_causal)

    def project(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return q, k, v, token by token, (..., n, heads or kv_heads, D)."""
        counts = (self.heads, self.kv_heads, self.kv_heads)
        parts = self.qkv(x).split([count * self.head_dim for count in counts], -1)
        return [part.unflatten(-1, (count, self.head_dim)) for part, count in zip(parts, counts, strict=True)]

    def repeat(self, t: torch.Tensor) -> torch.Tensor:
        """Repeat each head of keys or values for all query heads that share it."""
        return t if self.kv_heads == self.heads else t.repeat_interleave(self.heads // self.kv_heads, -2)

    def _undo_repeat(self, t: torch.Tensor) -> torch.Tensor:
        """Undo `repeat`."""
        return t[..., :: self.heads // self.kv_heads, :]

    def _mask(
        self, n: int, total: int, padding: torch.Tensor | None, device: torch.device
    ) -> tuple[torch.Tensor | None, bool]:
        """Return (mask, is_causal) for n queries that are the last of `total` tokens."""
        if padding is None and (not self.causal or n == 1):
            return None, False
        if padding is None and n == total:
            return None, True
        if padding is None:
            return torch.ones(n, total, dtype=torch.bool, device=device).tril(total - n), False
        if padding.dtype != torch.bool or padding.shape[-1] != total:
            raise InputError(
                f"padding must be bool (..., {total}), True where there is a token, got {padding.dtype} "
                f"{tuple(padding.shape)}"
            )
        visible = padding[..., None, None, :]
        if not self.causal:
            return visible, False
        # A padded query reads itself, since the softmax of an empty row is nan.
        causal = torch.ones(n, total, dtype=torch.bool, device=device).triu(total - n)
        past = torch.ones(n, total, dtype=torch.bool, device=device).tril(total - n)
        return (past & visible) | (past & causal), False


def control_values(
    tracking: Tracking, v: torch.Tensor, depth_state: DepthState | None
) -> tuple[torch.Tensor | None, DepthState]:
    """Return (u, depth_state of the next layer) for the values of one layer; u is None where no controller acts.

    Under autocast the values arrive in half precision. Error, memory and u are float32 even then: the 8 significant
    bits of bfloat16 would lose small errors that are added to an integral over depth.

    Raises
    ------
    InputError
        The values do not have the shape of v_0.

    Examples
    --------
    >>> from ctrlattn import PID
    >>> tracking, v = Tracking(PID(0.5)), torch.ones(1, 1, 1, 1)
    >>> u, state = control_values(tracking, 2 * v, None)
    >>> control_values(tracking, v, state)[0].item()
    0.5
    """
    if torch.is_autocast_enabled(v.device.type) and v.dtype in (torch.bfloat16, torch.float16):
        v = v.float()
    if depth_state is None:
        depth_state = tracking.init(v)
    if depth_state.reference.shape != v.shape:
        raise InputError(
            f"depth_state has v_0 of shape {tuple(depth_state.reference.shape)}, the values of this layer are "
            f"{tuple(v.shape)}: layers of one chain need the same batch, tokens, heads and head size"
        )
    if tracking.controller is None:
        return None, depth_state._replace(acting=True)
    _, u, following = tracking.step(v, depth_state)
    return (u if depth_state.acting else None), following
