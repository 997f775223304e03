"""Every variable of the part against loops over the recorded streams."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn import checkpoints


def cosine(x, y):
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def mean_pair(rows):
    return np.mean([cosine(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j])


def rank(rows):
    squares = np.linalg.svd(rows, compute_uv=False) ** 2
    return squares.sum() ** 2 / np.sum(squares**2)


@pytest.mark.parametrize("massive", [False, True])
def test_all_variables(network, text, massive):
    checkpoint, ids = network("llama"), 1 + text(1)[0] % 40  # token 0 is padding, whose stream is zero
    if massive:  # one token whose stream is a hundred times that of the others
        ids[0] = 45
        checkpoint.model.model.embed_tokens.weight.data[45] *= 100
    part = checkpoints.feedback_profile(checkpoint, ids, parts=["diversity"])
    state = checkpoints.tap(checkpoint, ids)["state"].to_numpy()
    sizes = np.sqrt((state**2).sum(-1))
    ordinary = [t for t in range(state.shape[1]) if all(sizes[d, t] <= 10 * np.median(sizes[d]) for d in range(5))]
    assert (len(ordinary) < state.shape[1]) == massive
    rest = state[:, ordinary]
    expected = {
        "mean_cosine": [mean_pair(x) for x in state],
        "mean_cosine_ordinary": [mean_pair(x) for x in rest],
        "effective_rank": [rank(x) for x in state],
        "effective_rank_ordinary": [rank(x) for x in rest],
        "effective_rank_centred": [rank(x - x.mean(0)) for x in rest],
        "stream_rms": np.sqrt(np.mean(state**2, axis=-1)),
        "layer_cosine": [np.median([cosine(x, y) for x, y in zip(*pair, strict=True)]) for pair in pairwise(state)],
    }
    assert set(expected) == set(part.data_vars)
    for name, values in expected.items():
        assert_allclose(part[name], values, rtol=1e-9, err_msg=name)
