"""The scene of trained loops: its words follow the numbers, and the small run is kept and not trained again."""

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

pytestmark = pytest.mark.usefixtures("short_search", "one_problem")


def claim(**changes):
    return {"arm": "recall", "score": "accuracy_8", "direction": "greater", "mean": 0.5, "low": 0.2, "high": 0.8,
            "p_holm": 0.01, "holds": True, **changes}  # fmt: skip


def test_a_claim_holds_does_not_or_is_undecided(scene):
    assert scene.words_of(claim()) == "holds"
    assert scene.words_of(claim(holds=False, low=-0.2)) == "undecided"
    assert scene.words_of(claim(holds=False, low=-0.8, high=-0.2)) == "does NOT hold"
    assert scene.words_of(claim(holds=False, direction="less")) == "does NOT hold"
    assert scene.words_of(claim(holds=False, direction="two-sided")) == "undecided"
    (line,) = scene.claim_lines({"plan": {"against": "plain"}, "tests": [claim()]})
    assert line == "holds: recall: accuracy_8 > plain (+0.500 [+0.200, +0.800], p by Holm 0.01)"


def test_forecasts_are_counted(scene):
    score = {"counts": [3, 1, 4, 2], "n": 10, "right": 0.7, "low": 0.35, "high": 0.93, "p": 0.2}
    none = {**score, "n": 0}
    rows = [{"collapsed": c} for c in (True, True, False, None)]
    lines = scene.forecast_lines({"forecasts": rows, "forecast_scores": {"poles": {"all": score, "last": none}}})
    assert lines[:2] == ["marks of networks that had learned, of 4: 3", "of them fell beyond: 2"]
    assert lines[2].endswith("3 alarms right, 1 false, 4 silent right, 2 missed; share right: 0.70 [0.35, 0.93]")
    assert len(lines) == 3


def test_controllers_are_compared_with_stopping(scene):
    rows = [
        {"stopped": 1.0, "plain": 0.2, "blind": 0.95, "tuned from T": 1.0},
        {"stopped": 0.9, "plain": 0.4, "blind": 0.1},
    ]
    lines = scene.rescue_lines({"rescues": rows})
    assert lines[0].endswith(": 2")
    assert lines[1] == "plain: mean accuracy at 8 T 0.30; keeps within 0.1 of stopping, of 2: 0"
    assert lines[2].endswith("of 2: 1")
    assert lines[3] == "tuned from T: mean accuracy at 8 T 1.00; keeps within 0.1 of stopping, of 1: 1"
    assert scene.rescue_lines({"rescues": []}) == ["loops without held gains that collapsed at the end of training: 0"]


TINY = {"steps": 2, "batch": 4, "dim": 4, "hidden": 6, "examples": 16}


@pytest.fixture(scope="module")
def small(scene, tmp_path_factory):
    """(folder, numbers) of the run that the scene makes by itself, its networks hardly trained."""
    folder = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene, "SMALL", {**scene.SMALL, **TINY})
        yield folder, scene.main(folder)


@pytest.fixture(scope="module")
def addition(scene, tmp_path_factory):
    """(folder, result) of another task, which has the arm that others are compared with alone."""
    folder = tmp_path_factory.mktemp("addition")
    return folder, scene.compare_loops(
        scene.loop_plan("addition", **{**scene.SMALL, **TINY, "arms": ("plain",)}), folder
    )


def test_the_small_run_is_kept_and_not_trained_again(scene, small, monkeypatch):
    folder, numbers = small
    written = json.loads((folder / "trained_loops.json").read_text(encoding="utf-8"))
    assert written["verdict"] == numbers["verdict"]
    assert (folder / "trained_loops.png").exists()
    head, rows = numbers["table"]
    assert {len(row) for row in rows} == {len(head)}
    assert [row[0] for row in rows] == ["plain", "recall"]
    monkeypatch.setattr("ctrlattn.nn.experiment.loop_comparison.fit_loop", lambda *_: pytest.fail("trained again"))
    assert scene.main(folder)["verdict"] == numbers["verdict"]


def test_finished_comparisons_are_read_and_not_trained(scene, small, addition, tmp_path, monkeypatch):
    folders = [small[0] / "trained_loops_runs" / "prefix-sums", addition[0]]
    results = [scene.finished(folders[0]), addition[1]]
    monkeypatch.setattr(scene, "compare_loops", lambda *_: pytest.fail("trained"))
    numbers = scene.main(tmp_path / "out", runs=folders)
    names = ["prefix-sums, seeds 0 to 1", "addition, seeds 0 to 1"]
    assert list(numbers["comparisons"]) == names
    assert numbers["options"] == "--runs RUN1 RUN2"
    head, rows = numbers["table"]
    assert [row[0] for row in rows] == ["plain", "recall"]
    assert len(head) == 1 + 2 * 2
    for arm, *cells in rows:
        for result, pair in zip(results, (cells[:2], cells[2:]), strict=True):
            scores = result["arms"].get(arm, {})  # an arm that a comparison has not leaves its cells empty
            assert pair == [scene._cell(scores.get(name)) for name in ("accuracy_8", "size_2")]
    assert all(rows[0][1:])
    each = [scene.verdict({name: result}) for name, result in zip(names, results, strict=True)]
    assert numbers["verdict"] == [f"{line} ({name})" for name, own in zip(names, each, strict=True) for line in own]
    for name, result in zip(("prefix_sums", "addition"), results, strict=True):
        kept = json.loads((tmp_path / "out" / f"train_loops_{name}_2_seeds.json").read_text(encoding="utf-8"))
        assert kept["arms"] == result["arms"]
        assert kept["run"]["plan_sha256"] == result["digests"]["plan"]
        assert "curves" not in kept
    assert (tmp_path / "out" / "trained_loops.png").exists()
    assert len(scene.draw(scene.by_name(results)).axes) == 2
    one = scene.main(tmp_path / "one", runs=folders[:1])
    assert one["table"][0][1] == "accuracy"
    with pytest.raises(ValueError, match="given twice"):
        scene.main(tmp_path / "out", runs=[folders[0], folders[0]])


def test_a_comparison_that_is_not_whole_is_refused(scene, addition, tmp_path):
    with pytest.raises(ValueError, match="goes on where it was"):
        scene.main(tmp_path / "out", runs=[tmp_path])
    for name in ("plan", "forecasts", "comparison"):
        whole = (addition[0] / f"{name}.json").read_text(encoding="utf-8")
        (tmp_path / f"{name}.json").write_text(whole, encoding="utf-8")
    for name in ("plan", "forecasts"):
        file = tmp_path / f"{name}.json"
        whole = file.read_text(encoding="utf-8")
        file.write_text(whole.replace('"plan"', '"plans"').replace("addition", "additions"), encoding="utf-8")
        with pytest.raises(ValueError, match=f"{name}.json is not what comparison.json was made from"):
            scene.finished(tmp_path)
        file.write_text(whole, encoding="utf-8")
    assert scene.finished(tmp_path)["passes"] == addition[1]["passes"]


def test_a_cell_has_an_interval_where_there_is_one(scene):
    assert scene._cell({"mean": 0.333, "low": -0.04, "high": 0.69}) == "0.33 [-0.04, 0.69]"
    assert scene._cell({"mean": 0.5, "low": "nan", "high": "nan"}) == "0.50"
    assert scene._cell(None) == ""


def test_a_name_says_the_seeds(scene):
    assert scene.name_of({"plan": {"data": "maze", "seeds": [4]}}) == "maze, seed 4"
    assert scene.name_of({"plan": {"data": "maze", "seeds": [1, 5]}}) == "maze, seeds 1, 5"
