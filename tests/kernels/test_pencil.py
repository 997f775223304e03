"""Balanced pencils against numpy."""

import numpy as np
import pytest

from ctrlattn.kernels.pencil import balance_pencil


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
