"""Learned gains stay stable whatever is learned; an actuator clips without winding up."""

import control
import numpy as np
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


def held_by_hand(pid, gain, limit, errors):
    """u of a saturated PID in plain Python: the integral waits while u is clipped and e drives it further out."""
    integral, previous, before, controls = 0.0, errors[0], errors[0], []
    for e in errors[1:]:
        if pid.form == "printed":
            summed = integral + e
            u = gain * (pid.kp * e + pid.ki * summed + pid.kd * (e - previous))
        else:
            summed = pid.ema * e + (1 - pid.ema) * integral
            u = gain * (pid.kp * e + pid.ki * integral + pid.kd * (previous - before))
        controls.append(min(max(u, -limit), limit))
        if not (abs(u) > limit and u * gain * e > 0):
            integral = summed
        previous, before = e, previous
    return controls


@pytest.mark.parametrize("gain", [1.0, 0.5, -0.5])
@pytest.mark.parametrize(
    "pid", [PRINTED, CODE, PID(0.1, 0.6, 0.9), PID(0.1, 0.9, -0.7, form="ema", ema=0.5), PID(0.0, 1.0)]
)
def test_a_saturated_pid_is_the_recursion_by_hand(pid, gain):
    rng = np.random.default_rng(3)
    clipped = 0
    for _ in range(40):
        # Slow errors wind up and come back; their steps are what a derivative remembers.
        errors = np.cumsum(rng.normal(0, 0.7, 30)) + rng.normal(0, 0.3, 30)
        expected = held_by_hand(pid, gain, 0.8, errors.tolist())
        actuator = Actuator(pid, gain=gain, limit=0.8)
        signal = torch.tensor(errors)[:, None]
        state, controls = actuator.init(signal[0]), []
        for e in signal[1:]:
            u, state = actuator.step(e, state)
            controls.append(u.item())
        npt.assert_allclose(controls, expected, rtol=0, atol=2e-15)
        clipped += np.sum(np.abs(expected) == 0.8)
    assert 100 < clipped < 1100  # of 1160


def test_the_errors_that_a_derivative_remembers_are_not_held():
    # u = (e_k - e_{k-1}) + the integral that waits: after the jump the derivative is that of the newest two errors.
    actuator, e = Actuator(PID(0.0, 0.5, 1.0), limit=1.0), [torch.full((1,), x) for x in (0.0, 4.0, 4.25)]
    state = actuator.init(e[0])
    u, state = actuator.step(e[1], state)  # 2 + 4: clipped, the integral stays 0
    assert (u.item(), [s.item() for s in state]) == (1.0, [0.0, 4.0])
    u, state = actuator.step(-e[2] + 8.0, state)  # .5 * 3.75 - .25 = 1.625: clipped again
    assert (u.item(), [s.item() for s in state]) == (1.0, [0.0, 3.75])
    assert actuator.step(torch.zeros(1), state)[0].item() == -1.0  # - 3.75, clipped below; 0.5 * 0 of the integral


def test_saturation_is_left_at_once_with_anti_windup_and_late_without():
    errors = [1.0] * 20 + [-0.5] * 50

    def first_free(limit):
        actuator = Actuator(PID(0.0, 1.0), limit=limit)
        state = actuator.init(torch.ones(1))
        for k, error in enumerate(errors):
            u, state = actuator.step(torch.full((1,), error), state)
            if k >= 20 and abs(u.item()) < 1.0:
                return k - 20
        return None

    assert first_free(1.0) == 0  # the integral waited at 1: u = .5
    assert first_free(None) == 38  # it ran to 20, and 20 - .5 k is below 1 from the 39th error on


@pytest.mark.parametrize("controller", [PRINTED, CODE, LTIController(control.tf([0.5, 0.1], [1.0, -0.4, 0.2], 1))])
def test_without_saturation_nothing_is_held(controller):
    rng = np.random.default_rng(5)
    for _ in range(20):
        e = torch.tensor(rng.normal(size=(12, 3)))
        actuator = Actuator(controller, limit=100.0)
        ours, theirs = actuator.init(e[0]), controller.init(e[0])
        for error in e[1:]:
            (u, ours), (expected, theirs) = actuator.step(error, ours), controller.step(error, theirs)
            npt.assert_allclose(u, expected, rtol=0, atol=1e-15)
            for a, b in zip(ours, theirs, strict=True):
                npt.assert_allclose(a, b, rtol=0, atol=1e-15)


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
