"""Signals of every sublayer: their sum is the stream, their slots are those of the layers."""

import numpy as np
import pytest
import torch
import transformers
from numpy.testing import assert_allclose

from ctrlattn import checkpoints
from ctrlattn.checkpoints.measure.sublayer_signals import in_order, slots_of, sublayer_signals


@pytest.mark.slow
@pytest.mark.parametrize("name", ["olmo2", "gemma4_text", "jamba", "falcon"])
def test_signals_sum_to_the_stream(of_type, text, name):
    """x_{l+1} = x_l + sum of what the sublayers add (in these types nothing is scaled by default)."""
    signals = sublayer_signals(of_type(name), text(1)[0])
    assert_allclose(signals.state[:-1] + np.nansum(signals.F, axis=1), signals.state[1:], rtol=0, atol=1e-10)
    assert_allclose(signals.x[:, 0][np.isfinite(signals.x[:, 0])],
                    signals.state[:-1][np.isfinite(signals.x[:, 0])], rtol=0, atol=0)  # fmt: skip


@pytest.mark.parametrize("name", ["granite", "doge", "opt"])
def test_scaled_streams_and_contributions_are_the_steps(name):
    """x' = s x + c F, step by step: a number .22, vectors per feature, tokens in one row."""
    sizes = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "pad_token_id": 0}
    make = {
        "granite": lambda t: t.GraniteModel(t.GraniteConfig(**sizes, intermediate_size=32, residual_multiplier=0.22)),
        "doge": lambda t: t.DogeModel(t.DogeConfig(**sizes, intermediate_size=32)),
        "opt": lambda t: t.OPTModel(t.OPTConfig(**sizes, ffn_dim=32, word_embed_proj_dim=24)),
    }[name]
    torch.manual_seed(0)
    model = make(transformers).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    network = checkpoints.load(model)
    signals = sublayer_signals(network, [3, 4, 5, 6, 7])
    assert signals.slots == ("attention", "mlp")
    for i in range(3):
        x = signals.state[i]
        for j, sublayer in enumerate(s for s in network.sublayers() if s.layer == i):
            assert_allclose(signals.x[i, j], x, rtol=0, atol=1e-12)
            x = (sublayer.skip * torch.as_tensor(x)).numpy() + signals.F[i, j]
        assert_allclose(x, signals.state[i + 1], rtol=0, atol=1e-12)
    scores = checkpoints.importance(network, [[3, 4, 5, 6, 7]])
    assert np.isfinite(scores["mlp"]).all()
    smaller = checkpoints.drop(network, mlp=[1])
    expected = (network.sublayer("mlp", 1).skip * torch.as_tensor(signals.x[1, 1])).numpy()
    assert_allclose(sublayer_signals(smaller, [3, 4, 5, 6, 7]).state[2], expected, rtol=0, atol=1e-12)


def test_a_second_sublayer_of_a_kind_has_a_slot_of_its_own(of_type):
    there = of_type("gemma4_text").sublayers()
    assert [slots_of(there)[s] for s in there[:3]] == ["attention", "mlp", "mlp 2"]
    assert in_order(slots_of(there)) == ("attention", "mlp", "mlp 2")
