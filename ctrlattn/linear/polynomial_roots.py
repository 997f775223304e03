"""p(r) = 0 for the polynomial that the given doubles define exactly: roots correct to their last digit, clusters too.

Eigenvalues of a companion matrix move an m-fold root by the m-th root of the precision: the six poles of a plant that
is sampled fast come out 0.4 % off. So the doubles are taken as the exact numbers they are. A multiple root is divided
out exactly, and simple roots are polished by Newton steps in integers of as many bits as it takes. Every root is
certified: the disk |z - r| <= n |p(r)/p'(r)| contains a root, and disks that do not meet contain one each.
"""

from fractions import Fraction
from math import gcd, lcm
from typing import Any

import numpy as np

from ctrlattn.arrays import require_real
from ctrlattn.errors import InputError

_LAST_DIGIT = 2.0**-60  # size of a disk, relative to its root
_PRECISIONS = (128, 256, 512, 1024, 2048, 4096)  # fractional bits, until every disk is small and apart
_STEPS = 80  # at one precision
_PRIME = 2**127 - 1

Integers = list[int]
Fixed = tuple[int, int]  # a complex number times 2^bits


def accurate_roots(*terms: Any) -> np.ndarray:
    """Return all roots of a real polynomial, or of a sum of polynomials, repeated by their multiplicity.

    Parameters
    ----------
    *terms : (n + 1,) real, finite
        Descending powers; leading zeros are dropped. Several are added without rounding: the poles of a closed loop
        are the roots of num + den.

    Returns
    -------
    (n,) complex
        Relative error of each at most a unit in the last place; complex roots in exact conjugate pairs.

    Raises
    ------
    InputError
        The zero polynomial, or coefficients that are not finite.
    ArithmeticError
        Roots that 4096 bits do not part.

    References
    ----------
    Ehrlich, Comm. ACM 10 (1967) 107, and Aberth, Math. Comp. 27 (1973) 339: Newton steps that keep roots apart.
    Yun, SYMSAC 1976: square-free factors. Inclusion disk: Henrici, Applied and Computational Complex Analysis 1, 6.4.

    Examples
    --------
    >>> accurate_roots(np.poly([0.5] * 6)).tolist()  # numpy's own roots lie on a circle of radius 0.002 around it
    [(0.5+0j), (0.5+0j), (0.5+0j), (0.5+0j), (0.5+0j), (0.5+0j)]
    """
    polynomials = [np.atleast_1d(require_real("the coefficients", p)) for p in terms]
    if not all(p.ndim == 1 and np.all(np.isfinite(p)) for p in polynomials):
        raise InputError("roots are those of a polynomial with finite coefficients (n + 1,)")
    return integer_roots(_integers(polynomials))


def integer_roots(p: Integers) -> np.ndarray:
    """Return `accurate_roots` of a polynomial whose coefficients are integers of any size.

    >>> integer_roots([1, -2 * 10**40, 10**80]).tolist()  # (z - 10^40)^2
    [(1e+40+0j), (1e+40+0j)]
    """
    coefficients = _trim(p)
    if not coefficients:
        raise InputError("roots are those of a polynomial that is not zero")
    trimmed = _trim(coefficients[::-1])[::-1]
    roots = [0j] * (len(coefficients) - len(trimmed))
    for factor, multiplicity in _square_free(_primitive(trimmed)):
        roots += _simple_roots(factor) * multiplicity
    return np.array(roots, dtype=complex)


def _integers(polynomials: list[np.ndarray]) -> Integers:
    """Return the exact sum of the polynomials, times one power of two."""
    ratios = [[float(c).as_integer_ratio() for c in p] for p in polynomials]
    common = lcm(*(bottom for p in ratios for _, bottom in p))
    total = [0] * max(map(len, ratios))
    for p in ratios:
        for k, (top, bottom) in enumerate(p, start=len(total) - len(p)):
            total[k] += top * (common // bottom)
    return total


def _trim(p: Integers) -> Integers:
    """Return the coefficients without leading zeros."""
    first = next((k for k, c in enumerate(p) if c), len(p))
    return p[first:]


def _primitive(p: Integers) -> Integers:
    content = gcd(*p)
    return [c // content for c in p]


def _square_free(p: Integers) -> list[tuple[Integers, int]]:
    """Return (factor, multiplicity) pairs, each factor with simple roots (Yun)."""
    if len(p) < 2:
        return []
    if _coprime_mod_prime(p, derivative(p)):
        return [(p, 1)]
    factors, multiplicity = [], 1
    common = _greatest_divisor(p, derivative(p))
    w = _quotient(p, common)
    while len(w) > 1:
        y = _greatest_divisor(w, common)
        factor = _quotient(w, y)
        if len(factor) > 1:
            factors.append((factor, multiplicity))
        w, common, multiplicity = y, _quotient(common, y), multiplicity + 1
    return factors


def derivative(p: Integers) -> Integers:
    n = len(p) - 1
    return [c * (n - k) for k, c in enumerate(p[:-1])]


def _coprime_mod_prime(p: Integers, q: Integers) -> bool:
    """Tell whether p and q are coprime modulo a prime, which implies coprime; a no leaves it to the exact way."""
    if p[0] % _PRIME == 0:
        return False
    a, b = ([c % _PRIME for c in x] for x in (p, q))
    while any(b):
        while b[0] == 0:
            b = b[1:]
        inverse = pow(b[0], -1, _PRIME)
        while len(a) >= len(b):
            factor = a[0] * inverse % _PRIME
            a = [(x - factor * y) % _PRIME for x, y in zip(a, b + [0] * (len(a) - len(b)), strict=True)][1:]
        a, b = b, a
    return len(a) == 1


def _greatest_divisor(p: Integers, q: Integers) -> Integers:
    """Return the greatest common divisor by primitive remainders."""
    while any(q):
        while q[0] == 0:
            q = q[1:]
        remainder = p
        while len(remainder) >= len(q):
            top = remainder[0]
            pairs = zip(remainder, q + [0] * (len(remainder) - len(q)), strict=True)
            remainder = [q[0] * x - top * y for x, y in pairs][1:]
        p, q = q, (_primitive(remainder) if any(remainder) else [])
    return _primitive(p)


def _quotient(p: Integers, q: Integers) -> Integers:
    """Return p/q where q divides p, up to a factor."""
    remainder, result = [Fraction(c) for c in p], []
    while len(remainder) >= len(q):
        factor = remainder[0] / q[0]
        result.append(factor)
        remainder = [x - factor * y for x, y in zip(remainder, q + [0] * (len(remainder) - len(q)), strict=True)][1:]
    common = lcm(*(c.denominator for c in result))
    return _primitive([int(c * common) for c in result])


def _simple_roots(p: Integers) -> list[complex]:
    """Return the roots of a square-free polynomial with p(0) != 0, found in units of 2^shift, about their mean size."""
    n = len(p) - 1
    shift = round((abs(p[-1]).bit_length() - abs(p[0]).bit_length()) / n)
    lowest = min(0, -shift * n)
    q = [c << (-shift * k - lowest) for k, c in enumerate(p)]
    guesses = np.roots([float(Fraction(c, q[0])) for c in q])
    z = guesses + 1e-8 * np.abs(guesses) * np.exp(1j * np.arange(n))  # equal guesses would divide by zero
    for bits in _PRECISIONS:
        roots = _certified_roots(q, z, bits)
        if roots is not None:
            return [complex(np.ldexp(r.real, shift), np.ldexp(r.imag, shift)) for r in roots]
    raise ArithmeticError(f"the roots of a polynomial of degree {n} are closer than {_PRECISIONS[-1]} bits can tell")


def _certified_roots(q: Integers, guesses: np.ndarray, bits: int) -> list[complex] | None:
    """Return the certified roots, or None where this many bits do not part them: Aberth's steps in fixed point."""
    z = [(_to_fixed_point(r.real, bits), _to_fixed_point(r.imag, bits)) for r in guesses]
    radius = np.full(len(z), np.inf)
    for _ in range(_STEPS):
        for i in np.flatnonzero(radius > _LAST_DIGIT * np.abs([_complex(x, bits) for x in z])):
            newton = _newton_step(q, z[i], bits)
            if newton is None:
                return None
            radius[i] = len(z) * abs(_complex(newton, bits))
            apart = [_complex((z[i][0] - x, z[i][1] - y), bits) for x, y in z[:i] + z[i + 1 :]]
            if 0 in apart:
                return None
            # The deflation only guides: where it tends to 1, the step is Newton's, in all its bits.
            damping = 1 / (1 - _complex(newton, bits) * sum(1 / w for w in apart))
            step = _product(newton, (_to_fixed_point(damping.real, bits), _to_fixed_point(damping.imag, bits)), bits)
            z[i] = (z[i][0] - step[0], z[i][1] - step[1])
        roots = np.array([_complex(x, bits) for x in z])
        if np.all(radius <= _LAST_DIGIT * np.abs(roots)):
            return _in_pairs(z, radius, bits)
    return None


def _newton_step(q: Integers, z: Fixed, bits: int) -> Fixed | None:
    """Return q(z)/q'(z) by Horner; None where the slope vanishes."""
    value, slope = (0, 0), (0, 0)
    for c in q:
        slope = _product(slope, z, bits)
        slope = (slope[0] + value[0], slope[1] + value[1])
        value = _product(value, z, bits)
        value = (value[0] + (c << bits), value[1])
    size = slope[0] ** 2 + slope[1] ** 2
    if size == 0:
        return None
    x, y = value[0] * slope[0] + value[1] * slope[1], value[1] * slope[0] - value[0] * slope[1]
    return (x << bits) // size, (y << bits) // size


def _in_pairs(z: list[Fixed], radius: np.ndarray, bits: int) -> list[complex] | None:
    """Return the roots, each real or with its exact conjugate; None where two disks meet."""
    roots: list[complex] = []
    for i, (x, y) in enumerate(z):
        for other, r in zip(z[:i], radius[:i], strict=True):
            if abs(_complex((x - other[0], y - other[1]), bits)) <= r + radius[i]:
                return None
        # A disk that meets the real axis meets its mirror image, which holds a root too: the same one.
        root = _complex((x, y), bits)
        if abs(root.imag) <= radius[i]:
            roots.append(complex(root.real))
        elif root.imag > 0:
            roots += [root, root.conjugate()]
    return roots if len(roots) == len(z) else None


def _product(a: Fixed, b: Fixed, bits: int) -> Fixed:
    return (a[0] * b[0] - a[1] * b[1]) >> bits, (a[0] * b[1] + a[1] * b[0]) >> bits


def _to_fixed_point(x: float, bits: int) -> int:
    top, bottom = float(x).as_integer_ratio()
    return (top << bits) // bottom


def _complex(z: Fixed, bits: int) -> complex:
    unit = 1 << bits
    return complex(z[0] / unit, z[1] / unit)  # true division of integers is correctly rounded
