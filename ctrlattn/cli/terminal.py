"""Helpers of all commands: one-line errors, signals, exit codes, texts of --text, progress on stderr, JSON on stdout.

A signal raises `Stopped`, so that what is half-written is removed on the way out; docs/reliability.md lists the codes.
"""

import errno
import json
import os
import re
import shlex
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from math import isqrt
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from ctrlattn import __version__
from ctrlattn.errors import InputError
from ctrlattn.files import claims, utf8
from ctrlattn.progress import noticed_by, seldom

_DEVICE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.EMFILE, errno.ENFILE}

_LINE_START = "\r\x1b[2K"  # to the first column of a terminal, and the line is empty
_STOPS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "the terminal was closed"}
_POSITIONS = "the network has positions for {}"
_ROOM = "the memory has room for the matrices of attention of {}; give a shorter text"
_LATER = 0.05  # seconds after which it is asked whether a signal was lost
_VOLUME = ContextVar("volume", default="normal")  # of this run of the command line, and of no other
_BEGAN = ContextVar("began", default=0.0)
CLOSED_PIPE = 141  # 128 + SIGPIPE, as a shell says it

MOST = 2**63 - 1  # seeds and counts are whole numbers of 64 bits
AsJSON = Annotated[bool, typer.Option("--json", help="Machine-readable results on stdout.")]


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an error that the user can mend into one line on stderr and exit code 2; `main` reports all others as bugs.

    A user can mend an InputError, and an OSError that concerns a file or a device. What the block claims with
    `files.claim` is released when it ends.
    """
    try:
        with claims():
            yield
    except (InputError, OSError) as error:
        if not told(error):
            raise
        raise typer.Exit(2) from error


def told(error: Exception) -> bool:
    """Tell whether the user can mend an error, which is then told in one line."""
    mendable = isinstance(error, InputError) or (isinstance(error, OSError) and _concerns_a_file(error))
    if mendable:
        tell(one_line(error))
    return mendable


def tell(text: str) -> None:
    """Write a line to stderr; on a terminal it takes the place of a progress bar that was under way."""
    _to_stderr(f"{_LINE_START if sys.stderr.isatty() else ''}ctrlattn: {text}")


def _to_stderr(text: str, *, nl: bool = True) -> None:
    """Write to stderr. Where it is full nothing more is said, and the work goes on; a closed pipe ends the command."""
    try:
        typer.echo(text, err=True, nl=nl)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        silence(sys.stderr)


def silence(stream: Any) -> None:
    """Send what is left for a stream nowhere: it is closed or full, and Python would fail on it again at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def open_closed_streams() -> None:
    """Let a standard stream that was closed before the program began be the null device.

    The next file that is opened would have its number, and what libraries print would go into that file.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115


class Stopped(BaseException):
    """A signal asks the program to end; no `except Exception` on the way stops it."""

    def __init__(self, number: int) -> None:
        name = signal.Signals(number).name
        super().__init__(f"{_STOPS[name]} ({name}): nothing half-written is left under a final name")
        self.code = 128 + number


def stop_on_signals() -> None:
    """Let SIGINT, SIGTERM and SIGHUP raise `Stopped`, and a second one end the process at once.

    A signal that the parent process told us to ignore (nohup, a background job) stays ignored. What is raised may get
    lost: Python drops it inside a callback of a weak reference, and a library may catch everything while it imports
    what it can do without. So it is raised again, until `main` has it.
    """
    if threading.current_thread() is not threading.main_thread():
        return  # only there may a handler be set, and only there does it run

    before = sys.unraisablehook

    def stop(number: int, frame: FrameType | None) -> None:
        end_on_signals()
        sys.unraisablehook = unheard
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, lambda _, frame: again(number, frame))
            signal.setitimer(signal.ITIMER_REAL, _LATER, _LATER)
            if _imports_torch(frame):
                return
        raise Stopped(number)

    def again(number: int, frame: FrameType | None) -> None:
        if not _imports_torch(frame) and not _is_on_its_way():
            raise Stopped(number)

    def unheard(exception: Any) -> None:
        """Say nothing of what was dropped, nor of a second signal that came before the first one was seen."""
        if not isinstance(exception.exc_value, Stopped) and "race condition" not in str(exception.exc_value):
            before(exception)

    for number in _numbers():
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def _imports_torch(frame: FrameType | None) -> bool:
    """Tell whether compiled code that torch calls while it is imported may run: it ends the process at an exception.

    That is where a module of torch itself is the innermost frame, and all over the import of torch.distributed.
    """
    name = _module_of(frame)
    if name.partition(".")[0] == "torch":
        return True
    while frame is not None and name != "torch.distributed":
        frame = frame.f_back
        name = _module_of(frame)
    return frame is not None


def _module_of(frame: FrameType | None) -> str:
    """Return the name of the module whose body this frame is, or an empty text for any other frame."""
    if frame is None or frame.f_code.co_name != "<module>":
        return ""
    return str(frame.f_globals.get("__name__", ""))


def _is_on_its_way() -> bool:
    """Tell whether `Stopped`, or what was raised in its place, is being handled at this moment."""
    return stop_behind(sys.exc_info()[1]) is not None


def stop_behind(error: BaseException | None) -> Stopped | None:
    """Return the signal behind an error: compiled code of a library that is imported raises its own in the place.

    >>> error = ImportError("initialization failed")
    >>> error.__cause__ = Stopped(signal.SIGTERM)
    >>> stop_behind(error) is error.__cause__, stop_behind(ImportError())
    (True, None)
    """
    waiting = [error]
    visited: set[int] = set()
    while waiting:
        link = waiting.pop()
        if isinstance(link, Stopped):
            return link
        if link is not None and id(link) not in visited:
            visited.add(id(link))
            waiting += [link.__context__, link.__cause__]
    return None


def stay_stopped() -> None:
    """Raise `Stopped` no more: it has arrived."""
    if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
        signal.setitimer(signal.ITIMER_REAL, 0)


def end_on_signals() -> None:
    """Let a signal end the process without a word, as it does where no handler is set."""
    if threading.current_thread() is threading.main_thread():
        for number in _numbers():
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)


def _numbers() -> list[signal.Signals]:
    return [signal.Signals[name] for name in _STOPS if name in signal.Signals.__members__]  # Windows has no SIGHUP


def one_line(text: Any) -> str:
    r"""Return a text for the terminal, in one line: characters that would steer the terminal are written out.

    >>> one_line("a\n  b \x1b[31m.nc")
    'a b \\x1b[31m.nc'
    """
    return written_out(" ".join(str(text).split()))


def written_out(text: str) -> str:
    r"""Write out the control characters of a text; they would move the cursor, colour or retitle the terminal.

    >>> written_out("a \x1b[31m\x9b.nc")
    'a \\x1b[31m\\x9b.nc'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@contextmanager
def plain_usage() -> Iterator[None]:
    """Write out the control characters of an argument that the message of a wrong use repeats."""
    # Newer releases of typer carry their own copy of click: UsageError is found as what both have in common.
    usage: Any = typer.BadParameter.__base__
    try:
        yield
    except usage as error:
        error.message = written_out(error.message)
        raise


def show_path(path: Any) -> None:
    """Print a path to stdout: on a terminal with its control characters written out, into a pipe byte by byte."""
    typer.echo(written_out(str(path)) if sys.stdout.isatty() else os.fsencode(path))


def _concerns_a_file(error: OSError) -> bool:
    """Tell whether the system names a file, or says that a device is full, read-only or broken.

    A closed pipe (`ctrlattn list | head`) is none of these: typer then ends the program silently.

    >>> _concerns_a_file(FileNotFoundError(errno.ENOENT, "No such file or directory", "a.nc"))
    True
    >>> _concerns_a_file(BrokenPipeError(errno.EPIPE, "Broken pipe")), _concerns_a_file(OSError("no number, no name"))
    (False, False)
    """
    return error.filename is not None or error.errno in _DEVICE


def report_bug(error: Exception, arguments: list[str]) -> None:
    """Print to stderr what to report, after the traceback where --debug is among the arguments."""
    if "--debug" in arguments:
        typer.echo("".join(traceback.format_exception(error)), err=True)
    tell(
        f"this is a bug of ctrlattn {__version__}, not of your input: {type(error).__name__}: {one_line(error)}\n"
        f"Please report it with the command: ctrlattn {written_out(shlex.join(arguments))}\n"
        + ("" if "--debug" in arguments else "Run it again with --debug for the traceback.")
    )


def described(source: str, allow_download: bool) -> Any:
    """Tell what a source is, by its headers: whatever a command can judge by that is judged before a weight is read."""
    quiet_libraries()
    from ctrlattn.checkpoints.network.describe import describe

    return describe(source, allow_download=allow_download)


def load_checkpoint(description: Any, **options: Any) -> Any:
    """Load by `checkpoints.load` what was described, after a line on stderr."""
    from ctrlattn.checkpoints.network.load import loaded

    tokenizer = description.loaded_tokenizer  # what is wrong with the configuration is told before the line
    say(f"loading {description.source}")
    return loaded(description, tokenizer=tokenizer, progress=seldom(_show_to_a_person), **options)


def load_with_content(description: Any, **options: Any) -> tuple[Any, str]:
    """Load what was described, after a line on stderr; return it with the digest of all that was read for it."""
    from ctrlattn.checkpoints.network import content

    _ = description.loaded_tokenizer  # as above
    say(f"loading {description.source}")
    return content.load_with_content(description, progress=seldom(_show_to_a_person), **options)


def require_one_recording(
    signals: Path | None, checkpoint: str | None, texts: list[str] | None, options: dict[str, Any] | None = None
) -> None:
    """Raise InputError where --signals, --checkpoint, --text and what is asked of a network contradict each other."""
    if signals is not None and checkpoint is not None:
        raise InputError("give either --signals or --checkpoint, not both")
    if options and checkpoint is None:
        raise InputError(f"--{next(iter(options))} says how a network runs: give --checkpoint as well")
    if texts and checkpoint is None:
        raise InputError("--text needs a network that reads it: give --checkpoint as well")


def recorded_texts(source: str, texts: list[str], allow_download: bool, **options: Any) -> list[Any]:
    """Record a checkpoint's signals on every --text, one Dataset each; the options are those of `checkpoints.load`."""
    if not texts:
        raise InputError("--checkpoint needs at least one --text")
    words = [long_text_of(text) for text in texts]
    description = described(source, allow_download)

    from ctrlattn import checkpoints

    description.require_text()
    for text in words:
        _require_at_once(description, text)
    checkpoint = load_checkpoint(description, **options)
    return [checkpoints.tap(checkpoint, text_of(text)) for text in texts]


def _require_at_once(description: Any, text: str | Path) -> None:
    """Raise InputError where a text is longer than the positions of a network, or what is recorded than the memory.

    All is recorded at once, and at least one matrix of attention in each layer, 4 n^2 bytes. No more of the text is
    read than the network could take.
    """
    from ctrlattn.capacity import available_memory
    from ctrlattn.checkpoints.network.text import token_ids

    available = available_memory()
    room = None if available is None else isqrt(available // (4 * description.layers))
    ends = [
        (most, reason.format(most))
        for most, reason in ((description.positions, _POSITIONS), (room, _ROOM))
        if most is not None
    ]
    if isinstance(text, Path) and ends:
        most, reason = min(ends)
        if len(token_ids(description, text, special=False, most=most + 1)) > most:
            raise InputError(f"{text}: more than {most} tokens, which are recorded at once: {reason}")
    description.require_positions(len(token_ids(description, text)))


def quiet_libraries() -> None:
    """Let transformers, before it is imported, tell errors alone: all else that matters stands in a line of ours."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers asks it too


def file_of(argument: str) -> Path | None:
    """Return the file that --text names, with or without an @ in front; None where the argument is the text itself."""
    if argument.startswith("@"):
        return Path(argument[1:])
    if os.path.isfile(argument):  # a text that is too long for a file name gives False, not an error
        return Path(argument)
    path_like = Path(argument).suffix or argument.startswith(("/", "./", "../", "~"))
    if path_like and not any(character.isspace() for character in argument):
        if os.path.isdir(argument):
            raise InputError(f"--text {argument} is a folder: give a file, or the text itself")
        raise InputError(f"--text {argument}: no such file, and a single word is too short a text to measure on")
    return None


def text_of(argument: str) -> str:
    """Return the content of the file that --text names, or the text itself."""
    file = file_of(argument)
    with utf8("--text" if file is None else file):
        text = argument if file is None else file.read_text(encoding="utf-8")
        text.encode()  # Python turns bytes of the command line that are not UTF-8 into surrogates, which raise here
    if not text.strip():
        raise InputError(f"--text {argument!r} is empty")
    return text.strip()


def long_text_of(argument: str) -> str | Path:
    """Return the text that --text gives, or the regular file that it names, which is read piece by piece later."""
    from ctrlattn.checkpoints.network.text import require_text

    file = file_of(argument)
    if file is None or not file.is_file():
        return text_of(argument)
    require_text(file)
    return file


def given(value: Any, otherwise: Any) -> Any:
    """Return the value of an option, or its default where the user gave none."""
    return otherwise if value is None else value


def print_json(facts: Any) -> None:
    """Print facts as JSON to stdout; NaN and infinities become null."""
    from ctrlattn.results import json_ready

    text = json.dumps(json_ready(facts), indent=2, ensure_ascii=False, allow_nan=False)
    # JSON itself writes out what lies below a space, and neither the control characters behind the ASCII letters nor
    # what stands for a byte of a file name that is no UTF-8.
    typer.echo(re.sub("[\x7f-\x9f\ud800-\udfff]", lambda control: f"\\u{ord(control[0]):04x}", text))


def say(text: str) -> None:
    """Write a line to stderr about what goes on; --quiet leaves it out."""
    if _VOLUME.get() != "quiet":
        tell(one_line(text))


def _say_to_a_person(text: str) -> None:
    """Call `say` where somebody waits: on a terminal, or with --verbose, which asks for all; other logs do not wait."""
    if _is_waited_for():
        say(text)


def _show_to_a_person(step: str, done: int, total: int) -> None:
    """Call `show_progress` where somebody waits."""
    if _is_waited_for():
        show_progress(step, done, total)


def _is_waited_for() -> bool:
    """Return whether there is a terminal, or all was asked for."""
    return sys.stderr.isatty() or _VOLUME.get() == "verbose"


@contextmanager
def spoken(volume: str) -> Iterator[None]:
    """Set how much is said on stderr in the block: "quiet", "normal" or "verbose", which counts seconds and memory."""
    began, before = time.monotonic(), _VOLUME.set(volume)
    start = _BEGAN.set(began)
    try:
        with noticed_by(_say_to_a_person):
            yield
    finally:
        if volume == "verbose":
            say(f"took {time.monotonic() - began:.1f} s{_memory()}")
        _VOLUME.reset(before)
        _BEGAN.reset(start)


def _memory() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return ""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f", at most {most / (2**20 if sys.platform == 'darwin' else 2**10):.0f} MiB of memory"


def show_progress(step: str, done: int, total: int) -> None:
    """Show a progress bar on stderr, redrawn in place on a terminal, with one line per step elsewhere."""
    volume = _VOLUME.get()
    if volume == "quiet":
        return
    bar = "█" * round(20 * done / total)
    clock = f"{time.monotonic() - _BEGAN.get():7.1f} s " if volume == "verbose" else ""
    line = f"ctrlattn {clock}[{bar:<20}] {done}/{total} {one_line(step)}"
    if sys.stderr.isatty():
        _to_stderr(f"{_LINE_START}{line}", nl=done == total)
    else:
        _to_stderr(line)
