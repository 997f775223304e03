"""Equal units and the Hessenberg form of a single loop, compiled, against the plain ones, and its response."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ctrlattn.kernels import boundary, units
from ctrlattn.linear import transfer
from ctrlattn.linear.balancing import state_scaling
from ctrlattn.linear.lapack import on_contiguous


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("continuous", [False, True])
def test_the_hessenberg_form_is_the_plain_one(seed, continuous):
    rng = np.random.default_rng(seed)
    n = 3 + 4 * seed
    a, b, c = rng.standard_normal((n, n)), 1e5 * rng.standard_normal((n, 1)), 1e-3 * rng.standard_normal((1, n))
    columns, right, out = units.single_reduced(a, b, c, continuous)
    plain = list(transfer._hessenberg_sides(a, b, c, (0.0,) if continuous else (1.0, -1.0), balanced=True))
    assert len(plain) == len(columns)
    for k, (h, into, away) in enumerate(plain):
        assert_allclose(np.triu(columns[k].T, -1), np.triu(h.T, -1), atol=1e-11 * n)
        assert_allclose(right[k], into, rtol=1e-12)
        assert_allclose(out[k], away, atol=1e-11 * np.abs(away).max())
        assert_array_equal(right[k, 0, 1:], 0.0)
    d, w = np.zeros((1, 1)), np.linspace(0.1, 3, 7)
    values = boundary.responses(boundary.Sides(columns, right, out, d), w)[:, 0, 0]
    points = 1j * w if continuous else np.exp(1j * w)
    expected = [(c @ np.linalg.solve(z * np.eye(n) - a, b)).item() for z in points]
    assert_allclose(values, expected, rtol=1e-8)


@pytest.mark.parametrize("seed", range(20))
def test_equal_units_are_those_of_plain_numpy_to_the_last_digit(seed, stable_system):
    g = stable_system(seed)
    b, c = g.b[:, :1], g.c[:1] * (seed % 7 != 0)
    scale = state_scaling(g.a, b, c)
    plain = g.a * scale / scale[:, None] / 2.5, b / scale[:, None] / 2.5, c * scale
    for found, expected in zip(on_contiguous(units.in_equal_units, (g.a, b, c), 2.5), plain, strict=True):
        assert_array_equal(found, expected)
