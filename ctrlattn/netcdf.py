"""z -> z_real, z_imag; text -> characters: a Dataset as a netCDF file that every reader understands, and back.

netCDF has no complex numbers. What h5py makes of them is a compound type: Octave reads it as zeros, and xarray with
netCDF4 as records. Texts of any length stop Octave, and texts of fixed length in HDF5 end R. Rows of characters and
pairs of real variables are older than all readers, and each reads them rightly. docs/results.md lists what was run.
"""

import io
import json
import os
from collections.abc import Hashable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlattn.capacity import require_memory
from ctrlattn.errors import InputError, InputTypeError, shown
from ctrlattn.files import atomic
from ctrlattn.processes import Rehearsal

if TYPE_CHECKING:
    import xarray as xr

CONVENTIONS = "CF-1.11"
SIGNATURE = b"\x89HDF\r\n\x1a\n"  # the first bytes of a file of netCDF4
PARTS = {"real": "real", "imaginary": "imag"}  # part of a complex variable -> ending of its name in the file
_DEFLATE = 1032  # deflate makes no byte more than so many
_LONGEST = 60_000  # bytes of a text attribute: HDF5 keeps an attribute below 64 KiB
# What h5py, h5netcdf and xarray raise on damaged bytes.
_DAMAGED = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, IndexError, OverflowError)
# HDF5 walks a damaged file in compiled code, which no signal reaches: with h5py 3.16 one was walked for more than ten
# minutes. Every file is therefore walked first in a process that can be ended.
_REHEARSAL = Rehearsal("ctrlattn.netcdf:walk")
_SECONDS = 30.0  # for a file, and one for each 10 MB
_BLOCK = 1 << 20  # numbers
_LISTS = "lists_as_json"  # attribute that names the attributes which are lists of texts
_TEXT_OF = "attribute_of"  # a variable that holds a text too long for an attribute names what it belongs to
# Marks that only `load` needs.
_PART, _OF = "complex_part", "complex_of"
_HALF = "stored_for"  # float16, which netCDF has not
# Attributes that say whose file it is: of what commands write, of a part of a profile, and of any other `save`.
_OURS = ("ctrlattn", "fingerprint", "saved_by_ctrlattn")
_SAVED = "saved_by_ctrlattn"
SCHEMAS = (1,)  # values of `schema_version` that are read
_STATED = ("Conventions", "title", "source", "institution")  # where other files say what they are
_ELSEWHERE = "xarray.load_dataset opens it, and results.save writes the Dataset as a file that is read here"


def save(path: str | os.PathLike[str], result: "xr.Dataset") -> None:
    """Write a Dataset to one netCDF-4 file that all readers understand, whole or not at all.

    A complex variable z becomes z_real and z_imag, texts become characters in UTF-8, and half precision becomes single
    precision. `load` gives the Dataset back as it was. All else in the file is as in the Dataset.

    Parameters
    ----------
    path : path
    result : Dataset
        Numbers, complex numbers, truth values and texts. Attributes are numbers, texts and lists of these.

    Raises
    ------
    InputError
        A complex z beside a variable z_real; a text with a zero byte or that is no UTF-8; extended precision; the
        schema of another version of this package.
    InputTypeError
        A variable of other objects.
    OSError
        The directory does not exist or is not writable.

    References
    ----------
    NetCDF Climate and Forecast Metadata Conventions 1.11, sections 2.2 (types) and 6.1 (labels).

    Examples
    --------
    >>> import tempfile, pathlib, xarray as xr
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.nc"
    >>> save(path, xr.Dataset({"z": ("mode", [1 + 2j])}))
    >>> load(path)["z"].item(), sorted(xr.load_dataset(path).data_vars)
    ((1+2j), ['z_imag', 'z_real'])
    """
    import h5netcdf
    import h5py
    import xarray as xr

    portable_form = portable(result)
    # The file is made in memory: where a disk is full, HDF5 fails once more when the process ends, and breaks it.
    image = io.BytesIO()
    with h5netcdf.File(image, "w") as file:
        portable_form.dump_to_store(xr.backends.H5NetCDFStore(file))
    with h5py.File(image, "r+") as file:
        _fix_attributes(file)
    # No view of it: one that a full disk leaves in a traceback breaks Python 3.12 and 3.13 when they collect it.
    content = image.getvalue()
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def load(path: str | os.PathLike[str]) -> "xr.Dataset":
    """Read a netCDF file of this package into memory; earlier ones, with complex numbers as records, are read too.

    A file is of this package if it has the attribute `ctrlattn` or `saved_by_ctrlattn`; a part of a profile has
    `fingerprint`. The first file costs a fifth of a second more, since another process walks every file first.

    Raises
    ------
    InputError
        A file that is missing, is not netCDF 4, has half of a complex variable, or is not read within 30 s (and 1 s for
        each 10 MB) or ends the process that reads it, as happens with a damaged file; a file of another schema.

    Examples
    --------
    >>> load("no-such-file.nc")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: no-such-file.nc: no such file
    """
    import xarray as xr

    require_readable(path)
    try:
        _require_plain(path)
        schema = _other_schema(path)
        if not schema:
            return _dataset_of(xr.load_dataset(path, engine="h5netcdf"))
    except InputError as error:
        raise InputError(f"{path}: not a netCDF file that can be read: {error}") from error
    except _DAMAGED as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"{path}: not a netCDF file that can be read: {reason}") from error
    raise InputError(f"{path}: {schema}: {_ELSEWHERE}")


def require_readable(path: str | os.PathLike[str], seconds: float = _SECONDS) -> None:
    """Raise InputError unless another process comes to the end of a file, within some seconds and 1 s for each 10 MB.

    Examples
    --------
    >>> require_readable("no-such-file.nc")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: no-such-file.nc: no such file
    """
    _require_there(path)
    seconds += os.path.getsize(path) / 1e7
    if not _REHEARSAL.comes_back(os.path.abspath(path), seconds):
        raise InputError(
            f"{path}: not a netCDF file that can be read: it was not read within {seconds:.1f} s, or ended the process "
            "that read it, as happens with a damaged file"
        )


def walk(path: str) -> None:
    """Read all that a netCDF file holds, block by block; what is wrong with it is left to `load`."""
    import h5py

    with suppress(*_DAMAGED, MemoryError):
        _require_plain(path)
        with h5py.File(path, "r") as file:
            items = [file]
            file.visititems(lambda _, item: items.append(item))
            for item in items:
                with suppress(*_DAMAGED):
                    _walk_item(item)


def _walk_item(item: Any) -> None:
    import h5py

    for name in item.attrs:
        with suppress(*_DAMAGED):
            item.attrs[name]
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        return
    with suppress(*_DAMAGED):
        for dimension in item.dims:
            dimension.items()
    if not item.shape:
        item[()]
        return
    rows = max(1, _BLOCK // max(1, item.size // max(1, item.shape[0])))
    for start in range(0, item.shape[0], rows):
        item[start : start + rows]


def portable(result: "xr.Dataset") -> "xr.Dataset":
    """Return the Dataset as the file holds it: real numbers and texts alone, with marks by which `load` restores it.

    Raises
    ------
    InputError, InputTypeError
        As `save`.

    Examples
    --------
    >>> import xarray as xr
    >>> portable(xr.Dataset({"z": ("mode", [1 + 2j])}))["z_imag"].item()
    2.0
    """
    import xarray as xr

    variables: dict[Hashable, xr.Variable] = {}
    coordinates: list[Hashable] = []
    for name, variable in result.variables.items():
        for new, form in _forms(name, variable):
            if new in variables or (new != name and new in result.variables):
                raise InputError(f"the complex variable {name!r} is written as {new!r}, which is there: rename one")
            variables[new] = form
            if name in result.coords:
                coordinates.append(new)
    attrs = {"Conventions": CONVENTIONS, **result.attrs}
    if later := _later_schema(attrs):
        raise InputError(f"attributes: {later}: leave out schema_version or ctrlattn")
    if "ctrlattn" not in attrs:
        attrs[_SAVED] = 1
    for key in [k for k, v in attrs.items() if isinstance(v, str) and len(v.encode(errors="replace")) > _LONGEST]:
        text = _text(key, xr.Variable((), attrs.pop(key), {_TEXT_OF: key}))
        variables[f"attribute_{key}"] = text
    return xr.Dataset(variables, attrs=_plain_attributes(attrs)).set_coords(coordinates)


def _forms(name: Hashable, variable: "xr.Variable") -> list[tuple[Hashable, "xr.Variable"]]:
    """Return (name, variable) in the file of one variable of the Dataset: two of a complex variable, otherwise one."""
    import xarray as xr

    kind, size = variable.dtype.kind, variable.dtype.itemsize
    if (kind == "f" and size > 8) or (kind == "c" and size > 16):
        raise InputError(f"{name}: netCDF has no numbers of {variable.dtype}; give float64 or complex128")
    attrs = _plain_attributes(variable.attrs)
    if kind == "c":
        values = variable.to_numpy()
        return [
            (
                f"{name}_{ending}",
                xr.Variable(variable.dims, getattr(values, ending), {**attrs, _OF: str(name), _PART: part}),
            )
            for part, ending in PARTS.items()
        ]
    if kind in "OUT":
        return [(name, _text(name, variable))]
    encoding = {key: value for key, value in variable.encoding.items() if key != "coordinates"}
    if kind == "f" and size < 4:
        values = variable.to_numpy().astype(np.float32)
        return [(name, xr.Variable(variable.dims, values, {**attrs, _HALF: str(variable.dtype)}))]
    return [(name, xr.Variable(variable.dims, variable.to_numpy(), attrs, encoding))]


def _text(name: Hashable, variable: "xr.Variable") -> "xr.Variable":
    """Return a variable of texts, which xarray writes as rows of characters in UTF-8."""
    import xarray as xr

    values = np.asarray(variable.to_numpy(), dtype=object)
    for text in values.flat:
        if not isinstance(text, str):
            raise InputTypeError(f"{name}: a file has numbers and texts, got {type(text).__name__}")
        if "\0" in text:
            raise InputError(f"{name}: the text {shown(text)} has a zero byte, which ends a text in netCDF")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{name}: the text {shown(text)} cannot be written as UTF-8") from error
    return xr.Variable(variable.dims, values.astype(str), _plain_attributes(variable.attrs), {"dtype": "S1"})


def _plain_attributes(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Return attributes whose lists of texts are JSON, since an array of texts stops Octave."""
    lists = [
        str(key)
        for key, value in attrs.items()
        if isinstance(value, list | tuple | np.ndarray) and len(value) and all(isinstance(text, str) for text in value)
    ]
    texts = {key: json.dumps(list(attrs[key]), ensure_ascii=False) for key in lists}
    return {**attrs, **texts, **({_LISTS: json.dumps(lists)} if lists else {})}


def _fix_attributes(file: Any) -> None:
    """Give the texts among the attributes of an HDF5 file a fixed length, which makes them characters of netCDF."""
    objects = [file]
    file.visititems(lambda _, item: objects.append(item))
    for item in objects:
        for key, value in list(item.attrs.items()):
            if isinstance(value, str):
                _fix_attribute(item, key, value.encode())


def _fix_attribute(item: Any, key: str, text: bytes) -> None:
    import h5py

    if text:
        item.attrs.create(key, text, dtype=h5py.string_dtype("utf-8", len(text)))
    else:
        item.attrs[key] = h5py.Empty("S1")


def _dataset_of(file_dataset: "xr.Dataset") -> "xr.Dataset":
    """Return the Dataset that `save` was given, from what stands in the file."""
    import xarray as xr

    attrs = _unmark(file_dataset.attrs)
    if attrs.get("Conventions") == CONVENTIONS:
        del attrs["Conventions"]
    attrs.pop(_SAVED, None)
    variables: dict[Hashable, xr.Variable] = {}
    coordinates: set[Hashable] = set()
    pairs: dict[str, dict[str, xr.Variable]] = {}
    for name, variable in file_dataset.variables.items():
        marks, belongs = _unmark(variable.attrs), name
        if _TEXT_OF in marks:
            attrs[str(marks[_TEXT_OF])] = str(variable.to_numpy())
            continue
        if _OF in marks:
            belongs = str(marks[_OF])
            pairs.setdefault(belongs, {})[str(marks.get(_PART))] = variable
        half = marks.pop(_HALF, None) is not None
        values = variable.to_numpy().astype(np.float16) if half else variable.data
        variables[belongs] = xr.Variable(variable.dims, values, marks, variable.encoding)
        if name in file_dataset.coords:
            coordinates.add(belongs)
    variables |= {name: _complex_variable(name, parts) for name, parts in pairs.items()}
    return xr.Dataset(variables, attrs=attrs).set_coords(coordinates)


def _complex_variable(name: str, parts: Mapping[str, "xr.Variable"]) -> "xr.Variable":
    """Return the complex variable of which the file has two parts."""
    import xarray as xr

    if set(parts) != set(PARTS):
        raise InputError(f"the complex variable {name!r} is not there as one real and one imaginary part")
    real, imaginary = (parts[part] for part in PARTS)
    if real.dims != imaginary.dims or real.dtype != imaginary.dtype or real.dtype.kind != "f":
        raise InputError(f"the parts of the complex variable {name!r} do not fit together")
    z = np.empty(real.shape, dtype=np.result_type(real.dtype, np.complex64))
    z.real, z.imag = real.to_numpy(), imaginary.to_numpy()  # a sum would make nan of an infinite part
    return xr.Variable(real.dims, z, {key: v for key, v in _unmark(real.attrs).items() if key not in (_OF, _PART)})


def _unmark(attrs: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return attributes as `save` was given them: lists that were JSON, and empty texts."""
    attributes = {key: "" if isinstance(value, bytes) and not value else value for key, value in attrs.items()}
    if _LISTS in attributes:
        for key in json.loads(attributes.pop(_LISTS)):
            attributes[key] = json.loads(attributes[key])
    return attributes


def _require_there(path: str | os.PathLike[str]) -> None:
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    if not os.path.isfile(path):  # the system waits for whoever writes into a pipe
        raise InputError(f"{path}: not a netCDF file that can be read: it is no regular file")


def _other_schema(path: str | os.PathLike[str]) -> str:
    """Say what a file is that this package has not written, or has in a later version; "" for one that is read."""
    import h5py

    with h5py.File(path, "r") as file:
        attrs = {key: _single(file.attrs[key]) for key in (*_OURS, *_STATED, "schema_version") if key in file.attrs}
        if later := _later_schema(attrs):
            return later
        if any(key in attrs for key in _OURS) or attrs.get("schema_version") in SCHEMAS or _is_earlier(file):
            return ""
    stated = [f"{key} = {shown(attrs[key])}" for key in _STATED if key in attrs]
    return f"a netCDF file of another schema, not of ctrlattn; it states {', '.join(stated) or 'none'}"


def _later_schema(attrs: Mapping[Any, Any]) -> str:
    """Name the attributes by which ctrlattn wrote in a schema that this version does not know; "" for others."""
    schema = _single(attrs.get("schema_version", SCHEMAS[-1]))
    if "ctrlattn" not in attrs or schema in SCHEMAS:
        return ""
    return f"schema_version {schema} of ctrlattn {attrs['ctrlattn']}, where this version knows {SCHEMAS[-1]}"


def _is_earlier(file: Any) -> bool:
    """Tell whether a file without our attributes is one of an earlier `save`.

    Those have complex numbers as records, or `Conventions` in fixed length as UTF-8: netCDF's own library writes
    ASCII, and h5netcdf by itself texts of any length.
    """
    import h5py

    if "Conventions" in file.attrs:
        text = h5py.check_string_dtype(file.attrs.get_id("Conventions").dtype)
        return text is not None and text.length is not None and text.encoding == "utf-8"
    return any(isinstance(item, h5py.Dataset) and item.dtype.kind == "c" for item in file.values())


def _single(value: Any) -> Any:
    """Return an attribute as a text or a number; netCDF's own library writes arrays of one number."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value) if isinstance(value, str) or np.size(value) != 1 else np.asarray(value).item()


def _require_plain(path: str | os.PathLike[str]) -> None:
    """Raise InputError for netCDF 3, for links, for data in other files, and for more data than there are.

    Groups and variables are visited once each, so that a group that holds itself ends.
    """
    import h5py

    with open(path, "rb") as raw:
        if raw.read(3) == b"CDF":
            raise InputError(f"it is netCDF 3, where this package writes netCDF 4: {_ELSEWHERE}")
    variables: list[Any] = []
    with h5py.File(path, "r") as file:
        groups = [file]
        file.visititems(lambda _, item: (variables if isinstance(item, h5py.Dataset) else groups).append(item))
        for group in groups:
            for name in group if isinstance(group, h5py.Group) else ():
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise InputError(f"{name!r} is a link to another place, which is not followed")
        for variable in variables:
            if variable.external or variable.is_virtual:
                raise InputError(f"the data of {variable.name!r} are in another file, which is not read")
        declared = sum(variable.size * variable.dtype.itemsize for variable in variables if variable.shape is not None)
    if declared > _DEFLATE * os.stat(path).st_size:
        raise InputError(f"its variables declare {declared} bytes, more than the file can hold")
    require_memory(declared, "its variables")
