"""Tied layers, pass after pass: what enters a pass, closed forms of linear loops, the law, and what is refused."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ctrlattn import InputError, looped  # noqa: E402
from ctrlattn.controllers import PID  # noqa: E402
from ctrlattn.looped.ways import held_input  # noqa: E402
from ctrlattn.nn.modules.looped import LoopedNetwork, TiedLayer, neighbours  # noqa: E402
from ctrlattn.passes import Passes  # noqa: E402


def network(**options):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return LoopedNetwork(2, 3, dim=5, hidden=7, **options).double()


def state(net, passes, inputs, law=None):
    return next(h for k, h in enumerate(net.states(inputs, law)) if k == passes)


@pytest.mark.parametrize("axes", [1, 2])
def test_neighbours_are_those_of_the_grid_and_zero_beyond_the_edge(axes):
    h = torch.arange(1.0, 1 + 2 * 4**axes).reshape(2, *[4] * axes, 1)
    seen = neighbours(h, axes)
    assert seen.shape == (2, *[4] * axes, 1 + 2 * axes)
    for at in np.ndindex(*h.shape[:-1]):
        expected = [h[at].item()]
        for axis in range(1, axes + 1):
            for step in (-1, 1):
                other = list(at)
                other[axis] += step
                expected.append(h[tuple(other)].item() if 0 <= other[axis] < 4 else 0.0)
        assert seen[at].tolist() == expected


def test_norms_stand_where_they_are_asked_for():
    h = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sizes = {}
    for norm in ("none", "inner", "outer", "both"):
        layer = TiedLayer(5, 7, 1, norm).double()
        sizes[norm] = layer(h).square().mean(-1)
        scaled = ((layer(1e3 * h) - 1e3 * h).norm() / (layer(h) - h).norm()).item()
        if norm == "inner":
            assert scaled == pytest.approx(1, rel=1e-5)  # the update does not see the length of h
        if norm == "none":
            assert scaled > 100
    assert torch.allclose(sizes["outer"], torch.ones(3, 4, dtype=torch.float64), rtol=1e-4)
    assert torch.allclose(sizes["both"], torch.ones(3, 4, dtype=torch.float64), rtol=1e-4)
    assert (sizes["inner"] - 1).abs().min() > 1e-3


def test_the_inner_norm_has_an_eigenvalue_of_1_along_the_state_and_the_outer_one_of_0():
    h = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for norm, eigenvalue in (("inner", 1.0), ("outer", None)):
        step = network(norm=norm).pass_map(h)
        moved = torch.func.jvp(step, (h,), (h,))[1]
        if eigenvalue is not None:
            assert torch.allclose(moved, eigenvalue * h, atol=1e-5)
        else:  # every token of F(h) has the same length, so no direction changes it
            assert (moved * step(h)).sum(-1).abs().max() < 1e-4


def test_injection_is_what_its_name_says():
    h, e = (torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    assert torch.equal(network().entering(e)(h), h)
    assert torch.equal(network(injection="add").entering(e)(h), h + e)
    net = network(injection="parcae")
    assert torch.allclose(net.entering(e)(h), h / 2 + math.log(2) * e, atol=1e-8)  # as it begins
    for name, shift in (("decay", 0.3), ("log_step", -0.2), ("into", 0.7)):
        getattr(net, name).data += shift * torch.arange(5)
    for discretisation in ("euler", "exact"):
        net.discretisation = discretisation
        decay, step, into = (p.detach().numpy() for p in (net.decay, net.log_step.exp(), net.into))
        carried, write = held_input(decay, step, into, discretisation)
        expected = torch.from_numpy(carried) * h + torch.from_numpy(write) * e
        assert torch.allclose(net.entering(e)(h), expected, atol=1e-14)


def test_a_parcae_network_is_the_published_way_with_its_layers_as_the_residual():
    net = network(injection="parcae", layers=2).requires_grad_(False)
    e = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    enter = net.entering(e)

    def residual(h, _):
        z = enter(h)
        return net.layers[1](net.layers[0](z)) - z

    values = {"decay": net.decay.numpy(), "step": net.log_step.exp().numpy(), "into": net.into.numpy()}
    run = looped.way("parcae", residual, **values).run(e, 6)
    mine = looped.iterate(net.pass_map(e), e, 6)
    assert torch.allclose(run.state, mine.state, atol=1e-12)


@pytest.mark.parametrize("gain", [1.0, 0.4])
@pytest.mark.parametrize("recall", [0.0, 0.5])
def test_a_linear_loop_has_its_closed_form(gain, recall):
    # With fc2 = 0 the layers do nothing, so F(h) = A h + B e, and each feature has the pole 1 + g (A - 1 - k_r).
    net = network(norm="none", injection="parcae")
    net.layers[0].fc2.weight.data.zero_(), net.layers[0].fc2.bias.data.zero_()
    net.decay.data += torch.linspace(-1, 1, 5)
    x = torch.ones(2, 4, 2, dtype=torch.float64)
    a = torch.exp(-net.log_step.exp() * net.decay.exp()).detach()
    b = (net.log_step.exp() * net.into).detach()
    e, pole = net.embed(x).detach(), 1 + gain * (a - 1 - recall)
    rest = (b + recall) / (1 + recall - a) * e
    expected = rest + pole**7 * (e - rest)
    law = Passes(PID(gain), recall=recall)
    assert torch.allclose(state(net, 7, x, law), expected, atol=1e-12)
    net.hold_law(gain, recall)
    assert torch.allclose(state(net, 7, x), expected, atol=1e-12)


def test_the_held_law_is_saved_with_the_weights():
    net, other = network(), network()
    net.hold_law(0.25, 1.5)
    other.load_state_dict(net.state_dict())
    assert other.law.controller.kp == 0.25
    assert other.law.recall == 1.5
    assert network().law.controller is None
    for gain, recall in ((0.0, 0.0), (0.5, -0.1)):
        with pytest.raises(InputError):
            net.hold_law(gain, recall)
    assert net.law.recall == 1.5


def test_the_answer_reads_places_or_their_mean():
    x = torch.randn(2, 4, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    net = network(axes=2)
    pooled = network(axes=2, pooled=True)
    pooled.load_state_dict(net.state_dict())
    h = state(net, 3, x)
    assert net(x, 3).shape == (2, 4, 4, 3)
    normed = h / (h.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    assert torch.allclose(net(x, 3), net.read(normed), atol=1e-12)
    assert torch.allclose(pooled(x, 3), net.read(normed.mean((1, 2))), atol=1e-12)


@pytest.mark.parametrize(
    ("options", "word"),
    [({"layers": 4}, "layers"), ({"axes": 3}, "axes"), ({"norm": "iner"}, "norm"), ({"injection": "x"}, "injection"),
     ({"discretisation": "zoh"}, "discretisation"), ({"dim": 0}, "dim")],
)  # fmt: skip
def test_what_is_no_network_is_refused(options, word):
    with pytest.raises(InputError, match=word):
        LoopedNetwork(2, 2, **options)
