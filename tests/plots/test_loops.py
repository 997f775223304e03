"""Plots of what a person has: the curves against closed forms, frequencies and gains that see everything, refusals."""

import control
import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, Loop, complementary_sensitivity, plots, sensitivity
from ctrlattn.plots import style

LOOP = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.6))  # L = 0.6/(z - a)


def lines(ax):
    """The curves by label."""
    return {line.get_label(): line for line in ax.lines}


@pytest.mark.parametrize("a", [0.5, -0.3, 0.0])
def test_bode_of_a_loop_is_that_of_its_loop_transfer(a):
    magnitude, phase = plots.bode(LOOP, a=a).axes
    w, shown = magnitude.lines[0].get_data()
    expected = 0.6 / (np.exp(1j * w) - a)
    assert len(w) > 200
    assert np.all(np.diff(w) > 0)
    assert 0 < w[0] < 1e-2
    assert w[-1] == np.pi
    assert_allclose(shown, 20 * np.log10(abs(expected)), atol=1e-9)
    assert_allclose(np.mod(np.radians(phase.lines[0].get_ydata()) - np.angle(expected) + 1, 2 * np.pi), 1, atol=1e-9)


def test_phase_is_unwrapped_over_many_turns():
    delay = control.tf([1], [1, *[0] * 12], 1)
    w = np.linspace(0.01, 3, 400)
    phase = plots.bode(delay, w).axes[1].lines[0].get_ydata()
    assert_allclose(phase, np.degrees(-12 * w), atol=1e-6)


def test_a_resonance_and_a_notch_are_seen_whatever_their_width():
    sharp, w0 = 1e-7, 1.234567
    pole, zero = (1 - sharp) * np.exp(1j * w0), (1 - sharp) * np.exp(2.2j)
    system = control.tf(np.poly([zero, zero.conj()]).real, np.poly([pole, pole.conj()]).real, 1)
    shown = plots.bode(system).axes[0].lines[0].get_ydata()
    assert shown.max() > 20 * np.log10(abs(system(np.exp(1j * w0)))) - 1
    assert shown.min() < 20 * np.log10(abs(system(np.exp(2.2j)))) + 1


def test_several_by_name_share_the_axes_and_are_named():
    both = {"S": sensitivity(LOOP, 0.5), "T": complementary_sensitivity(LOOP, 0.5)}
    figure = plots.bode(both)
    assert list(lines(figure.axes[0]))[:2] == ["S", "T"]
    s, t = (10 ** (figure.axes[0].lines[i].get_ydata() / 20) for i in (0, 1))
    ws, wt = (figure.axes[0].lines[i].get_xdata() for i in (0, 1))
    assert_allclose(s, abs(1 / (1 + 0.6 / (np.exp(1j * ws) - 0.5))), rtol=1e-9)
    assert_allclose(t, abs(0.6 / (np.exp(1j * wt) + 0.1)), rtol=1e-9)


def test_axis_of_frequency_follows_the_time_of_the_system():
    seconds = plots.bode(control.tf([1], [1, -0.5], 0.1)).axes[1]
    assert_allclose(seconds.lines[0].get_xdata()[-1], np.pi / 0.1)
    assert "unit of time" in seconds.get_xlabel()
    continuous = plots.bode(control.tf([1], [1, 1])).axes[1]
    assert continuous.get_xscale() == "log"
    assert plots.bode(LOOP, a=0.5).axes[1].get_xscale() == "linear"
    assert plots.bode(LOOP, a=0.5, log=True).axes[1].get_xscale() == "log"


def test_nyquist_states_the_margins_of_the_loop():
    drawn = plots.nyquist({"P": LOOP}, a=0.5)
    assert "P: gain 2.50, phase 131°, delay 4.81 layers, modulus 0.60" in lines(drawn)
    curve = lines(drawn)["P: gain 2.50, phase 131°, delay 4.81 layers, modulus 0.60"]
    values = curve.get_xdata() + 1j * curve.get_ydata()
    assert_allclose(np.min(abs(1 + values)), 0.6, rtol=1e-3)
    measured = control.frd(0.6 / (np.exp(1j * np.linspace(0.1, 3, 9)) - 0.5), np.linspace(0.1, 3, 9), True)
    assert "L" in lines(plots.nyquist(measured))
    assert "L" in lines(plots.nyquist(LOOP, a=0.5, margins=False))


def test_root_locus_of_one_pole_and_of_two_that_meet():
    ax = plots.root_locus(LOOP, a=0.5)  # the pole is at 0.5 - 0.6 k
    marks = lines(ax)["k = 1"]
    assert_allclose(marks.get_xdata(), -0.1, atol=1e-12)
    system = control.tf([1], np.poly([0.2, 0.8]), 1)  # z = 0.5 +- sqrt(0.09 - k)
    k = np.linspace(0, 0.5, 11)
    ax = plots.root_locus(system, k)
    start = lines(ax)["gain 0"]
    assert_allclose(np.sort(start.get_xdata()), [0.2, 0.8], atol=1e-12)
    shown = [line for line in ax.lines if len(line.get_xdata()) == len(k)]
    poles = np.sort_complex(np.array([line.get_xdata() + 1j * line.get_ydata() for line in shown]).T)
    expected = np.sqrt((0.09 - k).astype(complex))[:, None] * [-1, 1] + 0.5
    assert_allclose(poles, np.sort_complex(expected), atol=1e-7)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_default_gains_make_smooth_branches_from_zero_on(order):
    rng = np.random.default_rng(order)
    system = control.ss(control.tf([1.0], np.poly(rng.uniform(-0.9, 0.95, order)), 1))
    ax = plots.root_locus(system)
    paths = [line for line in ax.lines if len(line.get_xdata()) > 100 and line.get_color() != "black"]
    branches = [line.get_xdata() + 1j * line.get_ydata() for line in paths if line.get_color() in style.COLOURS]
    assert len(branches) == order
    assert_allclose(np.sort_complex([b[0] for b in branches]), np.sort_complex(system.poles()), atol=1e-9)
    for branch in branches:
        inside = np.abs(branch) < 2
        assert np.max(np.abs(np.diff(branch))[inside[1:] & inside[:-1]], initial=0.0) < 0.05


def test_poles_zeros_and_steps_are_those_of_the_closed_loop():
    assert_allclose(plots.pole_zero(LOOP, a=0.5).lines[-2].get_xdata(), [-0.1], atol=1e-12)
    curve = lines(plots.step(LOOP, 6, a=0.5))["response"].get_ydata()
    assert_allclose(curve, 0.6 / 1.1 * (1 - (-0.1) ** np.arange(7)), atol=1e-12)
    slow = lines(plots.step(control.tf([0.01], [1, -0.99], 1)))["response"].get_ydata()
    assert abs(slow[-1] - 1) < 0.011
    assert plots.pole_zero(control.tf([1, 2], [1, 3, 2])).get_xlabel() == "Re s"
    unstable = plots.step(control.tf([1], [1, -1.5], 1))
    assert len(unstable.lines[-1].get_xdata()) == 41


def test_a_region_of_two_gains_has_straight_edges_and_sharp_tips():
    """Under P alone alpha = a: |alpha - kp| < 1; in (kp, skip) with a = 0 a strip with slope 1."""
    loop = Loop(CausalMean(), controller=PID(0.6))
    ax = plots.gain_region(loop, ("kp", "skip"), 0.0, (-1, 2), (-0.5, 0.5), slices=7).axes[0]
    outline = np.concatenate([path.vertices for path in ax.collections[0].get_paths()])
    low, high = outline.min(axis=0), outline.max(axis=0)
    assert_allclose([low[1], high[1]], [-0.5, 0.5], atol=1e-9)
    assert_allclose([ax.lines[0].get_xdata()[0], ax.lines[0].get_ydata()[0]], [0.6, 1.0])
    pid = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5, 0.0))
    ax = plots.gain_region(pid, ("kp", "ki"), 0.5, (-2, 3), (-1, 6), slices=11).axes[0]
    outline = np.concatenate([path.vertices for path in ax.collections[0].get_paths()])
    # z^2 - (1.5 - kp - ki) z + .5 - kp: a triangle with the corners (-.5, 0), (1.5, 0), (-.5, 4)
    assert_allclose(outline.min(axis=0), [-0.5, 0.0], atol=0.01)
    assert_allclose(outline.max(axis=0), [1.5, 4.0], atol=0.02)
    assert np.all(outline[:, 1] <= 2 * (1.5 - outline[:, 0]) + 0.02)


def test_a_notebook_shows_what_is_returned():
    assert plots.bode(LOOP, a=0.5)._repr_png_()[:4] == b"\x89PNG"
    ax = plots.nyquist(LOOP, a=0.5)
    assert ax._repr_png_()[:4] == b"\x89PNG"
    assert plots.step(LOOP, a=0.5, ax=ax) is ax


TWO = control.ss(0.5 * np.eye(2), np.eye(2), np.eye(2), 0, 1)
FRD = control.frd([1.0, 2.0], [0.1, 0.2], True)
REFUSED = {
    "no mode": (lambda: plots.bode(LOOP), "give a="),
    "complex mode": (lambda: plots.nyquist(LOOP, a=0.5j), "real a"),
    "a without a loop": (lambda: plots.bode(control.tf([1], [1, 0.5], 1), a=0.5), "no Loop was given"),
    "several channels": (lambda: plots.bode(TWO), "system\\[i, j\\]"),
    "array": (lambda: plots.bode(np.ones(3)), "got ndarray"),
    "nothing": (lambda: plots.bode({}), "empty mapping"),
    "two times": (
        lambda: plots.bode({"a": control.tf([1], [1, 0.5], 1), "b": control.tf([1], [1, 1])}),
        "one time base",
    ),
    "loops in turn": (lambda: plots.bode([LOOP, LOOP], a=0.5), "sequence of 2"),
    "frequencies of a measurement": (lambda: plots.bode(FRD, [0.1]), "brings its frequencies"),
    "no frequencies": (lambda: plots.bode(LOOP, [], a=0.5), "no frequency"),
    "poles of a measurement": (lambda: plots.pole_zero(FRD), "measured frequency response"),
    "gains that fall": (lambda: plots.root_locus(LOOP, [1.0, 0.5], a=0.5), "ascending"),
    "two loci": (lambda: plots.root_locus({"a": LOOP, "b": LOOP}, a=0.5), "one system"),
    "step in time": (lambda: plots.step(control.tf([1], [1, 1])), "continuous"),
    "a frame that falls": (lambda: plots.gain_region(LOOP, ("kp", "ki"), 0.5, (1, 0), (0, 1)), "\\(low, high\\)"),
    "no layer": (lambda: plots.step(LOOP, 0, a=0.5), "layers"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    draw, words = REFUSED[case]
    with pytest.raises((ValueError, TypeError), match=words):
        draw()
