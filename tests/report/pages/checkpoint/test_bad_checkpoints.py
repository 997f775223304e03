"""analyze, drop and observe of what is no network, or not the one that is wanted: one line each, and exit code 2."""

import json
import os
import pickle

import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from ctrlattn.cli import app  # noqa: E402  (after the skip)

pytestmark = pytest.mark.usefixtures("undrawn_file")
WORDS = ["a", "cat", "sat", "on", "the", "mat"]
TEXT = " ".join(WORDS[i * i % 6] for i in range(400))
COMMANDS = {
    "analyze": ("--tokens", 8, "--parts", "feedback"),
    "drop": ("--attention", 1, "--window", 16),
    "observe": ("--layer", 1, "--features", 8, "--k", 2, "--tokens", 100, "--context", 8, "--held-out", 2),
}


def decoder():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=6, n_layer=3, n_embd=8, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)


def encoder():
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    return transformers.BertModel(transformers.BertConfig(vocab_size=6, **sizes))


def stranger():
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 8, "word_embed_proj_dim": 8}
    return transformers.OPTForCausalLM(
        transformers.OPTConfig(vocab_size=6, pad_token_id=0, bos_token_id=0, eos_token_id=0, **sizes)
    )


def missing(folder):
    (folder / "model.safetensors").unlink()


def truncated(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def without_numbers(folder):
    model = decoder()
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[0, 0] = float("nan")
    model.save_pretrained(folder)


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["EXECUTED"],)


def pickled(folder):
    missing(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil()}, protocol=2))


def with_code(folder):
    config = json.loads((folder / "config.json").read_text())
    ours = {"AutoConfig": "modeling_evil.C", "AutoModelForCausalLM": "modeling_evil.M"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "evil", "auto_map": ours}))
    (folder / "modeling_evil.py").write_text("import os\nos.mkdir(os.environ['EXECUTED'])\n")


@pytest.fixture
def folder(whole_words, tmp_path, monkeypatch):
    """write(model) -> a directory with the model and a tokenizer of whole words."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("EXECUTED", str(tmp_path / "executed"))

    def write(model):
        there = tmp_path / "model"
        whole_words(WORDS).save_pretrained(there)
        model.save_pretrained(there)
        return there

    return write


def run(command, source, tmp_path, *options):
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    arguments = (command, source, "--text", text, "--out", tmp_path / "out", *COMMANDS[command], *options)
    return CliRunner().invoke(app, [str(word) for word in arguments])


def refused(found, message):
    assert found.exit_code == 2, found.output
    said = [line for line in found.stderr.splitlines() if line.startswith("ctrlattn: ") and "loading" not in line]
    assert len(said) == 1
    assert message in said[0]
    assert "Traceback" not in found.output


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (missing, "no file named model.safetensors"),
        (truncated, "a damaged or incomplete file"),
        (without_numbers, "transformer.h.1.mlp.c_fc.weight is not finite in 1 of 256 values"),
        (pickled, "never unpickled"),
        (with_code, "never executed"),
    ],
)
def test_a_damaged_or_foreign_directory(folder, tmp_path, command, damage, message):
    there = folder(decoder())
    damage(there)
    refused(run(command, there, tmp_path), message)
    assert not (tmp_path / "executed").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_type_without_a_row_is_traced(folder, tmp_path, command):
    assert run(command, folder(stranger()), tmp_path).exit_code == 0


@pytest.mark.slow
def test_an_encoder_predicts_no_next_token(folder, tmp_path):
    refused(run("drop", folder(encoder()), tmp_path), "BertModel does not predict the next token")
    assert run("analyze", folder(encoder()), tmp_path).exit_code == 0


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("analyze", ("--tokens", 17), "positions for 16"),
        ("drop", ("--window", 17), "positions for 16"),
        ("drop", ("--attention", 3), "keep at least one"),
        ("drop", ("--attention", 0, "--blocks", 3, "--bare"), "keep at least one"),
        ("drop", ("--attention", 0, "--layers", 3), "0 ... 2"),
        ("drop", ("--held-out", "a cat"), "at least 1 are needed"),
        ("observe", ("--layer", 3), "0 ... 2"),
        ("observe", ("--context", 17), "positions for 16"),
    ],
)
def test_what_this_network_cannot_do(folder, tmp_path, command, options, message):
    refused(run(command, folder(decoder()), tmp_path, *options), message)
