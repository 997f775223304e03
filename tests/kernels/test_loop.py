"""Grids, plain responses and loops under a gain, compiled, against plain numpy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn.kernels import loop
from ctrlattn.linear.lapack import eigenvalues
from ctrlattn.linear.transfer import BoundaryTransfer
from ctrlattn.stability import boundary_search


@pytest.fixture
def single(stable_system):
    def draw(seed):
        g = stable_system(seed)
        into, out = (np.abs(m).max() for m in (g.b, g.c))
        return g._replace(b=g.b[:, :1] / into, c=g.c[:1] / out, d=0.1 * g.d[:1, :1])

    return draw


@pytest.mark.parametrize("seed", range(12))
def test_the_start_grid_is_the_plain_one(seed, single):
    g = single(seed)
    roots = eigenvalues(g.a)
    constants = boundary_search.PER_DECADE, boundary_search.MIDDLE, boundary_search.OFFSETS
    w = loop.start_grid(roots.real.copy(), roots.imag.copy(), g.continuous, *constants)
    plain = boundary_search.start_grid(roots, continuous=g.continuous)
    assert np.all(np.diff(w) > 0)
    for each, others in ((w, plain), (plain, w)):  # the last digits may make two of one
        assert np.all(np.abs(each[:, None] - others).min(axis=1) <= 1e-12 * np.maximum(each, 1.0))


@pytest.mark.parametrize("continuous", [False, True])
def test_without_a_root_the_grid_has_its_ends(continuous):
    constants = boundary_search.PER_DECADE, boundary_search.MIDDLE, boundary_search.OFFSETS
    w = loop.start_grid(np.zeros(0), np.zeros(0), continuous, *constants)
    assert_allclose(w, boundary_search.start_grid(np.zeros(0), continuous=continuous), rtol=1e-12)


@pytest.mark.parametrize("seed", range(12))
def test_responses_are_those_of_numpy(seed, single):
    g = single(seed)
    w = np.array([0.0, 0.3, 1.1, 3.0, np.inf if g.continuous else np.pi])
    points = 1j * w[:-1] if g.continuous else np.exp(1j * w)
    plain = np.array([(g.c @ np.linalg.solve(z * np.eye(len(g.a)) - g.a, g.b) + g.d).item() for z in points])
    if g.continuous:
        plain = np.append(plain, g.d.item())
    for response in (
        loop.values(BoundaryTransfer(*g[:5]).sides, w),
        loop.plain_values(*(np.ascontiguousarray(m) for m in g[:4]), w, g.continuous),
    ):
        assert_allclose(response, plain, rtol=1e-6, atol=1e-9 * np.abs(plain).max())


def test_at_a_pole_the_response_is_infinite():
    a, one, zero = np.eye(1), np.ones((1, 1)), np.zeros((1, 1))
    for response in (
        loop.values(BoundaryTransfer(a, one, one, zero, False).sides, np.zeros(1)),
        loop.plain_values(a, one, one, zero, np.zeros(1), False),
    ):
        assert response.tolist() == [complex(np.inf, 0.0)]


@pytest.mark.parametrize("seed", range(12))
def test_the_growth_is_that_of_the_eigenvalues_of_the_closed_loop(seed, single):
    g = single(seed)
    gains = np.array([0.5, 3.0, np.exp(0.4j)])
    growth = loop.largest_growth(*(np.ascontiguousarray(m) for m in g[:4]), gains, g.continuous)
    for k, gain in enumerate(gains):
        poles = np.linalg.eigvals(g.a - g.b @ g.c * gain / (1 + gain * g.d.item()))
        expected = (poles.real / np.abs(poles).max()).max() if g.continuous else np.abs(poles).max() - 1
        assert_allclose(growth[k], expected, rtol=1e-6, atol=1e-9)


def test_a_loop_that_is_not_well_posed_has_no_growth():
    one = np.ones((1, 1))
    growth = loop.largest_growth(0.5 * one, one, one, -one, np.array([1.0 + 0j, 0.5 + 0j]), False)
    assert growth[0] == -np.inf
    assert_allclose(growth[1], abs(0.5 - 0.5 / 0.5) - 1)


@pytest.mark.parametrize("continuous", [False, True])
def test_the_pencil_has_every_crossing_of_the_real_axis(continuous):
    """Three lags of .5: L is real where three angles make half a turn, and in continuous time at sqrt(3)."""
    a = (-1.0 if continuous else 0.5) * np.eye(3) + np.eye(3, k=-1)
    w = loop.real_axis_pencil(a, np.eye(3)[:, :1].copy(), np.eye(3)[2:].copy(), continuous)
    exact = np.sqrt(3) if continuous else np.pi / 3 - np.arcsin(0.5 * np.sin(np.pi / 3))
    assert np.abs(w - exact).min() < 1e-9
