"""Sums over the powers of A against scipy's equations and the plain sums."""

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose
from scipy.linalg import solve_discrete_lyapunov

from ctrlattn.kernels import doubling


def matrix(n, seed=0):
    a = np.random.default_rng([n, seed]).standard_normal((n, n))
    return 0.9 * a / np.abs(np.linalg.eigvals(a)).max()


@every_case("n", [1, 2, 5, 20])
@every_case("inputs", [1, 3])
@every_case("empty", [False, True])
def test_a_factor_solves_its_equation(n, inputs, empty):
    a, b = matrix(n), np.random.default_rng(1).standard_normal((n, inputs))
    if empty:  # no input reaches the first states at once
        b[: n - 1] = 0.0
    powers, sizes, overflow = doubling.squares(a, 80)
    assert 8 <= len(powers) <= 14  # 0.9^(2^k) vanishes
    assert not overflow
    assert_allclose(sizes, np.linalg.norm(powers, axis=(1, 2)), rtol=1e-14)
    for k in range(3):
        assert_allclose(powers[k], np.linalg.matrix_power(a, 2**k), atol=1e-13)
    f, ended = doubling.factor(b, powers)
    p = solve_discrete_lyapunov(a, b @ b.T)
    assert ended
    assert_allclose(f @ f.T, p, atol=1e-12 * np.abs(p).max())
    assert np.array_equal(f, np.tril(f))
    assert not doubling.factor(b, powers[:4])[1]  # 16 terms are not all


@pytest.mark.parametrize("n", [1, 4])
def test_a_bound_is_the_sum_or_its_first_terms_times_what_follows(n):
    a, r = matrix(n), np.random.default_rng(2).standard_normal((n, n))
    r = r + r.T
    powers = doubling.squares(a, 80)[0]
    full, two = (np.linalg.norm(x) for x in (solve_discrete_lyapunov(a, r), r + a @ r @ a.T))
    tails = np.arange(3.0, 3.0 + len(powers))
    assert_allclose(doubling.bounded(r, powers, tails, 0.0), full, rtol=1e-12)
    assert_allclose(doubling.bounded(r, powers, tails, np.inf), 3 * np.linalg.norm(r), rtol=1e-12)
    tails[0] = np.inf
    assert_allclose(doubling.bounded(r, powers, tails, 4 * two * (1 + 1e-12)), 4 * two, rtol=1e-12)


def test_small_values_keep_their_digits():
    """diag(P) over twenty decades: P itself would lose what is below 1e-16."""
    a, scale = np.diag(np.linspace(0.1, 0.9, 5)), 10.0 ** -np.arange(0, 20, 4)
    f, _ = doubling.factor(np.diag(scale), doubling.squares(a, 80)[0])
    assert_allclose(np.abs(np.diag(f)), scale / np.sqrt(1 - np.diag(a) ** 2), rtol=1e-13)


def test_a_matrix_without_inputs_or_memory():
    f, ended = doubling.factor(np.zeros((3, 2)), doubling.squares(matrix(3), 80)[0])
    assert ended
    assert np.all(f == 0)
    powers, sizes, overflow = doubling.squares(np.eye(3, k=1), 80)
    assert sizes.tolist() == [np.sqrt(2), 1.0, 0.0]
    assert not overflow
    f, ended = doubling.factor(np.eye(3)[:, 2:], powers)
    assert ended
    assert_allclose(f @ f.T, np.eye(3))


def test_powers_that_grow_or_stay_are_told():
    powers, sizes, overflow = doubling.squares(np.diag([2.0, 0.5]), 80)
    assert overflow
    assert_allclose(sizes, [np.hypot(2.0**k, 0.5**k) for k in 2.0 ** np.arange(len(powers))])
    assert len(doubling.squares(np.eye(2), 6)[0]) == 6
    assert not doubling.factor(np.ones((2, 1)), doubling.squares(np.eye(2), 6)[0])[1]
