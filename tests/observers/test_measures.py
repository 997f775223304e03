"""Explained variance against closed forms; the texts of a feature are those with most of it."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")

from ctrlattn.observers import Dictionary, measures  # noqa: E402  (after the skip)


def orthogonal(width, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))[0]


def test_principal_components_have_the_spectrum_as_their_curve():
    # Examples +-sqrt(d s_i) q_i: the covariance is Q diag(s) Q', whatever is counted.
    s = np.array([4.0, 3.0, 2.0, 1.0])
    rows = (np.sqrt(4 * s)[:, None] * orthogonal(4).T).repeat(2, 0) * np.tile([1.0, -1.0], 4)[:, None]
    x = torch.tensor(rows)
    assert_allclose(measures.principal_curve(x, x, range(5)), np.concatenate([[0], np.cumsum(s) / 10]), atol=1e-12)
    # Components of one sample on another whose variances stand the other way round.
    other = torch.tensor((np.sqrt(4 * s[::-1])[:, None] * orthogonal(4).T).repeat(2, 0) * np.tile([1, -1], 4)[:, None])
    assert_allclose(measures.principal_curve(x, other, range(5))[1:4], [0.1, 0.3, 0.6], atol=1e-12)


def test_quality_of_an_orthogonal_dictionary_in_closed_form():
    dictionary = Dictionary(4, 4, k=2)
    with torch.no_grad():
        dictionary.decoder.copy_(torch.tensor(orthogonal(4)))
        dictionary.encoder.copy_(dictionary.decoder)
    z = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 4.0, 0.0, 0.0]])
    quality = measures.quality(dictionary, z @ dictionary.decoder.detach())
    assert_allclose(quality.explained, 1 - 1 / 30, atol=1e-6)  # the 1 is left out, of 9 + 4 + 1 + 16
    assert_allclose(quality.frequency[:3], [0.5, 1.0, 0.0])
    point = measures.curve(dictionary, z @ dictionary.decoder.detach(), [1])[0]
    assert_allclose((point.explained, point.l0), (1 - 5 / 30, 1.0), atol=1e-6)


def test_purity_of_one_token_and_of_many():
    rng = np.random.default_rng(0)
    tokens = rng.integers(20, size=4000)
    z = torch.tensor(np.stack([tokens == 3, np.ones(4000), np.zeros(4000)], 1), dtype=torch.float32)
    purity = measures.token_purity(z, tokens)
    assert purity[0] == 1
    assert_allclose(purity[1], np.bincount(tokens).max() / 4000)
    assert np.isnan(purity[2])
    assert measures.token_purity(z, rng.permutation(tokens))[0] < 0.15  # the control


def test_the_strongest_texts_come_first(words):
    z = torch.zeros(3, 30, 2)
    z[0, 4, 1], z[2, 20, 1], z[2, 2, 1] = 1.0, 5.0, 2.0
    ids = np.arange(90).reshape(3, 30) % 40
    found = measures.top_texts(z, ids, words, [1, 0], around=3)
    assert [max(example.activations) for example in found[0].examples] == [5.0, 1.0]
    assert found[0].examples[0].tokens == ("w37", " w38", " w39", " w0", " w1", " w2", " w3")
    assert found[1].examples == ()
    assert_allclose(found[0].frequency, 3 / 90)


def test_features_needed_is_nan_where_the_curve_does_not_reach():
    assert np.isnan(measures.features_needed([0.1, 0.5], [1, 2], 0.9))
    assert_allclose(measures.features_needed([0.0, 0.4, 0.8], [1, 4, 16], 0.6), 8.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measures.quality(Dictionary(2, 2), torch.ones(0, 2)), "at least one"),
        (lambda: measures.principal_curve(torch.ones(3, 2), torch.ones(3, 2), [3]), "0 ... 2"),
        (lambda: measures.token_purity(torch.ones(2, 1), np.zeros(3)), "2 examples, 3 tokens"),
        (lambda: measures.top_texts(torch.ones(1, 2, 1), np.zeros((1, 3)), None, [0]), "ids of"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_sums_over_many_examples_are_in_float64():
    # Counts in float32 stop at 2^24, and a share of sums that were rounded apart exceeded 1.
    z = torch.full((30_000, 1), 0.1)
    purity = measures.token_purity(z, np.zeros(30_000, int))
    assert purity.dtype == np.float64
    assert purity[0] == 1.0
    rng = np.random.default_rng(0)
    z, tokens = torch.from_numpy(rng.uniform(0, 1, (30_000, 2))).half(), rng.integers(0, 3, 30_000)
    expected = [
        max(z.double().numpy()[tokens == t, i].sum() for t in range(3)) / z[:, i].double().sum() for i in (0, 1)
    ]
    assert_allclose(measures.token_purity(z, tokens), expected, rtol=1e-12)
    assert measures.quality(Dictionary(2, 2, k=1), torch.ones(4, 2)).frequency.dtype == np.float64
