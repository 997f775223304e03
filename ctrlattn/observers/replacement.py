"""recovered = (loss(mean) - loss(x̂))/(loss(mean) - loss(x)): the loss with a signal replaced by its reconstruction.

It is 1 where nothing is lost, and 0 where x̂ is no better than the mean of the signal. `replaced` puts a function of
the signal, signal <- f(signal), into the running network.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from ctrlattn.checkpoints import Checkpoint, Sublayer, evaluate
from ctrlattn.checkpoints.measure.evaluate import standard_error
from ctrlattn.checkpoints.network.watch import hooked, stream_of, watch
from ctrlattn.observers.dictionary import Dictionary
from ctrlattn.observers.examples import require_signals, window_of
from ctrlattn.observers.source import pair
from ctrlattn.predictors import CausalMean

Function = Callable[[torch.Tensor], torch.Tensor]


class Recovered(NamedTuple):
    """Mean next-token losses in nats per token, and the share that the reconstruction recovers."""

    clean: float
    reconstructed: float
    mean: float  # loss with the mean of the signal in its place
    zero: float  # loss with 0 in its place
    share: float  # recovered share of the increase mean - clean
    share_of_zero: float  # recovered share of the increase zero - clean, which is often published
    standard_error: float  # standard error of reconstructed - clean over windows
    window_losses: dict[str, np.ndarray]  # clean, reconstructed, mean and zero of each window, (windows,)


@contextmanager
def replaced(checkpoint: Checkpoint, layer: int, signal: str, function: Function) -> Iterator[None]:
    """Apply `function` (windows, examples, d) to a signal of a layer in the network, within the `with` block.

    The examples are the tokens that an observer learns from; every other token keeps its signal. Where the signal is
    the error, its prediction is kept: state = prediction + function(error).

    Raises
    ------
    InputError
        `observe` refuses the layer or the signal.
    """
    require_signals(checkpoint, (signal,))
    index = checkpoint.layer_index(layer)
    window = window_of(checkpoint)
    block, (attention, mlp) = checkpoint.layers[index], pair(checkpoint, index)

    def put(x: torch.Tensor) -> torch.Tensor:
        tokens = window.kept(x.shape[1])
        return _with_rows(x, tokens, _new_values(signal, x[:, tokens], function))

    def before(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        x = put(stream_of(args, kwargs))
        return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": x})

    def on(sublayer: Sublayer, x: torch.Tensor, u: torch.Tensor, F: torch.Tensor) -> torch.Tensor | None:
        if sublayer is not part:
            return None
        return put(x + F) - x if signal == "mid" else put(F)

    if signal in ("state", "error"):
        with hooked([(block, before, True)]):
            yield
    else:
        part = mlp if signal == "mlp" else attention
        # Both are watched: where no module reads the stream in front of the MLP, it is x + F of the attention.
        with watch([attention, mlp], on):
            yield


def _new_values(signal: str, x: torch.Tensor, function: Function) -> torch.Tensor:
    """Return new values of the kept tokens. The first of them has no context and keeps its value."""
    context = CausalMean()(x) if signal == "error" else torch.zeros_like(x)
    new = context[:, 1:] + function((x - context)[:, 1:]).to(x)
    return torch.cat([x[:, :1], new], 1)


def _with_rows(x: torch.Tensor, rows: slice, new: torch.Tensor) -> torch.Tensor:
    return torch.cat([x[:, : rows.start], new, x[:, rows.stop :]], 1)


def recover(checkpoint: Checkpoint, dictionary: Dictionary, ids: np.ndarray, layer: int, signal: str) -> Recovered:
    """Return the loss of a network with a signal replaced by its reconstruction, and the share that this recovers.

    Parameters
    ----------
    checkpoint : Checkpoint
        A causal network with its head.
    dictionary : Dictionary
        A dictionary of that signal. One of another package knows no training mean: that of the windows stands for it.
    ids : (windows, n) token ids
        Windows that the dictionary was not trained on.
    layer : int
    signal : str

    Raises
    ------
    InputError
        `checkpoints.evaluate` or `observe` refuses its arguments.

    References
    ----------
    Bricken et al., Towards Monosemanticity, Transformer Circuits 2023, "loss recovered" (zero in the signal's place).
    Gao et al., arXiv 2406.04093, section 4.1 (downstream loss).
    """
    functions: dict[str, Function] = {
        "reconstructed": dictionary,
        "mean": lambda x: (dictionary.mean if dictionary.knows_mean else x.mean((0, 1))).expand_as(x),
        "zero": torch.zeros_like,
    }
    clean = evaluate(checkpoint, ids)
    losses = {name: _loss(checkpoint, ids, layer, signal, function) for name, function in functions.items()}
    mean = {name: float(values.mean()) for name, values in losses.items()}
    cost = losses["reconstructed"] - clean.window_losses
    return Recovered(
        clean=clean.loss,
        **mean,
        share=_share(mean["mean"], mean["reconstructed"], clean.loss),
        share_of_zero=_share(mean["zero"], mean["reconstructed"], clean.loss),
        standard_error=standard_error(cost),
        window_losses={"clean": clean.window_losses, **losses},
    )


def _share(floor: float, loss: float, clean: float) -> float:
    """Return (floor - loss)/(floor - clean), or nan where replacing the signal costs nothing."""
    return (floor - loss) / (floor - clean) if floor > clean else float("nan")


def _loss(checkpoint: Checkpoint, ids: np.ndarray, layer: int, signal: str, function: Function) -> np.ndarray:
    with replaced(checkpoint, layer, signal, function):
        return evaluate(checkpoint, ids).window_losses
