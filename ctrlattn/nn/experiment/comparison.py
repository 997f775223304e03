"""score of each arm, and its difference from one arm, seed by seed: several configurations trained on the same footing.

A plan says what is compared and which tests were fixed beforehand; every run is one file, so that a comparison that
was killed goes on where it stopped.
"""

import json
import math
import os
import tomllib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, fields
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch

from ctrlattn.errors import InputError
from ctrlattn.files import atomic, output_directory
from ctrlattn.nn.experiment import processes
from ctrlattn.nn.experiment.data import Data, load
from ctrlattn.nn.experiment.folders import Images, folder
from ctrlattn.nn.experiment.statistics import holm, paired, seeds_needed
from ctrlattn.nn.experiment.training import Settings, build, options_of, train
from ctrlattn.progress import Progress, silent
from ctrlattn.results import json_ready

ARMS = ("softmax", "softmax-again", "neutreno", "pidformer-printed", "pidformer-ema", "comparator")
SIZES: dict[str, dict[str, Any]] = {
    "digits": {},
    "mnist5k": {"patch": 4, "epochs": 8},
    "text": {"epochs": 4, "batch": 32},
}

# A directory: DeiT-tiny on ImageNet. The rate is 5e-4 for 512 images, as in DeiT's recipe.
DIRECTORY: dict[str, Any] = {
    "depth": 12, "dim": 192, "heads": 3, "ratio": 4, "patch": 16, "epochs": 300, "batch": 1024, "rate": 1e-3,
    "initial": "deit", "drop_path": 0.1,
}  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """One question fixed before the runs: is arm - factor * against less, or greater, than 0?"""

    arm: str
    score: str
    direction: str
    factor: float = 1.0

    @property
    def name(self) -> str:
        """arm: score < factor against."""
        sign = {"less": "<", "greater": ">"}.get(self.direction, "!=")
        return f"{self.arm}: {self.score} {sign}" + (f" {self.factor:g} x" if self.factor != 1 else "")


@dataclass(frozen=True)
class Plan:
    """What is compared.

    >>> plan_of("digits").settings_of("neutreno", 3).patch
    2
    """

    data: str
    arms: tuple[str, ...] = ARMS
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    against: str = "softmax"
    alpha: float = 0.05
    correction: str = "holm"
    settings: dict[str, Any] = field(default_factory=dict)
    tests: tuple[Claim, ...] = ()

    def settings_of(self, arm: str, seed: int) -> Settings:
        """Of one run; what the plan leaves open is that of the data set."""
        return Settings(arm=arm, seed=seed, **{**SIZES.get(self.data, DIRECTORY), **self.settings})


def plan_of(data: str, **changes: Any) -> Plan:
    """A plan for one of the data sets, or for a directory of images, checked.

    Raises
    ------
    InputError
        Unknown data or arms, no or repeated seeds, a setting or test that does not exist.

    Examples
    --------
    >>> plan_of("digits", arms=("softmax", "softmx"))
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: unknown preset 'softmx': did you mean 'softmax'?
    """
    if data not in SIZES and not Path(data).is_dir():
        raise InputError(f"unknown data {data!r}: known are {', '.join(SIZES)}, and a directory of images")
    plan = Plan(data, **changes)
    for arm in plan.arms:
        options_of(arm, text=data == "text")
    if len(set(plan.arms)) != len(plan.arms) or len(set(plan.seeds)) != len(plan.seeds):
        raise InputError("an arm or a seed is given twice")
    if not plan.seeds or not all(isinstance(s, int) and s >= 0 for s in plan.seeds):
        raise InputError(f"seeds must be whole numbers >= 0, at least one, got {list(plan.seeds)}")
    if plan.against not in plan.arms:
        raise InputError(f"all arms are compared with {plan.against!r}, which is not among {', '.join(plan.arms)}")
    if plan.correction != "holm":
        raise InputError(f'correction must be "holm", got {plan.correction!r}')
    _require_known("settings", plan.settings, {f.name for f in fields(Settings)} - {"arm", "seed"})
    for name, value in plan.settings.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if name != "drop_path" and number and not 0 < value < math.inf:
            raise InputError(f"settings: {name} must be positive and finite, got {value}")
    for test in plan.tests:
        if test.arm not in plan.arms or test.direction not in ("less", "greater", "two-sided"):
            raise InputError(f"test {test.name!r}: its arm must be compared, its direction less, greater or two-sided")
    return plan


def read_plan(path: Path, data: str) -> Plan:
    """The plan in a TOML file; see simulations/configs/train_digits.toml.

    Raises
    ------
    InputError
        A file that is missing, no TOML, for other data, or with what a plan has not.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no TOML: {error}") from error
    try:
        _require_known("plan", found, {f.name for f in fields(Plan)})
        if found.pop("data", data) != data:
            raise InputError(f"this is no plan for {data}")
        for k, test in enumerate(found.get("tests", [])):
            _require_known(f"tests[{k}]", test, {f.name for f in fields(Claim)})
        tests = tuple(Claim(**test) for test in found.pop("tests", []))
        lists = {name: tuple(found.pop(name)) for name in ("arms", "seeds") if name in found}
        return plan_of(data, tests=tests, **lists, **found)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}") from error


def compare(
    plan: Plan,
    out: Path,
    progress: Progress = silent,
    *,
    workers: int = 1,
    device: str | None = "cpu",
) -> dict[str, Any] | None:
    """Train what is missing under `out`/runs, then the table: `out`/comparison.json.

    Weights go to `out`/weights as safetensors. With several workers each is a process with one thread, which is
    faster than several threads where the network is small. Processes that torchrun started share every batch instead.

    Parameters
    ----------
    device : str, optional
        None: the GPU of this process where there is one.

    Returns
    -------
    dict, or None in all but the first of several processes
        plan, runs, arms (scores with intervals), differences (from `against`), tests, settings, chance.
    """
    with processes.group():
        return _compare(plan, out, progress, workers if processes.count() == 1 else 1, processes.device(device))


def data_of(plan: Plan) -> Data:
    """The data that a plan names."""
    return load(plan.data) if plan.data in SIZES else folder(Path(plan.data), plan.settings_of("", 0).image)


def _compare(plan: Plan, out: Path, progress: Progress, workers: int, device: torch.device) -> dict[str, Any] | None:
    if workers > 1 and device.type != "cpu":
        raise InputError(f"{workers} workers train on the cpu, not on {device}: take one worker, or the device cpu")
    progress = progress if processes.rank() == 0 else silent
    runs_folder, weights = output_directory(out / "runs"), output_directory(out / "weights")
    data = data_of(plan)
    settings = [plan.settings_of(arm, seed) for seed in plan.seeds for arm in plan.arms]
    for one in settings:
        build(one, data)  # a fault of the sizes shows before the first hour
    if workers > 1:
        _share(settings, plan, runs_folder, weights, progress, workers)
    runs = []
    for done, one in enumerate(settings):
        step = f"{Path(one.arm).stem}, seed {one.seed}"
        if workers == 1:
            progress(step, done, len(settings))

        def line(text: str, step: str = step, done: int = done) -> None:
            progress(f"{step}: {text}", done, len(settings))

        run = kept(runs_folder, weights, one, data, line, device)
        if processes.rank() > 0:
            continue
        if run["status"] != "learned":
            line(f"{run['status']}" + (f" ({run['where']}; the last good weights are kept)" if run["where"] else ""))
        runs.append(run)
    if processes.rank() > 0:
        return None
    progress("compared", len(settings), len(settings))
    result = json_ready({**summarise(plan, runs), "chance": data.chance()})
    with atomic(out / "comparison.json") as path:
        path.write_text(json.dumps(result, indent=1, allow_nan=False), encoding="utf-8")
    return result


def _share(settings: list[Settings], plan: Plan, runs: Path, weights: Path, progress: Progress, workers: int) -> None:
    """Fill the folder of runs from several processes; what is there is passed over."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin_worker)
    try:
        waiting = {pool.submit(_one, one, plan, runs, weights): one for one in settings}
        for done, finished in enumerate(as_completed(waiting)):
            finished.result()
            progress(f"{Path(waiting[finished].arm).stem}, seed {waiting[finished].seed}", done + 1, len(settings))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin_worker() -> None:
    """One thread; and an end with the process that started it, since a kill of that one does not reach its workers."""
    torch.set_num_threads(1)
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    Thread(target=follow, daemon=True).start()


def _one(settings: Settings, plan: Plan, runs: Path, weights: Path) -> None:
    kept(runs, weights, settings, data_of(plan))


def kept(
    runs: Path,
    weights: Path,
    settings: Settings,
    data: Data,
    progress: Callable[[str], None] = lambda line: None,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """The run from its file if it was made with the same settings, otherwise trained and written there."""
    identity = {**asdict(settings), "data": data.name, "torch": str(torch.__version__)}
    if settings.arm.endswith(".toml"):
        identity["loop"] = Path(settings.arm).read_text(encoding="utf-8")
    if isinstance(data.train.inputs, Images):
        identity["images"] = [len(part.targets) for part in (data.train, data.valid, data.test)]
    name = f"{data.name}_{Path(settings.arm).stem}_{settings.seed}"
    file = runs / f"{name}.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    # What a run of an earlier version did not say yet was as it is by default.
    same = {**asdict(Settings("", 0)), **found.get("settings", {})} == identity
    if processes.agreed(same, torch.device("cpu") if device is None else device):
        return found
    trained = train(settings, data, weights=weights / f"{name}.safetensors", progress=progress, device=device)
    if processes.rank() > 0:
        return {}
    run = json_ready({"settings": identity, **trained})
    with atomic(file) as path:
        path.write_text(json.dumps(run, allow_nan=False), encoding="utf-8")
    return run


def value_of(run: dict[str, Any], score: str) -> float:
    """A score of a run by name: of the trained network, or "untrained." and a measure over depth.

    Examples
    --------
    >>> run = {"scores": {"clean": 0.9}, "trained": {"rank_final": 3.0}, "untrained": {"rank_final": "nan"}}
    >>> [value_of(run, name) for name in ("clean", "rank_final", "untrained.rank_final")]
    [0.9, 3.0, nan]
    """
    place, _, name = score.rpartition(".") if score.startswith("untrained.") else ("trained", "", score)
    values = run["scores"] if place == "trained" and name in run["scores"] else run[place]
    if not isinstance(values.get(name), int | float | str):
        known = [*run["scores"], *(key for key in run["trained"] if key.endswith(("_final", "_slope")))]
        raise InputError(f"unknown score {score!r}: known are {', '.join(known)}, each of the last with untrained. too")
    return float(values[name])


def summarise(plan: Plan, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The table of a plan from its runs, in any order."""
    found = {(run["settings"]["arm"], run["settings"]["seed"]): run for run in runs}
    scalars = [name for name, value in runs[0]["trained"].items() if not isinstance(value, list)]
    finals = ["untrained.token_similarity_final", "untrained.attention_similarity_final"]
    scores = [*runs[0]["scores"], *scalars, *finals]

    def values(arm: str, score: str) -> np.ndarray:
        return np.array([value_of(found[arm, seed], score) for seed in plan.seeds])

    def differences(arm: str, score: str, factor: float = 1.0) -> np.ndarray:
        return values(arm, score) - factor * values(plan.against, score)

    others = [arm for arm in plan.arms if arm != plan.against]
    return {
        "plan": asdict(plan),
        "parameters": {arm: found[arm, plan.seeds[0]]["parameters"] for arm in plan.arms},
        "status": {arm: [found[arm, seed]["status"] for seed in plan.seeds] for arm in plan.arms},
        "arms": {arm: {score: _interval(values(arm, score)) for score in scores} for arm in plan.arms},
        "differences": {arm: {score: _interval(differences(arm, score)) for score in scores} for arm in others},
        "tests": _tests(plan, differences),
        "curves": {arm: _curves([found[arm, seed] for seed in plan.seeds]) for arm in plan.arms},
    }


def _tests(plan: Plan, differences: Callable[[str, str, float], np.ndarray]) -> list[dict[str, Any]]:
    """Each test that was fixed, with Holm's p over all of them, and how many seeds would show what was seen."""
    if len(plan.seeds) < 2:
        return []
    rows = [(t, paired(differences(t.arm, t.score, t.factor).tolist(), t.direction)) for t in plan.tests]  # type: ignore[arg-type]
    corrected = holm({t.name: result.p for t, result in rows})
    level = plan.alpha / max(len(rows), 1)
    return [
        {
            **asdict(t),
            **result._asdict(),
            "p_holm": corrected[t.name],
            "holds": corrected[t.name] < plan.alpha,
            "seeds_for_this": seeds_needed(result.deviation, result.mean, alpha=level),
        }
        for t, result in rows
    ]


def _interval(values: np.ndarray) -> dict[str, Any]:
    """Mean over the finite values with Student's 95 % interval, and the values."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        mean = float(finite[0]) if len(finite) else math.nan
        return {"n": len(finite), "mean": mean, "low": math.nan, "high": math.nan, "values": values.tolist()}
    result = paired(finite.tolist())
    return {"n": result.n, "mean": result.mean, "low": result.low, "high": result.high, "values": values.tolist()}


def _curves(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the runs of what has an axis: losses by epoch, similarities and rank by layer."""
    names = [name for name, value in runs[0]["trained"].items() if isinstance(value, list)]
    curves = {name: _mean([run["trained"][name] for run in runs]) for name in names}
    curves |= {f"untrained.{name}": _mean([run["untrained"][name] for run in runs]) for name in names}
    return {**curves, **{name: _mean([run[name] for run in runs]) for name in ("losses", "valid")}}


def _mean(rows: list[list[Any]]) -> list[float]:
    """Element by element over the runs that reach it."""
    length = max(map(len, rows))
    return [float(np.mean([float(row[k]) for row in rows if len(row) > k])) for k in range(length)]


def _require_known(where: str, found: Any, known: set[str]) -> None:
    unknown = [name for name in found if name not in known]
    if unknown:
        raise InputError(f"{where} has no {unknown[0]!r}: known are {', '.join(sorted(known))}")
