"""image -> stream: a timm network behind the names by which transformers calls its models of images."""

from collections.abc import Iterator
from typing import Any

import torch
import transformers

from ctrlattn.errors import InputError


class _Config(transformers.PretrainedConfig):
    model_type = "timm"


class ImageNetwork(torch.nn.Module):
    """A timm network that takes pixel_values, has a config, and computes its attention eagerly where it is asked to.

    Parameters
    ----------
    network : timm model
        It is used as it is; no copy is made.

    Attributes
    ----------
    network : timm model
    config : transformers.PretrainedConfig
        image_size, num_channels, and where the network has them patch_size, hidden_size and num_attention_heads.
    """

    main_input_name = "pixel_values"
    _supports_sdpa = True

    def __init__(self, network: Any):
        super().__init__()
        if not isinstance(network, torch.nn.Module):  # `save` makes an empty network of a class by its configuration
            raise InputError(
                "a network of timm is written by timm: what is here changed is in checkpoint.model.network"
            )
        self.network = network
        self.config: Any = _Config()
        for name, value in {"name_or_path": _name(network), **_sizes(network)}.items():
            setattr(self.config, name, value)
        self.config._attn_implementation = "sdpa"

    @property
    def base_model(self) -> Any:
        """The network itself: no head of timm can be left out of a pass."""
        return self

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device

    def forward(self, pixel_values: torch.Tensor) -> Any:
        """Return what the network makes of images (batch, channels, height, width)."""
        return self.network(pixel_values)

    def set_attn_implementation(self, kind: str) -> None:
        """Compute softmax(q k) in the open ("eager") or by a fused kernel ("sdpa")."""
        self.config._attn_implementation = kind
        modules: Iterator[Any] = self.network.modules()
        for module in modules:
            if hasattr(module, "fused_attn"):
                module.fused_attn = kind == "sdpa"

    def get_output_embeddings(self) -> None:
        """Return None: the network predicts no token."""


def is_timm(model: Any) -> bool:
    """Tell whether a module is a network of timm: it is defined there, or carries what timm says of its weights."""
    return hasattr(model, "pretrained_cfg") or type(model).__module__.partition(".")[0] == "timm"


def _name(network: Any) -> str:
    cfg = getattr(network, "pretrained_cfg", None) or {}
    return str(cfg.get("architecture") or type(network).__name__)


def _sizes(network: Any) -> dict[str, Any]:
    """Return what the configuration of a model of images says, as far as the network knows it."""
    patches = getattr(network, "patch_embed", None)
    input_size = (getattr(network, "pretrained_cfg", None) or {}).get("input_size")
    size = getattr(patches, "img_size", None) or (input_size[1:] if input_size else None)
    if size is None:
        raise InputError(f"{type(network).__name__} of timm does not say the size of its images")
    heads = {module.num_heads for module in network.modules() if hasattr(module, "num_heads")}
    sizes = {
        "image_size": tuple(size),
        "num_channels": input_size[0] if input_size else 3,
        "patch_size": getattr(patches, "patch_size", None),
        "hidden_size": getattr(network, "embed_dim", None),
        "num_attention_heads": heads.pop() if len(heads) == 1 else None,
    }
    return {name: value for name, value in sizes.items() if value is not None}
