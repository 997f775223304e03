"""num/den = k H_1 ... H_m, one section H = d + c (zI - M)^-1 b for two poles: a transfer function as a state space.

The poles stand in the diagonal blocks of A as they are, each correct to its last digit, and no rounding of one moves
another. In companion coordinates the six poles of a plant that is sampled fast lose all their digits.
"""

from typing import Any, NamedTuple

import numpy as np

from ctrlattn.arrays import require_real
from ctrlattn.errors import InputError
from ctrlattn.linear.balancing import state_scaling
from ctrlattn.linear.polynomial_roots import accurate_roots

_IMPROPER = "the transfer function is improper (degree {} over {}): it has no state space and no finite norm"

StateMatrices = tuple[np.ndarray, np.ndarray, np.ndarray, float]


class _Group(NamedTuple):
    """One root, two real ones, or a complex pair."""

    roots: tuple[complex, ...]

    @property
    def centre(self) -> complex:
        return sum(self.roots) / len(self.roots)


def cascade(num: Any, den: Any) -> StateMatrices:
    """Return (A, b, c, d) of num/den in descending powers, A upper block triangular with the poles on its diagonal.

    Parameters
    ----------
    num, den : (m + 1,), (n + 1,) real
        The doubles are taken as exact. A root that both have stays, as a mode that the output does not show.

    Returns
    -------
    A (n, n), b (n,), c (n,), d
        The states are scaled by powers of two.

    Raises
    ------
    InputError
        A denominator that is zero, an improper function, coefficients that are not finite.
    ArithmeticError
        As `accurate_roots`.

    Examples
    --------
    >>> a, b, c, d = cascade([1.0, 0.0], [1.0, -0.5])  # z/(z - 0.5) = 1 + 0.5/(z - 0.5)
    >>> a.tolist(), float(b[0] * c[0]), d
    ([[0.5]], 0.5, 1.0)
    """
    num, den = (np.trim_zeros(np.atleast_1d(require_real("the coefficients", p)), "f") for p in (num, den))
    if not len(den):
        raise InputError("the denominator of the transfer function is zero")
    if len(num) > len(den):
        raise InputError(_IMPROPER.format(len(num) - 1, len(den) - 1))
    order = len(den) - 1
    if not len(num) or not order:
        a, b, c, d = np.zeros((0, 0)), np.zeros(0), np.zeros(0), float(num[0] / den[0]) if len(num) else 0.0
        return (a, b, c, d) if not order else _zero_function(den)
    a, b, c, d = _series([_section(p, z) for p, z in _match(accurate_roots(den), accurate_roots(num))])
    gain = num[0] / den[0]
    c, d = gain * c, float(gain * d)
    scale = state_scaling(a, b[:, None], c[None, :])
    return a * scale / scale[:, None], b / scale, c * scale, d


def cascade_of_roots(zeros: Any, poles: Any, gain: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """Return (A, b, c, d) of gain prod (z - zeros) / prod (z - poles), each root as it is given.

    Roots in conjugate pairs and a real gain give real matrices of sections of order 2, all others complex ones of
    order 1. Polynomials of the roots would round them.

    Parameters
    ----------
    zeros, poles : (m,), (n,)
    gain : scalar

    Returns
    -------
    A (n, n), b (n,), c (n,), d

    Raises
    ------
    InputError
        More zeros than poles, or a value that is not finite.

    Examples
    --------
    >>> a, b, c, d = cascade_of_roots([0.0], [0.5], 2.0)  # 2 z/(z - 0.5) = 2 + 1/(z - 0.5)
    >>> a.tolist(), float(b[0] * c[0]), d
    ([[0.5]], 1.0, 2.0)
    """
    zeros, poles = (np.atleast_1d(np.asarray(r, dtype=np.complex128)).ravel() for r in (zeros, poles))
    if not (np.isfinite(zeros).all() and np.isfinite(poles).all() and np.isfinite(gain)):
        raise InputError("zeros, poles and gain must be finite")
    if len(zeros) > len(poles):
        raise InputError(_IMPROPER.format(len(zeros), len(poles)))
    if all(_is_paired(r) for r in (zeros, poles)) and np.isreal(gain):
        a, b, c, d = _series([_section(p, z) for p, z in _match(poles, zeros)])
        gain = float(np.real(gain))
    else:
        nearest = sorted(zeros, key=lambda z: float(np.min(np.abs(poles - z))))
        pairs = [*nearest, *[None] * (len(poles) - len(zeros))]
        sections: list[Any] = [
            (np.array([[p]]), np.ones(1), np.array([1.0 if z is None else p - z]), 0.0 if z is None else 1.0)
            for p, z in zip(poles, pairs, strict=True)
        ]
        a, b, c, d = _series(sections)
    scale = state_scaling(a, b[:, None], (gain * c)[None, :])
    return a * scale / scale[:, None], b / scale, gain * c * scale, gain * d


def _is_paired(roots: np.ndarray) -> bool:
    """Tell whether each root has its conjugate beside it, to the last digit."""
    upper, lower = (
        sorted(r, key=lambda z: (z.real, z.imag)) for r in (roots[roots.imag > 0], roots.conj()[roots.imag < 0])
    )
    return bool(upper == lower)


def _zero_function(den: np.ndarray) -> StateMatrices:
    """Return the zero function with the poles that it keeps."""
    a, b, c, _ = _series([_section(p, ()) for p, _ in _match(accurate_roots(den), np.zeros(0, dtype=complex))])
    return a, b, np.zeros_like(c), 0.0


def _group(roots: np.ndarray) -> list[_Group]:
    """Group complex pairs, then pairs of neighbours among the real roots; of an odd number the farthest is alone."""
    pairs = [_Group((r, r.conjugate())) for r in roots.tolist() if r.imag > 0]
    real = sorted((r for r in roots.tolist() if r.imag == 0), key=abs)
    return pairs + [_Group(tuple(real[i : i + 2])) for i in range(0, len(real), 2)]


def _match(poles: np.ndarray, zeros: np.ndarray) -> list[tuple[tuple[complex, ...], tuple[complex, ...]]]:
    """Return (poles, zeros) of each section: a zero goes to the nearest section that has room for it, pairs first."""
    sections, placed = _group(poles), {}
    for group in sorted(_group(zeros), key=lambda z: -len(z.roots)):
        free = [i for i, p in enumerate(sections) if i not in placed and len(p.roots) >= len(group.roots)]
        nearest = min(free, key=lambda i: _distance(sections[i], group))
        placed[nearest] = group.roots
    return [(p.roots, placed.get(i, ())) for i, p in enumerate(sections)]


def _distance(poles: _Group, zeros: _Group) -> float:
    return max(min(abs(z - p) for p in poles.roots) for z in zeros.roots)


def _section(poles: tuple[complex, ...], zeros: tuple[complex, ...]) -> StateMatrices:
    """Return prod (z - zeros) / prod (z - poles), written around a pole, where no large terms cancel."""
    direct = 1.0 if len(zeros) == len(poles) else 0.0
    if len(poles) == 1:
        pole = poles[0].real
        return np.array([[pole]]), np.ones(1), np.array([pole - zeros[0].real if zeros else 1.0]), direct
    first, second = poles
    origin = first.real
    turn = first.imag**2
    # With x_2 = (z - origin) x_1 the output is d + (slope (z - origin) + value)/((z - first)(z - second)).
    a = np.array([[origin, 1.0], [-turn, second.real]])
    slope = {0: 0.0, 1: 1.0, 2: (first + second - sum(zeros)).real}[len(zeros)]
    value = complex(np.prod([origin - z for z in zeros])).real - direct * turn
    return a, np.array([0.0, 1.0]), np.array([value, slope]), direct


def _series(sections: list[StateMatrices]) -> StateMatrices:
    """Put one section behind the other, the last one's states first: A is upper block triangular."""
    a, b, c, d = np.zeros((0, 0)), np.zeros(0), np.zeros(0), 1.0
    for a_i, b_i, c_i, d_i in sections:
        a = np.block([[a_i, np.outer(b_i, c)], [np.zeros((len(a), len(a_i))), a]])
        b, c, d = np.concatenate([b_i * d, b]), np.concatenate([c_i, d_i * c]), d * d_i
    return a, b, c, d
