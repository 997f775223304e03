"""Tests, forecasts and controllers of a comparison of loops, as lines of a verdict and rows of a table.

This module says for the scene of trained loops what the numbers of `compare_loops` mean: a claim holds, does not hold,
or is undecided at this number of seeds.
"""

import numpy as np

SMALL = {
    "seeds": (0, 1), "arms": ("plain", "recall"), "steps": 50, "batch": 16, "dim": 8, "hidden": 12, "size": 3,
    "passes": 4, "examples": 64, "marks": 1,
}  # fmt: skip
FULL_ARMS = ("plain", "plain-again", "random", "recall", "recall-outer", "held")
KEPT = 0.1  # accuracy that may be lost

_SIGNS = {"less": "<", "greater": ">", "two-sided": "!="}
_SCORES = ("accuracy", "accuracy_8", "size_2", "size_4", "residual_8", "radius", "exponent", "basin")


def words_of(test):
    """holds, does NOT hold (the interval lies on the other side), or undecided.

    >>> words_of({"holds": False, "low": -2.0, "high": -1.0, "direction": "greater"})
    'does NOT hold'
    """
    if test["holds"]:
        return "holds"
    other = test["high"] < 0 if test["direction"] == "greater" else test["low"] > 0
    return "does NOT hold" if test["direction"] != "two-sided" and other else "undecided"


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
    lines = [f"networks that had learned, of {len(result['forecasts'])}: {len(judged)}", f"of them fell beyond: {fell}"]
    for rule, scores in result["forecast_scores"].items():
        for which in ("all", "last"):
            score = scores[which]
            if score["n"]:
                hit, false, silent, missed = score["counts"]
                counts = f"{hit} alarms right, {false} false, {silent} silent right, {missed} missed"
                share = f"{score['right']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"
                lines.append(f"forecast by {rule}, {which} marks, {counts}; share right: {share}")
    return lines


def rescue_lines(result):
    """Of the loops that collapsed: how many each controller keeps within a tenth of what stopping keeps."""
    rows = result["rescues"]
    if not rows:
        return ["loops that collapsed at the end of training: 0"]
    names = [name for name in ("blind", "tuned", "blind from T", "tuned from T") if any(name in row for row in rows)]
    lines = [f"loops that collapsed at the end of training: {len(rows)}"]
    for name in ("plain", *names):
        has = [row for row in rows if name in row]
        keeps = sum(row[name] >= row["stopped"] - KEPT for row in has)
        mean = float(np.mean([row[name] for row in has]))
        lines.append(
            f"{name}: mean accuracy at 8 T {mean:.2f}; keeps within {KEPT} of stopping, of {len(has)}: {keeps}"
        )
    return lines


def table_of(result):
    """Head and rows of the gallery: one row for each arm."""
    rows = []
    for arm, scores in result["arms"].items():
        cells = [f"{float(scores[s]['mean']):.2f}" if s in scores else "" for s in _SCORES]
        rows.append([arm, *cells])
    return [["arm", *_SCORES], rows]
