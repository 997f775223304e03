"""The lines in the README of a saved network run where they stand, and load what was saved."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tokenizers
import transformers

import ctrlattn
from ctrlattn.checkpoints import Calibration, drop, load, save


def run(code, folder):
    paths = os.pathsep.join([str(Path(ctrlattn.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=folder, env=environment, capture_output=True, text=True
    )


def blocks(folder):
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def words():
    vocabulary = {"Once": 0, "upon": 1, "a": 2, "time": 3, **{f"w{i}": i for i in range(4, 50)}}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="a"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="a")


@pytest.mark.slow
def test_both_ways_of_a_bare_drop_load_and_write_the_same(network, words, tmp_path):
    smaller = drop(
        replace(network("gpt2", double=False), tokenizer=words, source="hub/tiny"), attention=[1, 2], mlp=[0]
    )
    save(smaller, tmp_path / "m")
    text = (tmp_path / "m" / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# tiny, saved by ctrlattn {ctrlattn.__version__}\n")
    assert "Without attention of layers 1, 2 and the MLP of layer 0; the files hold zeros in their place." in text
    ours, plain = blocks(tmp_path / "m")
    assert [len(code.strip().splitlines()) for code in (ours, plain)] == [3, 3]
    result = run(ours + plain, tmp_path / "m")
    assert result.returncode == 0, result.stderr
    by_ours, by_plain = result.stdout.splitlines()
    assert by_ours == by_plain
    assert by_ours.startswith("Once upon a time ")


@pytest.mark.slow
def test_gains_load_with_ctrlattn_alone_and_without_a_tokenizer(network, text, tmp_path):
    smaller = drop(network(double=False), attention=[1], compensate=Calibration(text()))
    save(smaller, tmp_path / "m")
    said = (tmp_path / "m" / "README.md").read_text(encoding="utf-8")
    assert "Without attention of layer 1; gains stand in their place." in said
    assert "Plain transformers refuses this directory" in said
    (ours,) = blocks(tmp_path / "m")
    result = run(ours, tmp_path / "m")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("tensor([")


@pytest.mark.slow
def test_an_encoder_says_how_it_is_run(tmp_path):
    sizes = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    save(load(transformers.BertModel(transformers.BertConfig(**sizes, intermediate_size=8))), tmp_path / "m")
    _, plain = blocks(tmp_path / "m")
    assert run(plain, tmp_path / "m").stdout == "torch.Size([1, 3, 8])\n"
