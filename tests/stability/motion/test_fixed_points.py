"""Fixed points and bifurcations where they are known in closed form."""

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import every_case
from numpy.testing import assert_allclose, assert_array_equal

from ctrlattn import PID, FixedAttention, Loop
from ctrlattn.stability import continue_fixed_point, fixed_point, layer_map, stability_interval
from ctrlattn.stability.motion import fixed_points


def logistic(r):
    return lambda x: r * x * (1 - x)


def henon(a):
    return lambda z: np.array([1 - a * z[0] ** 2 + z[1], 0.3 * z[0]])


def henon_jvp(a):
    return lambda z, v: np.stack([-2 * a * z[0] * v[:, 0] + v[:, 1], 0.3 * v[:, 0]], -1)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "x", "gains", "expected"),
    [
        (logistic, [0.6], (2.97, 3.03), [("flip", 3.0)]),
        (logistic, [0.0], (0.97, 1.03), [("+1", 1.0)]),
        (henon, [0.5, 0.1], (0.35, 0.4), [("flip", 0.75 * 0.49)]),  # 3 (1 - b)^2 / 4
        (henon, [0.5, 0.1], (-0.11, -0.3), [("fold", -0.25 * 0.49)]),  # -(1 - b)^2 / 4
        # Delayed logistic map: multipliers e^{+-i pi/3} at r = 2.
        (lambda r: lambda z: np.array([r * z[0] * (1 - z[1]), z[0]]), [0.3, 0.3], (1.97, 2.03), [("rotation", 2.0)]),
    ],
    ids=["flip", "transcritical", "henon flip", "henon fold", "rotation"],
)
def test_bifurcations_where_they_are_known(family, x, gains, expected):
    jvp = henon_jvp if family is henon else None
    bifurcations = continue_fixed_point(family, np.array(x), gains, max_points=20, jvp=jvp).bifurcations
    first = bifurcations[: len(expected)]
    assert [kind for kind, _ in first] == [kind for kind, _ in expected]
    assert_allclose([gain for _, gain in first], [gain for _, gain in expected], atol=1e-7)


def test_a_branch_goes_round_its_fold():
    branch = continue_fixed_point(lambda g: lambda x: x + g - x**2, np.array([0.3]), (0.09, -0.2), max_points=13)
    assert_allclose(branch.x[:, 0] ** 2, branch.gain, atol=1e-9)  # both halves of the parabola
    assert branch.x[0, 0] > 0.25
    assert branch.x[-1, 0] < -0.25
    assert branch.stable[0]
    assert not branch.stable[-1]


def test_a_loop_loses_stability_where_the_interval_ends():
    # Negative feedback g on a mode a: alpha = 1 - g a; the printed law bears alpha > P + I/2 + 2D - 1.
    pid = PID(0.3, 0.2, 0.05)
    low, _ = stability_interval(pid)
    loop = Loop(FixedAttention(np.array([[0.8]])), skip=1.0, controller=pid)
    x = np.ones((1, 1))

    @functools.cache
    def family(g):
        return layer_map(replace(loop, feedback=-g), x)[0]

    def jvp(g):
        step = family(g)  # affine in the state
        return lambda z, v: np.stack([step(z + direction) - step(z) for direction in v])

    branch = continue_fixed_point(family, layer_map(loop, x)[1], (1.86, 1.89), jvp=jvp)
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


def test_two_real_multipliers_of_product_one_are_no_rotation():
    """A neutral saddle, multipliers 2 and g at g = 1/2: nothing crosses the circle."""
    saddle = continue_fixed_point(lambda g: lambda z: np.array([2.0, g]) * z, np.zeros(2), (0.47, 0.53))
    assert saddle.bifurcations == ()
    assert_allclose(saddle.multipliers, np.column_stack([np.full(len(saddle.gain), 2.0), saddle.gain]), atol=1e-9)
    assert not saddle.stable.any()


@pytest.mark.parametrize("angle", [0.3, 2.5])
@pytest.mark.parametrize("beside", [0.2, -3.0])
def test_a_pair_turns_at_the_gain_at_which_its_modulus_is_one(angle, beside):
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 0]])
    third = np.diag([0, 0, beside])
    branch = continue_fixed_point(
        lambda g: lambda z: (g * turn + third) @ z,
        np.zeros(3),
        (0.92, 1.08),
        jvp=lambda g: lambda z, v: v @ (g * turn + third).T,
    )
    ((kind, gain),) = branch.bifurcations
    assert kind == "rotation"
    assert_allclose(gain, 1.0, atol=1e-7)
    assert_array_equal(branch.stable, (branch.gain < 1) & (abs(beside) < 1))


@pytest.mark.slow
def test_several_bifurcations_are_listed_in_order_each_with_its_gain():
    # Multipliers 1.2 g, -g and 0.5: they cross at g = 5/6 (at 1) and g = 1 (at -1).
    def family(g):
        return lambda z: np.array([1.2 * g, -g, 0.5]) * z

    def jvp(g):
        return lambda z, v: np.array([1.2 * g, -g, 0.5]) * v

    branch = continue_fixed_point(family, np.zeros(3), (0.79, 1.06), jvp=jvp)
    assert [kind for kind, _ in branch.bifurcations] == ["+1", "flip"]
    assert_allclose([gain for _, gain in branch.bifurcations], [5 / 6, 1.0], atol=1e-7)
    back = continue_fixed_point(family, np.zeros(3), (1.06, 0.79))
    assert [kind for kind, _ in back.bifurcations] == ["flip", "+1"]
    assert np.all(np.diff(back.gain) < 0)


def test_a_branch_that_ends_is_lost_where_it_ends():
    def family(g):
        return lambda x: 0.5 * x if g <= 0.3 else np.full_like(x, np.nan)

    with pytest.raises(ArithmeticError, match=r"the branch is lost near gain 0\.(3|29999)"):
        continue_fixed_point(family, np.zeros(1), (0.2, 1.0))


def test_the_largest_number_of_points_is_kept_and_the_interval_ends_the_branch():
    def line(g):
        return lambda x: (x + g) / 2

    assert len(continue_fixed_point(line, np.zeros(1), (0.0, 2.0), max_points=7).gain) == 7
    gain = continue_fixed_point(line, np.zeros(1), (0.0, 2.0), step_length=0.1).gain
    assert gain[-2] <= 2.0 < gain[-1]
    with pytest.raises(ValueError, match="step_length > 0"):
        continue_fixed_point(line, np.zeros(1), (0.0, 2.0), step_length=0.0)


@pytest.mark.parametrize("start", [2.0, -5.0, 20.0])
def test_damped_steps_converge_where_newton_alone_diverges(start):
    """arctan x = 0 by Newton's method diverges from |x| > 1.3917."""
    point = fixed_point(lambda x: x - np.arctan(x), np.array([start]))
    assert_allclose(point.x, 0.0, atol=1e-9)
    assert point.residual <= 1e-10
    assert_allclose(point.multipliers, 0.0, atol=1e-8)


def test_multipliers_are_ordered_and_the_first_decides():
    values = np.array([0.3, -0.9, 0.5])
    point = fixed_point(lambda x: values * x + 1, np.zeros(3))
    assert_allclose(point.multipliers, [-0.9, 0.5, 0.3], atol=1e-9)
    assert_allclose(point.x, 1 / (1 - values), rtol=1e-9)
    assert point.stable
    assert point.iterations == 1
    assert not fixed_point(lambda x: -1.1 * x, np.ones(1)).stable
    with pytest.raises(ArithmeticError, match="in 0 iterations"):
        fixed_point(lambda x: values * x + 1, np.zeros(3), max_iterations=0)


def test_the_smallest_factor_has_the_sign_of_the_product_and_no_more_than_size_one():
    for factors, expected in (([3.0, -2.0], -1.0), ([0.5, -2.0], -0.5), ([-0.25, -7.0, 0.5], 0.25), ([], 1.0)):
        assert fixed_points._smallest(np.array(factors)) == expected


def line(g):
    return lambda x: (x + g) / 2


def curve_of(**tests):
    """A curve whose test functions go from 1 to the given values."""
    curve = fixed_points._Curve(line, np.zeros(1), 1e-10, None)
    ends = iter([dict.fromkeys(tests, 1.0), tests])
    curve.tests = lambda p, ahead: next(ends)
    curve._locate = lambda kind, old, new, ahead, before: (old + new) / 2
    curve._turns = lambda p: True
    return curve


@every_case(
    "after, kinds",
    [
        ({"fold": -1.0, "+1": -2.0, "flip": 3.0}, ["fold"]),  # a fold crosses at +1 as well
        ({"fold": 1.0, "+1": -0.5, "flip": -0.25}, ["+1", "flip"]),
        ({"fold": 1.0, "+1": 0.0, "flip": 0.0}, []),  # it is at 0 and has not changed its sign
        ({"rotation": -0.1}, ["rotation"]),
    ],
)
def test_a_bifurcation_is_a_change_of_sign(after, kinds):
    old, new = np.array([0.0, 0.0]), np.array([1.0, 3.0])
    assert curve_of(**after).crossings(old, new, new, new) == [(kind, 1.5) for kind in kinds]


def test_a_map_that_ends_at_the_start_has_no_tangent_there():
    def family(g):
        return lambda x: 0.5 * x if g <= 0.0 else np.full_like(x, np.nan)

    with pytest.raises(ArithmeticError, match="the derivative of the map is not finite at the start, gain 0"):
        continue_fixed_point(family, np.zeros(1), (0.0, 1.0))


def test_a_curve_in_closed_form():
    """x' = (x + g)/2 of two numbers: F = (g - x)/2, its null vector is along (1, 1, 1)."""
    curve = fixed_points._Curve(line, np.zeros(2), 1e-10, None)
    p = np.array([0.5, 1.0, 2.0])
    assert_allclose(curve.weight, [1 / np.sqrt(2), 1 / np.sqrt(2), 1.0])
    assert_allclose(curve.value(p), [0.75, 0.5])
    assert_allclose(curve.jacobian(p), [[0.5, 0.0, 0.5], [0.0, 0.5, 0.5]], atol=1e-9)
    assert_allclose(curve.derivative(p) * curve.weight, [[-0.5, 0.0, 0.5], [0.0, -0.5, 0.5]], atol=1e-9)
    # In weighted coordinates x counts as its root mean square does: as much as the gain.
    expected = np.array([0.5, 0.5, np.sqrt(0.5)])
    for sign in (1, -1):
        along = sign * np.array([0.1, 0.0, 0.2])
        assert_allclose(curve.tangent(p, along), sign * expected, atol=1e-9)
        assert_allclose(curve.scaled(curve.tangent(p, along)), sign * np.sqrt(0.5) * np.ones(3), atol=1e-9)
    corrected = curve.corrected(p, expected)
    assert_allclose(corrected[:2], corrected[2], atol=1e-12)
    assert_allclose(expected @ (curve.weight * (corrected - p)), 0, atol=1e-12)  # in the plane normal to the tangent
    tests = curve.tests(p, expected)
    assert_allclose(tests["fold"], expected[-1])
    assert_allclose([tests["+1"], tests["flip"], tests["rotation"]], [0.5, 1.0, -0.75], atol=1e-8)


@pytest.mark.parametrize("direction", [8.0, -8.0])
def test_a_step_is_halved_until_it_reduces_the_residual(direction):
    """f(x) = 0 has the residual |x|: from 1 the step -8 overshoots at 1, 1/2 and 1/4 and reduces it at 1/8."""
    reached = fixed_points._damped_step(lambda x: 0 * x, np.ones(1), np.array([direction]), 1.0)
    assert_allclose(reached, 0.0 if direction < 0 else 1 + 8 * 0.5 ** (fixed_points._HALVINGS - 1))


def test_multipliers_of_a_real_map_are_complex_and_descending():
    values = fixed_points._multipliers(np.array([[0.0, -2.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, -3.0]]))
    assert values.dtype == complex
    assert_allclose(np.abs(values), [3.0, 2.0, 2.0])


def test_a_state_of_2000_numbers_is_the_largest():
    fixed_points._require_small(np.zeros(2000))
    with pytest.raises(ValueError, match="a state of 2001 numbers: the Jacobian is formed for at most 2000"):
        fixed_points._require_small(np.zeros(2001))


def test_the_residual_and_the_iterations_are_those_of_the_point():
    point = fixed_point(lambda x: 0.5 * x + 1, np.array([2.0 + 4e-11]))
    assert (point.iterations, point.x.item()) == (0, 2.0 + 4e-11)
    assert_allclose(point.residual, 2e-11, rtol=1e-4)
    with pytest.raises(ArithmeticError, match=r"the residual reached 3 in 0 iterations, 1e-10 was asked for"):
        fixed_point(lambda x: 0.5 * x + 1, np.array([8.0]), max_iterations=0)


@every_case(
    "gains, read", [((0.5, 0, 0), []), ((0.5, 0.1, 0), [0]), ((0.5, 0, 0.1), [1, 2]), ((0.5, 0.1, 0.2), [0, 1, 2])]
)
@every_case("form", ["printed", "ema"])
def test_memories_that_gains_read_step_as_the_controller_does(gains, read, form):
    pid, errors = PID(*gains, form=form), np.random.default_rng(0).normal(size=(6, 2, 3))
    controller, memory = fixed_points.with_read_memories(pid, errors[0])
    whole = pid.init(errors[0])
    assert len(memory) == len([k for k in read if k < len(whole)])
    for e in errors[1:]:
        u, whole = pid.step(e, whole)
        other, memory = controller.step(e, memory)
        assert_allclose(other, u, rtol=1e-12)
    assert fixed_points.with_read_memories(None, errors[0]) == (None, ())
