"""state_{l+1} = state_l + attention_out_l + mlp_out_l: record stream, contributions and attention of every layer.

Bare forward hooks, removed again whatever happens; no tapping library.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ctrlattn import signals
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import Sublayer, at
from ctrlattn.checkpoints.network.inputs import inputs_of
from ctrlattn.checkpoints.network.watch import Hook, Watcher, attention, first, stream_of, watch

if TYPE_CHECKING:
    import xarray as xr


def tap(checkpoint: Checkpoint, ids: Any) -> "xr.Dataset":
    """Record the residual stream, the contributions and the attention matrices of one text or image.

    Parameters
    ----------
    checkpoint : Checkpoint
    ids : (n,) or (1, n) token ids, a str, or an image (channels, height, width)
        The checkpoint's tokenizer makes ids of a str, special tokens included; pixel values come normalised as the
        network wants them.

    Returns
    -------
    xarray.Dataset
        Schema of `ctrlattn.signals`. For pre-norm families mid = state + attention_out and the next state =
        mid + mlp_out, to rounding; for post-norm (BERT) each is the norm of that sum. Where attention and MLP read the
        same stream (attribute parallel = 1) mid is that sum too, though no module reads it. A layer whose attention
        was replaced by something without a matrix has the identity: each token reads itself.

    Raises
    ------
    InputError
        No token, ids outside the vocabulary, several texts at once, a str without a tokenizer, signals that are not
        finite.

    Examples
    --------
    >>> import torch, transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
    ...                                  intermediate_size=8)
    >>> recorded = tap(checkpoints.load(transformers.BertModel(config)), [1, 2, 3])
    >>> dict(recorded["attention"].sizes)
    {'layer': 2, 'head': 2, 'query': 3, 'key': 3}
    """
    inputs = inputs_of(checkpoint, ids)
    signal: dict[str, list[torch.Tensor]] = {name: [] for name in signals.VARIABLES}
    watching = watch(checkpoint.sublayers(), _recorder(signal), more=_places(checkpoint, signal))
    with attention(checkpoint.model, "eager"), watching, torch.no_grad():
        checkpoint.model(**inputs)
    arrays = {name: _stack(layers) for name, layers in signal.items() if layers}
    if checkpoint.sublayers()[0].parallel:
        arrays["mid"] = arrays["state"][:-1] + arrays["attention_out"]
    return signals.dataset(arrays, tokens=token_names(checkpoint, inputs), attrs=attributes(checkpoint, inputs))


def _recorder(signal: dict[str, list[torch.Tensor]]) -> Watcher:
    def record(sublayer: Sublayer, x: torch.Tensor, u: torch.Tensor, F: torch.Tensor) -> None:
        signal[f"{sublayer.kind}_out"].append(F)
        if sublayer.kind == "attention":
            signal["state"].append(x)
        elif not sublayer.parallel:
            signal["mid"].append(x)

    return record


def _places(checkpoint: Checkpoint, signal: dict[str, list[torch.Tensor]]) -> Iterator[Hook]:
    """Hooks for what no sublayer reads or adds: the attention matrices, and the stream behind the last layer."""

    def matrix(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        a = output[1] if isinstance(output, tuple) and len(output) > 1 else None
        if a is None:
            # Attention was replaced by something that reads each token alone.
            x = stream_of(args, kwargs)
            a = torch.eye(x.shape[-2], dtype=x.dtype, device=x.device).expand(1, checkpoint.heads, -1, -1)
        signal["attention"].append(a)

    def end(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        signal["state"].append(first(output))

    for layer in checkpoint.layers:
        yield at(layer, checkpoint.family.matrix), matrix, False
    yield checkpoint.layers[-1], end, False


def _stack(layers: list[torch.Tensor]) -> np.ndarray:
    """Stack the layers and take the batch axis off; numpy has no bfloat16."""
    stacked = torch.cat(layers)
    return stacked.to(torch.promote_types(stacked.dtype, torch.float32)).numpy(force=True)


def token_names(checkpoint: Checkpoint, inputs: dict[str, Any]) -> list[str]:
    """Token strings; of an image the class tokens and "row,column" of each patch."""
    if "pixel_values" in inputs:
        return _patches(checkpoint.model, inputs["pixel_values"].shape[-2:])
    tokens = inputs["input_ids"][0].tolist()
    return [str(i) if checkpoint.tokenizer is None else checkpoint.tokenizer.decode([i]) for i in tokens]


def _patches(model: Any, size: Sequence[int]) -> list[str]:
    patch = model.config.patch_size
    height, width = (patch, patch) if isinstance(patch, int) else patch
    rows, columns = size[0] // height, size[1] // width
    extra = ["[CLS]", "[DIST]"] if hasattr(model.base_model.embeddings, "distillation_token") else ["[CLS]"]
    return extra + [f"{row},{column}" for row in range(rows) for column in range(columns)]


def attributes(checkpoint: Checkpoint, inputs: dict[str, Any]) -> dict[str, Any]:
    """What a Dataset says of its network; "text" is empty where none is known."""
    family = checkpoint.family
    tokenizer = checkpoint.tokenizer if "input_ids" in inputs else None
    text = "" if tokenizer is None else tokenizer.decode(inputs["input_ids"][0].tolist())
    return {
        "model": checkpoint.source.rstrip("/").rpartition("/")[2],
        "family": family.name,
        "norm": family.norm,
        "causal": int(checkpoint.causal),
        "parallel": int(checkpoint.sublayers()[0].parallel),
        "dtype": str(next(checkpoint.model.parameters()).dtype).removeprefix("torch."),
        "text": text,
    }
