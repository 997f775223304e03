"""The largest step of the printed law against the closed form, the unit step's interval and the poles themselves."""

import math

import numpy as np
import pytest
from cases import every_case
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrlattn import PID, stability_interval
from ctrlattn.stability import closed_loop_poles
from ctrlattn.stability.modes import steps
from ctrlattn.stability.modes.steps import _by_bisection, largest_stable_step, with_step


def closed_form(pid, alpha):
    b = 1 - alpha + pid.kp
    return (-b + math.sqrt(b * b + 4 * pid.ki * (1 - pid.kd))) / pid.ki


@pytest.mark.slow
@settings(deadline=None, max_examples=10)
@given(st.floats(0.05, 2), st.floats(0.01, 4), st.floats(0, 0.9), st.floats(-1, 1))
def test_one_real_mode_is_the_closed_form(kp, ki, kd, a):
    pid = PID(kp, ki, kd)
    assert largest_stable_step(pid, a) == pytest.approx(closed_form(pid, a), rel=1e-9)
    assert _by_bisection(pid, np.array([a])) == pytest.approx(closed_form(pid, a), rel=1e-6)


def test_no_integral_and_no_gain():
    assert largest_stable_step(PID(0.6), 0.4) == pytest.approx(2 / 1.2, rel=1e-8)
    assert largest_stable_step(PID(), 0.5) == pytest.approx(4.0, rel=1e-8)
    assert largest_stable_step(PID(0.6), 1.7) == 0.0  # unstable in continuous time: no step helps


def test_a_unit_step_is_allowed_exactly_inside_the_interval():
    pid = PID(0.8, 0.5, 0.05)
    low, _ = stability_interval(pid)
    assert largest_stable_step(pid, low) == pytest.approx(1.0, abs=1e-8)
    assert largest_stable_step(pid, low + 0.01) > 1 > largest_stable_step(pid, low - 0.01)


def test_a_spectrum_is_as_bad_as_its_worst_mode():
    pid = PID(0.8, 0.5, 0.05)
    modes = np.array([0.9, 0.1, -0.3, 0.2 + 0.6j, 0.2 - 0.6j])
    alone = [largest_stable_step(pid, mode) for mode in modes]
    h = largest_stable_step(pid, modes)
    assert h == pytest.approx(min(alone), rel=1e-6)
    radius = np.abs(closed_loop_poles(with_step(pid, h), 1 + h * (modes - 1))).max()
    assert radius == pytest.approx(1.0, abs=1e-6)


def test_with_step_is_the_sampled_chain():
    # v' = v + h [(a - 1) v + P e + I h sum e + D (e - e_old) / h], e = -v, simulated as it stands.
    pid, a, h = PID(0.8, 0.5, 0.05), 0.1, 0.4
    v, total, before, states = 1.0, 0.0, 0.0, []
    for _ in range(200):
        e = -v
        total += e
        v = v + h * ((a - 1) * v + pid.kp * e + pid.ki * h * total + pid.kd * (e - before) / h)
        before = e
        states.append(abs(v))
    radius = np.abs(closed_loop_poles(with_step(pid, h), 1 + h * (a - 1))).max()
    assert (states[-1] / states[50]) ** (1 / 149) == pytest.approx(radius, rel=2e-2)


def test_refused():
    with pytest.raises(ValueError, match='form="printed"'):
        largest_stable_step(PID(0.8, 0.5, 0.05, form="ema"), 0.0)
    with pytest.raises(ValueError, match="at least one mode"):
        largest_stable_step(PID(0.8), [])
    with pytest.raises(ValueError, match="finite"):
        largest_stable_step(PID(0.8), [0.1, np.nan])
    with pytest.raises(ValueError, match="positive"):
        with_step(PID(0.8), 0.0)


def test_a_step_scales_each_gain_by_its_own_power():
    pid = with_step(PID(0.8, 0.5, 0.05), 0.3)
    assert (pid.kp, pid.ki, pid.kd, pid.form) == (0.3 * 0.8, pytest.approx(0.09 * 0.5, rel=1e-15), 0.05, "printed")
    for h in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="step"):
            with_step(PID(0.8), h)
    with pytest.raises(TypeError, match="a step size belongs to a PID, got str"):
        with_step("pid", 1.0)


@every_case("gains", [(0.8, 0.5, 0.05), (0.3, 2.0, 0.6), (0.0, 0.1, 0.0), (0.5, 0.0, 0.4)])
@every_case("modes", [[0.1], [0.9, -0.5, 0.3], [-2.0]])
def test_at_the_largest_step_the_cubic_has_a_root_at_minus_one(gains, modes):
    """Jury: alpha_h = P_h + I_h/2 + 2 D - 1 for the smallest mode, and every smaller step is stable."""
    pid, h = PID(*gains), largest_stable_step(PID(*gains), modes)
    alpha = 1 + h * (min(modes) - 1)
    assert alpha == pytest.approx(h * pid.kp + h * h * pid.ki / 2 + 2 * pid.kd - 1, rel=1e-12)
    for share, stable in ((0.1, True), (0.999, True), (1.001, False)):
        poles = closed_loop_poles(with_step(pid, share * h), 1 + share * h * (np.array(modes) - 1))
        assert (np.abs(poles).max() < 1) == stable


def test_a_mode_that_no_step_stabilises_and_no_mode_at_all():
    pid = PID(0.6, 0.1)
    assert largest_stable_step(pid, 1.6) == 0.0  # alpha = 1 + P: the continuous loop has a root at 0
    assert largest_stable_step(pid, [1.61, 0.0]) == 0.0
    assert largest_stable_step(pid, 1.59) > 0
    assert _by_bisection(pid, np.zeros(0)) == math.inf
    assert steps._of_real_modes(pid, np.zeros(0)) == math.inf


def test_complex_modes_go_by_their_own_gains_and_both_halves_count():
    """P alone: |1 + h (a - 1 - P)| = 1 at h = 2 Re w/|w|^2, w = 1 + P - a."""
    for modes in ([0.2 + 0.6j], [0.2 - 0.6j], [0.2 + 0.6j, 0.3 - 0.9j], [0.2 + 0.6j, 0.1], [-3.0, 0.2 + 0.1j]):
        w = 1.4 - np.asarray(modes)
        expected = np.min(2 * w.real / np.abs(w) ** 2)
        assert largest_stable_step(PID(0.4), modes) == pytest.approx(expected, rel=1e-8)
        assert largest_stable_step(PID(0.4), [modes]) == pytest.approx(expected, rel=1e-8)


def test_gains_beyond_the_closed_form_are_bisected():
    """D < 0 or I < 0: by the poles; I < 0 is never stable, and P = -1.2 with a = -1 is stable up to 2/.8."""
    assert largest_stable_step(PID(0.8, -0.1), 0.3) == 0.0
    h = largest_stable_step(PID(0.5, 0.2, -0.3), 0.1)
    radius = [
        np.abs(closed_loop_poles(with_step(PID(0.5, 0.2, -0.3), k * h), 1 + k * h * (0.1 - 1))).max() for k in (1, 1.01)
    ]
    assert radius[0] == pytest.approx(1.0, abs=1e-7)
    assert radius[1] > 1
    assert largest_stable_step(PID(0.5, 0.2, 1.0), 0.1) == 0.0


def test_the_search_goes_from_a_thousandth_to_a_thousand(monkeypatch):
    for first, expected in ((1e-4, 0.0), (0.5, 0.5), (37.0, 37.0), (2000.0, math.inf)):
        monkeypatch.setattr(
            steps, "is_stable", lambda pid, alpha, first=first: np.array([float((1 - alpha[0]) / 0.5) <= first])
        )
        assert _by_bisection(PID(0.3), np.array([0.5])) == pytest.approx(expected, rel=2e-9)
