"""Crossings of a level from the Hamiltonian matrix about z = 1 and z = -1, against plain numpy."""

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.kernels import level_sets as kernel
from ctrlattn.linear.realization import Realization
from ctrlattn.linear.scaling import scaled
from ctrlattn.stability.robustness import level_sets


def about(z, g, level):
    crossings, condition = kernel.crossings_about(
        z, *map(np.ascontiguousarray, g[:4]), level, level_sets.NEAR, level_sets.SOUND
    )
    return np.sort(crossings), condition


def require_same(found, expected):
    for some, others in ((found, expected), (expected, found)):
        assert all(np.abs(others - w).min(initial=np.inf) < 1e-6 * (w + 1e-3) for w in some)


@every_case("seed", range(60))
def test_crossings_and_condition_are_those_of_plain_numpy(seed, stable_system):
    g = stable_system(seed)
    if g.continuous:
        g = Realization(0.9 * g.a / np.abs(np.linalg.eigvals(g.a)).max(), *g[1:4], False)
    g = scaled(g).system
    for level in (0.1, 0.9, 1.3, 3.0):
        plain = level_sets.hamiltonian_crossings(g, level)
        for z, map_about in ((1.0, level_sets._cayley_at_1), (-1.0, level_sets._cayley_at_minus_1)):
            crossings, condition = about(z, g, level)
            view = map_about(g)
            room = 1 - (np.linalg.norm(view.d, 2) / level) ** 2
            assert_allclose(condition, max(view.inverse, 1 / room) if room > 0 else np.inf, rtol=1e-9)
            if condition <= level_sets.SOUND and plain is not None:
                require_same(crossings, plain)


@pytest.mark.parametrize("z", [1.0, -1.0])
def test_one_pole_crosses_where_it_must(z):
    """|1/(e^{iw} - a)|^2 = 1/(1 - 2 a cos w + a^2)."""
    one = np.ones((1, 1))
    for a, level in ((0.5, 1.2), (-0.5, 1.2), (0.9, 3.0)):
        crossings, condition = about(z, (a * one, one, one, 0 * one), level)
        expected = np.arccos((1 + a * a - level**-2) / (2 * a))
        above_opposite = abs(1 / (-z - a)) < level
        assert (condition < 1e3) == above_opposite
        assert not above_opposite or np.abs(crossings - expected).min() < 1e-9
        assert not len(about(z, (a * one, one, one, 0 * one), 1.001 / (1 - abs(a)))[0])


def test_a_pole_opposite_and_a_direct_term_above_the_level_have_no_good_condition():
    one = np.ones((1, 1))
    assert about(1.0, (-one, one, one, 0 * one), 2.0)[1] == np.inf
    assert about(-1.0, (one, one, one, 0 * one), 2.0)[1] == np.inf
    assert about(1.0, (-(1 - 1e-9) * one, one, one, 0 * one), 2e9)[1] > level_sets.SOUND
    assert about(1.0, (0.0 * one, 0 * one, one, one), 0.99)[1] == np.inf
    assert_allclose(about(1.0, (0.0 * one, 0 * one, one, one), 2.0)[1], 4 / 3)
    assert about(1.0, (np.nan * one, one, one, 0 * one), 2.0)[1] == np.inf
