"""Responses in Hessenberg form against numpy, point by point."""

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.kernels import boundary
from ctrlattn.kernels.boundary import Sides
from ctrlattn.linear.realization import Realization
from ctrlattn.linear.transfer import BoundaryTransfer
from ctrlattn.stability.robustness.level_sets import CIRCLE, OFFSETS, pole_grid
from ctrlattn.stability.robustness.norms import climbed


def system(n, inputs=1, outputs=1, seed=0):
    rng = np.random.default_rng([n, inputs, outputs, seed])
    a = np.triu(rng.standard_normal((n, n)), -1)
    a *= 0.95 / max(np.abs(np.linalg.eigvals(a)).max(), 1e-300) if n else 1.0
    return (
        a,
        rng.standard_normal((n, inputs)),
        rng.standard_normal((outputs, n)),
        rng.standard_normal((outputs, inputs)),
    )


def sides_of(a, b, c, d, continuous):
    centres = (0.0,) if continuous else (1.0, -1.0)
    columns = np.array([(a - z * np.eye(len(a))).T for z in centres])
    return Sides(np.ascontiguousarray(columns), np.array([b.T] * len(centres)), np.array([c] * len(centres)), d)


def one_by_one(a, b, c, d, w, continuous):
    points = 1j * w if continuous else np.exp(1j * w)
    return np.array([c @ np.linalg.solve(z * np.eye(len(a)) - a, b) + d for z in points])


@every_case("n", [1, 2, 3, 8, 33])
@every_case("inputs, outputs", [(1, 1), (2, 1), (1, 3), (3, 2)])
@every_case("continuous", [False, True])
def test_responses(n, inputs, outputs, continuous):
    g = system(n, inputs, outputs)
    w = np.concatenate([[0.0, np.pi, -np.pi, np.pi / 2], np.random.default_rng(1).uniform(-np.pi, np.pi, 50)])
    expected = one_by_one(*g, w, continuous)
    values = boundary.responses(sides_of(*g, continuous), w)
    assert_allclose(values, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("continuous", [False, True])
def test_zeros_below_the_diagonal_and_in_the_right_hand_side_change_nothing(continuous):
    a, b, c, d = system(12, 2, 2)
    a[3, 2] = a[7, 6] = a[11, 10] = 0.0
    b[1:, 0] = 0.0
    w = np.linspace(-3, 3, 41)
    for matrix in (a, np.triu(a), np.diag(np.diag(a))):
        expected = one_by_one(matrix, b, c, d, w, continuous)
        values = boundary.responses(sides_of(matrix, b, c, d, continuous), w)
        assert_allclose(values, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_a_large_entry_below_the_diagonal_is_the_pivot():
    """Without pivots the corner 1e-9 divides entries of size 1: seven digits would be lost."""
    a = np.array([[0.0, 1.0, 2.0], [1.0, 0.5, 1.0], [0.0, 1.0, 1e-9]])
    g = a, np.ones((3, 1)), np.array([[1.0, -1.0, 2.0]]), np.zeros((1, 1))
    w = np.array([1e-9, 0.3])
    assert_allclose(boundary.responses(sides_of(*g, True), w), one_by_one(*g, w, True), rtol=1e-13)


def test_an_infinite_frequency_shows_the_direct_term_and_a_pole_no_number():
    g = np.array([[0.0, 1.0], [0.0, -1.0]]), np.ones((2, 1)), np.ones((1, 2)), np.array([[3.0]])
    values = boundary.responses(sides_of(*g, True), np.array([np.inf, 0.0]))[:, 0, 0]
    assert values[0] == 3.0
    assert not np.isfinite(values[1])
    nothing = np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0)), g[3]
    assert boundary.responses(sides_of(*nothing, True), np.array([0.5]))[0, 0, 0] == 3.0


@every_case("k", [10, 20, 30])
@every_case("sign", [1.0, -1.0])
def test_poles_near_the_ends_of_the_circle_keep_their_digits(k, sign):
    """|h/(z - 1 + h)| at w = 2 asin(x h/2), where |z - 1 + h|^2 = h^2 + (1 - h) x^2 h^2; the same next to z = -1."""
    h, x = 2.0**-k, np.array([0.0, 0.5, 2.0])
    g = np.array([[sign * (1 - h)]]), np.array([[h]]), np.ones((1, 1)), np.zeros((1, 1))
    w = 2 * np.arcsin(x * h / 2)
    values = boundary.responses(sides_of(*g, False), w if sign > 0 else np.pi - w)[:, 0, 0]
    rounded = 1e-13 if sign > 0 else 1e-13 + 1e-15 / h  # pi - w has lost as much
    assert_allclose(np.abs(values), 1 / np.sqrt(1 + (1 - h) * x**2), rtol=rounded)


@every_case("n", [1, 4, 9])
@every_case("inputs, outputs", [(1, 1), (2, 2), (1, 3), (3, 1), (2, 3), (3, 2)])
@every_case("continuous", [False, True])
def test_the_climb_is_that_of_the_plain_reference_and_ends_on_a_singular_value(n, inputs, outputs, continuous):
    a, b, c, d = system(n, inputs, outputs, seed=2)
    a = a - 2 * np.eye(n) if continuous else a
    response = BoundaryTransfer(a, b, c, d, continuous)
    w = np.append(np.geomspace(1e-2, 3, 40), np.inf if continuous else np.pi)
    value, frequency = boundary.climbed(response.sides, w, 4)
    expected, where = climbed(response, w)
    assert_allclose(value, expected, rtol=1e-12)
    assert_allclose(frequency, where, rtol=1e-5)
    g = one_by_one(a, b, c, d, np.array([min(frequency, 1e9)]), continuous)[0]
    assert_allclose(value, np.linalg.svd(g, compute_uv=False)[0], rtol=1e-6)


def test_a_climb_finds_a_peak_between_the_points_of_its_grid_and_stops_at_a_pole():
    """|1/(s^2 + 0.02 s + 1)| has the peak 1/(0.02 sqrt(1 - 0.01^2)) at w^2 = 1 - 2 0.01^2."""
    damped = BoundaryTransfer(
        np.array([[0.0, 1.0], [-1.0, -0.02]]), np.eye(2)[:, 1:], np.eye(2)[:1], np.zeros((1, 1)), True
    )
    value, frequency = boundary.climbed(damped.sides, np.array([0.0, 0.98, 1.01, 3.0]), 4)
    assert_allclose(value, 1 / (0.02 * np.sqrt(1 - 1e-4)), rtol=1e-6)
    assert_allclose(frequency, np.sqrt(1 - 2e-4), rtol=1e-4)
    integrator = BoundaryTransfer(np.zeros((1, 1)), np.eye(1), np.eye(1), np.zeros((1, 1)), True)
    assert boundary.climbed(integrator.sides, np.array([0.0, 1.0]), 4) == (np.inf, 0.0)
    nothing = BoundaryTransfer(-np.eye(1), np.zeros((1, 1)), np.eye(1), np.zeros((1, 1)), True)
    assert boundary.climbed(nothing.sides, np.array([0.0, 1.0, 2.0]), 4) == (0.0, 0.0)


@every_case("seed", range(12))
def test_a_grid_about_poles_is_that_of_plain_numpy_in_any_order(seed):
    rng = np.random.default_rng(seed)
    inside = rng.uniform(0, 1, 6) ** 0.1 * np.exp(1j * rng.choice([0, np.pi, 1e-3, 2.0], 6))
    poles = np.concatenate([inside, inside.conj(), [0.0]])
    one = np.ones((1, 1))
    plain = np.abs(pole_grid(Realization(one, one, one, one, False), poles))
    w, nearest, beside = boundary.circle_grid(poles, CIRCLE, OFFSETS)
    assert_allclose(np.sort(w), np.sort(plain), atol=1e-14)
    assert_allclose(nearest, np.abs(1 - np.abs(poles)).min(), rtol=1e-12)
    assert_allclose(beside, np.abs(np.angle(poles[np.argmin(np.abs(1 - np.abs(poles)))])), rtol=1e-12)


@every_case("continuous", [False, True])
@every_case("climbs", [0, 1, 4])
def test_the_order_of_a_grid_does_not_matter(continuous, climbs):
    g = system(6, 2, 2)
    transfer = BoundaryTransfer(*g, continuous)
    w = np.concatenate([np.linspace(0, 3, 25), [np.inf] if continuous else [np.pi]])
    expected = boundary.climbed(transfer.sides, w, climbs)
    mixed = np.random.default_rng(0).permutation(np.concatenate([w, w[3:9]]))
    assert boundary.climbed(transfer.sides, mixed, climbs) == expected
    if climbs == 0:
        gains = np.linalg.norm(transfer.at(w).transpose(2, 0, 1), 2, axis=(1, 2))
        assert_allclose(expected, (gains.max(), w[np.argmax(gains)]), rtol=1e-12)
