"""A repeated network that computes something else than its span run by hand is refused, with and without a cache."""

import pytest
import torch

from ctrlattn import PID, InputError
from ctrlattn.checkpoints import repeat
from ctrlattn.checkpoints.network.repeat_proof import (
    _error_of_a_cache,
    _read_and_other,
    _require_cache,
    require_repeated,
)
from ctrlattn.passes import Passes

NAIVE, CONTROLLED = Passes(None), Passes(PID(0.3, 0.1), recall=0.2)


@pytest.fixture
def source(of_type):
    return of_type("olmo2")


@pytest.mark.parametrize("loop", [NAIVE, CONTROLLED])
def test_the_law_that_is_said_is_the_law_that_runs(source, loop):
    model = repeat(source, layers=(1, 3), passes=3, controller=loop.controller, recall=loop.recall).model
    require_repeated(source, model, (1, 3), 3, loop, 1e-9)
    others = [((1, 3), 2, loop), ((1, 2), 3, loop), ((1, 3), 3, Passes(PID(0.3, 0.1), recall=0.3))]
    for span, passes, law in others:
        with pytest.raises(InputError, match=r"run by hand differ by [\d.e+-]+ of the largest number"):
            require_repeated(source, model, span, passes, law, 1e-9)


def test_places_of_the_cache_that_are_shared_are_seen(source):
    model = repeat(source, layers=(1, 3), passes=2).model
    for module in model.model.layers[3].modules():
        if hasattr(module, "layer_idx"):
            module.layer_idx = 1
    with pytest.raises(InputError, match="does not run with layers repeated on input_ids, use_cache"):
        require_repeated(source, model, (1, 3), 2, NAIVE, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("prompt", [1, 6])
def test_other_numbers_with_a_cache_are_seen(source, prompt):
    """Of eight tokens six come at once, and two one by one."""
    model = repeat(source, layers=(1, 3), passes=2).model
    model.model.layers[3].mlp.register_forward_hook(lambda m, args, y: 1.01 * y if y.shape[1] == prompt else y)
    with pytest.raises(InputError, match=r"token by token, with a cache, .* and the source by [\d.e-]+: its layers"):
        require_repeated(source, model, (1, 3), 2, NAIVE, 1e-9)


def test_a_network_that_does_not_run_says_why(source):
    model = repeat(source, layers=(1, 3), passes=2).model
    model.model.layers[2] = torch.nn.Linear(3, 3)
    with pytest.raises(InputError, match="Olmo2ForCausalLM does not run with layers repeated on input_ids"):
        require_repeated(source, model, (1, 3), 2, NAIVE, 1e-9)


def test_a_stream_that_a_layer_writes_over_is_seen(source):
    """The loop would be pulled back to what the layer has left of h_0; without a pull back nothing reads it again."""

    def in_place(module, args, kwargs):
        kwargs["hidden_states"].mul_(1.5)  # attention of this type reads the stream itself

    source.layers[1].self_attn.register_forward_pre_hook(in_place, with_kwargs=True)
    assert len(repeat(source, layers=(1, 3), passes=2).layers) == 6
    with pytest.raises(InputError, match="run by hand differ"):
        repeat(source, layers=(1, 3), passes=2, recall=0.5)


def test_a_network_that_does_not_run_by_itself_is_told_apart(source):
    model = repeat(source, layers=(1, 3), passes=2).model
    source.model.model.layers[0].register_forward_pre_hook(lambda module, args: 1 / 0)
    with pytest.raises(InputError, match="does not run on them, without any repetition: ZeroDivisionError"):
        require_repeated(source, model, (1, 3), 2, NAIVE, 1e-9)


def test_a_network_that_draws_its_output_says_so(source):
    model = repeat(source, layers=(1, 3), passes=2).model
    source.model.model.norm.register_forward_hook(lambda module, args, y: y + torch.randn_like(y))
    with pytest.raises(InputError, match="Olmo2ForCausalLM gives another output each time"):
        require_repeated(source, model, (1, 3), 2, NAIVE, 1e-9)


class Chosen(torch.nn.Module):
    """A layer that writes over its stream and may read which tokens an earlier one has chosen."""

    def __init__(self, read, strict):
        super().__init__()
        self.read, self.strict = read, strict

    def forward(self, x, chosen):
        if self.strict and not chosen.any():
            raise RuntimeError("nothing was chosen")
        return x.mul_(2.0) + self.read * chosen


@pytest.mark.parametrize(
    ("read", "strict", "name"), [(0.0, False, ""), (1.0, False, "chosen"), (0.0, True, "chosen"), (1.0, True, "chosen")]
)
def test_an_argument_that_another_pass_changes_is_told_where_it_is_read(read, strict, name):
    x, chosen = torch.ones(1, 3, 2), torch.tensor([[[1.0], [0.0], [1.0]]])
    layer, before = Chosen(read, strict), {"x": x, "chosen": chosen}
    assert _read_and_other(layer, before, {"x": x + 1, "chosen": chosen.flip(1) * 2}) == name
    assert _read_and_other(layer, before, {"x": x + 1, "chosen": chosen.clone()}) == ""
    assert torch.equal(x, torch.ones(1, 3, 2))


def in_float32(layer, fault=0.0, where=None):
    """The MLP of a layer adds a product in float32, whose digits depend on how many tokens there are."""
    generator = torch.Generator().manual_seed(0)

    def scored(module, args, y):
        wide = y.float().repeat(1, 1, 40)
        scores = wide @ torch.randn(wide.shape[-1], y.shape[-1], generator=generator.manual_seed(0))
        return y + 0.01 * (1 + fault * (y.shape[1] == where)) * scores.double()

    layer.mlp.register_forward_hook(scored)


def test_digits_of_a_coarser_type_are_no_fault(source):
    """They differ by more than what rounding is in the network's own type, which the last line shows."""
    for layer in source.layers:
        in_float32(layer)
    model = repeat(source, layers=(1, 3), passes=2).model
    ids = torch.arange(8)[None]
    require_repeated(source, model, (1, 3), 2, NAIVE, 1e-9)
    assert _error_of_a_cache(model, ids) > 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("fault", [1e-5, 1e-6])  # what 1e-7 of this MLP changes is rounding of float64
def test_a_fault_beside_digits_of_a_coarser_type_is_seen(source, fault):
    for layer in source.layers:
        in_float32(layer)
    model = repeat(source, layers=(1, 3), passes=2).model
    model.model.layers[3].mlp.register_forward_hook(lambda m, args, y: (1 + fault) * y if y.shape[1] == 1 else y)
    with pytest.raises(InputError, match=r"token by token, with a cache, .*: its layers share places"):
        require_repeated(source, model, (1, 3), 2, NAIVE, 1e-9)


@pytest.mark.slow
def test_a_fault_inside_of_a_coarser_type_is_seen(source):
    model = repeat(source, layers=(1, 3), passes=2).model
    in_float32(model.model.layers[3], fault=1e-3, where=1)
    with pytest.raises(InputError, match="token by token"):
        _require_cache(source, model, {"input_ids": torch.arange(8)[None]}, 1e-9)


def held_in_float32(layer, fault=0.0):
    """The MLP of a layer adds a product in float32, which a token that comes alone gets by another formula."""
    generator = torch.Generator()

    def added(module, args, y):
        x, matrix = y.float(), torch.randn(y.shape[-1], y.shape[-1], generator=generator.manual_seed(0))
        if y.shape[1] > 1:
            return y + (x @ matrix).double()
        half = y.shape[-1] // 2
        return y + (1 + fault) * (x[..., :half] @ matrix[:half] + x[..., half:] @ matrix[half:]).double()

    layer.mlp.register_forward_hook(added)


def test_two_formulas_of_one_state_in_a_coarser_type_are_told_from_two_states(source):
    """Rounded once they differ still, as the state of linear attention does; in the network's own type they do not."""
    ids, model = {"input_ids": torch.arange(8)[None]}, repeat(source, layers=(1, 3), passes=2).model
    held_in_float32(model.model.layers[3])
    assert _error_of_a_cache(model, ids["input_ids"]) > 1e-9
    # Its norms are in float32: a last digit of float64 may turn one of theirs, on some processors and not on others.
    assert _error_of_a_cache(source.model, ids["input_ids"]) < 1e-6
    _require_cache(source, model, ids, 1e-9)
    other = repeat(source, layers=(1, 3), passes=2).model
    held_in_float32(other.model.layers[3], fault=1e-6)
    said = r"one by one\. With all that .* coarser type in float64 it is \d\.\de-0[678] and \d\.\de-1[5-8]$"
    with pytest.raises(InputError, match=said):
        _require_cache(source, other, ids, 1e-9)
