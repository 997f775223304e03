"""The page of compatibility is the one that its script writes, and says nothing that no test tries."""

import ast
import datetime
import json
import re
import subprocess
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
SPEC = spec_from_file_location("compatibility", HERE / "compatibility.py")
compatibility = module_from_spec(SPEC)
SPEC.loader.exec_module(compatibility)


def test_the_page_is_that_of_the_script():
    assert compatibility.PAGE.read_text(encoding="utf-8") == compatibility.page()


@pytest.mark.parametrize("row", compatibility.ROWS, ids=lambda row: row.tool)
def test_every_row_is_tried(row):
    assert row.read or row.written
    assert row.tests
    tried = json.loads(compatibility.TRIED.read_text(encoding="utf-8"))[row.tool]
    assert set(tried["versions"]) == set(row.versions)
    assert tried.get("passed", len(row.tests)) >= len(row.tests)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", tried["date"])
    assert all(re.match(r"\d+(\.\d+)+", version) for version in tried["versions"].values())
    for test in row.tests:
        file, name = test.split("::")
        source = (HERE.parents[1] / file).read_text(encoding="utf-8")
        names = {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
        assert name in names, f"{test} is not there"
        assert row.needs in source, f"{file} does not ask for {row.needs}"


def test_tools_of_other_people_that_tests_ask_for_have_a_row():
    """Packages and programs that the tests of these files skip without."""
    asked = {"nnsight", "transformer_lens", "peft", "timm", "sae_lens", "dictionary_learning", "pyarrow", "octave"}
    assert asked <= {row.needs for row in compatibility.ROWS}


def test_versions_are_those_of_what_is_installed():
    assert compatibility.installed("numpy") == np.__version__
    assert compatibility.installed("no-such-distribution") is None
    trial = {"date": "2026-11-28", "versions": {"octave": "7.3.0", "octave control": "3.4.0"}}
    assert compatibility.in_words(trial) == "octave 7.3.0, control 3.4.0 (by hand, 2026-11-28)"
    assert compatibility.in_words({**trial, "passed": 1}) == "octave 7.3.0, control 3.4.0 (2026-11-28)"


def test_the_version_of_a_program_is_what_it_says(monkeypatch):
    """ncdump tells that of its library at the end of its usage, whose first line begins with its name."""
    said = {"ncdump": "ncdump [-c|-h]\nnetcdf library version 4.9.0 of Aug", "octave": "octave 7.3.0\ncontrol 3.4.0"}

    def run(command, **options):
        return subprocess.CompletedProcess(command, 1, "", said[command[0]])

    monkeypatch.setattr(compatibility.subprocess, "run", run)
    monkeypatch.setattr(compatibility.shutil, "which", lambda name: name if name in said else None)
    names = ("ncdump", "octave", "octave control", "octave netcdf", "Rscript")
    assert [compatibility.installed(name) for name in names] == ["4.9.0", "7.3.0", "3.4.0", None, None]


@pytest.mark.parametrize(("summary", "code"), [("1 passed, 1 skipped in 1s", 0), ("1 failed, 1 passed", 1), ("", 0)])
def test_what_skips_or_fails_is_not_recorded(summary, code, record_with):
    before = {"a": {"date": "2020-01-01", "passed": 1, "versions": {"numpy": "0.1"}}}
    assert record_with(before, summary, code) == before


def test_what_passed_is_recorded_with_its_version(record_with):
    now = {"date": datetime.date.today().isoformat(), "passed": 2, "versions": {"numpy": np.__version__}}
    assert record_with({"a": {"versions": {"numpy": "0.1"}}}, ".. [100%]\n2 passed in 1s", 0) == {"a": now}


def test_a_row_that_is_not_there():
    with pytest.raises(SystemExit, match="no row Excel; there are ncdump, "):
        compatibility.record(["Excel"])


@pytest.fixture
def record_with(tmp_path, monkeypatch):
    """What `record` leaves in tried.json of a row "a", whose tests end with this summary."""

    def recorded(before, summary, code):
        def run(command, **options):
            assert command[-1] == "test_it.py::test_it"
            return subprocess.CompletedProcess(command, code, summary, "")

        path = tmp_path / "tried.json"
        path.write_text(json.dumps(before), encoding="utf-8")
        monkeypatch.setattr(compatibility, "TRIED", path)
        monkeypatch.setattr(
            compatibility, "ROWS", [compatibility.Row("a", ("numpy",), "", "x", "", ("test_it.py::test_it",))]
        )
        monkeypatch.setattr(compatibility.subprocess, "run", run)
        compatibility.record([])
        return json.loads(path.read_text(encoding="utf-8"))

    return recorded
