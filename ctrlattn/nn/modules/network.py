"""x_{k+1}, s_{k+1} = Block_k(x_k, s_k): the base class of ControlledViT and ControlledLM, a stack of blocks.

Both share the stack, the scan over it that carries the controller's memory s, the initial weights, and loading.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch

from ctrlattn.errors import InputError
from ctrlattn.nn.modules.blocks import Block
from ctrlattn.nn.modules.sizes import require_sizes
from ctrlattn.tracking import require_one_memory


class Network(torch.nn.Module):
    """Base class of ControlledViT and ControlledLM: `blocks`, the scan over them, initial weights, loading."""

    blocks: torch.nn.ModuleList

    def layers(self, x: torch.Tensor, *, padding: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        """Return the stream before the first block and after each, (..., n, d)."""
        yield x
        depth_state = None
        for block in self.blocks:
            x, depth_state = block(x, depth_state, padding=padding)
            yield x

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Run torch's load_state_dict, with one message for everything that does not fit.

        A shared tensor may stand under only one of its names, as safetensors' save_model writes it.

        Raises
        ------
        InputError
            A name is missing or unexpected (if strict), or a shape differs. The message says the first and how many.
        """
        state = self.state_dict()
        if strict:
            values = {_identity(state[name]): value for name, value in state_dict.items() if name in state}
            twins = {name: values[_identity(t)] for name, t in state.items() if _identity(t) in values}
            state_dict = {**twins, **state_dict}
        wrong = [
            f"{name} is {tuple(value.shape)}, the network has {tuple(state[name].shape)}"
            for name, value in state_dict.items()
            if name in state and value.shape != state[name].shape
        ]
        if strict:
            wrong += [f"{name} is missing" for name in state if name not in state_dict]
            wrong += [f"{name} is not in the network" for name in state_dict if name not in state]
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise InputError(f"this state dict does not fit {type(self).__name__}: {wrong[0]}{more}")
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def initialize(self, std: float, *, depth_scaled: bool) -> None:
        """Set normal weights truncated at two deviations, and zero biases.

        depth_scaled multiplies the weights of the maps that write to the stream by 1/sqrt(2 L).
        """
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
    """Make `depth` blocks with one controller for all, or one per layer from a sequence (None for a layer without one).

    mixing is a class of nn.relatives, of which every layer makes its own instance. drop_path is the rate of the last
    layer; the rate grows linearly from 0 at the first layer, as in DeiT's recipe.

    >>> len(stack(3, None, dim=8, heads=2, hidden=16))
    3
    """
    require_sizes(depth=depth)
    each = list(controller) if isinstance(controller, Sequence) else [controller] * depth
    if len(each) != depth:
        raise InputError(f"a sequence of controllers needs one for each layer: {len(each)} for {depth} layers")
    heads = options["heads"]
    mixings = [None if mixing is None else mixing(k, heads, options["dim"] // heads) for k in range(depth)]
    rates = [drop_path * k / max(depth - 1, 1) for k in range(depth)]
    blocks = torch.nn.ModuleList(
        Block(controller=c, mixing=m, drop_path=rate, **options)
        for c, m, rate in zip(each, mixings, rates, strict=True)
    )
    _require_one_memory(blocks)
    return blocks


def _identity(tensor: torch.Tensor) -> tuple[int, tuple[int, ...]]:
    """Return a key that is equal for two names of the same tensor."""
    return (tensor.data_ptr() or id(tensor)), tuple(tensor.shape)


def _require_one_memory(blocks: torch.nn.ModuleList) -> None:
    """Raise InputError unless all controllers have as many memories as the first; learned gains do not matter here."""
    probe, controllers = torch.zeros(1, 1), [cast(Block, block).attn.controller for block in blocks]
    require_one_memory({k: f"{len(c.init(probe))} memories" for k, c in enumerate(controllers) if c is not None})
