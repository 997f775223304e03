"""The loop against literal loops over tokens and layers, on both array kinds, and every way to call it wrongly."""

import math
from dataclasses import FrozenInstanceError, replace
from functools import partial

import control
import numpy as np
import numpy.testing as npt
import pytest
import torch

import ctrlattn.loop
from ctrlattn import (
    PID,
    AssociativeMemory,
    BilateralFilter,
    CausalMean,
    FixedAttention,
    Loop,
    LTIController,
    SoftmaxAttention,
    layer_norm,
    presets,
    rms_norm,
    simulate,
    unit_norm,
)
from ctrlattn.arrays import like, to_numpy
from ctrlattn.diagram import DIAGRAM
from ctrlattn.loop import refuse_loop_sequence, require_scalar_gains, require_single_loop

N, D = 5, 4


def draws(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def as_kind(xp, x, dtype="float64"):
    return like(x, xp.zeros(1, dtype=getattr(xp, dtype)))


CAUSAL = {
    "mean": CausalMean(),
    "fixed": FixedAttention(np.tril(draws(N, N))),
    "fixed, 2 heads": FixedAttention(np.tril(draws(2, N, N))),
    "softmax": SoftmaxAttention(draws(D, D), draws(D, D, seed=1), temperature=3.0),
    "softmax, 2 heads, strict": SoftmaxAttention(heads=2, strict=True),
    "memory": AssociativeMemory(draws(3, D), draws(3, D, seed=1), temperature=0.5, sink=0.2),
    "bilateral": BilateralFilter(1.3, causal=True, radius=2, spatial_bandwidth=1.5),
    "bilateral, grid": BilateralFilter(1.3, causal=True, radius=1, grid=(2, 3)),
}

# --- the automaton the project began with (docs/origin.md, "Prediction error") ---------------------------------------


def origin(x, passes, norm=None, hold_first=True):
    """That loop, in place: for p in range(passes): for i in 1..: X[i] = RMSnorm(X[i] - sum(X[0:i]) / i)."""
    x = x.copy()
    for _ in range(passes):
        for i in range(1 if hold_first else 0, len(x)):
            difference = x[i] - (sum(x[0:i]) / i if i else 0.0)
            x[i] = difference if norm is None else norm(difference)
    return x


def literal_rms(token):
    return token / math.sqrt(np.mean(token**2) + np.finfo(float).eps)


@pytest.mark.parametrize("hold_first", [True, False])
@pytest.mark.parametrize(("normalizer", "norm"), [(None, None), (rms_norm, literal_rms)], ids=["plain", "rms"])
def test_sequential_order_is_the_loop_of_the_origin(xp, hold_first, normalizer, norm):
    x = draws(12, D)
    loop = Loop(CausalMean(), order="sequential", normalizer=normalizer, hold_first=hold_first)
    run = simulate(loop, as_kind(xp, x), 15)
    for passes in (0, 1, 2, 15):
        npt.assert_allclose(to_numpy(run.state[passes]), origin(x, passes, norm, hold_first), rtol=1e-11, atol=1e-12)


def test_the_presets_are_the_loops_of_the_origin():
    x = draws(12, D)
    plain, rms = presets.get("prediction-error"), presets.get("prediction-error-rms")
    npt.assert_allclose(simulate(plain, x, 15, record="last").state, origin(x, 15), rtol=1e-11, atol=1e-12)
    npt.assert_allclose(simulate(rms, x, 15, record="last").state, origin(x, 15, literal_rms), rtol=1e-11, atol=1e-12)


def test_one_sequential_pass_has_the_closed_form_of_the_theory():
    # x'_0 = x_0; x'_1 = x_1 - x_0; x'_i = x_i - sum_{1<=j<i} j x_j / (i (i-1))
    x = draws(9, 3)
    state = simulate(Loop(CausalMean(), order="sequential"), x, 1, record="last").state
    npt.assert_allclose(state[:2], [x[0], x[1] - x[0]], rtol=1e-14)
    for i in range(2, 9):
        expected = x[i] - sum(j * x[j] for j in range(1, i)) / (i * (i - 1))
        npt.assert_allclose(state[i], expected, rtol=1e-12, atol=1e-13)


# --- the equation, literally --------------------------------------------------------------------------------------


def literal_run(loop, x, layers, reference):
    """x' = norm(skip x + feedback y + u), one token after another; the sequential order reads what it has updated."""
    r, memory, states = reference, None, [x]
    for k in range(layers):
        e = loop.reference_gain * r - x
        u = 0.0 * x
        if loop.controller is not None and k == 0:
            memory = loop.controller.init(e)
        elif loop.controller is not None:
            u, memory = loop.controller.step(e, memory)
        old, new = x, x.copy()
        for i in range(loop.hold_first, len(x)):
            seen = new if loop.order == "sequential" else old
            if loop.normalize_input:
                seen = np.stack([loop.normalizer(token) for token in seen])
            y = loop.predictor(seen)[i]  # a causal predictor: what `new` still holds of the old tokens does not matter
            token = loop.skip * old[i] + loop.feedback * y + u[i]
            new[i] = token if loop.normalizer is None or loop.normalize_input else loop.normalizer(token)
        x = new
        states.append(x)
    return np.stack(states)


OPTIONS = {
    "plain": {},
    "gains": {"skip": 0.7, "feedback": 0.4, "reference_gain": 0.2},
    "norm": {"normalizer": rms_norm, "feedback": -0.8},
    "pre-norm": {"normalizer": layer_norm, "normalize_input": True, "feedback": 0.3},
    "held": {"hold_first": True, "normalizer": unit_norm, "feedback": -0.6},  # at -1 x - y all but cancels
    "pid": {"controller": PID(0.4, 0.1, 0.05), "reference_gain": 0.3, "skip": 0.5, "feedback": 0.3},
    "lti, held": {"controller": control.tf([0.3, 0.1], [1.0, -0.5], 1), "hold_first": True, "skip": 0.6},
}


@pytest.mark.parametrize("order", ["parallel", "sequential"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
@pytest.mark.parametrize("name", CAUSAL)
def test_a_layer_is_its_equation(name, options, order):
    loop, x, r = Loop(CAUSAL[name], order=order, **options), draws(N, D), draws(N, D, seed=1)
    expected = literal_run(loop, x, 3, r)
    scale = np.abs(expected).max()
    npt.assert_allclose(simulate(loop, x, 3, reference=r).state, expected, rtol=1e-10, atol=1e-12 * scale)


@pytest.mark.parametrize("order", ["parallel", "sequential"])
def test_the_recorded_signals_are_those_of_the_equation(xp, order):
    x, r = as_kind(xp, draws(2, N, D)), as_kind(xp, draws(2, N, D, seed=1))
    loop = Loop(CausalMean(), skip=0.9, feedback=-0.3, controller=PID(0.2), reference_gain=0.5, order=order)
    run = simulate(loop, x, 4, reference=r)
    assert [tuple(s.shape) for s in run] == [(5, 2, N, D)] + 3 * [(4, 2, N, D)]
    state, y, e, u = (to_numpy(s) for s in run)
    npt.assert_allclose(e, 0.5 * to_numpy(r) - state[:-1], rtol=1e-13, atol=1e-15)
    npt.assert_allclose(u[1:], 0.2 * e[1:], rtol=1e-14)
    npt.assert_array_equal(u[0], 0.0)
    npt.assert_allclose(state[1:], 0.9 * state[:-1] - 0.3 * y + u, rtol=1e-13, atol=1e-14)


def test_the_reference_is_the_first_state_unless_given():
    x, loop = draws(N, D), Loop(CausalMean(), controller=PID(0.4), skip=0.5)
    npt.assert_array_equal(simulate(loop, x, 3).state, simulate(loop, x, 3, reference=x).state)
    assert np.abs(simulate(loop, x, 3, reference=2 * x).state - simulate(loop, x, 3).state).max() > 0.1


@pytest.mark.parametrize("order", ["parallel", "sequential"])
def test_token_0_is_held_in_every_order(xp, order):
    loop = Loop(
        CAUSAL["softmax, 2 heads, strict"], order=order, hold_first=True, controller=PID(0.3), normalizer=rms_norm
    )
    x = as_kind(xp, draws(2, N, D))
    state = to_numpy(simulate(loop.to(x), x, 4).state)
    npt.assert_array_equal(state[:, :, 0], np.broadcast_to(to_numpy(x)[:, 0], (5, 2, D)))
    assert np.abs(state[1:, :, 1:] - state[:-1, :, 1:]).min() > 0


def test_one_token_alone():
    x = draws(1, D)
    for order in ("parallel", "sequential"):
        run = simulate(Loop(CausalMean(), order=order), x, 3)
        npt.assert_array_equal(run.state, np.broadcast_to(x, (4, 1, D)))


@pytest.mark.parametrize("order", ["parallel", "sequential"])
def test_a_batch_is_a_loop_over_its_signals(xp, order):
    x = as_kind(xp, draws(2, 3, N, D))
    loop = Loop(SoftmaxAttention(heads=2), controller=PID(0.3, 0.1), skip=0.5, feedback=0.5, order=order)
    batched = simulate(loop, x, 4).state
    for i in range(2):
        for j in range(3):
            npt.assert_allclose(to_numpy(batched[:, i, j]), to_numpy(simulate(loop, x[i, j], 4).state), rtol=1e-12)


# --- disturbance, records, layers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [0, 2, 3])
@pytest.mark.parametrize("hold_first", [False, True])
def test_an_impulse_at_a_layer_shows_from_the_next_state_on(xp, layer, hold_first):
    x = as_kind(xp, draws(N, D))
    loop = Loop(CausalMean(), skip=0.9, controller=PID(0.3), hold_first=hold_first)
    w = np.zeros((4, N, D))
    w[layer, 0, 1] = 1.0
    gap = to_numpy(simulate(loop, x, 4, disturbance=as_kind(xp, w)).state - simulate(loop, x, 4).state)
    npt.assert_array_equal(gap[: layer + 1], 0.0)
    npt.assert_allclose(gap[layer + 1], w[layer], atol=1e-15)
    assert np.abs(gap[layer + 1 :]).max(axis=(1, 2)).min() > 1e-3


def test_a_disturbance_acts_behind_the_norm():
    x, w = draws(N, D), draws(2, N, D, seed=1)
    loop = Loop(CausalMean(), normalizer=unit_norm)
    run = simulate(loop, x, 2, disturbance=w)
    npt.assert_allclose(np.linalg.norm(run.state[1:] - w, axis=-1), 1.0, rtol=1e-12)


@pytest.mark.parametrize("order", ["parallel", "sequential"])
def test_the_last_record_is_the_end_of_the_whole(xp, order):
    x, loop = as_kind(xp, draws(N, D)), Loop(CausalMean(), controller=PID(0.1), order=order)
    last = simulate(loop, x, 5, record="last")
    npt.assert_array_equal(to_numpy(last.state), to_numpy(simulate(loop, x, 5).state[-1]))
    assert last[1:] == (None, None, None)


def test_no_layer_changes_nothing(xp):
    x, loop = as_kind(xp, draws(N, D)), Loop(CausalMean())
    for chosen in (loop, []):
        run = simulate(chosen, x, 0)
        npt.assert_array_equal(to_numpy(run.state), to_numpy(x)[None])
        assert [tuple(s.shape) for s in run[1:]] == 3 * [(0, N, D)]
        assert simulate(chosen, x, 0, record="last").state is x


@pytest.mark.parametrize("layers", [np.int64(2), np.uint8(2), np.array(2)])
def test_a_whole_number_of_numpy_counts_layers(layers):
    npt.assert_array_equal(simulate(Loop(CausalMean()), draws(N, D), layers).state.shape, (3, N, D))


@pytest.mark.parametrize("layers", [-1, np.int64(-1), 2.0, True, "2", None, np.array([2, 3])])
def test_what_counts_no_layers_is_refused(layers):
    with pytest.raises(ValueError, match="layers must be a whole number of at least 0, got"):
        simulate(Loop(CausalMean()), draws(N, D), layers)


# --- a loop for each layer ----------------------------------------------------------------------------------------


def test_a_sequence_of_one_loop_is_that_loop():
    loop, x = Loop(CausalMean(), controller=PID(0.3, 0.2, 0.1), reference_gain=0.4), draws(N, D)
    npt.assert_array_equal(simulate([loop] * 5, x, 5).state, simulate(loop, x, 5).state)
    npt.assert_array_equal(simulate((loop,) * 5, x, 5).state, simulate(loop, x, 5).state)


def test_the_state_of_the_controller_carries_across():
    # u_l = P_l e_l + I_l sum_{m=1..l} e_m with gains of their own in each layer.
    x, gains = draws(N, D), [(0.1, 0.2), (0.3, 0.4), (0.5, 0.1), (0.2, 0.3)]
    loops = [Loop(CausalMean(), skip=0.4, controller=PID(*g), reference_gain=0.3) for g in gains]
    run = simulate(loops, x, 4)
    for k in range(1, 4):
        expected = gains[k][0] * run.error[k] + gains[k][1] * run.error[1 : k + 1].sum(0)
        npt.assert_allclose(run.control[k], expected, rtol=1e-13, atol=1e-15)


def test_layers_without_a_controller_pass_its_state_on():
    x, idle = draws(N, D), Loop(CausalMean(), skip=0.4, reference_gain=0.3)
    active = replace(idle, controller=PID(ki=0.5))
    run = simulate([active, active, idle, active], x, 4)
    npt.assert_array_equal(run.control[2], 0.0)
    npt.assert_allclose(run.control[3], 0.5 * (run.error[1] + run.error[3]), rtol=1e-13)


def test_a_controller_that_comes_late_starts_at_the_first_error_it_meets():
    x, idle = draws(N, D), Loop(CausalMean(), skip=0.4, reference_gain=0.3)
    active = replace(idle, controller=PID(0.0, 0.5, 0.2))
    run = simulate([idle, idle, active, active], x, 4)
    npt.assert_allclose(run.control[2], 0.5 * run.error[2], rtol=1e-13)  # no derivative yet
    expected = 0.5 * (run.error[2] + run.error[3]) + 0.2 * (run.error[3] - run.error[2])
    npt.assert_allclose(run.control[3], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (PID(0.1), PID(0.1, form="ema"), "layer 0 has PID with 2 memories, layer 2 has PID with 3 memories"),
        (PID(0.1), LTIController(control.tf([1], [1, 0, 0], 1)), "layer 2 has LTIController with 2 memories"),
        (control.tf([1], [1, 0], 1), control.tf([1], [1, 0, 0], 1), "with 1 memories, layer 2 has .* with 2 memories"),
    ],
)
def test_controllers_that_cannot_read_each_others_state_are_refused(first, second, message):
    loops = [Loop(CausalMean(), controller=c) for c in (first, None, second)]
    with pytest.raises(ValueError, match=message):
        simulate(loops, draws(N, D), 3)


def test_each_layer_that_does_not_act_has_the_error_of_its_own_reference_gain():
    x, r, gains = draws(N, D), draws(N, D, seed=1), (0.3, -1.0, 2.0)
    run = simulate([Loop(CausalMean(), skip=0.4, reference_gain=beta) for beta in gains], x, 3, reference=r)
    for k, beta in enumerate(gains):
        npt.assert_allclose(run.error[k], beta * r - run.state[k], rtol=1e-14)


def test_only_passes_that_nothing_disturbs_are_made_all_at_once(monkeypatch):
    x, r, calls = draws(N, D), draws(N, D, seed=1), []
    real = ctrlattn.loop._all_passes
    monkeypatch.setattr(ctrlattn.loop, "_all_passes", lambda *a, **k: calls.append(a) or real(*a, **k))
    loop = Loop(CausalMean(), order="sequential", reference_gain=0.3)
    together = simulate(loop, x, 4, reference=r)
    assert len(calls) == 1
    assert simulate(loop, x, 4, reference=r, record="last").error is None
    assert len(calls) == 2
    for one_by_one in (
        simulate(loop, x, 4, reference=r, disturbance=np.zeros((4, N, D))),
        simulate([loop] * 4, x, 4, reference=r),
        simulate(replace(loop, controller=PID(0.0)), x, 4, reference=r),
    ):
        for signal, expected in zip(together, one_by_one, strict=True):
            npt.assert_allclose(signal, expected, rtol=1e-12, atol=1e-14)
    simulate(loop, x, 0)
    simulate(replace(loop, order="parallel"), x, 2)
    assert len(calls) == 2


def test_a_sequence_that_is_none_is_refused():
    x, loop = draws(N, D), Loop(CausalMean())
    with pytest.raises(ValueError, match="one loop for each layer: it has 2 loops for 3 layers"):
        simulate([loop, loop], x, 3)
    with pytest.raises(TypeError, match="loop 1 of the sequence is a CausalMean, not a Loop"):
        simulate([loop, CausalMean()], x, 2)
    with pytest.raises(TypeError, match="a sequence with one Loop for each layer, got CausalMean"):
        simulate(CausalMean(), x, 2)


def test_lti_quantities_take_one_loop():
    loop = Loop(CausalMean())
    assert require_single_loop(loop, "a pole") is loop
    with pytest.raises(ValueError, match=r"a pole is defined for one .* not for a sequence of 2 different layers"):
        require_single_loop([loop, loop], "a pole")
    with pytest.raises(TypeError, match="a pole takes a Loop, got CausalMean"):
        require_single_loop(CausalMean(), "a pole")


def test_vectors_are_refused_where_a_mode_has_one_gain():
    loop = Loop(CausalMean(), skip=np.array([1.0, 0.5, 0.2]), feedback=-0.4)
    with pytest.raises(ValueError, match="a pole needs numbers as gains, and skip is a vector of 3,"):
        require_scalar_gains(loop, "a pole")
    with pytest.raises(ValueError, match="and feedback is a vector of 2,"):
        require_scalar_gains(Loop(CausalMean(), feedback=np.array([1.0, 0.5])), "a pole")
    scalar = Loop(CausalMean(), skip=0.5)
    assert require_scalar_gains(scalar, "a pole") is scalar


def test_vectors_of_one_length_alone_make_a_loop():
    three, two = np.array([1.0, 0.5, 0.2]), np.array([1.0, -1.0])
    with pytest.raises(ValueError, match="one number for each feature, got 3 and 2"):
        Loop(CausalMean(), skip=three, feedback=two)
    Loop(CausalMean(), skip=three, feedback=-three)
    Loop(CausalMean(), skip=three, feedback=0.1)


def test_the_plain_loop_subtracts_the_prediction_and_tracks_the_whole_reference():
    loop = Loop(CausalMean())
    assert (loop.skip, loop.feedback, loop.reference_gain) == (1.0, -1.0, 1.0)
    assert (loop.tracking.controller, loop.tracking.reference_gain) == (None, 1.0)


def test_a_sequence_of_loops_is_told_from_other_sequences():
    loop = Loop(CausalMean())
    for system in (loop, [], (1, 2, 3, 4), [loop, None], np.eye(2), "loop"):
        refuse_loop_sequence(system, "margins")
    for loops in ([loop], (loop, loop)):
        with pytest.raises(ValueError, match=f"margins is defined for one .* not for a sequence of {len(loops)} "):
            refuse_loop_sequence(loops, "margins")


# --- two array kinds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", presets.names())
@pytest.mark.parametrize("seed", range(4))
def test_torch_computes_what_numpy_computes_over_20_layers(name, seed):
    x = draws(2, 3, 6, D, seed=seed)
    run = simulate(presets.get(name), x, 20)
    same = simulate(presets.get(name), torch.as_tensor(x), 20)
    for signal, expected in zip(same, run, strict=True):
        scale = np.abs(expected).max(axis=(-1, -2), keepdims=True)  # of each signal and layer
        assert (np.abs(signal.numpy() - expected) <= 1e-12 * scale).all()


@pytest.mark.parametrize("name", presets.names())
def test_derivatives_through_the_layers_agree_with_differences(name):
    x = torch.as_tensor(draws(3, 2)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: simulate(presets.get(name), x, 3, record="last").state, x)


@pytest.mark.parametrize("name", presets.names())
def test_float32_stays_float32(xp, name):
    run = simulate(presets.get(name), as_kind(xp, draws(N, D), "float32"), 3)
    assert all(signal.dtype == as_kind(xp, draws(1), "float32").dtype for signal in run)
    npt.assert_allclose(to_numpy(run.state), simulate(presets.get(name), draws(N, D), 3).state, rtol=1e-3, atol=1e-4)


def test_numbers_of_numpy_keep_float32():
    half = np.float64(0.5)
    loop = Loop(
        SoftmaxAttention(temperature=half),
        skip=half,
        feedback=half,
        reference_gain=half,
        controller=PID(half, half, half, form="ema", ema=half),
        normalizer=partial(rms_norm, eps=half),
    )
    assert all(signal.dtype == np.float32 for signal in simulate(loop, np.float32(draws(N, D)), 3))


LTI = {"controller": control.ss([[0.5, 1.0], [0.0, 0.2]], [[1.0], [1.0]], [[0.2, 0.0]], [[0.1]], 1)}


@pytest.mark.slow
@pytest.mark.parametrize("options", [OPTIONS["norm"], OPTIONS["pid"], LTI], ids=["parallel", "controlled", "LTI"])
def test_a_step_compiles_into_one_graph(options):
    loop = Loop(SoftmaxAttention(heads=2), **options)
    # One of the three goes through the tracer of gradients too, which knows no more of a graph than its operations.
    step = torch.compile(loop.step, fullgraph=True, backend="aot_eager" if options is LTI else "eager")
    x = torch.as_tensor(draws(N, D))
    try:
        expected, compiled = (x, loop.init(x, 2 * x)), (x, loop.init(x, 2 * x))
        for _ in range(3):
            expected, compiled = loop.step(*expected)[:2], step(*compiled)[:2]
            npt.assert_allclose(compiled[0].numpy(), expected[0].numpy(), rtol=1e-12, atol=1e-13)
    finally:
        torch.compiler.reset()


def test_a_run_can_be_mapped_over_a_batch():
    x = torch.as_tensor(draws(3, N, D))
    loop = Loop(SoftmaxAttention(), controller=PID(0.2), normalizer=rms_norm)
    mapped = torch.func.vmap(lambda x: simulate(loop, x, 3).state)(x)
    npt.assert_allclose(mapped.numpy(), simulate(loop, x, 3).state.movedim(0, 1).numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", CAUSAL)
def test_a_loop_moves_to_the_other_kind_and_back(name):
    x = draws(N, D)
    loop = Loop(
        CAUSAL[name],
        normalizer=partial(rms_norm, weight=np.linspace(0.5, 1.5, D)),
        controller=control.ss([[0.5]], [[1.0]], [[0.2]], [[0.1]], 1),
    )
    there = loop.to(torch.zeros(1, dtype=torch.float64))
    back = there.to(x)
    run = simulate(loop, x, 3).state
    npt.assert_allclose(simulate(there, torch.as_tensor(x), 3).state.numpy(), run, rtol=1e-12, atol=1e-12)
    npt.assert_array_equal(simulate(back, x, 3).state, run)
    single = loop.to(np.zeros(1, np.float32))
    assert simulate(single, np.float32(x), 3).state.dtype == np.float32


@pytest.mark.parametrize("order", ["parallel", "sequential"])
def test_the_input_is_not_overwritten(xp, order):
    x, r = as_kind(xp, draws(N, D)), as_kind(xp, draws(N, D, seed=1))
    loop = Loop(CausalMean(), controller=PID(0.2, 0.1), normalizer=rms_norm, order=order, hold_first=True)
    w = as_kind(xp, draws(3, N, D))
    simulate(loop, x, 3, reference=r, disturbance=w)
    npt.assert_array_equal(to_numpy(x), draws(N, D))
    npt.assert_array_equal(to_numpy(r), draws(N, D, seed=1))
    npt.assert_array_equal(to_numpy(w), draws(3, N, D))


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("like", ["numpy", np.ones(2, dtype=int), None], ids=str)
def test_a_loop_moves_to_signals_alone(like):
    with pytest.raises(TypeError, match=r"numpy array or a torch tensor|floating point"):
        Loop(CausalMean()).to(like)


def test_a_loop_cannot_be_changed_and_equals_what_has_its_numbers():
    loop = Loop(CausalMean())
    with pytest.raises(FrozenInstanceError):
        loop.skip = 2.0
    assert loop == Loop(CausalMean())
    assert loop != Loop(CausalMean(), skip=2.0)
    assert len({loop, loop}) == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"predictor": CausalMean},
            TypeError,
            r"predictor is the class CausalMean: make one, such as CausalMean\(...\)",
        ),
        ({"predictor": None}, TypeError, "predictor must be a callable .* got NoneType"),
        ({"predictor": np.eye(2)}, TypeError, "predictor must be a callable .* got ndarray"),
        ({"normalizer": "rms_norm"}, TypeError, "normalizer must be a callable .* got str"),
        ({"normalizer": torch.nn.LayerNorm}, TypeError, "normalizer is the class LayerNorm"),
        ({"controller": PID}, TypeError, "controller is the class PID"),
        ({"controller": 0.5}, TypeError, "controller must be a PID"),
        ({"skip": math.nan}, ValueError, "skip must be finite"),
        ({"feedback": math.inf}, ValueError, "feedback must be finite"),
        ({"reference_gain": "1"}, TypeError, "reference_gain must be a number, got '1'"),
        ({"skip": [1.0, 0.5]}, TypeError, "skip must be a number"),
        ({"order": "serial"}, ValueError, 'order must be "parallel" or "sequential", got \'serial\''),
        ({"normalize_input": True}, ValueError, "normalize_input=True needs a normalizer"),
    ],
)
def test_a_loop_that_cannot_be_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        Loop(**{"predictor": CausalMean(), **options})


@pytest.mark.parametrize(
    "predictor",
    [SoftmaxAttention(causal=False), FixedAttention(np.ones((2, 2))), BilateralFilter(1.0), lambda x: x],
    ids=["softmax", "fixed", "bilateral", "function"],
)
def test_sequential_order_needs_a_causal_predictor(predictor):
    with pytest.raises(ValueError, match=r"sequential order .* is not causal"):
        Loop(predictor, order="sequential")


def test_a_function_that_says_it_is_causal_runs_sequentially():
    def shifted(x):
        return np.concatenate([0.0 * x[..., :1, :], x[..., :-1, :]], -2)

    shifted.causal = True
    x = draws(N, D)
    state = simulate(Loop(shifted, order="sequential"), x, 1, record="last").state
    for i in range(N):  # x'_i = x_i - x'_{i-1} = x_i - x_{i-1} + x_{i-2} - ...
        signs = (-1.0) ** (i - np.arange(i + 1))
        npt.assert_allclose(state[i], signs @ x[: i + 1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("order", ["parallel", "sequential"])
@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.ones((3, 2)), ValueError, r"predictor must keep the shape .*, it returned \(.*2\)"),
        (np.ones((3, 1)), ValueError, r"predictor must keep the shape .*, it returned \(.*1\)"),  # would broadcast
        (np.ones((2, 3, D)), ValueError, r"predictor must keep the shape .*, it returned \(2, .*\)"),
    ],
)
def test_a_predictor_keeps_the_shape(order, values, error, message):
    loop = Loop(AssociativeMemory(np.ones((3, D)), values, temperature=1.0), order=order)
    with pytest.raises(error, match=message):
        simulate(loop, draws(N, D), 1)


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (lambda x: x[..., :1], ValueError, r"must keep the shape \(5, 4\), it returned \(5, 1\)"),
        (lambda x: x.tolist(), TypeError, "must return a signal like its input: .* got list"),
        (lambda x: torch.as_tensor(x), TypeError, "numpy and torch arrays are mixed"),
        (lambda x: np.float32(x), TypeError, "dtypes are mixed"),
    ],
    ids=["shape", "list", "kind", "dtype"],
)
@pytest.mark.parametrize("place", ["predictor", "normalizer", "input"])
def test_what_a_function_returns_is_a_signal_like_its_input(result, error, message, place):
    options = {"normalizer": result, "normalize_input": place == "input"} if place != "predictor" else {}
    loop = Loop(result if place == "predictor" else CausalMean(), **options)
    with pytest.raises(error, match=message):
        simulate(loop, draws(N, D), 1)


X = draws(N, D)


@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        (X.tolist(), {}, TypeError, "got list"),
        (np.ones((N, D), int), {}, TypeError, "must be floating point"),
        (X[0], {}, ValueError, r"a signal is \(..., tokens, features\) .* got shape \(4,\)"),
        (X[:0], {}, ValueError, r"got shape \(0, 4\)"),
        (np.where(X[1, 2] == X, math.nan, X), {}, ValueError, r"x must be finite: found nan at index \(1, 2\)"),
        (X, {"reference": X[:2]}, ValueError, r"reference must be shaped as x, \(5, 4\), got \(2, 4\)"),
        (X, {"reference": np.float32(X)}, TypeError, "dtypes are mixed"),
        (X, {"reference": torch.as_tensor(X)}, TypeError, "numpy and torch arrays are mixed"),
        (X, {"reference": math.inf * np.ones_like(X)}, ValueError, "reference must be finite"),
        (X, {"disturbance": X}, ValueError, r"disturbance must be .* = \(2, 5, 4\), got \(5, 4\)"),
        (X, {"disturbance": np.ones((3, N, D))}, ValueError, r"= \(2, 5, 4\), got \(3, 5, 4\)"),
        (X, {"disturbance": np.full((2, N, D), math.nan)}, ValueError, "disturbance must be finite"),
        (X, {"disturbance": np.ones((2, N, D), np.float32)}, TypeError, "dtypes are mixed"),
        (X, {"record": "first"}, ValueError, 'record must be "all" or "last", got \'first\''),
    ],
)
def test_a_run_that_cannot_be_is_refused(x, options, error, message):
    with pytest.raises(error, match=message):
        simulate(Loop(CausalMean()), x, 2, **options)


def test_a_loop_of_the_other_kind_is_refused():
    loop = Loop(FixedAttention(np.eye(N)))
    with pytest.raises(TypeError, match=r"numpy and torch arrays are mixed.*Loop.to"):
        simulate(loop, torch.as_tensor(X), 1)
    with pytest.raises(TypeError, match="dtypes are mixed"):
        simulate(loop, np.float32(X), 1)


def test_the_diagram_stands_in_the_docstrings():
    for documented in (Loop, simulate):
        assert DIAGRAM in documented.__doc__
        assert "{diagram}" not in documented.__doc__


@pytest.mark.parametrize("controller", [None, PID(0.6)])
def test_a_push_is_added_to_what_a_layer_hands_on_and_fades_by_the_pole(controller):
    """x = r = 0, a = .4: a push of 1 at layer 1 is 1 at layer 2, then (.4 - kp)^k of it."""
    loop = Loop(FixedAttention(np.array([[0.4]])), skip=0.0, feedback=1.0, controller=controller)
    push, rest = np.zeros((5, 1, 1)), np.zeros((1, 1))
    push[1] = 1.0
    pole = 0.4 - (0.6 if controller else 0.0)
    for loops in (loop, [loop] * 5):
        run = simulate(loops, rest, 5, reference=rest, disturbance=push)
        npt.assert_allclose(run.state[:, 0, 0], [0, 0, 1, pole, pole**2, pole**3], rtol=1e-14)
        last = simulate(loops, rest, 5, reference=rest, disturbance=push, record="last")
        npt.assert_allclose(last.state, run.state[-1])
