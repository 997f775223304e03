"""Tag, bytes, padding: the elements of a level 5 .mat file, read as a whole before scipy reads them.

scipy takes the types and the number of parts of an array on trust, and a file with a wrong byte there can end the
process. Arrays are checked here down to those inside cells and structs.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from ctrlattn.errors import InputError

# Bytes of one number of each data type that an array may have.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
_MATRIX, _COMPRESSED, _INT32, _UINT32 = 14, 15, 5, 6
_CELL, _STRUCT, _OBJECT, _TEXT, _SPARSE = 1, 2, 3, 4, 5
_NUMBERS = range(6, 16)
_FUNCTION, _OPAQUE = 16, 17
_COMPLEX = 0x800
_DEEPEST = 32  # cells in cells; scipy calls itself for each


class Element(NamedTuple):
    """One element: its data type and its bytes."""

    kind: int
    content: bytes


def require_arrays(data: bytes) -> None:
    """Raise InputError where a .mat file of level 5 has an array that is not whole; other levels pass.

    Examples
    --------
    >>> import io, scipy.io
    >>> file = io.BytesIO()
    >>> scipy.io.savemat(file, {"A": [[0.5]]})
    >>> require_arrays(file.getvalue())
    >>> require_arrays(file.getvalue()[:-3])
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: this is not a .mat file that can be read: an element ends too early

    References
    ----------
    MathWorks, MAT-File Format, chapter 1 (level 5).
    """
    order = "<" if data[126:128] == b"IM" else ">"
    if len(data) < 128 or 0 in data[:4] or data[124:126] != struct.pack(f"{order}H", 0x100):
        return
    for element in _elements(data[128:], order):
        if element.kind == _COMPRESSED:
            try:
                inner = zlib.decompress(element.content)
            except zlib.error as error:
                raise _damage(str(error)) from error
            for array in _elements(inner, order):
                _require_array(array, order, 0)
        else:
            _require_array(element, order, 0)


def _elements(data: bytes, order: str) -> Iterator[Element]:
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise _damage("an element ends too early")
        kind, length = struct.unpack_from(f"{order}II", data, at)
        start = at + 8
        if kind >> 16:  # a short element holds its length, type and bytes in eight bytes
            kind, length, start = kind & 0xFFFF, kind >> 16, at + 4
            if length > 4:
                raise _damage("a short element has more than four bytes")
        if start + length > len(data):
            raise _damage("an element ends too early")
        yield Element(kind, data[start : start + length])
        # A compressed element has no padding, and the last padding of an array may be absent.
        at = start + length if kind == _COMPRESSED else max(at + 8, at + 8 * math.ceil((start + length - at) / 8))


def _require_array(array: Element, order: str, depth: int) -> None:
    if array.kind != _MATRIX or depth > _DEEPEST:
        raise _damage("an array is expected" if array.kind != _MATRIX else f"arrays lie deeper than {_DEEPEST}")
    if not array.content and depth:
        return  # an empty place of a cell
    flags, *parts = _elements(array.content, order)
    if flags.kind != _UINT32 or len(flags.content) != 8:
        raise _damage("an array has no flags")
    word = struct.unpack(f"{order}II", flags.content)[0]
    kind, is_complex = word & 0xFF, bool(word & _COMPLEX)
    if kind in (_FUNCTION, _OPAQUE):
        return  # they have other parts, and no system is among them
    if kind not in (_CELL, _STRUCT, _OBJECT, _TEXT, _SPARSE, *_NUMBERS):
        raise _damage(f"an array has the unknown class {kind}")
    if len(parts) < 2 or parts[0].kind != _INT32 or len(parts[0].content) % 4:
        raise _damage("an array has no dimensions and name")
    shape = struct.unpack(f"{order}{len(parts[0].content) // 4}i", parts[0].content)
    if min(shape, default=-1) < 0:
        raise _damage("an array has no dimensions")
    _require_parts(kind, is_complex, math.prod(shape), parts[2:], order, depth)


def _require_parts(kind: int, is_complex: bool, size: int, parts: list[Element], order: str, depth: int) -> None:
    """Raise InputError unless the parts behind the name are numbers or arrays inside."""
    if kind in (_CELL, _STRUCT, _OBJECT):
        head = parts[: {_CELL: 0, _STRUCT: 2, _OBJECT: 3}[kind]]
        fields = 1
        if kind != _CELL:
            if len(head) < kind or head[-2].kind != _INT32 or len(head[-2].content) != 4:
                raise _damage("a struct has no fields")
            length = struct.unpack(f"{order}i", head[-2].content)[0]
            if length < 1 or len(head[-1].content) % length:
                raise _damage("a struct has no fields")
            fields = len(head[-1].content) // length
        inside = parts[len(head) :]
        if len(inside) != fields * size:
            raise _damage("a cell or struct has another number of arrays than it says")
        for array in inside:
            _require_array(array, order, depth + 1)
        return
    count = (3 if kind == _SPARSE else 1) + is_complex
    if len(parts) != count or any(part.kind not in _SIZES for part in parts):
        raise _damage("an array has another number of parts, or of another type, than it says")
    if kind in _NUMBERS and any(len(part.content) != size * _SIZES[part.kind] for part in parts):
        raise _damage("an array has another number of elements than it says")


def _damage(why: str) -> InputError:
    return InputError(f"this is not a .mat file that can be read: {why}")
