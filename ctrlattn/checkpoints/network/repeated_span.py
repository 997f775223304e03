"""(a, b), passes, C(z), recall: what is asked of a repeated span, judged before the network is read."""

from typing import Any

from ctrlattn.errors import InputError, InputTypeError, require_whole
from ctrlattn.passes import Passes


def require_loop(layers: Any, passes: Any, controller: Any, recall: Any, count: int) -> tuple[tuple[int, int], Passes]:
    """Return the span and the loop of arguments for `repeat`, checked for `count` layers before any is read.

    Raises
    ------
    InputError
        As for `repeat`.

    Examples
    --------
    >>> require_loop((1, 3), 2, None, 0.0, count=4)[0]
    (1, 3)
    """
    span = require_span(layers, count)
    require_whole("passes", passes)
    return span, Passes(controller, recall=recall)


def require_span(layers: Any, count: int) -> tuple[int, int]:
    """Return (a, b), the span of the layers a ... b - 1, checked for a network of `count` layers.

    Raises
    ------
    InputTypeError
        Not two whole numbers.
    InputError
        A span that is empty or out of range.

    Examples
    --------
    >>> require_span((1, 3), 4)
    (1, 3)
    """
    expected = f"layers must be (a, b), the span a ... b - 1, with 0 <= a < b <= {count}"
    try:
        a, b = layers
    except (TypeError, ValueError):
        raise InputTypeError(f"{expected}, got {layers!r}") from None
    a, b = (require_whole(f"layers[{i}]", end, least=-count) for i, end in enumerate((a, b)))
    if a == b:
        raise InputError(f"the span is empty: {expected}, got {(a, b)}")
    if not 0 <= a < b <= count:
        raise InputError(f"{expected}, got {(a, b)}")
    return a, b
