"""Plain responses and loops under a gain, compiled, against plain numpy."""

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.kernels import loop
from ctrlattn.linear.lapack import on_contiguous


@pytest.fixture
def single(stable_system):
    def draw(seed):
        g = stable_system(seed)
        into, out = (np.abs(m).max() for m in (g.b, g.c))
        return g._replace(b=g.b[:, :1] / into, c=g.c[:1] / out, d=0.1 * g.d[:1, :1])

    return draw


@every_case("seed", range(12))
def test_responses_are_those_of_numpy(seed, single):
    g = single(seed)
    w = np.array([0.0, 0.3, 1.1, 3.0, np.inf if g.continuous else np.pi])
    points = 1j * w[:-1] if g.continuous else np.exp(1j * w)
    plain = np.array([(g.c @ np.linalg.solve(z * np.eye(len(g.a)) - g.a, g.b) + g.d).item() for z in points])
    if g.continuous:
        plain = np.append(plain, g.d.item())
    response = on_contiguous(loop.plain_values, g[:4], w, g.continuous)
    assert_allclose(response, plain, rtol=1e-6, atol=1e-9 * np.abs(plain).max())


def test_at_a_pole_the_response_is_infinite():
    a, one, zero = np.eye(1), np.ones((1, 1)), np.zeros((1, 1))
    assert loop.plain_values(a, one, one, zero, np.zeros(1), False).tolist() == [complex(np.inf, 0.0)]


@every_case("seed", range(12))
def test_the_growth_is_that_of_the_eigenvalues_of_the_closed_loop(seed, single):
    g = single(seed)
    gains = np.array([0.5, 3.0, np.exp(0.4j)])
    growth = on_contiguous(loop.largest_growth, g[:4], gains, g.continuous)
    for k, gain in enumerate(gains):
        poles = np.linalg.eigvals(g.a - g.b @ g.c * gain / (1 + gain * g.d.item()))
        expected = (poles.real / np.abs(poles).max()).max() if g.continuous else np.abs(poles).max() - 1
        assert_allclose(growth[k], expected, rtol=1e-6, atol=1e-9)


def test_a_loop_that_is_not_well_posed_has_no_growth():
    one = np.ones((1, 1))
    growth = loop.largest_growth(0.5 * one, one, one, -one, np.array([1.0 + 0j, 0.5 + 0j]), False)
    assert growth[0] == -np.inf
    assert_allclose(growth[1], abs(0.5 - 0.5 / 0.5) - 1)
