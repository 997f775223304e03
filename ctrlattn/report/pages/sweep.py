"""sweep -> the page of `ctrlattn sweep`: the best cell, maps over two axes, slices along each, and what was refused."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlattn import plots
from ctrlattn.plots.sweeps import Ticks
from ctrlattn.progress import Progress, silent
from ctrlattn.report import folder
from ctrlattn.report.folder import Report
from ctrlattn.report.page import Front, Heading, Page
from ctrlattn.report.section import Picture, Section, Table
from ctrlattn.report.words import count, listed, number, percent
from ctrlattn.sweep.analyses import Output
from ctrlattn.sweep.axes import Axis, Range
from ctrlattn.sweep.dataset import best_place, cell_toml, short_names, values_at
from ctrlattn.sweep.plan import SweepPlan, plan_of
from ctrlattn.sweep.spec import Spec, dumps

if TYPE_CHECKING:
    import xarray as xr

_EQUAL = 1e-9  # numbers that differ by less, relative to their size, are told as equal
_REASONS = 12  # rows of the table of refusals


@dataclass(frozen=True)
class Swept:
    """A sweep with its results, and the place of its best cell."""

    plan: SweepPlan
    spec: Spec
    dataset: "xr.Dataset"
    best: tuple[int, ...] | None

    @property
    def names(self) -> dict[str, str]:
        """path -> the name of its coordinate."""
        return short_names(self.plan.space.axes)

    @property
    def best_cell(self) -> int | None:
        """The number of the best cell."""
        return None if self.best is None else int(np.ravel_multi_index(self.best, self.plan.space.shape))


def write_sweep(
    out: str | Path, spec: Spec, dataset: "xr.Dataset", *, progress: Progress = silent, formats: Sequence[str] = ()
) -> Report:
    """Write the page of a sweep, with best.toml and sweep.toml beside it.

    Parameters
    ----------
    out : path
        Directory of the sweep.
    spec : Spec
    dataset : xarray.Dataset
        As `ctrlattn.sweep.run` returns it.
    progress : callable, optional
    formats : further formats of results.nc

    Raises
    ------
    InputError
        The directory cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from ctrlattn import sweep
    >>> spec = sweep.Spec({"loop.controller.kp": [0.2, 0.6]}, {"interval": {}}, loop={"preset": "neutreno"})
    >>> out = tempfile.mkdtemp()
    >>> write_sweep(out, spec, sweep.run(spec, out)).path.name
    'report.html'
    """
    plan = plan_of(spec)
    sweep = Swept(plan, spec, dataset, best_place(plan, dataset))
    return folder.write(out, PAGE, sweep, progress=progress, formats=formats)


def _facts(sweep: Swept) -> dict[str, Any]:
    axes = {sweep.names[axis.path]: axis.path for axis in sweep.plan.space.axes}
    return {"cells": sweep.plan.space.cells, "axes": axes, "analyses": dict(sweep.plan.analyses)}


def _heading(sweep: Swept) -> Heading:
    space = sweep.plan.space
    analyses = listed([name.replace("_", " ") for name in sweep.plan.analyses])
    kind = "a grid" if space.sample is None else f"a {space.sample.method} sample"
    return Heading(
        title=f"A sweep over {listed(list(sweep.names.values()))}",
        lead=f"{count(space.cells, 'cell')} of {kind}: {analyses}.",
        networks=[],
        listings={"sweep.toml": dumps(sweep.spec)},
        listings_title="The sweep",
    )


def _front(sweep: Swept, numbers: Any) -> Front:
    done = f"{percent(numbers['refused']['done'])} of {count(sweep.plan.space.cells, 'cell')} have all their numbers."
    return Front((_best_words(sweep), done))


def _best_words(sweep: Swept) -> str:
    output = sweep.plan.best
    if sweep.best is None:
        return f"No cell has a number for {output.name.replace('_', ' ')}"
    value = float(sweep.dataset[output.name].to_numpy()[sweep.best])
    where = listed(
        [f"{sweep.names[path]} = {_value_in_words(v)}" for path, v in values_at(sweep.plan, sweep.best).items()]
    )
    side = "largest" if output.better == "higher" else "smallest"
    equal = int(np.sum(np.isclose(sweep.dataset[output.name].to_numpy(), value, rtol=_EQUAL, atol=0))) - 1
    also = f", and in {count(equal, 'other cell')}" if equal else ""
    return f"The {side} {output.name.replace('_', ' ')} is {number(value, 3)}, at {where}{also}"


def _best(sweep: Swept) -> list[Section]:
    if sweep.best is None:
        return [Section("best", _best_words(sweep), ("Every cell was refused, or its number is undefined.",))]
    values, place = values_at(sweep.plan, sweep.best), sweep.best
    rows = [(f"{sweep.names[path]}: {path}", _value_in_words(value)) for path, value in values.items()]
    rows += [
        (
            f"{output.name}: {_with_unit(output.words, output)}",
            number(float(sweep.dataset[output.name].to_numpy()[place]), 4),
        )
        for _, output in sweep.plan.outputs
    ]
    table = Table(("axis or output", "best cell"), tuple(rows), "The best cell; best.toml is its configuration")
    words = (
        f"It is best by {sweep.plan.best.name}, the first of equals; best = ... in the file names another output.",
    )
    outputs = {output.name: float(sweep.dataset[output.name].to_numpy()[place]) for _, output in sweep.plan.outputs}
    numbers = {"cell": sweep.best_cell, "at": values, "outputs": outputs}
    return [Section("best", _best_words(sweep), words, tables=(table,), numbers=numbers)]


def _with_unit(words: str, output: Output) -> str:
    return words if output.units == "1" else f"{words} ({output.units})"


def _words_of(output: Output) -> str:
    return output.name.replace("_", " ")


def _maps(sweep: Swept) -> list[Section]:
    """Draw the map over the two longest axes of a grid; the other axes stand as in the best cell."""
    shape = sweep.plan.space.shape
    if sweep.plan.space.sample is not None or sum(size > 1 for size in shape) < 2:
        return []
    down, across = sorted(sorted(range(len(shape)), key=lambda i: -shape[i])[:2])
    place = sweep.best or tuple(0 for _ in shape)
    at = tuple(slice(None) if i in (down, across) else k for i, k in enumerate(place))
    axes = sweep.plan.space.axes
    y, x = (_ticks(sweep, axes[i]) for i in (down, across))
    mark = None if sweep.best is None else (place[down], place[across])
    fixed_axes = [i for i in range(len(shape)) if i not in (down, across) and shape[i] > 1]
    fixed_values = [
        (sweep.names[axes[i].path], sweep.dataset[sweep.names[axes[i].path]].to_numpy()[place[i]]) for i in fixed_axes
    ]
    caption = "The mark is the best cell; grey cells have no finite number." + (
        f" The map is drawn for the best cell's {listed([name for name, _ in fixed_values])}." if fixed_values else ""
    )
    # The picture is passed on without its page, so that it says itself where it was cut.
    title = ", ".join(f"{name} = {_value_in_words(value)}" for name, value in fixed_values)
    pictures = []
    for _, output in sweep.plan.outputs:
        values = sweep.dataset[output.name].to_numpy()[at]
        ax = plots.sweeps.value_map(x, y, values, _with_unit(_words_of(output), output), mark, title=title)
        words = f"{output.words} over {x.name} and {y.name}"
        pictures.append(Picture(f"map_{output.name}", words, plots.figure_of(ax), caption))
    return [Section("maps", f"Every output over {x.name} and {y.name}", (), pictures=tuple(pictures))]


def _slices(sweep: Swept) -> list[Section]:
    """Draw each output along each axis: through the best cell of a grid, all cells of a sample."""
    pictures = []
    for i, axis in enumerate(sweep.plan.space.axes):
        x, name = _ticks(sweep, axis), sweep.names[axis.path]
        if sweep.plan.space.sample is not None:
            values = {_words_of(output): sweep.dataset[output.name].to_numpy() for _, output in sweep.plan.outputs}
            drawing = plots.sweeps.value_points(x, values, sweep.best_cell)
        elif len(x.values) > 1:
            place = sweep.best or tuple(0 for _ in sweep.plan.space.shape)
            along: tuple[Any, ...] = (*place[:i], slice(None), *place[i + 1 :])
            values = {
                _words_of(output): sweep.dataset[output.name].to_numpy()[along] for _, output in sweep.plan.outputs
            }
            drawing = plots.sweeps.value_slices(x, values, None if sweep.best is None else place[i])
        else:
            continue
        pictures.append(Picture(f"along_{name}", f"Each output along {name}", drawing, f"Along {name}."))
    words = "Along each axis, through the best cell" if sweep.plan.space.sample is None else "All cells along each axis"
    return [Section("slices", words, (), pictures=tuple(pictures))] if pictures else []


def _refusal_section(sweep: Swept) -> list[Section]:
    status = sweep.dataset["status"].to_numpy()
    done = float(np.mean(np.all(status == 0, axis=0)))
    numbers = {"done": done, "refused": int(np.sum(status == 1)), "lost": int(np.sum(status == 2))}
    if done == 1:
        return [Section("refused", "No cell was refused", (), numbers=numbers)]
    pairs = zip(
        sweep.dataset["failure_analysis"].to_numpy().tolist(),
        sweep.dataset["failure_message"].to_numpy().tolist(),
        strict=True,
    )
    reasons = Counter(pairs).most_common(_REASONS)
    rows = tuple((analysis, str(often), why) for (analysis, why), often in reasons)
    table = Table(("analysis", "cells", "why"), rows, f"The {count(len(rows), 'most frequent reason')}")
    words = ("A cell that is refused is nan in results.nc, where failure_message says why.",)
    title = f"{percent(1 - done)} of the cells lack a number"
    return [Section("refused", title, words, tables=(table,), numbers=numbers)]


def _ticks(sweep: Swept, axis: Axis) -> Ticks:
    name = sweep.names[axis.path]
    log = isinstance(axis.values, Range) and axis.values.scale == "log"
    return Ticks(name, sweep.dataset[name].to_numpy(), log)


def _value_in_words(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _best_toml(sweep: Swept) -> str:
    return "# no cell has a number\n" if sweep.best is None else cell_toml(sweep.plan, sweep.best)


PAGE: Page[Swept] = Page(
    heading=_heading,
    facts=_facts,
    front=_front,
    sections={"best": _best, "maps": _maps, "slices": _slices, "refused": _refusal_section},
    beside={"best.toml": _best_toml, "sweep.toml": lambda sweep: dumps(sweep.spec)},
    dataset=lambda sweep: sweep.dataset,
)
