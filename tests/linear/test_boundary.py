"""Stability decided against exact eigenvalues: poles on the boundary in dense matrices, and poles just inside."""

import control
import mpmath
import numpy as np
import pytest
import scipy.linalg
from cases import every_case

from ctrlattn.linear import boundary
from ctrlattn.linear.boundary import boundary_point, clearly_stable, growth, is_marginal, is_stable_matrix
from ctrlattn.linear.realization import realization


def dense(seed, *, radius=1.0):
    """A = T D T^-1, one pole (or a pair) at this modulus or at -1 + radius, the others well inside."""
    rng = np.random.default_rng(seed)
    n, kind, continuous = int(rng.integers(2, 9)), seed % 3, bool(seed % 2)
    inside = -(10.0 ** rng.uniform(-2, 2, n)) if continuous else rng.uniform(-0.95, 0.95, n)
    d, angle = np.diag(inside), rng.uniform(0.1, 3.0)
    if kind == 2:
        x, y = (radius - 1, angle) if continuous else (radius * np.cos(angle), radius * np.sin(angle))
        d[:2, :2] = [[x, y], [-y, x]]
    else:
        d[0, 0] = radius - 1 if continuous else radius * (1 - 2 * kind)
    t = rng.normal(size=(n, n))
    return t @ d @ np.linalg.inv(t), continuous


@every_case("seed", range(120))
def test_a_pole_on_the_boundary_is_not_inside_whatever_its_rounding_says(seed):
    a, continuous = dense(seed)
    assert not is_stable_matrix(a, continuous=continuous)


@pytest.mark.slow
@every_case("seed", range(40))
def test_a_pole_that_is_clearly_inside_or_outside_is_what_exact_eigenvalues_say(seed):
    a, continuous = dense(seed, radius=1 - 1e-7 if seed % 4 else 1 + 1e-7)
    with mpmath.workdps(40):
        exact = [complex(z) for z in mpmath.eig(mpmath.matrix(a.tolist()), left=False, right=False)]
    assert is_stable_matrix(a, continuous=continuous) == bool(np.max(growth(np.array(exact), continuous)) < 0)


def test_triangular_blocks_decide_alone():
    a = np.triu(1e6 * np.ones((40, 40)), 1) + np.diag(np.linspace(-0.9999, 0.9999, 40))
    assert is_stable_matrix(a, continuous=False)
    assert is_stable_matrix(a[::-1, ::-1], continuous=False)
    shuffled = np.random.default_rng(0).permutation(40)
    assert is_stable_matrix(a[np.ix_(shuffled, shuffled)], continuous=False)
    assert not is_stable_matrix(a + np.diag(np.eye(40)[7] * 2), continuous=False)


@pytest.mark.parametrize("small", [1e-12, 1e-6])
def test_small_poles_of_graded_matrices_are_decided(small):
    """Poles -small and -1/small: the small one is no matter of rounding in the large one."""
    a = np.array([[0.0, 1.0], [-1.0, -1 / small]])
    assert is_stable_matrix(a, continuous=True)
    assert not is_stable_matrix(np.array([[0.0, 1.0], [1.0, -1 / small]]), continuous=True)


@every_case("roots", [[1.0, 0.7], [-1.0, 0.3], [1.0, 0.7, 0.99, 0.98], [0.6 + 0.8j, 0.6 - 0.8j, 0.9]])
def test_a_transfer_function_with_a_root_on_the_circle_is_marginal(roots):
    den = np.real(np.poly(roots))
    assert is_marginal(den, continuous=False)
    assert not realization(control.tf([0.1], den, 1), "q").is_stable()
    inside = np.real(np.poly(0.9999 * np.array(roots)))
    assert not is_marginal(inside, continuous=False)
    assert realization(control.tf([0.1], inside, 1), "q").is_stable()


def test_roots_on_the_axis():
    assert is_marginal(np.polymul([1.0, 0.0, 2.0], [1.0, 0.7]), continuous=True)
    assert is_marginal([1.0, 2.0, 0.0], continuous=True)
    assert not is_marginal([1.0, 1e-9, 2.0], continuous=True)


def test_the_point_beside_a_pole():
    assert boundary_point(0.3 - 0.4j, False) == pytest.approx(0.6 - 0.8j)
    assert boundary_point(-3 + 4j, True) == 4j
    assert boundary_point(0j, False) == 1


@every_case("kind", [0, 1j])
@every_case("continuous", [False, True])
def test_pole_by_pole_the_answer_is_that_of_the_eigenvalues(continuous, kind):
    """The quotient y* S x / y* x of the second look, on non-normal matrices too, which do not need it."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        a = np.triu(rng.normal(size=(5, 5)) + kind * rng.normal(size=(5, 5)), 1) + 0.3 * rng.normal(size=(5, 5))
        values = np.linalg.eigvals(a)
        a = a - values.real.max() * np.eye(5) if continuous else a / np.abs(values).max()
        side = 0.02 if seed % 2 else -0.02
        a = a + side * np.eye(5) if continuous else (1 + side) * a
        centre = 0.0 if continuous else 1.0
        assert boundary._decide(a, a - centre * np.eye(5), centre) == (side < 0)


def test_what_is_clear_for_many_matrices_is_what_each_alone_is_found_to_be():
    rng = np.random.default_rng(31)
    for n in (1, 2, 3, 6):
        matrices = rng.normal(size=(150, n, n))
        size = np.abs(np.linalg.eigvals(matrices)).max(-1)
        matrices *= (rng.choice([0.5, 1 - 1e-8, 1 + 1e-8, 1.0, 2.0], 150) / size)[:, None, None]
        stable, clear = clearly_stable(matrices)
        assert clear.sum() > 90  # all but the fifth that lies on the circle
        for matrix, answer in zip(matrices[clear], stable[clear], strict=True):
            assert is_stable_matrix(matrix, continuous=False) == answer


def test_a_pole_on_the_circle_is_not_clear():
    jordan = np.array([[1.0, 1.0], [0.0, 1.0]])
    rotation = np.array([[0.6, -0.8], [0.8, 0.6]])
    nearly = np.array([[1 - 1e-14, 1e4], [0.0, 0.5]])  # a distance of 1e-14 says nothing beside entries of 1e4
    sensitive = np.array([[0.9, 1e6], [0.0, 0.9]])  # .1 from the circle, and 1e-8 from a matrix with a pole on it
    assert not np.any(clearly_stable(np.stack([jordan, rotation, -rotation, nearly, sensitive]))[1])


@pytest.mark.parametrize("n", [3, 5])
def test_a_matrix_next_to_an_unstable_one_is_not_clear_though_its_eigenvalues_are_far_inside(n):
    """The Jordan block at 1 - r with couplings c has sigma_min(z I - A) of about r^n/c^(n-1) beside its pole."""
    block = 0.9 * np.eye(n) + np.diag(np.full(n - 1, 1e3), 1)
    stable, clear = clearly_stable(np.stack([block, 0.9 * np.eye(n), 1.1 * np.eye(n)]))
    assert stable.tolist() == [True, True, False]
    assert clear.tolist() == [False, True, True]


@every_case("seed", range(10))
def test_growth_keeps_its_digits_beside_the_boundary(seed):
    """|z| - 1 of poles given by their difference from 1 or -1, at 40 digits."""
    rng = np.random.default_rng(seed)
    moved = 10.0 ** rng.uniform(-14, 0.3, 20) * np.exp(2j * np.pi * rng.uniform(size=20))
    for centre in (1.0, -1.0):
        with mpmath.workdps(40):
            truth = [float(abs(centre + mpmath.mpc(z)) - 1) for z in moved]
        np.testing.assert_allclose(boundary._growth(moved, centre), truth, rtol=1e-13, atol=1e-29)
    assert boundary._growth(moved, 0.0).tolist() == moved.real.tolist()


@pytest.mark.parametrize("continuous", [False, True])
def test_poles_of_a_block_triangular_matrix_are_those_of_its_blocks(continuous):
    """What couples the blocks, however large, moves no pole: the whole matrix gives none of these digits."""
    rng = np.random.default_rng(1)
    blocks = [m / np.abs(np.linalg.eigvals(m)).max() for m in rng.normal(size=(4, 3, 3))]
    blocks = [0.9 * m - 2 * np.eye(3) * continuous for m in blocks]
    a = scipy.linalg.block_diag(*blocks)
    a[np.triu_indices(12, 1)] += np.where(a == 0, 10.0 ** rng.uniform(6, 9, (12, 12)), 0.0)[np.triu_indices(12, 1)]
    order = rng.permutation(12)
    stable, told = boundary.stable_poles(a[np.ix_(order, order)], continuous=continuous)
    assert stable
    expected = np.concatenate([np.linalg.eigvals(m) for m in blocks])
    np.testing.assert_allclose(np.sort_complex(told), np.sort_complex(expected), rtol=1e-12)


@every_case("share", [1e-3, 0.3, 0.999, 1.001, 3.0, 1e3])
@every_case("scale", [1e-6, 1.0, 1e6])
def test_far_from_singular_is_what_the_smallest_singular_value_says(scale, share):
    for n in (1, 2, 5):
        a = scale * np.random.default_rng(n).standard_normal((n, n))
        distance = share * np.linalg.svd(a, compute_uv=False)[-1]
        assert boundary._is_far_from_singular(a, distance) == (share < 1)


@every_case("order", [[0, 1, 2], [2, 0, 1]])
@every_case("outermost, stable", [(0.0, False), (-1e-300, True), (-1e-3, True), (1e-300, False)])
def test_a_pole_alone_on_the_axis_is_not_inside(outermost, stable, order):
    a = np.diag([outermost, -1.0, -2.0]) + np.triu(np.full((3, 3), 1e3), 1)
    assert is_stable_matrix(a[np.ix_(order, order)], continuous=True) == stable


@every_case("outermost, stable", [(1.0, False), (1 - 2.0**-53, False), (1 - 2.0**-51, True), (1.5, False)])
@every_case("sign", [1, -1])
def test_a_pole_alone_on_the_circle_is_not_inside_nor_in_its_last_digit(outermost, stable, sign):
    a = np.diag([0.5, sign * outermost]) + np.triu(np.full((2, 2), 1e3), 1)
    assert is_stable_matrix(a, continuous=False) == stable


def test_a_matrix_without_its_point():
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    for z in (0.5, -1.0, 2j, 0.5 - 1j):
        less = boundary._shift(a, z)
        np.testing.assert_array_equal(less, a - z * np.eye(2))
        assert np.iscomplexobj(less) == bool(np.imag(z))
    assert boundary._shift(a + 0j, 0.5).dtype == complex
    np.testing.assert_array_equal(a, [[1.0, 2.0], [3.0, 4.0]])


@every_case("kind", [0, 1j])
@every_case("seed", range(24))
def test_plain_numpy_decides_and_gives_the_poles(seed, kind):
    side = 1e-3 if seed % 5 == 0 else -1e-3
    a, continuous = dense(seed, radius=1 + side)
    if kind:
        rng = np.random.default_rng(seed)
        turn = np.linalg.qr(rng.normal(size=a.shape) + kind * rng.normal(size=a.shape))[0]
        a = turn @ a @ turn.conj().T
    stable, poles = boundary._stable_in_plain_numpy(a, continuous)
    assert stable == (side < 0)
    expected = np.linalg.eigvals(a)
    distance = np.abs(poles[:, None] - expected[None, :])
    assert max(distance.min(0).max(), distance.min(1).max()) < 1e-7 * np.abs(expected).max()
    assert is_stable_matrix(a, continuous=continuous) == stable


def test_small_real_matrices_are_decided_by_compiled_code_alone(monkeypatch):
    asked = []
    plain = boundary._stable_in_plain_numpy
    monkeypatch.setattr(boundary, "_stable_in_plain_numpy", lambda a, c: asked.append(len(a)) or plain(a, c))
    small, large = boundary.COMPILED, boundary.COMPILED + 1
    for n in (2, small, large):
        full = 0.5 / n * np.ones((n, n)) + 0.1 * np.eye(n)
        assert is_stable_matrix(full, continuous=False)
    assert asked == [large]
    assert is_stable_matrix(0.3 * np.array([[1.0, 1j], [-1j, 0.5]]), continuous=False)
    assert asked == [large, 2]


def test_clear_is_judged_at_the_point_of_the_circle_beside_the_outermost_pole():
    """One pole at .9 and others at .81 and .9^3, where z I - A is singular: at 1 it is far from it."""
    for turn in (1.0, -1.0):
        stable, clear = clearly_stable(turn * np.stack([np.diag([0.9, 0.81, 0.729]), np.diag([1.1, 1.21, 0.0])]))
        assert (stable.tolist(), clear.tolist()) == ([True, False], [True, True])
    assert [x.tolist() for x in clearly_stable(np.zeros((1, 2, 2)))] == [[True], [True]]


def test_uncertain_far_across_the_circle_is_refused_with_the_pole():
    """24 poles at .6 behind couplings of 6, turned: rounding moves them beyond 1."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(24, 24)))[0]
    a = turn @ (0.6 * np.eye(24) + 6 * np.eye(24, k=1)) @ turn.T
    with pytest.raises(ArithmeticError, match=r"the computed eigenvalue [-0-9.+ej]+ is so sensitive"):
        is_stable_matrix(a, continuous=False)
