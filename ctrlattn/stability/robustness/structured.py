"""max_q rho(diag(q) M) = mu(M) <= min_D sigma_max(D M D^-1), |q_i| = 1: both bounds of the structured singular value.

D is positive and diagonal, and sigma_max(D M D^-1) is convex in log D. For one full-range complex factor per channel
both bounds agree up to three channels. The functions with a plural name treat many matrices at once.
"""

import math

import numpy as np

from ctrlattn.linear.lapack import spectral_radii

NOTHING = 1e-300  # a mu whose reciprocal is no float
_SWEEPS = 8  # of balancing; what is left is the business of Newton's method
_FIRST = 2.0  # the first level, over the norm squared
_STEPS = 100  # of Newton's method, at most
_NEAR = 0.5  # the Newton decrement below which a level comes down
_SHRINK = 0.1
_SHARES = np.array([0.0, 1.0, 0.5, 0.25, 0.1, 0.03, 0.003])  # of a step: the best of them is made
_REACH = 2.0  # the largest step in log D
_TIGHT = 1e-9  # relative gap at which the two bounds count as equal and no search goes on
_STARTS = 256  # rotations that are tried before the best of them climb
_CLIMBS = 6
_ITERATIONS = 80  # of a climb, at most


def scaled_norms(m: np.ndarray, accuracy: float = 1e-10) -> tuple[np.ndarray, np.ndarray]:
    """Return (min_D sigma_max(D M D^-1), log D) of each matrix: the minimum is met up to 1 + channels * accuracy.

    Parameters
    ----------
    m (k, channels, channels) : complex
    accuracy : float

    Returns
    -------
    values (k,), logs (k, channels)
        Every value is the norm that its D has, an upper bound of mu however far from the minimum it may be.

    References
    ----------
    Packard and Doyle, The complex structured singular value, Automatica 29 (1993) 71. Osborne, J. ACM 7 (1960) 338.

    Examples
    --------
    >>> values, logs = scaled_norms(np.array([[[0.0, 4.0], [1.0, 0.0]]]))
    >>> float(values[0].round(9)), logs[0].round(6).tolist()  # the spectral radius, 2
    (2.0, [-0.346574, 0.346574])
    """
    _, channels, _ = m.shape
    if channels == 1:
        return np.abs(m[:, 0, 0]), np.zeros((len(m), 1))
    logs = _balance(np.abs(m))
    values = norms(m, logs)
    # |det| does not depend on D: for two channels sigma_max falls with the Frobenius norm, which balancing minimises.
    if channels > 2:
        levels = _FIRST * values**2
        for _ in range(_STEPS):
            active = levels > values**2 * (1 + accuracy)
            if not np.any(active):
                break
            values[active], logs[active], levels[active] = _newton_step(
                m[active], values[active], logs[active], levels[active]
            )
    return values, logs


def scaled_norm(m: np.ndarray) -> tuple[float, np.ndarray]:
    """Return `scaled_norms` of a single matrix.

    >>> value, _ = scaled_norm(np.array([[0.0, 4.0], [1.0, 0.0]]))
    >>> round(value, 6)  # the spectral radius, 2
    2.0
    """
    values, logs = scaled_norms(m[None])
    return float(values[0]), logs[0]


def norms(m: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Return sigma_max(D M D^-1) of each matrix, with a D of its own or with one for all.

    >>> norms(np.array([[[0.0, 4.0], [1.0, 0.0]]]), np.zeros(2)).tolist()
    [4.0]
    """
    _, channels, _ = m.shape
    if channels == 1:
        return np.abs(m[:, 0, 0])
    return largest_singular_values(similar(m, logs))


def largest_singular_values(m: np.ndarray) -> np.ndarray:
    """Return sigma_max of each of the matrices (..., p, q); of two columns by the closed form of their Gram matrix.

    >>> largest_singular_values(np.array([[[0.0, 4.0], [1.0, 0.0]]])).tolist()
    [4.0]
    """
    if m.shape[-1] != 2:
        return np.linalg.norm(m, 2, axis=(-2, -1))
    unit = np.abs(m).max(axis=(-2, -1))
    m = m / np.maximum(unit, NOTHING)[..., None, None]
    first, second = (np.sum(m[..., j].real ** 2 + m[..., j].imag ** 2, axis=-1) for j in (0, 1))
    together = np.abs(np.sum(m[..., 0].conj() * m[..., 1], axis=-1))
    # Nothing cancels: an error of the difference counts as its square, next to what does not cancel.
    return unit * np.sqrt((first + second) / 2 + np.hypot((first - second) / 2, together))


def similar(m: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Return D M D^-1.

    >>> similar(np.ones((1, 2, 2)), np.log([2.0, 1.0])).round(6).tolist()
    [[[1.0, 2.0], [0.5, 1.0]]]
    """
    return m * np.exp(logs[..., :, None] - logs[..., None, :])


def aligned(m: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Return rotations q, (k, channels), that turn the first left singular vector of D M D^-1 onto the right one.

    They attain mu wherever the largest singular value is simple at the best D, since |u_i| = |v_i| there.

    >>> aligned(np.array([[[2.0j]]]), np.zeros((1, 1))).tolist()
    [[-1j]]
    """
    _, channels, _ = m.shape
    if channels == 1:
        return _phases(m[:, :, 0].conj())
    u, _, vh = np.linalg.svd(similar(m, logs))
    return _phases(vh[:, 0].conj() * u[:, :, 0].conj())


def radii(m: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return rho(diag(q) M), a lower bound of mu for all q of unit entries; `m` (..., c, c) and `q` (..., c) broadcast.

    >>> float(radii(np.array([[0.0, 4.0], [1.0, 0.0]]), np.array([1.0, 1.0j])).round(9))
    2.0
    """
    *_, channels = q.shape
    if channels == 1:
        return np.abs(np.broadcast_arrays(m[..., 0, 0], q[..., 0])[0])
    qm = q[..., :, None] * m
    if channels == 2:
        half = (qm[..., 0, 0] + qm[..., 1, 1]) / 2
        root = np.emath.sqrt(((qm[..., 0, 0] - qm[..., 1, 1]) / 2) ** 2 + qm[..., 0, 1] * qm[..., 1, 0])
        return np.maximum(np.abs(half + root), np.abs(half - root))
    return spectral_radii(qm)


def rotations(channels: int, count: int) -> np.ndarray:
    """Return (about count, channels) seeded unit factors, the first of them 1: a grid up to three channels, else drawn.

    >>> rotations(2, 4).round(9).real.tolist()
    [[1.0, 1.0], [1.0, 0.0], [1.0, -1.0], [1.0, -0.0]]
    """
    free = channels - 1
    if free == 0:
        return np.ones((1, 1), dtype=complex)
    if free <= 2:
        turns = np.arange(round(count ** (1 / free)))
        angles = 2 * math.pi * np.stack(np.meshgrid(*[turns / len(turns)] * free), -1).reshape(-1, free)
    else:
        angles = 2 * math.pi * np.random.default_rng(0).random((count, free))
        signs = np.array([[(i >> j) & 1 for j in range(free)] for i in range(min(2**free, count // 4))])
        angles[: len(signs)] = math.pi * signs
    return np.exp(1j * np.hstack([np.zeros((len(angles), 1)), angles]))


def largest_radius(m: np.ndarray) -> tuple[float, np.ndarray]:
    """Return (rho, q) with |q_i| = 1, det(I - diag(q) M / rho) = 0: max_q rho(diag(q) M), searched from many q.

    Parameters
    ----------
    m (channels, channels) : complex

    Returns
    -------
    rho : float
        A lower bound of mu in any case, and mu itself where it meets `scaled_norm`; there the search ends early.
    q (channels,)

    Examples
    --------
    >>> rho, q = largest_radius(np.array([[0.0, 4.0], [1.0, -3.0]]))
    >>> round(rho, 6)  # q = (-1, 1) or so makes them the eigenvalues 4 and -1 of [[0, 4], [1, 3]]
    4.0
    """
    if len(m) == 1:
        return float(np.abs(m[0, 0])), _phases(m[0].conj())
    upper, log = scaled_norm(m)
    first = aligned(m[None], log[None])[0]
    best = (float(radii(m, first)), first)
    if best[0] < upper * (1 - _TIGHT):
        starts = rotations(len(m), _STARTS)
        order = np.argsort(-radii(m, starts))[: _CLIMBS - 1]
        for start in (first, *starts[order]):
            best = max(best, _climb(m, start), key=lambda candidate: candidate[0])
            if best[0] >= upper * (1 - _TIGHT):
                break
    rho, q = best
    values = np.linalg.eigvals(q[:, None] * m)
    leading = values[int(np.argmax(np.abs(values)))]
    return rho, q * (rho / leading if rho > NOTHING else 1.0)


def _balance(size: np.ndarray) -> np.ndarray:
    """Return log D of Osborne's balancing: rows and columns of D |M| D^-1 of equal length, the diagonal left out."""
    _, channels, _ = size.shape
    off = size * (1 - np.eye(channels))
    logs = np.zeros(size.shape[:-1])
    if channels == 1:
        return logs
    # Where an entry is zero the minimum is met only in the limit; the floor ends the way there.
    floor = 1e-14 * size.max(axis=(-2, -1)) + 1e-300
    for _ in range(1 if channels == 2 else _SWEEPS):
        for i in range(channels):
            shaped = similar(off, logs)
            row, column = (np.maximum(np.linalg.norm(v, axis=1), floor) for v in (shaped[:, i], shaped[:, :, i]))
            logs[:, i] += 0.5 * np.log(column / row)
    return logs - logs.mean(axis=1, keepdims=True)


def _newton_step(
    m: np.ndarray, values: np.ndarray, logs: np.ndarray, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Take a Newton step on -log det(level I - N* N), N = D M D^-1, which is smooth and convex in log D.

    At its minimum the norm squared is as far below the smallest level that any D reaches as the level is above it, up
    to a factor of the number of channels. Near the minimum the level comes down.
    """
    _, channels, _ = m.shape
    u, s, vh = np.linalg.svd(similar(m, logs))
    inverse = 1 / (levels[:, None] - s**2)
    scale = levels[:, None, None]
    left = scale * (u * inverse[:, None]) @ u.conj().swapaxes(-1, -2)
    right = scale * (vh.conj().swapaxes(-1, -2) * inverse[:, None]) @ vh
    cross = scale * np.abs((u * (s * inverse)[:, None]) @ vh) ** 2
    on = np.arange(channels)
    slope = (left[:, on, on] - right[:, on, on]).real
    curvature = 2 * (np.abs(left) ** 2 + np.abs(right) ** 2 - cross - cross.swapaxes(-1, -2))
    curvature[:, on, on] -= 2 * (left[:, on, on] + right[:, on, on]).real
    size = np.trace(curvature, axis1=-2, axis2=-1)[:, None, None] + 1e-300
    # All D scaled by the same number change nothing: that direction gets a curvature of its own.
    step = -np.linalg.solve(curvature + size + 1e-14 * size * np.eye(channels), slope[..., None])[..., 0]
    decrement = np.sqrt(np.maximum(-2 * np.sum(step * slope, axis=1), 0.0))
    step *= np.minimum(1.0, _REACH / np.maximum(np.abs(step).max(axis=1), 1e-300))[:, None]
    log_scales = logs + _SHARES[:, None, None] * step
    squares = np.linalg.svd(similar(m, log_scales), compute_uv=False) ** 2
    room = np.maximum(levels[:, None] - squares, 0.0)
    potential = -np.sum(np.log(np.maximum(room, 1e-300)), axis=-1)
    at = np.argmin(potential, axis=0), np.arange(len(m))
    values, logs = np.sqrt(squares[(*at, 0)]), log_scales[at]
    near = decrement < _NEAR
    return values, logs, np.where(near, values**2 + _SHRINK * (levels - values**2), levels)


def _climb(m: np.ndarray, start: np.ndarray) -> tuple[float, np.ndarray]:
    """Return a local maximum of rho(diag(q) M) near `start`, by its gradient."""

    from scipy.optimize import minimize

    def downhill(angles: np.ndarray) -> tuple[float, np.ndarray]:
        qm = np.exp(1j * angles)[:, None] * m
        values, right = np.linalg.eig(qm)
        at = int(np.argmax(np.abs(values)))
        # The row of the inverse is the left eigenvector, scaled to y x = 1.
        row = np.linalg.pinv(right)[at]
        return -math.log(max(abs(values[at]), 1e-300)), np.imag(row * right[:, at])

    options = {"gtol": 1e-9, "maxiter": _ITERATIONS}
    angles = minimize(downhill, np.angle(start), jac=True, method="BFGS", options=options).x
    q = np.exp(1j * angles)
    return float(radii(m, q)), q


def _phases(z: np.ndarray) -> np.ndarray:
    size = np.abs(z)
    return np.where(size > NOTHING, z, 1.0) / np.where(size > NOTHING, size, 1.0)
