"""Atomic writing of files (a temporary file, then os.replace), output directories, and reading of UTF-8 texts."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ctrlattn.errors import InputError


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path to write to; it takes the final name when the block ends well, and vanishes otherwise.

    Raises
    ------
    OSError
        The directory does not exist or is not writable.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [p.name for p in folder.iterdir()]
    ['a.txt']
    """
    final = Path(path)
    # The suffix is kept, since numpy and matplotlib choose the format by it.
    # The stem is cut, since a name of 255 bytes leaves no room for the letters that make it unique.
    handle, name = tempfile.mkstemp(prefix=f".{final.stem[:40]}-", suffix=final.suffix, dir=final.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, final)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def require_output(path: str | os.PathLike[str]) -> None:
    """Raise InputError where no directory can be written, before work starts; nothing is created.

    >>> require_output("/dev/null")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: cannot write to the output directory /dev/null: it exists and is no directory
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"cannot write to the output directory {folder}: it exists and is no directory")
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not there.is_dir():
        raise InputError(f"cannot write to the output directory {folder}: {there} is no directory")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to the output directory {folder}: no permission to write in {there}")


def output_directory(path: str | os.PathLike[str]) -> Path:
    """The directory, made if absent; an InputError that says why nothing can be written there.

    >>> import tempfile
    >>> output_directory(Path(tempfile.mkdtemp()) / "a" / "b").is_dir()
    True
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"cannot write to the output directory {folder}: {error.strerror or error}") from error
    return folder


@contextmanager
def utf8(where: str | os.PathLike[str]) -> Iterator[None]:
    r"""Text that is read or encoded inside the block is UTF-8, or else an InputError says where it is not.

    >>> with utf8("a.txt"):
    ...     b"\xff".decode()
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: a.txt: not a text in UTF-8: invalid start byte at byte 0
    """
    try:
        yield
    except UnicodeError as error:
        place = f": {error.reason} at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        raise InputError(f"{where}: not a text in UTF-8{place}") from error


def _umask() -> int:
    """The process's file mode mask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
