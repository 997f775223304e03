"""d_i = score of PI, PD, PID or the value residual - that of P, seed by seed: the section of train_pid_over_p.toml.

training_page.py writes the rates of the search into that plan, and this section from the runs of the plan.
"""

import math
import tomllib
from itertools import groupby
from pathlib import Path
from textwrap import fill

import numpy as np

from ctrlattn.files import atomic, visible
from ctrlattn.nn.experiment.statistics import holm, paired, power, seeds_needed
from ctrlattn.nn.experiment.table import interval, published
from ctrlattn.provenance import provenance
from stage.page_file import read_json, without_curves, write_json

SIMULATIONS = Path(__file__).parents[1]
PLAN = SIMULATIONS / "configs" / "train_pid_over_p.toml"
RESULTS = SIMULATIONS / "results" / "train_pid_over_p.json"
RATES = SIMULATIONS / "results" / "train_pid_rates.json"
ONE_RATE = SIMULATIONS / "results" / "train_digits.json"  # the comparison in which all arms have one rate
POOLED = ("softmax", "softmax-again")
SIMILARITY = ("token_similarity_final", "attention_similarity_final", "token_similarity_slope")
SEARCHED = (190, 191, 192, 193)
NAMES = {"p_alone": "P", "pi_alone": "PI", "pd_alone": "PD", "pidformer-printed": "PID"}


def named(arm):
    """P, PI, PD or PID; another arm keeps its name."""
    return NAMES.get(Path(arm).stem, arm)


def searched(folders):
    """{arm: {rate: validation losses of the last epoch over the seeds of the search}} of the runs in some folders.

    A run that did not learn has an infinite loss. Rates of which a seed is missing are left out.
    """
    losses = {}
    for path in (path for folder in folders for path in visible(Path(folder) / "runs", "*.json")):
        run = read_json(path)
        settings = run["settings"]
        last = float(run["valid"][-1]) if run["status"] == "learned" else math.inf
        losses.setdefault(settings["arm"], {}).setdefault(settings["rate"], {})[settings["seed"]] = last
    return {
        arm: {
            rate: [seeds[seed] for seed in SEARCHED]
            for rate, seeds in sorted(rates.items())
            if set(SEARCHED) <= {*seeds}
        }
        for arm, rates in losses.items()
    }


def chosen(losses):
    """{arm: rate of the least mean validation loss}; softmax-again has that of softmax."""
    rates = {arm: min(rates, key=lambda rate, rates=rates: np.mean(rates[rate])) for arm, rates in losses.items()}
    return {**rates, "softmax-again": rates["softmax"]}


def keep_rates(folders):
    """Store the search, and write the table `rates` at the end of the plan, in the place of the one before."""
    losses = searched(folders)
    write_json(RATES, {"run": provenance(), "losses": losses})
    plan = PLAN.read_text(encoding="utf-8").partition("\n[rates]\n")[0].rstrip()
    table = "\n".join(f'"{arm}" = {rate:g}' for arm, rate in chosen(losses).items())
    with atomic(PLAN) as path:
        path.write_text(f"{plan}\n\n[rates]\n{table}\n", encoding="utf-8")


def keep(folder):
    """Store the comparison in a folder as that of the plan."""
    write_json(RESULTS, without_curves(read_json(Path(folder) / "comparison.json")))


def values(result, arms, score):
    """The score of each seed, the mean of some arms."""
    return np.mean([result["arms"][arm][score]["values"] for arm in arms], 0)


def tested_rows(result):
    """Rows of the planned tests: interval, p of Student and of sign flips, each with Holm, and power."""
    plan = result["plan"]
    tests = [(test, paired(_difference(result, test), test["direction"])) for test in result["tests"]]
    by_student, by_flips = (
        holm({_key(test): getattr(outcome, kind) for test, outcome in tests}) for kind in ("p", "p_sign_flip")
    )
    rows = []
    for test, outcome in tests:
        effect, level = published(test["score"])[1], plan["alpha"] / len(tests)
        sides = 2 if test["direction"] == "two-sided" else 1
        powers = [power(outcome.n, effect / outcome.deviation, alpha=a, sides=sides) for a in (plan["alpha"], level)]
        seeds = seeds_needed(outcome.deviation, effect, alpha=level, sides=sides)
        p = [f"{by[_key(test)]:.2g}" for by in (by_student, by_flips)]
        cells = (
            f"{named(test['arm'])} - P, {test['score']}", interval(outcome._asdict()), *p, f"{effect:+.4f}",
            f"{powers[0]:.2f}, {powers[1]:.2f}", f"{seeds:g}", word(outcome, by_student[_key(test)], plan["alpha"]),
        )  # fmt: skip
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def _key(test):
    return f"{test['arm']} {test['score']}"


def _difference(result, test):
    return values(result, [test["arm"]], test["score"]) - values(result, [result["plan"]["against"]], test["score"])


def word(outcome, p, alpha):
    """What a test shows: only a corrected p below the level shows something."""
    if p < alpha:
        return "above P" if outcome.mean > 0 else "below P"
    return "not shown"


def other_way(result):
    """How many tests of `greater` have an interval below 0, how many hold two-sided by Holm, and how many there are."""
    one_sided = [test for test in result["tests"] if test["direction"] == "greater"]
    tests = {_key(test): paired(_difference(result, test), "two-sided") for test in one_sided}
    p = holm({key: test.p for key, test in tests.items()})
    below = [key for key, test in tests.items() if test.high < 0]
    return len(below), sum(p[key] < result["plan"]["alpha"] for key in below), len(tests)


def excluded(result):
    """Of the tests of PID: the scores in which the published effect lies above the interval."""
    tests = [test for test in result["tests"] if test["arm"] == "pidformer-printed"]
    outcomes = {test["score"]: paired(_difference(result, test), test["direction"]) for test in tests}
    return [score for score, outcome in outcomes.items() if outcome.high < published(score)[1]]


def looked_at_afterwards(result):
    """Sentences on what the tests did not ask: the other direction, the published effect, and a rate for all arms."""
    below, count, tests = other_way(result)
    sentences = [
        f"The tests asked whether the laws are above P. Looked at afterwards: in {below} of these {tests} tests the "
        f"interval lies below 0, where P is ahead, and {count} of them would hold as tests of both directions by Holm.",
        f"The published effect lies above the interval of PID - P in {', '.join(excluded(result)) or 'no score'}.",
    ]
    one_rate = read_json(ONE_RATE)["differences"]["pidformer-printed"]
    above = [score for score in dict.fromkeys(test["score"] for test in result["tests"]) if one_rate[score]["low"] > 0]
    if above:
        same_seeds = "; ".join(f"{score} {interval(one_rate[score])}" for score in above)
        each = [paired(values(result, ["pidformer-printed"], s) - values(result, POOLED, s)) for s in above]
        other_seeds = "; ".join(f"{s} {interval(test._asdict())}" for s, test in zip(above, each, strict=True))
        sentences.append(
            f"With one rate of learning for all arms, as in the comparison at the top of this page, PID - softmax was "
            f"{same_seeds}. With a rate for each arm, on other seeds, it is {other_seeds}. Where a gain is gone, it "
            "may have belonged to the rate and not to the law; seeds and baseline are others too, and no test asked."
        )
    return sentences


def rows_beside(result, arms, against, scores):
    """Rows of intervals without a test: arm - mean of the arms `against`."""
    return [
        f"| {named(arm)} | "
        + " | ".join(interval(paired(values(result, [arm], s) - values(result, against, s))._asdict()) for s in scores)
        + " |"
        for arm in arms
    ]


def head(*titles):
    return [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]


def rates_lines():
    """The search of the rates: mean validation loss of each arm at each rate, and the rates that were chosen."""
    losses = read_json(RATES)["losses"]
    rates = sorted({float(rate) for row in losses.values() for rate in row})
    rows = []
    for arm, row in losses.items():
        by_rate = {float(rate): np.mean(pair) for rate, pair in row.items()}
        least = min(by_rate, key=by_rate.get)
        cells = [f"{by_rate[rate]:.3f}" if rate in by_rate else "–" for rate in rates]
        at_end = " (the end of the range)" if least in (rates[0], rates[-1]) else ""
        rows.append(f"| {named(arm)} | {' | '.join(cells)} | {least:g}{at_end} |")
    introduction = (
        f"The rate of each arm is that of the least mean validation loss on the seeds {SEARCHED[0]} to {SEARCHED[-1]}, "
        f"which take no other part. {len(SEARCHED)} seeds do not tell rates apart whose losses are alike:"
    )
    return [fill(introduction, 120), "", *head("arm", *(f"{rate:g}" for rate in rates), "rate"), *rows]


def lines(result=None):
    """The section: what was planned, and its outcome as soon as the runs exist."""
    planned = tomllib.loads(PLAN.read_text(encoding="utf-8"))
    if result is None and RESULTS.exists():
        result = read_json(RESULTS)
    scores = list(dict.fromkeys(test["score"] for test in planned["tests"]))
    arms = [named(arm) for arm, _ in groupby(test["arm"] for test in planned["tests"])]
    plan = (
        f"simulations/configs/{PLAN.name} was written before any of its {len(planned['seeds'])} seeds was run: P, PI, "
        "PD and PID with the gains of PIDformer in its printed law, and the value residual, each with a rate of "
        f"learning that was searched for it. {len(planned['tests'])} tests: {', '.join(arms)} against P, in "
        f"{', '.join(scores)}, with Holm's correction over all of them."
    )
    page_lines = ["### P, PI, PD and PID with a rate for each", "", fill(plan, 120), ""]
    if RATES.exists():
        page_lines += [*rates_lines(), ""]
    if result is None:
        return [*page_lines, "The runs of this plan are not finished: nothing follows from it yet."]
    return [*page_lines, *outcome_lines(result, planned, scores)]


def outcome_lines(result, planned, scores):
    """The tests, the pooled baseline, and similarity apart."""
    plan = result["plan"]
    p, arms = plan["against"], [arm for arm in plan["arms"] if arm not in POOLED]
    other_arms = [arm for arm in arms if arm != p]
    run = f"{len(plan['seeds'])} of the {len(planned['seeds'])} seeds were run."
    pooled = (
        "Against the mean of the softmax runs of a seed (softmax and softmax-again), intervals without a test. The "
        "published effect is the difference of PID from softmax:"
    )
    similarity = (
        "Similarity of tokens and of attention stands apart. Adding values to every layer changes it whether or not "
        "it helps, so that it is no evidence for control. Differences from P, intervals without a test:"
    )
    column = (
        "difference [95 %]", "p, Holm", "p of sign flips, Holm", "published", "power: alone, first step of Holm",
        "seeds for 80 %", "outcome",
    )  # fmt: skip
    limits = (
        "The published effect is that of PID over softmax on ImageNet. What I and D add to P is at most a part of it, "
        "so that the power for such a part is less than the power given. Not shown is not refuted: the interval says "
        "what is left. The arms have rates of their own, and robustness may go with the rate as well as with the law."
    )
    return [
        run, "", *head("test", *column), *tested_rows(result), "", fill(limits, 120), "",
        fill(pooled, 120), "", *head("arm", *scores), *rows_beside(result, arms, POOLED, scores), "",
        *(fill(line, 120, initial_indent="- ", subsequent_indent="  ") for line in looked_at_afterwards(result)), "",
        fill(similarity, 120), "", *head("arm", *SIMILARITY), *rows_beside(result, other_arms, (p,), SIMILARITY),
    ]  # fmt: skip
