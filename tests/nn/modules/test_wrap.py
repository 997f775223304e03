"""A wrapped transformers model computes the published law, generates with its own cache, and comes back as it was."""

import threading

import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS  # noqa: E402  (after the skip)

from ctrlattn import PID  # noqa: E402
from ctrlattn.nn import LearnedPID, Places, wrap  # noqa: E402

PRINTED, CODE = PID(0.8, 0.5, 0.05), PID(0.8, 0.5, 0.05, form="ema", ema=0.3)
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 32}
TEXT = {"vocab_size": 19, "max_position_embeddings": 64, **SIZES}
IMAGE = {"image_size": 8, "patch_size": 4, **SIZES}
IDS = torch.tensor([[1, 5, 3, 3, 7, 2], [4, 4, 18, 1, 6, 9]])
FAMILIES = {
    "bert": lambda t: t.BertModel(t.BertConfig(**TEXT)),
    "roberta": lambda t: t.RobertaModel(t.RobertaConfig(**TEXT)),
    "vit": lambda t: t.ViTModel(t.ViTConfig(**IMAGE)),
    "deit": lambda t: t.DeiTModel(t.DeiTConfig(**IMAGE)),
    "llama": lambda t: t.LlamaForCausalLM(t.LlamaConfig(**TEXT, num_key_value_heads=2)),
    "mistral": lambda t: t.MistralModel(t.MistralConfig(**TEXT, num_key_value_heads=1)),
    "qwen2": lambda t: t.Qwen2Model(t.Qwen2Config(**TEXT, num_key_value_heads=4)),
    "gemma3_text": lambda t: t.Gemma3TextModel(t.Gemma3TextConfig(**TEXT, num_key_value_heads=2, head_dim=6)),
    "gpt2": lambda t: t.GPT2LMHeadModel(t.GPT2Config(**TEXT, bos_token_id=0, eos_token_id=0)),
    "gpt_neox": lambda t: t.GPTNeoXModel(t.GPTNeoXConfig(**TEXT)),
}


def tiny(family, seed=0):
    torch.manual_seed(seed)
    model = FAMILIES[family](transformers).double().eval()
    with torch.no_grad():  # large enough that attention is far from uniform, biases included
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def output(model):
    if model.config.model_type in ("vit", "deit"):
        generator = torch.Generator().manual_seed(1)
        return model(pixel_values=torch.randn(2, 3, 8, 8, generator=generator, dtype=torch.float64))[0]
    return model(input_ids=IDS)[0]


def by_hand(values, averages, beta):
    """The code law written out as an attention function of transformers: explicit matrices, values kept in a list."""

    def attention(module, query, key, value, mask, scaling=None, **options):
        groups = query.shape[1] // key.shape[1]
        k, v = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scores = query @ k.transpose(-1, -2) * scaling
        if getattr(module, "is_causal", False):
            n = query.shape[-2]
            scores = scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -torch.inf)
        values.append(v)
        layer, errors = len(values) - 1, [beta * values[0] - value for value in values]
        u = torch.softmax(scores, -1) @ v
        if layer == 0:
            averages.append(torch.zeros_like(v))
        else:
            u = u + 0.8 * errors[layer] + 0.5 * averages[layer - 1]
            u = u + (0.05 * (values[layer - 2] - values[layer - 1]) if layer >= 2 else 0.0)
            averages.append(0.3 * errors[layer] + 0.7 * averages[layer - 1])
        return u.transpose(1, 2).contiguous(), None

    return attention


@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrapped_model_is_the_published_law(family, monkeypatch):
    model = tiny(family)
    with torch.no_grad():
        plain = output(model)
        with wrap(model, CODE, reference_gain=0.4):
            ours = output(model)
        monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, "by_hand", by_hand([], [], 0.4))
        model.config._attn_implementation = "by_hand"
        theirs = output(model)
    npt.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * theirs.abs().max().item())
    assert (ours - plain).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_gains_of_zero_and_a_removed_controller_change_no_bit(family):
    model = tiny(family)
    names, before = list(model.state_dict()), output(model).detach()
    with wrap(model, PID(0.0, 0.0, 0.0)):
        npt.assert_array_equal(output(model).detach(), before)
        assert list(model.state_dict()) == names
    wrapped = wrap(model, PRINTED)
    assert (output(model) - before).abs().max() > 1e-3
    wrapped.remove()
    npt.assert_array_equal(output(model).detach(), before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_generation_with_the_models_own_cache_is_the_full_forward():
    model = tiny("llama")
    with wrap(model, CODE, reference_gain=0.1), torch.no_grad():
        options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
        cached = model.generate(IDS, **options)
        npt.assert_array_equal(cached, model.generate(IDS, use_cache=False, **options))
        npt.assert_array_equal(model(cached).logits[:, 5:-1].argmax(-1), cached[:, 6:])
    assert cached.shape == (2, 18)


def test_padding_is_the_models_business():
    model = tiny("bert")
    mask = torch.ones_like(IDS)
    mask[0, 4:] = 0
    with wrap(model, PRINTED), torch.no_grad():
        padded = model(input_ids=IDS, attention_mask=mask)[0]
        alone = model(input_ids=IDS[:1, :4])[0]
    npt.assert_allclose(padded[:1, :4], alone, rtol=0, atol=1e-11)


def test_gains_are_learned_in_a_frozen_model():
    model, law = tiny("bert").requires_grad_(False), LearnedPID(CODE).double()
    with wrap(model, law, reference_gain=0.1):
        target = output(model).detach() * 0.9
        optimizer = torch.optim.Adam(law.parameters(), lr=0.02)
        losses = []
        for _ in range(10):
            loss = torch.nn.functional.mse_loss(output(model), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_two_threads_have_a_pass_each():
    model, found = tiny("bert"), {}
    with wrap(model, PRINTED):
        expected = output(model).detach()

        def work(name):
            with torch.no_grad():
                found[name] = [output(model) for _ in range(5)]

        threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 2
    for outputs in found.values():
        for y in outputs:
            npt.assert_allclose(y, expected, rtol=0, atol=1e-12)


def test_a_pass_that_fails_leaves_nothing_behind():
    model = tiny("bert")
    with wrap(model, PRINTED):
        expected = output(model).detach()
        broken = model.encoder.layer[1].output.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            output(model)
        broken.remove()
        npt.assert_array_equal(output(model).detach(), expected)


ROWS = {
    "llama": Places("layers", "self_attn.v_proj", "self_attn.o_proj"),
    "gpt2": Places("h", "attn.c_attn", "attn.c_proj", "blocks"),
    "bert": Places("encoder.layer", "attention.self.value", "attention.output.dense"),
}


@pytest.mark.parametrize(("family", "row"), ROWS.items())
def test_another_architecture_is_traced_or_takes_three_paths(family, row):
    model = tiny(family)
    model.config.model_type = "mine"
    plain = output(model).detach()
    with wrap(model, PRINTED, places=row):
        by_paths = output(model).detach()
    with wrap(model, PRINTED):
        npt.assert_array_equal(output(model).detach(), by_paths)
    assert (by_paths - plain).abs().max() > 1e-3


def test_what_cannot_be_wrapped_says_why():
    model = tiny("bert")
    with pytest.raises(TypeError, match="needs a controller"):
        wrap(model, None)
    with pytest.raises(ValueError, match="Linear is not a transformers model"):
        wrap(torch.nn.Linear(2, 2), PRINTED)
    with pytest.raises(ValueError, match=r"cannot be wrapped: Places.*does not fit"):
        wrap(model, PRINTED, places=Places("layers", "a", "b"))
    with pytest.raises(ValueError, match="must be linear maps"):
        wrap(model, PRINTED, places=Places("encoder.layer", "attention", "output"))
    with pytest.raises(ValueError, match="16 features where q, k, v take 48"):
        wrap(model, PRINTED, places=Places("encoder.layer", "attention.self.value", "attention.output.dense", "blocks"))
    with wrap(model, PRINTED), pytest.raises(RuntimeError, match="outside a forward pass"):
        model.encoder.layer[0](torch.ones(1, 3, 16, dtype=torch.float64))
