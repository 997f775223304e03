"""runs -> scores of each arm, paired differences, tests and curves: the numbers of a comparison."""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from ctrlattn.errors import InputError
from ctrlattn.nn.experiment.plan import ComparisonPlan
from ctrlattn.nn.experiment.statistics import Paired, holm, paired, seeds_needed


def value_of(run: dict[str, Any], score: str) -> float:
    """Return a score of a run by name. "untrained." before a measure over depth gives that of the untrained network.

    Examples
    --------
    >>> run = {"scores": {"clean": 0.9}, "trained": {"rank_final": 3.0}, "untrained": {"rank_final": "nan"}}
    >>> [value_of(run, name) for name in ("clean", "rank_final", "untrained.rank_final")]
    [0.9, 3.0, nan]
    """
    place, _, name = score.rpartition(".") if score.startswith("untrained.") else ("trained", "", score)
    values = run["scores"] if place == "trained" and name in run["scores"] else run[place]
    if not isinstance(values.get(name), int | float | str):
        names = [*run["scores"], *(key for key in run["trained"] if key.endswith(("_final", "_slope")))]
        raise InputError(
            f"unknown score {score!r}: known are {', '.join(names)}, and measures over depth after 'untrained.'"
        )
    return float(values[name])


def summarise(plan: ComparisonPlan, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Summarise a plan by its runs, which may be in any order."""
    by_run = {(run["settings"]["arm"], run["settings"]["seed"]): run for run in runs}
    scalars = [name for name, value in runs[0]["trained"].items() if not isinstance(value, list)]
    finals = ["token_similarity_final", "attention_similarity_final"]
    finals = [f"untrained.{name}" for name in finals if name in runs[0]["untrained"]]
    scores = [*runs[0]["scores"], *scalars, *finals]

    def values(arm: str, score: str) -> np.ndarray:
        return np.array([value_of(by_run[arm, seed], score) for seed in plan.seeds])

    def differences(arm: str, score: str, factor: float = 1.0) -> np.ndarray:
        return values(arm, score) - factor * values(plan.against, score)

    compared_arms = [arm for arm in plan.arms if arm != plan.against]
    return {
        "plan": asdict(plan),
        "parameters": {arm: by_run[arm, plan.seeds[0]]["parameters"] for arm in plan.arms},
        "status": {arm: [by_run[arm, seed]["status"] for seed in plan.seeds] for arm in plan.arms},
        "arms": {arm: {score: _interval(values(arm, score)) for score in scores} for arm in plan.arms},
        "differences": {arm: {score: _interval(differences(arm, score)) for score in scores} for arm in compared_arms},
        "tests": _tests(plan, differences),
        **_controllers(plan, by_run),
        "curves": {arm: _curves([by_run[arm, seed] for seed in plan.seeds]) for arm in plan.arms},
    }


def _tests(plan: ComparisonPlan, differences: Callable[[str, str, float], np.ndarray]) -> list[dict[str, Any]]:
    """Do each test of the plan, with Holm's p over all of them, and the seeds that would detect what was observed."""
    if len(plan.seeds) < 2:
        return []
    rows = [(t, _student_test(differences(t.arm, t.score, t.factor), t.direction)) for t in plan.tests]
    corrected = holm({t.name: result.p for t, result in rows})
    level = plan.alpha / max(len(rows), 1)
    return [
        {
            **asdict(t),
            **result._asdict(),
            "p_holm": corrected[t.name],
            "holds": corrected[t.name] < plan.alpha,
            "seeds_for_this": math.nan
            if math.isnan(result.mean)
            else seeds_needed(result.deviation, result.mean, alpha=level),
        }
        for t, result in rows
    ]


def _student_test(values: np.ndarray, direction: Any) -> Paired:
    """Do Student's test; where a seed has no number nothing is shown, which counts as p = 1 among the tests."""
    if np.all(np.isfinite(values)):
        return paired(values.tolist(), direction)
    return Paired(int(np.isfinite(values).sum()), math.nan, math.nan, math.nan, math.nan, 1.0, 1.0)


def _interval(values: np.ndarray) -> dict[str, Any]:
    """Return the mean of the finite values, Student's 95 % interval, and all values."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        mean = float(finite[0]) if len(finite) else math.nan
        return {"n": len(finite), "mean": mean, "low": math.nan, "high": math.nan, "values": values.tolist()}
    result = paired(finite.tolist())
    return {"n": result.n, "mean": result.mean, "low": result.low, "high": result.high, "values": values.tolist()}


def _curves(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Average the curves over the runs: losses by epoch, similarities and rank by layer."""
    names = [name for name, value in runs[0]["trained"].items() if isinstance(value, list)]
    curves = {name: _mean([run["trained"][name] for run in runs]) for name in names}
    before = [name for name in names if name in runs[0]["untrained"]]
    curves |= {f"untrained.{name}": _mean([run["untrained"][name] for run in runs]) for name in before}
    return {**curves, **{name: _mean([run[name] for run in runs]) for name in ("losses", "valid")}}


def _mean(rows: list[list[Any]]) -> list[float]:
    """Return the mean of each element over the runs that have it."""
    length = max(map(len, rows))
    return [float(np.mean([float(row[k]) for row in rows if len(row) > k])) for k in range(length)]


def _controllers(plan: ComparisonPlan, by_run: dict[tuple[str, int], dict[str, Any]]) -> dict[str, Any]:
    """Return {"controllers": ...} with the gains that arms learned and the shares that they clipped; {} without any.

    Values are over the seeds. Gains and shares of several layers are averaged over the layers first.
    """
    rows: dict[str, Any] = {}
    for arm in plan.arms:
        reports = [by_run[arm, seed].get("controller", {}) for seed in plan.seeds]
        row: dict[str, Any] = {}
        if "gains" in reports[0]:
            gains = np.array([np.mean(report["gains"], axis=0) for report in reports])
            row |= {name: reports[0][name] for name in ("start", "region", "spread")}
            row |= {name: _interval(gains[:, k]) for k, name in enumerate(("kp", "ki", "kd"))}
        if "clipped" in reports[0]:
            shares = np.array([np.mean(report["clipped"][1:] or [0.0]) for report in reports])
            row |= {"limit": reports[0]["limit"], "clipped": _interval(shares)}
        if row:
            rows[arm] = row
    return {"controllers": rows} if rows else {}
