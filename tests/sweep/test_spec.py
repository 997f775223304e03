"""A sweep as TOML and back, and files that are none."""

import pytest

from ctrlattn import InputError
from ctrlattn.sweep.axes import Range, Sample
from ctrlattn.sweep.spec import Spec, dumps, load, loads

TEXT = """
best = "settling"
[loop]
preset = "pidformer-printed"
[axes]
loop.controller.kp = {from = 0.0, to = 2.0, steps = 5}
"loop.controller.ki" = [0.1, 0.2]
simulation.layers = [4, 8]
[analyses]
interval = {}
settling = {modes = [0.2, 0.5]}
[sample]
method = "sobol"
cells = 16
"""


def test_dotted_and_quoted_paths_are_the_same():
    spec = loads(TEXT)
    assert list(spec.axes) == ["loop.controller.kp", "loop.controller.ki", "simulation.layers"]
    assert spec.sample == Sample("sobol", 16)
    assert (spec.best, spec.loop) == ("settling", {"preset": "pidformer-printed"})
    assert loads(dumps(spec)).to_table() == spec.to_table()
    assert list(loads(dumps(spec)).axes) == list(spec.axes)


def test_a_range_of_python_is_a_table_of_the_file():
    spec = Spec({"loop.skip": Range(0.1, 10, 3, scale="log")}, {"interval": {}})
    assert spec.to_table()["axes"] == {
        "loop.skip": {"from": 0.1, "to": 10.0, "steps": 3, "scale": "log", "whole": False}
    }
    assert loads(dumps(spec)).to_table() == spec.to_table()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[axis]", "axis: unknown key: did you mean 'axes'"),
        ("[axes]\n", r"a sweep needs a table \[analyses\]"),
        ("axes = 3\n[analyses]", "axes must be a table"),
        ("best = 3\n[axes]\n[analyses]", "best must be the name"),
        ("[axes]\n[analyses]\n[sample]\nmethod = 'random'", "sample: needs cells"),
        ("[axes]\n[analyses]\n[sample]\nmethod = 'sobol'\ncell = 3", "did you mean 'cells'"),
        ("[axes]\n[analyses]\n[sample]\nmethod = 'soble'\ncells = 3", "sample: unknown method 'soble'"),
        ("[axes]\n[analyses]\n[sample]\nmethod = 'random'\ncells = 0", "sample: cells"),
        ("[axes", "not TOML"),
    ],
)
def test_a_text_that_is_none_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        loads(text)


def test_a_fault_names_the_file(tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text("[axis]")
    with pytest.raises(InputError, match=r"sweep.toml: axis: unknown key"):
        load(file)
    with pytest.raises(InputError, match="is a folder: give the file itself"):
        load(tmp_path)
