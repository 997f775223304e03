"""Fixed points and bifurcations where they are known in closed form."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ctrlattn import PID, FixedAttention, Loop
from ctrlattn.stability import continue_fixed_point, fixed_point, layer_map, stability_interval


def logistic(r):
    return lambda x: r * x * (1 - x)


def henon(a):
    return lambda z: np.array([1 - a * z[0] ** 2 + z[1], 0.3 * z[0]])


def test_henon_fixed_point_and_its_multipliers():
    rest = fixed_point(henon(1.4), np.array([0.5, 0.1]))
    x = (-0.7 + math.sqrt(0.49 + 5.6)) / 2.8
    assert_allclose(rest.x, [x, 0.3 * x], atol=1e-12)
    assert_allclose(np.prod(rest.multipliers), -0.3, atol=1e-9)
    assert not rest.stable


def test_torch_in_torch_out():
    rest = fixed_point(torch.cos, torch.tensor([1.0], dtype=torch.float64))
    assert_allclose(rest.x.numpy(), 0.7390851332151607, atol=1e-12)
    assert rest.stable


def test_steady_state_of_a_loop_under_pid():
    # With an integral the error of the settled loop is 0; with P alone T(1) = P/(1 - alpha + P).
    rng = np.random.default_rng(1)
    matrix = np.tril(rng.random((3, 3)) + 0.2)
    matrix = matrix / matrix.sum(1, keepdims=True)
    x = rng.standard_normal((3, 2))
    loop = Loop(FixedAttention(matrix), skip=0.0, feedback=1.0, controller=PID(0.6, 0.3))
    step, start = layer_map(loop, x)
    assert_allclose(fixed_point(step, start).x[0], x, atol=1e-9)
    step, start = layer_map(replace(loop, controller=PID(0.6)), x)
    assert_allclose(fixed_point(step, start).x[0], np.linalg.solve(1.6 * np.eye(3) - matrix, 0.6 * x), atol=1e-9)


def test_a_continuum_of_fixed_points_is_met_near_the_start():
    # Row-stochastic attention holds every constant signal: J - I is singular along it.
    x = np.array([[1.0], [1.2], [0.9]])
    rest = fixed_point(Loop(FixedAttention(np.full((3, 3), 1 / 3)), skip=0.0, feedback=1.0).predictor, x)
    assert_allclose(rest.x, np.full((3, 1), x.mean()), atol=1e-12)


def test_no_fixed_point_is_said():
    with pytest.raises(ArithmeticError, match="no fixed point found"):
        fixed_point(lambda x: x + 1 + x**2, np.array([0.3]))
    with pytest.raises(ValueError, match="at most 2000"):
        fixed_point(lambda x: x, np.zeros(2001))


@pytest.mark.parametrize(
    ("family", "x", "gains", "expected"),
    [
        (logistic, [0.6], (2.5, 3.5), [("flip", 3.0)]),
        (logistic, [0.0], (0.5, 1.5), [("+1", 1.0)]),
        (henon, [0.5, 0.1], (0.1, 1.4), [("flip", 0.75 * 0.49)]),  # 3 (1 - b)^2 / 4
        (henon, [0.5, 0.1], (0.1, -0.3), [("fold", -0.25 * 0.49)]),  # -(1 - b)^2 / 4
        # Delayed logistic map: multipliers e^{+-i pi/3} at r = 2.
        (lambda r: lambda z: np.array([r * z[0] * (1 - z[1]), z[0]]), [0.3, 0.3], (1.5, 2.5), [("rotation", 2.0)]),
    ],
    ids=["flip", "transcritical", "henon flip", "henon fold", "rotation"],
)
def test_bifurcations_where_they_are_known(family, x, gains, expected):
    bifurcations = continue_fixed_point(family, np.array(x), gains, max_points=80).bifurcations
    first = bifurcations[: len(expected)]
    assert [kind for kind, _ in first] == [kind for kind, _ in expected]
    assert_allclose([gain for _, gain in first], [gain for _, gain in expected], atol=1e-7)


def test_a_branch_goes_round_its_fold():
    branch = continue_fixed_point(lambda g: lambda x: x + g - x**2, np.array([0.5]), (0.25, -0.2))
    assert_allclose(branch.x[:, 0] ** 2, branch.gain, atol=1e-9)  # both halves of the parabola
    assert branch.x[0, 0] > 0.4
    assert branch.x[-1, 0] < -0.4
    assert branch.stable[0]
    assert not branch.stable[-1]


def test_a_loop_loses_stability_where_the_interval_ends():
    # Negative feedback g on a mode a: alpha = 1 - g a; the printed law bears alpha > P + I/2 + 2D - 1.
    pid = PID(0.3, 0.2, 0.05)
    low, _ = stability_interval(pid)
    loop = Loop(FixedAttention(np.array([[0.8]])), skip=1.0, controller=pid)
    x = np.ones((1, 1))

    def family(g):
        return layer_map(replace(loop, feedback=-g), x)[0]

    branch = continue_fixed_point(family, layer_map(loop, x)[1], (0.5, 3.0))
    ((kind, gain),) = branch.bifurcations
    assert kind == "flip"
    assert_allclose(gain, (1 - low) / 0.8, atol=1e-6)


def test_refused():
    with pytest.raises(ValueError, match="two different ends"):
        continue_fixed_point(logistic, np.array([0.5]), (2.5, 2.5))


def test_no_two_points_of_a_branch_are_farther_apart_than_the_step():
    # x = g on a straight line; |(x, g)|^2 = mean x^2 + g^2, so that x and g move by step/sqrt(2).
    branch = continue_fixed_point(lambda g: lambda x: (x + g) / 2, np.zeros(4), (0.0, 2.0), step_length=0.1)
    assert_allclose(branch.x, np.repeat(branch.gain[:, None], 4, axis=1), atol=1e-9)
    assert_allclose(np.diff(branch.gain), 0.1 / np.sqrt(2), rtol=1e-6)


def test_the_tolerance_is_relative_to_the_largest_coordinate():
    # x = 2 c and 0; at the start |f(x) - x| is 1/2 in the first coordinate, and tol |x| is 1 or 1/4.
    def step(x):
        return torch.stack([0.5 * x[0] + 0.5e6, 0.5 * x[1]])

    start = torch.tensor([1e6 + 1, 0.0], dtype=torch.float64)
    assert fixed_point(step, start, tol=1e-6).iterations == 0
    closer = fixed_point(step, start, tol=0.25e-6)
    assert closer.iterations == 1
    assert_allclose(closer.x.numpy(), [1e6, 0.0], rtol=1e-12)
