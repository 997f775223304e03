"""spec -> plan: cells, batches and bytes, all judged before work starts.

Batches are cut by nominal times and not by measured ones. The same sweep therefore has the same batches everywhere, so
that a batch is the same to the last bit wherever it is computed, and one that is done stays done.
"""

import json
import math
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from ctrlattn import __version__, devices
from ctrlattn.capacity import require_disk, require_memory
from ctrlattn.errors import InputError, InputTypeError, did_you_mean, require_known
from ctrlattn.files import visible
from ctrlattn.identity import digest, of_files
from ctrlattn.sweep.analyses import ANALYSES, Output, chosen, cost
from ctrlattn.sweep.axes import Axis, Space, axis_of
from ctrlattn.sweep.cell import KEYS, TABLES, Cell, description, recording, require_tables, tables_of, words_of
from ctrlattn.sweep.spec import Spec, as_json

GAINS = ("loop.controller.kp", "loop.controller.ki", "loop.controller.kd")
_BATCH = 0.25  # nominal seconds
_MOST_IN_BATCH = 20_000  # cells
_MOST_CELLS = 10**8
_COPIES = 4  # of all results that are in memory at once while they are collected and written


@dataclass(frozen=True)
class SweepPlan:
    """A sweep that has been read: what is varied, what is asked, and how the cells are batched."""

    text: str  # the sweep as JSON: a worker makes the same plan from it
    tables: dict[str, Any]
    space: Space
    analyses: dict[str, dict[str, Any]]
    best: Output
    files: tuple[str, ...] = ()  # recordings, networks and texts that decide the results
    contents: str = ""  # digest of these files

    @property
    def mark(self) -> str:
        """Digest of everything that decides the results."""
        return digest(self.text, self.contents, __version__)

    @property
    def job(self) -> "Job":
        """What a worker is told."""
        return Job(self.text, __version__, self.files, self.contents)

    @property
    def outputs(self) -> list[tuple[str, Output]]:
        """(analysis, output) in the order in which a batch holds them."""
        return [(name, output) for name in self.analyses for output in ANALYSES[name].outputs]

    @property
    def together(self) -> bool:
        """Whether the cells differ in PID gains, so that many of them are computed at once."""
        return any(axis.path in GAINS for axis in self.space.axes)

    @property
    def seconds(self) -> float:
        """Nominal seconds of one cell."""
        return sum(cost(name, options, together=self.together) for name, options in self.analyses.items())

    @property
    def batch(self) -> int:
        """Cells of a batch."""
        return min(max(math.ceil(_BATCH / self.seconds), 1), _MOST_IN_BATCH, self.space.cells)

    @property
    def batches(self) -> int:
        """Number of the batches."""
        return -(-self.space.cells // self.batch)

    def bounds(self, index: int) -> tuple[int, int]:
        """Return the first cell of a batch, and the one behind its last."""
        return index * self.batch, min((index + 1) * self.batch, self.space.cells)


class Job(NamedTuple):
    """A sweep as every worker is told it: plain texts alone."""

    text: str  # the spec as JSON
    version: str
    files: tuple[str, ...]
    contents: str


@lru_cache(maxsize=4)
def plan_from(job: Job) -> SweepPlan:
    """Make the plan of a job; a worker makes it once, and looks whether it would compute the same as the driver.

    Raises
    ------
    InputError
        The package has another version here, a file is missing or differs from the driver's, or a device is not here.

    Examples
    --------
    >>> spec = Spec({"loop.controller.kp": [0.4, 0.8]}, {"interval": {}}, loop={"preset": "neutreno"})
    >>> plan_from(plan_of(spec).job).batches
    1
    """
    if job.version != __version__:
        raise InputError(f"a worker has ctrlattn {__version__}, the driver {job.version}: install one version on both")
    for name in job.files:
        if not os.path.isfile(name):
            raise InputError(
                f"{name}: a worker has no such file: recordings and networks lie where all workers see them"
            )
    if job.files and of_files(map(Path, job.files)) != job.contents:
        raise InputError(f"{job.files[0]}: a worker has other content under this name than the driver")
    plan = plan_of(Spec(**json.loads(job.text)))
    try:
        _require_devices(plan)
    except InputError as error:
        raise InputError(f"a worker cannot run the network: {error}") from error
    return replace(plan, files=job.files, contents=job.contents)


def plan_of(spec: Spec) -> SweepPlan:
    """Read the axes and analyses of a sweep; nothing is computed or opened.

    Raises
    ------
    InputTypeError
        It is no Spec.
    InputError
        There is no axis or no analysis, a path, name or option is unknown, a range or list is none, or there are more
        than 10^8 cells.

    Examples
    --------
    >>> plan_of(Spec({"loop.controler.kp": [1]}, {"interval": {}}))
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: axes.loop.controler.kp: unknown key controler: did you mean 'controller'?
    """
    if not isinstance(spec, Spec):
        raise InputTypeError(f"a sweep is a Spec, got {type(spec).__name__}")
    if not spec.axes:
        raise InputError("axes: a sweep needs at least one axis, such as loop.controller.kp = [0.4, 0.8]")
    analyses = chosen(spec.analyses)
    axes = tuple(_axis(path, values, grid=spec.sample is None) for path, values in spec.axes.items())
    space = Space(axes, spec.sample)  # type: ignore[arg-type]
    if space.cells > _MOST_CELLS:
        raise InputError(
            f"axes: {space.cells:.3g} cells, more than the {_MOST_CELLS:.0e} of one sweep: take fewer steps"
        )
    outputs = {output.name: output for name in analyses for output in ANALYSES[name].outputs}
    best = next(iter(outputs.values())) if spec.best is None else outputs[require_known("best", spec.best, outputs)]
    require_tables(spec.tables)
    return SweepPlan(as_json(spec), spec.tables, space, analyses, best)


def judged(spec: Spec, out: str | os.PathLike[str], *, here: bool = True) -> SweepPlan:
    """Return the plan, once every value of every axis makes a cell, and memory and disk suffice.

    The devices of networks are judged where the cells are computed: here, or by each worker of a cluster.

    Raises
    ------
    InputError
        As `plan_of`; or a configuration refuses a value, a table that an analysis needs is missing, a recording,
        network, text or device is not there, or the results do not fit into memory or on the disk.
    """
    plan = plan_of(spec)
    if here:
        _require_devices(plan)
    bytes_ = plan.space.cells * (8 * len(plan.outputs) + 8 * len(plan.space.axes) + len(plan.analyses))
    require_memory(_COPIES * bytes_, f"{plan.space.cells} cells")
    require_disk(2 * bytes_, out, f"{plan.space.cells} cells")
    middle = {axis.path: axis.corners()[0] for axis in plan.space.axes}
    files: list[Path] = []
    for axis in plan.space.axes:
        for value in dict.fromkeys(axis.corners()):
            try:
                files += _judged_cell(plan, {**middle, axis.path: value})
            except InputError as error:
                raise InputError(f"axes.{axis.path} = {value!r}: {error}") from error
    names = tuple(sorted({str(path.absolute()) for path in files}))
    return replace(plan, files=names, contents=of_files(map(Path, names)))


def _require_devices(plan: SweepPlan) -> None:
    """Raise InputError for a device of the table or of the axis that this machine does not have."""
    axes = {axis.path: axis.corners() for axis in plan.space.axes}
    names = axes.get("checkpoint.device", (plan.tables.get("checkpoint", {}).get("device", "cpu"),))
    for name in names:
        devices.require_here(str(name))


def _axis(path: str, values: Any, *, grid: bool) -> Axis:
    table, _, key_path = path.partition(".")
    try:
        if table not in TABLES or not key_path:
            raise InputError(f"a path begins with a table, {did_you_mean(table, TABLES)}, such as loop.controller.kp")
        _require_path(table, key_path)
        return axis_of(path, values, grid=grid)
    except InputError as error:
        raise type(error)(f"axes.{path}: {error}") from error


def _require_path(table: str, key_path: str) -> None:
    """Raise InputError for a path whose keys no configuration has."""
    from ctrlattn.config.schema import LoopModel, SimulationModel

    keys = {"loop": LoopModel.model_fields, "simulation": SimulationModel.model_fields, **KEYS}[table]
    key, *deeper = key_path.split(".")
    if key not in keys:
        raise InputError(f"unknown key {key}: {did_you_mean(key, keys)}")
    if deeper and key not in ("predictor", "controller", "normalizer"):
        raise InputError(f"{table}.{key} has no parts")


def _judged_cell(plan: SweepPlan, values: dict[str, Any]) -> list[Path]:
    """Make what the analyses of a cell need, without computing; return the files whose content decides its results."""
    cell, files = Cell(tables_of(plan.tables, values)), []
    require_tables(cell.tables)
    needs = {"loss"} & set(plan.analyses)
    if set(plan.analyses) - needs:
        _require_loop(cell, set(plan.analyses))
    if "unstable_share" in plan.analyses or any(_asks_recording(options) for options in plan.analyses.values()):
        cell.options("recording")
        source = str(cell.options("recording")["source"])
        recording(source)
        if os.path.isfile(source):
            files.append(Path(source))
        assert len(cell.modes)  # a layer or head that is not there is refused
    if needs:
        files += _judged_network(cell)
    return files


def _asks_recording(options: dict[str, Any]) -> bool:
    return "modes" in options and not options["modes"]


def _require_loop(cell: Cell, names: set[str]) -> None:
    loop = cell.loop
    if names & {"interval"} and loop.controller is None:
        raise InputError("interval: the loop has no controller: without one a mode is stable for |alpha| < 1")
    if names & {"margins", "settling", "peak_sensitivity", "unstable_share"}:
        from ctrlattn.linear import mode

        mode(loop, 0.5)  # refuses what has no modes, and says why


def _judged_network(cell: Cell) -> list[Path]:
    from ctrlattn.checkpoints.network.repeated_span import require_loop
    from ctrlattn.checkpoints.network.text import token_ids

    options = cell.options("checkpoint")
    network = description(options["source"])
    words = words_of(options["text"])
    ids = token_ids(network, words, most=options["tokens"])
    if len(ids) < options["window"]:
        raise InputError(f"checkpoint.text: has {len(ids)} tokens, fewer than one window of {options['window']}")
    if "span" in cell.tables:
        span = cell.repetition()
        require_loop(span["layers"], span["passes"], span["controller"], span["recall"], network.layers)
    texts = [Path(options["text"])] if os.path.isfile(options["text"]) else []
    folder = Path(network.folder)
    return texts + [path for path in visible(folder) if path.is_file()]
