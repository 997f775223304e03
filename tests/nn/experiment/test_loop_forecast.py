"""What is said at the trained passes: closed forms of linear loops, the three rules, and the tuned law."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ctrlattn.nn.experiment.loop_forecast import _Trained, eigenvalues_at, forecast, held_out, solved, tuned_law  # noqa: E402
from ctrlattn.nn.experiment.loop_settings import LoopSettings  # noqa: E402
from ctrlattn.nn.experiment.loop_training import build_loop  # noqa: E402
from ctrlattn.stability import pass_poles  # noqa: E402

SETTINGS = LoopSettings("prefix-sums", "parcae", 0, dim=4, hidden=4, size=4, passes=5)


def linear(decays, into=1.0):
    """F(h) = A h + B e: the tied layer does nothing."""
    network = build_loop(SETTINGS)
    with torch.no_grad():
        network.layers[0].inner = False
        for parameter in network.layers.parameters():
            parameter.zero_()
        a = torch.tensor(decays)
        network.log_step.zero_()
        network.decay.copy_(torch.log(-torch.log(a)))
        network.into.fill_(into)
    return network


def test_a_linear_loop_has_the_poles_residual_and_rest_point_of_its_formula():
    a = torch.tensor([0.9, 0.5, 0.3, 0.2])
    said = forecast(linear(a.tolist()), SETTINGS)
    assert said["radius"] == pytest.approx([0.9] * 3, rel=1e-6)
    assert said["rest"] == pytest.approx([0.9] * 3, rel=1e-6)
    network, (inputs, _) = linear(a.tolist()), held_out(SETTINGS)
    e = network.embed(inputs[0]).detach()
    rest = e / (1 - a)
    h = rest + a**5 * (e - rest)
    assert said["residual"][0] == pytest.approx(((a * h + e - h).norm() / h.norm()).item(), rel=1e-5)
    assert said["collapse"] == {"poles": False, "residual": said["residual"][0] > 0.1, "rest": False}
    values = [complex(*v) for v in said["eigenvalues"][0]]
    assert sorted(v.real for v in values) == pytest.approx(sorted(np.repeat(a.numpy(), 4)), rel=1e-6)


def test_each_rule_is_a_majority(monkeypatch):
    monkeypatch.setattr(
        "ctrlattn.nn.experiment.loop_forecast._at_trained",
        lambda network, problem, passes: next(rows),
    )
    network = linear([0.5] * 4)
    none = np.array([0.5 + 0j])
    for answers, expected in (
        ([(1.1, 0.2, None), (1.2, 0.05, 1.5), (0.9, 0.05, 0.9)], {"poles": True, "residual": False, "rest": True}),
        ([(0.9, 0.2, 0.5), (0.9, 0.2, 0.5), (1.5, 0.01, None)], {"poles": False, "residual": True, "rest": False}),
    ):
        rows = iter([_Trained(*row, none) for row in answers])
        assert forecast(network, SETTINGS)["collapse"] == expected


def test_a_rest_point_of_another_answer_is_none():
    # B < 0 turns the sign of h on the way to rest, so the answer at rest is another than after 5 passes.
    with torch.no_grad():
        network = linear([0.9] * 4, into=-0.02)
        network.read.bias.zero_()
    said = forecast(network, SETTINGS)
    assert said["rest"] == [None] * 3
    assert said["collapse"]["rest"]
    assert not said["collapse"]["poles"]


def test_a_problem_is_solved_where_all_its_places_are_right():
    logits = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
    assert solved(logits, torch.tensor([[1, 0], [1, 0]])).tolist() == [True, False]
    assert solved(logits[:, 0], torch.tensor([1, 0])).tolist() == [True, False]


def test_problems_for_testing_are_the_same_for_all_arms_and_others_than_those_for_training():
    a, b = held_out(SETTINGS), held_out(replace(SETTINGS, arm="plain", seed=5))
    assert torch.equal(a[0], b[0])
    assert a[0].shape == (512, 4, 1)


def test_the_tuned_law_meets_what_was_asked_on_the_measured_spectrum():
    values = [-1.5, 0.2 + 0.6j, 0.2 - 0.6j]
    law = tuned_law({"eigenvalues": [[[complex(v).real, complex(v).imag] for v in values]]}, 8)
    assert law["recall"] == 0
    poles = np.abs(1 + law["gain"] * (np.array(values) - 1))
    assert law["poles"] == pytest.approx(poles.max())
    assert poles.max() < 0.02 ** (1 / 32) + 0.05
    beyond = tuned_law({"eigenvalues": [[[1.5, 0.0], [0.0, 0.0]]]}, 8)
    assert beyond["recall"] > 0.5  # the odd-number limit
    from ctrlattn.controllers import PID

    assert np.abs(pass_poles(PID(beyond["gain"]), [1.5, 0.0], beyond["recall"])).max() == pytest.approx(beyond["poles"])
    assert "recall" in tuned_law({"eigenvalues": [[[100.0, 0.0], [-100.0, 0.0]]]}, 8)["why"]


@pytest.mark.slow
def test_a_large_state_gives_its_outermost_eigenvalues():
    scale = torch.linspace(-3, 2, 1000, dtype=torch.float64)
    values = eigenvalues_at(lambda h: scale * h, torch.zeros(1000, dtype=torch.float64))
    assert values.real.max() == pytest.approx(2)
    assert values.real.min() == pytest.approx(-3)
    assert len(values) < 40
