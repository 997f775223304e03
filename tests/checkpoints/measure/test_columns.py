"""Tensors are copied one behind the other: what is written into a tensor later does not reach the copy."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ctrlattn.checkpoints.measure.columns import Column  # noqa: E402  (after the skip)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_what_is_put_in_comes_out_in_order_however_many_were_expected(count):
    tensors = [torch.full((2, 3), float(i)) for i in range(5)]
    column = Column(count)
    for t in tensors:
        column.put(t)
        t.fill_(-1)
    expected = np.arange(5.0)[:, None, None] * np.ones((2, 3))
    np.testing.assert_array_equal(column.array(), expected)
    assert column.array().dtype == np.float32


def test_the_widest_type_is_kept():
    column, fine = Column(3), 1 + 2.0**-40
    column.put(torch.ones(1, dtype=torch.bfloat16))
    column.put(torch.full((1,), fine, dtype=torch.float64))
    column.put(torch.ones(1))
    assert column.array().tolist() == [[1.0], [fine], [1.0]]
    assert Column(4).array().shape[0] == 0
