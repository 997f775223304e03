"""x -> x + F(u), u = norm(x): hooks that show the input u and the contribution F of each sublayer during a pass.

`watch` reads the triple (x, u, F) of sublayers, `watch_calls` the arguments of layers. Both are made of forward hooks
that are gone again afterwards, and both can end a pass as soon as it has nothing more to show.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ctrlattn.checkpoints.network.families import Sublayer
from ctrlattn.checkpoints.trace.eager import attention as attention
from ctrlattn.errors import InputError

# A live cache would be appended to by a second call: the value stays right and the Jacobian is silently wrong.
# transformers calls it past_key_values, and cache from 5.24 on.
_NO_CACHE = {"use_cache": False, **dict.fromkeys(("cache", "past_key_values", "past_key_value", "layer_past"))}

# (module, hook, whether it runs before the module)
Hook = tuple[Any, Callable[..., Any], bool]
# (sublayer, x, u, F) -> None, or what goes on in the place of F
Watcher = Callable[[Sublayer, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor | None]


class _Enough(Exception):
    """A pass has shown what was asked for, and ends here."""


@contextmanager
def hooked(places: Iterable[Hook], *, until: Any = None, before: bool = False) -> Iterator[None]:
    """Put hooks on modules, call them with keyword arguments, and remove them whatever happens.

    Parameters
    ----------
    places : iterable of (module, hook, whether it runs before the module)
    until : module, optional
        The block ends as soon as this module has run: the rest of the pass is not computed.
    before : bool
        The block ends in front of that module instead.

    Examples
    --------
    >>> import torch
    >>> shapes = []
    >>> linear = torch.nn.Linear(1, 1)
    >>> with hooked([(linear, lambda module, args, kwargs, output: shapes.append(tuple(output.shape)), False)]):
    ...     _ = linear(torch.ones(2, 1))
    >>> shapes, len(linear._forward_hooks)
    ([(2, 1)], 0)
    """
    enough = _Enough()

    def stop(*_: Any) -> None:
        raise enough

    handles = []
    try:
        # The last hook on a module runs last: whoever reads it has read it by then.
        for module, hook, first_of_all in [*places, *([] if until is None else [(until, stop, before)])]:
            register = module.register_forward_pre_hook if first_of_all else module.register_forward_hook
            handles.append(register(hook, with_kwargs=True))
        yield
    except _Enough as reason:
        if reason is not enough:  # of a block around this one
            raise
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def up_to_head(model: Any, ready: Callable[[], bool]) -> Iterator[None]:
    """End the pass inside the block in front of the vocabulary's scores, once ready() says that all is recorded.

    They take a fifth of a pass of a small network, and nobody reads them here.
    """
    enough = _Enough()

    def stop(*_: Any) -> None:
        if ready():
            raise enough

    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    handle = None if head is None else head.register_forward_pre_hook(stop)
    try:
        yield
    except _Enough as reason:
        if reason is not enough:  # of a block around this one
            raise
    finally:
        if handle is not None:
            handle.remove()


@contextmanager
def watch(
    sublayers: Iterable[Sublayer], on: Watcher, *, until: Any = None, more: Iterable[Hook] = ()
) -> Iterator[None]:
    """Call `on(sublayer, x, u, F)` for every sublayer that the network runs inside the block.

    Parameters
    ----------
    sublayers : iterable of Sublayer
        As `Checkpoint.sublayers` gives them.
    on : callable (sublayer, x, u, F) -> None or a tensor
        x is the stream that the sublayer adds to, u what the sublayer reads (the normed stream; x itself in a post-norm
        network), F what it adds; each (windows, n, d). A tensor that `on` returns goes on in the place of F.
    until : module, optional
        As for `hooked`: a sublayer's `out`, or a layer.
    more : hooks
        They are there for the same time.

    Examples
    --------
    >>> import torch, transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> network = checkpoints.load(transformers.GPT2Model(config))
    >>> names = []
    >>> with watch(network.sublayers(), lambda s, x, u, F: names.append(s.kind)), torch.no_grad():
    ...     _ = network.model(torch.tensor([[1, 2, 3]]))
    >>> names
    ['attention', 'mlp', 'attention', 'mlp']
    """
    members = tuple(sublayers)
    sums = {s.layer: _Sum() for s in members if s.stream is None}
    hooks = [hook for sublayer in members for hook in _triple(sublayer, on, sums.get(sublayer.layer))]
    with hooked([*hooks, *more], until=until):
        yield


class _Sum:
    """The stream inside a layer, added up from what its sublayers have given so far: no module reads some streams."""

    def __init__(self) -> None:
        self.parts: list[tuple[Sublayer, torch.Tensor, torch.Tensor]] = []

    def in_front_of(self, sublayer: Sublayer) -> torch.Tensor:
        before = [part for part in self.parts if part[0].step == sublayer.step - 1]
        if not before:
            raise InputError(
                f"no module reads the stream in front of the {sublayer.kind} of layer {sublayer.layer}, and it is no "
                "sum of what the sublayers watched before it have given"
            )
        predecessor, x, F = before[0]
        return predecessor.onto(x, sum((F for _, _, F in before[1:]), F))

    def add(self, sublayer: Sublayer, x: torch.Tensor, F: torch.Tensor) -> None:
        if any(member is sublayer for member, _, _ in self.parts):  # the layer is called again
            self.parts = []
        self.parts.append((sublayer, x, F))


def _triple(sublayer: Sublayer, on: Watcher, whole: _Sum | None) -> list[Hook]:
    signals: dict[str, torch.Tensor] = {}

    def stream(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        signals["x"] = signals["u"] = stream_of(args, kwargs)

    def read(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        signals["u"] = stream_of(args, kwargs)

    def normed(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: torch.Tensor) -> None:
        if signals:  # the norm of a post-norm sublayer runs after the sublayer has been handed on
            signals["u"] = output

    def close(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        contribution = first(output)
        if whole is None and not {"x", "u"} <= signals.keys():
            raise InputError(
                f"the {sublayer.kind} of layer {sublayer.layer} gives its contribution before the norm that its row "
                "names has run: the row does not fit this network"
            )
        x = signals.pop("x") if whole is None or "x" in signals else whole.in_front_of(sublayer)
        F, u = _as_stream(contribution, x), _as_stream(signals.pop("u"), x)
        new = on(sublayer, x, u, F)
        if whole is not None:
            whole.add(sublayer, x, F if new is None else new)
        if new is None:
            return None
        new = new.reshape(contribution.shape)
        return with_first(output, new)

    end: Hook = (sublayer.out, close, False)
    if sublayer.width is None:  # a row of the table says where its norm is
        return [(sublayer.stream, stream, True), (sublayer.norm, normed, False), end]
    # The order matters where the sublayer itself reads the stream.
    return [*([] if sublayer.stream is None else [(sublayer.stream, stream, True)]), (sublayer.module, read, True), end]


def _as_stream(signal: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return a signal in the shape of the stream; some MLPs get the tokens of all windows in one row."""
    in_a_row = signal.shape != x.shape and signal.shape == (x.shape[:-1].numel(), x.shape[-1])
    return signal.reshape(x.shape) if in_a_row else signal


@contextmanager
def watch_calls(
    layers: list[Any], numbers: Iterable[int], *, until: int | None = None
) -> Iterator[dict[int, dict[str, Any]]]:
    """Record the arguments that layers are called with inside the block, by layer number; the stream comes first.

    Parameters
    ----------
    layers : list of modules
        All layers of the network.
    numbers : iterable of int
        The layers to read.
    until : int, optional
        The block ends in front of this layer, once its arguments have been read.

    Examples
    --------
    >>> import torch, transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> network = checkpoints.load(transformers.GPT2Model(config))
    >>> with watch_calls(network.layers, [1], until=1) as calls, torch.no_grad():
    ...     _ = network.model(torch.tensor([[1, 2, 3]]))
    >>> next(iter(calls[1].values())).shape
    torch.Size([1, 3, 8])
    """
    calls: dict[int, dict[str, Any]] = {}

    def reader(i: int) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls[i] = arguments_of(module, args, kwargs)

        return hook

    hooks = [(layers[i], reader(i), True) for i in numbers]
    with hooked(hooks, until=None if until is None else layers[until], before=True):
        yield calls


def stream_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the stream among the arguments of a module: Llama passes it by name, BERT by position.

    >>> stream_of((), {"mask": None, "x": torch.ones(1)})
    tensor([1.])
    """
    if args or "hidden_states" in kwargs:
        return args[0] if args else kwargs["hidden_states"]
    return next(x for x in kwargs.values() if isinstance(x, torch.Tensor) and x.is_floating_point())


def first(output: Any) -> Any:
    """Return what a module gives, without the attention matrix or whatever else comes with it."""
    return output[0] if isinstance(output, tuple | list) else output


def with_first(output: Any, y: Any) -> Any:
    """Return what a module gave, with another tensor in the place of the first.

    >>> with_first([1, 2], 3), with_first((1, 2), 3), with_first(1, 3)
    ([3, 2], (3, 2), 3)
    """
    if isinstance(output, list):
        return [y, *output[1:]]
    return (y, *output[1:]) if isinstance(output, tuple) else y


def arguments_of(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return what a module was called with, by name and without the cache, so that it can be called again.

    Families pass the stream, the cache and the mask in different places.

    >>> import torch
    >>> class Layer(torch.nn.Module):
    ...     def forward(self, hidden_states, cache=None, **kwargs): ...
    >>> arguments_of(Layer(), (1, [2]), {"position": 3})
    {'hidden_states': 1, 'cache': None, 'position': 3}
    """
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    arguments = dict(bound.arguments)
    for parameter in bound.signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments |= arguments.pop(parameter.name, {})
    return {name: _NO_CACHE.get(name, value) for name, value in arguments.items()}
