"""ids (n,) or (b, n), a text, a BatchEncoding, or an image (channels, height, width) -> input arguments of a network.

Padding ends here: a mask says which ids are pads, and these are taken out. Windows of one length then go through the
network together, so that each token has the numbers that it has in its window alone, whatever the network.
"""

import inspect
from collections.abc import Mapping, Sequence
from itertools import chain, groupby
from typing import Any

import numpy as np
import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.text import token_ids
from ctrlattn.checkpoints.network.traced_family import Traced
from ctrlattn.errors import InputError

TOKENS = 2048  # in one pass: more of them are no faster and need more memory
_TABLES = ("wpe", "position_embeddings")  # of learned positions, in GPT-2 and in BERT and its like
_IDS, _MASK, _TYPES, _PIXELS = "input_ids", "attention_mask", "token_type_ids", "pixel_values"
# What tokenizers and image processors also return, and no layer reads.
_SILENT = {"special_tokens_mask", "offset_mapping", "length", "pixel_mask"}

# (windows, length), or (length,) each where lengths differ
Windows = torch.Tensor | tuple[torch.Tensor, ...]


def inputs_of(checkpoint: Checkpoint, ids: Any, *, batch: bool = False, cut: bool = False) -> dict[str, Any]:
    """Return keyword arguments of the model for one text or image, or with `batch` for several of one size.

    Parameters
    ----------
    checkpoint : Checkpoint
    ids : (n,) or (b, n) token ids, a str, or for an image network (channels, height, width) or a batch of them
        The checkpoint's tokenizer makes ids of a str, special tokens included. What a tokenizer of transformers returns
        (BatchEncoding) is taken as it is; ids whose attention_mask is 0 are pads and are left out. Rows without a mask
        that look padded are refused. For a traced network that reads more than a text, a dict holds the model's own
        arguments.
    batch : bool
        Whether b may be more than one.
    cut : bool
        Whether the text is cut into windows before the network reads it: it may then be of any length.

    Raises
    ------
    InputError
        No token, more tokens than the network has positions, ids outside the vocabulary, a str without a tokenizer, a
        wrong shape, a mask with a hole in the text, pads without a mask, windows of different lengths, pixels that are
        not finite; a network that was put into training mode after it was loaded.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=9)
    >>> inputs_of(checkpoints.load(transformers.GPT2Model(config)), [1, 2])
    {'input_ids': tensor([[1, 2]]), 'use_cache': False}
    """
    _require_evaluation(checkpoint)
    if _own_arguments(checkpoint, ids):
        return dict(ids)
    if reads_images(checkpoint):
        return {_PIXELS: _pixels(checkpoint, ids, batch)}
    tokens = _texts(checkpoint, ids, batch=batch, cut=cut)
    if not isinstance(tokens, torch.Tensor):
        raise InputError(f"windows of one length are needed here, got {len(tokens[0])} and {_other_length(tokens)}")
    # use_cache=False: a live cache would be appended to, and the layer could not be called again.
    arguments = {_IDS: tokens, "use_cache": False} if checkpoint.causal else {_IDS: tokens}
    return arguments | _types(checkpoint, ids, len(tokens))


def _own_arguments(checkpoint: Checkpoint, ids: Any) -> bool:
    """Tell whether the model's own arguments are given: more than a tokenizer or an image processor returns.

    A network that is read by a row of the table takes nothing else that would change its pass.
    """
    extra = set(ids) - {_IDS, _MASK, _TYPES, _PIXELS} - _SILENT if isinstance(ids, Mapping) else set()
    return bool(extra) and (isinstance(checkpoint.family, Traced) or extra == {"use_cache"})


def reads_images(checkpoint: Checkpoint) -> bool:
    """Tell whether the network reads pixel values and no token ids."""
    return getattr(checkpoint.model, "main_input_name", _IDS) == _PIXELS


def passes_of(checkpoint: Checkpoint, ids: Any) -> list[dict[str, Any]]:
    """Return keyword arguments of each pass through the network over several texts or images.

    Parameters
    ----------
    checkpoint : Checkpoint
    ids
        As for `inputs_of`, or a list of texts or windows of different lengths.

    Raises
    ------
    InputError
        What `inputs_of` refuses.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> bert = transformers.BertConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, vocab_size=9)
    >>> padded = {"input_ids": [[0, 1, 2], [3, 4, 5]], "attention_mask": [[0, 1, 1], [1, 1, 1]]}
    >>> passes_of(checkpoints.load(transformers.BertModel(bert)), padded)
    [{'input_ids': tensor([[1, 2]])}, {'input_ids': tensor([[3, 4, 5]])}]
    """
    _require_evaluation(checkpoint)
    if reads_images(checkpoint):
        return [{_PIXELS: image} for image in in_batches(_pixels(checkpoint, ids, True))]
    windows = _texts(checkpoint, ids, batch=True, cut=False)
    more = {"use_cache": False} if checkpoint.causal else {}
    return [{_IDS: part, **more} | _types(checkpoint, ids, len(windows)) for part in in_batches(windows)]


def windows_of(checkpoint: Checkpoint, ids: Any, *, cut: bool = False) -> Windows:
    """Check ids of windows for a causal network with a head; `cut` as for `inputs_of`.

    Returns
    -------
    (windows, length) tensor
        Or a tuple of (length,) tensors where lengths differ; pads are left out.

    Raises
    ------
    InputError
        The network has no next-token head, a window has fewer than two tokens; what `inputs_of` refuses.
    """
    if not checkpoint.causal or checkpoint.model.get_output_embeddings() is None:
        raise InputError(
            f"{checkpoint.source}: {type(checkpoint.model).__name__} does not predict the next token: "
            "wanted is a causal network with its head (a ...ForCausalLM)"
        )
    _require_evaluation(checkpoint)
    tokens = _texts(checkpoint, ids, batch=True, cut=cut)
    shortest = min(len(window) for window in tokens)
    if shortest < 2:
        raise InputError(f"a window needs at least two tokens, one to read and one to predict: got {shortest}")
    return tokens


def windows_to_fit(checkpoint: Checkpoint, ids: Any) -> Windows:
    """Return windows of text, or images (count, channels, height, width), to fit gains to; a head is not needed.

    Raises
    ------
    InputError
        What `inputs_of` refuses; for a causal network with a head what `windows_of` refuses.
    """
    if checkpoint.causal:
        return windows_of(checkpoint, ids)
    _require_evaluation(checkpoint)
    return (
        _pixels(checkpoint, ids, True) if reads_images(checkpoint) else _texts(checkpoint, ids, batch=True, cut=False)
    )


def one_text(checkpoint: Checkpoint, ids: Any) -> torch.Tensor:
    """Return the token ids (n,) of a text of any length for a causal network with a head, checked by `windows_of`."""
    tokens = windows_of(checkpoint, ids, cut=True)
    if len(tokens) != 1:
        shape = tuple(tokens.shape) if isinstance(tokens, torch.Tensor) else (len(tokens), "different lengths")
        raise InputError(f"one text at a time: ids (n,), got shape {shape}")
    return tokens[0]


def in_batches(windows: Windows, tokens: int = TOKENS) -> tuple[torch.Tensor, ...]:
    """Split windows (count, length, ...) into parts of at most `tokens` tokens, and of one window at least.

    Only consecutive windows of one length share a part. An image (count, channels, height, width) is a part of its own.

    >>> [len(part) for part in in_batches(torch.zeros(5, 10), 25)]
    [2, 2, 1]
    >>> [tuple(part.shape) for part in in_batches((torch.zeros(3), torch.zeros(2), torch.zeros(2)))]
    [(1, 3), (2, 2)]
    """
    if not isinstance(windows, torch.Tensor):
        runs = [torch.stack(list(run)) for _, run in groupby(windows, len)]
        return tuple(chain.from_iterable(in_batches(run, tokens) for run in runs))
    rows = tokens // windows.shape[1] if windows.ndim == 2 else 1
    return torch.split(windows, max(1, rows))


def _require_evaluation(checkpoint: Checkpoint) -> None:
    if checkpoint.model.training:
        raise InputError("the network is in training mode, where dropout would be measured with it: call model.eval()")


def _texts(checkpoint: Checkpoint, ids: Any, *, batch: bool, cut: bool) -> Windows:
    rows = _rows(checkpoint, ids, batch)
    if not (isinstance(ids, Mapping) and ids.get(_MASK) is not None):
        _require_mask(checkpoint, rows)
    vocabulary = checkpoint.model.get_input_embeddings().num_embeddings
    low, high = min(int(row.min()) for row in rows), max(int(row.max()) for row in rows)
    if low < 0 or high >= vocabulary:
        raise InputError(f"token ids must lie in 0 ... {vocabulary - 1}, got {low} ... {high}")
    if not cut:
        _fit(checkpoint, max(len(row) for row in rows))
    tokens = tuple(torch.as_tensor(row, dtype=torch.long).to(checkpoint.model.device) for row in rows)
    return torch.stack(tokens) if len({len(row) for row in rows}) == 1 else tokens


def _rows(checkpoint: Checkpoint, ids: Any, batch: bool) -> list[np.ndarray]:
    """Return the ids of each text, (n,), without its pads."""
    raw_ids = _entry_of(ids, _IDS) if isinstance(ids, Mapping) else ids
    rows, shape = _arrays(checkpoint, raw_ids)
    if not (batch or len(rows) == 1):
        raise InputError(f"wanted is one text at a time: ids (n,) or (1, n), got shape {shape}")
    mask = ids.get(_MASK) if isinstance(ids, Mapping) else None
    if mask is not None:
        masks, _ = _arrays(checkpoint, mask)
        if [len(row) for row in masks] != [len(row) for row in rows]:
            raise InputError(f"an attention_mask has the shape of its ids, {shape}")
        rows = [_text_in(row, mask_row, i) for i, (row, mask_row) in enumerate(zip(rows, masks, strict=True))]
    if not rows or min(map(len, rows)) == 0:
        raise InputError("the text has no token")
    return rows


def _require_mask(checkpoint: Checkpoint, rows: list[np.ndarray]) -> None:
    """Raise InputError where rows without a mask look padded: the pad id stands at one side of rows, and nowhere else.

    One pad id is enough where the tokenizer has a token that is for padding alone. Otherwise the id may also be that of
    EOS, or of a word, and a text may begin or end with it: then two in a row are needed.
    """
    pad, least = _pad_of(checkpoint)
    if pad is None or len({len(row) for row in rows}) != 1:
        return
    pads = np.stack(rows) == pad
    for side, from_side in (("begins", pads), ("ends", pads[:, ::-1])):
        counts = np.logical_and.accumulate(from_side, axis=1).sum(1)
        text = int(counts.argmax())
        if counts[text] >= least and counts.sum() == pads.sum() < pads.size:
            raise InputError(
                f"text {text} {side} with the pad id {pad}, {counts[text]} in a row, and no attention_mask says "
                "whether they are text: give all that the tokenizer returned (a BatchEncoding), or an attention_mask, "
                "of ones where they are text"
            )


def _pad_of(checkpoint: Checkpoint) -> tuple[int | None, int]:
    """Return the pad id, and how many in a row are pads for certain; None where nothing says which id it is.

    A tokenizer without a token for padding has padded nothing, whatever id a configuration names by default.
    """
    tokenizer = checkpoint.tokenizer
    if tokenizer is None:
        pad = getattr(checkpoint.model.config.get_text_config(), "pad_token_id", None)
        return (pad if isinstance(pad, int) else None), 2
    pad = getattr(tokenizer, "pad_token_id", None)
    special_ids = [getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "unk", "cls", "sep", "mask")]
    return (pad if isinstance(pad, int) else None), 2 if pad in special_ids else 1


def _arrays(checkpoint: Checkpoint, values: Any) -> tuple[list[np.ndarray], tuple[Any, ...]]:
    """Return the rows of ids or of a mask, and their shape."""
    if isinstance(values, str):
        values = token_ids(checkpoint, values)
    if isinstance(values, Sequence) and values and all(isinstance(row, str) for row in values):
        values = [token_ids(checkpoint, text) for text in values]
    if isinstance(values, Sequence) and len({np.shape(_on_cpu(row)) for row in values}) > 1:
        rows = [np.asarray(_on_cpu(row)) for row in values]
        if any(row.ndim != 1 for row in rows):
            raise InputError("windows of different lengths are a list of ids (n,)")
        return [_whole_numbers(row) for row in rows], (len(rows), "different lengths")
    array = np.asarray([_on_cpu(row) for row in values] if isinstance(values, list | tuple) else _on_cpu(values))
    if array.ndim not in (1, 2):
        raise InputError(f"wanted is ids (n,) or (windows, n), got shape {array.shape}")
    return list(_whole_numbers(np.atleast_2d(array))), array.shape


def _on_cpu(value: Any) -> Any:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value


def _whole_numbers(array: np.ndarray) -> np.ndarray:
    if array.size and array.dtype.kind not in "iub":
        raise InputError(f"token ids and masks are whole numbers, got {array.dtype}")
    return array.astype(np.int64)


def _text_in(row: np.ndarray, mask: np.ndarray, number: int) -> np.ndarray:
    """Return the ids of a row that its mask says are text."""
    places = np.flatnonzero(mask)
    if not np.isin(mask, (0, 1)).all():
        raise InputError("an attention_mask is 1 for a token and 0 for a pad")
    if len(places) and len(places) != places[-1] - places[0] + 1:
        raise InputError(f"the attention_mask of text {number} has a hole: pads stand before or behind a text")
    return row[mask == 1]


def _entry_of(encoding: Mapping[str, Any], name: str) -> Any:
    """Return an entry of what a tokenizer or an image processor gave, where no other entry would change the pass."""
    if name not in encoding:
        raise InputError(f"{name} are needed here, got {', '.join(map(str, encoding)) or 'nothing'}")
    strange = sorted(set(encoding) - {name, _MASK, _TYPES} - _SILENT)
    if strange:
        raise InputError(f"{strange[0]} cannot be given beside {name}: the network makes its own")
    return encoding[name]


def _types(checkpoint: Checkpoint, ids: Any, rows: int) -> dict[str, Any]:
    """Return the token types of one text, where they are not all 0, which is what the network assumes."""
    types = ids.get(_TYPES) if isinstance(ids, Mapping) else None
    if types is None or not any(row.any() for row in _arrays(checkpoint, types)[0]):
        return {}
    if _TYPES not in inspect.signature(checkpoint.model.forward).parameters:
        raise InputError(f"{type(checkpoint.model).__name__} has no token types, and some of token_type_ids are not 0")
    if rows != 1:
        raise InputError("token_type_ids that are not 0 can be given for one text at a time")
    (row,) = _rows(checkpoint, {**ids, _IDS: types}, batch=False)
    return {_TYPES: torch.as_tensor(row, dtype=torch.long)[None].to(checkpoint.model.device)}


def _other_length(windows: tuple[torch.Tensor, ...]) -> int:
    return next(len(window) for window in windows if len(window) != len(windows[0]))


def _fit(checkpoint: Checkpoint, count: int) -> None:
    longest = _positions(checkpoint.model)
    if longest is not None and count > longest:
        raise InputError(f"{count} tokens at once, and the network has positions for {longest}: give fewer")


def _positions(model: Any) -> int | None:
    """Return the rows of the table of positions, where they are learned; rotations and sinusoids have no end."""
    for name, module in model.base_model.named_modules():
        if isinstance(module, torch.nn.Embedding) and name.rpartition(".")[2] in _TABLES:
            # RoBERTa counts from behind its padding.
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None


def _pixels(checkpoint: Checkpoint, image: Any, batch: bool) -> torch.Tensor:
    if isinstance(image, Mapping):
        image = _on_cpu(_entry_of(image, _PIXELS))
    if isinstance(image, str):
        raise InputError("this network reads images: give pixel values (channels, height, width), not a text")
    pixels = torch.as_tensor(np.asarray(image), dtype=checkpoint.model.dtype)
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    if pixels.ndim != 4 or not (batch or pixels.shape[0] == 1):
        raise InputError(f"wanted is one image (channels, height, width), got shape {tuple(pixels.shape)}")
    if not torch.isfinite(pixels).all():
        raise InputError("pixel values must be finite")
    return pixels.to(checkpoint.model.device)
