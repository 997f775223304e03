"""Networks that learn a null key: tap, profile and report name its mass; what is no attention is left out."""

from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import InputError, checkpoints, signals  # noqa: E402  (after the skip)
from ctrlattn.checkpoints import Effort  # noqa: E402
from ctrlattn.checkpoints.measure.causal_radius import causal_radius  # noqa: E402
from ctrlattn.checkpoints.measure.matrices import fault_of  # noqa: E402
from ctrlattn.checkpoints.measure.profile import wanted_parts  # noqa: E402
from ctrlattn.checkpoints.network.traced_family import Traced  # noqa: E402
from ctrlattn.report.pages.checkpoint.stream import sections  # noqa: E402
from ctrlattn.report.words import percent  # noqa: E402
from ctrlattn.stability import attention_spectrum  # noqa: E402

ROOT = Path(__file__).parent.parent.parent.parent
IDS = [7, 8, 9, 10, 11, 12]


@pytest.fixture(scope="module")
def tiny():
    """Tiny networks of every type, as the census has them."""
    from transformers.models.bailing_hybrid import modeling_bailing_hybrid as bailing

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "simulations"))
        from stage import tiny_networks

        # It fills up to 64 tokens, one step of Python each, in whatever chunk it computes.
        short = partial(bailing.chunk_kimi_delta_attention, chunk_size=4)
        patch.setattr(bailing, "chunk_kimi_delta_attention", short)
        cases = {kind: (task, kind, name) for task, kind, name in reversed(list(tiny_networks.cases()))}
        yield lambda kind: tiny_networks.network(*cases[kind])


@pytest.fixture(scope="module")
def loaded(tiny):
    """loaded(type) -> Checkpoint, made once: it is only read."""
    return cache(lambda kind: checkpoints.load(tiny(kind)))


@pytest.fixture(scope="module")
def tapped(loaded):
    """tapped(type) -> what `tap` records of IDS, once."""
    return cache(lambda kind: checkpoints.tap(loaded(kind), IDS))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt_oss", "flint", "mimo_v2_flash", "hy_v4", "deepseek_v4"])
def test_the_mass_of_a_null_key_is_named(tapped, kind):
    text = tapped(kind)
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt_oss", "flint", "mimo_v2_flash", "hy_v4", "deepseek_v4"])
def test_spectra_and_unstable_shares_of_matrices_with_a_null_key(loaded, tapped, kind):
    """Also where a factor of the stream depends on the text, so that only the recorded pass has the matrices."""
    profile = checkpoints.feedback_profile(loaded(kind), IDS, parts=["attention"])
    matrices = tapped(kind)["attention"].to_numpy()
    there = ~np.isnan(matrices).all(axis=(1, 2, 3))
    eigenvalues = profile["attention_eigenvalue"].to_numpy()
    assert np.isnan(eigenvalues[~there]).all()
    diagonals = np.sort(matrices[there].diagonal(axis1=-2, axis2=-1).astype(float))
    np.testing.assert_allclose(np.sort(eigenvalues[there].real), diagonals, atol=1e-6)  # of a causal matrix
    assert np.isfinite(profile["unstable_share"].to_numpy()[:, there]).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hy_v4", "deepseek_v4"])
def test_sinks_of_a_token_with_several_streams(loaded, tapped, kind):
    """Four streams mixed by the text: a token's norm is that of all four, and its largest feature says in which."""
    profile = checkpoints.feedback_profile(loaded(kind), IDS, parts=["diversity", "sinks"])
    text = tapped(kind)
    state = text["state"].transpose("depth", "token", "lane", "feature").to_numpy()
    size = np.sqrt(np.sum(state**2, axis=(2, 3)))
    np.testing.assert_array_equal(profile["massive_token"], size.argmax(-1))
    np.testing.assert_allclose(profile["massive_ratio"], size.max(-1) / np.median(size, -1), rtol=1e-12)
    np.testing.assert_allclose(profile["stream_rms"], size / np.sqrt(state[0, 0].size), rtol=1e-12)
    rows = state[np.arange(len(state)), size.argmax(-1)]
    for depth, (lane, feature) in enumerate(zip(profile["massive_lane"], profile["massive_feature"], strict=True)):
        assert profile["massive_value"][depth] == rows[depth, int(lane), int(feature)]
        assert abs(profile["massive_value"][depth]) == np.abs(rows[depth]).max()
    matrices = text["attention"].to_numpy()
    np.testing.assert_allclose(profile["null_share"], signals.sink_mass(matrices).mean(-1), rtol=1e-6)
    received = matrices.mean(-2)
    there = ~np.isnan(received[:, 0, 0])
    np.testing.assert_array_equal(profile["sink_token"][there], received[there].argmax(-1))
    words = " ".join(sections(profile)[1].sentences)
    top = int(profile["massive_ratio"].to_numpy().argmax())
    assert f"A null key takes {percent(float(np.nanmean(profile['null_share'])))} of all attention" in words
    if profile["massive_ratio"][top] > 10:
        assert f"stream {int(profile['massive_lane'][top])}, feature {int(profile['massive_feature'][top])}," in words


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hy_v4", "deepseek_v4", "gemma3n_text"])
def test_the_whole_profile_of_a_token_with_several_streams(loaded, tapped, kind):
    """Jacobians used to end in an error of torch, and `feedback`, which is not there, refused all other parts."""
    network = loaded(kind)
    effort = Effort(probes=1, singular=1, lanczos=2, arnoldi=2, commutator=2, exponents=1, sweeps=1)
    parts = [part for part in wanted_parts(None, network) if part != "nonnormality" or kind != "deepseek_v4"]
    profile = checkpoints.feedback_profile(network, IDS[:2], effort=effort, parts=parts)
    assert "feedback_gain" not in profile
    assert {"null_share", "random_gain", "exponent"} <= set(profile)
    assert ("spectral_radius" in profile) == (kind != "deepseek_v4")  # by many products: for one null key of two
    f, h = checkpoints.layer_function(network, 1, IDS)
    stream = tapped(kind)["state"].transpose("depth", "token", "lane", "feature").to_numpy()
    np.testing.assert_allclose(h, stream[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(f(h).detach(), stream[2], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(f(torch.stack([2 * h, h]))[1].detach(), f(h).detach(), rtol=1e-6, atol=1e-6)
    v = np.random.default_rng(0).standard_normal(h.numel())
    step = 1e-3 * torch.as_tensor(v).reshape(h.shape)
    slope = ((f(h + step) - f(h - step)) / 2e-3).detach().numpy().ravel()
    np.testing.assert_allclose(checkpoints.layer_jacobian(network, 1, IDS) @ v, slope, atol=1e-2 * np.abs(slope).max())
    if kind == "gemma3n_text":  # a null key is not seen through, and then the whole Jacobian's Ritz value stands
        J = checkpoints.layer_jacobian(network, 1, IDS[:2])
        radius = np.abs(np.linalg.eigvals(J @ np.eye(J.shape[0]))).max()
        np.testing.assert_allclose(causal_radius(network, 1, IDS[:2]).radius, radius, rtol=1e-3)


@pytest.mark.slow
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


def test_the_profile_and_the_page_say_it(loaded, tapped):
    profile = checkpoints.feedback_profile(loaded("gpt_oss"), IDS, parts=["attention", "sinks"])
    each = signals.sink_mass(tapped("gpt_oss")["attention"].to_numpy())
    mass = each.mean(-1)
    np.testing.assert_allclose(profile["null_share"], mass, rtol=1e-5)
    assert np.isfinite(profile["unstable_share"]).all()
    words = " ".join(sections(profile)[0].sentences)
    assert f"A null key takes {percent(float(mass.mean()))} of all attention" in words
    np.testing.assert_allclose(
        profile["token_response"].to_numpy()[..., 0],
        np.sqrt(np.mean((1 - each) ** 2, -1)),
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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["minimax", "lfm2", "lfm3", "rwkv", "bailing_hybrid"])
def test_a_layer_without_attention_has_no_matrix(loaded, tapped, kind):
    network, text = loaded(kind), tapped(kind)
    mixers = [i for i, call in enumerate(network.structure.calls) if "attention" not in call.kinds]
    assert mixers
    assert text.attrs["no_matrix"]
    if "attention" in text:
        assert np.isnan(text["attention"].to_numpy()[mixers]).all()


def returned(model, ids):
    """What transformers calls the attentions of a network, layer by layer as far as they go."""
    with torch.no_grad():
        return model(torch.tensor([list(ids)]), output_attentions=True).attentions


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lfm2", "lfm2_moe", "lfm3", "bailing_hybrid"])
def test_a_tuple_that_leaves_layers_out_is_not_counted_along(loaded, tapped, kind):
    """Its second entry is the matrix of layer 3 in lfm2: counted along, it would be given to layer 1."""
    network = loaded(kind)
    theirs = returned(network.model, IDS)
    profile = checkpoints.feedback_profile(network, IDS, parts=["attention", "sinks"])
    matrices = tapped(kind)["attention"].to_numpy()
    attending = [i for i, call in enumerate(network.structure.calls) if "attention" in call.kinds]
    assert len(theirs) == len(attending) < len(network.layers)
    for layer, matrix in zip(attending, theirs, strict=True):
        np.testing.assert_allclose(matrices[layer], matrix[0], atol=1e-6)
    others = [i for i in range(len(network.layers)) if i not in attending]
    for name in ("unstable_share", "difference_gain", "sink_share", "null_share"):
        values = profile[name].transpose("layer", ...).to_numpy()
        assert np.isnan(values[others]).all()
        assert np.isfinite(values[attending]).all()


def test_a_state_of_minimax_is_no_matrix_where_it_has_the_shape_of_one(tiny):
    """Its linear attention returns a state (heads, 16, 16) as its attention, which is square; for 16 tokens all fit."""
    model, ids = tiny("minimax"), range(7, 23)
    theirs = returned(model, ids)
    assert {tuple(a.shape) for a in theirs} == {(1, 4, 16, 16)}
    network = checkpoints.load(model)
    matrices = checkpoints.tap(network, ids)["attention"].to_numpy()
    for layer, matrix in enumerate(theirs):
        if layer % 2:
            assert matrix.min() < 0
            assert np.isnan(matrices[layer]).all()
        else:
            np.testing.assert_allclose(matrices[layer], matrix[0], atol=1e-6)
    profile = checkpoints.feedback_profile(network, ids, parts=["attention", "sinks"])
    assert np.isnan(profile["attention_eigenvalue"][1::2]).all()
    assert np.isfinite(profile["attention_eigenvalue"][::2]).all()
    assert np.isnan(profile["null_share"][1::2]).all()


def test_outputs_of_rwkv_are_no_matrix_where_they_have_the_shape_of_one(tiny):
    """What it returns as its attentions is (1, n, d), the output of a mixer: square for n = d = 64 tokens."""
    model, ids = tiny("rwkv"), range(7, 71)
    theirs = returned(model, ids)
    assert {tuple(a.shape) for a in theirs} == {(1, 64, 64)}
    network = checkpoints.load(model)
    assert "attention" not in checkpoints.tap(network, ids)
    assert {"attention", "sinks"}.isdisjoint(wanted_parts(None, network))
    with pytest.raises(InputError, match="no layer has an attention matrix: what mixes the tokens is no softmax"):
        checkpoints.feedback_profile(network, ids, parts=["attention"])


def test_scores_of_squeezebert_are_not_taken_for_weights(tiny):
    """It returns the scores in front of its softmax; load refuses the type, and the scores by themselves are none."""
    scores = returned(tiny("squeezebert"), IDS)
    assert all(float(a.min()) < 0 for a in scores)
    for a in scores:
        assert fault_of(a, causal=False) == "its weights are negative, or no numbers"
        assert fault_of(a.softmax(-1), causal=False) == ""
    with pytest.raises(InputError, match="calls no member of its lists of modules"):
        checkpoints.load(tiny("squeezebert"))
