"""Overlaps of subspaces against their principal angles."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn.checkpoints.measure.directions import feature_directions, subspace_overlap, token_energy


def test_overlap_is_the_mean_squared_cosine_of_the_principal_angles():
    rng = np.random.default_rng(0)
    a, b = (np.stack([np.linalg.qr(rng.normal(size=(9, 3)))[0].T for _ in range(4)]) for _ in range(2))
    overlap = subspace_overlap(a, b)
    for i in range(4):
        for j in range(4):
            cosines = np.linalg.svd(a[i] @ b[j].T, compute_uv=False)
            assert_allclose(overlap[i, j], np.mean(cosines**2), rtol=1e-12)


@pytest.mark.parametrize(("n", "d", "rank"), [(5, 4, 2), (2, 9, 2), (2, 9, 1)])  # more rows than features, and fewer
def test_feature_directions_hold_most_of_the_vectors(n, d, rank):
    rng = np.random.default_rng(1)
    whole, low = rng.normal(size=(2, 2 * n, d)), rng.normal(size=(2, 2 * n, 1)) * rng.normal(size=(2, 1, d))
    rows = low if rank == 1 else whole
    vectors = rows.reshape(2, 2, n * d)
    for layer, directions in zip(vectors, feature_directions(vectors, n), strict=True):
        rows = layer.reshape(-1, d)
        assert_allclose(directions @ directions.T, np.eye(2), atol=1e-12)
        sizes = np.linalg.svd(rows, compute_uv=False)
        assert_allclose(np.sum((rows @ directions.T) ** 2), np.sum(sizes[:2] ** 2), rtol=1e-12)


def test_token_energies_are_shares():
    vectors = np.array([[3.0, 0.0, 0.0, 4.0], [0.0, 0.0, 0.0, 0.0]])
    assert_allclose(token_energy(vectors, 2), [[9 / 25, 16 / 25], [0.0, 0.0]])
