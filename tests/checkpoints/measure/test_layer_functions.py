"""A layer called again by itself: the same value, the right Jacobian, no cache that grows."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints  # noqa: E402  (after the skip)

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own, on first use

IDS = [3, 1, 4, 1, 5]
SIZES = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 12}
MODELS = {
    "llama": lambda t: t.LlamaForCausalLM(t.LlamaConfig(**SIZES)),
    "gemma3_text": lambda t: t.Gemma3ForCausalLM(
        t.Gemma3TextConfig(**SIZES, num_key_value_heads=1, head_dim=4, sliding_window=2)
    ),
    "gpt2": lambda t: t.GPT2LMHeadModel(
        t.GPT2Config(vocab_size=40, n_embd=8, n_layer=3, n_head=2, bos_token_id=0, eos_token_id=0)
    ),
    "gpt_neox": lambda t: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**SIZES)),
    "bert": lambda t: t.BertModel(t.BertConfig(**SIZES)),
    "vit": lambda t: t.ViTModel(t.ViTConfig(**SIZES_OF_IMAGES)),
}
SIZES_OF_IMAGES = {"image_size": 8, "patch_size": 4, **{k: v for k, v in SIZES.items() if k != "vocab_size"}}


@pytest.fixture(params=[(name, attention) for name in MODELS for attention in ("eager", "sdpa")], ids="-".join)
def checkpoint(request):
    name, attention = request.param
    torch.manual_seed(0)
    model = MODELS[name](transformers).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return checkpoints.load(model, attention=attention)


def given(checkpoint):
    if checkpoint.model.main_input_name == "pixel_values":
        return np.random.default_rng(0).standard_normal((3, 8, 8))
    return IDS


def test_each_layer_gives_the_next_stream_again(checkpoint):
    functions = checkpoints.layer_functions(checkpoint, given(checkpoint))
    for (f, h), (_, after) in itertools.pairwise(functions):
        for _ in range(2):  # a live cache would give another answer the second time
            assert_allclose(f(h).detach(), after, rtol=0, atol=1e-13 * after.abs().max().item())
    state = checkpoints.tap(checkpoint, given(checkpoint))["state"]
    f, h = functions[-1]
    assert_allclose(h, state[-2], rtol=0, atol=1e-5)  # eager softmax, which tap takes, is float32, that of sdpa is not
    assert_allclose(f(h).detach(), state[-1], rtol=0, atol=1e-5)


def test_jacobian_products_are_finite_differences(checkpoint):
    f, h = checkpoints.layer_function(checkpoint, 1, given(checkpoint))
    generator = torch.Generator().manual_seed(0)
    v, w = (torch.randn(h.shape, generator=generator, dtype=h.dtype) for _ in range(2))
    _, forward = torch.func.jvp(f, (h,), (v,))
    _, pull = torch.func.vjp(f, h)
    # A step that float32 inside the norms and the softmax still resolves.
    step = 1e-2 * h.norm() / v.norm()
    with torch.no_grad():
        central = (f(h + step * v) - f(h - step * v)) / (2 * step)
    assert torch.linalg.norm(forward - central) <= 2e-3 * torch.linalg.norm(central)
    assert_allclose((forward * w).sum().item(), (v * pull(w)[0]).sum().item(), rtol=1e-5)


def test_a_batch_of_streams_is_each_alone(checkpoint):
    f, h = checkpoints.layer_function(checkpoint, 2, given(checkpoint))
    with torch.no_grad():
        both = f(torch.stack([h, 2 * h]))
        assert_allclose(both[1], f(2 * h), rtol=0, atol=1e-6 * both.abs().max().item())


def jacobian(f, h):
    return torch.autograd.functional.jacobian(f, h).reshape(h.numel(), h.numel())


def test_a_live_cache_is_not_called_again(monkeypatch):
    """The arguments of a pass with a cache, called again as they are, give a wrong Jacobian; ours the right one."""
    checkpoint, caught = checkpoints.load(MODELS["llama"](transformers).double(), attention="sdpa"), {}
    f, h = checkpoints.layer_function(checkpoint, 0, IDS)
    expected = jacobian(f, h)
    blocks = expected.reshape(len(IDS), 8, len(IDS), 8).abs().sum((1, 3))
    assert torch.all(torch.triu(blocks, 1) == 0)  # causal

    def with_a_cache(checkpoint, ids):
        return {"input_ids": torch.tensor([ids]), "use_cache": True}

    def keep(module, args, kwargs):
        caught.update(kwargs, hidden_states=args[0])

    monkeypatch.setattr("ctrlattn.checkpoints.measure.layer_functions.inputs_of", with_a_cache)
    layer = checkpoint.layers[0]
    hook = layer.register_forward_pre_hook(keep, with_kwargs=True)
    ours, _ = checkpoints.layer_function(checkpoint, 0, IDS)
    hook.remove()
    cache = next(name for name in ("cache", "past_key_values") if name in caught)  # as transformers names it
    assert caught[cache] is not None
    caught.pop("hidden_states")
    naive = jacobian(lambda x: layer(x[None], **caught)[0], h)
    assert torch.linalg.norm(naive - expected) > 1e-2 * torch.linalg.norm(expected)
    for _ in range(2):
        assert_allclose(jacobian(ours, h), expected, rtol=0, atol=1e-14)


def test_hooks_go_and_layers_are_checked():
    checkpoint = checkpoints.load(MODELS["llama"](transformers))
    checkpoints.layer_functions(checkpoint, IDS)
    assert not any(module._forward_pre_hooks for module in checkpoint.model.modules())
    for layer in (-1, 3):
        with pytest.raises(ValueError, match=r"0 \.\.\. 2"):
            checkpoints.layer_function(checkpoint, layer, IDS)
