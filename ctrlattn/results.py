"""Trajectory -> xarray.Dataset; two results compared. `save` and `load` of a netCDF file come from `netcdf`.

state (depth, ..., token, feature); prediction, error, control (layer, ..., token, feature)
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlattn import __version__
from ctrlattn.arrays import to_numpy
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.loop import Loop, Trajectory
from ctrlattn.netcdf import load, save

if TYPE_CHECKING:
    import xarray as xr

SCHEMA_VERSION = 1
__all__ = [
    "SCHEMA_VERSION",
    "Comparison",
    "Difference",
    "compare",
    "complete",
    "json_ready",
    "load",
    "save",
    "to_xarray",
]
_WORDS = {
    "state": "state x of the tokens",
    "prediction": "prediction y",
    "error": "error e = beta r - x",
    "control": "control u",
}


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
        variables[name] = ((*time, *batch, "token", "feature"), value, {"long_name": _WORDS[name], "units": "1"})
    labelled = xr.Dataset(variables, attrs={"schema_version": SCHEMA_VERSION, "ctrlattn": __version__})
    if recorded:
        labelled = labelled.assign_coords(
            depth=("depth", np.arange(labelled.sizes["depth"]), {"units": "layer", "long_name": "layer that reads it"}),
            layer=("layer", np.arange(labelled.sizes["layer"]), {"units": "layer", "long_name": "layer"}),
        )
    if tokens is not None:
        if len(tokens) != labelled.sizes["token"]:
            raise InputError(f"{len(tokens)} token names for {labelled.sizes['token']} tokens")
        labelled = labelled.assign_coords(
            text=("token", np.array(tokens, dtype=str), {"long_name": "text of the token"})
        )
    if loop is not None:
        from ctrlattn import config

        labelled.attrs["configuration"] = config.dumps(loop)
    if seed is not None:
        labelled.attrs["seed"] = seed
    return complete(labelled)


def complete(result: "xr.Dataset") -> "xr.Dataset":
    """Return a Dataset in which every dim has a coordinate, every variable a long name, and every number a unit.

    What is there stays. A dim without coordinate gets 0, 1, ...; a name gets its own words; a number is without unit.
    Texts are labels and become coordinates.

    Examples
    --------
    >>> import xarray as xr
    >>> done = complete(xr.Dataset({"mean_gain": ("head", [0.5, 1.5])}))
    >>> done["head"].to_numpy().tolist(), done["mean_gain"].attrs
    ([0, 1], {'long_name': 'mean gain', 'units': '1'})
    """
    numbered = {
        name: (name, np.arange(size), {"long_name": f"number of the {str(name).replace('_', ' ')}"})
        for name, size in result.sizes.items()
        if name not in result.variables
    }
    dataset = result.assign_coords(numbered)
    dataset = dataset.set_coords([name for name, v in dataset.variables.items() if v.dtype.kind in "OUT"])
    for name in dataset.variables:
        units = {} if dataset[name].dtype.kind in "OUT" else {"units": "1"}
        dataset[name].attrs = {"long_name": str(name).replace("_", " "), **units, **dataset[name].attrs}
    return dataset


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
        """Return the comparison as plain dicts and numbers."""
        return {**asdict(self), "largest": self.largest}

    def to_xarray(self) -> "xr.Dataset":
        """Return the differences by variable; one that only one side has is infinite, and `note` says which side.

        >>> import xarray as xr
        >>> only = compare(xr.Dataset({"y": 1.0}), xr.Dataset({"z": 1.0})).to_xarray()
        >>> only.note.values.tolist(), only.absolute.values.tolist()
        (['only in the first', 'only in the second'], [inf, inf])
        """
        import xarray as xr

        sides = {"only in the first": self.only_a, "only in the second": self.only_b}
        missing = {name: Difference(np.inf, np.inf, None, note) for note, names in sides.items() for name in names}
        rows = {**self.differences, **missing}
        first = [np.nan if row.first is None else row.first for row in rows.values()]
        return xr.Dataset(
            {
                "absolute": ("variable", [row.absolute for row in rows.values()], {"long_name": "largest difference"}),
                "relative": (
                    "variable", [row.relative for row in rows.values()], {"long_name": "relative to the largest value"},
                ),
                "first": ("variable", first, {"long_name": "first layer that differs"}),
                "note": ("variable", np.array([row.note for row in rows.values()], dtype=str)),
            },
            coords={"variable": np.array(list(rows), dtype=str)},
        )  # fmt: skip


def compare(a: "xr.Dataset", b: "xr.Dataset") -> Comparison:
    """Return the largest difference of each variable, what only one has, and the attributes that differ.

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
    """Return plain JSON values: arrays become lists; infinities and NaN, which JSON has not, become "inf" and "nan".

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
