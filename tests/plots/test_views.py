"""view: every result that has a method plot is drawn by it, whatever options its plot takes."""

import control
import numpy as np
import pytest

from ctrlattn import Spec, disk_margin, margins, presets, simulate, transient_growth, tune
from ctrlattn.plots import figure, view
from ctrlattn.plots.views import _VIEWS

SYSTEM = control.tf([0.5], [1, -0.5], 1)
RESULTS = {
    "Trajectory": simulate(presets.get("neutreno"), np.ones((3, 2)), 4),
    "Margins": margins(SYSTEM),
    "DiskMargin": disk_margin(SYSTEM),
    "Design": tune(presets.get("neutreno"), [0.0, 1.0], Spec(settling=20), terms="P", curve=False),
    "TransientGrowth": transient_growth(np.eye(2) / 2, 5),
}


def test_every_view_is_tried():
    assert set(RESULTS) == set(_VIEWS)


@pytest.mark.parametrize("name", RESULTS)
def test_the_method_and_the_function_draw_the_same(name):
    texts = [
        [text.get_text() for text in drawn.findobj(lambda artist: hasattr(artist, "get_text"))]
        for drawn in (RESULTS[name].plot(), view(RESULTS[name]))
    ]
    assert texts[0] == texts[1]
    assert any(texts[0])


@pytest.mark.parametrize("name", [name for name in RESULTS if name != "Design"])
def test_axes_that_are_given_are_drawn_into(name):
    ax = figure().subplots()
    assert RESULTS[name].plot(ax=ax) is ax


def test_continuous_time_is_told_in_its_own_unit():
    disk = disk_margin(control.tf([2.0], [1, 1, 0]))
    assert "rad/time" in disk.plot().get_legend_handles_labels()[1][0]
    assert "rad/layer" in RESULTS["DiskMargin"].plot().get_legend_handles_labels()[1][0]
