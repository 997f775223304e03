"""x' = x + g Attn(norm x), x'' = x' + MLP(norm x'): one transformer block, with a controller in its attention.

Vision transformers and language models here have the same blocks. Parameter names are those of timm (`norm1`, `attn`,
`norm2`, `mlp.fc1`, `mlp.fc2`), so that a state dict of DeiT fits.
"""

from functools import partial
from typing import Any, Literal, get_args

import torch

from ctrlattn.arrays import require_number
from ctrlattn.errors import InputError, require_flag
from ctrlattn.loop import Loop
from ctrlattn.nn.modules.attention import ControlledAttention, DepthState, PastPair
from ctrlattn.nn.modules.sizes import Norm, require_norm

Placement = Literal["pre", "post"]

_NORMS: dict[str, Any] = {
    "layer": partial(torch.nn.LayerNorm, eps=1e-6),
    "rms": partial(torch.nn.RMSNorm, eps=1e-6),
    "none": lambda dim: torch.nn.Identity(),
}


class MLP(torch.nn.Module):
    """fc2(gelu(fc1(x))), with dropout after each linear map.

    >>> MLP(4, 8)(torch.ones(2, 4)).shape
    torch.Size([2, 4])
    """

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1, self.fc2 = torch.nn.Linear(dim, hidden), torch.nn.Linear(hidden, dim)
        self.drop = torch.nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (..., d) to (..., d)."""
        return self.drop(self.fc2(self.drop(torch.nn.functional.gelu(self.fc1(x)))))


def drop_path(y: torch.Tensor, rate: float, training: bool) -> torch.Tensor:
    """Drop paths at random (stochastic depth): a sample's y (N, ...) is 0 with probability `rate`, else y / (1 - rate).

    References
    ----------
    Huang et al., Deep networks with stochastic depth, arXiv 1603.09382; in DeiT's recipe, arXiv 2012.12877, table 9.

    Examples
    --------
    >>> y = torch.ones(4, 2)
    >>> drop_path(y, 0.5, False) is y, sorted(set(drop_path(y, 0.5, True).flatten().tolist()) | {0.0, 2.0})
    (True, [0.0, 2.0])
    """
    if rate == 0.0 or not training:
        return y
    stays = torch.rand(y.shape[:1], dtype=y.dtype, device=y.device) >= rate
    return y * stays.reshape(-1, *[1] * (y.ndim - 1)) / (1 - rate)


class Block(torch.nn.Module):
    """One layer on a residual stream: controlled attention, which enters with gain g, and an MLP.

        pre     x <- x + g Attn(norm1 x);    x <- x + MLP(norm2 x)
        post    x <- norm1(x + g Attn x);    x <- norm2(x + MLP x)
        pre, parallel      x <- x + g Attn(norm1 x) + MLP(norm2 x)

    With g = -1 the block is a comparator: it subtracts from the stream what attention predicts. Here the output
    projection W_O is learned, so that the sign changes nothing that training could not undo by -W_O.

    Parameters
    ----------
    dim, heads, hidden : int
    feedback : float
        g.
    norm : "layer", "rms" or "none"
    placement : "pre" or "post"
    parallel : bool
        Whether attention and MLP read the same stream, as in GPT-NeoX; pre-norm only.
    dropout : float
        Dropout rate of the attention weights, of the attention output, and in the MLP.
    drop_path : float
        Probability in training that a sample skips a sublayer. The controller's memory is updated even then.
    **attention
        Arguments of ControlledAttention: controller, reference_gain, causal, kv_heads, qkv_bias, mixing.

    Raises
    ------
    InputError
        The norm or placement is unknown, parallel is combined with post-norm, drop_path lies outside [0, 1), or
        ControlledAttention refuses its arguments.

    References
    ----------
    Touvron et al., DeiT, arXiv 2012.12877; `docs/origin.md`, "Prediction error", for g = -1; Black et al.,
    GPT-NeoX-20B, arXiv 2204.06745, section 2.1, for parallel sublayers.

    Examples
    --------
    >>> x, depth_state = Block(8, 2, 16, norm="rms", feedback=-1.0)(torch.ones(1, 3, 8))
    >>> x.shape
    torch.Size([1, 3, 8])
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        *,
        feedback: float = 1.0,
        norm: Norm = "layer",
        placement: Placement = "pre",
        parallel: bool = False,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        **attention: Any,
    ) -> None:
        parallel = require_flag("parallel", parallel)
        super().__init__()
        require_norm(norm)
        if placement not in get_args(Placement):
            raise InputError(f'placement must be "pre" or "post", got {placement!r}')
        if parallel and placement == "post":
            raise InputError("parallel=True lets attention and MLP read the same stream: placement must be 'pre'")
        if not 0 <= drop_path < 1:
            raise InputError(f"drop_path must lie in [0, 1), got {drop_path}")
        self.placement, self.parallel, self.drop_path = placement, parallel, float(drop_path)
        self.norm1, self.norm2 = _NORMS[norm](dim), _NORMS[norm](dim)
        self.attn = ControlledAttention(dim, heads, dropout=dropout, **attention)
        self.mlp, self.drop = MLP(dim, hidden, dropout), torch.nn.Dropout(dropout)
        self.stream = Loop(self.attn, skip=1.0, feedback=require_number("feedback", feedback))

    def forward(
        self, x: torch.Tensor, depth_state: DepthState | None = None, *, padding: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, DepthState]:
        """Map (..., n, d) to (..., n, d), and return the depth_state for the next block as well."""
        x, depth_state, _ = self.decode(x, depth_state, padding=padding)
        return x, depth_state

    def decode(
        self,
        x: torch.Tensor,
        depth_state: DepthState | None = None,
        past: PastPair | None = None,
        *,
        padding: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, DepthState, PastPair]:
        """Run `forward` for tokens that follow those of `past`; return the keys and values of all tokens as well."""
        pre = self.placement == "pre"
        y, depth_state, past = self.attn.decode(self.norm1(x) if pre else x, depth_state, past, padding=padding)
        mixed = self.stream.compare(x, self._with_drop_path(self.drop(y)))
        if pre:
            return mixed + self._with_drop_path(self.mlp(self.norm2(x if self.parallel else mixed))), depth_state, past
        mixed = self.norm1(mixed)
        return self.norm2(mixed + self._with_drop_path(self.mlp(mixed))), depth_state, past

    def _with_drop_path(self, y: torch.Tensor) -> torch.Tensor:
        return drop_path(y, self.drop_path, self.training)
