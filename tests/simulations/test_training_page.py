"""The page of the trained comparison: that of the numbers kept, of the plan that was fixed, in words that follow."""

import importlib.util
import json
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "simulations")
        specification = importlib.util.spec_from_file_location("training_page", ROOT / "simulations/training_page.py")
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        yield module


def test_the_page_is_that_of_the_numbers(script):
    assert script.main(check=True)


def test_the_numbers_are_of_the_plan_that_was_fixed(script):
    saved = json.loads(script.RESULTS.read_text(encoding="utf-8"))
    fixed = tomllib.loads(script.training_outcome.PLAN.read_text(encoding="utf-8"))
    for name in ("data", "against", "seeds", "alpha", "correction", "settings"):
        assert saved["plan"][name] == fixed[name]
    assert [{"factor": 1.0, **test} for test in fixed["tests"]] == saved["plan"]["tests"]
    for test in saved["tests"]:
        arms = [saved["arms"][arm][test["score"]]["values"] for arm in (test["arm"], fixed["against"])]
        differences = [a - test["factor"] * b for a, b in zip(*arms, strict=True)]
        assert sum(differences) / len(fixed["seeds"]) == pytest.approx(test["mean"])
        assert test["holds"] == (test["p_holm"] < fixed["alpha"])


@pytest.mark.parametrize(
    ("holds", "low", "high", "words"),
    [
        (True, 0.1, 0.2, "holds at this size"),
        (False, -0.1, 0.2, "is not shown at this size"),
        (False, -0.2, -0.1, "does not hold at this size; the interval lies on the other side"),
    ],
)
def test_a_verdict_follows_the_numbers(script, holds, low, high, words):
    test = {"holds": holds, "low": low, "high": high, "direction": "greater", "score": "rank_final"}
    assert script.training_outcome.verdict_of(test) == words


def test_what_is_not_shown_says_how_likely_it_was_to_be_seen(script):
    from scipy import stats

    test = {"holds": False, "low": -0.01, "high": 0.05, "direction": "greater", "score": "clean", "n": 10}
    words = script.training_outcome.verdict_of({**test, "deviation": 0.03})
    shift = 0.0096 / 0.03 * 10**0.5
    chance = stats.nct.sf(stats.t.ppf(0.95, 9), 9, shift)
    assert f"the published +0.0096 lies inside the interval; power for it {chance:.2f}" in words
    outside = script.training_outcome.verdict_of({**test, "low": -0.01, "high": 0.005, "deviation": 0.03})
    assert "lies outside the interval" in outside


def test_the_laws_are_set_beside_proportional_control_on_the_same_seeds(script):
    values = {"neutreno": [0.5, 0.6, 0.7], "pidformer-printed": [0.6, 0.7, 0.8], "pidformer-ema": [0.2, 0.8, 0.7]}
    scores = ("clean", "noise_0.3", "fgsm_16", "pgd_8")
    arms = {arm: {score: {"values": row} for score in scores} for arm, row in values.items()}
    told = script.training_outcome.beside_neutreno({"arms": arms})
    assert "pidformer-printed clean 0.100 [0.100, 0.100]" in told
    assert told.endswith(
        "Above 0 beyond the seeds: pidformer-printed clean, pidformer-printed noise_0.3, pidformer-printed fgsm_16, "
        "pidformer-printed pgd_8; below: none"
    )


def test_the_estimate_counts_the_multiply_adds_of_the_network(script):
    # Counted by torch on the network itself, one image: two operations a multiply-add.
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from ctrlattn.nn import ControlledViT

    model = ControlledViT(image=32, patch=16, dim=24, depth=2, heads=3, classes=1)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(torch.zeros(1, 3, 32, 32))
    head = 24  # of one class, which the estimate leaves out
    assert counter.get_total_flops() == 2 * (script.training_scale.multiply_adds(2, 24, 5) + head)


def deep_folder(path, seeds, clean, status="learned", **settings):
    """What `ctrlattn train` writes, as far as the section of deep networks reads it."""
    path.mkdir()
    values = {"values": [clean] * len(seeds)}
    result = {
        "plan": {"seeds": seeds, "settings": {"depth": 48, **settings}},
        "arms": {arm: {"clean": values, "token_similarity_final": values} for arm in ("softmax", "neutreno")},
        "status": {arm: [status] * len(seeds) for arm in ("softmax", "neutreno")},
    }
    (path / "comparison.json").write_text(json.dumps(result), encoding="utf-8")
    return path


def test_seeds_of_deep_networks_are_added_and_those_run_again_replaced(script, tmp_path):
    deep = script.training_deep
    first = deep_folder(tmp_path / "a", [100, 101], 0.5, norm="rms")
    again = deep_folder(tmp_path / "b", [101, 102], 0.9, norm="rms")
    bare = deep_folder(tmp_path / "c", [100], 0.1, "not finite", norm="none")
    merged = deep.merged([], [first, again, bare])
    assert [one["settings"]["norm"] for one in merged] == ["none", "rms"]
    assert merged[1]["seeds"] == [100, 101, 102]
    assert merged[1]["arms"]["neutreno"]["clean"] == [0.5, 0.9, 0.9]
    assert [deep.cell(one["arms"]["softmax"]) for one in merged] == ["1 not finite", "0.767 (0.500 to 0.900)"]
    said = "\n".join(deep.verdict(merged))
    assert "2 of 2 runs fail" in said
    assert "2 of 3 reach 0.75" in said
    assert "neutreno, norm rms, not scaled, rate 0.003, seed 100 (0.500)" in said


def test_other_data_are_kept_without_curves_and_say_how_many_seeds_were_planned(script, tmp_path, monkeypatch):
    saved = json.loads(script.RESULTS.read_text(encoding="utf-8"))
    saved["plan"] = {**saved["plan"], "data": "text", "seeds": [100, 101]}
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "comparison.json").write_text(json.dumps({**saved, "tests": []}), encoding="utf-8")
    monkeypatch.setattr(
        script.training_other, "OTHER", {"text": tmp_path / "text.json", "mnist5k": tmp_path / "none.json"}
    )
    script.training_other.keep_also(folder)
    assert "curves" not in json.loads((tmp_path / "text.json").read_text(encoding="utf-8"))
    page = "\n".join(script.training_other.other_lines())
    assert "The seeds 100, 101 were run, of 5 that were planned." in page.replace("\n", " ")
    assert "### mnist5k" not in page


@pytest.mark.parametrize("data", ["mnist5k", "text"])
def test_the_plans_for_other_data_can_be_read(script, data):
    from ctrlattn.nn.experiment.plan import read_plan

    plan = read_plan(script.training_other.plan_of(data), data)
    assert (len(plan.seeds), len(plan.tests), plan.arms[-1]) == (5, 4, "softmax-again")
