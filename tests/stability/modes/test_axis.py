"""Polynomials on the imaginary axis against their values at s = iw."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn.stability.modes import axis

W = np.array([0.0, 0.3, 1.0, 2.7])
POLYNOMIALS = [np.array([1.0, 2.0]), np.array([2.0, -1.0, 3.0]), np.array([1.0, 0.5, -2.0, 4.0]), np.array([5.0])]


@pytest.mark.parametrize("p", POLYNOMIALS, ids=str)
def test_the_squared_modulus_is_that_of_the_values(p):
    assert_allclose(np.polyval(axis.squared_modulus(p), W**2), np.abs(np.polyval(p, 1j * W)) ** 2, rtol=1e-12)


@pytest.mark.parametrize("num", POLYNOMIALS, ids=str)
@pytest.mark.parametrize("den", POLYNOMIALS, ids=str)
def test_the_imaginary_part_is_that_of_the_values(num, den):
    expected = (np.polyval(num, 1j * W) * np.conj(np.polyval(den, 1j * W))).imag
    assert_allclose(W * np.polyval(axis.imaginary_part(num, den), W**2), expected, atol=1e-10)


def test_frequencies_are_the_roots_that_a_frequency_can_have():
    # (x - 4) x (x + 1): w = 2 and 0; a negative x is none.
    assert_allclose(np.sort(axis.frequencies_of_roots(np.poly([4.0, 0.0, -1.0]))), [0.0, 2.0], atol=1e-7)
    assert axis.frequencies_of_roots(np.zeros(3)).size == 0
    assert axis.frequencies_of_roots(np.array([1.0, 0.0, 1.0])).size == 0  # x = +-i
    # A leading power that a cancellation left is no root at infinity.
    assert_allclose(axis.frequencies_of_roots(np.array([1e-17, 1.0, -9.0])), [3.0], rtol=1e-9)


def test_the_slope_of_a_ratio_vanishes_at_its_extrema():
    top, bottom = np.array([1.0, 0.0, 2.0]), np.array([1.0, 3.0])
    x, h = np.array([0.2, 1.5, 4.0]), 1e-6

    def ratio(x):
        return np.polyval(top, x) / np.polyval(bottom, x)

    slope = np.polyval(axis.slope_of_ratio(top, bottom), x) / np.polyval(bottom, x) ** 2
    assert_allclose(slope, (ratio(x + h) - ratio(x - h)) / (2 * h), rtol=1e-7)
    assert_allclose(axis.slope_of_ratio(np.array([3.0]), np.array([2.0])), 0.0)


def test_the_point_at_infinity_has_no_nan():
    s = axis.point(np.array([1.0, np.inf]))
    assert s[0] == 1j
    assert s[1].real == 0.0
    assert np.isinf(s[1].imag)
