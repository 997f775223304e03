"""The trial of learned and limited control: what is kept, and that its rows are the numbers."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

PATH = Path(__file__).parents[2] / "simulations" / "training_control.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("training_control_under_test", PATH)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_rows_are_the_numbers_of_the_trial(script):
    result = json.loads(script.RESULTS.read_text(encoding="utf-8"))
    text = "\n".join(script.lines())
    assert "A trial of one seed (0)" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == list(result["arms"])
    for row, (arm, scores) in zip(rows, result["arms"].items(), strict=True):
        assert f"| {scores['clean']['mean']:.3f} |" in row
        assert ("–" not in row.split(" | ")[-2]) == ("learned" in arm)
        if "saturated" in arm:
            assert row.endswith(f"{result['controllers'][arm]['clipped']['mean']:.3f} |")


def test_the_learned_gains_lie_in_their_boxes(script):
    for row in json.loads(script.RESULTS.read_text(encoding="utf-8"))["controllers"].values():
        for name, start in zip(("kp", "ki", "kd"), row.get("start", ()), strict=False):
            assert abs(row[name]["mean"] / start - 1) < row["spread"]


def test_the_trial_is_kept_without_its_curves(script, tmp_path, monkeypatch):
    result = json.loads(script.RESULTS.read_text(encoding="utf-8"))
    (tmp_path / "comparison.json").write_text(json.dumps({**result, "curves": {"softmax": {}}}), encoding="utf-8")
    monkeypatch.setattr(script, "RESULTS", tmp_path / "kept.json")
    script.keep(tmp_path)
    assert json.loads((tmp_path / "kept.json").read_text(encoding="utf-8")) == result
