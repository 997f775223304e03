"""x_{l+1} = f_l(x_l) for many windows at once: the stream of a text, layer by layer while layers are changed."""

from collections.abc import Iterator
from typing import Any

import torch

from ctrlattn.checkpoints.network.families import Family, Sublayer
from ctrlattn.checkpoints.network.inputs import in_batches
from ctrlattn.checkpoints.network.watch import attention, first, hooked, watch, watch_calls


class Flow:
    """Streams of a text in front of one layer, with every other argument of the layers.

    One stream (tokens, d) is in memory, whatever the depth. The other arguments depend on the shape of the input alone,
    since no window is padded.
    """

    def __init__(self, family: Family, model: Any, streams: list[torch.Tensor], calls: dict[int, list[dict[str, Any]]]):
        self.family, self.model, self.streams, self._calls = family, model, streams, calls

    @classmethod
    def start(cls, family: Family, model: Any, windows: torch.Tensor, layer: int) -> "Flow":
        """The streams of the windows in front of a layer."""
        streams, calls = [], {}
        for part in in_batches(windows):
            unseen = len(part) not in calls
            arguments = _arguments(family, model, part, layer, every=unseen)
            if unseen:
                calls[len(part)] = arguments
            streams.append(arguments[layer]["hidden_states"])
        for arguments in calls.values():
            for call in arguments:
                call.pop("hidden_states", None)
        return cls(family, model, streams, calls)

    def after(self, layer: int) -> "Flow":
        """The streams behind a layer, which is applied as it is now."""
        streams = [self._call(layer, x) for x in self.streams]
        return Flow(self.family, self.model, streams, self._calls)

    def signals(self, sublayer: Sublayer) -> "list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]":
        """(u, F(u), x) of a sublayer of this layer: its input, its contribution, and the stream that it adds to."""
        return [self._signals(sublayer, x) for x in self.streams]

    def _signals(self, sublayer: Sublayer, stream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        triple: list[torch.Tensor] = []

        def on(_: Sublayer, x: torch.Tensor, u: torch.Tensor, F: torch.Tensor) -> None:
            triple.extend((u, F, x))

        with watch([sublayer], on, until=sublayer.out):
            self._call(sublayer.layer, stream)
        u, y, x = triple
        return u, y, x

    def matrices(self, sublayer: Sublayer, module: Any, batches: int) -> Iterator[torch.Tensor]:
        """Attention (windows, heads, n, n) of the layer for the first batches; values above the diagonal are void."""
        matrices: list[torch.Tensor] = []

        def read(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            matrices.append(output[1])

        for x in self.streams[:batches]:
            with hooked([(module, read, False)], until=module):
                self._call(sublayer.layer, x, "eager")
            yield matrices.pop()

    def _call(self, layer: int, stream: torch.Tensor, how: str = "sdpa") -> torch.Tensor:
        with attention(self.model, how), torch.no_grad():
            out = self.family.layers_of(self.model)[layer](stream, **self._calls[len(stream)][layer])
        return first(out)


def weights_of(x: torch.Tensor) -> torch.Tensor:
    """w_t = 1 / mean square of x_t over its features, (tokens, 1): errors count relative to the stream.

    >>> weights_of(torch.tensor([[2.0, 0.0], [0.0, 0.0]])).tolist()  # a padding token may have no stream at all
    [[0.5], [0.0]]
    """
    size = x.square().mean(-1, keepdim=True)
    return torch.where(size > 0, 1 / size, 0)


def _arguments(family: Family, model: Any, windows: torch.Tensor, layer: int, *, every: bool) -> list[dict[str, Any]]:
    """Arguments of the layers in a pass of these windows, by name; only up to `layer` unless every one is wanted."""
    layers = family.layers_of(model)
    stop = len(layers) - 1 if every else layer
    with watch_calls(layers, range(stop + 1), until=stop) as calls, attention(model, "sdpa"), torch.no_grad():
        model.base_model(input_ids=windows, use_cache=False)
    return [calls.get(i, {}) for i in range(len(layers))]
