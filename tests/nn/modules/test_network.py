"""Stacks: schedules and shared gains, first weights, loading, what cannot be built."""

import copy

import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn import PID  # noqa: E402
from ctrlattn.nn import Actuator, LearnedPID, configuration  # noqa: E402

PRINTED = PID(0.8, 0.5, 0.05)
CODE = PID(0.8, 0.5, 0.05, form="ema")
IDS = torch.tensor([[0, 7, 3, 3, 10, 2, 5], [5, 5, 5, 0, 1, 4, 9]])


def test_a_schedule_over_depth_is_an_actuator_a_layer(vit):
    images = torch.randn(2, 1, 8, 8)
    scheduled = vit(controller=[Actuator(CODE, gain=f) for f in (1.0, 0.5, 0.0)])
    fixed = vit(controller=[PID(f * 0.8, f * 0.5, f * 0.05, form="ema") for f in (1.0, 0.5, 0.0)])
    npt.assert_allclose(scheduled(images).detach(), fixed(images).detach(), rtol=0, atol=1e-6)


def test_shared_gains_are_one_parameter_and_others_are_their_own(vit):
    shared = vit(controller=LearnedPID(CODE))
    assert sum("theta" in name for name, _ in shared.named_parameters()) == 1
    own = vit(controller=[LearnedPID(CODE) for _ in range(3)])
    assert sum("theta" in name for name, _ in own.named_parameters()) == 3
    for model in (shared, own, copy.deepcopy(shared)):
        model(torch.randn(2, 1, 8, 8)).sum().backward()
        gradients = [p.grad for name, p in model.named_parameters() if "theta" in name]
        assert any(g is not None and g.abs().max() > 0 for g in gradients)


def test_a_state_dict_comes_back_with_its_learned_gains(vit):
    model, other = (vit(seed, controller=LearnedPID(CODE, region=(0.0, 1.0))) for seed in (0, 1))
    with torch.no_grad():
        model.blocks[0].attn.controller.theta.copy_(torch.tensor([0.3, -2.0, 1.0]))
    other.load_state_dict(model.state_dict())
    images = torch.randn(2, 1, 8, 8)
    npt.assert_array_equal(model(images).detach(), other(images).detach())
    assert other.blocks[2].attn.controller.fixed().kp == model.blocks[0].attn.controller.fixed().kp


@pytest.mark.parametrize("depth_scaled", [False, True])
def test_the_first_weights_are_those_of_timm_or_scaled_by_depth(depth_scaled, vit):
    model = vit(dim=96, depth=8, depth_scaled=depth_scaled)
    expected = 0.02 / (4 if depth_scaled else 1)
    entering = torch.cat([b.attn.proj.weight.flatten() for b in model.blocks])
    assert abs(entering.std().item() / expected - 1) < 0.02
    assert abs(model.blocks[0].attn.qkv.weight.std().item() / 0.02 - 1) < 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "12 features, 5 heads"),
        ({"image": 9}, "image must be a multiple of patch: 9 and 2"),
        ({"depth": 0}, "depth must be a whole number of at least 1, got 0"),
        ({"norm": "batch"}, "norm must be one of layer, rms, none, got 'batch'"),
        ({"placement": "mid"}, 'placement must be "pre" or "post"'),
        ({"placement": "post", "parallel": True}, "placement must be 'pre'"),
        ({"controller": [PRINTED]}, "one for each layer: 1 for 3 layers"),
        ({"controller": [PRINTED, CODE, CODE]}, "one kind and order: layer 0 has 2 memories, layer 1 has 3"),
    ],
)
def test_a_network_that_cannot_be_built_says_why(options, message, vit):
    with pytest.raises(ValueError, match=message):
        vit(**options)


def test_input_that_does_not_fit_says_why(vit, lm):
    with pytest.raises(ValueError, match=r"images must be \(batch, 1, 8, 8\), got \(2, 3, 8, 8\)"):
        vit()(torch.ones(2, 3, 8, 8))
    with pytest.raises(ValueError, match=r"0 \.\.\. 10, got 0 \.\.\. 11"):
        lm()(torch.tensor([[0, 11]]))
    with pytest.raises(ValueError, match="call eval"):
        lm(dropout=0.1).train().generate(IDS, 1)
    with pytest.raises(ValueError, match="at least one token"):
        lm().generate(IDS[:, :0], 1)
    with pytest.raises(ValueError, match="temperature must be >= 0"):
        lm().generate(IDS, 1, temperature=-1.0)
    with pytest.raises(ValueError, match="not a network of attention"):
        configuration("prediction-error-rms")


def test_a_state_dict_of_another_shape_is_refused_in_one_line(vit):
    with pytest.raises(ValueError, match=r"cls_token is \(1, 1, 24\), the network has \(1, 1, 12\) \(and \d+ more\)$"):
        vit().load_state_dict(vit(dim=24).state_dict())
    state = vit().state_dict()
    del state["norm.bias"]
    with pytest.raises(ValueError, match=r"ControlledViT: norm.bias is missing$"):
        vit().load_state_dict(state)
    with pytest.raises(ValueError, match=r"blocks.0.attn.qkv.bias is not in the network"):
        vit(qkv_bias=False).load_state_dict(vit().state_dict())


def test_shared_gains_go_through_safetensors(tmp_path, vit):
    from safetensors.torch import load_file, load_model, save_model

    path = tmp_path / "shared.safetensors"
    model, one, two = (vit(seed, controller=LearnedPID(CODE)) for seed in range(3))
    with torch.no_grad():
        model.blocks[0].attn.controller.theta.copy_(torch.tensor([0.3, -2.0, 1.0]))
    save_model(model, str(path))
    load_model(one, str(path))
    two.load_state_dict(load_file(path))  # theta stands under one of its three names
    images = torch.randn(2, 1, 8, 8)
    for other in (one, two):
        npt.assert_array_equal(other(images).detach(), model(images).detach())
        assert other.blocks[0].attn.controller is other.blocks[2].attn.controller
    own = vit(controller=[LearnedPID(CODE) for _ in range(3)])
    without = {k: v for k, v in own.state_dict().items() if k != "blocks.1.attn.controller.theta"}
    with pytest.raises(ValueError, match=r"blocks.1.attn.controller.theta is missing"):
        own.load_state_dict(without)
