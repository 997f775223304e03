"""Arnoldi steps on all diagonal blocks at once against the eigenvalues of each block."""

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose
from scipy.linalg import eig

from ctrlattn import InputError
from ctrlattn.stability.nonnormal import block_krylov
from ctrlattn.stability.nonnormal.block_krylov import block_radius


def product_of(blocks):
    return lambda v: np.einsum("nij,nj->ni", blocks, v)


@every_case("seed", range(20))
def test_d_steps_give_every_block_whole(seed):
    rng = np.random.default_rng(seed)
    n, d = rng.integers(1, 7), rng.integers(1, 9)
    blocks = rng.standard_normal((n, d, d))
    outermost = block_radius(product_of(blocks), (n, d), seed=seed)
    radii = np.abs(np.linalg.eigvals(blocks)).max(axis=1)
    assert_allclose(abs(outermost.value), radii.max(), rtol=1e-9)
    assert outermost.block == radii.argmax()
    residual = blocks[outermost.block] @ outermost.vector - outermost.value * outermost.vector
    assert_allclose(np.abs(residual).max(), 0, atol=1e-8)
    assert outermost.settled


def test_a_large_block_settles_long_before_all_steps():
    rng = np.random.default_rng(0)
    blocks = rng.standard_normal((5, 300, 300)) / 40
    blocks[3] += 4 * np.outer(np.ones(300), np.ones(300)) / 300
    outermost = block_radius(product_of(blocks), (5, 300))
    assert outermost.block == 3
    assert outermost.settled
    assert outermost.steps < 40
    assert outermost.steps % block_krylov._EVERY == 0
    assert_allclose(abs(outermost.value), np.abs(np.linalg.eigvals(blocks[3])).max(), rtol=1e-6)


def test_too_few_steps_are_said_not_to_settle():
    blocks = np.random.default_rng(0).standard_normal((2, 100, 100))
    assert not block_radius(product_of(blocks), (2, 100), steps=5).settled


def test_the_residual_is_that_of_the_pair():
    blocks = np.random.default_rng(0).standard_normal((2, 30, 30))
    outermost = block_radius(product_of(blocks), (2, 30), steps=10)
    residual = blocks[outermost.block] @ outermost.vector - outermost.value * outermost.vector
    assert_allclose(outermost.residual, np.linalg.norm(residual), rtol=1e-8)
    assert outermost.error == outermost.residual * outermost.condition > outermost.residual


def test_a_start_that_spans_an_invariant_space_ends_there():
    blocks = np.stack([2 * np.eye(6), np.diag([1.0, 1, 1, 3, 3, 3])])
    outermost = block_radius(product_of(blocks), (2, 6))
    assert outermost.block == 1
    assert_allclose(outermost.value, 3, rtol=1e-9)


def test_no_step_is_refused():
    with pytest.raises(InputError, match="steps"):
        block_radius(lambda v: v, (1, 2), steps=0)


def test_what_a_basis_leaves_of_the_vectors_of_every_block():
    basis = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    unit, coefficients = block_krylov._orthogonal(np.array([[2.0, 3.0, -4.0], [0.0, 5.0, 6.0]]), basis)
    assert_allclose(unit, [[0.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    assert_allclose(coefficients, [[2.0, 3.0, 4.0], [5.0, 6.0, 0.0]])


def triangular(rng, m, size):
    """Matrices (n, m, m) with their radii; how far they are from normal grows with `size`."""
    blocks = np.triu(size * rng.standard_normal((12, m, m)), 1)
    diagonal = rng.uniform(-1, 1, (12, m))
    blocks[:, np.arange(m), np.arange(m)] = diagonal
    return blocks, np.abs(diagonal).max(axis=1)


@every_case("size", [0.0, 1e-3, 1.0, 30.0, 1e4])
@every_case("m", [1, 2, 7, 25])
def test_no_eigenvalue_lies_beyond_the_bound(m, size):
    rng = np.random.default_rng(m)
    blocks, radii = triangular(rng, m, size)
    turn = np.linalg.qr(rng.standard_normal((12, m, m)))[0]
    for given in (blocks, turn @ blocks @ turn.transpose(0, 2, 1), 1e-30 * blocks, 1e30 * blocks):
        bounds = block_krylov._radius_bounds(given)
        scale = np.abs(given).max() / np.abs(blocks).max()
        assert np.all(bounds >= scale * radii)
        # The computed eigenvalues of a matrix far from normal lie outside the true ones, and inside of the bound.
        assert np.all(bounds >= np.abs(np.linalg.eigvals(given)).max(axis=1))


def test_the_bound_holds_for_defective_and_nilpotent_matrices():
    m = 20
    jordan = np.diag(np.ones(m - 1), 1)
    blocks = np.stack([jordan, jordan + np.eye(m), 0 * jordan, 1e8 * jordan, jordan[::-1]])
    bounds = block_krylov._radius_bounds(blocks)
    assert np.all(bounds >= np.abs(np.linalg.eigvals(blocks)).max(axis=1))
    assert np.all(bounds >= [0, 1, 0, 0, 1])
    assert bounds[2] == 0


@every_case("near", [0.0, 1e-12, 1e-9, 1e-6, 1e-3, 1.0])
def test_the_bound_covers_every_matrix_within_the_backward_error(near):
    """[[c, 1], [s, c]] has the eigenvalues c +- sqrt(s), and s is as large as the backward error may be."""
    given = np.array([[[near, 1.0], [0.0, near]]])
    s = block_krylov.BACKWARD * 2 * np.finfo(float).eps * np.linalg.norm(given)
    bound = block_krylov._radius_bounds(given)[0]
    assert bound >= near + np.sqrt(s)
    # H^2 = 0 leaves what was astray: (2 + a) a + u = 21 u with a = 10 u, whose square root is the bound.
    if near == 0.0:
        assert_allclose(bound, np.sqrt(21 * 2 * np.finfo(float).eps), rtol=1e-10)


def test_the_bound_is_tight_where_matrices_are_normal():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((30, 25, 25)))[0]
    values = rng.uniform(0.1, 1.0, (30, 25))
    bounds = block_krylov._radius_bounds((turn * values[:, None]) @ turn.transpose(0, 2, 1))
    assert np.all(bounds <= 25 ** (1 / 128) * (1 + 1e-9) * values.max(axis=1))


def every_block(projected, basis, tolerance):
    """(block, eigenvalue, residual, settled) by the eigenvectors of all blocks: nothing is left out."""
    m, d = basis.shape[1:]
    values, lefts, vectors = (
        np.array(each) for each in zip(*(eig(matrix, left=True) for matrix in projected[:, :m, :m]), strict=True)
    )
    top = (np.arange(len(values)), np.abs(values).argmax(axis=1))
    rounding = (10 * m + 4) * np.finfo(float).eps * np.linalg.norm(projected[:, :m, :m], axis=(1, 2))
    last = projected[:, m, m - 1] if m < d else np.zeros(len(values))
    every = last[:, None] * np.abs(vectors[:, -1]) + rounding[:, None]
    residuals = every[top]
    furthest = (np.abs(values) + 2 * every).max(axis=1)
    crossed = np.abs(np.einsum("ni,ni->n", lefts[top[0], :, top[1]].conj(), vectors[top[0], :, top[1]]))
    errors = residuals / np.maximum(crossed, 1e-300)
    radii = np.abs(values[top])
    i = int(radii.argmax())
    # The bound holds for every matrix within the rounding of the projected one, which no condition need cover then.
    able = block_krylov._radius_bounds(projected[:, :m, :m]) + 4 * last >= radii[i]
    rivals = (radii + errors >= radii[i]) & able
    settled = np.all(errors[rivals] <= tolerance * radii[i]) and np.all(
        furthest[able] <= (1 + 2 * tolerance) * radii[i]
    )
    return i, values[top][i], errors[i], bool(settled)


@pytest.mark.slow
@every_case("size", [0.0, 0.3, 3.0, 100.0])
@every_case("seed", range(6))
def test_leaving_blocks_out_changes_nothing(seed, size, monkeypatch):
    """To the bit, block by block of Krylov spaces of matrices near to normal and far from it, equal ones among them."""
    monkeypatch.setattr(block_krylov, "_COUPLED", np.inf)
    rng = np.random.default_rng(seed)
    d = int(rng.integers(2, 14))
    blocks, _ = triangular(rng, d, size)
    blocks[5] = blocks[int(rng.integers(5))]
    for m in range(1, d + 1):
        projected, basis = krylov_of(blocks, m, rng)
        for tolerance in (1e-6, 0.05):
            found = block_krylov._outermost(projected, basis, tolerance)
            block, value, error, settled = every_block(projected, basis, tolerance)
            assert (found.block, found.settled) == (block, settled)
            assert_allclose(found.value, value, rtol=1e-9 * max(1.0, found.condition))
            if found.condition < 1e6:
                assert_allclose(found.error, error, rtol=1e-6)
            if m < d:
                radius = np.abs(np.linalg.eigvals(projected[:, :m, :m])).max(axis=1)
                residual, condition, reach = block_krylov._ritz(projected[[radius.argmax()]], m, d)[2:]
                may = block_krylov._may_be_settled(projected, m, d, tolerance)
                small = residual[0] * condition[0] <= tolerance * radius.max()
                assert may == bool(small and reach[0] <= (1 + 2 * tolerance) * radius.max())


def krylov_of(blocks, m, rng):
    """(H with its last row, basis) of m Arnoldi steps on each block, as `block_radius` makes them."""
    n, d = blocks.shape[:2]
    v = rng.standard_normal((n, d))
    basis = np.empty((n, m, d))
    basis[:, 0] = v / np.linalg.norm(v, axis=1, keepdims=True)
    projected = np.zeros((n, m + 1, m))
    for k in range(1, m + 1):
        w = np.einsum("nij,nj->ni", blocks, basis[:, k - 1])
        following, projected[:, : k + 1, k - 1] = block_krylov._orthogonal(w, basis[:, :k])
        if k < m:
            basis[:, k] = following
    return projected, basis


def test_blocks_that_cannot_reach_the_outermost_are_left_out(monkeypatch):
    blocks = np.random.default_rng(0).standard_normal((40, 12, 12)) / 12
    blocks[17] += 3 * np.eye(12)
    taken = []
    for name in ("eigvals", "eig"):
        plain = getattr(np.linalg, name)
        monkeypatch.setattr(np.linalg, name, lambda a, plain=plain: taken.append(len(a)) or plain(a))
    assert block_radius(product_of(blocks), (40, 12)).block == 17
    assert max(taken) == 1


@every_case("scale", [1e-100, 1e-3, 1.0, 1e3, 1e100])
def test_the_bound_of_one_number_is_its_modulus_and_that_of_a_turn_is_near_1(scale):
    given = scale * np.array([[[2.0]], [[-0.5]]])
    assert_allclose(block_krylov._radius_bounds(given), scale * np.array([2.0, 0.5]), rtol=1e-11)
    turn = scale * np.array([[[0.6, -0.8], [0.8, 0.6]]])
    assert_allclose(block_krylov._radius_bounds(turn), scale * 2 ** (1 / 128), rtol=1e-11)


def test_steps_that_the_dimension_allows_are_all_made_where_nothing_settles():
    blocks = np.random.default_rng(0).standard_normal((2, 23, 23))
    for steps in (1, 4, 5, 12, 23, 40):
        assert block_radius(product_of(blocks), (2, 23), steps=steps, tolerance=1e-14).steps == min(steps, 23)


def test_blocks_that_are_left_behind_take_no_more_steps():
    """One block settles late, and others are far below it; the product is asked for those that are left alone."""
    rng = np.random.default_rng(0)
    blocks = rng.standard_normal((12, 60, 60)) / 60
    blocks[7] += np.diag(np.linspace(2, 3, 60))
    blocks[2] += np.diag(np.linspace(1, 2.9, 60))
    asked = []

    def narrowed(left):
        asked.append(left.tolist())
        return product_of(blocks[left])

    for few in (narrowed, None):
        outermost = block_radius(product_of(blocks), (12, 60), narrowed=few)
        assert outermost.block == 7
        assert outermost.settled
        assert_allclose(abs(outermost.value), np.abs(np.linalg.eigvals(blocks[7])).max(), rtol=1e-6)
    assert asked[0] == [2, 7]
    assert asked[-1] == [7]


def test_an_unsettled_block_that_is_outermost_for_a_while_leaves_the_true_one_in_play():
    """Ritz values 1.0 that is settled, and 1.05 +- .2: the second may yet fall below the first; a third cannot rise."""
    projected = np.zeros((3, 3, 2))
    projected[:, 0, 0] = 1.0, 1.05, 0.3
    projected[:, 2, 1] = 0.0, 0.2, 0.05
    projected[1, 1] = [0.3, 0.5]
    projected[1, 0, 1] = 0.3
    values, _, residuals, conditions, _ = block_krylov._ritz(projected, 2, 9)
    assert np.abs(values)[1] > 1.0 + 4 * residuals[0] * conditions[0]
    assert_allclose(block_krylov._in_play(projected, 2, 9), [0, 1])
    projected[0, 0, 0] = 2.0
    assert_allclose(block_krylov._in_play(projected, 2, 9), [0])


def test_four_residuals_are_allowed_for():
    projected = np.zeros((2, 3, 2))
    projected[0, 0, 0], projected[1, 0, 0] = 2.0, 1.0
    projected[1, 1, 0] = 1.0
    # The outermost pair of the second block is (1, [1, 1]/sqrt 2), with the condition sqrt 2: its first-order error is
    # what the steps leave.
    for residual, able in ((0.24, [0]), (0.26, [0, 1])):
        projected[1, 2, 1] = residual
        assert_allclose(block_krylov._in_play(projected, 2, 9), able, err_msg=str(residual))


def test_an_ill_conditioned_ritz_value_leaves_no_block_behind_and_reaches_further():
    """[[1, c], [0, 0]] has the condition sqrt(1 + c^2) at 1; the residual is what the steps leave times y/|x|."""
    projected = np.zeros((2, 3, 2))
    projected[0, :2], projected[1, 0, 0] = [[1.0, 1e3], [0.0, 0.0]], 0.5
    assert_allclose(block_krylov._ritz(projected, 2, 9)[3], [np.hypot(1, 1e3), 1.0], rtol=1e-9)
    assert_allclose(block_krylov._in_play(projected, 2, 9), [0, 1])
    projected[0, 0, 1] = 3.0
    assert_allclose(block_krylov._in_play(projected, 2, 9), [0])
    # An ill-conditioned one below: four errors of it do not reach 1, forty do.
    projected[0, 0, 1], projected[1, :2] = 0.0, [[0.5, 1e3], [0.0, 0.0]]
    low, high = block_krylov._span(projected, 2, 9)
    assert (low[0], low[1]) == (pytest.approx(1.0), 0.0)
    error = block_krylov._ritz(projected, 2, 9)
    assert_allclose(high[1], 0.5 + 40 * error[2][1] * error[3][1])


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.3, 1.0, 6.0])
@pytest.mark.parametrize("d", [30, 110])
def test_no_vector_without_an_eigenvalue_is_called_settled(strength, d):
    """Triangular blocks far from normal have vectors with residuals below 1e-6 where no eigenvalue is."""
    settled, wrong_by_residual = 0, 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        blocks = np.triu(rng.standard_normal((6, d, d)), 1) * rng.uniform(0, strength, (6, 1, 1)) / np.sqrt(d)
        blocks[:, np.arange(d), np.arange(d)] = rng.uniform(0.2, 1, (6, d))
        radius = np.einsum("nii->ni", blocks).max()
        outermost = block_radius(product_of(blocks), (6, d), seed=seed)
        away = abs(abs(outermost.value) / radius - 1)
        settled += outermost.settled
        wrong_by_residual += bool(outermost.residual < 1e-6 and away > 1e-3)
        assert not outermost.settled or away < 1e-5, seed
    assert settled >= (7 if strength == 0.3 else 0)
    assert wrong_by_residual >= (1 if strength == 6.0 else 0)


def test_a_defective_block_is_never_settled():
    blocks = 0.5 * np.eye(20) + np.diag(np.ones(19), 1)
    outermost = block_radius(product_of(blocks[None]), (1, 20))
    assert outermost.condition > 1e6
    assert not outermost.settled
    assert not block_radius(
        product_of(blocks[None]), (1, 20), starts=2
    ).settled  # starts that agree within large errors


@pytest.mark.parametrize("seed", range(20))
def test_blocks_left_behind_are_not_those_of_the_largest_radius(seed):
    """Blocks of one size near each other and far from normal: the answer is that of all eigenvalues."""
    rng = np.random.default_rng(seed)
    blocks = rng.standard_normal((16, 40, 40)) / np.sqrt(40) + np.triu(rng.standard_normal((16, 40, 40)), 1) / 8
    radii = np.abs(np.linalg.eigvals(blocks)).max(axis=1)
    outermost = block_radius(product_of(blocks), (16, 40), steps=40, seed=seed)
    assert outermost.block == radii.argmax()
    assert_allclose(abs(outermost.value), radii.max(), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("others", [0, 3])
@pytest.mark.parametrize("gap", [1e-4, 1e-3, 1e-2])
def test_an_isolated_eigenvalue_does_not_hide_the_end_of_a_dense_interval(gap, others):
    """-(1 - gap) stands alone and settles first; 1 is the end of what is dense. All blocks are normal."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        spectra = rng.uniform(-0.6, 1 - 2 * gap, (1 + others, 200))
        spectra[:, 0] = -(1 - gap)
        spectra[0, 1] = 1.0
        outermost = block_radius(lambda v, spectra=spectra: spectra[: len(v)] * v, spectra.shape, seed=seed)
        assert not outermost.settled or abs(abs(outermost.value) - 1) < 1e-5, seed


def test_a_block_whose_other_ritz_value_may_reach_further_is_neither_left_behind_nor_settled():
    """Ritz values -0.9 that is settled, and 0.85 whose residual is what the steps leave, of a block beside 0.95."""
    projected = np.zeros((2, 3, 2))
    projected[0, :2] = np.diag([0.95, 0.0])
    projected[1, :2] = np.diag([-0.9, 0.85])
    basis = np.broadcast_to(np.eye(9)[:2], (2, 2, 9))
    for left, alone in ((0.04, True), (0.06, False)):  # 0.85 + 2 * 0.05 = 0.95
        projected[1, 2, 1] = left
        assert block_krylov._in_play(projected, 2, 9).tolist() == ([0] if alone else [0, 1])
        assert block_krylov._outermost(projected, basis, 1e-6).settled == alone
    projected[1, 2, 1] = 0.03
    assert not block_krylov._may_be_settled(projected[1:], 2, 9, 1e-6)
    projected[1, 2, 1] = 0.02
    assert block_krylov._may_be_settled(projected[1:], 2, 9, 1e-6)


@pytest.mark.parametrize("steps", [7, 20, 33])
def test_steps_beyond_the_first_room_are_those_of_one_room(monkeypatch, steps):
    rng = np.random.default_rng(0)
    blocks = rng.standard_normal((5, 40, 40)) / 6 + np.diag(np.linspace(0.1, 1.0, 40))
    whole = block_radius(product_of(blocks), (5, 40), steps=steps, tolerance=1e-13)
    monkeypatch.setattr(block_krylov, "_ROOM", 5)
    again = block_radius(product_of(blocks), (5, 40), steps=steps, tolerance=1e-13)
    assert again.steps == whole.steps == steps
    assert (again.block, again.value, again.residual) == (whole.block, whole.value, whole.residual)
    assert_allclose(again.vector, whole.vector, rtol=0, atol=0)


@every_case("exponent", [-960, -700, -500, 4, 500, 700, 960])
def test_a_power_of_two_times_the_blocks_has_the_same_digits(exponent):
    blocks = np.random.default_rng(0).standard_normal((3, 20, 20))
    one = block_radius(product_of(blocks), (3, 20), steps=12)
    other = block_radius(product_of(np.ldexp(blocks, exponent)), (3, 20), steps=12)
    assert np.ldexp([other.value.real, other.value.imag, other.residual], -exponent).tolist() == [
        one.value.real,
        one.value.imag,
        one.residual,
    ]
    assert other[4:] == one[4:]
    assert other.block == one.block


def test_products_that_are_not_finite_are_refused():
    with pytest.raises(ArithmeticError, match="not finite"):
        block_radius(lambda v: np.full_like(v, np.nan), (2, 4))


def test_a_second_start_finds_what_the_first_one_holds_too_little_of():
    """Normal blocks whose outermost eigenvector has next to no share in the first start: it settles .4 % low."""
    for seed, d in HIDDEN:
        spectrum, g = hidden_end(seed)
        assert len(spectrum) == d

        def product(v, spectrum=spectrum):
            return v * spectrum

        one, two = (block_radius(product, (1, d), seed=seed, starts=starts) for starts in (1, 2))
        assert one.settled  # what one start cannot see
        assert_allclose(abs(one.value), 1 - g, rtol=1e-6)
        assert not two.settled
        assert_allclose(abs(two.value), 1.0, rtol=1e-6)
        assert two.steps > one.steps
    with pytest.raises(InputError, match="starts"):
        block_radius(product, (1, d), starts=0)


HIDDEN = ((108, 60), (25, 120))


def hidden_end(seed):
    rng = np.random.default_rng(seed)
    d = int(rng.choice([60, 120, 200]))
    g = 10 ** rng.uniform(-4, -1.5)
    rng.random()
    spectrum = rng.uniform(-0.6, 1 - 2 * g, d)
    spectrum[:2] = -(1 - g), 1.0
    return spectrum, g


def test_starts_that_agree_have_settled_and_their_steps_add_up():
    blocks = np.random.default_rng(0).standard_normal((5, 30, 30)) / 20
    blocks[3] += 4 * np.outer(np.ones(30), np.ones(30)) / 30
    one, three = (block_radius(product_of(blocks), (5, 30), starts=starts) for starts in (1, 3))
    assert three.settled
    assert three.steps > 2 * one.steps
    assert_allclose(three.value, one.value, rtol=1e-6)


def test_coupling_is_the_last_row_of_the_resolvent_of_what_has_not_settled():
    """last |e_m' (z - H)^-1| against solutions on 2,000 points of the circle, and closed forms."""
    assert_allclose(block_krylov._coupling(np.array([[0.5]]), 0.1, 1.0, 1e-6), 0.1 / 0.5, rtol=1e-12)
    h = np.array([[0.5, 3.0], [0.0, -0.5]])  # at z = -1, where it is 1/(z + 1/2) (0, 1)
    assert_allclose(block_krylov._coupling(h, 0.1, 1.0, 1e-6), 0.1 / 0.5, rtol=1e-12)
    for seed in range(5):
        h = np.random.default_rng(seed).standard_normal((6, 6)) / 4
        radius = 1.1 * np.abs(np.linalg.eigvals(h)).max()
        last = np.eye(6)[-1]
        rows = [
            np.linalg.solve((z * np.eye(6) - h).T, last) for z in radius * np.exp(1j * np.linspace(0, 2 * np.pi, 2000))
        ]
        largest = 0.3 * np.linalg.norm(rows, axis=1).max()
        coupling = block_krylov._coupling(h, 0.3, radius, 1e-6)
        assert 0.97 * largest < coupling < largest * (1 + 1e-3)
    settled = np.array([[1.0, 0.2], [1e-8, 0.5]])  # its outermost value lies on the circle, and has settled
    assert_allclose(block_krylov._coupling(settled, 0.1, 1.0, 1e-6), 0.1 * np.hypot(1, 4e-8) / 0.5, rtol=0.2)
    assert block_krylov._coupling(np.zeros((2, 2)), 0.1, 0.0, 1e-6) == np.inf


@pytest.mark.parametrize("seed", [48, 255, 266])
def test_ritz_values_that_are_ill_conditioned_together_hide_no_eigenvalue(seed, monkeypatch):
    """-(1 - g) settles before the end of a dense interval whose values have conditions up to 10,000."""
    rng = np.random.default_rng([seed, 4])
    n, d = int(rng.integers(1, 4)), int(rng.choice([30, 60, 120, 200]))
    assert rng.random() < 0.5
    g = 10 ** rng.uniform(-4, -1.5)
    spectra = rng.uniform(-0.6, 1 - 2 * g, (n, d))
    spectra[:, 0], spectra[0, 1] = -(1 - g), 1.0
    upper = np.triu(rng.standard_normal((n, d, d)), 2) * rng.uniform(0, 0.4) / np.sqrt(d)
    blocks = spectra[:, :, None] * np.eye(d) + upper
    outermost = block_radius(product_of(blocks), (n, d), seed=seed)
    assert outermost.settled
    assert_allclose(abs(outermost.value), 1.0, rtol=1e-6)
    monkeypatch.setattr(block_krylov, "_COUPLED", np.inf)
    assert_allclose(abs(block_radius(product_of(blocks), (n, d), seed=seed).value), 1 - g, rtol=1e-6)
