"""plan and result of the trained comparison -> its tests as they were fixed, and their outcome in sentences."""

import tomllib
from itertools import product
from pathlib import Path

from ctrlattn.nn.experiment.statistics import paired, power
from ctrlattn.nn.experiment.table import interval, published, shown

LAWS = ("pidformer-printed", "pidformer-ema")
PLAN = Path(__file__).parents[1] / "configs" / "train_digits.toml"


def plan_lines(plan):
    """The tests as they were fixed."""
    rows = [
        f"There are {len(plan['tests'])} tests at level {plan['alpha']:g} with Holm's correction, over the seeds "
        f"{plan['seeds'][0]} to {plan['seeds'][-1]}. They stand in a file that was committed before any of these seeds "
        "was run:"
    ]
    rows += ["", "| arm | score | direction of the claim |", "|---|---|---|"]
    for test in plan["tests"]:
        times = "" if test["factor"] == 1 else f"{test['factor']:g} × "
        sign = {"less": "<", "greater": ">"}[test["direction"]]
        rows.append(f"| {test['arm']} | {test['score']} | {sign} {times}{plan['against']} |")
    return rows


def verdict_of(test):
    """The outcome of one test in words. What is not shown is not refuted: the power says how much that means."""
    against = test["low"] > 0 if test["direction"] == "less" else test["high"] < 0
    if test["holds"]:
        return "holds at this size"
    if against:
        return "does not hold at this size; the interval lies on the other side"
    return "is not shown at this size" + _chance_to_see_it(test)


def _chance_to_see_it(test):
    """The published effect beside the interval, and the power of these seeds for it, where one is published."""
    claim = published(test["score"])
    if claim is None or claim[1] is None:
        return ""
    effect = claim[1] if test["direction"] == "greater" else -claim[1]
    inside = "lies inside" if test["low"] < effect < test["high"] else "lies outside"
    chance = power(test["n"], effect / test["deviation"])
    return f" (the published {effect:+.4f} {inside} the interval; power for it {chance:.2f} before correction)"


def beside_neutreno(result):
    """The laws of PIDformer against proportional control alone, on the same seeds: what I and D would add."""
    rows = {}
    for arm, score in product(LAWS, ("clean", "noise_0.3", "fgsm_16", "pgd_8")):
        pairs = zip(*(result["arms"][name][score]["values"] for name in (arm, "neutreno")), strict=True)
        rows[f"{arm} {score}"] = paired([a - b for a, b in pairs])._asdict()
    phrases = "; ".join(f"{name} {interval(row)}" for name, row in rows.items())
    better = [name for name, row in rows.items() if row["low"] > 0]
    worse = [name for name, row in rows.items() if row["high"] < 0]
    return (
        f"more than P alone? Differences from neutreno, paired by seed, without a plan: {phrases}. Above 0 beyond the "
        f"seeds: {', '.join(better) or 'none'}; below: {', '.join(worse) or 'none'}"
    )


def second_look(result):
    """The claims that hold, tested again with softmax-again in the place of softmax."""
    second_arm = result["arms"]["softmax-again"]
    claims, names = [t for t in result["tests"] if t["holds"] and t["factor"] == 1], []
    for test in claims:
        values = zip(
            result["arms"][test["arm"]][test["score"]]["values"], second_arm[test["score"]]["values"], strict=True
        )
        against = paired([a - b for a, b in values], test["direction"])
        if against.p >= result["plan"]["alpha"]:
            names.append(f"{test['arm']} {test['score']} ({interval(against._asdict())}, p {against.p:.2g})")
    lost_names = ", ".join(names) or "none"
    return f"of the {len(claims)} claims that hold, these have a p above the level against softmax-again: {lost_names}"


def verdict(result):
    """The outcome in sentences, from its numbers."""
    lines = []
    for test in result["tests"]:
        claim = published(test["score"])
        paper = "" if claim is None else f" (published: {claim[0]})"
        lines.append(f"- {test['arm']}, {test['score']}{paper}: {verdict_of(test)}, {interval(test)}.")
    for arm in LAWS:
        clean = result["differences"][arm]["clean"]
        within = "within" if clean["low"] > -0.02 and clean["high"] < 0.02 else "not shown to be within"
        lines.append(f"- {arm}: clean accuracy is {within} .02 of softmax's, {interval(clean)}.")
    chance_arms = [arm for arm in ("softmax-again", "comparator") if arm in result["differences"]]
    chance = [result["differences"][arm][s] for arm in chance_arms for s in shown(result)]
    outside = sum(row["low"] > 0 or row["high"] < 0 for row in chance)
    names = " and ".join(chance_arms)
    lines.append(f"- Of the {len(chance)} intervals of {names}, {outside} exclude 0; by chance one in twenty would.")
    lines.append(f"- Without a plan and without correction: {second_look(result)}.")
    if "neutreno" in result["arms"]:
        lines.append(f"- Is there {beside_neutreno(result)}.")
    last = ", ".join(f"{Path(arm).stem} {curves['losses'][-1]:.3f}" for arm, curves in result["curves"].items())
    lines.append(f"- Training loss of the last epoch in nats, with the same rate and initial weights for all: {last}.")
    failed = {arm: [s for s in status if s != "learned"] for arm, status in result["status"].items()}
    diverged = "; ".join(f"{arm}: {', '.join(statuses)}" for arm, statuses in failed.items() if statuses)
    planned = tomllib.loads(PLAN.read_text(encoding="utf-8"))["arms"]
    open_arms = [arm for arm in planned if arm not in result["arms"]]
    extra_arms = [Path(arm).stem for arm in result["arms"] if arm not in planned]
    if extra_arms:
        lines.append(
            f"- Arms added after the plan, on the same seeds, with intervals and no test: {', '.join(extra_arms)}."
        )
    if open_arms:
        lines.append(f"- Arms planned, but not run yet: {', '.join(open_arms)}; no test needs them.")
    return [*lines, f"- Runs that did not learn: {diverged or 'none'}."]
