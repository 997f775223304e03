"""The verdict of the kernel is that of the plain recursion and of the roots."""

import numpy as np
import pytest

from ctrlattn.kernels.schur_cohn import INSIDE, OUTSIDE, UNSURE, verdicts
from ctrlattn.linear.mode_polynomial import reflection


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", [float, complex])
def test_verdicts_are_those_of_the_roots_and_of_the_reference(order, kind):
    rng = np.random.default_rng(order)
    fixed = rng.normal(size=(40, order + 1)).astype(kind)
    fixed[:, 0] = 1
    fixed[:, 1:] *= rng.uniform(0, 1, size=(40, 1))
    slope = np.append(0, rng.normal(size=order)).astype(kind)
    alpha = rng.normal(size=30).astype(kind)
    if kind is complex:
        alpha += 1j * rng.normal(size=30)
    p = fixed[:, None, :] - alpha[:, None] * slope
    largest = np.array([[np.abs(np.roots(q)).max() for q in row] for row in p])
    assert np.all(np.abs(largest - 1) > 1e-6)
    expected = np.where(largest < 1, INSIDE, OUTSIDE)
    assert {INSIDE, OUTSIDE} == set(expected.ravel())
    np.testing.assert_array_equal(verdicts(fixed, slope, alpha, 1e-6), expected)
    np.testing.assert_array_equal(reflection(p) < 1, expected == INSIDE)


def test_a_root_on_the_circle_is_not_decided():
    fixed, slope = np.array([[1.0, 0.0]]), np.array([0.0, 1.0])
    alpha = np.array([1.0, -1.0, 1 - 1e-8, 1 - 1e-5, 1 + 1e-5])
    assert verdicts(fixed, slope, alpha, 1e-6).tolist() == [[UNSURE, UNSURE, UNSURE, INSIDE, OUTSIDE]]
