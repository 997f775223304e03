"""Bad input is an InputError that says what is wrong, where, and what would be right; everything else is a bug.

The command line turns an InputError into one line and exit code 2. Any other exception is a fault of the package.
"""

import reprlib
from collections.abc import Collection
from difflib import get_close_matches
from importlib.util import find_spec
from operator import index
from typing import Any

_LINE = reprlib.Repr()
_LINE.maxstring = _LINE.maxother = _LINE.maxlong = 80  # characters
_SHOWN = 40  # known names in a message: a vocabulary has thousands
# The extra of this package that installs a module, and the name that a package index knows it by.
_EXTRAS = {
    "transformers": ("hf", "transformers"),
    "safetensors": ("hf", "safetensors"),
    "accelerate": ("hf", "accelerate"),
    "gguf": ("hf", "gguf"),
    "plotly": ("interactive", "plotly"),
    "sklearn": ("train", "scikit-learn"),
    "pyarrow": ("tables", "pyarrow"),
    "distributed": ("cluster", "dask[distributed]"),
}


class InputError(ValueError):
    """A value that the caller gave and can mend.

    >>> issubclass(InputError, ValueError)
    True
    """


class InputTypeError(InputError, TypeError):
    """A value of a kind that the function does not take; both an InputError and a TypeError.

    >>> issubclass(InputTypeError, TypeError)
    True
    """


class MissingExtra(InputError, ImportError):
    """A library of an optional extra is not installed; both an InputError and an ImportError.

    >>> issubclass(MissingExtra, ImportError)
    True
    """


# A traceback names an exception by the address that users import it from.
InputError.__module__ = InputTypeError.__module__ = MissingExtra.__module__ = "ctrlattn"


def require_installed(subject: str, *modules: str) -> None:
    """Raise MissingExtra, with the command that installs it, where a module of an extra is absent.

    >>> require_installed("this doctest", "transformers")
    """
    for module in modules:
        extra, package = _EXTRAS[module]
        if not _is_installed(module):
            raise MissingExtra(f'{subject} needs {package}: pip install "ctrlattn[{extra}]"')


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def shown(value: Any) -> str:
    """Return a value in a message as one line, however long or deep it is.

    >>> shown("neutrino"), len(shown("x" * 10_000))
    ("'neutrino'", 80)
    """
    return _LINE.repr(value)


def raised(error: Exception) -> str:
    """Return the exception that other code has raised, in one line of at most 200 letters behind its type.

    >>> raised(ValueError("no such\\n   layer"))
    'ValueError: no such layer'
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def did_you_mean(name: Any, candidates: Collection[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known one, or all that are known.

    >>> did_you_mean("parralel", ["parallel", "sequential"]), did_you_mean("PARALLEL", ["parallel", "sequential"])
    ("did you mean 'parallel'?", "did you mean 'parallel'?")
    >>> did_you_mean("x", ["parallel", "sequential"])
    'known are parallel, sequential'
    """
    names = [str(k) for k in candidates]
    spelled = {k.casefold(): k for k in names}
    if nearest := get_close_matches(str(name).casefold(), spelled, n=1):
        return f"did you mean {spelled[nearest[0]]!r}?"
    more = len(names) - _SHOWN
    return f"known are {', '.join(names)}" if more <= 0 else f"known are {', '.join(names[:_SHOWN])} and {more} more"


def require_known(kind: str, name: Any, candidates: Collection[str]) -> str:
    """Return `name` itself if it is among the known ones; raise an InputError that names the nearest otherwise.

    >>> require_known("order", "parallel", ["parallel", "sequential"])
    'parallel'
    >>> require_known("order", "sequental", ["parallel", "sequential"])
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: unknown order 'sequental': did you mean 'sequential'?
    """
    if not isinstance(name, str) or name not in candidates:
        raise InputError(f"unknown {kind} {shown(name)}: {did_you_mean(name, candidates)}")
    return name


def require_flag(name: str, value: Any) -> bool:
    """Return a flag, of Python or of numpy, as True or False; raise InputTypeError for anything else.

    An array has no truth value, and the words "no" and "false" would be true. Functions ask this before anything else.

    >>> require_flag("continuous", True)
    True
    >>> require_flag("continuous", "false")
    Traceback (most recent call last):
    ...
    ctrlattn.InputTypeError: continuous must be True or False, got 'false'
    """
    if value is True or value is False:
        return value
    kind = type(value)
    if kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_"):  # its name in numpy 2, and in numpy 1
        return bool(value)
    raise InputTypeError(f"{name} must be True or False, got {shown(value)}")


def require_whole(name: str, value: Any, *, least: int = 1, most: int | None = None) -> int:
    """Return `value` as an int, if it is a whole number from `least` to `most`; a bool is none.

    Raises
    ------
    InputTypeError
        No whole number.
    InputError
        One out of range.

    Examples
    --------
    >>> require_whole("steps", 3)
    3
    >>> require_whole("steps", 0)
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: steps must be a whole number of at least 1, got 0
    """
    expected = f"{name} must be a whole number " + (
        f"of at least {least}" if most is None else f"in {least} ... {most}"
    )
    if type(value).__name__ == "bool":  # of Python or of numpy, whose 2.0 warns and takes it for an index
        raise InputTypeError(f"{expected}, got {value!r}")
    try:
        number = index(value)
    except TypeError:
        raise InputTypeError(f"{expected}, got {value!r}") from None
    if number < least or (most is not None and number > most):
        raise InputError(f"{expected}, got {value!r}")
    return number
