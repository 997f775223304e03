"""p(z) = den(z)(z - 1) + (1 + k_r - lambda) num(z): random controllers and real eigenvalues, in floats and fractions.

This module counts for the scene of the odd-number limit which random controllers hold which real eigenvalue, and
evaluates the sign of p(1) exactly.
"""

from fractions import Fraction

import control
import numpy as np

from ctrlattn import PID, LTIController, looped
from ctrlattn.stability import pass_poles

SMALL, FULL = 150, 3000  # controllers
PER = 8  # eigenvalues for each
MOST_ORDER = 4


def controllers(count, seed, *, stable):
    """Random controllers of orders 0 to 4 as (num, den), with C(1) > 0; their poles lie inside the circle or not."""
    rng = np.random.default_rng(seed)
    fractions = []
    while len(fractions) < count:
        order = int(rng.integers(0, MOST_ORDER + 1))
        reach = 0.98 if stable else 2.0
        poles = _roots(rng, order, reach)
        if not stable and np.all(np.abs(poles) < 1):
            poles = np.append(poles, rng.uniform(1.1, reach))  # one at least lies outside
        zeros = _roots(rng, int(rng.integers(0, len(poles) + 1)), 1.5)
        num, den = (np.atleast_1d(np.real(np.poly(roots))) for roots in (zeros, poles))
        num = float(rng.uniform(0.05, 1.0)) * num
        if abs(np.polyval(num, 1.0)) < 1e-6 or abs(np.polyval(den, 1.0)) < 1e-6:
            continue
        sign = np.sign(np.polyval(num, 1.0) / np.polyval(den, 1.0))
        fractions.append((sign * num, den))
    return fractions


def _roots(rng, count, reach):
    """Real numbers and complex pairs of at most this modulus."""
    roots = []
    while len(roots) < count:
        size, angle = reach * rng.uniform() ** 0.5, rng.uniform(0, np.pi)
        if count - len(roots) > 1 and rng.uniform() < 0.5:
            roots += [size * np.exp(1j * angle), size * np.exp(-1j * angle)]
        else:
            roots.append(rng.uniform(-reach, reach))
    return np.array(roots)


def radii(laws, seed, recall=0.0):
    """(distance lambda - 1 - k_r, largest |pole|) of every law with eigenvalues on both sides of the edge."""
    rng = np.random.default_rng(seed + 1)
    rows = []
    for num, den in laws:
        away = rng.uniform(-3.0, 3.0, PER)
        law = LTIController(control.tf(num, den, 1))
        largest = np.abs(pass_poles(law, 1 + recall + away, recall)).max(axis=-1)
        rows += list(zip(away.tolist(), largest.tolist(), strict=True))
    return np.array(rows)


def exact_signs(laws, seed):
    """How many of p(1) < 0 < p(R) hold in fractions, for stable laws and lambda = 1 + w, w > 0; R bounds all zeros."""
    rng = np.random.default_rng(seed + 2)
    holds = 0
    for num, den in laws:
        w = Fraction(float(rng.uniform(1e-3, 3.0)))
        p = characteristic([Fraction(x) for x in num.tolist()], [Fraction(x) for x in den.tolist()], w)
        bound = 1 + max(abs(c) for c in p[1:])  # Cauchy's bound of a monic polynomial
        holds += value(p, Fraction(1)) < 0 < value(p, bound)
    return holds


def characteristic(num, den, w):
    """Coefficients of den(z)(z - 1) - w num(z), w = lambda - 1 - k_r; exact where the numbers are.

    >>> characteristic([Fraction(-3), Fraction(2)], [Fraction(1), Fraction(-2)], Fraction(1))  # z^2
    [Fraction(1, 1), Fraction(0, 1), Fraction(0, 1)]
    """
    p = [a - b for a, b in zip([*den, 0 * den[0]], [0 * den[0], *den], strict=True)]
    padded = [0 * den[0]] * (len(p) - len(num)) + [w * c for c in num]
    return [a - b for a, b in zip(p, padded, strict=True)]


def value(p, z):
    """p(z) by Horner's rule, exact where the numbers are."""
    result = 0 * p[0]
    for c in p:
        result = result * z + c
    return result


def dead_beat(w):
    """(p of lambda = 1 + w, p of lambda = 1 - w) under C = (2 - 3z)/(w (z - 2)), exactly: z^2, z^2 - 6z + 4."""
    num, den = [Fraction(-3) / w, Fraction(2) / w], [Fraction(1), Fraction(-2)]
    return characteristic(num, den, w), characteristic(num, den, -w)


def run_of(eigenvalue, gain, recall, passes=60):
    """|e| over passes of the linear loop with this eigenvalue, which starts at 1 away from its fixed point."""
    run = looped.iterate(lambda h: eigenvalue * h, np.ones(1), passes, PID(gain), recall)
    return np.abs(run.error).ravel()
