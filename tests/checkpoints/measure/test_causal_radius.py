"""The radius from the diagonal blocks of a causal layer against the eigenvalues of its whole Jacobian."""

from itertools import cycle

import numpy as np
import pytest
import torch
import transformers
from numpy.testing import assert_allclose

from ctrlattn import InputError, checkpoints
from ctrlattn.checkpoints.measure import layer_functions
from ctrlattn.checkpoints.measure.causal_radius import _TokenBlocks, causal_radius, radius_of_blocks
from ctrlattn.checkpoints.measure.jacobian import layer_jacobian, recorded_jacobian
from ctrlattn.checkpoints.measure.layer_functions import layer_function
from ctrlattn.checkpoints.network.watch import attention

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 31}
GROUPED = {**SIZES, "intermediate_size": 24, "num_key_value_heads": 2}
IDS = [3, 1, 4, 1, 5, 9, 2, 6]


def sharp(model):
    """The model in float64 with weights large enough for attention that is not flat."""
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.ndim == 2 and "embed" not in name and "wte" not in name:
            torch.nn.init.normal_(weight, std=0.6)
    return model.double()


MODELS = {
    "gpt2": lambda: transformers.GPT2Model(transformers.GPT2Config(n_embd=16, n_layer=2, n_head=4, vocab_size=31)),
    "llama": lambda: transformers.LlamaModel(transformers.LlamaConfig(**GROUPED)),
    "qwen3": lambda: transformers.Qwen3Model(transformers.Qwen3Config(**GROUPED, head_dim=4)),
    "gemma3": lambda: transformers.Gemma3TextModel(
        transformers.Gemma3TextConfig(**GROUPED, head_dim=4, sliding_window=3, layer_types=["sliding_attention"] * 2)
    ),
    "gpt_neox": lambda: transformers.GPTNeoXModel(transformers.GPTNeoXConfig(**SIZES, intermediate_size=24)),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "attention"), [*zip(MODELS, cycle(("eager", "sdpa")), strict=False), ("gpt2", "sdpa"), ("llama", "eager")]
)
def test_it_is_the_largest_eigenvalue_of_the_whole_jacobian(name, attention):
    ids = IDS[:5]
    torch.manual_seed(0)
    network = checkpoints.load(sharp(MODELS[name]()), attention=attention)
    for layer in range(2):
        whole = layer_jacobian(network, layer, ids) @ np.eye(len(ids) * 16)
        exact = causal_radius(network, layer, ids)
        # Equal eigenvalues of two tokens make those of the whole matrix lie; its blocks do not.
        blocks = whole.reshape(len(ids), 16, len(ids), 16)
        radii = [np.abs(np.linalg.eigvals(blocks[i, :, i])).max() for i in range(len(ids))]
        # transformers computes eager softmax and the norms of all but GPT-2 in float32.
        rounding = 1e-7 if name == "gpt2" else 3e-6
        assert_allclose(exact.radius, max(radii), rtol=rounding)
        assert exact.token == int(np.argmax(radii))
        assert exact.error < 10 * rounding * exact.radius
        assert_allclose(np.abs(np.linalg.eigvals(whole)).max(), exact.radius, rtol=1e-5)


def test_attention_is_set_back_and_values_are_unchanged():
    network = checkpoints.load(sharp(MODELS["llama"]()))
    before = checkpoints.tap(network, IDS)["state"].to_numpy()
    causal_radius(network, 0, IDS)
    assert network.model.config._attn_implementation == "eager"
    assert np.array_equal(checkpoints.tap(network, IDS)["state"].to_numpy(), before)


def test_one_token_has_one_block():
    network = checkpoints.load(sharp(MODELS["gpt2"]()))
    whole = layer_jacobian(network, 1, [5]) @ np.eye(16)
    assert_allclose(causal_radius(network, 1, [5]).radius, np.abs(np.linalg.eigvals(whole)).max(), rtol=1e-6)


def test_a_network_that_sees_both_ways_is_refused():
    config = transformers.BertConfig(**SIZES, intermediate_size=24)
    with pytest.raises(InputError, match="not causal"):
        causal_radius(checkpoints.load(transformers.BertModel(config)), 0, IDS)


def mixed(h):
    """A causal mixer that is no attention: each token adds half of the one before."""
    return h + 0.5 * torch.nn.functional.pad(h, (0, 0, 1, 0))[..., :-1, :] * h


def looking_ahead(h):
    """A layer in which a token reads the next."""
    return h + torch.nn.functional.pad(h, (0, 0, 0, 1))[..., 1:, :] ** 2


@pytest.mark.parametrize("layer", [mixed, looking_ahead])
@pytest.mark.parametrize("seed", range(5))
def test_a_layer_whose_blocks_are_not_those_of_its_jacobian_is_refused(layer, seed):
    network = checkpoints.load(MODELS["gpt2"]())
    h = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with pytest.raises(ArithmeticError, match="not causal attention alone"):
        radius_of_blocks(network, layer, h, recorded_jacobian(layer, h), seed=seed)


def test_in_single_precision_the_profile_has_the_same_number():
    network = checkpoints.load(sharp(MODELS["llama"]()).float())
    effort = checkpoints.Effort(arnoldi=2)
    profile = checkpoints.feedback_profile(network, IDS, parts=["nonnormality"], effort=effort)
    for layer in range(2):
        f, h = layer_function(network, layer, IDS)
        whole = recorded_jacobian(f, h) @ np.eye(h.numel(), dtype=np.float32)
        blocks = whole.reshape(len(IDS), 16, len(IDS), 16)
        radius = max(np.abs(np.linalg.eigvals(blocks[i, :, i])).max() for i in range(len(IDS)))
        # Two Arnoldi steps with the whole Jacobian could not give that.
        assert_allclose(profile["spectral_radius"][layer], radius, rtol=1e-4)
        assert profile["numerical_radius"][layer] >= profile["spectral_radius"][layer] * (1 - 1e-6)


def blocks_of(name, ids, kind="eager"):
    """Products with the blocks of a layer, after one with all tokens: (blocks, (v, D v))."""
    torch.manual_seed(0)
    network = checkpoints.load(sharp(MODELS[name]()), attention=kind)
    f, h = layer_function(network, 1, ids)
    with attention(network.model, "sdpa"):
        blocks = _TokenBlocks(f, h)
    v = np.random.default_rng(1).standard_normal((len(ids), 16))
    return network, blocks, (v, blocks.product(v))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("ids", "kind"),  # four tokens: as many as heads, and as numbers of a head; eager has a mask among the arguments
    [(IDS, "sdpa"), (IDS[:4], "eager")],
    ids=["8-sdpa", "4-eager"],
)
def test_a_pass_over_few_tokens_has_their_blocks(name, ids, kind):
    tokens = np.array([1, 3])
    network, blocks, (v, whole) = blocks_of(name, ids, kind)
    with attention(network.model, "sdpa"):
        few = blocks._product_alone(tokens)
        # transformers computes rotations and norms in float32.
        assert_allclose(few(v[tokens]), whole[tokens], rtol=0, atol=1e-6 * np.abs(whole).max())
        assert_allclose(blocks.of_tokens(tokens)(v[tokens]), whole[tokens], rtol=0, atol=1e-6 * np.abs(whole).max())
        fewer = blocks.of_tokens(np.array([3]))(v[[3]])
    assert_allclose(fewer, whole[[3]], rtol=0, atol=1e-6 * np.abs(whole).max())


@pytest.mark.parametrize("fault", ["other tokens", "a refusal"])
def test_products_that_are_not_those_with_all_tokens_are_made_with_all(fault, monkeypatch):
    """The layer is given the rotations of the tokens before, or those of all tokens."""
    network, blocks, (v, whole) = blocks_of("llama", IDS)
    shift = {"other tokens": lambda value, tokens, n: plain(value, tokens - 1, n), "a refusal": lambda value, *_: value}
    plain = layer_functions._of_tokens
    monkeypatch.setattr(layer_functions, "_of_tokens", shift[fault])
    tokens = np.array([1, 4, 6])
    with attention(network.model, "sdpa"):
        assert blocks._product_alone(tokens) is None
        assert_allclose(blocks.of_tokens(tokens)(v[tokens]), whole[tokens], rtol=1e-12)


def test_the_radius_is_that_of_steps_with_all_tokens(monkeypatch):
    network = checkpoints.load(sharp(MODELS["llama"]()))
    asked, plain = [], _TokenBlocks.of_tokens
    monkeypatch.setattr(
        _TokenBlocks, "of_tokens", lambda self, tokens: asked.append(len(tokens)) or plain(self, tokens)
    )
    few = [causal_radius(network, layer, IDS) for layer in range(2)]
    assert asked
    assert max(asked) <= len(IDS) / 2
    monkeypatch.setattr(_TokenBlocks, "_product_alone", lambda self, tokens: None)
    for layer, radius in enumerate(few):
        every = causal_radius(network, layer, IDS)
        assert_allclose(radius.radius, every.radius, rtol=1e-6)
        assert (radius.token, radius.steps, radius.checks) == (every.token, every.steps, every.checks)


def drawn_token(n, d):
    """The token that is drawn after the vectors of the check."""
    rng = np.random.default_rng(1)
    rng.standard_normal((n, d))
    return int(rng.integers(n))


def test_a_real_eigenvalue_takes_one_product_to_check_and_a_pair_two():
    def layer(h):  # the blocks turn by a quarter at the last token, and stretch at all others
        turn = torch.tensor([[0.0, -3.0], [3.0, 0.0]], dtype=h.dtype)
        return torch.cat([2 * h[..., :-1, :], h[..., -1:, :] @ turn.T], dim=-2)

    network = checkpoints.load(MODELS["gpt2"]())
    h = torch.ones(4, 2, dtype=torch.float64)
    found = radius_of_blocks(network, layer, h, recorded_jacobian(layer, h))
    assert_allclose((found.radius, found.error), (3.0, 0.0), atol=1e-12)
    tokens = len({3, drawn_token(4, 2)})
    assert found.checks == tokens + 2
    half = radius_of_blocks(network, lambda h: 0.5 * h, h, recorded_jacobian(lambda h: 0.5 * h, h))
    assert_allclose((half.radius, half.error), (0.5, 0.0), atol=1e-12)
    assert half.checks == len({3, half.token, drawn_token(4, 2)}) + 1


def test_the_error_is_the_condition_times_the_residual_and_what_has_not_settled_is_refused(monkeypatch):
    from ctrlattn.stability.nonnormal import block_krylov

    plain, network = block_krylov.block_radius, checkpoints.load(MODELS["gpt2"]())

    def with_changes(**changes):
        monkeypatch.setattr(block_krylov, "block_radius", lambda *a, **k: plain(*a, **k)._replace(**changes))
        return causal_radius(network, 1, IDS)

    one, ten = (with_changes(condition=condition) for condition in (1.0, 10.0))
    assert_allclose(ten.error, 10 * one.error, rtol=1e-12)
    for changes in ({"settled": False}, {"condition": 1e9}):
        with pytest.raises(ArithmeticError, match="not settled"):
            with_changes(**changes)
