"""The scene of steering on its tiny decoder: every law comes nearer; the page tells what the kept results say."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _undrawn():
    """In this file pictures are drawn: one test reads the size of theirs."""


@pytest.fixture(scope="module")
def numbers(scene, tmp_path_factory, short_search):
    """A run at its small size."""
    return scene.main(tmp_path_factory.mktemp("steering"))


def test_every_law_comes_nearer_than_where_it_began(numbers):
    assert len(numbers["steering"]) == 2
    for one in numbers["steering"]:
        laws = set(one["laws"])
        assert {"push once", "push", "led, path"} <= laws
        assert {f"{terms}{how}" for terms in ("P", "PI", "PID") for how in (", at once", " led, path")} <= laws | {
            f"{refused.split()[0]}{how}" for refused in one["refused"] for how in (", at once", " led, path")
        }
        for law, run in one["laws"].items():
            assert abs(run["error"]) < 1, law
            assert len(run["output"]) == 11 - run["start"]
            assert len(run["losses"]) == 3
    assert len(numbers["verdict"]) > 3


def test_a_path_begins_at_the_mean_and_ends_above_it(scene):
    from ctrlattn.observers.steering import Plant

    plant = Plant(np.ones(2), np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0]))
    assert_allclose(scene.path_of(plant), [1, 2 + 2, 3 + 8])


def test_the_table_is_over_directions(scene, numbers):
    steered = numbers["steering"]
    told = [steered[0], {**steered[0], "direction": "again"}]
    head, rows = scene.table(told)
    assert [row[0] for row in rows] == list(steered[0]["laws"])
    assert {len(row) for row in rows} == {len(head)}
    by = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert by["push"]["loss above the push's"] == ""
    assert by["led, path"]["settled"].partition(",")[0] in ("0 of 2", "2 of 2")
    run, push = steered[0]["laws"]["led, path"], steered[0]["laws"]["push"]
    gap = np.mean(run["losses"]) - np.mean(push["losses"])
    assert by["led, path"]["loss above the push's"].startswith(f"{gap:+.3f} [")
    assert by["led, path"]["tokens miss"] == f"{run['miss']:.0%}"


def test_the_page_is_what_the_kept_results_say(scene, tmp_path):
    path = ROOT / "simulations" / "results" / "steering.json"
    numbers = scene.main(tmp_path, again=path)
    assert numbers == json.loads(path.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    printed = json.loads((path.parent / "gallery" / "steering.json").read_text(encoding="utf-8"))
    assert (numbers["verdict"], numbers["table"]) == (printed["verdict"], printed["table"])
    assert all("| " + " | ".join(row) + " |" in page for row in numbers["table"][1][:12])  # all it has room for
    assert (tmp_path / "steering.png").stat().st_size > 50_000


@pytest.mark.parametrize("content", [None, "no numbers"])
def test_results_that_are_none_are_told(scene, tmp_path, content):
    path = tmp_path / "steering.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match="no results of a scene"):
        scene.main(tmp_path, again=path)
    with pytest.raises(ValueError, match="--full needs --model"):
        scene.main(tmp_path, full=True)
