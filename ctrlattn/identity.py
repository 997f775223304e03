"""What a result is of: a digest over every byte that decides it, and the folder of work that has the same digest.

A name, a size or a sample of the weights says nothing: two texts of one name and length gave one result, and a head
that was set to zero was not seen. Work is resumed where the digest is the same; work of another digest is left alone.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any

import numpy as np

from ctrlattn.errors import InputError
from ctrlattn.files import IDENTITY, atomic, claim, output_directory
from ctrlattn.parsing import read_json
from ctrlattn.progress import Progress, silent

_WORK = ("*.nc", "*.safetensors", "report.html", "model")  # results of a version that wrote no identity
_CHUNK = 1 << 20  # bytes of a file that are in memory at once: they stay near the processor while they are hashed


def digest(*parts: Any) -> str:
    """Return the SHA-256, in hexadecimal, of texts, bytes, numbers, arrays, tensors, lists and dictionaries of these.

    Types, shapes and boundaries count: digest("ab", "c") is not digest("a", "bc").

    Raises
    ------
    TypeError
        A part of another type, whose bytes say nothing of its content.

    Examples
    --------
    >>> digest("text", 1)[:8], digest("text", 2)[:8]
    ('c4b2c454', 'e59e1aa3')
    """
    state = hashlib.sha256()
    for part in parts:
        _add(state, part)
    return state.hexdigest()


def of_network(model: Any) -> str:
    """Return the BLAKE3 of a torch module: the class of every module, and every byte of every parameter and buffer.

    Weights are hashed where they lie, one after the other; those that are not contiguous are copied one at a time.
    """
    from blake3 import blake3

    state = blake3()
    for name, module in model.named_modules():
        _add(state, f"{name} {type(module).__name__}")
    for tensors in (model.named_parameters(), model.named_buffers()):
        for name, weight in tensors:
            _add(state, name)
            _add(state, weight)
    return state.hexdigest()


def of_files(paths: Iterable[Path], *, stop: Event | None = None) -> str:
    """Return the BLAKE3 of the contents of files, in the given order; read in parts of 1 MiB until `stop` is set.

    It takes 0.4 of the processor time of SHA-256: weights are the one content that is large. Sizes are hashed too, so
    that the end of one file is not the beginning of the next.
    """
    from blake3 import blake3

    state = blake3()
    part = bytearray(_CHUNK)
    for path in paths:
        state.update(f"file {path.stat().st_size} ".encode())
        with path.open("rb", buffering=0) as opened:
            while (count := opened.readinto(part)) and not (stop and stop.is_set()):
                state.update(memoryview(part)[:count])
    return state.hexdigest()


class FilesDigest:
    """`of_files` in a thread of its own, beside the work of the block that reads the same files.

    The hash lets other threads of Python run. A block that ends early ends the thread as well.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "weights"
    >>> _ = file.write_bytes(b"weights")
    >>> with FilesDigest([file]) as files:
    ...     content = file.read_bytes()
    ...     mark = files.digest()
    >>> mark == of_files([file])
    True
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._states = self._read_states()
        self._ended = Event()
        self._digest = ""
        self._error: OSError | None = None
        self._thread = Thread(target=self._work, name="hashing")

    def __enter__(self) -> "FilesDigest":
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def digest(self) -> str:
        """Return the digest, once it is there; the work that it is for must be done.

        Raises
        ------
        InputError
            A file was changed meanwhile: the work may have read one half of the old and one of the new.
        RuntimeError
            The block is left, and the thread was ended with it.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        if not self._digest:
            raise RuntimeError("the digest of files must be asked for inside the block that it is taken beside")
        for path, before, after in zip(self._paths, self._states, self._read_states(), strict=True):
            if before != after:
                raise InputError(f"{path}: was changed while it was read: start again when nothing writes to it")
        return self._digest

    def _work(self) -> None:
        try:
            digest_of_all = of_files(self._paths, stop=self._ended)
        except OSError as error:
            self._error = error
        else:  # that of a part of the files is none
            self._digest = "" if self._ended.is_set() else digest_of_all

    def _read_states(self) -> list[tuple[int, ...]]:
        facts = [path.stat() for path in self._paths]
        return [(fact.st_dev, fact.st_ino, fact.st_size, fact.st_mtime_ns, fact.st_ctime_ns) for fact in facts]


def work_folder(out: Path, mark: str, progress: Progress = silent) -> Path:
    """Return `out` if it holds no work, or work of the same digest; otherwise a folder of that digest beside it.

    Parameters
    ----------
    out : Path
        Made if absent.
    mark : str
        Digest of what decides the work.
    progress : callable
        It is told in one line when the work goes to another folder.

    Returns
    -------
    Path
        `out`, or `out-<first 8 digits of the digest>`. It holds identity.json.

    Raises
    ------
    InputError
        The folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> out = Path(tempfile.mkdtemp()) / "out"
    >>> work_folder(out, "11111111aa").name, work_folder(out, "22222222bb").name, work_folder(out, "11111111aa").name
    ('out', 'out-22222222', 'out')
    """
    folder = output_directory(out)
    if not _is_of(folder, mark):
        folder = out.with_name(f"{out.resolve().name}-{mark[:8]}")
        claim(folder)
        output_directory(folder)
        progress(f"{out} holds work of another network, text or setting: this work goes to {folder}", 0, 1)
        if not _is_of(folder, mark):
            raise InputError(f"{folder}: holds other work; give another --out")
    with atomic(folder / IDENTITY) as path:
        path.write_text(json.dumps({"identity": mark}) + "\n", encoding="utf-8")
    return folder


def _is_of(folder: Path, mark: str) -> bool:
    """Tell whether the folder is that of this digest, or holds no work; files that a user keeps there are none."""
    if not (folder / IDENTITY).exists():
        return not any(any(folder.glob(pattern)) for pattern in _WORK)
    try:
        return bool(read_json(folder / IDENTITY)["identity"] == mark)
    except (InputError, KeyError, TypeError):
        return False


def _add(state: Any, part: Any) -> None:
    """Add a value to the hash, a tag of type and size before the content."""
    if part is None or isinstance(part, bool | int | float | str):
        content = repr(part).encode()
        state.update(f"{type(part).__name__} {len(content)} ".encode() + content)
    elif isinstance(part, bytes):
        state.update(f"bytes {len(part)} ".encode() + part)
    elif isinstance(part, dict):
        state.update(f"dict {len(part)} ".encode())
        for key in sorted(part, key=repr):
            _add(state, key)
            _add(state, part[key])
    elif isinstance(part, list | tuple):
        state.update(f"list {len(part)} ".encode())
        for item in part:
            _add(state, item)
    else:
        _add_array(state, part)


def _add_array(state: Any, part: Any) -> None:
    if hasattr(part, "detach"):
        import torch

        state.update(f"tensor {part.dtype} {tuple(part.shape)} ".encode())
        flat = part.detach().cpu().contiguous().reshape(-1)
        array = flat.view(torch.uint8).numpy() if len(flat) else np.zeros(0, np.uint8)
    elif isinstance(part, np.ndarray | np.generic) and part.dtype != object:
        array = np.ascontiguousarray(part)
        state.update(f"array {array.dtype.str} {array.shape} ".encode())
    else:
        raise TypeError(f"an identity is of texts, numbers, arrays and tensors, got {type(part).__name__}")
    state.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
