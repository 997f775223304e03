"""A gain with memory: the values of attention with fixed weights, exact in generation, from a state of fixed size."""

import inspect
import json

import numpy as np
import pytest
import torch
import transformers
from alike import alike

from ctrlattn.checkpoints import Calibration, choose, compensated_drop, drop, evaluate, load, save
from ctrlattn.checkpoints.network.memory_cache import Past
from ctrlattn.checkpoints.network.structure import gain_of


def logits(model, ids, **more):
    with torch.no_grad():
        return model(input_ids=torch.as_tensor(ids), use_cache=False, **more).logits


def cached(model, cache):
    """The cache under the name that this version of transformers gives it."""
    return {"cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values": cache}


@pytest.fixture
def remembering(network, text):
    """remembering(name, layers) -> (whole, the same with gains that remember)."""

    def make(name="llama", layers=(0, 2), rank=None):
        whole = network(name)
        return whole, drop(whole, attention=layers, compensate=Calibration(text(60), rank=rank, memory=True))

    return make


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox"])
def test_what_was_an_average_of_values_is_recovered(network, text, name):
    """With queries of zero attention is the plain mean of all values so far: one of the memories."""
    whole = network(name)
    with torch.no_grad():
        for layer in whole.layers:
            silence(name, layer)
    calibration = Calibration(text(60), 1e-3, memory=True)
    loss = evaluate(whole, text(8, seed=1)).window_losses
    away = [
        np.abs(evaluate(drop(whole, attention=[1, 2], compensate=how), text(8, seed=1)).window_losses - loss).max()
        for how in (text(60), calibration)
    ]
    assert away[0] > 0.1
    assert away[1] < 0.01


def silence(name, layer):
    """Queries of zero."""
    if name == "llama":
        layer.self_attn.q_proj.weight.zero_()
    elif name == "gpt2":
        layer.attn.c_attn.weight[:, :24].zero_()
        layer.attn.c_attn.bias[:24].zero_()
    else:
        for part in (layer.attention.query_key_value.weight, layer.attention.query_key_value.bias):
            part.unflatten(0, (3, 3, 8))[:, 0].zero_()


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox"])
def test_memory_wins_back_more_than_a_static_gain(network, text, name):
    whole = network(name)
    loss = evaluate(whole, text(8)).window_losses
    dropped = [
        drop(whole, attention=[1, 2], compensate=Calibration(text(200), 0.01, memory=how)) for how in (False, True)
    ]
    away = [np.abs(evaluate(one, text(8)).window_losses - loss).mean() for one in dropped]
    assert away[1] < 0.8 * away[0]


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox"])
@pytest.mark.parametrize("layers", [[0], [1, 2]])
def test_generation_with_a_cache_is_generation_without(remembering, text, name, layers):
    _, smaller = remembering(name, layers)
    ids = torch.as_tensor(text(2, 5))
    cached = smaller.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    by_hand = ids
    for _ in range(12):
        by_hand = torch.cat([by_hand, logits(smaller.model, by_hand)[:, -1:].argmax(-1)], 1)
    assert torch.equal(cached, by_hand)


def test_a_window_of_attention_is_not_padding(text):
    """In a layer whose mask hides what is far back, a memory still has all of it, with and without a cache."""
    sizes = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 1}
    config = transformers.MistralConfig(vocab_size=50, intermediate_size=32, sliding_window=4, pad_token_id=0, **sizes)
    torch.manual_seed(0)
    whole = load(transformers.MistralForCausalLM(config).double(), attention="sdpa")
    smaller = drop(whole, attention=[0, 2], compensate=Calibration(text(60), memory=True))
    ids = torch.as_tensor(text(2, 20))
    wanted = logits(smaller.model, ids)
    with torch.no_grad():
        out = smaller.model(input_ids=ids[:, :15], use_cache=True)
        rest = smaller.model(input_ids=ids[:, 15:], use_cache=True, **cached(smaller.model, out.past_key_values))
    torch.testing.assert_close(torch.cat([out.logits, rest.logits], 1), wanted, rtol=1e-5, atol=1e-5)


def test_logits_with_a_cache_are_those_without_token_by_token_and_in_parts(remembering, text):
    _, smaller = remembering()
    ids = torch.as_tensor(text(2, 20))
    wanted, found, cache = logits(smaller.model, ids), [], None
    with torch.no_grad():
        for part in ids.split([7, 1, 1, 6, 5], 1):
            out = smaller.model(input_ids=part, use_cache=True, **cached(smaller.model, cache))
            cache = out.past_key_values
            found.append(out.logits)
    torch.testing.assert_close(torch.cat(found, 1), wanted, rtol=1e-5, atol=1e-5)


def test_beams_and_padding_are_theirs_alone(remembering, text):
    _, smaller = remembering()
    ids = torch.as_tensor(text(1, 6)) % 49 + 1
    several = {"max_new_tokens": 6, "do_sample": False, "num_beams": 3}
    alone = smaller.model.generate(ids, attention_mask=torch.ones_like(ids), **several)
    padded = torch.cat([torch.zeros_like(ids[:, :4]), ids], 1)
    mask = (torch.arange(10) >= 4).long()[None]
    both = smaller.model.generate(padded, attention_mask=mask, **several)
    assert torch.equal(both[:, 4:], alone)
    twice = smaller.model.generate(ids.repeat(2, 1), attention_mask=torch.ones(2, 6).long(), **several)
    assert torch.equal(twice, alone.repeat(2, 1))


def test_its_state_has_one_size_and_the_modules_keep_none(remembering, text):
    _, smaller = remembering()
    sizes = []
    for length in (3, 12):
        with torch.no_grad():
            cache = smaller.model(input_ids=torch.as_tensor(text(1, length)), use_cache=True).past_key_values
        states = [layer for layer in cache.layers if isinstance(layer, Past)]
        assert len(states) == 2
        assert [layer.get_seq_length() for layer in states] == [length, length]
        sizes.append(sum(layer.keys.numel() + layer.values.numel() for layer in states))
    assert sizes[0] == sizes[1] > 0
    again = logits(smaller.model, text(1, 3))
    logits(smaller.model, text(1, 12))
    assert torch.equal(logits(smaller.model, text(1, 3)), again)


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox"])
@pytest.mark.parametrize("rank", [None, 4])
def test_what_is_saved_comes_back(network, text, name, rank, tmp_path):
    how = Calibration(text(), rank=rank, memory=True)
    smaller = drop(network(name, double=False), attention=[0, 2], mlp=[1], compensate=how)
    save(smaller, tmp_path / "out")
    again = load(tmp_path / "out", attention="sdpa")
    assert alike(logits(again.model, text(2)), logits(smaller.model, text(2)))
    assert again.model.config.ctrlattn == smaller.model.config.ctrlattn
    saved = json.loads((tmp_path / "out" / "config.json").read_text())["network"]["ctrlattn"]
    assert saved["attention"]["0"]["rank"] == (rank or 24)
    assert saved["mlp"] == {"1": rank or 24}
    ids = torch.as_tensor(text(1, 4))
    plain = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 5, "do_sample": False}
    assert torch.equal(again.model.generate(ids, **plain), smaller.model.generate(ids, **plain))
    with pytest.raises((ValueError, OSError)):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_its_maps_are_those_of_the_layer(remembering):
    whole, smaller = remembering()
    gain, attention = gain_of(smaller.family, smaller.model, 2, "attention"), whole.model.model.layers[2].self_attn
    assert torch.equal(gain.value.weight, attention.v_proj.weight)
    assert torch.equal(gain.output.weight, attention.o_proj.weight)


def test_the_choice_takes_what_memory_can_replace(network, text):
    smaller, choice = compensated_drop(network(), 2, Calibration(text(30), memory=True), text(5, seed=1))
    assert {int(layer) for layer in smaller.model.config.ctrlattn["attention"]} == set(choice.layers)
    whole = network()
    with torch.no_grad():
        whole.model.model.layers[2].self_attn.o_proj.weight.zero_()
    found = choose(whole, 1, Calibration(text(30), memory=True), text(5, seed=1))
    assert found.order == (2,)
    assert found.predicted[0] == pytest.approx(0, abs=1e-9)


def test_where_it_cannot_work_is_one_clear_line(network, text, remembering):
    with pytest.raises(ValueError, match="'gemma3_text' has a norm behind its attention"):
        drop(network("gemma3"), attention=[1], compensate=Calibration(text(), memory=True))
    _, smaller = remembering()
    ids = torch.as_tensor(text(1, 4))
    fixed = transformers.StaticCache(config=smaller.model.config, max_cache_len=16)
    with pytest.raises(ValueError, match="needs a dynamic cache"), torch.no_grad():
        smaller.model(input_ids=ids, use_cache=True, **cached(smaller.model, fixed))
    with pytest.raises(ValueError, match="cannot take tokens back"):
        Past().crop(-1)
