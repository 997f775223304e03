"""Signals over depth of a network: attention as the formula says, equal tokens, slopes."""

import math

import numpy as np
import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn import PID, SoftmaxAttention  # noqa: E402
from ctrlattn.nn import Actuator, ControlledLM, ControlledViT  # noqa: E402
from ctrlattn.nn.experiment.measures import attention_matrices, clipped, over_depth, slope  # noqa: E402


@pytest.mark.parametrize("causal", [False, True])
def test_the_recorded_attention_is_that_of_the_formula(causal):
    torch.manual_seed(0)
    model = ControlledLM(5, dim=8, depth=2, heads=2, hidden=16, dropout=0.0) if causal else None
    model = model or ControlledViT(image=4, patch=2, channels=1, classes=2, dim=8, depth=2, heads=2)
    block = model.double().blocks[1]
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    weight, bias = block.attn.qkv.weight.detach(), block.attn.qkv.bias.detach()
    # SoftmaxAttention has no bias: a feature that is always 1 carries it.
    extended = torch.cat([block.norm1(x).detach(), torch.ones(3, 5, 1, dtype=torch.float64)], -1)
    wq, wk = (torch.cat([weight[s], bias[s, None]], 1).T for s in (slice(8), slice(8, 16)))
    expected = SoftmaxAttention(wq, wk, wk, heads=2, causal=causal, temperature=2.0).weights(extended)
    npt.assert_allclose(attention_matrices(block, x).detach(), expected, rtol=0, atol=1e-14)


def test_measures_over_depth_of_equal_tokens():
    model = ControlledViT(image=4, patch=2, channels=1, classes=2, dim=8, depth=3, heads=2)
    with torch.no_grad():
        for parameter in (model.pos_embed, model.patch_embed.proj.weight, model.patch_embed.proj.bias):
            parameter.zero_()
        model.cls_token.fill_(1.0)
        model.pos_embed[:, 1:] = 1.0  # every token is the same vector
    measured = over_depth(model.train(), torch.zeros(2, 1, 4, 4))
    assert model.training
    npt.assert_allclose(measured["token_similarity"], 1.0, atol=1e-5)
    npt.assert_allclose(measured["rank"], 1.0, atol=1e-5)
    npt.assert_allclose(measured["attention_similarity"], 1.0, atol=1e-5)
    assert abs(measured["token_similarity_slope"]) < 1e-5


def test_the_slope_is_least_squares():
    values = np.random.default_rng(0).standard_normal(7)
    assert slope(values.tolist()) == pytest.approx(np.polyfit(np.arange(7), values, 1)[0], rel=1e-12)
    assert math.isnan(slope([1.0]))
    assert math.isnan(slope([1.0, math.inf, 2.0]))


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_the_clipped_share_is_counted_from_the_values_of_the_layers(placement):
    torch.manual_seed(0)
    sizes = {"image": 4, "patch": 2, "channels": 1, "classes": 2, "dim": 8, "depth": 4, "heads": 2}
    pid, limit = PID(0.8, 0.5, 0.05), 0.4
    model = ControlledViT(**sizes, placement=placement, controller=Actuator(pid, limit=limit)).double()
    model.initialize(0.5, depth_scaled=False)
    x = torch.randn(6, 1, 4, 4, dtype=torch.float64)
    # The values as the layers compute them, read by hooks, and the law of one layer after another.
    values = []
    hooks = [
        b.attn.qkv.register_forward_hook(lambda m, a, y: values.append(y[..., 16:].detach())) for b in model.blocks
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    state, expected = Actuator(pid, limit=limit).init(values[0] - values[0]), [0.0]
    for v in values[1:]:
        u, state = Actuator(pid, limit=limit).step(values[0] - v, state)
        expected.append(float((u.abs() >= limit).double().mean()))
    npt.assert_allclose(clipped(model, x), expected, rtol=0, atol=1e-12)
    assert 0.02 < expected[1] < 1.0
    assert model.training
