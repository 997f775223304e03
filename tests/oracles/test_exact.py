"""The oracle against closed forms, published values, and itself by other ways: who judges is judged first."""

import math

import control
import exact
import numpy as np
import pytest
import systems
from mpmath import mp, mpf
from numpy.testing import assert_allclose


def test_margins_of_the_residual_integrator_by_hand():
    m = exact.margins(exact.line(control.tf([0.5], [1, -1], 1)))
    w = 2 * math.asin(0.25)  # |e^{iw} - 1| = .5
    assert_allclose((m.gain_margin, m.phase_crossover, m.gain_reduction), (4.0, math.pi, 0.0), rtol=1e-15)
    assert_allclose((m.gain_crossover, m.phase_margin), (w, math.degrees(math.pi / 2 - w / 2)), rtol=1e-14)
    assert_allclose((m.delay_margin, m.modulus_margin, m.modulus_frequency), ((math.pi - w) / 2 / w, 0.75, math.pi))


@pytest.mark.parametrize(
    ("num", "den", "dt", "gain", "phase", "modulus"),
    [
        ([2], [1, 3, 2, 0], 0.01, 2.9558, 32.398, 0.4295),  # python-control's own tests of sampled loops
        ([2], [1, 3, 2, 0], 0.001, 2.995, 32.59, 0.4322),
        ([25], [1, 10, 10, 10], 0.0, 3.6, 29.1104, None),
        ([25], [1, 10, 10, 10], 0.01, None, 28.5996, 0.39516),
        ([1], [1, 1, 0], 0.002, None, 51.782, 0.68063),
    ],
)
def test_published_margins(num, den, dt, gain, phase, modulus):
    loop = control.ss(control.tf(num, den))
    m = exact.margins(exact.line(control.sample_system(loop, dt, "zoh") if dt else loop))
    for value, published in ((m.gain_margin, gain), (m.phase_margin, phase), (m.modulus_margin, modulus)):
        assert published is None or value == pytest.approx(published, rel=3e-4)


@pytest.mark.parametrize("seed", range(6))
def test_a_margin_puts_a_pole_on_the_circle_and_no_smaller_one_does(seed):
    loop = systems.closed(systems.siso("wide", 5, "modal", seed), seed)
    m = exact.margins(exact.line(loop))

    def radius(factor):
        return np.abs(np.linalg.eigvals(loop.A - loop.B @ loop.C * factor / (1 + factor * loop.D))).max()

    assert m.stable
    if math.isfinite(m.gain_margin):
        assert radius(m.gain_margin) == pytest.approx(1, abs=1e-10)
        assert all(radius(k) < 1 for k in np.linspace(1, m.gain_margin, 40)[:-1])
    if math.isfinite(m.phase_margin):
        turn = np.exp(-1j * np.radians(m.phase_margin))
        assert min(abs(radius(turn) - 1), abs(radius(turn.conj()) - 1)) < 1e-10


def test_routh_counts_what_roots_say():
    rng = np.random.default_rng(0)
    for _ in range(60):
        p = rng.standard_normal(int(rng.integers(2, 9)))
        outside = int(np.sum(np.roots(p[::-1]).real > 0))
        assert exact.unstable_roots([mpf(float(c)) for c in p]) == (outside, False)


@pytest.mark.parametrize(
    ("p", "expected"),
    [((1, 0, 1), (0, True)), ((-1, 0, 1), (1, False)), ((4, 0, -5, 0, 1), (2, False)), ((0, 1), (0, True))],
    ids=["on the axis", "mirrored", "mirrored twice", "at zero"],
)
def test_roots_that_mirror_each_other(p, expected):
    assert exact.unstable_roots([mpf(c) for c in p]) == expected


@pytest.mark.parametrize("roots", [[1, 2, 3], [1, 1, 2], [1e-9, 1e9], [0.5, 0.5, 0.5], [-1, 4]])
def test_no_positive_root_hides(roots):
    with mp.workdps(exact.DIGITS):
        p = [mpf(1)]
        for root in roots:
            p = exact.times(p, [-mpf(root), mpf(1)])
        positive = [float(r) for r in exact.positive_roots(p)]
    assert_allclose(positive, sorted({r for r in roots if r > 0}), rtol=1e-15)


def test_norms_of_first_order():
    p, b = 0.9, 0.3
    g = control.tf([b], [1, -p], 1)
    assert exact.hinf(exact.line(g)) == pytest.approx(b / (1 - p), rel=1e-15)
    assert exact.h2(g) == pytest.approx(b / math.sqrt(1 - p * p), rel=1e-15)
    assert_allclose(exact.hankel(g), [b / (1 - p * p)], rtol=1e-15)
    assert exact.sector_limit(exact.line(g)) == pytest.approx((1 + p) / b, rel=1e-15)
    continuous = control.tf([1], [1, 2, 1])
    assert exact.h2(continuous) == pytest.approx(0.5, rel=1e-15)
    assert_allclose(exact.hankel(continuous), [(1 + math.sqrt(2)) / 4, (math.sqrt(2) - 1) / 4], rtol=1e-14)
    assert exact.h2(control.tf([1, 3], [1, 2])) == math.inf


def test_hankel_values_of_slow_clustered_poles_as_published():
    g = control.tf([1], np.poly([0.999, 0.9985, 0.998]), 1)
    assert exact.hankel(g)[0] == pytest.approx(2.17753e8, rel=1e-5)
    assert exact.h2(g) == pytest.approx(5.34704e6, rel=1e-5)


def test_intervals_of_stable_gains():
    with mp.workdps(exact.DIGITS):
        z, minus_one = [mpf(-0.5), mpf(1)], [mpf(-1), mpf(0)]  # z - .5 - k: |.5 + k| < 1
        pairs = exact.stable_gains(exact.to_s(z), exact.to_s(minus_one))
    assert_allclose(pairs, [(-1.5, 0.5)])


def test_nu_gap_of_first_order_plants():
    p, q = (exact.line(control.tf([1], [1, -a], 1)) for a in (0.5, 1.0))
    assert exact.nu_gap(p, q) == pytest.approx(1 / math.sqrt(5), rel=1e-12)
    flipped = exact.line(control.tf([-1], [1, -0.5], 1))
    assert exact.nu_gap(p, flipped) == 1.0  # the winding number differs


def test_nu_gap_of_delays_whose_roots_mirror_each_other():
    """(s + 1)^3 beside (s - 1)^3: Routh's table vanishes in places, and the winding number is that of a grid."""
    p, q = control.tf([0.15, -0.09, 0.015], [1, 0.75, 0, 0, 0], 1), control.tf([0.2, -0.06], [1, -0.55, 0, 0, 0], 1)
    z = np.exp(1j * np.linspace(-np.pi, np.pi, 4001))
    a, b = (np.polyval(g.num[0][0], z) / np.polyval(g.den[0][0], z) for g in (p, q))
    winding = np.sum(np.angle((1 + a.conj() * b)[1:] / (1 + a.conj() * b)[:-1])) / (2 * np.pi)
    assert winding == pytest.approx(0, abs=1e-9)
    apart = np.max(np.abs(a - b) / np.sqrt((1 + np.abs(a) ** 2) * (1 + np.abs(b) ** 2)))
    assert exact.nu_gap(exact.line(p), exact.line(q)) == pytest.approx(apart, rel=1e-5)


def test_loops_broken_one_at_a_time():
    loop = systems.state_space(np.diag([1.0, 0.5]), np.eye(2), 0.5 * np.eye(2), np.zeros((2, 2)), 1)
    assert [exact.margins(exact.broken(loop, i)).gain_margin for i in (0, 1)] == pytest.approx([4.0, 3.0])
