"""The largest step of the printed law against the closed form, the unit step's interval and the poles themselves."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrlattn import PID, stability_interval
from ctrlattn.stability import closed_loop_poles
from ctrlattn.stability.modes.steps import _by_bisection, largest_stable_step, with_step


def closed_form(pid, alpha):
    b = 1 - alpha + pid.kp
    return (-b + math.sqrt(b * b + 4 * pid.ki * (1 - pid.kd))) / pid.ki


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
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
