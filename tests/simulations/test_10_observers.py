"""The scene of observers on a tiny decoder: same examples for all, runs kept, differences by seed."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import t as student

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")


@pytest.fixture(scope="module", autouse=True)
def _undrawn():
    """In this file pictures are drawn: one test reads the size of theirs."""


@pytest.fixture(scope="module")
def network():
    """A decoder of four layers that reads words, and adds little to its stream."""
    from ctrlattn import checkpoints

    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({f"w{i}": i for i in range(40)} | {"?": 40}, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    config = transformers.LlamaConfig(
        vocab_size=41, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=24
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(config)
    torch.random.set_rng_state(state)
    return checkpoints.load(model, tokenizer=transformers.PreTrainedTokenizerFast(tokenizer_object=made))


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    rng = np.random.default_rng(0)
    path.write_text("\n".join(" ".join(f"w{i}" for i in rng.integers(40, size=20)) for _ in range(200)) + "\n")
    return path


@pytest.fixture
def size(scene):
    return scene.SMALL._replace(layers=(1, 2), features=24, k=4, blocks=2, block=200, context=16, held=4, pieces=5)


def test_all_dictionaries_see_the_same_examples_and_are_kept(scene, network, text, size, tmp_path):
    found = scene.dictionaries(network, "tiny", text, 1, size, [0, 1], tmp_path, scene.SIGNALS)
    assert len(found) == 6
    assert torch.equal(found["state", 0].mean, found["state", 1].mean)
    assert not torch.equal(found["state", 0].decoder, found["state", 1].decoder)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")}
    again = scene.dictionaries(network, "tiny", text, 1, size, [0, 1], tmp_path, scene.SIGNALS)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.safetensors")} == before
    assert torch.equal(again["error", 1].decoder, found["error", 1].decoder)
    stream = scene.stream_of(network, text, 1, size, scene.SIGNALS)
    rows = scene.measured(stream, found, scene.SIGNALS, 4)
    assert len(rows) == 6
    assert all(row["curve"][-1] == row["explained"] for row in rows)
    # A state is its error plus a mean that is kept: what is left of the error is what is left of the state.
    state = next(row for row in rows if row["signal"] == "state")
    assert_allclose(state["unexplained_of_state"], 1 - state["explained"], atol=0.05)


def test_the_cost_of_a_reconstruction_follows_from_the_losses_of_its_windows(scene, network, text, size, tmp_path):
    dictionary = scene.dictionaries(network, "tiny", text, 1, size, [0], tmp_path, ("state",))["state", 0]
    stream = scene.stream_of(network, text, 1, size, ("state",))
    found = scene.recoveries(network, {"state": dictionary}, stream, tmp_path)["state"]
    windows = found["window_losses"]
    assert {len(losses) for losses in windows.values()} == {8}
    for name, losses in windows.items():
        assert_allclose(np.mean(losses), found[name])
    lost = np.subtract(windows["reconstructed"], windows["clean"])
    half = student.ppf(0.975, 7) * lost.std(ddof=1) / 8**0.5
    assert_allclose(found["cost"]["values"], lost)
    assert_allclose([found["cost"]["low"], found["cost"]["high"]], [lost.mean() - half, lost.mean() + half])


def test_differences_are_taken_seed_by_seed(scene):
    rows = []
    for seed in range(3):
        for signal, value in (("state", 0.5 + seed), ("error", 0.6 + seed)):
            scores = dict.fromkeys(("explained", "purity", "unexplained_of_state"), value)
            rows.append({"layer": 4, "signal": signal, "seed": seed, **scores})
    differences = scene.differences(rows)
    assert {row["score"] for row in differences} == {"explained", "purity", "unexplained_of_state"}
    for row in differences:
        assert_allclose([row["mean"], row["low"], row["high"]], 0.1, atol=1e-9)
        assert (row["signal"], row["n"]) == ("error", 3)


def test_an_observer_is_like_itself_and_not_like_noise(scene):
    rng = np.random.default_rng(0)
    z = np.maximum(rng.standard_normal((300, 60)) - 1, 0)
    rows = rng.standard_normal((60, 8))
    same = scene.alike((z, rows), (z, rows @ np.linalg.qr(rng.standard_normal((8, 8)))[0]), 19)
    assert_allclose([same["correlation"], same["svcca"]["value"], same["rsa"]["value"]], 1, atol=1e-6)
    assert same["rsa"]["p"] == same["svcca"]["p"] == 1 / 20
    noise = np.maximum(rng.standard_normal((300, 60)) - 1, 0)
    other = scene.alike((z, rows), (noise, rng.standard_normal((60, 8))), 19)
    assert abs(other["correlation"] - other["correlation_random"]) < 0.03


def test_words_of_a_piece_are_counted_once(scene, network, text, size, tmp_path):
    dictionary = scene.dictionaries(network, "tiny", text, 1, size, [0], tmp_path, ("state",))["state", 0]
    pieces = scene.pieces_of(text, 3, words=10, skip=50)
    assert [len(piece.split()) for piece in pieces] == [10, 10, 10]
    found = scene.features_by_word(network, dictionary, 1, pieces)
    assert found.shape == (30, 24)
    assert np.isnan(found[:, 0]).reshape(3, 10).tolist() == [[True] * 5 + [False] * 5] * 3


def test_the_page_is_what_the_kept_results_say(scene, tmp_path):
    root = Path(__file__).parents[2]
    path = root / "simulations" / "results" / "observers.json"
    numbers = scene.main(tmp_path, again=path)
    assert numbers == json.loads(path.read_text(encoding="utf-8"))
    # The page shows the first lines of this file, as tests/test_gallery.py says.
    printed = json.loads((root / "simulations" / "results" / "gallery" / "observers.json").read_text(encoding="utf-8"))
    assert numbers["verdict"] == printed["verdict"]
    assert (tmp_path / "observers.png").stat().st_size > 50_000
