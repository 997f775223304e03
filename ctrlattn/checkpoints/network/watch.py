"""Forward hooks that are gone again afterwards, what a module was called with, the attention kernel of a pass."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

# A live cache would be appended to by a second call: the value stays right and the Jacobian is silently wrong.
# transformers calls it past_key_values, and cache from 5.24 on.
_NO_CACHE = {"use_cache": False, **dict.fromkeys(("cache", "past_key_values", "past_key_value", "layer_past"))}

# (module, hook, whether it runs before the module)
Hook = tuple[Any, Callable[..., None], bool]


@contextmanager
def hooked(places: Iterable[Hook]) -> Iterator[None]:
    """Hooks on modules, called with keyword arguments, removed whatever happens.

    >>> import torch
    >>> seen = []
    >>> one = torch.nn.Linear(1, 1)
    >>> with hooked([(one, lambda module, args, kwargs, output: seen.append(tuple(output.shape)), False)]):
    ...     _ = one(torch.ones(2, 1))
    >>> seen, len(one._forward_hooks)
    ([(2, 1)], 0)
    """
    handles = []
    try:
        for module, hook, before in places:
            register = module.register_forward_pre_hook if before else module.register_forward_hook
            handles.append(register(hook, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def stream_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The stream among the arguments of a module: Llama passes it by name, BERT by position."""
    return args[0] if args else kwargs["hidden_states"]


def first(output: Any) -> Any:
    """What a module returns, without the attention matrix or whatever else comes with it."""
    return output[0] if isinstance(output, tuple) else output


def arguments_of(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a module was called with, by name, so that it can be called again: without the cache.

    Families pass the stream, the cache and the mask in different places.

    >>> import torch
    >>> class Layer(torch.nn.Module):
    ...     def forward(self, hidden_states, cache=None, **kwargs): ...
    >>> arguments_of(Layer(), (1, [2]), {"position": 3})
    {'hidden_states': 1, 'cache': None, 'position': 3}
    """
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    named = dict(bound.arguments)
    for parameter in bound.signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            named |= named.pop(parameter.name, {})
    return {name: _NO_CACHE.get(name, value) for name, value in named.items()}


@contextmanager
def attention(model: Any, kind: str) -> Iterator[None]:
    """The attention implementation of a model for the time of a pass: "eager" has its matrices, "sdpa" is fast."""
    before = model.config._attn_implementation
    if before == kind or (kind == "sdpa" and not model._supports_sdpa):
        yield
        return
    model.set_attn_implementation(kind)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
