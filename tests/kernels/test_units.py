"""Scaled systems and their Hessenberg form against plain numpy, entry by entry and response by response."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ctrlattn.kernels import poles, units
from ctrlattn.linear import scaling
from ctrlattn.linear.balancing import state_scaling
from ctrlattn.linear.lapack import eigenvalues
from ctrlattn.linear.realization import Realization


@pytest.mark.parametrize("seed", range(12))
def test_states_and_gains_are_in_the_units_of_plain_numpy(seed, stable_system, monkeypatch):
    g = stable_system(seed)
    known = eigenvalues(g.a)
    assert_array_equal(poles.state_scaling(*g[:3]), state_scaling(*g[:3]))
    for gain in (0.0, 3.5e-4):
        fast = scaling.scaled(g, gain, known)
        monkeypatch.setattr(Realization, "real", lambda _: False)
        plain = scaling.scaled(g, gain, known)
        monkeypatch.undo()
        assert (fast.exponent, fast.rate, fast.into) == (plain.exponent, plain.rate, plain.into)
        for ours, theirs in zip((*fast.system[:4], fast.states), (*plain.system[:4], plain.states), strict=True):
            assert_array_equal(ours, theirs)


def test_gains_beyond_the_floats_have_their_exponent():
    zero = np.zeros(1)
    for factor in (2.0**-450, 2.0**900):
        a, b, c = np.full((1, 1), 0.5), np.full((1, 1), factor), np.full((1, 1), factor)
        *_, exponent, half, _, into = units.scaled(a, b, c, np.zeros((1, 1)), 0.0, zero + 0.5, zero, False)
        assert exponent == 2 * round(np.log2(factor)) + 2
        assert half == 0
        assert into == round(np.log2(factor)) + 1


@pytest.mark.parametrize("inputs", [1, 2])
@pytest.mark.parametrize("form", ["full", "hessenberg", "lower", "two states"])
def test_the_hessenberg_side_is_the_same_system_and_moves_nothing_that_has_its_form(form, inputs):
    rng = np.random.default_rng(inputs)
    n = 2 if form == "two states" else 6
    a, b, c = rng.normal(size=(n, n)), rng.normal(size=(n, inputs)), rng.normal(size=(inputs, n))
    a, b = {"hessenberg": (np.triu(a, -1), b), "lower": (np.tril(a), b)}.get(form, (a, 1e5 * b))
    sides = units.sides_of(a, b, c, np.zeros((inputs, inputs)), True, False)
    h, right, out = sides.columns[0], sides.b[0], sides.c[0]
    for z in (2.0 + 1j, -0.3j):
        expected = c @ np.linalg.solve(z * np.eye(n) - a, b)
        lower = np.triu(h, -1 - n) if form == "two states" else np.triu(h.T, -1)
        assert_allclose(out @ np.linalg.solve(z * np.eye(n) - (h.T if n == 2 else lower), right.T), expected, rtol=1e-9)
    if form in ("hessenberg", "two states"):
        assert_array_equal(h.T, a)
        assert_array_equal(right.T, b)
    if form == "lower":
        assert_array_equal(np.sort(h, axis=None), np.sort(a, axis=None))
    if form == "full" and inputs == 1:
        assert np.count_nonzero(right) == 1
