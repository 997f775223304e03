"""Tests, forecasts and controllers of a comparison of loops, as lines of a verdict and rows of a table.

This module says for the scene of trained loops what the numbers of `compare_loops` mean: a claim holds, does not hold,
or is undecided at this number of seeds. One comparison is a task with its seeds; the scene shows any number of them.
"""

import json
from pathlib import Path

import numpy as np

from ctrlattn.errors import InputError
from ctrlattn.identity import digest

TASKS = ("prefix-sums", "addition", "maze", "digits")
SMALL = {
    "seeds": (0, 1), "arms": ("plain", "recall"), "steps": 50, "batch": 16, "dim": 8, "hidden": 12, "size": 3,
    "passes": 4, "examples": 64, "marks": 1,
}  # fmt: skip
KEPT = 0.1  # accuracy that may be lost

_SIGNS = {"less": "<", "greater": ">", "two-sided": "!="}
_SCORES = ("accuracy", "accuracy_8", "size_2", "size_4", "residual_8", "radius", "exponent", "basin")


def finished(folder):
    """comparison.json of a folder of `ctrlattn train loops`; its plan and forecasts have to be those that stand there.

    Raises
    ------
    InputError
        The comparison was not finished, or the plan or the forecasts beside it are others.
    """
    folder = Path(folder)
    result = _read(folder / "comparison.json")
    for name in ("plan", "forecasts"):
        content = _read(folder / f"{name}.json")
        mark = digest({key: value for key, value in content.items() if key != "sha256"})
        if not mark == content.get("sha256") == result.get("digests", {}).get(name):
            raise InputError(
                f"{folder}: {name}.json is not what comparison.json was made from: run the comparison again"
            )
    return result


def _read(path):
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: no finished comparison of `train loops`: called again with --out {path.parent} it goes on "
            f"where it was ({error})"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: no file of `ctrlattn train loops`")
    return content


def name_of(result):
    """The task and its seeds.

    >>> name_of({"plan": {"data": "maze", "seeds": [0, 1, 2]}})
    'maze, seeds 0 to 2'
    """
    seeds = result["plan"]["seeds"]
    together = list(seeds) == list(range(seeds[0], seeds[0] + len(seeds)))
    words = f"{seeds[0]} to {seeds[-1]}" if together and len(seeds) > 1 else ", ".join(map(str, seeds))
    return f"{result['plan']['data']}, {'seeds' if len(seeds) > 1 else 'seed'} {words}"


def kept_name(result):
    """The name of its file among the results; three seeds from 0 on are the default.

    >>> [kept_name({"plan": {"data": "prefix-sums", "seeds": seeds}}) for seeds in ([0, 1, 2], [10, 11])]
    ['train_loops_prefix_sums', 'train_loops_prefix_sums_2_seeds_from_10']
    """
    seeds, name = list(result["plan"]["seeds"]), f"train_loops_{result['plan']['data'].replace('-', '_')}"
    more = f"_{len(seeds)}_seeds" if len(seeds) != 3 or seeds[0] else ""
    return name + more + (f"_from_{seeds[0]}" if seeds[0] else "")


def by_name(results):
    """{name: comparison}; an InputError where a task is given twice with the same seeds."""
    results_of = {name_of(result): result for result in results}
    if len(results_of) < len(results):
        raise InputError(f"a comparison is given twice: {', '.join(name_of(result) for result in results)}")
    return results_of


def without_curves(result):
    """What is kept among the results: everything that the claims follow from."""
    task, seeds = result["plan"]["data"], result["plan"]["seeds"]
    of = f"`ctrlattn train loops --task {task}`, seeds {', '.join(map(str, seeds))}"
    notice = f"do not edit: comparison.json of {of}, without its curves; plan and forecasts carry their SHA-256"
    return {"generated": notice, **{key: value for key, value in result.items() if key != "curves"}}


def verdict(results):
    """All lines of all comparisons; where there are several, each line says of which it is."""
    lines = []
    for name, result in results.items():
        result_lines = [*claim_lines(result), *forecast_lines(result), *rescue_lines(result)]
        lines += result_lines if len(results) == 1 else [f"{line} ({name})" for line in result_lines]
    return lines


def words_of(test):
    """holds, does NOT hold (the interval lies on the other side), or undecided.

    >>> words_of({"holds": False, "low": -2.0, "high": -1.0, "direction": "greater"})
    'does NOT hold'
    """
    if test["holds"]:
        return "holds"
    opposite = test["high"] < 0 if test["direction"] == "greater" else test["low"] > 0
    return "does NOT hold" if test["direction"] != "two-sided" and opposite else "undecided"


def claim_lines(result):
    """One line for each test of the plan."""
    against = result["plan"]["against"]
    lines = []
    for test in result["tests"]:
        claim = f"{test['arm']}: {test['score']} {_SIGNS[test['direction']]} {against}"
        interval = f"{test['mean']:+.3f} [{test['low']:+.3f}, {test['high']:+.3f}], p by Holm {test['p_holm']:.2g}"
        lines.append(f"{words_of(test)}: {claim} ({interval})")
    return lines


def forecast_lines(result):
    """How often each rule was right, over all marks and over the last one of each run."""
    judged = [row for row in result["forecasts"] if row["collapsed"] is not None]
    fell = sum(row["collapsed"] for row in judged)
    lines = [
        f"marks of networks that had learned, of {len(result['forecasts'])}: {len(judged)}",
        f"of them fell beyond: {fell}",
    ]
    for rule, scores in result["forecast_scores"].items():
        for which in ("all", "last"):
            score = scores[which]
            if score["n"]:
                alarms, false, silent, missed = score["counts"]
                counts = f"{alarms} alarms right, {false} false, {silent} silent right, {missed} missed"
                share = f"{score['right']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"
                lines.append(f"forecast by {rule}, {which} marks, {counts}; share right: {share}")
    return lines


def rescue_lines(result):
    """Of the loops that collapsed: how many each controller keeps within a tenth of what stopping keeps.

    Held gains are a controller already, so that those networks are not asked.
    """
    rows = result["rescues"]
    if not rows:
        return ["loops without held gains that collapsed at the end of training: 0"]
    names = [name for name in ("blind", "tuned", "blind from T", "tuned from T") if any(name in row for row in rows)]
    lines = [f"loops without held gains that collapsed at the end of training: {len(rows)}"]
    for name in ("plain", *names):
        has = [row for row in rows if name in row]
        keeps = sum(row[name] >= row["stopped"] - KEPT for row in has)
        mean = float(np.mean([row[name] for row in has]))
        lines.append(
            f"{name}: mean accuracy at 8 T {mean:.2f}; keeps within {KEPT} of stopping, of {len(has)}: {keeps}"
        )
    return lines


def table_of(results):
    """Head and rows of the gallery: one row for each arm; of several comparisons the passes and the size beyond."""
    if len(results) == 1:
        (result,) = results.values()
        rows = [
            [arm, *(f"{float(scores[s]['mean']):.2f}" if s in scores else "" for s in _SCORES)]
            for arm, scores in result["arms"].items()
        ]
        return [["arm", *_SCORES], rows]
    columns = [
        (name, result, score, words)
        for name, result in results.items()
        for score, words in (("accuracy_8", "at 8 T"), ("size_2", "at twice the size"))
        if any(score in scores for scores in result["arms"].values())
    ]
    arms = dict.fromkeys(arm for result in results.values() for arm in result["arms"])
    rows = [[arm, *(_cell(result["arms"].get(arm, {}).get(score)) for _, result, score, _ in columns)] for arm in arms]
    return [["arm", *(f"{name}: {words}" for name, _, _, words in columns)], rows]


def _cell(score):
    """Mean and interval; the mean alone of one seed, nothing where it was not measured."""
    if score is None:
        return ""
    mean, low, high = (float(score[key]) for key in ("mean", "low", "high"))
    return f"{mean:.2f}" if np.isnan(low) else f"{mean:.2f} [{low:.2f}, {high:.2f}]"
