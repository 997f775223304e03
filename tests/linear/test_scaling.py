"""The scaled system is the system, to the last bit, and its numbers are of size 1."""

import numpy as np
import pytest
import scipy.linalg
from numpy.testing import assert_allclose

from ctrlattn.linear.realization import Realization
from ctrlattn.linear.scaling import _sampled_gain, _times, scaled, times_power


def system(seed, continuous):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(5, 5))
    a = a - (np.linalg.eigvals(a).real.max() + 0.1) * np.eye(5) if continuous else a / 5
    return Realization(a, rng.normal(size=(5, 2)), rng.normal(size=(3, 5)), rng.normal(size=(3, 2)), continuous)


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_response_stays(seed, continuous):
    g = system(seed, continuous)
    t = 10.0 ** np.random.default_rng(seed).uniform(-6, 6, 5)
    rate = 1e7 if continuous else 1.0
    spoilt = Realization(
        rate * g.a * t[:, None] / t, 1e-80 * rate * g.b * t[:, None], 1e30 * g.c / t, 1e-50 * g.d, continuous
    )
    unit = scaled(spoilt)
    w = np.array([0.3, 2.0])
    responses = unit.system.responses(w * rate / unit.rate) * 2.0**unit.exponent
    assert_allclose(responses, 1e-50 * g.responses(w), rtol=1e-9)
    assert max(np.abs(m).max() for m in unit.system[:4]) < 100


@pytest.mark.parametrize("continuous", [False, True])
def test_states_and_inputs_are_in_the_units_that_it_says(continuous):
    g = system(0, continuous)
    unit = scaled(g._replace(b=1e10 * g.b))
    # A = T A' T^-1 rate; B = T B' 2^into, and in continuous time the square root of the rate.
    turned = unit.states[:, None] * unit.system.a / unit.states * unit.rate
    assert np.array_equal(turned, g.a)
    assert np.array_equal(unit.states[:, None] * unit.system.b * 2.0**unit.into * np.sqrt(unit.rate), 1e10 * g.b)


def test_static_zero_and_too_large():
    none = np.zeros((0, 0))
    unit = scaled(Realization(none, np.zeros((0, 1)), np.zeros((1, 0)), np.array([[6.0]]), True))
    assert (unit.system.d[0, 0] * 2.0**unit.exponent, unit.rate) == (6.0, 1.0)
    zero = scaled(Realization(np.array([[0.5]]), np.zeros((1, 1)), np.ones((1, 1)), np.zeros((1, 1)), False))
    assert not np.any(zero.system.b @ zero.system.c)
    with pytest.raises(ArithmeticError, match="beyond the largest float"):
        times_power(0.5, 1100, "q")
    assert times_power(0.5, -3, "q") == 0.0625


@pytest.mark.parametrize("continuous", [False, True])
def test_a_pole_on_the_boundary_hides_no_other_response(continuous):
    """One pole on the boundary, one beside another point of it: there the response is finite, at the end it is not."""
    poles = np.array([0.0, -0.01]) if continuous else np.array([1.0, -0.5])
    turned = np.array([[0.0, 2.0], [-2.0, 0.0]]) + poles[1] * np.eye(2) if continuous else np.array([[poles[1]]])
    a = scipy.linalg.block_diag(poles[:1], turned)
    n = len(a)
    b, c = np.random.default_rng(0).normal(size=(n, 2)), np.random.default_rng(1).normal(size=(3, n))
    point = 2j if continuous else -1.0
    there = np.abs(c @ np.linalg.solve(point * np.eye(n) - a, b)).max()
    g = Realization(a, b, c, np.zeros((3, 2)), continuous)
    assert_allclose(_sampled_gain(g, np.linalg.eigvals(a)), there, rtol=1e-12)


@pytest.mark.parametrize("exponent", [-2000, -1500, -1001, -999, -1, 0, 1, 999, 1001, 1900])
def test_a_power_of_two_beyond_the_floats_is_multiplied_in_two_steps(exponent):
    m = np.ldexp(np.array([[1.0, -3.0]]), -exponent // 2)
    assert _times(m, exponent).tolist() == np.ldexp(m, exponent).tolist()
