"""Which windows and tokens of a text are examples, and what is refused of them before torch is imported."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ctrlattn.checkpoints.network import text
from ctrlattn.checkpoints.network.text import frame_of
from ctrlattn.errors import InputError, require_known

if TYPE_CHECKING:
    from ctrlattn.checkpoints import Checkpoint
    from ctrlattn.checkpoints.network.describe import Description

SIGNALS = ("state", "prediction", "error", "mid", "mlp")
_LEAD = 4  # tokens at the start of a decoder's window that are left out


class Window(NamedTuple):
    """Special tokens that a tokenizer puts before and behind a text, and the first token that is kept."""

    before: tuple[int, ...]
    behind: tuple[int, ...]
    first: int

    def kept(self, length: int) -> slice:
        """Return the tokens of a window of `length` that are examples or context."""
        return slice(self.first, length - len(self.behind))


def window_of(checkpoint: "Checkpoint | Description") -> Window:
    """Return the special tokens around a text, and the first token that is kept.

    Raises
    ------
    InputError
        The checkpoint has no tokenizer, or its tokenizer changes a text when it adds special tokens.
    """
    if checkpoint.tokenizer is None:
        raise InputError("observers read texts: the checkpoint needs its tokenizer, load(model, tokenizer=...)")
    before, behind = frame_of(checkpoint)
    return Window(before, behind, max(len(before), _LEAD if checkpoint.causal else 0))


def windows(checkpoint: "Checkpoint | Description", path: str | os.PathLike[str], context: int) -> Iterator[np.ndarray]:
    """Read a UTF-8 file as windows of `context` token ids, special tokens included; a remainder is left out.

    The file is read piece by piece, so that a text of any length takes the same memory.

    Raises
    ------
    InputError
        The file does not exist, is not UTF-8, or is too short for one window, or the context leaves no example.
    """
    dress = window_of(checkpoint)
    if len(range(*dress.kept(context).indices(context))) < 2:
        raise InputError(f"a context of {context} tokens leaves no example")
    special = len(dress.before) + len(dress.behind)
    any_window, short = False, special
    for window in text.windows(checkpoint, Path(path), context, rest=True):
        if len(window) == context:
            any_window = True
            yield window
        else:
            short = len(window)
    if not any_window:
        raise InputError(f"{path}: {short - special} tokens, too few for one window of {context - special}")


def require_signals(checkpoint: "Checkpoint | Description", names: tuple[str, ...]) -> None:
    """Raise InputError where a signal is unknown or the network does not have it."""
    for name in names:
        require_known("signal", name, SIGNALS)
    family = checkpoint.family
    if "mid" in names and family is not None and (family.norm == "post" or checkpoint.parallel):
        raise InputError("mid is state + prediction in pre-norm networks whose MLP follows the attention only")


def require_examples(description: "Description", path: Path, layer: int, names: tuple[str, ...], context: int) -> None:
    """Raise InputError for what `SignalSource` would refuse, before the weights are read: ten windows say it.

    Raises
    ------
    InputError
        A signal or layer does not exist, the network reads no text, the text is too short, or the context leaves no
        example.
    """
    require_signals(description, names)
    description.layer_index(layer)
    description.require_text()
    description.require_positions(context)
    count = sum(1 for _ in islice(windows(description, path, context), 10))
    if count < 10:
        raise InputError(f"{path}: fewer than ten windows of {context} tokens: none to hold out")
