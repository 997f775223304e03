"""What each head adds: the sum is the sublayer, the sources are the head, in every family."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints, signals  # noqa: E402  (after the skip)
from ctrlattn.checkpoints.measure.heads import head_contributions, head_feedback  # noqa: E402
from ctrlattn.checkpoints.measure.value_maps import value_gains  # noqa: E402
from ctrlattn.errors import InputError  # noqa: E402

IDS = [3, 1, 4, 1, 5, 9]
SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
MODELS = {
    "llama": lambda t: t.LlamaForCausalLM(t.LlamaConfig(**SIZES, num_key_value_heads=2)),
    "gemma3": lambda t: t.Gemma3ForCausalLM(
        t.Gemma3TextConfig(**SIZES, num_key_value_heads=1, head_dim=8, sliding_window=3)
    ),
    "gpt2": lambda t: t.GPT2Model(t.GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=4)),
    "gpt_neox": lambda t: t.GPTNeoXModel(t.GPTNeoXConfig(**SIZES)),
    "bert": lambda t: t.BertModel(t.BertConfig(**SIZES)),
}


@pytest.fixture(params=MODELS)
def network(request):
    torch.manual_seed(0)
    model = MODELS[request.param](transformers).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    checkpoint = checkpoints.load(model)
    return checkpoint, checkpoints.tap(checkpoint, IDS)


def bias(checkpoint, layer):
    sublayer = checkpoint.sublayers("attention")[layer]
    behind = checkpoint.family.norm == "pre" and sublayer.out is not sublayer.module
    return None if behind else checkpoints.value_output(checkpoint, layer).output_bias


def test_heads_and_bias_sum_to_the_contribution(network):
    checkpoint, recorded = network
    for layer in range(2):
        added = checkpoints.head_contributions(checkpoint, layer, recorded)
        shift = bias(checkpoint, layer)
        assert added.shape == (4, 6, 16)
        if shift is None:  # behind a norm the bias is scaled with the sum; the tiny network has none
            shift = 0.0
        assert_allclose(added.sum(0) + shift, recorded["attention_out"][layer], atol=2e-5)


def test_the_feedback_of_a_head_is_that_of_its_contribution_and_the_sum_of_its_sources(network):
    checkpoint, recorded = network
    x = recorded["state"][1].to_numpy()
    added = checkpoints.head_contributions(checkpoint, 1, recorded)
    gains = head_feedback(checkpoint, 1, recorded)
    for head in range(4):
        assert_allclose(gains.gain[head], signals.feedback_gain(x, added[head]), atol=1e-12)
    assert_allclose(gains.sources.sum(1), gains.gain, atol=1e-12)
    assert_allclose(gains.size, np.linalg.norm(added, axis=-1) / np.linalg.norm(x, axis=-1), rtol=1e-10)
    assert np.all(gains.sources[:, 1, 0] == 0)  # the first token's own weight counts as its own


def test_a_head_that_attends_to_itself_alone_has_its_feedback_from_itself():
    torch.manual_seed(0)
    checkpoint = checkpoints.load(MODELS["llama"](transformers).double())
    recorded = checkpoints.tap(checkpoint, IDS)
    maps = checkpoints.value_output(checkpoint, 0)
    with torch.no_grad():
        read = checkpoint.layers[0].input_layernorm(torch.tensor(recorded["state"].to_numpy()[0])).numpy()
    whole = sum(out @ value for out, value in zip(maps.output, maps.value, strict=True))
    added = recorded["attention_out"].to_numpy().copy()
    added[0] = read @ whole.T
    dims = recorded["attention_out"].dims
    alone = recorded.assign(attention=recorded["attention"] * 0 + np.eye(6), attention_out=(dims, added))
    gains = head_feedback(checkpoint, 0, alone)
    assert_allclose(gains.sources[:, 0], gains.gain, atol=1e-15)


def test_value_gains_are_those_of_the_whole_map(network):
    checkpoint, _ = network
    maps = checkpoints.value_output(checkpoint, 1, fold_norm=True)
    gains = value_gains(checkpoint, 1)
    for head in range(4):
        whole = maps.output[head] @ maps.value[head]
        dense = np.linalg.eigvals(whole)
        largest = dense[np.argsort(-np.abs(dense))][: maps.value.shape[1]]
        assert_allclose(np.sort(np.abs(gains.eigenvalues[head])), np.sort(np.abs(largest)), atol=1e-9)
        assert_allclose(gains.trace[head], np.trace(whole), atol=1e-10)
        assert_allclose(gains.norm[head], np.linalg.norm(whole, 2), rtol=1e-10)
        assert -1 <= gains.positive[head] <= 1


def test_a_copying_and_an_erasing_head():
    """W_O = W_V' copies (all eigenvalues positive), W_O = -W_V' erases; a head of zeros is neither."""
    torch.manual_seed(0)
    model = MODELS["gpt2"](transformers).double()
    with torch.no_grad():
        attn = model.h[0].attn
        value = attn.c_attn.weight[:, 32:48]  # Conv1D stores (in, out)
        signs = torch.tensor([1.0, -1.0, 0.0, 1.0]).double().repeat_interleave(4)
        attn.c_proj.weight.copy_((value * signs).T)
        model.h[0].ln_1.weight.fill_(1.0)
        # the norm centres: an even value map, so that its projection is symmetric too
        attn.c_attn.weight[:, 32:48] -= value.mean(0, keepdim=True)
        attn.c_proj.weight.copy_((attn.c_attn.weight[:, 32:48] * signs).T)
    gains = value_gains(checkpoints.load(model), 0)
    assert_allclose(gains.positive, [1, -1, 0, 1], atol=1e-10)


def gated(checkpoint, layer):
    """The same network with a gate between the heads and W_O of one layer, as Qwen3-Next has it."""
    output = checkpoint.layers[layer].self_attn.o_proj
    output.register_forward_pre_hook(lambda module, args: (args[0] * torch.linspace(0.1, 0.9, args[0].shape[-1]),))
    return checkpoint


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_gate_between_the_heads_and_the_stream_is_told_and_not_measured(name):
    """Of gemma3 a norm stands behind the heads: a factor that hides nothing, since the norm is asked what it gives."""
    torch.manual_seed(0)
    checkpoint = gated(checkpoints.load(MODELS[name](transformers).double()), 1)
    recorded = checkpoints.tap(checkpoint, IDS)
    for measured in (head_contributions, head_feedback):
        measured(checkpoint, 0, recorded)
        with pytest.raises(ArithmeticError, match=r"heads of layer 1 do not sum .* differ by \d.\de[+-]\d\d"):
            measured(checkpoint, 1, recorded)
    profile = checkpoints.feedback_profile(checkpoint, IDS, parts=["heads", "value_output"])
    for variable in ("head_gain", "head_source_gain", "head_ratio", "value_trace", "value_eigenvalue"):
        values = profile[variable].to_numpy()
        assert np.isnan(values[1]).all()
        assert np.isfinite(values[0]).all()
        assert "the heads of layer 1 do not sum" in profile[variable].attrs["comment"]


def test_heads_that_nowhere_add_up_are_nan_everywhere():
    """A differential network subtracts one matrix from another, and gives the first away: no head is A W_O W_V."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = transformers.DiffLlamaModel(transformers.DiffLlamaConfig(**sizes, intermediate_size=24)).double()
    row = replace(checkpoints.FAMILIES["llama"], name="diffllama")
    checkpoint = checkpoints.load(model, family=row)
    profile = checkpoints.feedback_profile(checkpoint, IDS, parts=["feedback", "heads", "value_output"])
    assert np.isnan(profile["head_gain"]).all()
    assert np.isnan(profile["value_norm"]).all()
    assert np.isfinite(profile["feedback_gain"]).all()
    assert "layer 0 do not sum" in profile["head_gain"].attrs["comment"]
    assert "layer 1 do not sum" in profile["head_gain"].attrs["comment"]


def test_latent_attention_has_no_map_of_the_stream_for_its_values():
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "n_group": 1}
    latent = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 4, "qk_rope_head_dim": 4, "v_head_dim": 4}
    config = transformers.DeepseekV3Config(
        **sizes, **latent, intermediate_size=24, num_key_value_heads=4, first_k_dense_replace=1, topk_group=1
    )
    row = replace(checkpoints.FAMILIES["llama"], name="deepseek_v3", value="self_attn.kv_b_proj")
    checkpoint = checkpoints.load(transformers.DeepseekV3Model(config).double(), family=row)
    with pytest.raises(InputError, match=r"do not (split into 4 heads|lead from the stream of 16 features)"):
        checkpoints.value_output(checkpoint, 0)
