"""Gains with one number a feature: closed forms, d loops with numbers, and what refuses them."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import ctrlattn
from ctrlattn import (
    PID,
    CausalMean,
    FixedAttention,
    InputError,
    InputTypeError,
    Loop,
    SoftmaxAttention,
    design,
    layer_norm,
    linear,
    linearize,
    presets,
    rms_norm,
    sequential,
    simulate,
    stability,
    stream,
    unit_norm,
)
from ctrlattn.arrays import like, to_numpy
from ctrlattn.linear.mode_polynomial import attention_eigenvalue
from ctrlattn.stability.modes.regions import mode_intervals

N, D = 6, 3
RNG = np.random.default_rng(5)
SKIP, FEEDBACK = np.array([1.0, 0.4, -0.3]), np.array([-1.0, 0.2, 0.7])
ATTENTION = np.tril(RNG.random((N, N)))
ATTENTION /= ATTENTION.sum(-1, keepdims=True)


def signal(xp, *shape, seed=0):
    x = np.random.default_rng((seed, *shape)).standard_normal(shape)
    return like(x, xp.zeros(1, dtype=xp.float64))


@pytest.mark.parametrize("order", ["parallel", "sequential"])
@pytest.mark.parametrize("controller", [None, PID(0.3, 0.1, 0.05)])
@pytest.mark.parametrize("predictor", [CausalMean(), FixedAttention(ATTENTION)], ids=["mean", "fixed"])
def test_features_are_loops_of_their_own(xp, order, controller, predictor):
    x = signal(xp, 2, N, D)
    loop = Loop(
        predictor, skip=SKIP, feedback=FEEDBACK, controller=controller, reference_gain=0.8, order=order, hold_first=True
    )
    run = simulate(loop.to(x), x, 5)
    for j in range(D):
        own = replace(loop, skip=float(SKIP[j]), feedback=float(FEEDBACK[j])).to(x)
        alone = simulate(own, x[..., j : j + 1], 5)
        for signal_of_all, signal_alone in zip(run, alone, strict=True):
            assert_allclose(to_numpy(signal_of_all)[..., j], to_numpy(signal_alone)[..., 0], rtol=0, atol=1e-12)


@given(
    skip=st.lists(st.floats(-1, 1), min_size=D, max_size=D),
    feedback=st.lists(st.floats(-1, 1), min_size=D, max_size=D),
    kp=st.floats(-1, 1),
    beta=st.floats(-1, 1),
)
@settings(max_examples=30)
def test_a_proportional_loop_is_a_geometric_series_in_each_feature(skip, feedback, kp, beta):
    """All tokens alike and A = 11'/n: x_1 = (s + f) x_0, then x' = q x + kp beta x_0 with q = s + f - kp."""
    skip, feedback = np.array(skip), np.array(feedback)
    x = np.broadcast_to(np.array([1.0, -2.0, 0.5]), (N, D)).copy()
    loop = Loop(
        FixedAttention(np.full((N, N), 1 / N)), skip=skip, feedback=feedback, controller=PID(kp), reference_gain=beta
    )
    layers = 6
    q = skip + feedback - kp
    series = sum(q**k for k in range(layers - 1))
    expected = q ** (layers - 1) * (skip + feedback) * x + kp * beta * x * series
    assert_allclose(simulate(loop, x, layers).state[-1], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", [rms_norm, layer_norm, partial(unit_norm, eps=1e-3)], ids=["rms", "layer", "unit"])
@pytest.mark.parametrize("normalize_input", [False, True])
def test_softmax_attention_with_a_norm_is_the_formula(xp, norm, normalize_input):
    x = signal(xp, N, D)
    attention = SoftmaxAttention()
    loop = Loop(
        attention, skip=SKIP, feedback=FEEDBACK, normalizer=norm, normalize_input=normalize_input, controller=PID(0.2)
    ).to(x)
    run = simulate(loop, x, 3)
    for k in range(3):
        state = run.state[k]
        y = attention(norm(state) if normalize_input else state)
        u = 0.2 * (x - state) if k else 0.0 * x
        new = like(SKIP, x) * state + like(FEEDBACK, x) * y + u
        expected = new if normalize_input else norm(new)
        assert_allclose(to_numpy(run.state[k + 1]), to_numpy(expected), rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("normalizer", [None, rms_norm])
def test_a_constant_vector_is_the_number_on_the_compiled_path_too(xp, monkeypatch, normalizer):
    monkeypatch.setattr(sequential, "_WORTH_COMPILING", 0)
    x = signal(xp, 2, N, D)
    number = Loop(CausalMean(), skip=0.7, feedback=-0.4, order="sequential", normalizer=normalizer)
    vector = replace(number, skip=np.full(D, 0.7), feedback=np.full(D, -0.4)).to(x)
    assert sequential.is_compilable(number.terms, x)
    assert not sequential.is_compilable(vector.terms, x)
    for record in ("all", "last"):
        a, b = (simulate(loop, x, 7, record=record).state for loop in (number, vector))
        assert_allclose(to_numpy(a), to_numpy(b), rtol=0, atol=1e-12)


def test_gradients_reach_the_gains():
    x = signal(torch, N, D)
    skip, feedback = (torch.tensor(gain, requires_grad=True) for gain in (SKIP, FEEDBACK))
    for order in ("parallel", "sequential"):

        def last(skip, feedback, order=order):
            loop = Loop(
                CausalMean(), skip=skip, feedback=feedback, order=order, controller=PID(0.2), normalizer=rms_norm
            )
            return simulate(loop, x, 3, record="last").state

        assert torch.autograd.gradcheck(last, (skip, feedback))


def test_linearize_takes_all_features_at_once():
    """A = I (x) diag(s) + A_attention (x) diag(f)."""
    loop = Loop(FixedAttention(ATTENTION), skip=SKIP, feedback=FEEDBACK)
    expected = np.kron(np.eye(N), np.diag(SKIP)) + np.kron(ATTENTION, np.diag(FEEDBACK))
    assert_allclose(linearize(loop, RNG.standard_normal((N, D))).A, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("controller", [None, PID(0.3, 0.1, 0.05)])
def test_token_by_token_is_the_whole_sequence(xp, controller):
    x = signal(xp, 2, N, D)
    loop = Loop(
        CausalMean(), skip=SKIP, feedback=FEEDBACK, order="sequential", normalizer=rms_norm, controller=controller
    ).to(x)
    automaton = stream(loop, 4)
    pushed = xp.stack([automaton.push(x[:, i]) for i in range(N)], -2)
    assert_allclose(to_numpy(pushed), to_numpy(simulate(loop, x, 4, record="last").state), rtol=0, atol=1e-12)
    fresh = stream(loop, 4)
    with pytest.raises(InputError, match="skip must have one number for each of the 5 features of the signal, got 3"):
        fresh.push(signal(xp, 2, 5))


def test_a_sequence_of_loops_may_have_vectors_and_numbers(xp):
    x = signal(xp, N, D)
    first, second = Loop(CausalMean(), skip=like(SKIP, x)), Loop(CausalMean(), feedback=0.5)
    run = simulate([first, second], x, 2)
    middle = like(SKIP, x) * x - CausalMean()(x)
    assert_allclose(to_numpy(run.state[2]), to_numpy(middle + 0.5 * CausalMean()(middle)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("gain", "error", "message"),
    [
        (
            np.ones((2, 2)),
            InputError,
            r"skip must be a number, or \(d,\) with one number a feature, got shape \(2, 2\)",
        ),
        (np.ones(0), InputError, r"got shape \(0,\)"),
        (np.array([1.0, np.nan]), InputError, r"skip must be finite: found nan at index \(1,\)"),
        (np.array([1.0, 1j]), InputTypeError, "skip must be real"),
        (np.array([1, 2]), InputTypeError, "floating point"),
    ],
)
def test_a_gain_that_cannot_be_is_refused(gain, error, message):
    with pytest.raises(error, match=message):
        Loop(CausalMean(), skip=gain)
    if np.issubdtype(gain.dtype, np.floating):
        with pytest.raises(error, match=message.replace("skip", "feedback")):
            Loop(CausalMean(), feedback=torch.from_numpy(gain))


def test_a_gain_that_does_not_fit_the_signal_is_refused_before_the_scan():
    calls = []

    def predictor(x):
        calls.append(x)
        return x

    loops = [Loop(predictor), Loop(predictor, feedback=FEEDBACK)]
    with pytest.raises(
        InputError, match="feedback must have one number for each of the 4 features of the signal, got 3"
    ):
        simulate(loops, np.ones((2, 4)), 2)
    with pytest.raises(InputTypeError, match=r"feedback must be like the signal: .*\(Loop.to moves a whole loop"):
        simulate(loops, torch.ones(2, 3, dtype=torch.float64), 2)
    assert not calls
    with pytest.raises(InputError, match="feedback must have one number for each of the 1 features"):
        loops[1].step(np.ones((2, 1)), loops[1].init(np.ones((2, 1))))
    with pytest.raises(InputError, match="skip and feedback must have one number for each feature, got 3 and 2"):
        Loop(predictor, skip=SKIP, feedback=np.ones(2))


ANALYSES = {
    "mode": lambda loop: ctrlattn.mode(loop, 0.5),
    "loop_transfer": lambda loop: ctrlattn.loop_transfer(loop, 0.5),
    "pass_operator": lambda loop: ctrlattn.pass_operator(replace(loop, controller=None), N),
    "token_system": lambda loop: linear.token_system(loop, N),
    "open_loop_pole": lambda loop: linear.open_loop_pole(loop, 0.5),
    "attention_eigenvalue": lambda loop: attention_eigenvalue(loop, 0.5),
    "mode_intervals": mode_intervals,
    "sensitivity": lambda loop: ctrlattn.sensitivity(loop, 0.5),
    "gain_radius": lambda loop: stability.gain_radius(loop, ("kp", "ki"), [0.5], [0.1, 0.1]),
    "root_locus": lambda loop: stability.root_locus(loop, "kp", 0.5, [0.1, 0.2]),
    "performance": lambda loop: design.performance(loop, [0.5]),
    "judge": lambda loop: ctrlattn.judge(loop, [0.5], improve=False),
    "lqr": lambda loop: design.lqr(loop, 0.5),
    "attention_contraction": lambda loop: stability.attention_contraction(loop, 1.0, features=D),
    "sector_form": lambda loop: stability.sector_form(replace(loop, normalizer=rms_norm), lowest=1.0),
}


@pytest.mark.parametrize("name", ANALYSES)
@pytest.mark.parametrize("gain", ["skip", "feedback"])
def test_analyses_of_one_mode_say_that_they_need_numbers(name, gain):
    loop = Loop(FixedAttention(ATTENTION), controller=PID(0.3), **{gain: FEEDBACK})
    with pytest.raises(InputError, match=rf"needs numbers as gains, and {gain} is a vector of 3.*linearize"):
        ANALYSES[name](loop)


def test_lyapunov_exponents_work_in_each_feature():
    """Without attention: x' = diag(s) x, whose exponents are ln |s_j|, each n times."""
    loop = Loop(lambda x: 0.0 * x, skip=SKIP, feedback=1.0)
    step, start = ctrlattn.layer_map(loop, np.ones((1, D)))
    exponents = ctrlattn.lyapunov_exponents(step, start, 40, k=D, transient=5)
    assert_allclose(np.sort(exponents), np.sort(np.log(np.abs(SKIP))), atol=1e-9)


def test_the_report_says_why_modes_do_not_apply():
    from ctrlattn.report.pages.loops.material import why_not_linear

    loop = presets.get("comparator")
    assert why_not_linear(loop) is None
    assert why_not_linear(replace(loop, skip=SKIP)) == "each feature has gains of its own"
