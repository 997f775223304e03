"""What bad input is told, and what counts as a whole number."""

import numpy as np
import pytest

from ctrlattn import InputError, InputTypeError
from ctrlattn.errors import did_you_mean, require_known, require_whole

ORDERS = ("parallel", "sequential")


def test_both_errors_are_what_they_were_before_they_had_a_name():
    assert issubclass(InputError, ValueError)
    assert issubclass(InputTypeError, InputError)
    assert issubclass(InputTypeError, TypeError)
    assert {error.__module__ for error in (InputError, InputTypeError)} == {"ctrlattn"}


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("sequental", "did you mean 'sequential'?"),
        ("Parallel", "did you mean 'parallel'?"),
        ("x", "known are parallel, sequential"),
        (3, "known are parallel, sequential"),
        (None, "known are parallel, sequential"),
    ],
)
def test_the_nearest_name_or_all_of_them(name, rest):
    assert did_you_mean(name, ORDERS) == rest


def test_a_vocabulary_is_not_listed_whole():
    words = [f"{i:05d}" for i in range(1000)]
    rest = did_you_mean("soup", words)
    assert rest == f"known are {', '.join(words[:40])} and 960 more"
    assert did_you_mean("soup", words[:40]) == f"known are {', '.join(words[:40])}"


def test_a_known_name_is_returned_and_an_unknown_one_is_refused():
    assert require_known("order", "parallel", ORDERS) == "parallel"
    with pytest.raises(InputError, match=r"^unknown order 'paralel': did you mean 'parallel'\?$"):
        require_known("order", "paralel", ORDERS)
    with pytest.raises(InputError, match=r"^unknown order \['parallel'\]: "):
        require_known("order", ["parallel"], ORDERS)


@pytest.mark.parametrize("number", [1, 7, np.int64(3), np.uint8(2)])
def test_whole_numbers_of_python_and_numpy_are_one(number):
    count = require_whole("steps", number)
    assert type(count) is int
    assert count == number


@pytest.mark.parametrize("thing", [1.0, "3", None, True, np.float64(2.0), np.bool_(1)])
def test_what_is_no_whole_number_is_refused(thing):
    with pytest.raises(InputTypeError, match=r"^steps must be a whole number of at least 1, got "):
        require_whole("steps", thing)


@pytest.mark.parametrize(("number", "least", "most"), [(0, 1, None), (-1, 0, None), (4, 0, 3)])
def test_bounds_are_part_of_the_range(number, least, most):
    assert require_whole("steps", least, least=least, most=most) == least
    assert most is None or require_whole("steps", most, least=least, most=most) == most
    expected = f"of at least {least}, got {number}" if most is None else f"in {least} ... {most}, got {number}"
    with pytest.raises(InputError, match=f"^steps must be a whole number {expected}$") as raised:
        require_whole("steps", number, least=least, most=most)
    assert not isinstance(raised.value, TypeError)
