"""bytes at the start of a file -> names, shapes and sizes of its weights, before one of them is read.

    safetensors    length (8 bytes), a JSON text {name: {dtype, shape, data_offsets}}, data
    torch          a zip archive; tensors are made without data, on torch's device "meta"
    GGUF           "GGUF", version, counts, values by key, (name, shape, type, offset) of each weight, data

Every size that a header declares is compared with the length of the file before anything of that size is read or
allocated. A file that is cut short, or whose header says nonsense, is therefore refused in one line at once.
"""

import math
import mmap
import os
import re
import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from zipfile import is_zipfile

from ctrlattn.checkpoints.network.foreign import foreign
from ctrlattn.errors import InputError
from ctrlattn.parsing import LARGEST_TEXT, parse_json, read_json

# In the order of transformers: the first that is there is read. Ours, with gains, is that of `save`.
WEIGHTS = (
    "ctrlattn.safetensors",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_MOST_DIMENSIONS = 8
_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
}  # fmt: skip
# Numbers of GGUF by their code: struct's letter and the size in bytes. 8 is a text, 9 an array.
_NUMBERS = {
    0: ("B", 1), 1: ("b", 1), 2: ("H", 2), 3: ("h", 2), 4: ("I", 4), 5: ("i", 4), 6: ("f", 4), 7: ("?", 1),
    10: ("Q", 8), 11: ("q", 8), 12: ("d", 8),
}  # fmt: skip
_TEXT, _ARRAY = 8, 9
GGUF_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")  # one of several files of a network


class ItemCount(int):
    """The number of items of an array that was passed over."""


class WeightPlace(NamedTuple):
    """Where the data of one weight of a GGUF file are."""

    shape: tuple[int, ...]  # slowest first, as in torch
    kind: int  # ggml's number of the type
    start: int  # from the start of the file
    end: int
    path: Path


class GGUFHeader(NamedTuple):
    """Values by key, where an array is the ItemCount of its items; where each weight is; all files of the network."""

    values: dict[str, Any]
    places: dict[str, WeightPlace]
    paths: tuple[Path, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the weights."""
        return tuple(self.places)


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]] | None:
    """Map name -> shape of a directory's weights, in the files that transformers reads; None without any.

    Raises
    ------
    InputError
        An index that names a file elsewhere or one that is absent; a header that does not fit its file.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return _indexed_shapes(folder / name) if name.endswith(".json") else _header(folder / name)
    return None


def _indexed_shapes(index: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights in all files that an index names."""
    files = shards(index)
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(set(files.values())):
        if Path(file).name != file or file in ("", ".", ".."):
            raise InputError(f"{index}: names a file outside its directory, {file!r}: weights are read from there only")
        if not (index.parent / file).is_file():
            raise InputError(f"{index}: names {file!r}, which is not there: the download is not complete")
        shapes |= _header(index.parent / file)
    missing = sorted(files.keys() - shapes.keys())
    if missing:
        raise InputError(f"{index}: {len(missing)} weights are not in their files, the first is {missing[0]}")
    return shapes


def shards(index: Path) -> dict[str, str]:
    """Map name of a weight -> name of its file, as an index says.

    Raises
    ------
    InputError
        The index is damaged.
    """
    content = read_json(index)
    files = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise InputError(f"{index}: weight_map must say for each weight which file it is in")
    return files


def _header(path: Path) -> dict[str, tuple[int, ...]]:
    return pickled_shapes(path) if path.suffix == ".bin" else safetensors_header(path)


def pickled_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Map name -> shape of every weight in a file of torch.save, whose data are not read.

    Raises
    ------
    InputError
        The file is damaged, or holds more than tensors; nothing else of it is unpickled.
    """
    import torch

    with foreign(path):
        mapped = {"mmap": True} if is_zipfile(path) else {}  # the format before torch 1.6 is read through
        weights = torch.load(path, map_location="meta", weights_only=True, **mapped)
    if not isinstance(weights, dict):
        raise InputError(f"{path}: holds a {type(weights).__name__}, wanted is a table of weights")
    return {str(name): tuple(weight.shape) for name, weight in weights.items() if isinstance(weight, torch.Tensor)}


def require_alike(source: Any, name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise InputError where a weight cannot be what the network wants, whichever way it is turned round on reading.

    >>> require_alike("a", "w", (4, 3), (3, 1, 4))
    >>> require_alike("a", "w", (4, 3), (4, 4))
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: a: the weight w is (4, 3) in the file, its configuration wants (4, 4)
    """
    if sorted(size for size in shape if size != 1) != sorted(size for size in expected if size != 1):
        raise misfit(source, name, shape, expected)


def misfit(source: Any, name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> InputError:
    """Make the error of a weight that has another shape than the network wants."""
    return InputError(f"{source}: the weight {name} is {shape} in the file, its configuration wants {expected}")


def safetensors_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Map name -> shape of every weight in a safetensors file, whose data are all there.

    Raises
    ------
    InputError
        A header that is no header, or declares other bytes than the file has.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > min(size - 8, LARGEST_TEXT):
            raise InputError(
                f"{path}: a damaged or incomplete file: it has {size} bytes, and no whole safetensors header"
            )
        header = parse_json(file.read(length), path)
    if not isinstance(header, dict):
        raise InputError(f"{path}: a damaged file: its safetensors header is no table of weights")
    header.pop("__metadata__", None)
    shapes = {name: _shape(path, name, entry) for name, entry in header.items()}
    ends = [entry["data_offsets"][1] for entry in header.values()]
    if max(ends, default=0) != size - 8 - length:
        raise InputError(
            f"{path}: a damaged or incomplete file: its header declares {max(ends, default=0)} bytes of weights, "
            f"{size - 8 - length} are there"
        )
    return shapes


def _shape(path: Path, name: str, entry: Any) -> tuple[int, ...]:
    """Return the shape of one entry, whose bytes are those of its shape and type."""
    fault = InputError(f"{path}: a damaged file: the entry of the weight {name!r} in its header makes no sense")
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise fault
    shape, offsets, kind = entry["shape"], entry["data_offsets"], entry["dtype"]
    if not (_are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2 and isinstance(kind, str)):
        raise fault
    if offsets[0] > offsets[1] or (kind in _BYTES and offsets[1] - offsets[0] != math.prod(shape) * _BYTES[kind]):
        raise fault
    return tuple(shape)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)


def gguf_header(path: Path) -> GGUFHeader:
    """Read what a GGUF file says of itself, and check that its weights are all there.

    For a network in several files, name the first.

    Raises
    ------
    InputError
        No GGUF file, or one whose header declares more than the file has. In a network of several files, another one
        than the first, or one that is missing or belongs to another network.

    References
    ----------
    The GGUF specification of ggml, versions 2 and 3.
    """
    first = _gguf_header(path)
    count = first.values.get("split.count", 1)
    if count == 1:
        return first
    match = GGUF_PART.fullmatch(path.name)
    if match is None or type(count) is not int or int(match[3]) != count:
        raise InputError(f"{path}: one of {count} files of a network, whose name is none of -00001-of-{count:05}.gguf")
    paths = [path.with_name(f"{match[1]}-{number:05}-of-{match[3]}.gguf") for number in range(1, count + 1)]
    if int(match[2]) != 1:
        raise InputError(f"{path}: one of {count} files of a network: name the first, {paths[0].name}")
    absent = [each.name for each in paths if not each.is_file()]
    if absent:
        raise InputError(f"{path}: of its {count} files {absent[0]} is not there: the download is not complete")
    headers = [first, *map(_gguf_header, paths[1:])]
    places = {name: place for header in headers for name, place in header.places.items()}
    numbers = [header.values.get("split.no") for header in headers]
    tensor_count = first.values.get("split.tensors.count", len(places))
    if numbers != list(range(count)) or not len(places) == tensor_count == sum(
        len(header.places) for header in headers
    ):
        raise InputError(f"{path}: its {count} files are not those of one network")
    values = {key: value for key, value in first.values.items() if not key.startswith("split.")}
    return GGUFHeader(values, places, tuple(paths))


def _gguf_header(path: Path) -> GGUFHeader:
    """Read what one file says."""
    try:
        with path.open("rb") as file:
            return _GGUF(path, file).header()
    except (struct.error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: a damaged or incomplete file: {error}") from error


class _GGUF:
    """A GGUF file that is read from its start; no read goes beyond its end."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file, self.left = path, file, os.fstat(file.fileno()).st_size
        self.size = self.left

    def header(self) -> GGUFHeader:
        if self._bytes(4, "") != b"GGUF":
            raise InputError(f"{self.path}: no GGUF file")
        version = self._number("I")
        if version not in (2, 3):
            raise InputError(f"{self.path}: GGUF of version {version}: versions 2 and 3 can be read")
        weights, values = self._number("Q"), self._number("Q")
        self._require(weights * 24 + values * 13, "values and weights")  # the least that each takes
        pairs = {self._text("a key"): self._value(f"value {i}") for i in range(values)}
        behind = dict(self._weight() for _ in range(weights))  # from the start of all data
        step = pairs.get("general.alignment", 32)
        if type(step) is not int or step < 1:
            raise InputError(f"{self.path}: a damaged file: general.alignment is {step!r}")
        start = -(-(self.size - self.left) // step) * step
        longest = max((place.end for place in behind.values()), default=0)
        if start + longest > self.size:
            raise InputError(
                f"{self.path}: a damaged or incomplete file: its header declares {start + longest} bytes, it has "
                f"{self.size}"
            )
        places = {
            name: place._replace(start=place.start + start, end=place.end + start) for name, place in behind.items()
        }
        return GGUFHeader(pairs, places, (self.path,))

    def _require(self, count: int, label: str) -> None:
        if count > self.left:
            raise InputError(
                f"{self.path}: a damaged or incomplete file: its header declares {label} of {count} bytes, {self.left} "
                "are left"
            )

    def _bytes(self, count: int, label: str) -> bytes:
        self._require(count, label or "a start")
        self.left -= count
        return self.file.read(count)

    def _skip(self, count: int, label: str) -> None:
        self._require(count, label)
        self.left -= count
        self.file.seek(count, os.SEEK_CUR)

    def _number(self, letter: str) -> Any:
        return struct.unpack(f"<{letter}", self._bytes(struct.calcsize(f"<{letter}"), "a number"))[0]

    def _text(self, label: str) -> str:
        return self._bytes(self._number("Q"), label).decode()

    def _value(self, label: str) -> Any:
        kind = self._number("I")
        if kind == _TEXT:
            return self._text(label)
        if kind == _ARRAY:
            return self._items(label)
        if kind not in _NUMBERS:
            raise InputError(f"{self.path}: a damaged file: {label} is of the unknown type {kind}")
        return self._number(_NUMBERS[kind][0])

    def _items(self, label: str) -> ItemCount:
        """Pass over the items of an array, and return their number."""
        kind, count = self._number("I"), self._number("Q")
        if kind in _NUMBERS:
            self._skip(count * _NUMBERS[kind][1], label)
        elif kind == _TEXT:
            self._skip_texts(count, label)
        else:
            raise InputError(f"{self.path}: a damaged file: {label} is an array of the unknown type {kind}")
        return ItemCount(count)

    def _skip_texts(self, count: int, label: str) -> None:
        """Pass over texts, each behind its length; a read for each would take most of the time of a header."""
        self._require(count * 8, label)
        length = struct.Struct("<Q").unpack_from
        with mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            start = at = self.size - self.left
            for _ in range(count):
                if at > self.size - 8:
                    self._require(at + 8 - start, label)
                at += 8 + length(data, at)[0]
        self._skip(at - start, label)

    def _weight(self) -> tuple[str, WeightPlace]:
        """Read the name of a weight, and its place behind the start of all data."""
        from gguf.constants import GGML_QUANT_SIZES

        name, count = self._text("a name"), self._number("I")
        if count > _MOST_DIMENSIONS:
            raise InputError(f"{self.path}: a damaged file: {name!r} has {count} dimensions")
        shape = [self._number("Q") for _ in range(count)]
        kind, offset = self._number("I"), self._number("Q")
        if kind not in GGML_QUANT_SIZES:
            raise InputError(f"{self.path}: {name!r} is of the unknown type {kind}")
        block, each = GGML_QUANT_SIZES[kind]
        return name, WeightPlace(
            tuple(reversed(shape)), kind, offset, offset + math.prod(shape) // block * each, self.path
        )
