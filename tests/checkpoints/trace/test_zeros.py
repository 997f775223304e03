"""The structure of a network is the same whether a contribution is zero or not, though a zero shows no factor."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints  # noqa: E402  (after the skip)
from ctrlattn.checkpoints.trace.forms import Atom, AtomPart, Form, joined  # noqa: E402
from ctrlattn.checkpoints.trace.steps import coefficient  # noqa: E402

FEW = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = {"vocab_size": 40, "max_position_embeddings": 64, "pad_token_id": 0, "intermediate_size": 24, **FEW}
GROUPED = {**TEXT, "num_key_value_heads": 2, "head_dim": 4}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
# What makes it, and the last matrices of attention and of the MLP.
NETWORKS = {
    "llama": (lambda t: t.LlamaModel(t.LlamaConfig(**GROUPED)), "o_proj", "down_proj"),
    "granite": (lambda t: t.GraniteModel(t.GraniteConfig(**TEXT, residual_multiplier=0.22)), "o_proj", "down_proj"),
    "olmo2": (lambda t: t.Olmo2Model(t.Olmo2Config(**TEXT)), "o_proj", "down_proj"),
    "qwen3_moe": (lambda t: t.Qwen3MoeModel(t.Qwen3MoeConfig(**GROUPED, **EXPERTS)), "o_proj", "down_proj"),
    "falcon": (lambda t: t.FalconModel(t.FalconConfig(vocab_size=40, **FEW)), "attention.dense", "4h_to_h"),
    "dinov2": (
        lambda t: t.Dinov2Model(t.Dinov2Config(image_size=8, patch_size=4, **FEW)),
        "attention.output.dense",
        "fc2",
    ),
}


def made(name, ending="", factor=1.0, rows=None):
    """The network; rows (or experts) of the last layer's matrices with this ending are multiplied by the factor."""
    torch.manual_seed(0)
    model = NETWORKS[name][0](transformers).eval()
    with torch.no_grad():
        for path, weight in model.named_parameters():
            weight.add_(0.2 * torch.randn_like(weight))
            if ending and ".1." in path and f"{ending}." in f"{path}.":
                weight[:rows] *= factor
    return model


def assert_same(a, b):
    """Whether two structures say the same, factors up to rounding."""
    assert [call.kinds for call in a.calls] == [call.kinds for call in b.calls]
    for mine, other in zip(a.calls, b.calls, strict=True):
        names = [[(s.norm, [(t.path, t.module, t.norm, t.reads, t.matrix) for t in s.terms]) for s in c.steps]
                 for c in (mine, other)]  # fmt: skip
        assert names[0] == names[1]
        factors = [
            [c for s in call.steps for c in (s.skip, *(t.coefficient for t in s.terms))] for call in (mine, other)
        ]
        assert [c.form for c in factors[0]] == [c.form for c in factors[1]]
        for c, d in zip(*factors, strict=True):
            torch.testing.assert_close(c.value, d.value, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", [n if n in ("granite", "qwen3_moe") else pytest.param(n, marks=pytest.mark.slow)
                                  for n in NETWORKS])  # fmt: skip
def test_a_structure_is_the_same_with_zeros(name):
    whole = checkpoints.trace(made(name))
    for ending, changes in zip(
        NETWORKS[name][1:],
        (((0.0, None), (0.0, 1), (1e-36, 5)), ((0.0, None), (0.0, 5), (1e-42, None))),
        strict=True,
    ):
        for factor, rows in changes:
            assert_same(checkpoints.trace(made(name, ending, factor, rows)), whole)


@pytest.mark.slow
@pytest.mark.parametrize("experts", [2, 6, 7])
def test_a_text_that_meets_experts_of_zeros_alone_shows_the_factor(experts):
    whole, met = checkpoints.trace(made("qwen3_moe")), 0
    for seed in range(8):
        model = made("qwen3_moe", "experts.down_proj", 0.0, experts)
        given = torch.randint(40, (1, 3), generator=torch.Generator().manual_seed(seed))
        zero = []
        handle = model.layers[1].mlp.register_forward_hook(lambda *a, zero=zero: zero.append(not a[-1].any()))
        assert_same(checkpoints.trace(model, {"input_ids": given, "use_cache": False}), whole)
        handle.remove()
        met += zero[1]  # of the text that is followed
    assert met > 0 or experts < 6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("c", [1.0, 0.22, torch.tensor([0.5, -2.0, 3.0])])
def test_a_factor_is_seen_through_zeros_in_any_place(dtype, c):
    generator, eps = torch.Generator().manual_seed(0), torch.finfo(dtype).eps
    for share in (0.0, 0.3, 1.0):
        F = torch.randn(2, 5, 3, generator=generator).to(dtype) * (torch.rand(2, 5, 3, generator=generator) >= share)
        atom = Atom("module", "mlp", F)
        factor = torch.as_tensor(c).to(dtype)
        got = coefficient(atom, Form.of(atom).through(lambda p, f=factor: p * f)[atom])
        torch.testing.assert_close(torch.as_tensor(got.value).double(), factor.double(), rtol=4 * eps, atol=0)


def test_a_probe_takes_the_way_of_its_part():
    atom = Atom("module", "mlp", torch.tensor([[0.0, 2.0], [3.0, 4.0]]))
    assert Atom("module", "mlp", torch.ones(2)).probe is None
    assert atom.probe.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    twice = Form.of(atom).plus(Form.of(atom).through(lambda p: 2 * p), (2, 2))[atom]
    assert twice.value.tolist() == [[0.0, 6.0], [9.0, 12.0]]
    assert twice.probe.tolist() == [[3.0, 6.0], [9.0, 12.0]]
    beside = joined((twice, AtomPart(torch.zeros(2, 2))), torch.cat)  # no part there: no probe either
    assert beside.probe.tolist() == [*twice.probe.tolist(), [0.0, 0.0], [0.0, 0.0]]
