"""F(x)_i = sum_h sum_j A^h_ij M^h z_j + b: feedback gain of each attention head, split by source token.

<F^h(x)_i, x_i> = sum_j A^h_ij <M^h z_j, x_i>: the feedback of a head splits into the part of the token itself, that of
the first token (where causal networks rest unused attention), and that of the others, which alone is a prediction.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ctrlattn.checkpoints.measure.weights import AFFINE, ValueOutput, has_plain_maps, value_output
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.trace.compose import tolerance

if TYPE_CHECKING:
    import xarray as xr

SOURCES = ("self", "first", "others")


class HeadFeedback(NamedTuple):
    """Feedback of each head of one layer, per token of the stream x."""

    gain: np.ndarray  # (heads, n): <F^h, x>/<x, x>
    sources: np.ndarray  # (heads, sources, n): its parts from the token itself, the first token, the others
    size: np.ndarray  # (heads, n): |F^h|/|x|


def head_contributions(checkpoint: Checkpoint, layer: int, recorded: "xr.Dataset") -> np.ndarray:
    """Return what each head of a layer adds; their sum with the output bias is the recorded `attention_out`.

    Parameters
    ----------
    checkpoint : Checkpoint
    layer : int
    recorded : xarray.Dataset
        What `tap` returns.

    Returns
    -------
    (heads, n, d) float64
        Where a norm stands behind the attention (Gemma), its factor for each token is that of the sum of the heads.

    Raises
    ------
    InputError
        A layer that is not there or has no attention, or maps that do not split into its heads.
    ArithmeticError
        The heads do not sum to what the attention adds, as with a gate or a second matrix; the message has the largest
        error.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.LlamaConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, vocab_size=9,
    ...                                   intermediate_size=8)
    >>> network = checkpoints.load(transformers.LlamaModel(config))
    >>> recorded = checkpoints.tap(network, [1, 2, 3])
    >>> heads = head_contributions(network, 0, recorded)
    >>> bool(np.allclose(heads.sum(0), recorded["attention_out"][0], atol=1e-6))
    True
    """
    maps, values, weights, after = _parts(checkpoint, layer, recorded)
    return np.einsum("hij,hjp,hdp->hid", weights, values, maps.output, optimize=True) * after


def head_feedback(checkpoint: Checkpoint, layer: int, recorded: "xr.Dataset") -> HeadFeedback:
    """Return sign and gain of each head's feedback, split by the token that it comes from.

    Parameters
    ----------
    checkpoint, layer, recorded
        As in `head_contributions`.

    Returns
    -------
    HeadFeedback
        The sources sum to the gain. In the first row, the token itself is the first token: it counts as itself.
        A zero token has gain 0.

    Raises
    ------
    InputError, ArithmeticError
        As `head_contributions`.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=9)
    >>> network = checkpoints.load(transformers.GPT2Model(config))
    >>> feedback = head_feedback(network, 0, checkpoints.tap(network, [1, 2, 3]))
    >>> feedback.gain.shape, feedback.sources.shape
    ((2, 3), (2, 3, 3))
    """
    maps, values, weights, after = _parts(checkpoint, layer, recorded)
    x = _signal(recorded, "state", layer)
    square = np.sum(x * x, axis=-1)
    # <M z_j, x_i> for all pairs, through the head's own small dimension.
    readout = np.einsum("id,hdp->hip", x * after, maps.output, optimize=True)
    pairs = weights * (readout @ values.swapaxes(-1, -2)) / np.where(square > 0, square, 1.0)[:, None]
    diagonal = np.diagonal(pairs, axis1=-2, axis2=-1)
    first = np.concatenate([np.zeros_like(pairs[:, :1, 0]), pairs[:, 1:, 0]], axis=-1)
    gain = pairs.sum(-1)
    # |F^h|^2 by the small Gram matrix of W_O; a factor after the sum differs from feature to feature.
    contributions = np.einsum("hip,hdp->hid", weights @ values, maps.output, optimize=True) * after
    size = np.linalg.norm(contributions, axis=-1) / np.sqrt(np.where(square > 0, square, 1.0))
    return HeadFeedback(gain, np.stack([diagonal, first, gain - diagonal - first], axis=1), size)


def _parts(
    checkpoint: Checkpoint, layer: int, recorded: "xr.Dataset"
) -> tuple[ValueOutput, np.ndarray, np.ndarray, np.ndarray]:
    """Return (maps, W_V z + b_V per head (heads, n, p), attention matrices, factor of a norm behind the sum)."""
    index = checkpoint.layer_index(layer)
    maps = value_output(checkpoint, index)
    sublayer = checkpoint.sublayer("attention", index)
    x = _signal(recorded, "state", index)
    u = x if checkpoint.family.norm == "post" else _apply_norm(sublayer.norm, x)
    values = u @ maps.value.swapaxes(-1, -2) + maps.value_bias[:, None, :]
    weights = recorded["attention"][index].to_numpy().astype(np.float64)
    each = np.einsum("hij,hjp,hdp->hid", weights, values, maps.output, optimize=True)
    summed = each.sum(0) + maps.output_bias
    contribution = _signal(recorded, "attention_out", index)
    behind = sublayer.out is not sublayer.module and checkpoint.family.norm == "pre"
    _require_sum(checkpoint, index, each, _apply_norm(sublayer.out, summed) if behind else summed, contribution)
    if not behind:
        return maps, values, weights, np.ones((1, x.shape[-1]))
    return maps, values, weights, np.divide(contribution, summed, out=np.zeros_like(contribution), where=summed != 0)


def _require_sum(
    checkpoint: Checkpoint, layer: int, each: np.ndarray, total: np.ndarray, contribution: np.ndarray
) -> None:
    """Raise ArithmeticError where what the heads give together is not what the attention adds."""
    # Norms and softmaxes are computed in float32 even where the network is in float64.
    limit = max(tolerance(torch.float32), tolerance(next(checkpoint.model.parameters()).dtype))
    if not has_plain_maps(checkpoint, layer):
        limit = max(limit, AFFINE)
    scale = np.maximum(np.abs(each).max(axis=(0, -1)), np.abs(contribution).max(-1))
    error = float(np.max(np.abs(total - contribution).max(-1) / np.where(scale > 0, scale, 1.0)))
    if not error <= limit:
        raise ArithmeticError(
            f"the heads of layer {layer} do not sum to what its attention adds: they differ by {error:.1e} of the "
            f"largest part, and at most {limit:.0e} is rounding. A gate, a norm of the values or a second matrix "
            "stands between them"
        )


def _signal(recorded: "xr.Dataset", name: str, layer: int) -> np.ndarray:
    return np.asarray(recorded[name][layer].to_numpy(), dtype=np.float64)


def _apply_norm(norm: Any, x: np.ndarray) -> np.ndarray:
    """Apply the network's own norm to x, in the network's dtype."""
    parameter = next(norm.parameters(), torch.zeros(()))
    with torch.no_grad():
        normed = norm(torch.as_tensor(x).to(parameter))
    return np.asarray(normed.to("cpu", torch.float64).numpy())
