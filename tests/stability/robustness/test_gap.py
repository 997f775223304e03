"""nu-gap: closed form, a fine grid, the theorem it exists for, and the winding condition."""

from fractions import Fraction

import control
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.linear.transfer import BoundaryTransfer
from ctrlattn.stability import nu_gap
from ctrlattn.stability.robustness import gap

Z = np.exp(1j * np.geomspace(1e-6, np.pi, 4001))


def first_order(alpha, gain=1.0):
    return control.tf(gain, [1, -alpha], 1)


def chordal(plant, other):
    p, q = plant(Z), other(Z)
    return np.max(np.abs(p - q) / np.sqrt((1 + np.abs(p) ** 2) * (1 + np.abs(q) ** 2)))


@pytest.mark.slow
@every_case("alpha, beta", [(-0.8, 0.3), (0.0, 0.7), (0.4, 0.3), (0.99, 0.7), (1.0, -1.0)])
def test_two_modes_against_a_grid(alpha, beta):
    plant, other = first_order(alpha), first_order(beta)
    gap = nu_gap(plant, other)
    assert_allclose(gap, nu_gap(other, plant), atol=1e-9)
    assert_allclose(gap, chordal(plant, other), atol=2e-4)


def test_the_same_plant_has_no_gap_and_gains_have_their_chord():
    assert nu_gap(first_order(0.5), first_order(0.5)) == 0
    # Static gains p and q: |p - q| / sqrt((1 + p^2)(1 + q^2)).
    gap = nu_gap(control.ss([], [], [], [[2.0]], 1), control.ss([], [], [], [[0.5]], 1))
    assert_allclose(gap, 1.5 / np.sqrt(5 * 1.25), rtol=1e-12)


def test_an_integrator_and_its_neighbours_are_near_whatever_the_side():
    """1/(z - 1) against 1/(z - 1 -+ e): one stable, one unstable, both near; open-loop norms say infinity."""
    for alpha in (0.99, 1.01):
        assert nu_gap(first_order(1.0), first_order(alpha)) < 0.011


def test_the_winding_condition():
    # Small chordal distance, but a pole 1.3 no loop around 0.01/(z - 0.5) needs to see.
    stable = first_order(0.5, 0.01)
    hidden = control.tf(np.polyadd([0.01, -0.013], [1e-4, -5e-5]), np.polymul([1, -0.5], [1, -1.3]), 1)
    assert chordal(stable, hidden) < 0.02
    assert nu_gap(stable, hidden) == 1.0


@pytest.mark.slow
def test_what_is_nearer_than_the_margin_is_stabilised():
    rng, near, far = np.random.default_rng(0), 0, 0
    plant, controller = first_order(0.8), control.tf([0.5, -0.3], [1, -1], 1)
    p, c = plant(Z), controller(Z)
    margin = np.min(np.abs(1 + p * c) / np.sqrt((1 + np.abs(p) ** 2) * (1 + np.abs(c) ** 2)))
    for _ in range(36):
        other = control.tf(rng.normal(1, 0.4, 2), np.poly([0.8 + rng.normal(0, 0.3), rng.uniform(-0.9, 0.9)]), 1)
        stable = np.abs(control.feedback(other * controller, 1).poles()).max() < 1
        gap = nu_gap(plant, other)
        near += gap < margin
        far += not stable
        assert stable or gap >= margin - 1e-4
        if gap < margin:
            q = other(Z)
            robust = np.min(np.abs(1 + q * c) / np.sqrt((1 + np.abs(q) ** 2) * (1 + np.abs(c) ** 2)))
            assert robust >= np.sin(np.arcsin(margin) - np.arcsin(gap)) - 1e-4
    assert near > 5
    assert far > 5  # the claim was put to the test


def test_refused():
    with pytest.raises(ValueError, match="discrete"):
        nu_gap(control.tf(1, [1, 1]), control.tf(1, [1, 1]))
    with pytest.raises(TypeError, match="StateSpace or TransferFunction"):
        nu_gap(first_order(0.5), 3.0)


@pytest.mark.slow
@every_case("seed", range(3))
def test_slow_crowded_plants_against_a_dense_grid(seed):
    """A plant that is sampled fast and a neighbour of another gain: polynomials in cos w said 0.002 for 0.99."""
    rng = np.random.default_rng(seed)
    order = int(rng.integers(2, 9))
    w = np.concatenate([np.geomspace(1e-7, 1e-2, 10_001), np.geomspace(1e-2, np.pi, 10_001)])
    slow, responses = [], []
    for shift in (0.0, 0.0005):
        poles = 1 - rng.uniform(0.004, 0.03, order) - shift
        gain = float(10 ** rng.uniform(-0.5, 0.8))
        a = np.diag(poles) + np.diag((1 - poles)[1:], -1)
        into = np.eye(order)[:, :1] * (1 - poles[0])
        slow.append(control.ss(a, into, gain * np.eye(order)[-1:], 0, 1, remove_useless_states=False))
        responses.append(gain * np.prod([(1 - p) / (np.expm1(1j * w) + (1 - p)) for p in poles], axis=0))
    p, q = responses
    distance = np.abs(p - q) / np.sqrt((1 + np.abs(p) ** 2) * (1 + np.abs(q) ** 2))
    # The winding number of 1 + conj(P) Q over the whole circle: 0, since both plants are stable.
    turned = np.sum(np.angle((1 + np.conj(p[1:]) * q[1:]) / (1 + np.conj(p[:-1]) * q[:-1])))
    expected = 1.0 if abs(turned) > 1.0 else distance.max()
    assert_allclose(nu_gap(*slow), expected, rtol=1e-5)
    assert_allclose(nu_gap(*slow[::-1]), expected, rtol=1e-5)


@every_case("p", [0.0, 2.0, -0.5, 1e8])
@every_case("q", [0.0, 0.5, -3.0])
def test_static_gains_are_points_of_a_sphere_and_a_pole_its_top(p, q):
    """Their chord is |p - q|/sqrt((1 + p^2)(1 + q^2)); from the top, 1/sqrt(1 + q^2)."""

    def constant(k):
        return BoundaryTransfer(np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0)), np.array([[k]]), False)

    w = np.array([0.0, 1.0])
    chord = abs(p - q) / np.sqrt((1 + p * p) * (1 + q * q))
    assert_allclose(gap._distance((constant(p), constant(q)), w), [chord] * 2, rtol=1e-12, atol=1e-16)
    integrator = BoundaryTransfer(np.eye(1), np.eye(1), np.eye(1), np.zeros((1, 1)), False)
    away = 1 / (np.exp(1j) - 1)
    expected = [1 / np.sqrt(1 + q * q), abs(away - q) / np.sqrt((1 + abs(away) ** 2) * (1 + q * q))]
    for pair in ((integrator, constant(q)), (constant(q), integrator)):
        assert_allclose(gap._distance(pair, w), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("peaks", "highest"),
    [
        ([(1.2345, 0.02, 0.9)], 0.9),
        ([(0.5, 0.02, 0.7), (2.0, 0.011, 0.8)], 0.8),  # the grid sees less of the narrower one
        ([(0.0, 0.5, 0.6)], 0.6),
        ([(np.pi, 0.5, 0.6)], 0.6),
        ([(1.0, 0.1, 1.5)], 1.0),  # no distance is larger than that of two poles of the sphere
    ],
)
def test_every_peak_of_the_grid_is_zoomed_in(monkeypatch, peaks, highest):
    def distance(_, w):
        return np.max([size * np.exp(-(((w - at) / width) ** 2)) for at, width, size in peaks], axis=0)

    monkeypatch.setattr(gap, "_distance", distance)
    assert_allclose(gap._largest_distance(None, np.linspace(0.0, np.pi, 181)), highest, rtol=1e-9)


def test_a_static_gain_has_no_time_and_plants_are_exact():
    assert_allclose(nu_gap(control.ss([], [], [], [[2.0]]), first_order(0.0, 0.0)), 2 / np.sqrt(5))
    with pytest.raises(ValueError, match=r"nu_gap compares discrete plants \(dt = 1\)"):
        nu_gap(control.tf(1, [1, 1]), first_order(0.5))
    _, num, den = gap._fraction(control.tf([0.5], [2.0, 0.0, -0.25], 1))
    assert ([float(x) for x in num], [float(x) for x in den]) == ([0.0, 0.0, 0.5], [2.0, 0.0, -0.25])
    assert gap._roots([Fraction(0), Fraction(0)]) is None
    assert_allclose(np.sort(gap._roots([Fraction(1, 2), Fraction(0), Fraction(-1, 8)]).real), [-0.5, 0.5])
