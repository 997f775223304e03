"""Pseudospectral radius and abscissa, distance to instability, departure: published numbers and closed forms."""

import control
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose
from scipy.optimize import minimize_scalar

from ctrlattn import (
    CausalMean,
    Loop,
    distance_to_instability,
    pseudospectral_abscissa,
    pseudospectral_radius,
)
from ctrlattn.stability import henrici_departure
from ctrlattn.stability.nonnormal import pseudospectral_bounds
from ctrlattn.stability.nonnormal.resolvent_levels import crossings, least_sigma, sigma_min


def grcar(n):
    return np.triu(np.tril(np.ones((n, n)), 3)) - np.eye(n, k=-1)


# SLICOT, example of AB13FD (Byers' matrix); its library page prints the distance and where it is reached.
AB13FD = np.array(
    [
        [246.5, 242.5, 202.5, -197.5],
        [-252.5, -248.5, -207.5, 202.5],
        [-302.5, -297.5, -248.5, 242.5],
        [-307.5, -302.5, -252.5, 246.5],
    ]
)


@pytest.mark.slow
def test_grcar_100():
    """Published: pseudospectral radius 2.85216, abscissa 2.41276, largest imaginary part 2.2617668."""
    matrix = grcar(100)
    assert_allclose(pseudospectral_radius(matrix, 1e-4), 2.85216, atol=5e-6)
    assert_allclose(pseudospectral_abscissa(matrix, 1e-4), 2.41276, atol=5e-6)
    assert_allclose(np.linalg.eigvals(matrix).imag.max(), 2.2617668, atol=5e-6)


def test_slicot_ab13fd():
    assert_allclose(distance_to_instability(AB13FD, continuous=True), 0.39196472317e-2, rtol=1e-9)
    sigma, omega = least_sigma(AB13FD, 0.0, True, [0.0])
    assert_allclose(abs(omega), 0.98966520430, rtol=1e-4)
    assert_allclose(sigma_min(AB13FD, 1j * omega), sigma)


def test_slicot_ab13ed():
    """The bounds that SLICOT's example of AB13ED prints for a Jordan block A, unstable; -A is as far, and stable."""
    block = -(0.1 * np.eye(5) + np.eye(5, k=1))
    distance = distance_to_instability(block, continuous=True)
    assert 0.20929379255e-5 <= distance <= 0.20793050504e-4
    assert_allclose(distance, sigma_min(block, 0.0), rtol=1e-6)


@every_case("eps", [1e-6, 1e-2, 1.0])
def test_normal_matrices_move_by_eps(eps):
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    matrix = q @ np.diag([0.9, -0.8, 0.5, 0.1, 0.0, -0.3]) @ q.T
    assert_allclose(pseudospectral_radius(matrix, eps), 0.9 + eps, rtol=1e-9)
    assert_allclose(pseudospectral_abscissa(matrix, eps), 0.9 + eps, rtol=1e-9)
    assert_allclose(pseudospectral_abscissa(matrix - np.eye(6), eps), -0.1 + eps, rtol=1e-9)
    assert_allclose(distance_to_instability(matrix), 0.1, rtol=1e-9)
    assert_allclose(distance_to_instability(matrix - np.eye(6), continuous=True), 0.1, rtol=1e-9)
    assert henrici_departure(matrix) < 1e-14


@pytest.mark.parametrize("c", [0.5, 4.0])
def test_a_defective_block_moves_by_the_square_root(c):
    # sigma_min of [[x, -c], [0, x]] is eps at x^2 = eps^2 + eps c.
    eps = 0.01
    expected = np.sqrt(eps**2 + eps * c)
    matrix = np.array([[0.0, c], [0.0, 0.0]])
    assert_allclose(pseudospectral_radius(0.3 * np.eye(2) + matrix, eps), 0.3 + expected, rtol=1e-10)
    assert_allclose(pseudospectral_abscissa(-2.0 * np.eye(2) + matrix, eps), -2.0 + expected, rtol=1e-10)
    assert_allclose(pseudospectral_radius(matrix, eps), expected, rtol=1e-10)  # the whole circle is a level set
    assert henrici_departure(matrix) == c


@pytest.mark.slow
@every_case("continuous", [False, True])
@every_case("seed", range(4))
def test_nothing_on_a_fine_grid_goes_further_and_a_disturbance_gets_there(seed, continuous):
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((7, 7)) + 1j * rng.standard_normal((7, 7)) * (seed % 2)
    eps = 0.05
    find = pseudospectral_abscissa if continuous else pseudospectral_radius
    radius = find(matrix, eps)
    grid = np.linspace(-6, 6, 121)
    points = (grid[:, None] + 1j * grid).ravel()
    points = points[(points.real if continuous else np.abs(points)) > radius - 0.1]
    sigma = np.linalg.svd(matrix - points[:, None, None] * np.eye(7), compute_uv=False)[:, -1]
    inside = points[sigma <= eps]
    assert (inside.real if continuous else np.abs(inside)).max() <= radius + 1e-12  # and one is beyond radius - .1
    # The worst disturbance, -eps u v*, of random ones none gets further.
    sample = rng.standard_normal((200, 7, 7))
    sample *= eps / np.linalg.norm(sample, 2, axis=(1, 2))[:, None, None]
    moved = np.linalg.eigvals(matrix + sample)
    assert (moved.real if continuous else np.abs(moved)).max() <= radius


@pytest.mark.parametrize("continuous", [False, True])
def test_the_smallest_disturbance_puts_a_pole_on_the_border(continuous):
    matrix = np.triu(np.random.default_rng(1).standard_normal((6, 6)), 1)
    matrix += np.diag([-0.9, -0.5, -0.3, -0.2, -0.6, -0.1]) - (np.eye(6) if continuous else 0)
    distance = distance_to_instability(matrix, continuous=continuous)
    _, position = least_sigma(matrix, 0.0 if continuous else 1.0, continuous, [])
    z = 1j * position if continuous else np.exp(1j * position)
    u, s, vh = np.linalg.svd(z * np.eye(6) - matrix)
    assert_allclose(s[-1], distance, rtol=1e-9)
    moved = np.linalg.eigvals(matrix + distance * np.outer(u[:, -1], vh[-1]))
    assert np.min(np.abs(moved - z)) < 1e-9
    # The distance is where the pseudospectrum touches the border.
    reach = (pseudospectral_abscissa if continuous else pseudospectral_radius)(matrix, distance)
    assert_allclose(reach, 0.0 if continuous else 1.0, atol=1e-7)


def test_all_crossings_of_a_level():
    matrix = np.diag([0.5, -0.5]).astype(float)
    angles = crossings(matrix, 0.5, 0.1, False, away=np.pi / 2)
    half = 2 * np.arcsin(0.1)
    assert_allclose(angles, [half, np.pi - half, np.pi + half, 2 * np.pi - half], atol=1e-9)
    assert_allclose(crossings(matrix, 0.5, 0.1, True), [-0.1, 0.1], atol=1e-9)


def test_eps_zero_is_the_spectrum_taken_from_the_structure():
    block = 0.5 * np.eye(64) + np.eye(64, k=-1)
    assert pseudospectral_radius(block, 0) == 0.5
    assert pseudospectral_abscissa(block, 0.0) == 0.5


def test_degenerate():
    assert_allclose(pseudospectral_radius(np.zeros((1, 1)), 0.2), 0.2)
    assert_allclose(pseudospectral_radius(np.zeros((4, 4)), 0.2), 0.2)
    assert_allclose(pseudospectral_abscissa(np.zeros((4, 4)), 0.2), 0.2)
    assert_allclose(pseudospectral_radius(np.array([[1j]]), 0.2), 1.2)
    assert distance_to_instability(np.array([[1.0]])) == 0.0  # an integrator
    assert distance_to_instability(np.array([[-1.0]])) == 0.0
    assert distance_to_instability(np.zeros((3, 3))) == 1.0
    assert distance_to_instability(np.zeros((3, 3)), continuous=True) == 0.0
    assert_allclose(distance_to_instability(np.array([[0.0, 0.5], [0.0, 0.0]])), 0.780776406, rtol=1e-9)


def test_domains_and_bad_input():
    discrete, continuous = (control.ss([[-0.5]], [[1]], [[1]], 0, dt) for dt in (True, 0))
    assert_allclose(pseudospectral_radius(discrete, 0.1), 0.6)
    assert_allclose(pseudospectral_abscissa(continuous, 0.1), -0.4)
    with pytest.raises(ValueError, match="use pseudospectral_abscissa"):
        pseudospectral_radius(continuous, 0.1)
    with pytest.raises(ValueError, match="use pseudospectral_radius"):
        pseudospectral_abscissa(discrete, 0.1)
    with pytest.raises(ValueError, match="eps must be >= 0"):
        pseudospectral_radius(np.eye(2), -0.1)
    with pytest.raises(ValueError, match="eps must be finite"):
        pseudospectral_radius(np.eye(2), np.nan)
    with pytest.raises(ValueError, match="n <= 1000"):
        distance_to_instability(np.zeros((1001, 1001)))
    for quantity in (henrici_departure, distance_to_instability):
        with pytest.raises(ValueError, match="sequence of 1 different"):
            quantity([Loop(CausalMean())])


@every_case("seed", range(4))
def test_the_continuous_distance_of_a_complex_matrix_is_the_least_of_a_dense_grid(seed):
    """Every local minimum of sigma_min(iy - A) on a grid, each then bracketed and refined."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((5, 5)) + 1j * rng.standard_normal((5, 5))
    a = a - (0.3 + np.linalg.eigvals(a).real.max()) * np.eye(5)

    def sigma(y):
        return np.linalg.svd(1j * np.asarray(y)[..., None, None] * np.eye(5) - a, compute_uv=False)[..., -1]

    reach = 2 * np.linalg.norm(a, 2)  # beyond it sigma_min > |A| >= the distance
    grid = np.linspace(-reach, reach, 4001)
    values = sigma(grid)
    bottoms = np.flatnonzero((values[1:-1] <= values[:-2]) & (values[1:-1] <= values[2:])) + 1
    least = min(
        minimize_scalar(sigma, bounds=(grid[i - 1], grid[i + 1]), method="bounded", options={"xatol": 1e-12}).fun
        for i in bottoms
    )
    assert_allclose(distance_to_instability(a, continuous=True), least, rtol=1e-9)


def test_without_a_disturbance_the_outermost_eigenvalue_is_left():
    a = np.diag([0.2, -0.7, 0.5j])
    assert pseudospectral_radius(a, 0.0) == 0.7
    assert pseudospectral_abscissa(a, 0.0) == 0.2


def test_a_single_unstable_eigenvalue_leaves_no_distance():
    assert distance_to_instability(np.diag([0.2, 1.5])) == 0.0
    assert distance_to_instability(np.diag([-3.0, 0.5]), continuous=True) == 0.0


@every_case("seed", [83, 140, 323, 374, *range(6)])
def test_no_point_of_the_pseudospectrum_lies_outside_its_radius(seed):
    """Complex matrices whose farthest point is at no eigenvalue's angle, for some beside the angle 0."""
    rng = np.random.default_rng(seed)
    n = rng.integers(2, 6)
    matrix = rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n))
    matrix = 3 * np.triu(matrix, 1) + np.diag(np.diag(matrix))
    radius = pseudospectral_radius(matrix, 0.3)
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 1001))[:, None, None] * np.eye(n)
    inside, outside = (
        np.linalg.svd(r * circle - matrix, compute_uv=False)[:, -1].min()
        for r in (radius * (1 - 1e-3), radius * (1 + 1e-6))
    )
    assert inside < 0.3 <= outside


def test_angles_of_the_outermost_eigenvalues_in_order():
    values = np.array([0.1, -0.9, 0.5j, 0.3 - 0.4j, 0.8 * np.exp(-0.5j), 0.2 + 3j])
    of = pseudospectral_bounds.outer_positions
    assert_allclose(of(values, False), [np.angle(0.2 + 3j), np.pi, 2 * np.pi - 0.5, np.pi / 2], rtol=1e-12)
    assert_allclose(of(values, True), [(0.8 * np.exp(-0.5j)).imag, -0.4, 3.0, 0.0], rtol=1e-12, atol=1e-15)
    assert len(of(values, True, 2)) == 2
    assert_allclose(of(np.array([0.5, -0.5]), False), [0.0, np.pi])


@pytest.mark.parametrize("continuous", [False, True])
def test_arcs_inside_the_pseudospectrum_are_those_whose_middle_is_nearer_than_eps(continuous):
    """A normal matrix: |z - lambda| < eps on the circle or line; other arcs are left out."""
    values = np.array([0.5, -0.5, 0.1j])
    a, level, eps = np.diag(values), 0.45, 0.12
    inside = np.sort(pseudospectral_bounds._midpoints_inside(a, eps, level, continuous))
    expected = [0.0] if continuous else [0.0, np.pi]
    assert_allclose(np.sort(np.mod(inside + 1e-9, 2 * np.pi)), expected, atol=1e-6)


def test_the_angle_that_is_no_crossing_is_the_farthest_from_the_spectrum():
    angles = (np.pi, 0.0, 0.5 * np.pi, 1.5 * np.pi, 0.7, 2.1, 3.7, 5.3)
    for angle in angles:
        away = pseudospectral_bounds._far_angle(np.diag([-0.9 * np.exp(1j * angle), -0.8 * np.exp(1j * angle)]), 1.0)
        assert away == angle


@every_case("seed", range(5))
def test_a_schur_form_has_the_singular_values_of_every_shift(seed):
    rng = np.random.default_rng(seed)
    full = rng.normal(size=(5, 5)) + (1j * rng.normal(size=(5, 5)) if seed % 2 else 0)
    for a in (full, np.triu(full), np.tril(full), np.diag(np.diag(full))):
        t = pseudospectral_bounds.upper_schur(a)
        assert not np.any(np.tril(t, -1))
        for z in (0.0, 0.3 - 0.7j):
            sizes = [np.linalg.svd(z * np.eye(5) - m, compute_uv=False) for m in (t, a)]
            assert_allclose(sizes[0], sizes[1], atol=1e-12)
        departure = np.sqrt(max(np.linalg.norm(a) ** 2 - np.sum(np.abs(np.linalg.eigvals(a)) ** 2), 0.0))
        assert_allclose(henrici_departure(a), departure, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-12, 1e9])
def test_the_unit_of_the_matrix_is_that_of_radius_abscissa_and_distance(factor):
    a = np.random.default_rng(4).normal(size=(4, 4))
    for find in (pseudospectral_radius, pseudospectral_abscissa):
        assert_allclose(find(factor * a, factor * 0.1), factor * find(a, 0.1), rtol=1e-9)
    shifted = a - (0.2 + np.linalg.eigvals(a).real.max()) * np.eye(4)
    assert_allclose(
        distance_to_instability(factor * shifted, continuous=True),
        factor * distance_to_instability(shifted, continuous=True), rtol=1e-9,
    )  # fmt: skip


def test_an_abscissa_of_zero_is_reached_to_the_share_of_eps(monkeypatch):
    """Level 0 has no unit of its own; the search ends by the size of eps, after the rounds that a block takes."""
    rounds, outward = [], pseudospectral_bounds.outward
    monkeypatch.setattr(pseudospectral_bounds, "outward", lambda *given: rounds.append(given) or outward(*given))
    for a, eps, expected in ((np.diag([-0.1, -0.5]), 0.1, 0.0), (np.array([[0.0, 1.0], [0.0, 0.0]]), 1e-4, None)):
        rounds.clear()
        expected = np.sqrt(eps**2 + eps) if expected is None else expected
        assert_allclose(pseudospectral_abscissa(a, eps), expected, rtol=1e-10, atol=1e-15)
        assert len(rounds) <= 6
    monkeypatch.setattr(
        pseudospectral_bounds,
        "outward",
        lambda a, eps, position, continuous: len(rounds) * 1.0 + (rounds.append(1) or 0),
    )
    monkeypatch.setattr(pseudospectral_bounds, "_midpoints_inside", lambda *given: [0.0])
    rounds.clear()
    with pytest.raises(ArithmeticError, match="not settled within 100 rounds"):
        pseudospectral_radius(np.diag([0.5, 0.2]), 0.1)


@every_case("exponent", [-960, -500, -200, 200])
def test_a_power_of_two_times_the_matrix_has_the_same_digits(exponent):
    """Squares of 1e-200 underflow: the departure had been 0, and the pseudospectrum had held the spectrum alone."""
    a = np.random.default_rng(0).standard_normal((6, 6)) / 4
    other = np.ldexp(a, exponent)
    assert henrici_departure(other) == np.ldexp(henrici_departure(a), exponent)
    for radius in (pseudospectral_radius, pseudospectral_abscissa):
        for eps in (0.0, 0.1):
            assert radius(other, np.ldexp(eps, exponent)) == np.ldexp(radius(a, eps), exponent)
    assert_allclose(pseudospectral_radius(np.zeros((2, 2)), 2.0**exponent), 2.0**exponent)
