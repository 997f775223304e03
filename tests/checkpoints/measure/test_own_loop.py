"""A network with tied weights is a loop by itself: the pass map, iterated, is the network's own passes."""

import runpy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from numpy.testing import assert_allclose  # noqa: E402  (after the skip)

from ctrlattn import PID, checkpoints, looped  # noqa: E402
from ctrlattn.checkpoints.measure.own_loop import own_loop  # noqa: E402
from ctrlattn.errors import InputError  # noqa: E402
from ctrlattn.linear.jacobian import jacobian_operator  # noqa: E402

SIZES = {"vocab_size": 40, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
IDS = [3, 1, 4, 1, 5, 9]


def albert(passes=4, inner=1):
    torch.manual_seed(0)
    config = transformers.AlbertConfig(**SIZES, embedding_size=8, num_hidden_layers=passes, inner_group_num=inner)
    model = transformers.AlbertModel(config).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model


@pytest.mark.parametrize(("passes", "inner"), [(2, 1), (5, 1), (3, 2)])
def test_albert_iterated_from_its_first_stream_is_albert(passes, inner):
    model = albert(passes, inner)
    loop = checkpoints.own_loop(checkpoints.load(model), IDS)
    assert (len(loop.states), loop.modules) == (passes, ("encoder.albert_layer_groups.0",))
    with torch.no_grad():
        last = model(torch.tensor([IDS])).last_hidden_state[0]
        run = looped.iterate(loop.F, loop.states[0], passes - 1).state
        assert_allclose(loop.F(loop.F(loop.states[-2])) if passes > 2 else last, last, rtol=0, atol=1e-10)
    assert_allclose(run, loop.states, rtol=0, atol=1e-10)


def test_the_passes_of_a_loop_can_be_controlled_and_differentiated():
    loop = checkpoints.own_loop(checkpoints.load(albert()), IDS)
    h = loop.states[1]
    with torch.no_grad():
        half = looped.iterate(loop.F, h, 1, PID(0.5)).state[-1]
        assert_allclose(half, 0.5 * (h + loop.F(h)), rtol=0, atol=1e-12)
        v, step = torch.ones_like(h), 1e-6
        expected = (loop.F(h + step * v) - loop.F(h - step * v)) / (2 * step)
    product = jacobian_operator(loop.F, h) @ np.ones(h.numel())
    assert_allclose(product, expected.numpy().ravel(), rtol=0, atol=1e-7)


def test_layers_that_are_called_in_turn_are_one_pass():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SIZES, num_hidden_layers=4)
    model = transformers.LlamaModel(config).double().eval()
    model.layers[2], model.layers[3] = model.layers[0], model.layers[1]
    loop = own_loop(model, {"input_ids": torch.tensor([IDS]), "use_cache": False})
    assert loop.modules == ("layers.0", "layers.1")
    streams = model(torch.tensor([IDS]), output_hidden_states=True).hidden_states
    assert_allclose(loop.F(loop.states[0]).detach(), streams[2][0].detach(), rtol=0, atol=1e-12)


class TwoScales(torch.nn.Module):
    """HRM in small: z_L <- tanh(L(z_L + z_H)) three times, then z_H <- tanh(H(z_H + z_L)); twice."""

    def __init__(self):
        super().__init__()
        self.low = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh())])
        self.high = torch.nn.ModuleList([torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh())])
        self.double().eval()

    def forward(self, x):
        low, high = 0 * x, x
        for _ in range(2):
            for _ in range(3):
                low = self.low[0](low + high)
            high = self.high[0](high + low)
        return high


def test_a_loop_inside_a_loop_has_two_scales():
    torch.manual_seed(0)
    x = torch.randn(1, 3, 4, dtype=torch.float64)
    model = TwoScales()
    fast = own_loop(model, {"x": x}, scale="fast")
    assert (fast.modules, len(fast.states)) == (("low.0",), 3)
    by_hand = model.low[0](fast.states[0]) + x[0]
    assert_allclose(fast.F(fast.states[0]).detach(), by_hand.detach(), rtol=0, atol=1e-14)
    with pytest.raises(ArithmeticError, match=r"pass 1 of TwoScales .* more parts than the input of low\.0"):
        own_loop(model, {"x": x})


def test_what_is_no_loop_is_refused():
    torch.manual_seed(0)
    model = transformers.LlamaModel(transformers.LlamaConfig(**SIZES, num_hidden_layers=3)).eval()
    with pytest.raises(InputError, match="LlamaModel has no slow loop of its own"):
        own_loop(checkpoints.load(model), IDS)
    with pytest.raises(InputError, match="AlbertModel has no fast loop"):
        own_loop(checkpoints.load(albert()), IDS, scale="fast")
    with pytest.raises(InputError, match="scale"):
        own_loop(checkpoints.load(albert()), IDS, scale="middle")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "scale", "passes"), [("albert", "slow", 4), ("dory", "slow", 2), ("hrm_text", "fast", 3)]
)
def test_types_of_transformers_that_loop(kind, scale, passes):
    tiny = networks()
    case = next(case for case in tiny["cases"]() if case[1] == kind)
    model = tiny["network"](*case)
    loop = own_loop(model, tiny["inputs"](*case[:2], model), scale=scale)
    assert len(loop.states) == passes
    assert loop.error < 1e-10
    with torch.no_grad():
        for h, after in zip(loop.states, loop.states[1:], strict=False):
            assert_allclose(loop.F(h), after, rtol=0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["hrm_text", "inkling2_loop_text"])
def test_a_state_of_several_parts_is_no_map_of_one_stream(kind):
    tiny = networks()
    case = next(case for case in tiny["cases"]() if case[1] == kind)
    model = tiny["network"](*case)
    with pytest.raises(ArithmeticError, match="The state has more parts"):
        own_loop(model, tiny["inputs"](*case[:2], model))


def networks():
    return runpy.run_path(str(Path(__file__).parents[3] / "simulations" / "stage" / "tiny_networks.py"))
