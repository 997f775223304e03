"""Anderson's acceleration: exact on linear maps whatever their eigenvalues, and the secant method where N = 1."""

import numpy as np
import numpy.testing as npt
import pytest

from ctrlattn import InputError, looped
from ctrlattn.arrays import like, to_numpy


def as_kind(xp, x):
    return like(x, xp.zeros(1, dtype=xp.float64))


@pytest.mark.parametrize("recall", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_it_ends_on_the_fixed_point_of_an_affine_map_that_no_gain_reaches(xp, seed, recall):
    rng = np.random.default_rng(seed)
    j = np.diag([3.0, -2.0, 0.5, 1.7]) + np.triu(rng.standard_normal((4, 4)), 1)  # real eigenvalues on both sides of 1
    b, h = rng.standard_normal(4), rng.standard_normal(4)
    move, bias = as_kind(xp, j.T), as_kind(xp, b)
    run = looped.anderson(lambda h: h @ move + bias, as_kind(xp, h), 12, memory=4, recall=recall)
    exact = np.linalg.solve((1 + recall) * np.eye(4) - j, b + recall * h)
    npt.assert_allclose(to_numpy(run.state[-1]), exact, rtol=1e-7)
    assert run.error.shape == (12, 4)


def test_in_one_dimension_it_is_the_secant_method(xp):
    # Both find the zero of e(h) = F(h) - h from the last two points.
    def f(h):
        return xp.cos(h)

    run = looped.anderson(f, as_kind(xp, np.array([0.2])), 7, memory=1)
    states = to_numpy(run.state).ravel()
    e = np.cos(states) - states
    for k in range(1, 5):
        slope = (e[k] - e[k - 1]) / (states[k] - states[k - 1])
        npt.assert_allclose(states[k + 1], states[k] - e[k] / slope, rtol=1e-8)
    npt.assert_allclose(states[-1], 0.7390851332151607, rtol=1e-12)  # the number of Dottie


def test_with_a_constant_error_it_walks_as_plain_iteration(xp):
    run = looped.anderson(lambda h: h + 1.0, as_kind(xp, np.zeros(2)), 3, gain=0.5)
    npt.assert_array_equal(to_numpy(run.state)[:, 0], [0.0, 0.5, 1.0, 1.5])


def test_it_stops_where_it_rests_and_tells_the_pass_of_a_nan(xp):
    h = as_kind(xp, np.array([2.0]))
    assert len(looped.anderson(lambda h: 3.0 * h, h, 50, until=1e-12).state) < 6
    with pytest.raises(InputError, match="pass 1 of 3"):
        looped.anderson(lambda h: xp.log(-h), h, 3)
    for change in ({"memory": 0}, {"gain": 0.0}, {"passes": 0}, {"recall": -1.0}):
        with pytest.raises(InputError, match=next(iter(change))):
            looped.anderson(lambda h: h, h, **{"passes": 3, **change})
