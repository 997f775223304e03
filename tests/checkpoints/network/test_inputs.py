"""Texts become ids in one place, and batches cover their windows once."""

import numpy as np
import pytest
import torch
import transformers

from ctrlattn import InputError
from ctrlattn.checkpoints import (
    Calibration,
    choose,
    cost,
    drop,
    evaluate,
    feedback_profile,
    head_importance,
    importance,
    load,
    tap,
)
from ctrlattn.checkpoints.network.inputs import in_batches, inputs_of, passes_of, token_ids, windows_of


class Tokenizer:
    """One id for each character, 0 before a text; notes how it was called."""

    def __call__(self, text, *, add_special_tokens=True, verbose=True):
        return {"input_ids": [0] * add_special_tokens + [1 + ord(c) % 40 for c in text]}


@pytest.mark.parametrize(("count", "length", "tokens"), [(7, 10, 25), (1, 10, 5), (4, 3, 12), (5, 512, 2048)])
def test_batches_cover_the_windows_once_and_hold_no_more_tokens_than_asked(count, length, tokens):
    windows = torch.arange(count * length).reshape(count, length)
    parts = in_batches(windows, tokens)
    assert torch.equal(torch.cat(parts), windows)
    assert all(part.numel() <= tokens or len(part) == 1 for part in parts)
    rows = max(1, tokens // length)
    assert [len(part) for part in parts] == [rows] * (count // rows) + [count % rows] * (count % rows > 0)


def test_an_image_is_a_batch_of_its_own():
    assert [tuple(part.shape) for part in in_batches(torch.zeros(2, 3, 8, 8))] == [(1, 3, 8, 8)] * 2


def test_a_text_becomes_ids_with_or_without_special_tokens(network):
    from dataclasses import replace

    checkpoint = replace(network("llama"), tokenizer=Tokenizer())
    body = [1 + ord(c) % 40 for c in "abc"]
    assert token_ids(checkpoint, "abc") == [0, *body]
    assert token_ids(checkpoint, "abc", special=False) == body
    assert token_ids(checkpoint, "abc", most=2) == [0, body[0]]
    assert inputs_of(checkpoint, "abc")["input_ids"].tolist() == [[0, *body]]


def test_ids_are_checked_before_the_network_runs(network):
    checkpoint = network("gpt2")
    with pytest.raises(InputError, match="needs the checkpoint's tokenizer"):
        token_ids(checkpoint, "abc")
    with pytest.raises(InputError, match=r"0 \.\.\. 49, got 1 \.\.\. 50"):
        inputs_of(checkpoint, [1, 50])
    with pytest.raises(InputError, match="65 tokens at once, and the network has positions for 64"):
        inputs_of(checkpoint, np.zeros(65, dtype=int))
    assert inputs_of(checkpoint, np.zeros(65, dtype=int), cut=True)["input_ids"].shape == (1, 65)
    with pytest.raises(InputError, match="one text at a time"):
        inputs_of(checkpoint, [[1, 2], [3, 4]])
    with pytest.raises(InputError, match="at least two tokens"):
        windows_of(checkpoint, [[1], [2]])
    checkpoint.model.train()
    with pytest.raises(InputError, match="training mode"):
        inputs_of(checkpoint, [1, 2])


def padded(rows, side, value=0):
    """What a tokenizer of transformers gives of texts of several lengths."""
    longest = max(map(len, rows))
    gaps = [longest - len(row) for row in rows]
    at = [(gap, 0) if side == "left" else (0, gap) for gap in gaps]
    ids = np.stack([np.pad(row, gap, constant_values=value) for row, gap in zip(rows, at, strict=True)])
    mask = np.stack([np.pad(np.ones(len(row), int), gap) for row, gap in zip(rows, at, strict=True)])
    given = {"input_ids": torch.as_tensor(ids), "attention_mask": torch.as_tensor(mask)}
    return transformers.BatchEncoding(given)


def with_pad(checkpoint, pad, tokenizer=None):
    from dataclasses import replace

    checkpoint.model.config.pad_token_id = pad
    return replace(checkpoint, tokenizer=tokenizer)


@pytest.mark.parametrize("side", ["begins", "ends"])
def test_bare_rows_that_look_padded_are_refused(network, side):
    """Their pads were read and predicted as text."""
    way = "left" if side == "begins" else "right"
    rows = [np.arange(1, 6), np.arange(4, 13), np.arange(20, 28)]
    given = padded(rows, way)
    bare = given["input_ids"]
    checkpoint = with_pad(network("llama"), 0)
    for ids in (bare, bare.tolist(), {"input_ids": bare}, bare[:1], bare[0]):
        with pytest.raises(InputError, match=f"text 0 {side} with the pad id 0, 4 in a row.*attention_mask"):
            evaluate(checkpoint, ids)
    assert evaluate(checkpoint, given).tokens == sum(len(row) - 1 for row in rows)
    whole = {"input_ids": bare, "attention_mask": torch.ones_like(bare)}
    assert evaluate(checkpoint, whole).tokens == bare.numel() - len(bare)


def test_an_id_that_may_be_text_is_no_pad(network):
    checkpoint = with_pad(network("llama"), 0)
    for ids in (
        [[0, 1, 2], [3, 4, 5]],  # one may be a word or EOS
        [[0, 0, 1, 2], [3, 0, 4, 5]],  # a text has one within
        [[0, 0, 1, 2], [3, 4, 0, 0]],  # pads stand at one side of all rows
        [[0, 0, 0], [0, 0, 0]],  # there is nothing else
    ):
        assert evaluate(checkpoint, ids).tokens == np.size(ids) - len(ids)
    assert evaluate(with_pad(network("llama"), None), [[0, 0, 1, 2]]).tokens == 3


def test_one_token_for_padding_alone_is_a_pad(network):
    class Own(Tokenizer):
        pad_token_id, eos_token_id = 7, 9

    class Shared(Tokenizer):
        pad_token_id = eos_token_id = 7

    ids = [[1, 2, 3, 7], [3, 4, 5, 6]]
    with pytest.raises(InputError, match="text 0 ends with the pad id 7, 1 in a row"):
        evaluate(with_pad(network("llama"), 0, Own()), ids)
    assert evaluate(with_pad(network("llama"), 0, Shared()), ids).tokens == 6
    with pytest.raises(InputError, match="2 in a row"):
        evaluate(with_pad(network("llama"), 0, Shared()), [[1, 2, 7, 7], [3, 4, 5, 6]])


def test_a_tokenizer_without_a_pad_token_has_padded_nothing(network, whole_words):
    """A configuration names id 0 by default, which is a word like others there."""
    ids = [[5, 7, 0, 0], [3, 4, 0, 0]]
    words = whole_words([f"w{i}" for i in range(8)])
    assert words.pad_token_id is None
    with pytest.raises(InputError, match="pad id 0"):
        evaluate(with_pad(network("llama"), 0), ids)
    assert evaluate(with_pad(network("llama"), 0, words), ids).tokens == 6


def ragged(seed, lengths=(5, 9, 9, 3)):
    rng = np.random.default_rng(seed)
    return [rng.integers(50, size=n) for n in lengths]


@pytest.mark.parametrize(("side", "seed"), [("left", 0), ("right", 1)])
def test_a_padded_batch_gives_the_numbers_of_its_windows_alone(network, causal, side, seed):
    """Pads used to be read as text, predicted, and averaged over."""
    checkpoint, rows = network(causal), ragged(seed)
    batch = padded(rows, side, value=7)
    judged = evaluate(checkpoint, batch)
    alone = [evaluate(checkpoint, row) for row in rows]
    np.testing.assert_allclose(judged.window_losses, [e.loss for e in alone], rtol=1e-12)
    assert judged.tokens == sum(len(row) - 1 for row in rows)
    scores = importance(checkpoint, batch)
    each = [importance(checkpoint, row) for row in rows]
    tokens = [len(row) for row in rows]
    assert scores.attrs["tokens"] == sum(tokens)
    for name in scores.data_vars:
        values = np.stack([one_row[name] for one_row in each])
        joined = values.max(0) if name.endswith("_max") else np.average(values, axis=0, weights=tokens)
        np.testing.assert_allclose(scores[name], joined, rtol=1e-9, atol=1e-15)
    assert importance(checkpoint, [list(row) for row in rows]).identical(scores)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_text_is_tapped_without_its_pads(network, causal, side):
    checkpoint, (row, *_) = network(causal), ragged(4)
    batch = padded([row, ragged(5, (11,))[0]], side)
    text = {name: values[:1] for name, values in batch.items()}
    assert tap(checkpoint, text).identical(tap(checkpoint, row))
    parts = ["feedback", "sinks"]
    assert feedback_profile(checkpoint, text, parts=parts).identical(feedback_profile(checkpoint, row, parts=parts))


def test_gains_are_fitted_to_the_tokens_of_padded_windows_alone(network):
    checkpoint, rows = network(), ragged(6, (12, 7, 12, 12, 9))
    by_mask, by_hand = (
        drop(checkpoint, attention=[1, 2], compensate=Calibration(ids, memory=True)).model.state_dict()
        for ids in (padded(rows, "left"), rows)
    )
    assert all(torch.equal(by_mask[name], by_hand[name]) for name in by_hand)
    chosen = [choose(checkpoint, 2, ids, ids).predicted for ids in (padded(rows, "right"), rows)]
    np.testing.assert_array_equal(*chosen)
    turns = [head_importance(checkpoint, ids).turn for ids in (padded(rows, "right"), rows)]
    np.testing.assert_array_equal(*turns)


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_encoder_reads_no_pad_and_knows_the_types_of_a_pair(side):
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    bert = load(transformers.BertModel(transformers.BertConfig(**sizes, intermediate_size=16)))
    rows = ragged(1)
    scores, each = importance(bert, padded(rows, side)), [importance(bert, row) for row in rows]
    joined = np.average([one_row.mlp for one_row in each], axis=0, weights=[len(row) for row in rows])
    np.testing.assert_allclose(scores.mlp, joined, rtol=1e-6)
    ids, types = np.array([0, 1, 2, 3, 0, 0]), np.array([0, 0, 1, 1, 0, 0])
    pair = {"input_ids": ids, "token_type_ids": types, "attention_mask": (np.arange(6) < 4).astype(int)}
    with torch.no_grad():
        own = bert.model(torch.as_tensor(ids[None, :4]), token_type_ids=torch.as_tensor(types[None, :4]))
    np.testing.assert_allclose(tap(bert, pair).state[-1], own.last_hidden_state[0], atol=1e-6)
    assert passes_of(bert, pair)[0]["token_type_ids"].tolist() == [[0, 0, 1, 1]]


def test_what_a_mask_cannot_say_is_refused(network):
    checkpoint = network()
    ids = [[1, 2, 3], [4, 5, 6]]
    for mask, words in (
        ([[1, 0, 1], [1, 1, 1]], "the attention_mask of text 0 has a hole"),
        ([[1, 1, 1], [0, 0, 0]], "the text has no token"),
        ([[1, 1, 2], [1, 1, 1]], "1 for a token and 0 for a pad"),
        ([[1, 1], [1, 1]], r"the shape of its ids, \(2, 3\)"),
        ([[0.0, 0.5, 1.0], [1.0, 1.0, 1.0]], "whole numbers, got float64"),
    ):
        with pytest.raises(InputError, match=words):
            windows_of(checkpoint, {"input_ids": ids, "attention_mask": mask})
    with pytest.raises(InputError, match="position_ids cannot be given beside input_ids"):
        windows_of(checkpoint, {"input_ids": ids, "position_ids": ids})
    with pytest.raises(InputError, match="input_ids are needed here, got pixel_values"):
        windows_of(checkpoint, {"pixel_values": ids})
    with pytest.raises(InputError, match="LlamaForCausalLM has no token types"):
        passes_of(checkpoint, {"input_ids": ids, "token_type_ids": [[0, 0, 1], [0, 0, 0]]})
    with pytest.raises(InputError, match="windows of one length are needed here, got 2 and 1"):
        inputs_of(checkpoint, [[1, 2], [3]], batch=True)
    with pytest.raises(InputError, match="speed is measured on texts of one length"):
        cost({"a": checkpoint}, [[1, 2, 3], [3, 4]])
    with pytest.raises(InputError, match="at least two tokens"):
        evaluate(checkpoint, [[1, 2], [3]])
    with pytest.raises(InputError, match="whole numbers, got float64"):
        inputs_of(checkpoint, [1.5, 2.0])
    with pytest.raises(InputError, match="65 tokens at once"):
        evaluate(network("gpt2"), [np.zeros(65, int), [1, 2]])
