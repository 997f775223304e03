"""error_i = state_i - (state_1 + ... + state_{i-1})/(i - 1): source of the signals of one layer, over windows of text.

    state       input of the layer
    prediction  contribution of its attention
    error       the state minus its prediction from context, the mean of the tokens before it
    mid         state + prediction, the input of the MLP
    mlp         contribution of the MLP

Some tokens are neither examples nor context: those that a tokenizer puts around a text, and the first four of a
decoder's window. On these, decoders have activations a hundred times as large as elsewhere (always on the first token,
at times on the second). The token after them has no context and is not an example of any signal, so that all signals
have the same examples.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ctrlattn.checkpoints import Checkpoint, Sublayer
from ctrlattn.checkpoints.network import text
from ctrlattn.checkpoints.network.describe import Description
from ctrlattn.checkpoints.network.inputs import inputs_of
from ctrlattn.checkpoints.network.text import frame_of
from ctrlattn.checkpoints.network.watch import Watcher, watch, watch_calls
from ctrlattn.errors import InputError, require_known
from ctrlattn.predictors import CausalMean

SIGNALS = ("state", "prediction", "error", "mid", "mlp")
_LEAD = 4  # tokens at the start of a decoder's window that are left out


class Window(NamedTuple):
    """Special tokens that a tokenizer puts before and behind a text, and the first token that is kept."""

    before: tuple[int, ...]
    behind: tuple[int, ...]
    first: int

    def kept(self, length: int) -> slice:
        """The tokens of a window of `length` that are examples or context."""
        return slice(self.first, length - len(self.behind))


def window_of(checkpoint: Checkpoint | Description) -> Window:
    """Special tokens around a text, and the first token that is kept.

    Raises
    ------
    InputError
        The checkpoint has no tokenizer, or its tokenizer changes a text when it adds special tokens.
    """
    if checkpoint.tokenizer is None:
        raise InputError("observers read texts: the checkpoint needs its tokenizer, load(model, tokenizer=...)")
    before, behind = frame_of(checkpoint)
    return Window(before, behind, max(len(before), _LEAD if checkpoint.causal else 0))


def windows(checkpoint: Checkpoint | Description, path: str | os.PathLike[str], context: int) -> Iterator[np.ndarray]:
    """The text of a UTF-8 file as windows of `context` token ids, special tokens included; a remainder is left out.

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


def observe(checkpoint: Checkpoint, ids: Any, layer: int, wanted: tuple[str, ...] = SIGNALS) -> dict[str, torch.Tensor]:
    """Signals of a layer on several windows, (windows, examples, d) each; the network stops after the layer.

    Parameters
    ----------
    checkpoint : Checkpoint
    ids : (windows, n) token ids
        As `windows` makes them.
    layer : int
        0 ... layers - 1.
    wanted : names among `SIGNALS`

    Raises
    ------
    InputError
        A signal or layer does not exist, or "mid" is asked of a network that is not pre-norm with attention and MLP
        in series.
    """
    require_signals(checkpoint, wanted)
    index = checkpoint.layer_index(layer)
    seen: dict[str, torch.Tensor] = {}
    inputs = inputs_of(checkpoint, ids, batch=True)
    if set(wanted) <= {"state", "error"}:
        with torch.no_grad(), watch_calls(checkpoint.layers, [index], until=index) as calls:
            checkpoint.model(**inputs)
        seen["state"] = next(iter(calls[index].values()))
    else:
        with torch.no_grad(), watch(pair(checkpoint, index), _reader(seen), until=checkpoint.layers[index]):
            checkpoint.model(**inputs)
    tokens = window_of(checkpoint).kept(np.shape(ids)[1])
    seen = {name: value[:, tokens] for name, value in seen.items()}
    return {name: _signal(name, seen)[:, 1:] for name in wanted}


def _signal(name: str, seen: dict[str, torch.Tensor]) -> torch.Tensor:
    if name == "error":
        return seen["state"] - CausalMean()(seen["state"])
    return seen["state"] + seen["prediction"] if name == "mid" else seen[name]


def require_signals(checkpoint: Checkpoint | Description, names: tuple[str, ...]) -> None:
    """Raise InputError where a signal is unknown or the network does not have it."""
    for name in names:
        require_known("signal", name, SIGNALS)
    family = checkpoint.family
    if "mid" in names and family is not None and (family.norm == "post" or checkpoint.parallel):
        raise InputError("mid is state + prediction in pre-norm networks whose MLP follows the attention only")


def require_examples(description: Description, path: Path, layer: int, names: tuple[str, ...], context: int) -> None:
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
    whole = sum(1 for _ in islice(windows(description, path, context), 10))
    if whole < 10:
        raise InputError(f"{path}: fewer than ten windows of {context} tokens: none to hold out")


def _reader(seen: dict[str, torch.Tensor]) -> Watcher:
    def on(sublayer: Sublayer, x: torch.Tensor, u: torch.Tensor, F: torch.Tensor) -> None:
        seen["mlp" if sublayer.kind == "mlp" else "prediction"] = F
        if sublayer.kind != "mlp":
            seen["state"] = x

    return on


def pair(checkpoint: Checkpoint, layer: int) -> tuple[Any, Any]:
    """What mixes the tokens in a layer (attention, or a mixer of a traced network) and its MLP.

    Raises
    ------
    InputError
        The layer has no such pair, or what they add is scaled: a dictionary replaces what modules give.
    """
    here = [sublayer for sublayer in checkpoint.sublayers() if sublayer.layer == layer]
    mixing = next((sublayer for sublayer in here if sublayer.kind != "mlp"), None)
    mlp = next((sublayer for sublayer in here if sublayer.kind == "mlp"), None)
    if mixing is None or mlp is None:
        raise InputError(f"layer {layer} has no prediction and MLP: it has {' and '.join(s.kind for s in here)}")
    if not (mixing.coefficient.is_one and mlp.coefficient.is_one):
        raise InputError(f"layer {layer} scales what its sublayers add: read the state or the error of it")
    return mixing, mlp


class SignalSource:
    """Examples of the signals of one layer, block by block over a text that is read again when it ends.

    Of every ten windows the last is held out. One block is in memory at a time.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : path of a UTF-8 text
    layer : int
    signals : names among `SIGNALS`
    size : int
        Approximate number of examples per block, which is a whole number of windows.
    context : int
        Tokens per window.
    together : int
        Windows per call of the network.

    Raises
    ------
    InputError
        `windows` or `observe` refuses its arguments.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        path: str | os.PathLike[str],
        layer: int,
        signals: tuple[str, ...],
        *,
        size: int = 32_768,
        context: int = 128,
        together: int = 16,
    ) -> None:
        require_signals(checkpoint, signals)
        self.checkpoint, self.path, self.signals = checkpoint, Path(path), signals
        self.layer = checkpoint.layer_index(layer)
        self.context, self.together = context, together
        tokens = window_of(checkpoint).kept(context)
        self.each = len(range(*tokens.indices(context))) - 1  # examples per window
        if self.each < 1:
            raise InputError(f"a context of {context} tokens leaves no example")
        self.count = max(1, round(size / self.each))  # windows per block
        self._next, self._iterator = 0, self._training()

    def block(self, number: int) -> dict[str, torch.Tensor]:
        """The examples of block 0, 1, ..., each signal (m, d)."""
        ids = self.ids(number)
        parts = [
            observe(self.checkpoint, ids[i : i + self.together], self.layer, self.signals)
            for i in range(0, len(ids), self.together)
        ]
        return {name: torch.cat([part[name].flatten(0, 1) for part in parts]) for name in self.signals}

    def ids(self, number: int) -> np.ndarray:
        """Windows of a block, (windows, context); a block out of turn is read from the start of the text."""
        if number != self._next:
            self._iterator = self._training()
            for _ in range(number * self.count):
                next(self._iterator)
        self._next = number + 1
        return np.stack([next(self._iterator) for _ in range(self.count)])

    def tokens(self, ids: np.ndarray) -> np.ndarray:
        """Ids of the example tokens of windows (windows, context)."""
        return ids[:, window_of(self.checkpoint).kept(ids.shape[1])][:, 1:]

    def held_out(self, count: int) -> np.ndarray:
        """The first `count` held-out windows, or all of them if there are fewer, (windows, context).

        Raises
        ------
        InputError
            The text has fewer than ten windows.
        """
        held = []
        for i, ids in enumerate(windows(self.checkpoint, self.path, self.context)):
            if i % 10 == 9:
                held.append(ids)
            if len(held) == count:
                break
        if not held:
            raise InputError(f"{self.path}: fewer than ten windows of {self.context} tokens: none to hold out")
        return np.stack(held)

    def _training(self) -> Iterator[np.ndarray]:
        while True:
            for i, ids in enumerate(windows(self.checkpoint, self.path, self.context)):
                if i % 10 != 9:
                    yield ids
