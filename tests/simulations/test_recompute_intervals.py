"""Every printed interval follows from stored values, and a value that is changed by hand is seen."""

import importlib.util
import json
from pathlib import Path

import pytest

SIMULATIONS = Path(__file__).parents[2] / "simulations"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(SIMULATIONS)
    specification = importlib.util.spec_from_file_location("recompute", SIMULATIONS / "recompute_intervals.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_what_is_stored_follows_from_its_values(script):
    assert script.main(check=True) == []


def scene_of(**changes):
    row = {"mean": 2.0, "low": 2 - 12.706204736432095, "high": 2 + 12.706204736432095, "values": [1.0, 3.0], **changes}
    return {"verdict": ["a: +2.00 [-10.71, +14.71]", "plain: 2.000 ± 12.706"], "x": row}


def judged(script, tmp_path, monkeypatch, numbers):
    monkeypatch.setattr(script, "RESULTS", tmp_path)
    (tmp_path / "scene.json").write_text(json.dumps(numbers))
    return script.main(check=True)


def test_a_changed_value_a_wrong_print_and_absent_values_are_faults(script, tmp_path, monkeypatch):
    assert judged(script, tmp_path, monkeypatch, scene_of()) == []
    (fault, *_) = judged(script, tmp_path, monkeypatch, scene_of(values=[1.0, 3.1]))
    assert fault == "scene.json: /x does not follow from its values"
    wrong = scene_of() | {"verdict": ["a: +2.00 [-10.71, +14.72]"]}
    assert judged(script, tmp_path, monkeypatch, wrong) == [
        "scene.json: printed [-10.71, +14.72] is none of the recomputed"
    ]
    absent = scene_of()
    del absent["x"]["values"]
    assert "scene.json: /x carries no values" in judged(script, tmp_path, monkeypatch, absent)


def test_factors_are_powers_of_ten_of_the_stored_logarithms(script, tmp_path, monkeypatch):
    numbers = scene_of()
    numbers["x"] |= {"mean": 0.5, "low": 0.5 - 12.706204736432095 / 4, "high": 0.5 + 12.706204736432095 / 4}
    numbers["x"]["values"] = [0.25, 0.75]
    numbers["verdict"] = ["a grows 3.16 [0.0021, 4748.44]"]
    (fault,) = judged(script, tmp_path, monkeypatch, numbers)
    assert fault.startswith("scene.json: printed [0.0021, 4748.44]")
    monkeypatch.setattr(script, "FACTORS", {"scene.json"})
    assert judged(script, tmp_path, monkeypatch, numbers) == []


def test_an_interval_of_a_share_is_no_interval_of_a_mean(script, tmp_path, monkeypatch):
    numbers = {"verdict": ["alpha in [1.00, 2.00]"]}  # a range, and no interval
    assert judged(script, tmp_path, monkeypatch, numbers) == []
