"""Whole files, one writer of a folder at a time, nothing of a killed run left over; and reading of UTF-8 texts.

A file is written beside its place and then renamed (`atomic`); the files of a page are written in a folder beside their
places and then renamed together (`together`). A command claims the folder it writes to (`claim`). The claim is a lock
that the system releases with the process, however the process ends. On a file system without locks nothing is claimed:
every file is still whole, a second process is not noticed, and what a killed process left is not removed.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from fnmatch import fnmatchcase
from glob import escape
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from ctrlattn.errors import InputError
from ctrlattn.parsing import read_json

Parsed = TypeVar("Parsed")

_fcntl: Any = import_module("fcntl") if os.name == "posix" else None
_MARK = "part"  # of a temporary's name, which ends in .part and the suffix of the final name
_PATTERN = f".*-????????.{_MARK}*"
IDENTITY = "identity.json"  # says in a folder of what work its results are
_LOCK = ".ctrlattn.lock"
_MANIFEST = ".ctrlattn.files"
_RESERVED = (_PATTERN, ".*.lock", ".ctrlattn.*")  # names that are made and removed without being asked for
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
# How compiled libraries say which error of the system they met: HDF5 and Rust.
_TOLD = re.compile(r"(?:errno = |os error )(\d+)")


class _Scope(ExitStack):
    """What a block of `claims` holds: a second claim of the same place is none."""

    def __init__(self) -> None:
        super().__init__()
        self.places: set[str] = set()


_SCOPE: ContextVar[_Scope | None] = ContextVar("_SCOPE", default=None)


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path to write to; it takes the final name when the block ends well, and vanishes otherwise.

    A link is followed, so that the file that it names is written and the link stays.

    Raises
    ------
    InputError
        The path is there and is no regular file: a device, a pipe, or a directory.
    OSError
        The directory does not exist or is not writable, or the disk is full. Libraries that report this as an error of
        their own (HDF5, safetensors) are translated.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [p.name for p in folder.iterdir()]
    ['a.txt']
    """
    final = Path(os.path.realpath(path))
    if not final.is_dir():  # the system refuses to replace a directory
        require_file(path)
    # The suffix is kept, since numpy and matplotlib choose the format by it.
    # The stem is cut, since a name of 255 bytes leaves no room for the letters that make it unique.
    handle, name = tempfile.mkstemp(
        prefix=f".{_short_stem(final)}-", suffix=f".{_MARK}{final.suffix}", dir=final.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        with _errors_of_the_system(final):
            yield temporary
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, final)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


@contextmanager
def together(folder: Path, *, last: str = "") -> Iterator[Path]:
    """Yield a temporary folder; when the block ends well its files take their places in `folder`, otherwise none does.

    The file `last` is the last to take its place. A file that an earlier block put there and this one did not write is
    removed; files of others stay.

    Raises
    ------
    InputError
        A file of another has the name of one of these (`require_ours`).
    OSError
        The disk is full, or the folder is not writable. The files of the earlier block are then as they were.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("a.txt", "b.txt"):
    ...     with together(folder) as temporary:
    ...         _ = (temporary / name).write_text("whole")
    >>> [p.name for p in folder.iterdir() if p.suffix == ".txt"]
    ['b.txt']
    """
    stage = Path(tempfile.mkdtemp(prefix=".stage-", suffix=f".{_MARK}", dir=folder))
    try:
        yield stage
        names = {path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file()}
        require_ours(folder, names)
        earlier = _own_names(folder)
        _note(folder, earlier | names)  # both, so that whoever comes after a kill in between knows what is ours
        for inner in (path for path in stage.rglob("*") if path.is_dir()):
            (folder / inner.relative_to(stage)).mkdir(parents=True, exist_ok=True)
        for name in sorted(names, key=lambda name: (name == last, name)):
            os.replace(stage / name, folder / name)
        for name in earlier - names:
            (folder / name).unlink(missing_ok=True)
        _note(folder, names)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def claims() -> Iterator[None]:
    """Hold what `claim` claims inside the block until the block ends."""
    with _Scope() as scope:
        token = _SCOPE.set(scope)
        try:
            yield
        finally:
            _SCOPE.reset(token)


def require_ours(folder: Path, names: Iterable[str]) -> None:
    """Raise InputError where a file that would be replaced is of no earlier page; by identity.json results.nc is ours.

    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "results.nc").write_text("of somebody")
    >>> require_ours(folder, ["report.html", "results.nc"])
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: ...: results.nc is there and was written by no earlier page: move it, or give another --out
    """
    ours = _own_names(folder) | ({"results.nc"} if (folder / IDENTITY).is_file() else set())
    strange = sorted(name for name in names if name not in ours and os.path.lexists(folder / name))
    if strange:
        raise InputError(
            f"{folder}: {strange[0]} is there and was written by no earlier page: move it, or give another --out"
        )


def claim(path: str | os.PathLike[str], *, file: bytes | None = None) -> None:
    """Hold an output directory, or a file, until the block of `claims` ends; temporaries in it are removed.

    The directory is made if absent; where it is empty when the block ends, it goes again. Outside a block of `claims`
    this only checks.

    Parameters
    ----------
    path : path
    file : bytes, optional
        The path is a file that begins with these bytes: one that is there and begins otherwise is not replaced.

    Raises
    ------
    InputError
        Another process writes there, nothing can be written there, what is there is of somebody else, or the name is
        one of those that are used for locks and temporaries.

    Examples
    --------
    >>> import tempfile
    >>> out = Path(tempfile.mkdtemp()) / "out"
    >>> with claims():
    ...     claim(out)
    ...     print(sorted(p.name for p in out.iterdir()))
    ['.ctrlattn.lock']
    >>> out.exists()
    False
    """
    scope, place = _SCOPE.get(), os.path.realpath(path)
    if any(fnmatchcase(name, reserved) for name in (Path(path).name, Path(place).name) for reserved in _RESERVED):
        raise InputError(f"cannot write {os.fspath(path)}: such names are those of locks and temporary files")
    if file is None:
        require_output(path)
    else:
        require_file(path)
        _require_replaceable(path, Path(place), file)
    if scope is not None and place not in scope.places:
        scope.enter_context(_held_folder(Path(path)) if file is None else _held_file(Path(place)))
        scope.places.add(place)


def _require_replaceable(path: str | os.PathLike[str], final: Path, begins: bytes) -> None:
    """Raise InputError where a file has no directory, or is there and is of another kind: a configuration, say."""
    if not final.parent.is_dir():
        raise InputError(f"cannot write {os.fspath(path)}: the directory {final.parent} does not exist")
    if not final.is_file():
        return
    with final.open("rb") as opened:
        head = opened.read(len(begins))
    if head and head.lower() != begins.lower():
        raise InputError(f"{os.fspath(path)}: is there and no file of this command: move it, or give another --out")


def require_file(path: str | os.PathLike[str]) -> None:
    """Raise InputError where no file can be written: its directory is absent, or something else has its name.

    >>> require_file("/dev/null")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: cannot write /dev/null: it exists and is no regular file
    """
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"cannot write {os.fspath(path)}: its links lead in a circle") from None
        return  # it is not there; whatever else is wrong is told when it is written
    if not regular:
        raise InputError(f"cannot write {os.fspath(path)}: it exists and is no regular file")


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
    for place in (folder, *folder.absolute().parents):
        if place.is_symlink() and not place.exists():
            raise InputError(f"cannot write to the output directory {folder}: the link {place} leads nowhere")
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise InputError(f"cannot write to the output directory {folder}: {existing} is no directory")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"cannot write to the output directory {folder}: no permission to write in {existing}")


def visible(folder: Path, pattern: str = "*", *, deep: bool = False) -> list[Path]:
    """Return the paths in a folder that fit a pattern, sorted; names that begin with a dot are left out.

    Such names are those of temporaries and locks, and of what systems put beside the files of a user: macOS writes
    `._name` with the suffix of `name` where a disk has no attributes, and a notebook keeps `.ipynb_checkpoints`.

    Parameters
    ----------
    deep : bool
        Whether folders in the folder are searched as well; those whose name begins with a dot are not.

    Examples
    --------
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("a.json", "._a.json", "b.txt"):
    ...     (folder / name).touch()
    >>> [path.name for path in visible(folder, "*.json")]
    ['a.json']
    """
    paths = folder.rglob(pattern) if deep else folder.glob(pattern)
    return sorted(p for p in paths if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def output_directory(path: str | os.PathLike[str]) -> Path:
    """Return the directory, made if absent; raise an InputError that says why nothing can be written there.

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
    r"""Raise an InputError that says where a text that is read or encoded inside the block is not UTF-8.

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


def parsed(path: str | os.PathLike[str], parse: Callable[[str], Parsed]) -> Parsed:
    """Return the value that `parse` makes of the text of a file; every line of what it refuses begins with the path.

    Raises
    ------
    InputError
        A file that is missing, cannot be read or is no UTF-8, and whatever `parse` refuses.

    Examples
    --------
    >>> parsed("no-such-file.toml", len)
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: no-such-file.toml: no such file
    """
    try:
        with utf8(path):
            text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        if Path(path).is_dir():
            raise InputError(f"{path} is a folder: give the file itself") from None
        raise InputError(f"{path}: cannot be read: {error}") from error
    try:
        return parse(text)
    except InputError as error:
        raise InputError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from error


@contextmanager
def _held_folder(folder: Path) -> Iterator[None]:
    absent = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    output_directory(folder)
    try:
        with _hold_lock(folder / _LOCK, folder, lambda: remove_temporaries(folder)):
            yield
    finally:
        for parent in absent:  # the deepest first; what is not empty stays
            with suppress(OSError):
                parent.rmdir()


@contextmanager
def _held_file(path: Path) -> Iterator[None]:
    pattern = f".{escape(_short_stem(path))}-????????.{_MARK}{escape(path.suffix)}"
    with _hold_lock(
        path.parent / f".{_short_stem(path)}{path.suffix}.lock", path, lambda: _remove(path.parent.glob(pattern))
    ):
        yield


@contextmanager
def _hold_lock(lock: Path, place: Path, clean: Callable[[], None]) -> Iterator[None]:
    """Hold the lock; `clean` runs before and after the block. The file of the lock goes with it."""
    handle = _lock(lock, place)
    try:
        if handle is not None:
            clean()
        yield
    finally:
        if handle is not None:
            clean()
            lock.unlink(missing_ok=True)
            os.close(handle)


def _lock(lock: Path, place: Path) -> int | None:
    """Lock the file and return its handle; None where the file system has no locks.

    A process that ends removes the file that it has locked. Whoever opened that file before opens the new one.
    """
    while _fcntl is not None:
        _require_lock(lock, place)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            _fcntl.flock(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
            with suppress(FileNotFoundError):  # whoever held it before may remove it at any moment
                if os.path.samestat(os.fstat(handle), lock.stat()):
                    return handle
        except BlockingIOError:
            os.close(handle)
            raise InputError(f"{place}: another process writes there: wait for it, or give another --out") from None
        except OSError as error:
            os.close(handle)
            if error.errno in _NO_LOCKS:
                lock.unlink(missing_ok=True)
                return None
            raise
        os.close(handle)
    return None


def _require_lock(lock: Path, place: Path) -> None:
    """Raise InputError where the name of the lock is that of a file of somebody: ours are regular and empty."""
    with suppress(FileNotFoundError):
        fact = lock.lstat()
        if not stat.S_ISREG(fact.st_mode) or fact.st_size:
            raise InputError(f"{place}: {lock} is there and no lock of ctrlattn: move it, or give another --out")


def _own_names(folder: Path) -> set[str]:
    """Return the names of files that earlier blocks of `together` put into the folder; nothing outside it is ours."""
    try:
        names = read_json(folder / _MANIFEST)
    except (OSError, InputError):
        return set()
    inside = Path(os.path.realpath(folder))
    texts = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    return {name for name in texts if Path(os.path.realpath((folder / name).parent)).is_relative_to(inside)}


def _note(folder: Path, names: set[str]) -> None:
    with atomic(folder / _MANIFEST) as path:
        path.write_text(json.dumps(sorted(names)) + "\n", encoding="utf-8")


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed `atomic` or `together` left in a folder and in the folders in it; no other file.

    >>> remove_temporaries(Path("no/such/directory"))
    """
    inner = [path for path in folder.glob("*") if path.is_dir() and not path.is_symlink()]
    _remove(path for place in (folder, *inner) for path in place.glob(_PATTERN))


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _short_stem(final: Path) -> str:
    """Return the stem, or its beginning and a digest: two names of one beginning have temporaries of their own."""
    digest = hashlib.sha256(os.fsencode(final.stem)).hexdigest()[:8]
    return final.stem if len(final.stem) <= 40 else f"{final.stem[:31]}-{digest}"


@contextmanager
def _errors_of_the_system(final: Path) -> Iterator[None]:
    """Turn an error of the system that names no file, or that a library tells in words, into an OSError with a name."""
    try:
        yield
    except Exception as error:  # raised again, whatever it is
        match = _TOLD.search(str(error))
        number = error.errno if isinstance(error, OSError) else int(match[1]) if match else None
        if number is None or number == errno.EPIPE or getattr(error, "filename", None) is not None:
            raise
        raise OSError(number, os.strerror(number), str(final)) from error


def _umask() -> int:
    """Return the process's file mode mask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
