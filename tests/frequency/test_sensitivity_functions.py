"""S + T = 1, the closed form of S, the Bode integral, peaks against their definition, the gang of four."""

import control
import numpy as np
import pytest
from cases import every_case
from hypothesis import assume, given, settings
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
from ctrlattn.errors import InputError
from ctrlattn.frequency import gang_of_four, sensitivity_functions, sensitivity_peaks, sensitivity_response
from ctrlattn.linear.realization import Realization
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


@every_case("controller", CONTROLLERS)
@every_case("a", [0.3, -0.2, 0.4 + 0.3j])
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


@settings(max_examples=30)
@given(p=gains, i=gains, d=st.floats(0.01, 0.5), position=st.floats(0.05, 0.95))
def test_closed_form_of_s_for_the_printed_law(p, i, d, position):
    low, high = stability_interval(PID(p, i, d))
    alpha = low + position * (high - low)
    polynomial = [1.0, p + i + d - 1 - alpha, alpha - p - 2 * d, d]
    expected = Z * (Z - 1) * (Z - alpha) / np.polyval(polynomial, Z)
    assert_allclose(sensitivity(loop_of(PID(p, i, d)), alpha)(Z), expected, rtol=1e-7)
    assert_allclose(sensitivity_response(PID(p, i, d), alpha, np.angle(Z)), expected, rtol=1e-7)


@pytest.mark.slow
@settings(max_examples=30)
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


@every_case("controller", CONTROLLERS[1:])
@every_case("alpha", [0.3, 0.7])
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


@every_case("controller", CONTROLLERS)
@every_case("a", [0.3, 0.9])
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


@every_case("alpha, omega", [(np.nan, 0.0), (0.5, np.nan), (np.inf, 0.0), ([0.5, np.nan], [0.0, 1.0])])
def test_a_response_of_what_is_not_finite_is_refused(alpha, omega):
    with pytest.raises(InputError, match="alpha and omega must be finite"):
        sensitivity_response(PID(0.6), alpha, np.atleast_1d(omega))


@every_case("controller", CONTROLLERS)
def test_the_response_of_many_modes_has_an_axis_of_frequencies_at_the_end(controller):
    alpha, w = np.array([[0.1, 0.4], [0.3 + 0.2j, -0.2]]), np.array([0.2, 1.0, 3.0])
    num, den = (controller or PID()).fraction()
    z = np.exp(1j * w)
    plant = z - alpha[..., None]
    expected = plant / (plant + np.polyval(num, z) / np.polyval(den, z))
    assert_allclose(sensitivity_response(controller, alpha, w), expected, rtol=1e-12)


def test_the_peaks_of_p_in_closed_form():
    """S = (z - a)/(z - p), p = a - P: 1 at infinity, ends at z = 1 and -1; T = P/(z - p)."""
    for gain, alpha in ((0.6, 0.5), (0.9, 0.2), (0.3, 0.8)):
        pole, peaks = alpha - gain, sensitivity_peaks(PID(gain), alpha)
        assert_allclose(peaks.ms, (1 + alpha) / (1 + pole), rtol=1e-8)
        assert_allclose(peaks.mt, gain / (1 - abs(pole)), rtol=1e-8)
        assert_allclose([peaks.ms_frequency, peaks.mt_frequency], [np.pi, 0.0 if pole > 0 else np.pi], atol=1e-6)
        start = (1 - alpha) / (1 - pole)
        # |z - a|^2 = |z - p|^2/2 at cos w = (1/2 + a^2 - p^2/2)/(2 a - p).
        cos = (0.5 + alpha**2 - pole**2 / 2) / (2 * alpha - pole)
        expected = 0.0 if start > np.sqrt(0.5) else np.arccos(cos)
        assert_allclose(peaks.bandwidth, expected, rtol=1e-8, atol=1e-12)


def test_a_response_that_never_gets_to_minus_three_db_has_all_frequencies():
    """S of a stable loop gets there, by Bode's integral; a constant below -3 dB does not, and one above is at once."""
    for constant, expected in ((0.5, np.pi), (0.8, 0.0), (-0.5, np.pi), (-0.8, 0.0)):
        static = Realization(np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)), np.full((1, 1), constant), False)
        assert sensitivity_functions._bandwidth(static) == expected


def test_the_bandwidth_of_a_complex_mode_ends_at_the_sign_of_the_frequency_that_rises_first():
    alpha = 0.9 + 0.3j
    peaks = sensitivity_peaks(PID(0.8), alpha)
    w = np.linspace(0, np.pi, 20_001)
    either = np.maximum(*(np.abs(sensitivity_response(PID(0.8), alpha, s * w)) for s in (1, -1)))
    first = w[np.argmax(either > np.sqrt(0.5))]
    assert_allclose(peaks.bandwidth, first, atol=2e-4)
    mirrored = sensitivity_peaks(PID(0.8), alpha.conjugate())
    assert_allclose(tuple(mirrored), tuple(peaks), rtol=1e-7)


def test_an_unstable_mode_has_infinite_peaks_and_no_frequency():
    for alpha in (0.1, 1.9, 0.15):  # 0.15 is the end of the stable interval itself
        peaks = sensitivity_peaks(PID(0.8, 0.5, 0.05), alpha)
        assert (peaks.ms, peaks.mt) == (np.inf, np.inf)
        assert np.isnan([peaks.ms_frequency, peaks.mt_frequency, peaks.bandwidth]).all()


def test_the_four_of_a_complex_mode_are_the_real_form_of_its_own_four():
    """[[Re, -Im], [Im, Re]] of G at a: the eigenvector (1, -i) carries the values of the mode a itself."""
    a, controller = 0.3 + 0.4j, PID(0.6, 0.1)
    four = gang_of_four(loop_of(controller), a)
    num, den = controller.fraction()
    c, plant = np.polyval(num, Z) / np.polyval(den, Z), 1 / (Z - a)
    s = 1 / (1 + plant * c)
    v = np.array([1.0, -1j])
    for key, expected in {"S": s, "T": plant * c * s, "PS": plant * s, "CS": c * s}.items():
        assert_allclose(np.einsum("ijk,j->ki", four[key](Z), v), expected[:, None] * v, atol=1e-9)
