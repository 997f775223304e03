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
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctrlattn.checkpoints import Checkpoint, Sublayer
from ctrlattn.checkpoints.network.inputs import inputs_of
from ctrlattn.checkpoints.network.watch import Watcher, watch, watch_calls
from ctrlattn.errors import InputError
from ctrlattn.observers.examples import SIGNALS, require_signals, window_of, windows
from ctrlattn.predictors import CausalMean


def observe(checkpoint: Checkpoint, ids: Any, layer: int, wanted: tuple[str, ...] = SIGNALS) -> dict[str, torch.Tensor]:
    """Return the signals of a layer on several windows, (windows, examples, d) each; the network stops after the layer.

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
    signals: dict[str, torch.Tensor] = {}
    inputs = inputs_of(checkpoint, ids, batch=True)
    if set(wanted) <= {"state", "error"}:
        with torch.no_grad(), watch_calls(checkpoint.layers, [index], until=index) as calls:
            checkpoint.model(**inputs)
        signals["state"] = next(iter(calls[index].values()))
    else:
        with torch.no_grad(), watch(pair(checkpoint, index), _reader(signals), until=checkpoint.layers[index]):
            checkpoint.model(**inputs)
    tokens = window_of(checkpoint).kept(np.shape(ids)[1])
    signals = {name: value[:, tokens] for name, value in signals.items()}
    return {name: _signal(name, signals)[:, 1:] for name in wanted}


def _signal(name: str, signals: dict[str, torch.Tensor]) -> torch.Tensor:
    if name == "error":
        return signals["state"] - CausalMean()(signals["state"])
    return signals["state"] + signals["prediction"] if name == "mid" else signals[name]


def _reader(signals: dict[str, torch.Tensor]) -> Watcher:
    def on(sublayer: Sublayer, x: torch.Tensor, u: torch.Tensor, F: torch.Tensor) -> None:
        signals["mlp" if sublayer.kind == "mlp" else "prediction"] = F
        if sublayer.kind != "mlp":
            signals["state"] = x

    return on


def pair(checkpoint: Checkpoint, layer: int) -> tuple[Any, Any]:
    """Return the module that mixes the tokens of a layer (attention, or a mixer of a traced network) and its MLP.

    Raises
    ------
    InputError
        The layer has no such pair, or what they add is scaled: a dictionary replaces what modules give.
    """
    sublayers = [sublayer for sublayer in checkpoint.sublayers() if sublayer.layer == layer]
    mixing = next((sublayer for sublayer in sublayers if sublayer.kind != "mlp"), None)
    mlp = next((sublayer for sublayer in sublayers if sublayer.kind == "mlp"), None)
    if mixing is None or mlp is None:
        raise InputError(f"layer {layer} has no prediction and MLP: it has {' and '.join(s.kind for s in sublayers)}")
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
        """Return the examples of block 0, 1, ..., each signal (m, d)."""
        ids = self.ids(number)
        parts = [
            observe(self.checkpoint, ids[i : i + self.together], self.layer, self.signals)
            for i in range(0, len(ids), self.together)
        ]
        return {name: torch.cat([part[name].flatten(0, 1) for part in parts]) for name in self.signals}

    def ids(self, number: int) -> np.ndarray:
        """Return the windows of a block, (windows, context); a block out of turn is read from the start of the text."""
        if number != self._next:
            self._iterator = self._training()
            for _ in range(number * self.count):
                next(self._iterator)
        self._next = number + 1
        return np.stack([next(self._iterator) for _ in range(self.count)])

    def tokens(self, ids: np.ndarray) -> np.ndarray:
        """Return the ids of the example tokens of windows (windows, context)."""
        return ids[:, window_of(self.checkpoint).kept(ids.shape[1])][:, 1:]

    def held_out(self, count: int) -> np.ndarray:
        """Return the first `count` held-out windows, or all of them if there are fewer, (windows, context).

        Raises
        ------
        InputError
            The text has fewer than ten windows.
        """
        windows_of_text = []
        for i, ids in enumerate(windows(self.checkpoint, self.path, self.context)):
            if i % 10 == 9:
                windows_of_text.append(ids)
            if len(windows_of_text) == count:
                break
        if not windows_of_text:
            raise InputError(f"{self.path}: fewer than ten windows of {self.context} tokens: none to hold out")
        return np.stack(windows_of_text)

    def _training(self) -> Iterator[np.ndarray]:
        while True:
            for i, ids in enumerate(windows(self.checkpoint, self.path, self.context)):
                if i % 10 != 9:
                    yield ids


Stream = SignalSource  # this is its earlier name; elsewhere "stream" means the residual stream
