"""The whole way through eleven types: measure, drop with gains, save, open again, generate; bare drops are proved."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ctrlattn import InputError, checkpoints
from ctrlattn.checkpoints.measure.profile import wanted_parts
from ctrlattn.checkpoints.measure.sublayer_signals import sublayer_signals
from ctrlattn.checkpoints.reduce.compensate import Calibration

slow = pytest.mark.slow
QUICK = ("olmo2", "gemma4_text", "jamba", "falcon")
OTHERS = ("mixtral", "olmo3", "phi3", "gpt_oss", "qwen3_5_text", "qwen3_next", "deepseek_v3")
TYPES = [*QUICK, *(pytest.param(name, marks=slow) for name in OTHERS)]


def logits(checkpoint, ids):
    with torch.no_grad():
        return checkpoint.model(input_ids=torch.as_tensor(ids), use_cache=False).logits


def silenced(checkpoint, chosen, ids):
    """Logits with hooks that take the contributions of some sublayers out."""

    def silence(module, args, output):
        return (0 * output[0], *output[1:]) if isinstance(output, tuple) else 0 * output

    hooks = [s.out.register_forward_hook(silence) for s in checkpoint.sublayers() if chosen(s)]
    try:
        return logits(checkpoint, ids)
    finally:
        for hook in hooks:
            hook.remove()


def mixing(checkpoint):
    """The first layer of each kind of sublayer that mixes tokens, where another layer has one as well."""
    kinds = {s.kind for s in checkpoint.sublayers()} - {"mlp"}
    layers = {kind: [s.layer for s in checkpoint.sublayers(kind)] for kind in sorted(kinds)}
    return {kind: some[0] for kind, some in layers.items() if len(some) > 1}


def generated_by_hand(checkpoint, ids, count):
    for _ in range(count):
        ids = torch.cat([ids, logits(checkpoint, ids)[:, -1:].argmax(-1)], 1)
    return ids


def generated(checkpoint, ids, count, **options):
    return checkpoint.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, **options
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPES)
def test_measure_drop_with_gains_save_load_generate(of_type, text, tmp_path, name):
    whole, ids, windows = of_type(name), torch.as_tensor(text(2, 7)), text(10)
    effort = checkpoints.Effort(probes=1, singular=1, lanczos=1, arnoldi=1, commutator=2, exponents=1, sweeps=1)
    # Nonnormality takes the most products: of a type of each kind of layer.
    kinds = ("olmo2", "gpt_oss", "qwen3_next", "jamba")
    parts = [part for part in wanted_parts(None, whole) if part != "nonnormality" or name in kinds]
    profile = checkpoints.feedback_profile(whole, text(1, 4)[0], effort=effort, parts=parts)
    assert profile.sizes["layer"] == 4
    for kind, layer in mixing(whole).items():
        assert np.isfinite(profile["feedback_gain"].sel(layer=layer, sublayer=kind)).all()
    named = {kind: [layer] for kind, layer in mixing(whole).items()}
    smaller = checkpoints.drop(whole, **named, compensate=windows)
    before = logits(whole, windows)
    bare = (logits(checkpoints.drop(whole, **named), windows) - before).square().mean()
    assert (logits(smaller, windows) - before).square().mean() < bare
    back = checkpoints.load(str(checkpoints.save(smaller, tmp_path / "small")), dtype="float64")
    assert_allclose(logits(back, ids).numpy(), logits(smaller, ids).numpy(), rtol=0, atol=1e-5)
    assert [(s.kind, s.layer, s.path) for s in back.sublayers()] == [
        (s.kind, s.layer, s.path) for s in whole.sublayers()
    ]
    assert torch.equal(generated(back, ids, 3), generated_by_hand(back, ids, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPES)
def test_a_bare_drop_is_the_network_without_the_contribution(of_type, text, tmp_path, name):
    whole, ids = of_type(name), text(2)
    mixers = mixing(whole)
    # Of gemma4 later layers read what the attention computes: it stays for them, in a file that is not a plain one.
    for gone in [mixers, {"mlp": 1}] if name == "gemma4_text" else [{**mixers, "mlp": 1}]:
        smaller = checkpoints.drop(whole, **{kind: [layer] for kind, layer in gone.items()})
        expected = silenced(whole, lambda s, gone=gone: gone.get(s.kind) == s.layer, ids)
        assert_allclose(logits(smaller, ids).numpy(), expected.numpy(), rtol=0, atol=1e-9)
        folder = checkpoints.save(smaller, tmp_path / "-".join(gone))
        back = checkpoints.load(str(folder), dtype="float64")
        assert_allclose(logits(back, ids).numpy(), expected.numpy(), rtol=0, atol=1e-5)
        assert (folder / "model.safetensors").exists() == ("mlp" in gone)
        if "mlp" in gone:  # with zeros plain transformers computes the same
            config = type(whole.model.config).from_pretrained(folder)
            config._experts_implementation = "eager"
            options = {"config": config, "dtype": torch.float64, "attn_implementation": "eager"}
            plain = type(whole.model).from_pretrained(folder, **options).eval()
            with torch.no_grad():
                found_by_plain = plain(input_ids=torch.as_tensor(ids), use_cache=False).logits
            assert_allclose(found_by_plain.numpy(), expected.numpy(), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPES)
def test_a_block_goes_whole_and_generation_goes_on(of_type, text, name):
    whole, ids = of_type(name), torch.as_tensor(text(2, 6))
    smaller = checkpoints.drop(whole, blocks=[1] if name != "falcon" else [0])
    layer = 1 if name != "falcon" else 0
    assert_allclose(logits(smaller, ids).numpy(), silenced(whole, lambda s: s.layer == layer, ids).numpy(), atol=1e-9)
    by_hand = generated_by_hand(smaller, ids, 3)
    assert torch.equal(generated(smaller, ids, 3), by_hand)
    assert torch.equal(generated(smaller, ids, 3, cache_implementation="static"), by_hand)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*QUICK, *OTHERS])
def test_caches_of_every_kind_count_what_is_left(of_type, text, name):
    """Where one sublayer of a kind is gone: padding on the left and a cache of fixed size without the first one.

    Beams without the last one, which orders the same places of the cache.
    """
    whole, ids = of_type(name), torch.as_tensor(1 + text(2, 7) % 49)
    padded = torch.ones_like(ids)
    padded[0, :3] = 0

    def with_and_without(model, mask, **options):
        asked = {"attention_mask": mask, "max_new_tokens": 3, "do_sample": False, **options}
        return [model.generate(ids, use_cache=use, **asked) for use in (True, False)]

    for kind in mixing(whole):
        layers = [s.layer for s in whole.sublayers(kind)]
        model = checkpoints.drop(whole, **{kind: [layers[-1]]}).model
        assert torch.equal(*with_and_without(model, torch.ones_like(ids), num_beams=2))
        smaller = checkpoints.drop(whole, **{kind: [layers[0]]})
        assert torch.equal(*with_and_without(smaller.model, padded))
        fixed = generated(smaller, ids, 3, cache_implementation="static")
        assert torch.equal(fixed, generated_by_hand(smaller, ids, 3))


def test_importance_of_mixers(of_type, text):
    """1 - cos(x, x + F) by hand."""
    network, ids = of_type("jamba"), 1 + text(1)[0] % 49  # token 0 is padding, a stream without direction
    scores = checkpoints.importance(network, ids)
    signals = sublayer_signals(network, ids)
    assert signals.slots == ("attention", "mixer", "mlp")
    x, y = signals.x, signals.x + signals.F
    cosine = (x * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)
    expected = (1 - cosine).mean(-1)
    for i, kind in enumerate(signals.slots):
        # One is measured with sdpa, the other with eager attention, whose softmax is in float32.
        assert_allclose(scores[kind].to_numpy(), expected[:, i], rtol=0, atol=1e-7)
    assert np.isnan(scores["mixer"].to_numpy()[[1, 3]]).all()


def test_what_a_layer_does_not_have_is_refused(of_type, text):
    network = of_type("jamba")
    with pytest.raises(InputError, match="layer 0 has no attention: it has mixer and mlp"):
        checkpoints.drop(network, attention=[0])
    with pytest.raises(InputError, match="layer 1 has no mixer: it has attention and mlp"):
        checkpoints.drop(network, mixer=[1])
    with pytest.raises(InputError, match="all 2 attention layers would be gone"):
        checkpoints.drop(network, attention=[1, 3])
    with pytest.raises(InputError, match="'qwen3_next' is not sum_h W_O A_h W_V u"):
        checkpoints.drop(of_type("qwen3_next"), attention=[1], compensate=Calibration(text(), memory=True))


def test_a_choice_by_loss_among_mixers(of_type, text):
    """The slope is that of the loss along the error of a gain: the best of two is the one that drops at least cost."""
    network = of_type("jamba")
    choice = checkpoints.choose(network, 1, text(20), text(6, seed=1), kind="mixer")
    assert choice.curvature.shape == (2, 2)
    assert choice.layers[0] in (0, 2)
    losses = {
        layer: checkpoints.evaluate(checkpoints.drop(network, mixer=[layer], compensate=text(20)), text(6, seed=1)).loss
        for layer in (0, 2)
    }
    assert choice.layers[0] == min(losses, key=losses.get)


def test_summaries_have_a_row_for_every_kind(of_type, text):
    network, ids = of_type("jamba"), 1 + text(1)[0] % 49
    summary = checkpoints.summaries(network, [ids])
    assert summary["kind"].to_numpy().tolist() == ["attention", "mixer", "mlp"]
    signals = sublayer_signals(network, ids)
    gain = (signals.x * signals.F).sum(-1) / (signals.x**2).sum(-1)
    assert_allclose(summary["gain_mean"].to_numpy(), gain.mean(-1).T, rtol=0, atol=1e-6)


@pytest.mark.parametrize("signal", ["state", "prediction", "mlp"])
def test_signals_of_a_layer_are_read_and_replaced(of_type, text, signal):
    """Replaced by itself a signal changes nothing; replaced by zeros the contribution is gone."""
    from ctrlattn.observers.replacement import replaced
    from ctrlattn.observers.source import observe

    network = replace(of_type("olmo2"), tokenizer=lambda text, **_: {"input_ids": [5]})
    assert observe(network, text(2), 1, (signal,))[signal].shape[-1] == 24
    before = logits(network, text(2))
    with replaced(network, 1, signal, lambda x: x):
        assert_allclose(logits(network, text(2)).numpy(), before.numpy(), rtol=0, atol=1e-12)
    with replaced(network, 1, signal, lambda x: 0 * x):
        assert not torch.allclose(logits(network, text(2)), before)


@pytest.mark.parametrize(("name", "rtol"), [("falcon", 1e-6), ("jamba", 2e-2)])  # the scan of Mamba is in float32
def test_jacobians_of_a_traced_layer(of_type, text, name, rtol):
    """J v against a central difference of the layer itself."""
    from ctrlattn.checkpoints.measure.layer_functions import layer_function

    network, ids = of_type(name), 1 + text(1, 6)[0] % 49
    f, h = layer_function(network, 0, ids)
    v = torch.randn(h.shape, generator=torch.Generator().manual_seed(0), dtype=h.dtype)
    step = 1e-5 if rtol < 1e-4 else 1e-3
    expected = (f(h + step * v) - f(h - step * v)) / (2 * step)
    product = checkpoints.layer_jacobian(network, 0, ids) @ v.numpy().ravel()
    assert_allclose(product, expected.detach().numpy().ravel(), rtol=0, atol=rtol * np.abs(product).max())


@pytest.mark.parametrize("name", TYPES)
def test_steering_adds_exactly_what_it_says(of_type, text, name):
    """What the next layer reads is what the layer gave, plus the push and K (r - f.x) along f, from the start on."""
    from ctrlattn import PID
    from ctrlattn.observers.steering import Law, steered

    network, ids = replace(of_type(name), tokenizer=lambda text, **_: {"input_ids": [5]}), 1 + text(2) % 49
    f, push, kp, r = np.linspace(-1, 2, 24), np.array([0.5, -0.2, 0.3]), 0.4, 1.5
    unit = torch.as_tensor(f / np.linalg.norm(f))
    given, read = {}, {}

    def after(layer):
        def hook(module, args, output):
            given[layer] = output[0] if isinstance(output, tuple) else output

        return hook

    def before(layer):
        def hook(module, args, kwargs):
            read[layer] = (args[0] if args else kwargs["hidden_states"]).clone()

        return hook

    hooks = [layer.register_forward_hook(after(i)) for i, layer in enumerate(network.layers)]
    hooks += [layer.register_forward_pre_hook(before(i), with_kwargs=True) for i, layer in enumerate(network.layers)]
    plain = logits(network, ids)
    with steered(network, f, Law(PID(kp), push=push), r, start=1) as outputs:
        logits(network, ids)
    for hook in hooks:
        hook.remove()
    kept = outputs[1][0].shape[1]
    for layer in (1, 2):
        added = read[layer + 1] - given[layer]
        assert not added[:, :-kept].any()
        c = read[layer][:, -kept:] @ unit
        u = push[layer - 1] + (kp * (r - c) if layer > 1 else 0 * c)
        assert_allclose(added[:, -kept:].numpy(), (u[..., None] * unit).numpy(), rtol=0, atol=1e-12)
        assert_allclose(outputs[layer][0].numpy(), c.numpy(), rtol=0, atol=1e-12)
    assert torch.equal(logits(network, ids), plain)
