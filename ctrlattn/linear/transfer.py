"""G(z) = C (zI - A)^-1 B + D at many points, and along the boundary z = e^{iw}, s = iw: A is reduced once.

Near z = 1 the difference e^{iw} - 1 is computed without cancelling, and A - I is almost exact there: written so, a
cluster of poles near z = 1 keeps the digits that zI - A loses. The same holds at z = -1.
"""

import numpy as np
import scipy.linalg

from ctrlattn.errors import InputError
from ctrlattn.linear.triangular import is_triangular

_SMALL = 48  # below, one batched solve is as fast and needs no compiled code
_AT_A_POLE = complex(np.inf, np.nan)  # as python-control says it


def boundary_values(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, frequencies: np.ndarray, *, continuous: bool
) -> np.ndarray:
    """G(e^{iw}) or G(iw) at each frequency, (outputs, inputs, m); D where it is infinite, (inf, nan) at a pole.

    pi, in double precision, stands for z = -1 exactly.

    >>> a = np.array([[0.5]])
    >>> boundary_values(a, np.eye(1), np.eye(1), np.zeros((1, 1)), np.array([0.0, np.pi]), continuous=False).tolist()
    [[[(2+0j), (-0.6666666666666666+0j)]]]
    """
    w = np.asarray(frequencies, dtype=float)
    values = np.repeat(d.astype(complex)[:, :, None], len(w), axis=2)
    finite = np.isfinite(w)
    if continuous:
        values[:, :, finite] = transfer_values(a, b, c, d, 1j * w[finite])
        return values
    for centre in (1.0, -1.0):
        at = finite & (_centre(np.where(finite, w, 0.0)) == centre)
        points = _points(w[at], centre)
        values[:, :, at] = transfer_values(a - centre * np.eye(len(a)), b, c, d, points)
    return values


def shifted(a: np.ndarray, frequency: float, *, continuous: bool) -> tuple[complex, np.ndarray]:
    """(z - z0, A - z0 I), z0 the nearer one of 1 and -1; in continuous time (iw, A).

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


def _points(w: np.ndarray, centre: float) -> np.ndarray:
    """e^{iw} - z0."""
    return centre * np.expm1(1j * (w if centre > 0 else w - np.copysign(np.pi, w)))


def transfer_values(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, points: np.ndarray) -> np.ndarray:
    """C (zI - A)^-1 B + D at each of the points, (outputs, inputs, m); the matrices may be complex.

    >>> transfer_values(np.array([[0.5]]), np.eye(1), np.eye(1), np.zeros((1, 1)), np.array([1.0])).tolist()
    [[[(2+0j)]]]
    """
    for name, matrix in (("A", a), ("B", b), ("C", c), ("D", d)):
        if not np.all(np.isfinite(matrix)):
            raise InputError(f"frequency_response: {name} of the system holds NaN or infinity")
    direct = np.repeat(d.astype(complex)[:, :, None], len(points), axis=2)
    if not len(a) or not len(points) or not b.shape[1] or not c.shape[0]:
        return direct
    if len(c) < b.shape[1]:  # the transposed system has fewer right-hand sides
        return direct + transfer_values(a.T, c.T, b.T, np.zeros_like(d.T), points).swapaxes(0, 1)
    g = (_batched if len(a) < _SMALL else _structured)(a, b, c, points)
    g[np.isnan(g)] = _AT_A_POLE
    return direct + g


def _batched(a: np.ndarray, b: np.ndarray, c: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The plain reference: one solve for each frequency, all in one call."""
    try:
        solved = np.linalg.solve(points[:, None, None] * np.eye(len(a)) - a, b.astype(complex))
        return np.moveaxis(c @ solved, 0, -1)
    except np.linalg.LinAlgError:  # some frequency is a pole
        if len(points) == 1:
            return np.full((len(c), b.shape[1], 1), _AT_A_POLE)
        return np.concatenate([_batched(a, b, c, z) for z in points[:, None]], axis=-1)


def _structured(a: np.ndarray, b: np.ndarray, c: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Back substitution for a triangular A, in either direction; Hessenberg form for the others."""
    from ctrlattn.kernels import shifted

    triangular = is_triangular(a)
    if triangular and np.any(np.tril(a, -1)):  # lower: states in the other order
        a, b, c = a[::-1, ::-1], b[::-1], c[:, ::-1]
    if not triangular:
        a, q = scipy.linalg.hessenberg(a, calc_q=True, check_finite=False)
        b, c = q.conj().T @ b, c @ q
    matrix, into, out = shifted.parts(a), shifted.parts(b), shifted.parts(c)
    values = np.empty((len(c), b.shape[1], len(points)), complex)
    for start in range(0, len(points), shifted.SHIFTS):
        z = points[start : start + shifted.SHIFTS]
        x = shifted.repeated(into, len(z))
        with np.errstate(all="ignore"):
            if triangular:
                shifted.solve_triangular(matrix, z, x)
            else:
                x = shifted.solve_hessenberg(matrix, z, x)
            y = shifted.times(out, slice(None), slice(None), x)
        values[:, :, start : start + len(z)] = y.re + 1j * y.im
    return values
