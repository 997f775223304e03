"""Margins by their definition: put the margin into the loop and a pole lies on the unit circle."""

import warnings

import control
import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, Loop, crossings, gain_margin, loop_transfer, margins


def radius(system):
    return np.abs(control.feedback(system, 1).poles()).max()


def oracle(system):
    """python-control's margins; it divides by zero at the pole of an integrator."""
    with warnings.catch_warnings(action="ignore"):
        return control.stability_margins(system)


LOOPS = {
    "residual integrator": control.tf([0.5], [1, -1], 1),
    "leaky": control.tf([0.5], [1, -0.7], 1),
    "delayed": control.tf([0.3], [1, -1, 0, 0], 1),
    "resonant": control.tf([0.2, 0.1], [1, -1.2, 0.9], 1),
    "printed PID": loop_transfer(Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5, 0.05)), 0.6),
    "ema PID": loop_transfer(
        Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5, 0.05, form="ema")), 0.3
    ),
    "conditionally stable": control.tf(np.poly([0.6, 0.7]) * 0.6, np.poly([1, 1, 1.05]), 1),
}


@pytest.mark.parametrize("name", LOOPS)
def test_gain_margin_puts_a_pole_on_the_circle(name):
    m = margins(LOOPS[name])
    if not m.stable:
        assert np.isnan(m.gain_margin)
        return
    for factor in (m.gain_margin, m.gain_reduction):
        if np.isfinite(factor) and factor > 0:
            poles = control.feedback(factor * LOOPS[name], 1).poles()
            assert_allclose(np.abs(np.abs(poles) - 1).min(), 0.0, atol=1e-6)
    assert radius(LOOPS[name]) < 1


@pytest.mark.parametrize("name", LOOPS)
def test_phase_delay_and_modulus_margin_by_their_definition(name):
    m, L = margins(LOOPS[name]), LOOPS[name]
    if not m.stable:
        return
    w = np.concatenate([np.linspace(1e-5, np.pi, 50_001), [m.modulus_frequency, m.gain_crossover]])
    w = w[np.isfinite(w) & (w > 0)]
    response = L(np.exp(1j * w))
    assert_allclose(m.modulus_margin, np.abs(1 + response).min(), rtol=1e-7)
    if np.isfinite(m.phase_margin):
        turned = [np.abs(1 + response * np.exp(s * 1j * np.radians(m.phase_margin))).min() for s in (1, -1)]
        assert min(turned) < 1e-6
        smaller = [np.abs(1 + response * np.exp(s * 0.98j * np.radians(m.phase_margin))).min() for s in (1, -1)]
        assert min(smaller) > 1e-4
    if np.isfinite(m.delay_margin):
        assert np.abs(1 + response * np.exp(-1j * w * m.delay_margin)).min() < 1e-4


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9, 1.0, -0.4])
def test_the_crossing_at_minus_one_that_python_control_loses(p):
    L = control.tf([0.5], [1, -p], 1)
    assert_allclose(gain_margin(L), (1 + p) / 0.5, rtol=1e-12)
    assert_allclose(radius((1 + p) / 0.5 * L), 1.0, rtol=1e-12)
    assert oracle(L)[0] == np.inf  # the trap: if this fails, it was mended upstream


def test_residual_integrator():
    m = margins(LOOPS["residual integrator"])
    assert_allclose(
        [m.gain_margin, m.phase_crossover, m.phase_margin, m.modulus_margin],
        [4.0, np.pi, 75.5224878, 0.75],
        rtol=1e-8,
    )
    assert_allclose(m.delay_margin, np.radians(m.phase_margin) / m.gain_crossover, rtol=1e-12)


def test_phase_margins_agree_with_python_control_where_it_is_right():
    for name in ("residual integrator", "delayed", "printed PID"):
        _, pm, sm, _, _, _ = oracle(LOOPS[name])
        m = margins(LOOPS[name])
        assert_allclose(m.phase_margin, pm, rtol=1e-6)
        assert_allclose(m.modulus_margin, sm, rtol=1e-4)


def test_gain_margin_of_the_published_law_follows_from_its_interval():
    # p(-1) = 0 is the lower end of the interval: at gain K, alpha = K (P + I/2 + 2D) - 1.
    loop = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5, 0.05))
    assert_allclose(gain_margin(loop_transfer(loop, 0.6)), 1.6 / 1.15, rtol=1e-10)


def test_published_continuous_loop():
    m = margins(control.tf(25, [1, 10, 10, 10]))
    assert_allclose([m.gain_margin, m.phase_crossover], [3.6, np.sqrt(10)], rtol=1e-12)
    assert_allclose([m.phase_margin, m.gain_crossover], [29.1104, 1.7844], atol=5e-5)
    assert_allclose(m.delay_margin, 0.2847, atol=5e-5)
    poles = control.feedback(m.gain_margin * control.tf(25, [1, 10, 10, 10]), 1).poles()
    assert_allclose(poles.real.max(), 0.0, atol=1e-12)


def test_published_sampled_loop():
    """MATLAB's documentation of margin, sampled at 0.1: 2.0517, 13.5711 degrees, at 5.4374 and 4.3544 rad a second."""
    L = control.tf([0.04798, 0.0464], [1, -1.81, 0.9048], 0.1)
    m = margins(L)
    assert_allclose([m.gain_margin, m.phase_margin], [2.0517, 13.5711], rtol=5e-5)
    assert_allclose([m.phase_crossover / 0.1, m.gain_crossover / 0.1], [5.4374, 4.3544], rtol=2e-5)
    assert_allclose(radius(m.gain_margin * L), 1.0, atol=1e-9)


CONTINUOUS = {
    "published": control.tf(25, [1, 10, 10, 10]),
    "double integrator with lead": control.tf([1, 0.3], [1, 2, 0, 0]),
    "conditionally stable": 3 * control.tf([1, 4, 4], [1, 0, 0, 0]),
    "slow": control.tf(25e-9, [1, 10e-3, 10e-6, 10e-9]),
    "direct term": control.tf([-0.5, 1], [1, 1]),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_margins_by_their_definition(name):
    L = CONTINUOUS[name]
    m, all_of_them = margins(L), crossings(L)
    assert m.stable
    num, den = L.num[0][0], L.den[0][0]
    scale = np.polyval(np.abs(den), 1.0)
    for frequency, factor in zip(all_of_them.gain_frequency, all_of_them.gain_factor, strict=True):
        if np.isfinite(frequency):
            assert_allclose(
                np.polyval(den, 1j * frequency) + factor * np.polyval(num, 1j * frequency), 0, atol=1e-9 * scale
            )
    for frequency, phase, delay in zip(*all_of_them[2:], strict=True):
        turned = L(1j * frequency) * np.exp(-1j * np.radians(phase))
        assert_allclose(turned, -1, rtol=1e-6)
        if frequency > 0:
            assert_allclose(L(1j * frequency) * np.exp(-1j * frequency * delay), -1, rtol=1e-6)
    w = np.logspace(-6, 4, 200_001)
    assert_allclose(m.modulus_margin, np.abs(1 + L(1j * w)).min(), rtol=1e-6)


def test_every_crossing_is_listed():
    L = CONTINUOUS["conditionally stable"]  # 3 (s + 2)^2 / s^3: real at w = 2, for K = 1/3
    crossed = crossings(L)
    assert_allclose([crossed.gain_frequency, crossed.gain_factor], [[2.0], [1 / 3]], rtol=1e-9)
    assert_allclose(margins(L).gain_reduction, 1 / 3, rtol=1e-9)
    # 2 sin-like loop: z^-4 is real and negative at odd multiples of pi/4, each with the factor 2.
    crossed = crossings(control.tf([0.5], [1, 0, 0, 0, 0], 1))
    assert_allclose(crossed.gain_frequency, [np.pi / 4, 3 * np.pi / 4], rtol=1e-9)
    assert_allclose(crossed.gain_factor, [2, 2], rtol=1e-9)


def test_degenerate_loops():
    nothing = margins(control.ss([], [], [], 0.0, 1))
    assert (nothing.stable, nothing.gain_margin, nothing.phase_margin, nothing.modulus_margin) == (
        True, np.inf, np.inf, 1.0,
    )  # fmt: skip
    assert gain_margin(control.tf([0.5], [1.0], 1)) == np.inf
    assert_allclose(gain_margin(control.tf([-0.5], [1.0], 1)), 2.0)
    assert np.isnan(gain_margin(control.tf([5.0], [1, -1], 1)))
    assert margins(loop_transfer(Loop(CausalMean()), 0.5)).gain_margin is not None


def test_refused():
    with pytest.raises(ValueError, match="time base"):
        margins(control.tf([1], [1, 1], None))
    with pytest.raises(ValueError, match="improper"):
        margins(control.tf([1, 0, 0], [1, 1], 1))
    with pytest.raises(ValueError, match="sequence of 2 different layers"):
        margins([Loop(CausalMean())] * 2)
    with pytest.raises(ValueError, match="differ from the state space"):
        margins(control.ss(np.diag(np.linspace(0.5, 0.99, 60)), np.ones((60, 1)), np.ones((1, 60)), 0, 1))
    with pytest.raises(ValueError, match="SISO"):
        margins(control.ss(0.5 * np.eye(2), np.eye(2), np.eye(2), 0, 1))
    with pytest.raises(TypeError, match="StateSpace or TransferFunction"):
        margins(np.eye(2))
