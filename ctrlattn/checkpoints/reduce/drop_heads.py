"""F(x) = sum_h W_O^h z_h + b: single heads scored and taken out of an attention layer, W_O^h = 0."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ctrlattn.checkpoints.measure.evaluate import windows_of
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import at
from ctrlattn.checkpoints.network.structure import shared, structure_of
from ctrlattn.checkpoints.network.watch import Hook, attention, hooked, stream_of
from ctrlattn.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

_TOKENS = 2048  # in one pass


def head_importance(checkpoint: Checkpoint, ids: Any) -> "xr.Dataset":
    """1 - mean over tokens of cos(x, x + W_O^h z_h) of every head, from one pass without the network's head.

    Parameters
    ----------
    checkpoint : Checkpoint
        A causal network whose attention output is added as it is (no norm behind it).
    ids : (windows, length) token ids

    Returns
    -------
    xarray.Dataset
        `turn` over (layer, head); 0 for every head of a layer whose attention is gone.

    Raises
    ------
    InputError
        An encoder, a norm behind the attention, bad ids.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9))
    >>> dict(head_importance(checkpoints.load(model), [[1, 2, 3]]).sizes)
    {'layer': 2, 'head': 2}
    """
    import xarray as xr

    windows = windows_of(checkpoint, ids)
    _plain(checkpoint)
    turns = np.zeros((len(checkpoint.layers), checkpoint.heads))
    hooks: list[Hook] = []
    for one in checkpoint.sublayers("attention"):
        if one.layer not in structure_of(checkpoint.model)["attention"]:
            hooks += _scoring(checkpoint, one, turns[one.layer])
    with hooked(hooks), attention(checkpoint.model, "sdpa"), torch.no_grad():
        for some in windows.split(max(1, _TOKENS // windows.shape[1])):
            checkpoint.model.base_model(input_ids=some, use_cache=False)
    return xr.Dataset({"turn": (("layer", "head"), turns / windows.numel())})


def drop_heads(checkpoint: Checkpoint, heads: Iterable[tuple[int, int]]) -> Checkpoint:
    """A checkpoint without these (layer, head) pairs; it saves as a network of plain transformers.

    Their part of W_O is zero, in a copy of that matrix; all other weights are shared with the source. Neither the
    cache nor the time shrinks: for that whole layers have to go.

    Raises
    ------
    InputError
        A layer or head that is not there, a layer whose attention is gone.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9))
    >>> smaller = drop_heads(checkpoints.load(model), [(0, 1)])
    >>> smaller.model.transformer.h[0].attn.c_proj.weight[4:].any().item()
    False
    """
    smaller = replace(checkpoint, model=shared(checkpoint.model))
    gone = structure_of(checkpoint.model)["attention"]
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        if not 0 <= head < checkpoint.heads:
            raise InputError(f"head must be one of 0 ... {checkpoint.heads - 1}, got {head} in layer {layer}")
        if layer in gone:
            raise InputError(f"the attention of layer {layer} is gone: it has no head {head}")
        by_layer.setdefault(checkpoint.layer_index(layer), []).append(head)
    for layer, some in by_layer.items():
        module = at(smaller.layers[layer], smaller.family.output)
        weight = module.weight.detach().clone()
        # transformers' Conv1D of GPT-2 holds the transpose of what torch's Linear holds.
        rows = weight.T if isinstance(module, torch.nn.Linear) else weight
        parts = rows.tensor_split(checkpoint.heads)  # views
        for head in some:
            parts[head].zero_()
        module.weight = torch.nn.Parameter(weight, requires_grad=module.weight.requires_grad)
    return smaller


def _plain(checkpoint: Checkpoint) -> None:
    one = checkpoint.sublayers("attention")[0]
    if one.out_path != one.path:
        raise InputError("a norm stands behind the attention: its heads do not add up to what the stream receives")


def _scoring(checkpoint: Checkpoint, one: Any, turns: np.ndarray) -> list[Hook]:
    """Hooks that add 1 - cos of each head of a layer."""
    output, seen = at(checkpoint.layers[one.layer], checkpoint.family.output), {}
    weight = output.weight.T if isinstance(output, torch.nn.Linear) else output.weight
    parts = weight.detach().unflatten(0, (checkpoint.heads, -1))

    def stream(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen["x"] = stream_of(args, kwargs)

    def read(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = seen.pop("x")
        z = args[0].unflatten(-1, (len(parts), -1)).to(parts)
        for head, part in enumerate(parts):
            after = x + z[..., head, :] @ part
            turns[head] += (1 - torch.cosine_similarity(x, after, dim=-1).double()).sum().item()

    return [(one.stream, stream, True), (output, read, True)]
