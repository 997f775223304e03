"""A room whose names load on first use: every name is there, typed as it is at runtime, and no sub-module hides one."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ctrlattn.lazy import loaded, on_first_use

pytest.importorskip("torch")
pytest.importorskip("transformers")
ROOMS = ("ctrlattn.checkpoints", "ctrlattn.frequency", "ctrlattn.nn", "ctrlattn.observers", "ctrlattn.report")


def typed(room):
    """name -> module, as the block for type checkers says."""
    tree = ast.parse(Path(room.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    return {alias.asname: node.module for node in block.body for alias in node.names}


@pytest.mark.parametrize("name", ROOMS)
def test_a_type_checker_and_python_see_the_same_names(name):
    room = importlib.import_module(name)
    says = typed(room)
    assert sorted(says) == room.__all__ == dir(room)
    for public, module in says.items():
        assert getattr(room, public) is getattr(importlib.import_module(module), public)


@pytest.mark.parametrize("name", ROOMS)
def test_no_sub_module_hides_a_function(name):
    room = importlib.import_module(name)
    same = [public for public in room.__all__ if f"{name}.{public}" in sys.modules]
    for public in room.__all__:
        assert not isinstance(getattr(room, public), ModuleType)
    # The case exists: checkpoints.reduce, observers.study.
    assert same or name in ("ctrlattn.frequency", "ctrlattn.nn", "ctrlattn.report")


def test_a_sub_module_that_is_imported_first_hides_nothing():
    code = (
        "import ctrlattn.checkpoints.reduce.request, ctrlattn.checkpoints as c, sys\n"
        "assert 'torch' not in sys.modules\n"
        "assert 'reduce' not in vars(c)  # so that it is asked for, which has a test above"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ROOMS)
def test_unknown_names_are_attribute_errors(name):
    with pytest.raises(AttributeError, match=rf"module '{name}' has no attribute 'lod'"):
        importlib.import_module(name).lod  # noqa: B018


def test_the_names_of_several_modules():
    names, get, listed = on_first_use("ctrlattn", {"errors": "InputError did_you_mean", "progress": "silent"})
    assert names == listed() == ["InputError", "did_you_mean", "silent"]
    assert get("silent").__module__ == "ctrlattn.progress"


def test_a_class_is_that_of_the_library_and_none_before():
    import control

    assert loaded("control", "StateSpace", "TransferFunction") == (control.StateSpace, control.TransferFunction)
    assert loaded("control", "no_such_class") == loaded("no_such_library", "StateSpace") == ()
