"""D-decomposition against the closed form of the printed law, poles on a grid, and the equations themselves."""

from fractions import Fraction

import control
import mpmath
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, Loop, gain_intervals, gain_region, rms_norm, stability_set
from ctrlattn.errors import InputError
from ctrlattn.stability import closed_loop_poles, gain_boundary, gain_lines, gain_radius, stability_interval
from ctrlattn.stability.modes import decomposition
from ctrlattn.stability.modes.critical import critical_modes
from ctrlattn.stability.modes.exact_gains import Polynomial

CHAIN = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5, 0.05))


EMA = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5, 0.05, form="ema"))


PAIRS = [("kp", "ki"), ("kp", "kd"), ("ki", "kd"), ("kd", "ki"), ("skip", "kp"), ("feedback", "ki")]


def inside(intervals, value):
    return any(low < value < high for low, high in intervals)


@every_case("alpha", [0.2, 0.5, 1.0])
@every_case("kd", [0.0, 0.05, 0.3])
def test_printed_law_by_its_closed_form(alpha, kd):
    # P + I/2 + 2D - 1 < alpha < 1 + P + I D/(1 + D): linear in I at fixed P.
    loop = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5, kd))
    for kp in (-0.3, 0.1, 0.8):
        high = 2 * (alpha + 1 - kp - 2 * kd)
        low = max(0.0, (alpha - 1 - kp) * (1 + kd) / kd if kd else (0.0 if alpha < 1 + kp else np.inf))
        intervals = gain_intervals(loop, ("kp", "ki"), alpha, kp)
        if low >= high:
            assert intervals == []
        else:
            assert_allclose(intervals, [(low, high)], atol=1e-9)


@pytest.mark.slow
@every_case("loop", [CHAIN, EMA], ids=["printed", "ema"])
@every_case("axes", PAIRS)
@every_case("spectrum", [0.5, 0.3 + 0.4j, [0.9, 0.4, 0.2 - 0.3j, 0.2 + 0.3j]], ids=["real", "complex", "4"])
def test_slices_are_the_region_that_poles_say(loop, axes, spectrum):
    grid = np.linspace(-1.5, 2.5, 81) + 1e-4
    for first in (-0.21, 0.47):
        slices = gain_intervals(loop, axes, spectrum, first)
        radius = gain_radius(loop, axes, spectrum, np.stack([np.full(len(grid), first), grid], axis=-1))
        clear = np.abs(radius - 1) > 1e-6
        told = np.array([inside(slices, g) for g in grid])
        assert np.array_equal(told[clear], radius[clear] < 1)
        for end in np.ravel(slices):
            if np.isfinite(end):
                at_end = gain_radius(loop, axes, spectrum, [first, end])
                assert_allclose(at_end, 1.0, atol=1e-5)  # a repeated root moves by the root of the rounding


def test_gains_are_those_of_the_loop():
    alpha = 0.3
    radius = gain_radius(CHAIN, ("kp", "ki"), alpha, [0.8, 0.5])
    assert_allclose(radius, np.abs(closed_loop_poles(PID(0.8, 0.5, 0.05), alpha)).max(), rtol=1e-9)
    low, high = stability_interval(PID(0.8, 0.5, 0.05))
    intervals = gain_intervals(CHAIN, ("kp", "feedback"), 1.0, 0.8)  # a = 1: the second gain is alpha itself
    assert_allclose(intervals, [(low, high)], rtol=1e-9)


def test_a_spectrum_is_the_intersection_of_its_modes():
    spectrum = np.array([0.1, 0.4, 0.8, 0.1 + 0.5j])
    together = gain_intervals(CHAIN, ("kp", "ki"), spectrum, 0.4)
    each = [gain_intervals(CHAIN, ("kp", "ki"), a, 0.4)[0] for a in spectrum]
    assert_allclose(together, [(max(e[0] for e in each), min(e[1] for e in each))], rtol=1e-9)


@every_case("a", [0.5, 0.3 + 0.4j])
@every_case("axes", PAIRS)
def test_the_curve_has_its_pole_where_it_says(a, axes):
    omega = np.array([0.3, 1.0, 2.2, -0.7])
    for w, gains in zip(omega, gain_boundary(EMA, axes, a, omega), strict=True):
        if np.all(np.isfinite(gains)):
            values = dict(zip(axes, gains, strict=True))
            pid = PID(**{k: values.get(k, getattr(EMA.controller, k)) for k in ("kp", "ki", "kd")}, form="ema")
            alpha = values.get("skip", 0.0) + values.get("feedback", 1.0) * a
            poles = closed_loop_poles(pid, alpha)
            assert_allclose(np.abs(poles - np.exp(1j * w)).min(), 0.0, atol=1e-9)


def test_lines_of_the_printed_law():
    # z = 1: I = 0. z = -1: P + I/2 + 2D = 1 + alpha.
    lines = gain_lines(CHAIN, ("kp", "ki"), 0.5)
    assert_allclose(lines[0], (0.0, 1.0, 0.0), atol=1e-12)
    assert_allclose(lines[1], np.array([1.0, 0.5, 1.4]) / np.hypot(1, 0.5), rtol=1e-12)
    assert gain_lines(CHAIN, ("kp", "ki"), 0.5 + 0.2j)[1:] == []  # a complex mode meets -1 at a point


@every_case("form", ["printed", "ema"])
@every_case("seed", range(5))
def test_lines_of_skip_and_feedback_hold_every_critical_mode(seed, form):
    """skip + a feedback = alpha(w) wherever alpha(w) = e^{iw} + C(e^{iw}) is real, not at z = 1 and -1 alone."""
    kp, ki, kd = np.random.default_rng(seed).uniform(0.05, 0.6, 3) * (1, 0.5, 0.3)
    controller = PID(kp, ki, kd, form=form)
    loop = Loop(CausalMean(), skip=0.9, feedback=-0.7, controller=controller)
    lines = np.array(gain_lines(loop, ("skip", "feedback"), 0.4))
    assert_allclose(lines[:, 1] / lines[:, 0], 0.4, rtol=1e-12)
    assert_allclose(np.sort(lines[:, 2] / lines[:, 0]), critical_modes(controller), rtol=1e-9)


@pytest.mark.parametrize("axes", [("feedback", "skip"), ("skip", "feedback")])
def test_a_mode_of_zero_leaves_the_lines_to_the_skip(axes):
    controller = PID(0.3, 0.2, 0.1)
    lines = np.array(gain_lines(Loop(CausalMean(), controller=controller), axes, 0.0))
    along = [axis == "skip" for axis in axes]
    assert_allclose(lines[:, :2], np.tile(along, (len(lines), 1)), atol=1e-15)
    assert_allclose(np.sort(lines[:, 2]), critical_modes(controller), rtol=1e-9)


def test_a_notch_that_two_systems_share_is_a_line_at_its_frequency():
    # Both gains multiply (z^2 - z + 1): a pole at e^{i pi/3} is moved by neither, or is there for no gain.
    notch = [control.tf(np.polymul([1.0, -1.0, 1.0], [1.0, zero]), [1.0, 0.0, 0.0, 0.0], 1) for zero in (0.2, -0.4)]
    loop = Loop(CausalMean(), skip=0.0, feedback=1.0)
    assert all(np.isfinite(line).all() for line in gain_lines(loop, notch, 0.5))
    assert len(gain_lines(loop, notch, 0.5)) == 2  # z = 1 and z = -1
    assert np.isnan(gain_boundary(loop, notch, 0.5, [np.pi / 3])).all()


def test_the_curve_of_a_slow_memory_goes_on_to_the_lowest_frequencies():
    """den(e^{iw}) is near (1e-3)^4 there, and still known to its last digits."""
    slow = control.tf([1e-14], np.poly([0.999, 0.999, 0.998, 0.997]), 1)
    loop = Loop(CausalMean(), skip=0.9, feedback=-0.7, controller=slow)
    omega = np.array([1e-5, 1e-4, 1e-3, 1e-2])
    curve = gain_boundary(loop, ("skip", slow), 0.5, omega)
    z = np.exp(1j * omega)
    with mpmath.workdps(60):
        c = np.array([complex(1e-14 / mpmath.polyval(slow.den[0][0].tolist(), mpmath.mpmathify(x))) for x in z])
    # z - skip + 0.35 + (1 + g) c = 0, its imaginary and its real part.
    g = -z.imag / c.imag - 1
    assert_allclose(curve, np.stack([(z + 0.35 + (1 + g) * c).real, g], axis=-1), rtol=1e-9)


def test_gains_whose_pole_the_state_matrix_has_not_are_refused(monkeypatch):
    exact = decomposition.mode_polynomials

    def wrong(over, a):
        fixed, terms = exact(over, a)
        return Polynomial([*fixed.re[:-1], fixed.re[-1] + Fraction(1, 1000)], fixed.im), terms

    monkeypatch.setattr(decomposition, "mode_polynomials", wrong)
    for call in (gain_lines, lambda *loop: gain_boundary(*loop, [1.0])):
        with pytest.raises(ArithmeticError, match="closed-loop matrix"):
            call(CHAIN, ("kp", "ki"), 0.5)


def test_a_boundary_is_of_one_mode():
    with pytest.raises(InputError, match="of one mode, got 2"):
        gain_boundary(CHAIN, ("kp", "ki"), [0.5, 0.2], [1.0])


def test_any_lti_controller_and_any_two_systems():
    notch = control.tf([1.0, -0.4], [1.0, 0.3], 1)
    lag = control.tf([0.2], [1.0, -0.7], 1)
    loop = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=control.tf([0.1], [1.0, -0.2], 1))
    for first in (-0.3, 0.2):
        for low, high in gain_intervals(loop, (notch, lag), 0.6, first):
            for end in (low, high):
                total = loop.controller.transfer_function() + first * notch + end * lag
                poles = control.feedback(total * control.tf([1], [1, -0.6], 1), 1).poles()
                assert_allclose(np.abs(np.abs(poles) - 1).min(), 0.0, atol=1e-6)


@pytest.mark.slow
def test_random_controllers_and_unions_agree_with_the_set_of_stable_alpha():
    # The second gain is alpha itself: another algorithm (Chebyshev series, real modes only) gives the same intervals.
    rng, unions = np.random.default_rng(19), 0
    controllers = [control.tf([1.5, -0.2, 0.6, -0.6], [1, -0.3, 0, 0], 1)]  # two intervals
    for _ in range(50):
        order = int(rng.integers(2, 5))
        controllers.append(control.tf(rng.normal(size=order + 1), np.poly(rng.uniform(-1.1, 1.1, order)), 1))
    for controller in controllers:
        expected = stability_set(controller)
        loop = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=controller)
        intervals = gain_intervals(loop, ("skip", "feedback"), 1.0, 0.0)
        assert len(intervals) == len(expected)
        assert_allclose(intervals, np.reshape(expected, np.shape(intervals)), atol=1e-6)
        unions += len(intervals) > 1
    assert unions > 0


def test_a_gain_that_moves_nothing():
    loop = Loop(CausalMean(), skip=0.5, controller=PID(0.0))
    assert gain_intervals(loop, ("kp", "feedback"), 0.0, 0.2) == [(-np.inf, np.inf)]
    assert gain_intervals(loop, ("kp", "feedback"), 0.0, 1.7) == []


def test_region_is_its_slices():
    first = np.linspace(0, 1, 5)
    region = gain_region(CHAIN, ("kp", "ki"), [0.5, 0.2], first)
    assert region == [gain_intervals(CHAIN, ("kp", "ki"), [0.5, 0.2], value) for value in first]


def test_refused():
    with pytest.raises(ValueError, match="two different gains"):
        gain_intervals(CHAIN, ("kp", "kp"), 0.5, 0.0)
    with pytest.raises(ValueError, match="one of"):
        gain_intervals(CHAIN, ("kp", "ema"), 0.5, 0.0)
    with pytest.raises(ValueError, match="finite"):
        gain_intervals(CHAIN, ("kp", "ki"), [np.nan], 0.0)
    with pytest.raises(ValueError, match="finite"):
        gain_intervals(CHAIN, ("kp", "ki"), 0.5, np.inf)
    with pytest.raises(ValueError, match="sequence of 2 different layers"):
        gain_intervals([CHAIN, CHAIN], ("kp", "ki"), 0.5, 0.0)
    with pytest.raises(ValueError, match="normalizer"):
        gain_intervals(Loop(CausalMean(), normalizer=rms_norm), ("kp", "ki"), 0.5, 0.0)
    with pytest.raises(ValueError, match="gains of a PID"):
        gain_intervals(
            Loop(CausalMean(), controller=control.tf([0.1], [1.0, -0.2], 1)), ("kp", "ki"), 0.5, 0.0
        )  # fmt: skip


def test_a_mode_and_its_conjugate_are_one_where_several_are_asked_for():
    a = 0.2 - 0.6j
    assert decomposition._plane_modes(CHAIN, ("kp", "ki"), [a, a.conjugate(), 0.3], "q").tolist() == [
        a.conjugate(),
        0.3,
    ]
    assert decomposition._plane_modes(CHAIN, ("kp", "ki"), [a, 0.3, 0.3], "q").tolist() == [a.conjugate(), 0.3]
    assert decomposition._plane_modes(CHAIN, ("kp", "ki"), [a, a.conjugate()], "q").tolist() == [a.conjugate()]
    assert decomposition._plane_modes(CHAIN, ("kp", "ki"), a, "q").tolist() == [a]


@every_case("scale", [1e-6, 1.0, 1e6])
def test_a_line_of_gains_does_not_depend_on_the_size_of_its_three_terms(scale):
    """p_0 + g_1 p_1 + g_2 p_2 = 0 with p = (-2, 3, 4) e^{0.7 i}, parallel but for rounding: 0.6 g_1 + 0.8 g_2 = 0.4."""
    p = scale * np.exp(0.7j) * np.array([-2.0, 3.0, 4.0])
    assert_allclose(decomposition._line(*p), (0.6, 0.8, 0.4), rtol=1e-12)
    assert decomposition._line(*(p * [1, 1, np.exp(1e-6j)])) is None


@every_case("scale", [1e-6, 1.0, 1e6])
def test_the_first_gain_that_a_line_knows_has_a_positive_sign(scale):
    for p, line in (
        ((2.0, -3.0, 4.0), (0.6, -0.8, 0.4)),
        ((2.0, 0.0, -5.0), (0.0, 1.0, 0.4)),
        ((2.0, -3.0, 0.0), (1.0, 0.0, 2 / 3)),
        ((0.0, -3.0, 4.0), (0.6, -0.8, 0.0)),
        ((2.0, 1e-13, -5.0), (0.0, 1.0, 0.4)),
        ((0.0, 1e-3, -5.0), (2e-4, -1.0, 0.0)),
    ):
        told = decomposition._line(*(scale * np.exp(1j * np.pi / 4) * np.array(p)))
        assert_allclose(told, line, atol=1e-7)
        assert not np.any(np.signbit(told) & (np.array(told) == 0))


def test_a_gain_of_zero_has_no_sign():
    """z - 1 + g_1 - 0.5i g_2 = 0 at z = 1."""
    loop = Loop(CausalMean(), skip=1.0, feedback=0.0)
    gains = gain_boundary(loop, ("kp", "feedback"), 0.5j, [0.0, 0.0])
    assert gains.tolist() == [[0.0, 0.0]] * 2
    assert not np.any(np.signbit(gains))


def test_the_gains_that_are_refused_are_named():
    """The pole 1 - 0.5 - kp at z = 0.25: kp = 0.25 has it and 0.7 has not."""
    over = decomposition.parts(Loop(CausalMean()), ["kp"])
    with pytest.raises(ArithmeticError, match=r"q: exact numbers give the gains \[0.7\] for a pole at 0.25"):
        decomposition._require_pole(over, 0.5, np.array([[0.25], [0.7]]), np.array([0.25, 0.25]), "q")
