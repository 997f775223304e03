"""Pictures of robustness: right places, right labels, hostile names, unstable and unbounded input."""

import control
import numpy as np
import pytest
from matplotlib.patches import Circle

from ctrlattn import PID, CausalMean, Loop, disk_margin, gain_region, plots
from ctrlattn.plots import robustness
from ctrlattn.stability import describing_function, gain_boundary

W = np.linspace(0.02, np.pi, 200)
LOOP = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5, 0.05))
L = control.tf([0.5], [1, -0.8], 1)


def regions(names):
    first = np.linspace(-1, 2, 31)
    return robustness.gain_regions(
        first,
        dict.fromkeys(names, gain_region(LOOP, ("kp", "ki"), [0.5, 0.2 + 0.3j], first)),
        labels=("kp", "ki"),
        second=(-0.5, 4.0),
        boundaries={name: [gain_boundary(LOOP, ("kp", "ki"), 0.5, W)] for name in names},
        marks={"published": (0.8, 0.5)},
    )


def disks(names):
    return plots.figure_of(
        robustness.nyquist_disk({n: L(np.exp(1j * W)) for n in names}, dict.fromkeys(names, disk_margin(L)))
    )


def balance(names):
    a = np.geomspace(0.1, 10, 40)
    return plots.figure_of(
        robustness.harmonic_balance(
            L(np.exp(1j * W)),
            describing_function(np.tanh, a).real,
            sector=(0.0, 1.0),
            cycles=dict.fromkeys(names, -0.3),
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("draw", [regions, disks, balance])
def test_drawn_and_written_the_same_twice(draw, tmp_path, laid_out_once, vectors_alone, few_dots):
    names = ["$x_1$", "<b>&", "привет", ""]
    png, svg = plots.save(draw(names), tmp_path / "a")
    assert png.stat().st_size > 1000
    with vectors_alone():
        assert svg.read_bytes() == plots.save(draw(names), tmp_path / "b")[1].read_bytes()
        single = draw(["a"])
        plots.save(single, tmp_path / "one")
    axes = single.axes
    assert all(ax.get_xlabel() for ax in axes)
    assert all(ax.get_ylabel() for ax in axes)


def test_the_forbidden_disk_touches_the_curve_and_is_not_entered():
    ax = disks(["a"]).axes[0]
    circle = next(p for p in ax.patches if isinstance(p, Circle))
    distance = np.abs(L(np.exp(1j * np.linspace(1e-3, np.pi, 20_001))) - complex(*circle.center)) - circle.radius
    assert -1e-4 < distance.min() < 1e-3


def outlines(first, slices):
    figure = robustness.gain_regions(np.array(first), {"a": slices}, labels=("x", "y"), second=(-1.0, 2.0))
    return [path.vertices[:4].tolist() for path in figure.axes[0].collections[0].get_paths()]


def test_where_an_interval_ends_each_slice_reaches_to_the_middle():
    before, end = outlines([0.0, 1.0], [[(0.0, np.inf)], []])
    assert before == [[-0.5, 0.0], [0.0, 0.0], [0.0, 2.0], [-0.5, 2.0]]
    assert end == [[0.0, 0.0], [0.5, 0.0], [0.5, 2.0], [0.0, 2.0]]


def test_between_slices_the_edges_are_straight():
    assert outlines([0.0, 1.0], [[(0.0, 1.0)], [(0.5, 2.0)]])[1] == [[0.0, 0.0], [1.0, 0.5], [1.0, 2.0], [0.0, 1.0]]


def test_unstable_and_unbounded_disks_are_told():
    unstable, free = control.tf([5.0], [1, -1], 1), control.tf([1e-9], [1, -0.5], 1)
    ax = robustness.nyquist_disk(
        {name: s(np.exp(1j * W)) for name, s in (("u", unstable), ("f", free))},
        {"u": disk_margin(unstable), "f": disk_margin(free)},
    )
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "unstable" in texts[0]
    assert "gains" in texts[1]
