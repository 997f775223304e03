"""What config.json says without transformers is what transformers makes of it, for every row of the table."""

import json

import pytest

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ctrlattn import InputError, checkpoints  # noqa: E402
from ctrlattn.checkpoints.network.describe import describe  # noqa: E402
from ctrlattn.checkpoints.network.families import FAMILIES, is_parallel, sees_both_ways  # noqa: E402
from ctrlattn.checkpoints.network.plain_config import PlainConfig, plain_config  # noqa: E402

CHANGES = [
    {},
    {"is_decoder": True},
    {"use_bidirectional_attention": True},
    {"pad_token_id": 5},
    {"architectures": ["X"]},
]


def facts(config, family):
    text = config.get_text_config()
    padding = config.pad_token_id if "roberta" in family.name else None
    return (
        config.model_type,
        text.num_hidden_layers,
        getattr(text, "vocab_size", None),
        config.architectures,
        sees_both_ways(config, family.causal),
        is_parallel(family, config),
        padding,
    )


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_what_transformers_says(name, change, tmp_path):
    made = transformers.AutoConfig.for_model(name, num_hidden_layers=3, **change)
    made.save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    if "roberta" in name:
        raw.setdefault("pad_token_id", made.pad_token_id)
    said = plain_config(raw)
    assert isinstance(said, PlainConfig)
    assert facts(said, FAMILIES[name]) == facts(made, FAMILIES[name])
    assert facts(describe(tmp_path).config, FAMILIES[name]) == facts(made, FAMILIES[name])


@pytest.mark.parametrize("name", FAMILIES)
def test_whatever_is_left_out_is_asked_of_transformers(name, tmp_path):
    made = transformers.AutoConfig.for_model(name)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": name}), encoding="utf-8")
    assert plain_config({"model_type": name}) is None
    assert facts(describe(tmp_path).said, FAMILIES[name]) == facts(made, FAMILIES[name])


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"model_type": 7},
        {"model_type": ["llama"]},
        {"model_type": "opt", "num_hidden_layers": 3, "vocab_size": 9},
        {"model_type": "gpt2", "n_layer": 3, "num_hidden_layers": 2, "vocab_size": 9},
        {"model_type": "llama", "num_hidden_layers": 3, "vocab_size": 9, "text_config": {"num_hidden_layers": 2}},
        {"model_type": "ctrlattn"},
        {"model_type": "ctrlattn", "network": [1]},
    ],
    ids=str,
)
def test_what_it_cannot_know_it_does_not_say(raw):
    assert plain_config(raw) is None


def test_it_is_asked_for_no_other_name():
    said = plain_config({"model_type": "llama", "num_hidden_layers": 3, "vocab_size": 9, "hidden_size": 8})
    with pytest.raises(AttributeError, match="hidden_size"):
        said.hidden_size  # noqa: B018


def test_a_damaged_value_is_told_before_the_weights(tmp_path):
    sizes = {
        "vocab_size": 9,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(
        path.read_text(encoding="utf-8").replace('"hidden_size": 8', '"hidden_size": "x"'), encoding="utf-8"
    )
    assert describe(tmp_path).layers == 1
    with pytest.raises(InputError, match="hidden_size"):
        checkpoints.load(tmp_path)
