"""Gains from products alone against dense decompositions."""

import numpy as np
import pytest
import scipy.linalg
from cases import every_case
from numpy.testing import assert_allclose
from scipy.sparse.linalg import aslinearoperator

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ctrlattn import InputError
from ctrlattn.stability import numerical_radius
from ctrlattn.stability.nonnormal import krylov
from ctrlattn.stability.nonnormal.krylov import (
    departure,
    eigenvalues,
    inner_radius,
    random_gain,
    singular_triplets,
)


def matrix(seed, rows=30, columns=30):
    """Identity plus a few strong directions, as a layer with a residual connection has."""
    rng = np.random.default_rng(seed)
    strong = rng.standard_normal((rows, 3)) * (3.0, 2.0, 1.0) @ rng.standard_normal((3, columns)) / 10
    return np.eye(rows, columns) + strong + 0.05 * rng.standard_normal((rows, columns))


@every_case("rows, columns", [(30, 30), (20, 35), (35, 20)])
def test_singular_triplets_are_those_of_the_dense_decomposition(rows, columns):
    a = matrix(0, rows, columns)
    triplets = singular_triplets(aslinearoperator(a), 3, steps=15, tolerance=1e-10)
    u, s, vt = np.linalg.svd(a)
    assert_allclose(triplets.values, s[:3], rtol=1e-8)
    assert_allclose(np.abs(np.sum(triplets.right * vt[:3], axis=1)), 1.0, atol=1e-6)
    assert_allclose(np.abs(np.sum(triplets.left * u[:, :3].T, axis=1)), 1.0, atol=1e-6)


def test_errors_bound_the_distance_to_a_singular_value_and_values_are_lower_bounds():
    for seed in range(5):
        a = matrix(seed)
        s = np.linalg.svd(a, compute_uv=False)
        for steps in (2, 4, 6):
            triplets = singular_triplets(aslinearoperator(a), 2, steps=steps, tolerance=0.0, seed=seed)
            assert triplets.steps == steps
            assert np.all(triplets.values <= s[:2] * (1 + 1e-12))
            for value, error in zip(triplets.values, triplets.errors, strict=True):
                assert np.min(np.abs(s - value)) <= error + 1e-12


def test_it_stops_when_it_is_settled_or_the_space_is_used_up():
    assert singular_triplets(aslinearoperator(np.eye(9)), 1, steps=9).steps == 1
    low = np.outer(np.arange(1.0, 8.0), np.ones(7))
    triplets = singular_triplets(aslinearoperator(low), 1, steps=7, tolerance=0.0)
    assert triplets.steps <= 3
    assert_allclose(triplets.values, np.linalg.norm(low, 2))
    assert singular_triplets(aslinearoperator(np.zeros((4, 4))), 2).values.tolist() == [0.0, 0.0]
    identity = singular_triplets(aslinearoperator(np.eye(6)), 3)  # as a layer whose sublayers were dropped
    assert_allclose(identity.values, [1.0, 1.0, 1.0])
    assert_allclose(identity.right @ identity.right.T, np.eye(3), atol=1e-12)


def test_float32_products_are_enough():
    a = matrix(1)
    triplets = singular_triplets(aslinearoperator(a.astype(np.float32)), 1, steps=20)
    assert_allclose(triplets.values, np.linalg.norm(a, 2), rtol=1e-5)


def test_random_gain_estimates_the_frobenius_norm():
    a = matrix(2)
    gains = random_gain(aslinearoperator(a), 4000)
    expected = np.linalg.norm(a) / np.sqrt(30)
    spread = np.std(gains**2) / np.sqrt(4000)
    assert abs(np.mean(gains**2) - expected**2) < 4 * spread
    assert gains.max() <= np.linalg.norm(a, 2)


def test_arnoldi_is_exact_after_n_steps_and_bounds_the_numerical_radius_from_below():
    for seed in range(4):
        a = matrix(seed)
        exact = eigenvalues(aslinearoperator(a), steps=30)
        assert_allclose(exact.radius, np.max(np.abs(np.linalg.eigvals(a))), rtol=1e-8)
        assert_allclose(exact.numerical_radius, numerical_radius(a), rtol=1e-8)
        assert exact.error < 1e-10
        fewer = eigenvalues(aslinearoperator(a), steps=8)
        assert fewer.numerical_radius <= exact.numerical_radius * (1 + 1e-10)
        assert abs(fewer.radius - exact.radius) < 0.05 * exact.radius


def test_an_invariant_direction_ends_arnoldi():
    ritz = eigenvalues(aslinearoperator(2.5 * np.eye(6)), steps=6)
    assert (ritz.steps, round(ritz.radius, 12)) == (1, 2.5)
    assert eigenvalues(aslinearoperator(np.array([[3.0]]))).radius == 3.0


def test_departure_is_the_commutator_and_does_not_see_the_identity():
    a = matrix(3)
    g = a - np.eye(30)
    exact = np.linalg.norm(a.T @ a - a @ a.T) / (np.sqrt(2) * np.linalg.norm(g.T @ g))
    probed = departure(aslinearoperator(a), 2000)
    assert abs(probed.value - exact) < 4 * probed.standard_error
    assert probed.standard_error < 0.05
    assert departure(aslinearoperator(np.eye(4))).value == 0.0


@pytest.mark.slow
def test_departure_of_normal_nilpotent_and_random_matrices():
    rng = np.random.default_rng(0)
    symmetric = rng.standard_normal((8, 8))
    turn = np.linalg.qr(symmetric)[0]
    for normal in (symmetric + symmetric.T, turn, np.eye(8) + symmetric - symmetric.T):
        # Exactly 0 in the mean over all directions; probes leave a remainder.
        assert departure(aslinearoperator(normal), 4000).value < 0.15
    assert departure(aslinearoperator(np.eye(8) + np.eye(8, k=4)), 3).value == 1.0
    ginibre = np.eye(400) + rng.standard_normal((400, 400))
    assert_allclose(departure(aslinearoperator(ginibre), 8).value, np.sqrt(0.5), atol=0.02)


@every_case(
    "call, word",
    [
        (lambda o: singular_triplets(o, 0), r"k must be a whole number in 1 \.\.\. 2, got 0"),
        (lambda o: singular_triplets(o, 2, steps=1), "steps must be a whole number of at least 2, got 1"),
        (lambda o: eigenvalues(o, steps=0), "steps must be a whole number of at least 1, got 0"),
        (lambda o: departure(o, 1), "probes must be a whole number of at least 2, got 1"),
    ],
)
def test_bad_counts(call, word):
    with pytest.raises(ValueError, match=word):
        call(aslinearoperator(np.eye(2)))


def test_square_only():
    wide = aslinearoperator(np.ones((2, 3)))
    for call in (eigenvalues, departure):
        with pytest.raises(ValueError, match="square"):
            call(wide)


def test_the_error_of_a_ritz_value_is_its_residual_times_its_condition():
    """|J y - lambda y|/|z* y| of the Ritz pair, from an orthonormal basis of the same Krylov space."""
    a = matrix(0)
    start = np.random.default_rng(5).standard_normal(30)
    for steps in (3, 6, 9):
        space = [start]
        for _ in range(steps - 1):
            space.append(a @ space[-1] / np.linalg.norm(space[-1]))
        q = np.linalg.qr(np.array(space).T)[0]
        values, left, vectors = scipy.linalg.eig(q.T @ a @ q, left=True)
        top = np.argmax(np.abs(values))
        y, crossed = q @ vectors[:, top], abs(left[:, top].conj() @ vectors[:, top])
        ritz = eigenvalues(aslinearoperator(a), steps=steps, seed=5)
        assert_allclose(ritz.radius, abs(values[top]), rtol=1e-8)
        assert_allclose(ritz.error, np.linalg.norm(a @ y - values[top] * y) / crossed, rtol=1e-6)
        assert_allclose(ritz.numerical_radius, numerical_radius(q.T @ a @ q), rtol=1e-8)
        assert ritz.steps == steps


def test_the_errors_of_singular_triplets_are_residuals_and_decide_when_the_steps_end():
    a = matrix(4)
    triplets = singular_triplets(aslinearoperator(a), 2, steps=30, tolerance=1e-3)
    residuals = np.linalg.norm(triplets.left @ a - triplets.values[:, None] * triplets.right, axis=1)
    assert_allclose(triplets.errors, residuals, rtol=1e-6)
    assert_allclose(triplets.left * triplets.values[:, None], triplets.right @ a.T, atol=1e-12)
    assert np.all(triplets.errors <= 1e-3 * triplets.values[0])
    before = singular_triplets(aslinearoperator(a), 2, steps=triplets.steps - 1, tolerance=0.0)
    assert np.any(before.errors > 1e-3 * before.values[0])


def test_the_standard_error_of_the_departure_is_that_of_a_jackknife():
    a, n = matrix(5), 6
    g = a - np.eye(30)
    v = np.random.default_rng(3).standard_normal((n, 30))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    twice, back = (np.sum((v @ g.T @ m) ** 2, axis=1) for m in (g.T, g))
    without = [np.sqrt(1 - (twice.sum() - t) / (back.sum() - b)) for t, b in zip(twice, back, strict=True)]
    probed = departure(aslinearoperator(a), n, seed=3)
    assert_allclose(probed.value, np.sqrt(1 - twice.sum() / back.sum()), rtol=1e-10)
    assert_allclose(probed.standard_error, np.sqrt((n - 1) * np.var(without)), rtol=1e-8)
    assert probed.probes == n


def test_what_a_basis_leaves_of_a_vector():
    basis = np.eye(4)[[0, 2]]
    w, share, coefficients = krylov._orthogonal(np.array([12.0, 3.0, 0.0, 4.0]), basis)
    assert_allclose(w, [0.0, 0.6, 0.0, 0.8], atol=1e-15)
    assert_allclose(share, 5 / 13, rtol=1e-14)
    assert coefficients.tolist() == [12.0, 0.0]
    assert krylov._orthogonal(np.zeros(4), basis)[1] == 0.0
    assert krylov._orthogonal(np.eye(4)[2], basis)[1] == 0.0


@every_case("k", [1, 2, 3])
@every_case("seed", range(4))
def test_residuals_of_the_small_matrix_may_be_one_and_a_half_times_the_tolerance(seed, k):
    """J'J V = V T + last q e': the residual of each value is last |y_m|/sigma, as a share of the largest value."""
    m = np.random.default_rng(seed).standard_normal((4, 4))
    squares, vectors = np.linalg.eigh(m.T @ m)
    sigma = np.sqrt(squares[-k:])
    share = np.max(np.abs(vectors[-1, -k:]) / sigma) / sigma[-1]
    for last in (0.1, 10.0):
        for allowed, answer in ((0.99, False), (1.01, True)):
            assert krylov._may_be_settled(m.T @ m, last, k, allowed * last * share / 1.5) == answer


def test_triplets_of_a_basis_that_is_mapped_to_nothing_have_no_error():
    basis = np.eye(3)[:2]
    triplets = krylov._triplets(basis, np.zeros((2, 4)), np.zeros((2, 3)), 5)
    assert (triplets.values.tolist(), triplets.errors.tolist(), triplets.steps) == ([0.0, 0.0], [0.0, 0.0], 2)
    # [[3, 0], [0, 4]] on e_1 and e_2: values 4 and 3, and what J' adds beside the basis is the error.
    ahead = np.array([[3.0, 0, 0, 0], [0, 4.0, 0, 0]])
    back = np.array([[9.0, 0, 6.0], [0, 16.0, 2.0]])
    triplets = krylov._triplets(basis, ahead, back, 2)
    assert_allclose(triplets.values, [4.0, 3.0])
    assert_allclose(triplets.errors, [2 / 4, 6 / 3])
    assert_allclose(np.abs(triplets.right), [[0, 1, 0], [1, 0, 0]], atol=1e-15)


@every_case("least", [1e-2, 1e-6, 0.0])  # by the product of the rows with themselves, and by the rows
def test_a_decomposition_is_that_of_the_rows_whatever_their_condition(least):
    rng = np.random.default_rng(7)
    u, v = np.linalg.qr(rng.standard_normal((9, 4)))[0], np.linalg.qr(rng.standard_normal((4, 4)))[0]
    expected = np.array([3.0, 2.0, least])
    rows = v[:, :3] * expected @ u[:, :3].T
    left, sigma, turn = krylov._decompose(rows, 3)
    assert_allclose(sigma, expected, rtol=1e-8, atol=1e-15)
    assert_allclose(turn @ rows, sigma[:, None] * left, atol=1e-12)
    assert_allclose(left @ left.T, np.eye(3), atol=1e-9)
    assert_allclose(np.abs(np.sum(left[:2] * u[:, :2].T, axis=1)), 1.0)


def test_a_random_direction_is_of_unit_length_and_of_the_dtype():
    for dtype in (np.float32, np.float64):
        v = krylov._random(aslinearoperator(np.ones((2, 7), dtype)), 5, 3)
        assert (v.shape, v.dtype) == ((5, 7), dtype)
        assert_allclose(np.linalg.norm(v, axis=1), 1.0, rtol=1e-6)


@every_case("seed", range(5))
def test_the_numerical_radius_on_a_span(seed):
    rng = np.random.default_rng(seed)
    a = matrix(seed, 8, 8) @ np.diag(rng.uniform(-2, 2, 8))
    exact, (u, s, vt) = numerical_radius(a), np.linalg.svd(a)
    basis = rng.standard_normal((8, 8))  # not orthonormal
    assert_allclose(inner_radius(basis, basis @ a.T), exact, rtol=1e-9)
    q = np.linalg.qr(basis[:3].T)[0]
    some = np.concatenate([basis[:3], basis[:1] + basis[1:2]])  # the last says nothing new
    assert_allclose(inner_radius(some, some @ a.T), numerical_radius(q.T @ a @ q), rtol=1e-9)
    pair = np.array([vt[0], u[:, 0]])
    on_singular = inner_radius(pair, pair @ a.T)
    assert s[0] / 2 * (1 - 1e-12) <= on_singular <= exact * (1 + 1e-12)


def test_the_numerical_radius_on_a_span_in_closed_form():
    shift = np.array([[0.0, 4.0], [0.0, 0.0]])  # w = 2
    assert_allclose(inner_radius(np.eye(2), shift.T), 2.0)
    assert_allclose(inner_radius(np.ones((1, 2)), np.ones((1, 2)) @ shift.T), 2.0)  # (1, 1)/sqrt(2) attains it
    assert inner_radius(np.eye(2)[:1], shift.T[:1]) == 0.0
    turn = np.array([[0.0, -3.0], [3.0, 0.0]])  # no real x has x'J x other than 0
    assert_allclose(inner_radius(np.eye(2), turn.T), 3.0)


def test_more_steps_than_the_dimension_are_those_of_the_dimension():
    a = matrix(6, 5, 5)
    ritz = eigenvalues(aslinearoperator(a), steps=50)
    assert ritz.steps == 5
    assert ritz.error < 1e-12
    assert_allclose(ritz.radius, np.abs(np.linalg.eigvals(a)).max(), rtol=1e-10)
    triplets = singular_triplets(aslinearoperator(a), 2, steps=50, tolerance=0.0)
    assert triplets.steps == 5
    assert_allclose(triplets.values, np.linalg.svd(a, compute_uv=False)[:2], rtol=1e-10)


def test_the_error_of_a_radius_covers_a_ritz_value_that_is_on_its_way_beyond_it():
    """-0.999 stands alone and settles first; 1 is the end of a dense interval."""
    for seed in range(10):
        spectrum = np.random.default_rng(seed).uniform(-0.6, 0.998, 200)
        spectrum[:2] = -0.999, 1.0
        found = eigenvalues(aslinearoperator(np.diag(spectrum)), steps=30, seed=seed)
        assert abs(found.radius - 1) <= found.error + 1e-12, seed


def numbers_at(exponent):
    """All that the steps find of 2^exponent times a matrix, scaled back."""
    a = np.ldexp(np.random.default_rng(0).standard_normal((12, 12)), exponent)
    ritz, triplets = eigenvalues(aslinearoperator(a), steps=8), singular_triplets(aslinearoperator(a), 3)
    lengths = [*ritz[:3], *triplets.values, *triplets.errors, *random_gain(aslinearoperator(a), 2)]
    lengths.append(inner_radius(np.eye(12)[:5], a[:, :5].T))
    return [*np.ldexp(lengths, -exponent).tolist(), *triplets.right.ravel().tolist(), *triplets.left.ravel().tolist()]


@every_case("exponent", [-980, -700, -500, -60, 3, 60, 500, 700, 980])
def test_a_power_of_two_times_an_operator_has_the_same_digits(exponent):
    """Squares of 1e-200 underflow: its radius had been 0 with the error 0."""
    assert numbers_at(exponent) == numbers_at(0)


def test_departure_of_operators_of_any_scale():
    a = matrix(3)
    large = [departure(aslinearoperator(scale * a)).value for scale in (2.0**40, 2.0**500, 2.0**900)]
    assert large[1] == large[2]
    assert_allclose(large[0], large[1], rtol=1e-9)
    exact = departure(aslinearoperator(2.0**100 * a.astype(np.float32)))  # its squares are beyond float32
    assert_allclose(exact.value, large[1], rtol=1e-5)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_what_is_not_finite_or_overflows_is_refused():
    broken = aslinearoperator(np.array([[1.0, np.nan], [0.0, 1.0]]))
    for call in (eigenvalues, singular_triplets, departure, lambda o: random_gain(o, 2)):
        with pytest.raises(ArithmeticError, match="not finite"):
            call(broken)
    a = np.full((4, 4), 2e307)  # sigma_1 = |lambda| = 8e307; eight times as much overflows
    assert_allclose(singular_triplets(aslinearoperator(a)).values, 8e307)
    for call in (eigenvalues, singular_triplets):
        with pytest.raises(ArithmeticError, match=r"overflows|not finite"):
            call(aslinearoperator(8 * a))


def test_whole_numbers_are_no_type_of_a_direction_and_complex_ones_are_refused():
    """A unit vector rounded to whole numbers is zero, and so had been all answers."""
    whole = aslinearoperator(np.array([[1, 2], [3, 4]]))
    same = aslinearoperator(np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert eigenvalues(whole) == eigenvalues(same)
    assert singular_triplets(whole).values == singular_triplets(same).values
    assert random_gain(whole, 1) == random_gain(same, 1)
    for call in (eigenvalues, singular_triplets, departure, lambda o: random_gain(o, 2)):
        with pytest.raises(InputError, match="real operator"):
            call(aslinearoperator(np.array([[1j]])))


def test_an_operator_of_single_precision_states_the_rounding_of_its_products():
    covered = 0
    for seed in range(6):
        a = np.random.default_rng(seed).standard_normal((9, 9)).astype(np.float32)
        ritz = eigenvalues(aslinearoperator(a), steps=9)
        away = abs(ritz.radius - np.abs(np.linalg.eigvals(a.astype(float))).max())
        assert away <= ritz.error < 1e-4
        covered += away > 1e-12
    assert covered == 6
