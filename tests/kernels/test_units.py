"""The compiled Hessenberg form of a single loop against the plain one, and its response."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ctrlattn.kernels import boundary, units
from ctrlattn.linear import transfer


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
