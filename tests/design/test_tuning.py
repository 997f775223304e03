"""Gains from a specification meet it by a second method; what cannot be met says what binds."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, Loop, loop_transfer, margins
from ctrlattn.design import (
    InfeasibleError,
    Spec,
    tune,
)
from ctrlattn.frequency import sensitivity_response
from ctrlattn.stability import is_stable

SPECTRUM = np.array([0.02, 0.1, 0.3, 0.6, 1.0])


def value_loop(pid):
    return Loop(CausalMean(), skip=0.0, feedback=1.0, controller=pid)


@pytest.mark.parametrize(
    ("terms", "form", "spec"),
    [
        ("P", "printed", Spec(modulus_margin=0.6, settling=10)),
        ("PI", "printed", Spec(disk_margin=0.4, settling=20, steady_state_error=0)),
        ("PD", "printed", Spec(modulus_margin=0.7, settling=6)),
        ("PID", "ema", Spec(modulus_margin=0.5, overshoot=0.2, steady_state_error=0.7)),
    ],
)
def test_tuned_gains_meet_the_specification_by_a_second_method(stepped, terms, form, spec):
    modes = np.concatenate([np.linspace(0, 1, 60), [0.3 + 0.2j, 0.3 - 0.2j]])
    design = tune(value_loop(None), modes, spec, terms=terms, form=form)
    pid = design.controller
    assert all(slack >= 0 for slack in design.slack.values())
    assert [pid.kp == 0, pid.ki == 0, pid.kd == 0] == [t not in terms for t in "PID"]
    assert np.all(is_stable(pid, modes))
    omega = np.linspace(-np.pi, np.pi, 8001)
    s = sensitivity_response(pid, modes, omega)
    assert 1 / np.abs(s).max() >= (spec.modulus_margin or 0)
    assert 1 / np.abs(s - 0.5).max() >= (spec.disk_margin or 0)
    for a in modes[::6]:
        y = stepped(pid, a, 400)
        if spec.settling:
            late = y[int(spec.settling) :]
            assert np.all(np.abs(late - y[-1]) <= 0.05 * np.abs(y[-1]) + 1e-9)
        if spec.overshoot is not None:
            assert np.max((y * np.conj(y[-1])).real) <= (1 + spec.overshoot) * abs(y[-1]) ** 2 + 1e-9
        if spec.steady_state_error is not None:
            assert abs(1 - y[-1]) <= spec.steady_state_error + 1e-8


def test_the_best_proportional_margin_is_where_theory_puts_it():
    # P alone on one mode alpha: |S| is largest at z = -1, so the modulus margin is 1 - kp/(1 + alpha); error
    # (1 - alpha)/(1 - alpha + kp) <= e asks for kp = (1 - alpha)(1 - e)/e at least. Both meet in one gain.
    alpha, e = 0.5, 0.6
    kp = (1 - alpha) * (1 - e) / e
    margin = 1 - kp / (1 + alpha)
    design = tune(value_loop(None), [alpha], Spec(modulus_margin=margin - 1e-3, steady_state_error=e + 1e-3), terms="P")
    assert_allclose(design.controller.kp, kp, atol=5e-3)
    with pytest.raises(ValueError, match=r"Not met: .*modulus_margin or steady_state_error binds: without it"):
        tune(value_loop(None), [alpha], Spec(modulus_margin=margin + 0.02, steady_state_error=e - 0.01), terms="P")


def test_the_trade_off_is_one():
    design = tune(value_loop(None), SPECTRUM, Spec(modulus_margin=0.4, settling=20), terms="PI")
    curve = design.trade_off
    assert len(curve.gains) >= 4
    assert np.all(np.diff(curve.values["settling"]) > 0)
    assert np.all(np.diff(curve.values["modulus_margin"]) > 0)
    for gains, margin in zip(curve.gains, curve.values["modulus_margin"], strict=True):
        exact = min(margins(loop_transfer(value_loop(PID(*gains)), a)).modulus_margin for a in SPECTRUM)
        assert_allclose(margin, exact, rtol=1e-5)


def test_the_same_seed_the_same_gains():
    spec = Spec(modulus_margin=0.5, settling=15)
    first, again = (tune(value_loop(None), SPECTRUM, spec, terms="PD", seed=3).controller for _ in range(2))
    assert (first.kp, first.kd) == (again.kp, again.kd)


def test_infeasible_names_what_binds():
    with pytest.raises(ValueError, match=r"Not met: .*; steady_state_error binds: without it the rest can be met"):
        tune(value_loop(None), SPECTRUM, Spec(modulus_margin=0.6, steady_state_error=0.05), terms="P")
    # No strictly proper loop has |S| below 1 everywhere: a modulus margin of 1 with any gain at all.
    with pytest.raises(ValueError, match="it is the only requirement"):
        tune(value_loop(None), [0.5, 0.9], Spec(steady_state_error=0.0), terms="P")


def test_a_response_that_does_not_settle_is_said_so_and_has_no_number():
    # z - 1 + 1e-3: the only gain of the box is slow, and 2 % of the change is 3911 layers off.
    with pytest.raises(InfeasibleError, match="Not met: settling not within 1000 layers") as caught:
        tune(value_loop(None), [1.0], Spec(settling=8), terms="P", bounds={"P": (1e-3, 1.0001e-3)})
    assert caught.value.why.startswith("settling not within 1000 layers (asked <= 8 layers), at the nearest gains")


def test_refused():
    with pytest.raises(ValueError, match="at least one of"):
        Spec()
    with pytest.raises(ValueError, match=r"modulus_margin must be in \(0, 1\]"):
        Spec(modulus_margin=1.5)
    with pytest.raises(ValueError, match="settling must be not negative"):
        Spec(settling=-1)
    with pytest.raises(TypeError, match="overshoot must be a number"):
        Spec(overshoot="small")
    spec = Spec(modulus_margin=0.5)
    with pytest.raises(ValueError, match="letters P, I, D"):
        tune(value_loop(None), [0.5], spec, terms="PX")
    with pytest.raises(ValueError, match="at least one eigenvalue"):
        tune(value_loop(None), [], spec)
    with pytest.raises(ValueError, match="finite"):
        tune(value_loop(None), [np.nan], spec)
    with pytest.raises(ValueError, match="low < high"):
        tune(value_loop(None), [0.5], spec, bounds={"P": (1.0, 0.0)})
