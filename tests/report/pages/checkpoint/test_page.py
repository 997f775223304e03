"""The page of `ctrlattn analyze`: what was measured is told with its numbers, what was not has no section."""

import json
import os
import re

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints, results  # noqa: E402  (after the skip)
from ctrlattn.checkpoints import Effort  # noqa: E402
from ctrlattn.cli import app  # noqa: E402
from ctrlattn.report.pages.checkpoint import lookup  # noqa: E402
from ctrlattn.report.pages.checkpoint.page import write_analysis  # noqa: E402
from ctrlattn.report.words import layer_list  # noqa: E402

KEYS = [
    "feedback", "heads", "value_output", "attention", "diversity", "sinks", "gain", "nonnormality", "exponents",
]  # fmt: skip


@pytest.fixture(scope="module")
def profile():
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4}
    network = transformers.LlamaModel(
        transformers.LlamaConfig(**sizes, intermediate_size=24, num_key_value_heads=2)
    ).double()
    return checkpoints.feedback_profile(
        checkpoints.load(network), list(range(12)), effort=Effort(probes=2, singular=2, lanczos=4, sweeps=2)
    )


@pytest.fixture(scope="module")
def written(profile, tmp_path_factory, undrawn_file):
    """The page of all parts, written once and only read."""
    return write_analysis(tmp_path_factory.mktemp("page"), profile)


@pytest.mark.slow
def test_every_part_has_its_section_numbers_and_pictures(profile, written):
    folder = written.path.parent
    page = written.path.read_text(encoding="utf-8")
    assert re.findall(r'<section id="([^"]+)"', page) == ["material", *KEYS]
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8")) == written.summary
    saved = results.load(folder / "results.nc")
    for name in profile.data_vars:
        assert name in saved, f"{name} was measured and is not in results.nc"
        np.testing.assert_array_equal(saved[name], profile[name])
    # results.nc used to have no coordinates: the loop, the quantile or the frequency of a number was lost.
    for name, label in profile.coords.items():
        np.testing.assert_array_equal(saved.coords[name], label)
    assert saved["unstable_share"].sel(preset="comparator").dims == ("layer", "head")
    assert saved["token_response"].omega.attrs["units"] == "rad/token"
    for name, variable in saved.variables.items():
        assert "long_name" in variable.attrs, name
        assert "units" in variable.attrs or variable.dtype.kind in "OUT", name
        assert set(variable.dims) <= set(saved.coords), name
    assert "There is no attention matrix" not in page
    for picture in re.findall(r'role="img" aria-label="([^"]+)"', page):
        assert len(picture) > 20
    assert len(list((folder / "figures").glob("*.png"))) >= len(KEYS)


@pytest.mark.slow
def test_the_sentences_are_those_of_the_profile(profile, written):
    summary = written.summary
    gain = profile["feedback_gain"].sel(sublayer="attention").median("token").to_numpy()
    np.testing.assert_allclose(summary["feedback"]["attention"]["median_gain"], gain)
    assert summary["attention"]["unstable_share"]["comparator"] == pytest.approx(
        float(profile["unstable_share"].sel(preset="comparator").mean())
    )
    page = written.path.read_text(encoding="utf-8")
    titles = dict(re.findall(r'<section id="(\w+)">\s*<h2><span class="number">\d+</span>(.*?)</h2>', page))
    assert titles["feedback"] == f"Attention is negative feedback in {int(np.sum(gain < 0))} of 3 layers"
    cosine = summary["diversity"]["mean_cosine"]
    verdict = "no more" if abs(cosine[-1] - cosine[0]) < 0.005 else "more" if cosine[-1] > cosine[0] else "less"
    assert titles["diversity"] == f"The tokens end {verdict} alike than they began"
    assert ("No token" in titles["sinks"]) == (max(summary["sinks"]["massive_ratio"]) <= 10)
    assert f"the worst {max(summary['gain']['worst']):.2f} times" in titles["gain"]
    low = int(gain.argmin())
    assert f"It is lowest in layer {low} ({float(gain[low]):.2f}".replace("-", "−") in page


@pytest.mark.slow
def test_what_was_not_measured_has_no_section(profile, tmp_path, undrawn):
    names = [name for name in profile.data_vars if name.startswith("value_")]
    page = write_analysis(tmp_path, profile[names]).path.read_text(encoding="utf-8")
    assert re.findall(r'<section id="([^"]+)"', page) == ["material", "value_output"]


@pytest.mark.slow
def test_a_network_whose_attention_was_dropped_has_a_page(tmp_path, undrawn):
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_layer=3, n_embd=8, n_head=2, vocab_size=9)
    smaller = checkpoints.drop(checkpoints.load(transformers.GPT2LMHeadModel(config)), attention=[0])
    parts = ["feedback", "heads", "value_output", "attention", "diversity", "sinks"]
    page = write_analysis(tmp_path, checkpoints.feedback_profile(smaller, [1, 2, 3, 4], parts=parts)).path
    text = page.read_text(encoding="utf-8")
    assert re.findall(r'<section id="([^"]+)"', text) == ["material", *parts]
    assert "of layer 0 pushes hardest" not in text
    assert text.count("There is no attention matrix in layer 0: what mixes") == 2  # of the attention, of the sinks
    assert "the median head smooths in every layer with an attention matrix" in text
    written = results.load(page.parent / "results.nc")
    for name in ("difference_gain", "sink_share"):
        assert written[name].attrs["comment"] == "layer 0 has no attention matrix: its is nan"


def test_layers_and_tokens_in_words(profile):
    assert layer_list([7, 2, 1, 0]) == "layers 0–2 and 7"
    assert lookup.token(profile, 3).startswith("token 3")
    assert lookup.largest(np.array([[0.0, np.nan], [3.0, 1.0]])) == (1, 0)


def run(*arguments):
    return CliRunner().invoke(app, [str(word) for word in arguments])


@pytest.fixture
def saved(whole_words, tmp_path, monkeypatch):
    """A tiny network on disk, with a tokenizer of whole words."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    whole_words(["<unk>", "a", "cat", "sat", "on", "mat"]).save_pretrained(tmp_path / "model")
    sizes = {"vocab_size": 6, "n_layer": 2, "n_embd": 8, "n_head": 2}
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.slow
def test_the_command_writes_the_page_and_a_rerun_measures_nothing_again(saved, tmp_path, undrawn):
    out = tmp_path / "out"
    arguments = ("analyze", saved, "--text", "a cat sat on a mat", "--tokens", 4, "--out", out, "--parts", "feedback")
    first = run(*arguments, "--json")
    assert first.exit_code == 0, first.output
    assert json.loads(first.stdout)["feedback"]["attention"]["median_gain"]
    part = out / "parts" / "feedback.nc"
    before = os.stat(part).st_mtime_ns
    assert results.load(part).sizes["token"] == 4
    again = run(*arguments, "--parts", "sinks")
    assert again.exit_code == 0
    assert os.stat(part).st_mtime_ns == before
    assert (out / "parts" / "sinks.nc").exists()


@pytest.mark.slow
def test_on_disk_gives_the_same_page_and_goes_on_where_it_was(saved, tmp_path, undrawn):
    question = ("analyze", saved, "--text", "a cat sat on a mat", "--parts", "feedback", "--out")
    whole = run(*question, tmp_path / "whole", "--json")
    lazy = run(*question, tmp_path / "lazy", "--on-disk", "--json")
    assert lazy.exit_code == 0, lazy.output
    assert json.loads(lazy.stdout) == json.loads(whole.stdout)
    assert results.compare(*(results.load(tmp_path / name / "results.nc") for name in ("whole", "lazy"))).largest < 1e-6
    part = tmp_path / "lazy" / "parts" / "feedback.nc"
    before = os.stat(part).st_mtime_ns
    assert run(*question, tmp_path / "lazy", "--on-disk", "--parts", "sinks").exit_code == 0
    assert os.stat(part).st_mtime_ns == before
    assert (tmp_path / "lazy" / "parts" / "sinks.nc").exists()


def test_weights_that_do_not_fit_into_memory_are_told_before_they_are_read(saved, tmp_path, monkeypatch):
    monkeypatch.setattr("ctrlattn.capacity.available_memory", lambda: 1000)
    result = run("analyze", saved, "--text", "a cat sat", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "--on-disk keeps one layer in memory: this does not fit into memory" in result.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--parts": "feedbak"}, "did you mean 'feedback'"),
        ({"--text": " "}, "is empty"),
        ({"--text": "@no-such-file.txt"}, "no-such-file.txt"),
        ({"--text": "no-such-file.txt"}, "no such file"),
        ({"--text": "cat"}, "a text of one token has nothing to compare"),
        ({"--text": "a cat sat on " * 400, "--tokens": 1500}, "positions for 1024"),
        ({"source": "no/such/model"}, "no such directory"),
    ],
)
def test_the_command_refuses_in_one_line(saved, tmp_path, change, message):
    options = {"source": saved, "--text": "a cat", "--out": tmp_path / "out", **change}
    source = options.pop("source")
    result = run("analyze", source, *[word for option in options.items() for word in option])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("ctrlattn: ")]) <= 2
