"""x' = x + g Attn(norm x), x'' = x' + MLP(norm x'): the layers of a network, with a controller across them.

Blocks of a vision transformer and of a language model are the same; names are those of timm (`norm1`, `attn`, `norm2`,
`mlp.fc1`, `mlp.fc2`), so that a state dict of a DeiT fits.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast, get_args

import torch

from ctrlattn import presets
from ctrlattn.errors import InputError, require_known, require_whole
from ctrlattn.loop import Loop
from ctrlattn.nn.modules.attention import ControlledAttention, DepthState, Past
from ctrlattn.nn.modules.relatives import RELATIVES
from ctrlattn.tracking import require_one_memory

Norm = Literal["layer", "rms", "none"]
Placement = Literal["pre", "post"]

_NORMS: dict[str, Any] = {
    "layer": partial(torch.nn.LayerNorm, eps=1e-6),
    "rms": partial(torch.nn.RMSNorm, eps=1e-6),
    "none": lambda dim: torch.nn.Identity(),
}


class MLP(torch.nn.Module):
    """fc2(gelu(fc1(x))), dropout after each.

    >>> MLP(4, 8)(torch.ones(2, 4)).shape
    torch.Size([2, 4])
    """

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1, self.fc2 = torch.nn.Linear(dim, hidden), torch.nn.Linear(hidden, dim)
        self.drop = torch.nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., d) -> (..., d)."""
        return self.drop(self.fc2(self.drop(torch.nn.functional.gelu(self.fc1(x)))))


def drop_path(y: torch.Tensor, rate: float, training: bool) -> torch.Tensor:
    """What a sublayer adds, left out for whole samples with chance `rate`, otherwise divided by 1 - rate; (N, ...).

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
    """One layer: controlled attention and MLP on a residual stream, attention entering with gain g.

        pre     x <- x + g Attn(norm1 x);    x <- x + MLP(norm2 x)
        post    x <- norm1(x + g Attn x);    x <- norm2(x + MLP x)
        pre, parallel      x <- x + g Attn(norm1 x) + MLP(norm2 x)

    g = -1 is the comparator transformer: the stream minus what attention predicts. Where the output projection is
    learned, as here, the sign is a gauge: -W_O undoes it.

    Parameters
    ----------
    dim, heads, hidden : int
    feedback : float
        g.
    norm : "layer", "rms" or "none"
    placement : "pre" or "post"
    parallel : bool
        Attention and MLP read the same stream, as in GPT-NeoX; pre-norm only.
    dropout : float
        Of the attention weights, of what attention returns and in the MLP.
    drop_path : float
        Chance that a sample passes a sublayer by in training; the controller's memory runs on.
    **attention
        To ControlledAttention: controller, reference_gain, causal, kv_heads, qkv_bias, mixing.

    Raises
    ------
    InputError
        An unknown norm or placement, parallel with post-norm, a drop_path outside [0, 1), and what ControlledAttention
        refuses.

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
        super().__init__()
        if norm not in get_args(Norm):
            raise InputError(f"norm must be one of {', '.join(get_args(Norm))}, got {norm!r}")
        if placement not in get_args(Placement):
            raise InputError(f'placement must be "pre" or "post", got {placement!r}')
        if parallel and placement == "post":
            raise InputError("parallel attention and MLP read the stream before either: placement must be 'pre'")
        if not 0 <= drop_path < 1:
            raise InputError(f"drop_path must lie in [0, 1), got {drop_path}")
        self.placement, self.parallel, self.drop_path = placement, parallel, float(drop_path)
        self.norm1, self.norm2 = _NORMS[norm](dim), _NORMS[norm](dim)
        self.attn = ControlledAttention(dim, heads, dropout=dropout, **attention)
        self.mlp, self.drop = MLP(dim, hidden, dropout), torch.nn.Dropout(dropout)
        self.stream = Loop(self.attn, skip=1.0, feedback=feedback)

    def forward(
        self, x: torch.Tensor, depth_state: DepthState | None = None, *, padding: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, DepthState]:
        """(..., n, d) -> (..., n, d), and what the next block needs."""
        x, depth_state, _ = self.decode(x, depth_state, padding=padding)
        return x, depth_state

    def decode(
        self,
        x: torch.Tensor,
        depth_state: DepthState | None = None,
        past: Past | None = None,
        *,
        padding: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, DepthState, Past]:
        """As forward, for tokens that follow those of `past`; also returns all keys and values."""
        pre = self.placement == "pre"
        y, depth_state, past = self.attn.decode(self.norm1(x) if pre else x, depth_state, past, padding=padding)
        mixed = self.stream.compare(x, self._passed(self.drop(y)))
        if pre:
            return mixed + self._passed(self.mlp(self.norm2(x if self.parallel else mixed))), depth_state, past
        mixed = self.norm1(mixed)
        return self.norm2(mixed + self._passed(self.mlp(mixed))), depth_state, past

    def _passed(self, y: torch.Tensor) -> torch.Tensor:
        return drop_path(y, self.drop_path, self.training)


class Network(torch.nn.Module):
    """What ViT and LM share: `blocks`, one controller's memory across them, initial weights, loading."""

    blocks: torch.nn.ModuleList

    def layers(self, x: torch.Tensor, *, padding: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        """The stream before the first block and after each, (..., n, d)."""
        yield x
        depth_state = None
        for block in self.blocks:
            x, depth_state = block(x, depth_state, padding=padding)
            yield x

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As torch's, with one line for what does not fit; a shared tensor may stand under one of its names, as
        safetensors' save_model leaves it.

        Raises
        ------
        InputError
            Missing or unexpected names (if strict), or a shape that differs: the first of them, and how many.
        """
        own = self.state_dict()
        if strict:
            given = {_identity(own[name]): value for name, value in state_dict.items() if name in own}
            twins = {name: given[_identity(t)] for name, t in own.items() if _identity(t) in given}
            state_dict = {**twins, **state_dict}
        wrong = [
            f"{name} is {tuple(value.shape)}, the network has {tuple(own[name].shape)}"
            for name, value in state_dict.items()
            if name in own and value.shape != own[name].shape
        ]
        if strict:
            wrong += [f"{name} is missing" for name in own if name not in state_dict]
            wrong += [f"{name} is not in the network" for name in state_dict if name not in own]
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise InputError(f"this state dict does not fit {type(self).__name__}: {wrong[0]}{more}")
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def initialize(self, std: float, *, depth_scaled: bool) -> None:
        """Normal weights cut at two deviations, zero biases; depth_scaled: 1/sqrt(2 L) on what enters the stream."""
        for name, module in self.named_modules():
            if isinstance(module, torch.nn.Linear):
                entering = depth_scaled and name.endswith((".attn.proj", ".mlp.fc2"))
                scale = 1 / math.sqrt(2 * len(self.blocks)) if entering else 1.0
                torch.nn.init.trunc_normal_(module.weight, std=std * scale)
                if module.bias is not None:
                    torch.nn.init.zeros_(module.bias)


def stack(
    depth: int, controller: Any, mixing: Any = None, drop_path: float = 0.0, **options: Any
) -> torch.nn.ModuleList:
    """`depth` blocks; one controller for all, or a sequence with one for each (None: none at that layer).

    mixing is a class of nn.relatives; every layer makes its own. drop_path is that of the last layer: it grows linearly
    from 0 at the first, as in DeiT's recipe.

    >>> len(stack(3, None, dim=8, heads=2, hidden=16))
    3
    """
    require_sizes(depth=depth)
    each = list(controller) if isinstance(controller, Sequence) else [controller] * depth
    if len(each) != depth:
        raise InputError(f"a sequence of controllers needs one a layer: {len(each)} for {depth} layers")
    heads = options["heads"]
    made = [None if mixing is None else mixing(k, heads, options["dim"] // heads) for k in range(depth)]
    rates = [drop_path * k / max(depth - 1, 1) for k in range(depth)]
    blocks = torch.nn.ModuleList(
        Block(controller=c, mixing=m, drop_path=rate, **options) for c, m, rate in zip(each, made, rates, strict=True)
    )
    _require_one_memory(blocks)
    return blocks


def configuration(name: str) -> dict[str, Any]:
    """What a preset or a relative asks of ControlledViT or ControlledLM: controller, reference_gain and feedback.

    A preset of value dynamics (softmax, neutreno, both PIDformer laws) is control inside attention; one with a residual
    connection (comparator) is a sign on the stream. A relative (attnscale, centered, shaped, differential,
    value-residual, sinkformer) is another attention law, `mixing`, without control.

    Raises
    ------
    InputError
        An unknown name, or a preset that has no such network: sequential order, a normalizer of its own, or control
        of the stream.

    Examples
    --------
    >>> configuration("pidformer-ema")["reference_gain"], configuration("comparator")["feedback"]
    (0.1, -1.0)
    """
    if name in RELATIVES:
        return {"controller": None, "reference_gain": 1.0, "feedback": 1.0, "mixing": RELATIVES[name]}
    loop = presets.get(require_known("preset", name, [*presets.names(), *RELATIVES]))
    if loop.order == "sequential" or loop.normalizer is not None:
        raise InputError(f"preset {name!r} is no network of attention and MLP: it is sequential or has its own norm")
    if loop.skip != 0 and loop.controller is not None:
        raise InputError(f"preset {name!r} controls the stream: these networks control values alone")
    feedback = 1.0 if loop.skip == 0 else loop.feedback
    return {"controller": loop.controller, "reference_gain": loop.reference_gain, "feedback": feedback}


def _identity(tensor: torch.Tensor) -> tuple[int, tuple[int, ...]]:
    """Two names with the same are one tensor."""
    return (tensor.data_ptr() or id(tensor)), tuple(tensor.shape)


def require_sizes(**sizes: int) -> None:
    """Raise InputError for the first size that is no whole number of at least 1."""
    for name, size in sizes.items():
        require_whole(name, size)


def _require_one_memory(blocks: torch.nn.ModuleList) -> None:
    """A controller whose gains are learned has the memory of the one whose gains are fixed: the number alone counts."""
    probe, controllers = torch.zeros(1, 1), [cast(Block, block).attn.controller for block in blocks]
    require_one_memory({k: f"{len(c.init(probe))} memories" for k, c in enumerate(controllers) if c is not None})
