"""Massive activations and attention sinks in cases that can be read off."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ctrlattn.checkpoints.measure.sinks import attention_sink, massive_activation, ordinary_tokens


def test_the_massive_token_is_found_at_each_depth():
    state = np.ones((2, 5, 4))
    state[1, 3, 2] = -50.0
    activation = massive_activation(state)
    assert (activation.token[1], activation.feature[1], activation.value[1]) == (3, 2, -50.0)
    assert_allclose(activation.ratio, [1.0, np.sqrt(2503) / 2])
    assert ordinary_tokens(state).tolist() == [True, True, True, False, True]


def test_zero_streams():
    activation = massive_activation(np.zeros((1, 3, 2)))
    assert activation.ratio.tolist() == [1.0]
    mostly = np.zeros((1, 3, 2))
    mostly[0, 1] = 1.0
    assert massive_activation(mostly).ratio.tolist() == [np.inf]
    assert ordinary_tokens(np.zeros((1, 3, 2))).all()


def test_sinks_of_known_matrices():
    n = 6
    uniform = np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]
    resting = np.zeros((n, n))
    resting[:, 2] = 1.0
    token, share = attention_sink(np.stack([uniform, resting, np.full((n, n), 1 / n)]))
    assert token[:2].tolist() == [0, 2]
    assert_allclose(share, [np.mean(1 / np.arange(1, n + 1)), 1.0, 1 / n])
