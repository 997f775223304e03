"""The operator of one pass: each statement of the theory by a second method, and the scene end to end."""

import json
import math
from unittest.mock import ANY

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.optimize import minimize_scalar
from scipy.sparse.linalg import svds

from ctrlattn import pass_operator, simulate


@pytest.fixture(scope="module")
def numbers(scene, tmp_path_factory):
    """One small run for all tests: its numbers, after a look at what it wrote."""
    out = tmp_path_factory.mktemp("operator") / "out"
    numbers = scene.main(out, seed=3)
    assert sorted(p.name for p in out.iterdir()) == ["operator.json", "operator.png"]
    assert json.loads((out / "operator.json").read_text(encoding="utf-8")) == {"run": ANY, **numbers}
    return numbers


def test_every_statement_agrees_for_another_seed(numbers):
    assert len(numbers["verdict"]) > 25
    assert [line for line in numbers["verdict"] if not line.startswith("agrees")] == []


def test_a_wrong_number_would_be_told(scene, numbers):
    wrong = {**numbers, "radius": {"sequential": 1.56, "parallel": 1.5}}
    assert sum(line.startswith("DISAGREES") for line in scene.verdict(wrong)) == 1


def test_closed_form_against_the_notes_code(scene):
    x = np.random.default_rng(0).standard_normal((9, 2))
    y = x.copy()
    for i in range(1, 9):
        y[i] = y[i] - np.sum(y[0:i], axis=0) / i
    np.testing.assert_allclose(scene.closed_form(x), y, atol=1e-14)


def test_one_and_two_tokens(scene):
    assert scene.closed_form(np.ones((1, 1))).tolist() == [[1.0]]
    assert scene.closed_form(np.array([[2.0], [5.0]])).tolist() == [[2.0], [3.0]]
    assert scene.corner_growth(2, 1000) == pytest.approx(1, abs=1e-5)  # [[1, 0], [-p, 1]]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_stream_needs_one_sum_a_pass(scene, seed):
    x, passes = np.random.default_rng(seed).standard_normal((20, 3)), 6
    sums, out = np.zeros((passes, 3)), []
    for i, token in enumerate(x):
        for p in range(passes):
            token = token - sums[p] / max(i, 1)
            sums[p] = sums[p] + token
        out.append(token)
    np.testing.assert_allclose(scene.streamed(x, passes), out, atol=1e-13)
    np.testing.assert_allclose(simulate(scene.SEQUENTIAL, x, passes).state[-1], out, atol=1e-13)


def test_the_passes_are_euler_steps_of_one_differential_equation(scene):
    m = np.eye(12) - pass_operator(scene.ORDERS["parallel"], 12)
    steps = 4000
    backward = np.linalg.matrix_power(np.linalg.inv(np.eye(12) + m / steps), steps)
    forward = np.linalg.matrix_power(np.eye(12) - m / steps, steps)
    np.testing.assert_allclose((backward + forward) / 2, expm(-m), atol=1e-6)  # the errors of first order cancel


def test_norms_of_powers_by_iteration(scene, numbers):
    matrix = np.linalg.matrix_power(pass_operator(scene.SEQUENTIAL, 200), 5)
    largest = svds(matrix, k=1, return_singular_vectors=False, rng=np.random.default_rng(0))[0]
    assert largest == pytest.approx(7.621, abs=6e-4)
    assert numbers["growth"]["sequential"][-1][4] == pytest.approx(largest, abs=1e-5)


def test_numerical_radius_by_minimisation(scene):
    matrix = pass_operator(scene.SEQUENTIAL, 40)

    def largest(t):
        turned = np.exp(1j * t) * matrix
        return -np.linalg.eigvalsh((turned + turned.conj().T) / 2)[-1]

    largest_value = -minimize_scalar(largest, bounds=(-1, 1), method="bounded").fun
    assert scene.numerical_radius(matrix) == pytest.approx(largest_value, abs=1e-6) == pytest.approx(1.5591, abs=6e-5)
    jordan = np.diag(np.ones(6), 1)
    assert scene.numerical_radius(jordan) == pytest.approx(math.cos(math.pi / 8), abs=1e-12)  # closed form


def test_resolvent_of_a_jordan_block_of_two(scene):
    matrix, eps = pass_operator(scene.SEQUENTIAL, 2), 0.01
    exact = np.linalg.norm([[1 / eps, 0], [-1 / eps**2, 1 / eps]], 2)
    assert scene.resolvent(matrix, 1 + eps) == pytest.approx(exact, rel=1e-9)


def test_growth_on_the_map_changes_at_the_disk(scene, numbers):
    z = scene.GRID[0] + 1j * scene.GRID[1][:, None]
    power, distance = np.array(numbers["map"], dtype=float), np.abs(z - 2 / 3)
    seen = np.isfinite(power)
    inside, outside = seen & (distance < 0.28), seen & (distance > 0.5)
    assert np.min(power[inside]) > 0.15
    assert np.max(np.abs(power[outside])) < 0.1
    exact = np.real(1 / (1 / z[inside] - 1)) - 0.5
    assert np.median(np.abs(power[inside] - exact)) < 0.1


def test_helmert_transform_by_samples(scene):
    rng, n = np.random.default_rng(0), 6
    x = math.sqrt(0.7) * rng.standard_normal((n, 200_000)) + math.sqrt(1.9) * rng.standard_normal(200_000)
    covariance = np.cov(simulate(scene.ORDERS["parallel"], x, 1, record="last").state)
    others = covariance[1:, 1:] - np.diag(np.diag(covariance)[1:])
    assert np.max(np.abs(others)) < 0.03
    np.testing.assert_allclose(covariance[0, 1:], -0.7 / np.arange(1, n), atol=0.03)
