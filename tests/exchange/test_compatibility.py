"""The page of compatibility is the one that its script writes, and says nothing that no test tries."""

import ast
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

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
