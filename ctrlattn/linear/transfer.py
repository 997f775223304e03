"""G(z) = C (zI - A)^-1 B + D at many points, and along the boundary z = e^{iw}, s = iw: A is reduced once.

Near z = 1 the difference e^{iw} - 1 is computed without cancelling, and A - I is almost exact there: written so, a
cluster of poles near z = 1 keeps the digits that zI - A loses. The same holds at z = -1.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from scipy.linalg.lapack import dgehrd, dorghr

from ctrlattn.arrays import require_real
from ctrlattn.errors import InputError
from ctrlattn.linear.balancing import state_scaling
from ctrlattn.linear.lapack import COMPILED, on_contiguous
from ctrlattn.linear.triangular import is_triangular

_SMALL = 12  # states below which one batched solve is faster, for any number of points
_FEW = 48  # states below which it needs no compiled code for the same time, for a few points
_AT_A_POLE = complex(np.inf, np.nan)  # as python-control says it


def boundary_values(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, frequencies: np.ndarray, *, continuous: bool
) -> np.ndarray:
    """Return G(e^{iw}) or G(iw) at each frequency, (outputs, inputs, m); D where it is infinite, (inf, nan) at a pole.

    The frequency pi, in double precision, stands for z = -1 exactly.

    >>> a = np.array([[0.5]])
    >>> boundary_values(a, np.eye(1), np.eye(1), np.zeros((1, 1)), np.array([0.0, np.pi]), continuous=False).tolist()
    [[[(2+0j), (-0.6666666666666666+0j)]]]
    """
    return BoundaryTransfer(a, b, c, d, continuous).at(require_real("frequencies", frequencies))


@dataclass(frozen=True)
class BoundaryTransfer:
    """`boundary_values` of one system, for those who ask again and again: what is done once is kept."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    d: np.ndarray
    continuous: bool
    balanced: bool = False  # the states are in equal units already, and need not be scaled once more

    def at(self, w: np.ndarray) -> np.ndarray:
        """Return G, (outputs, inputs, m)."""
        if self.is_real:
            from ctrlattn.kernels import boundary as kernel

            values = kernel.responses(self.sides, np.ascontiguousarray(w, dtype=float)).transpose(1, 2, 0)
            values[np.isnan(values)] = _AT_A_POLE
            return values
        if self.continuous:
            parts = [(np.isfinite(w), lambda w: 1j * w, self._transfer)]
        else:
            centre = _centre(np.where(np.isfinite(w), w, 0.0))
            sides = ((1.0, self._about_one), (-1.0, self._about_minus_one))
            parts = [(np.isfinite(w) & (centre == z), partial(_points, centre=z), t) for z, t in sides]
        for at, points, transfer in parts:
            if np.all(at):
                return transfer.at(points(w))
        values = np.repeat(self.d.astype(complex)[:, :, None], len(w), axis=2)
        for at, points, transfer in parts:
            if np.any(at):
                values[:, :, at] = transfer.at(points(w[at]))
        return values

    @cached_property
    def is_real(self) -> bool:
        return not any(np.iscomplexobj(m) for m in (self.a, self.b, self.c, self.d))

    @cached_property
    def sides(self) -> Any:
        """The real system in Hessenberg form on each side of the boundary, for compiled code."""
        from ctrlattn.kernels.boundary import Sides

        n = len(self.a)
        if self.balanced and self.d.size and 2 < n <= COMPILED and self.a.all():
            from ctrlattn.kernels import units as kernel

            reduced = kernel.single_reduced if self.d.size == 1 else kernel.several_reduced
            columns, b, c = on_contiguous(reduced, (self.a, self.b, self.c), self.continuous)
            return Sides(columns, b, c, np.ascontiguousarray(self.d))
        centres = (0.0,) if self.continuous else (1.0, -1.0)
        outputs, inputs = self.d.shape
        shapes = (n, n), (inputs, n), (outputs, n)
        columns, b, c = (np.empty((len(centres), *shape)) for shape in shapes)
        for i, side in enumerate(_hessenberg_sides(self.a, self.b, self.c, centres, self.balanced)):
            columns[i], b[i], c[i] = side
        return Sides(columns, b, c, np.ascontiguousarray(self.d))

    @cached_property
    def _transfer(self) -> "Transfer":
        return Transfer(self.a, self.b, self.c, self.d)

    @cached_property
    def _about_one(self) -> "Transfer":
        return Transfer(self.a - np.eye(len(self.a)), self.b, self.c, self.d)

    @cached_property
    def _about_minus_one(self) -> "Transfer":
        return Transfer(self.a + np.eye(len(self.a)), self.b, self.c, self.d)


Side = tuple[np.ndarray, np.ndarray, np.ndarray]


def _hessenberg_sides(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, centres: Sequence[float], balanced: bool = False
) -> Iterator[Side]:
    """Return (H transposed, b transposed, c) of A - z I for each centre z; what is below the subdiagonal is never read.
    One input has one entry that is not zero, unless A already has the form: then nothing moves, so that its zeros stay
    zeros."""
    eye = np.eye(len(a))
    if not np.any(np.tril(a, -2)):
        yield from (((a - z * eye).T, b.T, c) for z in centres)
    elif not np.any(np.triu(a, 1)):  # lower triangular: states in the other order
        yield from (((a - z * eye)[::-1, ::-1].T, b[::-1].T, c[:, ::-1]) for z in centres)
    else:
        if not balanced:
            a, b, c = _in_equal_units(a, b, c)  # which no multiple of I changes
        reduced = _single_reduced if b.shape[1] == c.shape[0] == 1 else _several_reduced
        yield from (reduced(a - z * eye, b, c) for z in centres)


def _single_reduced(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Side:
    """Reduce [[0, c], [b, A]], whose corner stays where it is. In one unit, powers of two, no part rounds another."""
    n = len(a)
    size, of_b, of_c = (math.frexp(float(np.abs(m).max()))[1] for m in (a, b, c))
    whole = np.zeros((n + 1, n + 1), order="F")
    whole[1:, 1:], whole[1:, :1] = a, b * math.ldexp(1.0, size - of_b)
    whole[:1, 1:] = c * math.ldexp(1.0, size - of_c)
    whole = dgehrd(whole, overwrite_a=True)[0]
    b_row = np.zeros((1, n))
    b_row[0, 0] = whole[1, 0] * math.ldexp(1.0, of_b - size)
    return whole[1:, 1:].T, b_row, whole[:1, 1:] * math.ldexp(1.0, of_c - size)


def _several_reduced(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Side:
    h, tau, _ = dgehrd(a)
    q = dorghr(h, tau)[0]
    return h.T, (q.T @ b).T, c @ q


def _in_equal_units(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the same system before an orthogonal reduction, which rounds small entries in the unit of the largest."""
    scale = state_scaling(a, b, c)
    return a * scale / scale[:, None], b / scale[:, None], c * scale


def shifted(a: np.ndarray, frequency: float, *, continuous: bool) -> tuple[complex, np.ndarray]:
    """Return (z - z0, A - z0 I), z0 the nearer one of 1 and -1; in continuous time (iw, A).

    >>> shifted(np.array([[0.75]]), 0.0, continuous=False)
    (0j, array([[-0.25]]))
    """
    if continuous:
        return 1j * frequency, a
    w = np.array([frequency])
    centre = float(_centre(w)[0])
    return complex(_points(w, centre)[0]), a - centre * np.eye(len(a))


def _centre(w: np.ndarray) -> np.ndarray:
    return np.where(np.cos(w) >= 0, 1.0, -1.0)


def _points(w: np.ndarray, centre: float | np.ndarray) -> np.ndarray:
    """Return e^{iw} - z0."""
    return centre * np.expm1(1j * np.where(np.asarray(centre) > 0, w, w - np.copysign(np.pi, w)))


def transfer_values(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return C (zI - A)^-1 B + D at each of the points, (outputs, inputs, m); the matrices may be complex.

    >>> transfer_values(np.array([[0.5]]), np.eye(1), np.eye(1), np.zeros((1, 1)), np.array([1.0])).tolist()
    [[[(2+0j)]]]
    """
    for name, matrix in (("A", a), ("B", b), ("C", c), ("D", d)):
        if not np.all(np.isfinite(matrix)):
            raise InputError(f"frequency_response: {name} of the system holds NaN or infinity")
    return Transfer(a, b, c, d).at(points)


@dataclass(frozen=True)
class Transfer:
    """G of four finite matrices, for those who ask again and again: what is done once is kept."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    d: np.ndarray

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return G, (outputs, inputs, m); (inf, nan) at a pole."""
        n = len(self.a)
        if len(self.c) < self.b.shape[1]:  # the transposed system has fewer right-hand sides
            return self._transpose.at(points).swapaxes(0, 1)
        if not n or not len(points) or not self.b.shape[1] or not self.c.shape[0]:
            return np.repeat(self.d.astype(complex)[:, :, None], len(points), axis=2)
        if n < _SMALL or (n < _FEW and n * len(points) < 10 * _FEW):
            g = _solve_batch(self.a, self.b, self.c, points)
        else:
            g = _solve_structured(self._hessenberg, points)
        g[np.isnan(g)] = _AT_A_POLE
        return self.d[:, :, None] + g

    @cached_property
    def _transpose(self) -> "Transfer":
        return Transfer(self.a.T, self.c.T, self.b.T, self.d.T)

    @cached_property
    def _hessenberg(self) -> "_Reduced":
        return _hessenberg_form(self.a, self.b, self.c)


def _solve_batch(a: np.ndarray, b: np.ndarray, c: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Solve once for each point, all in one call: the plain reference. `a` may differ from point to point."""
    stack = np.broadcast_to(a, (len(points), *a.shape[-2:]))
    try:
        states = np.linalg.solve(points[:, None, None] * np.eye(len(b)) - stack, b.astype(complex))
        return np.moveaxis(c @ states, 0, -1)
    except np.linalg.LinAlgError:  # some point is a pole
        if len(points) == 1:
            return np.full((len(c), b.shape[1], 1), _AT_A_POLE)
        return np.concatenate([_solve_batch(x, b, c, z) for x, z in zip(stack, points[:, None], strict=True)], axis=-1)


class _Reduced(NamedTuple):
    """A in triangular or Hessenberg form with B and C in its coordinates, real and imaginary parts apart."""

    matrix: Any
    into: Any
    out: Any
    triangular: bool


def _hessenberg_form(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> _Reduced:
    from ctrlattn.kernels import shifted as kernel

    triangular = is_triangular(a)
    if triangular and np.any(np.tril(a, -1)):  # lower: states in the other order
        a, b, c = a[::-1, ::-1], b[::-1], c[:, ::-1]
    if np.any(np.tril(a, -2)):
        a, b, c = _in_equal_units(a, b, c)
        a, q = scipy.linalg.hessenberg(a, calc_q=True, check_finite=False)
        b, c = q.conj().T @ b, c @ q
    return _Reduced(kernel.parts(a), kernel.parts(b), kernel.parts(c), triangular)


def _solve_structured(g: _Reduced, points: np.ndarray) -> np.ndarray:
    """Substitute back for a triangular A, in either direction; reduce any other A to Hessenberg form."""
    from ctrlattn.kernels import shifted as kernel

    values = np.empty((len(g.out.re), g.into.re.shape[1], len(points)), complex)
    for start in range(0, len(points), kernel.SHIFTS):
        z = points[start : start + kernel.SHIFTS]
        x = kernel.repeated(g.into, len(z))
        with np.errstate(all="ignore"):
            if g.triangular:
                kernel.solve_triangular(g.matrix, z, x)
            else:
                x = kernel.solve_hessenberg(g.matrix, z, x)
            y = kernel.times(g.out, slice(None), slice(None), x)
        values[:, :, start : start + len(z)] = y.re + 1j * y.im
    return values
