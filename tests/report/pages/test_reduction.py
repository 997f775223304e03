"""`ctrlattn drop`: the model loads, the page says what it cost, and what cannot be done is refused in one line."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from ctrlattn import checkpoints, results  # noqa: E402  (after the skip)
from ctrlattn.cli import app  # noqa: E402

pytestmark = pytest.mark.usefixtures("undrawn_file", "timed_once")
WORDS = ["a", "cat", "sat", "on", "the", "mat", "and", "saw", "that", "dog", "run", "to", "me"]
TEXT = " ".join(WORDS[i * i % 13] for i in range(200))


@pytest.fixture
def timed_once(monkeypatch):
    """Speeds on a page are those of one round: what a speed is has tests of its own."""
    monkeypatch.setitem(checkpoints.cost.__kwdefaults__, "repeat", 1)


@pytest.fixture(scope="module")
def source(whole_words, tmp_path_factory):
    """A tiny network on disk, with a tokenizer of whole words."""
    folder = tmp_path_factory.mktemp("network") / "model"
    whole_words(WORDS).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=13, n_layer=4, n_embd=8, n_head=2, n_positions=64)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def run(*arguments):
    return CliRunner().invoke(app, ["drop", *map(str, arguments)])


@pytest.mark.slow
def test_the_command_writes_a_model_that_is_what_the_page_says(source, tmp_path):
    out = tmp_path / "out"
    result = run(source, "--attention", 2, "--text", TEXT, "--window", 10, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary == json.loads((out / "summary.json").read_text(encoding="utf-8"))
    smaller = checkpoints.load(out / "model")
    ids = smaller.tokenizer(TEXT)["input_ids"]
    split = checkpoints.split_text(smaller, ids, window=10)
    assert checkpoints.evaluate(smaller, split.judge).loss == pytest.approx(summary["outcome"]["reduced"]["loss"])
    text = split.judge.flatten()
    sliding = summary["outcome"]["sliding_perplexity"]
    assert checkpoints.perplexity(smaller, text, window=10, stride=5).perplexity == pytest.approx(sliding["reduced"])
    whole = checkpoints.load(source)
    assert checkpoints.perplexity(whole, text, window=10, stride=5).perplexity == pytest.approx(sliding["intact"])
    assert list(smaller.model.config.ctrlattn["attention"]) == [str(i) for i in summary["gone"]["attention"]]
    saved = results.load(out / "results.nc")
    assert float(saved["window_loss_reduced"].mean()) == pytest.approx(summary["outcome"]["reduced"]["loss"])
    page = (out / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'<section id="([^"]+)"', page) == ["material", "outcome", "savings", "importance", "choice"]
    assert "The KV cache takes 50 % less for each token" in page
    written = summary["savings"]["saved"]
    assert written["difference"] == 0 < written["tolerance"]
    assert written["bytes_before"] == (source / "model.safetensors").stat().st_size
    assert written["bytes_after"] == (out / "model" / "ctrlattn.safetensors").stat().st_size
    assert f"take {written['bytes_before']:,} bytes in the source and {written['bytes_after']:,} bytes in what" in page
    assert "the largest difference of a logit is 0, " in result.stderr
    assert "network = checkpoints.load" in (out / "model" / "README.md").read_text(encoding="utf-8")
    weights = (out / "model" / "ctrlattn.safetensors").read_bytes()
    # The killed run of the same question goes on; another question leaves its work alone.
    (out / "model" / "config.json").unlink()
    (out / "model" / ".ctrlattn.saving").write_text("[]", encoding="utf-8")  # a save that was killed leaves its mark
    (out / "model" / ".model-half.safetensors").write_bytes(b"half")
    again = run(source, "--attention", 2, "--text", TEXT, "--window", 10, "--out", out)
    assert again.exit_code == 0, again.output
    assert (out / "model" / "ctrlattn.safetensors").read_bytes() == weights
    assert not (out / "model" / ".model-half.safetensors").exists()
    other = run(source, "--attention", 1, "--text", TEXT, "--window", 10, "--out", out)
    assert other.exit_code == 0, other.output
    assert "holds work of another network, text or setting" in other.stderr
    assert (out / "model" / "ctrlattn.safetensors").read_bytes() == weights
    assert len(list(out.parent.glob("out-*/model"))) == 1


@pytest.mark.slow
def test_gains_that_remember_are_saved_and_said_to(source, tmp_path):
    out = tmp_path / "out"
    result = run(
        source, "--attention", 1, "--memory", "--by", "worst", "--text", TEXT, "--window", 10, "--out", out, "--json"
    )
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["memory"]
    assert "a gain that keeps a memory of constant size" in (out / "report.html").read_text(encoding="utf-8")
    (saved,) = checkpoints.load(out / "model").model.config.ctrlattn["attention"].values()
    assert saved["heads"] == saved["values"]
    refused = run(
        source, "--attention", 1, "--memory", "--bare", "--text", TEXT, "--window", 10, "--out", tmp_path / "b"
    )
    assert refused.exit_code == 2
    assert "dropped bare" in refused.stderr


@pytest.fixture(scope="module")
def hybrid(source, tmp_path_factory):
    """Two layers with a state-space mixer and two with attention, and the same tokenizer."""
    folder = tmp_path_factory.mktemp("hybrid") / "model"
    transformers.AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.JambaConfig(
        vocab_size=13, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=16, attn_layer_period=2, attn_layer_offset=1, num_experts=1, num_experts_per_tok=1,
        mamba_d_state=4, mamba_d_conv=3, initializer_range=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=None,
    )  # fmt: skip
    transformers.JambaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_mixers_are_dropped_by_number_and_the_page_names_them(hybrid, tmp_path):
    out = tmp_path / "out"
    result = run(hybrid, "--mixer", 1, "--text", TEXT, "--window", 10, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    (layer,) = summary["gone"]["mixer"]
    assert layer in (0, 2)
    assert summary["gone"]["attention"] == summary["gone"]["mlp"] == []
    page = (out / "report.html").read_text(encoding="utf-8")
    assert f"Without 1 mixer (layer {layer})" in page
    importance = summary["importance"]
    best = {kind: int(np.nanargmin(np.array(importance[kind], dtype=float))) for kind in ("attention", "mixer", "mlp")}
    assert best["attention"] in (1, 3)
    words = f"layer {best['attention']} (attention), layer {best['mixer']} (mixers) and layer {best['mlp']} (MLP)"
    assert words in page
    slope = results.load(out / "results.nc")["slope"].to_numpy()
    assert np.flatnonzero(np.isfinite(slope)).tolist() == [0, 2]
    smaller = checkpoints.load(out / "model")
    assert list(smaller.model.config.ctrlattn["mixer"]) == [str(layer)]
    split = checkpoints.split_text(smaller, smaller.tokenizer(TEXT)["input_ids"], window=10)
    assert checkpoints.evaluate(smaller, split.judge).loss == pytest.approx(summary["outcome"]["reduced"]["loss"])


def test_a_number_of_each_kind_takes_the_least_important(hybrid):
    network = checkpoints.load(hybrid)
    split = checkpoints.split_text(network, TEXT, window=10)
    reduction = checkpoints.reduce(
        network, split, count={"mixer": 1, "attention": 1, "mlp": 2}, by="importance", compensate=False
    )
    for kind, number in (("mixer", 1), ("attention", 1), ("mlp", 2)):
        scores = reduction.scores[kind].to_numpy()
        worst_first = [i for i in np.argsort(scores) if np.isfinite(scores[i])]
        assert reduction.gone[kind] == tuple(sorted(int(i) for i in worst_first[:number]))
    both = checkpoints.reduce(network, split, count={"mixer": 2}, by="importance")
    assert both.gone["mixer"] == (0, 2)


@pytest.mark.slow
def test_bare_drops_of_whole_layers_load_in_plain_transformers(source, tmp_path):
    out = tmp_path / "out"
    result = run(source, "--blocks", 1, "--bare", "--text", TEXT, "--window", 10, "--out", out)
    assert result.exit_code == 0, result.output
    plain = transformers.AutoModelForCausalLM.from_pretrained(out / "model").eval()
    ours = checkpoints.load(out / "model").model
    ids = torch.tensor([[0, 3, 5, 1]])
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, ours(ids).logits)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--attention", 1, "--text", "a cat"), "at least 5 are needed"),
        (("--text", TEXT, "--window", 10), "nothing to drop"),
        (("--attention", 4, "--text", TEXT, "--window", 10), "all 4 attention layers would be gone"),
        (("--layers", 9, "--text", TEXT, "--window", 10), "9"),
        (("--layers", 1, "--mlp", 1, "--text", TEXT, "--window", 10), "leave out --attention"),
        (("--mixer", 1, "--text", TEXT, "--window", 10), "layers of family 'gpt2' have no mixer"),
        (("--attention", 1, "--by", "luck", "--text", TEXT, "--window", 10), "got 'luck'"),
        (("--attention", 1, "--text", "@no-such-file"), "no-such-file"),
    ],
)
def test_the_command_refuses_in_one_line(source, tmp_path, arguments, message):
    result = run(source, *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out" / "model").exists()
