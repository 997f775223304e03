"""Ranges, samples, and the value of each axis in a cell."""

import itertools

import numpy as np
import pytest

from ctrlattn import InputError
from ctrlattn.sweep.axes import Axis, Range, Sample, Space, axis_of


def test_a_grid_runs_through_all_combinations_the_last_axis_fastest():
    axes = (Axis("a.x", (1, 2)), Axis("a.y", ("p", "q", "r")), Axis("a.z", Range(0.0, 1.0, 2)))
    space = Space(axes, None)
    assert space.cells == 12
    values = space.values(0, 12)
    assert list(zip(*values.values(), strict=True)) == list(itertools.product((1, 2), "pqr", (0.0, 1.0)))
    assert space.values(5, 7) == {path: column[5:7] for path, column in values.items()}


def test_scales_have_equal_differences_and_equal_ratios():
    np.testing.assert_allclose(Range(-1, 2, 4).grid(), [-1, 0, 1, 2])
    np.testing.assert_allclose(Range(0.01, 100, 5, scale="log").grid(), [0.01, 0.1, 1, 10, 100])
    assert Range(0, 5, 100, whole=True).grid() == (0, 1, 2, 3, 4, 5)
    assert all(isinstance(value, int) for value in Range(0, 5, 6, whole=True).grid())


@pytest.mark.parametrize("method", ["random", "sobol"])
def test_a_sample_lies_in_the_box_and_repeats_with_its_seed(method):
    axes = (
        Axis("a.x", Range(2, 3)), Axis("a.log", Range(0.1, 10, scale="log")), Axis("a.k", Range(1, 3, whole=True)),
        Axis("a.name", ("p", "q")),
    )  # fmt: skip
    space = Space(axes, Sample(method, 1000, seed=3))
    values = space.values(0, 1000)
    assert min(values["a.x"]) >= 2
    assert max(values["a.x"]) <= 3
    assert abs(np.mean(np.log(values["a.log"]))) < 0.1
    shares = np.unique(values["a.k"], return_counts=True)
    assert shares[0].tolist() == [1, 2, 3]
    assert np.all(np.abs(shares[1] - 333) < 60)
    assert 400 < values["a.name"].count("p") < 600
    assert space.values(10, 12) == {path: list(column[10:12]) for path, column in values.items()}
    assert Space(axes, Sample(method, 1000, seed=4)).values(0, 5) != space.values(0, 5)


def test_a_sobol_sample_fills_a_line_evenly():
    x = Space((Axis("a.x", Range(0, 1)),), Sample("sobol", 64)).values(0, 64)["a.x"]
    assert np.unique(np.floor(np.array(x) * 64)).size == 64


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "must not be empty"),
        ([1, 1], "twice"),
        ([1, "a"], "all texts or all numbers"),
        ([float("nan")], "finite"),
        ([[1]], "a value is a number"),
        (3, "a list of values or"),
        ({"from": 0}, "needs to"),
        ({"from": 0, "to": 1}, "needs steps"),
        ({"from": 0, "to": 1, "step": 3}, "did you mean 'steps'"),
        ({"from": 0, "to": 1, "steps": -3}, "at least 1|in 1 ..."),
        ({"from": 0, "to": 1, "steps": 0}, "at least 1|in 1 ..."),
        ({"from": 0, "to": 1, "steps": 1}, "at least 2"),
        ({"from": 0, "to": 1, "steps": 2.5}, "whole number"),
        ({"from": 0, "to": 1, "steps": 10**9}, "in 1 ..."),
        ({"from": 2, "to": 1, "steps": 3}, "from must be at most to"),
        ({"from": 0, "to": 1, "steps": 3, "scale": "log"}, "above 0"),
        ({"from": 0, "to": 1, "steps": 3, "scale": "lin"}, "did you mean 'linear'"),
        ({"from": 0.5, "to": 1, "steps": 3, "whole": True}, "whole ends"),
        ({"from": 0, "to": float("inf"), "steps": 3}, "to"),
    ],
)
def test_an_axis_that_is_none_is_refused(given, words):
    with pytest.raises(InputError, match=words):
        axis_of("loop.skip", given, grid=True)


def test_a_sample_needs_no_steps():
    assert axis_of("loop.skip", {"from": 0, "to": 1}, grid=False).values == Range(0, 1)
