"""Student's intervals against the quantiles that have a closed form: one and two degrees of freedom."""

import math

import numpy as np
import pytest


def quantile_1(p):
    """t(p, 1), of the Cauchy distribution."""
    return math.tan(math.pi * (p - 0.5))


def quantile_2(p):
    """t(p, 2)."""
    return (2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p)))


@pytest.mark.parametrize("comparisons", [1, 3, 12])
def test_the_half_width_of_two_and_three_values_has_a_closed_form(stage, comparisons):
    p = 1 - 0.025 / comparisons
    # s = |b - a| / sqrt(2) for two values, and 1 for 1, 2, 3.
    assert stage.half_width([1.0, 4.0], comparisons) == pytest.approx(quantile_1(p) * 3 / 2, rel=1e-9)
    assert stage.half_width([1.0, 2.0, 3.0], comparisons) == pytest.approx(quantile_2(p) / math.sqrt(3), rel=1e-9)


def test_each_column_has_its_own_half_width(stage):
    values = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    expected = [quantile_2(0.975) / math.sqrt(3), 0.0]
    np.testing.assert_allclose(stage.half_width(values), expected, rtol=1e-9)


def test_a_single_value_has_no_interval(stage):
    assert math.isnan(stage.half_width([2.0]))
    assert np.isnan(stage.half_width([[2.0, 3.0]])).tolist() == [True, True]
    assert stage.interval([2.0])["mean"] == 2.0


def test_an_interval_is_plain_numbers_around_the_mean(stage):
    half = quantile_2(0.975) / math.sqrt(3)
    interval = stage.interval(np.array([1.0, 2.0, 3.0]))
    assert interval == pytest.approx({"mean": 2.0, "low": 2 - half, "high": 2 + half}, rel=1e-9)
    assert {type(value) for value in interval.values()} == {float}
