"""LAPACK from compiled code against numpy and scipy."""

import numba
import numpy as np
import pytest
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


@pytest.mark.parametrize("size", [0.0, 1e-200, 1e200, np.nan, np.inf])
def test_entries_that_lapack_would_scale_are_not_moderate(size):
    a = np.full((2, 2), size)
    assert not lapack.is_moderate(a)
    a[0, 0] = 1.0
    assert lapack.is_moderate(a) == (size < 1e100)
    assert lapack.is_moderate(np.zeros((0, 0)))
