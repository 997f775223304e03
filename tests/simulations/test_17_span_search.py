"""The search over spans: losses by streams are those of whole networks, choices follow means, intervals are joint."""

import json

import numpy as np
import pytest
from scipy.stats import t as student

pytest.importorskip("torch")
pytest.importorskip("transformers")


def test_losses_from_streams_are_those_of_the_repeated_network(scene):
    from ctrlattn import checkpoints

    network = scene.tiny_llama()
    windows = np.random.default_rng(0).integers(256, size=(3, 20))
    streams = scene.Streams(network, windows)
    for a, b in ((0, 1), (1, 3), (2, 4)):
        laws = [scene.Law(a, b, 3, 0.4, 0.05, 0.1, 0.25), scene.Law(a, b, 1, 1.1), scene.Law(a, b, 2, 0.55)]
        losses = streams.losses(laws)
        for law in laws:
            whole = checkpoints.evaluate(checkpoints.repeat(network, **law.options), windows)
            np.testing.assert_allclose(losses[law], whole.window_losses, atol=2e-5)
    np.testing.assert_allclose(streams.source(), checkpoints.evaluate(network, windows).window_losses, atol=2e-5)


def test_the_way_of_a_law_is_how_far_a_constant_error_leads(scene):
    for law in (scene.Law(0, 1, 3, 0.2, ki=0.1, kd=5.0), scene.Law(0, 1, 2, 0.5)):
        controller = law.options["controller"]
        one, total = np.ones(1), 0.0
        state = controller.init(one)
        for _ in range(law.passes):
            u, state = controller.step(one, state)
            total += u.item()
        assert law.way == pytest.approx(total)
        assert law.once[:4] == (0, 1, 1, law.way)


def test_no_document_is_in_two_stages_and_the_held_out_ones_are_read_by_none(scene):
    plan = {"tokens": 9, "seed": 1, "documents": {"coarse": 2, "fine": 1, "close": 2, "held_out": 3}}
    texts = [f"document {k:03d} of many" for k in range(12)] + ["short"]
    parts = scene.windows_by_stage(scene.tiny_llama(), [t[9:] + t for t in texts], plan)
    assert [len(rows) for rows in parts.values()] == [2, 1, 2, 3]
    rows = [tuple(row) for part in parts.values() for row in part.tolist()]
    assert len(set(rows)) == len(rows) == 8
    with pytest.raises(ValueError, match="at least 7 are needed"):
        scene.windows_by_stage(scene.tiny_llama(), texts[:6], plan)


def test_shuffled_windows_hold_the_same_tokens_behind_the_first(scene):
    rows = np.arange(40).reshape(2, 20)
    mixed = scene.shuffled({"fine": rows}, 3)["fine"]
    assert (mixed[:, 0] == rows[:, 0]).all()
    assert (np.sort(mixed, axis=1) == rows).all()
    assert (mixed != rows).any()


def test_one_law_is_chosen_by_its_mean_and_compared_jointly(scene):
    loop, other = scene.Law(1, 2, 2, 0.5), scene.Law(0, 1, 2, 0.5)
    close = {other: np.array([0.0, -0.1]), loop: np.array([-0.2, 0.0]), loop.once: np.array([-0.5, 0.1])}
    laws = scene.chosen(close, 3, 0)
    assert laws["loop"] == loop
    assert laws["best single"] == loop.once
    assert laws["random span"].b - laws["random span"].a == 1
    assert laws["random span"].a != 1
    held = {"loop": np.array([1.0, 2.0, 4.0]), "scaled alike": np.array([1.0, 1.0, 1.0]),
            "best single": np.array([0.0, 0.0, 1.0]), "random span": np.zeros(3)}  # fmt: skip
    rows = scene.comparisons(held)
    d = np.array([0.0, 1.0, 3.0])
    half = student.ppf(1 - 0.025 / 5, 2) * d.std(ddof=1) / np.sqrt(3)
    assert rows["loop - scaled alike"] == {"mean": pytest.approx(4 / 3), "half": pytest.approx(half), "documents": 3}
    assert len(rows) == 5


def test_what_selection_wins_by_chance_is_the_least_of_means_of_random_signs(scene):
    alone = {scene.Law(0, 1, 2, 0.5): np.array([3.0, 5.0])}
    assert scene.by_chance(alone, 0)["mean"] == pytest.approx(0.0, abs=0.03)  # -1, 0, 0, 1 after centring
    assert scene.by_chance(alone, 0)["low"] == -1.0
    rng = np.random.default_rng(0)
    many = {scene.Law(k, k + 1, 2, 0.5): rng.standard_normal(8) for k in range(12)}
    assert scene.by_chance(many, 0)["mean"] < -0.3


def test_the_small_search_is_kept_and_not_measured_again(scene, tmp_path, monkeypatch):
    numbers = scene.main(tmp_path)
    written = json.loads((tmp_path / "span_search.json").read_text(encoding="utf-8"))
    assert written["verdict"] == numbers["verdict"]
    assert written["verdict"][0].split(":")[0] in ("holds", "does NOT hold")
    assert (tmp_path / "span_search.png").exists()
    assert set(numbers["laws"]) == {"loop", "scaled alike", "best single", "random span"}
    monkeypatch.setattr(scene, "Streams", lambda *_: pytest.fail("measured again"))
    assert scene.main(tmp_path)["verdict"] == numbers["verdict"]


def test_the_verdict_follows_the_numbers(scene):
    low, high = {"mean": -0.2, "half": 0.1, "documents": 3}, {"mean": -0.2, "half": 0.3, "documents": 3}
    step = {kind: {"laws": 2, "below": 1, "mean": -0.1} for kind in ("loops", "singles")} | {"chosen": -0.3}
    result = {
        "laws": {"loop": [0, 1, 2, 0.5, 0, 0, 0]}, "chance": {"mean": -0.1, "low": -0.2, "laws": 2},
        "steps": {"close": step},
        "comparisons": {"loop - network": low, "loop - scaled alike": low, "loop - best single": high},
    }  # fmt: skip
    assert [line.split(":")[0] for line in scene.verdict(result)[:2]] == ["holds", "does NOT hold"]
    result["comparisons"] |= {"loop - network": high, "loop - best single": low}
    assert [line.split(":")[0] for line in scene.verdict(result)[:2]] == ["does NOT hold", "holds"]


def test_the_plan_is_that_of_the_results(scene):
    from pathlib import Path

    kept = Path(scene.PLAN).parents[1] / "results" / "span_search.json"
    assert json.loads(kept.read_text(encoding="utf-8"))["plan"] == scene.plan_of()[1]
