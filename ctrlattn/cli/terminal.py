"""What every command does in the same way: one-line errors, a progress bar on stderr, JSON on stdout."""

import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ctrlattn import __version__
from ctrlattn.errors import InputError

AsJSON = Annotated[bool, typer.Option("--json", help="Machine-readable results on stdout.")]


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What a user can mend becomes one line on stderr and exit code 2; anything else is a bug, which `main` reports.

    A user can mend an InputError, and an OSError: a file or a device that is missing, full or not readable.
    """
    try:
        yield
    except (InputError, OSError) as error:
        typer.echo(f"ctrlattn: {error}", err=True)
        raise typer.Exit(2) from error


def report_bug(error: Exception, *, debug: bool) -> None:
    """Two lines to report on stderr, or the traceback where --debug asked for it."""
    if debug:
        typer.echo("".join(traceback.format_exception(error)), err=True)
        return
    words = " ".join(str(error).split())
    typer.echo(
        f"ctrlattn: this is a bug of ctrlattn {__version__}, not of your input: {type(error).__name__}: {words}\n"
        "Please report it with the command. `ctrlattn --debug COMMAND ...` shows the traceback.",
        err=True,
    )


def load_checkpoint(source: str, **options: Any) -> Any:
    """checkpoints.load(source, ...), announced on stderr; says what to install where transformers is missing."""
    try:
        from ctrlattn import checkpoints
    except ImportError as error:
        raise InputError('a checkpoint needs transformers: pip install "ctrlattn[hf]"') from error
    typer.echo(f"ctrlattn: loading {source}", err=True)
    return checkpoints.load(source, **options)


def file_of(argument: str) -> Path | None:
    """The file that a --text names, as it is or after an @; None where the argument is a text itself."""
    if argument.startswith("@"):
        return Path(argument[1:])
    if os.path.isfile(argument):  # False, not an error, for a text too long to be a name
        return Path(argument)
    if not any(character.isspace() for character in argument) and Path(argument).suffix:
        raise InputError(f"--text {argument}: no such file, and a single word is no text to measure on")
    return None


def text_of(argument: str) -> str:
    """The content of the file that a --text names, or the text itself."""
    file = file_of(argument)
    text = argument if file is None else _content(file)
    if not text.strip():
        raise InputError(f"--text {argument!r} is empty")
    return text.strip()


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not a text in UTF-8: {error.reason} at byte {error.start}") from error


def given(value: Any, otherwise: Any) -> Any:
    """What the user gave, or else what holds otherwise."""
    return otherwise if value is None else value


def print_json(facts: Any) -> None:
    """Facts on stdout; NaN and infinities become null."""
    from ctrlattn.results import json_ready

    typer.echo(json.dumps(json_ready(facts), indent=2, ensure_ascii=False, allow_nan=False))


def show_progress(step: str, done: int, total: int) -> None:
    """A bar on stderr: redrawn in place on a terminal, one line a step elsewhere."""
    bar = "█" * round(20 * done / total)
    line = f"ctrlattn [{bar:<20}] {done}/{total} {step}"
    if sys.stderr.isatty():
        typer.echo(f"\r\x1b[2K{line}", err=True, nl=done == total)
    else:
        typer.echo(line, err=True)
