"""Windows of a text: special tokens in each, and the tokens of the whole text whatever pieces it is read in."""

import random
import tracemalloc
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrlattn import InputError, checkpoints
from ctrlattn.checkpoints.network import text as module
from ctrlattn.checkpoints.network.text import Frame, frame_of, ids_of_pieces, require_text, text_ids, token_ids, windows

WORDS = {"<unk>": 0, "<bos>": 1, **{f"w{i}": i + 2 for i in range(40)}}
TRAINED = [
    "the cat sat on the mat\n\n  and 12345 dogs ran, didn't they?\n",
    "été naïve 東京都 1234567890 xxxxxxxx",
] * 20


def fast(plain, **special):
    return transformers.PreTrainedTokenizerFast(tokenizer_object=plain, **special)


def of_words(bos):
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="<unk>"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    if bos:
        plain.post_processor = tokenizers.processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 1)])
    return fast(plain, unk_token="<unk>", bos_token="<bos>")


def byte_pairs():
    """As of GPT-2: words with the space in front of them, in bytes."""
    plain = tokenizers.Tokenizer(tokenizers.models.BPE())
    plain.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.train_from_iterator(TRAINED, tokenizers.trainers.BpeTrainer(vocab_size=400, show_progress=False))
    return fast(plain)


def digits_in_threes():
    """As of Llama 3: numbers are cut into groups of three from their start."""
    plain = tokenizers.Tokenizer(tokenizers.models.BPE())
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"\p{N}{1,3}|\s+(?!\S)|\s?\p{L}+|\s+"), "isolated"),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    plain.train_from_iterator(TRAINED, tokenizers.trainers.BpeTrainer(vocab_size=400, show_progress=False))
    return fast(plain)


def metaspace():
    """As of Llama 2: a space in front of the whole text, and no cut between words."""
    plain = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", fuse_unk=True))
    normal = tokenizers.normalizers
    plain.normalizer = normal.Sequence([normal.Prepend("▁"), normal.Replace(" ", "▁")])
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"], show_progress=False)
    plain.train_from_iterator(TRAINED, trainer)
    return fast(plain, unk_token="<unk>")


def word_pieces():
    """As of BERT: lower case, white space dropped, words beyond 100 letters unknown."""
    plain = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    plain.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    plain.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]"], show_progress=False)
    plain.train_from_iterator(TRAINED, trainer)
    return fast(plain, unk_token="[UNK]")


KINDS = {f.__name__: f for f in (byte_pairs, digits_in_threes, metaspace, word_pieces)}


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return KINDS[request.param]()


def network_of(tokenizer):
    return replace(bare(), tokenizer=tokenizer)


@cache
def bare():
    """A network without a tokenizer, made once: it is only read."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=450, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        initializer_range=0.3,
    )  # fmt: skip
    return checkpoints.load(transformers.LlamaForCausalLM(config).double())


PARTS = [
    "the",
    " cat",
    " ",
    "   ",
    "\n",
    "\n\n",
    "\t",
    "12",
    "12345678901",
    "x" * 30,
    "didn't",
    "東京",
    "é",
    ".",
    " mat",
]


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=60), st.integers(1, 12), st.integers(1, 700))
def test_pieces_give_the_tokens_of_the_whole_text(tokenizer, parts, times, size):
    whole = "".join(parts) * times * 3
    checkpoint = network_of(tokenizer)
    pieces = [whole[i : i + size] for i in range(0, len(whole), size)]
    ids = [i for more in ids_of_pieces(checkpoint, pieces) for i in more]
    assert ids == token_ids(checkpoint, whole, special=False)


@pytest.mark.parametrize("line", ["the cat sat on the mat, ", "1234567890", "x", "東京都", "\n  the\n\n\n", "1"])
def test_a_line_of_any_kind_is_cut_without_a_change_and_is_not_held_whole(tokenizer, line):
    whole = line * (20_000 // len(line))
    checkpoint = network_of(tokenizer)
    pieces = [whole[i : i + 1000] for i in range(0, len(whole), 1000)]
    parts = list(ids_of_pieces(checkpoint, pieces))
    assert [i for part in parts for i in part] == token_ids(checkpoint, whole, special=False)
    if line[0] == "t" or line[0] == "\n":
        assert len(parts) > 15


def test_every_window_begins_with_bos_where_the_tokenizer_puts_one(tmp_path):
    """Only the first did: a network that was trained with BOS read all others badly."""
    whole = " ".join(f"w{i % 40}" for i in range(400))
    path = tmp_path / "t.txt"
    path.write_text(whole + "\n", encoding="utf-8")
    body = [i % 40 + 2 for i in range(400)]
    for bos in (True, False):
        checkpoint = network_of(of_words(bos))
        assert frame_of(checkpoint) == Frame((1,) * bos, ())
        ids = checkpoint.tokenizer(whole)["input_ids"]
        room = 16 - bos
        for source in (whole, path, ids, body):
            rows = np.stack(list(windows(checkpoint, source, 16)))
            assert (rows[:, :bos] == 1).all()
            assert rows[:, bos:].flatten().tolist() == body[: 400 // room * room]
            *_, last = windows(checkpoint, source, 16, rest=True)
            assert last.tolist() == [1] * bos + body[400 // room * room :][-room:] or 400 % room == 0
        for given_text in (whole, ids, body):
            split = checkpoints.split_text(checkpoint, given_text, window=16)
            assert torch.equal(torch.cat(list(split)), torch.as_tensor(rows))
        summary = checkpoints.summaries(checkpoint, [whole], window=16)
        assert summary.attrs["windows"] == -(-400 // room)
        assert summary.attrs["tokens"] == 400 + bos * summary.attrs["windows"]


def test_the_sliding_window_begins_with_bos_and_predicts_the_text_alone():
    checkpoint = network_of(of_words(True))
    body = np.random.default_rng(0).integers(2, 42, 30)
    window, stride, room = 9, 4, 8
    losses = np.full(30, np.nan)
    for start in [*range(0, 30 - room, stride), 30 - room]:
        logits = checkpoint.model(torch.as_tensor([[1, *body[start : start + room]]])).logits[0]
        logs = torch.log_softmax(logits.detach(), -1)
        for t in range(start, start + room):
            if np.isnan(losses[t]):
                losses[t] = -logs[t - start, body[t]]
    for ids in (body, [1, *body]):
        judged = checkpoints.perplexity(checkpoint, ids, window=window, stride=stride)
        assert judged.tokens == 30
        assert judged.loss == pytest.approx(losses.mean(), rel=1e-6)
    with pytest.raises(InputError, match=r"window \- 1 = 7, got 8"):
        checkpoints.perplexity(checkpoint, body, window=9, stride=8)


def test_an_encoder_keeps_both_special_tokens():
    vocabulary = {"[CLS]": 0, "[SEP]": 1, "[UNK]": 2, "[PAD]": 3, **{f"w{i}": 4 + i for i in range(40)}}
    sizes = {"vocab_size": 44, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = transformers.BertModel(transformers.BertConfig(**sizes, intermediate_size=8))
    bert = checkpoints.load(model, tokenizer=transformers.BertTokenizer(vocab=vocabulary))
    assert [w.tolist() for w in windows(bert, "w0 w1 w2", 4, rest=True)] == [[0, 4, 5, 1], [0, 6, 1]]
    with pytest.raises(InputError, match="a window of 2 tokens has no room for text beside the special tokens"):
        next(windows(bert, "w0", 2))


def with_special_tokens(tokenizer):
    """The same tokenizer with a token before and one behind a text."""
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.add_special_tokens(["<s>", "</s>"])
    ends = [(word, backend.token_to_id(word)) for word in ("<s>", "</s>")]
    backend.post_processor = tokenizers.processors.TemplateProcessing("<s> $A </s>", special_tokens=ends)
    return fast(backend, unk_token=tokenizer.unk_token)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=60), st.integers(1, 40), st.integers(3, 400))
def test_the_first_tokens_are_those_of_the_tokenizers_own_cut(tokenizer, parts, times, most):
    text = "".join(parts) * times
    for own, special in ((tokenizer, False), (with_special_tokens(tokenizer), True)):
        cut = own(text, add_special_tokens=special, truncation=True, max_length=most)["input_ids"]
        assert token_ids(network_of(own), text, special=special, most=most) == cut


def test_the_first_tokens_of_a_long_text_cost_no_more_than_those_of_a_short_one():
    """The whole text was made tokens of, 24 seconds for 22 MB, and then cut."""
    plain, read = of_words(True), []

    def counting(text, **options):
        read.append(len(text))
        return plain(text, **options)

    checkpoint = replace(network_of(plain), tokenizer=counting)
    assert token_ids(checkpoint, "w1 w2 " * 500_000, most=4) == [1, 3, 4, 3]
    assert sum(read) < 300_000


def test_a_file_has_the_tokens_of_its_text_without_the_space_at_its_ends(tokenizer, tmp_path):
    whole = "  \n" + "the cat sat on the mat. " * 30 + "\n\n"
    (tmp_path / "a.txt").write_text(whole, encoding="utf-8")
    network = network_of(with_special_tokens(tokenizer))
    for options in ({}, {"special": False}, {"most": 9}, {"most": 9, "special": False}):
        assert token_ids(network, tmp_path / "a.txt", **options) == token_ids(network, whole.strip(), **options)


def test_too_few_tokens_for_the_special_ones_are_refused(tokenizer):
    checkpoint = network_of(with_special_tokens(tokenizer))
    for most in (1, 2):
        with pytest.raises(InputError, match=f"a window of {most} tokens has no room .* are 2: 3 tokens are the least"):
            token_ids(checkpoint, "the cat sat", most=most)
    assert len(token_ids(checkpoint, "the cat sat", most=3)) == 3


def test_a_text_is_read_as_far_as_it_is_asked_for(tmp_path):
    checkpoint = network_of(of_words(True))
    path = tmp_path / "t.txt"
    path.write_text(" \n w1 w2\n" + " w3" * 50_000 + " \n\n", encoding="utf-8")
    assert text_ids(checkpoint, path, 4).tolist() == [3, 4, 5, 5]
    assert len(text_ids(checkpoint, path, 10**6)) == 50_002
    assert text_ids(checkpoint, path, 10**6).tolist() == token_ids(checkpoint, path.read_text().strip(), special=False)
    path.write_text(" \n ", encoding="utf-8")
    with pytest.raises(InputError, match="is empty"):
        require_text(path)
    path.write_bytes(b"w1 \xff")
    with pytest.raises(InputError, match="not a text in UTF-8"):
        require_text(path)


@pytest.mark.slow
@pytest.mark.parametrize("end", [" ", "\n"])
def test_memory_is_that_of_one_piece_whatever_the_length_of_the_text_and_of_its_lines(tmp_path, monkeypatch, end):
    """A line of 20 MB took 3.4 GB, since the text was read line by line."""
    monkeypatch.setattr(module, "_CHUNK", 1 << 12)
    checkpoint, path = network_of(of_words(True)), tmp_path / "t.txt"

    def peak(words):
        path.write_text(end.join(f"w{i % 40}" for i in range(words)), encoding="utf-8")
        tracemalloc.start()
        count = sum(1 for _ in windows(checkpoint, path, 17))
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == words // 16
        return high

    peak(2_000)
    assert peak(40_000) < 1.3 * peak(8_000)


@pytest.mark.slow
def test_what_is_kept_of_a_text_is_a_few_bytes_a_token(tmp_path, monkeypatch):
    """A list of Python takes 36 bytes a token, and `drop` made three of them."""
    monkeypatch.setattr(module, "_CHUNK", 1 << 12)
    checkpoint, path = network_of(of_words(True)), tmp_path / "t.txt"

    def bytes_of(words):
        path.write_text(" ".join(f"w{i % 40}" for i in range(words)), encoding="utf-8")
        tracemalloc.start()
        ids = text_ids(checkpoint, path, words)
        read = tracemalloc.get_traced_memory()
        count = sum(1 for _ in windows(checkpoint, ids, 17))
        cut = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (len(ids), count) == (words, words // 16)
        return np.array([*read, cut])

    bytes_of(2_000)
    kept, most, cut = (bytes_of(32_000) - bytes_of(8_000)) / 24_000
    assert kept < 5
    assert most < 10  # an array that grows is copied once
    assert cut < 30


class Fickle:
    """One token for each word, and another one in a long text."""

    def __call__(self, text, **_):
        return {"input_ids": [2 if len(text) < 1300 else 3] * len(text.split())}


def test_tokens_that_change_with_what_follows_are_refused():
    checkpoint = replace(network_of(of_words(False)), tokenizer=Fickle())
    with pytest.raises(ArithmeticError, match="cannot be read piece by piece"):
        list(ids_of_pieces(checkpoint, ["w " * 600, "w " * 600]))


@pytest.mark.parametrize("seed", range(20))
def test_white_space_of_any_length_is_kept_inside_and_left_out_at_the_ends(tmp_path, monkeypatch, seed):
    draw = random.Random(seed)
    monkeypatch.setattr(module, "_CHUNK", draw.randint(1, 9))
    runs = ["".join(draw.choices(" \n\t\u3000", k=draw.choice((0, 1, 30)))) for _ in range(4)]
    whole = runs[0] + "a" + runs[1] + "b c" + runs[2] + draw.choice(("", "d")) + runs[3]
    file = tmp_path / "text.txt"
    file.write_text(whole, encoding="utf-8", newline="")
    assert "".join(module._strip(file)) == whole.strip()
    assert "".join(module._strip(whole)) == whole.strip()


def test_a_long_run_of_white_space_is_not_held(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("a" + " " * (64 * module._CHUNK) + "b" + "\n" * (64 * module._CHUNK), encoding="utf-8")
    assert sum(map(len, module._strip(file))) == 64 * module._CHUNK + 2
    assert max(map(len, module._strip(file))) <= 3 * module._CHUNK


@pytest.mark.parametrize(("agree", "most"), [(False, 1.5), (True, 60)])
def test_a_text_without_a_place_to_cut_is_not_read_again_for_every_piece(agree, most):
    read = []

    def whole(words, **_):
        """One token for a text: its length, or whether it is long, which contexts agree about and texts do not."""
        read.append(len(words))
        return {"input_ids": [len(words) > 2000 if agree else len(words)]}

    pieces = ["x" * module._CHUNK] * 20
    length = 20 * module._CHUNK
    assert list(ids_of_pieces(SimpleNamespace(tokenizer=whole), pieces)) == [[True if agree else length]]
    assert sum(size for size in read if size > 2000) < most * length
