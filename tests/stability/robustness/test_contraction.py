"""The certificate by what it promises: every pair of simulated motions shrinks in its metric, layer by layer."""

import control
import numpy as np
import pytest
import scipy.linalg
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import (
    PID,
    AssociativeMemory,
    CausalMean,
    FixedAttention,
    Loop,
    contraction_certificate,
    rms_norm,
    simulate,
)
from ctrlattn.linear.realization import realization
from ctrlattn.stability import sector_form
from ctrlattn.stability.robustness import contraction


def memory_loop(feedback, controller=None, seed=0, slots=6, d=3):
    rng = np.random.default_rng(seed)
    memory = AssociativeMemory(rng.normal(size=(slots, d)), rng.normal(size=(slots, d)), temperature=1.5)
    return Loop(memory, skip=0.6, feedback=feedback, controller=controller)


@every_case("a, b, low, high", [(0.9, 0.5, 0, 1), (0.3, -1, 0, 0.6), (-0.2, 1, 0.1, 0.5)])
def test_scalar_rate_is_the_largest_slope(a, b, low, high):
    certificate = contraction_certificate(control.ss(a, b, 1.0, 0, 1), low, high)
    assert_allclose(certificate.rate, max(abs(a - b * low), abs(a - b * high)), rtol=1e-4)


def test_the_matrix_inequality_holds_for_random_slopes():
    rng = np.random.default_rng(4)
    a, b, c = 0.5 * rng.normal(size=(4, 4)), 0.3 * rng.normal(size=(4, 2)), rng.normal(size=(2, 4))
    certificate = contraction_certificate(control.ss(a, b, c, 0, 1), -0.2, 0.7)
    assert certificate.slack <= 0
    for _ in range(500):
        q, _ = np.linalg.qr(rng.normal(size=(2, 2)))
        slope = q @ np.diag(rng.choice([-0.2, 0.7], 2)) @ q.T
        step = a - b @ slope @ c
        grown = np.linalg.eigvals(np.linalg.solve(certificate.metric, step.T @ certificate.metric @ step)).real.max()
        assert np.sqrt(grown) <= certificate.rate * (1 + 1e-9)


@pytest.mark.parametrize("feedback", [-0.2, 0.2, 0.8])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_memory_loop_keeps_its_promise(feedback, seed):
    loop = memory_loop(feedback, seed=seed)
    certificate = contraction_certificate(*sector_form(loop))
    rng = np.random.default_rng(seed)
    first, second = (simulate(loop, 2 * rng.normal(size=(50, 1, 3)), 12).state[:, :, 0] for _ in range(2))
    length = np.sqrt(np.einsum("kbi,ij,kbj->kb", first - second, certificate.metric, first - second))
    assert np.all(length[1:] <= certificate.rate * length[:-1] * (1 + 1e-9))


def test_a_controller_is_part_of_the_state():
    loop = memory_loop(0.1, controller=PID(0.3, 0.1, 0.0))
    system, low, high = sector_form(loop)
    assert system.nstates == 6
    certificate = contraction_certificate(system, low, high)
    assert certificate.rate < 1
    reference = np.zeros((1, 3))
    first, second = (
        simulate(loop, x, 200, reference=reference).state[-1] for x in np.random.default_rng(5).normal(size=(2, 1, 3))
    )
    assert_allclose(first, second, atol=1e-9)


def test_a_strong_memory_is_not_certified_and_has_two_attractors():
    keys = np.array([[1.0], [-1.0]])
    loop = Loop(AssociativeMemory(keys, keys, temperature=0.5), skip=0.0, feedback=1.0)
    certificate = contraction_certificate(*sector_form(loop))  # x' = tanh(2x)
    assert_allclose(certificate.rate, 2.0, rtol=1e-4)
    ends = [simulate(loop, np.array([[x]]), 100).state[-1].item() for x in (0.1, -0.1)]
    assert ends[0] > 0.9 > -0.9 > ends[1]


def test_a_normalised_loop_on_the_set_where_it_stays():
    rng = np.random.default_rng(6)
    matrix = rng.dirichlet(np.ones(4), size=4)
    loop = Loop(FixedAttention(matrix), skip=0.0, feedback=0.5, controller=PID(2.0), normalizer=rms_norm)
    plain = np.linalg.norm(0.5 * matrix - 2.0 * np.eye(4), 2)
    reference = 4.0 * np.ones((4, 8))  # v = (A/2 - 2) x + 2 r: |2 r| = 8 keeps every token away from 0
    lowest = 8.0 - np.sum(np.abs(0.5 * matrix - 2.0 * np.eye(4)), axis=1).max()
    assert lowest > plain  # on the sphere x has size 1, so that this set is never left
    certificate = contraction_certificate(*sector_form(loop, tokens=4, lowest=lowest))
    assert certificate.rate < 1
    first, second = (
        simulate(loop, rms_norm(rng.normal(size=(4, 8))), 30, reference=reference).state[1:] for _ in range(2)
    )
    length = np.sqrt(np.einsum("kif,ij,kjf->k", first - second, certificate.metric, first - second))
    moving = length[:-1] > 1e-12
    assert np.all(length[1:][moving] <= certificate.rate * length[:-1][moving] * (1 + 1e-9))


@every_case("controller", [None, PID(0.7), PID(0.4, 0.3, 0.2), PID(0.4, 0.3, 0.2, form="ema", ema=0.5)])
def test_the_form_of_a_normalised_loop_is_the_loop(controller):
    """x' = A x - B phi(C x), its phi the norm of each token, against `simulate` from the layer on at which C acts."""
    rng = np.random.default_rng(7)
    loop = Loop(FixedAttention(rng.normal(size=(3, 3))), skip=0.8, feedback=0.5, controller=controller,
                normalizer=rms_norm)  # fmt: skip
    system, low, high = sector_form(loop, tokens=3, lowest=0.25)
    assert (low, high) == (0.0, 4.0)
    reference = np.zeros((3, 4))  # then e = -x
    states = simulate(loop, rng.normal(size=(3, 4)), 8, reference=reference).state
    # Memories after layer 0, where the controller meets e_0 = -x_0: the integral is 0, past errors are e_0.
    memories = system.nstates - 3
    integral, past = (int(bool(controller and controller.ki)), bool(controller and controller.kd))
    state = np.concatenate([states[1], *[np.zeros((3, 4))] * integral, *[-states[0]] * (memories // 3 - integral)])
    assert memories // 3 == integral + (0 if not past else 1 if controller.form == "printed" else 2)
    for expected in states[2:]:
        state = system.A @ state - system.B @ rms_norm(system.C @ state)
        assert_allclose(state[:3], expected, rtol=1e-12, atol=1e-14)


def test_the_form_of_a_memory_loop_is_the_loop():
    loop = memory_loop(-0.4, controller=PID(0.3, 0.1, 0.2))
    system, low, high = sector_form(loop)
    assert (low, high) == (0.0, 1 / 3)  # 1/(2 T), T = 1.5
    x = np.random.default_rng(8).normal(size=(1, 3))
    states = simulate(loop, x, 8, reference=np.zeros((1, 3))).state[:, 0]
    state = np.concatenate([states[1], np.zeros(3), -states[0]])
    for expected in states[2:]:
        scores = system.C @ state / 1.5
        weights = np.exp(scores - scores.max())
        state = system.A @ state - system.B @ (weights / weights.sum())
        assert_allclose(state[:3], expected, rtol=1e-12, atol=1e-14)


def test_refused():
    with pytest.raises(ValueError, match="lowest"):
        sector_form(Loop(CausalMean(), normalizer=rms_norm), tokens=3)
    with pytest.raises(ValueError, match="linearize"):
        sector_form(Loop(CausalMean()))
    with pytest.raises(ValueError, match="parallel"):
        sector_form(Loop(CausalMean(), order="sequential", normalizer=rms_norm))
    with pytest.raises(ValueError, match="discrete"):
        contraction_certificate(control.ss(-1, 1, 1, 0), 0, 1)
    with pytest.raises(ValueError, match="sequence of 2 different layers"):
        sector_form([Loop(CausalMean())] * 2)


def test_only_a_pencil_that_cannot_be_ordered_means_no_metric(monkeypatch):
    system = control.ss(0.9, 0.5, 1.0, 0, 1)

    def failing(words):
        def solve(*_):
            raise ValueError(words)

        return solve

    monkeypatch.setattr(contraction, "solve_discrete_are", failing("Reordering of (A, B) failed"))
    with pytest.raises(ArithmeticError, match="no metric passes"):
        contraction_certificate(system, 0.0, 1.0)
    monkeypatch.setattr(contraction, "solve_discrete_are", failing("a fault of ours"))
    with pytest.raises(ValueError, match="a fault of ours"):
        contraction_certificate(system, 0.0, 1.0)


@every_case(
    "low, high, states",
    [(1.0, 0.0, 1), (np.nan, 1.0, 1), (0.0, np.nan, 1), (-np.inf, 1.0, 1), (0.0, np.inf, 1), (0.0, 1.0, 0)],
)
def test_a_sector_that_is_none_and_a_system_without_states_are_refused(low, high, states):
    system = control.ss(0.5, 1, 1, 0, 1) if states else control.ss([], [], [], 0, 1)
    with pytest.raises(ValueError, match="at least one state and finite low <= high"):
        contraction_certificate(system, low, high)


def test_a_sector_of_one_slope_is_a_linear_system():
    """low = high: x' = (A - low B C) x, whose best quadratic rate is the largest modulus of a normal matrix."""
    q = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    target = q @ np.diag([0.7, -0.4, 0.2]) @ q.T
    b, c = np.eye(3), np.eye(3)
    # A finer search ends where rounding decides whether its metric passes, and then the rate is a wider one.
    certificate = contraction_certificate(control.ss(target + 0.3 * b @ c, b, c, 0, 1), 0.3, 0.3, tol=1e-3)
    assert 0.7 * (1 - 1e-12) <= certificate.rate <= 0.7 * (1 + 1e-3)
    assert_allclose(np.linalg.eigvalsh(certificate.metric)[-1], 1.0, rtol=1e-12)
    assert certificate.slack <= 0


@pytest.mark.parametrize("tol", [1e-3, 1e-6])
def test_a_normal_matrix_alone_has_its_radius_as_rate_within_the_tolerance(tol):
    """Where no nonlinearity acts, the norm of A is its radius: the search begins at its own answer."""
    rate = contraction_certificate(control.ss(np.diag([0.5, -0.3]), [[1], [1]], [[1, 1]], 0, 1), 0, 0, tol=tol).rate
    assert 0.5 < rate <= 0.5 * (1 + tol)


def test_a_metric_is_checked_by_its_own_inequality(monkeypatch):
    """P with A'PA - P = -share C'C and B = 0 solves the inequality from a share of 1 on, and no P of a smaller one."""
    rng = np.random.default_rng(0)
    a, c = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    a *= 0.8 / np.abs(np.linalg.eigvals(a)).max()
    g = realization(control.ss(a, np.zeros((3, 1)), c, np.zeros((3, 1)), 1, remove_useless_states=False), "a test")
    for share in (0.5, 0.99, 1.01, 2.0):
        p = scipy.linalg.solve_discrete_lyapunov(a.T, share * c.T @ c)
        monkeypatch.setattr(contraction, "solve_discrete_are", lambda *_, p=p: p)
        metric = contraction._metric(g, 1.0)
        if share < 1:
            assert metric is None
            continue
        size = np.linalg.norm(p, 2)
        assert_allclose(metric[0], p / size)
        assert_allclose(metric[1], -min((share - 1) * np.linalg.eigvalsh(c.T @ c)[0], 1.0) / size, rtol=1e-6)


@every_case(
    "system",
    [
        control.ss(-1, 1, 1, 0),
        (np.array([[0.5j]]), np.eye(1), np.eye(1), np.zeros((1, 1))),
        control.ss(0.5, 1, 1, 0.1, 1),
    ],
    ids=["continuous", "complex", "direct term"],
)
def test_what_has_no_certificate_is_refused(system):
    with pytest.raises(ValueError, match="takes a real discrete-time system without a direct term"):
        contraction_certificate(system, 0.0, 1.0)


@pytest.mark.parametrize("options", [{"normalize_input": True}, {"hold_first": True}])
def test_each_kind_of_loop_without_a_form_is_refused(options):
    with pytest.raises(ValueError, match="parallel order, a norm on the result, no held token"):
        sector_form(Loop(CausalMean(), normalizer=rms_norm, **options), tokens=3, lowest=1.0)
    memory = AssociativeMemory(np.eye(2), np.eye(2), temperature=1.0)
    with pytest.raises(ValueError, match="linearize"):
        sector_form(Loop(memory, normalizer=rms_norm), lowest=1.0)


@every_case("scale", [1e-3, 1.0, 1e3])
@every_case("turn", [1.0, -1.0])
def test_a_rate_does_not_depend_on_the_unit_of_the_state(scale, turn):
    """x' = a x - b s c x for s in [0.2, 0.6]: the largest |a - b c s|, whatever b/c is."""
    certificate = contraction_certificate(control.ss(0.3 * turn, 0.5 * scale, 1 / scale, 0, 1), 0.2, 0.6)
    assert_allclose(certificate.rate, max(abs(0.3 * turn - 0.1), abs(0.3 * turn - 0.3)), rtol=1e-4, atol=1e-9)
    assert_allclose(certificate.metric, [[1.0]])


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_the_rate_is_that_of_the_metric_that_was_found(monkeypatch, failures):
    """A bound that no metric attains is widened, and the wider one is returned."""
    rates, find = [], contraction._metric

    def metric(g, rate):
        rates.append(rate)
        return None if len(rates) <= failures else find(g, rate)

    monkeypatch.setattr(contraction, "_metric", metric)
    tol = 1e-3
    certificate = contraction_certificate(control.ss(0.9, 0.5, 1.0, 0, 1), 0.0, 1.0, tol=tol)
    assert certificate.rate == rates[-1]
    assert certificate.rate / rates[0] == pytest.approx(1 + (1, 30, 1e3)[failures - 1] * tol)
