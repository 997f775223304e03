"""sigma_min on a grid by inverse Lanczos against an SVD a point, on matrices of every kind."""

import control
import numpy as np
import pytest
import scipy.linalg
from numpy.testing import assert_allclose

from ctrlattn import CausalMean, Loop, pass_operator, pseudospectral_radius, pseudospectrum
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


@pytest.mark.slow
@pytest.mark.parametrize("name", MATRICES)
def test_within_a_thousandth_of_an_svd_a_point(name):
    a = MATRICES[name]
    grid = np.linspace(-1.9, 2.1, 24)[None, :] + 1j * np.linspace(-2, 2, 25)[:, None]
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
def test_five_thousand_causal_states():
    a = np.diag(np.linspace(0.1, 0.9, 5000)) + np.eye(5000, k=-1)
    # (zI - A)^T (zI - A) of a bidiagonal matrix is tridiagonal.
    diagonal, below = 3.0 - np.diagonal(a), -np.ones(4999)
    square = diagonal**2 + np.append(below**2, 0.0)
    least = scipy.linalg.eigvalsh_tridiagonal(square, diagonal[1:] * below, select="i", select_range=(0, 0))
    assert_allclose(pseudospectrum(a, [3.0]), np.sqrt(least), rtol=1e-3)
