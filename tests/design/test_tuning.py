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
from ctrlattn.looped import iterate
from ctrlattn.passes import Passes
from ctrlattn.stability import disk_margin, is_stable

SPECTRUM = np.array([0.02, 0.1, 0.3, 0.6, 1.0])


def value_loop(pid):
    return Loop(CausalMean(), skip=0.0, feedback=1.0, controller=pid)


@pytest.mark.slow
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
    modes = np.concatenate([np.linspace(0, 1, 30), [0.3 + 0.2j, 0.3 - 0.2j]])
    design = tune(value_loop(None), modes, spec, terms=terms, form=form)
    pid = design.controller
    assert all(slack >= 0 for slack in design.slack.values())
    assert [pid.kp == 0, pid.ki == 0, pid.kd == 0] == [t not in terms for t in "PID"]
    assert np.all(is_stable(pid, modes))
    omega = np.linspace(-np.pi, np.pi, 8001)
    s = sensitivity_response(pid, modes, omega)
    assert 1 / np.abs(s).max() >= (spec.modulus_margin or 0)
    assert 1 / np.abs(s - 0.5).max() >= (spec.disk_margin or 0)
    for a in modes[::3]:
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


@pytest.mark.parametrize(
    ("name", "exact"),
    [("modulus_margin", lambda L: margins(L).modulus_margin), ("disk_margin", lambda L: disk_margin(L).margin)],
)
def test_the_trade_off_is_one(name, exact):
    """Of the margin that is asked for: in a curve of the other one it does not rise everywhere."""
    design = tune(value_loop(None), SPECTRUM, Spec(**{name: 0.4}, settling=20), terms="PI")
    curve = design.trade_off
    assert len(curve.gains) >= 4
    assert np.all(np.diff(curve.values["settling"]) > 0)
    assert np.all(np.diff(curve.values[name]) > 0)
    for gains, margin in zip(curve.gains, curve.values[name], strict=True):
        worst = min(exact(loop_transfer(value_loop(PID(*gains)), a)) for a in SPECTRUM)
        assert_allclose(margin, worst, rtol=1e-5)


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
    spec = Spec(modulus_margin=0.5)
    with pytest.raises(ValueError, match="letters P, I, D"):
        tune(value_loop(None), [0.5], spec, terms="PX")
    with pytest.raises(ValueError, match="at least one eigenvalue"):
        tune(value_loop(None), [], spec)
    with pytest.raises(ValueError, match="finite"):
        tune(value_loop(None), [np.nan], spec)
    with pytest.raises(ValueError, match="low < high"):
        tune(value_loop(None), [0.5], spec, bounds={"P": (1.0, 0.0)})
    with pytest.raises(ValueError, match="most_recall is for the Passes"):
        tune(value_loop(None), [0.5], spec, most_recall=1.0)
    with pytest.raises(ValueError, match="most_recall must be at least the recall"):
        tune(Passes(recall=0.5), [0.5], spec, most_recall=0.2)


# --- passes of a looped network -----------------------------------------------------------------------------------


def test_the_best_gain_over_passes_balances_the_outermost_modes():
    # Poles 1 - g w: the fastest settling has 1 - g w_min = -(1 - g w_max), g = 2/(w_min + w_max).
    design = tune(Passes(), [0.5, -0.4, -2.0], Spec(settling=12), terms="P", curve=False)
    poles = 1 - design.controller.kp * np.array([0.5, 1.4, 3.0])
    assert np.abs(poles).max() < 0.02 ** (1 / 12) * 1.0001
    assert design.loop.recall == 0
    with pytest.raises(InfeasibleError, match="settling"):
        tune(Passes(), [0.5, -0.4, -2.0], Spec(settling=11), terms="P", curve=False)


def test_the_least_recall_that_meets_a_specification_is_where_the_closed_form_puts_it():
    # Real modes 3 and -1: with a gain alone the worst pole is 4/(2 w_mean) = 2/k_r, w = k_r - 2 and k_r + 2.
    # It settles within 10 passes once (2/k_r)^10 <= .02.
    design = tune(Passes(), [3.0, -1.0], Spec(settling=10), terms="P", most_recall=8.0, curve=False)
    least = 2 / 0.02**0.1
    assert least < design.loop.recall < least + 0.03 * 8
    assert design.performance.stable.all()
    # The certificate, by running the loop itself.
    run = iterate(lambda h: np.array([3.0, -1.0]) * h + 1.0, np.ones(2), 60, design.controller, design.loop.recall)
    off = np.abs(run.state - run.state[-1])
    assert np.all(off[10:] <= 0.02 * off[0] + 1e-12)


def test_what_no_controller_holds_is_said_with_its_eigenvalue():
    with pytest.raises(InfeasibleError, match=r"the real eigenvalue 3.3 .*odd-number limit.* 0.2 below.*above 2.3"):
        tune(Passes(), [3.3, 0.2], Spec(settling=50), terms="PID")
    with pytest.raises(InfeasibleError, match="with recall 2"):
        tune(Passes(), [3.3, 0.2], Spec(settling=50), terms="PID", most_recall=2.0)
    with pytest.raises(InfeasibleError, match="the real eigenvalue 1 of J"):
        tune(Passes(), [1.0], Spec(settling=50))


def test_modes_wholly_beyond_the_edge_are_held_by_a_negative_gain_that_is_asked_for():
    # They may be the leading part of a spectrum whose rest such a gain would lose.
    with pytest.raises(InfeasibleError, match=r"the real eigenvalue 2\.5 of J"):
        tune(Passes(), [2.0, 2.5], Spec(settling=10), terms="P")
    design = tune(Passes(), [2.0, 2.5], Spec(settling=10), terms="P", bounds={"P": (-2.0, 0.0)}, curve=False)
    assert design.controller.kp < 0
    assert design.performance.stable.all()


def test_a_complex_pair_beyond_the_edge_is_not_forbidden_and_a_derivative_may_hold_it():
    # Re lambda > 1: no gain alone is stable, and the limit, which is about real eigenvalues, says nothing.
    pair = [1.05 + 1.0j, 1.05 - 1.0j]
    with pytest.raises(InfeasibleError, match="settling"):
        tune(Passes(), pair, Spec(settling=100), terms="P", curve=False)
