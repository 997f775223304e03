"""docs/gallery.md says what the scenes say of themselves, and shows a picture and a verdict of each."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "simulations" / "gallery.py"


@pytest.fixture(scope="module")
def gallery():
    specification = importlib.util.spec_from_file_location("gallery", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_page_is_what_the_scenes_say(gallery):
    page = gallery.PAGE.read_text(encoding="utf-8")
    assert gallery.page(gallery.told(page)) == page, "run python simulations/gallery.py DIR"


def test_every_scene_has_its_picture_and_verdict(gallery):
    told = gallery.told(gallery.PAGE.read_text(encoding="utf-8"))
    for scene in gallery.scenes():
        assert told[scene.name].startswith("```text\n"), f"{scene.name} has no verdict: run it at full size"
        picture = gallery.PICTURES / f"{scene.name}.png"
        assert picture.read_bytes()[:4] == b"\x89PNG"


def test_a_scene_without_results_keeps_its_verdict(gallery, tmp_path):
    assert gallery.verdict(tmp_path, "operator") is None
    (tmp_path / "operator.json").write_text('{"verdict": ["a < b & c > d"]}')
    lines = gallery.verdict(tmp_path, "operator")
    assert lines == "```text\na < b & c > d\n```\n"
    assert gallery.told(gallery.page({"operator": lines}))["operator"] == lines


def test_a_long_verdict_is_cut_and_says_so(gallery, tmp_path):
    lines = [f"line {k}" for k in range(gallery.LINES + 3)]
    (tmp_path / "operator.json").write_text(f'{{"verdict": {lines}}}'.replace("'", '"'))
    shown = gallery.verdict(tmp_path, "operator").splitlines()
    assert shown[1] == "line 0"
    assert shown[-2] == "... and 3 lines more in operator.json"


def test_a_table_stands_below_the_lines(gallery, tmp_path):
    (tmp_path / "operator.json").write_text('{"verdict": ["a"], "table": [["law", "x"], [["P <", "1"], ["I", "2"]]]}')
    shown = gallery.verdict(tmp_path, "operator")
    assert shown == "```text\na\n```\n\n| law | x |\n| --- | --- |\n| P &lt; | 1 |\n| I | 2 |\n"
    assert gallery.told(gallery.page({"operator": shown}))["operator"] == shown
