"""One SISO loop an eigenvalue: the characteristic polynomial, both breakings, complex modes, what is refused."""

import control
import numpy as np
import pytest
from cases import every_case
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, FixedAttention, Loop, loop_transfer, mode, presets, rms_norm, simulate

gains = st.floats(-2, 2).filter(lambda g: abs(g) > 1e-3)


def printed(p, i, d, **changes):
    return Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(p, i, d), **changes)


@settings(max_examples=30)
@given(p=gains, i=gains, d=gains, a=st.floats(-2, 2))
def test_characteristic_polynomial_of_the_printed_law(p, i, d, a):
    expected = [1.0, p + i + d - 1 - a, a - p - 2 * d, d]
    assert_allclose(np.poly(mode(printed(p, i, d), a).A), expected, atol=1e-9)


def test_gain_of_zero_leaves_its_state_out():
    orders = [
        mode(Loop(CausalMean(), controller=c), 0.5).nstates for c in (PID(0.5), PID(0.5, 0.1), PID(0.5, 0.0, 0.1))
    ]
    assert orders == [1, 2, 2]


def test_zero_controller_and_no_controller_are_the_open_loop():
    for controller in (None, PID()):
        system = mode(Loop(CausalMean(), skip=1.0, feedback=-1.0, controller=controller), 0.3)
        assert_allclose(system.poles(), [0.7])
        assert_allclose(system(0.2), 0.0)


def test_mode_equals_simulation_from_rest_when_the_first_error_is_zero():
    # e_0 = 0, as THEORY asks: the state starts at the reference, then a disturbance moves it.
    for name in ("neutreno", "pidformer-printed", "pidformer-ema"):
        loop, a, layers = presets.get(name, predictor=FixedAttention(np.array([[0.4]]))), 0.4, 25
        push = np.zeros((layers, 1, 1))
        push[3] = 1.0
        run = simulate(loop, np.zeros((1, 1)), layers, reference=np.zeros((1, 1)), disturbance=push)
        closed = mode(loop, a)
        disturbed = control.ss(closed.A, np.eye(closed.nstates, 1), closed.C, 0, 1)
        expected = control.forced_response(disturbed, inputs=np.append(push[:, 0, 0], 0.0)).outputs
        assert_allclose(run.state[:, 0, 0], expected, atol=1e-12)


def test_steady_states():
    integral = mode(printed(0.8, 0.5, 0.05), 0.6)
    assert_allclose(integral.dcgain(), 1.0, atol=1e-12)
    assert_allclose(mode(printed(0.6, 0.0, 0.0), 0.3).dcgain(), 0.6 / (1 - 0.3 + 0.6), atol=1e-12)


@settings(max_examples=30)
@given(p=gains, i=gains, d=gains, re=st.floats(-1, 1), im=st.floats(-1, 1), form=st.sampled_from(["printed", "ema"]))
def test_complex_mode_has_the_poles_of_alpha_and_its_conjugate(p, i, d, re, im, form):
    loop = Loop(CausalMean(), skip=0.5, feedback=-1.0, controller=PID(p, i, d, form=form))
    alpha = 0.5 - complex(re, im)
    num, den = loop.controller.fraction()
    factor = np.polyadd(np.polymul([1, -alpha], den.astype(complex)), num)
    both = np.polymul(factor, np.conj(factor)).real
    assert_allclose(np.poly(mode(loop, complex(re, im)).A), both, atol=1e-8)


def test_complex_mode_responds_as_the_complex_number_does():
    loop, a, z = printed(0.8, 0.5, 0.05), 0.4 + 0.2j, np.exp(0.7j)
    num, den = loop.controller.fraction()
    c = np.polyval(num, z) / np.polyval(den, z)
    # On the eigenvectors (1, -i) and (1, i) the real pair is the mode and its conjugate.
    response = mode(loop, a)(z)
    assert_allclose(response @ [1, -1j], c / (z - a + c) * np.array([1, -1j]), atol=1e-12)
    assert_allclose(response @ [1, 1j], c / (z - np.conj(a) + c) * np.array([1, 1j]), atol=1e-12)


@every_case("form", ["printed", "ema"])
@every_case("a", [0.3, -0.7, 0.2 + 0.5j])
@every_case("at", ["control", "prediction"])
def test_both_breakings_close_to_the_same_loop(form, a, at):
    loop = Loop(CausalMean(), skip=0.9, feedback=-0.8, controller=PID(0.7, 0.3, 0.1, form=form))
    L = loop_transfer(loop, a, at=at)
    closed = control.feedback(L, np.eye(L.noutputs)) if L.noutputs > 1 else control.feedback(L, 1)
    assert_allclose(np.poly(closed.A), np.poly(mode(loop, a).A), atol=1e-9)


def test_breaking_at_the_prediction_without_controller_is_the_residual_integrator():
    L = loop_transfer(Loop(CausalMean(), skip=1.0, feedback=-1.0), 0.5, at="prediction")
    for z in (2.0, -1.0, 1j):
        assert_allclose(L(z), 0.5 / (z - 1), atol=1e-12)


def test_breaking_at_the_control_is_zero_without_controller():
    assert_allclose(loop_transfer(Loop(CausalMean()), 0.5)(0.3), 0.0)


def test_feedback_of_zero_gives_no_prediction_loop():
    assert_allclose(loop_transfer(Loop(CausalMean(), feedback=0.0), 0.5, at="prediction")(0.3), 0.0)


@every_case("function", [mode, loop_transfer])
@every_case(
    "loop, word",
    [
        (Loop(CausalMean(), order="sequential"), "sequential"),
        (Loop(CausalMean(), normalizer=rms_norm), "normalizer"),
        (Loop(CausalMean(), hold_first=True), "held"),
        ([Loop(CausalMean()), Loop(CausalMean(), skip=0.0)], "sequence"),
    ],
)
def test_what_is_not_time_invariant_and_linear_is_refused(function, loop, word):
    with pytest.raises(ValueError, match=word):
        function(loop, 0.5)


def test_bad_arguments():
    loop = Loop(CausalMean())
    with pytest.raises(TypeError, match="takes a Loop"):
        mode(CausalMean(), 0.5)
    for wrong in (np.nan, np.inf, np.array([0.1, 0.2])):
        with pytest.raises(ValueError, match="eigenvalue"):
            mode(loop, wrong)
    with pytest.raises(ValueError, match='"control" or "prediction"'):
        loop_transfer(loop, 0.5, at="state")


def test_signals_are_named():
    system = mode(printed(0.8, 0.5, 0.05), 0.5)
    assert (system.dt, system.input_labels, system.output_labels) == (1, ["reference"], ["state"])
    assert mode(printed(0.8, 0.5, 0.05), 0.5j).output_labels == ["state (re)", "state (im)"]


def test_without_a_reference_a_mode_fades_by_its_pole():
    """r = 0, alpha = 0.5: x_k = 0.5^k x_0, in simulation and as the free response of the mode."""
    loop, x = Loop(FixedAttention(np.array([[0.5]])), skip=0.0, feedback=1.0), np.array([[3.0]])
    run = simulate(loop, x, 10, reference=np.zeros((1, 1)))
    assert_allclose(run.state[:, 0, 0], 3.0 * 0.5 ** np.arange(11), rtol=1e-15)
    free = control.initial_response(mode(loop, 0.5), np.arange(11), 3.0)
    assert_allclose(free.outputs, run.state[:, 0, 0], rtol=1e-15)


@every_case("a", ["0.5", None, [0.5], (0.5,), {}])
def test_what_is_no_number_is_no_eigenvalue(a):
    with pytest.raises(TypeError, match=r"a must be one eigenvalue, a real or complex number, got"):
        mode(Loop(CausalMean()), a)


def test_the_states_are_the_signal_and_the_memories():
    loop = Loop(CausalMean(), controller=PID(0.8, 0.5, 0.05))
    for system in (mode(loop, 0.5), loop_transfer(loop, 0.5), loop_transfer(loop, 0.5, at="prediction")):
        assert system.state_labels == ["x", "s0", "s1"]
    assert mode(Loop(CausalMean(), controller=PID(0.8, 0.5)), 0.5j).state_labels == [
        "x (re)",
        "x (im)",
        "s0 (re)",
        "s0 (im)",
    ]
    assert (loop_transfer(loop, 0.5).input_labels, loop_transfer(loop, 0.5).output_labels) == (["error"], ["state"])
    at_prediction = loop_transfer(loop, 0.5, at="prediction")
    assert (at_prediction.input_labels, at_prediction.output_labels) == (["prediction"], ["return"])


@pytest.mark.parametrize("a", [0.4, -0.7])
def test_the_loop_transfers_are_those_that_the_docstring_gives(a):
    loop, z = Loop(CausalMean(), skip=0.9, feedback=-0.8, controller=PID(0.7, 0.3, 0.1)), 1.2 * np.exp(0.6j)
    law = 0.7 + 0.3 * z / (z - 1) + 0.1 * (z - 1) / z
    alpha = 0.9 - 0.8 * a
    assert_allclose(loop_transfer(loop, a)(z), law / (z - alpha), rtol=1e-12)
    assert_allclose(loop_transfer(loop, a, at="prediction")(z), 0.8 * a / (z - 0.9 + law), rtol=1e-12)
    assert_allclose(mode(loop, a)(z), law / (z - alpha + law), rtol=1e-12)
