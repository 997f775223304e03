"""docs/benchmarks.md says what the results files say, and the tools that measure do what they claim."""

import importlib.util
import platform
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "simulations" / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """A benchmark script as a module; its neighbours are importable as they are when it runs."""
    monkeypatch.syspath_prepend(FOLDER)

    def module(name):
        spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", FOLDER / f"{name}.py")
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return loaded

    return module


def test_the_page_is_what_the_results_say(load):
    table = load("table")
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.BLOCK.search(page)
    assert table.fill(page) == page, "run python simulations/benchmarks/table.py"


def test_a_table_has_a_column_for_every_key(load):
    rows = [{"what": "a", "median": 1.5}, {"what": "b", "limit": 2}]
    assert load("table").table(rows).splitlines() == [
        "| what | median | limit |",
        "| --- | --- | --- |",
        "| a | 1.5 |  |",
        "| b |  | 2 |",
    ]


def test_a_stale_page_is_noticed(load):
    table = load("table")
    stale = table.PAGE.read_text(encoding="utf-8").replace("<!-- end -->", "a number nobody measured\n<!-- end -->")
    assert table.fill(stale) != stale


MEASURES = """
import sys
from startup import run
small = run([sys.executable, "-c", "print('said')"])
large = run([sys.executable, "-c", "import time; x = bytearray(200_000_000); time.sleep(0.2)"])
again = run([sys.executable, "-c", "pass"])
assert small.output == "said\\n"
assert large.seconds > 0.2
assert again.megabytes < 100 < large.megabytes < 300, "a child that ran before must not count"
"""


def test_a_run_measures_its_own_process():
    # In a process of its own, since a child's peak begins at its parent's, and that of pytest is large.
    done = subprocess.run([sys.executable, "-c", MEASURES], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_failing_command_is_not_a_measurement(load):
    with pytest.raises(subprocess.CalledProcessError):
        load("startup").run([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_row_is_median_and_range(load):
    row = load("startup").row("a", [3.0, 1.0, 2.0], "s", 5)
    assert (row["median"], row["lowest"], row["highest"], row["runs"]) == (2.0, 1.0, 3.0, 3)


def test_the_machine_has_no_name(load):
    described = load("machine").describe()
    assert described["cores"] >= 1
    assert platform.node() not in {str(value) for value in described.values()}


@pytest.mark.parametrize(
    ("given", "folder"),
    [([], "results"), (["--once"], None), (["--once", "--out", "here"], "here"), (["--out", "here", "--once"], "here")],
)
def test_a_small_run_leaves_the_results_alone(load, given, folder):
    out = load("paired").parser_of("").parse_args(given).out
    assert (out and out.name) == folder


def test_rows_are_written_where_a_folder_is_named_and_else_said(load, tmp_path, capsys):
    write = load("paired").write
    write(None, "small", {}, [{"what": "a", "ms": 1}])
    write(tmp_path / "new", "small", {}, [{"what": "a", "ms": 1}])
    assert capsys.readouterr().out == "what a, ms 1\n" * 2
    assert [p.name for p in tmp_path.rglob("*.json")] == ["small.json"]
