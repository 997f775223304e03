"""Signals of a layer are those of the tap; windows cover the text; blocks depend on their number alone."""

from itertools import islice

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints  # noqa: E402  (after the skip)
from ctrlattn.checkpoints.network import text as pieces  # noqa: E402
from ctrlattn.observers import SIGNALS, SignalSource, observe, source, windows  # noqa: E402


def test_signals_are_those_of_the_tap(tiny, text):
    ids = next(windows(tiny, text, 24))
    tapped = checkpoints.tap(tiny, ids)
    signals_by_name = {name: value[0].numpy() for name, value in observe(tiny, ids[None], 1).items()}
    later = slice(4, None)
    state = tapped["state"][1].to_numpy()[later]
    assert_allclose(signals_by_name["state"], state[1:], atol=1e-6)
    assert_allclose(signals_by_name["prediction"], tapped["attention_out"][1].to_numpy()[later][1:], atol=1e-6)
    assert_allclose(signals_by_name["mlp"], tapped["mlp_out"][1].to_numpy()[later][1:], atol=1e-6)
    assert_allclose(signals_by_name["mid"], tapped["mid"][1].to_numpy()[later][1:], atol=1e-6)
    # The prediction error as it was first written: X[i] - sum(X[0:i])/i
    expected = [state[i] - sum(state[0:i]) / i for i in range(1, len(state))]
    assert_allclose(signals_by_name["error"], expected, atol=1e-5)


@pytest.mark.parametrize("layer", [0, 2])
def test_the_network_runs_no_further_than_the_layer(tiny, text, layer):
    ids = np.stack(list(islice(windows(tiny, text, 16), 3)))
    ran = []
    handles = [one.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, one in enumerate(tiny.layers)]
    try:
        alone = observe(tiny, ids, layer, ("state", "error"))
        assert ran == list(range(layer))
        together = observe(tiny, ids, layer)
        assert ran == [*range(layer), *range(layer + 1)]
    finally:
        for handle in handles:
            handle.remove()
    assert torch.equal(alone["error"], together["error"])
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in tiny.layers)


def test_windows_cover_the_text_once(tiny, text, monkeypatch):
    ids = tiny.tokenizer(text.read_text(), add_special_tokens=False)["input_ids"]
    whole = np.concatenate(list(windows(tiny, text, 32)))
    assert whole.tolist() == ids[: len(whole)]
    assert len(ids) - len(whole) < 32
    monkeypatch.setattr(pieces, "_CHUNK", 100)  # piece by piece: the same windows
    assert np.concatenate(list(windows(tiny, text, 32))).tolist() == whole.tolist()


def test_special_tokens_dress_every_window(text):
    vocabulary = {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "[PAD]": 3, **{f"w{i}": 4 + i for i in range(40)}}
    tokenizer = transformers.BertTokenizer(vocab=vocabulary, do_lower_case=False)
    config = transformers.BertConfig(
        vocab_size=44, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8
    )
    bert = checkpoints.load(transformers.BertModel(config), tokenizer=tokenizer)
    ids = next(windows(bert, text, 10))
    assert (ids[0], ids[-1]) == (0, 1)
    assert source.window_of(bert) == ((0,), (1,), 1)
    signals_by_name = observe(bert, ids[None], 1, ("state", "prediction", "error", "mlp"))
    assert {tuple(value.shape) for value in signals_by_name.values()} == {
        (1, 7, 8)
    }  # less [CLS], [SEP] and the first word
    with pytest.raises(ValueError, match="pre-norm"):
        observe(bert, ids[None], 1)


def test_a_block_depends_on_its_number_alone(tiny, text):
    source = SignalSource(tiny, text, 1, ("state",), size=100, context=16, together=2)
    blocks = [source.block(i)["state"] for i in range(12)]  # further than the text: it is read again
    other = SignalSource(tiny, text, 1, ("state",), size=100, context=16)
    assert torch.allclose(other.block(11)["state"], blocks[11], atol=1e-6)
    assert torch.allclose(source.block(2)["state"], blocks[2], atol=1e-6)
    assert blocks[0].shape == (source.count * 11, 16)


def test_what_is_held_out_is_never_learned_from(tiny, text):
    source = SignalSource(tiny, text, 1, ("state",), size=60, context=16)
    every = [tuple(ids) for ids in windows(tiny, text, 16)]
    held = source.held_out(1000)
    assert [tuple(ids) for ids in held] == every[9::10]
    learned = {tuple(ids) for number in range(40) for ids in source.ids(number)}
    assert learned == set(every) - set(every[9::10])


def test_bad_input_is_told(tiny, text, tmp_path):
    with pytest.raises(ValueError, match="unknown signal 'errors': did you mean 'error'"):
        SignalSource(tiny, text, 1, ("errors",))
    with pytest.raises(ValueError, match=r"layer must be one of 0 ... 2, got 3"):
        SignalSource(tiny, text, 3, SIGNALS)
    with pytest.raises(ValueError, match="leaves no example"):
        SignalSource(tiny, text, 1, SIGNALS, context=5)
    with pytest.raises(ValueError, match="no such file"):
        next(windows(tiny, tmp_path / "absent", 16))
    short = tmp_path / "short.txt"
    short.write_text("w1 w2")
    with pytest.raises(ValueError, match="2 tokens, too few for one window of 16"):
        next(windows(tiny, short, 16))
    short.write_text("w1 " * 100)
    with pytest.raises(ValueError, match="fewer than ten windows"):
        SignalSource(tiny, short, 1, SIGNALS, context=16).held_out(3)
    short.write_bytes(b"w1 \xff\xfe")
    with pytest.raises(ValueError, match="not a text in UTF-8"):
        next(windows(tiny, short, 16))
    with pytest.raises(ValueError, match="needs its tokenizer"):
        next(windows(checkpoints.load(tiny.model), text, 16))
