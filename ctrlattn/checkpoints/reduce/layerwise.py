"""x_{l+1} = f_l(x_l) for many windows at once: the stream of a text, layer by layer while layers are changed."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import torch
from torch.utils._pytree import tree_leaves

from ctrlattn.checkpoints.network.families import Sublayer, sublayers
from ctrlattn.checkpoints.network.inputs import Windows, in_batches
from ctrlattn.checkpoints.network.watch import Hook, attention, first, hooked, stream_of, watch, watch_calls
from ctrlattn.checkpoints.reduce.streams import Streams
from ctrlattn.errors import InputError

_Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
_HELD = 2  # parts whose signals are held once they were asked for: a fit asks for the first ones several times


class Flow:
    """Streams of a text in front of one layer, with every other argument of the layers.

    One stream (tokens, d) is there, whatever the depth, and only the beginning of a long text is in memory (`Streams`).
    No window is padded, so that in most networks the other arguments depend on the shape of the input alone. Where they
    depend on the text as well (embeddings of each layer, keys that layers share) each part of the text has its own.
    """

    def __init__(self, family: Any, model: Any, streams: Streams, calls: list[list[dict[str, Any]]]):
        self.family, self.model, self.streams, self._calls = family, model, streams, calls

    @classmethod
    def start(cls, family: Any, model: Any, windows: Windows, layer: int) -> "Flow":
        """Return the streams of the windows in front of a layer."""
        streams = Streams()
        calls: list[list[dict[str, Any]]] = []
        by_shape: dict[tuple[int, ...], list[dict[str, Any]]] = {}
        by_text = compared = False
        for part in in_batches(windows):
            entry = by_shape.get(tuple(part.shape))
            # The second part of one shape tells whether the arguments depend on the text.
            every = entry is None or by_text or not compared
            compared = compared or entry is not None
            arguments = _arguments(family, model, part, layer, every=every)
            streams.append(next(iter(arguments[layer].values())))
            if every:
                for call in arguments:
                    if call:
                        call.pop(next(iter(call)))
            by_text = by_text or (entry is not None and every and not _same(entry, arguments))
            by_shape.setdefault(tuple(part.shape), arguments)
            calls.append(arguments if by_text or entry is None else entry)
        return cls(family, model, streams, calls)

    def after(self, layer: int) -> "Flow":
        """Return the streams behind a layer, which is applied as it is now; they replace those in front of it."""
        for i in range(len(self.streams)):
            self.streams.replace(i, self._call(layer, i))
        return Flow(self.family, self.model, self.streams, self._calls)

    def signals(self, sublayer: Sublayer) -> "Sequence[_Triple]":
        """Return (u, F(u), x) of a sublayer of this layer: its input, its contribution, and the stream that it adds to.

        They are computed part by part when they are asked for, by the network as it is then.
        """
        return _PartSignals(lambda part: self._signals(sublayer, part), len(self.streams))

    def _signals(self, sublayer: Sublayer, part: int) -> _Triple:
        triple: list[torch.Tensor] = []

        def on(member: Sublayer, x: torch.Tensor, u: torch.Tensor, F: torch.Tensor) -> None:
            if member.path == sublayer.path:
                triple.extend((u, F, x))

        # Where no module reads the stream, it is the sum of what the sublayers before have given.
        before = [] if sublayer.stream is not None else sublayers(self.family, self.model)
        earlier = [member for member in before if member.layer == sublayer.layer and member.step < sublayer.step]
        inputs: list[torch.Tensor] = []
        reader: Hook = (sublayer.module, lambda module, args, kwargs: inputs.append(stream_of(args, kwargs)), True)
        with watch([*earlier, sublayer], on, until=sublayer.out, more=[reader]):
            self._call(sublayer.layer, part)
        u, y, x = triple
        if sublayer.width is None and not (inputs[0].shape == u.shape and torch.equal(inputs[0], u)):
            raise InputError(
                f"the family's row replaces {sublayer.path} of layer {sublayer.layer}, which does not read what the "
                f"{sublayer.kind} reads: no gain can stand there; name the module that does, and the one whose output "
                "is added as `out`"
            )
        return u, y, x

    def matrices(self, sublayer: Sublayer, module: Any, batches: int) -> Iterator[torch.Tensor]:
        """Yield attention (windows, heads, n, n) of the first batches in this layer; above the diagonal it is void."""
        matrices: list[torch.Tensor] = []

        def read(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            matrices.append(output[1])

        for part in range(min(batches, len(self.streams))):
            with hooked([(module, read, False)], until=module):
                self._call(sublayer.layer, part, "eager")
            yield matrices.pop()

    def _call(self, layer: int, part: int, how: str = "sdpa") -> torch.Tensor:
        with attention(self.model, how), torch.no_grad():
            output = self.family.layers_of(self.model)[layer](self.streams[part], **self._calls[part][layer])
        return first(output)


class _PartSignals(Sequence[_Triple]):
    """Signals of each part of a text, of which the first few are held and the others are computed each time."""

    def __init__(self, of: Callable[[int], _Triple], count: int) -> None:
        self._of, self._count, self._held = of, count, dict[int, _Triple]()

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, i: int) -> _Triple: ...
    @overload
    def __getitem__(self, i: slice) -> list[_Triple]: ...
    def __getitem__(self, i: int | slice) -> _Triple | list[_Triple]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(self._count))]
        if not 0 <= i < self._count:
            raise IndexError(i)
        if i in self._held:
            return self._held[i]
        triple = self._of(i)
        if i < _HELD:
            self._held[i] = triple
        return triple


def _same(calls: list[dict[str, Any]], others: list[dict[str, Any]]) -> bool:
    """Tell whether all tensors among the arguments of two passes are equal."""
    pairs = zip(tree_leaves(calls), tree_leaves(others), strict=False)
    return all(a is b or not isinstance(a, torch.Tensor) or torch.equal(a, b) for a, b in pairs)


def weights_of(x: torch.Tensor) -> torch.Tensor:
    """Return w_t = 1 / mean square of x_t over its features, (tokens, 1): errors count relative to the stream.

    >>> weights_of(torch.tensor([[2.0, 0.0], [0.0, 0.0]])).tolist()  # a padding token may have no stream at all
    [[0.5], [0.0]]
    """
    size = x.square().mean(-1, keepdim=True)
    return torch.where(size > 0, 1 / size, 0)


def _arguments(family: Any, model: Any, windows: torch.Tensor, layer: int, *, every: bool) -> list[dict[str, Any]]:
    """Return the layers' arguments by name in a pass of these windows; only up to `layer` unless each one is wanted."""
    layers = family.layers_of(model)
    stop = len(layers) - 1 if every else layer
    with watch_calls(layers, range(stop + 1), until=stop) as calls, attention(model, "sdpa"), torch.no_grad():
        name = "pixel_values" if windows.is_floating_point() else "input_ids"
        model.base_model(**{name: windows}, **({"use_cache": False} if family.causal else {}))
    return [calls.get(i, {}) for i in range(len(layers))]
