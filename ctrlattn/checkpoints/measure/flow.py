"""x_{l+1} = f_l(x_l) for many windows at once: a text on its way through a network that is changed as it goes."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ctrlattn.checkpoints.network.families import Family, Sublayer
from ctrlattn.checkpoints.network.watch import arguments_of, attention

_TOKENS = 2048  # in one call of a layer


class _Enough(Exception):
    """Thrown by a hook that has what it came for."""


class Flow:
    """Streams of a text at one layer, and every other argument of the layers.

    Memory: one stream, (tokens, d), whatever the depth. The arguments depend on the shape of the input alone, since
    no window is padded.
    """

    def __init__(self, family: Family, model: Any, streams: list[torch.Tensor], calls: dict[int, list[dict[str, Any]]]):
        self.family, self.model, self.streams, self._calls = family, model, streams, calls

    @classmethod
    def start(cls, family: Family, model: Any, windows: torch.Tensor, layer: int) -> "Flow":
        """The text in front of a layer."""
        streams, calls = [], {}
        rows = max(1, _TOKENS // windows.shape[1])
        for some in windows.split(rows):
            first = len(some) not in calls
            found = _arguments(family, model, some, layer, every=first)
            if first:
                calls[len(some)] = found
            streams.append(found[layer]["hidden_states"])
        for found in calls.values():
            for one in found:
                one.pop("hidden_states", None)
        return cls(family, model, streams, calls)

    def after(self, layer: int) -> "Flow":
        """The text behind a layer, as that layer is now."""
        streams = [self._call(layer, x) for x in self.streams]
        return Flow(self.family, self.model, streams, self._calls)

    def signals(self, one: Sublayer) -> "list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]":
        """(u, F(u), x) of a sublayer of the layer in front of which the text is: what it reads, adds, and adds to."""
        return [self._signals(one, x) for x in self.streams]

    def _signals(self, one: Sublayer, stream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        seen: dict[str, torch.Tensor] = {}

        def read(module: Any, args: tuple[Any, ...], output: torch.Tensor) -> None:
            seen["x"], seen["u"] = args[0], output

        def add(module: Any, args: tuple[Any, ...], output: Any) -> None:
            seen["y"] = output[0] if isinstance(output, tuple) else output
            raise _Enough

        handles = [one.norm.register_forward_hook(read), one.out.register_forward_hook(add)]
        try:
            self._call(one.layer, stream)
        except _Enough:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return seen["u"], seen["y"], seen["x"]

    def matrices(self, one: Sublayer, module: Any, batches: int) -> Iterator[torch.Tensor]:
        """Attention (windows, heads, n, n) of the layer, for the first batches; above the diagonal it means nothing."""
        seen: dict[str, torch.Tensor] = {}

        def read(module: Any, args: tuple[Any, ...], output: Any) -> None:
            seen["a"] = output[1]
            raise _Enough

        for x in self.streams[:batches]:
            handle = module.register_forward_hook(read)
            try:
                self._call(one.layer, x, "eager")
            except _Enough:
                pass
            finally:
                handle.remove()
            yield seen.pop("a")

    def _call(self, layer: int, stream: torch.Tensor, how: str = "sdpa") -> torch.Tensor:
        with attention(self.model, how), torch.no_grad():
            out = self.family.layers_of(self.model)[layer](stream, **self._calls[len(stream)][layer])
        return out[0] if isinstance(out, tuple) else out


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
    found: list[dict[str, Any]] = [{} for _ in layers]
    stop = len(layers) - 1 if every else layer
    hooks = [layers[i].register_forward_pre_hook(_catch(found, i, stop), with_kwargs=True) for i in range(stop + 1)]
    try:
        with attention(model, "sdpa"), torch.no_grad():
            model.base_model(input_ids=windows, use_cache=False)
    except _Enough:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _catch(found: list[dict[str, Any]], i: int, stop: int) -> Callable[..., None]:
    def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found[i] = arguments_of(module, args, kwargs)
        if i == stop:
            raise _Enough

    return hook
