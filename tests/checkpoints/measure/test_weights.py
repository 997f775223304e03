"""The maps of a sublayer are those that its modules apply, whatever the modules keep as their weight."""

import importlib
import importlib.util
import sys
import types
import warnings

import numpy as np
import pytest
import torch
import transformers
from numpy.testing import assert_allclose

from ctrlattn.checkpoints import drop_heads, head_importance, load, save, value_output
from ctrlattn.checkpoints.measure.weights import affine_map

SIZES = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def network(**more):
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, **more)).eval()


def test_plain_weights_are_read_and_a_probe_gives_the_same():
    model = network(attention_bias=True)
    attention = model.model.layers[1].self_attn
    torch.nn.init.normal_(attention.v_proj.bias)
    read = value_output(load(model), 1)
    assert_allclose(read.value.reshape(32, 32), attention.v_proj.weight.detach())
    assert_allclose(np.ravel(read.value_bias), attention.v_proj.bias.detach())

    class Subclass(torch.nn.Linear):
        pass

    attention.v_proj.__class__ = Subclass
    probed = value_output(load(model), 1)
    assert_allclose(probed.value, read.value, atol=1e-6)
    assert_allclose(probed.value_bias, read.value_bias, atol=1e-7)


@pytest.mark.parametrize("name", ["v_proj", "o_proj"])
def test_an_adapter_that_is_not_merged_counts(name, with_adapter):
    model = network()
    attention = model.model.layers[1].self_attn
    setattr(attention, name, with_adapter(getattr(attention, name)))
    module = getattr(attention, name)
    true = (module.weight + module.high @ module.low).detach().double().numpy()
    maps = value_output(load(model), 1)
    if name == "v_proj":
        assert_allclose(maps.value.reshape(32, 32), true, atol=1e-6)
    else:
        assert_allclose(np.moveaxis(maps.output, 0, 1).reshape(32, 32), true, atol=1e-6)


def test_a_parametrised_and_a_quantised_map_are_what_they_compute():
    model = network()
    layer = model.model.layers[0].self_attn
    torch.nn.utils.parametrizations.weight_norm(layer.v_proj)
    with torch.no_grad():
        layer.v_proj.parametrizations.weight.original0.mul_(3.0)
    assert_allclose(value_output(load(model), 0).value.reshape(32, 32), layer.v_proj.weight.detach(), atol=1e-6)
    with warnings.catch_warnings(action="ignore"):  # deprecated, and what users have
        quantised = torch.ao.quantization.quantize_dynamic(network(), {torch.nn.Linear}, dtype=torch.qint8)
    v = quantised.model.layers[1].self_attn.v_proj
    maps = value_output(load(quantised), 1)
    true = v(torch.eye(32)).detach().numpy().T
    # The inputs of such a map are rounded to eight bits too: the basis is the one that both were asked.
    assert_allclose(maps.value.reshape(32, 32), true, atol=0.02 * np.abs(true).max())


class Packed(torch.nn.Module):
    """Weights of four bits, two in a byte, with one scale for each output: as GPTQ and bitsandbytes keep them."""

    def __init__(self, base, features="in_features"):
        super().__init__()
        weight = base.weight.detach()
        self.scales = torch.nn.Parameter((weight.abs().amax(1) / 7).half(), requires_grad=False)
        levels = (weight / self.scales[:, None].float()).round().clamp(-8, 7).to(torch.int16) + 8
        self.register_buffer("qweight", (levels[:, ::2] + 16 * levels[:, 1::2]).to(torch.uint8))
        if features:
            setattr(self, features, weight.shape[1])

    @property
    def weight(self):
        return self.qweight

    def dense(self):
        low, high = self.qweight % 16, self.qweight // 16
        levels = torch.stack([low, high], -1).flatten(1).float() - 8
        return levels * self.scales[:, None].float()

    def forward(self, x):
        return (x.float() @ self.dense().T).to(x.dtype)


@pytest.mark.parametrize("features", ["in_features", "infeatures", None])
@pytest.mark.parametrize("name", ["v_proj", "o_proj"])
def test_packed_weights_are_what_they_compute(features, name):
    """Their shape is half of the map's, and a map of this shape was read from them."""
    model = network(num_key_value_heads=2)
    attention = model.model.layers[1].self_attn
    module = Packed(getattr(attention, name), features)
    setattr(attention, name, module)
    maps = value_output(load(model), 1)
    values = maps.value[::2].reshape(16, 32) if name == "v_proj" else np.moveaxis(maps.output, 0, 1).reshape(32, 32)
    assert_allclose(values, module.dense().numpy(), atol=1e-3 * float(module.dense().abs().max()))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch, which has a newer weight_norm
def test_a_weight_that_is_computed_by_each_call_is_not_read_before_it():
    model = network()
    module = model.model.layers[1].self_attn.v_proj
    torch.nn.utils.weight_norm(module)
    before = value_output(load(model), 1).value
    with torch.no_grad():
        module.weight_g *= 2
    assert_allclose(value_output(load(model), 1).value, 2 * before, atol=1e-5)


def test_what_is_not_linear_is_refused():
    model = network()
    attention = model.model.layers[0].self_attn
    attention.v_proj = torch.nn.Sequential(attention.v_proj, torch.nn.ReLU())
    with pytest.raises(ValueError, match="a Sequential stands where a linear map of the family is, and is not linear"):
        value_output(load(model), 0)


def test_heads_are_those_of_an_adapter_too_and_are_not_dropped_from_its_base(with_adapter):
    """Zeros went into the base alone, so that a dropped head went on through the adapter."""
    model, merged = network(), network()
    attention = model.model.layers[1].self_attn
    torch.manual_seed(1)
    attention.o_proj = with_adapter(attention.o_proj)
    weight = affine_map(attention.o_proj, 32)[0]
    merged.model.layers[1].self_attn.o_proj.weight.data = torch.as_tensor(weight).float()
    ids = np.random.default_rng(0).integers(60, size=(2, 9))
    turns = [head_importance(load(one_model), ids).turn for one_model in (model, merged)]
    assert_allclose(*turns, rtol=1e-4)
    with pytest.raises(ValueError, match="layer 1 is a Adapted, whose weight is not all that it applies"):
        drop_heads(load(model), [(1, 0)])


@pytest.fixture
def peft():
    with warnings.catch_warnings(action="ignore"):
        return pytest.importorskip("peft")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
@pytest.mark.parametrize("kind", ["LoraConfig", "LoHaConfig", "IA3Config"])
def test_maps_of_real_adapters_are_those_of_the_merged_network(peft, kind, tmp_path):
    targets = {"target_modules": ["v_proj", "o_proj"]}
    more = {"feedforward_modules": []} if kind == "IA3Config" else {"r": 4}
    adapted = peft.get_peft_model(network(), getattr(peft, kind)(**targets, **more))
    for name, weight in adapted.named_parameters():
        if any(word in name for word in ("lora_", "hada_", "ia3_")):
            torch.nn.init.normal_(weight, 1.0 if "ia3" in name else 0.0, 0.3)
    inside = load(adapted.get_base_model())
    before = value_output(inside, 1)
    with torch.no_grad():
        logits = inside.model(torch.arange(9)[None]).logits
    with pytest.raises(ValueError, match="merge_and_unload"):
        save(inside, tmp_path / "adapted")
    assert_allclose(value_output(load(adapted), 1).value, before.value, rtol=0)
    merged = load(adapted.merge_and_unload())
    after = value_output(merged, 1)
    assert np.abs(after.value - value_output(load(network()), 1).value).max() > 0.01
    assert_allclose(before.value, after.value, atol=1e-6)
    assert_allclose(before.output, after.output, atol=1e-6)
    save(merged, tmp_path / "merged")
    with torch.no_grad():
        again = load(tmp_path / "merged").model(torch.arange(9)[None]).logits
    assert_allclose(again, logits, atol=1e-4 * float(logits.abs().max()))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("bits", [4, 8])
def test_layers_of_bitsandbytes_are_what_they_compute(bits):
    """The real library: on a processor its 4-bit layers need whole blocks of 64 numbers."""
    with warnings.catch_warnings(action="ignore"):
        bnb = pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=60, **sizes)).eval()
    plain = model.model.layers[1].self_attn.v_proj
    options = {"compute_dtype": torch.float32} if bits == 4 else {"has_fp16_weights": False}
    quantised = (bnb.nn.Linear4bit if bits == 4 else bnb.nn.Linear8bitLt)(64, 64, bias=False, **options)
    quantised.load_state_dict(plain.state_dict())
    quantised = model.model.layers[1].self_attn.v_proj = quantised.to("cpu").eval()
    with warnings.catch_warnings(action="ignore"), torch.no_grad():
        basis = quantised(torch.eye(64)).float().numpy().T
        read = value_output(load(model), 1).value.reshape(64, 64)
    assert_allclose(read, basis, atol=1e-5)
    assert np.abs(basis - plain.weight.detach().numpy()).max() > 1e-5  # they are not the weights that were quantised


@pytest.fixture
def gptq_layer(monkeypatch):
    """The layer of the real AutoGPTQ, whose package asks for more than its layers do, as (linear, bits) -> layer."""
    there = importlib.util.find_spec("auto_gptq")
    if there is None:
        pytest.skip("auto_gptq is not installed")
    for name in ("", ".nn_modules", ".nn_modules.qlinear"):
        package = types.ModuleType(f"auto_gptq{name}")
        package.__path__ = [there.submodule_search_locations[0] + name.replace(".", "/")]
        monkeypatch.setitem(sys.modules, package.__name__, package)
    kind = importlib.import_module("auto_gptq.nn_modules.qlinear.qlinear_cuda_old").QuantLinear

    def layer(linear, bits, group=16):
        """The linear layer and the same one in groups of `group` inputs; its weight becomes what is left of it."""
        outputs, inputs = linear.weight.shape
        parts = linear.weight.data.reshape(outputs, -1, group)
        scale = (parts.amax(-1) - parts.amin(-1)) / (2**bits - 1)
        zero = torch.round(-parts.amin(-1) / scale)
        of = torch.arange(inputs) // group
        steps = torch.round(linear.weight.data / scale[:, of]) + zero[:, of]
        linear.weight.data = (steps.clamp(0, 2**bits - 1) - zero[:, of]) * scale[:, of]
        packed = kind(bits, group, inputs, outputs, bias=linear.bias is not None, weight_dtype=torch.float32)
        packed.pack(linear, scale, zero, of.int())
        return packed.eval()

    return layer


@pytest.mark.parametrize("bits", [4, 8])
def test_layers_of_auto_gptq_are_what_they_compute(gptq_layer, bits):
    plain, packed, whole = network(), network(), network()
    for name in ("v_proj", "o_proj"):
        setattr(
            packed.model.layers[1].self_attn, name, gptq_layer(getattr(plain.model.layers[1].self_attn, name), bits)
        )
    expected, seen, before = (value_output(load(model), 1) for model in (plain, packed, whole))
    assert_allclose(seen.value, expected.value, atol=1e-6)
    assert_allclose(seen.output, expected.output, atol=1e-6)
    assert np.abs(seen.value - before.value).max() > 1e-4  # it is quantised
