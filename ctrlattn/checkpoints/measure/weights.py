"""F(x)_i = sum_h W_O^h sum_j A^h_ij (W_V^h x_j + b_V^h) + b_O: the linear maps of attention, head by head."""

from typing import Any, NamedTuple

import numpy as np
import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import at
from ctrlattn.errors import InputError, require_flag

AFFINE = 0.02  # share that rounding of inputs to eight bits may change


class ValueOutput(NamedTuple):
    """Value and output maps of one layer, float64; `output[h] @ value[h]` multiplies every attention mode of head h.

    Attributes
    ----------
    value : (heads, head_dim, d)
        W_V, repeated to the query heads where several share one.
    output : (heads, d, head_dim)
        W_O.
    value_bias : (heads, head_dim)
    output_bias : (d,)
    """

    value: np.ndarray
    output: np.ndarray
    value_bias: np.ndarray
    output_bias: np.ndarray


def value_output(checkpoint: Checkpoint, layer: int, *, fold_norm: bool = False) -> ValueOutput:
    """Return the maps W_V and W_O of each head of a layer, whatever way the family stores them.

    With z_j what the attention module reads, its output is

        sum_h output[h] @ sum_j A[h, i, j] (value[h] @ z_j + value_bias[h]) + output_bias

    Parameters
    ----------
    checkpoint : Checkpoint
    layer : int
        0 ... layers - 1.
    fold_norm : bool
        Weights of a pre-norm (and its centring, where it is a LayerNorm) go into `value` and `value_bias`: z is then
        the stream divided by the size that the norm measures. The weight of a norm behind the attention (Gemma) goes
        into `output`: the contribution is then that sum over the size of the sum without this weight. A post-norm
        sublayer reads the stream itself; there is nothing to fold.

    Returns
    -------
    ValueOutput
        float64, whatever the network's dtype.

    Raises
    ------
    InputError
        A layer that is not there, or without the family's linear maps (dropped, replaced, not linear), or whose maps
        do not split into heads.

    References
    ----------
    Elhage et al., A Mathematical Framework for Transformer Circuits, 2021, "QK and OV circuits".

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> maps = value_output(checkpoints.load(transformers.GPT2Model(config)), 1)
    >>> maps.value.shape, maps.output.shape
    ((2, 4, 8), (2, 8, 4))
    """
    fold_norm = require_flag("fold_norm", fold_norm)
    index = checkpoint.layer_index(layer)
    module, heads, family = checkpoint.layers[index], checkpoint.heads, checkpoint.family
    head_size = getattr(checkpoint.model.config.get_text_config(), "head_dim", None) or checkpoint.width // heads
    weight_o, bias_o = affine_map(at(module, family.output), heads * head_size)
    weight_qkv, bias_qkv = affine_map(at(module, family.value), checkpoint.width)
    size = weight_o.shape[1] // heads
    _require_heads(family, index, heads, weight_o.shape[1], len(weight_qkv))
    if (weight_qkv.shape[1], len(weight_o)) != (checkpoint.width,) * 2:
        raise InputError(
            f"the maps of layer {index} do not lead from the stream of {checkpoint.width} features to it: "
            f"{family.value} reads {weight_qkv.shape[1]}, {family.output} gives {len(weight_o)}. In latent attention "
            "(MLA) no linear map of the normed stream gives the values"
        )
    weight_v, bias_v = (value_rows(family.fused, rows, heads, size) for rows in (weight_qkv, bias_qkv))
    weight_v, bias_v = (np.repeat(rows, heads // len(rows), axis=0) for rows in (weight_v, bias_v))
    weight_o = np.moveaxis(weight_o.reshape(len(weight_o), heads, size), 1, 0)
    maps = ValueOutput(weight_v, weight_o, bias_v, bias_o)
    return _fold_affine(checkpoint, index, maps) if fold_norm else maps


def value_heads(checkpoint: Checkpoint, layer: int) -> tuple[int, int, int]:
    """Return (query heads, value heads, features of a head) of a layer, by its own maps."""
    module, heads, family = checkpoint.layers[checkpoint.layer_index(layer)], checkpoint.heads, checkpoint.family
    head_size = getattr(checkpoint.model.config.get_text_config(), "head_dim", None) or checkpoint.width // heads
    size = affine_map(at(module, family.output), heads * head_size)[0].shape[1] // heads
    values = value_rows(family.fused, affine_map(at(module, family.value), checkpoint.width)[1], heads, size)
    return heads, len(values), size


def has_plain_maps(checkpoint: Checkpoint, layer: int) -> bool:
    """Tell whether the maps of a layer are what their weights say, and were not found by asking them."""
    module, family = checkpoint.layers[layer], checkpoint.family
    return is_plain(at(module, family.output)) and is_plain(at(module, family.value))


def _require_heads(family: Any, layer: int, heads: int, inputs: int, rows: int) -> None:
    """Raise InputError for maps that do not split into this many heads of one size."""
    size = inputs // heads
    try:
        values = len(value_rows(family.fused, np.arange(rows), heads, size))
    except (ValueError, ZeroDivisionError):
        values = 0
    if inputs != heads * size or not values or heads % values:
        raise InputError(
            f"the maps of layer {layer} do not split into {heads} heads: {family.output} reads {inputs} features and "
            f"{family.value} gives {rows}"
        )


def value_rows(fused: str, rows: Any, heads: int, size: int) -> Any:
    """Return the rows of v in a projection (features out, ...), as (value heads, size, ...); numpy or torch.

    >>> value_rows("interleaved", np.arange(12), 2, 2).tolist()  # q0 k0 v0 q1 k1 v1: v is the last of each head
    [[4, 5], [10, 11]]
    >>> value_rows("blocks", np.arange(12), 2, 2).tolist()  # q0 q1 k0 k1 v0 v1
    [[8, 9], [10, 11]]
    >>> value_rows("grouped", np.arange(8), 2, 2).tolist()  # q0 q1 k v: the heads of a group share k and v
    [[6, 7]]
    """
    if fused in ("interleaved", "grouped"):
        groups = heads if fused == "interleaved" else (len(rows) // size - heads) // 2
        return rows.reshape(groups, -1, *rows.shape[1:])[:, -size:]
    keys_values = rows[heads * size :] if fused == "blocks" else rows
    values = keys_values[len(keys_values) // 2 :] if fused == "blocks" else keys_values
    return values.reshape(-1, size, *rows.shape[1:])


def is_plain(module: Any) -> bool:
    """Tell whether a module applies what it keeps as `weight`, as it is: a Linear of torch, or GPT-2's Conv1D.

    >>> is_plain(torch.nn.Linear(1, 1)), is_plain(torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(1, 1)))
    (True, False)
    """
    # torch's older weight_norm, spectral_norm and prune keep a `weight` that is no parameter and old until a call.
    return "weight" in module._parameters and (type(module) is torch.nn.Linear or type(module).__name__ == "Conv1D")


def affine_map(module: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return weight (out, in) and bias (out,) in float64, as a module with `size` inputs applies them.

    A plain module is read; GPT-2's Conv1D stores the transpose. Any other one (an adapter, quantised or packed weights,
    a parametrisation) is asked for its values on a basis, since what it keeps as `weight` is not what it applies.

    Raises
    ------
    InputError
        The module is no affine map.

    Examples
    --------
    >>> weight, bias = affine_map(torch.nn.Linear(3, 2), 3)
    >>> weight.shape, bias.shape
    ((2, 3), (2,))
    """
    if not is_plain(module):
        return _probe(module, size)
    weight = _float64(module.weight)
    if type(module).__name__ == "Conv1D":
        weight = weight.T
    bias = getattr(module, "bias", None)
    return weight, np.zeros(len(weight)) if bias is None else _float64(bias)


def _probe(module: Any, size: int) -> tuple[np.ndarray, np.ndarray]:
    tensors = [*module.parameters(), *module.buffers()]
    size = int(getattr(module, "in_features", None) or getattr(module, "infeatures", None) or size)
    floating = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)
    where: dict[str, Any] = {"device": tensors[0].device if tensors else "cpu", "dtype": floating}
    # No two features are alike, and what is rounded to few bits by its largest feature loses little.
    test = torch.linspace(-1, 1, size, dtype=torch.float64).roll(size // 3)
    with torch.inference_mode():
        basis = torch.cat([torch.zeros(1, size), torch.eye(size), test[None]]).to(**where)
        values = module(basis).to("cpu", torch.float64).numpy()
        probe = basis[-1].to("cpu", torch.float64).numpy()
    weight, bias = (values[1:-1] - values[0]).T, values[0]
    expected = weight @ probe + bias
    scale = np.abs(weight) @ np.abs(probe) + np.abs(bias)
    if not np.linalg.norm(values[-1] - expected) <= AFFINE * np.linalg.norm(scale):
        raise InputError(f"a {type(module).__name__} stands where a linear map of the family is, and is not linear")
    return weight, bias


def _float64(value: torch.Tensor) -> np.ndarray:
    return value.detach().to("cpu", torch.float64).numpy()


def _fold_affine(checkpoint: Checkpoint, layer: int, maps: ValueOutput) -> ValueOutput:
    if checkpoint.family.norm == "post":
        return maps
    attention = checkpoint.sublayer("attention", layer)
    matrix, shift = _affine(attention.norm, checkpoint)
    maps = maps._replace(value=maps.value @ matrix, value_bias=maps.value_bias + maps.value @ shift)
    if attention.out is attention.module:
        return maps
    matrix, shift = _affine(attention.out, checkpoint)
    return maps._replace(output=matrix @ maps.output, output_bias=matrix @ maps.output_bias + shift)


def _affine(norm: Any, checkpoint: Checkpoint) -> tuple[np.ndarray, np.ndarray]:
    """Return (matrix, shift) with norm(x) = matrix @ x / size(x) + shift.

    The norm is asked, not its attributes: Gemma's multiplies by 1 + weight, others by weight. The probe has no zero and
    mean zero, so that every norm of RMS or LayerNorm type only scales it.
    """
    like = next(norm.parameters(), torch.ones(1))
    probe = torch.ones(checkpoint.width, dtype=torch.float64)
    probe[1::2] = -1
    if len(probe) % 2 and len(probe) > 1:
        probe[-3:] = torch.tensor([0.5, -1.0, 0.5])
    ones = torch.ones_like(probe)
    with torch.no_grad():  # large, so that the eps of the norm does not count
        plus, minus, constant = (_float64(norm((1e3 * x)[None].to(like))[0]) for x in (probe, -probe, ones))
    shift = (plus + minus) / 2
    weight = (plus - minus) / 2 / (probe / probe.square().mean().sqrt()).numpy()
    centred = np.linalg.norm(constant - shift) < 0.5 * np.linalg.norm(weight)
    return np.diag(weight) - (np.outer(weight, ones) / len(weight) if centred else 0.0), shift
