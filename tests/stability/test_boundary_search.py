"""Zeros along the boundary: those of functions with known zeros, near each other, at a touch, and in noise."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn.stability import boundary_search
from ctrlattn.stability.boundary_search import samples, start_grid, zeros


def of(function):
    """A response that is a real function of w, and its only function."""
    return lambda w: function(w).astype(complex), lambda w, values: values.real[None]


def crossings_of(function, roots=(), continuous=False):
    response, functions = of(function)
    w = start_grid(np.array(roots, dtype=complex), continuous=continuous)
    return np.sort(zeros(response, functions, samples(response, functions, w), 0)), w


@pytest.mark.parametrize("gap", [0.3, 1e-2, 1e-4, 1e-6])
def test_two_zeros_next_to_each_other_are_both_seen(gap):
    crossed, _ = crossings_of(lambda w: (w - 1.3) * (w - 1.3 - gap))
    assert_allclose(crossed, [1.3, 1.3 + gap], rtol=1e-12)


@pytest.mark.parametrize("width", [1e-2, 1e-4, 1e-7])
def test_a_narrow_dip_is_seen_where_a_root_says_that_it_is(width):
    """1 - 2/(1 + ((w - 1)/width)^2): negative between 1 - width and 1 + width."""
    crossed, _ = crossings_of(lambda w: 1 - 2 / (1 + ((w - 1) / width) ** 2), [(1 - width) * np.exp(1j)])
    assert_allclose(crossed, [1 - width, 1 + width], rtol=1e-9)


def test_a_touch_is_a_zero_and_a_miss_is_none():
    assert_allclose(crossings_of(lambda w: (w - 1.7) ** 2)[0], [1.7], atol=1e-5)
    assert len(crossings_of(lambda w: (w - 1.7) ** 2 + 1e-6)[0]) == 0


def test_a_function_that_is_zero_wherever_it_is_seen_has_no_zeros():
    assert len(crossings_of(lambda w: 0 * w)[0]) == 0
    # Where rounding hides the sign, the zero lies between the signs that are sure.
    crossed, _ = crossings_of(lambda w: np.where(np.abs(w - 2) < 1e-3, 0.0, w - 2))
    assert_allclose(crossed, [2.0], atol=2e-3)


def test_noise_and_jumps_end_the_search():
    rng = np.random.default_rng(0)
    response, functions = of(lambda w: 1e-3 + 1e-3 * rng.normal(size=w.shape))
    seen = samples(response, functions, np.linspace(0.1, 3, 50))
    assert len(seen.w) <= 40_000
    assert np.all(np.diff(seen.w) > 0)
    assert seen.functions.shape == (1, len(seen.w))
    crossed, _ = crossings_of(lambda w: np.sign(w - 1.1))
    assert_allclose(crossed, [1.1], rtol=1e-12)


def test_the_start_reaches_as_near_the_ends_as_roots_ask_and_is_dense_near_sharp_ones():
    w = start_grid(np.array([1 - 1e-6, -1 + 1e-4]), continuous=False)
    assert w[0] <= 1e-8
    assert np.pi - w[-1] <= 1e-6
    assert np.all(np.diff(w) > 0)
    near = start_grid(np.array([0.999 * np.exp(0.8j)]), continuous=False)
    assert np.sum(np.abs(near - 0.8) <= 0.0101) >= 11
    s = start_grid(np.array([-1e-3, -1e3]), continuous=True)
    np.testing.assert_allclose(s[[0, -1]], [1e-6, 1e6])
    np.testing.assert_allclose(s[1:] / s[:-1], (s[-1] / s[0]) ** (1 / (len(s) - 1)))  # logarithmic, with the same step
    assert len(s) - 1 >= 7 * 12  # a decade
    assert s[0] <= 1e-5
    assert s[-1] >= 1e5
    assert (
        len(start_grid(np.array([-1.0]), continuous=True, finer=4))
        == 4 * len(start_grid(np.array([-1.0]), continuous=True)) - 3
    )
    assert np.all(start_grid(np.zeros(0), continuous=False) < np.pi)


def test_what_three_samples_may_hide_is_judged_by_their_parabola():
    """With equal ends 1 and the middle m the bend is 2 - 2 m: more than half of m asks for a closer look."""
    ends = np.ones((1, 4))
    hidden, bend = boundary_search._hidden(ends, np.array([[0.79, 0.81, -0.1, 1.0]]), ends)
    assert hidden.tolist() == [[True, False, True, False]]
    assert_allclose(bend, [[0.42, 0.38, 2.2, 0.0]], rtol=1e-12)
    # A turning point far outside hides nothing, however low the samples are; the same bend inside does.
    left, middle, right = np.array([[0.9, 0.02]]), np.array([[0.4, 0.01]]), np.array([[0.01, 0.04]])
    assert boundary_search._hidden(left, middle, right)[0].tolist() == [[False, True]]
    # One crossing hides two more only where the parabola turns between the samples.
    left, middle, right = np.array([[1.0, 1.0]]), np.array([[-0.2, -2.0]]), np.array([[-1.0, 1.0]])
    assert boundary_search._hidden(left, middle, right)[0].tolist() == [[False, True]]
