"""LAPACK's own routines against numpy, for real, complex and singular matrices, and for entries of any size."""

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.linear import lapack


def matrices(dtype, n=6, seed=0):
    rng = np.random.default_rng([n, seed])
    imaginary = 1j if dtype is complex else 0
    a, b, c = (rng.standard_normal(s) + imaginary * rng.standard_normal(s) for s in ((n, n), (n, 2), (3, n)))
    return tuple(m if dtype is complex else m.real for m in (a, b, c))


@every_case("dtype", [float, complex])
@every_case("size", [1e-300, 1e-140, 1.0, 1e150])
def test_eigenvalues_of_entries_of_any_size(dtype, size):
    """scipy 1.17 itself gives eigenvalues of 1e138 for a matrix of 1e150."""
    a = matrices(dtype)[0]
    values = lapack.eigenvalues(a * size) / size
    assert_allclose(np.sort_complex(values), np.sort_complex(np.linalg.eigvals(a)), rtol=1e-12)
    assert lapack.eigenvalues(np.zeros((2, 2))).tolist() == [0.0, 0.0]
    assert lapack.eigenvalues(np.zeros((0, 0))).shape == (0,)


@every_case("dtype", [float, complex])
@every_case("size", [1e-300, 1.0, 1e150])
def test_singular_values_and_the_frobenius_norm(dtype, size):
    c = matrices(dtype)[2]
    s = lapack.singular_values(c * size) / size
    assert_allclose(s, np.linalg.svd(c, compute_uv=False), rtol=1e-12)
    assert_allclose(lapack.frobenius(c), np.linalg.norm(s), rtol=1e-12)
    for m in (c, c.T):
        u, s, vh = lapack.singular_vectors(m)
        assert_allclose(u * s @ vh, m, rtol=1e-12)
        assert_allclose(u.conj().T @ u, np.eye(3), atol=1e-12)
    assert lapack.singular_vectors(np.zeros((0, 2)))[1].shape == (0,)


@pytest.mark.parametrize("dtype", [float, complex])
def test_solutions(dtype):
    a, b, c = matrices(dtype)
    assert_allclose(a @ lapack.solved(a, b), b, atol=1e-12)
    into, out = lapack.solved_on_both_sides(a.astype(complex), b, c)
    assert_allclose(a @ into, b, atol=1e-12)
    assert_allclose(out @ a, c, atol=1e-12)
    assert lapack.solved(np.zeros((0, 0)), np.zeros((0, 2))).shape == (0, 2)


def test_what_has_no_answer_raises():
    nothing, ones = np.full((2, 2), np.nan), np.ones((2, 2))
    for refuse in (
        lambda: lapack.eigenvalues(nothing),
        lambda: lapack.singular_values(nothing),
        lambda: lapack.solved(ones, ones),
        lambda: lapack.solved_on_both_sides(ones.astype(complex), ones, ones),
    ):
        with pytest.raises(np.linalg.LinAlgError):
            refuse()


@pytest.mark.parametrize("complex_one", ["matrix", "right side"])
def test_one_complex_operand_makes_a_complex_solution(complex_one):
    a, b, _ = matrices(float)
    turned, right = matrices(complex)[:2]
    a, b = (turned, b) if complex_one == "matrix" else (a, right)
    assert_allclose(lapack.solved(a, b), np.linalg.solve(a, b), rtol=1e-12)


@every_case("seed", range(5))
@every_case("dtype", [float, complex])
def test_eigenvalues_stand_in_the_order_of_numpy(dtype, seed):
    a = matrices(dtype, 5, seed)[0]
    assert_allclose(lapack.eigenvalues(a), np.linalg.eigvals(a), rtol=1e-10)
    symmetric = a.real + a.real.T
    assert lapack.eigenvalues(symmetric).dtype == float


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_of_what_is_not_finite_are_refused_in_words(bad):
    a = np.eye(3)
    a[1, 2] = bad
    for refuse in (lapack.singular_values, lapack.singular_vectors):
        with pytest.raises(np.linalg.LinAlgError, match="must not contain infs or NaNs"):
            refuse(a)


def test_what_is_empty_has_no_values_and_solutions_of_its_shape():
    assert lapack.singular_values(np.zeros((3, 0))).shape == (0,)
    assert [m.shape for m in lapack.singular_vectors(np.zeros((3, 0)))] == [(3, 0), (0,), (0, 0)]
    into, out = lapack.solved_on_both_sides(np.eye(2) + 0j, np.zeros((2, 0)), np.zeros((0, 2)))
    assert (into.shape, out.shape, into.dtype, out.dtype) == ((2, 0), (0, 2), complex, complex)
    assert lapack.solved(np.eye(2) * 1j, np.zeros((2, 0))).dtype == complex


@pytest.mark.parametrize(
    ("routine", "asks", "message"),
    [
        ("dgeev", lapack.eigenvalues, "Eigenvalues did not converge"),
        ("dgesdd", lapack.singular_values, "SVD did not converge"),
        ("dgesdd", lapack.singular_vectors, "SVD did not converge"),
    ],
)
def test_an_iteration_without_an_end_is_told(monkeypatch, routine, asks, message):
    given = getattr(lapack.lapack, routine)
    monkeypatch.setattr(lapack.lapack, routine, lambda *args, **options: (*given(*args, **options)[:-1], 1))
    with pytest.raises(np.linalg.LinAlgError, match=message):
        asks(np.array([[1.0, 2.0], [3.0, 4.0]]))


def test_the_spectral_radius_is_the_largest_modulus_of_each_matrix():
    every = np.stack([np.diag([0.5, -2.0, 1.0]), np.diag([0.25, 0.0, -0.125])])
    assert lapack.spectral_radii(every).tolist() == [2.0, 0.25]
    assert lapack.spectral_radii(1j * every[None]).tolist() == [[2.0, 0.25]]
