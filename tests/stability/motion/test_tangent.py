"""Derivatives of a map, by torch, by differences and by the caller, against the matrix of its derivative."""

import numpy as np
import pytest
import torch
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


@pytest.mark.parametrize(("slopes", "expected"), [((0.0, 1.0), 1.0), ((1.0, 0.0), 0.0), ((-2.0, 3.0), 3.0)])
def test_a_side_without_slope_is_a_kink_too(slopes, expected):
    left, right = slopes

    def step(x):
        return np.where(x < 0, left * x, right * x)

    moved = Tangent(np.zeros(1), None).advance(step, np.zeros(1), np.ones((1, 1)))[1]
    assert_allclose(moved, [[expected]], atol=1e-12)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_differences_are_as_exact_for_states_of_any_size(scale):
    def scaled(x):
        return scale * bent(x / scale)

    assert_allclose(Tangent(scale * X, None).advance(scaled, scale * X, np.eye(4))[1], EXACT, rtol=1e-7)
