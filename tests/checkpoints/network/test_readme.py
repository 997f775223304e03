"""The lines in the README of a saved network run where they stand, and load what was saved."""

import json
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

# Each piece of code in its folder, with no names but its own; the first ones run before anything loads ctrlattn.
EACH = """
import contextlib, io, json, os, sys
answers = []
for name, folder, code in json.load(sys.stdin):
    if name.startswith("plain"):
        assert "ctrlattn" not in sys.modules, "plain transformers ran ctrlattn"
    os.chdir(folder)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(code, {"__name__": "__main__"})
    answers.append((name, said.getvalue()))
print(json.dumps(dict(answers)))
"""


def run(pieces):
    paths = os.pathsep.join([str(Path(ctrlattn.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-W", "ignore", "-c", EACH]
    result = subprocess.run(command, input=json.dumps(pieces), env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def blocks(folder):
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def words():
    vocabulary = {"Once": 0, "upon": 1, "a": 2, "time": 3, **{f"w{i}": i for i in range(4, 50)}}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="a"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="a")


@pytest.fixture(scope="module")
def saved(network, text, tmp_path_factory):
    """({name: folder of a saved network}, {way and name: what the lines of its README print}), of one process."""
    folder = tmp_path_factory.mktemp("saved")
    sizes = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    with_words = replace(network("gpt2", double=False), tokenizer=words(), source="hub/tiny")
    networks = {
        "encoder": load(transformers.BertModel(transformers.BertConfig(**sizes, intermediate_size=8))),
        "bare": drop(with_words, attention=[1, 2], mlp=[0]),
        "gains": drop(network(double=False), attention=[1], compensate=Calibration(text())),
    }
    folders = {name: save(one, folder / name) for name, one in networks.items()}
    code = {name: blocks(folders[name]) for name in folders}
    ways = {"plain encoder": code["encoder"][1], "plain bare": code["bare"][1]}
    ways |= {"ours bare": code["bare"][0], "ours gains": code["gains"][0]}
    return folders, run([(way, str(folders[way.split()[1]]), lines) for way, lines in ways.items()])


@pytest.mark.slow
def test_both_ways_of_a_bare_drop_load_and_write_the_same(saved):
    folders, printed = saved
    text = (folders["bare"] / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# tiny, saved by ctrlattn {ctrlattn.__version__}\n")
    assert "Without attention of layers 1, 2 and the MLP of layer 0; the files hold zeros in their place." in text
    ours, plain = blocks(folders["bare"])
    assert [len(code.strip().splitlines()) for code in (ours, plain)] == [3, 3]
    assert printed["ours bare"] == printed["plain bare"]
    assert printed["ours bare"].startswith("Once upon a time ")


@pytest.mark.slow
def test_gains_load_with_ctrlattn_alone_and_without_a_tokenizer(saved):
    folders, printed = saved
    said = (folders["gains"] / "README.md").read_text(encoding="utf-8")
    assert "Without attention of layer 1; gains stand in their place." in said
    assert "Plain transformers refuses this directory" in said
    assert len(blocks(folders["gains"])) == 1
    assert printed["ours gains"].startswith("tensor([")


@pytest.mark.slow
def test_an_encoder_says_how_it_is_run(saved):
    folders, printed = saved
    assert len(blocks(folders["encoder"])) == 2
    assert printed["plain encoder"] == "torch.Size([1, 3, 8])\n"
