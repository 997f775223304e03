"""Networks that learn a null key: tap, profile and report name its mass; what is no attention is left out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import InputError, checkpoints, signals  # noqa: E402  (after the skip)
from ctrlattn.checkpoints.network.traced_family import Traced  # noqa: E402
from ctrlattn.report.pages.checkpoint.stream import sections  # noqa: E402
from ctrlattn.report.words import percent  # noqa: E402
from ctrlattn.stability import attention_spectrum  # noqa: E402

ROOT = Path(__file__).parent.parent.parent.parent
IDS = [7, 8, 9, 10, 11, 12]


@pytest.fixture
def tiny(monkeypatch):
    """Tiny networks of every type, as the census has them."""
    monkeypatch.syspath_prepend(str(ROOT / "simulations"))
    from stage import tiny_networks

    cases = {kind: (task, kind, name) for task, kind, name in reversed(list(tiny_networks.cases()))}
    return lambda kind: tiny_networks.network(*cases[kind])


@pytest.mark.parametrize("kind", ["gpt_oss", "flint", "mimo_v2_flash", "hy_v4", "deepseek_v4"])
def test_the_mass_of_a_null_key_is_named(tiny, kind):
    network = checkpoints.load(tiny(kind))
    text = checkpoints.tap(network, IDS)
    assert text.attrs["sinks"] == 1
    matrices = text["attention"].to_numpy()
    matrices = matrices[~np.isnan(matrices).all(axis=(1, 2, 3))]
    mass = signals.sink_mass(matrices)
    np.testing.assert_allclose(text.attrs["sink_mass"], mass.mean(), rtol=1e-5)
    assert 0.01 < mass.max() < 1
    # Of a causal matrix the first row is the first eigenvalue, 1 less what the null key draws.
    spectrum = attention_spectrum(matrices)
    np.testing.assert_allclose(spectrum[..., 0].real, 1 - mass[..., 0], atol=1e-6)
    assert np.abs(spectrum).max() <= (1 - mass).max() + 1e-6


@pytest.mark.parametrize("kind", ["gpt_oss", "flint", "mimo_v2_flash", "hy_v4", "deepseek_v4"])
def test_spectra_and_unstable_shares_of_matrices_with_a_null_key(tiny, kind):
    """Also where a factor of the stream depends on the text, so that only the recorded pass has the matrices."""
    network = checkpoints.load(tiny(kind))
    profile = checkpoints.feedback_profile(network, IDS, parts=["attention"])
    matrices = checkpoints.tap(network, IDS)["attention"].to_numpy()
    there = ~np.isnan(matrices).all(axis=(1, 2, 3))
    eigenvalues = profile["attention_eigenvalue"].to_numpy()
    assert np.isnan(eigenvalues[~there]).all()
    diagonals = np.sort(matrices[there].diagonal(axis1=-2, axis2=-1).astype(float))
    np.testing.assert_allclose(np.sort(eigenvalues[there].real), diagonals, atol=1e-6)  # of a causal matrix
    assert np.isfinite(profile["unstable_share"].to_numpy()[:, there]).all()


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("inkling2_text", "is not residual: its stream does not reach its output"),
        ("inkling2_loop_text", "does not read what .* gave: the stream is changed, or restarts"),
        ("squeezebert", "calls no member of its lists of modules .* or calls them past hooks"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_its_reason(tiny, kind, word):
    """inkling2 has a null key, and attends over depths; squeezebert returns scores that no softmax has seen."""
    with pytest.raises(InputError, match=word):
        checkpoints.load(tiny(kind))


def test_the_profile_and_the_page_say_it(tiny):
    network = checkpoints.load(tiny("gpt_oss"))
    profile = checkpoints.feedback_profile(network, IDS, parts=["attention", "sinks"])
    mass = signals.sink_mass(checkpoints.tap(network, IDS)["attention"].to_numpy()).mean(-1)
    np.testing.assert_allclose(profile["null_share"], mass, rtol=1e-5)
    assert np.isfinite(profile["unstable_share"]).all()
    words = " ".join(sections(profile)[0].sentences)
    assert f"A null key takes {percent(float(mass.mean()))} of all attention" in words
    np.testing.assert_allclose(
        profile["token_response"].to_numpy()[..., 0],
        np.sqrt(np.mean((1 - signals.sink_mass(checkpoints.tap(network, IDS)["attention"].to_numpy())) ** 2, -1)),
        rtol=1e-5,
    )


def llama():
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, intermediate_size=24)).double()


def test_rows_that_sum_to_one_have_no_null_key():
    network = checkpoints.load(llama())
    assert "sinks" not in checkpoints.tap(network, IDS).attrs
    profile = checkpoints.feedback_profile(network, IDS, parts=["sinks"])
    assert np.abs(profile["null_share"]).max() < 1e-6
    assert "null key" not in " ".join(sections(profile)[0].sentences)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda a: a - 0.5, "its weights are negative"),  # scores
        (lambda a: 3 * a, "a row sums to 3"),
        (lambda a: a.flip(-1), "on those behind it"),
        (lambda a: a[..., :3], "its shape is"),  # a state
    ],
)
def test_what_is_returned_in_its_place_is_left_out(change, word):
    """By a row and traced: the layer's matrix is nan, and the reason stands in the attribute."""
    model = llama()
    row = checkpoints.load(model)
    traced = replace(row, family=Traced("llama", checkpoints.trace(model)))
    model.model.layers[1].self_attn.register_forward_hook(
        lambda module, args, output: (output[0], change(output[1]), *output[2:])
    )
    for network in (row, traced):
        text = checkpoints.tap(network, IDS)
        assert np.isnan(text["attention"][1]).all()
        assert np.isfinite(text["attention"][0]).all()
        assert word in text.attrs["no_matrix"]
        assert "layer 1" in text.attrs["no_matrix"]


@pytest.mark.parametrize("kind", ["minimax", "lfm2_moe", "rwkv", "bailing_hybrid"])
def test_a_layer_without_attention_has_no_matrix(tiny, kind):
    network = checkpoints.load(tiny(kind))
    text = checkpoints.tap(network, IDS)
    mixers = [i for i, call in enumerate(network.structure.calls) if "attention" not in call.kinds]
    assert mixers
    assert text.attrs["no_matrix"]
    if "attention" in text:
        assert np.isnan(text["attention"].to_numpy()[mixers]).all()
