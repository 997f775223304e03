"""Eigenvalues of attention matrices: exact diagonals for causal ones, eigvals for the rest."""

import re
from dataclasses import replace

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import FixedAttention, SoftmaxAttention, presets, simulate
from ctrlattn.frequency import token_frequency_response
from ctrlattn.signals import sink_mass
from ctrlattn.stability import attention_spectrum
from ctrlattn.stability.modes.regions import unstable_share


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


@every_case("wrong", [np.ones((2, 3)), np.ones(4), np.full((2, 2), np.nan), np.ones((0, 0))])
def test_refused(wrong):
    with pytest.raises(ValueError, match="attention matrices"):
        attention_spectrum(wrong)


@every_case("batch", [(), (2,), (2, 3), (1, 5, 2)])
def test_a_batch_of_any_shape_is_each_of_its_matrices(batch):
    matrices = np.random.default_rng(0).random((*batch, 4, 4))
    spectra = attention_spectrum(matrices)
    assert spectra.shape == (*batch, 4)
    for place in np.ndindex(*batch):
        expected = np.linalg.eigvals(matrices[place])
        assert_allclose(np.sort_complex(spectra[place]), np.sort_complex(expected), atol=1e-12)
        assert np.all(np.diff(np.abs(spectra[place])) <= 1e-12)


def random_sink(seed):
    """(A, with the null key as one more token that keeps to itself): scores of random size, causal or not."""
    rng = np.random.default_rng(seed)
    n, size = int(rng.integers(2, 12)), float(rng.choice([0.1, 1.0, 5.0]))
    scores = size * rng.standard_normal((n, n + 1))
    scores[:, n] += rng.choice([-4.0, 0.0, 4.0])  # a sink that takes next to nothing, its share, or next to all
    if rng.random() < 0.5:
        scores[:, :n][np.triu_indices(n, 1)] = -np.inf
    rows = np.exp(scores - scores.max(-1, keepdims=True))
    rows /= rows.sum(-1, keepdims=True)
    whole = np.vstack([rows, np.eye(n + 1)[n]])
    return whole[:n, :n], whole


@every_case("seed", range(60))
def test_a_null_key_is_one_more_token_with_the_eigenvalue_1(seed):
    """eig(A) and 1 are the spectrum of the row-stochastic matrix over all keys; no token reads the mode of that 1."""
    part, whole = random_sink(seed)
    together = np.append(attention_spectrum(part), 1.0)
    expected = attention_spectrum(whole)
    # Power sums say that two spectra are one, whatever their order, and where eigenvalues cluster.
    for power in range(1, len(whole) + 1):
        assert_allclose(np.sum(together**power), np.trace(np.linalg.matrix_power(whole, power)), atol=1e-11)
        assert_allclose(np.sum(together**power), np.sum(expected**power), atol=1e-11)
    assert np.abs(attention_spectrum(part)).max() <= (1 - sink_mass(part)).max() + 1e-12
    assert_allclose(sink_mass(part), whole[:-1, -1], atol=1e-14)
    at_rest = np.sqrt(np.mean(part.sum(-1) ** 2))  # the gain on the constant signal, which is no mode any more
    assert_allclose(token_frequency_response(part, np.zeros(1)), at_rest, rtol=1e-12)


LOOPS = ("residual", "softmax", "neutreno", "pidformer-printed", "pidformer-ema")


@every_case("seed", range(20))
@every_case("name", LOOPS)
def test_stable_regions_count_the_modes_of_the_tokens_alone(name, seed):
    """Of n + 1 modes the null key's is one, and it has no part in what is unstable among the tokens."""
    part, whole = random_sink(seed)
    n, loop = len(part), presets.get(name)
    own = float(unstable_share(loop, np.ones(1)))
    share = unstable_share(loop, attention_spectrum(part))
    assert_allclose((n * share + own) / (n + 1), unstable_share(loop, attention_spectrum(whole)), atol=1e-12)


@every_case("seed", range(20))
def test_a_loop_with_a_null_key_is_the_loop_with_a_token_that_stays_zero(seed):
    """The second way: no eigenvalue is computed, both loops run; a null key has no value, and its token none either."""
    part, whole = random_sink(seed)
    x = np.random.default_rng(seed).standard_normal((len(part), 3))
    for name in LOOPS:
        loop = presets.get(name)
        a = simulate(replace(loop, predictor=FixedAttention(part)), x, 12).state
        b = simulate(replace(loop, predictor=FixedAttention(whole)), np.vstack([x, np.zeros((1, 3))]), 12).state
        assert_allclose(a, b[:, :-1], rtol=1e-9, atol=1e-9 * np.abs(b).max())
        assert np.all(b[:, -1] == 0)


def test_what_is_no_square_matrix_is_refused_with_its_shape():
    for shape in ((3,), (), (2, 3), (0, 0), (2, 0, 0), (3, 3, 2)):
        with pytest.raises(ValueError, match=re.escape(f"(..., n, n), got shape {shape}")):
            attention_spectrum(np.ones(shape))
    assert attention_spectrum(np.ones((1, 1))).tolist() == [1.0]
