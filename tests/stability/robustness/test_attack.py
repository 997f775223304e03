"""Destabilising factors: they put a pole where they say, and the checks refuse those that do not."""

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.linear.realization import Realization, negative_feedback
from ctrlattn.stability.robustness import attack as module
from ctrlattn.stability.robustness.attack import (
    Attack,
    _attack_at,
    _climb,
    _frequencies_between,
    _nearest_eigenvalue,
    _newton_distance,
    _sampled_radii,
    pole_miss,
    require_sound,
    strongest_attack,
)
from ctrlattn.stability.robustness.scaled_peak import Responses, scaled_peak
from ctrlattn.stability.robustness.structured import largest_radius


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


@every_case("away", [0.05, 0.1, 0.2, 0.4, 0.8])
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
    between = _frequencies_between(w)
    ends = np.array([0.1, 0.5, 1.0, 3.0])
    assert np.all((ends[:-1] < between[:-1]) & (between[:-1] < ends[1:]))
    assert between[-1] == 3.0
    assert _frequencies_between(np.array([2.0])).tolist() == [2.0]
    many = np.linspace(0, 3, 500)
    looks = _frequencies_between(many)
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
    climbed = _climb(responses, peak.frequency * 1.04)
    assert start.size * peak.upper > 1 + 1e-6
    assert_allclose(climbed.size * peak.upper, 1.0, rtol=1e-6)


@every_case("other", [-0.4, 2.1, 30.0])
def test_a_step_of_newton_goes_to_the_pole_of_the_channel_that_has_it(other):
    """G = diag(1/(z - 0.5), 1/(z - 0.2)) closed by diag(k): its poles are 0.5 + k_1 and 0.2 + k_2."""
    g = Realization(np.diag([0.5, 0.2]), np.eye(2), np.eye(2), np.zeros((2, 2)), False)
    gain = np.array([0.401, 0.7 * other])
    for order in ([0, 1], [1, 0]):
        turned = g._replace(a=np.diag(np.diag(g.a)[order]))
        assert_allclose(_newton_distance(turned, gain[order], 0.9), 0.001, rtol=0.01)


def mimo(seed, channels, n, continuous):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, n)) / np.sqrt(n)
    a = a - 2 * np.eye(n) if continuous else 0.5 * a
    b, c, d = (
        rng.normal(size=(n, channels)),
        rng.normal(size=(channels, n)),
        0.3 * rng.normal(size=(channels, channels)),
    )
    return Realization(a, b, c, d, continuous)


def closed_poles(g, gain):
    """x = A x + B u, u = K y, y = C x + D u."""
    k = np.diag(gain)
    return np.linalg.eigvals(g.a + g.b @ k @ np.linalg.inv(np.eye(len(g.d)) - g.d @ k) @ g.c)


@every_case("continuous", [False, True])
@every_case("channels", [1, 2, 3])
@every_case("n", [1, 4])
def test_the_miss_is_the_distance_of_the_nearest_pole_over_the_way(continuous, channels, n):
    g = mimo(n, channels, n, continuous)
    gain = np.array([0.6, -0.8, 0.5])[:channels] * np.exp([0.3j, 1.1j, 0.2j])[:channels]
    poles = closed_poles(g, gain)
    for w, way in ((0.3, 0.2), (-1.4, 3.0)):
        point = 1j * w if continuous else np.exp(1j * w)
        attack = Attack(1.0, gain, w, way)
        expected = np.abs(poles - point).min() / way
        miss = pole_miss(g, g, attack, -gain)  # negative feedback of the factors
        by_step = _newton_distance(g, gain, point) / way  # counts where poles crowd, and is never the smaller miss here
        assert_allclose(miss, min(expected, by_step), rtol=1e-9)
        by_s = pole_miss(mimo(9, channels, n, continuous), g, attack, np.append(np.ones(channels - 1), 1e-9))
        assert_allclose(by_s, miss, rtol=1e-12)  # a factor of nothing is looked at through S and delta
        assert_allclose(
            pole_miss(mimo(9, channels, n, continuous), g, attack, np.append(np.ones(channels - 1), 1e9)), miss
        )


@every_case("n", [1, 2, 7])
def test_a_trace_bounds_the_way_to_the_nearest_eigenvalue(n):
    """Exact for one state and for n alike; at most n times too long beside one that is far nearer than the others."""
    rng = np.random.default_rng(n)
    point = 0.6 + 0.8j
    assert_allclose(_nearest_eigenvalue((point + 0.25) * np.eye(n), point), 0.25, rtol=1e-13)
    for _ in range(20):
        a = rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))
        assert _nearest_eigenvalue(a, point) >= np.abs(np.linalg.eigvals(a) - point).min() * (1 - 1e-9)
    near = np.diag(np.append(point + 1e-9, np.arange(2.0, n + 1)))
    assert_allclose(_nearest_eigenvalue(near, point), n * 1e-9, rtol=1e-6)
    assert _nearest_eigenvalue(point * np.eye(n), point) == 0.0
    if n == 2:  # 1/(z - lambda) of both sides cancel
        assert _nearest_eigenvalue(np.diag([point + 1, point - 1]), point) > 1e15


def test_a_pole_on_the_boundary_is_seen_by_a_trace_alone(monkeypatch):
    """G = 0.5/(z - 0.5) closed by u = y has its pole at 1; the ten idle states make the bound longer."""
    idle = np.diag(np.append(0.5, np.linspace(-0.4, 0.4, 10)))
    g = Realization(idle, np.eye(11)[:, :1], 0.5 * np.eye(11)[:1], np.zeros((1, 1)), False)
    attack = Attack(1.0, np.array([1.0 + 0j]), 0.0, 0.5)
    monkeypatch.setattr(module, "_newton_distance", lambda *_: np.inf)
    monkeypatch.setattr(module, "eigenvalues", lambda a: np.linalg.eigvals(a) if len(a) == 1 else np.full(1, np.inf))
    assert pole_miss(g, g, attack, np.array([-1.0 + 0j])) < 1e-14
    assert pole_miss(g, g, attack, np.array([-1.0 - 1e-7 + 0j])) == np.inf  # 11 times 5e-8 of a way of .5 is too far


@pytest.mark.parametrize("end", [1, -1])
def test_both_ends_of_the_real_gains_are_attacks(end, monkeypatch):
    """No level test helps: a pole at 0.5 + 0.5 end * (-1.01) or so goes beyond -1 or 1."""
    n = 12
    a = np.diag(np.append(end * 0.5, np.linspace(-0.2, 0.2, n - 1)))
    g = Realization(a, np.eye(n)[:, :1], 0.5 * np.eye(n)[:1], np.zeros((1, 1)), False)
    monkeypatch.setattr(module, "_no_gain_above", lambda *_: True)
    attack = Attack(1e9, np.array([1e9j]), 0.0, 1.0)  # that says nothing
    require_sound(g, 0.99, attack, 0.0)
    with pytest.raises(ArithmeticError, match="destabilise"):
        require_sound(g, 1.05, attack, 0.0)


@pytest.mark.parametrize("channels", [1, 2])
def test_without_a_state_or_a_frequency_the_direct_term_closes_the_loop_alone(channels):
    """The smallest eigenvalue of I - D K; 0 is an algebraic loop, whatever the poles are."""
    gain = np.array([2.0, -0.5])[:channels]
    g = mimo(3, channels, 3, True)
    expected = np.abs(np.linalg.eigvals(np.eye(channels) - g.d @ np.diag(gain))).min()
    assert_allclose(pole_miss(g, g, Attack(1.0, gain, np.inf, 1.0), -gain), expected, rtol=1e-12)
    none = g._replace(a=np.zeros((0, 0)), b=np.zeros((0, channels)), c=np.zeros((channels, 0)))
    assert_allclose(pole_miss(none, none, Attack(1.0, gain, 0.3, 1.0), -gain), expected, rtol=1e-12)
    loop_of_d = g._replace(d=np.diag(1 / gain))
    assert pole_miss(loop_of_d, loop_of_d, Attack(1.0, gain, 0.3, 1.0), -gain) <= 1e-12


@every_case("channels", [1, 2, 3])
def test_sampled_radii_are_lower_bounds_that_come_near_the_largest(channels):
    rng = np.random.default_rng(2)
    m = rng.normal(size=(12, channels, channels)) + 1j * rng.normal(size=(12, channels, channels))
    largest = np.array([largest_radius(matrix)[0] for matrix in m])
    sampled = _sampled_radii(m)
    assert sampled.shape == (12,)
    assert np.all(sampled <= largest * (1 + 1e-12))
    assert np.all(sampled >= 0.97 * largest)


def test_a_response_of_zero_has_no_attack():
    g = Realization(np.array([[0.5]]), np.ones((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)), False)
    attack = _attack_at(Responses(g), 0.0)
    assert attack.size == np.inf
    assert_allclose(attack.way, 0.5)
    assert _climb(Responses(g), 0.4).size == np.inf


@every_case("continuous", [False, True])
@every_case("n", [3, 12, 51])
def test_one_channel_of_any_size_is_sound_at_its_margin_and_not_beyond(continuous, n):
    """1/(s + 1) + 0.3, 1/(z - 0.5) + 0.3 by states that do nothing: the gain 1.3 (2.3) is reached at w = 0 alone."""
    a = np.diag(
        np.append(-1.0, np.linspace(-3, -2, n - 1)) if continuous else np.append(0.5, np.linspace(-0.3, 0.2, n - 1))
    )
    b, c = np.eye(n)[:, :1], np.eye(n)[:1]
    g = Realization(a, b, c, np.full((1, 1), 0.3), continuous)
    margin = 1 / 1.3 if continuous else 1 / 2.3
    attack = Attack(margin, np.array([margin + 0j]), 0.0, margin)
    require_sound(g, margin, attack, 1e-7)
    with pytest.raises(ArithmeticError, match="should put a pole"):
        require_sound(g, margin, attack, 1.1e-6)
    if n <= 50:
        with pytest.raises(ArithmeticError, match="destabilise"):
            require_sound(g, 1.01 * margin, attack, 0.0)
    else:
        require_sound(g, 1.01 * margin, attack, 0.0)  # the attacks at sampled frequencies have to do


@every_case("continuous", [False, True])
@every_case("channels", [1, 2, 3])
def test_a_step_of_newton_beside_a_pole_is_as_long_as_the_way_to_it(continuous, channels):
    g = mimo(5, channels, 4, continuous)
    gain = np.array([0.6, -0.8, 0.5])[:channels] * np.exp([0.3j, 1.1j, 0.2j])[:channels]
    for pole in closed_poles(g, gain):
        for away in (1e-6, 1e-6j):
            assert_allclose(_newton_distance(g, gain, pole + away), 1e-6, rtol=1e-3)
    assert _newton_distance(g, 0 * gain, 0.9) == np.inf  # nothing moves
    assert _newton_distance(g._replace(a=np.diag([0.5, 0.2, 0.1, 0.0])), gain, 0.5) == np.inf  # a pole of G itself


@pytest.mark.parametrize(("n", "channels", "attacks"), [(3, 1, 16), (12, 1, 3), (12, 2, 16), (50, 2, 3), (51, 2, 0)])
def test_fewer_attacks_are_sampled_where_each_costs_more_or_a_level_test_has_shown_all(
    n, channels, attacks, monkeypatch
):
    """10^4 // (n^2 + 1) of them, 16 at most; 3 after a level test of one real channel; none of 51 states."""
    g = Realization(np.diag(np.linspace(-0.4, 0.4, n)), 1e-3 * np.ones((n, channels)), np.ones((channels, n)),
                    np.zeros((channels, channels)), False)  # fmt: skip
    solved = []
    monkeypatch.setattr(module, "eigenvalues", lambda a: solved.append(1) or np.linalg.eigvals(a))
    require_sound(g, 1.0, Attack(1.0, np.ones(channels, dtype=complex), 0.0, 1.0), 0.0)
    assert len(solved) == attacks


def test_nothing_is_climbed_at_the_frequency_0(monkeypatch):
    """Steps are shares of the frequency."""
    responses = Responses(balanced(loop()))
    monkeypatch.setattr("scipy.optimize.minimize", lambda *given, **options: 1 / 0)
    assert _climb(responses, 0.0).size == _attack_at(responses, 0.0).size
    with pytest.raises(ZeroDivisionError):
        _climb(responses, 0.1)
