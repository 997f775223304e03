"""A sweep of several batches that takes a second, with cells that are refused among them."""

import pytest

from ctrlattn.sweep import run
from ctrlattn.sweep.axes import Range
from ctrlattn.sweep.spec import Spec


@pytest.fixture(scope="session")
def small():
    """120 cells in 11 batches: margins one by one, and rms of tokens whose size leaves all floats in half of them."""
    axes = {"loop.controller.kp": Range(0.1, 1.0, 60), "loop.reference_gain": [0.5, 1e308]}
    analyses = {"margins": {"mode": 0.5}, "hit_rate": {"draws": 2, "features": 2}, "tokens": {}}
    tables = {"loop": {"preset": "pidformer-printed"}, "simulation": {"layers": 3, "tokens": 4, "features": 3}}
    return Spec(axes, analyses, **tables)


@pytest.fixture(scope="session")
def ran(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "serial"
    return folder, run(small, folder)


@pytest.fixture
def serial(ran):
    """The folder of that sweep by one process, to compare with and not to write in."""
    return ran[0]


@pytest.fixture
def whole(ran):
    """Its dataset."""
    return ran[1]
