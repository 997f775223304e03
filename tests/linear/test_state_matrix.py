"""The matrix behind a system, its time domain, and what has no such matrix."""

import control
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_array_equal

from ctrlattn import CausalMean, Loop
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.linear.state_matrix import (
    continuous_matrix,
    discrete_matrix,
    require_scale,
    require_size,
    state_matrix,
    within_scale,
)

A = np.array([[0.5, 1.0], [0.0, 0.2]])


def system(dt):
    return control.ss(A, np.ones((2, 1)), np.ones((1, 2)), 0, dt)


def test_the_time_domain_is_that_of_the_system_and_discrete_for_a_matrix():
    for given, flag, expected in [
        (A, None, False), (A, True, True), (system(1), None, False), (system(0), None, True),
        (system(None), True, True), (system(0), True, True), (system(1), False, False),
    ]:  # fmt: skip
        a, continuous = state_matrix(given, "q", flag)
        assert_array_equal(a, A)
        assert continuous is expected


@pytest.mark.parametrize(("dt", "flag", "word"), [(1, True, r"discrete \(dt = 1"), (0, False, "continuous")])
def test_a_flag_must_not_contradict_the_system(dt, flag, word):
    with pytest.raises(InputError, match=f"q: continuous={flag} contradicts the system, which is {word}"):
        state_matrix(system(dt), "q", flag)


def test_a_quantity_of_one_time_domain_refuses_the_other():
    assert_array_equal(discrete_matrix(system(1), "q", "r"), A)
    assert_array_equal(continuous_matrix(system(0), "q", "r"), A)
    assert_array_equal(continuous_matrix(A, "q", "r"), A)
    with pytest.raises(InputError, match="q is of discrete time, the system is continuous: use r"):
        discrete_matrix(system(0), "q", "r")
    with pytest.raises(InputError, match="q is of continuous time, the system has dt = 1"):
        continuous_matrix(system(1), "q", "r")


def test_the_precision_is_double():
    assert state_matrix(A.astype(np.float32), "q")[0].dtype == np.float64
    assert state_matrix(np.eye(2, dtype=int), "q")[0].dtype == np.float64
    assert state_matrix(A.astype(np.complex64), "q")[0].dtype == np.complex128


@every_case(
    "given, error, word",
    [
        (np.ones((2, 3)), InputError, "square matrix"),
        (np.ones(3), InputError, "square matrix"),
        (np.zeros((0, 0)), InputError, "n >= 1"),
        (np.array([["a"]]), InputTypeError, "array of numbers"),
        (np.array([[np.nan]]), InputError, "finite"),
        (np.array([[1e121]]), InputError, "rescale the states"),
        (Loop(CausalMean()), InputTypeError, "pass_operator"),
        ([Loop(CausalMean())] * 2, InputError, "sequence of 2 different layers"),
        (control.tf([1], [1, 0.5], 1), InputTypeError, "choice of the state"),
    ],
)
def test_refused(given, error, word):
    with pytest.raises(error, match=word):
        state_matrix(given, "q")


def test_the_largest_entry_and_order_that_are_taken():
    require_scale("A", np.array([[1e120]]))
    require_size(3, 3, "q", "")
    with pytest.raises(InputError, match="q solves many dense eigenproblems of order 2n, here 8: it takes n <= 3"):
        require_size(4, 3, "q", "Reduce it.")


@every_case("largest", [1.1e120, -1e200, 2e300j])
def test_one_entry_beyond_the_scale_is_refused_with_its_size(largest):
    a = np.array([[1.0, largest], [0.0, 0.5]])
    assert not within_scale(a)
    with pytest.raises(InputError, match=f"q has an entry of {abs(largest):.1e}".replace("+", r"\+")):
        require_scale("q", a)
    assert within_scale(np.array([[1.0, 1e120], [0.0, -1e120]]))
    assert within_scale(np.zeros((0, 0)))
