"""Roots of the exact polynomial, against mpmath and against products of integers."""

import mpmath
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_array_equal

from ctrlattn.errors import InputError
from ctrlattn.linear import polynomial_roots
from ctrlattn.linear.polynomial_roots import accurate_roots, integer_roots


def clustered(seed: int) -> np.ndarray:
    """Coefficients in floating point of a polynomial whose roots crowd, somewhere in the plane and on some scale."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-1, 1) if seed % 2 else rng.uniform(-1, 1) + 1j * rng.uniform(0.1, 1)
    half = rng.integers(1, 5)
    roots = centre * (1 + 10.0 ** rng.uniform(-8, -1) * rng.normal(size=half))
    both = roots if seed % 2 else np.concatenate([roots, roots.conj()])
    return 10.0 ** rng.uniform(-6, 6) * np.poly(10.0 ** rng.uniform(-3, 3) * np.append(both, rng.normal())).real


@pytest.mark.slow
@every_case("seed", range(8))
def test_every_root_is_that_of_a_computation_in_200_digits(seed):
    p = clustered(seed)
    with mpmath.workdps(200):
        exact = mpmath.polyroots([mpmath.mpf(float(c)) for c in p], maxsteps=400, extraprec=400)
        expected = np.array([complex(r) for r in exact])
    roots = accurate_roots(p)
    assert len(roots) == len(expected)
    distance = np.abs(roots[:, None] - expected[None, :]).min(axis=1) / np.abs(roots)
    assert distance.max() <= 2.0**-52
    assert len(np.unique(np.abs(roots[:, None] - expected[None, :]).argmin(axis=1))) == len(roots)


def test_multiple_roots_are_exact_and_counted():
    p = np.polymul(np.poly([2.0, 2.0, 2.0, -3.0, -3.0]), np.poly([1.0, 5.0]))  # integers: exact in doubles
    assert sorted(accurate_roots(p).real.tolist()) == [-3.0, -3.0, 1.0, 2.0, 2.0, 2.0, 5.0]
    double_pair = np.polymul([1.0, -1.0, 0.5], [1.0, -1.0, 0.5])
    assert sorted(accurate_roots(double_pair).tolist(), key=lambda z: z.imag) == [0.5 - 0.5j] * 2 + [0.5 + 0.5j] * 2


@every_case("scale", [2.0**-900, 2.0**-20, 1.0, 3.0, 2.0**900])
def test_the_scale_of_the_coefficients_and_zeros_around_them_do_not_matter(scale):
    p = scale * np.array([0.0, 0.0, 1.0, -1.5, 0.5, 0.0, 0.0])
    assert sorted(accurate_roots(p).real.tolist()) == [0.0, 0.0, 0.5, 1.0]


@every_case("unit", [1e-6, 1e-3, 1e3, 1e6])
def test_the_unit_of_the_variable_does_not_matter(unit):
    roots = np.sort(accurate_roots(np.poly(unit * np.array([-1.0, -1e-6, -1e3]))).real)
    assert np.abs(roots / unit / np.array([-1e3, -1.0, -1e-6]) - 1).max() < 1e-9  # what the coefficients still know


def test_complex_roots_come_in_exact_pairs_and_real_ones_are_real():
    roots = accurate_roots(np.random.default_rng(3).normal(size=31))
    assert_array_equal(np.sort_complex(roots), np.sort_complex(roots.conj()))
    assert np.all(np.abs(np.polyval(np.poly(roots[roots.imag == 0]), roots[roots.imag == 0])) < 1e-6)


def test_a_sum_is_added_without_rounding():
    """1 + 2^-60 is 1 in doubles: of (z - 1)^2 - 2^-60 numpy sees a double root."""
    assert np.sort(accurate_roots([1.0, -2.0, 1.0], [-(2.0**-60)]).real).tolist() == [1 - 2.0**-30, 1 + 2.0**-30]
    assert accurate_roots([1.0, 0.0], [-1.0, 0.5]).tolist() == []  # the leading terms cancel: .5


def test_a_constant_has_no_roots_and_zero_is_refused():
    assert accurate_roots([3.0]).tolist() == []
    for bad in ([1.0, np.nan], [[1.0, 2.0]]):
        with pytest.raises(InputError, match="finite coefficients"):
            accurate_roots(bad)
    for zero in ([0.0, 0.0], []):
        with pytest.raises(InputError, match="not zero"):
            accurate_roots(zero)


@pytest.mark.parametrize("seed", range(20))
def test_a_step_of_aberth_goes_from_anywhere_to_the_root_that_is_left(seed, monkeypatch):
    """p'/p = sum 1/(z - z_j): where the other roots are exact, one step leads to the last; two mend its rounding."""
    rng = np.random.default_rng(seed)
    integers = rng.choice(np.r_[-9:0, 1:10], int(rng.integers(2, 7)), replace=False)
    guesses = integers.astype(complex)
    left = int(rng.integers(len(integers)))
    guesses[left] += 5 * np.exp(1j * rng.uniform(1, 2))
    monkeypatch.setattr(polynomial_roots, "_STEPS", 4)
    p = [round(x) for x in np.poly(integers)]
    assert sorted(polynomial_roots._certified_roots(p, guesses, 200), key=lambda z: z.real) == sorted(integers)


def test_linear_polynomials_constants_and_sums_of_unequal_length():
    assert integer_roots([2, -3]).tolist() == [1.5]
    assert integer_roots([0, 6, 4, 0]).tolist() == [0, -2 / 3]
    assert len(integer_roots([7])) == 0
    assert polynomial_roots._integers([np.array([1.5]), np.array([0.25, 1.0])]) == [1, 10]


def test_a_double_root_behind_a_remainder_that_begins_with_a_zero():
    """(z - 1)^2 (z^2 + 2 z + 3) = z^4 - 4 z + 3, and its derivative leaves 0 z^2 - 3 z + 3."""
    roots = sorted(integer_roots([1, 0, 0, -4, 3]), key=lambda z: (z.real, z.imag))
    assert roots == [-1 - 2**0.5 * 1j, -1 + 2**0.5 * 1j, 1, 1]
    assert polynomial_roots._greatest_divisor([1, 0, 0, -4, 3], [4, 0, 0, -4]) in ([1, -1], [-1, 1])
    assert not polynomial_roots._coprime_mod_prime([1, 0, 0, -4, 3], [4, 0, 0, -4])


def test_what_a_prime_can_tell():
    assert polynomial_roots._coprime_mod_prime([1, 0, -1], [2, 0])
    assert not polynomial_roots._coprime_mod_prime([polynomial_roots._PRIME, 1, -1], [2 * polynomial_roots._PRIME, 1])
    assert polynomial_roots._quotient([6, 5, 1], [4, 2]) == [3, 1]  # (2 z + 1)(3 z + 1)


@pytest.mark.parametrize("sign", [1, -1])
def test_roots_far_from_one_are_computed_in_their_own_unit(sign):
    """Degree six: no coefficient over another is a double before the roots are near one."""
    size = 10**60
    factors = [(3, 1), (-5, 1), (7, 2), (11, 3), (-13, 4), (17, 5)]
    p = [1]
    for top, bottom in factors:  # roots top/bottom * size, or its inverse
        q = [bottom, -top * size] if sign > 0 else [-top * size, bottom]
        p = [x + y for x, y in zip([q[0] * c for c in p] + [0], [0] + [q[1] * c for c in p], strict=True)]
    expected = sorted((top * size / bottom) ** sign for top, bottom in factors)
    np.testing.assert_allclose(np.sort(integer_roots(p).real), expected, rtol=1e-15)


def test_roots_in_pairs_are_told_from_disks_that_meet():
    bits = 80
    unit = 1 << bits
    pair = [(unit, 2 * unit), (unit, -2 * unit)]
    assert polynomial_roots._in_pairs(pair, np.full(2, 1e-20), bits) == [1 + 2j, 1 - 2j]
    assert polynomial_roots._in_pairs(pair[::-1], np.full(2, 1e-20), bits) == [1 + 2j, 1 - 2j]
    apart = [(unit, 0), (3 * unit, 0)]
    assert polynomial_roots._in_pairs(apart, np.array([1.2, 0.7]), bits) == [1, 3]
    assert polynomial_roots._in_pairs(apart, np.array([1.2, 0.8]), bits) is None
    assert polynomial_roots._in_pairs(apart, np.array([0.8, 1.2]), bits) is None
