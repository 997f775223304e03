"""Crossings of a level of sigma_min: each is one, and none is left out, against a fine grid of singular values."""

import numpy as np
import pytest
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


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("seed", range(5))
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_least_sigma_is_that_of_a_fine_grid(seed, kind, continuous):
    a = matrix(seed, kind) - (np.eye(5) if continuous else 0)
    level, grid = (0.0, np.linspace(-3, 3, 4001)) if continuous else (1.0, np.linspace(0, 2 * np.pi, 4001))
    sigma, position = least_sigma(a, level, continuous, [0.0])
    assert_allclose(sigma_min(a, at(level, position, continuous)), sigma, rtol=1e-12)
    least = min(sigma_min(a, at(level, p, continuous)) for p in grid)
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


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("size", [1e-7, 1e7])
def test_crossings_of_a_scaled_matrix_are_those_of_the_matrix(size, continuous):
    a = matrix(1, "complex") - (np.eye(5) if continuous else 0)
    level = 0.1 if continuous else 1.1
    eps = 1.1 * least_sigma(a, level, continuous, [0.0])[0]
    expected = crossings(a, level, eps, continuous)
    assert len(expected) >= 2
    scaled = crossings(size * a, size * level, size * eps, continuous)
    assert_allclose(scaled, (size if continuous else 1.0) * expected, rtol=1e-6)


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("kind", [0, 1j])
def test_outward_is_as_exact_as_the_singular_value_can_be(kind, continuous):
    """sigma_min is eps to the rounding of one SVD: the eigenvalues of order 2n alone are ten times as far off."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        a = (rng.standard_normal((30, 30)) + kind * rng.standard_normal((30, 30))) / np.sqrt(30)
        for eps in (0.01, 1.0):
            reached = outward(a, eps, 0.0, continuous)
            if np.isfinite(reached):
                rounding = np.finfo(float).eps * (np.linalg.norm(a, 2) + abs(reached))
                assert abs(sigma_min(a, at(reached, 0.0, continuous)) - eps) <= 1.2 * rounding


@pytest.mark.parametrize("seed", range(10))
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
