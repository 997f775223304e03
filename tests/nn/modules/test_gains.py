"""Learned gains stay stable whatever is learned; an actuator clips without winding up."""

import control
import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn import PID, LTIController, stability_interval  # noqa: E402  (after the skip)
from ctrlattn.nn import Actuator, LearnedPID  # noqa: E402

PRINTED, CODE = PID(0.8, 0.5, 0.05), PID(0.8, 0.5, 0.05, form="ema", ema=0.3)


@pytest.mark.parametrize("form", ["printed", "ema"])
def test_no_step_of_an_optimizer_leaves_the_region(form):
    start, region = (PRINTED, (0.2, 1.0)) if form == "printed" else (CODE, (0.0, 1.0))
    law = LearnedPID(start, region=region)
    optimizer = torch.optim.SGD(law.parameters(), lr=10.0)
    for direction in torch.tensor([[1.0, 1.0, 1.0], [-1.0, 1.0, -1.0], [5.0, -5.0, 5.0]]):
        optimizer.zero_grad()
        gains = law.gains()
        (direction @ torch.stack([gains.kp, gains.ki, gains.kd])).backward()
        optimizer.step()
        low, high = stability_interval(law.fixed())
        assert low < region[0]
        assert high > region[1]
    assert law.fixed().kp != start.kp


@pytest.mark.parametrize("start", [PRINTED, CODE])
def test_learned_gains_begin_as_the_law_and_follow_it(start):
    law = LearnedPID(start).double()
    e = torch.randn(5, 3, 4, dtype=torch.float64)
    ours, theirs = law.init(e[0]), start.init(e[0])
    for error in e[1:]:
        (u, ours), (expected, theirs) = law.step(error, ours), start.step(error, theirs)
        npt.assert_allclose(u.detach(), expected, rtol=0, atol=1e-15)
    npt.assert_allclose(law.fraction()[0], start.fraction()[0], rtol=1e-15)
    npt.assert_array_equal(law.realization()[0], start.realization()[0])


def test_a_schedule_scales_what_the_controller_does():
    e = torch.randn(6, 4, dtype=torch.float64)
    actuator, law = Actuator(PRINTED, gain=0.25), PID(0.2, 0.125, 0.0125)
    ours, theirs = actuator.init(e[0]), law.init(e[0])
    for error in e[1:]:
        (u, ours), (expected, theirs) = actuator.step(error, ours), law.step(error, theirs)
        npt.assert_allclose(u, expected, rtol=0, atol=1e-15)
    for ours, theirs in ((actuator.fraction(), law.fraction()), (actuator.realization(), law.realization())):
        for a, b in zip(ours, theirs, strict=True):
            npt.assert_allclose(a, b, rtol=0, atol=1e-15)


@pytest.mark.parametrize("controller", [PID(0.1, 0.4), LTIController(control.tf([0.5, 0.0], [1.0, -1.0], 1))])
def test_a_clipped_integral_does_not_wind_up(controller):
    def settle(limit):
        # The plant x' = x + u far from its goal 10, then a goal of 0: how far does x shoot past?
        actuator, x, path = Actuator(controller, limit=limit), torch.zeros(1, dtype=torch.float64), []
        state = actuator.init(10 - x)
        for k in range(120):
            u, state = actuator.step((10.0 if k < 60 else 0.0) - x, state)
            x = x + torch.clamp(u, -0.5, 0.5)
            path.append(x.item())
        return max(path) - 10

    held, wound = settle(0.5), settle(None)
    assert held < 0.5 * wound


def test_within_its_limit_an_actuator_is_the_controller():
    e = torch.randn(6, 4, dtype=torch.float64)
    actuator = Actuator(CODE, limit=1e6)
    ours, theirs = actuator.init(e[0]), CODE.init(e[0])
    for error in e[1:]:
        (u, ours), (expected, theirs) = actuator.step(error, ours), CODE.step(error, theirs)
        npt.assert_array_equal(u, expected)
    for a, b in zip(ours, theirs, strict=True):
        npt.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: LearnedPID(PRINTED, region=(0.0, 1.0)), ValueError, r"not stable on the region \(0.0, 1.0\).*0.15 <"),
        (lambda: LearnedPID(PID(0.1, 5.0), region=(0.0, 1.0)), ValueError, "they are for no alpha"),
        (lambda: LearnedPID(CODE, region=(1.0, 0.0)), ValueError, "low <= high"),
        (lambda: LearnedPID(CODE, region=(0.0, 1.0), spread=1.5), ValueError, r"spread must lie in \(0, 1\)"),
        (lambda: LearnedPID(LTIController(control.tf([1], [1], 1))), TypeError, "start must be a PID"),
        (lambda: Actuator(None), TypeError, "an Actuator needs a controller"),
        (lambda: Actuator(PRINTED, limit=0.0), ValueError, "limit must be positive"),
        (lambda: Actuator(PRINTED, gain=float("nan")), ValueError, "gain must be finite"),
    ],
)
def test_what_cannot_be_built_says_why(build, error, message):
    with pytest.raises(error, match=message):
        build()
