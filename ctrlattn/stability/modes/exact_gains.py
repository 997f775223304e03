"""p(z) + g q(z) = 0: every real gain g that puts a root on the unit circle, the given doubles taken as exact numbers.

With z = (1 + it)/(1 - it) the circle is the real line of t, and g is real where Im(P conj Q) = 0 for
P(t) = (1 - it)^n p(z): a polynomial of integers in t. Its real roots are certified, clusters and tangencies
too, where a polynomial in cos w in double precision loses them. Whether p + g q is stable is decided by its
certified roots.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from ctrlattn.linear.polynomial_roots import derivative, integer_roots

_LAST_DIGITS = 4 * float(np.finfo(float).eps)

Integers = list[int]


class Polynomial(NamedTuple):
    """re + i im, exact coefficients in descending powers, both of the same length."""

    re: list[Any]
    im: list[Any]


class Pencil(NamedTuple):
    """p + g q; both over one common factor, and of the same length."""

    p: Polynomial
    q: Polynomial


def exact_fraction(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> tuple[list[Fraction], list[Fraction]]:
    """Return (num, den) of C (zI - A)^-1 B + D for one input and output, without rounding: Faddeev and LeVerrier.

    >>> num, den = exact_fraction(np.array([[0.5]]), np.ones((1, 1)), np.ones((1, 1)), np.zeros((1, 1)))
    >>> [float(x) for x in num], [float(x) for x in den]
    ([0.0, 1.0], [1.0, -0.5])
    """
    n = len(a)
    matrix, unit = _integers(a)
    column, of_b = _integers(b.reshape(n))
    row, of_c = _integers(c.reshape(n))
    den, top = [1], []
    power = np.array([[int(i == j) for j in range(n)] for i in range(n)], dtype=object).reshape(n, n)
    for k in range(1, n + 1):
        top.append(int(row @ power @ column))
        image = matrix @ power
        den.append(-sum(int(image[i, i]) for i in range(n)) // k)
        for i in range(n):
            image[i, i] += den[k]
        power = image
    # Integers stand for A times `unit`: the root z of A is the root z unit of them.
    exact_den = [Fraction(x, unit**k) for k, x in enumerate(den)]
    direct = Fraction(float(d.reshape(())))
    num = [direct * x for x in exact_den]
    for k, x in enumerate(top):
        num[k + 1] += Fraction(x, unit**k * of_b * of_c)
    return num, exact_den


def characteristic_roots(a: np.ndarray) -> np.ndarray:
    """Return the eigenvalues of a real matrix, each correct to its last digit: certified roots of its exact polynomial.

    >>> characteristic_roots(np.array([[0.0, -1.0], [1.0, 2.0]])).tolist()  # eigvals: 1 + 1.6e-16i, and 1e-8 at worst
    [(1+0j), (1+0j)]
    """
    n = len(a)
    _, den = exact_fraction(a, np.zeros((n, 1)), np.zeros((1, n)), np.zeros((1, 1)))
    common = math.lcm(*(x.denominator for x in den))
    return integer_roots([int(x * common) for x in den])


def as_fractions(p: Any) -> list[Fraction]:
    """Return the coefficients as exact numbers, without leading zeros."""
    exact = [Fraction(float(x)) for x in np.atleast_1d(p)]
    first = next((k for k, x in enumerate(exact) if x), len(exact))
    return exact[first:]


def product(p: list[Any], q: list[Any]) -> list[Any]:
    """Return the product of two polynomials."""
    if not p or not q:
        return []
    total = [0 * p[0]] * (len(p) + len(q) - 1)
    for i, x in enumerate(p):
        if x:
            for j, y in enumerate(q):
                total[i + j] += x * y
    return total


def plus(*terms: list[Any]) -> list[Any]:
    """Return the sum of polynomials."""
    size = max(map(len, terms))
    padded = [[0] * (size - len(p)) + p for p in terms]
    return [sum(column) for column in zip(*padded, strict=True)]


def pencil(p: Polynomial, q: Polynomial) -> Pencil:
    """Return the exact fractions as integers over one common denominator."""
    return Pencil(*over_integers(p, q)[0])


def over_integers(*polynomials: Polynomial) -> tuple[list[Polynomial], int]:
    """Return the exact fractions as integers, all of one length, and the denominator that they were multiplied by."""
    size = max(len(x) for p in polynomials for x in p)
    padded = [[[Fraction(0)] * (size - len(x)) + [Fraction(y) for y in x] for x in p] for p in polynomials]
    common = math.lcm(*(y.denominator for p in padded for x in p for y in x))
    return [Polynomial(*([int(y * common) for y in x] for x in p)) for p in padded], common


def combined(fixed: Polynomial, terms: Sequence[Polynomial], gains: Sequence[float]) -> Polynomial:
    """Return p_0 + sum_i g_i p_i without rounding."""
    factors = [Fraction(float(g)) for g in gains]
    re, im = (
        plus(base, *([g * x for x in term[i]] for g, term in zip(factors, terms, strict=True)))
        for i, base in enumerate(fixed)
    )
    return Polynomial(re, im)


def slope(p: Polynomial) -> Polynomial:
    """Return p'(z)."""
    return Polynomial(*(derivative(part) or [0] for part in p))


def moduli(p: Polynomial) -> Polynomial:
    """Return |p_k|, for complex coefficients |re| + |im|: at |z| the size of the terms that p(z) sums up."""
    (whole,), unit = over_integers(p)
    return Polynomial([Fraction(abs(x) + abs(y), unit) for x, y in zip(*whole, strict=True)], [Fraction(0)])


def values_at(p: Polynomial, z: Any) -> np.ndarray:
    """Return p at complex doubles (m,), each value rounded once.

    >>> values_at(Polynomial([1, -2, 1], [0, 0, 0]), [1.0 + 2**-40]).real.tolist() == [2.0**-80]  # (z - 1)^2
    True
    """
    (whole,), unit = over_integers(p)
    degree = len(whole.re) - 1
    values = np.empty(len(z), dtype=complex)
    for k, point in enumerate(np.asarray(z, dtype=complex).tolist()):
        ratios = point.real.as_integer_ratio(), point.imag.as_integer_ratio()
        step = max(bottom for _, bottom in ratios)
        x, y = (top * (step // bottom) for top, bottom in ratios)
        re, im, power = 0, 0, 1
        for a, b in zip(*whole, strict=True):
            re, im = re * x - im * y + a * power, re * y + im * x + b * power
            power *= step
        values[k] = complex(re / (unit * step**degree), im / (unit * step**degree))
    return values


def parallel_points(p: Polynomial, q: Polynomial) -> np.ndarray | None:
    """Return the points of the circle but 1 and -1 where Im(p conj q) = 0; None where that holds at all of them.

    >>> none = [0, 0]
    >>> parallel_points(Polynomial([1, 0], none), Polynomial([0, 1], none)).tolist()  # z is real at 1 and -1 alone
    []
    """
    (p, q), _ = over_integers(p, q)
    top, bottom = _on_line(p), _on_line(q)
    crossing = _crossing(top, bottom)
    size = (max(map(abs, (*part.re, *part.im))) for part in (top, bottom))
    if max(map(abs, crossing)) * 10**14 <= math.prod(size):  # decimals that would be parallel but for their last digits
        return None
    t = np.array(_real_roots(crossing), dtype=float)
    return (1 + 1j * t) / (1 - 1j * t)


def critical_gains(g: Pencil) -> np.ndarray | None:
    """Return every real gain with a root on the circle, ascending; None where no gain can be stable.

    >>> one, none = [0, 1], [0, 0]
    >>> critical_gains(Pencil(Polynomial([1, 0], none), Polynomial(one, none))).tolist()  # z + g
    [-1.0, 1.0]
    """
    if not any(g.q.re) and not any(g.q.im):
        return np.zeros(0)
    top, bottom = (_on_line(p) for p in g)
    crossing = _crossing(top, bottom)
    if not any(crossing):  # p + g q is its own mirror image, and half of its roots are not inside
        return None
    gains = [_gain(_value_at(top, t), _value_at(bottom, t)) for t in _real_roots(crossing)]
    for z in (1, -1):
        at_p, at_q = _value(g.p, z), _value(g.q, z)
        if at_p[1] * at_q[0] == at_p[0] * at_q[1]:  # a complex mode has a real gain there by accident alone
            gains.append(_gain(at_p, at_q))
    return np.unique([x for x in gains if x is not None]) + 0.0


def stable_at(g: Pencil, gain: float) -> bool:
    """Tell whether all roots of p + gain q lie inside the circle by more than the last digits, by certified roots."""
    top, bottom = float(gain).as_integer_ratio()
    re, im = (plus([bottom * x for x in p], [top * x for x in q]) for p, q in zip(g.p, g.q, strict=True))
    # The product with the conjugate polynomial is real, and its roots are as far from 0.
    p = plus(product(re, re), product(im, im)) if any(im) else re
    if not any(p):
        return False
    roots = integer_roots(p)
    degree = (len(re) - 1) * (2 if any(im) else 1)
    return len(roots) == degree and bool(np.max(np.abs(roots), initial=0.0) < 1 - _LAST_DIGITS)


def _integers(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Return integers and the power of two that they were multiplied by."""
    ratios = [float(x).as_integer_ratio() for x in values.ravel()]
    unit = math.lcm(*(bottom for _, bottom in ratios))
    whole = np.empty(len(ratios), dtype=object)
    whole[:] = [top * (unit // bottom) for top, bottom in ratios]
    return whole.reshape(values.shape), unit


def _crossing(p: Polynomial, q: Polynomial) -> Integers:
    """Return Im(p conj q) for a real variable."""
    return plus(product(p.im, q.re), [-x for x in product(p.re, q.im)])


def _on_line(p: Polynomial) -> Polynomial:
    """Return (1 - it)^n p((1 + it)/(1 - it)) as a polynomial in t."""
    n = len(p.re) - 1
    re, im = [0], [0]
    falling_re, falling_im = [1], [0]  # (1 - it)^k
    for k in range(n + 1):
        # times (1 + it): re - t im, im + t re
        re, im = plus(re, [*(-x for x in im), 0]), plus(im, [*re, 0])
        a, b = p.re[k], p.im[k]
        re = plus(re, [a * x for x in falling_re], [-b * x for x in falling_im])
        im = plus(im, [a * x for x in falling_im], [b * x for x in falling_re])
        falling_re, falling_im = plus(falling_re, [*falling_im, 0]), plus(falling_im, [*(-x for x in falling_re), 0])
    return Polynomial(re, im)


def _real_roots(p: Integers) -> list[float]:
    """Return the distinct real roots other than 0; an odd or even polynomial has them in pairs."""
    while not p[-1]:
        p = p[:-1]
    while not p[0]:
        p = p[1:]
    if any(p[1::2]) or len(p) % 2 == 0:
        roots = integer_roots(p)
        return np.unique(roots.real[roots.imag == 0]).tolist()
    squares = integer_roots(p[::2])
    at = np.unique(squares.real[(squares.imag == 0) & (squares.real > 0)])
    # The mirror image of a real polynomial has the same gain; that of a complex one need not.
    return [*np.sqrt(at).tolist(), *(-np.sqrt(at)).tolist()]


def _value_at(p: Polynomial, t: float) -> tuple[int, int]:
    """Return p at a double, times a common power of its denominator."""
    top, bottom = float(t).as_integer_ratio()
    values = []
    for part in p:
        value, power = 0, 1
        for x in part:
            value = value * top + x * power
            power *= bottom
        values.append(value * bottom ** (len(p.re) + len(p.im) - len(part)))
    return values[0], values[1]


def _value(p: Polynomial, z: int) -> tuple[int, int]:
    re, im = 0, 0
    for x, y in zip(p.re, p.im, strict=True):
        re, im = re * z + x, im * z + y
    return re, im


def _gain(top: tuple[int, int], bottom: tuple[int, int]) -> float | None:
    """Return -Re(p conj q)/|q|^2, p and q being parallel; None where p + g q = 0 for no finite g, or for all."""
    size = bottom[0] ** 2 + bottom[1] ** 2
    if not size:
        return None
    try:
        return -(top[0] * bottom[0] + top[1] * bottom[1]) / size
    except OverflowError:
        return None
