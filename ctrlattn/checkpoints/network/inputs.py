"""ids (n,) or (b, n), a text, or an image (channels, height, width) -> input arguments of a network."""

from typing import Any

import numpy as np
import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.describe import Description
from ctrlattn.errors import InputError

TOKENS = 2048  # in one pass: more of them are no faster and need more memory
_TABLES = ("wpe", "position_embeddings")  # of learned positions, in GPT-2 and in BERT and its like


def inputs_of(checkpoint: Checkpoint, ids: Any, *, batch: bool = False, cut: bool = False) -> dict[str, Any]:
    """Keyword arguments of the model for one text or image, or with `batch` for several of one size.

    Parameters
    ----------
    checkpoint : Checkpoint
    ids : (n,) or (b, n) token ids, a str, or for an image network (channels, height, width) or a batch of them
        The checkpoint's tokenizer makes ids of a str, special tokens included. A dict holds the model's own arguments,
        for a network that reads more than that.
    batch : bool
        Whether b may be more than one.
    cut : bool
        Whether the text is cut into windows before the network reads it: it may then be of any length.

    Raises
    ------
    InputError
        No token, more tokens than the network has positions, ids outside the vocabulary, a str without a tokenizer, a
        wrong shape, pixels that are not finite; a network that was put into training mode after it was loaded.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=9)
    >>> inputs_of(checkpoints.load(transformers.GPT2Model(config)), [1, 2])
    {'input_ids': tensor([[1, 2]]), 'use_cache': False}
    """
    if checkpoint.model.training:
        raise InputError("the network is in training mode, where dropout would be measured with it: call model.eval()")
    if isinstance(ids, dict):
        return dict(ids)
    if getattr(checkpoint.model, "main_input_name", "input_ids") == "pixel_values":
        return {"pixel_values": _pixels(checkpoint, ids, batch)}
    tokens = _tokens(checkpoint, ids, batch)
    if not cut:
        _fit(checkpoint, tokens.shape[1])
    # use_cache=False: a live cache would be appended to, and the layer could not be called again.
    return {"input_ids": tokens, "use_cache": False} if checkpoint.causal else {"input_ids": tokens}


def windows_of(checkpoint: Checkpoint, ids: Any, *, cut: bool = False) -> torch.Tensor:
    """Check ids (windows, length) for a causal network with a head; `cut` as for `inputs_of`.

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
    tokens = inputs_of(checkpoint, ids, batch=True, cut=cut)["input_ids"]
    if tokens.shape[1] < 2:
        raise InputError(f"a window needs at least two tokens, one to read and one to predict: got {tokens.shape[1]}")
    return tokens


def token_ids(
    checkpoint: Checkpoint | Description, text: str, *, special: bool = True, most: int | None = None
) -> list[int]:
    """Token ids of a text: the one place where the checkpoint's tokenizer is called.

    Parameters
    ----------
    checkpoint : Checkpoint, or the Description of one whose weights are not read yet
    text : str
    special : bool
        Whether the tokenizer adds the special tokens of the network.
    most : int, optional
        A longer text is cut to this number of tokens.

    Raises
    ------
    InputError
        The checkpoint has no tokenizer.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=9)
    >>> token_ids(checkpoints.load(transformers.GPT2Model(config)), "a text")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: a text needs the checkpoint's tokenizer: load(model, tokenizer=...) or give token ids
    """
    if checkpoint.tokenizer is None:
        raise InputError("a text needs the checkpoint's tokenizer: load(model, tokenizer=...) or give token ids")
    cut: dict[str, Any] = {} if most is None else {"truncation": True, "max_length": most}
    # verbose=False: the tokenizer warns of texts beyond the network's positions, which are windowed or refused later.
    return list(checkpoint.tokenizer(text, add_special_tokens=special, verbose=False, **cut)["input_ids"])


def in_batches(windows: torch.Tensor, tokens: int = TOKENS) -> tuple[torch.Tensor, ...]:
    """Windows (count, length, ...) in parts of at most `tokens` tokens, and of one window at least.

    An image (count, channels, height, width) is a part of its own.

    >>> [len(part) for part in in_batches(torch.zeros(5, 10), 25)]
    [2, 2, 1]
    """
    rows = tokens // windows.shape[1] if windows.ndim == 2 else 1
    return torch.split(windows, max(1, rows))


def _tokens(checkpoint: Checkpoint, ids: Any, batch: bool) -> torch.Tensor:
    if isinstance(ids, str):
        ids = token_ids(checkpoint, ids)
    tokens = torch.as_tensor(np.asarray(ids), dtype=torch.long)
    tokens = tokens[None] if tokens.ndim == 1 else tokens
    if tokens.ndim != 2 or not (batch or tokens.shape[0] == 1):
        wanted = "ids (n,) or (windows, n)" if batch else "one text at a time: ids (n,) or (1, n)"
        raise InputError(f"wanted is {wanted}, got shape {tuple(tokens.shape)}")
    if tokens.numel() == 0:
        raise InputError("the text has no token")
    vocabulary = checkpoint.model.get_input_embeddings().num_embeddings
    if tokens.min() < 0 or tokens.max() >= vocabulary:
        raise InputError(
            f"token ids must lie in 0 ... {vocabulary - 1}, got {int(tokens.min())} ... {int(tokens.max())}"
        )
    return tokens.to(checkpoint.model.device)


def _fit(checkpoint: Checkpoint, count: int) -> None:
    longest = _positions(checkpoint.model)
    if longest is not None and count > longest:
        raise InputError(f"{count} tokens at once, and the network has positions for {longest}: give fewer")


def _positions(model: Any) -> int | None:
    """Rows of the table of positions, where they are learned; rotations and sinusoids go on without end."""
    for name, module in model.base_model.named_modules():
        if isinstance(module, torch.nn.Embedding) and name.rpartition(".")[2] in _TABLES:
            # RoBERTa counts from behind its padding.
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None


def _pixels(checkpoint: Checkpoint, image: Any, batch: bool) -> torch.Tensor:
    if isinstance(image, str):
        raise InputError("this network reads images: give pixel values (channels, height, width), not a text")
    pixels = torch.as_tensor(np.asarray(image), dtype=checkpoint.model.dtype)
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    if pixels.ndim != 4 or not (batch or pixels.shape[0] == 1):
        raise InputError(f"wanted is one image (channels, height, width), got shape {tuple(pixels.shape)}")
    if not torch.isfinite(pixels).all():
        raise InputError("pixel values must be finite")
    return pixels.to(checkpoint.model.device)
