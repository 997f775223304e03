"""runs, also beyond training -> scores of each arm, the score of the forecasts, and what controllers kept."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def scores_of(run: Mapping[str, Any], end: Mapping[str, Any], passes: int) -> dict[str, float]:
    """Return the scores of one run: at the trained passes, beyond them, and at larger sizes.

    Returns
    -------
    dict
        accuracy, accuracy_2, _4, _8 (after that many times T passes); size_2, size_4 (at that many times the size after
        as many times T passes); residual and residual_8; radius and rest (medians; rest is nan where no problem has a
        fixed point of the same answer), exponent, basin (share of starts that return from half of |h|).
    """
    if not end["marks"]:
        return dict.fromkeys(
            ("accuracy", "accuracy_2", "accuracy_4", "accuracy_8", "residual", "residual_8", "radius", "rest",
             "exponent", "basin"), math.nan,
        )  # fmt: skip
    sizes, forecast = end["marks"][-1]["sizes"], run["forecasts"][-1]
    trained_size = sizes["1"]
    rest = [value for value in forecast["rest"] if value is not None]
    return {
        "accuracy": trained_size["accuracy"][passes],
        **{f"accuracy_{k}": trained_size["accuracy"][k * passes] for k in (2, 4, 8)},
        **{f"size_{k}": sizes[k]["accuracy"][int(k) * passes] for k in sizes if k != "1"},
        "residual": trained_size["residual"][passes],
        "residual_8": trained_size["residual"][8 * passes],
        "radius": _median(forecast["radius"]),
        "rest": _median(rest),
        "exponent": _number(end["motion"]["exponent"]),
        "basin": 0.0 if end["motion"]["basin"] is None else end["motion"]["basin"][-1],
    }


def curves_of(end: Mapping[str, Any]) -> dict[str, Any]:
    """Return curves over passes at the end of training, by size: accuracy and residual."""
    if not end["marks"]:
        return {}
    sizes = end["marks"][-1]["sizes"]
    return {f"{name}, size x {k}": sizes[k][name] for k in sizes for name in ("accuracy", "residual")}


def score_of(outcomes: Sequence[Mapping[str, Any]], rule: str) -> dict[str, Any]:
    """Count how often a rule was right: counts, share with its 95 % interval, and Fisher's exact test against chance.

    Rows whose network had not learned by then, or that have no forecast, are left out. Marks of one run are not
    independent, so the interval and p are also given for the last mark of each run alone.

    Examples
    --------
    >>> rows = [{"arm": "a", "seed": k, "step": 9, "collapse": {"poles": k > 1}, "collapsed": k > 2} for k in range(4)]
    >>> result = score_of(rows, "poles")
    >>> result["all"]["counts"], result["last"]["right"]
    ([1, 1, 2, 0], 0.75)
    """
    with_forecast = [row for row in outcomes if row["collapsed"] is not None and row["collapse"][rule] is not None]
    last: dict[tuple[Any, Any], Mapping[str, Any]] = {}
    for row in with_forecast:
        last[row["arm"], row["seed"]] = row
    return {"all": _table(with_forecast, rule), "last": _table(list(last.values()), rule)}


def _table(rows: Sequence[Mapping[str, Any]], rule: str) -> dict[str, Any]:
    pairs = [(bool(row["collapse"][rule]), bool(row["collapsed"])) for row in rows]
    both, false_alarms = sum(a and b for a, b in pairs), sum(a and not b for a, b in pairs)
    neither, missed = sum(not a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    n, right = len(pairs), both + neither
    if n == 0:
        return {"counts": [0, 0, 0, 0], "n": 0, "right": math.nan, "low": math.nan, "high": math.nan, "p": math.nan}
    from scipy import stats  # processes that train score nothing

    interval = stats.binomtest(right, n).proportion_ci(method="exact")
    p = float(stats.fisher_exact([[both, false_alarms], [missed, neither]], alternative="greater").pvalue)
    return {
        "counts": [both, false_alarms, neither, missed],  # right alarm, false alarm, right silence, missed
        "n": n, "right": right / n, "low": float(interval.low), "high": float(interval.high), "p": p,
    }  # fmt: skip


def rescue_table(pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], passes: int) -> list[dict[str, Any]]:
    """Return the accuracy after 8 T passes under each controller, for runs whose own loop collapsed by the end.

    Networks with held gains have a controller of their own and are left out.
    """
    rows = []
    for run, end in pairs:
        if not end["marks"] or not end["rescued"] or not end["marks"][-1]["collapsed"]:
            continue
        accuracies, law = end["marks"][-1]["sizes"]["1"]["accuracy"], run["forecasts"][-1]["tuned"]
        rows.append(
            {
                "arm": run["settings"]["arm"],
                "seed": run["settings"]["seed"],
                "law": law,
                "stopped": accuracies[passes],
                "plain": accuracies[8 * passes],
                **{name: curve[8 * passes] for name, curve in end["rescued"].items()},
                **{f"least {name}": min(curve[passes:]) for name, curve in end["rescued"].items() if "from T" in name},
            }
        )
    return rows


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return float(ordered[len(ordered) // 2]) if ordered else math.nan


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
