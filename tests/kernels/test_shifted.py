"""Shifted solves for many shifts at once, and Lanczos on them, against numpy shift by shift."""

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.kernels import shifted
from ctrlattn.kernels.shifted import BLOCK, SplitComplex

SIZES = [1, 2, 3, BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 2, 2 * BLOCK + 1, 2 * BLOCK + 2]


def case(n, dtype, columns=3, count=5, seed=0):
    rng = np.random.default_rng(seed)

    def random(*shape):
        return rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if dtype is complex else 0)

    shifts = 1.2 * np.sqrt(n) * np.exp(1j * rng.uniform(0, 6, count))
    return random(n, n), random(n, columns, count), shifts


def both(array):
    return SplitComplex(array.real.copy(), array.imag.copy())


def one_by_one(matrix, shifts, right):
    return np.stack(
        [np.linalg.solve(z * np.eye(len(matrix)) - matrix, right[..., s]) for s, z in enumerate(shifts)], -1
    )


@every_case("n", SIZES)
@every_case("dtype", [float, complex])
def test_hessenberg(n, dtype):
    a, right, shifts = case(n, dtype)
    h = np.triu(a, -1)
    x = shifted.solve_hessenberg(shifted.parts(h), shifts, both(right))
    expected = one_by_one(h, shifts, right)
    assert_allclose(x.re + 1j * x.im, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


@every_case("n", SIZES)
@every_case("dtype", [float, complex])
def test_triangular(n, dtype):
    a, right, shifts = case(n, dtype)
    t = np.triu(a)
    x = both(right)
    shifted.solve_triangular(shifted.parts(t), 3 * shifts, x)
    expected = one_by_one(t, 3 * shifts, right)
    assert_allclose(x.re + 1j * x.im, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


def test_a_zero_below_the_diagonal_parts_the_matrix_and_changes_nothing():
    a, right, shifts = case(60, float)
    h = np.triu(a, -1)
    h[30, 29] = h[1, 0] = h[59, 58] = 0.0
    x = shifted.solve_hessenberg(shifted.parts(h), shifts, both(right))
    assert_allclose(x.re + 1j * x.im, one_by_one(h, shifts, right), rtol=0, atol=1e-13)


def test_ill_conditioned_shifts_leave_a_small_residual():
    """Rotations are backward stable: the residual is small even where the solution is large."""
    a, right, _ = case(120, float, columns=1, count=1)
    h = np.triu(a, -1)
    z = np.linalg.eigvals(h)[:1] + 1e-11
    x = shifted.solve_hessenberg(shifted.parts(h), z, both(right))
    x = (x.re + 1j * x.im)[:, 0, 0]
    residual = z[0] * x - h @ x - right[:, 0, 0]
    assert np.linalg.norm(x) > 1e6
    assert np.linalg.norm(residual) < 1e-12 * np.linalg.norm(x) * np.linalg.norm(h)


def test_matrices_in_any_memory_order():
    a, right, shifts = case(70, complex)
    h = np.triu(a, -1)
    expected = one_by_one(h, shifts, right)
    for view in (np.asfortranarray(h), h[::-1][::-1], np.pad(h, 3)[3:-3, 3:-3]):
        x = shifted.solve_hessenberg(shifted.parts(view), shifts, both(right))
        assert_allclose(x.re + 1j * x.im, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("dtype", [float, complex])
def test_products(dtype):
    a, right, _ = case(9, dtype)
    product = shifted.times(shifted.parts(a), slice(2, 7), slice(3, 9), both(right[3:]))
    assert_allclose(product.re + 1j * product.im, np.einsum("ij,jcs->ics", a[2:7, 3:9], right[3:]), atol=1e-13)
    same = shifted.repeated(shifted.parts(a), 4)
    assert_allclose(same.re + 1j * same.im, np.repeat(a[:, :, None], 4, axis=2))


@every_case("k", [1, 2, 7, 20])
def test_largest_of_tridiagonal(k):
    rng = np.random.default_rng(k)
    alpha, beta = rng.uniform(0, 3, (k, 6)), rng.uniform(0, 2, (k - 1, 6))
    for s in range(6):
        full = np.diag(alpha[:, s]) + np.diag(beta[:, s], 1) + np.diag(beta[:, s], -1)
        assert_allclose(shifted.largest_of_tridiagonal(alpha, beta)[s], np.linalg.eigvalsh(full)[-1], rtol=1e-12)


def test_lanczos():
    rng = np.random.default_rng(0)
    factor = rng.standard_normal((4, 50, 50)) + 1j * rng.standard_normal((4, 50, 50))
    matrices = factor @ factor.conj().swapaxes(-1, -2)

    def apply(x, which):
        full = np.einsum("sij,jcs->ics", matrices[which], x.re + 1j * x.im)
        return both(full)

    start = rng.standard_normal((50, 1, 4))
    start /= np.linalg.norm(start, axis=0)
    eigenvalues = shifted.largest_eigenvalue(apply, both(start), 1e-10, 60)
    assert_allclose(eigenvalues, np.linalg.eigvalsh(matrices)[:, -1], rtol=1e-8)
