"""Options that several commands have, what completes them, and the words of --help.

Types read as a person says them: N for a whole number, X for a number, FILE, DIR, NAME; a range as "at least 1".
"""

import os
import re
from collections.abc import Callable, Collection
from inspect import get_annotations
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import typer
from typer.models import ArgumentInfo, OptionInfo

from ctrlattn.errors import InputError

PRESET = "give the name of a preset, see `ctrlattn list`"
PRESET_OR_FILE = f"{PRESET}, or a configuration, FILE.toml"

Function = TypeVar("Function", bound=Callable[..., Any])

Gains = Annotated[
    tuple[float, float, float] | None,
    typer.Option("--pid", metavar="KP KI KD", help="Gains of a PID, in place of a file with a [controller]."),
]
LawOfGains = Annotated[
    str | None, typer.Option("--form", metavar="printed|ema", help="Law of --pid; default: printed.")
]

# Where recordings come from: a file, or a network that reads texts.
RecordingOption = Annotated[
    Path | None, typer.Option("--signals", help="Recorded signals (.npz); default: those that ship inside.")
]
ToRecord = Annotated[
    str | None, typer.Option("--checkpoint", help="transformers directory, .gguf file or hub id to record instead.")
]
TextsToRead = Annotated[
    list[str] | None, typer.Option("--text", help="Text for --checkpoint; a file, or the text itself (repeatable).")
]
AllowDownload = Annotated[bool, typer.Option("--allow-download", help="Let a hub id be fetched.")]
# Where a network runs, and in which numbers: judged by `network_options` before any work.
Device = Annotated[
    str | None, typer.Option("--device", help="Device that runs the network, such as cpu or cuda:1; default: cpu.")
]
Numbers = Annotated[
    str | None,
    typer.Option("--dtype", metavar="float32|float64", help="Numbers that the network has; default: float32."),
]
Formats = Annotated[
    list[str] | None,
    typer.Option("--format", metavar="mat|csv|parquet", help="Write the numbers so as well (repeatable)."),
]

_WORDS = {int: "N", float: "X", Path: "FILE", str: "NAME"}
_NAMED = {"out": "DIR", "text": "FILE|TEXT", "held_out": "FILE|TEXT", "checkpoint": "SOURCE", "layers": "N"}


def pid_of(gains: tuple[float, float, float] | None, form: str | None) -> Any:
    """Return the PID of --pid and --form, or None where --pid is not given.

    >>> pid_of((0.5, 0.1, 0.0), "ema")
    PID(kp=0.5, ki=0.1, form='ema')
    """
    from ctrlattn.controllers import PID
    from ctrlattn.errors import require_known

    if gains is None:
        if form is not None:
            raise InputError("--form is the law of gains: give --pid KP KI KD with it")
        return None
    return PID(*gains, form="printed" if form is None else require_known("form", form, ("printed", "ema")))  # type: ignore[arg-type]


def network_options(device: str | None, dtype: str | None, *, here: bool = True) -> dict[str, str]:
    """Return what --device and --dtype ask of `checkpoints.load`; it is empty where they are not given.

    A device that workers of other machines have (`here` is false) is judged by them.

    >>> network_options(None, None), network_options("cpu", "float64")
    ({}, {'device': 'cpu', 'dtype': 'float64'})
    """
    from ctrlattn import devices
    from ctrlattn.errors import require_known

    if dtype is not None:
        require_known("--dtype", dtype, ("float32", "float64"))
    if device is not None and here:
        devices.require_here(device)
    return {name: value for name, value in (("device", device), ("dtype", dtype)) if value is not None}


def require_no_path(name: str, known: Collection[str], instead: str) -> None:
    """Raise InputError where a folder or a file, whatever is in it, stands in the place of a known name.

    >>> import os
    >>> require_no_path(os.curdir, ["softmax"], "give the name of a preset, see `ctrlattn list`")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: . is a folder: give the name of a preset, see `ctrlattn list`
    """
    kind = "folder" if os.path.isdir(name) else "file" if os.path.isfile(name) else None
    if name not in known and kind is not None:
        raise InputError(f"{name} is a {kind}: {instead}")


def presets(incomplete: str) -> list[str]:
    """Return the names that begin so, for the completion of a shell."""
    from ctrlattn.presets import names

    return [name for name in names() if name.startswith(incomplete)]


def worded(function: Function) -> Function:
    """Let the options and arguments of a command say in --help what a person puts there; return the command."""
    for name, annotation in get_annotations(function, eval_str=True).items():
        kind, info = (*get_args(annotation), None, None)[:2]
        if not isinstance(info, ArgumentInfo | OptionInfo):
            continue  # what it returns
        if info.metavar is None and _element_type(kind) is not bool:
            info.metavar = _NAMED.get(name) or _WORDS.get(_element_type(kind), "VALUE")
    return function


def ranges_in_words(parameter: Any) -> None:
    """Let the help of one parameter say its range in words; the largest seed of 64 bits is no news."""
    record = parameter.get_help_record

    def in_words(context: Any) -> Any:
        row = record(context)
        return row and (re.sub(r" <[\w ]+>$", "", row[0]), range_in_words(row[1]))

    parameter.get_help_record = in_words


def range_in_words(text: str) -> str:
    """Return a help text with its range in words.

    >>> range_in_words("Seed.  [default: 0; 0<=x<=9223372036854775807]")
    'Seed.  [default: 0; at least 0]'
    >>> range_in_words("Seeds.  [x>=1]"), range_in_words("Share.  [0<=x<=1]")
    ('Seeds.  [at least 1]', 'Share.  [0 to 1]')
    """
    text = re.sub(r"(\S+)<=x<=9223372036854775807\b", r"at least \1", text)
    text = re.sub(r"([\d.+-]+)<=x<=([\d.+-]+)", r"\1 to \2", text)
    text = re.sub(r"\bx>=([\d.+-]+)", r"at least \1", text)
    return re.sub(r"\bx<=([\d.+-]+)", r"at most \1", text)


def _element_type(kind: Any) -> Any:
    """Return the type that an annotation holds, such as int for list[int] | None."""
    if get_origin(kind) in (Union, UnionType):
        kind = next(part for part in get_args(kind) if part is not NoneType)
    return get_args(kind)[0] if get_origin(kind) in (list, tuple) else kind
