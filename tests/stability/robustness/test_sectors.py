"""Sectors by the slopes they bound, the circle criterion by closed forms and simulation, harmonic balance by orbits."""

import control
import numpy as np
import pytest
import systems
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import (
    PID,
    CausalMean,
    Loop,
    circle_criterion,
    crossings,
    gain_margin,
    layer_norm,
    loop_transfer,
    rms_norm,
    unit_norm,
)
from ctrlattn.arrays import softmax
from ctrlattn.errors import InputError
from ctrlattn.linear.realization import realization
from ctrlattn.stability import describing_function, limit_cycles, normalizer_sector, sector_limit, softmax_sector
from ctrlattn.stability.robustness import sectors

LAG = control.tf([1], [1, -0.5], 1)


@every_case("temperature", [0.3, 1.0, 4.0])
def test_slopes_of_softmax(temperature):
    low, high = softmax_sector(temperature)
    rng = np.random.default_rng(0)
    v, w = rng.normal(scale=3, size=(2, 5000, 4))
    d_out = softmax(v / temperature) - softmax(w / temperature)
    inner, size = np.sum(d_out * (v - w), -1), np.sum(d_out**2, -1)
    assert np.all(inner * high >= size * (1 - 1e-12))  # <dp, dv> >= |dp|^2 / high
    assert low == 0.0
    p = np.array([0.5, 0.5, 0.0])
    assert_allclose(np.linalg.eigvalsh(np.diag(p) - np.outer(p, p)).max() / temperature, high, rtol=1e-12)


@pytest.mark.parametrize(
    ("norm", "size"),
    [
        (rms_norm, lambda v: np.sqrt(np.mean(v**2, -1))),
        (unit_norm, lambda v: np.linalg.norm(v, axis=-1)),
        (layer_norm, lambda v: np.std(v, axis=-1)),
    ],
    ids=["rms", "unit", "layer"],
)
@pytest.mark.parametrize("lowest", [0.2, 1.0])
def test_slopes_of_norms_on_a_set_that_is_not_convex(norm, size, lowest):
    _, high = normalizer_sector(lowest)
    rng = np.random.default_rng(1)
    v, w = rng.normal(scale=lowest * 2, size=(2, 200_000, 3))
    large = np.minimum(size(v), size(w)) >= lowest
    v, w = v[large], w[large]
    d_out = norm(v, eps=0.0) - norm(w, eps=0.0)
    ratio = np.sum(d_out * (v - w), -1) * high / np.maximum(np.sum(d_out**2, -1), 1e-300)
    assert ratio.min() >= 1 - 1e-9
    assert ratio.min() < 1.5  # and it is nearly met


def test_epsilon_makes_the_sector_global():
    _, high = normalizer_sector(0.0, eps=0.04)
    v, w = np.random.default_rng(2).normal(scale=0.3, size=(2, 50_000, 3))
    d_out = rms_norm(v, eps=0.04) - rms_norm(w, eps=0.04)
    assert np.all(np.sum(d_out * (v - w), -1) * high >= np.sum(d_out**2, -1) * (1 - 1e-12))


def test_limit_of_a_lag_is_its_gain_margin():
    assert_allclose(sector_limit(LAG), gain_margin(LAG), rtol=1e-8)
    assert not circle_criterion(LAG, 0.0, 1.5001).holds
    assert circle_criterion(LAG, -0.49, 1.49).holds  # |0.5 - s| < 1 for s in (-0.5, 1.5)
    assert_allclose(circle_criterion(LAG, -0.5, 1.5).gain, 1.0, rtol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_limit_is_minus_one_over_the_smallest_real_part(seed):
    rng = np.random.default_rng(seed)
    system = control.tf(rng.normal(size=3), np.poly(rng.uniform(-0.9, 0.9, 3)), 1)
    smallest = system(np.exp(1j * np.linspace(0, np.pi, 200_001))).real.min()
    assert_allclose(sector_limit(system), -1 / smallest, rtol=1e-6)
    assert sector_limit(system) <= crossings(system).gain_factor.min() * (1 + 1e-8)


def test_continuous_passive_loop_takes_any_gain():
    assert sector_limit(control.tf([1], [1, 1])) == np.inf
    assert_allclose(sector_limit(control.tf([1], [1, 2, 1])), 8.0, rtol=1e-6)  # min Re 1/(1 + iw)^2 = -1/8


def test_a_switching_gain_inside_the_sector_is_harmless_and_outside_not():
    rng = np.random.default_rng(3)
    loop = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5, 0.05))
    system = loop_transfer(loop, 0.6)
    limit = circle_criterion(system, 0.8, 1.2)
    assert limit.holds
    x = np.ones((3, 1))
    for gain in rng.choice([0.8, 1.2], 3000):
        x = (system.A - gain * system.B @ system.C) @ x
    assert np.abs(x).max() < 1e-12
    assert not circle_criterion(system, 0.8, 1.5).holds  # beyond the gain margin, 1.391


def test_several_channels_and_refusals():
    square = control.ss(0.5 * np.eye(2), np.eye(2), np.eye(2), 0, 1)
    assert_allclose(sector_limit(square), 1.5, rtol=1e-8)
    assert np.isnan(sector_limit(control.tf([1], [1, -2], 1)))
    with pytest.raises(ValueError, match="low <= high"):
        circle_criterion(LAG, 1.0, 0.0)
    with pytest.raises(ValueError, match="both 0"):
        normalizer_sector(0.0)
    with pytest.raises(ValueError, match="positive"):
        softmax_sector(0.0)


def test_describing_functions_by_their_closed_forms():
    a = np.array([0.5, 1.0, 3.0])
    assert_allclose(describing_function(lambda v: v**3, a), 0.75 * a**2, rtol=1e-12)
    assert_allclose(describing_function(np.sign, a), 4 / (np.pi * a), rtol=1e-6)
    inverse = np.minimum(1 / a, 1.0)
    saturation = 2 / np.pi * (np.arcsin(inverse) + inverse * np.sqrt(1 - inverse**2))
    assert_allclose(describing_function(lambda v: np.clip(v, -1, 1), a), saturation, rtol=1e-6)
    assert_allclose(describing_function(np.sign, a, omega=np.pi), 1 / a)
    with pytest.raises(ValueError, match="positive"):
        describing_function(np.sign, 0.0)


def test_the_norm_of_one_direction_is_a_relay():
    def norm(v):
        return rms_norm(np.asarray(v)[..., None], eps=0.0)[..., 0]

    assert_allclose(describing_function(norm, 2.0), 4 / (2 * np.pi), rtol=1e-6)


def test_two_cycles_are_exact():
    system = control.tf([2.5], [1, -0.5], 1)  # x' = 0.5 x - 2.5 tanh(x)
    (cycle,) = limit_cycles(system, np.tanh, np.geomspace(1e-2, 50, 100))
    assert cycle.exact
    x = np.array(0.3)
    for _ in range(2000):
        x = 0.5 * x - 2.5 * np.tanh(x)
    assert_allclose(abs(x), cycle.amplitude, rtol=1e-9)


def test_a_slow_cycle_is_predicted_to_a_few_per_cent():
    # Resonant, so that harmonics are small: x'' damped rotation pushed over the circle by the saturation.
    system = control.tf([0.35], np.poly(0.9 * np.exp([0.4j, -0.4j])).real, 1)
    (cycle,) = limit_cycles(system, np.tanh, np.geomspace(1e-2, 50, 200))
    assert not cycle.exact
    den = system.den[0][0]
    v = [0.1, 0.2]
    for _ in range(4000):
        v.append(-den[1] * v[-1] - den[2] * v[-2] - 0.35 * np.tanh(v[-2]))
    tail = np.array(v[-1000:])
    assert_allclose(np.sqrt(2) * np.std(tail), cycle.amplitude, rtol=0.05)
    turns = np.sum((tail[1:] > 0) & (tail[:-1] <= 0))
    assert_allclose(2 * np.pi * turns / len(tail), cycle.frequency, rtol=0.05)


def test_harmonic_balance_refuses_what_has_a_mean():
    with pytest.raises(ValueError, match="odd"):
        limit_cycles(LAG, np.exp, [0.1, 1.0])
    with pytest.raises(ValueError, match="ascending"):
        limit_cycles(LAG, np.tanh, [1.0, 0.1])


def test_a_double_integrator_has_no_sector_and_says_so():
    """Eigenvalues of this matrix cannot tell; its polynomial (z - 1)^2 can."""
    g = (np.array([[0.0, -1.0], [1.0, 2.0]]), np.array([[0.6], [1.2]]), np.array([[1.9, -0.09]]), np.zeros((1, 1)))
    assert np.isnan(sector_limit(g))
    assert not circle_criterion(g, 0.0, 0.1).holds


def test_two_integrators_in_continuous_time_that_rounding_hides_are_refused():
    """A is similar to 1/s^2; a radius below 1, which would be stable in discrete time, says nothing here."""
    t = np.array([[1.0, 2.0], [3.0, 7.0]])
    a = t @ np.array([[0.0, 1.0], [0.0, 0.0]]) @ np.linalg.inv(t)
    with pytest.raises(ArithmeticError, match="cannot be decided"):
        sector_limit((a, np.array([[0.6], [1.2]]), np.array([[1.9, -0.09]]), np.zeros((1, 1))), continuous=True)


@pytest.mark.slow
@every_case("factor, low", [(1.0, 0.0), (1e-6, 0.05), (1e6, 0.05)])
def test_limits_follow_the_unit_of_the_gain_and_a_dense_grid(factor, low):
    z = np.exp(1j * np.concatenate([np.geomspace(1e-6, 1e-2, 2_001), np.linspace(1e-2, np.pi, 8_001)]))[:, None, None]
    for seed in range(8):
        g = systems.siso("slow" if seed % 2 else "wide", 1 + seed % 5, "modal", seed)
        limit = sector_limit(systems.times(g, factor), low / factor)
        response = (g.C @ np.linalg.solve(z * np.eye(len(g.A)) - g.A, g.B) + g.D)[:, 0, 0]
        closed = np.linalg.eigvals(g.A - low / (1 + low * g.D[0, 0]) * g.B @ g.C)
        if np.max(np.abs(closed)) >= 1:
            assert np.isnan(limit)
            continue
        smallest = np.min(np.real(response / (1 + low * response)))
        expected = np.inf if smallest >= 0 else low - 1 / smallest
        assert_allclose(limit * factor, expected, rtol=1e-4)


def test_a_real_part_of_zero_allows_every_gain_whatever_its_unit():
    g = control.tf([1.0, 1.0], [1.0, -0.5], 1)  # Re G >= 0, and 0 at z = -1
    assert [sector_limit(systems.times(g, factor)) for factor in (1e-6, 1.0, 1e4)] == [np.inf] * 3


@every_case("amplitudes", [[1.0, 2.0, 3.0], [2.0, 3.0], [1.0, 2.0], [0.5, 1.7, 1.9, 2.6]])
@every_case("phi, gain", [(lambda v: v**3, 0.25), (lambda v: v / (1 + v**2), 5.0)])
def test_a_cycle_whose_amplitude_was_asked_for_is_found_once(phi, gain, amplitudes):
    """x' = -k phi(x) with phi(2) = 2/k: 2, -2, 2, ... The gain phi(A)/A rises through 1/k there, or falls."""
    (cycle,) = limit_cycles(control.tf([gain], [1.0, 0.0], 1), phi, amplitudes)
    assert_allclose([cycle.amplitude, cycle.frequency], [2.0, np.pi], rtol=1e-9)
    assert cycle.exact


def realized(system):
    return realization(system, "test")


@every_case("seed", range(4))
@every_case("continuous", [False, True])
def test_the_limit_of_several_channels_is_the_smallest_eigenvalue_of_the_hermitian_part(seed, continuous):
    """G is neither symmetric nor diagonal: a dense grid, and the same limit in other units of the channels' sum."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(3, 3))
    a = (
        a - (0.3 + np.linalg.eigvals(a).real.max()) * np.eye(3)
        if continuous
        else a * 0.8 / np.abs(np.linalg.eigvals(a)).max()
    )
    b, c, d = rng.normal(size=(3, 2)), rng.normal(size=(2, 3)), rng.normal(size=(2, 2))
    w = np.append(0.0, np.geomspace(1e-3, 1e3, 20_001)) if continuous else np.linspace(0, np.pi, 20_001)
    z = 1j * w if continuous else np.exp(1j * w)
    g = d + c @ np.linalg.solve(z[:, None, None] * np.eye(3) - a, np.broadcast_to(b, (len(w), 3, 2)))
    smallest = np.linalg.eigvalsh((g + g.conj().swapaxes(1, 2)) / 2).min()
    assert smallest < 0
    limit = sector_limit((a, b, c, d), continuous=continuous)
    assert_allclose(limit, -1 / smallest, rtol=1e-5)
    q = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    assert_allclose(sector_limit((a, b @ q, q.T @ c, q.T @ d @ q), continuous=continuous), limit, rtol=1e-9)


@pytest.mark.parametrize("continuous", [False, True])
def test_each_lowest_point_of_the_grid_is_zoomed_into_between_its_neighbours(continuous, monkeypatch):
    g = realized(systems.siso("continuous" if continuous else "wide", 5, "modal", 3))
    parts, asked = sectors._real_parts, []
    monkeypatch.setattr(sectors, "_real_parts", lambda g, w: (asked.append(w), parts(g, w))[1])
    best, size = sectors._smallest_real_part(g)
    grid, zooms = asked[0], asked[1:]
    values, largest = parts(g, grid)
    padded = np.concatenate([[np.inf], values, [np.inf]])
    dips = np.flatnonzero((padded[1:-1] <= padded[:-2]) & (padded[1:-1] <= padded[2:]))
    assert size == largest
    assert best == min(values.min(), *(parts(g, w)[0].min() for w in zooms))
    assert len(zooms) == sectors._ZOOMS * len(dips)
    for i, at in enumerate(dips):
        start, end = grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)]
        for w in zooms[sectors._ZOOMS * i : sectors._ZOOMS * (i + 1)]:
            if np.isfinite(end):
                assert_allclose(w, np.linspace(start, end, 17), rtol=1e-12)
            else:  # far enough that the response is its direct term
                assert_allclose(w, np.linspace(start, 1e3 * max(start, grid[0]), 17), rtol=1e-12)
            lowest = int(np.argmin(parts(g, w)[0]))
            start, end = w[max(lowest - 1, 0)], w[min(lowest + 1, 16)]


@pytest.mark.parametrize("factor", [1e-5, 1.0, 1e5])
@pytest.mark.parametrize("low", [0.0, 0.3])
def test_a_limit_that_the_peak_gain_contradicts_is_refused_in_any_unit(factor, low, monkeypatch):
    """The criterion is asked a millionth of the width below and above, and has to hold below alone."""
    system, criterion = systems.times(LAG, factor), circle_criterion
    limit, asked = sector_limit(system, low / factor), []
    for answers in ([True, True], [False, False], [False, True], [True, False]):
        given = iter(answers)

        def stub(system, low, high, *, continuous=False, given=given):
            asked.append((low, high))
            return criterion(system, low, high, continuous=continuous)._replace(holds=next(given))

        monkeypatch.setattr(sectors, "circle_criterion", stub)
        if answers == [True, False]:
            assert sector_limit(system, low / factor) == limit
        else:
            with pytest.raises(ArithmeticError, match="contradicts it"):
                sector_limit(system, low / factor)
    width = limit - low / factor
    assert_allclose(asked[-2:], [[low / factor, low / factor + k * width] for k in (1 - 1e-6, 1 + 1e-6)], rtol=1e-12)


def test_a_real_part_far_below_the_response_is_not_checked_by_a_peak_that_is_1_within_its_tolerance(monkeypatch):
    asked = []
    monkeypatch.setattr(sectors, "circle_criterion", lambda *given, **_: asked.append(given))
    static = (np.zeros((1, 1)), np.zeros((1, 2)), np.zeros((2, 1)), np.diag([10.0, -1e-6]))
    assert_allclose(sector_limit(static), 1e6, rtol=1e-9)  # times 10, the size of the response
    assert asked == []


def test_the_criterion_of_a_static_gain_is_the_sector_of_its_inverse():
    """|r G/(1 + c G)| < 1 for G = g: 1 + k g > 0 at both ends, k = low, high; half the width times the peak."""
    g = 0.5
    system = control.ss(np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)), g, 1)
    for low, high in ((-1.9, 5.0), (-2.1, 5.0), (0.0, 3.0), (-1.0, -0.5), (2.0, 2.0)):
        answer = circle_criterion(system, low, high)
        assert answer.holds == (1 + low * g > 0 and 1 + high * g > 0)
        assert_allclose(answer.gain, abs((high - low) / 2 * g / (1 + (high + low) / 2 * g)), rtol=1e-9)
    assert circle_criterion(LAG, 2.0, 2.0) == (False, np.inf, pytest.approx(np.nan, nan_ok=True))
    assert circle_criterion(LAG, 1.0, 1.0).gain == 0.0


def test_the_peak_of_the_criterion_is_where_it_says():
    answer = circle_criterion(LAG, 0.1, 0.7)
    g = 1 / (np.exp(1j * answer.frequency) - 0.5)
    assert_allclose(0.3 * abs(g / (1 + 0.4 * g)), answer.gain, rtol=1e-9)
    w = np.linspace(0, np.pi, 2001)
    g = 1 / (np.exp(1j * w) - 0.5)
    assert_allclose(np.max(0.3 * np.abs(g / (1 + 0.4 * g))), answer.gain, rtol=1e-6)


def test_sectors_in_closed_form_and_their_refusals():
    assert softmax_sector(0.25) == (0.0, 2.0)
    assert_allclose(normalizer_sector(3.0, eps=16.0), (0.0, 0.2))
    assert_allclose(normalizer_sector(0.0, eps=0.25), (0.0, 2.0))
    for lowest, eps in ((-1.0, 0.0), (1.0, -0.5), (0.0, 0.0)):
        with pytest.raises(InputError, match=f"not both 0.*got {lowest}, {eps}"):
            normalizer_sector(lowest, eps=eps)
    for given in ((np.inf, 0.0), (0.0, np.inf), (np.nan, 0.0)):
        with pytest.raises(InputError):
            normalizer_sector(given[0], eps=given[1])


def test_describing_functions_of_powers_and_of_a_bias():
    """cos^n has the first harmonic 2 (n choose (n-1)/2)/2^n for odd n and none for even n, whatever the amplitude."""
    a = np.array([0.5, 2.0])
    assert_allclose(describing_function(lambda v: v**5, a), 0.625 * a**4, rtol=1e-12)
    assert_allclose(describing_function(lambda v: v**2 + 1, a), 0, atol=1e-12)
    assert_allclose(describing_function(lambda v: 3j * v, 2.0), 3j, rtol=1e-12)
    for omega in (0.0, np.pi):
        assert_allclose(describing_function(lambda v: v**3 + 1, a, omega=omega), (a**3 + 1) / a)
    assert_allclose(describing_function(lambda v: v**3, a, omega=1.0), 0.75 * a**2, rtol=1e-12)
    assert isinstance(describing_function(np.tanh, 1.0), complex)
    for amplitude in (-1.0, np.inf, [1.0, 0.0]):
        with pytest.raises(InputError, match="positive and finite"):
            describing_function(np.tanh, amplitude)


def test_amplitudes_of_a_balance_are_at_least_two_positive_and_ascending():
    for amplitudes in ([1.0], [[1.0, 2.0]], [0.0, 1.0], [1.0, 1.0], [-1.0, 1.0], 3.0):
        with pytest.raises(InputError, match="ascending, at least two"):
            limit_cycles(LAG, np.tanh, amplitudes)
    with pytest.raises(InputError):
        limit_cycles(LAG, lambda v: 1j * v, [0.1, 1.0])


def test_a_continuous_relay_oscillates_where_the_phase_is_180_degrees():
    """1/(s (s + 1)^2) meets the axis at w = 1 with -1/2: 4/(pi A) = 2; in continuous time no balance is exact."""
    (cycle,) = limit_cycles(control.tf([1.0], [1, 2, 1, 0]), np.sign, np.geomspace(0.1, 10, 9))
    assert_allclose([cycle.amplitude, cycle.frequency], [2 / np.pi, 1.0], rtol=1e-6)
    assert not cycle.exact
