"""What rounding may move of a response, against plain numpy."""

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.kernels import rounding
from ctrlattn.linear.transfer import shifted


@every_case("seed", range(40))
def test_the_bound_and_the_second_response_are_those_of_plain_numpy(seed, stable_system):
    g = stable_system(seed)
    for w in (0.0, 0.3, 1.6, 3.0):
        point, a = shifted(g.a, w, continuous=g.continuous)
        inverse = np.linalg.inv(point * np.eye(len(a)) - a)
        into, out = np.abs(inverse @ g.b), np.abs(g.c @ inverse)
        expected = out @ (abs(point) * into + np.abs(a) @ into)
        moved, again, regular = rounding.moved(*map(np.ascontiguousarray, g[:4]), w, g.continuous)
        assert regular
        assert_allclose(moved, np.linalg.norm(expected), rtol=1e-6)
        assert_allclose(again, np.linalg.norm(g.c @ inverse @ g.b + g.d, 2), rtol=1e-6)


def test_a_pole_at_the_frequency_is_told_and_what_is_no_number_is_infinite():
    one = np.ones((1, 1))
    assert not rounding.moved(one, one, one, one, 0.0, False)[2]
    assert rounding.moved(0.5 * one, one, one, np.inf * one, 0.0, False)[1:] == (np.inf, True)
    assert rounding.moved(0.5 * one, one, 3 * one, one, 0.0, False)[1:] == (7.0, True)
    assert rounding.moved(0.5 * one, 2 * one, one, 0 * one, np.pi, False)[0] == pytest.approx(2 * 1.5 / 1.5**2)
