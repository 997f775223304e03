"""result.plot(), Trajectory.to_xarray() and notebook display: the calls that go up."""

import subprocess
import sys

import control
import numpy as np
import pytest
import xarray as xr

from ctrlattn import (
    PID,
    CausalMean,
    InputError,
    InputTypeError,
    Loop,
    Spec,
    disk_margin,
    margins,
    presets,
    results,
    showing,
    simulate,
    transient_growth,
    tune,
)
from ctrlattn.plots import figure_of, view

LOOP = control.tf([0.5], [1, -0.5], 1)


def run(record="all"):
    return simulate(presets.get("neutreno"), np.random.default_rng(0).normal(size=(2, 5, 3)), 6, record=record)


def test_a_trajectory_is_drawn_as_the_sizes_of_its_signals():
    trajectory = run()
    ax = trajectory.plot(title="six layers")
    lines = {line.get_label(): line.get_ydata() for line in ax.lines}
    sizes = np.sqrt(np.mean(trajectory.state**2, axis=-1)).reshape(7, -1)
    np.testing.assert_allclose(lines["state x"], np.median(sizes, axis=1), rtol=1e-12)
    assert set(lines) >= {"state x", "error e", "control u"}
    assert ax.get_title(loc="left") == "six layers"


def test_a_trajectory_that_overflows_is_still_drawn():
    with np.errstate(all="ignore"):
        trajectory = simulate(Loop(CausalMean(), skip=1e200), np.ones((3, 2)), 4)
    ax = trajectory.plot()
    figure_of(ax).canvas.draw()
    assert np.all(np.isfinite(ax.get_ylim()))


def test_a_torch_trajectory_with_a_gradient_is_drawn():
    import torch

    x = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    assert simulate(Loop(CausalMean()), x, 3).plot().get_xlabel() == "Depth (layers)"


def test_without_layers_there_is_nothing_to_draw():
    with pytest.raises(InputError, match='record="last" has no layers'):
        run("last").plot()


def test_a_trajectory_labels_itself_as_results_does():
    trajectory = run()
    xr.testing.assert_identical(trajectory.to_xarray(seed=3), results.to_xarray(trajectory, seed=3))


def test_margins_are_drawn_in_the_nyquist_plot_of_their_loop():
    ax = margins(LOOP).plot()
    assert f"modulus {margins(LOOP).modulus_margin:.2f}" in ax.get_legend_handles_labels()[1][1]
    unstable = margins(control.tf([5.0], [1, -0.5], 1))
    assert unstable.plot().get_xlabel() == "Re L"


def test_a_disk_margin_is_drawn_beside_its_disk():
    ax = disk_margin(LOOP).plot()
    assert "gains" in ax.get_legend_handles_labels()[1][0]
    two = disk_margin(control.ss(0.5 * np.eye(2), np.eye(2), 0.2 * np.eye(2), 0, 1))
    with pytest.raises(InputError, match="2 channels has no single Nyquist curve"):
        two.plot()


def test_what_knows_no_loop_says_so():
    from dataclasses import replace

    with pytest.raises(InputError, match="do not know their loop"):
        replace(margins(LOOP), gain_margin=2.0).plot()


def test_margins_stay_figures_alone():
    from dataclasses import asdict

    first, second = margins(LOOP), margins(control.tf([0.5], [1, -0.5], 1))
    assert first == second
    assert first.system is LOOP
    assert "system" not in asdict(first)
    assert disk_margin(LOOP) == disk_margin(LOOP)
    assert disk_margin(LOOP) != disk_margin(2 * LOOP)


def test_a_growth_and_a_design_are_drawn():
    assert transient_growth(np.array([[0.5, 2.0], [0.0, 0.5]]), 10).plot().get_ylabel() == "Amplification (2-norm)"
    design = tune(presets.get("neutreno"), [0.0, 0.5, 1.0], Spec(modulus_margin=0.6), terms="P", curve=False)
    assert len(design.plot().axes) == 1
    text = repr(design).split("\n")
    assert text[0] == f"Design: PID(kp={design.controller.kp!r})"
    assert text[2].split()[0] == "modulus_margin"
    assert text[2].split()[1] == "0.6"
    assert float(text[2].split()[2]) == pytest.approx(design.performance.worst()["modulus_margin"], rel=1e-3)
    assert text[2].endswith("binds")
    assert design._repr_html_().startswith("<pre>Design")


def test_a_loop_is_its_diagram_in_a_notebook_with_nothing_left_unescaped():
    def predict(x):
        return x

    predict.__name__ = "<script>"
    shown = Loop(predict, controller=PID(0.5))._repr_html_()
    assert "<script>" not in shown
    assert "PID(kp=0.5)" in shown


def test_what_has_no_picture_is_refused():
    with pytest.raises(InputTypeError, match="draws Trajectory, Margins"):
        view(PID(0.5))
    with pytest.raises(InputTypeError, match="got dict"):
        showing.plot({})


def test_nothing_is_loaded_before_it_is_asked_for():
    code = "import sys; from ctrlattn import Loop, simulate; assert 'matplotlib' not in sys.modules; print('fine')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "fine\n"
