"""Whatever another library raises is one line that says what it is; our own refusals pass as they are."""

import sys
from types import ModuleType

import pytest

from ctrlattn.checkpoints.network import foreign as module
from ctrlattn.checkpoints.network.foreign import foreign, foreign_tokenizer
from ctrlattn.errors import InputError


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ZeroDivisionError("x"),
            r"a: cannot load this checkpoint: a damaged or incomplete file \(ZeroDivisionError: x\)",
        ),
        (ValueError("two\n lines"), "a: cannot load this checkpoint: two lines$"),
        (ImportError("no module"), "it needs a package that is not installed: no module"),
        (
            RuntimeError("please set weights_only"),
            "its pickled weights hold more than tensors, and are never unpickled",
        ),
        (ValueError("contains custom code"), "it needs code of its own, which is never executed"),
        (OSError("couldn't connect to"), "--allow-download"),
        (ValueError("w" * 500), "w{400} ...$"),
    ],
)
def test_an_error_of_a_library_is_one_line(error, words):
    with pytest.raises(InputError, match=words), foreign("a"):
        raise error


@pytest.mark.parametrize("error", [InputError("ours"), MemoryError()])
def test_a_refusal_of_ours_and_a_lack_of_memory_pass(error):
    with pytest.raises(type(error)) as caught, foreign("a"):
        raise error
    assert caught.value is error


def refused(folder):
    """What is said where transformers took what lies there for a file of tiktoken."""
    with pytest.raises(InputError) as caught, foreign_tokenizer("a", folder):
        raise ValueError("`tiktoken` is required")
    return str(caught.value)


SENTENCEPIECE = b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02"  # one piece, as field 1 of a ModelProto
TIKTOKEN = "a: cannot load this checkpoint: `tiktoken` is required"


@pytest.mark.parametrize("name", ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model"])
def test_a_sentencepiece_model_says_which_packages_it_needs(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)  # as if it were not installed
    (tmp_path / name).write_bytes(SENTENCEPIECE)
    assert refused(tmp_path) == (
        f"a: cannot load this checkpoint: its tokenizer {name} is a SentencePiece model: "
        "pip install -U sentencepiece protobuf, or save a tokenizer.json beside it"
    )


def test_a_sentencepiece_model_that_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_reads_sentencepiece", lambda: True)
    (tmp_path / "tokenizer.model").write_bytes(SENTENCEPIECE[:5])
    assert refused(tmp_path).endswith("its tokenizer tokenizer.model is a SentencePiece model that is damaged")


@pytest.mark.parametrize(
    "names", [{}, {"tokenizer.model": b"IQ== 0\n"}, {"t.model": SENTENCEPIECE, "tokenizer.json": b""}]
)
def test_an_error_of_another_tokenizer_stays(names, tmp_path):
    for name, content in names.items():
        (tmp_path / name).write_bytes(content)
    assert refused(tmp_path) == TIKTOKEN


@pytest.mark.parametrize(("raised", "reads"), [("VersionError", False), ("TypeError", False), ("", True)])
def test_protobuf_must_fit_sentencepiece(raised, reads, monkeypatch):
    """The generated code of sentencepiece asks for a protobuf that is not older, and says so at its import."""

    class VersionError(Exception):
        """That of google.protobuf.runtime_version."""

    errors = {"VersionError": VersionError, "TypeError": TypeError}

    def import_module(name):
        if name == "google.protobuf.runtime_version":
            runtime = ModuleType(name)
            runtime.VersionError = VersionError
            return runtime
        assert name == "sentencepiece.sentencepiece_model_pb2"
        if raised:
            raise errors[raised]("incompatible")
        return ModuleType(name)

    monkeypatch.setattr(module.importlib, "import_module", import_module)
    assert module._reads_sentencepiece() is reads
