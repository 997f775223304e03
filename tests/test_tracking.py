"""The controlled error against its laws written out, on both array kinds, and every way to call it wrongly."""

import control
import numpy as np
import numpy.testing as npt
import pytest
import torch

from ctrlattn import PID, CausalMean, InputError, InputTypeError, Loop, LTIController, simulate
from ctrlattn.arrays import like, move, to_numpy
from ctrlattn.loop import LoopState
from ctrlattn.tracking import Tracking, TrackingState, require_one_memory

LAYERS, N, D = 6, 3, 4


def draws(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def as_kind(xp, x, dtype="float64"):
    return like(x, xp.zeros(1, dtype=getattr(xp, dtype)))


def run(tracking, states, reference=None):
    """e, u of every layer, (layers, ..., n, d) each, and the last state."""
    state, errors, controls = tracking.init(states[0], reference), [], []
    for x in states:
        e, u, state = tracking.step(x, state)
        errors.append(to_numpy(e))
        controls.append(to_numpy(u))
    return np.stack(errors), np.stack(controls), state


# --- closed forms -------------------------------------------------------------------------------------------------


def test_proportional_control_is_the_gain_times_the_error_from_layer_1_on(xp):
    x, r = draws(LAYERS, N, D), draws(N, D, seed=1)
    errors, controls, _ = run(Tracking(PID(0.7), 0.3), as_kind(xp, x), as_kind(xp, r))
    npt.assert_allclose(errors, 0.3 * r - x, rtol=1e-15, atol=1e-15)
    npt.assert_array_equal(controls[0], np.zeros((N, D)))
    npt.assert_allclose(controls[1:], 0.7 * (0.3 * r - x[1:]), rtol=1e-14, atol=1e-15)


def test_integral_and_derivative_begin_with_the_error_of_layer_0(xp):
    # u_k = kp e_k + ki (e_1 + ... + e_k) + kd (e_k - e_{k-1}): e_0 is no part of the sum, but of the first difference.
    x = draws(LAYERS, N, D)
    errors, controls, _ = run(Tracking(PID(0.4, 0.2, 0.1)), as_kind(xp, x))
    e = x[0] - x
    expected = 0.4 * e[1:] + 0.2 * np.cumsum(e[1:], 0) + 0.1 * np.diff(e, axis=0)
    npt.assert_allclose(errors, e, rtol=1e-15, atol=1e-15)
    npt.assert_allclose(controls[1:], expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("beta", [1.0, -1.0, 0.0, 0.25])
def test_the_reference_is_the_first_state_times_beta(xp, beta):
    x = as_kind(xp, draws(2, N, D))
    errors, _, state = run(Tracking(None, beta), x)
    npt.assert_array_equal(errors, beta * to_numpy(x[0]) - to_numpy(x))
    assert state.reference is not None
    assert state.controller is None
    assert state.acting


def test_an_integrator_of_a_constant_error_counts_the_layers():
    _, controls, _ = run(Tracking(control.tf([1.0, 0.0], [1.0, -1.0], 1)), np.zeros((LAYERS, N, D)), np.ones((N, D)))
    npt.assert_allclose(controls, np.arange(LAYERS)[:, None, None] * np.ones((N, D)), rtol=1e-15)


def test_the_scalar_loop_it_closes_has_the_poles_of_p_control():
    # x' = a x + u, u = kp (r - x): x_{k+1} = (a - kp) x_k + kp r from layer 1 on.
    a, kp, r, x = 0.9, 0.4, np.array([[2.0]]), np.array([[5.0]])
    tracking, states = Tracking(PID(kp)), [x]
    state = tracking.init(x, r)
    for _ in range(LAYERS):
        _, u, state = tracking.step(states[-1], state)
        states.append(a * states[-1] + u)
    rest = kp * r / (1 - a + kp)
    expected = [rest + (a - kp) ** k * (a * x - rest) for k in range(LAYERS)]
    npt.assert_allclose(states[1:], expected, rtol=1e-14)


# --- layer 0 ------------------------------------------------------------------------------------------------------


def test_layer_0_starts_the_memory_and_does_not_act(xp):
    x, r = as_kind(xp, draws(N, D)), as_kind(xp, draws(N, D, seed=1))
    tracking = Tracking(PID(0.5, 0.1, 0.2, form="ema"))
    before = tracking.init(x, r)
    assert before.reference is r
    assert before.controller is None
    assert not before.acting
    e, u, after = tracking.step(x, before)
    npt.assert_array_equal(to_numpy(u), 0.0)
    npt.assert_array_equal([to_numpy(m) for m in after.controller], [0.0 * to_numpy(e), to_numpy(e), to_numpy(e)])
    assert after.reference is r
    assert after.acting


def test_layer_0_does_not_act_on_a_reference_that_is_its_own_state(xp):
    x = as_kind(xp, draws(N, D))
    _, controls, _ = run(Tracking(PID(0.5), 0.2), [x, x])
    npt.assert_array_equal(controls[0], np.zeros((N, D)))
    npt.assert_allclose(controls[1], -0.4 * to_numpy(x), rtol=1e-14)


def test_a_memory_that_was_not_started_starts_at_the_first_error_and_acts():
    x = draws(N, D)
    _, u, state = Tracking(PID(0.5, 0.25)).step(x, TrackingState(np.zeros((N, D)), None, acting=True))
    npt.assert_allclose(u, -0.75 * x, rtol=1e-15)
    npt.assert_array_equal(state.controller[0], -x)


def test_without_a_controller_a_memory_is_handed_on():
    memory = (draws(N, D), draws(N, D))
    _, u, state = Tracking().step(draws(N, D), TrackingState(draws(N, D), memory, acting=True))
    assert state.controller is memory
    npt.assert_array_equal(u, np.zeros((N, D)))


# --- one address --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["parallel", "sequential"])
@pytest.mark.parametrize("controller", [None, PID(0.3, 0.1, 0.05)], ids=["none", "pid"])
def test_a_loop_records_the_signals_of_its_tracking(controller, order):
    loop = Loop(CausalMean(), controller=controller, reference_gain=0.5, order=order)
    trajectory = simulate(loop, draws(N, D), LAYERS)
    errors, controls, _ = run(loop.tracking, trajectory.state[:-1])
    npt.assert_array_equal(trajectory.error, errors)
    npt.assert_array_equal(trajectory.control, controls)


def test_a_loop_shows_what_its_tracking_holds():
    loop = Loop(CausalMean(), controller=control.tf([0.5], [1.0], 1), reference_gain=np.float32(0.5))
    assert loop.tracking.controller is loop.controller
    assert isinstance(loop.controller, LTIController)
    assert loop.tracking.reference_gain == loop.reference_gain == 0.5
    x = draws(N, D)
    state = loop.init(x)
    assert isinstance(state, LoopState)
    assert LoopState is TrackingState
    for mine, its in zip(loop.control(x, state)[:2], loop.tracking.step(x, state)[:2], strict=True):
        npt.assert_array_equal(mine, its)


# --- array kinds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_signals_keep_their_kind_and_dtype(xp, dtype):
    x = as_kind(xp, draws(N, D), dtype)
    tracking = Tracking(PID(np.float64(0.5), 0.1), np.float64(0.25))
    state = tracking.init(x)
    for _ in range(2):
        e, u, state = tracking.step(x, state)
    assert {type(signal) for signal in (e, u, *state.controller)} == {type(x)}
    assert {signal.dtype for signal in (e, u, *state.controller)} == {x.dtype}


def test_gains_that_are_trained_have_a_gradient():
    kp, beta = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.5, 0.8))
    x = torch.ones(2, N, D, dtype=torch.float64)

    def last_control(kp, beta):
        state, tracking = Tracking.init(x[0]), Tracking(PID(kp), beta)
        for layer in x:
            _, u, state = tracking.step(layer, state)
        return u

    assert torch.autograd.gradcheck(last_control, (kp, beta))


@pytest.mark.slow
def test_a_step_compiles_into_one_graph():
    tracking, x = Tracking(PID(0.5, 0.1, 0.2), 0.5), torch.ones(N, D, dtype=torch.float64)
    compiled = torch.compile(tracking.step, fullgraph=True, backend="eager")
    state = tracking.step(x, tracking.init(x))[2]
    for mine, its in zip(compiled(2 * x, state)[:2], tracking.step(2 * x, state)[:2], strict=True):
        npt.assert_array_equal(mine, its)


def test_it_moves_to_the_other_kind():
    moved = move(Tracking(PID(0.5), 0.25), torch.zeros(1))
    assert (moved.controller.kp, moved.reference_gain) == (0.5, 0.25)


def test_nothing_is_overwritten(xp):
    x, r = as_kind(xp, draws(N, D)), as_kind(xp, draws(N, D, seed=1))
    before = [to_numpy(signal).copy() for signal in (x, r)]
    run(Tracking(PID(0.5, 0.1, 0.2)), [x, x, x], r)
    npt.assert_array_equal([to_numpy(x), to_numpy(r)], before)


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"controller": 0.5}, InputTypeError, "controller must be a PID"),
        ({"controller": PID}, InputTypeError, "controller is the class PID: make one"),
        ({"reference_gain": float("nan")}, InputError, "reference_gain must be finite, got nan"),
        ({"reference_gain": "large"}, InputTypeError, "reference_gain must be a number, got 'large'"),
        ({"controller": control.tf([1.0], [1.0, 1.0])}, InputError, "a controller over depth is discrete"),
    ],
)
def test_what_cannot_track_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        Tracking(**arguments)


def test_signals_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"the reference must be shaped as x, \(3, 4\), got \(4,\)"):
        Tracking.init(np.ones((3, 4)), np.ones(4))
    with pytest.raises(InputError, match=r"the reference must be shaped as x, \(2, 4\), got \(3, 4\)"):
        Tracking().step(np.ones((2, 4)), Tracking.init(np.ones((3, 4))))
    with pytest.raises(InputError, match=r"a signal is \(..., tokens, features\)"):
        Tracking.init(np.ones(4))
    with pytest.raises(InputTypeError, match="mixed"):
        Tracking.init(np.ones((3, 4)), torch.ones(3, 4))
    with pytest.raises(InputTypeError, match="floating point"):
        Tracking.init(np.ones((3, 4), dtype=int))


def test_the_first_memory_that_differs_is_named():
    require_one_memory({})
    require_one_memory({1: "2 memories", 4: "2 memories"})
    with pytest.raises(InputError, match="layer 1 has 2 memories, layer 5 has 3 memories"):
        require_one_memory({1: "2 memories", 4: "2 memories", 5: "3 memories", 6: "4 memories"})
