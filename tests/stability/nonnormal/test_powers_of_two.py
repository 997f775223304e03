"""A power of two that brings numbers to the size of 1, and back."""

import numpy as np
import pytest

from ctrlattn.stability.nonnormal.powers_of_two import exponent_of, scaled, scaled_array, scaled_error


def test_an_exponent_brings_the_largest_entry_below_1_and_no_lower_than_a_half():
    for largest in (5e-324, 1e-200, 0.5, 1.0, 3.0, 1.7e308):
        shifted = np.ldexp(largest, -exponent_of(np.array([0.0, -largest])))
        assert 0.5 <= shifted < 1
    assert exponent_of(np.zeros((2, 0))) == 0
    for bad in (np.inf, np.nan):
        with pytest.raises(ArithmeticError, match="not finite"):
            exponent_of(np.array([1.0, bad]))


def test_what_is_scaled_back_overflows_aloud_and_an_error_is_never_rounded_to_nothing():
    assert (scaled(0.75, -1), scaled_error(0.75, -1)) == (0.375, 0.375)
    assert scaled_error(0.0, -1200) == 0.0 < scaled_error(1.0, -1200)
    with pytest.raises(ArithmeticError, match="overflows"):
        scaled(0.75, 1100)


@pytest.mark.parametrize("exponent", [-900, -3, 0, 900])
def test_an_array_keeps_its_digits_and_its_kind(exponent):
    real = np.random.default_rng(0).standard_normal((2, 3))
    for a in (real, real + 1j * real[::-1]):
        there = scaled_array(a, exponent)
        assert there.dtype == a.dtype
        assert np.array_equal(there, a * 2.0**exponent)
        assert np.array_equal(scaled_array(there, -exponent), a)
