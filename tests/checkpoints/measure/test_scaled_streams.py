"""Scalings away from their defaults are seen and summed; half precision and batches."""

from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ctrlattn import checkpoints

SIZES = {
    "vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3, "num_key_value_heads": 1,
    "intermediate_size": 32, "initializer_range": 0.3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
HALVES = ("mixtral", "olmo2", "phi3", "gemma4_text", "qwen3_next", "deepseek_v3")
ELEVEN = ("mixtral", "olmo2", "olmo3", "phi3", "gpt_oss", "gemma4_text", "qwen3_5_text", "qwen3_next", "deepseek_v3",
          "falcon", "jamba")  # fmt: skip


@pytest.fixture
def tiny(monkeypatch):
    """tiny(type) -> a tiny causal network of this type, every weight perturbed."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "simulations"))
    from stage import tiny_networks

    def build(kind, **more):
        name = {k: c for task, k, c in tiny_networks.cases() if task == "causal"}[kind]
        model = tiny_networks.network("causal", kind, name)
        if not more:
            return model
        for key, value in more.items():
            setattr(model.config, key, value)
        changed = type(model)(model.config).double().eval()
        changed.load_state_dict(model.state_dict())
        return changed

    return build


def summed(network, ids, rtol=1e-10):
    """The traced structure, once the recorded parts of every layer sum to the stream behind it."""
    recorded = checkpoints.tap(network, ids)
    states = recorded.state.to_numpy()[1:].astype(float)
    error = np.abs(checkpoints.recompose(recorded, network).to_numpy() - states).max()
    assert error <= rtol * np.abs(states).max()
    return network.structure


def silenced(network, kind, layer, ids):
    def silence(module, args, output):
        return (0 * output[0], *output[1:]) if isinstance(output, tuple) else 0 * output

    hooks = [s.out.register_forward_hook(silence) for s in network.sublayers(kind) if s.layer == layer]
    with torch.no_grad():
        logits = network.model(input_ids=ids, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    return logits


def drops_exactly(network, ids):
    """A dropped attention is the network without its contribution, whatever scales the stream."""
    ids = torch.as_tensor(ids)[None]
    smaller = checkpoints.drop(network, attention=[1])
    with torch.no_grad():
        found = smaller.model(input_ids=ids, use_cache=False).logits
    expected = silenced(network, "attention", 1, ids)
    assert_allclose(found, expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


@pytest.mark.parametrize("factor", [0.22, 1.7])
def test_a_residual_multiplier(tiny, text, factor):
    network, ids = checkpoints.load(tiny("granite", residual_multiplier=factor)), 6 + text(1)[0]
    for call in summed(network, ids).calls:
        assert [step.skip.value for step in call.steps] == [1.0, 1.0]
        assert_allclose([term.coefficient.value for term in call.terms], factor, rtol=1e-12)
    drops_exactly(network, ids)


@pytest.mark.parametrize("depth", [0.6, 3.1])
def test_a_multiplier_by_depth(tiny, text, depth):
    """scale_depth / sqrt(layers)."""
    network, ids = checkpoints.load(tiny("minicpm3", scale_depth=depth)), 6 + text(1)[0]
    for call in summed(network, ids).calls:
        assert_allclose([term.coefficient.value for term in call.terms], depth / 2, rtol=1e-12)
    drops_exactly(network, ids)


def test_a_running_mean_of_contributions(tiny, text):
    """Contribution k enters by sqrt((k - 1)/k) x + F/sqrt(k), k = 2 for the first."""
    network, ids = checkpoints.load(tiny("beam")), 6 + text(1)[0]
    steps = [step for call in summed(network, ids).calls for step in call.steps]
    k = np.arange(2, 10)
    assert_allclose([step.skip.value for step in steps], np.sqrt((k - 1) / k), rtol=1e-12)
    assert_allclose([step.terms[0].coefficient.value for step in steps], 1 / np.sqrt(k), rtol=1e-12)
    drops_exactly(network, ids)


def test_a_factor_for_each_feature(tiny, text):
    model = tiny("doge")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("residual"):
                weight.copy_(torch.rand(weight.shape, generator=generator, dtype=weight.dtype) * 2 - 0.5)
    network, ids = checkpoints.load(model), 6 + text(1)[0]
    for layer, call in zip(network.layers, summed(network, ids).calls, strict=True):
        for step, own in zip(call.steps, (layer.input_residual, layer.post_attention_residual), strict=True):
            assert step.skip.form == "vector"
            assert_allclose(step.skip.value, own.detach(), rtol=0, atol=1e-9)
    drops_exactly(network, ids)


def test_a_factor_behind_the_layer(of_type, text):
    """Gemma 4 multiplies all that a layer gives: the stream that enters and everything added by then."""
    model = of_type("gemma4_text").model
    for i, layer in enumerate(model.model.layers):
        layer.layer_scalar.fill_(0.3 + 0.4 * i)
    network, ids = checkpoints.load(model), 1 + text(1)[0] % 49
    for i, call in enumerate(summed(network, ids).calls):
        factor = np.prod([step.skip.value for step in call.steps])
        assert_allclose(factor, 0.3 + 0.4 * i, rtol=1e-6)  # the scalar is kept in float32
        assert_allclose(call.steps[-1].terms[-1].coefficient.value, 0.3 + 0.4 * i, rtol=1e-6)
    drops_exactly(network, ids)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), [*zip(HALVES, cycle((torch.bfloat16, torch.float16)), strict=False)])
def test_half_precision_weights(of_type, text, name, dtype):
    """The sum holds to the rounding of the type, and importance is that of the same weights in float64."""
    model, ids = of_type(name).model.to(dtype), 1 + text(3) % 49
    half = checkpoints.load(model)
    summed(half, ids[0], 6e-2 if dtype is torch.bfloat16 else 1e-2)
    rounded = checkpoints.importance(half, ids)
    exact = checkpoints.importance(checkpoints.load(model.double()), ids)
    for kind in ("mlp", "block"):
        assert_allclose(rounded[kind], exact[kind], rtol=0, atol=0.12 if dtype is torch.bfloat16 else 0.02)


@pytest.mark.parametrize("name", ELEVEN)
def test_a_batch_is_its_windows(of_type, text, name):
    """Importance of a batch is the mean over its windows, and the greatest of them."""
    network, ids = of_type(name), 1 + text(3) % 49
    whole, each = checkpoints.importance(network, ids), [checkpoints.importance(network, row) for row in ids]
    for kind in whole.data_vars:
        parts = np.stack([one[kind].to_numpy() for one in each])
        expected = parts.max(0) if kind.endswith("_max") else parts.mean(0)
        assert_allclose(whole[kind], expected, rtol=0, atol=2e-6)  # the scan of a mixer is in float32
