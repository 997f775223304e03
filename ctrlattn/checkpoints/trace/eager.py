"""softmax(q k) seen or fused: which implementation of attention a network runs for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def supported(network: Any, kind: str) -> str:
    """Return the implementation that is asked for, or "eager" where a network has no other, as gpt_oss.

    >>> supported(type("Eager", (), {"_supports_sdpa": False}), "sdpa")
    'eager'
    """
    return kind if getattr(network, "_supports_sdpa", True) else "eager"


@contextmanager
def attention(model: Any, kind: str) -> Iterator[None]:
    """Use one attention implementation inside the block: "eager" has its matrices, "sdpa" is fast."""
    before = getattr(getattr(model, "config", None), "_attn_implementation", kind)
    if before == kind or (kind == "sdpa" and supported(model, kind) != kind):
        yield
        return
    model.set_attn_implementation(kind)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
