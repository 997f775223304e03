"""One mode: its polynomial against the closed loop, its figures against responses whose figures are known."""

import control
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import CausalMean, Loop
from ctrlattn.errors import InputError
from ctrlattn.linear import step_metrics
from ctrlattn.linear.mode_polynomial import (
    BAND,
    attention_eigenvalue,
    mode_polynomial,
    open_loop_pole,
    outermost_modes,
    overshoot,
    reflection,
    roots,
    sensitivity_of,
    settling,
    static_gain,
    step_responses,
    upper_half,
)


def test_first_order_lag_settles_when_its_power_leaves_the_band():
    pole = 0.8
    metrics = step_metrics(1 - pole ** np.arange(200), 1.0)
    assert metrics.settling == np.ceil(np.log(BAND) / np.log(pole))
    assert (metrics.overshoot, metrics.diverged) == (0.0, False)
    assert_allclose(metrics.steady_state_error, 0.0, atol=1e-12)


def test_overshoot_is_relative_to_the_change():
    y = np.array([1.0, 3.5, 2.8, 3.0, 3.0, 3.0, 3.0, 3.0])
    metrics = step_metrics(y, 4.0)
    assert_allclose([metrics.overshoot, metrics.steady_state_error], [0.25, 1.0])


def test_overshoot_downwards_counts_alike():
    up, down = (step_metrics(sign * np.array([0.0, 1.3, 1.0, 1.0, 1.0, 1.0]), sign) for sign in (1.0, -1.0))
    assert up.overshoot == down.overshoot == pytest.approx(0.3)


def test_known_end_shows_what_the_cut_hides():
    y = 1 - 0.99 ** np.arange(30)
    assert step_metrics(y, 1.0, final=1.0).settling == np.inf
    assert step_metrics(y, 1.0, final=1.0).steady_state_error == 0.0


def test_divergence_and_rest():
    assert step_metrics((-1.3) ** np.arange(40), 1.0).diverged
    assert step_metrics(np.array([0.0, np.inf]), 1.0).settling == np.inf
    still = step_metrics(np.zeros(5), 1.0)
    assert (still.settling, still.overshoot, still.steady_state_error) == (0.0, 0.0, 1.0)
    assert step_metrics(np.array([2.0]), 2.0).settling == 0.0


@pytest.mark.parametrize("wrong", [np.zeros((2, 2)), np.zeros(0)])
def test_refused(wrong):
    with pytest.raises(ValueError, match="layers"):
        step_metrics(wrong, 1.0)


def test_the_settling_step_is_the_last_entry_and_never_a_second_answer():
    y = 1 - 0.905 ** np.arange(61)
    assert BAND == 0.02
    assert settling(y, 1.0) == np.ceil(np.log(0.02) / np.log(0.905)) == 40
    for horizon in range(1, 61):  # within the horizon it is the same number, beyond it there is none
        assert settling(y[: horizon + 1], 1.0) == (40 if horizon >= 40 else np.inf)
        metrics = step_metrics(y[: horizon + 1], 1.0, final=1.0)
        assert metrics.settling == settling(y[: horizon + 1], 1.0)
    # In the band, out again, and back for good.
    assert settling(np.array([0.0, 1.0, 1.0, 1.03, 1.01, 1.0]), 1.0) == 4
    assert settling(np.array([1.0, 1.0, 1.0]), 1.0) == 0


def test_settling_of_many_responses_is_that_of_each():
    rng = np.random.default_rng(0)
    alpha = rng.uniform(-0.95, 0.95, 20) * np.exp(1j * rng.uniform(0, np.pi, 20))
    y = 1 - alpha ** np.arange(200)[:, None]
    for i, a in enumerate(alpha):
        outside = np.flatnonzero(np.abs(a) ** np.arange(200) > BAND)
        assert settling(y, np.ones(20))[i] == (outside[-1] + 1 if outside[-1] < 199 else np.inf)
    # A change of any size and place: the rule is a share of the change.
    for scale, shift in ((1e-6, 0.0), (1e6, 3.0), (-1.0, -2.0)):
        assert (settling(scale * y.real + shift, scale * np.ones(20) + shift) == settling(y.real, np.ones(20))).all()


def test_a_response_of_unknown_end_settles_only_before_its_last_quarter():
    y = 1 - 0.8 ** np.arange(30)
    assert step_metrics(y, 1.0).settling == settling(y, y[-1]) < 22
    slow = 1 - 0.95 ** np.arange(30)  # its own end is no end
    assert np.isfinite(settling(slow, slow[-1]))
    assert step_metrics(slow, 1.0).settling == np.inf


def test_overshoot_along_the_change_of_a_complex_response():
    y = np.array([0.0, 1.2j, 0.9j, 1.0j])
    assert_allclose(overshoot(y, 1.0j), 0.2)
    assert overshoot(np.array([0.0, 0.5, 0.9]), 1.0) == 0.0
    assert overshoot(np.zeros(3), 0.0) == 0.0


NUM, DEN = np.array([0.5, -0.3, 0.1]), np.array([2.0, -1.0, 0.3])


@every_case("alpha", [0.0, 0.7, -1.2, 0.3 + 0.4j])
def test_the_polynomial_is_the_denominator_of_the_closed_loop(alpha):
    p = mode_polynomial(NUM, DEN, alpha)
    expected = (np.polymul([1.0, -alpha], DEN) + np.append(0.0, NUM)) / DEN[0]
    assert_allclose(p, expected, atol=1e-15)
    assert_allclose(np.sort_complex(roots(p)), np.sort_complex(np.roots(expected)), atol=1e-10)
    z = np.exp(1j * np.array([0.0, 0.4, 3.0]))
    c = np.polyval(NUM, z) / np.polyval(DEN, z)
    assert_allclose(sensitivity_of(NUM, DEN, np.array(alpha), z), 1 / (1 + c / (z - alpha)), rtol=1e-12)
    assert_allclose(static_gain(NUM, DEN, alpha), (1 - 1 / (1 + c / (z - alpha)))[0], rtol=1e-12)
    assert (reflection(p) < 1) == (np.abs(np.roots(expected)).max() < 1)


def test_the_step_response_is_python_controls():
    alpha = np.array([0.2, -0.6])
    y = step_responses(NUM, DEN, alpha, 25)
    for i, a in enumerate(alpha):
        t = control.tf(NUM, np.polymul([1.0, -a], DEN) + np.append(0.0, NUM), 1)
        assert_allclose(y[:, i], control.step_response(t, timepts=np.arange(26)).outputs, atol=1e-12)


def test_static_gain_of_an_integrator_of_nothing_and_of_a_pole_at_one():
    assert static_gain(np.array([0.5, 0.0]), np.array([1.0, -1.0]), 0.3) == 1.0
    assert static_gain(np.zeros(1), np.ones(1), 0.4) == static_gain(np.zeros(1), np.ones(1), 1.0) == 0.0
    assert np.isnan(static_gain(np.array([-0.5]), np.ones(1), 0.5))  # 1 - alpha + C(1) = 0


def test_the_outermost_modes_lie_on_the_hull_and_pairs_are_one():
    upper = np.exp(1j * np.pi * np.arange(1, 8) / 8)
    circle = np.concatenate([[1.0, -1.0], upper, np.conj(upper)])
    outer = outermost_modes(np.concatenate([circle, 0.3 * circle]), 16, 0)
    assert_allclose(np.sort(np.angle(outer)), np.sort(np.angle(circle)), atol=1e-12)
    assert_allclose(np.abs(outer), 1.0)
    half = upper_half(outer)
    assert len(half) == 9
    assert np.all(half.imag >= 0)
    # The directions go all the way round, so that one mode alone is found in either half.
    alone = np.array([0.0, 1j, 0.1])
    assert 1j in outermost_modes(alone, 4, 0)
    assert -1j in outermost_modes(np.conj(alone), 4, 0)
    assert_allclose(outermost_modes(np.linspace(0, 1, 101), 2, 5), [0.0, 0.25, 0.5, 0.75, 1.0])


def test_reflection_coefficients_agree_with_roots():
    rng = np.random.default_rng(0)
    inside = rng.uniform(0, 1.4, (300, 4)) * np.exp(2j * np.pi * rng.random((300, 4)))
    p = np.array([np.poly(r) for r in inside])
    assert_allclose(reflection(p) < 1, np.abs(inside).max(1) < 1)
    assert not reflection(np.array([1.0, 0.0, 1.0])) < 1  # on the circle


def test_the_eigenvalue_of_a_pole_is_the_inverse_of_the_pole_of_an_eigenvalue():
    a = np.array([0.3, -1.2, 0.5 + 0.4j])
    loop = Loop(CausalMean(), skip=0.7, feedback=-0.4)
    assert_allclose(open_loop_pole(loop, a), 0.7 - 0.4 * a)
    assert_allclose(attention_eigenvalue(loop, open_loop_pole(loop, a)), a, rtol=1e-15)
    with pytest.raises(InputError, match="feedback = 0"):
        attention_eigenvalue(Loop(CausalMean(), feedback=0.0), 1.0)
    with pytest.raises(InputError, match="sequence of 2 different layers"):
        attention_eigenvalue([loop, loop], 1.0)


@pytest.mark.parametrize("size", [1e3, 1e6])
def test_rounding_of_a_large_constant_is_no_motion(size):
    y = size + size * np.array([0.0, 1e-14, -2e-14, 1e-14])
    assert settling(y, size) == 0


def test_a_response_that_overflows_has_diverged_to_where_it_is_last():
    lost = step_metrics(np.array([0.0, 1.0, -np.inf]), 1.0)
    assert (lost.final, lost.settling, lost.diverged) == (-np.inf, np.inf, True)
    assert np.isnan([lost.overshoot, lost.steady_state_error]).all()


@pytest.mark.parametrize(("growth", "diverged"), [(1.9, False), (2.1, True)])
def test_a_response_diverges_where_its_last_quarter_travels_twice_as_far_as_all_before(growth, diverged):
    # Twelve values, of which the last three are the last quarter; it never enters the band before them.
    y = 5.0 + np.array([0.0, 1, -1, 1, -1, 1, -1, 1, -1, growth, -growth, growth])
    metrics = step_metrics(y, 1.0)
    assert (metrics.settling, metrics.diverged) == (np.inf, diverged)
    assert (metrics.final, metrics.steady_state_error) == (5 + growth, pytest.approx(-4 - growth))


def test_a_stack_of_modes_is_mode_by_mode():
    rng = np.random.default_rng(3)
    num, den, alpha = rng.normal(size=(2, 3, 3)), np.array([2.0, -0.6, 0.1]), rng.normal(size=(2, 3))
    p, y = mode_polynomial(num, den, alpha), step_responses(num, den, alpha, 6)
    assert (p.shape, y.shape) == ((2, 3, 4), (7, 2, 3))
    for i, j in np.ndindex(2, 3):
        assert_allclose(p[i, j], mode_polynomial(num[i, j], den, alpha[i, j]), rtol=1e-14)
        assert_allclose(np.poly(roots(p)[i, j]), p[i, j], rtol=1e-10, atol=1e-12)
        assert_allclose(reflection(p)[i, j], reflection(p[i, j]), rtol=1e-12)
        assert_allclose(y[:, i, j], step_responses(num[i, j], den, alpha[i, j], 6), rtol=1e-12)
    # One numerator for all modes.
    assert_allclose(step_responses(num[0, 0], den, alpha, 6)[:, 1, 2], step_responses(num[0, 0], den, alpha[1, 2], 6))


def test_of_few_samples_the_last_alone_is_late():
    metrics = step_metrics(np.array([0.0, 0.5, 0.9, 1.0, 1.0]), 1.0)
    assert (metrics.settling, metrics.diverged) == (3, False)


def test_an_odd_number_of_directions_finds_the_farthest_and_not_the_nearest():
    triangle = np.exp(2j * np.pi * np.arange(3) / 3)
    modes = np.concatenate([triangle, -0.4 * triangle, [0.1]])
    found = outermost_modes(modes, 3, 0)
    assert_allclose(np.sort_complex(found), np.sort_complex(triangle))
