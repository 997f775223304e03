"""The peak of the scaled norm over frequency: a dense grid stays below it, and it is attained."""

import math

import control
import numpy as np
import pytest
from numpy.testing import assert_allclose
from systems import closed, mimo

from ctrlattn.linear.realization import Realization, negative_feedback, realization
from ctrlattn.stability import hinf_norm
from ctrlattn.stability.robustness import scaled_peak as module
from ctrlattn.stability.robustness.scaled_peak import Responses, scaled_peak
from ctrlattn.stability.robustness.structured import scaled_norms


def sensitivity(kind, channels, seed):
    return negative_feedback(realization(closed(mimo(kind, 5, channels, "dense", seed), seed), "test"), "test")


def dense(g, count=3000):
    unit = np.linspace(0, np.pi, count)
    return np.tan(unit / 2) * 3 if g.continuous else unit


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("kind", ["wide", "repeated", "slow", "continuous"])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_frequency_of_a_dense_grid_is_above(kind, channels, seed):
    g = sensitivity(kind, channels, seed)
    peak = scaled_peak(Responses(g), 1e-6)
    values, _ = scaled_norms(np.moveaxis(g.responses(dense(g)), -1, 0), 1e-6)
    assert values.max() <= peak.upper
    assert peak.value <= peak.upper <= peak.value * (1 + 1.001e-6)
    assert_allclose(scaled_norms(g.response(peak.frequency)[None])[0], peak.value, rtol=1e-8)


@pytest.mark.parametrize("seed", range(4))
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
    monkeypatch.setattr(module._Sweep, "_covered", lambda self, log, level: [])
    with pytest.raises(ArithmeticError, match="larger tol"):
        scaled_peak(Responses(sensitivity("wide", 2, 0)), 1e-6)


def test_a_share_of_an_interval_is_a_point_inside_it():
    sweep = module._Sweep.__new__(module._Sweep)
    sweep.unit = 2.0
    ends = [-math.inf, -50.0, -3.0, -1e-9, 0.0, 1e-3, 1.0, 3.5, 1e4, math.inf]
    for i, a in enumerate(ends):
        for b in ends[i + 1 :]:
            points = [sweep._between(a, b, share) for share in (0.1, 0.3, 0.5, 0.7, 0.9)]
            if a < 0 < b and not (math.isfinite(a) and math.isfinite(b)):
                assert points == [0.0] * 5
            else:
                assert all(a < point < b for point in points), (a, b, points)
                assert points == sorted(points)
    assert sweep._between(-1.0, 3.0, 0.25) == 0.0
    assert sweep._between(2.0, 4.0, 0.25) == 2.5
    assert_allclose(sweep._between(1.0, 16.0, 0.25), 2.0)
    assert_allclose(sweep._between(-16.0, -1.0, 0.75), -2.0)
    assert sweep._between(1.5, 1.5, 0.3) == 1.5


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
