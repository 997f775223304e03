"""Poles inside the boundary where that is clear, against plain numpy; nothing is clear next to the boundary."""

import numpy as np
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.kernels import poles
from ctrlattn.linear import boundary


@every_case("seed", range(12))
def test_clear_poles_are_those_of_plain_numpy(seed, stable_system):
    g = stable_system(seed)
    for shift in (0.0, 3.0):
        a = g.a + shift * np.eye(len(g.a))
        inside, found = poles.clear_poles(a, g.continuous, 1e4)
        stable, expected = boundary._stable_in_plain_numpy(a, g.continuous)
        assert bool(inside) == stable
        assert_allclose(np.sort_complex(found), np.sort_complex(expected), rtol=1e-9, atol=1e-13)


@every_case("continuous", [False, True])
@every_case("distance", [0.0, 1e-15, -1e-15])
def test_poles_on_the_boundary_are_not_clear(continuous, distance):
    rotation = np.array([[0.6, 0.8], [-0.8, 0.6]])
    a = rotation - (0.6 + distance) * np.eye(2) if continuous else (1 - distance) * rotation
    assert poles.clear_poles(a, continuous, 1e4)[0] == poles.UNCLEAR
    assert poles.clear_poles(a, continuous, 1e-4)[0] != poles.UNCLEAR or distance == 0


def test_a_matrix_that_is_next_to_one_with_a_pole_on_the_circle_is_not_clear():
    """Poles of .5, and I - A next to singular."""
    chain = 0.5 * np.eye(12) + 40.0 * np.eye(12, k=1)
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 12)))[0]
    assert poles.clear_poles(turn @ chain @ turn.T, False, 1e4)[0] == poles.UNCLEAR
