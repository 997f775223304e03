"""Performance against the loop itself and exact margins; designs against a second method; clear refusals."""

from dataclasses import replace

import control
import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, FixedAttention, Loop, loop_transfer, margins, presets, rms_norm, simulate
from ctrlattn.design import (
    InfeasibleError,
    Spec,
    judge,
    judge_published,
    judgement,
    loop_shaping,
    lqr,
    lqr_margin,
    performance,
    tune,
)
from ctrlattn.frequency import sensitivity_response
from ctrlattn.linear import step_metrics
from ctrlattn.linear.mode_polynomial import BAND, reflection
from ctrlattn.stability import closed_loop_poles, disk_margin, is_stable, nu_gap, stability_interval

SPECTRUM = np.array([0.02, 0.1, 0.3, 0.6, 1.0])
COMPLEX = np.array([1.0, 0.4 + 0.3j, 0.4 - 0.3j, -0.2])
LAWS = [PID(0.6), PID(0.4, 0.3), PID(0.4, 0.2, -0.1), PID(0.8, 0.5, 0.05, form="ema"), PID(0.1, 0.4, 0.2, form="ema")]


def value_loop(pid):
    return Loop(CausalMean(), skip=0.0, feedback=1.0, controller=pid)


def stepped(pid, a, layers):
    """The response of the loop itself to a unit reference, from rest, from layer 1 on: no transfer function."""
    if np.iscomplexobj(a) and complex(a).imag:
        matrix = np.array([[a.real, -a.imag], [a.imag, a.real]])
    else:
        matrix = np.array([[complex(a).real]])
    x = np.zeros((len(matrix), 1))
    loop = Loop(FixedAttention(matrix), skip=0.0, feedback=1.0, controller=pid)
    target = np.zeros_like(x)
    target[0] = 1.0
    state = loop.init(x, target)._replace(controller=tuple(np.zeros_like(x) for _ in pid.init(x)), acting=True)
    y = [0j]
    for _ in range(layers):
        x, state, _ = loop.step(x, state)
        y.append(x[0, 0] + 1j * (x[1, 0] if len(x) > 1 else 0.0))
    return np.array(y)


@pytest.mark.parametrize("pid", LAWS, ids=str)
def test_real_modes_against_exact_margins_and_the_stepped_loop(pid):
    measured = performance(value_loop(pid), SPECTRUM)
    for i, a in enumerate(measured.a.real):
        transfer = loop_transfer(value_loop(pid), a)
        assert_allclose(measured.modulus_margin[i], margins(transfer).modulus_margin, rtol=1e-7)
        assert_allclose(measured.disk_margin[i], disk_margin(transfer).margin, rtol=1e-5)
        y = stepped(pid, a, 600).real
        expected = step_metrics(y, 1.0, final=y[-1])
        assert measured.settling[i] == expected.settling
        assert_allclose(measured.overshoot[i], expected.overshoot, atol=1e-8)
        assert_allclose(measured.steady_state_error[i], abs(expected.steady_state_error), atol=1e-8)


@pytest.mark.parametrize("pid", LAWS, ids=str)
def test_complex_modes_by_a_fine_grid_and_the_stepped_loop(pid):
    measured = performance(value_loop(pid), COMPLEX)
    omega = np.linspace(-np.pi, np.pi, 40_001)
    for i, a in enumerate(measured.a):
        assert measured.radius[i] == np.abs(closed_loop_poles(pid, a)).max()
        if not measured.stable[i]:
            continue
        s = sensitivity_response(pid, a, omega)
        assert_allclose(measured.modulus_margin[i], 1 / np.abs(s).max(), rtol=1e-6)
        assert_allclose(measured.disk_margin[i], 1 / np.abs(s - 0.5).max(), rtol=1e-6)
        y = stepped(pid, a, 900)
        outside = np.flatnonzero(np.abs(y - y[-1]) > BAND * np.abs(y[-1]))
        assert measured.settling[i] == outside[-1] + 1
        assert_allclose(measured.steady_state_error[i], abs(1 - y[-1]), atol=1e-8)


def test_narrow_peaks_near_the_circle_are_found():
    pid = PID(0.8, 0.5, 0.05)  # stable above 0.15 only; its poles cross at -1
    modes = [0.15 + 1e-6, 0.16, 1.82, 1.8238]
    measured = performance(value_loop(pid), modes)
    exact = [margins(loop_transfer(value_loop(pid), a)).modulus_margin for a in modes]
    assert_allclose(measured.modulus_margin, exact, rtol=1e-6)
    leaky = PID(0.2, 1.2, 0.1, form="ema")  # and a pair that crosses at an angle
    high = stability_interval(leaky)[1]
    modes = [high - 1e-5, high - 1e-3]
    exact = [margins(loop_transfer(value_loop(leaky), a)).modulus_margin for a in sorted(modes)]
    assert_allclose(performance(value_loop(leaky), modes).modulus_margin, exact, rtol=1e-5)


def test_unstable_modes_are_infinitely_bad_and_counted():
    measured = performance(presets.get("pidformer-printed"), [0.05, 0.05, 0.5, 0.9])
    assert measured.count.tolist() == [2, 1, 1]
    assert measured.stable_share == 0.5
    assert measured.worst() == {
        "modulus_margin": 0.0,
        "disk_margin": 0.0,
        "settling": np.inf,
        "overshoot": np.inf,
        "steady_state_error": np.inf,
    }
    part = measured.where(measured.stable).worst()
    assert 0 < part["modulus_margin"] < 1


def test_no_controller_reaches_nothing():
    measured = performance(value_loop(None), [0.3])
    assert (measured.modulus_margin[0], measured.disk_margin[0], measured.steady_state_error[0]) == (1.0, 2.0, 1.0)


def test_reflection_coefficients_agree_with_roots():
    rng = np.random.default_rng(0)
    roots = rng.uniform(0, 1.4, (300, 4)) * np.exp(2j * np.pi * rng.random((300, 4)))
    p = np.array([np.poly(r) for r in roots])
    assert_allclose(reflection(p) < 1, np.abs(roots).max(1) < 1)
    assert not reflection(np.array([1.0, 0.0, 1.0])) < 1  # on the circle


@pytest.mark.parametrize(
    ("terms", "form", "spec"),
    [
        ("P", "printed", Spec(modulus_margin=0.6, settling=10)),
        ("PI", "printed", Spec(disk_margin=0.4, settling=20, steady_state_error=0)),
        ("PD", "printed", Spec(modulus_margin=0.7, settling=6)),
        ("PID", "ema", Spec(modulus_margin=0.5, overshoot=0.2, steady_state_error=0.7)),
    ],
)
def test_tuned_gains_meet_the_specification_by_a_second_method(terms, form, spec):
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


def test_a_fault_of_the_search_is_not_taken_for_gains_that_are_not_there(monkeypatch):
    def broken(*_, **__):
        raise ValueError("a fault of ours")

    monkeypatch.setattr(judgement, "tune", broken)
    with pytest.raises(ValueError, match="a fault of ours"):
        judge(presets.get("pidformer-ema"), SPECTRUM)


def test_published_gains_are_judged():
    judgements = judge_published({"a": [0.0, 0.3, 1.0]}, ["neutreno", "pidformer-printed"], improve=False)
    p = judgements["neutreno"]["a"]
    assert_allclose([p.meets.modulus_margin, p.meets.steady_state_error], [0.4, 1 - 0.6 / 1.6])
    printed = judgements["pidformer-printed"]["a"]
    assert printed.meets is None
    assert printed.stable_part.steady_state_error == 0.0
    assert "unstable on 33.3% of the modes" in printed.in_words()


def test_better_gains_are_better_in_everything():
    actual = judge(presets.get("pidformer-ema"), SPECTRUM)
    assert actual.better is not None, actual.why_not
    was, now = actual.performance.worst(), actual.better.performance.worst()
    assert now["modulus_margin"] >= was["modulus_margin"]
    assert all(now[k] <= was[k] + 1e-9 for k in ("settling", "overshoot", "steady_state_error"))
    x = np.ones((len(SPECTRUM), 1))
    run = simulate(replace(actual.better.loop, predictor=FixedAttention(np.diag(SPECTRUM)), reference_gain=1.0), x, 60)
    assert np.all(np.abs(1 - run.state[-1]) <= was["steady_state_error"] + 1e-6)


def cost_of(pid, a, weights, layers=400):
    """The cost itself, summed along the loop from x = 1 with the reference 0."""
    loop = replace(value_loop(pid), predictor=FixedAttention(np.array([[a]])))
    x = np.ones((1, 1))
    state = loop.init(x, 0 * x)._replace(controller=(0 * x, 0 * x), acting=True)
    error, integral, control = weights
    cost, total = 0.0, 0.0
    for _ in range(layers):
        x, state, signals = loop.step(x, state)
        total += signals.error.item()
        cost += error * signals.error.item() ** 2 + integral * total**2 + control * signals.control.item() ** 2
    return cost


@pytest.mark.parametrize("a", [-0.4, 0.3, 1.0, 1.5])
@pytest.mark.parametrize("weights", [(1.0, 0.0, 1.0), (1.0, 0.2, 1.0), (0.5, 1.0, 0.1)])
def test_no_neighbour_of_the_lqr_gains_costs_less(a, weights):
    error, integral, control = weights
    named = {"error": error, "integral": integral, "control": control}
    pid = lqr(value_loop(None), a, **named)
    best = cost_of(pid, a, weights)
    steps = [(1e-3, 0), (-1e-3, 0)] + ([(0, 1e-3), (0, -1e-3)] if integral else [])
    for p, i in steps:
        assert cost_of(PID(pid.kp + p, pid.ki + i), a, weights) > best
    margin = margins(loop_transfer(value_loop(pid), a)).modulus_margin
    assert margin >= lqr_margin(value_loop(None), a, **named) - 1e-9


def test_lqr_of_one_mode_in_closed_form():
    # X^2 + X (r - q - alpha^2 r) - q r = 0, kp = alpha X/(r + X)
    alpha, q, r = 0.7, 2.0, 0.5
    b = r - q - alpha**2 * r
    x = (-b + np.sqrt(b * b + 4 * q * r)) / 2
    assert_allclose(lqr(value_loop(None), alpha, error=q, control=r).kp, alpha * x / (r + x), rtol=1e-12)


def test_refused():
    with pytest.raises(ValueError, match="weights must be"):
        lqr(value_loop(None), 0.5, control=0.0)
    with pytest.raises(ValueError, match="one real mode"):
        lqr(value_loop(None), 0.5 + 0.1j)
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
    with pytest.raises(ValueError, match="normalizer"):
        performance(replace(value_loop(PID(0.5)), normalizer=rms_norm), [0.5])
    with pytest.raises(TypeError, match="PID gains"):
        judge(value_loop(None), [0.5])


SHAPES = [(0.5, PID(0.3, 0.3)), (1.0, PID(0.3, 0.3)), (0.0, PID(0.5)), (0.9, PID(0.3, 0.2, 0.1, form="ema"))]


@pytest.mark.parametrize(("a", "weight"), SHAPES)
def test_a_shaped_loop_has_the_margin_it_promises(a, weight):
    shaped = loop_shaping(presets.get("neutreno"), a, weight)
    z = np.exp(1j * np.linspace(0, np.pi, 20_001)[1:])
    w = control.ss(*weight.realization(), 1, remove_useless_states=False)(z)
    g, k = w / (z - a), shaped.controller.system(z) / w
    attained = np.min(np.abs(1 + g * k) / np.sqrt((1 + np.abs(g) ** 2) * (1 + np.abs(k) ** 2)))
    assert shaped.margin - 1e-9 <= attained <= shaped.largest + 1e-9
    exact = margins(loop_transfer(shaped.loop, a))
    assert exact.stable
    assert exact.gain_margin >= shaped.gain_margin - 1e-9
    assert 1 / shaped.gain_margin >= exact.gain_reduction - 1e-9
    assert exact.phase_margin >= shaped.phase_margin - 1e-9
    final = performance(shaped.loop, [a]).steady_state_error[0]
    assert final < 1e-9 if weight.ki and weight.form == "printed" else final > 1e-3


@pytest.mark.parametrize(("a", "gain"), [(1.0, 1.0), (0.5, 0.3), (-0.7, 2.0)])
def test_no_proportional_gain_is_more_robust_than_the_formula_says(a, gain):
    """Of a plant of order 1 the optimum is a constant controller: found here by trying all."""
    z = np.exp(1j * np.linspace(0, np.pi, 4001)[1:-1])
    g = gain / (z - a)
    best = 0.0
    for k in np.linspace(-3, 3, 6001):
        if abs(a - gain * k) < 1:
            best = max(best, np.min(np.abs(1 + g * k) / np.sqrt((1 + np.abs(g) ** 2) * (1 + k * k))))
    assert_allclose(loop_shaping(presets.get("neutreno"), a, PID(gain)).largest, best, rtol=1e-3)


def test_a_shaped_loop_covers_the_modes_within_its_margin():
    shaped, covered = loop_shaping(presets.get("neutreno"), 0.5, PID(0.3, 0.2)), 0
    weight = control.ss(*PID(0.3, 0.2).realization(), 1, remove_useless_states=False)
    for a in np.linspace(-1.5, 2.5, 41):
        gap = nu_gap(shaped.plant, control.tf(1, [1, -a], 1) * control.tf(weight))
        if gap < shaped.margin - 1e-9:
            covered += 1
            assert performance(shaped.loop, [a]).stable.all()
    assert 5 < covered < 41


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ((0.5j, PID(1.0)), ValueError, "one real mode"),
        ((np.nan, PID(1.0)), ValueError, "finite"),
        ((-1.0, PID(1.0)), ValueError, "z = -1"),
        ((0.5, None), TypeError, "needs a weight"),
    ],
)
def test_shaping_refuses(arguments, error, word):
    with pytest.raises(error, match=word):
        loop_shaping(presets.get("neutreno"), *arguments)
    with pytest.raises(ValueError, match="excess"):
        loop_shaping(presets.get("neutreno"), 0.5, PID(1.0), excess=1.0)
