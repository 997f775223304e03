"""Scores of runs beyond training, of the forecasts, and of controllers."""

import math

import pytest
from scipy.stats import beta, hypergeom

pytest.importorskip("torch")

from ctrlattn.nn.experiment.loop_arms import DEFAULT
from ctrlattn.nn.experiment.loop_plan import CLAIMS
from ctrlattn.nn.experiment.loop_score import curves_of, rescue_table, score_of, scores_of


def run_and_end(arm="plain", collapsed=True):
    curve = [k / 100 for k in range(17)]
    sizes = {k: {"accuracy": [x * int(k) for x in curve], "residual": [1 - x for x in curve]} for k in ("1", "2", "4")}
    run = {
        "settings": {"arm": arm, "seed": 3},
        "forecasts": [{"radius": [1.5, 0.5, 1.0], "rest": [None, 0.25, None], "tuned": {"gain": 0.5, "recall": 1.0}}],
    }
    other = {"blind": curve[::-1], "tuned from T": [0.5] * 8 + [0.25] + [0.75] * 8}
    end = {"marks": [{"sizes": sizes, "collapsed": collapsed}], "rescued": other,
           "motion": {"exponent": -0.5, "basin": [1.0, 0.25]}}  # fmt: skip
    return run, end


def test_scores_are_read_at_their_passes():
    assert scores_of(*run_and_end(), passes=2) == pytest.approx({
        "accuracy": 0.02, "accuracy_2": 0.04, "accuracy_4": 0.08, "accuracy_8": 0.16, "size_2": 0.08, "size_4": 0.32,
        "residual": 0.98, "residual_8": 0.84, "radius": 1.0, "rest": 0.25, "exponent": -0.5, "basin": 0.25,
    })  # fmt: skip
    run, end = run_and_end()
    end["motion"]["basin"], run["forecasts"][0]["rest"] = None, [None] * 3
    scores = scores_of(run, end, 2)
    assert scores["basin"] == 0
    assert math.isnan(scores["rest"])
    assert all(math.isnan(v) for v in scores_of(run, {**end, "marks": []}, 2).values())
    assert curves_of(end)["accuracy, size x 4"][1] == pytest.approx(0.04)


def test_the_score_of_a_rule_is_its_table():
    said = [True] * 6 + [False] * 6
    fell = [True] * 5 + [False] * 5 + [True, None]
    rows = [
        {"arm": "a", "seed": k // 2, "step": k, "collapse": {"poles": a}, "collapsed": b}
        for k, (a, b) in enumerate(zip(said, fell, strict=True))
    ]
    result = score_of(rows, "poles")
    assert result["all"]["counts"] == [5, 1, 4, 1]
    assert result["all"]["right"] == pytest.approx(9 / 11)
    assert result["all"]["low"] == pytest.approx(beta.ppf(0.025, 9, 3))
    assert result["all"]["p"] == pytest.approx(hypergeom.sf(4, 11, 6, 6))
    # Of each run the last row that was judged: 1, 3, 5, 7, 9 and 10.
    assert result["last"]["counts"] == [2, 1, 2, 1]
    assert score_of(rows[-1:], "poles")["all"]["n"] == 0


def test_only_loops_that_collapsed_are_rescued():
    (row,) = rescue_table([run_and_end(), run_and_end("recall", collapsed=False)], 2)
    assert (row["arm"], row["seed"], row["stopped"], row["plain"]) == ("plain", 3, 0.02, 0.16)
    assert (row["blind"], row["tuned from T"], row["least tuned from T"]) == (0.0, 0.75, 0.25)
    assert "least blind" not in row


def test_every_test_is_of_an_arm_that_is_compared_and_named_once():
    assert {claim.arm for claim in CLAIMS} <= set(DEFAULT)
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)
    assert [c.direction for c in CLAIMS if c.arm == "plain-again"] == ["two-sided"]
