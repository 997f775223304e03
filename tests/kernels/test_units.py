"""Equal units and Hessenberg forms, compiled, against the plain ones, and the response of the forms."""

import numpy as np
from cases import every_case
from numpy.testing import assert_allclose, assert_array_equal

from ctrlattn.kernels import boundary, units
from ctrlattn.linear import transfer
from ctrlattn.linear.balancing import state_scaling
from ctrlattn.linear.lapack import on_contiguous
from ctrlattn.linear.scaling import scaled


@every_case("seed", range(12))
@every_case("continuous", [False, True])
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


@every_case("seed", range(20))
def test_equal_units_are_those_of_plain_numpy_to_the_last_digit(seed, stable_system):
    g = stable_system(seed)
    b, c = g.b[:, :1], g.c[:1] * (seed % 7 != 0)
    scale = state_scaling(g.a, b, c)
    plain = g.a * scale / scale[:, None] / 2.5, b / scale[:, None] / 2.5, c * scale
    for found, expected in zip(on_contiguous(units.in_equal_units, (g.a, b, c), 2.5), plain, strict=True):
        assert_array_equal(found, expected)


@every_case("seed", range(40))
@every_case("gain", [3e-4, 1.0, 1e30])
def test_a_scaled_system_is_that_of_plain_numpy_to_the_last_digit(seed, gain, stable_system):
    g = stable_system(seed)
    g = g._replace(b=g.b * (seed % 9 != 0), c=g.c * (seed % 7 != 0), d=g.d * (seed % 5 != 0) * 1e9)
    extreme, *found, exponent, half, states, into = on_contiguous(
        units.scaled, g[:4], int(np.frexp(gain)[1]), g.continuous
    )
    expected = scaled(g, gain)
    if extreme > 1000:
        assert not (g.b.any() and g.c.any())
        return
    for matrix, plain in zip(found, expected.system[:4], strict=True):
        assert_array_equal(matrix, plain)
    assert (exponent, 4.0**half, into) == (expected.exponent, expected.rate, expected.into)
    assert_array_equal(states[:-1], expected.states)


def test_exponents_whose_factors_are_no_floats_are_told():
    a = np.array([[0.5, 0.1], [0.1, 0.2]])
    column, one = np.full((2, 1), 1e-300), np.ones((1, 1))
    assert units.scaled(a, column, column.T.copy(), 0 * one, -1990, False)[0] > 1000
    assert units.scaled(a, column * 1e200, column.T.copy() * 1e200, 0 * one, -600, False)[0] <= 1000


@every_case("seed", range(20))
@every_case("continuous", [False, True])
def test_the_hessenberg_form_of_several_channels_has_the_response_of_the_system(seed, continuous, stable_system):
    g = stable_system(seed)._replace(continuous=continuous)
    n, (outputs, inputs) = len(g.a), g.d.shape
    columns, right, out = on_contiguous(units.several_reduced, g[:3], continuous)
    points = (0.3j, 40j) if continuous else (np.exp(0.3j), np.exp(2.9j))
    for k, z in enumerate(points[: len(columns)]):
        centre = 0.0 if continuous else (1.0, -1.0)[k]
        h = np.triu(columns[k].T, -1)
        assert (right[k].shape, out[k].shape) == ((inputs, n), (outputs, n))
        value = out[k] @ np.linalg.solve((z - centre) * np.eye(n) - h, right[k].T)
        expected = g.c @ np.linalg.solve(z * np.eye(n) - g.a, g.b)
        scale = np.abs(g.c) @ np.abs(np.linalg.inv(z * np.eye(n) - g.a)) @ np.abs(g.b)
        assert_allclose(value, expected, atol=1e-9 * scale.max())
