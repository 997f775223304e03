"""The scene of repeated spans: changes are paired and simultaneous, the verdict follows them, and runs are kept."""

import json

import numpy as np
import pytest
from scipy.stats import t as student

pytest.importorskip("torch")
pytest.importorskip("transformers")


def forecast(eigenvalues, damped, recalled):
    motion = {"naive": {"error": [1.0, 0.5], "residual": [1.0, 0.5], "norm": [1.0, 2.0, 9.0]}}
    for name, error in (
        ("gain 1/4", damped),
        ("recall", recalled),
        ("recall, measured eigenvalues alone", recalled[::-1]),
    ):
        motion[name] = {"error": error, "residual": error, "norm": [1.0, 1.0, 1.0]}
    return {"eigenvalues": eigenvalues, "motion": motion}


def test_changes_are_paired_and_their_intervals_simultaneous(scene):
    losses = {"source": [1.0, 5.0, 3.0], "a": {"2 passes": [2.0, 6.0, 5.0], "4 passes": [1.0, 5.0, 3.0]}}
    changes = scene.changes_of(scene.intervals_of(losses))["a"]
    differences = np.array([1.0, 1.0, 2.0])
    half = student.ppf(1 - 0.025 / 2, 2) * differences.std(ddof=1) / np.sqrt(3)
    assert changes["2 passes"] == (pytest.approx(4 / 3), pytest.approx(half))
    assert changes["4 passes"] == (0.0, 0.0)


def test_the_verdict_follows_the_numbers(scene):
    changes = {"2 to 3": {"2 passes": (0.2, 0.1), "4 passes": (-0.3, 0.1), "4 passes, gain 1/4": (0.0, 0.1),
                          "4 passes, gain 3/8": (0.1, 0.2)}}  # fmt: skip
    rests = {"2 to 3": forecast([[2.0, 0.0], [0.1, 0.0]], [1.0, 0.3], [1.0, 0.05])}
    lines = scene.verdict(changes, rests, {"2 to 3": (0.25, 0.5, 0.0, 0.1)})
    assert [line.split(":")[0] for line in lines[:2]] == ["holds", "holds"]
    assert "spans of 1: 1" in lines[3]
    assert lines[4].endswith("the error grows, spans of 1: 1")
    assert "lower the loss, of 4: 1" in lines[5]
    assert "raise it, of 4: 1" in lines[6]
    assert lines[7].endswith("4 passes: -0.3000")
    assert lines[8].endswith("cells of 4: 3")
    none = {"2 to 3": forecast([[2.0, 1.0], [2.0, -1.0]], [1.0, 0.001], [1.0, 0.5])}
    assert [line.split(":")[0] for line in scene.verdict(changes, none, {})[:2]] == ["does NOT hold"] * 2


def test_the_small_run_is_kept_and_not_measured_again(scene, tmp_path, monkeypatch):
    numbers = scene.main(tmp_path)
    written = json.loads((tmp_path / "repeated_span.json").read_text(encoding="utf-8"))
    assert written["verdict"] == numbers["verdict"]
    assert (tmp_path / "repeated_span.png").exists()
    head, rows = numbers["table"]
    assert {len(row) for row in rows} == {len(head)}
    monkeypatch.setattr("ctrlattn.checkpoints.evaluate", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr("ctrlattn.checkpoints.span_modes", lambda *_: pytest.fail("measured again"))
    assert scene.main(tmp_path)["verdict"] == numbers["verdict"]
