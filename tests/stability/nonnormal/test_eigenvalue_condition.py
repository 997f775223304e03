"""The condition of an eigenvalue against left eigenvectors, closed forms and what a disturbance does."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import eig

from ctrlattn.stability.nonnormal.eigenvalue_condition import eigenvalue_condition, ritz_rounding


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_equal_to_that_of_left_eigenvectors(scale):
    for seed in range(20):
        A = scale * np.random.default_rng(seed).standard_normal((6, 6))
        _, left, right = eig(A, left=True)
        for i in range(6):
            assert_allclose(eigenvalue_condition(right, i), 1 / abs(left[:, i].conj() @ right[:, i]), rtol=1e-8)


def test_normal_matrices_have_1_whatever_the_length_of_the_vectors():
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((5, 5)))[0]
    for length in (0.1, 7.0):
        assert_allclose([eigenvalue_condition(length * turn, i) for i in range(5)], 1.0)
    assert eigenvalue_condition(np.array([[2.0]]), 0) == 1.0


@pytest.mark.parametrize("c", [0.0, 1.0, 1e3, 1e6])
def test_the_closed_form_of_two_by_two(c):
    """[[a, c], [0, b]]: sqrt(1 + (c/(a - b))^2) for both."""
    vectors = np.linalg.eig(np.array([[0.5, c], [0.0, 0.25]])).eigenvectors
    assert_allclose([eigenvalue_condition(vectors, i) for i in range(2)], np.sqrt(1 + (c / 0.25) ** 2), rtol=1e-9)


def test_it_is_how_far_the_worst_disturbance_moves_an_eigenvalue():
    A = np.random.default_rng(3).standard_normal((5, 5))
    values, left, right = eig(A, left=True)
    i, size = int(np.abs(values).argmax()), 1e-7
    worst = size * np.outer(left[:, i], right[:, i].conj())
    moved = np.abs(np.linalg.eigvals(A + worst) - values[i]).min()
    assert_allclose(moved / size, eigenvalue_condition(right, i), rtol=1e-4)


def test_eigenvectors_that_do_not_span_the_space_have_no_finite_condition():
    assert eigenvalue_condition(np.array([[1.0, 1.0], [0.0, 0.0]]), 0) == np.inf


def test_rounding_is_that_of_the_eigenvalues_and_of_the_products():
    """10 m units of float64 for m eigenvalues and 4 of the type of the products, times |H|_F."""
    matrices = np.array([np.eye(4), 3 * np.eye(4)])
    units = 40 * 2.0**-52
    assert_allclose(ritz_rounding(matrices), (units + 4 * 2.0**-52) * np.array([2.0, 6.0]), rtol=1e-14)
    assert_allclose(ritz_rounding(matrices[0], np.float32), (units + 4 * 2.0**-23) * 2.0, rtol=1e-14)
