"""What is true of a system whose doubles are exact: margins, norms and Gramians by mpmath, with no code of the package.

A discrete system goes to s by z = (1 + s)/(1 - s), so that one theory serves both times: z = -1 is s = infinity, and
the boundary is s = ix. There L = N/D has polynomials in y = x^2 for all that is asked,

    N = e_N(y) + ix o_N(y):   Im N conj D = x (o_N e_D - e_N o_D),   |N|^2 = e_N^2 + y o_N^2.

Their real roots are enclosed by the roots of their derivatives, from the last derivative upwards: no eigenvalue is
computed, no root can hide, and a double root is one where the polynomial vanishes at an extremum. Stability is Routh's
table. 200 digits carry all of it, since the states of a sampled plant lose some hundred on the way to polynomials.
"""

import inspect
import math
from itertools import pairwise
from typing import Any, NamedTuple

import control
import numpy as np
from mpmath import mp, mpf

DIGITS = 200
_ZERO = mpf(10) ** -120  # relative: a coefficient below is 0, since doubles leave nothing between 1e-16 n and this
Polynomial = list[Any]  # ascending powers of mpf


class Line(NamedTuple):
    """N(s)/D(s), both with the coefficients of s^0 ... s^n; `omega` of x; what belongs to y = 0 and y = infinity."""

    num: Polynomial
    den: Polynomial
    discrete: bool

    def omega(self, y: Any) -> Any:
        """rad per sample, or per unit of time, of s = i sqrt(y)."""
        if y == mp.inf:
            return mp.pi if self.discrete else mp.inf
        return 2 * mp.atan(mp.sqrt(y)) if self.discrete else mp.sqrt(y)


def line(system: Any) -> Line:
    """A SISO TransferFunction, StateSpace or (A, B, C, D) on the s-line."""
    with mp.workdps(DIGITS):
        if isinstance(system, control.TransferFunction):
            num, den = ([mpf(float(c)) for c in p[0][0][::-1]] for p in (system.num, system.den))
            den = _trimmed(den)
        else:
            a, b, c, d = matrices(system)
            num, den = _leverrier(a, b, c, d)
        num = _trimmed(num)
        num = num + [mpf(0)] * (len(den) - len(num))
        discrete = isinstance(system, tuple) or system.dt != 0
        return Line(*((to_s(p) if discrete else p) for p in (num, den)), discrete)


def broken(system: control.StateSpace, channel: int) -> Line:
    """The loop of one channel, the others closed by negative feedback."""
    with mp.workdps(DIGITS):
        a, b, c, d = matrices(system)
        other = [i for i in range(len(d)) if i != channel]
        back = b[:, other] @ _inverse(_identity(len(other)) + d[np.ix_(other, other)])
        out = d[np.ix_([channel], other)] @ _inverse(_identity(len(other)) + d[np.ix_(other, other)])
        a = a - back @ c[other]
        b, first = b[:, [channel]] - back @ d[np.ix_(other, [channel])], c[[channel]] - out @ c[other]
        direct = d[np.ix_([channel], [channel])] - out @ d[np.ix_(other, [channel])]
        num, den = _leverrier(a, b, first, direct)
        discrete = system.dt != 0
        return Line(*((to_s(p) if discrete else p) for p in (num, den)), discrete)


def matrices(system: Any) -> tuple[np.ndarray, ...]:
    """A, B, C, D as arrays of mpf; of a TransferFunction in companion coordinates, which lose nothing at 200 digits."""
    if isinstance(system, control.TransferFunction):
        num, den = (_trimmed([mpf(float(c)) for c in p[0][0][::-1]]) for p in (system.num, system.den))
        n = len(den) - 1
        den, num = [c / den[-1] for c in den], [c / den[-1] for c in num] + [mpf(0)] * (n + 1 - len(num))
        a, b, c = _zeros(n, n), _zeros(n, 1), _zeros(1, n)
        for i in range(n):
            a[n - 1, i], c[0, i] = -den[i], num[i] - num[n] * den[i]
            if i:
                a[i - 1, i] = mpf(1)
        if n:
            b[n - 1, 0] = mpf(1)
        return a, b, c, np.array([[num[n]]], dtype=object)
    parts = system if isinstance(system, tuple) else (system.A, system.B, system.C, system.D)
    return tuple(np.vectorize(lambda x: mpf(float(x)), otypes=[object])(np.atleast_2d(p)) if np.size(p)
                 else _zeros(*np.shape(np.atleast_2d(p))) for p in parts)  # fmt: skip


def _zeros(rows: int, columns: int) -> np.ndarray:
    m = np.empty((rows, columns), dtype=object)
    m[...] = mpf(0)
    return m


def _leverrier(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> tuple[Polynomial, Polynomial]:
    """(num, den) of D + C (sI - A)^-1 B by Faddeev and Leverrier's recursion."""
    n = len(a)
    den, num, m = [mpf(1)], [], _identity(n)
    for k in range(1, n + 1):
        num.append((c @ m @ b)[0, 0])
        product = a @ m
        den.append(-sum((product[i, i] for i in range(n)), mpf(0)) / k)
        m = product + den[-1] * _identity(n)
    den, num = den[::-1], num[::-1]
    return [p + d[0, 0] * q for p, q in zip([*num, mpf(0)], den, strict=True)], den


def _identity(n: int) -> np.ndarray:
    m = _zeros(n, n)
    for i in range(n):
        m[i, i] = mpf(1)
    return m


def to_s(p: Polynomial) -> Polynomial:
    """(1 - s)^n p((1 + s)/(1 - s)), n the length of p less 1."""
    n = len(p) - 1
    total = [mpf(0)] * (n + 1)
    for k, coefficient in enumerate(p):
        term = [mpf(1)]
        for sign in [1] * k + [-1] * (n - k):
            term = times(term, [mpf(1), mpf(sign)])
        total = plus(total, [coefficient * t for t in term])
    return _cleaned(total, max(map(abs, p)))


# ---- polynomials -----------------------------------------------------------------------------------------------------


def _trimmed(p: Polynomial) -> Polynomial:
    while len(p) > 1 and p[-1] == 0:
        p = p[:-1]
    return p


def _cleaned(p: Polynomial, size: Any) -> Polynomial:
    return [c if abs(c) > _ZERO * size else mpf(0) for c in p]


def times(p: Polynomial, q: Polynomial) -> Polynomial:
    product = [mpf(0)] * (len(p) + len(q) - 1)
    for i, a in enumerate(p):
        for j, b in enumerate(q):
            product[i + j] += a * b
    return product


def plus(p: Polynomial, q: Polynomial, factor: Any = 1) -> Polynomial:
    n = max(len(p), len(q))
    p, q = (r + [mpf(0)] * (n - len(r)) for r in (p, q))
    return [a + factor * b for a, b in zip(p, q, strict=True)]


def _difference(p: Polynomial, q: Polynomial) -> Polynomial:
    """p - q, where what cancels to rounding is 0."""
    size = max((abs(c) for c in [*p, *q]), default=mpf(0))
    return _cleaned(plus(p, q, -1), size)


def _slope(p: Polynomial) -> Polynomial:
    return [k * c for k, c in enumerate(p)][1:]


def _value(p: Polynomial, y: Any) -> Any:
    total = mpf(0)
    for c in reversed(p):
        total = total * y + c
    return total


def halves(p: Polynomial) -> tuple[Polynomial, Polynomial]:
    """(e, o) with p(ix) = e(x^2) + ix o(x^2)."""
    even = [c * (-1) ** k for k, c in enumerate(p[::2])]
    odd = [c * (-1) ** k for k, c in enumerate(p[1::2])]
    return even, odd or [mpf(0)]


def squared(p: Polynomial) -> Polynomial:
    """|p(ix)|^2 in y."""
    e, o = halves(p)
    return plus(times(e, e), [mpf(0), *times(o, o)])


def turn(p: Polynomial, q: Polynomial) -> tuple[Polynomial, Polynomial]:
    """(Re, Im/x) of p conj(q) on s = ix."""
    (e, o), (f, g) = halves(p), halves(q)
    return plus(times(e, f), [mpf(0), *times(o, g)]), _difference(times(o, f), times(e, g))


def on_boundary(p: Polynomial, y: Any, degree: int, mirrored: bool = False) -> Any:
    """p(ix), x = sqrt(y) or its negative; at infinity the coefficient of the degree, which a ratio shares."""
    if y == mp.inf:
        return mp.mpc(p[degree] if len(p) > degree else 0)
    x = mp.sqrt(y)
    return _value(p, mp.mpc(0, -x if mirrored else x))


def positive_roots(p: Polynomial) -> list[Any]:
    """All y > 0 with p(y) = 0, ascending; a double root once; none for the zero polynomial."""
    with mp.workdps(DIGITS):
        p = _trimmed(p)
        while len(p) > 1 and p[0] == 0:
            p = p[1:]
        if len(p) < 2:
            return []
        # y = t/(unit) with the geometric mean of the roots at 1.
        unit = mp.power(2, mp.nint(mp.log(abs(p[0] / p[-1]), 2) / (len(p) - 1)))
        p = [c * unit**k for k, c in enumerate(p)]
        bound = 1 + max(abs(c / p[-1]) for c in p[:-1])
        derivatives = [p]
        while len(derivatives[-1]) > 2:
            q = _slope(derivatives[-1])
            size = max(map(abs, q))
            derivatives.append([c / size for c in q])
        roots: list[Any] = []
        for q in reversed(derivatives):
            roots = _between(q, [mpf(0), *roots, bound])
        return [unit * r for r in roots]


def _between(p: Polynomial, knots: list[Any]) -> list[Any]:
    """The roots of p, which is monotone between the knots."""
    sizes = [sum(abs(c) * k**i for i, c in enumerate(p)) for k in knots]
    values = [_value(p, k) for k in knots]
    values = [v if abs(v) > mpf(10) ** -70 * s else mpf(0) for v, s in zip(values, sizes, strict=True)]
    roots: list[Any] = []
    for low, high, v, w in zip(knots[:-1], knots[1:], values[:-1], values[1:], strict=True):
        if v == 0 and low > 0 and (not roots or roots[-1] != low):
            roots.append(low)
        if v * w < 0:
            roots.append(_bracketed(p, low, high, v))
    return roots


def _bracketed(p: Polynomial, low: Any, high: Any, v: Any) -> Any:
    """Newton's step where it stays inside and at least halves the last one, else the middle (of the logarithm)."""
    slope, y, step = _slope(p), _centre(low, high), high - low
    for _ in range(2000):
        value = _value(p, y)
        if value == 0:
            return y
        if (value > 0) == (v > 0):
            low = y
        else:
            high = y
        derivative = _value(slope, y)
        following = y - value / derivative if derivative else low
        if not low < following < high or 2 * abs(following - y) > step:
            following = _centre(low, high)
        step = abs(following - y)
        if step <= mpf(10) ** -100 * abs(y) or high - low <= mpf(10) ** -100 * abs(high):
            return following
        y = following
    raise ArithmeticError("a root was not reached in 2000 steps")


def _centre(low: Any, high: Any) -> Any:
    if low == 0 and high > mpf(10) ** -60:
        return high / 64
    return mp.sqrt(low * high) if low > 0 and high > 4 * low else (low + high) / 2


def unstable_roots(p: Polynomial) -> tuple[int, bool]:
    """(roots in Re s > 0, is any on the boundary) by Routh's table; one at infinity is on the boundary."""
    with mp.workdps(DIGITS):
        n = len(p) - 1
        if n <= 0:
            return 0, n == 0 and p[0] == 0
        size = max(map(abs, p))
        if abs(p[-1]) <= _ZERO * size or abs(p[0]) <= _ZERO * size:
            return 0, True
        unit = mp.power(2, mp.nint(mp.log(abs(p[0] / p[-1]), 2) / n))
        p = [c * unit**k for k, c in enumerate(p)]
        count = _routh(p)
        if count is None:  # roots on the boundary, or such that mirror each other about it: look from either side
            right, left = (_routh(_shifted(p, side * mpf(10) ** -25), mpf(10) ** -170) for side in (1, -1))
            return right or 0, right is None or right != left
        return count, False


def _routh(p: Polynomial, zero: Any = _ZERO) -> int | None:
    """Changes of sign in the first column; None where an entry of it vanishes."""
    above, below = p[::-1][::2], p[::-1][1::2]
    signs = [mp.sign(above[0])]
    while below:
        if abs(below[0]) <= zero * max(map(abs, above + below)):
            return None
        signs.append(mp.sign(below[0]))
        factor = above[0] / below[0]
        following = [a - factor * b for a, b in zip(above[1:], [*below[1:], mpf(0)], strict=False)]
        above, below = below, following
    return sum(s != t for s, t in pairwise(signs))


def _shifted(p: Polynomial, by: Any) -> Polynomial:
    """p(s + by), by Horner's rule."""
    total: Polynomial = [mpf(0)]
    for c in reversed(p):
        total = plus(times(total, [by, mpf(1)]), [c])
    return total[: len(p)]


def stable(p: Polynomial) -> bool:
    """All roots in Re s < 0, none at infinity."""
    return unstable_roots(p) == (0, False)


# ---- what is asked of a loop -----------------------------------------------------------------------------------------


class Crossing(NamedTuple):
    """A point of the boundary where 1 + K L = 0 (`value` = K) or 1 + e^{-i phi} L = 0 (`value` = phi in degrees)."""

    y: Any
    omega: Any
    value: Any


def gain_crossings(loop: Line) -> list[Crossing]:
    """Every K, of either sign, that puts a pole on the boundary; where L is real for all w, its ends alone."""
    real, imaginary = turn(loop.num, loop.den)
    square = squared(loop.den)
    crossings = []
    for y in [mpf(0), *positive_roots(imaginary), mp.inf]:
        top, bottom = (_at(p, y, len(loop.den) - 1) for p in (real, square))
        if bottom > 0 and top != 0:  # a pole of L on the boundary is no crossing, nor is L = 0
            crossings.append(Crossing(y, loop.omega(y), -bottom / top))
    return crossings


def phase_crossings(loop: Line) -> list[Crossing]:
    """Every phi of (-180, 180] with L e^{-i phi} = -1 on the boundary."""
    both = _difference(squared(loop.num), squared(loop.den))
    real, imaginary = turn(loop.num, loop.den)
    n = len(loop.den) - 1
    ends = [y for y in (mpf(0), mp.inf) if _at(both, y, n) == 0 and _at(squared(loop.den), y, n) != 0]
    crossings = []
    for y in sorted({*ends, *positive_roots(both)}):
        re = _at(real, y, n)
        im = mp.sqrt(y) * _value(imaginary, y) if y not in ends else mpf(0)
        if re != 0 or im != 0:
            phi = mp.degrees(mp.atan2(-im, -re))
            crossings.append(Crossing(y, loop.omega(y), phi))
    return crossings


def _at(p: Polynomial, y: Any, degree: int) -> Any:
    """p(y); at infinity the coefficient of y^degree, by which both sides of a ratio grow."""
    if y == mp.inf:
        return p[degree] if len(p) > degree else mpf(0)
    return _value(p, y)


def extreme(top: Polynomial, bottom: Polynomial, degree: int, *, largest: bool) -> tuple[Any, Any]:
    """(value, y) of the largest or smallest top/bottom over y in [0, inf]; inf where the denominator vanishes."""
    slope = _difference(times(_slope(top), bottom), times(top, _slope(bottom)))
    best: tuple[Any, Any] | None = None
    for y in [mpf(0), *positive_roots(slope), mp.inf]:
        a, b = _at(top, y, degree), _at(bottom, y, degree)
        scale = sum(abs(c) * y**k for k, c in enumerate(bottom)) if y != mp.inf else max(map(abs, bottom))
        if abs(b) <= mpf(10) ** -100 * scale:
            if a == 0:
                continue
            value = mp.inf
        else:
            value = a / b
        if best is None or (value > best[0] if largest else value < best[0]):
            best = value, y
    assert best is not None
    return best


class Margins(NamedTuple):
    """As the package has them, in the same conventions: all nan beside `stable` where the loop is unstable."""

    stable: bool
    gain_margin: float = math.nan
    phase_crossover: float = math.nan
    gain_reduction: float = math.nan
    phase_margin: float = math.nan
    gain_crossover: float = math.nan
    delay_margin: float = math.nan
    modulus_margin: float = math.nan
    modulus_frequency: float = math.nan


def margins(loop: Line) -> Margins:
    """The smallest K > 1, the largest K in (0, 1), the smallest |phi|, the smallest delay, min |1 + L|."""
    with mp.workdps(DIGITS):
        closed = plus(loop.num, loop.den)
        if not stable(closed):
            return Margins(False)
        gains = [c for c in gain_crossings(loop) if c.value > 0]
        up = min((c for c in gains if c.value > 1), key=lambda c: c.value, default=None)
        down = max((c.value for c in gains if c.value < 1), default=mpf(0))
        phases = phase_crossings(loop)
        turned = min(phases, key=lambda c: abs(c.value), default=None)
        delays = [_delay(c) for c in phases if c.omega > 0]
        modulus, y = extreme(squared(closed), squared(loop.den), len(loop.den) - 1, largest=False)
        return Margins(
            True, float(up.value) if up else math.inf, float(up.omega) if up else math.nan, float(down),
            float(abs(turned.value)) if turned else math.inf, float(turned.omega) if turned else math.nan,
            float(min(delays, default=mp.inf)), float(mp.sqrt(modulus)), float(loop.omega(y)),
        )  # fmt: skip


def _delay(crossing: Crossing) -> Any:
    """The smallest tau > 0 with e^{-iw tau} L = -1: phi = w tau, modulo a turn."""
    phi = mp.radians(crossing.value)
    return (phi if phi > 0 else phi + 2 * mp.pi) / crossing.omega


def hinf(system: Line) -> float:
    """sup |G| of a SISO system; inf where it is unstable or has a pole on the boundary."""
    with mp.workdps(DIGITS):
        if not stable(system.den):
            return math.inf
        return float(mp.sqrt(extreme(squared(system.num), squared(system.den), len(system.den) - 1, largest=True)[0]))


def sensitivity(loop: Line) -> tuple[float, float]:
    """(max |S|, max |T|) of a stable loop."""
    with mp.workdps(DIGITS):
        closed = plus(loop.num, loop.den)
        if not stable(closed):
            return math.inf, math.inf
        n, square = len(loop.den) - 1, squared(closed)
        ms, mt = (extreme(squared(p), square, n, largest=True)[0] for p in (loop.den, loop.num))
        return float(mp.sqrt(ms)), float(mp.sqrt(mt))


def sector_limit(system: Line) -> float:
    """-1/min Re G of a stable G, the end of the sector [0, k] of the circle criterion; inf where Re G >= 0."""
    with mp.workdps(DIGITS):
        if not stable(system.den):
            return math.nan
        least = extreme(turn(system.num, system.den)[0], squared(system.den), len(system.den) - 1, largest=False)[0]
        return float(-1 / least) if least < 0 else math.inf


def stable_gains(fixed: Polynomial, term: Polynomial) -> list[tuple[float, float]]:
    """The open intervals of real k in which all roots of fixed + k term lie in Re s < 0."""
    with mp.workdps(DIGITS):
        n = max(len(fixed), len(term))
        fixed, term = (p + [mpf(0)] * (n - len(p)) for p in (fixed, term))
        cuts = sorted({c.value for c in gain_crossings(Line(term, fixed, True))} | _zero_cuts(fixed, term))
        ends = [-mp.inf, *cuts, mp.inf]
        inside = [stable(plus(fixed, term, _middle(a, b))) for a, b in pairwise(ends)]
        joined: list[tuple[Any, Any]] = []
        for (a, b), good in zip(pairwise(ends), inside, strict=True):
            if good and joined and joined[-1][1] == a and stable(plus(fixed, term, a)):
                joined[-1] = (joined[-1][0], b)
            elif good:
                joined.append((a, b))
        return [(float(a), float(b)) for a, b in joined]


def _zero_cuts(fixed: Polynomial, term: Polynomial) -> set[Any]:
    """k = 0, where fixed itself has a root on the boundary."""
    return {mpf(0)}


def _middle(a: Any, b: Any) -> Any:
    if a == -mp.inf:
        return b - 1 - abs(b) if b != mp.inf else mpf(0)
    return a + 1 + abs(a) if b == mp.inf else (a + b) / 2


def nu_gap(p: Line, q: Line) -> float:
    """sup |P - Q|/sqrt((1 + |P|^2)(1 + |Q|^2)), 1 where the winding number is not as it must be."""
    with mp.workdps(DIGITS):
        (n, d, _), (m, h, _) = p, q
        mirrored_n, mirrored_d = ([c * (-1) ** k for k, c in enumerate(r)] for r in (n, d))
        # d~ h + n~ m over the spectral factors of both plants must not wind: as many roots outside as d~ has factors.
        outside, vanishes = unstable_roots(plus(times(mirrored_d, h), times(mirrored_n, m)))
        if vanishes or outside != len(d) - 1:
            return 1.0
        top = squared(plus(times(n, h), times(m, d), -1))
        bottom = times(plus(squared(n), squared(d)), plus(squared(m), squared(h)))
        return float(mp.sqrt(extreme(top, bottom, len(d) + len(h) - 2, largest=True)[0]))


# ---- Gramians --------------------------------------------------------------------------------------------------------


def gramians(system: Any) -> tuple[np.ndarray, np.ndarray]:
    """(P, Q) of A P A' - P + B B' = 0 and its dual (A P + P A' + B B' = 0), by doubling; of a stable system."""
    with mp.workdps(DIGITS):
        a, b, c, _ = matrices(system)
        if not isinstance(system, tuple) and system.dt == 0:
            # Cayley: P of the continuous equation is P of A_d = (t + A)(t - A)^-1, B_d = sqrt(2t) (t - A)^-1 B.
            t = mpf(float(np.sqrt(np.prod(np.sort(np.abs(np.linalg.eigvals(a.astype(float))))[[0, -1]]))))
            inverse = _inverse(t * _identity(len(a)) - a)
            b, c = mp.sqrt(2 * t) * inverse @ b, mp.sqrt(2 * t) * c @ inverse
            a = (t * _identity(len(a)) + a) @ inverse
        return _doubled(a, b @ b.T), _doubled(a.T, c.T @ c)


def _doubled(a: np.ndarray, right: np.ndarray) -> np.ndarray:
    p = right
    if not len(a):
        return p
    for _ in range(400):
        following = p + a @ p @ a.T
        if np.max(np.abs(following - p)) <= mpf(10) ** -100 * np.max(np.abs(p)):
            return (following + following.T) / 2
        p, a = following, a @ a
    raise ArithmeticError("the doubling does not end: the system is not stable")


def _inverse(m: np.ndarray) -> np.ndarray:
    n = len(m)
    rows = np.hstack([m, _identity(n)])
    for i in range(n):
        pivot = i + int(np.argmax([abs(x) for x in rows[i:, i]]))
        rows[[i, pivot]] = rows[[pivot, i]]
        rows[i] = rows[i] / rows[i, i]
        for j in range(n):
            if j != i and rows[j, i] != 0:
                rows[j] = rows[j] - rows[j, i] * rows[i]
    return rows[:, n:]


def response(system: Any, point: Any) -> np.ndarray:
    """D + C (z - A)^-1 B, rounded to complex128 at the end."""
    a, b, c, d = matrices(system)
    return (c @ _inverse(point * _identity(len(a)) - a) @ b + d).astype(complex) if len(a) else d.astype(complex)


def h2(system: Any) -> float:
    """(tr C P C' + D D')^1/2 of a stable system; inf for a continuous one with a direct term."""
    with mp.workdps(DIGITS):
        _, _, c, d = matrices(system)
        continuous = not isinstance(system, tuple) and system.dt == 0
        direct = sum((x * x for x in d.ravel()), mpf(0))
        if continuous and direct != 0:
            return math.inf
        p, _ = gramians(system)
        return float(mp.sqrt(sum((c @ p @ c.T)[i, i] for i in range(len(c))) + direct))


def hankel(system: Any) -> np.ndarray:
    """Hankel singular values of a stable system, descending: the roots of the eigenvalues of P Q."""
    with mp.workdps(80):
        p, q = gramians(system)
        if not len(p):
            return np.zeros(0)
        values, vectors = mp.eigsy(mp.matrix(p.tolist()))
        root = np.array(vectors.tolist(), dtype=object).reshape(p.shape)
        root = root * np.array([mp.sqrt(max(v, mpf(0))) for v in values], dtype=object)
        product = root.T @ q @ root
        values = mp.eigsy(mp.matrix(((product + product.T) / 2).tolist()), eigvals_only=True)
        return np.sort([float(mp.sqrt(max(v, mpf(0)))) for v in values])[::-1]


def roots(p: Polynomial) -> list[Any]:
    """All complex roots by mpmath's own iteration, which since 1.4 asks for the order of the coefficients.

    It starts from numpy's roots, moved apart where they are equal: half of the steps.
    """
    if len(p) < 2:
        return []
    ascending = "asc" in inspect.signature(mp.polyroots).parameters
    options: dict[str, Any] = {"asc": True} if ascending else {}
    largest, k = max(abs(c) for c in p), np.arange(1, len(p))
    near = np.roots([complex(c / largest) for c in p[::-1]])
    if len(near) == len(k) and np.all(np.isfinite(near)):
        apart = near * (1 + 1e-9 * np.exp(0.9j * k)) + 1e-14 * k
        options["roots_init"] = [mp.mpmathify(complex(z)) for z in apart]
    return mp.polyroots(p if ascending else p[::-1], maxsteps=3000, extraprec=600, **options)
