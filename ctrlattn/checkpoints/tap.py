"""state_{l+1} = state_l + attention_out_l + mlp_out_l: record what a network's layers pass on and what they add.

Bare forward hooks, removed again whatever happens; no tapping library.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ctrlattn import signals
from ctrlattn.checkpoints.families import Family
from ctrlattn.checkpoints.load import Checkpoint

if TYPE_CHECKING:
    import xarray as xr


def tap(checkpoint: Checkpoint, ids: Any) -> "xr.Dataset":
    """Record the residual stream, the contributions and the attention matrices of one text.

    Parameters
    ----------
    checkpoint : Checkpoint
    ids : (n,) or (1, n) token ids, or a str
        A str is tokenized with the checkpoint's tokenizer, special tokens included.

    Returns
    -------
    xarray.Dataset
        Schema of `ctrlattn.signals`. For pre-norm families mid = state + attention_out and the next state =
        mid + mlp_out, to rounding; for post-norm (BERT) each is the norm of that sum.

    Raises
    ------
    ValueError
        No token, ids outside the vocabulary, several texts at once, a str without a tokenizer, weights that give NaN.

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
    tokens = _ids(checkpoint, ids)
    layers = checkpoint.family.layers_of(checkpoint.model)
    recorded: dict[str, dict[int, torch.Tensor]] = {name: {} for name in (*signals.VARIABLES, "end")}
    with _hooks(checkpoint.family, layers, recorded), torch.no_grad():
        # use_cache=False: a live cache would be appended to, and the layer could not be called again.
        arguments = {"use_cache": False} if checkpoint.family.causal else {}
        checkpoint.model(input_ids=tokens, **arguments)
    arrays = {name: _stack(values) for name, values in recorded.items() if name != "end"}
    arrays["state"] = np.concatenate([arrays["state"], _stack(recorded["end"])])
    return signals.dataset(arrays, tokens=_strings(checkpoint, tokens), attrs=_attrs(checkpoint, tokens))


def _ids(checkpoint: Checkpoint, ids: Any) -> torch.Tensor:
    if isinstance(ids, str):
        if checkpoint.tokenizer is None:
            raise ValueError("a text needs the checkpoint's tokenizer: load(model, tokenizer=...) or give token ids")
        ids = checkpoint.tokenizer(ids)["input_ids"]
    tokens = torch.as_tensor(np.asarray(ids), dtype=torch.long)
    tokens = tokens[None] if tokens.ndim == 1 else tokens
    if tokens.ndim != 2 or tokens.shape[0] != 1:
        raise ValueError(f"tap records one text at a time: ids (n,) or (1, n), got shape {tuple(tokens.shape)}")
    if tokens.shape[1] == 0:
        raise ValueError("the text has no token")
    vocabulary = checkpoint.model.get_input_embeddings().num_embeddings
    if tokens.min() < 0 or tokens.max() >= vocabulary:
        raise ValueError(
            f"token ids must lie in 0 ... {vocabulary - 1}, got {int(tokens.min())} ... {int(tokens.max())}"
        )
    return tokens.to(checkpoint.model.device)


@contextmanager
def _hooks(family: Family, layers: list[Any], recorded: dict[str, dict[int, torch.Tensor]]) -> Iterator[None]:
    handles = []
    try:
        for i, layer in enumerate(layers):
            for module, hook, on_input in _places(family, layer, i, recorded, last=i == len(layers) - 1):
                register = module.register_forward_pre_hook if on_input else module.register_forward_hook
                handles.append(register(hook, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _places(
    family: Family, layer: Any, i: int, recorded: dict[str, dict[int, torch.Tensor]], *, last: bool
) -> Iterator[tuple[Any, Callable[..., None], bool]]:
    """(module, hook, is it a pre-hook) for every signal of layer i."""
    mid, side = family.mid
    yield layer, _keep_input(recorded["state"], i), True
    yield (
        attrgetter(mid)(layer),
        (_keep_input if side == "input" else _keep_output)(recorded["mid"], i),
        side == "input",
    )
    yield attrgetter(family.attention)(layer), _keep_output(recorded["attention"], i, part=1), False
    yield attrgetter(family.attention_out)(layer), _keep_output(recorded["attention_out"], i), False
    yield attrgetter(family.mlp_out)(layer), _keep_output(recorded["mlp_out"], i), False
    if last:
        yield layer, _keep_output(recorded["end"], i), False


def _keep_input(store: dict[int, torch.Tensor], i: int) -> Callable[..., None]:
    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Llama passes the stream by name, BERT by position.
        store[i] = (args[0] if args else kwargs["hidden_states"]).detach()

    return hook


def _keep_output(store: dict[int, torch.Tensor], i: int, part: int = 0) -> Callable[..., None]:
    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        store[i] = (output[part] if isinstance(output, tuple) else output).detach()

    return hook


def _stack(values: dict[int, torch.Tensor]) -> np.ndarray:
    """Layers in order, the batch of one taken off."""
    return torch.cat([values[i] for i in sorted(values)]).cpu().numpy()


def _strings(checkpoint: Checkpoint, tokens: torch.Tensor) -> list[str]:
    if checkpoint.tokenizer is None:
        return [str(i) for i in tokens[0].tolist()]
    return [checkpoint.tokenizer.decode([i]) for i in tokens[0].tolist()]


def _attrs(checkpoint: Checkpoint, tokens: torch.Tensor) -> dict[str, Any]:
    family = checkpoint.family
    text = "" if checkpoint.tokenizer is None else checkpoint.tokenizer.decode(tokens[0].tolist())
    return {
        "model": checkpoint.source.rstrip("/").rpartition("/")[2],
        "family": family.name,
        "norm": family.norm,
        "causal": int(family.causal),
        "dtype": str(next(checkpoint.model.parameters()).dtype).removeprefix("torch."),
        "text": text,
    }
