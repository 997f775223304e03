"""logits = head(norm(blocks([cls; W patch] + position))_cls): a vision transformer with a controller over its depth."""

from collections.abc import Iterator
from typing import Any

import torch

from ctrlattn.errors import InputError, require_flag
from ctrlattn.nn.modules.network import Network, stack
from ctrlattn.nn.modules.sizes import require_patches, require_sizes


class PatchEmbedding(torch.nn.Module):
    """Non-overlapping patches of an image, row by row, each through the same linear map.

    >>> PatchEmbedding(8, 4, 3, 6)(torch.ones(1, 3, 8, 8)).shape
    torch.Size([1, 4, 6])
    """

    def __init__(self, image: int, patch: int, channels: int, dim: int) -> None:
        super().__init__()
        self.shape = (channels, image, image)
        self.proj = torch.nn.Conv2d(channels, dim, kernel_size=patch, stride=patch)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, image, image) to (batch, patches, d)."""
        if images.ndim != 4 or tuple(images.shape[1:]) != self.shape:
            raise InputError(f"images must be (batch, {', '.join(map(str, self.shape))}), got {tuple(images.shape)}")
        return self.proj(images).flatten(2).mT


class ControlledViT(Network):
    """DeiT whose attention is controlled over depth; a state dict of timm's DeiT loads unchanged.

    Parameters
    ----------
    image, patch, channels, classes : int
        Side of the image and of a patch in pixels, number of colours and of classes.
    dim, depth, heads : int
    hidden : int, optional
        Width of the MLP, by default 4 dim.
    controller : optional
        One controller for all layers, or a sequence with one per layer; see ControlledAttention. All layers share a
        LearnedPID that is given once. The first of a sequence only starts the memory, since no controller acts at
        layer 0. Put a fixed PID of the same form there: a LearnedPID would have no gradient, which
        DistributedDataParallel refuses.
    reference_gain, feedback, norm, placement, parallel, dropout, qkv_bias, kv_heads
        Arguments of Block and ControlledAttention. `configuration("pidformer-ema")` gives the first two.
    mixing : class of nn.relatives, optional
        Another attention law.
    drop_path : float
        Rate of stochastic depth at the last layer; it grows linearly from 0 at the first. DeiT's recipe has .1.
    depth_scaled : bool
        Whether the initial weights of maps that write to the stream are multiplied by 1/sqrt(2 depth).

    Raises
    ------
    InputError
        The sizes do not fit, or Block refuses its arguments. At the call: the images have another shape.

    References
    ----------
    Touvron et al., DeiT, arXiv 2012.12877. Names, norms (eps 1e-6) and initial weights are those of timm. The
    controller is that of Nguyen et al., PIDformer, arXiv 2402.15989.

    Examples
    --------
    >>> model = ControlledViT(image=8, patch=2, channels=1, classes=10, dim=16, depth=2, heads=2)
    >>> model(torch.zeros(3, 1, 8, 8)).shape
    torch.Size([3, 10])
    """

    def __init__(
        self,
        *,
        image: int = 224,
        patch: int = 16,
        channels: int = 3,
        classes: int = 1000,
        dim: int = 192,
        depth: int = 12,
        heads: int = 3,
        hidden: int | None = None,
        controller: Any = None,
        depth_scaled: bool = False,
        **block: Any,
    ) -> None:
        depth_scaled = require_flag("depth_scaled", depth_scaled)
        super().__init__()
        require_sizes(image=image, patch=patch, channels=channels, classes=classes, dim=dim, heads=heads)
        require_patches(image, patch)
        self.patch_embed = PatchEmbedding(image, patch, channels, dim)
        self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = torch.nn.Parameter(torch.zeros(1, (image // patch) ** 2 + 1, dim))
        self.blocks = stack(depth, controller, dim=dim, heads=heads, hidden=hidden or 4 * dim, **block)
        self.norm = torch.nn.LayerNorm(dim, eps=1e-6)
        self.head = torch.nn.Linear(dim, classes)
        self.initialize(0.02, depth_scaled=depth_scaled)
        torch.nn.init.trunc_normal_(self.pos_embed, std=0.02)
        torch.nn.init.normal_(self.cls_token, std=1e-6)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Return the stream at layer 0, (batch, patches + 1, d); token 0 is the class token."""
        patches = self.patch_embed(images)
        return torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], 1) + self.pos_embed

    def states(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """Return the stream at layer 0 and after each block, (batch, patches + 1, d) each."""
        return self.layers(self.embed(images))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (batch, channels, image, image) to (batch, classes)."""
        *_, x = self.states(images)
        return self.head(self.norm(x)[:, 0])


def deit_tiny_patch16_224(**options: Any) -> ControlledViT:
    """Make DeiT-tiny: 12 layers, 192 features, 3 heads; 5,717,416 parameters with 1000 classes.

    >>> sum(p.numel() for p in deit_tiny_patch16_224().parameters())
    5717416
    """
    return ControlledViT(**{"dim": 192, "heads": 3, **options})


def deit_small_patch16_224(**options: Any) -> ControlledViT:
    """Make DeiT-small: 12 layers, 384 features, 6 heads.

    >>> deit_small_patch16_224(depth=1).head.in_features
    384
    """
    return ControlledViT(**{"dim": 384, "heads": 6, **options})


def deit_base_patch16_224(**options: Any) -> ControlledViT:
    """Make DeiT-base: 12 layers, 768 features, 12 heads.

    >>> deit_base_patch16_224(depth=1).head.in_features
    768
    """
    return ControlledViT(**{"dim": 768, "heads": 12, **options})
