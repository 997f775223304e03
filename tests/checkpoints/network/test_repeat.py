"""A repeated span is the law of the loop, pass by pass; naive passes are stacked layers bit for bit."""

import copy
import json

import control
import numpy as np
import pytest
import torch
import transformers
from alike import alike

from ctrlattn import PID, LTIController
from ctrlattn.checkpoints import Calibration, drop, drop_heads, evaluate, importance, load, repeat, save, tap
from ctrlattn.checkpoints.network.repeat import loop_of, unrepeated
from ctrlattn.identity import of_network

LAWS = {
    "naive": {},
    "damped": {"controller": PID(0.25)},
    "recall": {"recall": 0.7},
    "printed": {"controller": PID(0.3, 0.1, 0.05), "recall": 0.2},
    "delayed": {"controller": LTIController(control.tf([0.4, 0.1], [1, -0.3, 0.05], 1))},
}


@pytest.fixture
def law(request):
    return LAWS[request.param]


# What is written for a law and what for a family do not meet: every law once, and every family once.
EACH = [("llama", "naive"), ("llama", "damped"), ("gpt2", "delayed"), ("neox", "printed"), ("gemma3", "recall")]


def logits(checkpoint, ids, **more):
    with torch.no_grad():
        return checkpoint.model(input_ids=torch.as_tensor(np.atleast_2d(ids)), use_cache=False, **more).logits


def stacked(checkpoint, a, b, passes):
    """The network with its layers a ... b - 1 written down `passes` times, by hand."""
    model = copy.deepcopy(checkpoint.model)
    whole = checkpoint.family.layers_of(model)
    layers = [*whole[:b], *(copy.deepcopy(layer) for _ in range(passes - 1) for layer in whole[a:b]), *whole[b:]]
    types = getattr(model.config, "layer_types", None)
    model.base_model.set_submodule(checkpoint.family.layers, torch.nn.ModuleList(layers))
    model.config.num_hidden_layers = len(layers)
    if types is not None:
        model.config.layer_types = [*types[:b], *types[a:b] * (passes - 1), *types[b:]]
    return model


def span_of(checkpoint, a, b, ids):
    """h -> F(h) through the layers a ... b - 1, the h that enters them, and what is behind them, by plain hooks."""
    stream = {}
    hooks = []

    def function(h):
        hooks.append(
            checkpoint.layers[a].register_forward_pre_hook(
                lambda m, args, kwargs: ((h, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": h}),
                with_kwargs=True,
            )
        )
        read(ids)
        hooks.pop().remove()
        return stream["out"]

    def read(some, new=None):
        last = checkpoint.layers[b - 1].register_forward_hook(
            lambda m, args, out: (
                stream.update(out=out[0] if isinstance(out, tuple) else out)
                or (None if new is None else ((new, *out[1:]) if isinstance(out, tuple) else new))
            )
        )
        entry = checkpoint.layers[a].register_forward_pre_hook(
            lambda m, args, kwargs: stream.update(h=args[0] if args else kwargs["hidden_states"]), with_kwargs=True
        )
        result = logits(checkpoint, some)
        last.remove(), entry.remove()
        return result

    read(ids)
    return function, stream["h"], lambda h: read(ids, h)


def by_hand(checkpoint, a, b, passes, ids, controller=None, recall=0.0):
    """Logits of the loop: the equation of the module, written out on the source."""
    function, start, finish = span_of(checkpoint, a, b, ids)
    controller = PID(1.0) if controller is None else controller
    h, memory = start, None
    for _ in range(passes):
        e = function(h) - h + recall * (start - h)
        u, memory = controller.step(e, controller.init(e) if memory is None else memory)
        h = h + u
    return finish(h)


@pytest.mark.parametrize(
    ("causal", "span"), [("llama", (0, 4)), ("gpt2", (0, 1)), ("neox", (2, 4)), ("gemma3", (1, 3)), ("llama", (1, 3))]
)
def test_naive_passes_are_the_stacked_layers_bit_for_bit(network, text, causal, span):
    whole = network(causal)
    looped = repeat(whole, layers=span, passes=3)
    assert torch.equal(logits(looped, text(2)), stacked(whole, *span, 3)(torch.as_tensor(text(2)), use_cache=False)[0])
    assert len(looped.layers) == 4 + 2 * (span[1] - span[0])


@pytest.mark.parametrize("span", [(1, 3), (3, 4)])
@pytest.mark.parametrize(("causal", "law"), EACH, indirect=["law"])
def test_every_law_is_the_equation_written_out(network, text, causal, law, span):
    whole = network(causal)
    want = by_hand(whole, *span, 3, text(2), **law)
    torch.testing.assert_close(logits(repeat(whole, layers=span, passes=3, **law), text(2)), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("causal", "law"),
    [("llama", {}), ("gpt2", {"controller": PID(1.0)}), ("gemma3", {"controller": control.tf(1, 1, 1)}), ("neox", {})],
)
def test_one_pass_of_gain_1_is_the_source_bit_for_bit(network, text, causal, law):
    whole = network(causal)
    before = logits(whole, text(2))
    weights = {name: weight.clone() for name, weight in whole.model.state_dict().items()}
    assert torch.equal(logits(repeat(whole, layers=(1, 3), passes=1, **law), text(2)), before)
    repeat(whole, layers=(1, 3), passes=3, **law)
    assert torch.equal(logits(whole, text(2)), before)  # the source is untouched
    assert not hasattr(whole.model.config, "ctrlattn")
    assert all(torch.equal(weight, weights[name]) for name, weight in whole.model.state_dict().items())


def test_passes_share_the_weights_and_have_places_of_their_own_in_the_cache(network, text, causal):
    whole = network(causal)
    looped = repeat(whole, layers=(1, 3), passes=3, controller=PID(0.3))
    own = {id(parameter) for parameter in whole.model.parameters()}
    assert {id(parameter) for parameter in looped.model.parameters()} == own
    cache = looped.model(input_ids=torch.as_tensor(text(1, 7)), use_cache=True).past_key_values
    assert [layer.get_seq_length() for layer in cache.layers[:8]] == [7] * 8
    assert len(cache.layers) == 8


@pytest.mark.slow
@pytest.mark.parametrize(("causal", "law"), EACH, indirect=["law"])
def test_generation_with_a_cache_is_generation_without(network, text, causal, law):
    looped = repeat(network(causal), layers=(1, 3), passes=3, **law)
    ids = torch.as_tensor(text(2, 5))
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 5, "do_sample": False}
    cached = looped.model.generate(ids, **options)
    by_steps = ids
    for _ in range(5):
        by_steps = torch.cat([by_steps, logits(looped, by_steps)[:, -1:].argmax(-1)], 1)
    assert torch.equal(cached, by_steps)
    beams = [looped.model.generate(ids, num_beams=3, use_cache=use, **options) for use in (True, False)]
    assert torch.equal(*beams)


@pytest.mark.slow
@pytest.mark.parametrize(("causal", "law"), EACH, indirect=["law"])
def test_padding_changes_no_token(network, text, causal, law):
    looped = repeat(network(causal), layers=(1, 3), passes=3, **law)
    ids = torch.as_tensor(text(2, 6))
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), ids], 1)
    padded[1] = torch.cat([ids[1], ids[1, :3]])  # the other text of the batch has no padding
    mask = torch.ones_like(padded)
    mask[0, :3] = 0
    options = {"max_new_tokens": 3, "do_sample": False}
    together = looped.model.generate(padded, attention_mask=mask, **options)
    alone = looped.model.generate(ids[:1], attention_mask=torch.ones(1, 6, dtype=torch.long), **options)
    assert torch.equal(together[0, 9:], alone[0, 6:])
    places = (mask.cumsum(1) - 1).clamp_min(0)
    torch.testing.assert_close(
        logits(looped, padded, attention_mask=mask, position_ids=places)[0, 3:], logits(looped, ids[:1])[0],
        rtol=1e-9, atol=1e-9,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("causal", "law"), EACH, indirect=["law"])
def test_it_is_saved_once_and_comes_back_bit_for_bit(network, text, causal, law, tmp_path):
    whole = network(causal, double=False)
    looped = repeat(whole, layers=(1, 3), passes=3, **law)
    save(looped, tmp_path / "out")
    size = (tmp_path / "out" / "ctrlattn.safetensors").stat().st_size
    save(whole, tmp_path / "whole")
    assert size == (tmp_path / "whole" / "model.safetensors").stat().st_size
    again = load(tmp_path / "out", attention="sdpa")
    assert of_network(again.model) == of_network(looped.model)
    assert alike(logits(again, text(2)), logits(looped, text(2)))
    assert again.model.config.ctrlattn == looped.model.config.ctrlattn
    said = json.loads((tmp_path / "out" / "config.json").read_text())["network"]
    assert said["num_hidden_layers" if "num_hidden_layers" in said else "n_layer"] == 4
    save(again, tmp_path / "twice")
    assert of_network(load(tmp_path / "twice", attention="sdpa").model) == of_network(looped.model)
    with pytest.raises((ValueError, OSError)):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")


@pytest.mark.parametrize(("causal", "law"), EACH, indirect=["law"])
def test_what_is_repeated_is_taken_back_bit_for_bit(network, text, causal, law):
    whole = drop(network(causal), attention=[1], mlp=[3])
    looped = repeat(whole, layers=(1, 3), passes=3, **law)
    _, back = unrepeated(looped.family, looped.model)
    assert torch.equal(back(torch.as_tensor(text(2)), use_cache=False).logits, logits(whole, text(2)))
    assert back.config.ctrlattn == whole.model.config.ctrlattn
    assert of_network(back) == of_network(whole.model)
    assert unrepeated(whole.family, whole.model) == (whole.family, whole.model)


@pytest.mark.parametrize("memory", [False, True])
def test_a_network_with_gains_is_repeated_saved_and_generates(network, text, memory, tmp_path):
    smaller = drop(network(double=False), attention=[1], mlp=[2], compensate=Calibration(text(20), memory=memory))
    looped = repeat(smaller, layers=(1, 3), passes=3, controller=PID(0.4))
    assert looped.model.config.ctrlattn["attention"].keys() == {"1", "3", "5"}
    save(looped, tmp_path / "out")
    again = load(tmp_path / "out", attention="sdpa")
    assert of_network(again.model) == of_network(looped.model)
    assert alike(logits(again, text(2)), logits(looped, text(2)))
    ids = torch.as_tensor(text(2, 5))
    options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 4, "do_sample": False}
    cached, anew = (again.model.generate(ids, use_cache=use, **options) for use in (True, False))
    assert torch.equal(cached, anew)


def test_the_law_is_part_of_what_a_network_is(network):
    whole = network()
    laws = ({}, {"controller": PID(0.25)}, {"controller": PID(0.26)}, {"recall": 0.1})
    marks = {of_network(repeat(whole, layers=(1, 3), passes=2, **law).model) for law in laws}
    assert len(marks | {of_network(whole.model)}) == 5
    said = loop_of(repeat(whole, layers=(1, 3), passes=2, controller=PID(0.25), recall=0.5).model)
    assert (said["layers"], said["passes"], said["recall"], said["controller"].kp) == ((1, 3), 2, 0.5, 0.25)
    assert loop_of(whole.model) is None


def test_scores_and_signals_of_a_repeated_network(network, text):
    looped = repeat(network(), layers=(1, 3), passes=3, controller=PID(0.3))
    assert importance(looped, text()).sizes["layer"] == 8
    states = tap(looped, text(1)[0])
    assert np.isfinite(states["attention_out"].to_numpy()).all()
    # Two of three layers run three times: behind layers 2, 4 and 6 the control is in the state, and nowhere else.
    missing = (
        states.state[:-1].to_numpy() + (states.attention_out + states.mlp_out).to_numpy() - states.state[1:].to_numpy()
    )
    assert np.flatnonzero(np.abs(missing).max(axis=(1, 2)) > 1e-9).tolist() == [2, 4, 6]
    assert states.attrs["controlled_layers"] == "2, 4, 6"
    assert "controlled_layers" not in tap(repeat(network(), layers=(1, 3), passes=3), text(1)[0]).attrs
    assert np.isfinite(evaluate(looped, text()).loss)


def test_the_gradient_of_a_shared_weight_is_the_sum_over_its_passes(network, text):
    whole, ids = network(), torch.as_tensor(text(1))
    apart = stacked(whole, 1, 3, 3)
    apart(ids, use_cache=False).logits.square().mean().backward()
    looped = repeat(whole, layers=(1, 3), passes=3).model
    looped(ids, use_cache=False).logits.square().mean().backward()
    of_passes = [apart.model.layers[i].mlp.down_proj.weight.grad for i in (1, 3, 5)]
    torch.testing.assert_close(whole.layers[1].mlp.down_proj.weight.grad, sum(of_passes), rtol=1e-9, atol=1e-12)


def test_encoders_repeat_too():
    torch.manual_seed(0)
    size = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 32}
    whole = load(transformers.BertModel(transformers.BertConfig(vocab_size=50, **size)).double())
    ids = torch.arange(8)[None]
    looped = repeat(whole, layers=(1, 2), passes=2)
    want = stacked(whole, 1, 2, 2)(ids).last_hidden_state
    assert torch.equal(looped.model(ids).last_hidden_state, want)


@pytest.mark.parametrize(("law", "k"), [({"controller": PID(1e39)}, 1), ({"recall": 3e38}, 2)])
def test_a_stream_that_is_not_finite_is_told_with_its_pass(network, text, law, k):
    looped = repeat(network(double=False), layers=(1, 3), passes=4, **law)
    with pytest.raises(ValueError, match=f"layers 1 to 2: the stream is not finite after pass {k} of 4"):
        logits(looped, text(1))


def test_a_closing_layer_alone_is_refused(network, text):
    looped = repeat(network(), layers=(1, 3), passes=2)
    with pytest.raises(ValueError, match="closes a pass of the layers 1 to 2"):
        looped.layers[2](torch.zeros(1, 4, 24, dtype=torch.float64), attention_mask=None,
                         position_embeddings=(torch.ones(1, 4, 8).double(), torch.zeros(1, 4, 8).double()))  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": (2, 2)}, "the span is empty"),
        ({"layers": (3, 1)}, "0 <= a < b <= 4, got"),
        ({"layers": (1, 5)}, r"0 <= a < b <= 4, got \(1, 5\)"),
        ({"layers": (-1, 2)}, r"0 <= a < b <= 4, got \(-1, 2\)"),
        ({"layers": 3}, r"layers must be \(a, b\)"),
        ({"layers": (0.5, 2)}, "must be a whole number"),
        ({"passes": 0}, "passes must be a whole number of at least 1, got 0"),
        ({"passes": 2.5}, "passes must be a whole number"),
        ({"recall": -0.1}, "recall leads back to h_0 and must be at least 0"),
        ({"recall": float("nan")}, "recall"),
        ({"controller": control.tf(1, [1, 1])}, "continuous-time"),
        ({"controller": 0.5}, "controller must be a PID"),
    ],
)
def test_bad_input_is_one_clear_line(network, options, message):
    with pytest.raises(ValueError, match=message):
        repeat(network(), **{"layers": (1, 3), "passes": 2, **options})


def test_a_network_that_is_repeated_is_changed_no_further(network):
    looped = repeat(network(), layers=(1, 3), passes=2)
    for change in (
        lambda: repeat(looped, layers=(0, 1), passes=2),
        lambda: drop(looped, attention=[1]),
        lambda: drop_heads(looped, [(1, 0)]),
    ):
        with pytest.raises(ValueError, match="layers of this network are repeated: change the source first"):
            change()


def test_a_span_whose_ends_differ_in_width_is_refused(network):
    whole = network()
    whole.layers[2].input_layernorm.weight = torch.nn.Parameter(torch.ones(12).double())
    with pytest.raises(ValueError, match="width 24 in front of layer 1 and 12 behind layer 1"):
        repeat(whole, layers=(1, 2), passes=2)
