"""Destabilising factors: they put a pole where they say, and the checks refuse those that do not."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn.linear.realization import Realization, negative_feedback
from ctrlattn.stability.robustness.attack import (
    Attack,
    _attack_at,
    _between,
    _climbed,
    _newton_distance,
    pole_miss,
    require_sound,
    strongest_attack,
)
from ctrlattn.stability.robustness.scaled_peak import Responses, scaled_peak


def loop(seed=0, channels=2, n=4):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, n))
    a *= 0.7 / np.abs(np.linalg.eigvals(a)).max()
    zero = np.zeros((channels, channels))
    return Realization(a, 0.3 * rng.normal(size=(n, channels)), 0.3 * rng.normal(size=(channels, n)), zero, False)


def balanced(of):
    s = negative_feedback(of, "test")
    return s._replace(d=s.d - 0.5 * np.eye(len(s.d)))


def factors(attack):
    return (1 + attack.delta / 2) / (1 - attack.delta / 2)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_attack_puts_a_pole_at_its_frequency(channels, seed):
    given = loop(seed, channels)
    responses = Responses(balanced(given))
    peak = scaled_peak(responses, 1e-6)
    attack = strongest_attack(responses, peak)
    assert 1 <= attack.size * peak.upper <= 1 + (2e-6 if channels < 4 else 1e-2)
    assert_allclose(np.abs(attack.delta), attack.size, rtol=1e-9)
    closed = given.a - (given.b * factors(attack)) @ given.c
    assert np.abs(np.linalg.eigvals(closed) - np.exp(1j * attack.frequency)).min() < 1e-9
    assert pole_miss(given, responses.g, attack, factors(attack)) < 1e-9


@pytest.mark.parametrize("away", [0.05, 0.1, 0.2, 0.4, 0.8])
def test_an_attack_contradicts_a_peak_that_is_too_low(away):
    responses = Responses(balanced(loop()))
    peak = scaled_peak(responses, 1e-6)
    wrong = peak._replace(frequency=peak.frequency + away, upper=0.0)
    wrong = wrong._replace(upper=(1 + 1e-6) / _attack_at(responses, wrong.frequency).size)
    assert_allclose(strongest_attack(responses, wrong).size * peak.upper, 1.0, rtol=1e-5)


def test_a_wrong_attack_misses_by_the_way_the_pole_did_not_come():
    # L = 0.5/(z - 0.5): the pole 0 goes to -1 at f = 3, and half the way at f = 2.
    given = Realization(np.array([[0.5]]), np.eye(1), np.array([[0.5]]), np.zeros((1, 1)), False)
    weighted = balanced(given)
    attack = Attack(1.0, np.array([1.0 + 0j]), np.pi, 1.0)
    assert_allclose(pole_miss(given, weighted, attack, np.array([3.0 + 0j])), 0.0, atol=1e-14)
    assert_allclose(pole_miss(given, weighted, attack, np.array([2.0 + 0j])), 0.5, rtol=1e-12)
    with pytest.raises(ArithmeticError, match="nearest"):
        require_sound(weighted, 1.0, attack, 0.5)
    # A second pole far away, which nothing moves, is not asked.
    far = given._replace(a=np.diag([0.5, 0.3]), b=np.array([[1.0], [0.0]]), c=np.array([[0.5, 0.0]]))
    assert_allclose(pole_miss(far, balanced(far), attack, np.array([2.0 + 0j])), 0.5, rtol=1e-12)


@pytest.mark.parametrize("continuous", [False, True])
def test_a_margin_that_is_too_large_is_attacked_from_inside(continuous):
    given = loop()
    if continuous:
        given = given._replace(a=given.a - np.eye(4), continuous=True)
    responses = Responses(balanced(given))
    peak = scaled_peak(responses, 1e-6)
    attack = strongest_attack(responses, peak)
    require_sound(responses.g, 1 / peak.upper, attack, 0.0)
    with pytest.raises(ArithmeticError, match="destabilise"):
        require_sound(responses.g, 1.01 / peak.upper, attack, 0.0)


def test_crowded_poles_are_seen_through_the_transfer_function():
    """Eigenvalues of (zI - A) with twelve equal poles are lost; the Newton step on the response still has digits."""
    n = 12
    a = np.diag(np.full(n, 0.5)) + np.diag(np.full(n - 1, 0.5), 1)
    given = Realization(a, np.eye(n)[:, -1:], 0.5 * np.eye(n)[:1], np.zeros((1, 1)), False)
    responses = Responses(balanced(given))
    attack = strongest_attack(responses, scaled_peak(responses, 1e-8))
    assert pole_miss(given, responses.g, attack, factors(attack)) < 1e-6


def test_looks_between_frequencies_are_one_to_an_interval_and_the_last_itself():
    w = np.array([0.5, 0.1, 3.0, 1.0, 1.0, np.inf])
    between = _between(w)
    ends = np.array([0.1, 0.5, 1.0, 3.0])
    assert np.all((ends[:-1] < between[:-1]) & (between[:-1] < ends[1:]))
    assert between[-1] == 3.0
    assert _between(np.array([2.0])).tolist() == [2.0]
    many = np.linspace(0, 3, 500)
    looks = _between(many)
    assert len(looks) == 97
    assert np.all(np.diff(looks) > 0)
    assert np.isin(looks, many).sum() == 1


@pytest.mark.parametrize("w", [0.3, 2.0])
def test_an_attack_at_a_frequency_is_the_inverse_of_the_largest_radius_there(w):
    responses = Responses(balanced(loop(1, 1)))
    attack = _attack_at(responses, w)
    z = np.exp(1j * w)
    g = responses.g
    response = (g.c @ np.linalg.inv(z * np.eye(len(g.a)) - g.a) @ g.b + g.d).item()
    assert_allclose(attack.size, 1 / abs(response), rtol=1e-10)
    assert_allclose(attack.delta * response, 1.0, rtol=1e-9)
    assert attack.frequency == w
    assert_allclose(attack[3], np.abs(np.linalg.eigvals(g.a) - z).min(), rtol=1e-8)


def test_a_climb_ends_where_no_neighbour_is_stronger():
    """From beside the strongest attack it finds it again, over frequency and rotations together."""
    responses = Responses(balanced(loop()))
    peak = scaled_peak(responses, 1e-8)
    start = _attack_at(responses, peak.frequency * 1.04)
    climbed = _climbed(responses, peak.frequency * 1.04)
    assert start.size * peak.upper > 1 + 1e-6
    assert_allclose(climbed.size * peak.upper, 1.0, rtol=1e-6)


@pytest.mark.parametrize("other", [-0.4, 2.1, 30.0])
def test_a_step_of_newton_goes_to_the_pole_of_the_channel_that_has_it(other):
    """G = diag(1/(z - 0.5), 1/(z - 0.2)) closed by diag(k): its poles are 0.5 + k_1 and 0.2 + k_2."""
    g = Realization(np.diag([0.5, 0.2]), np.eye(2), np.eye(2), np.zeros((2, 2)), False)
    gain = np.array([0.401, 0.7 * other])
    for order in ([0, 1], [1, 0]):
        turned = g._replace(a=np.diag(np.diag(g.a)[order]))
        assert_allclose(_newton_distance(turned, gain[order], 0.9), 0.001, rtol=0.01)
