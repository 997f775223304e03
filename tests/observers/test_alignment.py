"""SVCCA and RSA of rotated copies are 1, of independent spaces what chance gives; words of two tokenizers meet."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import pearsonr, spearmanr

from ctrlattn.observers.alignment import by_word, correlations, likeness, paired, rsa, svcca, word_rows


def rotated(x, seed=1):
    return x @ np.linalg.qr(np.random.default_rng(seed).standard_normal((x.shape[1],) * 2))[0]


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((200, 6))


def test_a_rotated_copy_is_the_same_space(x):
    assert_allclose(svcca(x, 3 * rotated(x) + 2), 1, atol=1e-10)
    assert_allclose(rsa(x, 3 * rotated(x)), 1, atol=1e-10)


def test_canonical_correlations_of_known_spaces():
    # Orthonormal, centred columns e_1 ... e_4: span(e_1, e_2) against span(cos t e_1 + sin t e_3, e_4).
    centred = np.random.default_rng(0).standard_normal((50, 4))
    e = np.linalg.qr(centred - centred.mean(0))[0]
    t = 0.7
    b = np.stack([np.cos(t) * e[:, 0] + np.sin(t) * e[:, 2], e[:, 3]], 1)
    assert_allclose(svcca(e[:, :2], b, share=1.0), np.cos(t) / 2, atol=1e-10)


def test_the_cut_keeps_the_stated_share(x):
    spread = x * [10, 10, 10, 0.01, 0.01, 0.01]  # three directions hold 99 %
    noise = np.random.default_rng(5).standard_normal((200, 6)) * [10, 10, 10, 0.01, 0.01, 0.01]
    assert_allclose(svcca(spread, np.concatenate([spread[:, :3], noise[:, 3:]], 1)), 1, atol=1e-5)
    assert svcca(spread, noise) < 0.3


def test_as_many_directions_as_rows_fit_anything():
    a, b = (np.random.default_rng(seed).standard_normal((20, 30)) for seed in (0, 1))
    assert_allclose(svcca(a, b, share=1.0), 1, atol=1e-8)  # why a control is needed
    assert svcca(a, b, most=2) < 0.7


def test_rsa_is_the_rank_correlation_of_cosine_distances(x):
    from scipy.spatial.distance import pdist

    y = x + np.random.default_rng(2).standard_normal(x.shape)
    assert_allclose(rsa(x, y), spearmanr(pdist(x, "cosine"), pdist(y, "cosine")).statistic, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("measure", [svcca, rsa])
def test_random_pairings_are_the_control(x, measure):
    y = rotated(x) + 0.5 * np.random.default_rng(3).standard_normal(x.shape)
    value = likeness(measure, x, y, draws=39, seed=1)
    assert value.p == 1 / 40
    assert value.value > value.random.max() + 0.2
    stranger = likeness(measure, x, np.random.default_rng(4).standard_normal(x.shape), draws=39, seed=1)
    assert stranger.p > 0.05


def test_features_are_paired_with_their_copies(x):
    order = np.random.default_rng(7).permutation(6)
    noisy = x[:, order] + 0.1 * np.random.default_rng(8).standard_normal(x.shape)
    comparison = paired(x, noisy)
    assert np.array_equal(order[comparison.second], comparison.first)
    assert_allclose(comparison.correlation[2], pearsonr(x[:, 2], noisy[:, comparison.second[2]]).statistic)
    assert len(paired(x, np.random.default_rng(9).standard_normal(x.shape), least=0.5).first) == 0
    assert not correlations(np.ones((5, 1)), x[:5]).any()  # a constant feature is like none


def test_tokens_of_two_tokenizers_meet_in_words():
    texts = ["to be  or", "not"]
    one = word_rows(texts, [[(0, 2), (2, 5), (5, 9)], [(0, 3)]])  # " be" and "  or" with their spaces
    two = word_rows(texts, [[(0, 1), (1, 2), (3, 5), (5, 6), (7, 9)], [(0, 0), (0, 1), (1, 3)]])
    assert [rows.tolist() for rows in one] == [[0, 1, 2], [3]]
    assert [rows.tolist() for rows in two] == [[0, 0, 1, -1, 2], [-1, 3, 3]]
    values = np.arange(8.0)[:, None]
    assert by_word(values, np.concatenate(two), 5).ravel().tolist()[:4] == [1.0, 2.0, 4.0, 7.0]
    assert np.isnan(by_word(values, np.concatenate(two), 5)[4, 0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: svcca(np.ones((3, 2)), np.ones((4, 2))), "3 and 4 rows"),
        (lambda: svcca(np.ones((2, 2)), np.ones((2, 2))), "three rows"),
        (lambda: rsa(np.ones((2, 2)), np.ones((2, 2))), "three rows"),
        (lambda: svcca(np.eye(3), np.eye(3), share=0.0), "share must lie"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_space_without_variance_has_no_likeness():
    assert np.isnan(svcca(np.ones((5, 2)), np.eye(5)))
