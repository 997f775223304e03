"""Eigenvalues of attention matrices: exact diagonals for causal ones, eigvals for the rest."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn import SoftmaxAttention
from ctrlattn.stability import attention_spectrum


def test_causal_matrices_give_their_diagonal_exactly(xp):
    x = xp.asarray(np.random.default_rng(0).standard_normal((2, 9, 4)))
    weights = SoftmaxAttention(heads=2).weights(x)
    spectrum = attention_spectrum(weights)
    assert spectrum.shape == (2, 2, 9)
    assert np.array_equal(spectrum, np.diagonal(np.asarray(weights), axis1=-2, axis2=-1).astype(complex))


def test_defective_causal_matrix_where_eigvals_lies():
    matrix = 0.5 * np.eye(64) + np.eye(64, k=-1)
    assert np.array_equal(attention_spectrum(matrix), np.full(64, 0.5 + 0j))


def test_bidirectional_and_mixed_batches():
    rng = np.random.default_rng(1)
    full = rng.random((3, 5, 5))
    full[1] = np.tril(full[1])
    spectrum = attention_spectrum(full)
    for k in (0, 2):
        assert_allclose(np.sort_complex(spectrum[k]), np.sort_complex(np.linalg.eigvals(full[k])), atol=1e-12)
        assert np.all(np.diff(np.abs(spectrum[k])) <= 1e-12)
    assert np.array_equal(spectrum[1], np.diagonal(full[1]).astype(complex))


def test_one_token_and_consensus():
    assert attention_spectrum(np.ones((1, 1))).tolist() == [1.0]
    rows = np.random.default_rng(2).random((6, 6))
    assert_allclose(attention_spectrum(rows / rows.sum(-1, keepdims=True))[0], 1.0, atol=1e-12)


@pytest.mark.parametrize("wrong", [np.ones((2, 3)), np.ones(4), np.full((2, 2), np.nan), np.ones((0, 0))])
def test_refused(wrong):
    with pytest.raises(ValueError, match="attention matrices"):
        attention_spectrum(wrong)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3), (1, 5, 2)])
def test_a_batch_of_any_shape_is_each_of_its_matrices(batch):
    matrices = np.random.default_rng(0).random((*batch, 4, 4))
    spectra = attention_spectrum(matrices)
    assert spectra.shape == (*batch, 4)
    for place in np.ndindex(*batch):
        expected = np.linalg.eigvals(matrices[place])
        assert_allclose(np.sort_complex(spectra[place]), np.sort_complex(expected), atol=1e-12)
        assert np.all(np.diff(np.abs(spectra[place])) <= 1e-12)
