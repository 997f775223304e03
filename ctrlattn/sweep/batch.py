"""batch of cells -> values (outputs, cells) and status (analyses, cells) as the bytes of one .npz file, and back."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrlattn.controllers import PID
from ctrlattn.errors import InputError
from ctrlattn.sweep.analyses import ANALYSES, GainCells
from ctrlattn.sweep.cell import Cell, tables_of
from ctrlattn.sweep.plan import GAINS, Job, SweepPlan, plan_from

DONE, REFUSED, LOST = 0, 1, 2
MEANINGS = {DONE: "done", REFUSED: "refused", LOST: "lost"}
# A cell may be refused, have no sure digit, or not fit into memory. Anything else is a bug, and ends the sweep.
_REFUSALS = (InputError, ArithmeticError, MemoryError)
_LONGEST = 300  # characters of a message
_DAMAGED = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile)


@dataclass
class Batch:
    """Results of the cells of a batch; a value is nan where its status is not DONE."""

    values: np.ndarray  # (outputs, cells)
    status: np.ndarray  # (analyses, cells) uint8
    messages: list[tuple[int, int, str]]  # (analysis, cell of the batch, why it is not done)


def compute(job: Job, index: int) -> bytes:
    """Compute one batch of a sweep: this is what every process and every machine runs.

    >>> from ctrlattn.sweep.plan import plan_of
    >>> from ctrlattn.sweep.spec import Spec
    >>> spec = Spec({"loop.controller.kp": [0.4, 0.8]}, {"interval": {}}, loop={"preset": "neutreno"})
    >>> unpacked(compute(plan_of(spec).job, 0)).values[0].tolist()  # the width of (kp - 1, kp + 1)
    [2.0, 2.0]
    """
    plan = plan_from(Job(*job))
    return packed(_compute(plan, *plan.bounds(index)))


def lost(plan: SweepPlan, index: int, why: str) -> bytes:
    """Return the batch of a process that ended again and again while it computed it."""
    start, stop = plan.bounds(index)
    batch = _empty(plan, stop - start)
    for analysis, cell in np.ndindex(batch.status.shape):
        _refuse(batch, analysis, cell, why, LOST)
    return packed(batch)


def packed(batch: Batch) -> bytes:
    """Return the bytes of an .npz file; equal batches have equal bytes."""
    image = io.BytesIO()
    messages = np.frombuffer(json.dumps(batch.messages).encode(), np.uint8)
    np.savez(image, values=batch.values, status=batch.status, messages=messages)
    return image.getvalue()


def unpacked(content: bytes) -> Batch:
    """Return the batch in the bytes of `packed`."""
    with np.load(io.BytesIO(content)) as stored:
        messages = [(int(i), int(k), str(why)) for i, k, why in json.loads(stored["messages"].tobytes())]
        return Batch(stored["values"], stored["status"], messages)


def is_whole(plan: SweepPlan, index: int, content: bytes) -> bool:
    """Tell whether this is the batch of that number, and whole."""
    start, stop = plan.bounds(index)
    try:
        batch = unpacked(content)
    except _DAMAGED:
        return False
    cells = stop - start
    return batch.values.shape == (len(plan.outputs), cells) and batch.status.shape == (len(plan.analyses), cells)


def _compute(plan: SweepPlan, start: int, stop: int) -> Batch:
    batch, values = _empty(plan, stop - start), plan.space.values(start, stop)
    groups = _groups(plan, values, stop - start)
    cells: dict[int, Cell] = {}
    for number, (name, options) in enumerate(plan.analyses.items()):
        analysis, rows = ANALYSES[name], _rows(plan, number)
        for places in groups:
            if analysis.of_gains is not None and plan.together:
                places = _at_once(plan, values, places, batch.values[rows], analysis.of_gains, options)
            for place in places:
                try:
                    if place not in cells:
                        cells[place] = _cell(plan, values, place)
                    batch.values[rows, place] = analysis.of_cell(cells[place], options)
                except _REFUSALS as error:
                    _refuse(batch, number, place, _words(error), REFUSED)
    return batch


def _at_once(
    plan: SweepPlan,
    values: Mapping[str, Sequence[Any]],
    places: list[int],
    rows: np.ndarray,
    of_gains: Any,
    options: Any,
) -> list[int]:
    """Fill in what is sure of cells that differ in gains alone; return the places that are to be asked one by one."""
    try:
        cell = _cell(plan, values, places[0])
        law = cell.loop.controller
        if not isinstance(law, PID):
            return places
        terms = zip(GAINS, (law.kp, law.ki, law.kd), strict=True)
        gains = np.stack(
            [np.asarray([values[path][k] for k in places] if path in values else [gain] * len(places), float)
             for path, gain in terms], axis=1,
        )  # fmt: skip
        figures, sure = of_gains(GainCells(cell, gains), options)
    except _REFUSALS:
        return places  # one by one, each says why
    rows[:, places] = np.where(sure, figures, np.nan)
    return [place for place, is_sure in zip(places, sure.tolist(), strict=True) if not is_sure]


def _groups(plan: SweepPlan, values: Mapping[str, Sequence[Any]], cells: int) -> list[list[int]]:
    """Group the cells of a batch: those that differ in PID gains alone stand together."""
    if not plan.together:
        return [list(range(cells))]
    columns = [values[path] for path in values if path not in GAINS]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place in range(cells):
        groups.setdefault(tuple(column[place] for column in columns), []).append(place)
    return list(groups.values())


def _cell(plan: SweepPlan, values: Mapping[str, Sequence[Any]], place: int) -> Cell:
    return Cell(tables_of(plan.tables, {path: column[place] for path, column in values.items()}))


def _empty(plan: SweepPlan, cells: int) -> Batch:
    values = np.full((len(plan.outputs), cells), np.nan)
    return Batch(values, np.full((len(plan.analyses), cells), DONE, np.uint8), [])


def _rows(plan: SweepPlan, number: int) -> slice:
    """Return the rows of the outputs of an analysis."""
    counts = [len(ANALYSES[name].outputs) for name in plan.analyses]
    return slice(sum(counts[:number]), sum(counts[: number + 1]))


def _refuse(batch: Batch, analysis: int, cell: int, why: str, status: int) -> None:
    batch.status[analysis, cell] = status
    batch.messages.append((analysis, cell, why))


def _words(error: BaseException) -> str:
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"
