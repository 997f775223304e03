"""Crossings of a level of sigma_min: each is one, and none is left out, against a fine grid of singular values."""

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.stability.nonnormal import resolvent_levels
from ctrlattn.stability.nonnormal.resolvent_levels import (
    at,
    crossings,
    least_sigma,
    middles,
    outward,
    sigma_min,
    unit_eigenvalues,
)


def matrix(seed, kind):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((5, 5)) + (1j * rng.standard_normal((5, 5)) if kind == "complex" else 0)
    return a / (1.3 * np.abs(np.linalg.eigvals(a)).max())


def singular_values(a, position, level, continuous):
    return np.linalg.svd(at(level, position, continuous) * np.eye(len(a)) - a, compute_uv=False)


@every_case("kind", ["real", "complex"])
@every_case("continuous", [False, True])
@every_case("seed", range(5))
def test_crossings_are_where_a_singular_value_is_the_level(seed, kind, continuous):
    a = matrix(seed, kind) - (np.eye(5) if continuous else 0)
    level, grid = (0.1, np.linspace(-4, 4, 20001)) if continuous else (1.1, np.linspace(0, 2 * np.pi, 20001))
    values = np.array([singular_values(a, p, level, continuous) for p in grid[::20]])
    eps = 1.0001 * float(np.median(values[:, -1]))  # off the grid
    positions = crossings(a, level, eps, continuous)
    assert len(positions) >= 2
    for p in positions:
        assert_allclose(np.abs(singular_values(a, p, level, continuous) - eps).min(), 0.0, atol=1e-7)
    changes = np.count_nonzero(np.diff(values > eps, axis=0))
    inside = positions[(positions >= grid[0]) & (positions <= grid[-1])]
    assert len(inside) == changes  # every change of sign on the grid has its crossing, and no other is there


@every_case("kind", ["real", "complex"])
@every_case("continuous", [False, True])
@every_case("seed", range(5))
def test_the_least_sigma_is_that_of_a_fine_grid(seed, kind, continuous):
    a = matrix(seed, kind) - (np.eye(5) if continuous else 0)
    level, grid = (0.0, np.linspace(-3, 3, 2001)) if continuous else (1.0, np.linspace(0, 2 * np.pi, 2001))
    sigma, position = least_sigma(a, level, continuous, [0.0])
    assert_allclose(sigma_min(a, at(level, position, continuous)), sigma, rtol=1e-12)
    points = np.array([at(level, p, continuous) for p in grid])
    least = np.linalg.svd(points[:, None, None] * np.eye(5) - a, compute_uv=False)[:, -1].min()
    assert sigma <= least + 1e-14
    assert_allclose(sigma, least, rtol=1e-4)


@pytest.mark.parametrize("continuous", [False, True])
def test_outward_reaches_the_farthest_point_of_the_ray(continuous):
    a = matrix(3, "complex") - (np.eye(5) if continuous else 0)
    for position in (0.0, 0.8, 2.5):
        reached = outward(a, 0.2, position, continuous)
        if np.isfinite(reached):
            assert_allclose(sigma_min(a, at(reached, position, continuous)), 0.2, rtol=1e-9)
            beyond = [sigma_min(a, at(reached + d, position, continuous)) for d in (1e-3, 0.1, 1.0, 10.0)]
            assert min(beyond) > 0.2
    assert outward(np.diag([0.5, 0.2]), 0.1, 0.0, False) == pytest.approx(0.6, rel=1e-12)
    assert outward(np.diag([-0.5, -0.2]), 0.1, 3.0, True) == -np.inf


def test_middles_on_a_line_and_round_a_circle():
    assert_allclose(middles(np.array([0.0, 1.0, 3.0]), None), [0.5, 2.0])
    assert_allclose(middles(np.array([1.0, 2.0]), 2 * np.pi), [1.5, 1.5 + np.pi])
    assert_allclose(middles(np.array([1.0]), 2 * np.pi), [1.0 + np.pi])
    assert len(middles(np.zeros(0), None)) == 0


@pytest.mark.parametrize("away", [np.pi, 0.3])
def test_unit_eigenvalues_are_those_of_the_pencil_on_the_circle(away):
    angles = np.array([0.4, 2.0, 5.0])
    rng = np.random.default_rng(0)
    left, right = (rng.standard_normal((5, 5)) for _ in range(2))
    values = np.append(np.exp(1j * angles), [0.5, 1.7j])
    q = left @ right
    p = left @ np.diag(values) @ right
    assert_allclose(unit_eigenvalues(p, q, away), angles, atol=1e-8)
    # A point that is an eigenvalue itself: the transform has no inverse there.
    assert_allclose(unit_eigenvalues(np.diag([-1.0, 0.5]), np.eye(2), np.pi), [np.pi], atol=1e-12)


@every_case("continuous", [False, True])
@every_case("size", [1e-7, 1e7])
def test_crossings_of_a_scaled_matrix_are_those_of_the_matrix(size, continuous):
    a = matrix(1, "complex") - (np.eye(5) if continuous else 0)
    level = 0.1 if continuous else 1.1
    eps = 1.1 * least_sigma(a, level, continuous, [0.0])[0]
    expected = crossings(a, level, eps, continuous)
    assert len(expected) >= 2
    scaled = crossings(size * a, size * level, size * eps, continuous)
    assert_allclose(scaled, (size if continuous else 1.0) * expected, rtol=1e-6)


@every_case("continuous", [False, True])
@every_case("kind", [0, 1j])
def test_outward_is_as_exact_as_the_singular_value_can_be(kind, continuous):
    """sigma_min is eps to the rounding of one SVD: the eigenvalues of order 2n alone are ten times as far off."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        a = (rng.standard_normal((30, 30)) + kind * rng.standard_normal((30, 30))) / np.sqrt(30)
        for eps in (0.01, 1.0):
            reached = outward(a, eps, 0.0, continuous)
            if np.isfinite(reached):
                rounding = np.finfo(float).eps * (np.linalg.norm(a, 2) + abs(reached))
                assert abs(sigma_min(a, at(reached, 0.0, continuous)) - eps) <= 4 * rounding


@every_case("seed", range(10))
def test_the_polish_of_a_level_is_newton_of_sigma_min(seed):
    """A normal matrix has sigma_min(x I - A) = min |x - lambda|: one step leads to the end, and no other value is."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4)))[0]
    a = (q * np.array([0.9, 0.2, -0.4, -0.8])) @ q.conj().T
    assert_allclose(resolvent_levels._polish(a, 0.1, 1.0 + rng.uniform(-0.05, 0.2)), 1.0, atol=1e-13)
    assert_allclose(resolvent_levels._polish(a, 0.1, -0.9 - rng.uniform(-0.05, 0.2)), -0.9, atol=1e-13)
    # A peak of sigma_min has no slope to follow: the level stays.
    assert resolvent_levels._polish(np.diag([0.0, 0.0, 5.0]), 0.0, 0.0) == 0.0


def test_a_level_that_newton_only_makes_worse_stays():
    """|x - 0.1 i| >= 0.1 never reaches 0.05: from 0.2 one step leads near 0, and the next one far away."""
    polished = resolvent_levels._polish(np.diag([0.1j, 5.0]), 0.05, 0.2)
    assert abs(polished) < 0.01


def normal(seed, n=4):
    """(A, its eigenvalues), unitarily diagonal: sigma_min(zI - A) is the distance of z from the nearest of them."""
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n)))[0]
    values = rng.uniform(0.2, 0.9, n) * np.exp(1j * rng.uniform(-3, 3, n))
    return (q * values) @ q.conj().T, values


@every_case("seed", range(6))
def test_crossings_of_a_normal_matrix_are_those_of_circles_about_its_eigenvalues(seed):
    a, values = normal(seed)
    eps = 0.31
    # |x + iy - v| = eps, and |r e^{it} - v| = eps by the law of cosines.
    x = 0.4
    half = [np.sqrt(eps**2 - (x - v.real) ** 2) for v in values if abs(x - v.real) < eps]
    inside = [v.imag for v in values if abs(x - v.real) < eps]
    expected = np.sort([y + s * h for y, h in zip(inside, half, strict=True) for s in (1, -1)])
    assert_allclose(crossings(a, x, eps, True), expected, atol=1e-7)
    r = 0.7
    cos = [(r * r + abs(v) ** 2 - eps**2) / (2 * r * abs(v)) for v in values]
    turns = [np.angle(v) + s * np.arccos(c) for v, c in zip(values, cos, strict=True) if abs(c) < 1 for s in (1, -1)]
    assert len(turns) >= 2
    for away in (np.pi, 0.123):
        assert_allclose(crossings(a, r, eps, False, away), np.sort(np.mod(turns, 2 * np.pi)), atol=1e-7)


@every_case("seed", range(6))
@every_case("continuous", [False, True])
def test_the_least_sigma_of_a_normal_matrix_is_the_distance_of_the_line(seed, continuous):
    a, values = normal(seed)
    level = -1.1 if continuous else 1.2
    away = np.abs(level - values.real) if continuous else np.abs(level - np.abs(values))
    sigma, position = least_sigma(a, level, continuous, [])
    assert_allclose(sigma, away.min(), rtol=1e-9)
    nearest = values[np.argmin(away)]
    found = position if continuous else np.exp(1j * position)
    assert_allclose(found, nearest.imag if continuous else nearest / abs(nearest), atol=1e-4)


@every_case("seed", range(6))
@every_case("continuous", [False, True])
def test_outward_of_a_normal_matrix_is_the_farthest_point_of_circles_about_its_eigenvalues(seed, continuous):
    a, values = normal(seed)
    for position in (0.0, 0.3, -1.2, 2.9):
        turned = values - 1j * position if continuous else values * np.exp(-1j * position)
        met = [t.real + np.sqrt(0.25**2 - t.imag**2) for t in turned if abs(t.imag) < 0.25]
        reached = outward(a, 0.25, position, continuous)
        if continuous or max(met, default=-1) > 0:
            assert_allclose(reached, max(met, default=-np.inf), rtol=1e-9)


def test_the_line_is_asked_at_the_starts_and_at_its_quarters(monkeypatch):
    given = []
    monkeypatch.setattr(resolvent_levels, "_descend", lambda *a: (given.append(a), (0.0, 0.0))[1])
    least_sigma(np.eye(2), 1.0, False, [0.3, 0.0])
    least_sigma(np.eye(2), 1.0, True, [0.3])
    assert_allclose(given[0][2], [0.0, 0.3, np.pi / 2, np.pi, 3 * np.pi / 2])
    assert_allclose(given[1][2], [0.0, 0.3])
    assert_allclose(given[0][4], 2 * np.pi)
    assert given[1][4] is None


def test_a_descent_asks_below_the_best_value_and_ends_where_nothing_is_below():
    """f = 1 + (p - 2)^2: crossings in closed form; the level is below the best by the accuracy asked for."""
    heights, far = [], []

    def crossed(height, away):
        heights.append(height)
        far.append(away)
        return np.array([]) if height < 1 else 2 + np.sqrt(height - 1) * np.array([-1.0, 1.0])

    def value(p):
        return 1 + (p - 2) ** 2

    best, where = resolvent_levels._descend(value, crossed, [0.0, 1.0, 5.0], 1e-3, None)
    assert (best, where) == (1.0, 2.0)
    assert far[0] == 5.0  # the probe that is farthest above
    assert_allclose(heights, [2 * (1 - 1e-3), 1 - 1e-3], rtol=1e-12)
    # What is below by less than the accuracy is not followed.
    heights.clear()
    near = 2 - 1e-4
    best, where = resolvent_levels._descend(value, lambda height, away: np.array([2.0]), [near], 1e-3, 2 * np.pi)
    assert (best, where) == (value(near), near)
    # Nothing is below 0, and a search that always finds less says so.
    assert resolvent_levels._descend(lambda p: 0.0, crossed, [0.7], 1e-3, None) == (0.0, 0.7)
    assert heights == []
    with pytest.raises(ArithmeticError, match="have not settled within 60 rounds"):
        resolvent_levels._descend(
            lambda p: np.exp(-p), lambda height, away: np.array([1 - np.log(height)]), [0.0], 1e-3, None
        )


def test_a_best_that_lies_between_two_crossings_round_the_circle_is_tried():
    """f = 1 - cos(p - 0.1) + 1: the minimum 1 at 0.1 lies on the arc that goes through the angle 0."""

    def crossed(height, away):
        turn = np.arccos(2 - height) if abs(2 - height) <= 1 else None
        return np.zeros(0) if turn is None else np.sort(np.mod([0.1 - turn, 0.1 + turn], 2 * np.pi))

    best, where = resolvent_levels._descend(lambda p: 2 - np.cos(p - 0.1), crossed, [0.6], 1e-9, 2 * np.pi)
    assert_allclose([best, np.cos(where - 0.1)], [1.0, 1.0], rtol=1e-12)


def test_a_level_of_three_states_that_newton_only_makes_worse_stays():
    assert abs(resolvent_levels._polish(np.diag([0.1j, 5.0, 7.0]), 0.05, 0.2)) < 0.01


def test_points_of_a_circle_and_of_a_vertical_line():
    assert at(0.5, 2.0, True) == 0.5 + 2j
    assert_allclose(at(0.5, np.pi / 2, False), 0.5j, atol=1e-16)


def test_an_eigenvalue_counts_as_on_the_circle_within_a_millionth():
    """Superfluous crossings cost an evaluation, lost ones the minimum."""
    radii = np.array([1.0, 1 + 0.7e-6, 1 - 0.7e-6, 1 + 1.6e-6, 1 - 1.6e-6])
    values = radii * np.exp(1j * np.arange(1, 6))
    assert_allclose(unit_eigenvalues(np.diag(values), np.eye(5), 0.5), [1.0, 2.0, 3.0], atol=1e-12)
    assert unit_eigenvalues(np.diag([0.5, 2.0]), np.diag([1.0, 0.0]), np.pi).tolist() == []  # an infinite one is none


def test_the_transform_is_about_the_point_that_is_asked_for(monkeypatch):
    """The matrix of mu, lambda = -e^{ia} (1 + mu)/(1 - mu), is (p - e^{ia} q)^-1 (p + e^{ia} q): real for a = 0, pi."""
    solved, solve = [], np.linalg.solve
    p, q = np.array([[0.0, 1.0], [-1.0, 0.4]]), np.array([[1.0, 0.2], [0.0, 1.0]])
    monkeypatch.setattr(np.linalg, "solve", lambda left, right: (solved.append((left, right)), solve(left, right))[1])
    for away in (0.7, 0.0, np.pi, 2 * np.pi):
        solved.clear()
        unit_eigenvalues(p, q, away)
        pole = np.exp(1j * away)
        assert_allclose(solved[0], [p - pole * q, p + pole * q], atol=1e-15)
        assert np.iscomplexobj(solved[0][0]) == (away == 0.7)
