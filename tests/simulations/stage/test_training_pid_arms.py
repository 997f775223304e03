"""P, PI, PD, PID: rates by the search's rule, tests of the plan, baseline over all softmax runs, similarity apart."""

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("torch")

from ctrlattn.nn.experiment.plan import read_plan
from ctrlattn.nn.experiment.statistics import half_width

SCORES = ("clean", "noise_0.3", "fgsm_16", "pgd_8")


def run_file(folder, arm, seed, rate, loss, status="learned"):
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    run = {"settings": {"arm": arm, "seed": seed, "rate": rate}, "valid": [9.0, loss], "status": status}
    (folder / "runs" / f"{arm}_{seed}.json").write_text(json.dumps(run))


def search(folder):
    """Two arms at two rates: softmax is best at .001; at .002 one seed of PID did not learn."""
    for rate, losses in ((0.001, {"softmax": (0.2, 0.4), "pidformer-printed": (0.5, 0.7)}),
                         (0.002, {"softmax": (0.1, 0.6), "pidformer-printed": (0.0, 0.1)})):  # fmt: skip
        for arm, (first, second) in losses.items():
            at = folder / f"rate_{rate}"
            failed = arm == "pidformer-printed" and rate == 0.002
            for seed in (190, 191, 192, 193):
                loss, status = (first, "learned") if seed % 2 == 0 else (second, "diverged" if failed else "learned")
                run_file(at, arm, seed, rate, loss, status)
            run_file(at, arm, 194, rate, 0.0)  # no seed of the search
    return [folder / "rate_0.001", folder / "rate_0.002"]


def result_of(stage, tmp_path, effect, n=30):
    """A result of the plan in which PI lies `effect` above P, and all softmax runs around P by -.3 and +.3."""
    plan = read_plan(stage.PLAN)
    draws = np.random.default_rng(0).normal(0, 0.01, (len(plan.arms), n))
    offsets = {"simulations/configs/pi_alone.toml": effect, "softmax": -0.3, "softmax-again": 0.3}
    arms = {
        arm: {
            score: {"values": (offsets.get(arm, 0.0) + draw).tolist()} for score in (*SCORES, *stage.SIMILARITY)
        }
        for arm, draw in zip(plan.arms, draws, strict=True)
    }  # fmt: skip
    tests = [{"arm": t.arm, "score": t.score, "direction": t.direction, "factor": 1.0} for t in plan.tests]
    settings = {"against": plan.against, "alpha": plan.alpha, "arms": list(plan.arms), "seeds": list(plan.seeds)[:n]}
    return {"plan": settings, "arms": arms, "tests": tests}


def test_a_rate_is_that_of_the_least_mean_loss_and_a_failed_run_has_none(stage, tmp_path):
    losses = stage.searched(search(tmp_path))
    assert losses["softmax"] == {0.001: [0.2, 0.4, 0.2, 0.4], 0.002: [0.1, 0.6, 0.1, 0.6]}
    assert stage.chosen(losses) == {"softmax": 0.001, "pidformer-printed": 0.001, "softmax-again": 0.001}


def test_a_rate_that_lacks_a_seed_is_left_out(stage, tmp_path):
    folders = search(tmp_path)
    (folders[0] / "runs" / "softmax_191.json").unlink()
    assert list(stage.searched(folders)["softmax"]) == [0.002]


def test_the_rates_stand_in_the_plan_once(stage, tmp_path, monkeypatch):
    plan = shutil.copy(stage.PLAN, tmp_path / "plan.toml")
    monkeypatch.setattr(stage, "PLAN", tmp_path / "plan.toml")
    monkeypatch.setattr(stage, "RATES", tmp_path / "rates.json")
    before = read_plan(tmp_path / "plan.toml")
    for _ in range(2):
        stage.keep_rates(search(tmp_path))
    after = read_plan(tmp_path / "plan.toml")
    assert plan.read_text().count("[rates]") == 1
    assert after.rates == {"softmax": 0.001, "pidformer-printed": 0.001, "softmax-again": 0.001}
    assert after.tests == before.tests
    assert after.seeds == before.seeds
    text = "\n".join(stage.rates_lines())
    assert "| softmax | 0.300 | 0.350 | 0.001 (the end of the range) |" in text
    assert "| PID | 0.600 | inf | 0.001 (the end of the range) |" in text


def test_an_effect_is_seen_in_its_arm_alone(stage, tmp_path):
    rows = stage.tested_rows(result_of(stage, tmp_path, 0.1))
    assert len(rows) == 16
    assert [row.split("|")[-2].strip() for row in rows] == ["above P"] * 4 + ["not shown"] * 12
    assert all(row.startswith("| PI - P, ") for row in rows[:4])


def test_a_test_carries_its_interval_and_its_power(stage, tmp_path):
    result = result_of(stage, tmp_path, 0.1)
    row = stage.tested_rows(result)[0]
    p, pi = (result["arms"][f"simulations/configs/{name}.toml"]["clean"]["values"] for name in ("p_alone", "pi_alone"))
    d = np.subtract(pi, p)
    low, high = d.mean() - half_width(d), d.mean() + half_width(d)
    assert f"{d.mean():.3f} [{low:.3f}, {high:.3f}]" in row
    assert "+0.0096" in row  # the published effect of PID over softmax, in clean accuracy


def test_all_softmax_runs_of_a_seed_are_one_baseline(stage, tmp_path):
    result = result_of(stage, tmp_path, 0.0)
    row = stage.rows_beside(result, ["pidformer-printed"], stage.POOLED, ["clean"])[0]
    pid, one, other = (
        np.array(result["arms"][arm]["clean"]["values"]) for arm in ("pidformer-printed", "softmax", "softmax-again")
    )
    mean = (pid - (one + other) / 2).mean()
    assert abs(mean) < 0.02  # and neither .3 nor -.3
    assert f"| PID | {mean:.4g}"[:12] in row


def test_the_section_says_whether_the_runs_exist(stage, tmp_path):
    planned = "\n".join(stage.lines(None)) if not stage.RESULTS.exists() else "not finished"
    assert "not finished" in planned
    text = "\n".join(stage.lines(result_of(stage, tmp_path, 0.1, n=6)))
    assert "6 of the 30 seeds were run" in text
    assert text.index("Similarity of tokens") > text.index("Against the mean of the softmax runs")
    assert text.count("| above P |") == 4


def test_what_was_not_asked_is_counted(stage, tmp_path):
    """P ahead of PI by .1 in each of 30 seeds: four intervals lie below 0, and hold by Holm over the twelve tests."""
    result = result_of(stage, tmp_path, -0.1)
    assert stage.other_way(result) == (4, 4, 12)
    assert stage.other_way(result_of(stage, tmp_path, 0.1))[:2] == (0, 0)


def test_an_effect_is_excluded_where_it_lies_above_the_interval(stage, tmp_path):
    result = result_of(stage, tmp_path, 0.0)
    p, pid = (result["arms"][arm]["fgsm_16"]["values"] for arm in (result["plan"]["against"], "pidformer-printed"))
    assert "fgsm_16" in stage.excluded(result)  # published +.0488, and both arms scatter by .01
    result["arms"]["pidformer-printed"]["fgsm_16"]["values"] = [value + 0.06 for value in pid]
    assert "fgsm_16" not in stage.excluded(result)
    assert np.mean(p) == pytest.approx(0.0, abs=0.01)


def test_a_gain_at_one_rate_stands_beside_that_at_a_rate_for_each(stage, tmp_path):
    """PID lies .3 above softmax and .3 below softmax-again in the result: 0 beside their mean."""
    result = result_of(stage, tmp_path, 0.0)
    said = stage.looked_at_afterwards(result)[-1]
    before, after = said.split("With a rate for each arm")
    assert "fgsm_16 0.042 [0.012, 0.072]" in before
    pid, one, other = (
        np.array(result["arms"][arm]["pgd_8"]["values"]) for arm in ("pidformer-printed", "softmax", "softmax-again")
    )
    d = pid - (one + other) / 2
    assert float(after.partition("pgd_8 ")[2].split()[0]) == pytest.approx(d.mean(), rel=1e-3)
