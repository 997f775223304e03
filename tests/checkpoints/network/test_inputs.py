"""Texts become ids in one place, and batches cover their windows once."""

import numpy as np
import pytest
import torch

from ctrlattn import InputError
from ctrlattn.checkpoints.network.inputs import in_batches, inputs_of, token_ids, windows_of


class Tokenizer:
    """One id for each character, 0 before a text; notes how it was called."""

    def __call__(self, text, *, add_special_tokens=True, verbose=True, truncation=False, max_length=None):
        ids = [0] * add_special_tokens + [1 + ord(c) % 40 for c in text]
        return {"input_ids": ids[:max_length] if truncation else ids}


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
