"""Exact pencils over one gain: the matrix has the roots of the polynomial, for every pair of gains."""

from itertools import permutations

import control
import numpy as np
import pytest
from cases import every_case

from ctrlattn import PID, CausalMean, InputError, Loop
from ctrlattn.errors import InputTypeError
from ctrlattn.stability import gain_intervals, gain_radius
from ctrlattn.stability.modes.exact_gains import combined
from ctrlattn.stability.modes.gain_pencils import (
    mode_matrices,
    mode_matrix,
    mode_pencil,
    mode_polynomials,
    parts,
    require_gains,
    require_values,
)

LAG = control.tf([0.5], [1, -0.4], 1)
LOOP = Loop(CausalMean(), skip=0.4, feedback=0.7, controller=PID(0.8, 0.5, 0.05))


@every_case("axes", list(permutations(("kp", "ki", "kd", "skip", "feedback", LAG), 2)))
@every_case("a", [0.5, 0.2 + 0.6j])
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


@every_case("axes", list(permutations(("kp", "ki", "kd", "skip", "feedback", LAG), 2)))
@every_case("a", [0.5, 0.2 + 0.6j])
def test_poles_and_polynomial_are_those_of_the_printed_law_with_these_gains(axes, a):
    """z - skip - feedback a + kp + ki z/(z - 1) + kd (z - 1)/z + g .5/(z - .4) is p over all denominators."""
    values = (0.375, -0.25)
    gains = {
        "kp": 0.8,
        "ki": 0.5,
        "kd": 0.05,
        "skip": 0.4,
        "feedback": 0.7,
        LAG: 0.0,
        **dict(zip(axes, values, strict=True)),
    }

    def closed(z):
        law = gains["kp"] + gains["ki"] * z / (z - 1) + gains["kd"] * (z - 1) / z + gains[LAG] * 0.5 / (z - 0.4)
        return z - gains["skip"] - gains["feedback"] * a + law

    over = parts(LOOP, axes)
    re, im = (np.array(part, dtype=float) for part in combined(*mode_polynomials(over, a), values))
    p = np.polyadd(re, 1j * im)
    den = np.array([1.0])
    for part in (over.fixed, *over.axes):
        den = np.polymul(den, [float(c) for c in part.den])
    z = 1.3 * np.exp(1j * np.array([0.2, 1.0, 2.0, -3.0]))
    np.testing.assert_allclose(np.polyval(p, z) / np.polyval(den, z), closed(z), rtol=1e-12)
    poles = np.linalg.eigvals(mode_matrices(over, a, np.array(values)))
    moving = poles[np.abs(np.polyval(den, poles)) > 1e-9]  # a memory that two parts share stays where it is
    assert len(moving) >= 2
    np.testing.assert_allclose(closed(moving), 0, atol=1e-9)


def test_values_of_one_gain_are_a_vector_of_any_length():
    assert require_values([0.1, -0.2, 3.0], "q").tolist() == [0.1, -0.2, 3.0]
    assert require_values([0.5], "q").tolist() == [0.5]
    for given, shape in ((0.5, r"\(\)"), ([[0.1, 0.2]], r"\(1, 2\)")):
        with pytest.raises(InputError, match=rf"q: the values of one gain are \(m,\), got shape {shape}"):
            require_values(given, "q")
    with pytest.raises(InputTypeError, match="q: gains must be real numbers, got"):
        require_values(["a"], "q")


def test_gains_have_one_number_for_each_axis():
    assert require_gains(np.zeros((2, 3)), 3, "q").shape == (2, 3)
    assert require_gains(0.5, -1, "q").shape == ()
    for given in (0.5, np.zeros(2), np.zeros((3, 2))):
        with pytest.raises(InputError, match=r"q: gains are \(..., 3\), one for each axis, got shape"):
            require_gains(given, 3, "q")
    with pytest.raises(InputError, match=r"q: gains are .*, got shape"):
        require_gains(0.5, 0, "q")
    with pytest.raises(InputError, match="q: gains must be finite"):
        require_gains([0.5, np.inf], 2, "q")
