"""Trajectory -> xarray.Dataset -> one netCDF file and back; two results compared.

state (depth, ..., token, feature); prediction, error, control (layer, ..., token, feature)
"""

import io
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlattn import __version__, config
from ctrlattn.arrays import to_numpy
from ctrlattn.capacity import require_memory
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.files import atomic
from ctrlattn.loop import Loop, Trajectory

if TYPE_CHECKING:
    import xarray as xr

SCHEMA_VERSION = 1
_DEFLATE = 1032  # deflate makes no byte more than so many
# What h5py, h5netcdf and xarray raise on damaged bytes.
_DAMAGED = (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, IndexError, OverflowError)


def to_xarray(
    trajectory: Trajectory, *, loop: Loop | None = None, seed: int | None = None, tokens: list[str] | None = None
) -> "xr.Dataset":
    """Label a trajectory: dims depth, layer, batch..., token, feature.

    Parameters
    ----------
    trajectory : Trajectory
        It holds numpy or torch arrays; with record="last" there is the state alone, without depth.
    loop : Loop, optional
        The one that was run; its TOML goes into the attributes.
    seed : int, optional
    tokens : strings, optional
        They become the coordinate `text` of the tokens.

    Returns
    -------
    xarray.Dataset
        attrs: schema_version, ctrlattn, configuration, seed.

    Raises
    ------
    InputTypeError
        Something else than a Trajectory.
    InputError
        A number of token names that does not fit; a loop that a file cannot hold.

    Examples
    --------
    >>> import numpy as np
    >>> from ctrlattn import presets, simulate
    >>> loop = presets.get("prediction-error")
    >>> to_xarray(simulate(loop, np.ones((3, 2)), 4), loop=loop)["state"].dims
    ('depth', 'token', 'feature')
    """
    import xarray as xr

    if not isinstance(trajectory, Trajectory):
        raise InputTypeError(f"to_xarray takes what simulate returns, a Trajectory, got {type(trajectory).__name__}")
    arrays = {name: to_numpy(value) for name, value in trajectory._asdict().items() if value is not None}
    recorded = len(arrays) > 1
    batch = tuple(f"batch_{i}" for i in range(arrays["state"].ndim - 2 - recorded))
    variables: dict[str, Any] = {}
    for name, value in arrays.items():
        time = ("depth" if name == "state" else "layer",) if recorded else ()
        variables[name] = ((*time, *batch, "token", "feature"), value, {"long_name": name, "units": "1"})
    labelled = xr.Dataset(variables, attrs={"schema_version": SCHEMA_VERSION, "ctrlattn": __version__})
    if recorded:
        labelled = labelled.assign_coords(
            depth=("depth", np.arange(labelled.sizes["depth"]), {"units": "layer"}),
            layer=("layer", np.arange(labelled.sizes["layer"]), {"units": "layer"}),
        )
    if tokens is not None:
        if len(tokens) != labelled.sizes["token"]:
            raise InputError(f"{len(tokens)} token names for {labelled.sizes['token']} tokens")
        labelled = labelled.assign_coords(text=("token", np.array(tokens, dtype=str)))
    if loop is not None:
        labelled.attrs["configuration"] = config.dumps(loop)
    if seed is not None:
        labelled.attrs["seed"] = seed
    return labelled


def save(path: str | os.PathLike[str], result: "xr.Dataset") -> None:
    """Write a Dataset to one netCDF file (h5netcdf), whole or not at all; complex numbers round-trip.

    Raises
    ------
    OSError
        The directory does not exist or is not writable.

    Examples
    --------
    >>> import tempfile, pathlib, xarray as xr
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.nc"
    >>> save(path, xr.Dataset({"z": ("mode", [1 + 2j])}))
    >>> load(path)["z"].item()
    (1+2j)
    """
    import h5netcdf
    import xarray as xr

    # The file is made in memory: where a disk is full, HDF5 fails once more when the process ends, and breaks it.
    image = io.BytesIO()
    with h5netcdf.File(image, "w") as file:
        result.dump_to_store(xr.backends.H5NetCDFStore(file))
    with atomic(path) as temporary:
        temporary.write_bytes(image.getbuffer())


def load(path: str | os.PathLike[str]) -> "xr.Dataset":
    """Read a netCDF file into memory.

    Raises
    ------
    InputError
        A file that is missing or is not netCDF 4.

    Examples
    --------
    >>> load("no-such-file.nc")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: no-such-file.nc: no such file
    """
    import xarray as xr

    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    try:
        _require_plain(path)
        return xr.load_dataset(path, engine="h5netcdf")
    except InputError as error:
        raise InputError(f"{path}: not a netCDF file that can be read: {error}") from error
    except _DAMAGED as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"{path}: not a netCDF file that can be read: {reason}") from error


def _require_plain(path: str | os.PathLike[str]) -> None:
    """Raise InputError for what netCDF never has, links and data in other files, and for more data than there are.

    Groups and variables are visited once each, so that a group that holds itself ends.
    """
    import h5py

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


@dataclass(frozen=True)
class Difference:
    """One variable in two results."""

    absolute: float  # largest |a - b|; inf where only one of them is finite or the shapes differ
    relative: float  # the same over the largest |a|
    first: int | None  # first depth or layer at which they differ; None where they are equal or have no depth
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two results held side by side."""

    differences: dict[str, Difference]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    attributes: dict[str, tuple[str, str]]  # those that differ, as text

    @property
    def largest(self) -> float:
        """Largest relative difference; inf where a variable is missing on one side."""
        if self.only_a or self.only_b:
            return float("inf")
        return max((d.relative for d in self.differences.values()), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts and numbers."""
        return {**asdict(self), "largest": self.largest}


def compare(a: "xr.Dataset", b: "xr.Dataset") -> Comparison:
    """Largest differences of each variable, what only one has, and the attributes that differ.

    Two NaN, or two equal infinities, at the same place are equal.

    Examples
    --------
    >>> import xarray as xr
    >>> a = xr.Dataset({"y": ("depth", [1.0, 2.0])})
    >>> compare(a, a + 1.0).differences["y"]
    Difference(absolute=1.0, relative=0.5, first=0, note='')
    """
    names = [str(name) for name in a.data_vars if name in b.data_vars]
    keys = sorted({*map(str, a.attrs), *map(str, b.attrs)})
    pairs = {key: (str(a.attrs.get(key, "absent")), str(b.attrs.get(key, "absent"))) for key in keys}
    return Comparison(
        differences={name: _difference(a[name], b[name]) for name in names},
        only_a=tuple(str(name) for name in a.data_vars if name not in b.data_vars),
        only_b=tuple(str(name) for name in b.data_vars if name not in a.data_vars),
        attributes={key: pair for key, pair in pairs.items() if pair[0] != pair[1]},
    )


def json_ready(value: Any) -> Any:
    """Plain JSON values: arrays become lists, and infinities and NaN, which JSON has not, the strings "inf" and "nan".

    >>> json_ready({"gain": float("inf"), "z": np.ones(2)})
    {'gain': 'inf', 'z': [1.0, 1.0]}
    """
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return json_ready(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _difference(a: "xr.DataArray", b: "xr.DataArray") -> Difference:
    if a.dims != b.dims or a.shape != b.shape:
        note = f"shapes differ: {dict(a.sizes)} and {dict(b.sizes)}"
        return Difference(float("inf"), float("inf"), None, note)
    x, y = a.to_numpy(), b.to_numpy()
    if x.dtype.kind not in "fciub" or y.dtype.kind not in "fciub":
        same = bool(np.array_equal(x, y))
        return Difference(
            0.0 if same else float("inf"), 0.0 if same else float("inf"), None, "" if same else "texts differ"
        )
    equal = (x == y) | ((x != x) & (y != y))
    if equal.all():
        return Difference(0.0, 0.0, None)
    with np.errstate(invalid="ignore"):
        distance = np.abs(np.subtract(x, y, dtype=np.result_type(x, y, np.float32)))
    distance = np.where(equal, 0.0, np.where(np.isfinite(distance), distance, np.inf))
    finite = np.abs(x[np.isfinite(x)])
    scale = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    first = None
    if a.dims and a.dims[0] in ("depth", "layer"):
        first = int(np.flatnonzero(~equal.reshape(len(equal), -1).all(axis=1))[0])
    return Difference(float(distance.max()), float(distance.max()) / scale, first)
