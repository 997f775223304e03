"""softmax(q k) seen or fused: which implementation of attention a network runs for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def attention(model: Any, kind: str) -> Iterator[None]:
    """Use one attention implementation inside the block: "eager" has its matrices, "sdpa" is fast."""
    before = getattr(getattr(model, "config", None), "_attn_implementation", kind)
    if before == kind or (kind == "sdpa" and not model._supports_sdpa):
        yield
        return
    model.set_attn_implementation(kind)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
