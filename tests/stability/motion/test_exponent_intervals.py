"""Intervals of Lyapunov exponents against known maps, and each of their parts against the model that it stands for."""

import math

import numpy as np
import pytest
import torch
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import InputError, InputTypeError
from ctrlattn.stability import exponent_intervals
from ctrlattn.stability.motion.exponent_intervals import (
    ExponentRun,
    Exponents,
    _annihilated,
    _drift,
    _interval_by_disturbance,
    _judge,
    _wide,
    known_within,
    opened,
)


def logistic(x):
    return 4 * x * (1 - x)


def holds(found, exact):
    return bool(np.all((found.low <= exact) & (exact <= found.high)))


@every_case("block", [1, 2, 5])
def test_disturbed_frames_are_continued_to_no_disturbance_by_the_law_of_a_jordan_block(block):
    """mu(delta) = 2 (1 + .01 delta^(1/m)): what the frame of 1 delta is off, and as much for the way to it from 100."""
    values = np.log([2.0])
    others = values + np.log1p(0.01 * np.array([[1.0], [100.0 ** (1 / block)]]))
    low, high = _interval_by_disturbance(values, others, block)
    assert_allclose([low[0], high[0]], values[0] + np.log1p([-0.02, 0.02]), rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("x", [np.array([0.3]), torch.tensor([0.3], dtype=torch.float64)])
def test_the_logistic_map_has_ln_2(x):
    found = exponent_intervals(logistic, x, 150 if isinstance(x, np.ndarray) else 60)
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
    away = exponent_intervals(lambda x: np.array([2.0 * x[0], 1e-3 * np.sin(1e3 * x[1])]), np.array([1e-4, 0.3]), 300)
    assert len(away.running) < 1200
    assert holds(away, away.running[-1])


@pytest.mark.slow
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

    assert holds(exponent_intervals(falls, np.array([start + 0.1]), 100), math.log(2))


def test_rates_that_fall_as_powers_of_the_steps_are_covered():
    # t^m beside lambda^t has the rate lambda + m/t: the mean over any part of the run is off by more than a little.
    for transient, steps in ((100, 10), (100, 200), (100, 5000), (0, 50)):
        rates = (5.0 / np.arange(1, transient + steps + 1))[:, None]
        off = _drift(rates, transient)[0]
        mean = rates[transient:].mean()
        assert mean <= off <= 8 * mean


def test_scatter_is_covered_by_four_standard_errors():
    rng, missed = np.random.default_rng(0), 0
    for _ in range(200):
        rates = rng.standard_normal((500, 1))
        off = _drift(rates, 100)[0]
        missed += abs(rates[100:].mean()) > off
        assert 4 * 0.6 / math.sqrt(400) < off < 16 / math.sqrt(400)
    assert missed == 0


def test_a_first_part_that_both_windows_leave_out_counts():
    # 1 in the first quarter, 0 later: four standard errors of 20 batches, 5 of them 1, and a mean off by a quarter.
    rates = np.repeat([1.0, 0.0, 0.0, 0.0], 100)[:, None]
    scatter = 4 * math.sqrt((5 * 0.75**2 + 15 * 0.25**2) / 19 / 20)
    assert _drift(rates, 0)[0] == pytest.approx(scatter + 0.25)


def test_too_few_steps_leave_everything_open():
    assert _drift(np.zeros((104, 1)), 100)[0] == math.inf
    assert _drift(np.zeros((105, 1)), 90)[0] == 0.0
    assert np.isnan(exponent_intervals(lambda x: 0.5 * x, np.ones(1), 3, most=1).values).all()


@every_case("block", [1, 2, 6])
def test_roots_of_the_disturbance_are_continued_to_none(block):
    # mu(delta) = mu_0 + a delta^(1/m), measured at 1 and at 100 delta, and at some rounding that is less than delta.
    mu, a, delta = 0.7, 3.0, 1e-9
    measured = [np.log([mu + a * (share * delta) ** (1 / block)]) for share in (0.3, 1.0, 100.0)]
    low, high = _interval_by_disturbance(measured[0], np.array(measured[1:]), block)
    assert low[0] <= math.log(mu) <= high[0]
    assert math.log(mu) - low[0] <= 6 * (measured[0][0] - math.log(mu)) + 1e-12
    # A larger block has a wider interval for the same measurements.
    assert _interval_by_disturbance(measured[0], np.array(measured[1:]), block + 3)[0][0] < low[0]


def test_a_disturbance_that_no_root_describes_counts_as_it_is():
    low, high = _interval_by_disturbance(np.zeros(1), np.log([[1.1], [1.1]]), 2)
    assert (low[0], high[0]) == pytest.approx((math.log(0.9), math.log(1.1)))


def test_a_lost_direction_has_the_bound_of_what_is_left_of_it():
    low, high = _interval_by_disturbance(np.array([-np.inf]), np.array([[-30.0], [-25.4]]), 2)
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
    given = _judge(np.zeros(3), np.array([-0.099, -0.101, 0.0]), np.array([0.0, 0.0, 0.101]), np.zeros((4, 3)))
    assert np.isnan(given.values).tolist() == [False, True, True]
    lost = np.full(2, -np.inf)
    assert np.isnan(_judge(lost, lost, np.log([0.009, 0.011]), np.zeros((4, 2))).values).tolist() == [False, True]
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
        found = exponent_intervals(lambda x: moved @ x, torch.zeros(2, dtype=torch.float64), 120, 1)
    else:
        jvp = (lambda x, v: v @ matrix.T) if kind == "given" else None
        found = exponent_intervals(lambda x: matrix @ x, np.zeros(2), 120, 1, jvp=jvp)
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


def halving(size, k=None, **options):
    return ExponentRun(lambda x: 0.5 * x, np.ones(size), k, jvp=lambda x, v: 0.5 * v, **options)


@every_case("size", [1, 4, 9])
def test_products_are_known_to_a_share_of_the_longest_or_to_what_a_longer_step_changes(size):
    run, root = halving(size), math.sqrt(size)
    assert run.exact
    moved, longest = [3.0 * np.eye(size)[:, :1], 7.0 * np.eye(size)[:, -1:]], np.eye(size)[:, :1]
    for length, change in ((5.0, 0.0), (11.0, 0.0), (5.0, 1.0), (5.0, 1e-3)):
        probed = np.hstack([length * longest, change * longest])
        expected = root * max(run.known * max(7.0, length), 2 * change)
        assert run._delta(moved, probed) == pytest.approx(expected, rel=1e-14)
    assert run._delta(moved, np.full((size, 2), np.nan)) == math.inf


def test_torch_and_given_derivatives_are_exact_and_differences_are_not():
    eps = 2.0**-52
    known = {run.known for run in (halving(2), ExponentRun(torch.tanh, torch.ones(2, dtype=torch.float64)))}
    differences = ExponentRun(np.tanh, np.ones(2))
    assert len(known) == 1
    assert not differences.exact
    assert max(known) < 1e3 * eps
    assert differences.known / max(known) > 1e3
    single = ExponentRun(torch.tanh, torch.ones(2, dtype=torch.float32))
    assert single.known / max(known) == pytest.approx(2.0**29)


def test_a_lost_direction_of_a_disturbed_frame_grows_as_the_disturbance():
    run = halving(5, 1)
    for delta in (1e-9, 1e-3):
        rates = [run._rates(i, np.zeros((5, 1)), delta).item() for i in range(3)]
        assert rates[0] == -math.inf
        assert_allclose(rates[1:], [math.log(delta), math.log(100 * delta)], rtol=1e-12)
        assert run.frames[0].shape == (5, 0)
        assert_allclose([np.linalg.norm(frame) for frame in run.frames[1:]], 1.0)


def test_every_frame_is_pushed_and_one_direction_of_unit_length_beside_them():
    run = halving(3, 2)
    new, moved, probed = run._push()
    assert_allclose(new, 0.5)
    for part, frame in zip(moved, run.frames, strict=True):
        assert_allclose(part, 0.5 * frame)
    assert_allclose(np.linalg.norm(probed, axis=0), [0.5, 0.0])
    # A difference over twice the step of x^3 is off by three times more: 4 d^2 v^3 in place of d^2 v^3.
    curved = ExponentRun(lambda x: x**3 + 1.0, np.array([2.0, -1.0]), 1)
    *_, probed = curved._push()
    assert probed.shape == (2, 2)
    assert 0 < np.linalg.norm(probed[:, 1]) < 1e-8


def test_shares_and_rates_of_each_step():
    run = halving(4, 1, transient=2)
    run.advance(3)
    run.advance(2)
    assert (len(run.rates), len(run.shares)) == (7, 5)
    assert_allclose(run.shares, 2 * run.known, rtol=1e-6)
    assert_allclose(np.array(run.rates)[:, 0, 0], math.log(0.5))
    assert_allclose(run.x, 0.5**7)
    nothing = ExponentRun(lambda x: 0 * x, np.ones(2), jvp=lambda x, v: 0 * v, transient=0)
    nothing.advance(2)
    assert nothing.shares == [0.0, 0.0]


@every_case("mean, near", [(0.0, 0.02), (0.5, 0.02), (-1.0, 0.02), (3.0, 0.06), (-10.0, 0.2)])
def test_an_interval_is_wide_beyond_two_percent_of_1_or_of_the_exponent(mean, near):
    running = np.array([[mean + 1.0], [mean]])
    for low, high, wide in ((0.99, 0.99, False), (0.5, 1.01, True), (1.01, 0.5, True)):
        ends = np.array([mean - low * near]), np.array([mean + high * near])
        assert _wide(Exponents(np.array([mean]), *ends, running, "")) == wide
    open_end = Exponents(np.array([mean]), np.array([-np.inf]), np.array([mean]), running, "")
    assert _wide(open_end)
    lost = np.full(1, -np.inf)
    assert not _wide(Exponents(lost, lost, np.array([-30.0]), np.full((2, 1), -np.inf), ""))


def test_what_follows_the_disturbance_follows_it_by_a_twentieth_at_least():
    once = np.full(3, -20.0)
    assert _annihilated(np.array([once, once + np.array([0.04, 0.06, -1.0])])).tolist() == [False, True, False]


def test_an_end_of_an_interval_is_as_far_as_the_farther_one():
    values, low, high = np.array([1.0, 1.0, -np.inf]), np.array([0.9, 0.95, -np.inf]), np.array([1.05, 1.2, 5.0])
    assert_allclose(known_within(values, low, high), [0.1, 0.2, 0.0])
    assert opened(values, low, np.array([1.05, 1.2, -15.0])).tolist() == [False, True, False]
    assert opened(np.array([np.nan]), np.array([0.0]), np.array([0.0])).tolist() == [True]
