"""Margins by their definition: put the margin into the loop and a pole lies on the unit circle."""

import warnings
from dataclasses import astuple, replace
from itertools import product
from types import SimpleNamespace

import control
import mpmath
import numpy as np
import pytest
import systems
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, Loop, crossings, gain_margin, loop_transfer, margins, presets
from ctrlattn.linear.modes import loop_matrices
from ctrlattn.linear.realization import realization
from ctrlattn.stability.robustness import loop_curve
from ctrlattn.stability.robustness import margins as margins_module
from ctrlattn.stability.robustness.margins import margins_of_matrices


def radius(system):
    return np.abs(control.feedback(system, 1).poles()).max()


def oracle(system):
    """python-control's margins; it divides by zero at the pole of an integrator."""
    with warnings.catch_warnings(action="ignore"):
        return control.stability_margins(system)


LOOPS = {
    "residual integrator": control.tf([0.5], [1, -1], 1),
    "leaky": control.tf([0.5], [1, -0.7], 1),
    "delayed": control.tf([0.3], [1, -1, 0, 0], 1),
    "resonant": control.tf([0.2, 0.1], [1, -1.2, 0.9], 1),
    "printed PID": loop_transfer(Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5, 0.05)), 0.6),
    "ema PID": loop_transfer(
        Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5, 0.05, form="ema")), 0.3
    ),
    "conditionally stable": control.tf(np.poly([0.6, 0.7]) * 0.6, np.poly([1, 1, 1.05]), 1),
}


@every_case("name", LOOPS)
def test_gain_margin_puts_a_pole_on_the_circle(name):
    m = margins(LOOPS[name])
    if not m.stable:
        assert np.isnan(m.gain_margin)
        return
    for factor in (m.gain_margin, m.gain_reduction):
        if np.isfinite(factor) and factor > 0:
            poles = control.feedback(factor * LOOPS[name], 1).poles()
            assert_allclose(np.abs(np.abs(poles) - 1).min(), 0.0, atol=1e-6)
    assert radius(LOOPS[name]) < 1


@every_case("name", LOOPS)
def test_phase_delay_and_modulus_margin_by_their_definition(name):
    m, L = margins(LOOPS[name]), LOOPS[name]
    if not m.stable:
        return
    w = np.concatenate([np.linspace(1e-5, np.pi, 10_001), [m.modulus_frequency, m.gain_crossover]])
    w = w[np.isfinite(w) & (w > 0)]
    response = L(np.exp(1j * w))
    assert_allclose(m.modulus_margin, np.abs(1 + response).min(), rtol=1e-7)
    if np.isfinite(m.phase_margin):
        turned = [np.abs(1 + response * np.exp(s * 1j * np.radians(m.phase_margin))).min() for s in (1, -1)]
        assert min(turned) < 1e-6
        smaller = [np.abs(1 + response * np.exp(s * 0.98j * np.radians(m.phase_margin))).min() for s in (1, -1)]
        assert min(smaller) > 1e-4
    if np.isfinite(m.delay_margin):
        assert np.abs(1 + response * np.exp(-1j * w * m.delay_margin)).min() < 1e-4


@every_case("p", [0.0, 0.3, 0.9, 1.0, -0.4])
def test_the_crossing_at_minus_one_that_python_control_loses(p):
    L = control.tf([0.5], [1, -p], 1)
    assert_allclose(gain_margin(L), (1 + p) / 0.5, rtol=1e-12)
    assert_allclose(radius((1 + p) / 0.5 * L), 1.0, rtol=1e-12)
    assert oracle(L)[0] == np.inf  # the trap: if this fails, it was mended upstream


def test_residual_integrator():
    m = margins(LOOPS["residual integrator"])
    assert_allclose(
        [m.gain_margin, m.phase_crossover, m.phase_margin, m.modulus_margin],
        [4.0, np.pi, 75.5224878, 0.75],
        rtol=1e-8,
    )
    assert_allclose(m.delay_margin, np.radians(m.phase_margin) / m.gain_crossover, rtol=1e-12)


def test_phase_margins_agree_with_python_control_where_it_is_right():
    for name in ("residual integrator", "delayed", "printed PID"):
        _, pm, sm, _, _, _ = oracle(LOOPS[name])
        m = margins(LOOPS[name])
        assert_allclose(m.phase_margin, pm, rtol=1e-6)
        assert_allclose(m.modulus_margin, sm, rtol=1e-4)


def test_gain_margin_of_the_published_law_follows_from_its_interval():
    # p(-1) = 0 is the lower end of the interval: at gain K, alpha = K (P + I/2 + 2D) - 1.
    loop = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5, 0.05))
    assert_allclose(gain_margin(loop_transfer(loop, 0.6)), 1.6 / 1.15, rtol=1e-10)


def test_published_continuous_loop():
    m = margins(control.tf(25, [1, 10, 10, 10]))
    assert_allclose([m.gain_margin, m.phase_crossover], [3.6, np.sqrt(10)], rtol=1e-12)
    assert_allclose([m.phase_margin, m.gain_crossover], [29.1104, 1.7844], atol=5e-5)
    assert_allclose(m.delay_margin, 0.2847, atol=5e-5)
    poles = control.feedback(m.gain_margin * control.tf(25, [1, 10, 10, 10]), 1).poles()
    assert_allclose(poles.real.max(), 0.0, atol=1e-12)


def test_published_sampled_loop():
    """MATLAB's documentation of margin, sampled at 0.1: 2.0517, 13.5711 degrees, at 5.4374 and 4.3544 rad a second."""
    L = control.tf([0.04798, 0.0464], [1, -1.81, 0.9048], 0.1)
    m = margins(L)
    assert_allclose([m.gain_margin, m.phase_margin], [2.0517, 13.5711], rtol=5e-5)
    assert_allclose([m.phase_crossover / 0.1, m.gain_crossover / 0.1], [5.4374, 4.3544], rtol=2e-5)
    assert_allclose(radius(m.gain_margin * L), 1.0, atol=1e-9)


CONTINUOUS = {
    "published": control.tf(25, [1, 10, 10, 10]),
    "double integrator with lead": control.tf([1, 0.3], [1, 2, 0, 0]),
    "conditionally stable": 3 * control.tf([1, 4, 4], [1, 0, 0, 0]),
    "slow": control.tf(25e-9, [1, 10e-3, 10e-6, 10e-9]),
    "direct term": control.tf([-0.5, 1], [1, 1]),
}


@every_case("name", CONTINUOUS)
def test_continuous_margins_by_their_definition(name):
    L = CONTINUOUS[name]
    m, all_of_them = margins(L), crossings(L)
    assert m.stable
    num, den = L.num[0][0], L.den[0][0]
    scale = np.polyval(np.abs(den), 1.0)
    for frequency, factor in zip(all_of_them.gain_frequency, all_of_them.gain_factor, strict=True):
        if np.isfinite(frequency):
            assert_allclose(
                np.polyval(den, 1j * frequency) + factor * np.polyval(num, 1j * frequency), 0, atol=1e-9 * scale
            )
    for frequency, phase, delay in zip(*all_of_them[2:], strict=True):
        turned = L(1j * frequency) * np.exp(-1j * np.radians(phase))
        assert_allclose(turned, -1, rtol=1e-6)
        if frequency > 0:
            assert_allclose(L(1j * frequency) * np.exp(-1j * frequency * delay), -1, rtol=1e-6)
    w = np.logspace(-6, 4, 200_001)
    assert_allclose(m.modulus_margin, np.abs(1 + L(1j * w)).min(), rtol=1e-6)


def test_every_crossing_is_listed():
    L = CONTINUOUS["conditionally stable"]  # 3 (s + 2)^2 / s^3: real at w = 2, for K = 1/3
    crossed = crossings(L)
    assert_allclose([crossed.gain_frequency, crossed.gain_factor], [[2.0], [1 / 3]], rtol=1e-9)
    assert_allclose(margins(L).gain_reduction, 1 / 3, rtol=1e-9)
    # 2 sin-like loop: z^-4 is real and negative at odd multiples of pi/4, each with the factor 2.
    crossed = crossings(control.tf([0.5], [1, 0, 0, 0, 0], 1))
    assert_allclose(crossed.gain_frequency, [np.pi / 4, 3 * np.pi / 4], rtol=1e-9)
    assert_allclose(crossed.gain_factor, [2, 2], rtol=1e-9)


def test_degenerate_loops():
    nothing = margins(control.ss([], [], [], 0.0, 1))
    assert (nothing.stable, nothing.gain_margin, nothing.phase_margin, nothing.modulus_margin) == (
        True, np.inf, np.inf, 1.0,
    )  # fmt: skip
    assert gain_margin(control.tf([0.5], [1.0], 1)) == np.inf
    assert_allclose(gain_margin(control.tf([-0.5], [1.0], 1)), 2.0)
    assert np.isnan(gain_margin(control.tf([5.0], [1, -1], 1)))
    assert margins(loop_transfer(Loop(CausalMean()), 0.5)).gain_margin is not None


def test_refused():
    with pytest.raises(ValueError, match="improper"):
        margins(control.tf([1, 0, 0], [1, 1], 1))
    with pytest.raises(ValueError, match="sequence of 2 different layers"):
        margins([Loop(CausalMean())] * 2)
    with pytest.raises(ValueError, match="n <= 1000"):
        margins(control.ss(0.5 * np.eye(1001), np.ones((1001, 1)), np.ones((1, 1001)), 0, 1))
    with pytest.raises(ValueError, match="SISO"):
        margins(control.ss(0.5 * np.eye(2), np.eye(2), np.eye(2), 0, 1))
    with pytest.raises(TypeError, match="StateSpace or TransferFunction"):
        margins(np.eye(2))


def closed_poles(system, factor):
    """Of 1 + K L, by the eigenvalues of A - K b c/(1 + K d) in coordinates of their own; K may be complex."""
    g = realization(system, "test")
    return np.linalg.eigvals(g.a - factor / (1 + factor * g.d[0, 0]) * g.b @ g.c)


def beyond(poles, system):
    """How far the outermost pole is beyond the boundary, in units of the largest one."""
    return np.max(poles.real / np.abs(poles).max() if system.dt == 0 else np.abs(poles) - 1)


KINDS = [kind for kind in systems.KINDS if kind not in systems.BEYOND]
FORMS, ORDERS = ("tf", "modal", "dense"), (1, 2, 3, 5, 8, 12)


@pytest.mark.slow
@every_case(
    "kind, order, form",  # each kind at each order, in a form that differs from both neighbours
    [(kind, order, FORMS[(i + j) % 3]) for i, kind in enumerate(KINDS) for j, order in enumerate(ORDERS)],
)
def test_margins_are_what_they_say_for_every_kind_of_loop(kind, order, form):
    L = systems.closed(systems.siso(kind, order, form, seed=order), seed=order)
    try:
        m = margins(L)
    except ArithmeticError:  # only where the closed loop itself is on the boundary as far as eigenvalues can tell
        assert np.abs(beyond(closed_poles(L, 1.0), L)) < 1e-6
        return
    if not m.stable:
        assert beyond(closed_poles(L, 1.0), L) > -1e-7
        return
    assert m.residual <= 1e-6
    for share in (0.2, 0.7, 0.99):  # inside: stable
        above = 1 + share * (m.gain_margin - 1) if np.isfinite(m.gain_margin) else 1 + 3 * share
        turn = np.exp(1j * np.radians(share * min(m.phase_margin, 180.0)))
        for factor in (above, 1 - share * (1 - m.gain_reduction), turn, turn.conjugate()):
            assert beyond(closed_poles(L, factor), L) < 1e-7
    w = np.concatenate([[0.0], np.geomspace(1e-7, 1, 3000), np.linspace(1, np.pi, 1000), [m.modulus_frequency]])
    w = w if L.dt else np.append(np.geomspace(1e-7, 1e7, 4000), m.modulus_frequency)
    g = realization(L, "test")
    with np.errstate(all="ignore"):
        distance = np.abs(1 + g.responses(w[w > 0])[0, 0])
    assert distance.min() > m.modulus_margin * (1 - 1e-6)
    assert distance[-1] < m.modulus_margin * (1 + 1e-6) or m.modulus_frequency == 0


@every_case("step", systems.STEPS)
@every_case("plant", systems.PLANTS)
def test_a_plant_sampled_ever_faster_has_the_margins_of_the_plant(plant, step):
    """The hold delays by half a step: the margins of e^{-s h/2} P are those of the sampled plant up to h^2."""
    continuous = systems.closed(control.ss(control.tf(*systems.PLANTS[plant])), seed=1)
    fast = control.sample_system(continuous, step / 100, "zoh")
    m, of_plant = margins(fast), margins(continuous)
    if not of_plant.stable:
        return
    if np.isfinite(of_plant.phase_margin) and of_plant.gain_crossover > 0:
        expected = of_plant.phase_margin - np.degrees(of_plant.gain_crossover * step / 200)
        assert_allclose(m.phase_margin, expected, atol=0.2 * step + 1e-5)
        assert_allclose(m.gain_crossover * 100 / step, of_plant.gain_crossover, rtol=1e-2)
    assert_allclose(m.modulus_margin, of_plant.modulus_margin, rtol=0.05 * step + 1e-6, atol=0.05 * step)


@every_case("factor", [1e-6, 1e-3, 1e3, 1e6])
def test_units_of_states_and_of_time_change_nothing(factor):
    for order in (2, 5, 8):
        L = systems.closed(systems.siso("slow", order, "modal", seed=order), seed=order)
        expected = margins(L)
        for other in (systems.states_scaled(L, factor), systems.states_permuted(L, 3)):
            assert_allclose(astuple(margins(other))[1:9], astuple(expected)[1:9], rtol=1e-6)
        s = systems.closed(systems.siso("continuous", order, "modal", seed=order), seed=order)
        faster = systems.state_space(factor * s.A, factor * s.B, s.C, s.D, 0)
        slow, other = margins(s), margins(faster)
        for name in ("gain_margin", "gain_reduction", "phase_margin", "modulus_margin"):
            assert_allclose(getattr(other, name), getattr(slow, name), rtol=1e-9)
        assert_allclose(other.gain_crossover, factor * slow.gain_crossover, rtol=1e-9)
        assert_allclose(other.delay_margin, slow.delay_margin / factor, rtol=1e-9)


def at_minus_one(system):
    """L(-1) of these matrices, at 60 digits."""
    with mpmath.workdps(60):
        a, b, c = (mpmath.matrix(np.asarray(m).tolist()) for m in (system.A, system.B, system.C))
        return float((c * mpmath.lu_solve(-mpmath.eye(len(system.A)) - a, b))[0]) + system.D[0, 0]


@pytest.mark.parametrize("plant", ["six lags over two decades", "third order", "four equal lags", "two resonances"])
def test_a_crossing_at_minus_one_is_listed_however_small_the_response_is_there(plant):
    """Fast samples leave 1e-27 there, of which the reduced form keeps two digits: a plain solve has all of them."""
    rng, seen = np.random.default_rng(0), []
    for step, seed in product([1.0, 0.1, 0.01, 3e-3, 1e-3], range(3)):
        loop = systems.states_permuted(systems.sampled(plant, step, "dense"), seed)
        truth = at_minus_one(loop)
        if abs(at_minus_one(systems.moved(loop, rng)) / truth - 1) > 1e-7:
            continue  # its last digits decide
        crossed = crossings(loop)
        there = crossed.gain_factor[crossed.gain_frequency == np.pi]
        assert_allclose(there, [-1 / truth] if truth < 0 else [], rtol=1e-5)
        seen.append(abs(truth))
    assert len(seen) > 3


def test_a_response_that_the_last_digits_decide_is_no_crossing():
    """Two equal lags whose difference rounding makes 1e-17: no factor of 1e17 is told, whichever way it is computed."""
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(4, 4)))[0]
    a = turn @ np.diag([0.5, 0.5, 0.8, 0.8]) @ turn.T
    loop = control.ss(a, turn @ np.ones((4, 1)), np.array([[1.0, -1.0, 1.0, -1.0]]) @ turn.T, 0, 1)
    assert abs(at_minus_one(loop)) < 1e-14
    assert crossings(loop).gain_factor.tolist() == []


def test_phases_lie_above_minus_180():
    crossed = crossings(control.tf([1.0], [1.0, 1.0]))  # |L(0)| = 1, and no rotation but half a turn leads to -1
    assert crossed.phase.tolist() == [180.0]


def test_a_search_that_misses_a_crossing_is_caught_by_the_eigenvalues(monkeypatch):
    search, none = loop_curve.searched, np.zeros(0)
    without = {"real_axis": none, "real_values": none}
    monkeypatch.setattr(loop_curve, "searched", lambda *given, **options: search(*given, **options)._replace(**without))
    with pytest.raises(ArithmeticError, match="unstable for a gain or rotation below the margin"):
        margins(control.tf([2e-3], np.poly([0.9] * 3), 1))
    without = {"unit_circle": none, "unit_values": none}
    with pytest.raises(ArithmeticError, match="unstable for a gain or rotation below the margin"):
        margins(control.tf([0.5], [1, -1], 1))


def test_a_crossing_that_the_matrices_do_not_confirm_is_refused(monkeypatch):
    search, wrong = loop_curve.searched, {"unit_circle": np.array([0.3]), "unit_values": np.array([1j])}
    monkeypatch.setattr(loop_curve, "searched", lambda *given, **options: search(*given, **options)._replace(**wrong))
    with pytest.raises(ArithmeticError, match="misses a pole on the boundary by"):
        margins(control.tf([0.5], [1, -1], 1))


@every_case("seed", [384, 723, 866, 963, 1197])
def test_the_nearest_point_of_a_loop_with_poles_on_the_circle_is_the_disk_margin(seed):
    """Where a crossing puts points of the grid side by side the dip reaches beyond them, and one side may be wider."""
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0.1, 3.0), rng.choice([1.0, 0.9999, 0.999, 1.0])
    a = radius * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    b, c = rng.normal(size=(2, 1)), rng.normal(size=(1, 2)) * 10 ** rng.uniform(-3, 0)
    w = np.linspace(0, np.pi, 200_001)[1:]
    z = np.exp(1j * w)
    # C (zI - A)^-1 B of two states: the adjugate over the characteristic polynomial.
    top = (c @ b).item() * z + (c @ (a - np.trace(a) * np.eye(2)) @ b).item()
    sampled = np.abs(1 + top / (z * z - np.trace(a) * z + np.linalg.det(a))).min()
    modulus = margins(control.ss(a, b, c, 0, 1)).modulus_margin
    assert modulus <= sampled * (1 + 1e-12)
    assert_allclose(modulus, sampled, rtol=1e-5)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_margins_that_are_too_large_do_not_hold(factor):
    """0.5/(z - 0.9) has finite margins each way: as they are they hold, and twice as large they do not."""
    loop = control.tf([0.5], [1, -0.9], 1)
    curve, m = loop_curve.loop_curve(realization(loop, "margins"), np.array([0.4 + 0j])), margins(loop)
    assert margins_module._holds(curve, m)
    assert margins_module._holds(curve, replace(m, gain_margin=1 + factor * (m.gain_margin - 1))) == (factor < 1)
    assert margins_module._holds(curve, replace(m, phase_margin=factor * m.phase_margin)) == (factor < 1)


@every_case("factor", [1e-9, 1e-4, 1e9])
def test_the_unit_of_time_of_a_transfer_function_changes_frequencies_and_delays_alone(factor):
    """L(s/f): coefficients times powers of f, poles from 1e-9 to 1e10."""
    for num, den in (([25.0], [1, 10, 10, 10]), ([1.0, 0.3], [1, 2, 0, 0]), ([1.0], [1, 2, 1])):
        top, bottom = (np.array(p) / factor ** np.arange(len(p) - 1, -1, -1.0) for p in (num, den))
        faster = control.tf(top / bottom[0], bottom / bottom[0])
        slow, other = margins(control.tf(num, den)), margins(faster)
        assert slow.stable
        assert other.stable
        for name in ("gain_margin", "gain_reduction", "phase_margin", "modulus_margin"):
            assert_allclose(getattr(other, name), getattr(slow, name), rtol=1e-7)
        assert_allclose(other.gain_crossover, factor * slow.gain_crossover, rtol=1e-7)
        assert_allclose(other.delay_margin * factor, slow.delay_margin, rtol=1e-7)


def test_of_all_factors_the_nearest_above_and_below_one_are_the_margins():
    def of(*factors):
        return margins_module._gain_margins(list(zip([0.1, 0.2, 0.3, 0.4, 0.5], factors, strict=False)))

    assert of(3.0, 0.5, 2.0, 0.7, 2.5) == (2.0, 0.3, 0.7)
    assert of(3.0, 5.0) == (3.0, 0.1, 0.0)
    assert of(3.0, 3.0) == (3.0, 0.1, 0.0)
    for factors in ((0.2, 0.9), (1.0, 0.9), (0.9, np.inf)):  # the factor 1 itself is neither
        margin, frequency, reduction = of(*factors)
        assert (margin, reduction) == (np.inf, 0.9)
        assert np.isnan(frequency)
    margin, frequency, reduction = of()
    assert (margin, reduction) == (np.inf, 0.0)
    assert np.isnan(frequency)


@pytest.mark.parametrize("continuous", [False, True])
def test_rotations_turn_the_response_onto_minus_one(continuous):
    """L e^{-i phi} = -1 and L e^{-i w delay} = -1, the least delay that is not negative; none at w = 0."""
    w, phases = np.array([0.0, 0.5, 2.0, 3.0]), np.array([0.3, -2.0, 1.0, np.pi])
    curve = SimpleNamespace(loop=SimpleNamespace(continuous=continuous))
    crossed = SimpleNamespace(unit_circle=w, unit_values=-np.exp(1j * phases))
    omega, turns, degrees, delays = np.array(margins_module._rotations(curve, crossed)).T
    assert_allclose(omega, w)
    assert_allclose(turns, np.exp(-1j * phases), rtol=1e-12)
    assert_allclose(degrees, np.degrees(phases), rtol=1e-12)
    assert_allclose(delays, [np.inf, (2 * np.pi - 2) / 0.5, 0.5, np.pi / 3], rtol=1e-12)
    none = SimpleNamespace(unit_circle=np.zeros(0), unit_values=np.zeros(0, dtype=complex))
    assert margins_module._rotations(curve, none) == []


def test_a_frequency_that_is_0_within_rounding_has_no_delay():
    """In continuous time a billionth of the largest crossing counts as 0; over depth a billionth of a radian does."""
    for w, continuous, finite in (
        ([0.5e-9, 1.0], True, False), ([2e-9, 1.0], True, True), ([0.5e-9, 1e-3], True, True),
        ([0.5e-9, 1e-3], False, False), ([2e-9, 1e-3], False, True),
    ):  # fmt: skip
        curve = SimpleNamespace(loop=SimpleNamespace(continuous=continuous))
        crossed = SimpleNamespace(unit_circle=np.array(w), unit_values=-np.exp(1j * np.array([0.4, 0.4])))
        assert [np.isfinite(x.delay) for x in margins_module._rotations(curve, crossed)] == [finite, True]


def test_the_closed_loop_is_a_rank_one_change_and_none_where_it_is_not_well_posed():
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 3)), rng.normal(size=(3, 1)), rng.normal(size=(1, 3))
    loop = realization(control.ss(a, b, c, -0.5, 1), "test")
    for gain in (1.0, 0.3, 1j):
        # x' = A x + b u, u = -K y, y = c x + d u, solved as it stands.
        u = np.linalg.solve(np.array([[1 + gain * -0.5]]), -gain * c)
        assert_allclose(margins_module._closed_loop_matrix(loop, gain), a + b @ u, rtol=1e-12)
    assert margins_module._closed_loop_matrix(loop, 2.0) is None
    assert not margins(control.ss(0.5, 1.0, 1.0, -1.0, 1)).stable
    assert not margins(control.tf([-1.0, 0.2], [1.0, 0.5], 1)).stable


def test_a_loop_with_a_pole_on_the_boundary_when_closed_is_not_stable():
    """1.5/(z - .5) closes onto z = -1, 0.5/(z - .5) onto 0; and s, which is 1/s - 1/s^2 times zero gain."""
    for gain, stable in ((1.5, False), (1.5 + 1e-12, False), (1.5 - 1e-12, True), (0.5, True), (-0.5, False)):
        assert margins(control.tf([gain], [1, -0.5], 1)).stable == stable
    for gain, stable in ((-1.0, False), (-1.0 + 1e-9, True), (-1.0 - 1e-9, False)):
        assert margins(control.tf([gain], [1.0, 1.0])).stable == stable


def test_two_outputs_or_inputs_are_refused_with_their_numbers():
    for inputs, outputs in ((1, 2), (2, 1), (2, 3)):
        system = control.ss(0.5 * np.eye(2), np.ones((2, inputs)), np.ones((outputs, 2)), 0, 1)
        with pytest.raises(
            ValueError, match=f"crossings takes a SISO system, got {inputs} inputs and {outputs} outputs"
        ):
            crossings(system)
        with pytest.raises(ValueError, match=f"margins takes a SISO system, got {inputs} inputs and {outputs} outputs"):
            margins_of_matrices((system.A, system.B, system.C, system.D))


def test_matrices_have_the_margins_of_their_system():
    for kp in (0.3, 0.9, 3.0):  # the last is unstable
        loop = replace(presets.get("pidformer-printed"), controller=PID(kp, 0.1, 0.2))
        assert repr(margins_of_matrices(loop_matrices(loop, 0.5))) == repr(margins(loop_transfer(loop, 0.5)))
    one = np.ones((1, 1))
    with pytest.raises(ValueError, match="the system must be real, got complex values; disk_margin takes complex ones"):
        margins_of_matrices((0.5j * one, one, one, one))
    with pytest.raises(ValueError, match="n <= 1000"):
        margins_of_matrices((0.5 * np.eye(1001), np.ones((1001, 1)), np.ones((1, 1001)), one))


def test_crossings_of_a_lag_in_closed_form():
    """k/(z - a): |L| = 1 at cos w = (1 + a^2 - k^2)/(2 a); real at z = 1 and -1."""
    k, a = 0.7, 0.4
    crossed = crossings(control.tf([k], [1, -a], 1))
    w = np.arccos((1 + a * a - k * k) / (2 * a))
    assert_allclose([crossed.gain_frequency, crossed.gain_factor], [[np.pi], [(1 + a) / k]], rtol=1e-12)
    assert_allclose(crossed.phase_frequency, [w], rtol=1e-9)
    turn = np.angle(-k / (np.exp(1j * w) - a))
    assert_allclose([crossed.phase, crossed.delay], [[np.degrees(turn)], [np.mod(turn, 2 * np.pi) / w]], rtol=1e-9)
    negative = crossings(control.tf([-k], [1, -a], 1))  # now the real axis is met from below at z = 1
    assert_allclose([negative.gain_frequency, negative.gain_factor], [[0.0], [(1 - a) / k]], rtol=1e-12, atol=1e-12)


def test_loops_are_checked_by_eigenvalues_up_to_fifty_states(monkeypatch):
    m = margins(control.tf([0.5], [1, -0.9], 1))
    wrong = replace(m, gain_margin=2 * m.gain_margin)
    for n, checked in ((1, True), (50, True), (51, False)):
        a = np.diag([0.9, *np.zeros(n - 1)])
        loop = realization(
            control.ss(a, np.eye(n)[:, :1], 0.5 * np.eye(n)[:1], 0, 1, remove_useless_states=False), "test"
        )
        assert margins_module._holds(SimpleNamespace(loop=loop), m)
        assert margins_module._holds(SimpleNamespace(loop=loop), wrong) != checked
    static = realization(control.ss([], [], [], 0.5, 1), "test")
    assert margins_module._holds(SimpleNamespace(loop=static), wrong)


def test_no_finite_margin_is_checked_up_to_ten_times_the_gain_and_half_a_turn():
    """0.1/(z - a) is unstable from (1 + a)/.1 on: margins of infinity hold only where ten times the loop is stable."""
    m = margins(control.tf([0.1], [1, 0.5], 1))
    for a, holds in ((0.1, True), (-0.1, False)):
        loop = realization(control.ss(a, 1.0, 0.1, 0, 1), "test")
        infinite = replace(m, gain_margin=np.inf, gain_reduction=0.0, phase_margin=np.inf)
        assert margins_module._holds(SimpleNamespace(loop=loop), infinite) == holds
