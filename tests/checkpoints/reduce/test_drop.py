"""Dropping is the network with that sublayer's contribution taken out, to rounding, with and without a cache."""

import numpy as np
import pytest
import torch

from ctrlattn import checkpoints
from ctrlattn.checkpoints import drop, evaluate, importance, tap


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


@pytest.mark.parametrize("gains", [False, True])
@pytest.mark.parametrize("layers", [[0], [0, 2], [1, 2]])
def test_generation_with_a_cache_is_generation_without(network, text, causal, gains, layers):
    smaller = drop(network(causal), attention=layers, compensate=text(20) if gains else None)
    ids = torch.as_tensor(text(2, 5))
    cached = smaller.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    by_hand = ids
    for _ in range(12):
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


@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
@pytest.mark.parametrize("chunk", [0, 3])
@pytest.mark.parametrize("named", [{"attention": [1]}, {"mlp": [0]}, {"blocks": [2]}, {"mlp": [0, 1], "blocks": [2]}])
def test_a_post_norm_network_drops_what_adds_to_its_stream(tmp_path, kind, chunk, named):
    """norm(x + 0) is what is left; the last map of the MLP reads 32 features and answers with 24."""
    import transformers

    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3}
    config = getattr(transformers, f"{kind}Config")(**sizes, intermediate_size=32, chunk_size_feed_forward=chunk)
    whole = checkpoints.load(getattr(transformers, f"{kind}Model")(config).double())
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


def test_an_encoder_drops_bare_and_takes_no_gain(text):
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
                                     intermediate_size=32)  # fmt: skip
    whole = checkpoints.load(transformers.BertModel(config).double())
    smaller = drop(whole, attention=[0])
    assert not tap(smaller, [1, 2, 3])["attention_out"].to_numpy()[0].any()
    with pytest.raises(ValueError, match="family 'bert' has the norm after it"):
        drop(whole, attention=[0], compensate=text())
    with pytest.raises(ValueError, match="does not predict the next token"):
        evaluate(smaller, text())
