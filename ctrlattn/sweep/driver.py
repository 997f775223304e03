"""spec -> cells -> results.nc: what is missing is computed, here or elsewhere, and a batch that is done is a file."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ctrlattn import results
from ctrlattn.errors import InputError, require_whole
from ctrlattn.files import atomic, claim, output_directory
from ctrlattn.identity import work_folder
from ctrlattn.progress import Progress, silent
from ctrlattn.sweep import cluster, pool, spec
from ctrlattn.sweep.batch import compute, is_whole
from ctrlattn.sweep.dataset import collected
from ctrlattn.sweep.plan import SweepPlan, judged

if TYPE_CHECKING:
    import xarray as xr

_LINES = 50  # of progress


def run(
    spec_or_file: "spec.Spec | str | os.PathLike[str]",
    out: str | os.PathLike[str],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress = silent,
) -> "xr.Dataset":
    """Compute every cell of a sweep; the same numbers in one process, in several, and on a cluster of dask.

    Each batch of cells is a file under `out`/cells as soon as it is done. The same sweep goes on where it stopped,
    whatever ended it: a signal, or the death of a worker, of the scheduler or of this process costs the batches that
    were being computed. Results of other sweeps are left alone: this one then goes to `out`-<digest>.

    Parameters
    ----------
    spec_or_file : Spec, or path of a TOML file
    out : path
        Directory for cells/ and results.nc.
    workers : int, optional
        Processes on this machine; a script that asks for them needs `if __name__ == "__main__":`.
    scheduler : str, optional
        Address of a dask scheduler, "tcp://host:port"; needs the extra `cluster`.
    progress : callable, optional

    Returns
    -------
    xarray.Dataset
        As results.nc.

    Raises
    ------
    InputError
        The sweep is none or does not fit, both workers and a scheduler are given, or the scheduler is gone.

    Examples
    --------
    >>> import tempfile
    >>> from ctrlattn.sweep import Range, Spec
    >>> gains = Spec({"loop.controller.kp": Range(0, 1, 3)}, {"interval": {}}, loop={"preset": "pidformer-printed"})
    >>> run(gains, tempfile.mkdtemp())["interval_low"].to_numpy().round(6).tolist()  # kp + I/2 + 2 D - 1
    [-0.65, -0.15, 0.35]
    """
    return swept(spec_or_file, out, workers=workers, scheduler=scheduler, progress=progress)[1]


def swept(
    spec_or_file: "spec.Spec | str | os.PathLike[str]",
    out: str | os.PathLike[str],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress = silent,
) -> "tuple[Path, xr.Dataset]":
    """Return (folder of the results, results): `run` for those who write more into the folder."""
    if workers is not None and scheduler is not None:
        raise InputError("--workers are processes of this machine, --scheduler is a cluster: give one of them")
    workers = 1 if workers is None else require_whole("workers", workers)
    sweep_spec = spec_or_file if isinstance(spec_or_file, spec.Spec) else spec.load(spec_or_file)
    claim(out)
    plan = judged(sweep_spec, out, here=scheduler is None)
    folder = work_folder(Path(out), plan.mark, progress)
    store = output_directory(folder / "cells")
    missing = [index for index in range(plan.batches) if not _is_done(plan, store, index)]
    steps = _SweepProgress(plan, plan.batches - len(missing), progress)
    for index, content in _computed_batches(plan, missing, workers, scheduler):
        with atomic(_file(store, index)) as path:
            path.write_bytes(content)
        steps.another()
    dataset = collected(plan, sweep_spec, (_file(store, index).read_bytes() for index in range(plan.batches)))
    results.save(folder / "results.nc", dataset)
    return folder, dataset


def _computed_batches(
    plan: SweepPlan, missing: list[int], workers: int, scheduler: str | None
) -> Iterator[tuple[int, bytes]]:
    if scheduler is not None:
        return cluster.on_cluster(plan, missing, scheduler)
    if workers > 1:
        return pool.in_processes(plan, missing, workers)
    return ((index, compute(plan.job, index)) for index in missing)


def _file(store: Path, index: int) -> Path:
    return store / f"{index:07d}.npz"


def _is_done(plan: SweepPlan, store: Path, index: int) -> bool:
    file = _file(store, index)
    return file.is_file() and is_whole(plan, index, file.read_bytes())


class _SweepProgress:
    """The progress of a sweep, in at most fifty lines: a terminal that is no terminal shows each."""

    def __init__(self, plan: SweepPlan, done: int, progress: Progress) -> None:
        self.plan, self.done, self.progress = plan, done, progress
        cells = min(done * plan.batch, plan.space.cells)
        progress(f"{plan.space.cells - cells} of {plan.space.cells} cells to do", done, plan.batches)

    def another(self) -> None:
        self.done += 1
        batches = self.plan.batches
        if self.done * _LINES // batches > (self.done - 1) * _LINES // batches:
            cells = min(self.done * self.plan.batch, self.plan.space.cells)
            self.progress(f"{cells} of {self.plan.space.cells} cells", self.done, batches)
