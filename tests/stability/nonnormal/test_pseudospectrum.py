"""sigma_min on a grid by inverse Lanczos against an SVD a point, on matrices of every kind."""

import control
import numpy as np
import pytest
import scipy.linalg
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import CausalMean, Loop, pass_operator, pseudospectral_radius, pseudospectrum
from ctrlattn.stability.nonnormal import pseudospectrum as module
from ctrlattn.stability.nonnormal.pseudospectrum import by_svd

N = 64
RNG = np.random.default_rng(0)
Q = np.linalg.qr(RNG.standard_normal((N, N)))[0]
ATTENTION = np.tril(np.exp(3 * RNG.standard_normal((N, N))))
MATRICES = {
    "dense": RNG.standard_normal((N, N)) / 8,
    "complex": (RNG.standard_normal((N, N)) + 1j * RNG.standard_normal((N, N))) / 11,
    "grcar": (np.triu(np.tril(np.ones((N, N)), 3)) - np.eye(N, k=-1)) / 2,
    "automaton": pass_operator(Loop(CausalMean(), order="sequential"), N),
    "parallel automaton": pass_operator(Loop(CausalMean()), N),
    "attention": ATTENTION / ATTENTION.sum(1, keepdims=True),
    "jordan": 0.5 * np.eye(N) + np.eye(N, k=1),
    "delays": np.eye(N, k=1),
    "normal": np.diag(np.linspace(-1, 1, N)),
    "symmetric": Q @ np.diag(np.linspace(-1, 1, N)) @ Q.T,
    "zero": np.zeros((N, N)),
    "identity": np.eye(N),
}


@every_case("name", MATRICES)
def test_within_a_thousandth_of_an_svd_a_point(name):
    a = MATRICES[name]
    grid = np.linspace(-1.9, 2.1, 8)[None, :] + 1j * np.linspace(-2, 2, 9)[:, None]
    sigma = pseudospectrum(a, grid)
    expected = by_svd(a, grid.ravel()).reshape(grid.shape)
    floor = 1e-12 * np.linalg.norm(a, 2)  # below it either is rounding
    assert sigma.shape == grid.shape
    assert_allclose(sigma, expected, rtol=1e-3, atol=floor)


def test_the_outermost_point_of_a_contour_is_the_pseudospectral_radius():
    a = MATRICES["grcar"]
    reach = pseudospectral_radius(a, 1e-3)
    radii = reach + np.array([-1e-3, 0.0, 1e-3])
    angles = np.linspace(0, np.pi, 721)
    sigma = pseudospectrum(a, radii[:, None] * np.exp(1j * angles)).min(axis=1)
    assert sigma[0] < 1e-3 < sigma[2]


def test_at_an_eigenvalue_and_far_away():
    a = np.diag(np.arange(50.0))
    assert_allclose(pseudospectrum(a, [3.0, 1e6, -1e6j]), [0.0, 1e6 - 49, 1e6], rtol=1e-4, atol=1e-12)
    nilpotent = 10 * np.eye(N, k=1)
    assert pseudospectrum(nilpotent, [0.0, 1e-6]).max() < 1e-13


def test_small_matrices_and_shapes():
    assert_allclose(pseudospectrum(np.zeros((1, 1)), 2j), 2.0)
    assert_allclose(pseudospectrum(np.array([[0.5, 1.0], [0.0, 0.5]]), [[0.5]]), [[0.0]], atol=1e-15)
    assert pseudospectrum(np.eye(2), np.empty((0, 3))).shape == (0, 3)
    assert pseudospectrum(np.eye(50), np.empty(0)).shape == (0,)
    system = control.ss(np.diag([0.5, 0.1]), np.ones((2, 1)), np.ones((1, 2)), 0, 1)
    assert_allclose(pseudospectrum(system, [1.0]), 0.5)


def test_refused():
    with pytest.raises(ValueError, match="finite"):
        pseudospectrum(np.eye(2), [np.nan])
    with pytest.raises(ValueError, match="rtol"):
        pseudospectrum(np.eye(2), [1.0], rtol=0.0)
    with pytest.raises(ValueError, match="n <= 3000"):
        pseudospectrum(np.ones((3001, 3001)), [1.0])
    with pytest.raises(ValueError, match="sequence"):
        pseudospectrum([Loop(CausalMean())], [1.0])


@pytest.mark.slow
def test_more_causal_states_than_a_full_matrix_may_have():
    n = 3001
    a = np.diag(np.linspace(0.1, 0.9, n)) + np.eye(n, k=-1)
    # (zI - A)^T (zI - A) of a bidiagonal matrix is tridiagonal.
    diagonal, below = 3.0 - np.diagonal(a), -np.ones(n - 1)
    square = diagonal**2 + np.append(below**2, 0.0)
    least = scipy.linalg.eigvalsh_tridiagonal(square, diagonal[1:] * below, select="i", select_range=(0, 0))
    assert_allclose(pseudospectrum(a, [3.0]), np.sqrt(least), rtol=1e-3)


@every_case("name", ["dense", "complex", "attention", "lower", "upper"])
def test_few_points_of_matrices_with_and_without_structure(name):
    """One of each kind at five points: both halves of the plane, near the spectrum and far from it."""
    rng = np.random.default_rng(3)
    small = 45
    full = rng.standard_normal((small, small)) / np.sqrt(small)
    a = {
        "dense": full, "complex": full + 0.1j * rng.standard_normal((45, 45)), "attention": ATTENTION[:45, :45] / 50,
        "lower": np.tril(full) + 0.3 * np.eye(small, k=-1), "upper": np.triu(full).astype(complex),
    }[name]  # fmt: skip
    grid = np.array([[0.3 + 0.5j, 0.3 - 0.5j], [-1.1, 0.2j], [2.0 - 1j, 0.3 + 0.5j]])
    assert_allclose(pseudospectrum(a, grid), by_svd(a, grid.ravel()).reshape(3, 2), rtol=1e-3)


def test_many_points_by_singular_values():
    """More points than fit in one batch of 256, none left out and none twice."""
    a = np.diag([0.5, -0.25j, 1.0])
    points = np.exp(1j * np.linspace(0, 6, 600)) * np.linspace(0.1, 2, 600)
    expected = np.min(np.abs(points[:, None] - np.diag(a)), axis=1)
    assert_allclose(by_svd(a, points), expected, atol=1e-14)
    assert_allclose(pseudospectrum(a, points), expected, atol=1e-14)


def test_two_eigenvalues_that_are_about_as_near_take_a_smaller_share_of_change():
    """A normal matrix, whose values are distances: the steps stand still between the two before they end."""
    values = np.linspace(-1, 1, 45)
    points = np.exp(1j * np.linspace(0, 6, 600)) * np.linspace(0.1, 2, 600)
    expected = np.min(np.abs(points[:, None] - values), axis=1)
    assert_allclose(pseudospectrum(np.diag(values), points), expected, rtol=1e-2)
    assert_allclose(pseudospectrum(np.diag(values), points, rtol=1e-8), expected, rtol=1e-3)


def test_a_share_of_change_lies_between_0_and_1_and_size_limits_what_is_not_triangular(monkeypatch):
    for rtol in (0.0, 1.0, -1e-5, 2.0, np.nan):
        with pytest.raises(ValueError, match="rtol"):
            pseudospectrum(np.eye(2), [0.5], rtol=rtol)
    monkeypatch.setattr(module, "_LARGEST", 3)
    with pytest.raises(ValueError, match="hours for n = 4: n <= 3 unless A is triangular"):
        pseudospectrum(np.ones((4, 4)), [1.0])
    assert_allclose(pseudospectrum(np.ones((3, 3)), [5.0]), 2.0)
    for triangular in (np.eye(4), np.eye(4, k=1), np.eye(4, k=-1)):
        assert pseudospectrum(triangular, [5.0]) > 3


@pytest.mark.parametrize("n", [6, 60])
def test_a_power_of_two_times_matrix_and_points_has_the_same_digits(n):
    """At 1e-90 the steps of a large matrix had given 0, and at 1e90 seven times too much."""
    a, z = np.random.default_rng(0).standard_normal((n, n)) / n, np.array([[0.5, 0.3 + 0.2j]])
    values = pseudospectrum(a, z)
    for exponent in (-960, -300, 300):
        scaled = np.ldexp(z.real, exponent) + 1j * np.ldexp(z.imag, exponent)
        assert np.array_equal(pseudospectrum(np.ldexp(a, exponent), scaled), np.ldexp(values, exponent))
