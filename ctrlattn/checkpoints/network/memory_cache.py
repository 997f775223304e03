"""The state of a gain with memory as an entry of the KV cache; its size does not depend on the length of the text."""

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

from ctrlattn.errors import InputError


class Past(DynamicLayer):
    """A place in a transformers cache that holds one state instead of keys; it is replaced, not appended to.

    `keys` is that state, so that whatever the cache does with its rows (beams, batches, devices) is done with it too.
    """

    is_croppable = False

    def __init__(self) -> None:
        super().__init__()
        self.tokens = 0

    @property
    def state(self) -> torch.Tensor | None:
        return self.keys if self.tokens else None

    def keep(self, state: torch.Tensor, tokens: int) -> None:
        """Store the state behind so many further tokens."""
        if not self.is_initialized:
            self.lazy_initialization(state, state)
        self.keys, self.values = state, state[:, :0]
        self.tokens += tokens

    def get_seq_length(self) -> int:
        return self.tokens

    def reset(self) -> None:
        super().reset()
        self.tokens = 0

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove:
            raise InputError("a gain with memory cannot take tokens back: generate without an assistant")


def past_in(cache: Any, place: int | None) -> Past:
    """Return the place of one gain in a dynamic cache, made where it is not there yet.

    Raises
    ------
    InputError
        A cache of fixed size, which has no place for a state.
    """
    if place is None:
        raise InputError("a gain with memory has no place in the cache: it was not put there by drop or load")
    while len(cache.layers) <= place:
        cache.layers.append(DynamicLayer())
    layer = cache.layers[place]
    if isinstance(layer, Past):
        return layer
    if not isinstance(layer, DynamicLayer) or layer.get_seq_length():
        raise InputError(f"a gain with memory needs a dynamic cache, got a place of type {type(layer).__name__}")
    cache.layers[place] = past = Past()
    return past
