"""Whatever another library raises on the files of a network, as one line: what it is, and what to do."""

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ctrlattn.errors import InputError
from ctrlattn.files import visible

_LONGEST = 400  # characters of a message
NO_NETWORK = (
    "there is no such directory, and no network of this name (or not all of it) in the local cache of the hub; "
    "allow_download=True, --allow-download on the command line, fetches it"
)


@contextmanager
def foreign(source: Any) -> Iterator[None]:
    """Turn whatever transformers raises inside the block into one line of InputError: it is a fault of the files.

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


@contextmanager
def foreign_tokenizer(source: Any, folder: Path) -> Iterator[None]:
    """Do as `foreign` for a tokenizer, and name a SentencePiece model as such.

    transformers takes what it cannot read as SentencePiece for a file of tiktoken, and its error speaks of that.
    """
    try:
        with foreign(source):
            yield
    except InputError as error:
        models = [path for path in visible(folder, "*.model") if _is_protobuf(path)]
        if not models or (folder / "tokenizer.json").is_file():
            raise
        reason = (
            "a SentencePiece model that is damaged" if _reads_sentencepiece()
            else "a SentencePiece model: pip install -U sentencepiece protobuf, or save a tokenizer.json beside it"
        )  # fmt: skip
        raise InputError(
            f"{source}: cannot load this checkpoint: its tokenizer {models[0].name} is {reason}"
        ) from error


def _is_protobuf(path: Path) -> bool:
    """Tell whether field 1 stands first, with its length; a file of tiktoken begins with a character of base64."""
    with path.open("rb") as file:
        return file.read(1) == b"\n"


def _reads_sentencepiece() -> bool:
    """Tell whether the libraries that transformers reads it with are there, in releases that fit each other."""
    try:
        runtime = importlib.import_module("google.protobuf.runtime_version")
    except ImportError:
        return False
    try:
        importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    except (ImportError, TypeError, runtime.VersionError):  # TypeError: made for a protobuf that is far older
        return False
    return True


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "custom code" in text:
        return "it needs code of its own, which is never executed"
    if "weights_only" in text:
        return "its pickled weights hold more than tensors, and are never unpickled"
    if "couldn't connect" in text:
        return NO_NETWORK
    unknown = re.search(r"model type `(.*?)` but Transformers does not recognize", text)
    if unknown:
        return (
            f"the installed transformers has no architecture {unknown[1]!r}, its model_type in config.json; every "
            "network that it has is tried, docs/families.md lists those that were measured, and a torch module of your "
            "own can be given in place of a path"
        )
    if "Unrecognized model in" in text:
        return 'config.json has no model_type, which names the architecture, such as "gpt2" or "llama"'
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
    if isinstance(error, ImportError):
        return f"it needs a package that is not installed: {text}"
    # A GGUF file that ends early gives numpy too few bytes for the shape of a tensor.
    if isinstance(error, OSError | ValueError) and "reshape" not in text:
        return text
    return f"a damaged or incomplete file ({type(error).__name__}: {text})"
