"""Blocks: the sign as a gauge, parallel sublayers, stochastic depth."""

from functools import partial

import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn import PID, rms_norm  # noqa: E402
from ctrlattn.nn import Block  # noqa: E402
from ctrlattn.nn.modules.blocks import drop_path  # noqa: E402

CODE = PID(0.8, 0.5, 0.05, form="ema")


@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_negating_the_output_projection_undoes_the_sign_bit_for_bit(norm, placement, vit):
    minus = vit(feedback=-1.0, norm=norm, placement=placement)
    plus = vit(feedback=1.0, norm=norm, placement=placement)
    with torch.no_grad():
        for block in plus.blocks:
            block.attn.proj.weight.neg_()
            block.attn.proj.bias.neg_()
    images, labels = torch.randn(8, 1, 8, 8), torch.arange(8) % 4
    optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-2) for model in (minus, plus)]
    for _ in range(5):
        losses = []
        for model, optimizer in zip((minus, plus), optimizers, strict=True):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] == losses[1]
    for (name, a), (_, b) in zip(minus.named_parameters(), plus.named_parameters(), strict=True):
        sign = -1.0 if "attn.proj" in name else 1.0
        npt.assert_array_equal(a.detach(), sign * b.detach(), err_msg=name)
    npt.assert_array_equal(minus(images).detach(), plus(images).detach())


def test_the_comparator_transformer_is_x_minus_attention():
    torch.manual_seed(0)
    x, block = torch.randn(2, 5, 8, dtype=torch.float64), {}
    for placement in ("pre", "post"):
        torch.manual_seed(1)
        block[placement] = Block(8, 2, 16, feedback=-1.0, norm="rms", placement=placement).double()
    norm = partial(rms_norm, eps=1e-6)  # weights are 1
    attn, mlp = block["pre"].attn, block["pre"].mlp
    between = x - attn(norm(x))[0]
    npt.assert_allclose(block["pre"](x)[0].detach(), (between + mlp(norm(between))).detach(), rtol=0, atol=1e-14)
    attn, mlp = block["post"].attn, block["post"].mlp
    between = norm(x - attn(x)[0])
    npt.assert_allclose(block["post"](x)[0].detach(), norm(between + mlp(between)).detach(), rtol=0, atol=1e-14)


def test_the_sign_is_seen_where_the_projection_is_the_same(vit):
    images = torch.randn(2, 1, 8, 8)
    a, b = (vit(feedback=sign)(images) for sign in (-1.0, 1.0))
    assert (a - b).abs().max() > 1e-4


def test_parallel_sublayers_read_the_same_stream():
    torch.manual_seed(0)
    block, x = Block(8, 2, 16, parallel=True).double(), torch.randn(1, 5, 8, dtype=torch.float64)
    expected = x + block.attn(block.norm1(x))[0] + block.mlp(block.norm2(x))
    npt.assert_allclose(block(x)[0].detach(), expected.detach(), rtol=0, atol=1e-14)


def test_stochastic_depth_leaves_out_whole_samples_and_is_off_in_evaluation(vit):
    torch.manual_seed(0)
    y = torch.randn(4000, 2, 3)
    dropped = drop_path(y, 0.3, True)
    is_kept = (dropped != 0).flatten(1).any(1)
    npt.assert_allclose(dropped[is_kept], y[is_kept] / 0.7, rtol=1e-6)
    assert abs(is_kept.float().mean().item() - 0.7) < 0.03  # four deviations of 4000 draws
    assert drop_path(y, 0.3, False) is y
    model = vit(drop_path=0.2)
    assert [block.drop_path for block in model.blocks] == [0.0, 0.1, 0.2]
    assert [block.drop_path for block in vit(depth=1, drop_path=0.2).blocks] == [0.0]
    plain, images = vit(), torch.randn(64, 1, 8, 8)
    npt.assert_array_equal(model.eval()(images).detach(), plain(images).detach())
    changed = (model.train()(images) != plain(images)).any(1)
    assert changed.any()
    with pytest.raises(ValueError, match=r"drop_path must lie in \[0, 1\), got 1.0"):
        Block(8, 2, 16, drop_path=1.0)


def test_a_sample_that_passes_a_layer_by_keeps_its_memory_running():
    torch.manual_seed(0)
    block = Block(8, 2, 16, drop_path=0.999, controller=CODE)
    x = torch.randn(3, 5, 8)
    after, state = block(x)
    npt.assert_array_equal(after.detach(), x)  # with this seed every sample passes both sublayers by
    npt.assert_array_equal(state.reference.detach(), block.eval()(x)[1].reference.detach())
