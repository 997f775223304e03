"""A structure stands for a row of the table: the same modules, the same signals, and a way to disk and back."""

import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ctrlattn import InputError
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import Answer
from ctrlattn.checkpoints.network.traced_family import Traced, traced_from
from ctrlattn.checkpoints.network.watch import watch
from ctrlattn.checkpoints.trace.structure import Call, Coefficient, Step, Structure, Term

ONE = Coefficient("number", 1.0)
ATTENTION = Term("attention", "self_attn", "self_attn", "input_layernorm", 0, ONE, "self_attn")
MLP = Term("mlp", "mlp", "mlp", "post_attention_layernorm", 1, ONE)


def traced(count=4, width=24, *, mlp=MLP, scale=ONE):
    call = [Call(i, (Step(ONE, (ATTENTION,)), Step(scale, (mlp,))), 0.0) for i in range(count)]
    layers = tuple(f"model.layers.{i}" for i in range(count))
    return Traced("llama", Structure(layers, tuple(call), width, 1, True))


def triples(checkpoint, ids, sublayers=None):
    seen = []
    reader = watch(sublayers or checkpoint.sublayers(), lambda s, x, u, F: seen.append((s.layer, s.kind, x, u, F)))
    with reader, torch.no_grad():
        checkpoint.model(input_ids=torch.as_tensor(ids), use_cache=False)
    return seen


def test_its_sublayers_are_those_of_the_table(network, text):
    known = network("llama")
    other = Checkpoint(known.model, None, traced(), "x")
    for a, b in zip(triples(known, text(2)), triples(other, text(2)), strict=True):
        assert a[:2] == b[:2]
        for own, same in zip(a[2:], b[2:], strict=True):
            assert torch.equal(own, same)
    assert (other.width, other.causal, other.family.norm) == (24, True, "pre")
    assert [s.step for s in other.sublayers()] == [0, 1] * 4


def test_a_stream_that_no_module_reads_is_the_sum_of_what_came_before(network, text):
    known = network("llama")
    unread = Term("mlp", "mlp", "mlp", "", 1, ONE)
    other = Checkpoint(known.model, None, traced(mlp=unread), "x")
    for a, b in zip(triples(known, text(2)), triples(other, text(2)), strict=True):
        assert_allclose(a[2].numpy(), b[2].numpy(), rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="no module reads the stream in front of the mlp of layer 1"):
        triples(other, text(2), [other.sublayer("mlp", 1)])


def test_it_goes_to_json_and_back():
    scale = Coefficient("vector", torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64))
    family = traced(2, 3, scale=scale)
    family = Traced(family.name, family.structure, {"0/mlp": Answer(1, 3, True)})
    back = traced_from(json.loads(json.dumps(family.as_dict())))
    assert back.answers == family.answers
    assert back.structure.layers == family.structure.layers
    assert back.structure.calls[1].terms[0].matrix == "self_attn"
    assert_allclose(np.asarray(back.structure.calls[1].steps[1].skip.value), [1.0, 0.5, 0.1], rtol=0, atol=0)
    with pytest.raises(InputError, match=r"config\.json holds a structure that cannot be read"):
        traced_from({"name": "x"})


def test_a_sublayer_adds_its_contribution_with_its_factors(network):
    known = network("llama")
    sublayer = Checkpoint(known.model, None, traced(scale=Coefficient("number", 0.5)), "x").sublayer("mlp", 0)
    x, F = torch.ones(1, 2, 24).double(), torch.full((1, 2, 24), 3.0).double()
    assert_allclose(sublayer.onto(x, F).numpy(), 3.5, rtol=0, atol=0)
    by_text = Checkpoint(known.model, None, traced(scale=Coefficient("text", None)), "x").sublayer("mlp", 0)
    with pytest.raises(InputError, match="layer 0 multiplies its stream by a factor that depends on the text"):
        by_text.onto(x, F)
    with pytest.raises(InputError, match="layer 2 has no mixer: it has attention and mlp"):
        Checkpoint(known.model, None, traced(), "x").sublayer("mixer", 2)


def test_a_structure_of_another_network_is_refused(network):
    with pytest.raises(InputError, match="the structure of 'llama' does not fit GPT2LMHeadModel"):
        Checkpoint(network("gpt2").model, None, traced(), "x").sublayers()
