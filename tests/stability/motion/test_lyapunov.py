"""Lyapunov exponents against logarithms, determinants and published values, with every kind of derivative."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import PID, FixedAttention, Loop, SoftmaxAttention, lyapunov_exponents, rms_norm
from ctrlattn.stability import closed_loop_poles, convergence, kaplan_yorke_dimension, layer_map
from ctrlattn.stability.motion import lyapunov
from ctrlattn.stability.motion.tangent import Tangent, dense_jacobian

DIAGONAL = np.array([0.5, 2.0, 0.0, 3.0, -0.7])
LOGARITHMS = np.array([math.log(3), math.log(2), math.log(0.7), math.log(0.5), -math.inf])


def henon(z):
    return np.array([1 - 1.4 * z[0] ** 2 + z[1], 0.3 * z[0]])


def henon_jvp(z, v):
    return np.stack([-2.8 * z[0] * v[:, 0] + v[:, 1], 0.3 * v[:, 0]], -1)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["differences", "given", "torch"])
def test_a_diagonal_map_has_the_logarithms_of_its_entries(k, kind):
    if kind == "torch":
        entries = torch.from_numpy(DIAGONAL)
        exponents = lyapunov_exponents(lambda x: entries * x, torch.zeros(5, dtype=torch.float64), 40, k=k)
    else:
        jvp = (lambda x, v: DIAGONAL * v) if kind == "given" else None
        exponents = lyapunov_exponents(lambda x: DIAGONAL * x, np.zeros(5), 40, k=k, jvp=jvp)
    assert_allclose(exponents, LOGARITHMS[:k], atol=1e-9 if kind == "differences" else 1e-12)


def test_annihilated_directions_do_not_hide_the_others():
    # Eigenvalues 0.5, 0.25, 0, 0; the identity frame loses a direction before the last finite one is measured.
    matrix = np.array([[0.5, 0.5, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.25]])
    exponents = lyapunov_exponents(lambda x: matrix @ x, np.zeros(4), 2000, k=4, jvp=lambda x, v: v @ matrix.T)
    assert_allclose(exponents, [math.log(0.5), math.log(0.25), -math.inf, -math.inf], atol=2e-3)


def test_a_defective_matrix_takes_its_time():
    matrix = np.array([[0.5, 0.0], [1.0, 0.5]])
    exponents, running = lyapunov_exponents(
        lambda x: matrix @ x, np.zeros(2), 2000, k=2, history=True, jvp=lambda x, v: v @ matrix.T
    )
    assert_allclose(exponents.sum(), 2 * math.log(0.5), atol=1e-12)  # the determinant, at any length
    assert_allclose(exponents, math.log(0.5), atol=5e-3)
    assert abs(running[10, 0] - math.log(0.5)) > 0.1


def test_a_fixed_point_has_the_logarithms_of_its_multipliers():
    start = np.array([1 - 1 / 2.8])
    exponents = lyapunov_exponents(lambda x: 2.8 * x * (1 - x), start, 50)
    assert_allclose(exponents, math.log(0.8), atol=1e-9)
    # Arriving from elsewhere, the transient is discarded.
    exponents = lyapunov_exponents(lambda x: 2.8 * x * (1 - x), np.array([0.2]), 50, transient=300)
    assert_allclose(exponents, math.log(0.8), atol=1e-9)


@pytest.mark.parametrize("jvp", [henon_jvp, None], ids=["given", "differences"])
def test_henon(jvp):
    steps = 2000
    exponents, running = lyapunov_exponents(
        henon, np.array([0.1, 0.1]), steps, k=2, transient=500, history=True, jvp=jvp
    )
    assert_allclose(exponents.sum(), math.log(0.3), atol=1e-11 if jvp else 1e-8)
    error = convergence(running).standard_error[0]
    assert 1e-5 < error < 0.02
    assert abs(exponents[0] - 0.4193) < 4 * error + 1e-4
    assert running.shape == (steps, 2)
    assert_allclose(running[-1], exponents)
    assert abs(kaplan_yorke_dimension(exponents) - 1.2583) < 0.02


@pytest.mark.parametrize(
    "step",
    [
        lambda x: 4 * x * (1 - x),
        lambda x: 1 - np.abs(1 - 2 * x),  # lands on the kink exactly, after some fifty doublings
        lambda x: np.where(x < 0.5, 2 * x, 2 - 2 * x),
    ],
    ids=["logistic", "tent", "tent, branches"],
)
def test_logistic_and_tent_have_ln_2(step):
    assert_allclose(lyapunov_exponents(step, np.array(0.3), 1500, k=1), math.log(2), atol=2e-3)


def test_torch_and_differences_agree_along_a_chaotic_orbit():
    x = np.array([0.1, 0.1])
    theirs = lyapunov_exponents(
        lambda z: torch.stack([1 - 1.4 * z[0] ** 2 + z[1], 0.3 * z[0]]), torch.from_numpy(x), 40, k=2
    )
    assert_allclose(lyapunov_exponents(henon, x, 40, k=2), theirs, atol=1e-8)


def test_a_linear_loop_has_the_logarithms_of_its_poles():
    rng = np.random.default_rng(3)
    matrix = np.tril(rng.random((4, 4)))
    matrix = matrix / matrix.sum(1, keepdims=True)
    pid = PID(0.8, 0.5, 0.05)
    loop = Loop(FixedAttention(matrix), skip=0.0, feedback=1.0, controller=pid)
    step, start = layer_map(loop, np.zeros((4, 1)))
    poles = np.abs(closed_loop_poles(pid, np.diag(matrix)))
    exponents = lyapunov_exponents(
        step, start, 200, k=12, transient=200, jvp=lambda z, v: np.stack([step(z_i) for z_i in v])
    )
    assert_allclose(exponents.sum(), np.log(poles).sum(), atol=1e-10)
    assert_allclose(exponents, np.sort(np.log(poles).ravel())[::-1], atol=5e-3)  # complex pairs turn, 1/T


def test_unread_memories_are_no_exponents():
    for pid, size in ((PID(0.5), 1), (PID(0.5, 0.1), 2), (PID(0.5, 0.1, 0.1), 3), (PID(0.5, 0.1, 0.1, form="ema"), 4)):
        loop = Loop(FixedAttention(np.eye(2)), skip=0.0, feedback=1.0, controller=pid)
        x = np.array([[1.0], [2.0]])
        step, start = layer_map(loop, x, reference=0.5 * x)
        assert start.shape == (size, 2, 1)
        state = loop.init(x, 0.5 * x)._replace(controller=pid.init(0.5 * x - x), acting=True)
        z, y = start, x
        for _ in range(4):  # the same trajectory as the loop's own step
            z = step(z)
            y, state, _ = loop.step(y, state)
            assert_allclose(z[0], y, atol=1e-13)


@pytest.mark.slow
def test_a_normalised_attention_loop_by_jvp_and_by_full_jacobians():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 3)))
    step, start = layer_map(Loop(SoftmaxAttention(), feedback=-0.7, normalizer=rms_norm), x)
    exponents = lyapunov_exponents(step, start, 20, k=9)
    frame, z, total = np.eye(9), start, np.zeros(9)
    for _ in range(20):
        jacobian = torch.func.jacrev(step)(z).reshape(9, 9).numpy()
        frame, r = np.linalg.qr(jacobian @ frame)
        z, total = step(z), total + np.log(np.abs(np.diag(r)) + 1e-300)
    expected = np.sort(total / 20)[::-1]
    finite = np.isfinite(exponents)
    # The norm takes the radial direction of each token away.
    assert finite.sum() == 6
    assert_allclose(exponents[:5], expected[:5], atol=1e-6)
    few = lyapunov_exponents(step, start, 60, k=3, transient=30)
    assert_allclose(few, lyapunov_exponents(step, start, 60, k=9, transient=30)[:3], atol=2e-2)


def test_a_sequence_of_maps_gives_finite_time_exponents():
    maps = [lambda x, g=g: g * x for g in (2.0, 3.0, 0.5)]
    assert_allclose(lyapunov_exponents(maps, np.zeros(1), 3), math.log(3) / 3)
    assert_allclose(lyapunov_exponents(maps, np.zeros(1), 2, transient=1), math.log(1.5) / 2)
    with pytest.raises(ValueError, match="one map for each step"):
        lyapunov_exponents(maps, np.zeros(1), 4)


def test_steps_that_vmap_cannot_map_are_differentiated_one_by_one():
    def step(x):
        return 0.5 * x if float(x.sum()) >= 0 else 2 * x  # .item() of a plain tensor, not of a mapped one

    x = torch.ones(3, dtype=torch.float64)
    assert_allclose(lyapunov_exponents(step, x, 5), math.log(0.5), atol=1e-12)


def test_float32_keeps_its_kind():
    x = np.array([0.1, 0.1], dtype=np.float32)
    seen = []

    def step(z):
        seen.append(z.dtype)
        return (np.array([1.0, 0.3], dtype=np.float32) * z).astype(np.float32)

    assert_allclose(lyapunov_exponents(step, x, 10), [0.0, math.log(0.3)], atol=1e-4)
    assert set(seen) == {np.dtype("float32")}


def test_kinks_and_critical_points_of_differences():
    # At the critical point of a smooth map the derivative is 0, and the one-sided quotients must not count.
    x = np.array([0.5])
    _, jacobian = dense_jacobian(lambda t: 4 * t * (1 - t) + 0 * t, x)
    assert abs(jacobian[0, 0]) < 1e-4


def test_degenerate_maps():
    assert lyapunov_exponents(lambda x: 0 * x, np.ones(3), 4).tolist() == [-math.inf] * 3
    delay = np.array([[0.0, 1.0], [0.0, 0.0]])
    assert lyapunov_exponents(lambda x: delay @ x, np.ones(2), 4, k=1).tolist() == [-math.inf]
    assert_allclose(lyapunov_exponents(lambda x: 1.0 * x, np.array(2.0), 4), [0.0], atol=1e-9)
    # A large triangular map, of which two directions are pushed.
    matrix = np.diag(np.full(600, 0.5)) + np.diag(np.full(599, 1e-3), 1)
    matrix[0, 0], matrix[1, 1] = 0.9, 0.8
    exponents = lyapunov_exponents(lambda x: matrix @ x, np.zeros(600), 20, k=2, jvp=lambda x, v: v @ matrix.T)
    assert_allclose(exponents, np.log([0.9, 0.8]), atol=1e-9)


def test_refused():
    with pytest.raises(ValueError, match=r"k must be a whole number in 1 \.\.\. 2"):
        lyapunov_exponents(henon, np.zeros(2), 10, k=3)
    with pytest.raises(ValueError, match="steps must be a whole number of at least 1"):
        lyapunov_exponents(henon, np.zeros(2), 0)
    with pytest.raises(ValueError, match="no longer finite after step"), np.errstate(all="ignore"):
        lyapunov_exponents(lambda x: x**3, np.array([9.0]), 50)
    with pytest.raises(ValueError, match="must return what it takes"):
        lyapunov_exponents(lambda x: x[:1], np.zeros(2), 5)
    with pytest.raises(ValueError, match="J\\(x\\) times each direction"):
        lyapunov_exponents(henon, np.zeros(2), 5, jvp=lambda x, v: v[0])
    with pytest.raises(ValueError, match="finite"):
        lyapunov_exponents(henon, np.array([np.nan, 0.0]), 5)
    with pytest.raises(TypeError, match="must be real"):
        lyapunov_exponents(lambda x: 1j * x, np.ones(2, dtype=complex), 5)
    with pytest.raises(TypeError, match="floating point"):
        lyapunov_exponents(henon, np.array([1, 0]), 5)
    with pytest.raises(ValueError, match="running estimate"):
        convergence(np.zeros(5))
    loop = Loop(SoftmaxAttention())
    with pytest.raises(ValueError, match="sequence of 2 different"):
        layer_map([loop, replace(loop, feedback=1.0)], np.ones((2, 2)))


def test_dimension():
    assert kaplan_yorke_dimension(np.array([-0.1, -0.2])) == 0.0
    assert kaplan_yorke_dimension(np.array([0.3, -0.1])) == 2.0  # not enough of them to become negative
    assert_allclose(kaplan_yorke_dimension(np.array([0.9, 0.0, -14.57])), 2 + 0.9 / 14.57)
    assert kaplan_yorke_dimension(np.array([0.5, -math.inf])) == 1.0


def test_the_drift_is_the_range_of_the_second_half_and_a_lost_direction_has_none():
    early = np.array([9.0, 5.0, 3.0, 2.0, 1.0, 1.5, 1.25, 1.0])
    late = np.array([0.5, 0.4, 0.4, 0.4, 0.4, 0.4, -np.inf, -np.inf])
    result = convergence(np.column_stack([early, late]), batches=2)
    assert_allclose(result.drift, [0.5, 0.0])
    # Two batches of four steps: the means are 2 and 0, and their standard error is |2 - 0|/2.
    assert_allclose(result.standard_error, [1.0, 0.0])


def test_a_frame_is_turned_until_its_rates_stand_still():
    """Subspace iteration with diag(2, 1, 1/2): the sine of the angle to the outermost pair halves at each step."""
    a = np.diag([2.0, 1.0, 0.5])
    frame = np.linalg.qr(np.array([[1.0, 0.3], [0.2, 1.0], [1.0, 1.0]]))[0]
    x = np.zeros(3)
    turned = lyapunov._align(Tangent(x, lambda x, v: v @ a.T), lambda x: a @ x, x, frame)
    assert np.linalg.norm(turned[2]) < 1e-2 * np.linalg.norm(frame[2])
    assert abs(turned[1, 0]) < 1e-2
    assert_allclose(turned.T @ turned, np.eye(2), atol=1e-12)


def test_the_dimension_of_exponents_in_any_order_and_of_none_that_is_a_number():
    assert_allclose(kaplan_yorke_dimension(np.array([-1.5, 0.5, 0.25])), 2 + 0.75 / 1.5)
    assert_allclose(kaplan_yorke_dimension(np.array([1.0, -0.25, -0.75, -2.0])), 3.0)  # the sum of three is 0
    for given, message in ((np.zeros((2, 2)), r"are \(k,\), got shape \(2, 2\)"), (np.array([0.1, np.nan]), "not a n")):
        with pytest.raises(ValueError, match=message):
            kaplan_yorke_dimension(given)


def test_columns_are_measured_one_after_the_other_and_lost_ones_left_out():
    """(3, 0, 0) and (3, 4, 0): rates ln 3 and ln 4 in this order, ln 5 and ln 2.4 in the other."""
    first, second = np.array([3.0, 0.0, 0.0]), np.array([3.0, 4.0, 0.0])
    for columns, rates in (
        ([first, second], [3.0, 4.0]),
        ([second, first], [5.0, 2.4]),
        ([second, second, first], [5.0, 2.4]),  # the same once more adds no direction
        ([second, first, 1e-13 * np.eye(3)[2]], [5.0, 2.4]),  # noise beside the longest
        ([np.zeros(3), np.zeros(3)], []),
    ):
        q, found = lyapunov.reorthonormalise(np.array(columns).T, 1e-12, 1e-12)
        assert_allclose(np.exp(found), rates)
        assert_allclose(q.T @ q, np.eye(len(rates)), atol=1e-14)
        assert q.shape == (3, len(rates))


@every_case("k, held", [(3, 1), (2, 2), (1, 2), (3, 0)])
def test_directions_that_are_missing_are_filled_in_beside_those_that_are_held(k, held):
    frame = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 2)))[0][:, :held]
    full = lyapunov.refilled(frame, k, np.random.default_rng(1))
    assert full.shape == (4, max(k, held))
    assert_allclose(full.T @ full, np.eye(max(k, held)), atol=1e-14)
    assert_allclose(full[:, :held] @ full[:, :held].T, frame @ frame.T, atol=1e-14)


def test_the_standard_error_of_batches_of_unequal_length_and_of_too_many():
    """Increments 4, 0, 2, 2, 7 in two batches: means 2 of two and 11/3 of three steps."""
    running = np.cumsum([4.0, 0.0, 2.0, 2.0, 7.0])[:, None] / np.arange(1, 6)[:, None]
    expected = np.std([2.0, 11 / 3], ddof=1) / math.sqrt(2)
    assert_allclose(convergence(running, batches=2).standard_error, [expected])
    every = np.std([4.0, 0.0, 2.0, 2.0, 7.0], ddof=1) / math.sqrt(5)
    for batches in (5, 6, 20):
        assert_allclose(convergence(running, batches=batches).standard_error, [every])
    for steps in (0, 1):
        with pytest.raises(ValueError, match=rf"with at least 2 steps, got shape \({steps}, 1\)"):
            convergence(np.zeros((steps, 1)))
    with pytest.raises(ValueError, match="batches must be a whole number of at least 2"):
        convergence(running, batches=1)
