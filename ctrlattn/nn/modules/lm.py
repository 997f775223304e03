"""logits = norm(blocks(E[token] + position)) E^T: a causal language model with a controller over its depth."""

import math
from collections.abc import Iterator
from typing import Any, cast

import torch

from ctrlattn.errors import InputError, require_flag
from ctrlattn.nn.modules.attention import PastPair
from ctrlattn.nn.modules.blocks import Block
from ctrlattn.nn.modules.network import Network, stack
from ctrlattn.nn.modules.sizes import require_sizes


class ControlledLM(Network):
    """A causal transformer; the defaults are the sizes of PIDformer's WikiText-103 experiment.

    The control acts on each token alone, so that decoding caches nothing but keys and values. Positions are sinusoids,
    which need no parameters and allow any length. The output weights are those of the embedding. Both are choices of
    this package.

    Parameters
    ----------
    vocabulary : int
    dim, depth, heads, hidden : int
        Sizes, by default 128, 16, 8 (heads of 16 features) and 2048.
    dropout : float
    controller : optional
        One controller for all layers, or a sequence with one per layer; see ControlledViT.
    depth_scaled : bool
        Whether the initial weights of maps that write to the stream are multiplied by 1/sqrt(2 depth).
    **block
        Arguments of Block and ControlledAttention: reference_gain, feedback, norm, placement, parallel, kv_heads,
        qkv_bias, mixing, drop_path.

    Raises
    ------
    InputError
        The sizes do not fit, or Block refuses its arguments. At the call: a token lies outside the vocabulary.

    References
    ----------
    Nguyen et al., PIDformer, arXiv 2402.15989 (sizes after NeuTRENO's script); Vaswani et al., arXiv 1706.03762,
    section 3.5, for the positions.

    Examples
    --------
    >>> model = ControlledLM(5, dim=8, depth=2, heads=2, hidden=16).eval()
    >>> model(torch.tensor([[0, 4, 2]])).shape, model.generate(torch.tensor([[0, 4]]), 3).shape
    (torch.Size([1, 3, 5]), torch.Size([1, 5]))
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        dim: int = 128,
        depth: int = 16,
        heads: int = 8,
        hidden: int = 2048,
        dropout: float = 0.1,
        controller: Any = None,
        depth_scaled: bool = False,
        **block: Any,
    ) -> None:
        depth_scaled = require_flag("depth_scaled", depth_scaled)
        super().__init__()
        require_sizes(vocabulary=vocabulary, dim=dim, heads=heads, hidden=hidden)
        self.tokens = torch.nn.Embedding(vocabulary, dim)
        self.drop = torch.nn.Dropout(dropout)
        options = {"dim": dim, "heads": heads, "hidden": hidden, "dropout": dropout, "causal": True, **block}
        self.blocks = stack(depth, controller, **options)
        self.norm = torch.nn.LayerNorm(dim, eps=1e-6)
        self.initialize(0.02, depth_scaled=depth_scaled)
        torch.nn.init.normal_(self.tokens.weight, std=dim**-0.5)

    def embed(self, ids: torch.Tensor, start: int = 0) -> torch.Tensor:
        """Return the stream at layer 0 for tokens at positions start, start + 1, ..., (..., n) -> (..., n, d)."""
        weight = self.tokens.weight
        if not torch.compiler.is_compiling() and ids.numel() and (ids.min() < 0 or ids.max() >= len(weight)):
            span = f"{int(ids.min())} ... {int(ids.max())}"
            raise InputError(f"token ids must lie in 0 ... {len(weight) - 1}, got {span}")
        position = sinusoids(start + ids.shape[-1], weight.shape[-1], weight)[start:]
        return self.drop(self.tokens(ids) * math.sqrt(weight.shape[-1]) + position)

    def states(self, ids: torch.Tensor, *, padding: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        """Return the stream at layer 0 and after each block, (..., n, d) each."""
        return self.layers(self.embed(ids), padding=padding)

    def forward(self, ids: torch.Tensor, *, padding: torch.Tensor | None = None) -> torch.Tensor:
        """Return the next token's logits, (batch, n) -> (batch, n, vocabulary); `padding` (batch, n) is False there."""
        *_, x = self.states(ids, padding=padding)
        return self.logits(x)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return norm(x) E^T."""
        return torch.nn.functional.linear(self.norm(x), self.tokens.weight)

    def decode(self, ids: torch.Tensor, past: list[PastPair] | None = None) -> tuple[torch.Tensor, list[PastPair]]:
        """Return logits of tokens that follow those of `past` (keys and values per layer), and the extended past."""
        pairs: list[PastPair] = []
        depth_state = None
        x = self.embed(ids, 0 if past is None else past[0][0].shape[-3])
        for k, block in enumerate(self.blocks):
            x, depth_state, pair = cast(Block, block).decode(x, depth_state, None if past is None else past[k])
            pairs.append(pair)
        return self.logits(x), pairs

    @torch.no_grad()
    def generate(
        self,
        ids: torch.Tensor,
        steps: int,
        *,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
        cached: bool = True,
    ) -> torch.Tensor:
        """Continue the sequence by `steps` tokens, (batch, n) -> (batch, n + steps).

        Parameters
        ----------
        temperature : float
            0 takes the most likely token; otherwise tokens are sampled from softmax(logits / temperature).
        generator : torch.Generator, optional
            Source of the random numbers.
        cached : bool
            Whether keys and values of earlier tokens are cached. False runs the whole sequence for each token.

        Raises
        ------
        InputError
            The network is in training mode with dropout, the sequence is empty, or the temperature is below 0.
        """
        cached = require_flag("cached", cached)
        if self.training and self.drop.p > 0:
            raise InputError("dropout is on: call eval() before generating")
        if ids.ndim != 2 or ids.shape[-1] == 0:
            raise InputError(f"ids must be (batch, n) with at least one token, got {tuple(ids.shape)}")
        if not temperature >= 0:
            raise InputError(f"temperature must be >= 0, got {temperature}")
        past = None
        for _ in range(steps):
            logits, pairs = self.decode(ids if past is None else ids[:, -1:], past)
            past = pairs if cached else None
            ids = torch.cat([ids, _pick(logits[:, -1], temperature, generator)], 1)
        return ids


def sinusoids(n: int, dim: int, like: torch.Tensor) -> torch.Tensor:
    """Return sin and cos of position / 10000^(i/d), (n, dim), of the dtype and device of `like`.

    >>> sinusoids(2, 4, torch.zeros(1))[0].tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    half = (dim + 1) // 2
    rate = 10000.0 ** (-torch.arange(half, dtype=torch.float64, device=like.device) / half)
    angle = torch.arange(n, dtype=torch.float64, device=like.device)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], -1)[:, :dim].to(like.dtype)


def _pick(logits: torch.Tensor, temperature: float, generator: torch.Generator | None) -> torch.Tensor:
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    return torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=generator)
