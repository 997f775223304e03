"""Numerical radius: closed forms, the automaton, and against a fine grid of angles."""

import control
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import CausalMean, Loop, numerical_radius, pass_operator
from ctrlattn.stability import numerical_abscissa
from ctrlattn.stability.nonnormal import numerical_range


def on_a_grid(a, angles=3600):
    turned = np.exp(1j * np.linspace(0, 2 * np.pi, angles))[:, None, None] * a
    return np.linalg.eigvalsh((turned + turned.conj().swapaxes(-1, -2)) / 2).max()


@every_case("n", [1, 2, 5, 20])
def test_delays(n):
    """A chain of n delays has the disk of radius cos(pi/(n + 1))."""
    assert_allclose(numerical_radius(np.eye(n, k=1)), np.cos(np.pi / (n + 1)), atol=1e-12)
    assert_allclose(numerical_radius(-1j * np.eye(n, k=-1)), np.cos(np.pi / (n + 1)), atol=1e-12)


def test_the_automaton():
    """1.5591 in sequential order, 1.5 in parallel, for many tokens."""
    assert_allclose(numerical_radius(pass_operator(Loop(CausalMean(), order="sequential"), 200)), 1.5591, atol=5e-5)
    assert_allclose(numerical_radius(pass_operator(Loop(CausalMean()), 200)), 1.5, atol=5e-5)


@every_case("seed", range(6))
@every_case("dtype", [float, complex])
def test_no_angle_of_a_grid_gives_more(seed, dtype):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((6, 6)) + (1j * rng.standard_normal((6, 6)) if dtype is complex else 0)
    radius, grid = numerical_radius(a), on_a_grid(a)
    assert grid <= radius * (1 + 1e-12)
    assert_allclose(grid, radius, rtol=1e-5)
    powers = [np.linalg.norm(np.linalg.matrix_power(a, k), 2) for k in range(1, 9)]
    assert np.all(powers <= 2 * radius ** np.arange(1, 9) * (1 + 1e-9))  # Berger


def test_normal_and_degenerate():
    assert_allclose(numerical_radius(np.diag([0.5, -0.8, 0.7j])), 0.8, rtol=1e-12)
    assert_allclose(numerical_radius(np.array([[0.3, 2.0], [0.0, 0.3]])), 1.3, rtol=1e-12)  # a + c/2
    assert numerical_radius(np.zeros((3, 3))) == 0.0
    assert_allclose(numerical_radius(np.array([[-3.0]])), 3.0)
    assert_allclose(numerical_radius(np.roll(np.eye(7), 1, 0) * np.exp(0.3j)), 1.0, rtol=1e-12)


def test_abscissa_is_the_initial_growth():
    import scipy.linalg

    a = np.array([[-1.0, 5.0], [0.0, -2.0]])
    step = 1e-6
    grown = np.log(np.linalg.norm(scipy.linalg.expm(step * a), 2)) / step
    assert_allclose(numerical_abscissa(a), grown, rtol=1e-4)


def test_refused():
    continuous, discrete = (control.ss([[0.5]], [[1]], [[1]], 0, dt) for dt in (0, 1))
    with pytest.raises(ValueError, match="use numerical_abscissa"):
        numerical_radius(continuous)
    with pytest.raises(ValueError, match="use numerical_radius"):
        numerical_abscissa(discrete)
    with pytest.raises(ValueError, match="n <= 2000"):
        numerical_radius(-np.broadcast_to(1.0, (2001, 2001)))


@every_case("seed", range(6))
def test_the_range_of_two_states_is_an_ellipse(seed):
    """Foci at the eigenvalues, minor axis |c|: w = max over t of Re(m e^{it}) + sqrt((Re(h e^{it}))^2 + |c|^2/4)."""
    rng = np.random.default_rng(seed)
    first, second, c = rng.normal(size=3) + 1j * rng.normal(size=3)
    q = np.linalg.qr(rng.normal(size=(2, 2)) + 1j * rng.normal(size=(2, 2)))[0]
    a = q @ np.array([[first, c], [0, second]]) @ q.conj().T
    turn = np.exp(1j * np.linspace(0, 2 * np.pi, 200_001))
    middle, half = (first + second) / 2, (first - second) / 2
    expected = np.max((middle * turn).real + np.sqrt((half * turn).real ** 2 + abs(c) ** 2 / 4))
    assert_allclose(numerical_radius(a), expected, rtol=1e-8)
    assert_allclose(numerical_radius(1e-9j * a), 1e-9 * expected, rtol=1e-8)
    assert_allclose(numerical_abscissa(a), middle.real + np.sqrt(half.real**2 + abs(c) ** 2 / 4), rtol=1e-12)


def test_levels_of_the_radius_are_met_at_the_angles_of_a_normal_matrix():
    """lambda_max(H(t)) of a diagonal matrix is max Re(e^{it} lambda); each |lambda| cos(t + arg) = height twice."""
    values = np.array([0.9 * np.exp(0.4j), 0.7 * np.exp(2.0j)])
    angles = numerical_range._angles_at(np.diag(values), 0.6, 3.0)
    expected = [s * np.arccos(0.6 / abs(v)) - np.angle(v) for v in values for s in (1, -1)]
    assert_allclose(angles, np.sort(np.mod(expected, 2 * np.pi)), atol=1e-7)
    assert_allclose(numerical_range._top(np.diag(values), 0.3), np.max((values * np.exp(0.3j)).real), rtol=1e-12)


def test_matrices_without_a_negative_entry_have_their_radius_at_the_angle_0():
    a = np.abs(np.random.default_rng(0).normal(size=(5, 5)))
    assert_allclose(numerical_radius(a), np.linalg.eigvalsh((a + a.T) / 2)[-1], rtol=1e-12)
    assert_allclose(numerical_radius(-a), numerical_radius(a), rtol=1e-9)
    assert_allclose(numerical_radius(a * np.exp(2j)), numerical_radius(a), rtol=1e-9)
    assert_allclose(numerical_radius(np.array([[0.1, 0.0], [0.0, -3.0]])), 3.0, rtol=1e-12)


@pytest.mark.parametrize("turn", [1.0, 0.6 + 0.8j])
def test_a_power_of_two_times_the_matrix_has_the_same_digits(turn):
    a = turn * np.random.default_rng(0).standard_normal((12, 12))
    for exponent in (-900, -700, -500, -60, 60, 300):
        other = np.ldexp(a.real, exponent) + 1j * np.ldexp(a.imag, exponent)
        other = other if np.iscomplexobj(a) else other.real
        assert numerical_radius(other) == np.ldexp(numerical_radius(a), exponent)
