"""batches -> one labelled xarray.Dataset: an axis is a dimension of a grid, and a coordinate of a sample's cells."""

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlattn import __version__, results
from ctrlattn.sweep.analyses import ANALYSES
from ctrlattn.sweep.axes import Axis
from ctrlattn.sweep.batch import MEANINGS, unpacked
from ctrlattn.sweep.cell import tables_of
from ctrlattn.sweep.plan import SweepPlan
from ctrlattn.sweep.spec import Spec
from ctrlattn.sweep.spec import dumps as spec_dumps

if TYPE_CHECKING:
    import xarray as xr

SCHEMA_VERSION = 1


def collected(plan: SweepPlan, spec: Spec, batches: Iterable[bytes]) -> "xr.Dataset":
    """Join all batches, in their order, to one Dataset.

    Returns
    -------
    xarray.Dataset
        One variable for each output, nan where a cell is refused. status (analysis, ...): 0 done, 1 refused, 2 lost.
        failure_cell, failure_analysis and failure_message (failure) say why. The attribute sweep holds the TOML.
    """
    import xarray as xr

    values = np.empty((len(plan.outputs), plan.space.cells))
    status = np.empty((len(plan.analyses), plan.space.cells), np.uint8)
    failures: list[tuple[int, str, str]] = []
    names = list(plan.analyses)
    for index, content in enumerate(batches):
        start, stop = plan.bounds(index)
        batch = unpacked(content)
        values[:, start:stop], status[:, start:stop] = batch.values, batch.status
        failures += [(start + cell, names[analysis], why) for analysis, cell, why in batch.messages]
    dims, shape = dimensions(plan), plan.space.shape
    variables: dict[str, Any] = {
        output.name: (dims, each.reshape(shape), {"long_name": output.words, "units": output.units})
        for (_, output), each in zip(plan.outputs, values, strict=True)
    }
    meanings = {"flag_values": list(MEANINGS), "flag_meanings": " ".join(MEANINGS.values()), "units": "1"}
    variables["status"] = (("analysis", *dims), status.reshape(len(names), *shape), meanings)
    failures.sort()
    if failures:
        cells, which, why = zip(*failures, strict=True)
        variables |= {
            "failure_cell": ("failure", np.array(cells), {"long_name": "number of the cell, the last axis fastest"}),
            "failure_analysis": ("failure", np.array(which, dtype=str)),
            "failure_message": ("failure", np.array(why, dtype=str)),
        }
    attributes = {"schema_version": SCHEMA_VERSION, "ctrlattn": __version__, "sweep": spec_dumps(spec)}
    coordinates = {"analysis": ("analysis", np.array(names, dtype=str)), **_coordinates(plan)}
    return results.complete(xr.Dataset(variables, coordinates, {**attributes, "best": plan.best.name}))


def short_names(axes: Iterable[Axis]) -> dict[str, str]:
    """Return path -> the name of its dimension: the last key, and more of the path where two axes share it.

    >>> short_names([Axis("loop.controller.kp", (1,)), Axis("span.layers", (1,)), Axis("simulation.layers", (1,))])
    {'loop.controller.kp': 'kp', 'span.layers': 'span_layers', 'simulation.layers': 'simulation_layers'}
    """
    paths = [axis.path for axis in axes]
    reserved = {"analysis", "failure", "cell", "status", *(o.name for a in ANALYSES.values() for o in a.outputs)}
    names = {}
    for path in paths:
        *_, last = path.split(".")
        alone = sum(other.split(".")[-1] == last for other in paths) == 1 and last not in reserved
        names[path] = last if alone else path.replace(".", "_")
    return names


def dimensions(plan: SweepPlan) -> tuple[str, ...]:
    """Return the dimensions of every output: one for each axis, or the cells of a sample."""
    return tuple(short_names(plan.space.axes).values()) if plan.space.sample is None else ("cell",)


def best_place(plan: SweepPlan, dataset: "xr.Dataset") -> tuple[int, ...] | None:
    """Return where the output that decides is best: the first of equals, or None where no cell has a number."""
    values = dataset[plan.best.name].to_numpy()
    if np.all(np.isnan(values)):
        return None
    pick = np.nanargmax if plan.best.better == "higher" else np.nanargmin
    return tuple(int(i) for i in np.unravel_index(pick(values), values.shape))


def values_at(plan: SweepPlan, place: tuple[int, ...]) -> dict[str, Any]:
    """Return the value of each axis in a cell, by path."""
    number = int(np.ravel_multi_index(place, plan.space.shape))
    return {path: column[0] for path, column in plan.space.values(number, number + 1).items()}


def cell_toml(plan: SweepPlan, place: tuple[int, ...]) -> str:
    """Return a cell as TOML that a command reads.

    It is the configuration of the loop, which `ctrlattn simulate` reads, with the other tables as comments. Without a
    loop it is the sweep of this cell alone, which `ctrlattn sweep` reads.
    """
    values = values_at(plan, place)
    tables = tables_of(plan.tables, values)
    if "loop" not in tables:
        axes = {path: [value] for path, value in values.items()}
        return spec_dumps(replace(Spec(**json.loads(plan.text)), axes=axes, sample=None))
    import tomli_w

    from ctrlattn import config
    from ctrlattn.sweep.cell import Cell

    other_tables = {name: table for name, table in tables.items() if name not in ("loop", "simulation")}
    configuration = Cell(tables).configuration
    text = config.dumps(configuration.loop, configuration.simulation)
    comments = tomli_w.dumps(other_tables).splitlines()  # a configuration of a loop has no such tables
    return text + "".join(f"# {line}".rstrip() + "\n" for line in comments)


def _coordinates(plan: SweepPlan) -> dict[str, Any]:
    names = short_names(plan.space.axes)
    if plan.space.sample is None:
        columns = {
            axis.path: axis.values if isinstance(axis.values, tuple) else axis.values.grid() for axis in plan.space.axes
        }
        dims = {path: names[path] for path in columns}
    else:
        columns = {path: tuple(column) for path, column in plan.space.values(0, plan.space.cells).items()}
        dims = dict.fromkeys(columns, "cell")
    return {
        names[path]: (dims[path], np.array(column), {"long_name": path, "units": _unit(path)})
        for path, column in columns.items()
    }


def _unit(path: str) -> str:
    return {"layers": "layer", "passes": "pass", "tokens": "token"}.get(path.split(".")[-1], "1")
