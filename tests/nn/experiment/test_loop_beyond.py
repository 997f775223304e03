"""Passes beyond training: accuracy and residual of loops whose answers are known, other controllers, motion."""

import math

import pytest

torch = pytest.importorskip("torch")

from ctrlattn.controllers import PID  # noqa: E402
from ctrlattn.nn.experiment.loop_beyond import beyond, collapsed, motion, over_passes, rescued  # noqa: E402
from ctrlattn.nn.experiment.loop_settings import LoopSettings  # noqa: E402
from ctrlattn.nn.experiment.loop_training import build_loop, on_device  # noqa: E402
from ctrlattn.passes import Passes  # noqa: E402

SETTINGS = LoopSettings("prefix-sums", "parcae", 0, dim=4, hidden=4, size=4, passes=3)


def linear(a, into):
    """F(h) = a h + into e with answers by the sign of the first feature, which is the bit itself at the start."""
    network = build_loop(SETTINGS)
    with torch.no_grad():
        network.layers[0].inner = False
        for parameter in (*network.layers.parameters(), network.embed.bias, network.read.bias):
            parameter.zero_()
        network.embed.weight.fill_(1.0)
        network.read.weight.copy_(torch.tensor([[-1.0, 0, 0, 0], [1.0, 0, 0, 0]]))
        network.log_step.zero_()
        network.decay.fill_(math.log(-math.log(a)))
        network.into.fill_(into)
    return network


def bits():
    inputs = torch.tensor([[[1.0], [-1.0]], [[-1.0], [-1.0]]])
    return inputs, (inputs[..., 0] > 0).long()


def test_accuracy_falls_at_the_pass_at_which_the_state_turns():
    # h_k = s e, s = rest + a^k (1 - rest), rest = -.4/(1 - .8) = -2: s < 0 from a^k < 2/3 on, which is k = 2.
    run = over_passes(linear(0.8, -0.4).requires_grad_(False), *bits(), 5)
    assert run["accuracy"] == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert run["places"] == run["accuracy"]
    s = [-2 + 0.8**k * 3 for k in range(6)]
    assert run["residual"] == pytest.approx([abs(0.8 * x - 0.4 - x) / abs(x) for x in s], rel=1e-4)


def test_problems_go_to_the_device_of_the_network(monkeypatch):
    class Met(Exception):
        pass

    def judged(logits, answers):
        assert (logits.device.type, answers.device.type) == ("meta", "meta")
        raise Met

    monkeypatch.setattr("ctrlattn.nn.experiment.loop_beyond.solved", judged)
    with pytest.raises(Met):
        over_passes(on_device(linear(0.8, -0.4), "meta"), *bits(), 2)


def test_a_law_acts_from_the_pass_it_is_given_for():
    network = linear(0.8, -0.4).requires_grad_(False)
    # From pass 1 on e = F(h) - h + 9 (h_1 - h): rest at (9 h_1 - .4)/9.2, which keeps the sign of h_1 = .4.
    held = over_passes(network, *bits(), 5, Passes(PID(0.1), recall=9.0), after=1)
    assert held["accuracy"] == [1.0] * 6
    slow = over_passes(network, *bits(), 5, Passes(PID(0.5)))  # pole .9: -2 + 3 (.9)^k < 0 from k = 4 on
    assert slow["accuracy"] == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    network.hold_law(0.5)
    assert over_passes(network, *bits(), 5)["accuracy"] == slow["accuracy"]


def test_a_collapse_is_a_fall_by_more_than_a_tenth():
    flat = [1.0] * 25
    for at, value, expected in ((6, 0.89, True), (12, 0.95, False), (24, 0.5, True), (5, 0.0, False)):
        curve = list(flat)
        curve[at] = value
        assert collapsed(curve, 3) is expected
    assert collapsed([0.49] * 25, 3) is None


def test_beyond_runs_eight_times_the_passes_at_three_sizes():
    result = beyond(linear(0.5, 1.0), SETTINGS)
    assert list(result["sizes"]) == ["1", "2", "4"]
    assert {len(curve) for size in result["sizes"].values() for curve in size.values()} == {25}
    assert result["collapsed"] is None  # it answers the bit and not the parity


def test_other_controllers_run_with_their_own_names():
    network = linear(0.8, -0.4)
    curves = rescued(network, SETTINGS, {"gain": 0.5, "recall": 0.0})
    assert curves["tuned"] == curves["blind"]
    assert curves["tuned from T"] == curves["blind from T"]
    assert curves["tuned"] != curves["tuned from T"]
    assert set(rescued(network, SETTINGS, {"why": "none"})) == {"blind", "blind from T"}


@pytest.mark.slow
def test_motion_of_a_linear_loop_is_that_of_its_pole():
    moving = motion(linear(0.6, 1.0), SETTINGS)
    assert moving["exponent"] == pytest.approx(math.log(0.6), rel=1e-6)
    assert moving["basin"] == [1.0, 1.0]
