"""Scaling of states: the transfer function stays to the last bit, the entries come near each other."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ctrlattn.linear.balancing import balanced, state_scaling


@pytest.mark.parametrize("seed", range(10))
def test_powers_of_two_that_bring_a_badly_scaled_system_back(seed):
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=(5, 5)), rng.normal(size=(5, 2)), rng.normal(size=(3, 5))
    units = 2.0 ** rng.integers(-30, 30, 5)
    spoilt = (a * units / units[:, None], b / units[:, None], c * units)
    scale = state_scaling(*spoilt)
    assert_array_equal(np.frexp(scale)[0], 0.5)
    mended = (spoilt[0] * scale / scale[:, None], spoilt[1] / scale[:, None], spoilt[2] * scale)
    assert np.linalg.norm(mended[0]) < 10 * np.linalg.norm(a)
    assert_allclose(mended[2] @ mended[0] @ mended[1], c @ a @ b, rtol=1e-10)
    # Neither inputs nor outputs carry what belongs to the states.
    assert 1e-2 < np.linalg.norm(mended[1]) / np.linalg.norm(mended[2]) < 1e2


def test_no_states():
    assert state_scaling(np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0))).shape == (0,)


def test_a_large_diagonal_hides_nothing():
    a = -1e6 * np.eye(2) + np.array([[0.0, 2.0**20], [2.0**-20, 0.0]])
    scale = state_scaling(a, np.zeros((2, 1)), np.zeros((1, 2)))
    assert scale[0] / scale[1] == 2.0**20
    assert_array_equal(balanced(a), -1e6 * np.eye(2) + np.array([[0.0, 1.0], [1.0, 0.0]]))
