"""Scripts of findings/ have the form of the house, and docs/findings.md lists them; run this file to write the page.

A script shows what surprised us in a library or format of other people. It needs nothing of this package.
"""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "findings.md"
SCRIPTS = sorted((ROOT / "findings").glob("*.sh"))
HEAD = """# Findings

What a library or format of other people does, and a good engineer would guess otherwise. Each line is the first
sentence of a script in the directory `findings`, whose head says what follows for a user. `bash findings/NAME.sh`
installs the pinned packages in a temporary folder, runs them without this package, and ends with 0 where the behaviour
is still there. `python tests/test_findings.py` writes this page.

"""


def told(script: Path) -> dict[str, str]:
    """The parts of a script's head, each as one line: Surprise, What follows, Run.

    >>> told(ROOT / "findings" / "complex_numbers_in_octave.sh")["Run"].split("  ")[0]
    'bash findings/complex_numbers_in_octave.sh'
    """
    lines = script.read_text(encoding="utf-8").splitlines()[1:]
    head = "\n".join(line[2:] for line in lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")])
    parts = re.split(r"^(Surprise|What follows|Run): ", head, flags=re.MULTILINE)
    assert parts[0] == "", f"{script.name}: {parts[0]!r} stands before the surprise"
    return {name: " ".join(text.split("\n")).strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def first_sentence(text: str) -> str:
    """Up to a full stop before a capital or the end.

    >>> first_sentence("scipy 1.17 drops it. For G = 1 it stays."), first_sentence("no stop")
    ('scipy 1.17 drops it.', 'no stop')
    """
    return re.split(r"(?<=\.) (?=[A-Z`])", text)[0]


def page() -> str:
    sentences = {script.stem: first_sentence(told(script)["Surprise"]) for script in SCRIPTS}
    return HEAD + "".join(f"- `{name}`: {sentence}\n" for name, sentence in sentences.items())


def test_the_page_lists_every_finding():
    assert PAGE.read_text(encoding="utf-8") == page(), "python tests/test_findings.py writes it"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_finding_has_the_form_of_the_house(script):
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n# Surprise: ")
    assert os.access(script, os.X_OK)
    assert max(map(len, text.splitlines())) <= 120
    parts = told(script)
    assert list(parts) == ["Surprise", "What follows", "Run"]
    assert re.fullmatch(rf"bash findings/{script.name} +\(exit 0 where the surprise is there.*\)", parts["Run"])
    assert re.search(r"\d\.\d", parts["Surprise"]), "the surprise names no version"
    beginning = ("set -euo pipefail", "folder=$(mktemp -d)", """trap 'rm -rf "$folder"' EXIT""", "python3 -m venv ")
    assert "\n".join(beginning) in text
    assert "the surprise is gone" in text
    assert "ctrlattn" not in text


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_finding_installs_pinned_packages(script):
    calls = re.findall(r"pip\" install --quiet (.*)", script.read_text(encoding="utf-8"))
    packages = [package for call in calls for package in call.split()]
    assert packages
    assert all(re.fullmatch(r'"[a-zA-Z0-9_-]+==[0-9.]+"', package) for package in packages), packages


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
