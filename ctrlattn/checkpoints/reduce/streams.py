"""x_1, ..., x_m: the parts of a stream, some of them in memory and the others in a file without a name.

A stream of a long text has more numbers than there is room for. What exceeds `LARGEST` is in a temporary file of the
system, which vanishes with the process. Where the disk of that file is full, the system's error says so.
"""

import tempfile
import weakref
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple, overload

import torch

LARGEST = 1 << 28  # bytes that are held in memory: the usual calibration text of a network of 7 billion weights


class _FilePlace(NamedTuple):
    """Where a part is in the file, and as what it comes back."""

    start: int
    size: int
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


class Streams(Sequence[torch.Tensor]):
    """Parts of a stream, read one at a time; each may be replaced by one of the same size.

    Raises
    ------
    OSError
        The temporary file cannot be written.

    Examples
    --------
    >>> parts = Streams([torch.zeros(2, 3), torch.ones(2, 3)], largest=30)
    >>> parts.replace(1, 2 * parts[1])
    >>> parts[1][0].tolist(), len(parts)
    ([2.0, 2.0, 2.0], 2)
    """

    def __init__(self, parts: Sequence[torch.Tensor] = (), *, largest: int | None = None) -> None:
        self._left = LARGEST if largest is None else largest
        self._parts: list[torch.Tensor | _FilePlace] = []
        self._file: IO[bytes] | None = None
        self._end = 0
        for part in parts:
            self.append(part)

    def append(self, part: torch.Tensor) -> None:
        """Add a part behind the others."""
        size = part.numel() * part.element_size()
        if size <= self._left:
            self._left -= size
            self._parts.append(part)
            return
        place = _FilePlace(self._end, size, part.shape, part.dtype, part.device)
        self._write(place, part)
        self._end += size
        self._parts.append(place)

    def replace(self, i: int, part: torch.Tensor) -> None:
        """Let another part of the same shape and type stand at place i."""
        place = self._parts[i]
        if isinstance(place, torch.Tensor):
            self._parts[i] = part
            return
        if (part.shape, part.dtype) != (place.shape, place.dtype):
            raise ValueError(f"a part of {tuple(place.shape)} is replaced by one of {tuple(part.shape)}")
        self._write(place, part)

    def __len__(self) -> int:
        return len(self._parts)

    @overload
    def __getitem__(self, i: int) -> torch.Tensor: ...
    @overload
    def __getitem__(self, i: slice) -> list[torch.Tensor]: ...
    def __getitem__(self, i: int | slice) -> torch.Tensor | list[torch.Tensor]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        place = self._parts[i]
        return place if isinstance(place, torch.Tensor) else self._read(place)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (self[i] for i in range(len(self)))

    def _write(self, place: _FilePlace, part: torch.Tensor) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the parts)
            weakref.finalize(self, self._file.close)
        self._file.seek(place.start)
        self._file.write(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        self._file.flush()  # a disk that is full is told here, and not when the file is closed

    def _read(self, place: _FilePlace) -> torch.Tensor:
        assert self._file is not None
        self._file.seek(place.start)
        content = torch.frombuffer(bytearray(self._file.read(place.size)), dtype=place.dtype)
        return content.reshape(place.shape).to(place.device)
