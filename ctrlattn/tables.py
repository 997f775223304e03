"""Dataset -> .mat, .csv and .parquet: what is tabular for programs that read no netCDF.

A table holds the variables of equal dims. Each row is one place; its first columns are the coordinates of that place.
"""

import io
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlattn.capacity import require_memory
from ctrlattn.errors import InputError, require_installed, require_known
from ctrlattn.files import atomic
from ctrlattn.netcdf import PARTS

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

FORMATS = ("mat", "csv", "parquet")
_LONGEST_NAME = 63  # letters of a name in MATLAB
_CELL = 24.0  # bytes of a number in a table, an estimate from below


def require_formats(formats: Iterable[str]) -> tuple[str, ...]:
    """Return the formats, each once, if all are known and their libraries are there.

    Raises
    ------
    InputError
        A format is unknown.
    MissingExtra
        parquet is asked for and pyarrow is not installed.

    Examples
    --------
    >>> require_formats(["csv", "mat", "csv"])
    ('csv', 'mat')
    >>> require_formats(["xls"])
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: unknown format 'xls': known are mat, csv, parquet
    """
    names = tuple(dict.fromkeys(require_known("format", name, FORMATS) for name in formats))
    if "parquet" in names:
        require_installed("the format parquet", "pyarrow")
    return names


def export(path: str | os.PathLike[str], result: "xr.Dataset", formats: Iterable[str]) -> list[Path]:
    """Write a Dataset beside its netCDF file in further formats.

    run.nc -> run.mat holds everything. run.layer_head.csv holds the variables with the dims layer and head, and
    run.scalars.csv those without dims; files of parquet are named alike.

    Parameters
    ----------
    path : path
        The netCDF file whose name the files take.
    result : Dataset
    formats : names
        Some of mat, csv and parquet.

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        A format is unknown; two names are one in MATLAB; a table does not fit into memory.
    MissingExtra
        parquet is asked for and pyarrow is not installed.

    Examples
    --------
    >>> import tempfile, xarray as xr
    >>> run = xr.Dataset({"gain": ("layer", [0.5, 2.0]), "pole": ("layer", [1j, -1j])}, {"layer": [0, 1]})
    >>> files = export(tempfile.mkdtemp() + "/run.nc", run, ["mat", "csv"])
    >>> [file.name for file in files]
    ['run.mat', 'run.layer.csv']
    >>> print(files[1].read_text().strip())
    layer,gain,pole_real,pole_imag
    0,0.5,0.0,1.0
    1,2.0,-0.0,-1.0
    """
    stem = Path(path).with_suffix("")
    files = []
    for kind in require_formats(formats):
        if kind == "mat":
            files.append(_save_mat(stem.with_name(f"{stem.name}.mat"), result))
            continue
        for dims, frame in tables(result).items():
            file = stem.with_name(f"{stem.name}.{'_'.join(dims) or 'scalars'}.{kind}")
            with atomic(file) as temporary:
                if kind == "csv":
                    temporary.write_text(frame.to_csv(index=False, lineterminator="\n"), encoding="utf-8")
                else:
                    frame.to_parquet(temporary, engine="pyarrow", index=False)
            files.append(file)
    return files


def tables(result: "xr.Dataset") -> dict[tuple[str, ...], "pd.DataFrame"]:
    """Return one table for each tuple of dims: coordinates first, then the variables; a complex one has two columns.

    Raises
    ------
    InputError
        The tables do not fit into memory.

    Examples
    --------
    >>> import xarray as xr
    >>> tables(xr.Dataset({"gain": (("layer", "head"), [[1.0, 2.0]])}))[("layer", "head")].to_dict("list")
    {'layer': [0, 0], 'head': [0, 1], 'gain': [1.0, 2.0]}
    """
    import pandas as pd

    groups: dict[tuple[str, ...], list[str]] = {}
    for name, variable in result.data_vars.items():
        groups.setdefault(tuple(map(str, variable.dims)), []).append(str(name))
    columns = {dims: [*_labels(result, dims), *names] for dims, names in groups.items()}
    rows = {dims: result[names[0]].size for dims, names in groups.items()}
    require_memory(sum(_CELL * rows[dims] * len(columns[dims]) for dims in groups), "the tables")
    return {
        dims: pd.DataFrame({k: v for name in columns[dims] for k, v in _columns(result, name, dims).items()})
        for dims in groups
    }


def _labels(result: "xr.Dataset", dims: tuple[str, ...]) -> list[str]:
    """Return the coordinates of a table: its dims, then what else names places along them."""
    coordinates = [str(n) for n, c in result.coords.items() if n not in dims and c.dims and set(c.dims) <= set(dims)]
    return [*dims, *coordinates]


def _columns(result: "xr.Dataset", name: str, dims: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return one column of a variable, in the order of the rows of the table; two of a complex one."""
    shape = tuple(result.sizes[dim] for dim in dims)
    coordinate = result[name] if name in result.variables else None
    values = np.arange(result.sizes[name]) if coordinate is None else coordinate.to_numpy()
    own_dims = (name,) if coordinate is None else coordinate.dims
    where = tuple(slice(None) if dim in own_dims else None for dim in dims)
    order = [own_dims.index(dim) for dim in dims if dim in own_dims]
    cells = np.broadcast_to(values.transpose(order)[where] if dims else values, shape).reshape(-1)
    if cells.dtype.kind == "c":
        return {f"{name}_{ending}": getattr(cells, ending) for ending in PARTS.values()}
    return {name: cells.astype(object) if cells.dtype.kind in "UT" else cells}


def _save_mat(path: Path, result: "xr.Dataset") -> Path:
    """Write all variables; dims, units and long names go to the struct `about`, the attributes to `attributes`."""
    from scipy.io import savemat

    names = {str(name): _identifier(str(name)) for name in result.variables}
    _require_different(names)
    header = {
        names[str(name)]: {
            "dims": _cells([str(dim) for dim in variable.dims]),
            **{_identifier(str(key)): _mat(value) for key, value in variable.attrs.items()},
        }
        for name, variable in result.variables.items()
    }
    attributes = {_identifier(str(key)): _mat(value) for key, value in result.attrs.items()}
    arrays = {names[str(name)]: _mat(variable.to_numpy()) for name, variable in result.variables.items()}
    image = io.BytesIO()
    savemat(image, {**arrays, "about": header, "attributes": attributes}, long_field_names=True, oned_as="column")
    with atomic(path) as temporary:
        temporary.write_bytes(image.getbuffer())
    return path


def _require_different(names: dict[str, str]) -> None:
    """Raise InputError where two variables, or one and a struct of ours, have the same name in MATLAB."""
    owners = {"about": "the struct about", "attributes": "the struct attributes"}
    for name, identifier in names.items():
        if identifier in owners:
            raise InputError(f"{owners[identifier]} and {name} are both {identifier!r} in MATLAB: rename one")
        owners[identifier] = name


def _identifier(name: str) -> str:
    """Return a name as MATLAB allows it.

    >>> _identifier("2nd-gain"), _identifier("_x")
    ('x2nd_gain', 'x_x')
    """
    word = re.sub(r"[^A-Za-z0-9_]", "_", name)[: _LONGEST_NAME - 1]
    return word if word[:1].isalpha() else f"x{word}"


def _mat(value: Any) -> Any:
    """Return a value as savemat writes it: texts as a cell array, booleans and half precision as numbers it knows."""
    array = np.asarray(value)
    if array.dtype.kind in "OUT":
        return str(value) if array.ndim == 0 else _cells(array)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _cells(texts: Any) -> np.ndarray:
    cells = np.empty(np.shape(texts), dtype=object)
    cells[...] = texts
    return cells
