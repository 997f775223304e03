"""What the README and the docs promise: their examples run, their links lead somewhere, tables name real files."""

import importlib
import json
import re
from pathlib import Path

import pytest

import ctrlattn

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXECUTED = sorted(
    page for page in (ROOT / "docs").glob("[ht]*/*.md") if page.stem != "index"
)  # how-to pages and tutorials: their cells are one script


NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))


def blocks() -> list:
    """Every ```python block, named by its page and line."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start(1)) + 1
            found.append(pytest.param("\n" * (line - 1) + match[1], page, id=f"{page.name}:{line}"))
    return found


@pytest.mark.parametrize(("code", "page"), blocks())
def test_examples_run(code, page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "assert " in code, "an example shows its result in an assert, so that it cannot go stale"
    exec(compile(code, str(page), "exec"), {"__name__": "example"})


@pytest.mark.slow
@pytest.mark.parametrize("page", EXECUTED, ids=lambda page: page.stem)
def test_pages_of_cells_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text = "", page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```\{code-cell\} python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        code += "\n" * (text.count("\n", 0, match.start(1)) - code.count("\n")) + match[1]  # lines as on the page
    assert "assert " in code, "a page shows a result in an assert, so that it cannot go stale"
    exec(compile(code, str(page), "exec"), {"__name__": "example"})


@pytest.mark.slow
@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.stem)
def test_notebooks_run_and_hold_no_results(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(page.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["name"]) == (4, "python3")
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    code = "\n".join("".join(cell["source"]) for cell in cells)
    assert "assert " in code, "a notebook shows a result in an assert, so that it cannot go stale"
    exec(compile(code, str(page), "exec"), {"__name__": "example"})


def test_every_page_is_in_the_site():
    docs = ROOT / "docs"
    entries = set()
    for page in docs.rglob("*.md"):
        for tree in re.findall(
            r"^```\{toctree\}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            entries |= {(page.parent / entry).resolve() for entry in tree.split("\n") if entry and entry[0] != ":"}
    pages = {page.with_suffix("") for page in [*docs.rglob("*.md"), *NOTEBOOKS] if page.parent.name != "reference"}
    assert pages - entries == {docs / "index"}


def test_the_readme_has_three_examples():
    assert sum(page.values[1].name == "README.md" for page in blocks()) >= 3


@pytest.mark.parametrize("page", [*PAGES, *EXECUTED, *NOTEBOOKS], ids=lambda page: page.name)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    assert [target for target in local if not _there(page.parent / target)] == []


def _there(target: Path) -> bool:
    generated = ROOT / "docs" / "reference"  # made by the build of the site
    return target.exists() or target.resolve().parent == generated


@pytest.mark.parametrize("ending", ["--out report", "-m pytest"])
def test_ci_finds_the_readme_commands(ending):
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.startswith("python3 -m venv ") and line.endswith(ending)]) == 1


def notation() -> list[tuple[str, str]]:
    """(name in code, file) of each row of docs/notation.md."""
    rows = re.findall(r"^\|(.+)\|$", (ROOT / "docs" / "notation.md").read_text(encoding="utf-8"), re.MULTILINE)
    cells = [[cell.strip() for cell in row.split("|")] for row in rows]
    # The name in code is the second cell in the table of symbols and the third in that of words; the file is the last.
    rows = [(row[1] if row[1].startswith("`") else row[2], row[-1]) for row in cells if len(row) == 4]
    return [(name.strip("`"), file.strip("`")) for name, file in rows if file.strip("`").endswith((".py", "/"))]


def test_names_of_the_package_in_the_docs_are_there():
    """`ctrlattn.name` or `room.name` in running text is a module, or something that the module has."""
    rooms = "checkpoints|design|exchange|looped|normalizers|observers|plots|presets|results|signals|sweep"
    names = set()
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        text = page.read_text(encoding="utf-8")
        names |= set(re.findall(r"`(ctrlattn(?:\.[a-zA-Z_]\w*)+)\b", text))
        names |= {f"ctrlattn.{name}" for name in re.findall(rf"`((?:{rooms})(?:\.[a-zA-Z_]\w*)+)\b", text)}
    files = (".py", ".csv", ".nc", ".toml", ".json", ".npz")
    names = {name for name in names if not name.endswith(files)}
    assert len(names) > 30
    assert [name for name in sorted(names) if not resolves(name)] == []


def resolves(name):
    value = ctrlattn
    for depth, part in enumerate(name.split(".")[1:], start=2):
        if not hasattr(value, part):
            try:
                importlib.import_module(".".join(name.split(".")[:depth]))
            except ModuleNotFoundError:
                return False
        value = getattr(value, part)
    return True


def test_notation_has_rows():
    assert len(notation()) > 20


@pytest.mark.parametrize(("name", "file"), notation())
def test_notation_names_what_is_there(name, file):
    place = ROOT / "ctrlattn" / file
    sources = [place] if place.is_file() else list(place.rglob("*.py"))
    pattern = re.compile(rf"\b{re.escape(name)}\b")
    assert any(pattern.search(source.read_text(encoding="utf-8")) for source in sources)
