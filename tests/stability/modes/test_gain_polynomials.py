"""The closed-loop polynomial in its gains: against the poles of each loop, and against differences."""

from fractions import Fraction

import control
import mpmath
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import PID, CausalMean, InputError, Loop, pole_sensitivity
from ctrlattn.stability import closed_loop_poles, root_locus
from ctrlattn.stability.modes import gain_polynomials
from ctrlattn.stability.modes.exact_gains import Polynomial

CHAIN = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5, 0.05))


EMA = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5, 0.05, form="ema"))


@every_case("loop", [CHAIN, EMA], ids=["printed", "ema"])
@every_case("a", [0.5, 0.3 + 0.4j])
def test_pole_sensitivity_against_differences(loop, a):
    gains = ("kp", "ki", "kd", "skip", "feedback")
    sensitivity = pole_sensitivity(loop, a, gains)
    step = 1e-6
    now = np.array([0.8, 0.5, 0.05, 0.0, 1.0])
    for i in range(len(gains)):
        ends = []
        for sign in (1, -1):
            g = now + sign * step * np.eye(5)[i]
            poles = closed_loop_poles(PID(*g[:3], form=loop.controller.form), g[3] + g[4] * a)
            ends.append(poles[np.argmin(np.abs(poles[:, None] - sensitivity.poles[None, :]), axis=0)])
        assert_allclose(sensitivity.derivative[:, i], (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-7)


def test_a_repeated_pole_has_no_derivative():
    # z^2 - alpha z + g with alpha = 0.6, g = 0.09: a double pole at 0.3.
    loop = Loop(CausalMean(), skip=0.0, feedback=1.0, controller=control.tf([0.09], [1.0, 0.0], 1))
    assert np.all(np.isinf(pole_sensitivity(loop, 0.6, [control.tf([1.0], [1.0], 1)]).derivative))


def test_branches_of_the_root_locus_do_not_jump():
    at = np.linspace(0, 1.5, 600)
    branches = root_locus(CHAIN, "kp", 0.5, at)
    for k in (0, 299, 599):
        expected = closed_loop_poles(PID(at[k], 0.5, 0.05), 0.5)
        assert_allclose(np.poly(branches[k]), np.poly(expected), atol=1e-9)  # no order of a pair decides
    assert np.abs(np.diff(branches, axis=0)).max() < 0.1


@every_case("a", [0.3 + 0.4j, 0.3 - 0.4j, 0.3, -1.2 + 0.0j])
def test_the_locus_of_a_mode_under_p_is_a_straight_line(a):
    """The one pole is skip + feedback a - kp, with the imaginary part of the mode."""
    gains = np.array([0.0, 0.25, 1.0, -2.0])
    locus = root_locus(Loop(CausalMean(), skip=0.9, feedback=-0.8, controller=PID(0.6)), "kp", a, gains)
    assert_allclose(locus[:, 0], 0.9 - 0.8 * a - gains, atol=1e-14)


def _derivatives(c, other, loop, a, pole):
    """d pole / d (skip, feedback, gain of `other`) at 60 digits, by Newton's method from a double."""
    num, den = ([mpmath.mpf(float(x)) for x in np.ravel(part[0][0])] for part in (c.num, c.den))
    top, bottom = ([mpmath.mpf(float(x)) for x in np.ravel(part[0][0])] for part in (other.num, other.den))
    alpha = mpmath.mpf(loop.skip) + mpmath.mpf(loop.feedback) * mpmath.mpmathify(a)

    def p(z):
        return ((z - alpha) * mpmath.polyval(den, z) + mpmath.polyval(num, z)) * mpmath.polyval(bottom, z)

    z = mpmath.mpmathify(complex(pole))
    for _ in range(6):
        slope = mpmath.diff(p, z)
        z -= p(z) / slope
    assert abs(complex(z) - pole) <= 1e-13 * max(1.0, abs(pole))  # the pole itself has all its digits
    terms = [
        mpmath.polyval(den, z) * mpmath.polyval(bottom, z),
        mpmath.mpmathify(a) * mpmath.polyval(den, z) * mpmath.polyval(bottom, z),
        -mpmath.polyval(top, z) * mpmath.polyval(den, z),
    ]
    return [complex(term / mpmath.diff(p, z)) for term in terms]


@every_case("seed", range(20))
def test_derivatives_of_slow_and_clustered_poles_have_their_digits(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 7))
    c = control.tf(
        rng.normal(size=n) * 10.0 ** rng.integers(-3, 2), np.poly(rng.choice([0.999, 0.99, 0.9, 0.5, 0.0], n)), 1
    )
    other = control.tf([1.0, 0.2], [1.0, -0.6], 1)
    loop = Loop(CausalMean(), skip=0.9, feedback=-0.7, controller=c)
    a = [0.5, 0.3 + 0.4j][seed % 2]
    moved = pole_sensitivity(loop, a, ["skip", "feedback", other])
    with mpmath.workdps(60):
        for pole, derivative in zip(moved.poles, moved.derivative, strict=True):
            if np.all(np.isfinite(derivative)):
                expected = np.array(_derivatives(c, other, loop, a, pole))
                assert_allclose(derivative, expected, rtol=1e-8, atol=1e-12)


def test_a_derivative_that_the_state_matrix_contradicts_is_refused(monkeypatch):
    exact = gain_polynomials.mode_polynomials
    rounded = Polynomial([Fraction(1001, 1000)], [Fraction(0)])
    monkeypatch.setattr(
        gain_polynomials, "mode_polynomials", lambda over, a: (exact(over, a)[0], [rounded] * len(over.axes))
    )
    with pytest.raises(ArithmeticError, match="different derivatives"):
        pole_sensitivity(Loop(CausalMean(), controller=PID(0.6)), 0.5, ["kp"])


@every_case("axis", ["k", "KP", "gain", ""])
def test_a_gain_that_no_law_has_is_named(axis):
    with pytest.raises(InputError, match=f"q: a gain is one of .*, got '{axis}'"):
        gain_polynomials.gain_modes(CHAIN, [axis], 0.5, "q")


@every_case("spectrum", [[], [0.5, np.nan], np.inf])
def test_a_spectrum_without_modes_or_with_modes_that_are_no_numbers_is_refused(spectrum):
    with pytest.raises(InputError, match="q: the spectrum must be finite and have at least one mode"):
        gain_polynomials.gain_modes(CHAIN, ["kp"], spectrum, "q")


def test_gains_of_a_pid_need_one_and_a_loop_without_controller_has_a_pid_of_zero():
    other = Loop(CausalMean(), controller=control.tf([0.1], [1.0, -0.2], 1))
    with pytest.raises(InputError, match="kp, ki and kd are gains of a PID"):
        pole_sensitivity(other, 0.5, ["kp"])
    bare = pole_sensitivity(Loop(CausalMean(), skip=0.4, feedback=0.6), 0.5, ["kp", "skip", "feedback"])
    assert_allclose(bare.poles, [0.7])
    assert_allclose(bare.derivative, [[-1.0, 1.0, 0.5]])


def test_a_sensitivity_and_a_locus_are_of_one_mode():
    with pytest.raises(InputError, match=r"pole_sensitivity is of one mode, got \(1,\)"):
        pole_sensitivity(CHAIN, [0.5], ["kp"])
    with pytest.raises(InputError, match="root_locus is of one mode, got 2"):
        root_locus(CHAIN, "kp", [0.5, 0.2], [1.0])


@pytest.mark.parametrize("seed", range(4))
def test_roots_are_polished_from_anywhere_by_third_powers_and_come_outermost_first(seed, monkeypatch):
    """Ehrlich and Aberth: the error of each step is the third power of the one before, from 0.03 to none in four."""
    roots = np.array([0.9 + 0.2j, -0.5 + 0.6j, 0.1 - 0.4j, 1.3 - 0.3j])
    exact = [complex(x) for x in np.poly(roots)]
    p = Polynomial([Fraction(x.real) for x in exact], [Fraction(x.imag) for x in exact])
    rng = np.random.default_rng(seed)
    starts = rng.permutation(roots) + 0.03 * (rng.normal(size=4) + 1j * rng.normal(size=4))
    monkeypatch.setattr(gain_polynomials, "_POLISH", 4)
    assert_allclose(gain_polynomials._poles(p, np.diag(starts)), roots[[3, 0, 1, 2]], rtol=1e-13)


@every_case("off", [1.9e-6, -1.9e-6, 2.1e-6, -2.1e-6])
def test_derivatives_may_differ_from_the_traces_by_a_millionth_of_both(off):
    """pole = skip + a feedback: the trace moves by (1, a), the sum of the poles by what is told."""
    axes = ["skip", "feedback"]
    for a in (0.5, 4.0):
        over = gain_polynomials.parts(Loop(CausalMean(), skip=0.4, feedback=0.6), axes)
        told = np.array([[1.0, a]])
        for i in (0, 1):
            moved = told * (1 + off * np.eye(2)[i])
            given = (over, a, np.array([0.4, 0.6]), np.array([0.4 + 0.6 * a]), moved)
            if abs(off) < 2e-6:
                gain_polynomials._require_traces(*given)
            else:
                with pytest.raises(ArithmeticError, match="different derivatives"):
                    gain_polynomials._require_traces(*given)
