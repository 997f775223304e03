"""Sums over all powers of A by doubling, and what A, A^2, A^4 ... say of its poles.

R + A R A* + ... has twice as many terms after each square, E <- E + M E M* with M = A^(2^k); a factor does so by
F <- [F, M F] and a QR, and no equation is squared. The same squares prove stability without an eigenvalue: for |z| >= 1

    ||(zI - A)^-1|| <= sum_k ||A^k|| <= prod_{k<K} (1 + ||A^(2^k)||) / (1 - ||A^(2^K)||).
"""

import math
from typing import Any

import numpy as np
from scipy.linalg.lapack import dgeqrf, dtpqrt, zgeqrf, ztpqrt

from ctrlattn.linear.lapack import frobenius

_EPS = float(np.finfo(float).eps)
_FEW = 32  # states up to which compiled loops are faster than calls of a library
_DOUBLINGS = 80  # 2^80 terms: a radius of 1 - 1e-16 has long converged
_COLUMNS = 8  # that a QR of a triangle with a block below it takes at once
LOST_DIGITS = "{} lost: rounding changes it by a share of {:.0e}. Give the system in triangular (modal) form"


class PowerSums:
    """A, A^2, A^4 ... until they vanish or overflow, kept for all sums, and bounds of their sizes.

    In continuous time A is that of a discrete equation with the same gramians, and `into` (n, n) carries inputs and
    residuals there.

    Parameters
    ----------
    a : (n, n), finite
    into : (n, n), optional
    proving : bool
        Ends where rounding leaves nothing to prove, as it does for an A that is not stable.
    """

    def __init__(self, a: np.ndarray, into: np.ndarray | None = None, *, proving: bool = False) -> None:
        self.a, self.into = np.ascontiguousarray(a), into
        self._few = np.zeros((0, *self.a.shape))  # the squares, for compiled code
        with np.errstate(over="ignore", invalid="ignore"):
            if 0 < len(self.a) <= _FEW and not np.iscomplexobj(self.a):
                from ctrlattn.kernels import doubling

                self._few, sizes, self._overflow = doubling.squares(self.a, _DOUBLINGS)
                self._squares: Any = self._few
                self.sizes = _bounds(sizes.tolist(), len(self.a))
            else:
                self._squares, self.sizes, self._overflow = _squares(self.a, proving)
        self._tails = _tails(self.sizes)

    def adjoint(self) -> "PowerSums":
        """Return the same for A*."""
        adjoint = object.__new__(PowerSums)
        adjoint.a, adjoint.into = self.a.conj().T, None if self.into is None else self.into.conj().T
        adjoint._few = np.ascontiguousarray(self._few.transpose(0, 2, 1))
        adjoint._squares = adjoint._few if len(adjoint._few) else [square.conj().T for square in self._squares]
        adjoint.sizes, adjoint._tails, adjoint._overflow = self.sizes, self._tails, self._overflow
        return adjoint

    def distance(self) -> float:
        """Return a norm below which no change of A moves a pole out of the circle; 0 where nothing is proved.

        >>> PowerSums(np.array([[0.5]])).distance() <= 0.5, PowerSums(np.array([[1.5]])).distance()
        (True, 0.0)
        """
        *sizes, last = self.sizes
        if not last < 1:
            return 0.0
        return (1 - last) / math.prod(1 + size for size in sizes)

    def factor(self, b: np.ndarray) -> np.ndarray:
        """Return F, of n columns at most, with F F* = B B* + A B B* A* + ..."""
        if len(self._few) and not np.iscomplexobj(b):
            from ctrlattn.kernels import doubling

            f, ended = doubling.factor(np.ascontiguousarray(b), self._few)
            if self._overflow and not ended:
                raise ArithmeticError(LOST_DIGITS.format("a gramian is", np.inf))  # rounding lets the powers of A grow
            return f
        f = _join(np.zeros((len(b), 0), b.dtype), b)
        for square in self._squares:
            step = square @ f
            if frobenius(step) <= _EPS**2 * frobenius(f):
                return f
            f = _join(f, step)
        if self._overflow:
            raise ArithmeticError(LOST_DIGITS.format("a gramian is", np.inf))
        return f

    def summed(self, error: np.ndarray) -> np.ndarray:
        """Return R + A R A* + ..."""
        for power in self._squares:
            step = power @ error @ power.conj().T
            error = error + step
            if frobenius(step) <= _EPS * frobenius(error):
                break
        return error

    def bounded(self, error: np.ndarray, enough: float) -> float:
        """Bound ||R + A R A* + ...||_F for a Hermitian R: as few terms are summed as bring it to `enough`.

        What follows the first 2^k terms E is at most ||E|| times the sum of all ||A^(m 2^k)||^2. A sum without an end
        is its own bound.

        >>> PowerSums(np.array([[0.5]])).bounded(np.array([[3.0]]), 0.0)  # 3/(1 - .25)
        4.0
        """
        if len(self._few) and not np.iscomplexobj(error):
            from ctrlattn.kernels import doubling

            return float(doubling.bounded(error, self._few, self._tails, enough))
        size = frobenius(error)
        for power, tail in zip(self._squares, self._tails.tolist(), strict=True):
            if size * tail <= enough:
                return size * tail
            step = power @ error @ power.conj().T
            error = error + step
            size = frobenius(error)
            if frobenius(step) <= _EPS * size:
                break
        return size


def _squares(a: np.ndarray, proving: bool) -> tuple[list[np.ndarray], list[float], bool]:
    """Return (A, A^2, A^4 ..., bounds of their sizes, whether the next one overflows)."""
    squares, sizes = [a], [frobenius(a)]
    while sizes[-1] > _EPS**2 and len(squares) < _DOUBLINGS:
        square = squares[-1] @ squares[-1]
        size = frobenius(square)
        if not math.isfinite(size):
            return squares, _bounds(sizes, len(a)), True
        squares.append(square)
        sizes.append(size)
        if proving and not _bounds(sizes, len(a))[-1] - size <= 1:
            break
    return squares, _bounds(sizes, len(a)), False


def _bounds(sizes: list[float], n: int) -> list[float]:
    """Bound ||A^(2^k)||_F by those of the computed squares M_k.

    With d_k = ||A^(2^k) - M_k||, d_{k+1} <= 2 d_k ||M_k|| + d_k^2 + the rounding of a product, n eps ||M_k||^2.
    """
    away, rounding, bounds = 0.0, 2 * n * _EPS, []
    for size in sizes:
        bounds.append(size + away)
        away = away * (2 * size + away) + rounding * size * size
    return bounds


def _tails(bounds: list[float]) -> np.ndarray:
    """Return for each k a bound of the sum of all ||A^(m 2^k)||^2, m = 0, 1, ..."""
    last = bounds[-1] if bounds else 0.0
    total = 1 / (1 - last * last) if last < 1 else math.inf
    tails = [total]
    for size in reversed(bounds[:-1]):
        total *= 1 + size * size
        tails.append(total)
    return np.array(tails[::-1])


def _join(f: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return a factor of F F* + S S* of as many columns as rows at most; one that has as many is lower triangular."""
    n, columns = f.shape
    if columns + step.shape[1] < n:
        return np.hstack([f, step]) if columns else step
    if columns < n:
        both = np.hstack([f, step]).conj().T
        reduced = np.triu((zgeqrf if np.iscomplexobj(both) else dgeqrf)(both)[0][:n])
    elif n == 0:
        return f
    elif np.iscomplexobj(f) or np.iscomplexobj(step):
        reduced = ztpqrt(0, min(_COLUMNS, n), f.conj().T, step.conj().T)[0]
    else:
        reduced = dtpqrt(0, min(_COLUMNS, n), f.T, step.T)[0]
    return reduced.conj().T
