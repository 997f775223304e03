"""Stable intervals: of slow clustered controllers by eigenvalues in good coordinates, and the check itself."""

from itertools import pairwise

import control
import numpy as np
import pytest
import systems
from cases import every_case
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrlattn import LTIController, stability_set
from ctrlattn.linear.mode_matrix import mode_matrix
from ctrlattn.stability import is_stable
from ctrlattn.stability.modes import intervals
from ctrlattn.stability.modes.closed_loop import pencil_in_alpha


def memories(p, m, gain):
    """gain ((1 - p)/(z - p))^m as equal memories in a row."""
    a = np.diag([p] * m) + np.diag([1 - p] * (m - 1), -1)
    return control.ss(a, (1 - p) * np.eye(m)[:, :1], gain * np.eye(m)[-1:], 0, 1, remove_useless_states=False)


@pytest.mark.parametrize(("p", "m", "gain"), [(0.95, 6, 0.3), (0.95, 3, 1.5), (0.99, 4, 0.2), (0.9, 12, 0.2)])
def test_slow_memories_in_a_row(p, m, gain):
    # On the circle with r = ((1 - p)/(z - p)), alpha = z + gain r^m: a dense scan of the boundary knows every end.
    a = memories(p, m, gain)
    w = np.concatenate([np.geomspace(1e-7, 1e-2, 40001), np.linspace(1e-2, np.pi, 400001)])
    z_1 = np.expm1(1j * w)
    alpha = 1 + z_1 + gain * ((1 - p) / (z_1 + (1 - p))) ** m
    crossed = alpha.real[np.flatnonzero(alpha.imag[:-1] * alpha.imag[1:] < 0)]
    ends = np.sort([1 + gain, -1 + gain * ((1 - p) / (-1 - p)) ** m, *crossed])
    stable = [x for x in pairwise(ends) if _scan(a, sum(x) / 2) < 1 - 1e-9]
    answered = stability_set(LTIController(a))
    assert len(answered) == len(stable)
    np.testing.assert_allclose(answered, stable, atol=1e-4)


def _scan(system, alpha):
    a = np.asarray(system.A)
    return np.max(np.abs(np.linalg.eigvals(np.block([[np.array([[alpha]]), -system.C], [system.B, a]]))))


def test_the_case_of_six_slow_memories_as_a_transfer_function():
    low, high = stability_set(LTIController(control.tf([0.3 * 0.05**6], np.poly([0.95] * 6), 1)))[0]
    assert low == pytest.approx(-1.0, abs=1e-8)
    assert high == pytest.approx(0.8558, abs=1e-3)


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.sampled_from(systems.DISCRETE), st.integers(1, 12), st.sampled_from(systems.FORMS), st.integers(0, 10**6))
def test_every_interval_is_stable_inside_and_unstable_outside(kind, order, form, seed):
    controller = LTIController(_one_layer(systems.siso(kind, order, form, seed)))
    try:
        answered = stability_set(controller)
    except ArithmeticError:  # said, not wrong
        return
    ends = np.array(answered).ravel()
    wide = np.linspace(-3, 3, 61) if not len(ends) else np.linspace(ends.min() - 1, ends.max() + 1, 61)
    inside = np.array([any(low < x < high for low, high in answered) for x in wide])
    near = np.array([np.min(np.abs(ends - x), initial=1.0) < 1e-6 for x in wide])
    assert np.all((is_stable(controller, wide) == inside) | near)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.sampled_from(systems.DISCRETE), st.integers(1, 12), st.sampled_from(systems.FORMS), st.integers(0, 10**6))
def test_the_response_and_exact_numbers_give_the_same_set(kind, order, form, seed):
    controller = LTIController(_one_layer(systems.siso(kind, order, form, seed)))
    try:
        exact = intervals.stable_intervals(pencil_in_alpha(controller), lambda x: mode_matrix(controller, x), "exact")
    except ArithmeticError:
        return
    np.testing.assert_allclose(stability_set(controller), exact, rtol=1e-6, atol=1e-6)


def _one_layer(system):
    if isinstance(system, control.TransferFunction):
        return control.tf(system.num[0][0], system.den[0][0], 1)
    return control.ss(system.A, system.B, system.C, system.D, 1, remove_useless_states=False)


def test_a_contradiction_is_refused():
    controller = LTIController(memories(0.9, 2, 0.2))
    g = pencil_in_alpha(controller)

    def unlike(alpha):
        return mode_matrix(controller, 1.2 * alpha)

    with pytest.raises(ArithmeticError, match="contradict"):
        intervals.stable_intervals(g, unlike, "stability_set")


@every_case("width", [0.5, 0.01, 1e-6])
def test_a_gap_that_is_none_is_seen_however_narrow(width):
    """Stable on (-1, 1); the claim leaves out (0.3, 0.3 + width), or adds what lies beyond 1."""

    def matrix(x):
        return np.where((x > -1) & (x < 1), 0.5, 2.0)[:, None, None]

    whole = [(-1.0, 1.0)]
    assert intervals._is_confirmed(whole[0], whole, np.array([-1.0, 1.0]), matrix, 0.1)
    parted = [(-1.0, 0.3), (0.3 + width, 1.0)]
    cuts = np.array([-1.0, 0.3, 0.3 + width, 1.0])
    assert not any(intervals._is_confirmed(part, parted, cuts, matrix, 0.1) for part in parted)
    longer = [(-1.0, 1.0 + width)]
    assert not intervals._is_confirmed(longer[0], longer, np.array([-1.0, 1.0 + width]), matrix, 0.1 * width)


@pytest.mark.parametrize("states", [1, 3])
def test_next_to_the_circle_exact_numbers_decide_and_elsewhere_the_radius(monkeypatch, states):
    def scaled(size):
        return lambda x: x[:, None, None] * size * np.eye(states)

    for exact in (True, False):
        asked = []
        monkeypatch.setattr(intervals, "stable_at", lambda g, x, exact=exact, asked=asked: asked.append(x) or exact)
        near = 0.5 * intervals.unsure(states)
        for size in (1 - near, 1.0, 1 + near):
            assert intervals._are_inside(None, scaled(size), np.ones(1)) == [exact]
        assert asked == [1.0] * 3
        for size in (0.5, 1.5):
            assert intervals._are_inside(None, lambda x, size=size: [[[size]]] * np.eye(states), np.ones(1)) == [
                size < 1
            ]
        assert len(asked) == 3


def test_middles_lie_between_cuts_and_beyond_the_outermost_ones():
    assert intervals._middles(np.zeros(0)).tolist() == [0.0]
    assert intervals._middles(np.array([2.0])).tolist() == [-1.0, 5.0]
    assert intervals._middles(np.array([-3.0, 1.0, 4.0])).tolist() == [-7.0, -1.0, 2.5, 9.0]


@every_case(
    "interval, cuts, expected",
    [
        ((-1.0, 1.0), [-1.0, 1.0], [-0.8, -0.5, 0.0, 0.5, 0.8, -1.2, 1.2]),
        # The next cuts are .25 below and .1 beyond: the points outside lie a tenth of that away.
        ((0.0, 1.0), [-2.0, -0.25, 0.0, 1.0, 1.1, 5.0], [0.1, 0.25, 0.5, 0.75, 0.9, -0.025, 1.01]),
        ((-np.inf, 3.0), [3.0], [-0.6, 0.0, 1.0, 2.0, 2.6, 3.4]),  # as wide as 1 + 3
        ((-2.0, np.inf), [-3.5, -2.0], [-1.7, -1.25, -0.5, 0.25, 0.7, -2.15]),  # 1 + |-2| and 1.5 to the next
        ((-np.inf, np.inf), [], [-0.9, -0.75, -0.5, -0.25, -0.1]),
    ],
)
def test_an_interval_is_asked_inside_and_just_outside(interval, cuts, expected):
    asked = []

    def matrices(x):
        asked.append(x)
        return np.where((x > interval[0]) & (x < interval[1]), 0.5, 2.0)[:, None, None]

    assert intervals._is_confirmed(interval, [interval], np.array(cuts), matrices, 0.1)
    np.testing.assert_allclose(asked[0], expected, rtol=1e-12, atol=1e-15)


def test_eigenvalues_that_cannot_tell_contradict_nothing(monkeypatch):
    assert intervals._agrees(np.array([[0.5]]), True)
    assert not intervals._agrees(np.array([[0.5]]), False)
    assert intervals._agrees(np.array([[1.5]]), False)

    def refuse(matrix, continuous):
        raise ArithmeticError

    monkeypatch.setattr(intervals, "is_stable_matrix", refuse)
    assert intervals._agrees(np.array([[0.5]]), False)


@every_case("states, expected", [(0, 4 * 2.0**-52), (1, 4 * 2.0**-52), (4, 4 * 2.0**-13), (12, 1e-2)])
def test_a_cluster_of_poles_moves_by_a_root_of_the_last_digit(states, expected):
    assert intervals.unsure(states) == pytest.approx(expected, rel=1e-12)
