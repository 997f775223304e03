"""The numbers of a comparison: differences by seed, tests, what the controllers did."""

import numpy as np
import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn.nn.experiment.plan import Claim, plan_of  # noqa: E402
from ctrlattn.nn.experiment.summary import summarise, value_of  # noqa: E402
from ctrlattn.nn.experiment.table import lines  # noqa: E402


def fake(arm, seed, clean, status="learned"):
    depth = {"token_similarity": [0.1, clean], "token_similarity_final": clean, "attention_similarity_final": 0.5}
    return {
        "settings": {"arm": arm, "seed": seed}, "parameters": 7, "status": status, "losses": [1.0], "valid": [1.0],
        "scores": {"loss": 1.0, "clean": clean}, "trained": depth, "untrained": depth,
    }  # fmt: skip


def test_the_table_is_paired_by_seed_and_corrected_over_the_tests():
    tests = (
        Claim("neutreno", "clean", "greater"),
        Claim("neutreno", "untrained.token_similarity_final", "less", 2.0),
    )
    plan = plan_of("digits", arms=("softmax", "neutreno"), seeds=(0, 1, 2), tests=tests)
    base, gain = (0.5, 0.7, 0.9), (0.01, 0.02, 0.03)
    runs = [fake("softmax", s, base[s]) for s in (2, 0, 1)]
    runs += [fake("neutreno", s, base[s] + gain[s], "no learning" if s == 1 else "learned") for s in range(3)]
    summary = summarise(plan, runs)
    assert summary["differences"]["neutreno"]["clean"]["mean"] == pytest.approx(0.02)
    assert summary["tests"][0]["p"] == pytest.approx(0.0371, abs=1e-4)  # t = 2 sqrt 3 on two degrees of freedom
    assert summary["tests"][0]["p_holm"] == pytest.approx(max(0.0371, 2 * summary["tests"][1]["p"]), abs=1e-4)
    assert summary["tests"][1]["mean"] == pytest.approx(np.mean(gain) - np.mean(base))
    text = "\n".join(lines(summary))
    assert "2 learned, 1 no learning" in text
    assert "| neutreno: untrained.token_similarity_final < 2 × softmax |" in text
    with pytest.raises(ValueError, match="unknown score 'top5': known are loss, clean"):
        value_of(runs[0], "top5")


def test_what_controllers_did_is_in_the_summary_and_in_the_table():
    arms = ("softmax", "neutreno-learned-each", "neutreno-saturated")
    plan = plan_of("digits", arms=arms, seeds=(0, 1))
    runs = [fake(arm, seed, 0.5) for arm in arms for seed in plan.seeds]
    assert "controllers" not in summarise(plan, runs)
    for run in runs:
        seed = run["settings"]["seed"]
        if run["settings"]["arm"] == "neutreno-learned-each":
            gains = [[0.6 + 0.1 * seed, 0.0, 0.0], [0.8 + 0.1 * seed, 0.0, 0.0]]
            run["controller"] = {"start": [0.6, 0.0, 0.0], "gains": gains, "region": [0.0, 1.0], "spread": 0.5}
        if run["settings"]["arm"] == "neutreno-saturated":
            run["controller"] = {"limit": 1.0, "clipped": [0.0, 0.2 + 0.1 * seed, 0.4 + 0.1 * seed]}
    rows = summarise(plan, runs)["controllers"]
    assert list(rows) == ["neutreno-learned-each", "neutreno-saturated"]
    npt.assert_allclose(rows["neutreno-learned-each"]["kp"]["values"], [0.7, 0.8])
    npt.assert_allclose(rows["neutreno-saturated"]["clipped"]["values"], [0.3, 0.4])  # of the layers that act
    text = "\n".join(lines(summarise(plan, runs)))
    assert "| neutreno-learned-each | 0.6 → 0.750 [" in text
    assert "| 0 to 1 | 50% |" in text
    assert "| neutreno-saturated | – | – | – | – | – | 1 | 0.350 [" in text


def test_a_seed_without_a_number_shows_nothing_and_still_counts_among_the_tests():
    tests = (Claim("neutreno", "clean", "greater"), Claim("neutreno", "loss", "less"))
    plan = plan_of("digits", arms=("softmax", "neutreno"), seeds=(0, 1, 2), tests=tests)
    runs = [fake("softmax", s, 0.5) for s in range(3)]
    runs += [fake("neutreno", s, clean) for s, clean in enumerate((0.6, np.nan, 0.62))]
    for k, run in enumerate(runs):
        run["scores"]["loss"] = 1.0 + 0.01 * k
    lost, shown = summarise(plan, runs)["tests"]
    assert (lost["n"], lost["p"], lost["p_holm"], lost["holds"]) == (2, 1.0, 1.0, False)
    assert np.isnan(lost["mean"])
    assert shown["p_holm"] == pytest.approx(min(1.0, 2 * shown["p"]))  # two tests, also where one has no number
    assert "nan" in "\n".join(lines(summarise(plan, runs)))
