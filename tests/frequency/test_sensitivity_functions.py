"""S + T = 1, the closed form of S, the Bode integral, peaks against their definition, the gang of four."""

import control
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ctrlattn import (
    PID,
    CausalMean,
    Loop,
    LTIController,
    complementary_sensitivity,
    loop_transfer,
    margins,
    sensitivity,
    stability_interval,
)
from ctrlattn.frequency import gang_of_four, sensitivity_peaks, sensitivity_response
from ctrlattn.stability import spectral_radius

small = st.floats(0.0, 0.9)
gains = st.floats(0.01, 0.9)
Z = np.exp(1j * np.linspace(0.1, np.pi, 12))


def loop_of(controller, skip=0.0, feedback=1.0):
    return Loop(CausalMean(), skip=skip, feedback=feedback, controller=controller)


CONTROLLERS = [
    None,
    PID(0.6),
    PID(0.8, 0.5, 0.05),
    PID(0.8, 0.5, 0.05, form="ema"),
    LTIController(control.tf([0.3, 0.1], [1, -0.4, 0.2], 1)),
]


@pytest.mark.parametrize("controller", CONTROLLERS)
@pytest.mark.parametrize("a", [0.3, -0.2, 0.4 + 0.3j])
def test_s_plus_t_is_one_and_both_follow_from_the_loop_transfer(controller, a):
    loop = loop_of(controller, 0.2, 0.9)
    s, t, L = sensitivity(loop, a)(Z), complementary_sensitivity(loop, a)(Z), loop_transfer(loop, a)(Z)
    if np.iscomplexobj(a):
        eye = np.eye(2)[..., None]
        assert_allclose(s + t, np.broadcast_to(eye, s.shape), atol=1e-12)
        product = np.einsum("ijz,jkz->ikz", s, eye + L)
        assert_allclose(product, np.broadcast_to(eye, s.shape), atol=1e-10)
    else:
        assert_allclose(s + t, 1.0, atol=1e-12)
        assert_allclose(s * (1 + L), 1.0, atol=1e-10)


@given(p=gains, i=gains, d=st.floats(0.01, 0.5), position=st.floats(0.05, 0.95))
def test_closed_form_of_s_for_the_printed_law(p, i, d, position):
    low, high = stability_interval(PID(p, i, d))
    alpha = low + position * (high - low)
    polynomial = [1.0, p + i + d - 1 - alpha, alpha - p - 2 * d, d]
    expected = Z * (Z - 1) * (Z - alpha) / np.polyval(polynomial, Z)
    assert_allclose(sensitivity(loop_of(PID(p, i, d)), alpha)(Z), expected, rtol=1e-7)
    assert_allclose(sensitivity_response(PID(p, i, d), alpha, np.angle(Z)), expected, rtol=1e-7)


@pytest.mark.slow
@given(p=small, i=small, d=st.floats(0, 0.5), position=st.floats(0.05, 0.95))
def test_bode_integral(p, i, d, position):
    low, high = stability_interval(PID(p, i, d))
    assume(high - low > 0.2)
    alpha = low + position * (high - low)
    assume(abs(abs(alpha) - 1) > 1e-2)
    assume(spectral_radius(PID(p, i, d), alpha) < 0.99)
    # Midpoints avoid the zero of S at z = 1, whose logarithm is integrable; Richardson takes its error away.
    means = []
    for m in (1 << 14, 1 << 15):
        w = (np.arange(m) + 0.5) * np.pi / m
        means.append(np.mean(np.log(np.abs(sensitivity_response(PID(p, i, d), alpha, w)))))
    mean = 2 * means[1] - means[0]
    assert_allclose(mean, np.log(max(1.0, abs(alpha))), atol=2e-4)


def test_many_modes_at_once_equal_one_by_one():
    alpha = np.array([[0.2, 0.5 + 0.1j], [-0.1j, 0.9]])
    w = np.linspace(0.0, np.pi, 7)
    s = sensitivity_response(PID(0.8, 0.5, 0.05), alpha, w)
    assert s.shape == (2, 2, 7)
    num, den = PID(0.8, 0.5, 0.05).fraction()
    z = np.exp(1j * w[1:])
    for index in np.ndindex(2, 2):
        c = np.polyval(num, z) / np.polyval(den, z)
        assert_allclose(s[index][1:], 1 / (1 + c / (z - alpha[index])), atol=1e-12)
    assert_allclose(s[..., 0], 0.0, atol=1e-12)  # integral action: no error at w = 0, and no nan there


def test_no_controller_is_one_everywhere():
    assert_allclose(sensitivity_response(None, 0.3, [0.0, 1.0]), 1.0)


@pytest.mark.parametrize("controller", CONTROLLERS[1:])
@pytest.mark.parametrize("alpha", [0.3, 0.7])
def test_ms_is_the_inverse_modulus_margin(controller, alpha):
    peaks = sensitivity_peaks(controller, alpha)
    exact = margins(loop_transfer(loop_of(controller), alpha))
    assert_allclose(peaks.ms, 1 / exact.modulus_margin, rtol=1e-8)
    assert_allclose(peaks.ms_frequency, exact.modulus_frequency, atol=1e-3)
    w = np.linspace(0, np.pi, 5001)
    assert_allclose(peaks.mt, np.abs(1 - sensitivity_response(controller, alpha, w)).max(), rtol=1e-5)


def test_bandwidth_is_where_s_reaches_minus_three_db():
    peaks = sensitivity_peaks(PID(0.8, 0.5, 0.05), 0.6)
    at = np.abs(sensitivity_response(PID(0.8, 0.5, 0.05), 0.6, [peaks.bandwidth]))
    assert_allclose(at, 1 / np.sqrt(2), rtol=1e-9)
    below = np.abs(sensitivity_response(PID(0.8, 0.5, 0.05), 0.6, np.linspace(0, 0.999 * peaks.bandwidth, 200)))
    assert np.all(below < 1 / np.sqrt(2))
    assert sensitivity_peaks(PID(0.1), 0.5).bandwidth == 0.0


def test_a_peak_narrower_than_any_grid():
    """P alone at the edge: pole 1e-7 inside z = -1, |S| = |z - alpha| / 1e-7 there."""
    alpha, kp = 0.5, 1.5 - 1e-7
    peaks = sensitivity_peaks(PID(kp), alpha)
    assert_allclose(peaks.ms, (1 + alpha) / 1e-7, rtol=1e-6)
    assert_allclose(peaks.ms_frequency, np.pi)


def test_without_a_controller_nothing_is_reached():
    assert sensitivity_peaks(None, 0.3) == (1.0, 0.0, 0.0, 0.0, 0.0)


def test_unstable_loop_has_no_peak():
    assert sensitivity_peaks(PID(0.8, 0.5, 0.05), 0.1).ms == np.inf


def test_complex_mode_counts_negative_frequencies():
    peaks = sensitivity_peaks(PID(0.6), 0.2 + 0.5j)
    w = np.linspace(-np.pi, np.pi, 20_001)
    assert_allclose(peaks.ms, np.abs(sensitivity_response(PID(0.6), 0.2 + 0.5j, w)).max(), rtol=1e-5)


@pytest.mark.parametrize("controller", CONTROLLERS)
@pytest.mark.parametrize("a", [0.3, 0.9])
def test_gang_of_four(controller, a):
    loop = loop_of(controller)
    four = gang_of_four(loop, a)
    num, den = loop.controller.fraction() if controller is not None else (np.zeros(1), np.ones(1))
    c, plant = np.polyval(num, Z) / np.polyval(den, Z), 1 / (Z - a)
    s = 1 / (1 + plant * c)
    for key, expected in {"S": s, "T": plant * c * s, "PS": plant * s, "CS": c * s}.items():
        assert_allclose(four[key](Z), expected, atol=1e-9)
    assert four["PS"].input_labels == ["disturbance"]


def test_sequences_are_refused():
    loops = [loop_of(PID(0.6)), loop_of(PID(0.5))]
    for function in (sensitivity, complementary_sensitivity, gang_of_four):
        with pytest.raises(ValueError, match="sequence"):
            function(loops, 0.5)


@pytest.mark.parametrize("a", [0.5, 0.3 + 0.4j])
def test_the_four_are_systems_over_depth_with_the_signals_that_they_join(a):
    four = gang_of_four(Loop(CausalMean(), controller=PID(0.6, 0.1)), a)
    assert [system.dt for system in four.values()] == [1] * 4
    ends = {name: (system.input_labels[0], system.output_labels[0]) for name, system in four.items()}
    assert ends["PS"][0].startswith("disturbance")
    assert ends["PS"][1].startswith("state")
    assert ends["CS"][0].startswith("reference")
    assert ends["CS"][1].startswith("control")
