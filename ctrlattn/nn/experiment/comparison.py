"""plan -> runs of all arms and seeds -> comparison.json: the trained comparison, in one or several processes.

A plan says what is compared and which tests were fixed beforehand. Every run is one file, so that a comparison that
was interrupted continues where it stopped.
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import torch

from ctrlattn.errors import InputError
from ctrlattn.files import atomic, output_directory
from ctrlattn.identity import digest
from ctrlattn.nn.experiment import data_parallel
from ctrlattn.nn.experiment.data import Data, Examples, load
from ctrlattn.nn.experiment.image_folders import folder
from ctrlattn.nn.experiment.plan import ComparisonPlan
from ctrlattn.nn.experiment.resume import resumed
from ctrlattn.nn.experiment.settings import SHAPES, SIZES, RunSettings
from ctrlattn.nn.experiment.summary import summarise
from ctrlattn.nn.experiment.training import build
from ctrlattn.processes import end_with_parent, no_interrupts
from ctrlattn.progress import Progress, silent
from ctrlattn.provenance import provenance
from ctrlattn.results import json_ready


def compare(
    plan: ComparisonPlan,
    out: Path,
    progress: Progress = silent,
    *,
    workers: int = 1,
    device: str | None = "cpu",
) -> dict[str, Any] | None:
    """Train the runs that are missing under `out`/runs, and write their summary to `out`/comparison.json.

    Weights are written to `out`/weights as safetensors. Each of several workers is a process with one thread; for small
    networks this is faster than several threads. Processes that torchrun started share every batch instead.

    Parameters
    ----------
    device : str, optional
        By default the GPU of this process where there is one, otherwise the CPU.

    Returns
    -------
    dict, or None in every process but the first
        run (commit, time, versions, and the plan's SHA-256), plan, parameters, status, arms (scores with intervals),
        differences (from `against`), tests, controllers where arms have them, curves, chance. The file of each run in
        `out`/runs says what made it as well.
    """
    with data_parallel.group():
        return _compare(plan, out, progress, workers if data_parallel.count() == 1 else 1, data_parallel.device(device))


def _compare(
    plan: ComparisonPlan, out: Path, progress: Progress, workers: int, device: torch.device
) -> dict[str, Any] | None:
    require_workers(workers, device)
    progress = progress if data_parallel.rank() == 0 else silent
    data = data_of(plan)
    settings = [plan.settings_of(arm, seed) for seed in plan.seeds for arm in plan.arms]
    for run_settings in settings:
        build(run_settings, data)  # sizes that do not fit raise here, before any training
    runs_folder, weights = output_directory(out / "runs"), output_directory(out / "weights")
    if workers > 1:
        work = [(_step(each), _run, (each, plan, runs_folder, weights)) for each in settings]
        share(work, progress, workers)
    runs = []
    for done, run_settings in enumerate(settings):
        step = _step(run_settings)
        if workers == 1:
            progress(step, done, len(settings))

        def within(text: str, epoch: int = 0, epochs: int = 0, step: str = step, done: int = done) -> None:
            progress(f"{step}: {text}", done, len(settings))

        run = resumed(runs_folder, weights, run_settings, data, within, device)
        if data_parallel.rank() > 0:
            continue
        if run["status"] != "learned":
            within(f"{run['status']}" + (f" ({run['where']}; the last good weights are kept)" if run["where"] else ""))
        runs.append(run)
    if data_parallel.rank() > 0:
        return None
    progress("compared", len(settings), len(settings))
    result = json_ready({**summarise(plan, runs), "chance": data.chance()})
    result = {"run": provenance(digest(result["plan"])), **result}
    with atomic(out / "comparison.json") as path:
        path.write_text(json.dumps(result, indent=1, allow_nan=False), encoding="utf-8")
    return result


def require_workers(workers: int, device: torch.device) -> None:
    """Raise InputError where several workers are to train on a device that is not the cpu.

    >>> require_workers(2, torch.device("cuda"))
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: 2 workers train on the cpu, not on cuda: take one worker, or the device cpu
    """
    if workers > 1 and device.type != "cpu":
        raise InputError(f"{workers} workers train on the cpu, not on {device}: take one worker, or the device cpu")


def share(work: Sequence[tuple[str, Callable[..., Any], tuple[Any, ...]]], progress: Progress, workers: int) -> None:
    """Do (name, function, arguments) in several processes of one thread, each of which writes what it made.

    Whatever ends this function early ends the workers at once. Work that one had not finished is done next time.
    """
    spawn, earlier_workers = get_context("spawn"), set(active_children())
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin_worker)
    try:
        with no_interrupts():
            waiting = {pool.submit(function, *arguments): name for name, function, arguments in work}
        for done, finished in enumerate(as_completed(waiting)):
            finished.result()
            progress(waiting[finished], done + 1, len(work))
    except BaseException:
        for worker in set(active_children()) - earlier_workers:
            worker.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _step(settings: RunSettings) -> str:
    return f"{Path(settings.arm).stem}, seed {settings.seed}"


def _begin_worker() -> None:
    """Use one thread, and end when the parent process ends."""
    torch.set_num_threads(1)
    end_with_parent()


def _run(settings: RunSettings, plan: ComparisonPlan, runs: Path, weights: Path) -> None:
    resumed(runs, weights, settings, data_of(plan))


def require_networks(plan: ComparisonPlan) -> None:
    """Raise InputError where a network of the plan cannot be built; no data are read.

    Examples
    --------
    >>> from ctrlattn.nn.experiment.plan import plan_of
    >>> require_networks(plan_of("digits", settings={"initial": "diet"}))
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: initial must be "fan-in" or "deit", got 'diet'
    """
    for arm in plan.arms:
        settings = plan.settings_of(arm, plan.seeds[0])
        channels, side = SHAPES.get(plan.data, (3, settings.image))
        with torch.device("meta"):
            inputs = (
                torch.zeros(1, 2, dtype=torch.long) if plan.data == "text" else torch.zeros(1, channels, side, side)
            )
            part = Examples(inputs, torch.zeros(1, dtype=torch.long))
            build(settings, Data(plan.data, 2, part, part, part))


def data_of(plan: ComparisonPlan) -> Data:
    """Load the data set that a plan names."""
    return load(plan.data) if plan.data in SIZES else folder(Path(plan.data), plan.settings_of("", 0).image)
