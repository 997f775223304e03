"""text -> plain values: JSON and TOML, where every fault of the text is one InputError that names the place.

The parsers of Python follow brackets by recursion. A text of many thousand brackets ends in a RecursionError there, and
a number of many thousand digits in a ValueError: both are faults of the text, as a missing bracket is.
"""

import json
import tomllib
from pathlib import Path
from typing import Any

from ctrlattn.errors import InputError

LARGEST_TEXT = 100_000_000  # bytes of a JSON header or file, as in the safetensors library


def parse_json(text: str | bytes, where: Any) -> Any:
    """Return the value of a JSON text.

    Raises
    ------
    InputError
        The text is no JSON, or its brackets are nested too deeply.

    Examples
    --------
    >>> parse_json('{"a": 1}', "config.json")
    {'a': 1}
    >>> parse_json("[" * 100_000, "config.json")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: config.json: this is not JSON: its brackets are nested too deeply
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError(f"{where}: this is not JSON: its brackets are nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, text that is not UTF-8, a number of too many digits
        raise InputError(f"{where}: this is not JSON: {error}") from error


def read_json(path: Path) -> Any:
    """Read the content of a JSON file of at most 100 MB: the size is read before anything else is.

    Raises
    ------
    InputError
        The file is too large or no JSON.
    OSError
        It cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.json"
    >>> _ = path.write_text('{"a": 1}')
    >>> read_json(path)
    {'a': 1}
    """
    size = path.stat().st_size
    if size > LARGEST_TEXT:
        raise InputError(f"{path}: {size} bytes are too many for a JSON file, {LARGEST_TEXT} are read at most")
    return parse_json(path.read_bytes(), path)


def parse_toml(text: str) -> dict[str, Any]:
    """Return the table of a TOML text.

    Raises
    ------
    InputError
        The text is no TOML, or its brackets are nested too deeply.

    Examples
    --------
    >>> parse_toml("a = 1")
    {'a': 1}
    >>> parse_toml("a = " + "[" * 10_000)
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: this is not TOML: its brackets are nested too deeply
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InputError("this is not TOML: its brackets are nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, a number of too many digits, a date that does not exist
        raise InputError(f"this is not TOML: {error}") from error
