"""The trial of learned and limited control: what is kept, and that its rows are the numbers."""

import json

import pytest

pytest.importorskip("torch")


def test_the_rows_are_the_numbers_of_the_trial(stage):
    result = json.loads(stage.RESULTS.read_text(encoding="utf-8"))
    text = "\n".join(stage.lines())
    assert "This is a trial of one seed (0)" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == list(result["arms"])
    for row, (arm, scores) in zip(rows, result["arms"].items(), strict=True):
        assert f"| {scores['clean']['mean']:.3f} |" in row
        assert ("–" not in row.split(" | ")[-2]) == ("learned" in arm)
        if "saturated" in arm:
            assert row.endswith(f"{result['controllers'][arm]['clipped']['mean']:.3f} |")


def test_the_learned_gains_lie_in_their_boxes(stage):
    for row in json.loads(stage.RESULTS.read_text(encoding="utf-8"))["controllers"].values():
        for name, start in zip(("kp", "ki", "kd"), row.get("start", ()), strict=False):
            assert abs(row[name]["mean"] / start - 1) < row["spread"]


def test_the_trial_is_kept_without_its_curves(stage, tmp_path, monkeypatch):
    result = json.loads(stage.RESULTS.read_text(encoding="utf-8"))
    (tmp_path / "comparison.json").write_text(json.dumps({**result, "curves": {"softmax": {}}}), encoding="utf-8")
    monkeypatch.setattr(stage, "RESULTS", tmp_path / "kept.json")
    stage.keep(tmp_path)
    assert json.loads((tmp_path / "kept.json").read_text(encoding="utf-8")) == result
