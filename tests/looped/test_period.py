"""Rest, orbits, drift and neither: maps whose end is known, on both array kinds."""

import numpy as np
import numpy.testing as npt
import pytest

from ctrlattn import PID, InputError, looped
from ctrlattn.arrays import like


def as_kind(xp, x, dtype="float64"):
    return like(x, xp.zeros(1, dtype=getattr(xp, dtype)))


START = np.array([[0.3, -0.7]])


@pytest.mark.parametrize(
    ("f", "p"),
    [
        (lambda h: 0 * h + 2.0, 1),
        (lambda h: 1.0 * h, 1),
        (lambda h: 0.5 * h, 1),
        (lambda h: -1.0 * h, 2),
        (lambda h: -0.5 * h, 1),
        (lambda h: h + 0.01, -1),
        (lambda h: 1.5 * h, -1),
        (lambda h: 10.0 * h, -1),
    ],
    ids=["constant", "identity", "shrinks", "flips", "shrinking flip", "drifts", "grows", "overflows"],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_maps_whose_end_is_known(xp, f, p, dtype):
    outcome = looped.period(f, as_kind(xp, START, dtype))
    assert outcome.period == p
    assert outcome.settled == (p > 0)


@pytest.mark.parametrize("p", range(1, 9))
def test_a_turn_by_one_pth_of_the_circle_has_the_period_p(xp, p):
    c, s = np.cos(2 * np.pi / p), np.sin(2 * np.pi / p)
    turn = as_kind(xp, np.array([[c, s], [-s, c]]))
    outcome = looped.period(lambda h: h @ turn, as_kind(xp, START))
    assert (outcome.period, outcome.settled) == (p, True)
    assert looped.period(lambda h: h @ turn, as_kind(xp, START), most=max(p - 1, 1)).period == (0 if p > 1 else 1)


@pytest.mark.parametrize("size", [0.01, 1.0, 100.0])
def test_distances_are_shares_of_the_state(xp, size):
    outcome = looped.period(lambda h: -1.0 * h, as_kind(xp, size * START), most=3)
    npt.assert_allclose(outcome.distances, [2.0, 0.0, 2.0], rtol=1e-12)
    assert outcome.rate == 0
    shifted = looped.period(lambda h: 0.5 * h + size, as_kind(xp, size * START), 24, most=2, tol=1e-12)
    # |h_k - h_{k-p}| = 2^-k (2^p - 1) |h_0 - h*|, the largest at the last pass but one; |h| ends near 2 size sqrt(2).
    off = np.linalg.norm(START - 2.0) / np.linalg.norm([2.0, 2.0])
    npt.assert_allclose(shifted.distances, 2.0**-23 * np.array([1, 3]) * off, rtol=1e-5)
    assert shifted.rate == pytest.approx(0.5)


def test_a_gain_turns_the_orbit_into_rest(xp):
    # F = -h has the orbit of period 2; with g = 1/2 its pole is 0.
    assert looped.period(lambda h: -1.0 * h, as_kind(xp, START)).period == 2
    assert looped.period(lambda h: -1.0 * h, as_kind(xp, START), controller=PID(0.4)).period == 1
    assert looped.period(lambda h: 1.5 * h, as_kind(xp, START), controller=PID(0.4), recall=1.0).period == 1


def test_a_slow_approach_is_said_with_its_rate(xp):
    outcome = looped.period(lambda h: 0.99 * h, as_kind(xp, START))
    assert (outcome.period, outcome.settled) == (1, False)
    assert outcome.rate == pytest.approx(0.99, abs=1e-3) or outcome.rate == pytest.approx(1.0, abs=1e-2)
    assert "approaches a fixed point" in outcome.in_words()
    shifted = looped.period(lambda h: 0.99 * h + 0.01, as_kind(xp, START))
    assert (shifted.period, shifted.settled) == (1, False)
    assert shifted.rate == pytest.approx(0.99, abs=1e-3)


@pytest.mark.slow
def test_the_slowest_approach_is_no_drift_and_a_drift_that_slows_down_is_no_approach(xp):
    rng = np.random.default_rng(0 if xp is np else 1)
    for _ in range(2):
        size, pole = 10.0 ** rng.uniform(-6, 6), 1 - 10.0 ** rng.uniform(-5, -1)
        h = as_kind(xp, size * rng.standard_normal(3))
        slow = looped.period(lambda h, pole=pole: pole * h, h)
        assert slow.period == 1
        assert slow.settled or slow.rate == pytest.approx(pole, rel=1e-6)
        flipped = looped.period(lambda h, pole=pole: -pole * h, h)
        assert flipped.period == 1  # and not the orbit of period 2 that it looks like
        around = looped.period(lambda h, pole=pole: xp.sign(h) * -(1 + pole * (abs(h) - 1)), 1 + 0.1 * abs(h) / size)
        assert around.period == 2
        assert looped.period(lambda h, size=size: h + size * size / (size + abs(h)), h).period == -1
        assert looped.period(lambda h, size=size: h + 1e-5 * size, h).period == -1
        assert looped.period(lambda h, pole=pole: (2 - pole) * h, h).period == -1 or pole > 0.998


@pytest.mark.parametrize("pole", [0.9946, 0.995, 0.99])
def test_an_orbit_of_period_2_is_told_from_rest_while_it_is_far(pole):
    # h = c + w: c falls to 0 at the pole, w turns over. Alone, a falling -pole^k is rest.
    far = looped.period(lambda h: np.array([pole * h[0], -h[1]]), np.array([4.0, 0.02]))
    assert far.period == 2
    alone = looped.period(lambda h: -pole * h, np.array([4.0, 0.02]))
    assert alone.period == 1


def test_chaos_has_no_period_and_an_orbit_has_its_own():
    def logistic(g):
        return looped.period(lambda h: g * h * (1 - h), np.array([0.3]), 1024)

    assert [logistic(g).period for g in (2.5, 3.2, 3.5, 3.55, 3.83, 3.9)] == [1, 2, 4, 8, 3, 0]
    assert "bounded and has no period up to 8" in logistic(3.9).in_words()
    assert logistic(3.83).in_words() == "the loop settles on an orbit of period 3"


def test_the_pass_of_an_overflow_is_said(xp):
    outcome = looped.period(lambda h: 1e10 * h, as_kind(xp, np.ones((1, 1))))
    assert outcome.escaped == 16  # |h|^2 beyond 1e308
    assert "no longer finite after pass 16" in outcome.in_words()
    assert "keeps moving away" in looped.period(lambda h: h + 1.0, as_kind(xp, START)).in_words()
    npt.assert_array_equal(outcome.distances, np.nan)


def test_bad_input_says_what_would_be_right():
    with pytest.raises(InputError, match="needs at least 64"):
        looped.period(lambda h: h, START, 63)
    with pytest.raises(InputError, match="tol must be positive"):
        looped.period(lambda h: h, START, tol=0.0)


@pytest.mark.parametrize("size", [1e-250, 1e-200, 1e-6, 1e6, 1e150])
def test_a_period_does_not_depend_on_the_size_of_the_state(size):
    assert looped.period(lambda h: -1.0 * h, size * np.ones(3)).period == 2
    assert looped.period(lambda h: 0.5 * h, size * np.ones(3)).period == 1
