"""Crossings of a loop's curve against closed forms, and each of the two searches without the other."""

import control
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.kernels.boundary import memory_of
from ctrlattn.kernels.curve import refined
from ctrlattn.linear.realization import realization
from ctrlattn.stability.robustness import loop_curve
from ctrlattn.stability.robustness.level_sets import pencil_crossings
from ctrlattn.stability.robustness.loop_curve import first_grid, searched


def curve_of(system):
    g = realization(system, "test")
    return loop_curve.loop_curve(g, np.linalg.eigvals(g.a - g.b @ g.c / (1 + g.d[0, 0])))


def memories(count, pole, gain=1.0):
    """gain ((1 - p)/(z - p))^m: m slow memories in a row."""
    return control.tf([gain * (1 - pole) ** count], np.poly([pole] * count), 1)


def exact_crossings(count, pole):
    """w with m arg(z - p) = pi, 3 pi, ... by bisection on the closed form of the angle."""
    angle = lambda w: np.arctan2(np.sin(w), np.cos(w) - pole)  # noqa: E731
    crossed = []
    for target in np.arange(1, count, 2) * np.pi / count:
        low, high = 0.0, np.pi
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if angle(middle) < target else (low, middle)
        crossed.append(low)
    return np.array(crossed)


@pytest.mark.parametrize("pencil", [0, 16])
@pytest.mark.parametrize(("count", "pole"), [(3, 0.5), (4, 0.9), (5, 0.98), (6, 0.95), (7, 0.95)])
def test_the_real_axis_by_the_closed_form_with_and_without_the_pencil(count, pole, pencil, monkeypatch):
    monkeypatch.setattr(loop_curve, "_PENCIL", pencil)
    curve = curve_of(memories(count, pole, 0.5))
    # The coefficients of the fraction round the poles: that is all the difference.
    assert_allclose(searched(curve).real_axis[1:-1], exact_crossings(count, pole), rtol=1e-4)


@pytest.mark.parametrize("pencil", [0, 16])
@pytest.mark.parametrize("share", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("damping", [0.3, 1e-3])
def test_two_crossings_of_the_unit_circle_next_to_each_other(damping, share, pencil, monkeypatch):
    """|1/((z - p)(z - conj p))| just above 1 at its top: the two crossings are apart as the root of the share."""
    monkeypatch.setattr(loop_curve, "_PENCIL", pencil)
    pole = (1 - damping) * np.exp(0.9j)
    den = np.array([1.0, -2 * pole.real, abs(pole) ** 2])
    # |den|^2 is a parabola in c = cos w, with its bottom at (1 + r^2) cos(angle)/(2 r).
    c = (1 + abs(pole) ** 2) * np.cos(0.9) / (2 * abs(pole))
    bottom = abs(np.polyval(den, c + 1j * np.sqrt(1 - c * c)))
    for gain, number in ((bottom * (1 + share), 2), (bottom * (1 - share), 0)):
        curve = curve_of(control.tf([gain], den, 1))
        crossed = searched(curve).unit_circle
        assert len(crossed) == number
        half = np.sqrt(gain**2 - bottom**2) / (2 * abs(pole)) if number else 0.0
        assert_allclose(np.sort(np.cos(crossed)), [c - half, c + half][:number], atol=1e-9)


def test_the_pencil_has_the_crossings_as_eigenvalues():
    g = realization(memories(4, 0.9, 2.0), "test")
    near = loop_curve.real_axis_pencil(g)
    for w in exact_crossings(4, 0.9):
        assert np.abs(near - w).min() < 1e-6
    w = np.arccos((1 + 0.81 - 0.01 * np.sqrt(2.0)) / 1.8)  # |.1/(z - .9)|^4 = 1/2
    assert np.abs(pencil_crossings(g, 1.0) - w).min() < 1e-6
    s = realization(control.tf([8.0 * 1.5], [1, 3, 3, 1]), "test")  # 12/(s + 1)^3: real at sqrt 3, |L| = 1 at
    assert np.abs(loop_curve.real_axis_pencil(s) - np.sqrt(3)).min() < 1e-9
    assert np.abs(pencil_crossings(s, 1.0) - np.sqrt(12 ** (2 / 3) - 1)).min() < 1e-9


@every_case("unit", [1e-6, 1.0, 1e6])
def test_the_unit_of_time_changes_nothing(unit):
    curve = curve_of(control.tf([4.0 * unit**3], np.poly([-unit] * 3)))  # 4/(s + 1)^3
    found = searched(curve)
    assert_allclose(curve.unit * found.real_axis, [0.0, unit * np.sqrt(3), np.inf], rtol=1e-12)
    assert_allclose(found.real_values, [4.0, -0.5, 0.0], rtol=1e-12)
    assert_allclose(np.abs(found.unit_values), 1.0, rtol=1e-12)
    assert_allclose(curve.unit * found.unit_circle, unit * np.sqrt(4 ** (2 / 3) - 1), rtol=1e-12)


@every_case("p", [0.9, 0.0, -0.9])
def test_the_nearest_point_to_minus_one(p):
    """|1 + k/(z - p)|, |z - (p - k)|^2/|z - p|^2: monotone in cos w, so that the nearest point is at an end."""
    curve = curve_of(control.tf([0.3], [1, -p], 1))
    ends = [abs(1 + 0.3 / (z - p)) for z in (1.0, -1.0)]
    *_, distance, w = searched(curve)
    assert_allclose([distance, w], [min(ends), [0.0, np.pi][int(np.argmin(ends))]], rtol=1e-12)


def test_a_sharp_minimum_inside_is_polished():
    """1 + L = (z^2 - 2 r c z + r^2)/z^2, closed-loop poles of radius r at an angle: the least distance by calculus."""
    r, c = 0.9999, np.cos(0.7)
    closed, den = np.array([1.0, -2 * r * c, r * r]), np.array([1.0, 0.0, 0.0])
    *_, distance, w = searched(curve_of(control.tf(closed - den, den, 1)))
    cosine = (1 + r * r) * c / (2 * r)
    assert_allclose(np.cos(w), cosine, rtol=1e-8)
    assert_allclose(distance, (1 - r * r) * np.sqrt(1 - c * c), rtol=1e-9)


def test_a_loop_that_is_real_everywhere_has_no_crossing_inside():
    curve = curve_of(control.ss([[0.5]], [[1.0]], [[0.0]], [[-0.5]], 1, remove_useless_states=False))
    assert searched(curve).real_axis.tolist() == [0.0, np.pi]


def test_noise_ends_the_refinement():
    """In rotated coordinates a strongly damped response is a difference of large terms: the grid stays small."""
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    a = q @ (np.diag(rng.uniform(-0.1, 0.1, 20)) + np.eye(20, k=1)) @ q.T
    g = control.ss(a, q[:, [-1]], q[:, [0]].T, 0, 1)
    curve = curve_of(g)
    points = refined(curve.transfer.sides, first_grid(curve), np.pi, memory_of(curve.transfer.sides))
    assert len(points) < 20_002
    assert np.all(np.diff(points[:, 3]) >= 0)  # neighbouring doubles of the grid have no middle


def test_frequencies_ascend_and_stand_once():
    points = [(3.0, 3j), (1.0, 1j), (1.0, 2j), (2.0, 4j), (0.0, 0j)]
    w, values = loop_curve._sort_points(points)
    assert w.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert values.tolist() == [0j, 1j, 4j, 3j]
    assert [part.tolist() for part in loop_curve._sort_points([])] == [[], []]


def test_continuous_time_is_in_units_of_the_geometric_mean_of_the_closed_poles():
    g = realization(control.tf([1.0], [1.0, 3.0]), "test")
    curve = loop_curve.loop_curve(g, np.array([-1.0, -16.0, 0.0]))
    assert_allclose([curve.unit, curve.loop.a.item(), curve.end], [4.0, -0.75, np.inf])
    assert_allclose(curve.poles, [-0.25, -4.0, 0.0])
    assert_allclose(curve.transfer.at(np.array([2.0]))[0, 0], 1 / (8j + 3))
    assert loop_curve.loop_curve(g, np.zeros(2)).unit == 1.0
    discrete = loop_curve.loop_curve(realization(control.tf([1.0], [1.0, 0.25], 1), "test"), np.array([0.5, 0.01]))
    assert (discrete.unit, discrete.end) == (1.0, np.pi)
    assert_allclose(discrete.transfer.at(np.array([2.0]))[0, 0], 1 / (np.exp(2j) + 0.25))


@pytest.mark.parametrize("place", [(0, 1), (1, 2), (-2, -1)])
def test_what_the_pencils_suggest_is_looked_at_and_beside_it(place, monkeypatch):
    """A seed in any interval of the grid, the first and the last too; none beyond its ends."""
    curve = curve_of(control.tf([0.3], [1, -0.5, 0.1], 1))
    monkeypatch.setattr(loop_curve, "_crossing_seeds", lambda loop: np.zeros(0))
    whole = loop_curve.start_grid(curve.poles, continuous=False, finer=1)
    plain = first_grid(curve)
    assert np.all((plain > 0) & (plain < np.pi))
    seed = 0.5 * (whole[place[0]] + whole[place[1]])
    monkeypatch.setattr(loop_curve, "_crossing_seeds", lambda loop: np.array([seed, whole[-1] + 1.0]))
    for share in (-1e-3, -1e-6, 0.0, 1e-6, 1e-3):
        near = seed * (1 + share)
        assert np.min(np.abs(first_grid(curve) - near)) < 1e-12 or not 0 < near < np.pi
    assert first_grid(curve).max() < np.pi
    assert len(first_grid(curve)) <= len(plain) + 5
