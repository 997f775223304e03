"""Leading eigenpairs of large matrices against the whole spectrum, on many random kinds; degenerate matrices first."""

import numpy as np
import numpy.testing as npt
import pytest

from ctrlattn.looped.krylov import leading, leading_pairs


def random_matrix(kind, n, rng):
    if kind == "full":
        return rng.standard_normal((n, n)) / np.sqrt(n)
    if kind == "non-normal":
        return np.diag(rng.standard_normal(n)) + np.triu(rng.standard_normal((n, n)), 1) / np.sqrt(n)
    if kind == "symmetric":
        a = rng.standard_normal((n, n))
        return a + a.T
    a = 0.3 * rng.standard_normal((n, n)) / np.sqrt(n)
    a[:8, :8] += 3 * rng.standard_normal((8, 8))
    return a


@pytest.mark.parametrize("kind", ["full", "non-normal", "symmetric", "outliers"])
@pytest.mark.parametrize("score", [np.abs, np.real], ids=["LM", "LR"])
@pytest.mark.parametrize("seed", range(2))
def test_the_leading_eigenvalues_are_those_of_the_whole_spectrum(kind, score, seed):
    rng = np.random.default_rng(seed)
    a = random_matrix(kind, 200, rng)
    pairs = leading_pairs(lambda v: a @ v, 200, 8, score, tol=1e-10, block=1 + 3 * seed, seed=seed)
    every = np.linalg.eigvals(a)
    expected = every[np.argsort(-score(every), kind="stable")[: len(pairs.values)]]
    distance = np.abs(pairs.values[:, None] - expected[None, :])
    assert len(pairs.values) in (8, 9)
    assert max(distance.min(axis=0).max(), distance.min(axis=1).max()) < 1e-6
    npt.assert_allclose(np.linalg.norm(pairs.vectors, axis=0), 1, rtol=1e-12)
    residuals = np.linalg.norm(a @ pairs.vectors - pairs.vectors * pairs.values, axis=0)
    npt.assert_allclose(pairs.residuals, residuals, atol=1e-13)
    assert residuals.max() <= 1e-10 * np.linalg.norm(a, 2)


def test_the_zero_matrix_loses_every_direction_and_has_the_eigenvalue_0():
    pairs = leading_pairs(lambda v: 0 * v, 300, 3, np.abs, tol=1e-10)
    npt.assert_array_equal(pairs.values, 0)


def test_a_multiple_of_the_identity_closes_its_space_at_once():
    pairs = leading_pairs(lambda v: 1.5 * v, 300, 4, np.abs, tol=1e-10, block=2)
    npt.assert_allclose(pairs.values, 1.5, rtol=1e-13)


def test_an_eigenvalue_of_multiplicity_3_is_met_3_times_by_a_block_of_3():
    d = np.append(np.linspace(0, 0.5, 297), [2.0, 2.0, 2.0])
    pairs = leading_pairs(lambda v: d[:, None] * v, 300, 3, np.abs, tol=1e-10, block=3)
    npt.assert_allclose(pairs.values.real, 2.0, rtol=1e-10)


def test_a_defective_eigenvalue_has_a_small_residual():
    def products(v):
        moved = 0.2 * v
        moved[:2] = np.array([[0.9, 1.0], [0.0, 0.9]]) @ v[:2]
        return moved

    pairs = leading_pairs(products, 300, 2, np.abs, tol=1e-10)
    npt.assert_allclose(pairs.values, 0.9, atol=1e-6)
    assert pairs.residuals.max() <= 1e-10 * pairs.norm


def test_products_of_single_precision_reach_their_own_accuracy():
    rng = np.random.default_rng(1)
    a = random_matrix("outliers", 300, rng).astype(np.float32)
    pairs = leading_pairs(lambda v: (a @ v.astype(np.float32)).astype(float), 300, 6, np.abs, tol=1e-5)
    every = np.linalg.eigvals(a.astype(float))
    distance = np.abs(pairs.values[:, None] - every[None, :]).min(axis=1)
    assert distance.max() < 1e-3


def test_what_does_not_converge_is_refused():
    rng = np.random.default_rng(0)
    a = random_matrix("full", 300, rng)
    with pytest.raises(ArithmeticError, match="eigenvalues have residuals of at most 1e-12 of the norm"):
        leading_pairs(lambda v: a @ v, 300, 8, np.abs, tol=1e-12, basis=24, restarts=2)
    with pytest.raises(ArithmeticError, match="not finite"):
        leading_pairs(lambda v: np.full_like(v, np.nan), 300, 2, np.abs, tol=1e-10)


def test_a_pair_is_never_parted():
    values = np.array([3.0, 2 + 1j, 2 - 1j, 0.5])
    assert leading(values, np.abs(values), 2).tolist() == [0, 1, 2]
    assert leading(values, np.abs(values), 3).tolist() == [0, 1, 2]
    # A score that rounding has made unequal parts it neither way.
    assert sorted(leading(values, np.array([3.0, 2.0, 2.0 + 1e-15, 0.5]), 2).tolist()) == [0, 1, 2]


def test_scores_that_are_all_equal_leave_room_to_grow():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((300, 300)))[0]  # every eigenvalue is on the unit circle
    with pytest.raises(ArithmeticError, match="after"):
        leading_pairs(lambda v: turn @ v, 300, 3, np.abs, tol=1e-10, restarts=5)
    pairs = leading_pairs(lambda v: turn @ v, 300, 3, np.real, tol=1e-8)
    expected = np.sort(np.linalg.eigvals(turn).real)[::-1][: len(pairs.values)]
    npt.assert_allclose(np.sort(pairs.values.real)[::-1], expected, atol=1e-6)
