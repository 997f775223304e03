"""The page of compatibility is the one that its script writes, and each row names a test that is there."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

HERE = Path(__file__).parent
SPEC = spec_from_file_location("compatibility", HERE / "compatibility.py")
compatibility = module_from_spec(SPEC)
SPEC.loader.exec_module(compatibility)


def test_the_page_is_that_of_the_script():
    assert compatibility.PAGE.read_text(encoding="utf-8") == compatibility.page()


def test_every_row_names_a_test():
    assert all((HERE.parents[1] / row[-1]).is_file() for row in compatibility.ROWS)
