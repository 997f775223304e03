"""Critical gains against a scan of the boundary, fractions against the response."""

import math
from fractions import Fraction

import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.stability.modes import exact_gains
from ctrlattn.stability.modes.exact_gains import (
    Pencil,
    Polynomial,
    as_fractions,
    characteristic_roots,
    combined,
    critical_gains,
    exact_fraction,
    moduli,
    over_integers,
    parallel_points,
    pencil,
    product,
    slope,
    stable_at,
    values_at,
)


def complex_pencil(p, q):
    return pencil(*(Polynomial(as_fractions_of(x.real), as_fractions_of(x.imag)) for x in (p, q)))


def as_fractions_of(values):
    return [Fraction(float(x)) for x in values]


@pytest.mark.parametrize("complex_valued", [False, True])
def test_every_critical_gain_puts_a_root_on_the_circle_and_none_is_left_out(complex_valued):
    rng = np.random.default_rng(7)
    for _ in range(40):
        n = int(rng.integers(1, 6))
        p, q = np.append(1.0, rng.normal(size=n)) + 0j, np.append(0.0, rng.normal(size=n)) + 0j
        if complex_valued:
            p[1:] += 1j * rng.normal(size=n)
            q[1:] += 1j * rng.normal(size=n)
        gains = critical_gains(complex_pencil(p, q))
        for gain in gains[np.abs(gains) < 1e3]:
            assert np.min(np.abs(np.abs(np.roots(p + gain * q)) - 1)) < 1e-7
        # A sign change of the imaginary part on a fine grid that has no critical gain would be one left out.
        z = np.exp(1j * np.linspace(-np.pi, np.pi, 4001) + 0.37e-3j)
        ratio = -np.polyval(p, z) / np.polyval(q, z)
        turned = np.flatnonzero(ratio.imag[:-1] * ratio.imag[1:] < 0)
        turned = turned[np.abs(ratio[turned] - ratio[turned + 1]) < 1e-2]
        for at in turned:
            assert np.min(np.abs(gains - ratio[at].real)) <= 2 * abs(ratio[at] - ratio[at + 1])


def test_a_tangency_is_a_critical_gain():
    # On the circle Im(p conj q)/sin w is proportional to (cos w - 1/2)^2 for p = z (z^2 - 2 z + 9/4 ...), by design:
    # alpha(w) = z + C(z) with Im = sin w (1 - 2 cos w)^2 = sin w (3 + 2 cos 2w - 4 cos w).
    # sin w cos w = sin 2w / 2, sin w cos 2w = (sin 3w - sin w)/2: Im = 2 sin w - 2 sin 2w + sin 3w.
    # C = -z^{-1} + 2 z^{-2} - z^{-3} has Im C = sin w - 2 sin 2w + sin 3w, and z gives the other sin w.
    num, den = [0.0, -1.0, 2.0, -1.0], [1.0, 0.0, 0.0, 0.0]
    p = np.polyadd(np.append(den, 0.0), num)
    q = -np.append(0.0, den)
    gains = critical_gains(complex_pencil(p + 0j, q + 0j))
    w = np.pi / 3
    z = np.exp(1j * w)
    touch = (z + np.polyval(num, z) / np.polyval(den, z)).real
    assert np.min(np.abs(gains - touch)) < 1e-14
    assert len(gains) == 3  # both ends and the tangency, once


def test_a_pencil_that_is_its_own_mirror_image_is_never_stable():
    assert critical_gains(complex_pencil(np.array([1.0, 0, 1]) + 0j, np.array([0, 1.0, 0]) + 0j)) is None


def test_exact_fraction_is_the_transfer_function_of_random_systems():
    rng = np.random.default_rng(3)
    for n in (0, 1, 2, 5, 8):
        a, b, c, d = (rng.normal(size=shape) for shape in ((n, n), (n, 1), (1, n), (1, 1)))
        a = a * 1e-3 if n == 5 else a
        num, den = (np.array([float(x) for x in p]) for p in exact_fraction(a, b, c, d))
        z = 0.7 + 1.9j
        expected = c @ np.linalg.solve(z * np.eye(n) - a, b) + d
        assert_allclose(np.polyval(num, z) / np.polyval(den, z), expected[0, 0], rtol=1e-10)
        assert len(den) == n + 1
        assert den[0] == 1.0


def test_stability_is_decided_by_the_exact_coefficients():
    pencil = complex_pencil(np.array([1.0, -1.5, 1.0]) + 0j, np.array([0, 0, 1.0]) + 0j)  # roots of modulus sqrt(1 + g)
    assert [stable_at(pencil, g) for g in (-1e-12, 0.0, 1e-12)] == [True, False, False]
    cluster = complex_pencil(np.poly([0.9375] * 6) + 0j, np.zeros(7) + 0j)  # binary fractions: exactly six equal roots
    assert stable_at(cluster, 0.0)
    assert as_fractions([0.0, 0.5]) == [Fraction(1, 2)]


def test_products_of_nothing_and_the_signs_of_zeros():
    assert product([], [1, 2]) == product([1, 2], []) == []
    assert product([1, 2], [3, 0, -1]) == [3, 6, -1, -2]
    gains = critical_gains(Pencil(Polynomial([1, -1], [0, 0]), Polynomial([0, 1], [0, 0])))  # z - 1 + g
    assert gains.tolist() == [0.0, 2.0]
    assert not np.signbit(gains).any()


@every_case("angle", [0.4, 1.5, 2.9])
def test_polynomials_are_parallel_at_their_common_roots_and_at_the_ends_alone(angle):
    """(z - w)(z - w*) and its product with z - 1/2: z - 1/2 is real only at 1 and -1, the products vanish at w."""
    cosine = Fraction(float(np.cos(angle)))
    pair = [Fraction(1), -2 * cosine, Fraction(1)]
    other = product(pair, [Fraction(1), Fraction(-1, 2)])
    both = [Polynomial(p, [Fraction(0)] * len(p)) for p in ([Fraction(0), *pair], other)]
    points = parallel_points(*both)
    assert_allclose(np.abs(points), 1.0, rtol=1e-12)
    assert_allclose(np.abs(points - np.exp(1j * angle)).min(), 0, atol=1e-7)


def exact_value(p, z):
    """p(z) over the rationals, (re, im), the sum of its powers written out."""
    re, im = Fraction(0), Fraction(0)
    for a, b in zip(p.re, p.im, strict=True):
        re, im = re * z[0] - im * z[1] + a, re * z[1] + im * z[0] + b
    return re, im


def test_a_value_is_the_exact_one_rounded_once():
    third = Fraction(1, 3)
    p = Polynomial([third, Fraction(-2), Fraction(5, 7), Fraction(1)], [Fraction(1), third, Fraction(0), Fraction(-3)])
    points = [0.3 + 0.7j, -1.25 - 0.1j, 2.0, 1j, 0.0]
    expected = [
        complex(*map(float, exact_value(p, (Fraction(z.real), Fraction(z.imag))))) for z in map(complex, points)
    ]
    assert values_at(p, points).tolist() == expected


def test_polynomials_are_combined_differentiated_and_measured_without_rounding():
    p, q = Polynomial([1, 2, 3], [0, 1, 1]), Polynomial([5, Fraction(1, 3)], [0, 2])
    assert combined(p, [q, p], [0.5, -3.0]) == Polynomial([-2, Fraction(-3, 2), Fraction(-35, 6)], [0, -2, -1])
    assert slope(p) == Polynomial([2, 2], [0, 1])
    assert slope(Polynomial([5], [0])) == Polynomial([0], [0])
    assert moduli(Polynomial([1, Fraction(-1, 2)], [3, -4])) == Polynomial([4, Fraction(9, 2)], [0])
    whole, unit = over_integers(p, q)
    assert (unit, whole) == (3, [Polynomial([3, 6, 9], [0, 3, 3]), Polynomial([0, 15, 1], [0, 0, 6])])


def test_the_roots_of_a_matrix_of_fractions():
    a = np.array([[0.5, 0.0, 0.0], [3.0, 0.25, 0.0], [1.0, -7.0, -1.125]])
    assert sorted(characteristic_roots(a).real.tolist()) == [-1.125, 0.25, 0.5]
    assert exact_fraction(np.zeros((0, 0)), np.zeros((0, 1)), np.zeros((1, 0)), np.array([[0.75]])) == ([0.75], [1])


@pytest.mark.parametrize(("digits", "parallel"), [(46, False), (47, True)])  # 2^46 < 1e14 < 2^47
def test_polynomials_that_differ_from_parallel_ones_in_the_15th_digit_are_parallel(digits, parallel):
    one, almost = Polynomial([1], [0]), Polynomial([1], [Fraction(1, 2**digits)])
    points = parallel_points(one, almost)
    assert (points is None) == parallel
    assert parallel or len(points) == 0


def test_critical_gains_of_complex_pencils_in_closed_form():
    none = [0, 0]
    assert critical_gains(Pencil(Polynomial([1, 3], none), Polynomial(none, none))).tolist() == []
    # z + i g = 0 on the circle.
    assert critical_gains(Pencil(Polynomial([1, 0], none), Polynomial(none, [0, 1]))).tolist() == [-1.0, 1.0]
    # |1 + 4 i + g (3 + 6 i)| = 1: 45 g^2 + 54 g + 16 = 0; the first root is at z = 1.
    gains = critical_gains(Pencil(Polynomial([1, 1], [0, 4]), Polynomial([0, 3], [0, 6])))
    assert_allclose(gains, [-2 / 3, -8 / 15], rtol=1e-15)


@every_case("gain, stable", [(1.0, True), (-1.5, True), (2.0, False), (3.0, False)])
def test_a_complex_pencil_is_stable_while_all_its_roots_are_inside(gain, stable):
    """z^2 (z + i g/2) and its degree, which the product with the conjugate doubles."""
    pencil = Pencil(Polynomial([1, 0, 0, 0], [0] * 4), Polynomial([0] * 4, [0, Fraction(1, 2), 0, 0]))
    whole = exact_gains.pencil(*pencil)
    assert stable_at(whole, gain) == stable
    assert not stable_at(Pencil(whole.q, whole.p), 0.0)  # of degree 2 with a root at infinity


@every_case(
    "p, roots",
    [
        ([0, 1, 0, -4, 0, 0], [2.0, -2.0]),
        ([1, -3, 2], [1.0, 2.0]),
        ([0, 0, 1, -3], [3.0]),
        ([1, 0, -4, 0], [2.0, -2.0]),
        ([2, 0, 0, -16], [2.0]),
        ([1, 0, -5, 0, 4], [1.0, 2.0, -1.0, -2.0]),  # in pairs: by their squares
        ([1, 0, 5, 0, 4], []),
        ([7], []),
    ],
)
def test_real_roots_other_than_zero(p, roots):
    assert exact_gains._real_roots(p) == roots


def test_a_polynomial_on_the_line_at_a_double_and_at_the_ends_is_exact():
    p = Polynomial([3, -1, 4, 1], [5, 9, -2, 6])
    for t in (0.75, -2.0, 0.125):
        # (1 - it)^3 p((1 + it)/(1 - it)) by its terms (1 + it)^(3 - k) (1 - it)^k
        at, exact = complex(1, t), 0
        for k in range(4):
            exact += complex(p.re[k], p.im[k]) * at ** (3 - k) * at.conjugate() ** k
        line = exact_gains._on_line(p)
        assert complex(np.polyval(line.re, t), np.polyval(line.im, t)) == pytest.approx(exact, rel=1e-14)
        _, bottom = t.as_integer_ratio()
        re, im = exact_gains._value_at(Polynomial([1, 2, 3], [4, -1]), t)
        assert (re, im) == (bottom**4 * (t**2 + 2 * t + 3), bottom**4 * (4 * t - 1))
    big = Polynomial([10**40 + 1, 2, 3], [0, 10**40, -7])
    assert exact_gains._value(big, 1) == (10**40 + 6, 10**40 - 7)
    assert exact_gains._value(big, -1) == (10**40 + 2, -(10**40) - 7)
    assert math.copysign(1, critical_gains(Pencil(Polynomial([1, -1], [0, 0]), Polynomial([0, 1], [0, 0])))[0]) == 1
