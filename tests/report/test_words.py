"""Numbers in words, against what a person would write."""

import math

import pytest
from scipy.stats import binomtest

from ctrlattn.report.words import (
    change,
    count,
    layer_list,
    layers_until,
    listed,
    number,
    percent,
    settles,
    share_with_interval,
)


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.4567, "46"), (0.0951, "10"), (0.0101, "1"), (0.004, "0.4"), (0.0004, "0.04"), (0.0, "0"), (1.0, "100")],
)
def test_percent(share, text):
    assert percent(share) == f"{text}\xa0%"
    assert percent(math.nan) == "undefined"


@pytest.mark.parametrize(("hits", "trials"), [(200, 200), (0, 50), (7, 10)])
def test_a_share_comes_with_its_wilson_interval(hits, trials):
    ends = binomtest(hits, trials).proportion_ci(method="wilson")
    text = share_with_interval(hits, trials)
    assert percent(hits / trials) in text
    assert f"{100 * ends.low:.0f} to {100 * ends.high:.0f}\xa0%" in text


def test_counts_and_lists():
    assert (count(1, "layer"), count(2, "layer")) == ("1 layer", "2 layers")
    assert (listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])) == ("a", "a and b", "a, b and c")
    assert layer_list([7, 2, 1, 0]) == "layers 0–2 and 7"
    assert layer_list([3]) == "layer 3"


def test_numbers_have_a_true_minus_and_a_sign_of_infinity():
    assert (number(-0.5), number(math.inf), number(-math.inf), number(math.nan)) == ("−0.50", "∞", "−∞", "undefined")
    assert (number(999.94, 1), number(1234.5678)) == ("999.9", "1.23e+03")


def test_a_settling_time_is_one_answer():
    assert (layers_until(40.0, 60), layers_until(math.inf, 36)) == ("40", "not within 36")
    assert (settles(40.0, 60), settles(math.inf, 36)) == ("after 40 layers", "not within 36 layers")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.2504, "rises by 0.250"), (-0.2504, "falls by 0.250"), (6e-4, "rises by 0.001"), (-6e-4, "falls by 0.001"),
        (4e-4, "changes by less than 0.001"), (-4e-4, "changes by less than 0.001"),
        (0.0, "changes by less than 0.001"),
    ],
)  # fmt: skip
def test_a_change_below_the_printed_digits_has_no_sign(value, text):
    assert change(value, 3) == text


def test_zero_has_no_sign():
    assert (number(-0.004), number(-0.006), number(-0.0), number(-0.4, 0)) == ("0.00", "−0.01", "0.00", "0")
