"""Bounds of mu: closed forms, invariance under D, a plain search, and bounds that meet up to three channels."""

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from ctrlattn.stability.robustness import structured
from ctrlattn.stability.robustness.structured import (
    aligned,
    largest_radius,
    largest_singular_values,
    norms,
    radii,
    rotations,
    scaled_norm,
    scaled_norms,
    similar,
)


def matrices(channels, count=40, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, channels, channels)) + 1j * rng.normal(size=(count, channels, channels))


def test_closed_forms():
    assert_allclose(scaled_norm(np.array([[3.0 - 4.0j]]))[0], 5.0)
    diagonal = np.diag([1.0, -2.0, 1.5j])
    assert_allclose(scaled_norm(diagonal)[0], 2.0, rtol=1e-8)
    # Of rank one, u v*: mu = sum |u_i v_i|.
    u, v = matrices(3, 2)[:, 0]
    expected = np.sum(np.abs(u * v))
    assert_allclose(scaled_norm(np.outer(u, v))[0], expected, rtol=1e-8)
    assert_allclose(largest_radius(np.outer(u, v))[0], expected, rtol=1e-8)
    # A cycle: mu is the geometric mean of its gains.
    cycle = np.array([[0, 2.0, 0], [0, 0, 3.0j], [5.0, 0, 0]])
    assert_allclose(scaled_norm(cycle)[0], 30 ** (1 / 3), rtol=1e-8)


def test_a_triangular_matrix_has_its_diagonal():
    value, _ = scaled_norm(np.array([[0.5, 1e6], [0.0, 0.25]]))
    assert_allclose(value, 0.5, rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_bounds_meet_up_to_three_channels(channels):
    m = matrices(channels)
    values, logs = scaled_norms(m)
    assert_allclose(values, norms(m, logs), rtol=1e-14)
    for value, matrix in zip(values, m, strict=True):
        rho, q = largest_radius(matrix)
        assert_allclose(rho, value, rtol=1e-7)
        assert_allclose(np.abs(q), 1.0, rtol=1e-12)
        assert_allclose(np.linalg.det(np.eye(channels) - np.diag(q) @ matrix / rho), 0.0, atol=1e-10)


@pytest.mark.parametrize("channels", [3, 4, 5])
def test_the_scaled_norm_is_the_minimum_of_a_plain_search(channels):
    for matrix in matrices(channels, 3, channels):
        value, _ = scaled_norm(matrix)
        plain = minimize(
            lambda d, m=matrix: np.linalg.norm(similar(m, np.append(0.0, d)), 2), np.zeros(channels - 1),
            method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxfev": 8000},
        ).fun  # fmt: skip
        assert value <= plain * (1 + 1e-6)
        assert largest_radius(matrix)[0] <= value * (1 + 1e-9)


@pytest.mark.parametrize("decades", [3, 6])
def test_units_of_the_channels_change_nothing(decades):
    m = matrices(3, 5)
    units = np.log(10.0) * decades * np.array([1.0, -1.0, 0.3])
    assert_allclose(scaled_norms(similar(m, units))[0], scaled_norms(m)[0], rtol=1e-7)


def test_many_matrices_are_as_one_and_one():
    m = matrices(3, 6)
    m[2] = 0.0
    values, _ = scaled_norms(m)
    assert_allclose(values, [scaled_norm(x)[0] for x in m], rtol=1e-8)
    assert values[2] == 0.0


def test_rotations_cover_the_circle():
    assert rotations(1, 9).tolist() == [[1.0]]
    assert_allclose(rotations(2, 8)[:, 1], np.exp(2j * np.pi * np.arange(8) / 8), atol=1e-14)
    assert rotations(3, 64).shape == (64, 3)
    many = rotations(5, 64)
    assert_allclose(np.abs(many), 1.0)
    assert_allclose(many[:16].imag, 0.0, atol=1e-14)  # signs first
    assert len(np.unique(many[:16].real.round(), axis=0)) == 16


def test_aligned_rotations_attain_a_simple_largest_singular_value():
    m = matrices(2)
    values, logs = scaled_norms(m)
    s = np.linalg.svd(similar(m, logs), compute_uv=False)
    simple = s[:, 0] > 1.01 * s[:, 1]
    assert simple.sum() > 20
    assert_allclose(radii(m, aligned(m, logs))[simple], values[simple], rtol=1e-9)


@every_case("channels", [1, 2, 3, 4])
def test_radii_of_many_matrices_are_those_of_their_eigenvalues(channels):
    m = matrices(channels, 6)
    q = np.exp(1j * np.random.default_rng(1).normal(size=(5, 1, channels)))
    expected = np.abs(np.linalg.eigvals(q[..., None] * m)).max(axis=-1)
    assert expected.shape == (5, 6)
    assert_allclose(radii(m, q), expected, rtol=1e-10)


@every_case("channels", [1, 2, 3, 5])
def test_balanced_rows_and_columns_have_one_length(channels):
    size = np.abs(matrices(channels, 6)) * 10.0 ** np.random.default_rng(2).uniform(-2, 2, (6, channels, 1))
    logs = structured._balance(size)
    moved = np.exp(logs[:, :, None] - logs[:, None, :]) * size * (1 - np.eye(channels))
    assert_allclose(np.linalg.norm(moved, axis=2), np.linalg.norm(moved, axis=1), rtol=0.05, atol=1e-12)
    assert_allclose(logs.sum(axis=-1), 0, atol=1e-12)


@pytest.mark.parametrize("channels", [2, 3])
def test_a_step_to_the_centre_is_newton_s_and_goes_down(channels):
    """The minimum of -log det(level I - N* N) over log D by a plain search is where the steps end."""
    m = matrices(channels, 1, seed=3)
    level = np.array([1.2 * scaled_norm(m[0])[0] ** 2])

    def potential(free):
        logs = np.append(free, -np.sum(free))
        n = np.exp(logs[:, None] - logs) * m[0]
        room = 1 - np.linalg.svd(n, compute_uv=False) ** 2 / level
        return -np.sum(np.log(room)) if room.min() > 0 else np.inf

    centre = minimize(potential, scaled_norm(m[0])[1][:-1], method="Nelder-Mead", options={"xatol": 1e-9}).x
    logs = scaled_norm(m[0])[1][None]
    for _ in range(6):
        values, logs, levels = structured._newton_step(m, np.zeros(1), logs, level)
    assert_allclose((logs - logs.mean())[0, :-1], centre - 0.0, atol=1e-6)
    top = np.linalg.norm(similar(m, logs)[0], 2)
    assert_allclose(values, top, rtol=1e-9)
    assert top**2 < levels[0] < level[0]


@every_case("seed", range(6))
def test_a_climb_ends_where_no_phase_raises_the_radius(seed):
    """At a maximum the radius falls as the square of a turn of any phase: a wrong gradient stops on a slope."""
    rng = np.random.default_rng(seed)
    m = rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4))
    start = np.exp(2j * np.pi * rng.random(4))
    radius, q = structured._climb(m, start)
    assert radius >= np.abs(np.linalg.eigvals(start[:, None] * m)).max() * (1 - 1e-12)
    assert_allclose(np.abs(np.linalg.eigvals(q[:, None] * m)).max(), radius)
    turns = np.exp(1j * 1e-4 * rng.normal(size=(50, 4)))
    beside = np.abs(np.linalg.eigvals((q * turns)[:, :, None] * m)).max(axis=-1)
    assert np.all(beside <= radius * (1 + 1e-9))


@every_case("shape", [(5, 3, 2), (5, 2, 3), (2, 4, 3, 2), (2, 4, 2, 3), (4, 1, 2), (3, 2, 1)])
def test_the_largest_singular_value_of_stacks_that_are_not_square(shape):
    rng = np.random.default_rng(shape)
    m = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    m[0] *= 1e-200  # its Gram matrix alone would underflow
    assert_allclose(largest_singular_values(m), np.linalg.svd(m, compute_uv=False)[..., 0], rtol=1e-13)
    assert largest_singular_values(np.zeros(shape)).tolist() == np.zeros(shape[:-2]).tolist()


def test_one_channel_has_its_modulus_and_the_opposite_phase():
    m = np.array([[[3.0 - 4.0j]], [[0.0]], [[-2.0]]])
    values, logs = scaled_norms(m)
    assert values.tolist() == norms(m, logs).tolist() == [5.0, 0.0, 2.0]
    assert logs.tolist() == [[0.0]] * 3
    assert_allclose(aligned(m, logs), [[0.6 + 0.8j], [1.0], [-1.0]], rtol=1e-15)


def test_rotations_are_a_grid_up_to_three_channels_and_signs_and_draws_beyond():
    turns = np.exp(2j * np.pi * np.arange(8) / 8)
    grid = {(1.0, complex(a.round(9)), complex(b.round(9))) for a in turns for b in turns}
    assert {tuple(complex(x) for x in row) for row in rotations(3, 64).round(9) + 0.0} == grid
    for channels, signs in ((4, 8), (6, 16), (9, 16)):
        many, free = rotations(channels, 64), channels - 1
        assert many.shape == (64, channels)
        assert_allclose(many[:, 0], 1.0)
        expected = [[(-1.0) ** (i >> j) for j in range(free)] for i in range(signs)]
        assert_allclose(many[:signs, 1:], expected, atol=1e-14)
        drawn = np.random.default_rng(0).random((64, free))[signs:]
        assert_allclose(many[signs:, 1:], np.exp(2j * np.pi * drawn), rtol=1e-12)


def test_a_search_climbs_from_the_best_rotations_until_the_bounds_meet(monkeypatch):
    m = matrices(4, 1, seed=5)[0]
    upper, log = scaled_norm(m)
    first = aligned(m[None], log[None])[0]
    starts = rotations(4, structured._STARTS)
    best = starts[np.argsort(radii(m, starts))[::-1][: structured._CLIMBS - 1]]
    tried = []

    def climbed(radius):
        def climb(_, start):
            tried.append(start)
            return radius, 1j * start

        return climb  # fmt: skip

    monkeypatch.setattr(structured, "aligned", lambda m, logs: np.ones((1, 4), dtype=complex))
    monkeypatch.setattr(structured, "_climb", climbed(0.0))
    rho, q = largest_radius(m)
    assert_allclose(tried, [np.ones(4), *best])
    assert_allclose(rho, np.abs(np.linalg.eigvals(m)).max())  # no climb beats the first rotation
    # The best pair counts, with the common phase that makes rho itself an eigenvalue.
    tried.clear()
    monkeypatch.setattr(structured, "_climb", climbed(upper))
    rho, q = largest_radius(m)
    assert (len(tried), rho) == (1, upper)
    values = np.linalg.eigvals(q[:, None] * m)
    leading = values[np.argmax(np.abs(values))]
    assert_allclose(leading / abs(leading), 1.0, atol=1e-12)
    # Where the bounds meet at once, nothing climbs.
    tried.clear()
    monkeypatch.setattr(structured, "aligned", lambda m, logs: first[None])
    monkeypatch.setattr(structured, "scaled_norm", lambda m: (float(radii(m, first)), log))
    largest_radius(m)
    assert tried == []


def test_nothing_has_radius_zero_and_any_phases():
    rho, q = largest_radius(np.zeros((3, 3)))
    assert rho == 0.0
    assert_allclose(np.abs(q), 1.0)


def test_a_step_is_cut_to_its_reach():
    m = matrices(3, 2, seed=9)
    far = np.array([[9.0, -3.0, -6.0], [0.1, -0.1, 0.0]])
    start = norms(m, far)
    values, logs, _ = structured._newton_step(m, start, far, 2 * start**2)
    assert np.abs(logs - far).max() <= structured._REACH * (1 + 1e-12)
    assert np.all(values <= start)
    assert_allclose(values, norms(m, logs))
