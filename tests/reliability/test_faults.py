"""Every line of the table of faults on the page has its tests; those that no room of the package holds stand here."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from small_commands import train_on_images
from typer.testing import CliRunner

from ctrlattn.cli import app

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "reliability.md"


def lines():
    """The rows of the table: what happened, what happens now, and its tests."""
    if not PAGE.is_file():
        pytest.skip("the source archive has no pages")
    table = PAGE.read_text(encoding="utf-8").partition("| what happened |")[2]
    rows = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table.splitlines() if row[:2] == "| "]
    return [row for row in rows if len(row) == 3]


def test_every_line_of_the_table_names_tests_that_are_there():
    named = [re.findall(r"`([\w/]+\.py)`: (\w+)", tests) for _, _, tests in lines()]
    assert len(named) >= 40
    assert all(named)
    for file, name in {pair for pairs in named for pair in pairs}:
        assert f"def test_{name}(" in (TESTS / file).read_text(encoding="utf-8"), (file, name)


def images(folder, seed, separable):
    """Ten images of each of two classes; only where they are separable the class decides what they look like."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    for kind, level in (("a", 40), ("b", 210)):
        for i in range(10):
            path = folder / kind / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            mean = level if separable else 125
            values = rng.integers(mean - 30, mean + 30, size=(8, 8, 3))
            Image.fromarray(values.astype(np.uint8)).save(path)


@pytest.mark.slow
def test_images_of_the_same_name_and_number_are_other_images(tmp_path):
    """The accuracy of the first directory was given for the second one."""
    given = {}
    for name, separable in (("x", True), ("y", False)):
        images(tmp_path / name / "images", 0, separable)
        (tmp_path / name / "trained").symlink_to(tmp_path / "out")
    (tmp_path / "out").mkdir()
    for name in ("x", "y", "x"):
        ended = CliRunner().invoke(app, train_on_images(tmp_path / name))
        assert ended.exit_code == 0, ended.output
        files = sorted((tmp_path / "out" / "runs").glob("*.json"))
        given.setdefault(name, []).append({file.name: file.read_bytes() for file in files})
    assert len(given["x"][0]) == 1
    assert len(given["y"][0]) == 2  # its run stands beside the first one, which is as it was
    assert given["x"][0].items() <= given["y"][0].items()
    assert given["x"][1] == given["y"][0]  # the first directory again: nothing is trained
    hashes = [json.loads(content)["settings"]["images"] for content in given["y"][0].values()]
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize("length", [248, 252])
def test_a_name_as_long_as_the_system_allows_can_be_written(length, tmp_path):
    """A temporary file of the same name with an ending was too long."""
    out = tmp_path / ("n" * (length - 3) + ".nc")
    assert CliRunner().invoke(app, ["simulate", "neutreno", "--layers", "2", "--out", str(out)]).exit_code == 0
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == [out.name]


def test_a_name_longer_than_that_is_one_line(tmp_path):
    out = tmp_path / ("n" * 300 + ".nc")
    ended = CliRunner().invoke(app, ["simulate", "neutreno", "--layers", "2", "--out", str(out)])
    assert (ended.exit_code, len(ended.stderr.splitlines())) == (2, 1)
    assert not list(tmp_path.iterdir())


def test_a_thousand_million_tokens_are_refused_at_once(tmp_path):
    out = tmp_path / "a.nc"
    ended = CliRunner().invoke(app, ["simulate", "neutreno", "--tokens", "1000000000", "--out", str(out)])
    assert ended.exit_code == 2
    assert "does not fit into memory" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_the_bounds_of_the_page_are_those_that_are_declared():
    lines()
    declared = (TESTS.parent / "pyproject.toml").read_text(encoding="utf-8")
    bounds = re.findall(r"^\| ([\w-]+) (\d[\d.]*) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(bounds) >= 6
    for name, version in bounds:
        assert f'"{name}>={version}' in declared, (name, version)


def test_warnings_that_are_let_pass_are_named():
    """Each has a message or a module; `ignore::DeprecationWarning` would let pass those of our own calls."""
    settings = tomllib.loads((TESTS.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]
    filters = settings["ini_options"]["filterwarnings"]
    assert filters[0] == "error"
    for rule in filters[1:]:
        action, message, _, *module = rule.split(":")
        assert action in ("ignore", "default"), rule
        assert message or module, rule


def test_the_check_installs_the_lowest_versions_and_tests_the_source_archive():
    check = TESTS.parent / ".ci" / "run"
    if not check.is_file():
        pytest.skip("the source archive has no check of its own")
    text = check.read_text(encoding="utf-8")
    assert ".ci/lowest" in text
    assert "sdist" in text
