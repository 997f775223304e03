"""Critical gains against a scan of the boundary, fractions against the response."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn.stability.modes.exact_gains import (
    Pencil,
    Polynomial,
    as_fractions,
    critical_gains,
    exact_fraction,
    parallel_points,
    pencil,
    product,
    stable_at,
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


@pytest.mark.parametrize("angle", [0.4, 1.5, 2.9])
def test_polynomials_are_parallel_at_their_common_roots_and_at_the_ends_alone(angle):
    """(z - w)(z - w*) and its product with z - 1/2: z - 1/2 is real only at 1 and -1, the products vanish at w."""
    cosine = Fraction(float(np.cos(angle)))
    pair = [Fraction(1), -2 * cosine, Fraction(1)]
    other = product(pair, [Fraction(1), Fraction(-1, 2)])
    both = [Polynomial(p, [Fraction(0)] * len(p)) for p in ([Fraction(0), *pair], other)]
    points = parallel_points(*both)
    assert_allclose(np.abs(points), 1.0, rtol=1e-12)
    assert_allclose(np.abs(points - np.exp(1j * angle)).min(), 0, atol=1e-7)
