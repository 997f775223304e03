"""Derivatives of a map, by torch, by differences and by the caller, against the matrix of its derivative."""

import numpy as np
import pytest
import torch
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.stability.motion.tangent import Tangent, as_state, dense_jacobian, length, require_callable

MATRIX = np.random.default_rng(0).standard_normal((4, 4))
X = np.array([0.3, -1.2, 0.5, 2.0])


def bent(x):
    return MATRIX @ x + x**3


EXACT = MATRIX + np.diag(3 * X**2)


def bent_torch(x):
    return torch.from_numpy(MATRIX) @ x + x**3


def test_torch_is_exact_and_differences_are_nearly_so():
    assert_allclose(dense_jacobian(bent_torch, torch.from_numpy(X))[1], EXACT, rtol=1e-13)
    assert_allclose(dense_jacobian(bent, X)[1], EXACT, rtol=1e-8)
    value, jacobian = dense_jacobian(bent, X, lambda x, v: v @ EXACT.T)
    assert_allclose(value, bent(X))
    assert_allclose(jacobian, EXACT, rtol=1e-15)


def test_a_frame_is_pushed_column_by_column():
    frame = np.random.default_rng(1).standard_normal((4, 2))
    value, moved = Tangent(X, None).advance(bent, X, frame)
    assert_allclose(value, bent(X))
    assert_allclose(moved, EXACT @ frame, rtol=1e-7)
    assert Tangent(X, None).advance(bent, X, np.zeros((4, 0)))[1].shape == (4, 0)


def test_at_a_kink_the_right_hand_side_counts():
    tangent = Tangent(np.zeros(1), None)
    assert_allclose(tangent.advance(np.abs, np.zeros(1), np.ones((1, 1)))[1], [[1.0]])


def test_what_is_lost_to_rounding_and_to_differences():
    assert Tangent(torch.zeros(4, dtype=torch.float64), None).noise == 0.0
    assert_allclose(Tangent(np.zeros(4), None).noise, 1e2 * np.finfo(float).eps ** (2 / 3))
    assert_allclose(Tangent(np.zeros(4), None).lost, 32 * np.finfo(float).eps)


def test_a_state_is_a_real_finite_array_that_holds_something():
    assert as_state(2).dtype == float
    assert length(as_state(np.zeros((2, 3)))) == 6
    with pytest.raises(InputTypeError, match="must be real"):
        as_state(np.zeros(2, dtype=complex))
    with pytest.raises(InputError, match="at least one number"):
        as_state(np.zeros((0, 3)))
    with pytest.raises(InputError, match="finite"):
        as_state(np.array([1.0, np.nan]))


def test_a_step_that_returns_something_else_is_refused():
    for step in (lambda x: x[:2], lambda x: torch.from_numpy(x), lambda x: None):
        with pytest.raises(InputError, match="the step must return what it takes"):
            dense_jacobian(step, X)
    with pytest.raises(InputError, match="J\\(x\\) times each direction"):
        dense_jacobian(bent, X, lambda x, v: v[0])
    with pytest.raises(InputTypeError, match="step must be a function, got int"):
        require_callable("step", 3, "layer_map makes it")


@every_case("slopes, expected", [((0.0, 1.0), 1.0), ((1.0, 0.0), 0.0), ((-2.0, 3.0), 3.0)])
def test_a_side_without_slope_is_a_kink_too(slopes, expected):
    left, right = slopes

    def step(x):
        return np.where(x < 0, left * x, right * x)

    moved = Tangent(np.zeros(1), None).advance(step, np.zeros(1), np.ones((1, 1)))[1]
    assert_allclose(moved, [[expected]], atol=1e-12)


@every_case("scale", [1e-6, 1.0, 1e6])
def test_differences_are_as_exact_for_states_of_any_size(scale):
    def scaled(x):
        return scale * bent(x / scale)

    assert_allclose(Tangent(scale * X, None).advance(scaled, scale * X, np.eye(4))[1], EXACT, rtol=1e-7)


def test_differences_grow_with_the_state_and_are_measured_again_a_hundredth_down():
    """f = x/2 has the size of the state for its scale: 200 is kept down to 2, and from there the state's own counts."""
    tangent = Tangent(np.array([1.0]), None)
    for state, size in ((1.0, 1.0), (-200.0, 200.0), (150.0, 200.0), (2.1, 200.0), (1.9, 1.9), (3.0, 3.0)):
        tangent.advance(lambda x: 0.5 * x, np.array([state]), np.ones((1, 1)))
        assert_allclose([tangent.size, tangent.at], size)


@every_case("factor", [1e-4, 1.0, 1e5])
def test_a_direction_of_any_length_is_stepped_along_by_the_same_way(factor):
    """f is asked at x +- h v/max|v| alone, and J v is linear in v."""
    asked, v = [], np.array([[0.5], [-2.0], [0.0], [1.0]])

    def step(x):
        asked.append(x.copy())
        return bent(x)

    tangent = Tangent(X, None)
    tangent.size = tangent.at = 2.0
    h = np.finfo(float).eps ** (1 / 3) * 2.0
    for times, differences in ((1, tangent), (2, tangent.longer()), (4, tangent.longer().longer())):
        asked.clear()
        moved = differences.advance(step, X, factor * v)[1]
        assert_allclose(moved, factor * (EXACT @ v), rtol=1e-7)
        assert_allclose(sorted(np.max(np.abs(x - X)) for x in asked), [0, times * h, times * h], rtol=1e-6, atol=1e-18)


def test_a_direction_of_zeros_stays_zero():
    frame = np.zeros((4, 2))
    frame[0, 1] = 1.0
    moved = Tangent(X, None).advance(bent, X, frame)[1]
    assert_allclose(moved[:, 0], 0.0)
    assert_allclose(moved[:, 1], EXACT[:, 0], rtol=1e-7)


def test_a_kink_counts_where_it_is_seen_beside_the_largest_derivative_so_far():
    """Beside a slope of 1 a kink of .015 counts, one of .007 is taken for the error of differences."""
    for slope, right in ((0.015, True), (0.007, False)):
        tangent = Tangent(np.array([1.0]), None)
        tangent.advance(lambda x: x, np.array([1.0]), np.ones((1, 1)))
        assert_allclose(tangent.stretch, 1.0)
        moved = tangent.advance(lambda x, s=slope: s * np.maximum(x, 0.0), np.zeros(1), np.ones((1, 1)))[1]
        assert_allclose(moved, [[slope if right else slope / 2]], rtol=1e-9)
        assert_allclose(tangent.stretch, 1.0)


@pytest.mark.parametrize(("share", "counts"), [(0.015, True), (0.007, False)])
def test_sides_that_differ_by_a_hundredth_are_a_kink(share, counts):
    """|x| bent by a share at 0: right 1 + share, left 1; below 1 % the central difference is the mean."""

    def step(x):
        return np.where(x < 0, x, (1 + share) * x)

    moved = Tangent(np.zeros(1), None).advance(step, np.zeros(1), np.ones((1, 1)))[1]
    assert_allclose(moved, [[1 + share if counts else 1 + share / 2]], rtol=1e-9)


@pytest.mark.parametrize("name", ["float32", "float64"])
def test_what_is_lost_follows_the_digits_and_the_length_of_the_state(name):
    x = np.zeros((3, 3), dtype=name)
    eps = float(np.finfo(name).eps)
    assert_allclose(Tangent(x, None).lost, 16 * 3 * eps)
    assert_allclose(Tangent(x, None).noise, 100 * eps ** (2 / 3))
    assert Tangent(x, lambda x, v: v).noise == 0.0
    assert_allclose(Tangent(torch.zeros(9, dtype=getattr(torch, name)), None).lost, 16 * 3 * eps)


def test_states_of_any_shape_and_a_step_that_cannot_be_mapped_over():
    x = torch.from_numpy(X.reshape(2, 2))

    asked = []

    def step(t):
        asked.append(t)
        if len(asked) == 1:
            raise RuntimeError("no batching rule")
        return bent_torch(t.reshape(4)).reshape(2, 2)

    value, moved = dense_jacobian(step, x)
    assert_allclose(value, bent(X).reshape(2, 2))
    assert_allclose(moved, EXACT, rtol=1e-12)
    value, moved = dense_jacobian(lambda v: bent(v.reshape(4)).reshape(2, 2), X.reshape(2, 2))
    assert value.shape == (2, 2)
    assert_allclose(moved, EXACT, rtol=1e-7)
    given = dense_jacobian(lambda v: v, X.reshape(2, 2), lambda x, v: 3 * v)[1]
    assert_allclose(given, 3 * np.eye(4))


def test_states_that_are_arrays_stay_what_they_are():
    x = np.arange(3, dtype=np.float32)
    assert as_state(x) is x
    assert as_state([1, 2]).tolist() == [1.0, 2.0]
    leaf = torch.ones(2, requires_grad=True)
    assert not as_state(leaf).requires_grad
    with pytest.raises(InputTypeError, match="must be real"):
        as_state(torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(InputError, match="at least one number"):
        as_state(torch.zeros((2, 0)))
