"""loss = mean over windows of the mean of -log p(token t + 1 | tokens 0 ... t): loss and perplexity of a network."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.inputs import in_batches, one_text, windows_of
from ctrlattn.checkpoints.network.text import frame_of
from ctrlattn.checkpoints.network.watch import attention
from ctrlattn.errors import InputError
from ctrlattn.perplexity import perplexity_of

_LOGITS = 2**26  # entries of the logits in one pass: a quarter of a gigabyte in float32


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Loss of a network on a text, in nats per token.

    Attributes
    ----------
    loss : float
        Mean over windows.
    standard_error : float
        Standard error of that mean over the windows; nan for one window.
    perplexity : float
        exp(loss); inf where that overflows.
    window_losses : (windows,)
        Mean loss of each window.
    tokens : int
        Number of predicted tokens.
    """

    loss: float
    standard_error: float
    perplexity: float
    window_losses: np.ndarray
    tokens: int


def evaluate(checkpoint: Checkpoint, ids: Any) -> Evaluation:
    """Return the next-token loss of a network on separate windows.

    Parameters
    ----------
    checkpoint : Checkpoint
        A causal network with its head.
    ids : (windows, length) token ids, windows of different lengths, or a BatchEncoding
        Windows do not see each other. The first token of each is read and not predicted. (n,) is one window. Pads
        (attention_mask 0) are neither read nor predicted.

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        The network is an encoder or has no head, a window has fewer than two tokens, ids lie outside the vocabulary, or
        a loss is not finite.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=9)
    >>> model = transformers.GPT2LMHeadModel(config)
    >>> _ = model.transformer.wte.weight.data.zero_()  # all tokens equally likely: log(9)
    >>> round(evaluate(checkpoints.load(model), [[1, 2, 3], [3, 4, 5]]).perplexity, 6)
    9.0
    """
    windows = windows_of(checkpoint, ids)
    each, done, tokens = np.empty(len(windows)), 0, 0
    for part in in_batches(windows, _LOGITS // checkpoint.model.get_input_embeddings().num_embeddings):
        losses = _losses(checkpoint, part)
        each[done : done + len(part)] = losses.mean(1)
        done, tokens = done + len(part), tokens + losses.size
    return evaluation_of(each, tokens)


def perplexity(checkpoint: Checkpoint, ids: Any, *, window: int = 512, stride: int = 256) -> Evaluation:
    """Return the loss on a long text by a sliding window: at least window - stride tokens predict each token, once.

    Where the tokenizer puts BOS in front of a text, it stands in front of every window and counts among its tokens. The
    first token of the text is then predicted as well.

    Parameters
    ----------
    checkpoint : Checkpoint
    ids : (n,) token ids, or a str
        With or without the special tokens of the tokenizer.
    window : int
        Tokens that the network sees at once.
    stride : int
        Number of tokens by which the window moves. With a smaller stride each token sees more, and more work is needed:
        some n window/stride tokens pass through the network.

    Returns
    -------
    Evaluation
        `loss` is the mean over tokens. `window_losses` are the means over the tokens that each window adds, and the
        standard error is that of these means.

    Raises
    ------
    InputError
        The text is shorter than one window, the stride is not in 1 ... window - 1 (less the special tokens), or
        `evaluate` refuses the network.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> model = transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=9))
    >>> perplexity(checkpoints.load(model), list(range(9)) * 3, window=8, stride=4).tokens
    26
    """
    frame = frame_of(checkpoint)
    text = frame.without(one_text(checkpoint, ids).cpu().numpy())
    room = frame.room(window)
    if not 1 <= stride < room:
        raise InputError(f"the stride must be one of 1 ... window - 1 = {room - 1}, got {stride}")
    n = len(text)
    if n < room:
        raise InputError(f"the text is shorter than one window: {n} tokens, window {room}")
    first = len(frame.before) or 1  # the first token of a window that has a loss
    unread = first - len(frame.before)  # tokens of the text that no window predicts
    starts = [*range(0, n - room, stride), n - room]
    # Two arrays hold what stays. A small one for each window would lie between the logits, which are freed, and keep
    # the allocator from using their place again.
    losses, means, done = np.empty(n - unread), np.empty(len(starts)), unread
    for i, start in enumerate(starts):
        tokens = windows_of(checkpoint, frame.around(text[start : start + room]))
        end = start + room
        new_losses = losses[done - unread : end - unread]
        new_losses[:] = _losses(checkpoint, tokens)[0][-len(new_losses) :]
        means[i], done = new_losses.mean(), end
    evaluation = evaluation_of(means, len(losses))
    loss = float(losses.mean())
    return Evaluation(loss, evaluation.standard_error, perplexity_of(loss), evaluation.window_losses, len(losses))


def _losses(checkpoint: Checkpoint, windows: Any) -> np.ndarray:
    """Return -log p of every token but the first of each window of one pass, (windows, length - 1).

    The steps behind the logits take one window at a time, since the result of each is as large as the logits are.
    """
    losses = np.empty((len(windows), len(windows[0]) - 1))
    with attention(checkpoint.model, "sdpa"), torch.inference_mode():
        logits = checkpoint.model(input_ids=windows, use_cache=False).logits
        for row, scores, tokens in zip(losses, logits, windows, strict=True):
            scores = scores[:-1].to(torch.promote_types(scores.dtype, torch.float32))
            row[:] = cross_entropy(scores, tokens[1:], reduction="none").double().cpu().numpy()
    return losses


def evaluation_of(each: np.ndarray, tokens: int) -> Evaluation:
    """Return the evaluation whose windows have these losses.

    Raises
    ------
    InputError
        A loss that is not finite.

    Examples
    --------
    >>> evaluation_of(np.array([1.0, 3.0]), 20).loss
    2.0
    """
    if not np.isfinite(each).all():
        raise InputError(f"the loss of window {int(np.flatnonzero(~np.isfinite(each))[0])} is not finite")
    loss = float(each.mean())
    return Evaluation(loss, standard_error(each), perplexity_of(loss), each, tokens)


def standard_error(values: np.ndarray) -> float:
    """Return s/sqrt(n), the standard error of the mean of n values; nan for a single one.

    >>> standard_error(np.array([1.0, 3.0]))
    1.0
    """
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
