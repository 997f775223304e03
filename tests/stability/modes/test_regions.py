"""Exact stable sets against brute-force eigenvalue scans, and the numbers of THEORY 4."""

import itertools

import control
import numpy as np
import pytest
import systems
from cases import every_case
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, Loop, LTIController, mode, stability_interval, stability_set
from ctrlattn.linear.mode_matrix import exact_poles
from ctrlattn.stability import closed_loop_poles, is_stable, region_boundary, spectral_radius
from ctrlattn.stability.modes import regions
from ctrlattn.stability.modes.regions import mode_intervals, mode_radius, unstable_share

AWAY = 1e-6  # distance from the boundary beyond which no mismatch is allowed


def scan(controller, alpha):
    """Stability by the eigenvalues of the mode's state matrix, the independent second method."""
    a, b, c, d = controller.realization()
    big = np.zeros((len(alpha), len(a) + 1, len(a) + 1))
    big[:, 0, 0] = alpha - d[0, 0]
    big[:, 0, 1:], big[:, 1:, :1], big[:, 1:, 1:] = c, -b, a
    return np.abs(np.linalg.eigvals(big)).max(axis=-1) < 1


def mismatches(controller, intervals, alpha):
    inside = np.zeros(len(alpha), bool)
    near = np.zeros(len(alpha), bool)
    for low, high in intervals:
        inside |= (alpha > low) & (alpha < high)
        near |= (np.abs(alpha - low) < AWAY) | (np.abs(alpha - high) < AWAY)
    return int(np.sum((inside != scan(controller, alpha)) & ~near))


@pytest.mark.slow
def test_printed_interval_equals_an_eigenvalue_scan_at_random_gains():
    rng = np.random.default_rng(11)
    wrong = 0
    for p, i, d in rng.uniform([-2, -1, -1.4], [3, 5, 1.4], (150, 3)):
        low, high = stability_interval(PID(p, i, d))
        intervals = [] if np.isnan(low) else [(low, high)]
        around = np.array([low, high] if intervals else [1.0 + p, p - 1.0])
        alpha = np.concatenate([rng.uniform(-4, 5, 6), around - 1e-4, around + 1e-4, [around.mean()]])
        wrong += mismatches(PID(p, i, d), intervals, alpha)
    assert wrong == 0


@pytest.mark.slow
@pytest.mark.parametrize("form", ["printed", "ema"])
def test_stable_set_equals_an_eigenvalue_scan(form):
    rng = np.random.default_rng(12)
    grid = np.linspace(-6, 8, 141)
    wrong = 0
    for p, i, d, g in rng.uniform([-2, -1, -2, 0.02], [3, 4, 2, 1], (80, 4)):
        controller = PID(p, i, d, form=form, ema=g)
        wrong += mismatches(controller, stability_set(controller), grid)
    assert wrong == 0


def two_intervals(rng):
    """A controller near one that is stable in two intervals of alpha, which one in 1,500 random ones is."""
    return control.tf(np.array([1.5, -0.2, 0.6, -0.6]) + rng.normal(0, 0.02, 4), [1, -0.3, 0, 0], 1)


@pytest.mark.slow
def test_stable_set_of_random_lti_controllers_including_unions():
    rng = np.random.default_rng(13)
    grid = np.linspace(-8, 8, 321)
    controllers = [two_intervals(rng) for _ in range(10)]
    for _ in range(50):
        order = int(rng.integers(0, 5))
        controllers.append(control.tf(rng.normal(size=order + 1), np.poly(rng.uniform(-1.1, 1.1, order)), 1))
    sets = [stability_set(controller) for controller in controllers]
    assert [len(intervals) for intervals in sets[:10]] == [2] * 10
    assert 0 < sum(not intervals for intervals in sets) < 50
    pairs = zip(controllers, sets, strict=True)
    assert sum(mismatches(LTIController(controller), intervals, grid) for controller, intervals in pairs) == 0


@pytest.mark.slow
def test_printed_closed_form_equals_the_general_method():
    rng = np.random.default_rng(14)
    for p, i, d in rng.uniform([-1, 0, -0.95], [2, 3, 0.95], (60, 3)):
        general = stability_set(PID(p, i, d))
        low, high = stability_interval(PID(p, i, d))
        if np.isnan(low):
            assert general == []
        else:
            assert_allclose(general, [(low, high)], atol=1e-9)


@pytest.mark.parametrize("wrong", [(0.1, 1.8), (0.15, 1.9), (0.2, 1.8238), (-0.5, 3.0)])
def test_a_closed_form_that_the_poles_contradict_is_not_returned(monkeypatch, wrong):
    right = stability_interval(PID(0.8, 0.5, 0.05))
    monkeypatch.setattr(regions, "printed_interval", lambda *gains: wrong)
    assert_allclose(stability_interval(PID(0.8, 0.5, 0.05)), right, rtol=1e-9)


def test_published_gains():
    assert_allclose(stability_interval(PID(0.8, 0.5, 0.05)), [0.15, 1.8 + 0.5 * 0.05 / 1.05], rtol=1e-14)
    assert_allclose(stability_interval(PID(0.8, 0.5, 0.05, form="ema")), [-0.388, 2.041], atol=6e-4)
    assert_allclose(stability_interval(PID(0.6)), [-0.4, 1.6], rtol=1e-14)


@settings(max_examples=30)
@given(d=st.floats(-0.9, 0.9), p=st.floats(-3, 3), excess=st.floats(0.01, 5))
def test_empty_beyond_four_times_one_plus_d(d, p, excess):
    assert np.isnan(stability_interval(PID(p, 4 * (1 + d) + excess, d))).all()
    assert not np.isnan(stability_interval(PID(p, 4 * (1 + d) * 0.99, d))).any()


def test_degenerate_controllers():
    assert_allclose(stability_interval(PID()), [-1, 1])
    assert np.isnan(stability_interval(PID(0.5, -0.1))).all()
    assert np.isnan(stability_interval(PID(0.0, 0.0, 1.0))).all()
    assert_allclose(stability_set(control.tf([2.0], [1.0], 1)), [(1, 3)])
    assert stability_set(control.tf([1.0], [1, -2], 1)) == []
    # A mode of the controller outside the circle that the loop cannot move: never stable.
    assert stability_set(control.tf([1, -2], [1, -2], 1)) == []
    delay = stability_set(control.tf([0.5], [1, 0], 1))  # z (z - alpha) + 0.5
    assert_allclose(delay, [(-1.5, 1.5)], atol=1e-12)


def test_union_is_refused_as_one_interval():
    with pytest.raises(ValueError, match="stability_set"):
        stability_interval(two_intervals(np.random.default_rng(0)))


@settings(max_examples=30)
@given(p=st.floats(0, 2), i=st.floats(0, 2), d=st.floats(0, 0.8), w=st.floats(0.05, 3.1))
def test_a_pole_lies_on_the_circle_along_the_boundary(p, i, d, w):
    alpha = region_boundary(PID(p, i, d), np.array([w]))
    z = np.exp(1j * w)
    expected = z + p + (i * z / (z - 1) if i else 0) + d * (1 - 1 / z)
    assert_allclose(alpha[0], expected, atol=1e-9)
    poles = closed_loop_poles(PID(p, i, d), alpha)[0]
    assert_allclose(np.abs(poles - z).min(), 0.0, atol=1e-5)


def test_boundary_is_infinite_at_an_integrator():
    assert np.isinf(region_boundary(PID(0.0, 0.5), np.array([0.0])).real).all()


@settings(max_examples=30)
@given(p=st.floats(-1, 2), i=st.floats(0, 2), d=st.floats(-0.5, 0.5), a=st.floats(-2, 2))
def test_poles_are_those_of_mode(p, i, d, a):
    loop = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(p, i, d))
    assert_allclose(np.poly(closed_loop_poles(PID(p, i, d), a)), np.poly(mode(loop, a).A), atol=1e-8)


def test_shapes_and_bad_alpha():
    alpha = np.array([[0.1, 0.5 + 0.2j], [2.5, 0.2]])
    assert closed_loop_poles(PID(0.8, 0.5, 0.05), alpha).shape == (2, 2, 3)
    assert spectral_radius(None, alpha).shape == is_stable(None, alpha).shape == (2, 2)
    assert_allclose(spectral_radius(None, alpha), np.abs(alpha))
    with pytest.raises(ValueError, match="finite"):
        closed_loop_poles(PID(), np.nan)
    with pytest.raises(TypeError, match="controller must be"):
        stability_set("pid")
    with pytest.raises(TypeError, match="needs a controller"):
        stability_set(None)


@every_case("skip", [0.0, 0.4, 1.0])
@every_case("feedback", [-1.5, -0.3, 0.8])
@every_case("controller", [None, PID(0.6), PID(0.3, 0.2, 0.05), PID(0.8, 0.5, 0.05, form="ema")])
def test_the_intervals_of_attention_are_where_the_state_matrix_is_stable(skip, feedback, controller):
    intervals = mode_intervals(Loop(CausalMean(), skip=skip, feedback=feedback, controller=controller))
    ((low, high),) = intervals
    loop = Loop(CausalMean(), skip=skip, feedback=feedback, controller=controller)
    inside, outside = [low + 1e-3, (low + high) / 2, high - 1e-3], [low - 1e-3, high + 1e-3]
    radius = [np.abs(np.linalg.eigvals(mode(loop, a).A)).max() for a in inside + outside]
    assert [r < 1 for r in radius] == [True] * 3 + [False] * 2
    assert_allclose(mode_radius(loop, np.array(inside + outside)), radius, atol=1e-9)


def test_without_feedback_all_eigenvalues_or_none_are_stable():
    assert mode_intervals(Loop(CausalMean(), skip=0.5, feedback=0.0)) == [(-np.inf, np.inf)]
    assert mode_intervals(Loop(CausalMean(), skip=1.5, feedback=0.0)) == []
    assert mode_intervals(Loop(CausalMean(), skip=1.5, feedback=0.0, controller=PID(0.8))) == [(-np.inf, np.inf)]


def test_the_unstable_share_counts_poles_outside_and_none_on_the_circle():
    loop = Loop(CausalMean(), skip=1.0, feedback=-1.0)  # the pole 1 - a
    modes = np.array([[0.0, 2.0, 0.5, 1.0], [-0.1, 2.1, 0.5, -1e-12]])
    assert_allclose(unstable_share(loop, modes), [0.0, 0.5])
    rng = np.random.default_rng(0)
    controlled, a = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5, 0.05)), rng.uniform(0, 2, 200)
    radius = [np.abs(np.linalg.eigvals(mode(controlled, float(x)).A)).max() for x in a]
    assert unstable_share(controlled, a) == np.mean(np.array(radius) > 1)


@pytest.mark.slow
@every_case(
    "kind, order", [*itertools.product(systems.DISCRETE, (1, 3, 6)), ("slow", 9), ("slower", 9), ("repeated", 9)]
)
def test_sets_of_crowded_controllers_are_stable_inside_and_not_outside(kind, order):
    """By exact roots for given coefficients, which share nothing with the response that found the ends."""
    controller = systems.siso(kind, order, "tf", seed=order)
    controller = systems.times(controller, 0.3)
    intervals = stability_set(controller)
    grid = np.concatenate([np.linspace(-3, 3, 16), *(np.linspace(low, high, 6) for low, high in intervals)])
    ends = np.array([end for pair in intervals for end in pair])
    for alpha in grid:
        if np.min(np.abs(ends - alpha), initial=np.inf) < 1e-6:
            continue
        stable = np.abs(exact_poles(controller, alpha)).max() < 1
        assert stable == any(low < alpha < high for low, high in intervals)


def test_the_upper_end_that_polynomials_in_cos_w_lose():
    low, high = stability_set(control.tf([0.3 * 0.05**6], np.poly([0.95] * 6), 1))[0]
    assert_allclose([low, high], [-1, 0.85578], atol=1e-5)


def test_where_the_poles_contradict_an_end_the_exact_way_decides(monkeypatch):
    monkeypatch.setattr(regions, "critical_modes", lambda controller, finer: np.array([-0.4, 1.0]))
    assert_allclose(stability_set(PID(0.6)), [(-0.4, 1.6)])  # not (-.4, 1), which the poles next to 1 contradict


@pytest.mark.parametrize("pid", [PID(0.8, 0.5, 0.05), PID(0.8, 0.5, 0.05, form="ema"), PID(0.3)])
def test_crossings_that_are_none_change_no_interval(pid, monkeypatch):
    """A search that lists points too many, inside and outside of the set, leaves the set as it is."""
    true, critical = stability_set(pid), regions.critical_modes(pid)
    (low, high) = true[0]
    between = np.concatenate([critical, np.linspace(low, high, 5)[1:-1], [low - 0.5, high + 0.5]])
    monkeypatch.setattr(regions, "critical_modes", lambda controller, **_: np.sort(between))
    assert stability_set(pid) == true


def test_exact_roots_decide_near_the_circle_and_eigenvalues_elsewhere(monkeypatch):
    """Within what a cluster of three eigenvalues moves by the computed radius says nothing; beyond it is trusted."""
    pid, alpha = PID(0.8, 0.5, 0.05), np.array([[0.5], [0.1]])
    assert is_stable(pid, alpha).tolist() == [[True], [False]]
    for off, trusted in ((1e-9, False), (-1e-9, False), (1e-6, False), (1e-3, True), (0.5, True)):
        monkeypatch.setattr(regions, "spectral_radii", lambda matrices, off=off: np.array([1 + off, 1 - off]))
        assert is_stable(pid, alpha).tolist() == ([[False], [True]] if trusted else [[True], [False]])


def test_both_sides_of_every_end_are_asked_near_it(monkeypatch):
    """Stable inside, not outside, at 1e-4 of the interval; an end that two intervals share is asked from inside."""
    asked, inside = [], lambda x: 0 < x < 4 or 5 < x < 5.5 or 5.5 < x < 6

    def record(controller, alpha, margin=0.0):
        asked.append((alpha, margin))
        return inside(alpha)

    monkeypatch.setattr(regions, "_inside", record)
    assert regions._ends_hold(None, [(0.0, 4.0), (5.0, 5.5), (5.5, 6.0)])
    near = 1e-4
    expected = [(near, 0), (4 - near, 0), (-near, 1e-9), (4 + near, 1e-9)]
    near /= 2
    expected += [(5 + near, 0), (5.5 - near, 0), (5 - near, 1e-9), (5.5 + near, 0), (6 - near, 0), (6 + near, 1e-9)]
    assert_allclose(asked, expected, rtol=1e-12)
    for wrong in ([(0.1, 4.0)], [(-0.1, 4.0)], [(0.0, 3.9)], [(0.0, 4.1)], [(4.2, 4.8)]):
        assert not regions._ends_hold(None, wrong)
    # The next interval begins within two of these steps: nothing can be said of what lies between.
    asked.clear()
    monkeypatch.setattr(regions, "_inside", lambda controller, alpha, margin=0.0: True)
    assert not regions._ends_hold(None, [(0.0, 1.0), (1.0 + 1e-3, 2.0)])


def test_segments_are_joined_at_a_stable_point_and_narrow_ones_are_none(monkeypatch):
    """(0, 1), (1, 2), (3, 4) are stable between critical values; at 1 the poles are inside, at 3 on the circle."""
    monkeypatch.setattr(
        regions, "_inside", lambda controller, alpha, margin=0.0: alpha < 2 or 3 + margin * 1e7 < alpha < 4
    )
    assert regions._stable_segments(None, np.array([0.0, 1.0, 2.0, 3.0, 4.0])) == [(0.0, 2.0), (3.0, 4.0)]
    assert regions._stable_segments(None, np.array([3.0, 3.5, 3.5 + 1e-13, 4.0])) == [(3.0, 3.5), (3.5 + 1e-13, 4.0)]
    assert regions._stable_segments(None, np.array([1.0])) == []
    asked = []
    monkeypatch.setattr(
        regions, "_inside", lambda controller, alpha, margin=0.0: asked.append((alpha, margin)) or margin == 0
    )
    assert regions._stable_segments(None, np.array([0.0, 1.0, 3.0])) == [(0.0, 1.0), (1.0, 3.0)]
    assert asked == [(0.5, 0.0), (2.0, 0.0), (1.0, 1e-7)]


def test_a_margin_inside_the_circle_is_asked_for():
    """P alone has the pole alpha - P."""
    for alpha, margin, expected in (
        (0.5, 0.0, True),
        (1.55, 0.1, False),
        (1.45, 0.1, True),
        (1.6, 0.0, False),
        (-0.4, 0.0, False),
    ):
        assert regions._inside(PID(0.6), alpha, margin) == expected


def test_boundaries_in_closed_form_have_the_shape_of_the_frequencies():
    omega = np.array([[0.2, 1.0], [2.0, np.pi]])
    z = np.exp(1j * omega)
    assert_allclose(
        region_boundary(control.tf([0.3, 0.1], [1, -0.4], 1), omega), z + (0.3 * z + 0.1) / (z - 0.4), rtol=1e-12
    )
    assert_allclose(region_boundary(PID(0.5), 0.0), 1.5)
    for omega in (np.nan, [0.0, np.inf], 1j):
        with pytest.raises((ValueError, TypeError)):
            region_boundary(PID(0.5), omega)
    for value in ("alpha", [[1.0], [1.0, 2.0]], None, [True]):
        with pytest.raises(TypeError, match="alpha must be a number or an array of numbers"):
            closed_loop_poles(PID(), value)
    with pytest.raises(ValueError, match="alpha must be finite"):
        is_stable(PID(), [0.5, np.inf])


def test_printed_intervals_of_many_gains_in_closed_form():
    rng = np.random.default_rng(5)
    kp, ki, kd = rng.uniform([-1, -0.5, -1.2], [2, 5, 1.2], (200, 3)).T
    low, high = regions.printed_interval(kp, ki, kd)
    lower, upper = kp + ki / 2 + 2 * kd - 1, 1 + kp + ki * kd / (1 + kd)
    stable = (ki >= 0) & (np.abs(kd) < 1) & (lower < upper)
    assert 20 < stable.sum() < 180
    assert_allclose(low, np.where(stable, lower, np.nan), rtol=1e-14)
    assert_allclose(high, np.where(stable, upper, np.nan), rtol=1e-14)
    for gains in ((0.0, 0.0, 1.0), (0.0, 0.0, -1.0), (0.0, -1e-12, 0.0), (0.0, 4.0, 0.0)):
        assert np.isnan(regions.printed_interval(*gains)).all()
    assert not np.isnan(regions.printed_interval(0.0, 0.0, 0.0)).any()


def test_a_share_counts_poles_beyond_a_billionth():
    loop = Loop(CausalMean(), skip=1.0, feedback=-1.0)  # the pole 1 - a
    assert unstable_share(loop, np.array([-0.7e-9, -1.5e-9, 2 + 0.7e-9, 2 + 1.5e-9])) == 0.5
