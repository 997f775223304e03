"""Values along the boundary against mpmath, where poles crowd near z = 1 and z = -1, and against plain solves."""

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn.linear.transfer import boundary_values, shifted, transfer_values


def exact(a, b, c, d, w, continuous):
    """The definition in 50 digits; the double pi is z = -1."""
    with mpmath.workdps(50):
        z = mpmath.mpc(0, w) if continuous else (mpmath.mpf(-1) if w == np.pi else mpmath.expj(mpmath.mpf(w)))
        matrix = z * mpmath.eye(len(a)) - mpmath.matrix(a.tolist())
        x = mpmath.lu_solve(matrix, mpmath.matrix(b.tolist()))
        return complex((mpmath.matrix(c.tolist()) * x)[0]) + d[0, 0]


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("n", [2, 4, 6])
def test_clusters_near_the_ends_keep_their_digits(n, sign):
    h = 2.0**-12  # 1 - h is exact
    a = sign * ((1 - h) * np.eye(n) + h * np.eye(n, k=1))
    b, c, d = h * np.eye(n)[:, -1:], np.eye(n)[:1], np.zeros((1, 1))
    w = h * np.array([0.0, 0.1, 0.5, 1.0, 3.0])
    w = w if sign > 0 else np.pi - w
    actual = boundary_values(a, b, c, d, w, continuous=False)[0, 0]
    if sign > 0:
        assert_allclose(actual, [exact(a, b, c, d, v, False) for v in w], rtol=1e-13)
    # pi itself is rounded: its distance from w decides near z = -1
    nu = w if sign > 0 else w - np.pi
    assert_allclose(actual, sign * (h / (np.expm1(1j * nu) + h)) ** n, rtol=1e-12)


@pytest.mark.parametrize("continuous", [False, True])
def test_values_are_those_of_plain_solves(continuous):
    rng = np.random.default_rng(0)
    a, b, c, d = (rng.normal(size=s) for s in ((5, 5), (5, 2), (3, 5), (3, 2)))
    a = a - 4 * np.eye(5) if continuous else a / 4
    w = np.array([-3.0, -1.7, 0.0, 0.4, 1.6, 3.1, np.inf])
    actual = boundary_values(a, b, c, d, w, continuous=continuous)
    for i, v in enumerate(w[:-1]):
        z = 1j * v if continuous else np.exp(1j * v)
        assert_allclose(actual[:, :, i], d + c @ np.linalg.solve(z * np.eye(5) - a, b), rtol=1e-12)
        point, moved = shifted(a, v, continuous=continuous)
        assert_allclose(point * np.eye(5) - moved, z * np.eye(5) - a, atol=1e-15)
    assert_allclose(actual[:, :, -1], d)


def test_a_pole_is_infinite():
    value = boundary_values(np.eye(1), np.eye(1), np.eye(1), np.zeros((1, 1)), np.array([0.0]), continuous=False)
    assert np.isinf(value[0, 0, 0].real)
    assert transfer_values(np.eye(1), np.eye(1), np.eye(1), np.ones((1, 1)), np.array([3.0]))[0, 0, 0] == 1.5
