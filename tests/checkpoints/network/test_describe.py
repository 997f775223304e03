"""Describe: what a source is, from its configuration and headers alone; no weight is read."""

import json
import re

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import checkpoints  # noqa: E402
from ctrlattn.checkpoints.network.describe import describe  # noqa: E402
from ctrlattn.errors import InputError  # noqa: E402

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24}
TEXT = {"vocab_size": 40, **SIZES}
GPT2 = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 24}
NETWORKS = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT)),
    "bare": lambda: transformers.LlamaModel(transformers.LlamaConfig(**TEXT)),
    "scores": lambda: transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**TEXT, pad_token_id=0)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2)),
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**TEXT, max_position_embeddings=20)),
    "roberta": lambda: transformers.RobertaModel(transformers.RobertaConfig(**TEXT, max_position_embeddings=20)),
    "vit": lambda: transformers.ViTModel(transformers.ViTConfig(**SIZES, image_size=8, patch_size=4)),
}  # fmt: skip
# layers, sees only earlier tokens, predicts the next token, reads images, learned positions
SAID = {
    "llama": (3, True, True, False, None),
    "bare": (3, True, False, False, None),
    "scores": (3, True, False, False, None),
    "gpt2": (2, True, True, False, 24),
    "bert": (3, False, False, False, 20),
    "roberta": (3, False, False, False, 18),
    "vit": (3, False, False, True, None),
}


@pytest.fixture(autouse=True)
def _no_weight_is_read(monkeypatch):
    def loaded(*_, **__):
        raise AssertionError("a weight was loaded")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", loaded)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_description_says_what_the_loaded_network_is(name, tmp_path):
    torch.manual_seed(0)
    model = NETWORKS[name]()
    model.save_pretrained(tmp_path)
    said, loaded = describe(tmp_path), checkpoints.load(model)
    assert (said.layers, said.causal, said.predicts, said.reads_images, said.positions) == SAID[name]
    assert (said.layers, said.causal, said.family) == (len(loaded.layers), loaded.causal, loaded.family)
    assert said.tokenizer is None
    assert said.layer_index(said.layers - 1) == said.layers - 1
    with pytest.raises(InputError, match=rf"^layer must be one of 0 \.\.\. {said.layers - 1}, got {said.layers}$"):
        said.layer_index(said.layers)


def test_a_changed_network_is_described_as_the_whole(tmp_path):
    whole = checkpoints.load(NETWORKS["gpt2"]())
    for name, options in {"bare": {}, "gains": {"compensate": [[1, 2, 3, 4]] * 20}}.items():
        checkpoints.save(checkpoints.drop(whole, attention=[1], **options), tmp_path / name)
        said = describe(tmp_path / name)
        assert (said.layers, said.model_type, said.predicts, said.positions) == (2, "gpt2", True, 24)


def test_a_type_of_no_family_is_described_all_the_same(tmp_path):
    transformers.OPTModel(transformers.OPTConfig(**TEXT, ffn_dim=24, word_embed_proj_dim=16)).save_pretrained(tmp_path)
    said = describe(tmp_path)
    assert (said.model_type, said.family, said.layers) == ("opt", None, 3)
    config = {**json.loads((tmp_path / "config.json").read_text()), "num_hidden_layers": 10**6}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"config\.json says 1000000 layers, the weights beside it are of fewer"):
        describe(tmp_path)


@pytest.mark.parametrize("config", ["[" * 100_000, "[]", '{"model_type": "ctrlattn"}', "9" * 5000])
def test_a_configuration_that_is_none(config, tmp_path):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match=r"config\.json"):
        describe(tmp_path)


def test_a_gguf_file_whose_layers_are_not_those_of_its_header(tmp_path):
    library = pytest.importorskip("gguf")
    import numpy as np

    for layers, words in ((2, None), (3, "says 3 layers, its weights are of 2"), (0, "no layer")):
        path = tmp_path / f"{layers}.gguf"
        writer = library.GGUFWriter(path, "gemma3")
        writer.add_block_count(layers)
        for layer in range(2):
            writer.add_tensor(f"blk.{layer}.attn_q.weight", np.ones((2, 2), dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        if words is None:
            said = describe(path)
            assert (said.layers, said.model_type, said.causal, said.predicts) == (2, "gemma3_text", True, True)
        else:
            with pytest.raises(InputError, match=words):
                describe(path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("num_hidden_layers", 10**18, "says 1000000000000000000 layers"),
        ("num_hidden_layers", "3", "num_hidden_layers|how many layers"),
        ("num_hidden_layers", None, "num_hidden_layers|how many layers"),
        ("architectures", 7, None),
        ("architectures", {"a": 1}, None),
        ("architectures", [7], None),
        ("quantization_config", [1], "quantised"),
        ("quantization_config", {"quant_method": 7, "bits": "x"}, "quantised by 7"),
        ("model_type", 7, "config.json|cannot load"),
    ],
)
def test_a_value_of_another_type_is_no_bug(key, value, words, tmp_path):
    NETWORKS["llama"]().save_pretrained(tmp_path)
    config = {**json.loads((tmp_path / "config.json").read_text()), key: value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    if words is None:
        assert describe(tmp_path).architecture == ""
    else:
        with pytest.raises(InputError, match=words):
            describe(tmp_path)


def test_a_configuration_without_words_is_refused_before_torch_warns_of_it(tmp_path):
    config = transformers.LlamaConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"vocab_size": 9', '"vocab_size": 0'), encoding="utf-8")
    with pytest.raises(InputError, match="says that the vocabulary has 0 words"):
        describe(tmp_path)


@pytest.mark.parametrize(
    ("configuration", "words"),
    [
        ({"model_type": "no_such"}, "has no architecture 'no_such', its model_type in config.json; .*docs/families.md"),
        ({}, 'config.json has no model_type, which names the architecture, such as "gpt2" or "llama"$'),
    ],
)
def test_an_unknown_architecture_is_told_what_is_supported(configuration, words, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(configuration), encoding="utf-8")
    with pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path))}: cannot load this checkpoint: .*{words}"):
        describe(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
