"""Balanced pencils against numpy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn.kernels.pencil import balance_pencil, level_pencil
from ctrlattn.linear.realization import Realization
from ctrlattn.stability.robustness import level_sets


@pytest.mark.parametrize("dtype", [float, complex])
def test_a_balanced_pencil_has_rows_and_columns_of_length_one_about(dtype):
    rng = np.random.default_rng(3)
    left, right = (np.exp(8 * rng.standard_normal((2, 6, 1))) * rng.standard_normal((2, 6, 6))).astype(dtype)
    right[2] = left[2] = 0.0
    rows, columns = np.ones(6), np.ones(6)
    sizes = np.abs(left) ** 2 + np.abs(right) ** 2

    def root(squares):
        return np.exp2(-np.round(np.log2(np.where(squares > 0, squares, 1.0)) / 2))

    for _ in range(6):
        rows = root(sizes @ columns**2)
        columns = root(rows**2 @ sizes)
    expected = left * rows[:, None] * columns, right * rows[:, None] * columns
    balance_pencil(left, right)
    assert np.array_equal(left, expected[0])
    assert np.array_equal(right, expected[1])


@pytest.mark.parametrize(("n", "inputs", "outputs"), [(1, 1, 1), (4, 2, 3), (3, 3, 1), (0, 2, 2)])
@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("level", [0.3, 7.0])
def test_the_pencil_of_a_level_is_that_of_the_plain_reference(n, inputs, outputs, continuous, level):
    rng = np.random.default_rng(n)
    a, b, c, d = (rng.standard_normal(s) for s in ((n, n), (n, inputs), (outputs, n), (outputs, inputs)))
    expected = level_sets.level_pencil(Realization(a, b, c, d, continuous), level)
    balance_pencil(*expected)
    for one, other in zip(level_pencil(a, b, c, d, level, continuous), expected, strict=True):
        assert_allclose(one, other, rtol=1e-12, atol=1e-14)
