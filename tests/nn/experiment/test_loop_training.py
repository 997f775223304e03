"""One run of a looped network: equal seeds give equal numbers, the penalty lowers the radius, gains are held stable."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ctrlattn import InputError  # noqa: E402
from ctrlattn.looped import spectrum  # noqa: E402
from ctrlattn.nn.experiment import loop_training  # noqa: E402
from ctrlattn.nn.experiment.loop_settings import LoopSettings  # noqa: E402
from ctrlattn.nn.experiment.loop_training import (  # noqa: E402
    build_loop,
    copied,
    fit_loop,
    hold_stable,
    on_device,
    sample_map,
    state_after,
)
from ctrlattn.nn.modules.pass_radius import pass_radius  # noqa: E402
from ctrlattn.stability import pass_poles  # noqa: E402

SMALL = LoopSettings(
    "prefix-sums", "plain", 0, steps=12, batch=8, dim=6, hidden=8, size=4, passes=4, examples=64, marks=3
)


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_equal_seeds_give_equal_numbers_and_the_again_arm_others():
    (run, weights), (same, again) = fit_loop(SMALL), fit_loop(SMALL)
    assert not equal(weights[0], weights[-1])  # what is kept at a mark does not train on
    assert run == same
    assert all(equal(a, b) for a, b in zip(weights, again, strict=True))
    assert run["marks"] == [4, 8, 12]
    other, _ = fit_loop(replace(SMALL, arm="plain-again"))
    assert other["losses"] != run["losses"]
    # The A/A arm is the plain arm of another seed, to the last bit.
    shifted, _ = fit_loop(replace(SMALL, seed=1_000_003))
    assert shifted["losses"] == other["losses"]
    assert fit_loop(replace(SMALL, arm="plain-again"))[0] == other


@pytest.mark.parametrize("arm", ["plain", "parcae", "recall"])
def test_training_is_on_the_device_that_is_asked_for(monkeypatch, arm):
    """A device without numbers stands for any: what were left on the cpu would meet it and raise."""

    class Met(Exception):
        pass

    def loss_of(logits, answers):
        assert (logits.device.type, answers.device.type) == ("meta", "meta")
        raise Met

    monkeypatch.setattr(loop_training, "cross_entropy", loss_of)
    with pytest.raises(Met):
        fit_loop(replace(SMALL, arm=arm), device="meta")


@pytest.mark.parametrize("form", ["radius", "norm"])
def test_the_penalty_is_on_the_device_of_the_network(form):
    settings = replace(SMALL, penalty_form=form)
    network = on_device(build_loop(settings), "meta")
    inputs = torch.empty(4, 4, 1, device="meta")
    h = state_after(network, inputs, 2)
    assert loop_training._penalty(network, inputs, h, settings, torch.Generator()).device.type == "meta"


def test_gain_and_recall_stay_on_the_cpu_in_float64():
    network = build_loop(SMALL)
    network.hold_law(0.3, 0.2)
    names = set(network.state_dict())
    on_device(network, "meta")
    assert {name: value.device.type for name, value in network.state_dict().items()} == {
        name: "cpu" if name == "gains" else "meta" for name in names
    }
    assert (network.gains.dtype, network.gains.tolist()) == (torch.float64, [0.3, 0.2])


@pytest.mark.parametrize("arm", ["plain", "penalty", "held", "parcae"])
def test_a_run_in_float64_is_that_of_float32_but_for_rounding(arm):
    single, double = (replace(SMALL, arm=arm, steps=4, marks=1, hold_every=2, dtype=t) for t in ("float32", "float64"))
    start = build_loop(single).state_dict()
    assert all(
        torch.equal(value.double(), start[name].double()) for name, value in build_loop(double).state_dict().items()
    )
    (run, weights), (other, doubles) = fit_loop(single), fit_loop(double)
    assert {value.dtype for value in doubles[0].values()} == {torch.float64}
    assert {value.dtype for name, value in weights[0].items() if name != "gains"} == {torch.float32}
    assert weights[0]["gains"].dtype == torch.float64
    away = np.abs(np.subtract(run["losses"], other["losses"]))
    assert away.max() < 1e-4
    assert (away > 0).all()
    assert all(float(np.float32(loss)) == loss for loss in run["losses"])
    assert not any(float(np.float32(loss)) == loss for loss in other["losses"])


def test_arms_of_a_seed_start_alike():
    plain = build_loop(SMALL).state_dict()
    for arm in ("outer", "recall", "parcae", "held"):
        other = build_loop(replace(SMALL, arm=arm)).state_dict()
        assert all(torch.equal(other[name], plain[name]) for name in plain)
    losses = {arm: fit_loop(replace(SMALL, arm=arm))[0]["losses"] for arm in ("plain", "outer", "random", "recall")}
    assert len({tuple(loss) for loss in losses.values()}) == 4


@pytest.mark.slow
def test_either_penalty_lowers_the_radius():
    settings = replace(SMALL, arm="random", steps=60, batch=16, rate=1e-2)
    strong = [
        replace(settings, arm="penalty", penalty=30.0, penalty_form=form, most_radius=0.3)
        for form in ("radius", "norm")
    ]
    inputs, radii = torch.tensor([[[1.0], [-1.0], [1.0], [1.0]]]), []
    for each in (settings, *strong):
        network = copied(build_loop(each), fit_loop(each)[1][-1])
        h = state_after(network, inputs, 4)
        radii.append(pass_radius(network.pass_map(network.embed(inputs)), h, rounds=200).radius.item())
    # The inner norm leaves an eigenvalue of 1 along h: what is above it is what a penalty can lower.
    assert max(radii[1:]) - 1 < 0.5 * (radii[0] - 1)


def test_held_gains_leave_the_measured_spectrum_stable():
    network = build_loop(SMALL)
    with torch.no_grad():
        network.layers[0].fc2.weight.mul_(6)  # so that some eigenvalues are far outside
    inputs = torch.tensor([[[1.0], [-1.0], [1.0], [1.0]], [[-1.0], [-1.0], [1.0], [-1.0]]])
    values = []
    for problem in inputs:
        step, start = sample_map(network, problem)
        values.append(spectrum(step, state_after(copied(network).double(), problem.double(), 4)).eigenvalues)
        assert torch.equal(start, copied(network).double().embed(problem.double()))
    everything = np.concatenate(values)
    assert abs(pass_poles(None, everything)).max() > 1
    hold_stable(network, inputs, 4)
    law = network.law
    assert law.recall == pytest.approx(1.1 * max(0.0, everything.real.max() - 1))
    poles = abs(pass_poles(law.controller, everything, law.recall))
    assert poles.max() < 1
    w = 1 + law.recall - everything  # closed form: 0 < g < 2 Re w/|w|^2
    assert law.law.kp == pytest.approx(min(1.0, 0.9 * (2 * w.real / abs(w) ** 2).min()))


def test_a_loss_that_is_not_finite_ends_the_run(monkeypatch):
    original = torch.nn.functional.cross_entropy
    calls = []

    def broken(*arguments):
        calls.append(1)
        return original(*arguments) * (float("nan") if len(calls) > 5 else 1.0)

    monkeypatch.setattr("ctrlattn.nn.experiment.loop_training.cross_entropy", broken)
    run, weights = fit_loop(SMALL)
    assert (run["status"], run["marks"], len(weights), len(calls)) == ("not finite", [4], 1, 6)


def test_settings_that_make_no_run_are_refused():
    for change in ({"arm": "none"}, {"task": "chess"}, {"steps": 0}, {"passes": 1}, {"penalty_form": "x"}, {"dim": 0}):
        with pytest.raises(InputError):
            build_loop(replace(SMALL, **change))
