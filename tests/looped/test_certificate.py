"""Balls on which a loop contracts: closed forms, metrics of their own, and everything that must be refused."""

import numpy as np
import numpy.testing as npt
import pytest
import torch

from ctrlattn import InputError, looped
from ctrlattn.arrays import like


def as_kind(xp, x):
    return like(x, xp.zeros(1, dtype=xp.float64))


def test_an_affine_contraction_holds_everywhere(xp):
    j = np.array([[0.3, 0.2], [-0.1, 0.4]])
    move = as_kind(xp, j.T)
    ball = looped.contraction_ball(lambda h: h @ move, as_kind(xp, np.zeros((1, 2))), 0.0, largest=1e3)
    assert ball.radius == 1e3
    assert ball.rate == pytest.approx((1 + np.linalg.norm(j, 2)) / 2, abs=1e-6)
    assert ball.seen <= np.linalg.norm(j, 2) + 1e-9


@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_the_radius_is_what_the_curvature_leaves(xp, gain):
    # T' = 1 + g (a cos h - 1) at 0 is 1 - g (1 - a); |T'| changes by at most g a |h|.
    a = 0.6
    ball = looped.contraction_ball(lambda h: a * xp.sin(h), as_kind(xp, np.zeros(1)), a, gain=gain)
    norm = 1 - gain * (1 - a)
    assert ball.rate == pytest.approx((1 + norm) / 2, abs=2e-6)
    assert ball.radius == pytest.approx((1 - norm) / 2 / (gain * a), rel=1e-5)
    assert ball.metric is None
    assert ball.seen < ball.rate


def test_recall_makes_a_ball_where_there_is_none(xp):
    x = as_kind(xp, np.zeros(2))
    with pytest.raises(ArithmeticError, match=r"spectral radius there is 1\.2"):
        looped.contraction_ball(lambda h: 1.2 * xp.sin(h), x, 1.2)
    ball = looped.contraction_ball(lambda h: 1.2 * xp.sin(h), x, 1.2, gain=0.5, recall=0.8)
    assert ball.rate == pytest.approx((1 + 1 - 0.5 * 0.6) / 2, abs=2e-6)


def test_a_matrix_far_from_normal_contracts_in_a_metric_of_its_own(xp):
    j = np.array([[0.5, 3.0], [0.0, 0.4]])
    move = as_kind(xp, j.T)
    ball = looped.contraction_ball(lambda h: h @ move + 0.01 * xp.sin(h), as_kind(xp, np.zeros((1, 2))), 0.01, gain=1.0)
    assert np.linalg.norm(j, 2) > 1
    assert ball.metric is not None
    m = j + 0.01 * np.eye(2)
    norm = np.linalg.norm(ball.metric @ m @ np.linalg.inv(ball.metric), 2)
    assert norm < ball.rate < 1
    assert ball.inner <= ball.radius / np.linalg.norm(ball.metric, 2) * (1 + 1e-12)


def test_the_ball_holds_the_fixed_point_and_every_start_in_it_reaches_it():
    def f(h):
        return 0.5 * np.sin(h) + 0.02

    ball = looped.contraction_ball(f, np.zeros(3), 0.5)
    point = looped.fixed_point(f, np.zeros(3))
    assert np.linalg.norm(point.x) < ball.inner
    rng = np.random.default_rng(0)
    for _ in range(20):
        d = rng.standard_normal(3)
        run = looped.iterate(f, ball.inner * d / np.linalg.norm(d), 200).state
        npt.assert_allclose(run[-1], point.x, atol=1e-12)
        off = np.linalg.norm(run - point.x, axis=1)
        assert np.all(off[1:] <= ball.rate * off[:-1] + 1e-10)


def test_what_cannot_be_certified_is_refused():
    with pytest.raises(ArithmeticError, match="random pair"):
        looped.contraction_ball(lambda h: 0.5 * h + 2 * h**2, np.zeros(1), 0.1)
    with pytest.raises(ArithmeticError, match="the loop moves x by 1"):
        looped.contraction_ball(lambda h: 0.5 * np.sin(h) + 1.0, np.zeros(1), 0.5)
    with pytest.raises(ArithmeticError, match="no derivative"):
        looped.contraction_ball(torch.sqrt, torch.zeros(1, dtype=torch.float64), 1.0)
    with pytest.raises(InputError, match="lipschitz must be at least 0"):
        looped.contraction_ball(lambda h: h, np.zeros(1), -1.0)
    with pytest.raises(InputError, match="lipschitz must be finite"):
        looped.contraction_ball(lambda h: h, np.zeros(1), np.inf)
    with pytest.raises(InputError, match="gain must be positive"):
        looped.contraction_ball(lambda h: h, np.zeros(1), 1.0, gain=0.0)
    with pytest.raises(InputError, match="at most 2000"):
        looped.contraction_ball(lambda h: h, np.zeros(2001), 1.0)


def test_a_slope_that_differences_jump_over_is_no_certificate():
    # Near 0 the slope of one number of 1000 is 2.5, and .5 farther out, where random pairs lie.
    def f(h, width):
        bent = 0.5 * h
        bent[0] += 2 * width * np.tanh(h[0] / width)
        return bent

    with pytest.raises(ArithmeticError, match=r"its spectral radius there is 2\.5"):
        looped.contraction_ball(lambda h: f(h, 1e-7), np.zeros(1000), 2e7)
    with pytest.raises(ArithmeticError, match="the derivative is known to"):
        looped.contraction_ball(lambda h: f(h, 1e-60), np.zeros(1000), 2e60)


@pytest.mark.filterwarnings("error")
def test_matrices_far_from_normal_are_certified_or_refused():
    rng, certified = np.random.default_rng(0), 0
    for _ in range(80):
        n = int(rng.integers(2, 6))
        j = np.triu(10.0 ** rng.uniform(-2, 14) * rng.standard_normal((n, n)), 1) + np.diag(rng.uniform(-1, 1, n))
        move = torch.tensor(j.T)
        try:
            ball = looped.contraction_ball(lambda h, move=move: h @ move, torch.zeros(1, n, dtype=torch.float64), 0.0)
        except ArithmeticError:
            continue
        certified += 1
        powers = np.linalg.matrix_power(j, 64)
        metric = np.eye(n) if ball.metric is None else ball.metric
        assert np.linalg.norm(metric @ powers @ np.linalg.inv(metric), 2) <= ball.rate**64 * (1 + 1e-6)
    assert 10 < certified < 70


@pytest.mark.filterwarnings("error")
def test_a_slope_that_differentiation_does_not_see_is_no_certificate():
    # The true slope is 2.5 in one direction of n, and autodiff sees 1/2: random pairs grow by hardly more than that.
    rng = np.random.default_rng(0)
    for n in (2, 30, 400):
        for lipschitz in (0.0, 0.1):
            at = int(rng.integers(n))
            unit = torch.zeros(n, dtype=torch.float64)
            unit[at] = 1.0
            x = torch.tensor(rng.standard_normal(n)) if lipschitz == 0 else torch.zeros(n, dtype=torch.float64)

            def f(h, unit=unit, x=x):
                return x + 0.5 * (h - x) + 2.0 * unit * (h - x).detach()

            with pytest.raises(ArithmeticError, match="otherwise than its Jacobian"):
                looped.contraction_ball(f, x, lipschitz)


def test_what_is_not_a_number_certifies_nothing():
    x = np.zeros((1, 2))
    with pytest.raises(ArithmeticError, match="not finite at a random point"):
        looped.contraction_ball(lambda h: np.where(abs(h) > 0.4, np.nan, 0.5 * h), x, 0.5)
    with pytest.raises(InputError, match="reference"):
        looped.contraction_ball(lambda h: 0.5 * h, x, 0.5, recall=1.0, reference=np.full((1, 2), np.nan))
    for largest in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="largest must be"):
            looped.contraction_ball(lambda h: 0.5 * h, x, 0.5, largest=largest)
    with pytest.raises(InputError, match="seed must be"):
        looped.contraction_ball(lambda h: 0.5 * h, x, 0.5, seed=-1)


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_a_certificate_of_a_bent_map_holds_where_its_slope_is_looked_for(xp):
    rng, certified = np.random.default_rng(1), 0
    for _ in range(20):
        shape = [(3,), (2, 2), (1, 2, 3)][rng.integers(3)]
        n, size, gain, recall = int(np.prod(shape)), 10.0 ** rng.uniform(-6, 6), rng.uniform(0.1, 1), rng.choice([0, 1])
        w = rng.uniform(0.1, 1.5) * rng.standard_normal((n, n)) / np.sqrt(n)
        move = as_kind(xp, w.T / size)

        def f(h, move=move, size=size, shape=shape):
            return size * xp.tanh(h.reshape(-1) @ move).reshape(shape)

        # tanh' changes by at most 4/(3 sqrt 3) for 1, and each row of W acts twice.
        rows = np.linalg.norm(w, axis=1).max()
        bound = 4 / (3 * np.sqrt(3)) * np.linalg.norm(w, 2) * rows / size
        try:
            ball = looped.contraction_ball(f, as_kind(xp, np.zeros(shape)), bound, gain=gain, recall=float(recall))
        except ArithmeticError:
            continue
        certified += 1
        metric = np.eye(n) if ball.metric is None else ball.metric
        for _ in range(20):
            v = np.linalg.solve(metric, rng.standard_normal(n))
            at = ball.radius * rng.uniform(0, 1) / np.linalg.norm(metric @ v) * v
            slope = (1 - np.tanh(w @ at / size) ** 2)[:, None] * w
            whole = np.eye(n) + gain * (slope - (1 + recall) * np.eye(n))
            assert np.linalg.norm(metric @ whole @ np.linalg.inv(metric), 2) <= ball.rate
    assert certified > 3
