"""A cascade has the transfer function of its fraction, to the digits that mpmath sees in the coefficients."""

import mpmath
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn.errors import InputError
from ctrlattn.linear.cascade import _match, cascade, cascade_of_roots

FREQUENCIES = (1e-3, 0.01, 0.1, 1.0, 2.0, np.pi)


def roots(rng, count, low, high, angle):
    values = []
    while len(values) < count:
        z = rng.uniform(low, high)
        if count - len(values) > 1 and rng.random() < 0.5:
            z = z * np.exp(1j * rng.uniform(0, angle))
            values += [z, z.conjugate()]
        else:
            values.append(z)
    return values


def fraction(seed):
    rng = np.random.default_rng(seed)
    order = rng.integers(1, 9)
    low, high, angle = [(0, 1, 3), (0.8, 0.99, 0.3), (0.97, 0.999, 0.1), (0.95, 0.9500001, 1e-7)][seed % 4]
    den = np.poly(roots(rng, order, low, high, angle)).real
    num = np.atleast_1d(np.poly(roots(rng, rng.integers(0, order + 1), low, 1.2, angle))).real
    return rng.choice([1e-6, 1.0, 1e6]) * num, rng.choice([1e-3, 1.0, 1e3]) * den


def exact(num, den, z):
    with mpmath.workdps(60):
        top, bottom = (mpmath.polyval([mpmath.mpf(float(c)) for c in p], mpmath.mpc(z)) for p in (num, den))
        return complex(top / bottom)


@every_case("seed", range(60))
def test_the_response_is_that_of_the_exact_fraction(seed):
    num, den = fraction(seed)
    a, b, c, d = cascade(num, den)
    for z in np.exp(1j * np.array(FREQUENCIES)):
        value = c @ np.linalg.solve(z * np.eye(len(a)) - a, b) + d
        assert_allclose(value, exact(num, den, z), rtol=1e-11)


@every_case("seed", range(6))
def test_the_blocks_of_the_diagonal_are_the_poles(seed):
    num, den = fraction(seed)
    a = cascade(num, den)[0]
    assert not np.any(np.tril(a, -2))
    with mpmath.workdps(200):
        poles = mpmath.polyroots([mpmath.mpf(float(c)) for c in den], maxsteps=400, extraprec=400)
        expected = np.sort([abs(complex(p)) for p in poles])
    pairs = [i for i in range(len(a) - 1) if a[i + 1, i] != 0]
    alone = [i for i in range(len(a)) if i not in pairs and i - 1 not in pairs]
    moduli = [abs(a[i, i]) for i in alone]
    moduli += [np.sqrt(a[i, i] * a[i + 1, i + 1] - a[i, i + 1] * a[i + 1, i]) for i in pairs for _ in range(2)]
    assert_allclose(np.sort(moduli), expected, rtol=1e-15)


def test_static_zero_and_cancelled_functions():
    a, b, c, d = cascade([3.0], [2.0])
    assert (a.shape, b.shape, c.shape, d) == ((0, 0), (0,), (0,), 1.5)
    a, _, c, d = cascade([0.0], [1.0, -2.0])  # the unstable mode stays, though the output is zero
    assert (a.tolist(), c.tolist(), d) == ([[2.0]], [0.0], 0.0)
    a, b, c, d = cascade([1.0, -2.0], [1.0, -2.0])
    assert (a.tolist(), float(b[0] * c[0]), d) == ([[2.0]], 0.0, 1.0)


def test_refused():
    with pytest.raises(InputError, match=r"improper \(degree 2 over 1\)"):
        cascade([1.0, 0.0, 0.0], [1.0, 0.5])
    with pytest.raises(InputError, match="denominator of the transfer function is zero"):
        cascade([1.0], [0.0])


@every_case("seed", range(20))
def test_the_response_is_that_of_the_given_roots(seed):
    rng = np.random.default_rng(seed)
    order = int(rng.integers(1, 8))
    poles = np.array(roots(rng, order, 0.9, 0.99, 0.3))
    zeros = np.array(roots(rng, int(rng.integers(0, order + 1)), 0.5, 1.2, 2.0))
    gain = 0.5
    if seed % 2:  # no conjugates: complex matrices
        poles, gain = poles * np.exp(0.2j), 0.5 - 1j
    a, b, c, d = cascade_of_roots(zeros, poles, gain)
    assert np.iscomplexobj(a) == bool(seed % 2)
    for z in np.exp(1j * np.array(FREQUENCIES)):
        value = c @ np.linalg.solve(z * np.eye(len(a)) - a, b) + d
        assert_allclose(value, gain * np.prod(z - zeros) / np.prod(z - poles), rtol=1e-11)


def test_roots_that_make_no_system():
    with pytest.raises(InputError, match="improper"):
        cascade_of_roots([0.1, 0.2], [0.5], 1.0)
    for given in (([np.nan], [0.5, 0.1], 1.0), ([], [np.inf], 1.0), ([], [0.5], np.nan)):
        with pytest.raises(InputError, match="must be finite"):
            cascade_of_roots(*given)


def test_zeros_go_to_the_section_of_the_poles_beside_them():
    """Each zero of a pair beside one pole: its conjugate is far from that pole, and 0.35 is nearer to both."""
    beside = 0.9 * np.exp(1j * np.array([0.5, -0.5]))
    zeros = 0.9 * np.exp(1j * np.array([0.51, -0.51]))
    sections = _match(np.array([*beside, 0.3, 0.4]), np.array([*zeros, 0.31]))
    assert sections == [(tuple(beside), tuple(zeros)), ((0.3, 0.4), (0.31,))]
