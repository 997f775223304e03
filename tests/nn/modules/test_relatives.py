"""Relatives of PIDformer: the matrix that each makes, the fact it is known for, and networks made of it."""

import math

import numpy as np
import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn import PID  # noqa: E402  (after the skip)
from ctrlattn.nn import ControlledAttention, ControlledLM, ControlledViT, configuration  # noqa: E402
from ctrlattn.nn.experiment.measures import attention_matrices, over_depth  # noqa: E402
from ctrlattn.nn.modules.relatives import RELATIVES  # noqa: E402

N, D = 6, 4


def qkv(heads=2, n=N, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, heads, n, D, dtype=torch.float64, generator=generator) for _ in range(3)]


def module(name, causal=False, layer=3, controller=None):
    """A layer of that law in float64; its parameters moved away from where they start."""
    torch.manual_seed(0)
    mixing = RELATIVES[name](layer, 2, D)
    made = ControlledAttention(2 * D, 2, causal=causal, mixing=mixing, controller=controller).double()
    with torch.no_grad():
        for parameter in mixing.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def weights(q, k, causal=False):
    """Softmax attention by its formula."""
    logits = q @ k.mT / math.sqrt(q.shape[-1])
    hidden = torch.ones(N, N, dtype=torch.bool).triu(1) if causal else torch.zeros(N, N, dtype=torch.bool)
    return logits.masked_fill(hidden, -math.inf).softmax(-1)


def expected(name, made, q, k, causal):
    """The matrix of PIDFORMER's table, written down."""
    a = weights(q, k, causal)
    seen = torch.ones(N, N, dtype=torch.float64)
    seen = seen.tril() if causal else seen
    mean = seen / seen.sum(-1, keepdim=True)
    if name == "attnscale":
        return mean + (1 + made.mixing.w[:, None, None]) * (a - mean)
    if name == "centered":
        return a - mean
    if name == "shaped":
        return torch.eye(N, dtype=torch.float64) + a - mean
    if name == "differential":
        second = weights(q[..., D // 2 :], k[..., D // 2 :], causal)
        return weights(q[..., : D // 2], k[..., : D // 2], causal) - made.mixing.amount() * second
    return a


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", sorted(set(RELATIVES) - {"sinkformer"}))
def test_the_matrix_is_that_of_the_paper(name, causal):
    made, (q, k, v) = module(name, causal), qkv()
    matrix = expected(name, made, q, k, causal)
    with torch.no_grad():
        npt.assert_allclose(made.mix(q, k, v, mask=None, is_causal=causal), matrix @ v, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("name", "total"),
    [("attnscale", 1.0), ("centered", 0.0), ("shaped", 1.0), ("value-residual", 1.0), ("sinkformer", 1.0)],
)
def test_rows_sum_to_what_they_should(name, total):
    made, x = module(name), torch.randn(2, N, 2 * D, dtype=torch.float64)
    block = type("Block", (), {"attn": made, "norm1": staticmethod(lambda x: x), "placement": "pre"})
    rows = attention_matrices(block, x).sum(-1)
    npt.assert_allclose(rows.detach(), np.full(rows.shape, total), rtol=0, atol=1e-12)


def test_differential_rows_sum_to_one_minus_lambda_and_its_first_lambda_grows_with_depth():
    made, (q, k, _) = module("differential"), qkv()
    rows = made.mix(q, k, torch.eye(N, dtype=torch.float64).expand(1, 2, N, N), mask=None, is_causal=False).sum(-1)
    npt.assert_allclose(rows.detach(), np.full(rows.shape, 1 - made.mixing.amount().item()), rtol=0, atol=1e-12)
    first = [RELATIVES["differential"](layer, 2, D).initial for layer in range(12)]
    npt.assert_allclose(first, 0.8 - 0.6 * np.exp(-0.3 * np.arange(12)), rtol=1e-15)
    assert abs(RELATIVES["differential"](3, 2, 64).amount().item() - first[3]) < 0.2


def test_differential_output_has_one_size_a_head():
    made = module("differential", layer=2)
    made.mixing.norm.weight.data.fill_(1.0)
    q, k, v = qkv()
    y = made.mixing.finish(made.mix(q, k, 1e4 * v, mask=None, is_causal=False))  # so that eps does not count
    size = y.square().mean(-1).sqrt().detach()
    npt.assert_allclose(size, np.full(size.shape, 1 - made.mixing.initial), rtol=1e-9)


def test_attnscale_begins_as_softmax_attention():
    x = torch.randn(2, N, 2 * D, dtype=torch.float64)
    plain = ControlledAttention(2 * D, 2).double()
    scaled = ControlledAttention(2 * D, 2, mixing=RELATIVES["attnscale"](0, 2, D)).double()
    scaled.load_state_dict(plain.state_dict(), strict=False)
    npt.assert_allclose(scaled(x)[0].detach(), plain(x)[0].detach(), rtol=0, atol=1e-14)


def test_centring_removes_the_constant_mode():
    made, (q, k, _) = module("centered"), qkv()
    constant = torch.ones(1, 2, N, D, dtype=torch.float64)
    npt.assert_allclose(made.mix(q, k, constant, mask=None, is_causal=False).detach(), 0 * constant, atol=1e-14)


def test_shaped_attention_stays_diverse_at_depth_64():
    # Value chains v <- A v: softmax ends with equal tokens, shaped attention does not.
    from ctrlattn.frequency import mean_cosine

    ends = {}
    for name in ("shaped", "value-residual"):  # the latter's mixing is plain softmax
        v = qkv()[2]
        for layer in range(64):
            q, k, _ = (0.3 * t for t in qkv(seed=layer))
            v = module(name).mix(q, k, v, mask=None, is_causal=False).detach()
            v = v / v.square().mean().sqrt()
        ends[name] = float(mean_cosine(v).mean())
    assert ends["value-residual"] > 1 - 1e-9
    assert ends["shaped"] < 0.9


def test_value_residual_reads_the_mean_of_both_values_from_layer_one_on():
    one, two = module("value-residual", layer=0), module("value-residual", layer=1)
    x = torch.randn(2, N, 2 * D, dtype=torch.float64)
    y, state = one(x)
    plain = ControlledAttention(2 * D, 2).double()
    plain.load_state_dict(one.state_dict())
    npt.assert_array_equal(y.detach(), plain(x)[0].detach())
    q, k, v = (t.transpose(-2, -3) for t in two.project(y))
    mixed = (weights(q, k) @ ((v + state.reference.transpose(-2, -3)) / 2)).transpose(-2, -3)
    npt.assert_allclose(two(y, state)[0].detach(), two.proj(mixed.flatten(-2)).detach(), rtol=0, atol=1e-13)


def test_value_residual_under_control_follows_v0_itself():
    controlled, plain = (module("value-residual", controller=c) for c in (PID(0.5), None))
    x = torch.randn(2, N, 2 * D, dtype=torch.float64)
    _, state = plain(x)
    extra = controlled(0.5 * x, state)[0] - plain(0.5 * x, state)[0]
    v = plain.project(0.5 * x)[2]
    u = 0.5 * (state.reference - v).flatten(-2)
    npt.assert_allclose(extra.detach(), (u @ plain.proj.weight.T).detach(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", RELATIVES)
def test_a_relative_is_a_network_that_has_a_gradient_everywhere(name):
    torch.manual_seed(0)
    model = ControlledViT(image=8, patch=2, channels=1, classes=4, dim=12, depth=3, heads=3, **configuration(name))
    loss = torch.nn.functional.cross_entropy(model(torch.randn(5, 1, 8, 8)), torch.arange(5) % 4)
    loss.backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
    assert all(np.isfinite(over_depth(model, torch.randn(2, 1, 8, 8))["attention_similarity"]))
    assert type(model.blocks[2].attn.mixing) is RELATIVES[name]


@pytest.mark.parametrize("name", sorted(set(RELATIVES) - {"sinkformer"}))
def test_a_cache_and_padding_are_the_full_forward(name):
    torch.manual_seed(0)
    model = ControlledLM(11, dim=12, depth=3, heads=3, hidden=24, dropout=0.0, kv_heads=1, **configuration(name))
    model, ids = model.double().eval(), torch.tensor([[0, 7, 3, 3, 10, 2], [5, 5, 0, 1, 4, 9]])
    if name == "differential":
        model.load_state_dict({k: v + 0.01 for k, v in model.state_dict().items()})
    with torch.no_grad():
        full = model(ids)
        first, past = model.decode(ids[:, :4])
        rest, _ = model.decode(ids[:, 4:], past)
        padding = torch.ones(2, 6, dtype=torch.bool)
        padding[1, 4:] = False
        padded = model(ids, padding=padding)
        alone = model(ids[1:, :4])
    npt.assert_allclose(torch.cat([first, rest], 1), full, rtol=0, atol=1e-12)
    npt.assert_allclose(padded[1:, :4], alone, rtol=0, atol=1e-12)


def test_arms_of_one_seed_begin_with_the_same_weights():
    from ctrlattn.nn.experiment.data import images
    from ctrlattn.nn.experiment.settings import RunSettings
    from ctrlattn.nn.experiment.training import build

    data = images("black", np.zeros((3, 8, 8)), np.array([0, 1, 1]), train=1, valid=1)
    plain = build(RunSettings("softmax", 5, depth=2, dim=12), data).state_dict()
    for name in RELATIVES:
        other = build(RunSettings(name, 5, depth=2, dim=12), data).state_dict()
        assert set(plain) <= set(other)
        for key, value in plain.items():
            npt.assert_array_equal(other[key], value, err_msg=f"{name}: {key}")


def test_what_a_relative_cannot_do_is_said():
    with pytest.raises(ValueError, match="Sinkformer mixes all tokens: it has no causal form"):
        module("sinkformer", causal=True)
    with pytest.raises(ValueError, match="takes no padding"):
        module("sinkformer")(torch.zeros(1, N, 2 * D, dtype=torch.float64), padding=torch.ones(1, N, dtype=torch.bool))
    with pytest.raises(ValueError, match="3 features are odd"):
        RELATIVES["differential"](0, 2, 3)
    with pytest.raises(ValueError, match="unknown preset 'atnscale': did you mean 'attnscale'"):
        configuration("atnscale")
    with pytest.raises(ValueError, match="'pid-steering' controls the stream"):
        configuration("pid-steering")
