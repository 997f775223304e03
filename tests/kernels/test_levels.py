"""Level sets, closed-in peaks and their second look, compiled, against the plain ones."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn.kernels import levels
from ctrlattn.linear.lapack import eigenvalues
from ctrlattn.linear.scaling import scaled
from ctrlattn.stability.robustness import level_sets, norms


@pytest.fixture
def unit(stable_system):
    def draw(seed):
        g = stable_system(seed)
        g = g._replace(b=g.b[:, :2], d=g.d[:, :2] * (seed % 3 == 0))
        known = eigenvalues(g.a)
        return g, known, scaled(g, poles=known).system

    return draw


@pytest.mark.parametrize("seed", range(20))
def test_the_peak_is_the_plain_one(seed, unit):
    g, known, _ = unit(seed)
    *fast, exponent, half = norms._by_compiled_code(g, 1e-9, known)
    plain = norms._by_plain_numpy(g, 1e-9, known)
    assert_allclose([fast[0] * 2.0**exponent, fast[2] * 2.0**exponent], [plain.value, plain.upper], rtol=1e-9)
    assert_allclose(fast[1] * 4.0**half, plain.frequency, rtol=1e-5, atol=1e-7)
    assert 0.2 * plain.residual < fast[3] < 5 * plain.residual


@pytest.mark.parametrize("seed", range(18))
def test_the_crossings_are_the_plain_ones(seed, unit):
    _, _, g = unit(seed)
    grid = np.sort(np.abs(level_sets.pole_grid(g, eigenvalues(g.a))))
    gains = level_sets.largest_gains(g.responses(grid))
    level = 0.7 * gains.max() + 0.3 * gains.min()

    def those_that_cross(w):
        return w[np.abs(level_sets.largest_gains(g.responses(w)) / level - 1) < 1e-6]

    for fast, plain in (
        (level_sets.pencil_crossings, level_sets._pencil_crossings_by_plain_numpy),
        (
            level_sets.hamiltonian_crossings,
            lambda *given: level_sets._hamiltonian_crossings_by_plain_numpy(*given, 1e10),
        ),
    ):
        ours, theirs = (those_that_cross(crossings(g, level)) for crossings in (fast, plain))
        assert len(ours) > 0
        # Both eigenvalues of a conjugate pair may be listed, or one, as rounding has it.
        for each, others in ((ours, theirs), (theirs, ours)):
            assert np.all(np.abs(each[:, None] - others).min(axis=1) <= 1e-5 * each)


@pytest.mark.parametrize("seed", range(6))
def test_the_grid_is_the_plain_one(seed, unit):
    _, _, g = unit(seed)
    known = eigenvalues(g.a)
    plain = np.unique(np.abs(level_sets.pole_grid(g, known)))
    fast = levels.pole_grid(known.real.copy(), known.imag.copy(), g.continuous, norms._rules())
    assert np.all(np.diff(fast) > 0)
    for w in (plain, fast):  # the last digits may make two of one
        other = fast if w is plain else plain
        near = other[np.clip(np.searchsorted(other, w), 1, len(other) - 1) - np.array([[0], [1]])]
        off = np.abs(np.where(np.isfinite(w), near - np.where(np.isfinite(w), w, 0), 0.0)).min(axis=0)
        assert np.all(off <= 1e-12 * np.where(np.isfinite(w), np.maximum(w, 1e-3), 1.0))


def test_a_value_that_is_not_that_of_a_second_solve_is_lost(unit):
    _, _, g = unit(4)
    value = norms.largest_gain(g, 0.4)
    share = levels.rounding_share(*g[:4], g.continuous, 0.4, value, norms._rules())
    assert 0 < share < 1e-9
    assert np.isnan(levels.rounding_share(*g[:4], g.continuous, 0.4, 1.001 * value, norms._rules()))
    assert np.isnan(levels.rounding_share(*g[:4], g.continuous, 0.4, np.inf, norms._rules()))
