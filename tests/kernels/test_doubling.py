"""Sums over the powers of A against scipy's equations and the plain sums."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import solve_discrete_lyapunov

from ctrlattn.kernels import doubling


def matrix(n, seed=0):
    a = np.random.default_rng([n, seed]).standard_normal((n, n))
    return 0.9 * a / np.abs(np.linalg.eigvals(a)).max()


@pytest.mark.parametrize("n", [1, 2, 5, 20])
@pytest.mark.parametrize("inputs", [1, 3])
@pytest.mark.parametrize("empty", [False, True])
def test_a_factor_solves_its_equation(n, inputs, empty):
    a, b = matrix(n), np.random.default_rng(1).standard_normal((n, inputs))
    if empty:  # no input reaches the first states at once
        b[: n - 1] = 0.0
    powers = np.empty((80, n, n))
    r, count = doubling.factor(a, b, powers)
    p = solve_discrete_lyapunov(a, b @ b.T)
    assert_allclose(r.T @ r, p, atol=1e-12 * np.abs(p).max())
    assert np.array_equal(r, np.triu(r))
    assert 8 <= count <= 14  # 0.9^(2^k) vanishes
    for k in range(3):
        assert_allclose(powers[k], np.linalg.matrix_power(a, 2**k).T, atol=1e-13)
    for known in (1, count):  # powers that are there already are not computed again
        there = np.full_like(powers, np.nan)
        there[:known] = powers[:known]
        again, its = doubling.factor(a, b, there, known)
        assert_allclose(again.T @ again, p, atol=1e-12 * np.abs(p).max())
        assert its == count
    e = doubling.summed(b @ b.T, powers[:count])
    assert_allclose(e, p, atol=1e-12 * np.abs(p).max())


def test_small_values_keep_their_digits():
    """diag(P) over twenty decades: P itself would lose what is below 1e-16."""
    a, scale = np.diag(np.linspace(0.1, 0.9, 5)), 10.0 ** -np.arange(0, 20, 4)
    r, _ = doubling.factor(a, np.diag(scale), np.empty((80, 5, 5)))
    assert_allclose(np.abs(np.diag(r)), scale / np.sqrt(1 - np.diag(a) ** 2), rtol=1e-13)


def test_a_matrix_without_inputs_or_memory():
    r, count = doubling.factor(matrix(3), np.zeros((3, 2)), np.empty((80, 3, 3)))
    assert count == 1
    assert np.all(r == 0)
    shift = np.eye(3, k=1)
    r, count = doubling.factor(shift, np.eye(3)[:, 2:], np.empty((80, 3, 3)))
    assert count == 3
    assert_allclose(r.T @ r, np.eye(3))


def test_powers_that_grow_or_stay_are_told():
    growing = np.diag([2.0, 0.5])
    assert doubling.factor(growing, np.ones((2, 1)), np.empty((80, 2, 2)))[1] == 0
    assert doubling.factor(np.eye(2), np.ones((2, 1)), np.empty((6, 2, 2)))[1] == 7
