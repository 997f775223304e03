"""Whatever another library raises on the files of a network, as one line: what it is, and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ctrlattn.errors import InputError

_LONGEST = 400  # characters of a message


@contextmanager
def foreign(source: Any) -> Iterator[None]:
    """Whatever transformers raises inside the block is a fault of the files: one line for all.

    A damaged file raises what its bytes lead to (struct.error, ZeroDivisionError ...). Code of ours stays outside, so
    that a bug does not look like bad input; `open_changed` is the exception, since it builds a network as transformers
    does.
    """
    try:
        yield
    except (MemoryError, InputError):
        raise
    except Exception as error:
        raise InputError(f"{source}: cannot load this checkpoint: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "custom code" in text:
        return "it needs code of its own, which is never executed"
    if "weights_only" in text:
        return "its pickled weights hold more than tensors, and are never unpickled"
    if "couldn't connect" in text:
        return (
            "there is no such directory, and no network of this name (or not all of it) in the local cache of the hub; "
            "allow_download=True, --allow-download on the command line, fetches it"
        )
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
    if isinstance(error, ImportError):
        return f"it needs a package that is not installed: {text}"
    # A GGUF file that ends early gives numpy too few bytes for the shape of a tensor.
    if isinstance(error, OSError | ValueError) and "reshape" not in text:
        return text
    return f"a damaged or incomplete file ({type(error).__name__}: {text})"
