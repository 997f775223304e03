"""Rows and columns normalised in turn: softmax first, a doubly stochastic matrix in the end."""

import numpy as np
import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn.nn.modules.sinkhorn import sinkhorn  # noqa: E402


def test_sinkhorn_is_softmax_at_first_and_doubly_stochastic_in_the_end():
    logits = torch.randn(3, 5, 5, dtype=torch.float64)
    npt.assert_allclose(sinkhorn(logits, 1), logits.softmax(-1), rtol=0, atol=1e-15)
    matrix = sinkhorn(logits, 201)
    for axis in (-1, -2):
        npt.assert_allclose(matrix.sum(axis), np.ones((3, 5)), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"square matrices and at least one step, got \(2, 3\) and 1"):
        sinkhorn(torch.zeros(2, 3), 1)
    with pytest.raises(ValueError, match="at least one step"):
        sinkhorn(torch.zeros(2, 2), 0)


def test_sixty_mixings_of_streams_do_not_amplify():
    # mHC: the mixing of streams is projected; without the projection the product of as many layers explodes.
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(60, 4, 4, dtype=torch.float64, generator=generator)
    projected = torch.linalg.multi_dot(list(sinkhorn(raw, 201)))
    assert abs(torch.linalg.matrix_norm(projected, 2).item() - 1) < 1e-9
    assert torch.linalg.matrix_norm(torch.linalg.multi_dot(list(raw.exp())), 2) > 1e20
