"""The scaled system is the system, to the last bit, and its numbers are of size 1."""

import numpy as np
import pytest
import scipy.linalg
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.linear.realization import Realization
from ctrlattn.linear.scaling import _sampled_gain, _times, scaled, times_power


def system(seed, continuous):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(5, 5))
    a = a - (np.linalg.eigvals(a).real.max() + 0.1) * np.eye(5) if continuous else a / 5
    return Realization(a, rng.normal(size=(5, 2)), rng.normal(size=(3, 5)), rng.normal(size=(3, 2)), continuous)


@every_case("continuous", [False, True])
@every_case("seed", range(5))
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


@every_case("exponent", [-2000, -1500, -1001, -999, -1, 0, 1, 999, 1001, 1900])
def test_a_power_of_two_beyond_the_floats_is_multiplied_in_two_steps(exponent):
    m = np.ldexp(np.array([[1.0, -3.0]]), -exponent // 2)
    assert _times(m, exponent).tolist() == np.ldexp(m, exponent).tolist()


@every_case("pole", [0.5, 0.75, -0.875, 0.9375])
@every_case("into, out", [(0, 0), (300, -100), (-99, 300), (-900, 900)])
def test_one_state_is_scaled_to_a_gain_of_one(pole, into, out):
    """2^(into + out)/(z - pole) has its peak 2^(into + out)/(1 - |pole|), an exact power of two."""
    peak = -int(np.log2(1 - abs(pole)))
    g = Realization(np.array([[pole]]), np.array([[2.0**into]]), np.array([[2.0**out]]), np.zeros((1, 1)), False)
    unit = scaled(g)
    assert unit.exponent == into + out + peak + 1
    gain = unit.system.c / (np.sign(pole) - pole) * unit.system.b
    assert abs(gain.item()) == 0.5
    assert 0.5 <= unit.states[0] <= 2.0  # the size of the input is taken out before the states are scaled
    assert (unit.states * unit.system.b * 2.0**unit.into).item() == 2.0**into
    asked = scaled(g, 2.0 ** (into + out + 7))
    assert asked.exponent == into + out + 8
    assert (asked.system.c * asked.system.b).item() == 2.0**-8


def test_a_direct_term_counts_where_it_is_larger():
    g = Realization(np.array([[0.5]]), np.array([[1.0]]), np.array([[1.0]]), np.array([[-1024.0]]), False)
    unit = scaled(g)
    assert (unit.exponent, unit.system.d.item()) == (11, -0.5)
    assert (unit.system.c * unit.system.b).item() == 2.0**-11


@pytest.mark.parametrize("continuous", [False, True])
def test_the_response_at_the_end_of_the_axis_counts_where_it_is_the_largest(continuous):
    """Poles next to the boundary are weak and lie at z = -1; a strong one farther inside is seen at z = 1."""
    poles = np.array([-0.1 + 3j, -0.1 - 3j, -0.5]) if continuous else np.array([-0.95, -0.9, 0.5])
    strong = np.diag([1e-3, 1e-3, 1.0]).astype(complex if continuous else float)
    g = Realization(np.diag(poles), strong, np.eye(3), np.zeros((3, 3)), continuous)
    assert_allclose(_sampled_gain(g, poles), 2.0, rtol=1e-12)
    assert _sampled_gain(Realization(poles[:0, None], strong[:0], strong[:, :0], strong, continuous), None) == 1.0


def test_continuous_time_is_measured_in_units_of_its_rates():
    """Entries of A of size 2^20: time in units of 2^-20, so that they are of size 1; the inputs by its root."""
    a = -np.ldexp(np.array([[0.5, 0.0], [0.25, 0.75]]), 20)
    g = Realization(a, np.ones((2, 1)), np.ones((1, 2)), np.zeros((1, 1)), True)
    unit = scaled(g)
    assert unit.rate == 2.0**20
    assert np.abs(unit.system.a).max() == 0.75
    still = scaled(g._replace(a=np.zeros((2, 2))))
    assert still.rate == 1.0


def test_a_number_times_a_power_of_two_is_exact_or_refused_with_its_name():
    assert times_power(0.75, -1073, "q") == 1.5 * 2.0**-1074
    assert times_power(0.5, 1024, "q") == 2.0**1023
    with pytest.raises(ArithmeticError, match=r"hinf_norm: 0.75 2\^1025 is beyond the largest float"):
        times_power(0.75, 1025, "hinf_norm")
