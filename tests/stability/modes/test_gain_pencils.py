"""Exact pencils over one gain: the matrix has the roots of the polynomial, for every pair of gains."""

from itertools import permutations

import control
import numpy as np
import pytest

from ctrlattn import PID, CausalMean, Loop
from ctrlattn.stability import gain_intervals, gain_radius
from ctrlattn.stability.modes.gain_pencils import mode_matrices, mode_matrix, mode_pencil, parts

LAG = control.tf([0.5], [1, -0.4], 1)
LOOP = Loop(CausalMean(), skip=0.4, feedback=0.7, controller=PID(0.8, 0.5, 0.05))


@pytest.mark.parametrize("axes", list(permutations(("kp", "ki", "kd", "skip", "feedback", LAG), 2)))
@pytest.mark.parametrize("a", [0.5, 0.2 + 0.6j])
def test_matrix_and_polynomial_have_the_same_poles(axes, a):
    over, first, second = parts(LOOP, axes), 0.375, -0.25
    g = mode_pencil(over, a, first)
    top, step = (np.array([complex(float(x), float(y)) for x, y in zip(p.re, p.im, strict=True)]) for p in (g.p, g.q))
    expected = np.roots(top + second * step)
    poles = np.linalg.eigvals(mode_matrix(over, a, first)(np.array([second]))[0])
    distance = np.abs(poles[:, None] - expected[None, :])
    assert distance.shape[0] == distance.shape[1]
    assert max(distance.min(0).max(), distance.min(1).max()) < 1e-6


@pytest.mark.parametrize("order", [2, 6, 10])
def test_a_gain_on_slow_memories(order):
    # Open-loop poles .95 and `order` times .96 (binary doubles aside): the end is where a scan of the response says.
    slow = control.ss(
        np.diag([0.96] * order) + np.diag([0.04] * (order - 1), -1), 0.04 * np.eye(order)[:, :1],
        np.eye(order)[-1:], 0, 1, remove_useless_states=False,
    )  # fmt: skip
    loop = Loop(CausalMean(), skip=0.95, feedback=0.0, controller=PID(0.0))
    low, high = gain_intervals(loop, ("kp", slow), 0.0, 0.0)[0]
    w = np.concatenate([np.geomspace(1e-6, 1e-2, 20001), np.linspace(1e-2, np.pi, 200001)])
    z_1 = np.expm1(1j * w)
    gain = -(z_1 + 0.05) * ((z_1 + 0.04) / 0.04) ** order
    crossed = gain.real[np.flatnonzero(gain.imag[:-1] * gain.imag[1:] < 0)]
    assert low == pytest.approx(-0.05, rel=1e-9)
    assert high == pytest.approx(np.min(crossed[crossed > 0]), rel=1e-3)
    assert gain_radius(loop, ("kp", slow), 0.0, [0.0, (low + high) / 2]) < 1


@pytest.mark.parametrize("a", [0.5, 0.2 + 0.6j])
def test_matrices_of_a_grid_of_gains_are_those_of_each_alone(a):
    over = parts(LOOP, ("kp", "skip", LAG))
    grid = np.random.default_rng(0).normal(size=(2, 4, 3))
    every = mode_matrices(over, a, grid)
    assert every.shape[:2] == (2, 4)
    for i, j in np.ndindex(2, 4):
        np.testing.assert_array_equal(every[i, j], mode_matrices(over, a, grid[i, j]))
