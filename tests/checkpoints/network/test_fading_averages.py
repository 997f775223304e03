"""Averages of the past are what the definition says, from a state of constant size, in any division of the text."""

import numpy as np
import pytest
import torch

from ctrlattn.checkpoints.network.fading_averages import recall


def signals(n, seed=0):
    rng = np.random.default_rng(seed)
    return torch.as_tensor(rng.standard_normal((2, n, 3, 4))), torch.as_tensor(rng.uniform(0.1, 3, (2, n, 3)))


def defined(v, g, rate, t):
    """The definition, by a sum over all tokens up to t."""
    weights = np.array([rate ** (t - s) for s in range(t + 1)])[None, :, None] * g[:, : t + 1].numpy()
    return (weights[..., None] * v[:, : t + 1].numpy()).sum(1) / weights.sum(1)[..., None]


@pytest.mark.parametrize("rate", [0.5, 0.95, 1.0])
def test_averages_are_the_definition(rate):
    v, g = signals(130)
    a, _ = recall(v, g, (0.3, rate), 1)
    for t in (0, 1, 63, 64, 129):  # a boundary of the products lies at 64
        np.testing.assert_allclose(a[:, t, :, 3], defined(v, g, rate, t), rtol=1e-12)


def test_lags_are_the_tokens_before_and_zero_before_the_first():
    v, g = signals(70)
    a, _ = recall(v, g, (1.0,), 2)
    for lag in range(3):
        assert torch.equal(a[:, lag:, :, lag], v[:, : 70 - lag])
        assert not a[:, :lag, :, lag].any()


@pytest.mark.parametrize("cut", [1, 2, 64, 99])
def test_a_text_in_two_parts_is_the_text(cut):
    v, g = signals(100)
    whole, end = recall(v, g, (0.8, 1.0), 2)
    first, state = recall(v[:, :cut], g[:, :cut], (0.8, 1.0), 2)
    second, last = recall(v[:, cut:], g[:, cut:], (0.8, 1.0), 2, state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(last, end, rtol=1e-12, atol=1e-12)
    assert state.shape == end.shape == (2, 3, 4, 5)


def test_padding_in_front_counts_nowhere():
    v, g = signals(20)
    mask = torch.ones(2, 20)
    mask[:, :6] = 0
    padded, _ = recall(v, g, (0.8, 1.0), 2, mask=mask)
    alone, _ = recall(v[:, 6:], g[:, 6:], (0.8, 1.0), 2)
    torch.testing.assert_close(padded[:, 6:], alone, rtol=1e-12, atol=1e-12)
    assert padded.isfinite().all()
