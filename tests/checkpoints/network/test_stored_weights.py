"""What is read of files is what transformers loads of them: other names, pieces in order, and turned tensors."""

import pytest
import torch
import transformers
from safetensors.torch import save_file
from transformers import conversion_mapping
from transformers.core_model_loading import Chunk, Concatenate, MergeModulelist, Transpose, WeightConverter

from ctrlattn.checkpoints.network.stored_weights import StoredWeights, makings

CONFIG = transformers.LlamaConfig(
    hidden_size=4, num_hidden_layers=1, num_attention_heads=2, vocab_size=7, intermediate_size=4
)
QKV = "self_attn.qkv.weight"


@pytest.fixture
def empty():
    with torch.device("meta"):
        return transformers.LlamaForCausalLM(CONFIG)


def stored(folder, empty, tensors, monkeypatch, *entries):
    monkeypatch.setattr(conversion_mapping, "get_model_conversion_mapping", lambda _: list(entries))
    save_file(tensors, folder / "a.safetensors")
    return StoredWeights([folder / "a.safetensors"], empty, "model.")


def test_a_square_matrix_is_turned_where_the_table_says_so(tmp_path, empty, monkeypatch):
    """By its name and its shape alone it would be taken as it stands."""
    turned = WeightConverter("mlp.up_proj.weight", "mlp.up_proj.weight", operations=[Transpose(0, 1)])
    weight = torch.arange(16.0).reshape(4, 4)
    files = stored(tmp_path, empty, {"model.layers.0.mlp.up_proj.weight": weight}, monkeypatch, turned)
    name = "layers.0.mlp.up_proj.weight"
    assert torch.equal(files.read({name})[name], weight.T)
    assert torch.equal(files.rows(name, [2, 0]), weight.T[[2, 0]])
    assert not files.has_members(name)


def test_one_tensor_becomes_three_weights_and_is_read_in_their_type(tmp_path, empty, monkeypatch):
    three = WeightConverter(QKV, [f"self_attn.{letter}_proj.weight" for letter in "qkv"], operations=[Chunk(dim=0)])
    weight = torch.arange(48.0).reshape(12, 4).to(torch.bfloat16)
    files = stored(tmp_path, empty, {f"model.layers.0.{QKV}": weight}, monkeypatch, three)
    names = [f"layers.0.self_attn.{letter}_proj.weight" for letter in "qkv"]
    assert files.names() == set(names)
    read = files.read({names[2], names[0]})
    assert read.keys() == {names[2], names[0]}
    assert torch.equal(read[names[2]], weight[8:].float())
    assert torch.equal(read[names[0]], weight[:4].float())


def test_a_name_without_its_prefix_and_one_of_another_shape(tmp_path, empty, monkeypatch):
    tensors = {"layers.0.mlp.up_proj.weight": torch.ones(4, 4), "model.norm.weight": torch.ones(5)}
    assert stored(tmp_path, empty, tensors, monkeypatch).names() == {"layers.0.mlp.up_proj.weight"}


@pytest.mark.parametrize("count", [1, 12])
def test_experts_are_stacked_in_the_order_of_their_numbers(tmp_path, monkeypatch, count):
    """Twelve: as texts, 10 and 11 would come before 2."""
    config = transformers.Qwen3MoeConfig(
        hidden_size=4, num_hidden_layers=1, num_attention_heads=2, vocab_size=7, num_experts=count,
        num_experts_per_tok=1, moe_intermediate_size=3, head_dim=2,
    )  # fmt: skip
    with torch.device("meta"):
        empty = transformers.Qwen3MoeForCausalLM(config)
    both = WeightConverter(
        ["mlp.experts.*.gate_proj.weight", "mlp.experts.*.up_proj.weight"], "mlp.experts.gate_up_proj",
        operations=[MergeModulelist(dim=0), Concatenate(dim=1)],
    )  # fmt: skip
    one = WeightConverter(
        "mlp.experts.*.down_proj.weight", "mlp.experts.down_proj", operations=[MergeModulelist(dim=0)]
    )
    shapes = {"gate_proj": (3, 4), "up_proj": (3, 4), "down_proj": (4, 3)}
    parts = {
        f"model.layers.0.mlp.experts.{i}.{name}.weight": torch.randn(shape)
        for i in range(count)
        for name, shape in shapes.items()
    }
    files = stored(tmp_path, empty, parts, monkeypatch, both, one)

    def expert(i, name):
        return parts[f"model.layers.0.mlp.experts.{i}.{name}.weight"]

    names = [f"layers.0.mlp.experts.{name}" for name in ("gate_up_proj", "down_proj")]
    assert all(files.has_members(name) for name in names)
    read = files.read(set(names))
    for i in range(count):
        gate_up = torch.cat([expert(i, "gate_proj"), expert(i, "up_proj")])
        for name, wanted in zip(names, (gate_up, expert(i, "down_proj")), strict=True):
            assert torch.equal(read[name][i], wanted)
            assert torch.equal(files.expert(name, i), wanted)


def test_what_a_conversion_does_not_take_is_no_weight(tmp_path, empty, monkeypatch):
    three = WeightConverter(QKV, [f"self_attn.{letter}_proj.weight" for letter in "qkv"], operations=[Chunk(dim=2)])
    assert not stored(tmp_path, empty, {f"model.layers.0.{QKV}": torch.ones(12, 4)}, monkeypatch, three).names()


def test_a_weight_in_two_places_is_read_for_both(tmp_path, monkeypatch):
    config = transformers.GPT2Config(n_layer=1, n_embd=4, n_head=1, vocab_size=9)
    with torch.device("meta"):
        whole = transformers.GPT2LMHeadModel(config)
    assert not makings({}, whole)
    words = torch.randn(9, 4)
    save_file({"wte.weight": words}, tmp_path / "a.safetensors")
    files = StoredWeights([tmp_path / "a.safetensors"], whole)
    read = files.read({"transformer.wte.weight", "lm_head.weight"})
    assert all(torch.equal(weight, words) for weight in read.values())
    assert len(read) == 2
