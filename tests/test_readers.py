"""A reader's sheet shows the lines of its seed and no answer, and an answer is right where the line stands."""

import importlib.util
import re
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("readers", Path(__file__).with_name("readers.py"))
readers = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(readers)


@pytest.mark.slow
def test_a_sheet_shows_each_line_and_all_files_but_no_answer():
    lines, files = readers.drawn(1)
    outline, shown = readers.sheet(1).split("# The lines")
    assert re.findall(r"^\d+\. `(.*)`$", shown, re.MULTILINE) == lines
    assert all(f"\n{path}: " in outline for line in lines for path in files[line])
    assert ".py" not in shown.replace("`", "") or any(".py" in line for line in lines)


def test_an_answer_is_right_where_the_line_stands_and_nowhere_else():
    lines, files = readers.drawn(0)
    right = [sorted(files[line])[-1] for line in lines]
    answers = "\n".join(f"{place}. ctrlattn/{path}" for place, path in enumerate(right, 1))
    assert readers.score(0, answers).endswith("20 of 20 are right")
    wrong = answers.replace(f"3. ctrlattn/{right[2]}", "3. ctrlattn/nowhere.py").replace("4. ", "four. ")
    assert readers.score(0, wrong).endswith("17 of 20 are right")  # 3, 4 and 14, which has lost its number


def test_the_outline_names_constants_functions_and_methods(tmp_path):
    source = '"""One thing.\n\nMore."""\nLIMIT = 3\n\nclass Car:\n    def drive(self):\n        "Off."\n'
    (tmp_path / "b.py").write_text(source)
    (tmp_path / "a.py").write_text("")
    assert [str(outline) for outline in readers.outliner()(tmp_path)] == [
        "b.py: One thing.  [LIMIT; Car (drive: Off.)]"
    ]
