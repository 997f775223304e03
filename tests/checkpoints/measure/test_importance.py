"""Scores from their definition on recorded signals, for a pre-norm, a post-norm and a parallel network."""

import numpy as np
import pytest
import torch
import transformers
from numpy.testing import assert_allclose

from ctrlattn import checkpoints
from ctrlattn.checkpoints import importance, tap
from ctrlattn.checkpoints.measure.importance import turns_of

SMALL = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 32}


def llama(**more):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SMALL, num_key_value_heads=1, initializer_range=0.3, **more)
    return checkpoints.load(transformers.LlamaForCausalLM(config).double())


def bert():
    torch.manual_seed(1)
    return checkpoints.load(transformers.BertModel(transformers.BertConfig(**SMALL, initializer_range=0.3)).double())


def neox():
    torch.manual_seed(2)
    config = transformers.GPTNeoXConfig(**SMALL, initializer_range=0.3, use_parallel_residual=True)
    return checkpoints.load(transformers.GPTNeoXForCausalLM(config).double())


def turn(before, after):
    cosine = (before * after).sum(-1) / np.linalg.norm(before, axis=-1) / np.linalg.norm(after, axis=-1)
    return (1 - cosine).mean(-1), (1 - cosine).max(-1)


@pytest.mark.parametrize("make", [llama, bert, neox])
def test_scores_are_those_of_the_recorded_signals(make):
    checkpoint, ids = make(), np.random.default_rng(0).integers(50, size=11)
    scores, recorded = importance(checkpoint, ids), tap(checkpoint, ids)
    x, mid = recorded["state"].to_numpy(), recorded["mid"].to_numpy()
    before_mlp = x[:-1] if make is neox else mid
    after_mlp = x[:-1] + recorded["mlp_out"].to_numpy() if make is neox else x[1:]
    wanted = {"attention": turn(x[:-1], mid), "mlp": turn(before_mlp, after_mlp), "block": turn(x[:-1], x[1:])}
    for name, (mean, largest) in wanted.items():
        # Eager attention, which `tap` uses, takes its softmax in float32.
        np.testing.assert_allclose(scores[name], mean, atol=1e-6)
        np.testing.assert_allclose(scores[f"{name}_max"], largest, atol=1e-6)


def test_many_windows_are_the_mean_of_each():
    checkpoint = llama()
    ids = np.random.default_rng(1).integers(50, size=(300, 16))  # more tokens than one pass takes
    together, halves = importance(checkpoint, ids), [importance(checkpoint, half) for half in (ids[:150], ids[150:])]
    assert together.attrs["tokens"] == ids.size
    np.testing.assert_allclose(together["mlp"], (halves[0]["mlp"] + halves[1]["mlp"]) / 2, atol=1e-12)
    np.testing.assert_allclose(together["mlp_max"], np.maximum(halves[0]["mlp_max"], halves[1]["mlp_max"]), atol=1e-12)


def test_a_silent_sublayer_scores_zero():
    checkpoint = llama()
    with torch.no_grad():
        checkpoint.model.model.layers[1].self_attn.o_proj.weight.zero_()
    scores = importance(checkpoint, [1, 2, 3])
    assert abs(scores["attention"].to_numpy()[1]) < 1e-14
    assert (scores["attention"].to_numpy()[[0, 2]] > 1e-3).all()


def test_nan_weights_are_named_by_layer():
    checkpoint = llama()
    with torch.no_grad():
        checkpoint.model.model.layers[2].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"the mlp of layer 2 gives values that are not finite"):
        importance(checkpoint, [1, 2, 3])


def test_the_network_is_left_as_it_was():
    checkpoint = llama()
    importance(checkpoint, [1, 2, 3])
    assert checkpoint.model.config._attn_implementation == "eager"
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in checkpoint.model.modules())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("massive", [False, True])
def test_half_precision_stays_in_range_and_near_the_truth(dtype, massive):
    """Sublayers that turn the stream by 1e-4 had negative scores, and a feature of 3000 gave infinite ones."""
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
    scores = {}
    for kind in (torch.float64, dtype):
        torch.manual_seed(1)
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, intermediate_size=48)).eval().double()
        for i, layer in enumerate(model.model.layers):
            layer.self_attn.o_proj.weight.data *= 0.05 * (i + 1)
        if massive:
            model.model.embed_tokens.weight.data[:, 0] = 3000.0
        # The same numbers in both: those that half precision has.
        network = checkpoints.load(model.to(dtype).to(kind))
        scores[kind] = checkpoints.importance(network, torch.arange(2, 14))
    for name in ("attention", "mlp", "block"):
        assert np.all((scores[dtype][name] >= 0) & (scores[dtype][name + "_max"] <= 2))
    assert_allclose(scores[dtype]["attention"], scores[torch.float64]["attention"], rtol=0.1, atol=1e-12)


def test_turns_are_those_of_the_definition_from_tiny_angles_to_opposite_streams():
    angle = torch.tensor([0.0, 1e-9, 1e-4, 1.0, 3.0, torch.pi], dtype=torch.float64)
    x = torch.stack([torch.ones_like(angle), torch.zeros_like(angle)], -1)
    y = 7e5 * torch.stack([angle.cos(), angle.sin()], -1)
    assert_allclose(turns_of(x, y), 2 * (angle / 2).sin() ** 2, rtol=1e-7)
    assert turns_of(torch.zeros(2), torch.ones(2)).item() == 1.0
    assert turns_of(torch.full((2,), torch.nan), torch.ones(2)).isnan()
