"""Norms against closed forms, published numbers, and a fine grid."""

import contextlib

import control
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, Loop, h2_norm, hinf_norm, loop_transfer, mode
from ctrlattn.errors import InputError
from ctrlattn.linear.realization import realization
from ctrlattn.linear.transfer import BoundaryTransfer
from ctrlattn.stability import peak_gain
from ctrlattn.stability.robustness import norms

# python-control's sysnorm_test.py, "random system generated in MATLAB", with MATLAB's norms.
A = [[-1.017041847539126, -0.224182952826418, 0.042538079149249],
     [-0.310374015319095, -0.516461581407780, -0.119195790221750],
     [-1.452723568727942, 1.7995860837102088, -1.491935830615152]]  # fmt: skip
B = [[0.312858596637428, -0.164879019209038], [-0.864879917324456, 0.627707287528727],
     [-0.030051296196269, 1.093265669039484]]  # fmt: skip
C = [[1.109273297614398, 0.077359091130425, -1.113500741486764],
     [-0.863652821988714, -1.214117043615409, -0.006849328103348]]  # fmt: skip
MATLAB = control.ss(A, B, C, np.zeros((2, 2)))
SAMPLED = control.sample_system(control.tf([1], [1, 1]), 0.1)


def grid_peak(system, points=20_001):
    values = system(np.exp(1j * np.linspace(0, np.pi, points))).reshape(system.noutputs, system.ninputs, points)
    return np.linalg.norm(values, 2, axis=(0, 1)).max()


def random_system(rng, n, m, radius=0.95):
    a = rng.normal(size=(n, n))
    a *= radius / np.abs(np.linalg.eigvals(a)).max()
    return control.ss(a, rng.normal(size=(n, m)), rng.normal(size=(m, n)), rng.normal(size=(m, m)), 1)


def test_published_numbers():
    assert_allclose(h2_norm(MATLAB), 2.237461821810309, rtol=1e-12)
    assert_allclose(hinf_norm(MATLAB), 4.276759162964244, rtol=1e-12)
    sampled = control.sample_system(MATLAB, 0.1)
    assert_allclose(h2_norm(sampled), 0.707434962289554, rtol=1e-11)
    assert_allclose(hinf_norm(sampled), 4.276759162964228, rtol=1e-11)
    assert_allclose(h2_norm(control.tf([1], [1, 1])), np.sqrt(0.5), rtol=1e-14)


def test_the_published_discrete_h2_norm_is_right_to_seven_digits():
    # 1/(s + 1) held and sampled at 0.1: (1 - a)/sqrt(1 - a^2), a = e^-0.1, which is sqrt(tanh(0.05)).
    assert_allclose(h2_norm(SAMPLED), np.sqrt(np.tanh(0.05)), rtol=1e-13)
    assert_allclose(h2_norm(SAMPLED), 0.223513699524858, rtol=2e-8)


def test_published_sampled_system():
    """MATLAB's documentation of norm: H2 1.2438, H-infinity 2.5488 to its tolerance of 1 %; the peak is 2.5721."""
    system = control.tf([1, -2.841, 2.875, -1.004], [1, -2.417, 2.003, -0.5488], 0.1)
    assert_allclose(h2_norm(system), 1.2438, atol=5e-5)
    peak = peak_gain(system)
    assert_allclose(peak.value, 2.5488, rtol=1e-2)
    assert_allclose(np.abs(system(np.exp(1j * peak.frequency))), peak.value, rtol=1e-9)  # so no less is the norm
    assert_allclose(peak.value, grid_peak(system), rtol=1e-6)


def test_h2_norm_of_the_proportional_loop_is_its_impulse_response():
    system = mode(Loop(CausalMean(), controller=PID(0.6)), 0.3)
    _, impulse = control.impulse_response(system, np.arange(400))
    assert_allclose(h2_norm(system), np.linalg.norm(impulse), rtol=1e-12)


@every_case("delays", [0, 1, 5])
def test_poles_at_zero_change_no_norm(delays):
    system = control.tf([1.0], np.poly([0.8] + [0.0] * delays), 1)
    assert_allclose(hinf_norm(system), 5.0, rtol=1e-9)
    assert_allclose(h2_norm(system), 1 / 0.6, rtol=1e-12)


def test_a_pure_delay_has_norm_one():
    assert_allclose(hinf_norm(control.tf([1], [1, 0, 0, 0], 1)), 1.0, rtol=1e-9)


@every_case("n", [1, 2, 7, 20])
@every_case("m", [1, 3])
def test_the_peak_is_that_of_a_grid_and_never_below_it(n, m):
    system = random_system(np.random.default_rng(10 * n + m), n, m)
    peak = peak_gain(system)
    on_grid = grid_peak(system, 301)
    assert on_grid <= peak.upper
    # Each one is the value at a frequency, so that a fine grid about it cannot be beaten either.
    assert_allclose(np.linalg.norm(np.atleast_2d(system(np.exp(1j * peak.frequency))), 2), peak.value, rtol=1e-10)
    near = peak.frequency + np.linspace(-1e-3, 1e-3, 61)
    assert max(np.linalg.norm(np.atleast_2d(system(np.exp(1j * w))), 2) for w in near) <= peak.upper


def test_a_needle_that_a_grid_misses():
    r, w = 1 - 1e-7, 1.2345678
    system = control.tf([1.0], np.real(np.poly([r * np.exp(1j * w), r * np.exp(-1j * w), 0.5])), 1)
    z = np.exp(1j * w)
    at_pole = 1 / abs((z - r * z) * (z - r * np.conj(z)) * (z - 0.5))
    assert_allclose(hinf_norm(system), at_pole, rtol=1e-5)
    assert grid_peak(system, 2001) < 0.01 * at_pole


def test_continuous_resonance_and_direct_term_at_infinity():
    zeta = 0.05
    assert_allclose(hinf_norm(control.tf([1], [1, 2 * zeta, 1])), 1 / (2 * zeta * np.sqrt(1 - zeta**2)), rtol=1e-9)
    peak = peak_gain(control.tf([2.0, 1.0], [1.0, 1.0]))
    assert (peak.value, peak.frequency) == (2.0, np.inf)


def test_time_scale_does_not_matter_in_continuous_time():
    for scale in (1e-6, 1.0, 1e6):
        system = control.ss(scale * np.array(A), scale * np.array(B), C, np.zeros((2, 2)))
        assert_allclose(hinf_norm(system), 4.276759162964244, rtol=1e-9)
        assert_allclose(h2_norm(system), np.sqrt(scale) * 2.237461821810309, rtol=1e-9)


def test_all_pass_is_flat():
    zero_pole = control.tf([-0.5, 1], [1, -0.5], 1)
    assert_allclose(hinf_norm(zero_pole), 1.0, rtol=1e-9)


def test_complex_mode_equals_its_real_form():
    a = 0.4 + 0.3j
    loop = Loop(CausalMean(), controller=PID(0.5, 0.2, 0.05))
    real = loop_transfer(Loop(CausalMean()), a, at="prediction")
    assert_allclose(h2_norm((np.array([[a]]), [[1.0]], [[1.0]], [[0.0]])), 1 / np.sqrt(1 - abs(a) ** 2), rtol=1e-12)
    assert_allclose(hinf_norm((np.array([[a]]), [[1.0]], [[1.0]], [[0.0]])), 1 / (1 - abs(a)), rtol=1e-9)
    closed = mode(loop, a)
    half = (closed.A[::2, ::2] + 1j * closed.A[1::2, ::2], closed.B[::2, :1], closed.C[:1, ::2], closed.D[:1, :1])
    assert_allclose(hinf_norm(half), hinf_norm(closed), rtol=1e-8)
    assert real.noutputs == 2


def test_unstable_marginal_static_and_zero():
    assert hinf_norm(control.tf([1], [1, -1], 1)) == np.inf
    assert h2_norm(control.tf([1], [1, -2], 1)) == np.inf
    assert hinf_norm(control.tf([1], [1, 0, 1])) == np.inf
    assert h2_norm(control.tf([1.0, 0], [1.0, 1.0])) == np.inf  # continuous, with a direct term
    static = control.ss([], [], [], [[3.0, 4.0]], 1)
    assert_allclose((hinf_norm(static), h2_norm(static)), (5.0, 5.0))
    zero = control.ss(0.5, 0.0, 1.0, 0.0, 1)
    assert (hinf_norm(zero), h2_norm(zero)) == (0.0, 0.0)


def test_a_transfer_matrix_needs_no_slycot():
    system = control.tf([[[1.0], [0.0]], [[0.5], [2.0]]], [[[1, -0.5], [1.0]], [[1, 0.2], [1.0]]], 1)
    assert_allclose(hinf_norm(system), grid_peak(system), rtol=1e-6)


def test_a_jordan_block_in_triangular_form_and_hidden_by_a_rotation():
    n = 64
    block = 0.5 * np.eye(n) + np.eye(n, k=1)
    ends = np.eye(n)[:, -1:], np.eye(n)[:1], [[0.0]]
    assert_allclose(hinf_norm((block, *ends)), 2.0**n, rtol=1e-9)  # 1/(z - 0.5)^64 at z = 1
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))
    with pytest.raises(ArithmeticError, match="cannot be decided"):  # eigvals finds poles outside the circle
        hinf_norm((q @ block @ q.T, q @ ends[0], ends[1] @ q.T, ends[2]))


@every_case("scale", [1e-6, 1.0, 1e6])
def test_units_of_the_states_do_not_matter(scale):
    system = random_system(np.random.default_rng(7), 6, 2)
    t = scale ** np.linspace(0, 1, 6)
    scaled = (system.A * t[:, None] / t, system.B * t[:, None], system.C / t, system.D)
    assert_allclose(hinf_norm(scaled), hinf_norm(system), rtol=1e-8)
    assert_allclose(h2_norm(scaled), h2_norm(system), rtol=1e-8)


def test_refused():
    with pytest.raises(ValueError, match="n <= 1000"):
        hinf_norm((0.5 * np.eye(1001), np.ones((1001, 1)), np.ones((1, 1001)), [[0.0]]))
    with pytest.raises(ValueError, match="improper"):
        hinf_norm(control.tf([1, 0, 0], [1, 0.5], 1))
    with pytest.raises(ValueError, match="must be finite"):
        h2_norm(([[np.nan]], [[1.0]], [[1.0]], [[0.0]]))
    with pytest.raises(TypeError, match="loop_transfer"):
        hinf_norm(Loop(CausalMean()))
    with pytest.raises(ValueError, match="sequence of 2 different layers"):
        hinf_norm([Loop(CausalMean())] * 2)
    with pytest.raises(ValueError, match="tol"):
        hinf_norm(MATLAB, tol=0.0)
    with pytest.raises(TypeError, match="matrices"):
        hinf_norm(np.eye(2))
    with pytest.raises(ValueError, match=r"\(n, n\)"):
        hinf_norm((np.eye(2), np.ones((3, 1)), np.ones((1, 2)), 0.0))


def test_slicot_ab13dd():
    """Three lightly damped oscillators: norm 0.5000000000D+06 at 0.1414213562D+01 (SLICOT, example of AB13DD)."""
    blocks = [[[0, 1], [-0.5, -2e-4]], [[0, 1], [-1, -2e-5]], [[0, 1], [-2, -2e-6]]]
    matrix = np.zeros((6, 6))
    for i, block in enumerate(blocks):
        matrix[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = block
    row = np.array([[1.0, 0, 1, 0, 1, 0]])
    peak = peak_gain((matrix, row.T, row, np.zeros((1, 1))), continuous=True)
    assert_allclose([peak.value, peak.frequency], [0.5e6, 1.414213562], rtol=1e-9)


def any_system(seed):
    """Random, near z = 1, triangular with clustered poles, or with entries of one decimal; real or complex."""
    rng = np.random.default_rng(seed)
    n, m, p = (int(k) for k in rng.integers(1, [9, 4, 4]))
    continuous, kind = bool(seed % 2), (seed // 2) % 5
    a = {
        0: lambda: rng.normal(size=(n, n)),
        1: lambda: np.eye(n) + 0.01 * rng.normal(size=(n, n)),
        2: lambda: np.diag(rng.uniform(0.8, 0.999, n)) + np.triu(0.1 * rng.normal(size=(n, n)), 1),
        3: lambda: rng.integers(-9, 10, size=(n, n)) / 10,
        4: lambda: rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n)),
    }[kind]()
    poles = np.linalg.eigvals(a)
    if continuous:
        a = a - (poles.real.max() + 10 ** rng.uniform(-3, 0)) * np.eye(n)
    elif kind != 2:
        a = a * (1 - 10 ** rng.uniform(-4, -0.5)) / max(np.abs(poles).max(), 1e-3)
    d = rng.normal(size=(p, m)) * rng.integers(2)
    return (a, rng.normal(size=(n, m)), rng.normal(size=(p, n)), d), continuous


def in_other_units(system, rng, rate):
    """(gain, system): each in units of 1e-6 to 1e6, with the states in another order."""
    a, b, c, d = system
    gain, between = 10.0 ** rng.uniform(-6, 6, 2)
    t, order = 10.0 ** rng.uniform(-6, 6, len(a)), rng.permutation(len(a))
    a, b, c = rate * a * t[:, None] / t, rate * b * t[:, None] * between, c / t * (gain / between)
    return gain, (a[np.ix_(order, order)], b[order], c[:, order], gain * d)


@every_case("seed", range(100))
def test_units_and_the_order_of_states_change_nothing(seed):
    system, continuous = any_system(seed)
    rng = np.random.default_rng(seed)
    rate = 10.0 ** rng.uniform(-6, 6) if continuous else 1.0
    gain, other = in_other_units(system, rng, rate)
    peak, again = peak_gain(system, continuous=continuous), peak_gain(other, continuous=continuous)
    assert_allclose(again.value, gain * peak.value, rtol=4e-9)
    at = 1j * again.frequency if continuous else np.exp(1j * again.frequency)
    if np.isfinite(at):
        a, b, c, d = other
        there = d + c @ np.linalg.solve(at * np.eye(len(a)) - a, b)
        assert_allclose(np.linalg.norm(there, 2), again.value, rtol=1e-7)


@every_case("seed", range(100))
def test_no_sample_lies_above_the_upper_bound(seed):
    (a, b, c, d), continuous = any_system(seed)
    peak = peak_gain((a, b, c, d), continuous=continuous)
    poles = np.linalg.eigvals(a)
    centres, width = (poles.imag, -poles.real) if continuous else (np.angle(poles), 1 - np.abs(poles))
    w = (centres + np.multiply.outer(np.linspace(-3, 3, 201), width)).ravel()
    z = 1j * w if continuous else np.exp(1j * w)
    sampled = np.linalg.norm(d + c @ np.linalg.solve(z[:, None, None] * np.eye(len(a)) - a, b), 2, axis=(1, 2))
    assert np.max(sampled) <= peak.upper * (1 + 1e-9)
    assert peak.value <= peak.upper <= peak.value * (1 + 1e-6)
    assert peak.residual < 1e-8


def test_a_peak_in_small_and_large_units():
    """|z^2 - 1.5|/|z^2 - 0.5 z| = |z - 1.5/z|/|z - 0.5|, sampled in 2e6 points."""
    w = np.linspace(1.0, 1.03, 2_000_001)
    z = np.exp(1j * w)
    top = np.max(np.abs((z - 1.5 / z) / (z - 0.5)))
    for unit in (1e-140, 1e-5, 1.0, 1e100):
        peak = peak_gain(control.tf([unit, 0, -1.5 * unit], [1, -0.5, 0], 1))
        assert_allclose(peak.value, unit * top, rtol=3e-9)


@every_case("roots", [[1.0, 0.7], [-1.0, 0.7], [1.0, 0.9, 0.8, -0.5], [0.6 + 0.8j, 0.6 - 0.8j, 0.5]])
def test_a_pole_on_the_circle_makes_every_norm_infinite(roots):
    system = control.tf([0.1], np.real(np.poly(roots)), 1)
    assert peak_gain(system)[::2] == (np.inf, np.inf)
    assert h2_norm(system) == np.inf
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(len(roots),) * 2))[0]
    matrix = turned @ control.ss(system).A @ turned.T
    assert hinf_norm((matrix, turned[:, :1], turned[:1], [[0.0]])) == np.inf


def hidden_chain(n, coupling):
    """1/(z - 0.5)^n coupling^(n - 1), turned: at z = 1 2 (2 coupling)^(n - 1)."""
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]
    block = 0.5 * np.eye(n) + coupling * np.eye(n, k=1)
    return (q @ block @ q.T, q[:, -1:], q.T[:1], [[0.0]]), 2 * (2 * coupling) ** (n - 1)


def test_the_residual_bounds_what_rounding_did():
    assert peak_gain(([[0.5]], [[1.0]], [[1.0]], [[0.0]])).residual == 4 * 2.0**-52
    for n, coupling in ((4, 4), (6, 4), (8, 3), (8, 4)):
        system, exact = hidden_chain(n, coupling)
        peak = peak_gain(system)
        assert 1e-16 < abs(peak.value / exact - 1) <= peak.residual  # the rotation alone rounds A
        assert peak.upper >= exact
        assert peak.residual < 1e7 * abs(peak.value / exact - 1)


@every_case("n, coupling", [(8, 8), (10, 4), (16, 2)])
def test_a_peak_whose_digits_are_lost_is_refused(n, coupling):
    with pytest.raises(ArithmeticError, match="the peak gain is lost"):
        hinf_norm(hidden_chain(n, coupling)[0])
    with pytest.raises(ArithmeticError, match=r"a gramian is lost|h2_norm"):
        h2_norm(hidden_chain(n, coupling)[0])


def test_three_states_within_rounding_of_minus_1_come_back_at_once():
    for seed in range(20):
        t = np.random.default_rng(seed).normal(size=(3, 3))
        a = t @ np.diag([-1 + 2.0**-53 * (seed % 4), 0.5, -0.3]) @ np.linalg.inv(t)
        system = (a, np.ones((3, 1)), np.ones((1, 3)), [[0.0]])
        assert hinf_norm(system) == h2_norm(system) == np.inf


@every_case("seed", range(150))
def test_entries_of_any_size_give_numbers_or_refusals(seed):
    """No warning, no raw error: entries from 1e-300 to 1e118, zeros, and what overflows."""
    rng = np.random.default_rng(seed)
    n, m, p = (int(k) for k in rng.integers([0, 1, 1], [6, 3, 3]))

    def matrix(*shape):
        sizes = (0.0, 10.0 ** rng.uniform(-150, 118, shape), rng.integers(0, 2, shape), 10.0 ** rng.choice([-300, 118]))
        return rng.normal(size=shape) * sizes[int(rng.integers(4))]

    a, b, c, d = matrix(n, n), matrix(n, m), matrix(p, n), matrix(p, m)
    radius = np.max(np.abs(np.linalg.eigvals(a)), initial=0.0) if n else 0.0
    continuous = bool(seed % 2)
    if continuous:
        a = a - 1.1 * radius * np.eye(n)
    elif radius > 0:
        a = a * (0.9 / radius)
    for norm in (hinf_norm, h2_norm):
        with contextlib.suppress(InputError, ArithmeticError):
            assert norm((a, b, c, d), continuous=continuous) >= 0


@pytest.mark.parametrize("alone", ["hamiltonian_crossings", "pencil_crossings"])
@pytest.mark.parametrize("seed", range(4, 16))
def test_each_level_test_alone_leads_from_a_poor_grid_to_the_peak(alone, seed, monkeypatch):
    system, continuous = any_system(seed)
    peak = peak_gain(system, continuous=continuous)
    other = {"hamiltonian_crossings", "pencil_crossings"} - {alone}
    monkeypatch.setattr(norms, "first_look", lambda *_: None)
    monkeypatch.setattr(norms, other.pop(), lambda g, level: None)
    # Symmetric bands about the ends have one edge only: there the grid itself is the test.
    monkeypatch.setattr(norms, "pole_grid", lambda g, poles: np.array([0.0, 0.3, np.inf if g.continuous else np.pi]))
    monkeypatch.setattr(norms, "CLIMBS", 0)
    assert_allclose(peak_gain(system, continuous=continuous).value, peak.value, rtol=4e-9)


def test_h2_of_two_ends_that_differ_is_refused(monkeypatch):
    factors = norms.gramian_factors

    def one_wrong(g, poles):
        reached, seen = factors(g, poles)
        return reached * (1 + 1e-5), seen

    monkeypatch.setattr(norms, "gramian_factors", one_wrong)
    with pytest.raises(ArithmeticError, match="from the inputs"):
        h2_norm(MATLAB)


def test_a_response_that_is_not_the_second_one_is_refused(monkeypatch):
    gains = norms.largest_gains
    monkeypatch.setattr(norms, "first_look", lambda *_: None)
    monkeypatch.setattr(norms, "largest_gains", lambda responses: 1.001 * gains(responses))
    with pytest.raises(ArithmeticError, match="the peak gain is lost"):
        hinf_norm(MATLAB)


def test_above_a_level_the_highest_crossing_or_middle_counts():
    """Crossings as given: the middle of the last two is the resonance, and must not be missed."""
    resonance = control.ss([[0.0, 1.0], [-4.0, -0.1]], [[0.0], [1.0]], [[1.0, 0.0]], 0)
    g = realization(resonance, "test")
    response = BoundaryTransfer(*g[:4], g.continuous)
    crossings = np.array([0.1, 0.6, 1.0, 3.0])
    value, where = norms._peak_above(g, response, 1.0, lambda *_: crossings)
    assert where == 2.0
    assert_allclose(value, abs(1 / (0.1j * 2)), rtol=1e-12)
    assert norms._peak_above(g, response, 1.0, lambda *_: None) == (0.0, 0.0)
    assert norms._peak_above(g, response, 1.0, lambda *_: np.array([2.0]))[1] == 2.0


@every_case("damping", [0.02, 0.1, 0.4])
def test_the_climb_ends_at_the_top_between_two_samples(damping):
    """|1/(s^2 + 2 z s + 1)| is largest at sqrt(1 - 2 z^2), with 1/(2 z sqrt(1 - z^2))."""
    g = realization(control.tf([1], [1, 2 * damping, 1]), "test")
    w = np.sqrt(1 - 2 * damping**2) + damping * np.linspace(-1.3, 1.7, 8)
    value, where = norms.climbed(BoundaryTransfer(*g[:4], g.continuous), w)
    assert_allclose(value, 1 / (2 * damping * np.sqrt(1 - damping**2)), rtol=1e-9)
    assert_allclose(where, np.sqrt(1 - 2 * damping**2), rtol=1e-4)


@pytest.mark.parametrize(("continuous", "asked"), [(True, True), (False, False)])
def test_a_climbed_peak_of_many_states_is_confirmed_twice_in_continuous_time(monkeypatch, continuous, asked):
    """Pairs of poles many decades apart hid a higher peak from one eigenvalue problem alone."""
    pole = -1.0 if continuous else 0.5
    a = np.diag(np.linspace(0.9, 1.1, 14)) * pole
    calls = []
    pencil = norms.pencil_crossings
    monkeypatch.setattr(norms, "pencil_crossings", lambda *given: calls.append(1) or pencil(*given))
    peak = peak_gain((a, np.eye(14)[:, :1], np.eye(14)[:1], [[0.0]]), continuous=continuous)
    assert peak.value == pytest.approx(1 / abs(a[0, 0]) if continuous else 1 / (1 - a[0, 0]))
    assert bool(calls) == asked


def crowded(rng, slow, damping):
    """Two clusters of three light pairs at slow frequencies, two fast pairs, and the highest of a dense grid."""
    pairs = [
        (base * (1 + damping * rng.uniform(-1.5, 1.5)), damping * rng.uniform(0.5, 1.5), damping)
        for base in (slow, slow * rng.uniform(3, 30))
        for _ in range(3)
    ]
    pairs += [(10 ** rng.uniform(1, 5), light := 10 ** rng.uniform(-6, -0.3), light) for _ in range(2)]
    n = 2 * len(pairs)
    a, b, c = np.zeros((n, n)), np.zeros((n, 1)), np.zeros((1, n))
    for i, (w, light, share) in enumerate(pairs):
        a[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[-light * w, w], [-w, -light * w]]
        b[2 * i, 0], c[0, 2 * i] = np.sqrt(w), share * np.sqrt(w)
    grid = 1j * np.concatenate([w * (1 + light * np.linspace(-3, 3, 1501)) for w, light, _ in pairs[:6]])
    dense = sum(share * w * (grid + light * w) / ((grid + light * w) ** 2 + w * w) for w, light, share in pairs)
    return (a, b, c, np.zeros((1, 1))), float(np.abs(dense).max())


@pytest.mark.parametrize("slow", [1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2])
def test_no_resonance_among_fast_and_slow_ones_is_missed_in_silence(slow):
    """`upper` was up to 4e-3 too small where clusters were narrower than the last digits of A."""
    rng = np.random.default_rng(9)
    answered = 0
    for damping in 10 ** rng.uniform(-8, -2, 40):
        system, highest = crowded(rng, slow, damping)
        with contextlib.suppress(ArithmeticError):  # said, not wrong
            peak = peak_gain(system, continuous=True)
            assert peak.upper * (1 + 1e-9) >= highest
            answered += 1
    assert answered >= {1e-2: 30, 1e-4: 12}.get(slow, 0)


@pytest.mark.parametrize("continuous", [True, False])
def test_a_cluster_of_light_resonances_alone_is_answered(continuous):
    """Nothing else has larger entries: rounding resolves the band."""
    damping = 1e-6
    a = np.zeros((6, 6))
    for i, w in enumerate((1.0, 1 + damping, 1 + 2 * damping)):
        a[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[-damping, w], [-w, -damping]]
    b = np.array([[1.0, 0, 1, 0, 1, 0]]).T
    if not continuous:
        poles = np.array([1.0, 1 + damping, 1 + 2 * damping])
        for i, w in enumerate(poles):
            turn = np.array([[np.cos(w), np.sin(w)], [-np.sin(w), np.cos(w)]])
            a[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = (1 - damping) * turn
    peak = peak_gain((a, b, b.T, [[0.0]]), continuous=continuous)
    w = 1 + damping * np.linspace(-5, 7, 20001)
    z = 1j * w if continuous else np.exp(1j * w)
    dense = np.abs((b.T @ np.linalg.solve(z[:, None, None] * np.eye(6) - a, b))[:, 0, 0])
    assert peak.upper * (1 + 1e-8) >= dense.max() >= peak.value * (1 - 1e-6)


@every_case("apart, distance, refused", [(190, 1e-12, True), (210, 1e-12, False), (190, 1e-8, False)])
def test_where_a_crowd_is_too_narrow(apart, distance, refused):
    """Two resonances share a band within 100 distances of both; 100 last digits of |A| = 1e3 are 2e-11."""
    g = realization((np.diag([1e3, 0.0]), np.eye(2), np.eye(2), np.zeros((2, 2))), "peak", continuous=True)
    up = np.array([1.0, 1.0 + apart * distance]) * 1j - distance
    poles = np.concatenate([up, up.conj(), [-distance, -2 * distance]])  # two real ones peak at w = 0, on the grid
    with pytest.raises(ArithmeticError, match="does not resolve") if refused else contextlib.nullcontext():
        norms._require_resolved(g, poles)


@every_case("function", [hinf_norm, peak_gain])
@every_case("tol", [0.9e-12, 1.0, 1.5, -0.5])
def test_a_tolerance_is_a_share_below_one(function, tol):
    with pytest.raises(InputError, match="tol must lie in"):
        function(control.tf([1], [1, 0.5], 1), tol=tol)
    assert function(control.tf([1], [1, 0.5], 1), tol=0.99) is not None


@pytest.mark.parametrize("wide", ["left", "right"])
def test_a_climb_narrows_about_the_vertex_of_the_three_best(wide):
    """Five points over an eighth of the wider step, then of that, about the parabola's top, inside the neighbours."""
    g = realization(control.tf([1], [1, 0.3, 1]), "test")
    w = np.array([0.1, 0.5, 0.95, 1.05, 2.0] if wide == "right" else [0.1, 0.4, 0.9, 0.95, 1.3])
    response, asked = BoundaryTransfer(*g[:4], g.continuous), []

    class Watched:
        def at(self, points):
            asked.append(points)
            return response.at(points)

    value, where = norms.climbed(Watched(), w)
    at = int(np.argmax(np.abs(1 / ((1j * w) ** 2 + 0.3j * w + 1))))
    assert 0 < at < 4
    assert_allclose(asked[0], w)
    assert len(asked) == 1 + norms.CLIMBS
    top, step, seen = w[at], max(w[at] - w[at - 1], w[at + 1] - w[at]), []
    for points in asked[1:]:
        step /= 8
        assert_allclose(points, np.clip(top + step * np.array([-1, -0.5, 0, 0.5, 1]), w[at - 1], w[at + 1]), rtol=1e-12)
        gains = np.abs(1 / ((1j * points) ** 2 + 0.3j * points + 1))
        seen += gains.tolist()
        i = min(max(int(np.argmax(gains)), 1), 3)
        a, b, _ = np.polyfit(points[i - 1 : i + 2] - points[i], gains[i - 1 : i + 2], 2)
        top = points[i] - b / (2 * a) if a < 0 else points[i]
    assert_allclose(value, max(seen), rtol=1e-14)
    assert_allclose(np.abs(1 / ((1j * where) ** 2 + 0.3j * where + 1)), value, rtol=1e-12)


def test_a_grid_whose_best_point_is_an_end_is_not_climbed():
    g = realization(control.tf([1], [1, 1]), "test")
    response = BoundaryTransfer(*g[:4], g.continuous)
    assert norms.climbed(response, np.array([0.0, 0.5, 2.0]))[1] == 0.0
    high = realization(control.tf([1, 0], [1, 1]), "test")
    response = BoundaryTransfer(*high[:4], high.continuous)
    assert norms.climbed(response, np.array([0.0, 0.5, 2.0]))[1] == 2.0
    assert norms.climbed(response, np.array([0.0, 0.5, 2.0, np.inf]))[1] == np.inf
    band = realization(control.tf([1, 0], [1, 1, 1]), "test")  # the best but one before infinity stays as it is
    value, where = norms.climbed(BoundaryTransfer(*band[:4], band.continuous), np.array([0.0, 1.1, np.inf]))
    assert where == 1.1
    assert_allclose(value, abs(1.1j / (1 - 1.21 + 1.1j)), rtol=1e-12)


@pytest.mark.parametrize("tol", [1e-2, 1e-5])
def test_the_upper_bound_is_two_tolerances_above_the_value(tol):
    for system in (MATLAB, control.tf([1], [1, 0.5], 1), control.tf([2.0, 1.0], [1.0, 1.0])):
        peak = peak_gain(system, tol=tol)
        assert_allclose(peak.upper / peak.value - 1, 2 * tol, rtol=1e-6)
        assert_allclose(peak.value, hinf_norm(system, tol=1e-11), rtol=2 * tol)


@pytest.mark.parametrize("continuous", [False, True])
def test_the_residual_of_one_state_is_what_rounding_of_its_pole_does(continuous):
    """4 eps |c| (|z - o| + |a - o|) |b| / |z - a|^2 over |c b/(z - a)|, o the origin: 0, or over depth z = 1."""
    a, b, c, w = -0.6, 3.0, 0.5, 0.7
    g = realization(
        (np.array([[a]]), np.array([[b]]), np.array([[c]]), np.zeros((1, 1))), "test", continuous=continuous
    )
    z = 1j * w if continuous else np.exp(1j * w)
    value = abs(c * b / (z - a))
    origin = 0.0 if continuous else 1.0
    expected = 4 * 2.0**-52 * abs(c) * (abs(z - origin) + abs(a - origin)) * abs(b) / abs(z - a) ** 2 / value
    assert_allclose(norms._residual(g, w, value), expected, rtol=1e-12)
    for wrong in (1 + 1e-7, 1 - 1e-7):  # a value that the second way contradicts
        with pytest.raises(ArithmeticError, match="changes it by a share of 1e-07"):
            norms._residual(g, w, wrong * value)
    assert norms._residual(g, w, value * (1 + 1e-9)) > 0
    with pytest.raises(ArithmeticError, match=r"response at 0\.7 .* is not finite"):
        norms._residual(g, w, np.inf)
    static = realization((np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0)), [[2.0]]), "test", continuous=continuous)
    assert norms._residual(static, w, 2.0) == 0.0
    assert norms._residual(g, np.inf, 1.0) == 0.0


def test_a_response_at_a_pole_is_refused():
    g = realization((np.zeros((1, 1)), np.ones((1, 1)), np.ones((1, 1)), np.zeros((1, 1))), "test", continuous=True)
    with pytest.raises(ArithmeticError, match="is not finite: a pole is there"):
        norms._residual(g, 0.0, 1.0)


def test_the_highest_of_frequencies_of_either_sign():
    """A real system has the same gain at -w, and the answer is w; a complex one has its own on each side."""
    real = realization(control.tf([1], [1, 0.2, 1]), "test")
    response = BoundaryTransfer(*real[:4], real.continuous)
    value, where = norms._peak_at(real, response, np.array([-1.0, 0.3, 3.0]))
    assert where == 1.0
    assert_allclose(value, 5.0, rtol=1e-12)
    one = realization(
        (np.array([[-0.1 - 1j]]), np.ones((1, 1)), np.ones((1, 1)), np.zeros((1, 1))), "test", continuous=True
    )
    response = BoundaryTransfer(*one[:4], one.continuous)
    value, where = norms._peak_at(one, response, np.array([-1.0, 1.0]))
    assert where == -1.0
    assert_allclose(value, 10.0, rtol=1e-12)
    assert norms._peak_at(real, response, np.zeros(0)) == (0.0, 0.0)


def test_h2_of_direct_terms_and_several_channels():
    """Over depth ||G||^2 = ||D||^2 + sum ||C A^k B||^2; a direct term in continuous time has none."""
    rng = np.random.default_rng(2)
    a, b, c, d = (
        0.4 * np.diag([1.0, -1.5, 2.0]),
        rng.normal(size=(3, 2)),
        rng.normal(size=(4, 3)),
        rng.normal(size=(4, 2)),
    )
    total = np.linalg.norm(d) ** 2 + sum(np.linalg.norm(c @ np.linalg.matrix_power(a, k) @ b) ** 2 for k in range(300))
    assert_allclose(h2_norm((a, b, c, d)), np.sqrt(total), rtol=1e-12)
    assert_allclose(h2_norm((a, b, 2 * c, 2 * d)), 2 * np.sqrt(total), rtol=1e-12)
    assert h2_norm((a - np.eye(3), b, c, d), continuous=True) == np.inf
    # Of modes: sum over i, j of (C_i C_j)(B_i B_j)/(p_i + p_j).
    p = np.array([0.5, 1.0, 2.0])
    gram = (c.T @ c) * (b @ b.T) / (p[:, None] + p)
    assert_allclose(h2_norm((-np.diag(p), b, c, 0 * d), continuous=True), np.sqrt(gram.sum()), rtol=1e-12)


def test_a_peak_of_nothing_is_zero_and_of_the_unstable_infinite():
    assert peak_gain((0.5 * np.eye(2), np.eye(2), np.zeros((1, 2)), np.zeros((1, 2)))) == (0.0, 0.0, 0.0, 0.0)
    unstable = peak_gain(control.tf([1], [1, -1.5], 1))
    assert (unstable.value, unstable.upper) == (np.inf, np.inf)
    assert np.isnan(unstable.frequency)
    with pytest.raises(InputError, match="n <= 1000"):
        norms.require_pencil(
            realization((np.zeros((1001, 1001)), np.zeros((1001, 1)), np.zeros((1, 1001)), [[0.0]]), "t"), "t"
        )
