"""mean [95 % interval] of each arm, differences, tests, published figures: a comparison as a Markdown table."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlattn.files import atomic

if TYPE_CHECKING:
    import xarray as xr

# PIDformer - softmax on ImageNet-1k, DeiT-tiny, top-1 in points/100; attack budget 1/255 (arXiv 2402.15989, table 1).
PUBLISHED = {
    "clean": ("72.17 → 73.13", 0.0096),
    "noise": ("69.20 → 70.87", 0.0167),
    "fgsm": ("33.64 → 38.52", 0.0488),
    "pgd": ("12.02 → 15.08", 0.0306),
    "perplexity": ("34.29 → 33.45", -0.84),
    "attention_similarity_slope": (".58 rising to .80 → .74 falling to .15 by layer 8, then .43", None),
}


def published(score: str) -> tuple[str, float | None] | None:
    """Return (figures of the paper for the score or its family, their difference).

    >>> published("fgsm_16")
    ('33.64 → 38.52', 0.0488)
    """
    return PUBLISHED.get(score, PUBLISHED.get(score.split("_")[0]))


def shown(result: dict[str, Any]) -> list[str]:
    """Return the scores that get a row: those of the tests, or all of the trained networks where there is no test."""
    tested = list(dict.fromkeys(test["score"] for test in result["tests"] if test["factor"] == 1))
    every = next(iter(result["arms"].values()))
    return tested or [score for score in every if not score.startswith("untrained.") and score != "loss"]


def lines(result: dict[str, Any]) -> list[str]:
    """Write the comparison in Markdown."""
    return [
        *_arms(result),
        "",
        *_controllers(result),
        *_differences(result),
        *_tests(result),
        *_published_table(result),
    ]


def write(path: Path, result: dict[str, Any]) -> None:
    """Write the Markdown table to a file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text("\n".join(lines(result)) + "\n", encoding="utf-8")


def to_xarray(result: dict[str, Any]) -> "xr.Dataset":
    """Return what the table is made of: each score of each arm by seed, and its mean with an interval of 95 %.

    A run that failed, or has no such score, is nan.

    >>> loss = {"mean": 0.5, "low": 0.25, "high": 0.75, "values": [0.4, 0.6]}
    >>> result = to_xarray({"plan": {"seeds": [0, 1]}, "arms": {"softmax": {"loss": loss}}})
    >>> result.value.sel(arm="softmax", score="loss").values.tolist(), float(result["mean"][0, 0])
    ([0.4, 0.6], 0.5)
    """
    import xarray as xr

    arms, seeds = result["arms"], result["plan"]["seeds"]
    scores = list(next(iter(arms.values())))
    value = np.array([[_by_seed(rows[score]["values"], len(seeds)) for score in scores] for rows in arms.values()])
    sides = {
        side: (("arm", "score"), [[float(rows[score][side]) for score in scores] for rows in arms.values()])
        for side in ("mean", "low", "high")
    }
    coords = {"arm": [Path(arm).stem for arm in arms], "score": scores, "seed": list(seeds)}
    return xr.Dataset({"value": (("arm", "score", "seed"), value), **sides}, coords=coords)


def _by_seed(values: list[Any], count: int) -> list[float]:
    numbers = [float(value) for value in values]
    return numbers if len(numbers) == count else [np.nan] * count


def interval(row: dict[str, Any]) -> str:
    """Write mean [low, high], or the mean alone where one seed has no interval.

    >>> interval({"mean": 0.5, "low": 0.25, "high": 0.75}), interval({"mean": 0.5, "low": "nan", "high": "nan"})
    ('0.500 [0.250, 0.750]', '0.500')
    """
    mean, low, high = (float(row[key]) for key in ("mean", "low", "high"))
    return f"{_number(mean)}" if low != low else f"{_number(mean)} [{_number(low)}, {_number(high)}]"


def _number(value: float) -> str:
    return f"{value:.3f}" if 0.01 <= abs(value) < 100 or value == 0 else f"{value:.4g}"


def _arms(result: dict[str, Any]) -> list[str]:
    arms = [Path(arm).stem for arm in result["arms"]]
    rows = [f"Mean over {len(result['plan']['seeds'])} seeds [95 % interval].", ""]
    rows += ["| score | " + " | ".join(arms) + " |", "|---" * (len(arms) + 1) + "|"]
    for score in next(iter(result["arms"].values())):
        rows.append(f"| {score} | " + " | ".join(interval(scores[score]) for scores in result["arms"].values()) + " |")
    statuses = [", ".join(f"{runs.count(s)} {s}" for s in dict.fromkeys(runs)) for runs in result["status"].values()]
    return [*rows, "| runs | " + " | ".join(statuses) + " |"]


def _controllers(result: dict[str, Any]) -> list[str]:
    """Return the table of arms that learn or clip: gains before and after training, and the share of u at its limit."""
    if not result.get("controllers"):
        return []
    rows = ["Controllers: gains before → after training, mean over the layers; share of the elements of u that were"]
    rows[0] += " clipped on the first test inputs, after training."
    rows += ["", "| arm | kp | ki | kd | region of alpha | largest change | limit | clipped |", "|---" * 8 + "|"]
    for arm, row in result["controllers"].items():
        cells = ["–"] * 7
        if "start" in row:
            gains = zip(("kp", "ki", "kd"), row["start"], strict=True)
            cells[:3] = [f"{start:g} → {interval(row[name])}" for name, start in gains]
            cells[3:5] = [f"{row['region'][0]:.3g} to {row['region'][1]:.3g}", f"{row['spread']:.0%}"]
        if "limit" in row:
            cells[5:] = [f"{row['limit']:g}", interval(row["clipped"])]
        rows.append(f"| {Path(arm).stem} | {' | '.join(cells)} |")
    return [*rows, ""]


def _differences(result: dict[str, Any]) -> list[str]:
    if not result["differences"]:
        return []
    against = Path(result["plan"]["against"]).stem
    arms = [Path(arm).stem for arm in result["differences"]]
    rows = [f"Difference from {against}, paired by seed [95 % interval].", ""]
    rows += ["| score | " + " | ".join(arms) + " |", "|---" * (len(arms) + 1) + "|"]
    for score in shown(result):
        cells = [interval(scores[score]) for scores in result["differences"].values()]
        rows.append(f"| {score} | " + " | ".join(cells) + " |")
    return rows


def _tests(result: dict[str, Any]) -> list[str]:
    if not result["tests"]:
        return []
    rows = ["", f"Tests fixed before the runs: Student's, paired, Holm over {len(result['tests'])}.", ""]
    level = f"holds at {result['plan']['alpha']:g}"
    rows += [
        f"| claim | difference [95 %] | p | p, Holm | p, sign flips | {level} | seeds for 80 % |",
        "|---" * 7 + "|",
    ]
    for t in result["tests"]:
        sign = {"less": "<", "greater": ">"}.get(t["direction"], "≠")
        factor = "" if t["factor"] == 1 else f"{t['factor']:g} × "
        claim = f"{t['arm']}: {t['score']} {sign} {factor}{result['plan']['against']}"
        seeds = "more than 100,000" if t["seeds_for_this"] == "inf" else t["seeds_for_this"]
        against = (t["direction"] == "less") == (t["mean"] > 0) and t["direction"] != "two-sided"
        chance = "other direction" if against else seeds
        values = " | ".join(f"{t[key]:.2g}" for key in ("p", "p_holm", "p_sign_flip"))
        rows.append(f"| {claim} | {interval(t)} | {values} | {'yes' if t['holds'] else 'no'} | {chance} |")
    return rows


def _published_table(result: dict[str, Any]) -> list[str]:
    arms = [arm for arm in result["differences"] if "pidformer" in arm]
    rows = [(score, published(score)) for score in shown(result) if published(score)]
    if not arms or not rows:
        return []
    text = result["plan"]["data"] == "text"
    source = "WikiText-103, 16 layers, words" if text else "ImageNet-1k, DeiT-tiny, top-1, attack budget 1/255"
    table = ["", f"Beside the published figures ({source}; arXiv 2402.15989): other data, size and budgets.", ""]
    table += ["| score | published | " + " | ".join(f"{Path(a).stem}, here" for a in arms) + " |"]
    table += ["|---" * (len(arms) + 2) + "|"]
    for score, claim in rows:
        assert claim is not None
        cells = " | ".join(interval(result["differences"][arm][score]) for arm in arms)
        change = "" if claim[1] is None else f" ({claim[1]:+g})"
        table.append(f"| {score} | {claim[0]}{change} | {cells} |")
    return table
