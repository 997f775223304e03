"""Intervals of Lyapunov exponents against known maps, and each of their parts against the model that it stands for."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from ctrlattn import InputError, InputTypeError
from ctrlattn.stability import exponent_intervals
from ctrlattn.stability.motion.exponent_intervals import ExponentRun, _annihilated, _disturbed, _judged, _unsettled


def logistic(x):
    return 4 * x * (1 - x)


def holds(found, exact):
    return bool(np.all((found.low <= exact) & (exact <= found.high)))


@pytest.mark.slow
@pytest.mark.parametrize("x", [np.array([0.3]), torch.tensor([0.3], dtype=torch.float64)])
def test_the_logistic_map_has_ln_2(x):
    found = exponent_intervals(logistic, x, 200)
    assert holds(found, math.log(2))
    assert abs(found.values[0] - math.log(2)) < 0.05


def test_a_diagonal_map_has_narrow_intervals_about_its_logarithms():
    found = exponent_intervals(lambda x: np.array([0.5, -2.0, 1.0]) * x, np.zeros(3), 40)
    exact = np.log([2.0, 1.0, 0.5])
    assert_allclose(found.values, exact, atol=1e-8)
    assert holds(found, exact)
    assert_allclose(found.high - found.low, 2 * 2.0 / 140, atol=1e-6)
    assert len(found.running) == 40
    alone = exponent_intervals(lambda x: -2.0 * x, np.zeros(1), 40)  # one number has nothing to align with
    assert holds(alone, math.log(2))
    assert alone.high[0] - alone.low[0] < 1e-8


def test_a_run_goes_on_while_its_intervals_are_wide():
    kick = [exponent_intervals(logistic, np.array([0.3]), 40, most=most) for most in (1, 4)]
    assert [len(found.running) for found in kick] == [40, 160]
    assert kick[1].high[0] - kick[1].low[0] < kick[0].high[0] - kick[0].low[0]
    # One that runs away after what was asked for is told from what it has.
    away = exponent_intervals(lambda x: np.array([2.0 * x[0], 1e-3 * np.sin(1e3 * x[1])]), np.array([1e-4, 0.3]), 400)
    assert len(away.running) < 1600
    assert holds(away, away.running[-1])


@pytest.mark.parametrize("start", [1e3, 1e6])
def test_a_map_that_saturates_far_out_is_judged_where_it_ends_up(start):
    # 2 tanh has the derivative 0 in every digit far out, and 2/cosh(1.915)^2 at its fixed point.
    rest = 1.9150080481545268
    for x in (np.array([start]), torch.tensor([start], dtype=torch.float64)):
        found = exponent_intervals(lambda x: 2 * (torch.tanh(x) if torch.is_tensor(x) else np.tanh(x)), x, 20)
        assert found.values[0] == pytest.approx(math.log(2 / math.cosh(rest) ** 2), abs=1e-7)


@pytest.mark.parametrize("start", [3e2, 3e5])
def test_differences_follow_a_state_that_comes_down_to_its_attractor(start):
    def falls(x):
        return np.where(np.abs(x) > 1, x / 10, logistic(x))

    assert holds(exponent_intervals(falls, np.array([start + 0.1]), 400), math.log(2))


def test_rates_that_fall_as_powers_of_the_steps_are_covered():
    # t^m beside lambda^t has the rate lambda + m/t: the mean over any part of the run is off by more than a little.
    for transient, steps in ((100, 10), (100, 200), (100, 5000), (0, 50)):
        rates = (5.0 / np.arange(1, transient + steps + 1))[:, None]
        off = _unsettled(rates, transient)[0]
        mean = rates[transient:].mean()
        assert mean <= off <= 8 * mean


def test_scatter_is_covered_by_four_standard_errors():
    rng, missed = np.random.default_rng(0), 0
    for _ in range(200):
        rates = rng.standard_normal((500, 1))
        off = _unsettled(rates, 100)[0]
        missed += abs(rates[100:].mean()) > off
        assert 4 * 0.6 / math.sqrt(400) < off < 16 / math.sqrt(400)
    assert missed == 0


def test_too_few_steps_leave_everything_open():
    assert _unsettled(np.zeros((104, 1)), 100)[0] == math.inf
    assert _unsettled(np.zeros((105, 1)), 90)[0] == 0.0
    assert np.isnan(exponent_intervals(lambda x: 0.5 * x, np.ones(1), 3, most=1).values).all()


@pytest.mark.parametrize("block", [1, 2, 6])
def test_roots_of_the_disturbance_are_continued_to_none(block):
    # mu(delta) = mu_0 + a delta^(1/m), measured at 1 and at 100 delta, and at some rounding that is less than delta.
    mu, a, delta = 0.7, 3.0, 1e-9
    measured = [np.log([mu + a * (share * delta) ** (1 / block)]) for share in (0.3, 1.0, 100.0)]
    low, high = _disturbed(measured[0], np.array(measured[1:]), block)
    assert low[0] <= math.log(mu) <= high[0]
    assert math.log(mu) - low[0] <= 6 * (measured[0][0] - math.log(mu)) + 1e-12
    # A larger block has a wider interval for the same measurements.
    assert _disturbed(measured[0], np.array(measured[1:]), block + 3)[0][0] < low[0]


def test_a_lost_direction_has_the_bound_of_what_is_left_of_it():
    low, high = _disturbed(np.array([-np.inf]), np.array([[-30.0], [-25.4]]), 2)
    assert (low[0], high[0]) == (-np.inf, -25.4)
    # One that disturbances do not move was lost at a single step.
    assert _annihilated(np.array([[-30.0, -3.0, -np.inf], [-25.4, -3.0, -np.inf]])).tolist() == [True, False, True]


def test_a_direction_lost_by_chance_is_open_and_one_that_dies_is_not():
    # One step of a hundred annihilates what the others halve.
    count = iter(range(10**9))

    def now_and_then(x, v):
        return v * np.array([1.0, 0.0 if next(count) == 150 else 0.5])

    found = exponent_intervals(lambda x: 1.0 * x, np.ones(2), 100, jvp=now_and_then, most=1)
    assert found.values[0] == pytest.approx(0.0)
    assert np.isnan(found.values[1])
    dies = exponent_intervals(lambda x: 1.0 * x, np.ones(2), 40, jvp=lambda x, v: v * np.array([1.0, 0.0]))
    assert dies.values.tolist()[1] == -np.inf
    assert dies.high[1] < -20
    assert dies.why == ""


def test_an_exponent_is_given_up_to_a_tenth():
    given = _judged(np.zeros(3), np.array([-0.099, -0.101, 0.0]), np.array([0.0, 0.0, 0.101]), np.zeros((4, 3)))
    assert np.isnan(given.values).tolist() == [False, True, True]
    lost = np.full(2, -np.inf)
    assert np.isnan(_judged(lost, lost, np.log([0.009, 0.011]), np.zeros((4, 2))).values).tolist() == [False, True]
    assert "2 of 3 Lyapunov exponents are open: number 2 lies between -0.101 and 0 after 4 steps" in given.why


@pytest.mark.parametrize("kind", ["differences", "given", "torch"])
def test_digits_that_derivatives_do_not_have_are_counted(kind):
    # A shear of the plane by c: sqrt(c delta) beside the eigenvalue .5.
    c = 1e4
    matrix = np.array([[0.5 + 0.0, c], [0.0, 0.5]])
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    matrix = turn @ matrix @ turn.T
    moved = torch.tensor(matrix)
    if kind == "torch":
        found = exponent_intervals(lambda x: moved @ x, torch.zeros(2, dtype=torch.float64), 300, 1)
    else:
        jvp = (lambda x, v: v @ matrix.T) if kind == "given" else None
        found = exponent_intervals(lambda x: matrix @ x, np.zeros(2), 300, 1, jvp=jvp)
    assert holds(found, math.log(0.5))
    assert np.isnan(found.values[0]) == (kind == "differences")


def test_states_are_kept_where_they_are_asked_for():
    runs = [ExponentRun(lambda x: 0.5 * x, np.ones(1), transient=3, keep=keep) for keep in (False, True)]
    for run in runs:
        run.advance(4)
        run.advance(2)
    assert [len(run.visited) for run in runs] == [0, 6]
    assert [float(x[0]) for x in runs[1].visited] == [0.5**t for t in range(3, 9)]


def test_refused():
    with pytest.raises(InputTypeError, match="step must be a function"):
        exponent_intervals(0.5, np.ones(1), 5)
    with pytest.raises(InputError, match="no longer finite after step 11 of 15"):
        exponent_intervals(lambda x: 1e30 * x, np.ones(1), 5, transient=10)
    with pytest.raises(InputError, match="most must be a whole number"):
        exponent_intervals(lambda x: x, np.ones(1), 5, most=0)
