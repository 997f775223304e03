"""Heads that are gone take out what they added, and scores are those of their contributions."""

import numpy as np
import pytest
import torch

from ctrlattn.checkpoints import drop, head_contributions, tap
from ctrlattn.checkpoints.reduce.drop_heads import drop_heads, head_importance


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox"])
def test_scores_are_those_of_the_contributions(network, text, name):
    whole, ids = network(name), text(1).clip(1)  # token 0 is padding, with a stream of zero
    scores, recorded = head_importance(whole, ids)["turn"].to_numpy(), tap(whole, ids)
    x = recorded["state"].to_numpy()
    for layer in range(4):
        after = x[layer] + head_contributions(whole, layer, recorded)
        cosine = (x[layer] * after).sum(-1) / np.linalg.norm(x[layer], axis=-1) / np.linalg.norm(after, axis=-1)
        np.testing.assert_allclose(scores[layer], (1 - cosine).mean(-1), atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox"])
def test_a_head_that_is_gone_adds_nothing_and_the_others_what_they_did(network, text, name):
    whole, ids = network(name), text(1)
    recorded, after = tap(whole, ids), tap(drop_heads(whole, [(0, 1)]), ids)
    wanted = recorded["attention_out"][0] - head_contributions(whole, 0, recorded)[1]
    np.testing.assert_allclose(after["attention_out"][0], wanted, atol=1e-6)
    np.testing.assert_array_equal(tap(whole, ids)["state"], recorded["state"])


def test_all_heads_gone_is_attention_gone(network, text):
    whole, ids = network(), torch.as_tensor(text(2))
    gone = [drop_heads(whole, [(1, h) for h in range(3)]), drop(whole, attention=[1])]
    with torch.no_grad():
        logits = [smaller.model(input_ids=ids, use_cache=False).logits for smaller in gone]
    torch.testing.assert_close(*logits)


def test_bad_input_is_one_clear_line(network, text):
    with pytest.raises(ValueError, match=r"head must be one of 0 ... 2, got 3 in layer 1"):
        drop_heads(network(), [(1, 3)])
    with pytest.raises(ValueError, match="the attention of layer 2 is gone: it has no head 0"):
        drop_heads(drop(network(), attention=[2]), [(2, 0)])
    with pytest.raises(ValueError, match="a norm stands behind the attention"):
        head_importance(network("gemma3"), text())
