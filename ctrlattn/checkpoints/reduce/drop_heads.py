"""F(x) = sum_h W_O^h z_h + b with W_O^h = 0: heads of attention layers, scored by importance and dropped."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ctrlattn.checkpoints.measure.importance import turns_of
from ctrlattn.checkpoints.measure.weights import is_plain, value_output
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import Sublayer, at
from ctrlattn.checkpoints.network.inputs import in_batches, windows_of
from ctrlattn.checkpoints.network.repeat import require_no_loop
from ctrlattn.checkpoints.network.structure import shared, structure_of
from ctrlattn.checkpoints.network.watch import Hook, Watcher, attention, watch
from ctrlattn.errors import InputError

if TYPE_CHECKING:
    import xarray as xr


def head_importance(checkpoint: Checkpoint, ids: Any) -> "xr.Dataset":
    """Return 1 - mean over tokens of cos(x, x + W_O^h z_h) of every attention head, by one pass without the LM head.

    Parameters
    ----------
    checkpoint : Checkpoint
        A causal network that adds its attention output without a norm behind it.
    ids : (windows, length) token ids

    Returns
    -------
    xarray.Dataset
        `turn` over (layer, head); it is 0 for every head of a layer whose attention is dropped.

    Raises
    ------
    InputError
        The network is an encoder, a norm stands behind its attention, or ids are bad.

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
    _require_plain(checkpoint)
    turns = np.zeros((len(checkpoint.layers), checkpoint.heads))
    stands = structure_of(checkpoint.model)["attention"]
    live = [sublayer for sublayer in checkpoint.sublayers("attention") if sublayer.layer not in stands]
    z: dict[int, torch.Tensor] = {}
    watching = watch(live, _scorer(checkpoint, _rows(checkpoint, live), z, turns), more=_readers(checkpoint, live, z))
    with watching, attention(checkpoint.model, "sdpa"), torch.no_grad():
        for part in in_batches(windows):
            checkpoint.model.base_model(input_ids=part, use_cache=False)
    return xr.Dataset({"turn": (("layer", "head"), turns / sum(map(len, windows)))})


def drop_heads(checkpoint: Checkpoint, heads: Iterable[tuple[int, int]]) -> Checkpoint:
    """Return a checkpoint without these (layer, head) pairs; plain transformers can read it when it is saved.

    The part of W_O that belongs to a dropped head is zero, in a copy of that matrix. All other weights are shared with
    the source. Cache and time stay the same: only dropped layers reduce them.

    Raises
    ------
    InputError
        A layer or head does not exist, the attention of a layer is dropped already, or layers are repeated.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9))
    >>> smaller = drop_heads(checkpoints.load(model), [(0, 1)])
    >>> smaller.model.transformer.h[0].attn.c_proj.weight[4:].any().item()
    False
    """
    require_no_loop(checkpoint)
    smaller = replace(checkpoint, model=shared(checkpoint.model))
    stands = structure_of(checkpoint.model)["attention"]
    by_layer: dict[int, list[int]] = {}
    for layer, head in heads:
        if not 0 <= head < checkpoint.heads:
            raise InputError(f"head must be one of 0 ... {checkpoint.heads - 1}, got {head} in layer {layer}")
        if layer in stands:
            raise InputError(f"the attention of layer {layer} is gone: it has no head {head}")
        by_layer.setdefault(checkpoint.layer_index(layer), []).append(head)
    for layer, numbers in by_layer.items():
        module = at(smaller.layers[layer], smaller.family.output)
        if not is_plain(module):
            raise InputError(
                f"the output map of layer {layer} is a {type(module).__name__}, whose weight is not all that it "
                "applies: merge its adapter or remove its parametrisation before heads are dropped"
            )
        weight = module.weight.detach().clone()
        # The Conv1D of transformers' GPT-2 holds the transpose of what torch's Linear holds.
        rows = weight.T if isinstance(module, torch.nn.Linear) else weight
        parts = rows.tensor_split(checkpoint.heads)  # these are views: zeroing them zeroes W_O
        for head in numbers:
            parts[head].zero_()
        module.weight = torch.nn.Parameter(weight, requires_grad=module.weight.requires_grad)
    return smaller


def _require_plain(checkpoint: Checkpoint) -> None:
    sublayer = checkpoint.sublayers("attention")[0]
    if sublayer.out_path != sublayer.path:
        raise InputError("a norm stands behind the attention: its heads do not add up to what the stream receives")


def _readers(checkpoint: Checkpoint, sublayers: list[Sublayer], z: dict[int, torch.Tensor]) -> list[Hook]:
    """Return hooks that record z, the input of W_O, of each layer."""

    def reader(i: int) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            z[i] = args[0]

        return hook

    return [(_output(checkpoint, s.layer), reader(s.layer), True) for s in sublayers]


def _scorer(
    checkpoint: Checkpoint, rows: dict[int, torch.Tensor], z: dict[int, torch.Tensor], turns: np.ndarray
) -> Watcher:
    """Add 1 - cos(x, x + W_O^h z_h) of each head of a layer to its place in `turns`."""

    def on(sublayer: Sublayer, x: torch.Tensor, u: torch.Tensor, F: torch.Tensor) -> None:
        parts = rows[sublayer.layer].unflatten(0, (checkpoint.heads, -1))
        heads = z.pop(sublayer.layer).unflatten(-1, (checkpoint.heads, -1)).to(parts)
        for head, part in enumerate(parts):
            after = x.double() + (heads[..., head, :] @ part).double()
            turns[sublayer.layer, head] += turns_of(x, after).sum().item()

    return on


def _rows(checkpoint: Checkpoint, sublayers: list[Sublayer]) -> dict[int, torch.Tensor]:
    """Return layer -> W_O^T (in, out), as its module applies it."""
    rows = {}
    for layer in (sublayer.layer for sublayer in sublayers):
        output = _output(checkpoint, layer)
        if is_plain(output):
            rows[layer] = (output.weight.T if isinstance(output, torch.nn.Linear) else output.weight).detach()
        else:
            values = value_output(checkpoint, layer).output  # (heads, out, in of a head)
            weight = values.swapaxes(-1, -2).reshape(-1, values.shape[1])
            rows[layer] = torch.as_tensor(weight).to(checkpoint.model.device, checkpoint.model.dtype)
    return rows


def _output(checkpoint: Checkpoint, layer: int) -> Any:
    return at(checkpoint.layers[layer], checkpoint.family.output)
