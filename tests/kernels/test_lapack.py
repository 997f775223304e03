"""LAPACK from compiled code against numpy and scipy."""

import numpy as np
import pytest
import scipy.linalg
from numpy.testing import assert_allclose, assert_array_equal

from ctrlattn.kernels import lapack
from ctrlattn.linear import balancing


@pytest.mark.parametrize("n", [1, 2, 5, 20, 80])
def test_every_routine_is_that_of_the_library(n):
    rng = np.random.default_rng(n)
    a, b = rng.standard_normal((2, n, n))
    a[0] *= 1e3
    x, y = rng.standard_normal((n, 3)), rng.standard_normal((2, n))
    re, im, info = lapack.eigenvalues(a)
    assert info == 0
    assert_allclose(np.sort_complex(re + 1j * im), np.sort_complex(np.linalg.eigvals(a)), rtol=1e-8)
    values, info = lapack.complex_eigenvalues(a + 1j * b)
    assert info == 0
    assert_allclose(np.sort_complex(values), np.sort_complex(np.linalg.eigvals(a + 1j * b)), rtol=1e-8)
    solution, info = lapack.solved(a, x)
    assert info == 0
    assert_allclose(a @ solution, x, atol=1e-7)
    solution, info = lapack.complex_solved(a + 1j * b, x + 1j * x[::-1])
    assert info == 0
    assert_allclose((a + 1j * b) @ solution, x + 1j * x[::-1], atol=1e-7)
    into, out, info = lapack.solved_on_both_sides(a + 1j * b, x.astype(complex), y.astype(complex))
    assert info == 0
    assert_allclose((a + 1j * b) @ into.T, x, atol=1e-7)
    assert_allclose(out @ (a + 1j * b), y, atol=1e-7)
    assert_array_equal(lapack.scales(np.abs(b)), balancing.scales(np.abs(b)))
    reduced, tau = lapack.hessenberg(a)
    columns = x.T.copy()
    lapack.turned(reduced, tau, columns)
    h, q = scipy.linalg.hessenberg(a, calc_q=True)
    assert_allclose(np.triu(reduced.T, -1), h, atol=1e-9)
    assert_allclose(columns.T, q.T @ x, atol=1e-9)
    re, im, bottom, info = lapack.pencil_eigenvalues(a.copy(), b.copy())
    assert info == 0
    for k in range(n):
        size = np.hypot(abs(re[k] + 1j * im[k]), bottom[k])
        pencil = bottom[k] * a - (re[k] + 1j * im[k]) * b
        assert np.linalg.svd(pencil, compute_uv=False)[-1] < 1e-10 * size * np.linalg.norm(a)


def test_what_has_no_answer_says_so():
    assert lapack.solved(np.zeros((2, 2)), np.ones((2, 1)))[1] > 0
    assert lapack.complex_solved(np.zeros((2, 2), complex), np.ones((2, 1), complex))[1] > 0
    assert lapack.solved_on_both_sides(*np.zeros((3, 2, 2), complex))[2] > 0
    for size in (0.0, 1e-200, 1e200, np.nan, np.inf):
        assert lapack.eigenvalues(np.full((2, 2), size))[2] != 0
        assert lapack.complex_eigenvalues(np.full((2, 2), size, complex))[1] != 0
    assert lapack.eigenvalues(np.zeros((0, 0)))[2] == 0
    assert lapack.complex_eigenvalues(np.zeros((0, 0), complex))[1] == 0
