"""The commands on traced types: analyze, drop one sublayer with gains, open what is saved, generate.

The same steps by functions, for all eleven types: test_types.py; estimates of Jacobians with all products:
measure/test_profile.py.
"""

import json

import pytest
import torch
from typer.testing import CliRunner

from ctrlattn import checkpoints
from ctrlattn.checkpoints.network.text import token_ids
from ctrlattn.cli import app

pytestmark = pytest.mark.slow
# With a null key; parallel, without a matrix; with a state-space mixer and experts. All parts of one, some of others.
ANALYZED = {"gpt_oss": (), "falcon": ("feedback", "gain"), "jamba": ("feedback", "attention", "exponents")}
DROPPED = ("olmo2", "qwen3_next", "jamba")  # plain; with linear attention; with a state-space mixer and experts
WORDS = [f"w{i}" for i in range(50)]


LEAST = checkpoints.Effort(probes=1, singular=1, lanczos=1, arnoldi=1, commutator=2, exponents=1, sweeps=1)


def run(*arguments):
    result = CliRunner().invoke(app, [str(word) for word in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def saved(whole, whole_words, source):
    whole.model.float().save_pretrained(source)
    whole_words(WORDS).save_pretrained(source)
    return source


def words_of(text):
    return " ".join(WORDS[i] for i in 1 + text(1, 400)[0] % 49)


@pytest.mark.parametrize("name", ANALYZED)
def test_a_page_by_command(of_type, text, whole_words, tmp_path, monkeypatch, undrawn, name):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("ctrlattn.checkpoints.measure.profile.Effort", lambda: LEAST)
    whole = of_type(name)
    source = saved(whole, whole_words, tmp_path / "whole")
    parts = [word for part in ANALYZED[name] for word in ("--parts", part)]
    told = run("analyze", source, "--text", words_of(text), "--tokens", 6, "--out", tmp_path / "page", "--json", *parts)
    assert json.loads(told)
    mixes = "mixer" in {sublayer.kind for sublayer in whole.sublayers()}
    assert ("mixer" in (tmp_path / "page" / "report.html").read_text(encoding="utf-8").lower()) == mixes


@pytest.mark.parametrize("name", DROPPED)
def test_a_sublayer_less_by_command(of_type, text, whole_words, tmp_path, monkeypatch, undrawn, name):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(checkpoints.cost.__kwdefaults__, "repeat", 1)
    whole, words = of_type(name), words_of(text)
    source = saved(whole, whole_words, tmp_path / "whole")
    kind = "--mixer" if "mixer" in {sublayer.kind for sublayer in whole.sublayers()} else "--attention"
    run("drop", source, "--text", words, kind, 1, "--window", 16, "--out", tmp_path / "dropped")
    smaller = checkpoints.load(str(tmp_path / "dropped" / "model"))
    assert len(smaller.model.config.ctrlattn[kind[2:]]) == 1
    ids = torch.as_tensor(token_ids(smaller, words, most=8))[None]
    made = smaller.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False)
    by_hand = ids
    with torch.no_grad():
        for _ in range(made.shape[1] - ids.shape[1]):
            scores = smaller.model(input_ids=by_hand, use_cache=False).logits
            by_hand = torch.cat([by_hand, scores[:, -1:].argmax(-1)], 1)
    assert made.shape[1] > ids.shape[1]
    assert torch.equal(made, by_hand)
