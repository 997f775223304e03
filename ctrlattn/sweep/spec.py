"""TOML <-> Spec: the tables that all cells share, what is varied, and what is asked of each cell.

[loop]                                            # as in a configuration; likewise [simulation]
preset = "pidformer-printed"

[axes]
loop.controller.kp = {from = 0.0, to = 2.0, steps = 201}
loop.controller.form = ["printed", "ema"]

[analyses]
interval = {}
settling = {modes = [0.2, 0.5, 0.9]}
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import tomli_w

from ctrlattn.errors import InputError, did_you_mean, require_known
from ctrlattn.files import parsed
from ctrlattn.parsing import parse_toml
from ctrlattn.sweep.axes import Range, Sample
from ctrlattn.sweep.cell import TABLES

_RANGE = {"from", "to", "steps", "scale", "whole"}


@dataclass(frozen=True, eq=False)
class Spec:
    """A sweep: its tables as a configuration file has them, its axes, its analyses.

    Parameters
    ----------
    axes : path -> list of values, Range, or {"from", "to", "steps", "scale", "whole"}
        Such as "loop.controller.kp", "simulation.layers", "recording.layer", "checkpoint.source", "span.passes".
    analyses : name -> options
        Names are those of `ctrlattn.sweep.ANALYSES`.
    sample : Sample, optional
        None takes the grid of all axes.
    best : str, optional
        The output by which a cell is best; by default the first of the first analysis.
    loop, simulation, recording, checkpoint, span : tables
        What all cells share.

    Examples
    --------
    >>> spec = Spec({"loop.controller.kp": [0.4, 0.8]}, {"interval": {}}, loop={"preset": "pidformer-printed"})
    >>> loads(dumps(spec)).axes
    {'loop.controller.kp': [0.4, 0.8]}
    """

    axes: Mapping[str, Any]
    analyses: Mapping[str, Any]
    sample: Sample | Mapping[str, Any] | None = None
    best: str | None = None
    loop: Mapping[str, Any] | None = None
    simulation: Mapping[str, Any] | None = None
    recording: Mapping[str, Any] | None = None
    checkpoint: Mapping[str, Any] | None = None
    span: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "sample" and isinstance(value, Mapping):
                object.__setattr__(self, "sample", _sample(value))
            elif f.name == "best":
                if value is not None and not isinstance(value, str):
                    raise InputError(f"best must be the name of an output, got {value!r}")
            elif value is not None and not isinstance(value, Mapping | Sample):
                raise InputError(f"{f.name} must be a table, got {value!r}")
        object.__setattr__(self, "axes", dict(_flat(self.axes)))

    @property
    def tables(self) -> dict[str, Any]:
        """The tables that are given."""
        return {name: getattr(self, name) for name in TABLES if getattr(self, name) is not None}

    def to_table(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and texts, as a TOML file holds them."""
        table: dict[str, Any] = {name: dict(value) for name, value in self.tables.items()}
        table["axes"] = {path: _plain_axis(axis) for path, axis in self.axes.items()}
        table["analyses"] = {name: dict(options) for name, options in self.analyses.items()}
        if self.sample is not None:
            table["sample"] = dict(self.sample if isinstance(self.sample, Mapping) else asdict(self.sample))
        return table if self.best is None else {**table, "best": self.best}


def load(path: str | os.PathLike[str]) -> Spec:
    """Read a TOML file.

    Raises
    ------
    InputError
        The file is missing, its TOML does not parse, or a table is unknown or is none.

    Examples
    --------
    >>> load("no-such-file.toml")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: no-such-file.toml: no such file
    """
    return parsed(path, loads)


def loads(text: str) -> Spec:
    """Read a sweep from TOML text.

    Raises
    ------
    InputError
        As `load`.

    Examples
    --------
    >>> loads("[axis]")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: axis: unknown key: did you mean 'axes'?
    """
    table = parse_toml(text)
    names = [f.name for f in fields(Spec)]
    for key in table:
        if key not in names:
            raise InputError(f"{key}: unknown key: {did_you_mean(key, names)}")
    for key in ("axes", "analyses"):
        if key not in table:
            raise InputError(f"{key}: a sweep needs a table [{key}]")
    return Spec(**table)


def running(spec: Spec, options: Mapping[str, str]) -> Spec:
    """Return the sweep with `device` and `dtype` in place of what its table [checkpoint] says.

    They are a part of the sweep from here on: of its identity, of what workers are told, and of what its results hold.

    Raises
    ------
    InputError
        The sweep runs no network, or has one of them as an axis.

    Examples
    --------
    >>> losses = Spec({"span.passes": [1, 2]}, {"loss": {}}, checkpoint={"source": "model", "text": "news.txt"})
    >>> running(losses, {"dtype": "float64"}).checkpoint["dtype"]
    'float64'
    """
    for name in options:
        if f"checkpoint.{name}" in spec.axes:
            raise InputError(f"--{name}: it is an axis of this sweep, checkpoint.{name}: leave the option out")
        if spec.checkpoint is None and not any(path.startswith("checkpoint.") for path in spec.axes):
            raise InputError(f"--{name}: this sweep runs no network: it has no table [checkpoint]")
    return replace(spec, checkpoint={**(spec.checkpoint or {}), **options}) if options else spec


def dumps(spec: Spec) -> str:
    """Return the TOML text of a sweep; reading it gives the same sweep, its axes in their order."""
    table = spec.to_table()
    axes = table.pop("axes")  # a writer of TOML puts tables behind lists
    lines = [_inline(path, axis) for path, axis in axes.items()]
    return tomli_w.dumps(table) + "\n[axes]\n" + "".join(f"{line}\n" for line in lines)


def as_json(spec: Spec) -> str:
    """Return the sweep as one text, the same for equal sweeps; it is what goes to workers.

    >>> as_json(Spec({"loop.skip": [1]}, {"interval": {}}))
    '{"axes": {"loop.skip": [1]}, "analyses": {"interval": {}}}'
    """
    try:
        return json.dumps(spec.to_table(), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"a sweep holds finite numbers, texts, lists and tables alone: {error}") from None


def _sample(table: Mapping[str, Any]) -> Sample:
    for key in table:
        require_known("key of sample", key, [f.name for f in fields(Sample)])
    missing = [key for key in ("method", "cells") if key not in table]
    if missing:
        raise InputError(f"sample: needs {' and '.join(missing)}")
    try:
        return Sample(**table)
    except InputError as error:
        raise InputError(f"sample: {error}") from error


def _flat(axes: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, axis) of nested tables, as TOML reads dotted keys: an axis holds no further table or list."""
    for key, value in axes.items():
        name = f"{path}.{key}" if path else str(key)
        nested = isinstance(value, Mapping) and any(
            isinstance(v, Mapping | list | tuple | Range) for v in value.values()
        )
        if nested and not set(value) <= _RANGE:
            yield from _flat(value, name)
        else:
            yield name, value


def _inline(key: str, value: Any) -> str:
    """Return key = value in one line."""
    if isinstance(value, Mapping):
        inner = ", ".join(_inline(name, each) for name, each in value.items())
        return f"{json.dumps(key)} = {{ {inner} }}"
    if isinstance(value, list | tuple):
        items = ", ".join(_inline("x", each).partition(" = ")[2] for each in value)
        return f"{json.dumps(key)} = [{items}]"
    return tomli_w.dumps({key: value}).strip()


def _plain_axis(axis: Any) -> Any:
    if isinstance(axis, Range):
        table = {"from": axis.low, "to": axis.high, "steps": axis.steps, "scale": axis.scale, "whole": axis.whole}
        return {key: value for key, value in table.items() if value is not None}
    if isinstance(axis, Mapping):
        return dict(axis)
    return axis.tolist() if hasattr(axis, "tolist") else list(axis) if isinstance(axis, tuple) else axis
