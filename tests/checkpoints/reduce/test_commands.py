"""The commands on eleven types that are traced: analyze, drop one sublayer with gains, open what is saved, generate."""

import pytest
import torch
from typer.testing import CliRunner

from ctrlattn import checkpoints
from ctrlattn.checkpoints.network.text import token_ids
from ctrlattn.cli import app

pytestmark = pytest.mark.slow
TYPES = (
    "mixtral", "olmo2", "olmo3", "phi3", "gpt_oss", "gemma4_text", "qwen3_5_text", "qwen3_next", "deepseek_v3",
    "falcon", "jamba",
)  # fmt: skip
WORDS = [f"w{i}" for i in range(50)]


def run(*arguments):
    result = CliRunner().invoke(app, [str(word) for word in arguments])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", TYPES)
def test_the_whole_way_by_command(of_type, text, whole_words, tmp_path, monkeypatch, undrawn, name):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    whole, source = of_type(name), tmp_path / "whole"
    whole.model.float().save_pretrained(source)
    whole_words(WORDS).save_pretrained(source)
    words = " ".join(WORDS[i] for i in 1 + text(1, 400)[0] % 49)
    run("analyze", source, "--text", words, "--tokens", 12, "--out", tmp_path / "page")
    assert (tmp_path / "page" / "report.html").exists()
    kind = "--mixer" if name in ("jamba", "qwen3_5_text", "qwen3_next") else "--attention"
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
