"""The peak of the scaled norm over frequency: a dense grid stays below it, and it is attained."""

import itertools
import math

import control
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose, assert_array_equal
from systems import closed, mimo

from ctrlattn.linear.realization import Realization, negative_feedback, realization
from ctrlattn.stability import hinf_norm
from ctrlattn.stability.robustness import scaled_peak as module
from ctrlattn.stability.robustness.scaled_peak import Responses, scaled_peak
from ctrlattn.stability.robustness.structured import scaled_norms


def sensitivity(kind, channels, seed):
    return negative_feedback(realization(closed(mimo(kind, 5, channels, "dense", seed), seed), "test"), "test")


def dense(g, count=1000):
    unit = np.linspace(0, np.pi, count)
    return np.tan(unit / 2) * 3 if g.continuous else unit


@pytest.mark.slow
@every_case(
    "kind, channels, seed",  # each kind with several channels, each number of channels twice
    [("wide", 3, 1), ("repeated", 2, 0), ("slow", 3, 1), ("continuous", 2, 0), ("wide", 1, 0), ("slow", 1, 0)],
)
def test_no_frequency_of_a_dense_grid_is_above(kind, channels, seed):
    g = sensitivity(kind, channels, seed)
    peak = scaled_peak(Responses(g), 1e-6)
    values, _ = scaled_norms(np.moveaxis(g.responses(dense(g)), -1, 0), 1e-6)
    assert values.max() <= peak.upper
    assert peak.value <= peak.upper <= peak.value * (1 + 1.001e-6)
    assert_allclose(scaled_norms(g.response(peak.frequency)[None])[0], peak.value, rtol=1e-8)


@every_case("seed", range(4))
def test_a_single_channel_has_its_hinf_norm(seed):
    g = sensitivity("wide", 1, seed)
    assert_allclose(scaled_peak(Responses(g), 1e-9).value, hinf_norm((*g[:4],), tol=1e-10), rtol=2e-9)


def test_a_narrow_band_that_the_first_look_misses_is_not_jumped_over(monkeypatch):
    """A resonance of width 1e-6 far from every frequency of the first look."""
    a = 0.999999 * np.array([[np.cos(1.234), np.sin(1.234)], [-np.sin(1.234), np.cos(1.234)]])
    b, c = np.array([[1.0, 0.2], [0.3, 1.0]]), 1e-5 * np.array([[1.0, -0.4], [0.7, 1.0]])
    g = Realization(a, b, c, np.diag([0.5, 0.4]), False)
    expected = scaled_peak(Responses(g), 1e-6)
    assert expected.value > 3
    monkeypatch.setattr(module._Sweep, "_grid", lambda self: np.array([0.5, 2.0]))
    blind = scaled_peak(Responses(g), 1e-6)
    assert_allclose(blind.value, expected.value, rtol=2e-6)


def test_a_band_at_the_present_frequency_is_not_dropped():
    """The loop whose sweep used to drop the crossing at which it stood: the answer was 70 % above the truth."""
    a, c = np.array([[0.9, 0.3], [0.4, -0.9]]), np.array([[0.0, -0.6], [0.8, -0.3]])
    s = negative_feedback(Realization(a, np.eye(2), c, np.zeros((2, 2)), False), "test")
    peak = scaled_peak(Responses(s._replace(d=s.d - 0.5 * np.eye(2))), 1e-6)
    assert_allclose(1 / peak.upper, 0.527693, atol=1e-6)


def test_both_signs_of_the_frequency_count_for_complex_systems():
    pole = 0.9 * np.exp(-0.7j)
    g = Realization(np.array([[pole]]), np.eye(1), np.eye(1), np.zeros((1, 1)), False)
    peak = scaled_peak(Responses(g), 1e-8)
    assert_allclose([peak.value, peak.frequency], [10.0, -0.7], rtol=1e-6)


def test_the_infinite_frequency_and_a_system_that_is_zero():
    high = realization(control.tf([2.0, 1.0], [1.0, 1.0]), "test")
    assert scaled_peak(Responses(high), 1e-6).frequency == np.inf
    nothing = Realization(np.array([[0.5]]), np.ones((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)), False)
    assert scaled_peak(Responses(nothing), 1e-6).upper == 0.0


def test_a_sweep_that_does_not_end_says_so(monkeypatch):
    monkeypatch.setattr(module._Sweep, "_covered_intervals", lambda self, log, level: [])
    with pytest.raises(ArithmeticError, match="larger tol"):
        scaled_peak(Responses(sensitivity("wide", 2, 0)), 1e-6)


def test_a_share_of_an_interval_is_a_point_inside_it():
    sweep = module._Sweep.__new__(module._Sweep)
    sweep.unit = 2.0
    ends = [-math.inf, -50.0, -3.0, -1e-9, 0.0, 1e-3, 1.0, 3.5, 1e4, math.inf]
    for i, a in enumerate(ends):
        for b in ends[i + 1 :]:
            points = [sweep._point_between(a, b, share) for share in (0.1, 0.3, 0.5, 0.7, 0.9)]
            if a < 0 < b and not (math.isfinite(a) and math.isfinite(b)):
                assert points == [0.0] * 5
            else:
                assert all(a < point < b for point in points), (a, b, points)
                assert points == sorted(points)
    assert sweep._point_between(-1.0, 3.0, 0.25) == 0.0
    assert sweep._point_between(2.0, 4.0, 0.25) == 2.5
    assert sweep._point_between(2.0, 7.9, 0.5) == 4.95  # by ratios from a factor of four on
    assert_allclose([sweep._point_between(2.0, 8.0, 0.5), sweep._point_between(2.0, 9.0, 0.5)], [4.0, np.sqrt(18)])
    assert_allclose(sweep._point_between(1.0, 16.0, 0.25), 2.0)
    assert_allclose(sweep._point_between(-16.0, -1.0, 0.75), -2.0)
    assert sweep._point_between(1.5, 1.5, 0.3) == 1.5


def test_the_best_of_several_exact_looks_is_remembered_and_rough_ones_are_not():
    g = sensitivity("wide", 2, 0)
    w = np.array([0.3, 1.0, 2.0, 3.0])
    values = scaled_norms(np.moveaxis(g.responses(w), -1, 0), 1e-8)[0]
    sweep = module._Sweep(Responses(g), 1e-6)
    sweep._bounds(w, module._ROUGH)
    assert sweep.value == -1.0
    sweep._bounds(w, 1e-8)
    assert sweep.frequency == w[np.argmax(values)]
    assert_allclose(sweep.value, values.max(), rtol=1e-7)
    assert_allclose(np.sort(sweep.looked_at), np.sort([*w, *w]))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_scaled_system_has_the_scaled_response(seed):
    """D G D^-1, by the matrices and by the response; the direct term is full."""
    rng = np.random.default_rng(seed)
    g = Realization(0.4 * np.eye(3), *(rng.normal(size=s) for s in ((3, 2), (2, 3), (2, 2))), bool(seed))
    log, w = np.array([0.7, -1.1]), np.array([0.0, 0.4, 2.0])
    d = np.diag(np.exp(log))
    expected = d @ np.moveaxis(g.responses(w), -1, 0) @ np.linalg.inv(d)
    assert_allclose(np.moveaxis(module._scale(g, log).responses(w), -1, 0), expected, rtol=1e-12)


@every_case("continuous", [False, True])
@every_case("turn", [0.0, 0.3])
def test_the_first_look_is_about_each_pole_and_ten_times_beyond_all(continuous, turn):
    """Poles s = -0.2 +- 3i and -4 (times e^{i turn}): each frequency, 1 and 1/5 of the damping beside it, and a net."""
    poles = np.array([-0.2 + 3j, -0.2 - 3j, -4.0]) * np.exp(1j * turn)
    real = turn == 0.0
    a = np.array([[-0.2, 3.0, 0.0], [-3.0, -0.2, 0.0], [0.0, 0.0, -4.0]]) if real else np.diag(poles)
    if not continuous:  # z = e^{s/2}, and a pole at 0, which has no s
        poles = poles / 2
        a = np.zeros((4, 4), dtype=complex)
        a[:3, :3] = np.diag(np.exp(poles))
        a = a if not real else np.diag([0.0, 0.0, np.exp(-2.0), 0.0])
        if real:
            turned = np.exp(-0.1) * np.array([[np.cos(1.5), np.sin(1.5)], [-np.sin(1.5), np.cos(1.5)]])
            a[:2, :2] = turned
    n = len(a)
    sweep = module._Sweep(
        Responses(Realization(a, np.ones((n, 2)), np.ones((2, n)), np.zeros((2, 2)), continuous)), 1e-6
    )
    grid = np.sort(sweep._grid())

    def nearest(w):
        return np.abs(grid - w).min()

    for pole in poles:
        w = abs(pole.imag) if real else pole.imag
        for share in (-1, -0.2, 0, 0.2, 1):
            assert nearest(w + share * abs(pole.real)) < 1e-9
    low = np.abs(poles).min() / 10
    high = 10 * np.abs(poles).max() if continuous else np.pi
    for sign in (1,) if real else (1, -1):
        net = sign * np.geomspace(low, high, 24)
        assert max(nearest(w) for w in net) < 1e-9 * high
    assert_allclose(grid.max(), high)
    if not continuous:
        assert max(nearest(w) for w in np.linspace(0, np.pi, 17)) < 1e-9


def test_an_interval_is_as_wide_as_its_arc_and_shares_go_by_ratios_of_frequencies():
    sweep = module._Sweep.__new__(module._Sweep)
    sweep.unit = 2.0
    assert_allclose(
        [sweep._width(i) for i in ((0.0, math.inf), (0.0, 2.0), (2.0, math.inf))], [np.pi / 2, *[np.pi / 4] * 2]
    )
    assert_allclose(sweep._width((-2.0, 2.0)), np.pi / 2)
    assert_allclose(sweep._point_between(8.0, math.inf, 0.5), 80.0)  # to 100 times the start, or the typical frequency
    assert_allclose(sweep._point_between(0.02, math.inf, 0.5), 2.0)
    assert_allclose(sweep._point_between(0.0, 50.0, 0.5), 1.0)  # from 1/100 of the end, or of the typical frequency
    assert_allclose(sweep._point_between(0.0, 1.0, 0.75), 0.01**0.25)
    assert_allclose(sweep._point_between(0.0, 50.0, 0.25), 0.01)
    assert sweep._middle(1.0, 3.0) == 2.0


def test_the_two_highest_tops_of_the_first_look_are_zoomed_into(monkeypatch):
    """Light resonances at 1, 2 and 3, the second the highest and the third a little below: the first is left."""
    a, b = np.zeros((6, 6)), np.zeros((6, 2))
    for i, (w, gain) in enumerate(((1.0, 0.95), (2.0, 1.0), (3.0, 0.97))):
        a[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[-0.01, w], [-w, -0.01]]
        b[2 * i, 0] = gain
        b[2 * i + 1, 1] = gain
    c = np.tile(np.eye(2), 3)
    sweep = module._Sweep(Responses(Realization(a, b, c, np.zeros((2, 2)), True)), 1e-6)
    zoomed, zoom = [], module._Sweep._zoom
    monkeypatch.setattr(module._Sweep, "_zoom", lambda self, a, w, b: (zoomed.append((a, w, b)), zoom(self, a, w, b)))
    sweep._first_look(np.zeros(0))
    assert_allclose([w for _, w, _ in zoomed], [2.0, 3.0], atol=0.02)
    assert all(a < w < b for a, w, b in zoomed)
    assert len(sweep.looked_at) <= 120


def test_a_zoom_ends_at_the_top_of_a_resonance_in_few_looks():
    """diag(1/(s + 0.1 - i), 1/(s + 0.1 + i)) + ...: 10 at w = 1, from a start beside it."""
    a = np.array([[-0.1, 1.0], [-1.0, -0.1]])
    sweep = module._Sweep(Responses(Realization(a, np.eye(2), np.eye(2), np.zeros((2, 2)), True)), 1e-6)
    sweep._zoom(0.5, 0.9, 1.3)
    assert_allclose([sweep.value, sweep.frequency], [10.0, 1.0], rtol=1e-5)
    assert 9 < len(sweep.looked_at) <= 72 < 9 * module._ROUNDS


def test_the_typical_frequency_is_the_geometric_mean_of_the_poles_and_1_over_depth():
    def of(poles, continuous):
        n = len(poles)
        g = Realization(np.diag(poles), np.ones((n, 1)), np.ones((1, n)), np.zeros((1, 1)), continuous)
        return module._typical_frequency(Responses(g))

    assert_allclose(of([-2.0, -8.0], True), 4.0)
    assert_allclose(of([-2.0, -8.0, 0.0], True), 4.0)
    assert of([0.0], True) == 1.0
    assert of([0.3, 0.9], False) == 1.0


def test_a_system_without_dynamics_has_a_net_of_two_decades_about_1():
    g = Realization(np.zeros((1, 1)), np.zeros((1, 2)), np.zeros((2, 1)), np.diag([2.0, 3.0]), True)
    grid = module._Sweep(Responses(g), 1e-6)._grid()
    assert_allclose(np.unique(grid[grid > 0]), np.geomspace(0.1, 10, 24))
    peak = scaled_peak(Responses(g), 1e-6)
    assert_allclose(peak.value, 3.0, rtol=1e-8)


def test_a_zoom_looks_at_nine_points_evenly_spread_on_both_sides_and_narrows_about_the_best(monkeypatch):
    rounds, bounds = [], module._Sweep._bounds
    monkeypatch.setattr(
        module._Sweep, "_bounds", lambda self, w, accuracy: (rounds.append(w), bounds(self, w, accuracy))[1]
    )
    a = np.array([[-0.1, 1.0], [-1.0, -0.1]])
    sweep = module._Sweep(Responses(Realization(a, np.eye(2), np.eye(2), np.zeros((2, 2)), True)), 1e-6)
    sweep._zoom(0.9, 0.957, 1.2)
    start, middle, end = 0.9, 0.957, 1.2
    for w in rounds:
        shares = np.arange(1, 5) / 5
        assert_allclose(
            w, [*(start + (middle - start) * shares), middle, *(middle + (end - middle) * shares)], rtol=1e-9
        )
        gains = bounds(sweep, w, 1e-8)[0]
        points = np.array([start, *w, end])
        best = int(np.argmax(gains)) + 1
        start, middle, end = points[best - 1 : best + 2]
    assert len(rounds) >= 3


def test_the_sweep_zooms_where_the_bound_is_above_the_level_and_only_there(monkeypatch):
    """After a first look that sees nothing of the resonance."""
    a = 0.999 * np.array([[np.cos(1.234), np.sin(1.234)], [-np.sin(1.234), np.cos(1.234)]])
    b, c = np.array([[1.0, 0.2], [0.3, 1.0]]), 1e-2 * np.array([[1.0, -0.4], [0.7, 1.0]])
    g = Realization(a, b, c, np.diag([0.5, 0.4]), False)
    zoomed, zoom = [], module._Sweep._zoom

    def watched(self, a, w, b):
        there = scaled_norms(g.response(w)[None], 1e-8)[0][0]
        zoomed.append((a < w < b, there, self.value))
        zoom(self, a, w, b)

    monkeypatch.setattr(module._Sweep, "_zoom", watched)
    monkeypatch.setattr(module._Sweep, "_grid", lambda self: np.array([0.5, 2.0]))
    monkeypatch.setattr(module._Sweep, "_first_look", lambda self, hints: self._bounds(np.array([0.5, 2.0]), 1e-8))
    peak = scaled_peak(Responses(g), 1e-6)
    assert len(zoomed) >= 1
    for inside, there, value in zoomed:
        assert inside
        assert_allclose(there, value, rtol=1e-6)  # the look at the middle has raised the value to its own
    w = np.linspace(1.1, 1.4, 2001)
    dense_values = scaled_norms(np.moveaxis(g.responses(w), -1, 0), 1e-8)[0]
    assert dense_values.max() <= peak.upper
    assert_allclose(peak.value, dense_values.max(), rtol=1e-3)


def test_intervals_minus_what_is_covered():
    without = module._difference
    assert without([(0.0, 3.0)], []) == [(0.0, 3.0)]
    assert without([(0.0, 3.0)], [(1.0, 2.0)]) == [(0.0, 1.0), (2.0, 3.0)]
    assert without([(0.0, 3.0)], [(-1.0, 1.0), (2.0, math.inf)]) == [(1.0, 2.0)]
    assert without([(0.0, 1.0), (2.0, 3.0)], [(0.5, 2.5)]) == [(0.0, 0.5), (2.5, 3.0)]
    assert without([(0.0, 1.0)], [(0.0, 1.0)]) == without([(0.0, 1.0)], [(0.0, 0.4), (0.4, 1.0)]) == []
    assert without([(0.0, 1.0)], [(2.0, 3.0)]) == [(0.0, 1.0)]


def test_what_one_scaling_covers_is_where_its_norm_is_below_the_level():
    """sigma_max of G by a dense grid; neighbouring pieces are one, and the level of the peak covers all."""
    g = sensitivity("wide", 2, 1)
    sweep, log = module._Sweep(Responses(g), 1e-6), np.array([0.2, -0.2])
    w = np.linspace(0, np.pi, 4001)
    d = np.exp(log)
    responses = np.moveaxis(g.responses(w), -1, 0) * d[:, None] / d
    size = np.linalg.norm(responses, 2, axis=(1, 2))
    for share in (0.3, 0.6, 0.9):
        level = size.min() + share * (size.max() - size.min())
        pieces = sweep._covered_intervals(log, level)
        covered = np.any([(a <= w) & (w <= b) for a, b in pieces], axis=0)
        clear = np.abs(size / level - 1) > 1e-2
        assert_array_equal(covered[clear], (size < level)[clear])
        assert all(left[1] < right[0] for left, right in itertools.pairwise(pieces))
    assert sweep._covered_intervals(log, 1.1 * size.max()) == [(0.0, math.pi)]
    assert sweep._covered_intervals(log, 0.9 * size.min()) == []


def test_the_upper_bound_is_above_the_value_by_half_the_tolerance_at_once_and_doubles_after_thirty_scalings(
    monkeypatch,
):
    g = sensitivity("wide", 2, 0)
    for tol in (1e-4, 1e-6):
        peak = scaled_peak(Responses(g), tol)
        assert_allclose(peak.upper / peak.value - 1, tol / 2, rtol=1e-5)
    levels, covered = [], module._Sweep._covered_intervals

    def late(self, log, level):
        levels.append(level / self.value - 1)
        return covered(self, log, level) if len(levels) > 52 else []

    monkeypatch.setattr(module._Sweep, "_covered_intervals", late)
    monkeypatch.setattr(module._Sweep, "_zoom", lambda self, a, w, b: None)
    scaled_peak(Responses(g), 1e-4)
    expected = 0.5e-4 * 2.0 ** (np.maximum(np.arange(len(levels)) - 30, 0) / 10)
    assert_allclose(levels, expected, rtol=1e-9)


def test_hints_are_looked_at_first():
    g = sensitivity("wide", 2, 0)
    looked = scaled_peak(Responses(g), 1e-6, np.array([0.777, 9.0, -1.0])).looked_at
    assert 0.777 in looked
    assert np.all((looked >= 0) & (looked <= np.pi))  # hints beyond the axis are left out
