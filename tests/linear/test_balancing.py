"""Scaling of states: the transfer function stays to the last bit, the entries come near each other."""

import numpy as np
from cases import every_case
from numpy.testing import assert_allclose, assert_array_equal

from ctrlattn.linear import balancing
from ctrlattn.linear.balancing import balanced, state_scaling


@every_case("seed", range(10))
def test_powers_of_two_that_bring_a_badly_scaled_system_back(seed):
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=(5, 5)), rng.normal(size=(5, 2)), rng.normal(size=(3, 5))
    units = 2.0 ** rng.integers(-30, 30, 5)
    spoilt = (a * units / units[:, None], b / units[:, None], c * units)
    scale = state_scaling(*spoilt)
    assert_array_equal(np.frexp(scale)[0], 0.5)
    mended = (spoilt[0] * scale / scale[:, None], spoilt[1] / scale[:, None], spoilt[2] * scale)
    assert np.linalg.norm(mended[0]) < 10 * np.linalg.norm(a)
    assert_allclose(mended[2] @ mended[0] @ mended[1], c @ a @ b, rtol=1e-10)
    # Neither inputs nor outputs carry what belongs to the states.
    assert 1e-2 < np.linalg.norm(mended[1]) / np.linalg.norm(mended[2]) < 1e2


def test_no_states():
    assert state_scaling(np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0))).shape == (0,)


def test_a_large_diagonal_hides_nothing():
    a = -1e6 * np.eye(2) + np.array([[0.0, 2.0**20], [2.0**-20, 0.0]])
    scale = state_scaling(a, np.zeros((2, 1)), np.zeros((1, 2)))
    assert scale[0] / scale[1] == 2.0**20
    assert_array_equal(balanced(a), -1e6 * np.eye(2) + np.array([[0.0, 1.0], [1.0, 0.0]]))


def test_inputs_in_units_of_outputs_are_one_factor_of_all_states():
    """A without couplings scales each state by sqrt(|b_i|/|c_i|); the diagonal and the inner unit do not count."""
    a, rows = np.diag([3.0, -1e9, 0.5]), np.array([1.0, 4.0, 16.0])
    for exponent in (0, 40, 601):
        b, c = np.ldexp(rows, exponent)[:, None], np.array([[1.0, 1.0, 1.0]])
        assert_array_equal(np.frexp(state_scaling(a, b, c))[0], 0.5)
        assert np.all(np.abs(np.log2(state_scaling(a, b, c)) - np.log2(rows) / 2 - exponent / 2) <= 1)


@every_case("missing", ["inputs", "outputs", "both"])
def test_what_neither_enters_nor_leaves_has_the_unit_of_its_couplings(missing):
    a = np.array([[0.1, 2.0**12], [2.0**-12, 0.2]])
    b = np.zeros((2, 3)) if missing != "outputs" else np.array([[2.0**20, 0, 0], [0, 0, 0]])
    c = np.zeros((4, 2)) if missing != "inputs" else np.array([[2.0**20, 0], [0, 0], [0, 0], [0, 0]])
    scale = state_scaling(a, b, c)
    assert np.all(np.isfinite(scale))
    assert scale[0] / scale[1] == 2.0**12


def test_several_inputs_count_by_their_length_and_one_by_its_size():
    rows = np.array([[3.0, 4.0], [-5.0, 0.0]])
    assert_array_equal(balancing._lengths(rows), [5.0, 5.0])
    assert_array_equal(balancing._lengths(rows[:, :1]), [3.0, 5.0])
    assert_array_equal(balancing._lengths(np.full((2, 1), 1e-200)), [1e-200] * 2)


@every_case("n", [1, 2, 3, 5])
def test_a_diagonal_neither_moves_nor_hides_what_is_balanced(n):
    rng = np.random.default_rng(n)
    core = rng.normal(size=(n, n))
    units = 2.0 ** rng.integers(-20, 20, n)
    a = core * units[:, None] / units
    diagonal = 1e12 * np.diag(rng.normal(size=n))
    off = a - np.diag(np.diag(a))
    assert_array_equal(balanced(off + diagonal), balanced(off) + diagonal)


@every_case("into", [-900, -300, 0, 301, 900])
@every_case("out", [-900, -300, 0, 301, 900])
def test_states_of_inputs_and_outputs_of_any_size_are_in_units_between_the_two(into, out):
    a, rows = np.diag([0.5, 0.25]), np.array([1.0, 1024.0])
    scale = state_scaling(a, np.ldexp(rows, into)[:, None], np.ldexp(np.ones((1, 2)), out))
    assert np.all(np.abs(np.log2(scale) - np.log2(rows) / 2 - (into - out) / 2) <= 1)


@every_case("into, out", [(-300, -900), (-900, -300), (301, -901), (-901, 301), (0, -900), (0, 0)])
def test_coupled_states_have_one_unit_which_one_that_no_input_reaches_has_as_well(into, out):
    b, c = np.array([[1.0], [0.0]]), np.array([[0.0, 1.0]])
    scale = state_scaling(np.array([[0.5, 1.0], [1.0, 0.25]]), np.ldexp(b, into), np.ldexp(c, out))
    assert np.all(np.abs(np.log2(scale) - (into - out) / 2) <= 1)


@every_case("n", [2, 3, 5])
def test_a_diagonal_does_not_count_between_inputs_and_outputs(n):
    rng = np.random.default_rng(n)
    units = 2.0 ** rng.integers(-20, 20, n)
    a = rng.normal(size=(n, n)) * units[:, None] / units
    b, c = rng.normal(size=(n, 2)) * units[:, None], rng.normal(size=(1, n)) / units
    diagonal = 1e12 * np.diag(rng.normal(size=n))
    assert_array_equal(state_scaling(a + diagonal, b, c), state_scaling(a, b, c))
