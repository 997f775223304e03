"""Student's intervals against the quantiles that have a closed form: one and two degrees of freedom."""

import json
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
    assert interval.pop("values") == [1.0, 2.0, 3.0]
    assert interval == pytest.approx({"mean": 2.0, "low": 2 - half, "high": 2 + half}, rel=1e-9)
    assert {type(value) for value in interval.values()} == {float}


@pytest.mark.parametrize("shape", [(3,), (4, 2), (5, 2, 3)])
@pytest.mark.parametrize("comparisons", [1, 7])
def test_intervals_of_arrays_are_those_of_each_element_and_follow_from_what_is_stored(stage, shape, comparisons):
    values = np.random.default_rng(len(shape)).standard_normal(shape)
    row = stage.interval(values, comparisons)
    columns = [stage.interval(column, comparisons) for column in values.reshape(len(values), -1).T]
    for end in ("mean", "low", "high"):
        np.testing.assert_allclose(np.ravel(row[end]), [column[end] for column in columns], rtol=1e-12)
    low, high = stage.recomputed(json.loads(json.dumps(row)))
    np.testing.assert_array_equal((low, high), (row["low"], row["high"]))


@pytest.mark.parametrize("values", [[1.0, "nan", 3.0], [[1.0, 1.0], ["nan", 2.0], [3.0, 5.0]]])
def test_a_row_that_is_not_finite_is_left_out(stage, values):
    whole = [row for row in values if "nan" not in np.ravel(row)]
    again = stage.recomputed({"values": values, "low": 0, "high": 0})
    np.testing.assert_array_equal(again, [stage.interval(whole)[end] for end in ("low", "high")])
    assert np.all(np.isnan(stage.recomputed({"values": ["nan"], "low": 0, "high": 0})))


def test_wilsons_interval_has_a_closed_form(stage):
    z, n, p = 1.959963984540054, 40, 0.75
    middle, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    row = stage.wilson(30, n)
    assert (row["share"], row["hits"], row["n"]) == (p, 30, n)
    ends = [(middle + side * half) / (1 + z**2 / n) for side in (-1, 1)]
    assert [row["low"], row["high"]] == pytest.approx(ends)


def test_max_t_of_one_column_is_the_bootstrap_of_t_and_of_many_is_wider(stage):
    rng = np.random.default_rng(1)
    one = rng.standard_normal((200, 1))
    row = stage.max_t(one, draws=2000)
    width = (row["high"][0] - row["mean"][0]) / (one.std(ddof=1) / math.sqrt(200))
    assert width == pytest.approx(1.97, abs=0.15)  # Student's quantile of 199 degrees of freedom
    many = stage.max_t(rng.standard_normal((200, 30)), draws=2000)
    widths = (np.array(many["high"]) - many["mean"]) / (np.std(many["values"], axis=0, ddof=1) / math.sqrt(200))
    assert widths == pytest.approx(np.full(30, 3.17), abs=0.25)  # 30 independent columns: Bonferroni's 3.18
    # Columns that are one and the same need no correction.
    same = stage.max_t(np.repeat(one, 30, axis=1), draws=2000)
    assert same["high"] == pytest.approx(np.full(30, row["high"][0]))


@pytest.mark.parametrize("shape", [(12, 2, 3), (4, 1)])  # of four rows, 4 of 256 draws are one row alone
def test_max_t_is_that_of_draws_made_row_by_row(stage, shape):
    values, rng = np.random.default_rng(2).standard_normal(shape) + 5.0, np.random.default_rng(4)
    n, largest = len(values), []
    with np.errstate(divide="ignore"):
        for drawn in (values[rows] for _ in range(2) for rows in rng.integers(n, size=(250, n))):
            spread = drawn.std(0, ddof=1) * (np.ptp(drawn, axis=0) > 0)
            largest.append(np.abs((drawn.mean(0) - values.mean(0)) / (spread / math.sqrt(n))).max())
        row = stage.max_t(values, draws=500, seed=4)
    half = np.quantile(largest, 0.95) * values.std(0, ddof=1) / math.sqrt(n)
    np.testing.assert_allclose(np.array(row["high"]) - row["mean"], half, rtol=1e-9)
    np.testing.assert_allclose(np.array(row["mean"]) - row["low"], half, rtol=1e-9)


def test_a_stored_interval_is_computed_again_from_what_it_carries(stage):
    rows = [stage.interval([1.0, 2.0, 4.0]), stage.interval([1.0, 2.0, 4.0], 5), stage.wilson(3, 7)]
    rows.append(stage.max_t([[1.0, 2.0], [2.0, 5.0], [4.0, 4.0], [3.0, 3.0]], draws=50, seed=3))
    for row in rows:
        assert stage.recomputed(row) == (row["low"], row["high"])
    assert stage.recomputed({"mean": 1.0, "low": 0.0, "high": 2.0}) is None
    places = dict(stage.stored_intervals({"a": [rows[0], {"b": rows[2]}], "low": 1}))
    assert places == {"/a/0": rows[0], "/a/1/b": rows[2]}


def test_an_interval_over_documents_is_students_where_each_has_one_value(stage):
    values = np.random.default_rng(0).normal(size=9)
    ends, other = stage.clustered(values, range(9)), stage.interval(values)
    assert (ends["low"], ends["high"]) == pytest.approx((other["low"], other["high"]), rel=1e-12)


def test_values_said_twice_are_no_more_than_once(stage):
    values = np.random.default_rng(1).normal(size=6)
    once, twice = stage.clustered(values, range(6)), stage.clustered(np.repeat(values, 2), np.repeat(range(6), 2))
    assert twice["low"] == pytest.approx(once["low"], rel=1e-12)
    assert stage.interval(np.repeat(values, 2))["low"] > twice["low"]  # as if they were twelve


def test_one_document_has_no_interval(stage):
    assert math.isnan(stage.clustered([1.0, 2.0], ["a", "a"])["low"])


def test_an_interval_over_documents_is_computed_again_from_what_it_carries(stage):
    stored = stage.clustered([1.0, 2.0, 4.0], ["a", "b", "b"])
    assert stage.recomputed(stored) == pytest.approx((stored["low"], stored["high"]))
