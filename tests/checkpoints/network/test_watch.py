"""What `watch` reads is what forward hooks on the modules read; passes end where they are told to."""

import pytest
import torch
from numpy.testing import assert_array_equal

from ctrlattn import checkpoints
from ctrlattn.checkpoints.network.watch import attention, hooked, watch, watch_calls


def passed(network, ids):
    with torch.no_grad():
        return network.model(torch.as_tensor(ids), use_cache=False).logits


def test_the_triple_is_that_of_the_modules(network, text, causal):
    checkpoint, ids, triples, recorded = network(causal), text(2), {}, {}

    def keep(name):
        return lambda module, args, output: recorded.update({name: output[0] if isinstance(output, tuple) else output})

    handles = []
    for sublayer in checkpoint.sublayers():
        name = (sublayer.layer, sublayer.kind)
        handles.append(sublayer.norm.register_forward_hook(keep((*name, "u"))))
        handles.append(sublayer.out.register_forward_hook(keep((*name, "F"))))
    with watch(checkpoint.sublayers(), lambda s, x, u, F: triples.update({(s.layer, s.kind): (x, u, F)})):
        passed(checkpoint, ids)
    for handle in handles:
        handle.remove()
    assert list(triples) == [(layer, kind) for layer in range(4) for kind in ("attention", "mlp")]
    for sublayer in checkpoint.sublayers():
        name = (sublayer.layer, sublayer.kind)
        x, u, F = triples[name]
        assert torch.equal(u, recorded[*name, "u"])
        assert torch.equal(F, recorded[*name, "F"])
        with torch.no_grad():
            assert torch.equal(sublayer.norm(x), u)
    for layer in range(3):  # the stream runs on: x + F of the last sublayer is the x of the next layer
        x, _, F = triples[layer, "mlp"]
        both = x + F + (triples[layer, "attention"][2] if checkpoint.sublayers()[0].parallel else 0)
        torch.testing.assert_close(triples[layer + 1, "attention"][0], both, rtol=0, atol=1e-12)


def test_what_is_returned_goes_on_in_the_place_of_the_contribution(network, text):
    checkpoint, ids = network("llama"), text(2)
    attention_of_2 = checkpoint.sublayers("attention")[2]
    with watch([attention_of_2], lambda s, x, u, F: torch.zeros_like(F)):
        logits = passed(checkpoint, ids)
    assert_array_equal(logits, passed(checkpoints.drop(checkpoint, attention=[2]), ids))
    assert not torch.equal(logits, passed(checkpoint, ids))


def test_a_post_norm_sublayer_reads_the_stream_itself():
    import transformers

    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    checkpoint = checkpoints.load(transformers.BertModel(transformers.BertConfig(vocab_size=9, **sizes)))
    streams = []

    def on(sublayer, x, u, F):
        assert u is x
        streams.append((x, sublayer.norm(x + F)))

    for _ in range(2):  # nothing is left over from the first pass
        streams.clear()
        with watch(checkpoint.sublayers(), on), torch.no_grad():
            last = checkpoint.model(torch.tensor([[1, 2, 3]])).last_hidden_state
        for (_, after), (x, _) in zip(streams, [*streams[1:], (last, None)], strict=True):
            assert torch.equal(after, x)


def test_a_pass_ends_behind_the_module_it_is_watched_until(network, text):
    checkpoint, ids, seen = network("gpt2"), text(2), []
    until = checkpoint.sublayers()[3].out
    with watch(checkpoint.sublayers(), lambda s, x, u, F: seen.append((s.layer, s.kind)), until=until):
        passed(checkpoint, ids)
        raise AssertionError("the pass went on")
    assert seen == [(0, "attention"), (0, "mlp"), (1, "attention"), (1, "mlp")]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in checkpoint.model.modules())


def test_calls_are_read_in_front_of_a_layer(network, text):
    checkpoint, ids, states = network("llama"), text(2), []
    with watch_calls(checkpoint.layers, range(3), until=2) as calls:
        passed(checkpoint, ids)
        raise AssertionError("the pass went on")
    with watch(checkpoint.sublayers("attention"), lambda s, x, u, F: states.append(x)):
        passed(checkpoint, ids)
    assert sorted(calls) == [0, 1, 2]
    for layer, call in calls.items():
        assert torch.equal(next(iter(call.values())), states[layer])
        assert call.get("use_cache") in (None, False)


def test_an_inner_block_leaves_the_end_of_an_outer_one_alone(network, text):
    checkpoint, ids = network("llama"), text(1)
    first, second = checkpoint.layers[:2]
    with hooked([], until=first):
        with hooked([], until=second):
            passed(checkpoint, ids)
        raise AssertionError("the outer block ends first")
    with pytest.raises(KeyError), hooked([(first, lambda *_: {}["no such signal"], False)]):
        passed(checkpoint, ids)
    assert not first._forward_hooks


def test_the_attention_implementation_comes_back(network):
    model = network("llama").model
    with attention(model, "eager"):
        assert model.config._attn_implementation == "eager"
    assert model.config._attn_implementation == "sdpa"
