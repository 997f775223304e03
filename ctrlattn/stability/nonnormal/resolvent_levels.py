"""sigma_min(zI - A) = eps along |z| = r or Re z = x: level sets of the resolvent norm, all crossings at once.

A crossing has (zI - A) v = eps u and (zI - A)* u = eps v, and is an eigenvalue of one matrix of order 2n. On a vertical
line that is a Hamiltonian matrix with the eigenvalue iy. On a circle it is a symplectic pencil with the eigenvalue
e^{it}. Along a ray it is a third matrix, whose eigenvalue is the level. No crossing is missed, so that the algorithms
built on them are global (Byers 1988; Boyd and Balakrishnan 1990; Mengi and Overton 2005).
"""

from collections.abc import Callable

import numpy as np
import scipy.linalg

# An eigenvalue this near to the line counts as on it. A superfluous crossing costs one evaluation; a missed crossing
# would give a wrong minimum.
_NEAR = 1e-6
_ROUNDS = 60


def at(level: float, position: float, continuous: bool) -> complex:
    """Return the point z of a circle or vertical line: r e^{it}, or x + iy."""
    return complex(level, position) if continuous else level * np.exp(1j * position)


def sigma_min(a: np.ndarray, z: complex) -> float:
    """Return the smallest singular value of zI - A.

    >>> sigma_min(np.diag([1.0, 3.0]), 2.5)
    0.5
    """
    return float(np.linalg.svd(z * np.eye(len(a)) - a, compute_uv=False)[-1])


def least_sigma(
    a: np.ndarray, level: float, continuous: bool, starts: list[float], rtol: float = 1e-10
) -> tuple[float, float]:
    """Return (min of sigma_min(zI - A) along the line, its position); 1/min is the peak of the resolvent norm there.

    This is the algorithm of Boyd and Balakrishnan. Where sigma_min crosses the smallest value so far, the midpoints of
    the intervals below it are the next candidates. Without a crossing that value is the minimum, to a relative `rtol`.
    """
    probes = sorted({*starts, *((0.0,) if continuous else (0.0, 0.5 * np.pi, np.pi, 1.5 * np.pi))})

    def value(position: float) -> float:
        return sigma_min(a, at(level, position, continuous))

    def crossings_of(height: float, away: float) -> np.ndarray:
        return crossings(a, level, height, continuous, away)

    return _descend(value, crossings_of, probes, rtol, None if continuous else 2 * np.pi)


def _descend(
    value: Callable[[float], float],
    crossings_of: Callable[[float, float], np.ndarray],
    probes: list[float],
    rtol: float,
    period: float | None,
) -> tuple[float, float]:
    """Return (global minimum, its position) of a function whose crossings of every level can be computed."""
    values = [value(p) for p in probes]
    best, where, away = min(values), probes[int(np.argmin(values))], probes[int(np.argmax(values))]
    for _ in range(_ROUNDS):
        if best <= 0.0:
            return 0.0, where
        positions = crossings_of(best * (1 - rtol), away)
        candidates = [*middles(positions, period), *positions]
        heights = [value(p) for p in candidates]
        if not heights or min(heights) >= best * (1 - rtol):
            return best, where
        best, where = min(heights), candidates[int(np.argmin(heights))]
    raise ArithmeticError(f"the level sets have not settled within {_ROUNDS} rounds: the matrix is too ill-conditioned")


def middles(positions: np.ndarray, period: float | None) -> np.ndarray:
    """Return midpoints of neighbours on a line, or round a circle of `period`, where one crossing gives its antipode.

    >>> middles(np.array([0.0, 1.0, 3.0]), None).tolist()
    [0.5, 2.0]
    """
    if len(positions) == 0:
        return positions
    if period is None:
        return (positions[:-1] + positions[1:]) / 2
    return (positions + np.append(positions[1:], positions[0] + period)) / 2


def crossings(a: np.ndarray, level: float, eps: float, continuous: bool, away: float = np.pi) -> np.ndarray:
    """Return the positions on the circle or line at which eps is some singular value of zI - A, ascending.

    `away` is a position on the circle that is not a crossing. For a real A, 0 and pi take less work.
    """
    n, eye = len(a), np.eye(len(a))
    if continuous:
        shifted = a - level * eye
        hamiltonian = np.block([[shifted, -eps * eye], [eps * eye, -shifted.conj().T]])
        values = scipy.linalg.eigvals(hamiltonian, overwrite_a=True, check_finite=False)
        scale = max(np.max(np.abs(values)), 1e-300)
        return np.sort(values.imag[np.abs(values.real) <= _NEAR * scale])
    zero = np.zeros((n, n))
    p = np.block([[-eps * eye, a], [level * eye, zero]])
    q = np.block([[zero, level * eye], [a.conj().T, -eps * eye]])
    return unit_eigenvalues(p, q, away)


def unit_eigenvalues(p: np.ndarray, q: np.ndarray, away: float) -> np.ndarray:
    """Return the angles in [0, 2 pi) of the eigenvalues of the pencil p - lambda q on the unit circle, ascending.

    The Cayley transform lambda = -pole (1 + mu)/(1 - mu) about a point e^{i away} that is not an eigenvalue leads to
    a standard eigenproblem, which is several times as fast as QZ.
    """
    point = complex(np.exp(1j * away))
    pole = point.real if abs(point.imag) < 1e-12 else point  # real matrices stay real
    try:
        mu = scipy.linalg.eigvals(np.linalg.solve(p - pole * q, p + pole * q), overwrite_a=True, check_finite=False)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = -pole * (1 + mu) / (1 - mu)
    except np.linalg.LinAlgError:  # e^{i away} is an eigenvalue after all
        values = scipy.linalg.eigvals(p, q, check_finite=False)
    with np.errstate(invalid="ignore"):
        on = np.isfinite(values) & (np.abs(np.abs(values) - 1) <= _NEAR)
    return np.sort(np.mod(np.angle(values[on]), 2 * np.pi))


def outward(a: np.ndarray, eps: float, position: float, continuous: bool) -> float:
    """Return the largest level with sigma_min(zI - A) <= eps at this angle (or imaginary part); -inf if nowhere."""
    eye = np.eye(len(a))
    matrix = a - 1j * position * eye if continuous else np.exp(-1j * position) * a
    values = scipy.linalg.eigvals(np.block([[matrix, -eps * eye], [-eps * eye, matrix.conj().T]]), check_finite=False)
    scale = max(np.max(np.abs(values)), 1e-300)
    near = np.sort(values.real[np.abs(values.imag) <= _NEAR * scale])[::-1]
    for level in near:
        if sigma_min(a, at(level, position, continuous)) <= 1.001 * eps + 1e-13 * scale:
            return _polish(matrix, eps, float(level))
    return -np.inf


def _polish(matrix: np.ndarray, eps: float, level: float) -> float:
    """Solve sigma_min(level I - matrix) = eps by Newton's method, as long as the residual falls."""
    eye, best, miss = np.eye(len(matrix)), level, np.inf
    for _ in range(6):
        u, s, vh = np.linalg.svd(level * eye - matrix)
        if not abs(s[-1] - eps) < miss:
            break
        best, miss = level, abs(s[-1] - eps)
        slope = (u[:, -1].conj() @ vh[-1].conj()).real
        if abs(slope) < 1e-12:
            break
        level = level - float(s[-1] - eps) / float(slope)
    return best
