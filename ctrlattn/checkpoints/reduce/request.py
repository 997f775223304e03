"""number of sublayers, or their layers -> {part: how many}: what is asked of a reduction, judged before the work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctrlattn.checkpoints.network.describe import Description
from ctrlattn.checkpoints.network.families import layer_index
from ctrlattn.errors import InputError, did_you_mean

PARTS = ("attention", "mixer", "mlp", "blocks")
_CHOICES = ("loss", "importance", "worst")
WHOLE, FITTED = 5, 4  # least number of windows of a text that is fitted to and judged by, or fitted to alone


@dataclass(frozen=True)
class Request:
    """What is to be dropped and by which rule; the arguments are those of `reduce`."""

    count: Mapping[str, int] | None = None
    layers: Mapping[str, tuple[int, ...]] | None = None
    by: str = "loss"
    compensate: bool = True
    memory: bool = False

    def wanted(self, of: int) -> dict[str, int]:
        """Return {part: number of sublayers to drop} of a network of so many layers.

        Raises
        ------
        InputError
            Nothing or too much is to be dropped, a part or layer does not exist, a choice by loss does not apply, or a
            memory is asked for without gains.

        Examples
        --------
        >>> Request({"attention": 2}).wanted(of=3)
        {'attention': 2}
        >>> Request({"attention": 99}).wanted(of=3)
        Traceback (most recent call last):
        ...
        ctrlattn.InputError: there are 3 layers: 99 of attention cannot be dropped
        """
        numbers = self._numbers()
        if self.by not in _CHOICES:
            raise InputError(
                f"by must be 'loss', 'importance' or 'worst', got {self.by!r}: {did_you_mean(self.by, _CHOICES)}"
            )
        if (
            self.layers is None
            and self.by == "loss"
            and (len(numbers) > 1 or "blocks" in numbers or not self.compensate)
        ):
            raise InputError(
                "a choice by loss is for attention, mixers or MLPs alone, with gains in their place: choose by "
                "importance"
            )
        if self.memory and not self.compensate:
            raise InputError("a memory needs gains: leave it out where sublayers are dropped bare")
        for part, number in numbers.items():
            require_layers_left(part, number, of)
        for layer in sorted({layer for some in (self.layers or {}).values() for layer in some}):
            layer_index(layer, of)
        return numbers

    def _numbers(self) -> dict[str, int]:
        if (self.count is None) == (self.layers is None):
            raise InputError("say either how many sublayers (count) or which ones (layers)")
        request: Mapping[str, Any] = (
            self.count if self.count is not None else {k: len(set(v)) for k, v in (self.layers or {}).items()}
        )
        unknown = sorted(set(request) - set(PARTS))
        if unknown:
            raise InputError(f"unknown part {unknown[0]!r}: parts are {', '.join(PARTS)}")
        numbers = {part: int(number) for part, number in request.items() if number}
        if not numbers or min(numbers.values()) < 0:
            raise InputError("nothing to drop: give a number of at least 1 for attention, mixer, mlp or blocks")
        return numbers


def require_layers_left(part: str, number: int, layers: int) -> None:
    """Raise InputError where a network has fewer layers, or where no attention would be left."""
    if number > layers:
        raise InputError(f"there are {layers} layers: {number} of {part} cannot be dropped")
    if number == layers and part not in ("mlp", "mixer"):
        raise InputError(
            f"all {layers} attention layers would be gone: no token would read another, and no cache would count them; "
            "keep at least one"
        )


def require_windows(tokens: int, window: int, least: int) -> int:
    """Return the number of whole windows in so many tokens, if it is large enough.

    >>> require_windows(17, 4, least=3)
    4
    """
    if window < 2:
        raise InputError(f"a window needs at least two tokens, got {window}")
    windows = tokens // window
    if windows < least:
        raise InputError(
            f"the text has {tokens} tokens, {windows} windows of {window}: at least {least} are needed; give a "
            "longer text or a shorter window"
        )
    return windows


def require_texts(lengths: Sequence[int | None], window: int) -> None:
    """Raise InputError where a text, or one to judge by (None without), has too few tokens for `split_text`."""
    length, judging = lengths
    require_windows(length or 0, window, WHOLE if judging is None else FITTED)
    if judging is not None:
        require_windows(judging, window, 1)


def require_possible(request: Request, description: Description) -> None:
    """Raise InputError for whatever `reduce` would refuse of this network, before its weights are read."""
    numbers = request.wanted(of=description.layers)
    if "mixer" in numbers and description.family is not None:
        raise InputError(f"{description.source}: layers of family {description.family.name!r} have no mixer")
    description.require_next_token()
    description.require_text()
