"""Where the values of an attention are: by name where a name is known, by the sum of heads, and by wrapping them."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
import transformers
from numpy.testing import assert_allclose, assert_array_equal

from ctrlattn import PID, InputError, checkpoints
from ctrlattn.checkpoints.measure.value_paths import value_paths, with_value_maps
from ctrlattn.nn import wrap

WHOLE = slice(None)
# type -> (layers with values of their own, module of the values, their layout, whether o = A W_V u, output map)
EXPECTED = {
    "mixtral": ([0, 1, 2, 3], "self_attn.v_proj", "", True, "self_attn.o_proj"),
    "olmo2": ([0, 1, 2, 3], "self_attn.v_proj", "", True, "self_attn.o_proj"),
    "olmo3": ([0, 1, 2, 3], "self_attn.v_proj", "", True, "self_attn.o_proj"),
    "phi3": ([0, 1, 2, 3], "self_attn.qkv_proj", "blocks", True, "self_attn.o_proj"),
    "gpt_oss": ([0, 1, 2, 3], "self_attn.v_proj", "", True, "self_attn.o_proj"),
    "gemma4_text": ([0, 1], "self_attn.v_norm", "", False, "self_attn.o_proj"),  # 2 and 3 share their values
    "qwen3_5_text": ([1, 3], "self_attn.v_proj", "", False, "self_attn.o_proj"),  # behind a gate
    "qwen3_next": ([1, 3], "self_attn.v_proj", "", False, "self_attn.o_proj"),
    "deepseek_v3": ([0, 1, 2, 3], "self_attn.kv_b_proj", "interleaved", False, "self_attn.o_proj"),  # latent
    "falcon": ([0, 1, 2, 3], "self_attention.query_key_value", "blocks", False, "self_attention.dense"),  # no matrix
    "jamba": ([1, 3], "self_attn.v_proj", "", True, "self_attn.o_proj"),
}
MEMORY = ["mixtral", "phi3", "gpt_oss", "jamba"]


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize("name", EXPECTED)
def test_values_are_found_without_a_name(of_type, name):
    layers, value, fused, plain, output = EXPECTED[name]
    paths = value_paths(of_type(name))
    assert [path.layer for path in paths] == layers
    for path in paths:
        assert (path.value, path.fused, path.plain, path.output) == (value, fused, plain, output)
        assert (path.heads, path.size) == (3, 8)


@pytest.mark.parametrize(("kind", "more", "fused"), [
    ("Falcon", {"hidden_size": 32, "new_decoder_architecture": True, "num_attention_heads": 4, "num_kv_heads": 2},
     "grouped"),
    ("Falcon", {"hidden_size": 24, "multi_query": False, "num_attention_heads": 3}, "interleaved"),
    ("Bloom", {"hidden_size": 48, "n_head": 3}, "interleaved"),
])  # fmt: skip
def test_values_in_one_map_with_queries_and_keys(kind, more, fused):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=50, num_hidden_layers=2, pad_token_id=0, bos_token_id=1, eos_token_id=2, **more
    )
    model = getattr(transformers, f"{kind}ForCausalLM")(config).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    assert [path.fused for path in value_paths(checkpoints.load(model))] == [fused, fused]


@pytest.mark.parametrize("name", MEMORY)
def test_heads_sum_to_the_contribution(of_type, text, name):
    """sum_h W_O^h A_h W_V^h u + b is what the attention adds, with the maps at the paths that were seen."""
    network = with_value_maps(of_type(name))
    layer = value_paths(network)[-1].layer
    ids = 1 + text(1)[0] % 49
    seen = {}

    def read(module, args, kwargs, output):
        seen["u"], seen["F"], seen["A"] = kwargs.get("hidden_states", args[0] if args else None), *output[:2]

    network.model.set_attn_implementation("eager")
    hook = network.layers[layer].self_attn.register_forward_hook(read, with_kwargs=True)
    logits(network.model, torch.as_tensor(ids)[None])
    hook.remove()
    maps = checkpoints.value_output(network, layer)
    values = seen["u"][0].numpy() @ maps.value.swapaxes(-1, -2) + maps.value_bias[:, None]
    heads = np.einsum("hij,hjp,hdp->id", seen["A"][0].numpy(), values, maps.output) + maps.output_bias
    assert_allclose(heads, seen["F"][0].numpy(), rtol=0, atol=1e-9 * np.abs(heads).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", MEMORY)
def test_gains_with_memory_without_a_row(of_type, text, tmp_path, name):
    """A memory is nearer to the whole than a static gain; it comes back from disk; a cache changes no token."""
    whole, ids = of_type(name), torch.as_tensor(1 + text(2, 7) % 49)
    layer = value_paths(whole)[0].layer
    before = logits(whole.model, torch.as_tensor(text(20)))
    errors = []
    for memory in (False, True):
        how = checkpoints.Calibration(text(50), 0.01, memory=memory)
        smaller = checkpoints.drop(whole, attention=[layer], compensate=how)
        errors.append(float((logits(smaller.model, torch.as_tensor(text(20))) - before).square().mean()))
    assert errors[1] < 0.9 * errors[0]
    back = checkpoints.load(checkpoints.save(smaller, tmp_path / "small"), dtype="float64")
    assert_allclose(logits(back.model, ids), logits(smaller.model, ids), rtol=0, atol=1e-5)
    for network in (smaller, back):
        options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 4, "do_sample": False}
        cached = network.model.generate(ids, **options)
        assert torch.equal(cached, network.model.generate(ids, use_cache=False, **options))


@pytest.mark.parametrize(("name", "words"), [
    ("olmo2", "has a norm behind its attention"), ("gemma4_text", "not sum_h W_O A_h W_V u"),
    ("qwen3_next", "not sum_h W_O A_h W_V u"), ("deepseek_v3", "not sum_h W_O A_h W_V u"),
    ("falcon", "not sum_h W_O A_h W_V u"),
])  # fmt: skip
def test_where_heads_are_no_sum_there_is_no_memory(of_type, text, name, words):
    with pytest.raises(InputError, match=words):
        checkpoints.drop(of_type(name), attention=[1], compensate=checkpoints.Calibration(text(), memory=True))


def by_name(name, given):
    """Values (batch, n, 3 heads, 8) in what the module of the values gives, written out for each type."""
    if name == "deepseek_v3":  # (batch, 1, n, heads * (nope + v))
        return given[:, 0].unflatten(-1, (3, 16))[..., 8:]
    if name in ("phi3", "falcon"):  # q q q k v
        return given[..., 32:].unflatten(-1, (1, 8)).repeat_interleave(3, -2)
    values = given if given.ndim == 4 else given.unflatten(-1, (-1, 8))
    return values.repeat_interleave(3 // values.shape[-2], -2)


@contextmanager
def proportional(network, name, kp, beta):
    """o + kp (beta v_0 - v) in front of the output map of every attention but the first, by hooks on named modules."""
    layers, value, _, _, output = EXPECTED[name]
    held, hooks = {}, []

    def read(layer):
        def hook(module, args, given):
            held[layer] = by_name(name, given)

        return hook

    def add(layer):
        def hook(module, args):
            u = kp * (beta * held[layers[0]] - held[layer])
            return (args[0] + u.flatten(-2),)

        return hook

    for layer in layers:
        hooks.append(network.layers[layer].get_submodule(value).register_forward_hook(read(layer)))
        if layer != layers[0]:
            hooks.append(network.layers[layer].get_submodule(output).register_forward_pre_hook(add(layer)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("name", ["phi3", "gemma4_text", "qwen3_next", "deepseek_v3"])  # of each place of the values
def test_a_controller_of_zeros_changes_no_bit(of_type, text, name):
    model, ids = of_type(name).model, torch.as_tensor(1 + text(2, 7) % 49)
    before = logits(model, ids)
    with wrap(model, PID(0.0, 0.0, 0.0)):
        assert_array_equal(logits(model, ids), before)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_a_controller_enters_at_the_values(of_type, text, name):
    """A P gain is the hook written by hand, tokens with a cache are those without, and nothing stays."""
    network, ids = of_type(name), torch.as_tensor(1 + text(2, 7) % 49)
    model = network.model
    before = logits(model, ids)
    with wrap(model, PID(0.6), reference_gain=0.4):
        ours = logits(model, ids)
        options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 3, "do_sample": False}
        cached = model.generate(ids, **options)
        assert torch.equal(cached, model.generate(ids, use_cache=False, **options))
    with proportional(network, name, 0.6, 0.4):
        theirs = logits(model, ids)
    assert_allclose(ours, theirs, rtol=0, atol=1e-12 * float(theirs.abs().max()))
    assert float((ours - before).abs().max()) > 1e-3
    assert_array_equal(logits(model, ids), before)


def test_a_dropped_attention_takes_no_control(of_type, text):
    """What is left keeps its places: the values of layer 2 are compared with those of layer 0."""
    network, ids = of_type("mixtral"), torch.as_tensor(text(2, 7))
    smaller = checkpoints.drop(network, attention=[1])
    assert [path.layer for path in value_paths(smaller)] == [0, 2, 3]
    with wrap(smaller.model, PID(0.6)):
        changed = logits(smaller.model, ids)
    assert not torch.allclose(changed, logits(smaller.model, ids))


def test_a_network_without_attention_has_no_values():
    torch.manual_seed(0)
    config = transformers.FNetConfig(vocab_size=50, hidden_size=24, num_hidden_layers=2, intermediate_size=32)
    with pytest.raises(InputError, match="no attention of 'fnet' has values"):
        wrap(transformers.FNetModel(config).eval(), PID(0.5))
