"""LAPACK from compiled code against numpy and scipy."""

import numba
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import hessenberg

from ctrlattn.kernels import lapack
from ctrlattn.linear import balancing


@numba.njit
def routines(a, z, x, sizes, whole):
    """Each routine once, in place: (real parts, imaginary parts, eigenvalues of z, scale, what each says)."""
    n, room = len(a), 66 * len(a) + 66 * 64
    re, im, poles, scale, info = (
        np.empty(n),
        np.empty(n),
        np.empty(n, np.complex128),
        np.empty(n),
        np.zeros(5, np.int64),
    )
    work, complex_work, more, pivots = (
        np.empty(room),
        np.empty(room, np.complex128),
        np.empty(2 * n),
        np.empty(n, np.int32),
    )
    turned, tau = z.copy(), np.empty(n)
    info[0] = lapack.dgeev(lapack.NO, lapack.NO, n, a, n, re, im, work, 1, work, 1, work, room)
    info[1] = lapack.zgeev(lapack.NO, lapack.NO, n, z, n, poles, poles, 1, poles, 1, complex_work, room, more)
    info[2] = lapack.zgesv(n, 1, turned, n, pivots, x, n)
    info[3] = lapack.dgebal(lapack.SCALE, n, sizes, n, 1, n, scale)
    info[4] = lapack.dgehrd(n, 1, n, whole, n, tau, work, room)
    return re, im, poles, scale, info


@pytest.mark.parametrize("n", [1, 2, 5, 20, 80])
def test_every_routine_is_that_of_the_library(n):
    rng = np.random.default_rng(n)
    a, b = rng.standard_normal((2, n, n))
    a[0] *= 1e3
    x, z = rng.standard_normal(n) + 0j, a + 1j * b
    solution, reduced = x.copy(), a.T.copy()
    re, im, poles, scale, info = routines(a.copy(), z.copy(), solution, np.abs(b).T.copy(), reduced)
    assert_array_equal(info, 0)
    assert_allclose(np.sort_complex(re + 1j * im), np.sort_complex(np.linalg.eigvals(a)), rtol=1e-8)
    assert_allclose(np.sort_complex(poles), np.sort_complex(np.linalg.eigvals(z)), rtol=1e-8)
    assert_allclose(z.T @ solution, x, atol=1e-7)  # LAPACK reads the matrix transposed
    assert_array_equal(scale, balancing.scales(np.abs(b)))
    assert_allclose(np.triu(reduced.T, -1), hessenberg(a), atol=1e-9)


def test_a_singular_matrix_is_told():
    zero = np.zeros((2, 2))
    assert routines(np.eye(2), zero + 0j, np.ones(2) + 0j, zero.copy(), zero.copy())[-1].tolist() == [0, 0, 1, 0, 0]


@every_case("size", [0.0, 1e-200, 1e200, np.nan, np.inf])
def test_entries_that_lapack_would_scale_are_not_moderate(size):
    a = np.full((2, 2), size)
    assert not lapack.is_moderate(a)
    a[0, 0] = 1.0
    assert lapack.is_moderate(a) == (size < 1e100)
    assert lapack.is_moderate(np.zeros((0, 0)))


@numba.njit
def more_routines(a, b, z, w):
    """a^-1 b, z^-1 w, z'^-1 w, Q' b of the Hessenberg form of a, singular values, products, one of them inside."""
    n, m, room, info = len(a), len(b), 70 * len(a) + 64 * 64, np.zeros(7, np.int64)
    x, y, left, turned, reduced = b.copy(), w.copy(), w.copy(), b.copy(), a.copy()
    pivots, tau, work, complex_work = np.empty(n, np.int32), np.empty(n), np.empty(room), np.empty(room, np.complex128)
    info[0] = lapack.dgesv(n, m, a.copy(), n, pivots, x, n)
    factors = z.copy()
    info[1] = lapack.zgetrf(n, n, factors, n, pivots)
    info[2] = lapack.zgetrs(lapack.NO, n, m, factors, n, pivots, y, n)
    info[3] = lapack.zgetrs(lapack.TURNED, n, m, factors, n, pivots, left, n)
    info[4] = lapack.dgehrd(n, 1, n, reduced, n, tau, work, room)
    info[4] += lapack.dormhr(lapack.LEFT, lapack.TURNED, n, m, 1, n, reduced, n, tau, turned, n, work, room)
    values, complex_values, extra = np.empty(min(n, m)), np.empty(min(n, m)), np.empty(5 * n)
    info[5] = lapack.dgesvd(lapack.NO, lapack.NO, n, m, b.copy(), n, values, work, 1, work, 1, work, room)
    info[6] = lapack.zgesvd(
        lapack.NO,
        lapack.NO,
        n,
        m,
        w.copy(),
        n,
        complex_values,
        complex_work,
        1,
        complex_work,
        1,
        complex_work,
        room,
        extra,
    )
    product, complex_product = np.zeros((m + 1, n)), np.ones((m, n), np.complex128)
    lapack.dgemm(lapack.TURNED, lapack.NO, n, m, n, 2.0, a, n, b, n, 0.0, (product, n), n)
    lapack.zgemm(lapack.NO, lapack.NO, n, m, n, complex(0.0, 1.0), z, n, w, n, complex(3.0, 0.0), complex_product, n)
    return info, x, y, left, turned, reduced, values, complex_values, product, complex_product


@pytest.mark.slow
@pytest.mark.parametrize(("n", "m"), [(2, 1), (5, 3), (20, 4)])
def test_solves_products_and_singular_values_are_those_of_numpy(n, m):
    """Each matrix stands in memory column by column, as its transpose does row by row."""
    rng = np.random.default_rng(n)
    a, b, z, w = rng.standard_normal((n, n)), rng.standard_normal((n, m)), *rng.standard_normal((2, n, n))
    z, w = a + 1j * z, b + 1j * w[:, :m]
    info, x, y, left, turned, reduced, values, complex_values, product, complex_product = more_routines(
        *(np.ascontiguousarray(matrix.T) for matrix in (a, b, z, w))
    )
    assert_array_equal(info, 0)
    assert_allclose(x.T, np.linalg.solve(a, b), rtol=1e-8)
    assert_allclose(y.T, np.linalg.solve(z, w), rtol=1e-8)
    assert_allclose(left.T, np.linalg.solve(z.T, w), rtol=1e-8)
    form, basis = hessenberg(a, calc_q=True)
    assert_allclose(np.triu(reduced.T, -1), form, atol=1e-9)
    assert_allclose(turned.T, basis.T @ b, atol=1e-9)
    assert_allclose(values, np.linalg.svd(b, compute_uv=False))
    assert_allclose(complex_values, np.linalg.svd(w, compute_uv=False))
    assert_allclose(product[1:].T, 2 * a.T @ b, atol=1e-12 * n)
    assert_array_equal(product[0], 0)
    assert_allclose(complex_product.T, 1j * z @ w + 3, atol=1e-12 * n)
