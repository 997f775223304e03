"""plan -> runs -> forecasts -> passes beyond training -> comparison.json: the trained comparison of looped networks.

The order is what makes a forecast one. The plan is written before any training, and the table of forecasts before any
pass beyond training is run; each file carries its digest. Every run is a file, so that what was interrupted continues.
A run carries the digest of its plan, and the plan is read again after each: a plan that was changed meanwhile is told,
and another plan trains its own runs.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ctrlattn import devices
from ctrlattn.errors import InputError
from ctrlattn.files import atomic, output_directory
from ctrlattn.identity import digest
from ctrlattn.nn.experiment.comparison import require_workers, share
from ctrlattn.nn.experiment.loop_arms import loop_arm
from ctrlattn.nn.experiment.loop_beyond import BEYOND, FACTORS, FALL, LEARNED, beyond, motion, rescued
from ctrlattn.nn.experiment.loop_forecast import EXAMPLES, MOST_RESIDUAL, PROBLEMS, RULES, forecast, tuned_law
from ctrlattn.nn.experiment.loop_plan import QUESTIONS, settings_of
from ctrlattn.nn.experiment.loop_score import curves_of, rescue_table, score_of, scores_of
from ctrlattn.nn.experiment.loop_settings import LoopSettings
from ctrlattn.nn.experiment.loop_training import build_loop, copied, fit_loop, on_device
from ctrlattn.nn.experiment.plan import ComparisonPlan
from ctrlattn.nn.experiment.resume import stored
from ctrlattn.nn.experiment.settings import identity_of, without_default
from ctrlattn.nn.experiment.summary import summarise
from ctrlattn.progress import Progress, silent
from ctrlattn.provenance import provenance
from ctrlattn.results import json_ready


def compare_loops(
    plan: ComparisonPlan, out: Path, progress: Progress = silent, *, workers: int = 1, device: str = "cpu"
) -> dict[str, Any]:
    """Train, forecast, run beyond training, and compare; what is there already is read.

    It writes plan.json, runs/, weights/, forecasts.json, beyond/ and comparison.json under `out`.

    Parameters
    ----------
    workers : int
        Processes with one thread each; they train on the cpu.
    device : str
        Of training and of the passes beyond it. Spectra and forecasts are measured in float64 on the cpu.

    Returns
    -------
    dict
        That of `nn.experiment.summary.summarise` (arms, differences, tests), with forecasts and their score, rescues,
        curves by arm, and the digests of plan and forecasts.

    Raises
    ------
    InputError
        Another plan stands in `out`, or the plan there was changed or removed while its runs were trained; torch does
        not have the device here, or several workers are to train on one that is not the cpu.
    """
    require_workers(workers, devices.device(device))
    runs, weights, past = (output_directory(out / name) for name in ("runs", "weights", "beyond"))
    mark = _written_before(out / "plan.json", _plan_of(plan), progress)
    each = [settings_of(plan, arm, seed) for seed in plan.seeds for arm in plan.arms]
    if workers > 1:
        share([(_name(s), trained, (s, runs, weights, silent, mark)) for s in each], progress, workers)
    runs_made = []
    for done, settings in enumerate(each):
        progress(f"training: {_name(settings)}", done, len(each))
        runs_made.append(trained(settings, runs, weights, progress, mark, device))
        _require_unchanged(out / "plan.json", mark)
    forecasts = _forecasts(runs_made)
    sealed = _written_before(out / "forecasts.json", {"plan": mark, "rows": forecasts}, progress)
    if workers > 1:
        work = [(_name(s), run_beyond, (s, r, weights, past)) for s, r in zip(each, runs_made, strict=True)]
        share(work, progress, workers)
    ends = []
    for done, (settings, run) in enumerate(zip(each, runs_made, strict=True)):
        progress(f"beyond training: {_name(settings)}", done, len(each))
        ends.append(run_beyond(settings, run, weights, past, device))
        _require_unchanged(out / "plan.json", mark)
    progress("compared", len(each), len(each))
    result = json_ready(_comparison_of(plan, runs_made, ends, forecasts))
    result = {"run": provenance(mark), **result, "digests": {"plan": mark, "forecasts": sealed}}
    with atomic(out / "comparison.json") as path:
        path.write_text(json.dumps(result, indent=1, allow_nan=False), encoding="utf-8")
    return result


def trained(
    settings: LoopSettings, runs: Path, weights: Path, progress: Progress = silent, plan: str = "", device: str = "cpu"
) -> dict[str, Any]:
    """Read or train the run of one arm and seed, with its forecast at each mark.

    `plan` is the digest of the plan that the run belongs to. The device is not part of what identifies a run.
    """
    file, network = weights / f"{_name(settings)}_{_short_digest(settings)}.safetensors", build_loop(settings)

    def make() -> dict[str, Any]:
        run, states = fit_loop(settings, progress, device)
        forecasts = [forecast(copied(network, state), settings, progress) for state in states]
        if forecasts:
            forecasts[-1]["tuned"] = tuned_law(forecasts[-1], settings.trained_passes)
            with atomic(file) as path:
                save_file({f"{k}.{name}": w for k, state in enumerate(states) for name, w in state.items()}, str(path))
        return {**run, "forecasts": forecasts, "weights": _digests(states)}

    run = stored(runs, _name(settings), {**_identity(settings), "plan": plan}, make, progress)
    if run["weights"] == _digests(_states(file, len(run["marks"]))):
        return run
    progress(f"{file.name} is missing or damaged: it is trained again", 0, 1)
    retrained = json_ready(make())
    if retrained["weights"] != run["weights"]:
        raise InputError(
            f"{runs}: {_name(settings)} was trained elsewhere, and other weights came out here: remove its file"
        )
    return run


def run_beyond(
    settings: LoopSettings, run: dict[str, Any], weights: Path, past: Path, device: str = "cpu"
) -> dict[str, Any]:
    """Measure a trained run beyond its passes: at each mark, and at the end with other controllers as well."""
    network = build_loop(settings)

    def make() -> dict[str, Any]:
        states = _states(weights / f"{_name(settings)}_{_short_digest(settings)}.safetensors", len(run["marks"]))
        networks = [on_device(copied(network, state), device) for state in states]
        marks = [beyond(each, settings) for each in networks]
        if not networks:
            return {"marks": [], "rescued": {}, "motion": {"exponent": None, "basin": None}}
        rescues = {} if loop_arm(settings.arm).held else rescued(networks[-1], settings, run["forecasts"][-1]["tuned"])
        return {"marks": marks, "rescued": rescues, "motion": motion(networks[-1], settings)}

    return stored(past, _name(settings), {"run": run["sha256"], "beyond": BEYOND, "sizes": list(FACTORS)}, make)


def _comparison_of(
    plan: ComparisonPlan,
    trained_runs: list[dict[str, Any]],
    ends: list[dict[str, Any]],
    forecasts: list[dict[str, Any]],
) -> dict[str, Any]:
    pairs = list(zip(trained_runs, ends, strict=True))
    passes = settings_of(plan, plan.arms[0], plan.seeds[0]).trained_passes
    runs = [
        {
            **run,
            "scores": scores_of(run, end, passes),
            "trained": curves_of(end),
            "untrained": {},
            "valid": run["losses"],
        }
        for run, end in pairs
    ]
    outcomes = [
        {**row, "collapsed": mark["collapsed"]}
        for row, mark in zip(forecasts, (mark for end in ends for mark in end["marks"]), strict=True)
    ]
    return {
        **summarise(plan, runs),
        "passes": passes,
        "forecasts": outcomes,
        "forecast_scores": {rule: score_of(outcomes, rule) for rule in RULES},
        "rescues": rescue_table(pairs, passes),
    }


def _forecasts(trained_runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each arm, seed and mark: what was measured, and what each rule says."""
    rows = []
    for run in trained_runs:
        for step, values in zip(run["marks"], run["forecasts"], strict=True):
            of = {name: run["settings"][name] for name in ("arm", "seed")}
            rows.append(
                {**of, "step": step, **{key: values[key] for key in values if key not in ("eigenvalues", "tuned")}}
            )
    return rows


def _plan_of(plan: ComparisonPlan) -> dict[str, Any]:
    """Return everything that is fixed before the first run, rules and thresholds of the forecasts included."""
    return {
        **asdict(plan),
        "settings": without_default(plan.settings),
        "settings_in_full": identity_of(settings_of(plan, plan.against, plan.seeds[0])),
        "arms_in_words": {arm: loop_arm(arm).summary for arm in plan.arms},
        "forecast": {
            "rules": RULES, "residual": MOST_RESIDUAL, "problems": PROBLEMS, "collapse": FALL, "learned": LEARNED,
            "examples": EXAMPLES, "beyond": BEYOND,
        },
        "questions": QUESTIONS,
    }  # fmt: skip


def _written_before(path: Path, content: dict[str, Any], progress: Progress) -> str:
    """Write down what is put to the test later, and return its digest; what is there already has to be the same.

    Raises
    ------
    InputError
        Another plan, or other forecasts, stand in the file.
    """
    content = json_ready(content)
    mark = digest(content)
    if path.exists():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            earlier = {}
        if earlier.get("sha256") != mark or digest({k: v for k, v in earlier.items() if k != "sha256"}) != mark:
            raise InputError(f"{path} was written for other arms, seeds or settings: take another --out")
        return mark
    with atomic(path) as temporary:
        temporary.write_text(json.dumps({**content, "sha256": mark}, indent=1, allow_nan=False), encoding="utf-8")
    progress(f"{path.name} is written, sha256 {mark[:16]}", 0, 1)
    return mark


def _require_unchanged(path: Path, mark: str) -> None:
    """Raise InputError where the plan that the runs follow is no longer the plan in the file."""
    try:
        file_content = json.loads(path.read_text(encoding="utf-8"))
        same = digest({k: v for k, v in file_content.items() if k != "sha256"}) == mark == file_content.get("sha256")
    except (OSError, ValueError, AttributeError):
        same = False
    if not same:
        raise InputError(
            f"{path} was changed while its runs were made: they followed the plan of sha256 {mark[:16]}, which has to "
            "stand there"
        )


def _states(file: Path, marks: int) -> list[dict[str, torch.Tensor]]:
    """Read the state dict of each mark; there is none where the file is missing or damaged."""
    if not file.exists():
        return []
    try:
        tensors = load_file(str(file))
    except SafetensorError:
        return []
    states: list[dict[str, torch.Tensor]] = [{} for _ in range(marks)]
    for key, value in tensors.items():
        k, _, name = key.partition(".")
        states[int(k)][name] = value
    return states


def _digests(states: list[dict[str, torch.Tensor]]) -> list[str]:
    return [digest({name: state[name] for name in sorted(state)}) for state in states]


def _identity(settings: LoopSettings) -> dict[str, Any]:
    return {**identity_of(settings), "torch": str(torch.__version__)}


def _short_digest(settings: LoopSettings) -> str:
    return digest(_identity(settings))[:8]


def _name(settings: LoopSettings) -> str:
    return f"{settings.task}_{settings.arm}_{settings.seed}"
