"""Training on both sides of the boundary: the share jumps where theory says, the control has the same gain."""

import json
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from ctrlattn import PID  # noqa: E402  (after the skip)

RESULTS = Path(__file__).parents[2] / "simulations" / "results" / "unstable_in_training.json"


def test_random_signs_leave_the_size_of_u(scene):
    signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    e = torch.randn(3, 5, 2, 2, generator=torch.Generator().manual_seed(0))
    law = scene.RandomSigns(PID(0.7, 0.2, 0.1), signs)
    plain, state = PID(0.7, 0.2, 0.1), law.init(e)
    for _ in range(3):
        u, new = law.step(e, state)
        same, _ = plain.step(e, state)
        assert torch.equal(u, signs * same)
        state = new
    drawn = [c.signs for c in scene.controllers("random signs", 0.5, 6, {"heads": 2, "dim": 16}, 3)]
    assert 0.3 < float(torch.stack(drawn).mean() + 1) / 2 < 0.7  # about half are -1
    assert len({tuple(s.flatten().tolist()) for s in drawn}) == 6  # each layer has its own


def test_networks_of_a_seed_begin_alike(scene):
    size = {"heads": 2, "dim": 8}
    a, b = (scene.network(law, 0.5, 3, size, 7) for law in scene.LAWS)
    pairs = zip(a.named_parameters(), b.named_parameters(), strict=True)
    assert all(n == m and torch.equal(p, q) for (n, p), (m, q) in pairs)


def test_the_jump_is_the_mean_beyond_less_the_mean_within(scene):
    rows = {0.4: {"loss": [1.0, 2.0]}, 0.8: {"loss": [3.0, 4.0]}, 1.3: {"loss": [5.0, 9.0]}}
    np.testing.assert_allclose(scene.jump(rows, (0.4, 0.8, 1.3), "loss"), [3.0, 6.0])


def test_the_scene_writes_its_numbers_and_resumes(scene, monkeypatch, tmp_path):
    small = {"depths": [3], "seeds": [1, 2], "gains": [0.5, 1.6], "size": {"dim": 4, "heads": 2, "epochs": 1}}
    monkeypatch.setattr(scene, "SMALL", small)
    numbers = scene.main(tmp_path)
    assert json.loads((tmp_path / "unstable_in_training.json").read_text(encoding="utf-8")) == {"run": ANY, **numbers}
    share = numbers["depths"]["3"]["jumps"]["law"]["outside"]
    assert share["mean"] > 0.4  # most modes of attention are near 0, and |0 - 1.6| > 1 > |0 - 0.5|
    assert len(numbers["verdict"]) == 7

    def refuse(*arguments):
        raise AssertionError("a finished run is not repeated")

    monkeypatch.setattr(scene, "fit", refuse)
    assert scene.main(tmp_path) == numbers
    monkeypatch.setattr(scene, "SMALL", {**small, "seeds": [1, 2, 3]})
    assert scene.main(tmp_path, finished=True)["depths"] == numbers["depths"]
    with pytest.raises(AssertionError, match="not repeated"):
        scene.main(tmp_path)


def test_what_is_printed_follows_from_the_stored_runs(scene):
    numbers = json.loads(RESULTS.read_text(encoding="utf-8"))
    gains = numbers["plan"]["gains"]
    assert numbers["plan"] == scene.read_plan("unstable_in_training")
    for row in numbers["depths"].values():
        laws = {law: {float(gain): run for gain, run in runs.items()} for law, runs in row["runs"].items()}
        for score in scene.SCORES:
            law, random = (scene.jump(laws[name], gains, score) for name in scene.LAWS)
            names = ("law", "random signs", "law less random signs")
            for name, values in zip(names, (law, random, law - random), strict=True):
                assert row["jumps"][name][score] == scene.interval(values)
    assert scene.verdict(numbers) == numbers["verdict"]
