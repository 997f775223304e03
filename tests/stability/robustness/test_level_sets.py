"""Crossings of a level against closed forms, both ways, in any unit."""

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.linear.realization import Realization
from ctrlattn.linear.scaling import scaled
from ctrlattn.stability.robustness import level_sets
from ctrlattn.stability.robustness.level_sets import (
    hamiltonian_crossings,
    is_well_conditioned,
    largest_gains,
    level_crossings,
    pencil_crossings,
    pole_grid,
)


def system(seed):
    rng = np.random.default_rng(seed)
    n, continuous = int(rng.integers(1, 8)), bool(seed % 2)
    a = rng.normal(size=(n, n)) + (1j * rng.normal(size=(n, n)) if seed % 5 == 0 else 0)
    poles = np.linalg.eigvals(a)
    a = a - (poles.real.max() + 0.1) * np.eye(n) if continuous else 0.97 * a / np.abs(poles).max()
    return Realization(a, rng.normal(size=(n, 2)), rng.normal(size=(3, n)), rng.normal(size=(3, 2)), continuous)


def gains(g, w):
    return np.linalg.norm(np.moveaxis(g.responses(w), -1, 0), 2, axis=(1, 2))


@every_case("seed", range(40))
def test_both_ways_list_every_crossing_that_a_grid_shows(seed):
    g = system(seed)
    w = (
        np.linspace(-np.pi, np.pi, 4001)
        if not g.continuous
        else np.concatenate([-np.geomspace(50, 1e-3, 2000), np.geomspace(1e-3, 50, 2000)])
    )
    w = w[w >= 0] if g.real() else w
    sampled = gains(g, w)
    level = float(np.quantile(sampled, 0.8))
    between = np.flatnonzero(np.diff(np.sign(sampled - level)))
    unit = scaled(g)
    inner = level / 2.0**unit.exponent
    for crossings in (
        level_crossings(g, level),
        unit.rate * pencil_crossings(unit.system, inner),
        unit.rate * hamiltonian_crossings(unit.system, inner),
    ):
        for i in between:
            at = crossings[(crossings >= w[i] - 1e-9) & (crossings <= w[i + 1] + 1e-9)]
            assert len(at)
            assert_allclose(np.min(np.abs(gains(g, at) / level - 1)), 0, atol=1e-8)


@every_case("h", [1e-2, 1e-4, 1e-6])
@every_case("sign", [1.0, -1.0])
def test_a_cluster_near_the_ends_keeps_its_crossing(h, sign):
    """|h/(z - 1 + h)|^4 = 1/4 where |z - 1 + h|^2 = h^2 + 4 (1 - h) sin^2(w/2) is 2 h^2."""
    n = 4
    a = sign * ((1 - h) * np.eye(n) + h * np.eye(n, k=1))
    g = Realization(a, h * np.eye(n)[:, -1:], np.eye(n)[:1], np.zeros((1, 1)), False)
    w = 2 * np.arcsin(h / (2 * np.sqrt(1 - h)))
    crossings = level_crossings(g, 0.25)
    nearest = np.min(np.abs(crossings - (w if sign > 0 else np.pi - w)))
    assert nearest <= 1e-6 * h + 1e-15


@every_case("seed", range(10))
def test_the_grid_is_about_each_pole_as_dense_as_the_pole_is_near(seed):
    g = system(seed)
    grid, poles = pole_grid(g), np.linalg.eigvals(g.a)
    if not g.continuous:
        assert np.all((grid >= -np.pi) & (grid <= np.pi))
        assert np.isin(np.round([0.0, np.pi], 12), np.round(np.abs(grid), 12)).all()
    else:
        assert np.isin([0.0, np.inf], grid).all()
    assert not g.real() or np.all(grid[np.isfinite(grid)] >= (0.0 if g.continuous else -np.pi))
    for pole in poles:
        width = abs(pole.real) if g.continuous else abs(1 - abs(pole))
        centre = pole.imag if g.continuous else np.angle(pole)
        centre = abs(centre) if g.real() else centre
        for offset in (0.0, 0.4, 1.0, 2.0):  # the pole, and places to its right in units of its distance
            there = centre + offset * width
            away = np.abs(grid - there) if g.continuous else np.abs(np.exp(1j * grid) - np.exp(1j * there))
            assert away.min() <= 1e-9 * max(1.0, abs(there))


@every_case("shape", [(1, 1), (3, 1), (1, 2), (2, 3)])
def test_the_largest_gain_is_the_largest_singular_value_and_infinite_where_there_is_no_number(shape):
    rng = np.random.default_rng(0)
    responses = rng.normal(size=(*shape, 6)) + 1j * rng.normal(size=(*shape, 6))
    responses[0, 0, 2] = complex(np.inf, np.nan)
    gains = largest_gains(responses)
    assert gains[2] == np.inf
    for i in (0, 1, 3, 4, 5):
        assert_allclose(gains[i], np.linalg.svd(responses[:, :, i], compute_uv=False)[0], rtol=1e-12)
    assert largest_gains(np.zeros((0, 2, 3))).tolist() == [0.0, 0.0, 0.0]


def test_a_level_test_stands_alone_only_where_its_map_keeps_the_digits():
    """Next to a pole at z = -1, z = 1 and z = i, and where the level is the direct term, no map is well conditioned."""
    g = system(2)._replace(continuous=False)
    assert is_well_conditioned(g._replace(a=g.a / 4), 1e3)
    corners = np.diag([-1.0, 1.0, 0.0, 0.0]) * (1 - 1e-13)
    corners[2:, 2:] = (1 - 1e-13) * np.array([[0.0, 1.0], [-1.0, 0.0]])
    assert not is_well_conditioned(Realization(corners, np.eye(4), np.eye(4), np.zeros((4, 4)), False), 1.0)
    direct = Realization(-np.eye(1), np.eye(1), np.zeros((1, 1)), np.eye(1), True)
    assert not is_well_conditioned(direct, 1.0 + 1e-9)
    assert is_well_conditioned(direct, 2.0)
    for level in (1.25, 2.0, 10.0):  # I - D*D/level^2
        assert_allclose(level_sets._in_continuous_time(direct, level).condition, 1 / (1 - 1 / level**2))
    for level in (1.0, 1 + 1e-12):  # none of the maps has any digits there
        assert hamiltonian_crossings(direct, level) is None


@pytest.mark.parametrize("continuous", [False, True])
def test_crossings_of_many_states_are_listed_without_the_pencil(continuous, monkeypatch):
    """Each sign change of a fine grid has a crossing that lies on the level."""
    monkeypatch.setattr("ctrlattn.stability.robustness.level_sets.pencil_crossings", lambda g, level: 1 / 0)
    n, rng = 60, np.random.default_rng(7)
    a = rng.normal(size=(n, n))
    poles = np.linalg.eigvals(a)
    a = a - (poles.real.max() + 0.3) * np.eye(n) if continuous else 0.9 * a / np.abs(poles).max()
    g = Realization(a, rng.normal(size=(n, 1)), rng.normal(size=(1, n)), np.zeros((1, 1)), continuous)
    w = np.linspace(0.0, 3.0, 3001)
    sampled = np.abs(g.responses(w)[0, 0])
    level = 1.0001 * float(np.quantile(sampled, 0.7))
    crossings = level_crossings(g, level)
    between = np.flatnonzero(np.diff(np.sign(sampled - level)))
    assert len(between)
    for i in between:
        at = crossings[(crossings >= w[i]) & (crossings <= w[i + 1])]
        assert_allclose(np.min(np.abs(np.abs(g.responses(at)[0, 0]) / level - 1)), 0, atol=1e-8)


@every_case("damping", [0.05, 0.3, 0.6])
def test_the_grid_holds_the_peak_of_every_pair_of_poles(damping):
    """1/(s^2 + 4 z s + 4) peaks at 2 sqrt(1 - 2 z^2), which is no pole's frequency."""
    a = np.array([[0.0, 1.0], [-4.0, -4 * damping]])
    grid = pole_grid(Realization(a, np.eye(2)[:, 1:], np.eye(2)[:1], np.zeros((1, 1)), True))
    for centre in (2 * np.sqrt(1 - 2 * damping**2), 2 * np.sqrt(1 - damping**2)):
        assert np.abs(grid - centre).min() < 1e-12
        assert np.abs(grid - centre - 2 * damping).min() < 1e-12


@every_case("seed", range(6))
def test_a_view_in_continuous_time_has_the_response_at_the_frequency_it_names(seed):
    """Centres z = 1, -1 and i; in continuous time the system itself and G(1/s)."""
    g = system(seed)
    if g.continuous:
        views, centres = (level_sets._identity_view, level_sets._reciprocal), (0.0, np.inf)
    else:
        views = (level_sets._cayley_at_1, level_sets._cayley_at_minus_1, level_sets._cayley_at_i)
        centres = (0.0, np.pi, np.pi / 2)
    x = np.array([1e-3, 0.4, 1.0, 7.0])
    for make, centre in zip(views, centres, strict=True):
        view = make(g)
        seen = Realization(view.a, view.b, view.c, view.d, True)
        assert_allclose(seen.responses(x), g.responses(view.frequency(x)), rtol=1e-8)
        at_centre = abs(float(view.frequency(np.array([0.0]))[0]))
        assert at_centre > 1e300 if centre == np.inf else abs(at_centre - centre) < 1e-12


@every_case("poles, low, high", [([-5.0], 0.1, 50.0), ([-0.01], 1e-3, 10.0), ([-0.02, -300.0], 2e-3, 3e3)])
def test_the_grid_reaches_ten_times_beyond_all_poles_and_the_frequency_1(poles, low, high):
    n = len(poles)
    grid = pole_grid(Realization(np.diag(poles), np.eye(n), np.eye(n), np.zeros((n, n)), True))
    for w in np.geomspace(low, high, 24):
        assert np.abs(grid / w - 1).min() < 1e-9
    assert_allclose(grid[np.isfinite(grid)].max(), high)


@pytest.mark.parametrize("dtype", [float, complex])
def test_a_pencil_whose_iteration_does_not_end_is_refused(dtype, monkeypatch):
    for name in ("dggev", "zggev"):
        monkeypatch.setattr(level_sets, name, lambda *given, **options: [np.ones(2)] * 5 + [1])
    with pytest.raises(ArithmeticError, match="QZ algorithm does not converge"):
        level_sets.pencil_eigenvalues(np.eye(2, dtype=dtype), np.eye(2, dtype=dtype))
