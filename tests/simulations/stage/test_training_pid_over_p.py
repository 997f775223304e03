"""Is PID more than P: differences by seed, exact sign flips, Holm over eight, and a power that is said."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

RESULTS = Path(__file__).parents[3] / "simulations" / "results" / "train_digits.json"


def made(effect, seeds=10):
    """A result in which the printed law lies `effect` above NeuTRENO in every seed, and the other law does not."""
    draws = np.random.default_rng(0).normal(0, 0.01, seeds)
    values = {"pidformer-printed": effect + draws / 9, "pidformer-ema": draws, "neutreno": 0 * draws}
    values |= {
        name: offset + draws for name, offset in (("softmax", -0.3), ("softmax-again", 0.0), ("comparator", 0.3))
    }
    scores = ("clean", "noise_0.3", "fgsm_16", "pgd_8")
    return {
        "plan": {"seeds": list(range(seeds))},
        "arms": {arm: {score: {"values": list(v)} for score in scores} for arm, v in values.items()},
    }


def test_the_softmax_runs_of_a_seed_are_one_baseline(stage):
    result = made(0.1)
    base = result["arms"]["softmax-again"]["clean"]["values"]  # the two others lie .3 beside it
    d = stage.differences(result, stage.POOLED)["pidformer-ema clean"]
    np.testing.assert_allclose(d, np.array(result["arms"]["pidformer-ema"]["clean"]["values"]) - base, atol=1e-15)


def test_an_effect_in_every_seed_is_seen_and_none_is_not(stage):
    rows = stage.rows_of(made(0.1), ("neutreno",))
    assert [row.endswith("above 0 |") for row in rows] == [True] * 4 + [False] * 4
    # 2^-10 for each of four: Holm over eight multiplies the smallest by 8.
    assert all(f"| {2.0**-10:.2g} | {8 * 2.0**-10:.2g} |" in row for row in rows[:4])


def test_five_seeds_cannot_hold_by_sign_flips(stage):
    rows = stage.rows_of(made(0.1, seeds=5), ("neutreno",))
    assert all("| 0.031 | 0.25 |" in row and row.endswith("not shown |") for row in rows[:4])


def test_the_section_says_what_no_run_shows(stage):
    text = "\n".join(stage.lines(json.loads(RESULTS.read_text(encoding="utf-8"))))
    assert text.count("| not shown |") + text.count("| above 0 |") + text.count("| below 0 |") == 16
    assert "pidformer-printed clean | -0.007222 [-0.018, 0.004026] | 0.92 | 1 | +0.0096 | 0.56, 0.19" in text
