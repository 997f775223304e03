"""Controllers as equations, as linear algebra and as python-control objects: three ways that must agree."""

import math
import warnings

import control
import numpy as np
import numpy.testing as npt
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from ctrlattn import PID, FixedAttention, InputError, Loop, LTIController, simulate
from ctrlattn.arrays import like, to_numpy
from ctrlattn.controllers import Controller, as_controller

FORMS = ("printed", "ema")
GAIN = st.one_of(st.just(0.0), st.floats(-2.0, 2.0).filter(lambda g: abs(g) > 1e-3))


def draws(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def steps(controller, errors, state):
    """The control of each layer, from `state` on."""
    out = []
    for e in errors:
        u, state = controller.step(e, state)
        out.append(u)
    return out


def from_zero(controller, errors):
    """Steps whose memory starts at zero, as a transfer function assumes; PID.init fills it with e_0 instead."""
    zero = tuple(0.0 * s for s in controller.init(errors[0]))
    return np.stack(steps(controller, list(errors), zero))


def response(controller, z):
    """C(z) from the realization: C (zI - A)^-1 B + D."""
    a, b, c, d = controller.realization()
    return np.array([(c @ np.linalg.solve(zi * np.eye(len(a)) - a, b) + d)[0, 0] for zi in z])


# --- PID ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(kp=GAIN, ki=GAIN, kd=GAIN, form=st.sampled_from(FORMS), ema=st.floats(0.05, 1.0))
@example(kp=0.0, ki=0.0, kd=0.0, form="printed", ema=0.3)
@example(kp=0.0, ki=0.0, kd=0.0, form="ema", ema=0.3)
@example(kp=0.8, ki=0.5, kd=0.05, form="ema", ema=1.0)
@example(kp=1.0, ki=1.0, kd=math.nextafter(-2.0, 0.0), form="printed", ema=1.0)
def test_steps_realization_fraction_and_transfer_function_are_one_system(kp, ki, kd, form, ema):
    pid = PID(kp, ki, kd, form=form, ema=ema)
    z = 1.3 * np.exp(1j * np.array([0.2, 1.0, 2.0, 3.1]))  # outside the circle: no pole near
    num, den = pid.fraction()
    literal = kp + ki * z / (z - 1) + kd * (z - 1) / z
    if form == "ema":
        literal = kp + ki * ema / (z - 1 + ema) + kd * (z - 1) / z**2
    for value in (response(pid, z), np.polyval(num, z) / np.polyval(den, z), pid.transfer_function()(z)):
        npt.assert_allclose(value, literal, rtol=1e-10, atol=1e-12)

    errors = draws(15, 1)
    system = pid.transfer_function()
    num, den = system.num[0][0], system.den[0][0]
    # The difference equation: scipy's realization refuses a first coefficient beside zero, as kp + ki + kd = 2e-16.
    expected = lfilter(np.pad(num, (len(den) - len(num), 0)), den, errors[:, 0])
    npt.assert_allclose(from_zero(pid, errors)[:, 0], expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "gains", [(0, 0, 0), (0.8, 0, 0), (0.8, 0.5, 0), (0.8, 0, 0.05), (0, 0.5, 0.05), (0.8, 0.5, 0.05)]
)
def test_the_realization_is_minimal(form, gains):
    a, b, c, _ = PID(*gains, form=form).realization()
    _, ki, kd = gains
    order = (ki != 0) + (kd != 0) * (1 if form == "printed" else 2)
    assert a.shape == (order, order)
    powers = [np.linalg.matrix_power(a, k) for k in range(order)]
    if order:
        assert np.linalg.matrix_rank(np.hstack([p @ b for p in powers])) == order  # controllable
        assert np.linalg.matrix_rank(np.vstack([c @ p for p in powers])) == order  # observable
    assert len(PID(*gains, form=form).fraction()[1]) == order + 1


@pytest.mark.parametrize("form", FORMS)
def test_the_transfer_function_says_one_layer_and_names_its_signals(form):
    system = PID(0.8, 0.5, 0.05, form=form).transfer_function()
    assert system.dt == 1
    assert (system.input_labels, system.output_labels) == (["error"], ["control"])


@pytest.mark.parametrize(("form", "gain"), [("printed", math.inf), ("ema", 1.3)])
def test_the_steady_state_gain(form, gain):
    # The printed integral never forgets; the leaky one has kp + ki at z = 1, so its error does not vanish.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # python-control divides by zero at the pole
        assert PID(0.8, 0.5, 0.05, form=form).transfer_function().dcgain() == pytest.approx(gain)


def printed_law(attention, v, layers, *, beta, kp, ki, kd):
    """u_l = A_l v_l + P e_l + I sum_{m=1..l} e_m + D (e_l - e_{l-1}), control off at l = 0; v_{l+1} = u_l."""
    values, errors = [v], []
    for k in range(layers):
        v = values[k]
        errors.append(beta * values[0] - v)
        u = attention[k] @ v
        if k >= 1:
            u = u + kp * errors[k] + ki * sum(errors[1 : k + 1]) + kd * (errors[k] - errors[k - 1])
        values.append(u)
    return np.stack(values)


def ema_law(attention, v, layers, *, beta, kp, ki, kd, g=0.3):
    """u_l = A_l v_l + P e_l + I s_{l-1} + D [l >= 2] (v_{l-2} - v_{l-1}), s_l = g e_l + (1-g) s_{l-1}, s_0 = 0."""
    values, s = [v], 0.0 * v
    for k in range(layers):
        v = values[k]
        u = attention[k] @ v
        if k >= 1:
            e = beta * values[0] - v
            u = u + kp * e + ki * s + (kd * (values[k - 2] - values[k - 1]) if k >= 2 else 0.0)
            s = g * e + (1 - g) * s
        values.append(u)
    return np.stack(values)


@pytest.mark.parametrize("beta", [1.0, 0.1])
@pytest.mark.parametrize(("form", "law"), [("printed", printed_law), ("ema", ema_law)])
def test_the_loop_is_the_published_law_layer_by_layer(xp, beta, form, law):
    gains, n, layers = {"kp": 0.8, "ki": 0.5, "kd": 0.05}, 4, 6
    attention, v = draws(layers, n, n), draws(n, 3)
    x = like(v, xp.zeros(1, dtype=xp.float64))
    loops = [
        Loop(
            FixedAttention(like(a, x)), skip=0.0, feedback=1.0, controller=PID(**gains, form=form), reference_gain=beta
        )
        for a in attention
    ]
    run = simulate(loops, x, layers)
    npt.assert_allclose(to_numpy(run.state), law(attention, v, layers, beta=beta, **gains), rtol=1e-12, atol=1e-12)
    npt.assert_array_equal(to_numpy(run.control[0]), 0.0)  # off at layer 0


def test_the_two_laws_are_two_controllers():
    attention, v = [np.eye(2)] * 3, 1.4 * np.ones((2, 1))
    gains = {"kp": 0.8, "ki": 0.5, "kd": 0.05}
    gap = printed_law(attention, v, 3, beta=0.1, **gains) - ema_law(attention, v, 3, beta=0.1, **gains)
    assert np.abs(gap).max() > 0.5


def test_neutreno_is_proportional_control():
    # u_l = A_l v_l + alpha (v_0 - v_l), l > 0: both forms with I = D = 0
    attention, v = draws(4, 3, 3), draws(3, 2)
    values = [v]
    for k in range(4):
        values.append(attention[k] @ values[k] + (0.6 * (v - values[k]) if k else 0.0))
    for law in (printed_law, ema_law):
        npt.assert_allclose(law(attention, v, 4, beta=1.0, kp=0.6, ki=0.0, kd=0.0), values, rtol=1e-14)
    loops = [Loop(FixedAttention(a), skip=0.0, feedback=1.0, controller=PID(0.6)) for a in attention]
    npt.assert_allclose(simulate(loops, v, 4).state, values, rtol=1e-13)


@pytest.mark.parametrize("form", FORMS)
def test_memories_start_at_the_first_error(form):
    e0, e1 = draws(3), draws(3, seed=1)
    pid = PID(0.0, 0.0, 1.0, form=form)
    u, state = pid.step(e1, pid.init(e0))
    npt.assert_array_equal(u, e1 - e0 if form == "printed" else 0.0 * e1)
    npt.assert_array_equal(pid.step(e1, state)[0], 0.0 * e1 if form == "printed" else e1 - e0)
    npt.assert_array_equal(PID(ki=1.0, form=form).init(e0)[0], 0.0)


@pytest.mark.parametrize("gain", [np.float64(0.5), np.float32(0.5), np.array(0.5), 1])
def test_a_gain_of_numpy_keeps_float32(gain):
    for form in FORMS:
        pid = PID(gain, gain, gain, form=form, ema=np.float64(0.3))
        e = np.ones(2, np.float32)
        u, state = pid.step(e, pid.init(e))
        assert u.dtype == np.float32
        assert all(s.dtype == np.float32 for s in state)


def test_a_gain_that_is_trained_has_a_gradient():
    kp, ki, kd = (torch.tensor(g, dtype=torch.float64, requires_grad=True) for g in (0.8, 0.5, 0.05))
    x = torch.as_tensor(draws(3, 2))

    def loss(kp, ki, kd):
        loop = Loop(FixedAttention(torch.eye(3).double()), skip=0.0, controller=PID(kp, ki, kd), reference_gain=0.3)
        return simulate(loop, x, 4, record="last").state

    assert torch.autograd.gradcheck(loss, (kp, ki, kd))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kp": math.nan}, ValueError, "kp must be finite"),
        ({"ki": math.inf}, ValueError, "ki must be finite"),
        ({"kd": "much"}, TypeError, "kd must be a number, got 'much'"),
        ({"kp": [0.1, 0.2]}, TypeError, "kp must be a number"),
        ({"form": "PRINTED"}, ValueError, 'form must be "printed" or "ema"'),
        ({"ema": 0.0}, ValueError, r"ema must lie in \(0, 1\]"),
        ({"ema": 1.1}, ValueError, r"ema must lie in \(0, 1\]"),
        ({"ema": math.nan}, ValueError, "ema must"),
        ({"ema": None}, TypeError, "ema must be a number"),
    ],
)
def test_a_pid_that_cannot_be_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        PID(**arguments)


# --- LTIController ------------------------------------------------------------------------------------------------


def stable_system(order, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((order, order))
    a *= 0.9 / max(np.abs(np.linalg.eigvals(a)).max(), 1e-9) if order else 1.0
    return control.ss(a, rng.standard_normal((order, 1)), rng.standard_normal((1, order)), [[rng.standard_normal()]], 1)


SYSTEMS = {
    "order 1": stable_system(1),
    "order 2": stable_system(2),
    "order 4": stable_system(4),
    "fraction": control.tf([1.0, 0.5], [1.0, -0.3, 0.1], 1),
    "fraction, not monic": control.tf([2.0, 1.0, 0.5], [4.0, -0.3, 0.1], 1),
    "fraction, delay": control.tf([1.0], [1.0, 0.0, 0.0], 1),
    "zeros in front": control.tf([0.0, 0.0, 1.0], [0.0, 1.0, -0.5], 1),
    "zero": control.tf([0.0], [1.0, -0.5], 1),
    "any sampling time": control.tf([1.0], [1.0, -0.5], True),
    "static": control.tf([0.7], [1.0], 1),
    "static, no time base": control.tf([0.7], [1.0]),
    "static state space": control.ss([], [], [], [[0.7]]),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_is_stepped_as_python_control_responds(xp, name):
    controller, errors = LTIController(SYSTEMS[name]), draws(12, 2, 3)
    kind = xp.zeros(1, dtype=xp.float64)
    controls = [
        to_numpy(u) for u in steps(controller, list(like(errors, kind)), controller.init(like(errors[0], kind)))
    ]
    system = control.ss(*controller.realization(), 1) if "static" in name else SYSTEMS[name]
    for i in range(2):
        for j in range(3):
            _, expected = control.forced_response(system, np.arange(12.0), errors[:, i, j])
            npt.assert_allclose([u[i, j] for u in controls], np.ravel(expected), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_keeps_its_transfer_function(name):
    controller = LTIController(SYSTEMS[name])
    z = 1.3 * np.exp(1j * np.array([0.2, 1.0, 2.0, 3.1]))
    num, den = controller.fraction()
    expected = np.array([complex(SYSTEMS[name](zi)) for zi in z])
    for value in (response(controller, z), np.polyval(num, z) / np.polyval(den, z), controller.transfer_function()(z)):
        npt.assert_allclose(value, expected, rtol=1e-10, atol=1e-12)
    assert controller.transfer_function().dt == 1


def test_an_lti_controller_starts_at_zero_state():
    controller = LTIController(SYSTEMS["order 2"])
    state = controller.init(draws(3))
    assert len(state) == 2
    npt.assert_array_equal(state, np.zeros((2, 3)))
    assert LTIController(SYSTEMS["static"]).init(draws(3)) == ()


def test_float32_stays_float32(xp):
    controller, e = LTIController(SYSTEMS["order 2"]), xp.ones(2, dtype=xp.float32)
    u, state = controller.step(e, controller.init(e))
    assert all(signal.dtype == xp.float32 for signal in (u, *state))


def test_an_integrator_is_the_integral_of_pid(xp):
    # ki z / (z - 1): the error of this layer is counted in this layer.
    x = like(draws(4, 3), xp.zeros(1, dtype=xp.float64))
    attention = FixedAttention(like(draws(4, 4), x))
    options = {"skip": 0.0, "feedback": 1.0, "reference_gain": 0.4}
    pid = simulate(Loop(attention, controller=PID(ki=0.5), **options), x, 6)
    system = control.tf([0.5, 0.0], [1.0, -1.0], 1)
    lti = simulate(Loop(attention, controller=system, **options), x, 6)
    npt.assert_allclose(to_numpy(lti.state), to_numpy(pid.state), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_pid_and_its_transfer_function_agree_where_the_first_error_is_zero(form):
    # With e_0 = 0 every memory starts at 0, so the equations and C(z) are the same controller.
    pid, x = PID(0.8, 0.5, 0.05, form=form), draws(4, 3)
    attention = FixedAttention(0.5 * np.eye(4) + 0.1)
    runs = [
        simulate(Loop(attention, skip=0.0, feedback=1.0, controller=c), x, 8).state
        for c in (pid, pid.transfer_function(), control.ss(*pid.realization(), 1))
    ]
    npt.assert_allclose(runs[1], runs[0], rtol=1e-10, atol=1e-11)
    npt.assert_allclose(runs[2], runs[0], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(
    ("system", "error", "message"),
    [
        (control.tf([1], [1, 1]), ValueError, r"continuous-time system .* control.sample_system\(system, 1\)"),
        (control.tf([1], [1, 1], 0), ValueError, "continuous-time"),
        (control.ss([[0.5]], [[1]], [[1]], [[0]]), ValueError, "without a time base|continuous-time"),
        (control.tf([1], [1, -0.5], 0.5), ValueError, "dt must be 1, got 0.5"),
        (control.tf([0.7], [1], 2), ValueError, "dt must be 1, got 2"),
        (control.ss(np.eye(2) / 2, np.eye(2), np.eye(2), np.zeros((2, 2)), 1), ValueError, "2 inputs and 2 outputs"),
        (control.tf([1, 0, 0], [1, -0.5], 1), ValueError, r"improper \(degree 2 over 1\)"),
        (control.ss([[math.nan]], [[1]], [[1]], [[0]], 1), ValueError, "controller's A must be finite"),
        (control.tf([math.inf], [1, -0.5], 1), ValueError, "must be finite"),
        (control.frd([1, 2, 3], [0.1, 0.2, 0.3]), TypeError, "got FrequencyResponseData"),
        ("PID", TypeError, "got str"),
        (np.eye(2), TypeError, "got ndarray"),
        (control.nlsys(None, lambda t, x, u, p: u, inputs=1, outputs=1, dt=1), TypeError, "got NonlinearIOSystem"),
    ],
)
def test_what_cannot_control_is_refused(system, error, message):
    with pytest.raises(error, match=message):
        LTIController(system)


# --- as_controller ------------------------------------------------------------------------------------------------


def test_controllers_pass_and_systems_are_wrapped():
    pid = PID(0.5)
    assert as_controller(pid) is pid
    assert as_controller(None) is None
    assert isinstance(as_controller(SYSTEMS["fraction"]), LTIController)
    assert isinstance(pid, Controller)


@pytest.mark.parametrize("law", [PID, LTIController])
def test_a_class_is_not_a_controller(law):
    with pytest.raises(TypeError, match=rf"controller is the class {law.__name__}: make one"):
        Loop(FixedAttention(np.eye(2)), controller=law)


@pytest.mark.parametrize("thing", ["pid", 0.5, lambda e: e])
def test_what_is_no_controller_is_refused(thing):
    with pytest.raises(TypeError, match="controller must be a PID, an LTIController, a python-control"):
        as_controller(thing)


def test_a_class_that_lacks_methods_of_a_controller_is_told_which():
    class Half:
        def init(self, e):
            return ()

        def step(self, e, state):
            return e, state

    with pytest.raises(TypeError, match=r"got Half, which has no realization, fraction$"):
        as_controller(Half())
    with pytest.raises(TypeError, match=r"the methods init, step, realization, fraction; got float$"):
        as_controller(0.5)


@pytest.mark.parametrize("system", [PID(1.0), PID(1.0, form="ema"), LTIController(control.tf([1], [1, 0.5], 1))])
def test_a_memory_of_another_controller_or_signal_is_refused(system):
    e = np.ones((3, 2))
    memory = system.init(e)
    with pytest.raises(InputError, match=f"has {len(memory)} memories, the state that it is given has 4"):
        system.step(e, (e, e, e, e))
    with pytest.raises(InputError, match=r"the memories have the shape \(3, 2\), the error has \(1, 2\)"):
        system.step(e[:1], memory)


@pytest.mark.parametrize("name", SYSTEMS)
def test_one_input_enters_as_many_states_as_the_system_has(name):
    controller = LTIController(SYSTEMS[name])
    a, b, c, d = controller.realization()
    order = len(controller.init(draws(2)))
    assert (a.shape, b.shape, c.shape, d.shape) == ((order, order), (order, 1), (1, order), (1, 1))


def test_a_fraction_is_realized_in_controller_form():
    """(2 z^2 + 1)/(4 z^2 - 2 z + 1) = .5 + (.25 z + .125)/(z^2 - .5 z + .25)."""
    a, b, c, d = LTIController(control.tf([2.0, 0.0, 1.0], [4.0, -2.0, 1.0], 1)).realization()
    npt.assert_array_equal(a, [[0.5, -0.25], [1.0, 0.0]])
    npt.assert_array_equal(b, [[1.0], [0.0]])
    npt.assert_array_equal(c, [[0.25, 0.125]])
    npt.assert_array_equal(d, [[0.5]])
