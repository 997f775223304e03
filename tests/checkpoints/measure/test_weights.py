"""The maps of a sublayer are those that its modules apply, whatever the modules keep as their weight."""

import warnings

import numpy as np
import pytest
import torch
import transformers
from numpy.testing import assert_allclose

from ctrlattn.checkpoints import load, value_output

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
