"""docs/gallery.md says what the scenes say of themselves, and shows a picture and a table of each."""

import importlib.util
import json
import re
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "simulations" / "gallery.py"


@pytest.fixture
def gallery(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    specification = importlib.util.spec_from_file_location("gallery", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_page_is_what_the_scenes_say(gallery):
    assert gallery.page() == gallery.PAGE.read_text(encoding="utf-8"), "run python simulations/gallery.py DIR"


def test_every_scene_has_its_picture_its_table_and_its_limits(gallery):
    page = gallery.PAGE.read_text(encoding="utf-8")
    for scene, entry in zip(gallery.scenes(), page.split("\n## ")[1:], strict=True):
        (picture,) = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", entry)
        assert (gallery.PAGE.parent / picture).read_bytes()[:4] == b"\x89PNG", scene.name
        rows = re.findall(r"^\|.*\|$", entry, re.MULTILINE)
        assert 3 <= len(rows) <= gallery.ROWS + 2, scene.name
        assert "hat it does not show" in entry, scene.name
        (file,) = re.findall(r"\]\(\.\./(simulations/results/gallery/\w+\.json)\)", entry)
        assert json.loads((ROOT / file).read_text(encoding="utf-8"))["generated"] == gallery.MARK


def test_a_table_is_the_scenes_own_or_its_first_lines(gallery):
    assert gallery.table("x", {"verdict": ["a"], "table": [["law", "x"], [["P <", "1"], ["I", "2"]]]}) == (
        "| law | x |\n| --- | --- |\n| P &lt; | 1 |\n| I | 2 |\n"
    )
    lines = ["holds: x is 1", "does NOT hold: y", "gain of a: +0.5 [+0.1, +0.9]", "words alone"]
    assert gallery.table("x", {"verdict": lines}).splitlines()[2:] == [
        "| x is 1 | holds |", "| y | does NOT hold |", "| gain of a | +0.5 [+0.1, +0.9] |", "| words alone |  |",
    ]  # fmt: skip
    assert len(gallery.table("x", {"verdict": [f"line: {k}" for k in range(99)]}).splitlines()) == gallery.ROWS + 2


def test_only_what_was_run_is_kept(gallery, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "RESULTS", tmp_path / "kept")
    monkeypatch.setattr(gallery, "PICTURES", tmp_path)
    (tmp_path / "out").mkdir()
    interval = {"mean": 2.0, "low": -10.7, "high": 14.7, "values": [1.0, 3.0]}
    numbers = {"options": "--runs RUN1", "verdict": ["a < b"], "more": 1, "x": interval, "y": {"low": 0, "high": 1}}
    assert not gallery.keep(tmp_path / "out", "operator")
    (tmp_path / "out" / "operator.json").write_text(json.dumps(numbers))
    (tmp_path / "out" / "operator.png").write_bytes(b"picture")
    assert gallery.keep(tmp_path / "out", "operator")
    assert json.loads((tmp_path / "kept" / "operator.json").read_text()) == {
        "generated": gallery.MARK, "options": "--runs RUN1", "verdict": ["a < b"], "intervals": {"/x": interval},
    }  # fmt: skip
    (scene,) = (scene for scene in gallery.scenes() if scene.name == "operator")
    assert f"`python simulations/{scene.number}_operator.py --runs RUN1 --out DIR`" in gallery._entry(scene)
    assert (tmp_path / "operator.png").read_bytes() == b"picture"


def test_numbers_that_are_kept_whole_stand_there_alone(gallery, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "RESULTS", tmp_path / "results" / "gallery")
    monkeypatch.setattr(gallery, "PICTURES", tmp_path / "results")
    (tmp_path / "results").mkdir()
    (name,) = gallery.WHOLE
    text = json.dumps({"verdict": ["a"], "x": {"mean": 2.0, "low": -10.7, "high": 14.7, "values": [1.0, 3.0]}})
    (tmp_path / f"{name}.json").write_text(text)
    (tmp_path / f"{name}.png").write_bytes(b"picture")
    assert gallery.keep(tmp_path, name)
    assert (tmp_path / "results" / f"{name}.json").read_text() == text
    told = json.loads((tmp_path / "results" / "gallery" / f"{name}.json").read_text())
    assert told == {"generated": gallery.MARK, "verdict": ["a"], "intervals": {}}


def test_no_picture_is_there_twice():
    hashes = [sha256(path.read_bytes()).hexdigest() for path in sorted((ROOT / "docs" / "images").rglob("*.png"))]
    assert len(hashes) == len(set(hashes))
