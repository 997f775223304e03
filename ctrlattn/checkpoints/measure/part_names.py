"""The names of the parts of a feedback profile, known before what measures them is imported."""

from collections.abc import Sequence

from ctrlattn.errors import InputError, require_known

PART_NAMES = (
    "feedback", "heads", "value_output", "attention", "diversity", "sinks", "gain", "nonnormality", "exponents",
)  # fmt: skip


def require_parts(parts: Sequence[str] | None) -> None:
    """Raise InputError where a part does not exist, or where none is asked for; None asks for all.

    >>> require_parts(["gian"])
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: unknown part 'gian': did you mean 'gain'?
    """
    if parts is None:
        return
    if isinstance(parts, str):
        raise InputError(f"parts is a list of names, got the text {parts!r}: write [{parts!r}]")
    for name in parts:
        require_known("part", name, PART_NAMES)
    if not parts:
        raise InputError(f"no part is asked for: parts are {', '.join(PART_NAMES)}")
