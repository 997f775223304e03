"""`ctrlattn loop`: the page says what the loop costs and why; a run that was stopped goes on; bad input is one line."""

import json
import re

import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from ctrlattn import PID, checkpoints, results  # noqa: E402  (after the skip)
from ctrlattn.cli import app  # noqa: E402
from ctrlattn.report.pages import repeated  # noqa: E402

pytestmark = pytest.mark.usefixtures("short_search")
WORDS = ["a", "cat", "sat", "on", "the", "mat", "and", "saw", "that", "dog", "run", "to", "me"]
TEXT = " ".join(WORDS[i * i % 13] for i in range(40))


@pytest.fixture(scope="module")
def source(whole_words, tmp_path_factory):
    """A tiny network on disk, with a tokenizer of whole words."""
    folder = tmp_path_factory.mktemp("network") / "model"
    whole_words(WORDS).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=13, n_layer=4, n_embd=8, n_head=2, n_positions=64,
                                     initializer_range=0.5)  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def run(*arguments):
    return CliRunner().invoke(app, ["loop", *map(str, arguments)])


@pytest.mark.slow
def test_the_page_says_what_the_repeated_network_costs(source, tmp_path, undrawn, monkeypatch):
    out = tmp_path / "out"
    options = ["--layers", "1:3", "--passes", 3, "--gain", 0.25, "--scan", "--text", TEXT, "--window", 10]
    result = run(source, *options, "--out", out, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary == json.loads((out / "summary.json").read_text(encoding="utf-8"))
    whole = checkpoints.load(source, attention="sdpa")
    windows = torch.tensor(whole.tokenizer(TEXT)["input_ids"][:50]).reshape(5, 10)
    looped = checkpoints.repeat(whole, layers=(1, 3), passes=3, controller=PID(0.25))
    assert summary["loss"]["asked"]["3"] == pytest.approx(checkpoints.evaluate(looped, windows).loss, abs=1e-9)
    saved = results.load(out / "results.nc")
    assert float(saved["loss_asked"][2]) == summary["loss"]["asked"]["3"]
    assert float(saved["loss_asked"].sel(passes=3)) == summary["loss"]["asked"]["3"]
    page = (out / "report.html").read_text(encoding="utf-8")
    keys = ["material", "verdict", "forecast", "loss", "motion", "scan"]
    assert re.findall(r'<section id="([^"]+)"', page) == keys
    best = summary["verdict"]["best"]
    least = min(
        loss
        for name, each in summary["loss"].items()
        for k, loss in each.items()
        if name != "once" and (k != "1" or name in ("recall", "tuned"))
    )
    assert best["change"] == pytest.approx(least - summary["verdict"]["intact"], abs=1e-9)
    assert summary["loss"][best["law"]][str(best["passes"])] == least
    assert "no reachable fixed point" in page
    # The same question goes on where it was: nothing is measured again; another one leaves this work alone.
    monkeypatch.setattr("ctrlattn.checkpoints.measure.loop_study.evaluate", lambda *_: pytest.fail("measured again"))
    (out / "summary.json").unlink()
    assert run(source, *options, "--out", out).exit_code == 0
    assert json.loads((out / "summary.json").read_text(encoding="utf-8")) == summary
    monkeypatch.undo()


@pytest.mark.slow
def test_a_controller_comes_from_a_file(source, tmp_path, undrawn):
    law = tmp_path / "law.toml"
    law.write_text('[loop]\npredictor = "causal_mean"\ncontroller = {kind = "pid", kp = 0.3, ki = 0.05}\n')
    options = ["--layers", "1:2", "--passes", 2, "--text", TEXT, "--window", 20, "--out", tmp_path / "out"]
    result = run(source, *options, "--controller", law, "--recall", 0.5, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["laws"]["asked"]["recall"] == 0.5
    whole = checkpoints.load(source, attention="sdpa")
    windows = torch.tensor(whole.tokenizer(TEXT)["input_ids"][:40]).reshape(2, 20)
    looped = checkpoints.repeat(whole, layers=(1, 2), passes=2, controller=PID(0.3, 0.05), recall=0.5)
    assert summary["loss"]["asked"]["2"] == pytest.approx(checkpoints.evaluate(looped, windows).loss, abs=1e-9)
    assert "once" not in summary["loss"]  # a law with memory has no single gain to scale by


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "3"], "--layers must be a:b"),
        (["--layers", "3:3"], "the span is empty"),
        (["--layers", "1:9"], "0 <= a < b <= 4"),
        (["--passes", "0"], "passes must be a whole number of at least 1"),
        (["--recall", "-1"], "must be at least 0"),
        (["--window", "99"], "fewer than one window of 99"),
        (["--gain", "0.2", "--controller", "x.toml"], "say the law twice"),
        (["--controller", "no.toml"], "no.toml: no such file"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_folder(source, tmp_path, options, message):
    asked = {"--layers": "1:3", "--text": TEXT, "--window": "10", "--out": str(tmp_path / "out")}
    for name, value in zip(options[::2], options[1::2], strict=True):
        asked[name] = value
    result = run(source, *(word for pair in asked.items() for word in pair))
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "undecided"), [(2, True), (3, False)])
def test_eigenvalues_at_the_edge_are_told_where_there_are_any(seed, undecided):
    torch.manual_seed(seed)
    config = transformers.GPT2Config(n_layer=3, n_embd=8, n_head=2, vocab_size=9, bos_token_id=None, eos_token_id=None)
    network = checkpoints.load(transformers.GPT2LMHeadModel(config))
    study = checkpoints.loop_study(network, [[1, 2, 3, 4], [4, 3, 2, 1]], layers=(1, 2), passes=2)
    (section,) = repeated._forecast(study)
    assert ("Undecided by the errors of the eigenvalues" in section.sentences[2]) == undecided
