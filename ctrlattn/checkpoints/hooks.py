"""Forward hooks that are gone again afterwards, and the attention kernel for the time of a pass."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

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
