"""Traced types repeat too: one pass is the source, K passes are the span run by hand, and a cache changes no token."""

from functools import cache

import numpy as np
import pytest
import torch
import transformers
from alike import alike

from ctrlattn import PID, InputError, checkpoints
from ctrlattn.checkpoints import load, repeat, save, tap
from ctrlattn.checkpoints.network.unrolled import put_layers, require_list, unrolled
from ctrlattn.identity import of_network

slow = pytest.mark.slow
# type -> a span that its configuration can name twice; of the eleven types gemma4_text is below.
SPANS = {
    "olmo2": (1, 3), "falcon": (2, 4), "jamba": (1, 3), "mixtral": (0, 2), "olmo3": (1, 2), "phi3": (3, 4),
    "gpt_oss": (2, 3), "qwen3_5_text": (1, 3), "qwen3_next": (0, 1), "deepseek_v3": (0, 2),
}  # fmt: skip
TYPES = [*list(SPANS)[:3], *(pytest.param(name, marks=slow) for name in list(SPANS)[3:])]
LAW = {"controller": PID(0.3, 0.1, 0.05), "recall": 0.2}


def logits(checkpoint, ids):
    with torch.no_grad():
        return checkpoint.model(input_ids=torch.as_tensor(ids), use_cache=False).logits


def run_with(checkpoint, ids, a, b, *, entering=None, leaving=None):
    """(stream in front of layer a, stream behind layer b - 1, logits) of a whole pass, either stream replaced."""
    seen = {}

    def enter(module, args, kwargs):
        seen["in"] = (args[0] if args else kwargs["hidden_states"]).clone()
        if entering is None:
            return None
        return ((entering.clone(), *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": entering})

    def leave(module, args, kwargs, output):
        seen["out"] = output[0] if isinstance(output, tuple) else output
        if leaving is None:
            return None
        return (leaving, *output[1:]) if isinstance(output, tuple) else leaving

    hooks = [
        checkpoint.layers[a].register_forward_pre_hook(enter, with_kwargs=True),
        checkpoint.layers[b - 1].register_forward_hook(leave, with_kwargs=True),
    ]
    out = logits(checkpoint, ids)
    for hook in hooks:
        hook.remove()
    return seen["in"], seen["out"], out


def by_hand(checkpoint, ids, a, b, passes, controller=None, recall=0.0):
    """Logits of the source with h_K behind the span: h <- h + C(z)(F(h) - h + k_r (h_0 - h))."""
    start, F, _ = run_with(checkpoint, ids, a, b)
    h, memory = start, None
    for k in range(passes):
        F = F if k == 0 else run_with(checkpoint, ids, a, b, entering=h)[1]
        if controller is None:
            h = F
            continue
        e = F - h + recall * (start - h)
        u, memory = controller.step(e, controller.init(e) if memory is None else memory)
        h = h + u
    return run_with(checkpoint, ids, a, b, leaving=h)[2]


@pytest.fixture(scope="module")
def looped(of_type):
    """looped(type) -> (the network, three passes of its span by the law), made once and only read."""

    @cache
    def of(name):
        whole = of_type(name)
        return whole, repeat(whole, layers=SPANS[name], passes=3, **LAW)

    return of


@pytest.mark.slow
@pytest.mark.parametrize("name", TYPES)
def test_a_span_of_a_traced_network_is_repeated_exactly(looped, text, name):
    (whole, controlled), ids, (a, b) = looped(name), text(1, 8), SPANS[name]
    before = logits(whole, ids)
    torch.testing.assert_close(logits(controlled, ids), by_hand(whole, ids, a, b, 3, **LAW), rtol=1e-9, atol=1e-9)
    assert torch.equal(logits(whole, ids), before)  # the source is untouched
    assert not torch.equal(logits(controlled, ids), before)
    assert {id(p) for p in controlled.model.parameters()} == {id(p) for p in whole.model.parameters()}
    assert len(controlled.layers) == len(controlled.structure.calls) == 4 + 2 * (b - a)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["falcon", "jamba", pytest.param("olmo3", marks=slow)])
def test_naive_passes_of_a_traced_network_are_its_span_run_again_bit_for_bit(looped, text, name):
    whole, ids, (a, b) = looped(name)[0], text(1, 8), SPANS[name]
    thrice = repeat(whole, layers=(a, b), passes=3)
    assert torch.equal(logits(thrice, ids), by_hand(whole, ids, a, b, 3))
    assert not torch.equal(logits(thrice, ids), logits(whole, ids))


@pytest.mark.parametrize("name", ["olmo2", "falcon", "jamba"])
def test_one_pass_of_a_traced_network_is_the_source(looped, text, name):
    whole = looped(name)[0]
    once = repeat(whole, layers=SPANS[name], passes=1)
    assert torch.equal(logits(once, text(2)), logits(whole, text(2)))


@pytest.mark.parametrize("name", TYPES)
def test_generation_of_a_traced_repeated_network_is_the_same_with_a_cache(looped, text, name):
    """What is written is longer than the window of six tokens."""
    controlled = looped(name)[1]
    ids = torch.as_tensor(text(2, 5))
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 4, "do_sample": False}
    by_steps = ids
    for _ in range(4):
        by_steps = torch.cat([by_steps, logits(controlled, by_steps)[:, -1:].argmax(-1)], 1)
    assert torch.equal(controlled.model.generate(ids, **options), by_steps)


@pytest.mark.parametrize("name", ["olmo2", pytest.param("jamba", marks=slow), pytest.param("gpt_oss", marks=slow)])
def test_a_traced_repeated_network_is_saved_once_and_comes_back(looped, text, tmp_path, name):
    whole, longer = looped(name)
    save(longer, tmp_path / "looped")
    save(whole, tmp_path / "whole")
    sizes = [next((tmp_path / d).glob("*.safetensors")).stat().st_size for d in ("looped", "whole")]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
    again = load(tmp_path / "looped", dtype="float64")
    assert alike(logits(again, text(2)), logits(longer, text(2)))
    assert again.structure.layers == longer.structure.layers


def test_what_was_dropped_before_is_repeated_as_it_is(of_type, text):
    smaller = checkpoints.drop(of_type("olmo2"), attention=[2])
    looped = repeat(smaller, layers=(1, 3), passes=2)
    assert torch.equal(logits(looped, text(2)), by_hand(smaller, text(2), 1, 3, 2))
    assert looped.model.config.ctrlattn["attention"] == {"2": None, "4": None}


def test_the_signals_of_a_traced_repeated_network(of_type, text):
    ids = text(1)[0]
    states = tap(repeat(of_type("olmo2"), layers=(1, 3), passes=3, **LAW), ids)
    added = (states.attention_out + states.mlp_out).to_numpy()
    missing = np.abs(states.state[:-1].to_numpy() + added - states.state[1:].to_numpy()).max(axis=(1, 2))
    assert np.flatnonzero(missing > 1e-9).tolist() == [2, 4, 6]  # two of three layers run three times
    assert states.attrs["controlled_layers"] == "2, 4, 6"
    naive = tap(repeat(of_type("olmo2"), layers=(1, 3), passes=3), ids)
    assert "controlled_layers" not in naive.attrs
    states, added = naive.state.to_numpy(), (naive.attention_out + naive.mlp_out).to_numpy()
    np.testing.assert_allclose(states[:-1] + added, states[1:], rtol=0, atol=1e-9)


def gemma4(**more):
    sizes = {
        "vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3, "num_key_value_heads": 1,
        "head_dim": 8, "global_head_dim": 8, "intermediate_size": 32, "initializer_range": 0.3, "pad_token_id": 0,
        "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"] * 2, "vocab_size_per_layer_input": 50,
    }  # fmt: skip
    torch.manual_seed(0)
    config = transformers.Gemma4TextConfig(**{**sizes, **more})
    return load(transformers.Gemma4ForCausalLM(config).double().eval())


def test_gemma4_repeats_where_its_layers_are_given_nothing_of_their_own(text):
    whole = gemma4()
    assert torch.equal(logits(repeat(whole, layers=(1, 3), passes=3), text(2)), by_hand(whole, text(2), 1, 3, 3))


@pytest.mark.parametrize("more", [{"num_kv_shared_layers": 2}, {}])
@pytest.mark.parametrize("span", [(0, 1), (2, 3)])
def test_layers_that_know_their_number_are_refused(more, span):
    """A part of the embedding belongs to each layer of gemma4, by its number."""
    network = gemma4(hidden_size_per_layer_input=4, **more)
    with pytest.raises(InputError, match="Gemma4ForCausalLM does not run with layers repeated on input_ids"):
        repeat(network, layers=span, passes=2)


def test_types_that_a_period_cannot_name_are_refused(of_type):
    with pytest.raises(InputError, match=r"jamba computes \w+ from the number of a layer, and so gives other ones"):
        repeat(of_type("jamba"), layers=(2, 3), passes=2)


def test_layers_that_share_their_weights_are_refused():
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "embedding_size": 8}
    network = load(transformers.AlbertModel(transformers.AlbertConfig(vocab_size=40, num_hidden_layers=3, **sizes)))
    with pytest.raises(InputError, match="calls 1 layers 3 times"):
        repeat(network, layers=(0, 1), passes=2)


def test_a_list_with_other_members_is_refused(of_type):
    network = of_type("olmo2")
    network.model.model.layers.append(torch.nn.Identity())
    with pytest.raises(InputError, match="are not all the members of one list"):
        require_list(network.family, network.model)


def test_a_configuration_that_counts_otherwise_is_refused(of_type):
    network = of_type("olmo2")
    network.model.config.num_hidden_layers = 8
    with pytest.raises(InputError, match="says 8 layers and the network has 4"):
        put_layers(network.family, network.model, network.layers[:2], [0, 1])


def test_an_unrolled_structure_has_the_calls_and_answers_of_its_places(of_type):
    smaller = checkpoints.drop(of_type("falcon"), mlp=[1])
    family, places = smaller.family, [0, 1, 1, 3]
    longer = unrolled(family, places)
    assert [call.layer for call in longer.structure.calls] == [0, 1, 2, 3]
    assert [call.steps for call in longer.structure.calls] == [family.structure.calls[i].steps for i in places]
    assert longer.structure.layers == tuple(f"transformer.h.{i}" for i in range(4))
    assert family.answers
    assert set(longer.answers) == {f"{i}/{name.partition('/')[2]}" for i in (1, 2) for name in family.answers}


def test_the_decoder_of_an_encoder_decoder_has_a_count_of_its_own(tmp_path):
    config = transformers.BartConfig(
        d_model=16, encoder_layers=2, decoder_layers=4, decoder_attention_heads=4, decoder_ffn_dim=24, vocab_size=40,
        max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    network = load(transformers.BartForCausalLM(config).double().eval())
    longer = repeat(network, layers=(1, 3), passes=3, **LAW)
    config = longer.model.config
    assert (config.encoder_layers, config.decoder_layers, len(longer.layers)) == (2, 8, 8)
    ids = torch.arange(3, 15)[None]
    torch.testing.assert_close(logits(longer, ids), by_hand(network, ids, 1, 3, 3, **LAW), rtol=1e-9, atol=1e-12)
    again = load(save(longer, tmp_path / "longer"), dtype="float64")
    assert of_network(again.model) == of_network(longer.model)
    assert alike(logits(again, ids), logits(longer, ids))
