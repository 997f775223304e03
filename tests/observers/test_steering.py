"""Steering a network whose layers add nothing is `simulate` of the loop; a pushed layer gives its Jacobian's answer."""

from itertools import islice

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import PID, FixedAttention, Loop, checkpoints, simulate  # noqa: E402  (after the skip)
from ctrlattn.checkpoints import layer_jacobian  # noqa: E402
from ctrlattn.observers import windows  # noqa: E402
from ctrlattn.observers.steering import Law, Plant, calibrate, feedforward, identify, respond, steered  # noqa: E402

DEPTH = 6
F = np.linspace(-1, 2, 16)


@pytest.fixture
def ids(tiny, text):
    return np.stack(list(islice(windows(tiny, text, 16), 3)))


@pytest.fixture(scope="module")
def idle(words):
    """Six layers that add nothing."""
    config = transformers.LlamaConfig(
        vocab_size=41, hidden_size=16, num_hidden_layers=DEPTH, num_attention_heads=2, intermediate_size=8
    )
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.randn(41, 16, generator=torch.Generator().manual_seed(0)))
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    return checkpoints.load(model, tokenizer=words)


@pytest.mark.parametrize("controller", [PID(0.4), PID(0.3, 0.2), PID(0.3, 0.2, 0.1), PID(0.3, 0.2, 0.1, form="ema")])
@pytest.mark.parametrize("start", [0, 2])
def test_layers_that_add_nothing_leave_the_loop_itself(idle, ids, controller, start):
    with steered(idle, F, Law(controller), 3.0, start=start) as outputs:
        checkpoints.evaluate(idle, ids)
    c = np.stack([torch.cat(outputs[depth]).numpy() for depth in sorted(outputs)])
    loop = Loop(FixedAttention(np.zeros((12, 12))), controller=controller)
    x = c[0][..., None].astype(float)
    expected = simulate(loop, x, DEPTH - start, reference=np.full_like(x, 3.0)).state[..., 0]
    assert_allclose(c, expected, atol=1e-4)


def test_the_tokens_that_begin_a_window_are_left_alone(idle, ids, monkeypatch):
    # A push is no part of a layer: the sums that tap compares do not hold then.
    monkeypatch.setattr("ctrlattn.checkpoints.measure.tap.require_sums", lambda *_: None)
    clean = checkpoints.tap(idle, ids[0])["state"].to_numpy()
    with steered(idle, F, Law(push=2.0), 0.0):
        pushed = checkpoints.tap(idle, ids[0])["state"].to_numpy()
    assert_allclose(pushed[:, :4], clean[:, :4], atol=1e-6)
    change = (pushed - clean)[1:-1, 4:]
    expected = np.arange(1, DEPTH)[:, None, None] * 2 * F / np.linalg.norm(F)
    assert_allclose(change, np.broadcast_to(expected, change.shape), atol=1e-5)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in idle.model.modules())


def test_a_push_at_every_layer_or_once_reaches_the_set_point(idle, ids):
    every, once = (calibrate(idle, F, 5.0, ids, shape=shape) for shape in (1.0, np.eye(DEPTH)[0]))
    assert_allclose(once.push[0], every.push[0] * DEPTH, rtol=1e-4)
    assert np.ptp(every.push) == 0
    assert not once.push[1:].any()
    laws = {"every": every, "once": once, "none": Law()}
    told = respond(idle, F, laws, 5.0, ids)
    for found in (told["every"], told["once"]):
        assert_allclose(found.reached, 5.0, atol=1e-4)
        assert_allclose(found.error, 0.0, atol=1e-4)
    assert told["once"].settling == 1
    assert_allclose(told["none"].error, 1.0, atol=1e-6)


def test_integral_action_removes_what_a_constant_disturbance_leaves(idle, ids):
    laws = {name: Law(one, push=-1.0) for name, one in (("P", PID(0.9)), ("PI", PID(0.9, 0.5)))}
    responses = respond(idle, F, laws, 4.0, ids)
    # P: c' = c + kp (r - c) - 1 rests at r - 1/kp; with I the rest is 0, which six layers only approach.
    assert_allclose(4.0 - responses["P"].reached, 1 / 0.9, rtol=0.01)
    assert abs(4.0 - responses["PI"].reached) < 0.2


def test_overshoot_is_told(idle, ids):
    responses = respond(idle, F, {"fast": Law(PID(1.6)), "slow": Law(PID(0.6))}, 4.0, ids)
    assert responses["fast"].overshoot > 0.3
    assert responses["slow"].overshoot == 0


def test_the_plant_is_the_jacobian_along_the_direction(tiny, ids):
    plant = identify(tiny, F, ids[:1], start=1, share=1e-3)
    unit = F / np.linalg.norm(F)
    push = np.zeros((16, 16))
    push[4:] = unit
    for layer, alpha in zip((1, 2), plant.alpha, strict=True):
        moved = (layer_jacobian(tiny, layer, ids[0]) @ push.ravel()).reshape(16, 16)
        assert_allclose(alpha, (moved[4:] @ unit).mean(), atol=2e-3)
    state = checkpoints.tap(tiny, ids[0])["state"].to_numpy()
    assert_allclose(plant.output, (state[1:, 4:] @ unit).mean(1), atol=1e-5)
    assert_allclose(plant.output[1:], plant.alpha * plant.output[:-1] + plant.disturbance)


def test_loss_is_above_the_unsteered(tiny, ids):
    responses = respond(tiny, F, {"P": Law(PID(0.5))}, 6.0, ids)["P"]
    with steered(tiny, F, Law(PID(0.5)), 6.0):
        lossy = checkpoints.evaluate(tiny, ids).loss
    assert_allclose(responses.loss, lossy - checkpoints.evaluate(tiny, ids).loss, atol=1e-6)
    assert responses.loss_error > 0


def test_a_set_point_for_each_depth_is_followed(idle, ids):
    growing = np.linspace(1.0, 4.0, DEPTH + 1)
    with steered(idle, F, Law(PID(1.0)), growing) as outputs:
        checkpoints.evaluate(idle, ids)
    # c' = c + (r - c) = r: each depth has what the depth before it was to have, from the second layer on.
    for depth in range(2, DEPTH + 1):
        assert_allclose(torch.cat(outputs[depth]), growing[depth - 1], atol=1e-5)
    same = respond(idle, F, {"P": Law(PID(0.7))}, np.full(DEPTH + 1, 4.0), ids)["P"]
    constant = respond(idle, F, {"P": Law(PID(0.7))}, 4.0, ids)["P"]
    assert_allclose(same.output, constant.output)
    assert (same.settling, same.overshoot) == (constant.settling, constant.overshoot)
    with pytest.raises(ValueError, match=r"set-point is one finite .* 7 depths"), steered(idle, F, Law(), [1.0, 2.0]):
        pass
    with pytest.raises(ValueError, match=r"push is one .* 6 depths"), steered(idle, F, Law(push=[1.0, 2.0]), 1.0):
        pass


def test_feedforward_leads_a_linear_plant_along_its_path():
    rng = np.random.default_rng(0)
    alpha, drift, path = rng.uniform(0.8, 1.1, 9), rng.standard_normal(9), rng.standard_normal(10)
    output = [0.3]
    for a, w in zip(alpha, drift, strict=True):
        output.append(a * output[-1] + w)
    push = feedforward(Plant(alpha, np.array(output), np.ones(10)), path)
    c = [0.3]
    for a, w, u in zip(alpha, drift, push, strict=True):
        c.append(a * c[-1] + w + u)
    assert_allclose(c[1:], path[1:], atol=1e-12)


def test_feedforward_leads_the_mean_and_the_loop_the_tokens(tiny, ids):
    plant = identify(tiny, F, ids, share=0.01)
    path = plant.output + np.linspace(0, 0.3, len(plant.output)) * plant.spread[-1]
    push = feedforward(plant, path)
    laws = {"none": Law(), "open": Law(push=push), "closed": Law(PID(0.9), push=push)}
    responses = respond(tiny, F, laws, path, ids)
    # The text is the one that was measured, and 0.3 spreads are nearly linear.
    assert_allclose(responses["open"].output[1:], path[1:], atol=0.03 * plant.spread[-1])
    assert_allclose(responses["none"].output, plant.output, atol=1e-5)
    assert responses["closed"].miss < 0.7 * responses["open"].miss
    assert_allclose(responses["closed"].losses.mean(), responses["closed"].loss)


def test_the_miss_is_that_of_tokens_not_of_their_mean(idle, ids):
    law = calibrate(idle, F, 5.0, ids)
    with steered(idle, F, law, 5.0) as outputs:
        checkpoints.evaluate(idle, ids)
    last = torch.cat(outputs[DEPTH]).double().numpy()
    unsteered = (last - law.push.sum()).mean()
    expected = np.sqrt(((5.0 - last) ** 2).mean()) / (5.0 - unsteered)
    responses = respond(idle, F, {"push": law}, 5.0, ids)["push"]
    assert_allclose(responses.miss, expected, rtol=1e-6)
    assert abs(responses.error) < 1e-4 < responses.miss


@pytest.mark.parametrize(
    ("direction", "start", "message"),
    [
        (np.zeros(16), 0, "finite and not zero"),
        (np.ones(3), 0, r"a direction is \(16,\)"),
        (F, 9, "layer must be one of"),
    ],
)
def test_bad_input_is_told(tiny, direction, start, message):
    with pytest.raises(ValueError, match=message), steered(tiny, direction, Law(), 1.0, start=start):
        pass


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_outputs_and_laws_of_half_precision_are_summed_in_more(words, ids, dtype):
    # In float16 the square of a stream of 300 overflowed, and the size of a push was inf; in bfloat16 an integral
    # over layers had three digits.
    config = transformers.LlamaConfig(
        vocab_size=41, hidden_size=16, num_hidden_layers=DEPTH, num_attention_heads=2, intermediate_size=8
    )
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(400 * torch.randn(41, 16, generator=torch.Generator().manual_seed(0)))
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    narrow = checkpoints.load(model.to(dtype), tokenizer=words)
    plant = identify(narrow, F, ids)
    stream = model.model.embed_tokens.weight.detach()[torch.as_tensor(ids)][:, 4:].double().numpy()
    unit = np.asarray(F, float) / np.linalg.norm(F)
    assert_allclose(plant.output[0], np.mean(stream @ unit), rtol=1e-5, atol=1e-3)
    assert_allclose(plant.alpha, 1, atol=0.1)  # the push itself is rounded to the numbers of the stream
    with steered(narrow, F, Law(PID(0.0, 1e-4)), 3.0) as outputs:
        checkpoints.evaluate(narrow, ids)
    assert {output.dtype for each in outputs.values() for output in each} == {torch.float32}
