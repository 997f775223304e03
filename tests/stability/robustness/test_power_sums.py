"""Sums over powers by scipy's equations, bounds by closed forms and exact numbers."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.linalg
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.linear.lapack import frobenius
from ctrlattn.stability.robustness import power_sums
from ctrlattn.stability.robustness.power_sums import PowerSums


def matrix(n, kind, radius=0.9):
    rng = np.random.default_rng(n)
    a, error = rng.normal(size=(2, n, n)).astype(kind)
    if kind is complex:
        a, error = a + 1j * rng.normal(size=(n, n)), error + 1j * rng.normal(size=(n, n))
    return radius * a / np.abs(np.linalg.eigvals(a)).max(), error + error.conj().T


KINDS = [(n, kind) for n in (3, 40) for kind in (float, complex)]  # compiled, plain


@every_case("n, kind", KINDS)
def test_sums_over_powers_solve_their_equation(n, kind):
    """By scipy; a residual of either kind, and both sides of A."""
    given, error = matrix(n, kind)
    for series, a in ((PowerSums(given), given), (PowerSums(given).adjoint(), given.conj().T)):
        for which in (error, error.real.copy()):
            expected = scipy.linalg.solve_discrete_lyapunov(a, which)
            assert_allclose(series.summed(which.copy()), expected, rtol=1e-8, atol=1e-9)
            assert_allclose(series.bounded(which, 0.0), frobenius(expected), rtol=1e-10)
        for which in (error[:, :2], error.real[:, :1].copy(), np.hstack([error, error])):
            f = series.factor(which)
            expected = scipy.linalg.solve_discrete_lyapunov(a, which @ which.conj().T)
            assert f.shape == (n, n)
            assert_allclose(f @ f.conj().T, expected, rtol=1e-8, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("kind", [float, complex])
def test_powers_that_overflow_are_refused(kind):
    for n in (2, 40):
        a = np.diag(np.linspace(1.5, 0.5, n)).astype(kind)
        with np.errstate(over="ignore", invalid="ignore"), pytest.raises(ArithmeticError, match="a gramian is"):
            PowerSums(a).factor(np.ones((n, 1), kind))


@pytest.mark.parametrize("squares", [1, 2, 4, 80])
@pytest.mark.parametrize("pole", [0.5, -0.75, 0.5j])
def test_bounds_of_one_state_are_exact(monkeypatch, squares, pole):
    """(1 - |a|^(2^K)) / prod (1 + |a|^(2^k)) = 1 - |a|, and 1/(1 - |a|^(2^(k+1))) follows the first 2^k terms."""
    monkeypatch.setattr(power_sums, "_DOUBLINGS", squares)
    series = PowerSums(np.array([[pole]]))
    assert_allclose(series.distance(), 1 - abs(pole), rtol=1e-13)
    assert_allclose(series._tails, 1 / (1 - abs(pole) ** 2.0 ** (1 + np.arange(len(series._tails)))), rtol=1e-13)
    assert_allclose(series.bounded(np.array([[3.0]]), np.inf), 3.0 / (1 - abs(pole) ** 2), rtol=1e-13)


@every_case("kind", [float, complex])
@every_case("radius", [0.3, 0.9, 0.9999])
@every_case("n", [2, 6, 40])
def test_bounds_are_bounds(n, radius, kind):
    """The distance against the smallest singular value along the circle, sums against the equation."""
    a, r = matrix(n, kind, radius)
    series = PowerSums(a, proving=True)
    poles = np.linalg.eigvals(a)
    circle = np.exp(1j * np.append(np.linspace(0, 2 * np.pi, 60), np.angle(poles)))
    distance = np.linalg.svd(circle[:, None, None] * np.eye(n) - a, compute_uv=False)[:, -1].min()
    assert 0 < series.distance() <= distance * (1 + 1e-12)
    true = frobenius(scipy.linalg.solve_discrete_lyapunov(a, r))
    for enough in (0.0, 2 * true, 10 * true, np.inf):
        bound = series.bounded(r, enough)
        assert bound >= true * (1 - 1e-9)
        assert bound <= max(enough, true * (1 + 1e-9))


def test_bounds_of_sizes_hold_for_the_exact_powers():
    """Fractions: a matrix whose squares cancel, so that what is computed is far below its rounding."""
    a = np.array([[0.1, 1e5], [-1e-7, 0.1]]) @ np.array([[0.7, 0.3], [1e-6, 0.2]])
    exact = [[Fraction(x) for x in row] for row in a.tolist()]
    series = PowerSums(a)
    for computed, bound in list(zip(series._squares, series.sizes, strict=True))[:6]:
        size = frobenius(np.array([[float(x) for x in row] for row in exact]))
        away = frobenius(np.array([[float(x - Fraction(y)) for x, y in zip(*rows, strict=True)]
                                   for rows in zip(exact, computed.tolist(), strict=True)]))  # fmt: skip
        assert size <= bound * (1 + 1e-15)
        assert away <= bound - frobenius(computed) + 1e-30
        exact = [[sum(row[k] * exact[k][j] for k in range(2)) for j in range(2)] for row in exact]


def test_the_rounding_of_a_square_adds_to_what_was_away():
    eps = np.finfo(float).eps
    first, second, third = power_sums._bounds([2.0, 3.0, 0.0], 4)
    assert first == 2.0
    assert_allclose(second - 3.0, 8 * eps * 4.0, rtol=0.1)
    assert_allclose(third, 2 * 3.0 * 32 * eps + 8 * eps * 9.0, rtol=1e-3)


@every_case("pole", [1.0, -1.0, 1.5])
@every_case("n", [2, 40])
def test_nothing_is_proved_of_what_is_not_stable(n, pole):
    rotated = np.linalg.qr(np.random.default_rng(n).normal(size=(n, n)))[0]
    a = rotated @ np.diag(np.append(np.linspace(0.1, 0.8, n - 1), pole)) @ rotated.T
    with np.errstate(over="ignore", invalid="ignore"):
        series = PowerSums(a, proving=True)
    assert series.distance() <= 1e-13


def test_a_factor_of_many_columns_is_a_triangle():
    rng = np.random.default_rng(0)
    for kind in (float, complex):
        f, parts = np.zeros((5, 0), kind), []
        for columns in (2, 2, 3, 1, 5, 7):
            parts.append(rng.normal(size=(5, columns)) + (1j * rng.normal(size=(5, columns)) if kind is complex else 0))
            f = power_sums._join(f, parts[-1])
            whole = np.hstack(parts)
            assert f.shape[1] == min(whole.shape[1], 5)
            assert_allclose(f @ f.conj().T, whole @ whole.conj().T, atol=1e-12)
        assert np.array_equal(f, np.tril(f))


@every_case("kind", [float, complex])
@every_case("n", [5, 40])
def test_small_values_keep_their_digits(n, kind):
    """diag(P) over forty decades: P itself would lose what is below 1e-16."""
    a, scale = np.diag(np.linspace(0.1, 0.9, n)).astype(kind), np.logspace(0, -20, n)
    f = PowerSums(a).factor(np.diag(scale).astype(kind))
    assert_allclose(np.abs(np.diag(f)), scale / np.sqrt(1 - np.diag(a).real ** 2), rtol=1e-12)
