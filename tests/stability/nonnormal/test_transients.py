"""Growth of powers against matrix_power and expm, between its bounds."""

import math

import numpy as np
import pytest
import scipy.linalg
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import CausalMean, Loop, kreiss_constant, pass_operator, transient_growth
from ctrlattn.stability.nonnormal import transients


@pytest.mark.parametrize("dtype", [float, complex])
def test_norms_of_powers(dtype):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((5, 5)) * 0.4 + (1j * rng.standard_normal((5, 5)) * 0.2 if dtype is complex else 0)
    growth = transient_growth(a, 12, bounds=False)
    expected = [np.linalg.norm(np.linalg.matrix_power(a, k), 2) for k in range(13)]
    assert_allclose(growth.norms, expected, rtol=1e-10)
    assert math.isnan(growth.lower)
    assert np.all(growth.asymptotic <= growth.norms * (1 + 1e-9))


def test_continuous_time():
    a = np.array([[-0.5, 6.0], [0.0, -0.7]])
    growth = transient_growth(a, 40, continuous=True, interval=0.1)
    expected = [np.linalg.norm(scipy.linalg.expm(a * t), 2) for t in growth.times]
    assert_allclose(growth.norms, expected, rtol=1e-10)
    assert_allclose(growth.times[-1], 4.0)
    assert np.all(growth.asymptotic <= growth.norms + 1e-12)
    assert np.all(growth.norms <= growth.ceiling + 1e-12)
    assert growth.lower <= growth.peak * (1 + 1e-3) <= growth.upper


@every_case("seed", range(3))
def test_the_kreiss_matrix_theorem(seed):
    rng = np.random.default_rng(seed)
    a = np.triu(rng.standard_normal((8, 8)), 1) + np.diag(rng.uniform(-0.95, 0.95, 8))
    growth = transient_growth(a, 400)
    assert 1.0 < growth.lower <= growth.peak <= growth.upper
    assert growth.lower == kreiss_constant(a)
    assert_allclose(growth.upper, math.e * 8 * growth.lower)
    assert np.all(growth.norms <= growth.ceiling * (1 + 1e-12))
    assert growth.norms[int(growth.peak_time)] == growth.peak


def test_the_automaton_grows_without_bound_though_all_its_poles_are_one():
    growth = transient_growth(pass_operator(Loop(CausalMean(), order="sequential"), 64), 5)
    assert_allclose(growth.norms[[1, 2, 5]], [1.657, 2.603, 7.621], atol=6e-4)
    assert np.all(growth.asymptotic == 1.0)
    assert growth.lower == growth.upper == math.inf


def test_degenerate():
    delays = transient_growth(np.eye(3, k=1), 6)
    assert delays.norms.tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert transient_growth(np.zeros((2, 2)), 0).norms.tolist() == [1.0]
    unstable = transient_growth(np.array([[10.0]]), 400)
    assert_allclose(unstable.norms[300], 1e300, rtol=1e-9)
    assert unstable.norms[-1] == unstable.asymptotic[-1] == math.inf
    shrinking = transient_growth(np.array([[1e-3]]), 200, bounds=False)
    assert_allclose(shrinking.norms[100], 1e-300, rtol=1e-9)


def test_refused():
    with pytest.raises(ValueError, match="whole number"):
        transient_growth(np.eye(2), -1)
    with pytest.raises(ValueError, match="interval"):
        transient_growth(np.eye(2), 3, continuous=True, interval=0.0)
    with pytest.raises(ValueError, match="n <= 1000"):
        transient_growth(np.zeros((1200, 1200)), 1)
    assert transient_growth(np.zeros((1200, 1200)), 1, bounds=False).norms.tolist() == [1.0, 0.0]


def test_the_bounds_of_a_block_in_closed_form():
    """[[a, c], [0, a]]: w = a + c/2, omega = Re a + c/2; the ceilings are 2 w^k and e^{omega t}, 1 at the start."""
    k = np.arange(5)
    discrete = transient_growth(np.array([[0.5, 2.0], [0.0, 0.5]]), 4)
    assert_allclose(discrete.ceiling, [1.0, *(2 * 1.5 ** k[1:])], rtol=1e-12)
    assert_allclose(discrete.asymptotic, 0.5**k, rtol=1e-12)
    assert_allclose(discrete.times, k)
    continuous = transient_growth(np.array([[-0.5, 2.0], [0.0, -0.5]]), 4, continuous=True, interval=0.2)
    assert_allclose(continuous.ceiling, np.exp(0.5 * 0.2 * k), rtol=1e-12)
    assert_allclose(continuous.asymptotic, np.exp(-0.5 * 0.2 * k), rtol=1e-12)
    # ||e^{At}|| = e^{-t/2} (t + sqrt(1 + t^2)), the norm of e^{-t/2} [[1, 2t], [0, 1]].
    t = continuous.times
    assert_allclose(continuous.norms, np.exp(-t / 2) * (t + np.sqrt(1 + t**2)), rtol=1e-12)


@pytest.mark.parametrize("dtype", [float, complex])
def test_norms_of_a_large_matrix_come_from_products_alone_and_are_the_same(dtype):
    rng = np.random.default_rng(1)
    a = rng.standard_normal((410, 410)) + (1j * rng.standard_normal((410, 410)) if dtype is complex else 0)
    a /= 20
    expected = [1.0, np.linalg.norm(a, 2), np.linalg.norm(a @ a, 2)]
    assert_allclose(transient_growth(a, 2, bounds=False).norms, expected, rtol=1e-9)


def test_bounds_are_computed_when_they_are_read_and_are_those_of_the_matrix_that_was_given(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a bound was computed")

    a = np.array([[0.5, 2.0], [0.0, 0.5]])
    with monkeypatch.context() as patch:
        patch.setattr(transients, "kreiss_constant", refuse)
        patch.setattr(transients, "numerical_radius", refuse)
        growth = transient_growth(a, 4)
    a[0, 1] = 0.0
    assert_allclose([growth.lower, growth.upper], [1.25, math.e * 2 * 1.25], rtol=1e-8)
    assert_allclose(growth.ceiling, [1.0, *(2 * 1.5 ** np.arange(1, 5))], rtol=1e-12)


def test_growth_beyond_every_float_is_infinite_and_before_it_exact():
    """e^{at} of one state, and of a block whose norm is (t + sqrt(1 + t^2)) e^{at}, with e^{a interval} no float."""
    growth = transient_growth(np.array([[800.0]]), 3, continuous=True, bounds=False)
    assert growth.norms.tolist() == [1.0, math.inf, math.inf, math.inf]
    assert growth.asymptotic.tolist() == [1.0, math.inf, math.inf, math.inf]
    growth = transient_growth(np.array([[70.0]]), 11, continuous=True, bounds=False)
    assert_allclose(growth.norms[:11], np.exp(70.0 * np.arange(11)), rtol=1e-9)
    assert growth.norms[11] == math.inf
    # 710 a step: e^710 is no float, and what is scaled away comes back.
    growth = transient_growth(np.array([[-1.0, 0.0], [0.0, 705.0]]), 1, continuous=True, bounds=False)
    assert_allclose(growth.norms, [1.0, np.exp(705.0)], rtol=1e-9)
    growth = transient_growth(np.array([[-1e-3, 0.0], [0.0, -5.0]]), 3, continuous=True, interval=2.0, bounds=False)
    assert_allclose(growth.norms, np.exp(-2e-3 * np.arange(4)), rtol=1e-12)


def test_the_peak_is_the_largest_norm_and_its_time():
    growth = transient_growth(np.array([[-0.5, 6.0], [0.0, -0.7]]), 30, continuous=True, interval=0.25)
    k = int(np.argmax(growth.norms))
    assert 0 < k < 30
    assert (growth.peak, growth.peak_time) == (growth.norms[k], 0.25 * k)
    assert_allclose(growth.times, 0.25 * np.arange(31))
    assert growth.continuous
    discrete = transient_growth(np.array([[0.5, 6.0], [0.0, 0.5]]), 6, interval=0.25)  # no unit of time over depth
    assert_allclose(discrete.times, np.arange(7))
    assert discrete.peak_time == 1.0
    assert np.isnan(transient_growth(np.eye(2), 3, bounds=False).ceiling).tolist() == [True] * 4
    assert math.isnan(transient_growth(np.eye(2), 3, bounds=False).upper)


def test_where_rounding_hides_the_kreiss_constant_the_norms_are_left(monkeypatch):
    def hidden(*_, **__):
        raise ArithmeticError("hidden")

    monkeypatch.setattr(transients, "kreiss_constant", hidden)
    growth = transient_growth(np.array([[0.5, 2.0], [0.0, 0.5]]), 3)
    assert math.isnan(growth.lower)
    assert math.isnan(growth.upper)
    assert_allclose(growth.norms[1], np.linalg.norm([[0.5, 2.0], [0.0, 0.5]], 2))


def test_a_large_matrix_of_zeros_and_one_whose_lanczos_steps_do_not_settle(monkeypatch):
    assert transients._norm(np.zeros((401, 401))) == 0.0
    a = np.diag(np.linspace(0, 1, 401))
    a[0, 1] = 3.0

    def never(*_, **__):
        raise transients.ArpackNoConvergence("no", np.zeros(0), np.zeros(0))

    expected = np.linalg.norm(a, 2)
    assert_allclose(transients._norm(a), expected, rtol=1e-10)
    monkeypatch.setattr(transients, "eigsh", never)
    assert_allclose(transients._norm(a), expected, rtol=1e-12)
    assert transients._norm(a[:400, :400]) == np.linalg.norm(a[:400, :400], 2)  # no Lanczos steps up to 400


def test_bad_steps_and_intervals_say_what_they_got():
    for interval in (0.0, -0.5):
        with pytest.raises(ValueError, match=f"interval must be positive, got {interval}"):
            transient_growth(np.eye(2), 3, continuous=True, interval=interval)
    with pytest.raises(ValueError, match="interval"):
        transient_growth(np.eye(2), 3, interval=np.nan)
    assert len(transient_growth(np.zeros((1000, 1000)), 0).norms) == 1


@pytest.mark.parametrize("continuous", [False, True])
def test_the_asymptote_is_that_of_the_outermost_eigenvalue(continuous):
    values = np.array([0.3, -0.9, 0.5]) - (1.0 if continuous else 0.0)
    growth = transient_growth(np.diag(values), 5, continuous=continuous, bounds=False)
    expected = np.exp(-0.5 * np.arange(6)) if continuous else 0.9 ** np.arange(6)
    assert_allclose(growth.asymptotic, expected, rtol=1e-12)
    assert_allclose(growth.norms, expected, rtol=1e-12)  # a normal matrix
