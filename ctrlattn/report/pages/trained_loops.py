"""comparison of trained loops -> the page of `ctrlattn train loops`: passes beyond training, forecasts, controllers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctrlattn import plots
from ctrlattn.report import folder
from ctrlattn.report.folder import Report
from ctrlattn.report.page import Heading, Page
from ctrlattn.report.section import Picture, Section, Table
from ctrlattn.report.words import count, number, percent

Result = Mapping[str, Any]

_SCORES = (
    "accuracy", "accuracy_2", "accuracy_4", "accuracy_8", "size_2", "size_4", "residual", "residual_8", "radius",
    "exponent", "basin",
)  # fmt: skip
_SIGNS = {"less": "<", "greater": ">", "two-sided": "≠"}
_RULES = {
    "poles": "a pole outside the circle after the passes of training",
    "residual": "residual above 1/10 there",
    "rest": "no stable fixed point of the same answer in reach",
}


def write_trained_loops(out: str | Path, result: Result, *, formats: Sequence[str] = ()) -> Report:
    """Write the page of a comparison of trained loops.

    Parameters
    ----------
    out : path
        Directory for report.html, figures/, results.nc and summary.json; made if absent.
    result : mapping
        What `compare_loops` returned.
    formats : names, optional
        Formats of `tables.export` in which results.nc is written as well.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        The output directory cannot be written.
    """
    return folder.write(out, PAGE, result, formats=formats)


def _heading(result: Result) -> Heading:
    plan = result["plan"]
    return Heading(
        title=f"Loops trained on {plan['data']}",
        lead=f"Trained with {result['passes']} passes, run for up to {8 * result['passes']}: what their poles "
        "forecast, and what came of it.",
        networks=[{"name": arm, "summary": _status(result, arm), "texts": []} for arm in plan["arms"]],
        compared=f"all arms with {plan['against']}, seed by seed ({count(len(plan['seeds']), 'seed')})",
        provenance={"Plan": {"sha256": result["digests"]["plan"], "forecasts": result["digests"]["forecasts"]}},
    )


def _status(result: Result, arm: str) -> str:
    statuses = result["status"][arm]
    return ", ".join(f"{statuses.count(s)} {s}" for s in dict.fromkeys(statuses))


def _facts(result: Result) -> dict[str, Any]:
    plan = result["plan"]
    return {"task": plan["data"], "arms": list(plan["arms"]), "seeds": list(plan["seeds"]), "passes": result["passes"]}


def _cell(row: Mapping[str, Any]) -> str:
    mean, low, high = (float(row[key]) for key in ("mean", "low", "high"))
    return number(mean, 3) if low != low else f"{number(mean, 3)} [{number(low, 3)}, {number(high, 3)}]"


def _accuracy(result: Result) -> list[Section]:
    arms = result["arms"]
    rows = tuple(
        (name, *(_cell(scores[name]) if name in scores else "" for scores in arms.values()))
        for name in _SCORES
        if any(name in scores for scores in arms.values())
    )
    return [
        Section(
            key="accuracy",
            title=_more_passes_sentence(result),
            sentences=(
                "A problem counts as solved where all its places are right. accuracy_8 is that after 8 times the "
                "passes of training, size_4 that at 4 times the size after 4 times the passes. radius is the largest "
                "|pole| after the passes of training, exponent the largest Lyapunov exponent in nats a pass, and "
                "basin the share of starts that return to the fixed point from half its length (0 without one).",
            ),
            pictures=(
                Picture(
                    "passes",
                    "Share of problems solved and residual against passes, one curve for each arm",
                    plots.trained_loops.over_passes(result),
                ),
            ),
            tables=(Table(("score", *arms), rows, "Mean over the seeds and its 95 % interval"),),
            numbers={arm: {name: scores[name]["mean"] for name in scores} for arm, scores in result["arms"].items()},
        )
    ]


def _more_passes_sentence(result: Result) -> str:
    """Name the arm that keeps most after 8 times the passes, beside that of the comparison."""
    shares = {
        arm: float(scores["accuracy_8"]["mean"]) for arm, scores in result["arms"].items() if "accuracy_8" in scores
    }
    shares = {arm: share for arm, share in shares.items() if share == share}
    if not shares:
        return "No arm was run beyond the passes of training"
    best, against = max(shares, key=lambda arm: shares[arm]), result["plan"]["against"]
    beside = "" if best == against or against not in shares else f", {against} {percent(shares[against])}"
    return f"After 8 times the passes {best} solves most, {percent(shares[best])} of the problems{beside}"


def _tests(result: Result) -> list[Section]:
    if not result["tests"]:
        return []
    rows = tuple(
        (
            f"{t['arm']}: {t['score']} {_SIGNS[t['direction']]}",
            _cell(t),
            number(float(t["p"]), 2),
            number(float(t["p_holm"]), 2),
            "yes" if t["holds"] else "no",
        )
        for t in result["tests"]
    )
    return [
        Section(
            key="tests",
            title=f"{sum(bool(t['holds']) for t in result['tests'])} of {count(len(rows), 'test')} fixed before the "
            "runs hold",
            sentences=(
                f"Differences from {result['plan']['against']}, paired by seed; Student's test, with Holm's correction "
                f"over {count(len(rows), 'test')}.",
            ),
            tables=(Table(("claim", "difference", "p", "p, Holm", "holds"), rows, "Tests of the plan"),),
            numbers={"holds": [t["holds"] for t in result["tests"]]},
        )
    ]


def _forecasts(result: Result) -> list[Section]:
    rows = []
    for rule, scores in result["forecast_scores"].items():
        for which, words in (("all", "every mark"), ("last", "last mark")):
            score = scores[which]
            if not score["n"]:
                continue
            hit, false, silent, missed = score["counts"]
            share = f"{number(score['right'], 3)} [{number(score['low'], 3)}, {number(score['high'], 3)}]"
            rows.append(
                (_RULES[rule], words, share, str(hit), str(false), str(silent), str(missed), number(score["p"], 2))
            )
    silent = tuple(
        (f"{r['arm']}, seed {r['seed']}", str(r["step"]), r["why"]) for r in result["forecasts"] if r.get("why")
    )
    head = ("forecast of a fall", "of", "right", "alarm, fell", "alarm, held", "none, held", "none, fell", "p")
    judged = [row for row in result["forecasts"] if row["collapsed"] is not None]
    fell = sum(bool(row["collapsed"]) for row in judged)
    return [
        Section(
            key="forecasts",
            title=f"{fell} of {count(len(judged), 'network')} that had learned lost accuracy after more passes"
            if judged
            else "No network had learned, so that no forecast was judged",
            sentences=(
                f"{count(len(judged), 'network')} had learned when they were judged, and "
                f"{fell} of them lost more than a tenth of their accuracy "
                "beyond the passes of training. The forecasts were written before any such pass was run.",
            ),
            pictures=(
                Picture(
                    "radii",
                    "Largest pole and residual by arm, and whether accuracy fell",
                    plots.trained_loops.radii(result),
                ),
            )
            if judged
            else (),
            tables=(
                *(
                    [Table(head, tuple(rows), "Forecasts and what came of them; p of Fisher's exact test")]
                    if rows
                    else []
                ),
                *([Table(("run", "step", "why"), silent, "Networks of which nothing is forecast")] if silent else []),
            ),
            caveat="Marks of one run are not independent of each other: the last mark alone is one network a run.",
            numbers={rule: scores["last"]["counts"] for rule, scores in result["forecast_scores"].items()},
        )
    ]


def _rescues(result: Result) -> list[Section]:
    if not result["rescues"]:
        return []
    names = ("stopped", "plain", "blind", "tuned", "blind from T", "tuned from T")
    rows = tuple(
        (
            f"{row['arm']}, seed {row['seed']}",
            f"{number(row['law']['gain'], 3)}, {number(row['law']['recall'], 3)}" if "gain" in row["law"] else "none",
            *(number(row[name], 3) if name in row else "" for name in names),
        )
        for row in result["rescues"]
    )
    return [
        Section(
            key="rescues",
            title=_best_rescue(result["rescues"]),
            sentences=(
                "Each loop that collapsed runs again without any training, under a gain and a recall that `tune` chose "
                "for the spectrum measured after the passes of training, and under a gain of 1/2 that nobody chose. "
                "From T on means: after the passes of training, with recall to the state there. Stopping is the "
                "control that any of them has to be compared with.",
            ),
            tables=(Table(("run", "gain, recall", *names), rows, "Share solved after 8 times the passes of training"),),
            numbers={"runs": len(rows)},
        )
    ]


def _best_rescue(rescues: list[dict[str, Any]]) -> str:
    """Say how often a tuned loop kept more than the plain one, and how often as much as stopping did."""
    tuned = [row for row in rescues if "tuned" in row]
    more, enough = (sum(row["tuned"] > row[name] for row in tuned) for name in ("plain", "stopped"))
    of = count(len(tuned), "collapsed loop")
    return f"Tuned gains keep more than the plain loop in {more} of {of}, and more than stopping in {enough}"


PAGE: Page[Result] = Page(
    heading=_heading,
    facts=_facts,
    sections={"accuracy": _accuracy, "tests": _tests, "forecasts": _forecasts, "rescues": _rescues},
)
