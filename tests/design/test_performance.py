"""Margins and step figures of every mode against exact margins and the loop itself."""

from dataclasses import replace

import control
import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, Loop, LTIController, loop_transfer, margins, presets, rms_norm
from ctrlattn.design import (
    performance,
)
from ctrlattn.frequency import sensitivity_response
from ctrlattn.linear import step_metrics
from ctrlattn.linear.mode_polynomial import BAND
from ctrlattn.looped import iterate
from ctrlattn.passes import Passes
from ctrlattn.stability import closed_loop_poles, disk_margin, stability_interval

SPECTRUM = np.array([0.02, 0.1, 0.3, 0.6, 1.0])


COMPLEX = np.array([1.0, 0.4 + 0.3j, 0.4 - 0.3j, -0.2])


LAWS = [PID(0.6), PID(0.4, 0.3), PID(0.4, 0.2, -0.1), PID(0.8, 0.5, 0.05, form="ema"), PID(0.1, 0.4, 0.2, form="ema")]


def value_loop(pid):
    return Loop(CausalMean(), skip=0.0, feedback=1.0, controller=pid)


@pytest.mark.parametrize("pid", LAWS, ids=str)
def test_real_modes_against_exact_margins_and_the_stepped_loop(stepped, pid):
    measured = performance(value_loop(pid), SPECTRUM)
    for i, a in enumerate(measured.a.real):
        transfer = loop_transfer(value_loop(pid), a)
        assert_allclose(measured.modulus_margin[i], margins(transfer).modulus_margin, rtol=1e-7)
        assert_allclose(measured.disk_margin[i], disk_margin(transfer).margin, rtol=1e-5)
        y = stepped(pid, a, 600).real
        expected = step_metrics(y, 1.0, final=y[-1])
        assert measured.settling[i] == expected.settling
        assert_allclose(measured.overshoot[i], expected.overshoot, atol=1e-8)
        assert_allclose(measured.steady_state_error[i], abs(expected.steady_state_error), atol=1e-8)


@pytest.mark.parametrize("pid", LAWS, ids=str)
def test_complex_modes_by_a_fine_grid_and_the_stepped_loop(stepped, pid):
    measured = performance(value_loop(pid), COMPLEX)
    omega = np.linspace(-np.pi, np.pi, 40_001)
    for i, a in enumerate(measured.a):
        assert measured.radius[i] == np.abs(closed_loop_poles(pid, a)).max()
        if not measured.stable[i]:
            continue
        s = sensitivity_response(pid, a, omega)
        assert_allclose(measured.modulus_margin[i], 1 / np.abs(s).max(), rtol=1e-6)
        assert_allclose(measured.disk_margin[i], 1 / np.abs(s - 0.5).max(), rtol=1e-6)
        y = stepped(pid, a, 900)
        outside = np.flatnonzero(np.abs(y - y[-1]) > BAND * np.abs(y[-1]))
        assert measured.settling[i] == outside[-1] + 1
        assert_allclose(measured.steady_state_error[i], abs(1 - y[-1]), atol=1e-8)


def test_narrow_peaks_near_the_circle_are_found():
    pid = PID(0.8, 0.5, 0.05)  # stable above 0.15 only; its poles cross at -1
    modes = [0.15 + 1e-6, 0.16, 1.82, 1.8238]
    measured = performance(value_loop(pid), modes)
    exact = [margins(loop_transfer(value_loop(pid), a)).modulus_margin for a in modes]
    assert_allclose(measured.modulus_margin, exact, rtol=1e-6)
    leaky = PID(0.2, 1.2, 0.1, form="ema")  # and a pair that crosses at an angle
    high = stability_interval(leaky)[1]
    modes = [high - 1e-5, high - 1e-3]
    exact = [margins(loop_transfer(value_loop(leaky), a)).modulus_margin for a in sorted(modes)]
    assert_allclose(performance(value_loop(leaky), modes).modulus_margin, exact, rtol=1e-5)


def test_unstable_modes_are_infinitely_bad_and_counted():
    measured = performance(presets.get("pidformer-printed"), [0.05, 0.05, 0.5, 0.9])
    assert measured.count.tolist() == [2, 1, 1]
    assert measured.stable_share == 0.5
    assert measured.worst() == {
        "modulus_margin": 0.0,
        "disk_margin": 0.0,
        "settling": np.inf,
        "overshoot": np.inf,
        "steady_state_error": np.inf,
    }
    part = measured.where(measured.stable).worst()
    assert 0 < part["modulus_margin"] < 1


def test_no_controller_reaches_nothing():
    measured = performance(value_loop(None), [0.3])
    assert (measured.modulus_margin[0], measured.disk_margin[0], measured.steady_state_error[0]) == (1.0, 2.0, 1.0)


def test_refused():
    with pytest.raises(ValueError, match="normalizer"):
        performance(replace(value_loop(PID(0.5)), normalizer=rms_norm), [0.5])
    with pytest.raises(ValueError, match="horizon must be a whole number of at least 1, got 0"):
        performance(value_loop(PID(0.5)), [0.5], horizon=0)


@pytest.mark.parametrize("recall", [0.0, 0.6])
@pytest.mark.parametrize("controller", [PID(0.4), LTIController(control.tf([0.3, 0], [1, -0.5], 1))])
def test_passes_settle_as_the_looped_network_does_and_peak_as_a_fine_grid_says(controller, recall):
    modes = np.array([0.5, -0.8, 0.2 + 0.5j, 0.2 - 0.5j])
    measured = performance(Passes(controller, recall=recall), modes)
    z = np.exp(1j * np.linspace(-np.pi, np.pi, 40_001))
    num, den = controller.fraction()
    for i, a in enumerate(measured.a):
        turn = np.array([[a.real, -a.imag], [a.imag, a.real]])
        y = iterate(lambda h, turn=turn: turn @ h + np.array([1.0, -0.5]), np.zeros(2), 300, controller, recall).state
        off = np.abs((y - y[-1]) @ np.array([1.0, 1.0j]))
        assert measured.settling[i] == np.flatnonzero(off > BAND * off[0])[-1] + 1
        s = np.polyval(den, z) * (z - 1)
        s = s / (s - np.polyval(num, z) * (a - 1 - recall))
        assert_allclose(measured.modulus_margin[i], 1 / np.abs(s).max(), rtol=1e-6)
        assert_allclose(measured.disk_margin[i], 1 / np.abs(s - 0.5).max(), rtol=1e-6)
        assert measured.steady_state_error[i] < 1e-15


def test_an_eigenvalue_on_the_edge_of_recall_is_never_stable():
    measured = performance(Passes(PID(0.4), recall=0.5), [1.5, 1.5 - 1e-3])
    assert measured.stable.tolist() == [True, False]
    assert measured.worst()["settling"] == np.inf
