"""z' = (h + D e + C s, A s + B e), e = F(h) - h + recall (h_0 - h): the loop over passes as one map of its whole state.

Its state z = (h, memories of the controller) is what the tools for nonlinear maps take: Lyapunov exponents, branches of
fixed points, bifurcations. Its derivative at a point is the matrix whose powers say how far from normal the loop is.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse.linalg import ArpackError, LinearOperator, svds

from ctrlattn.arrays import Array, namespace, require_real
from ctrlattn.errors import InputError, require_whole
from ctrlattn.linear.jacobian import jacobian_operator
from ctrlattn.looped.pass_map import PassMap, as_pass_map, require_state
from ctrlattn.looped.spectrum import formed, pass_products
from ctrlattn.looped.uncertainty import known_to
from ctrlattn.passes import Passes, PassState
from ctrlattn.stability import transient_growth
from ctrlattn.stability.motion.fixed_points import with_read_memories
from ctrlattn.stability.motion.tangent import length

_FORMED = 400  # numbers in the whole state of a loop whose powers are formed
_KNOWN = 0.01  # error of a norm that is still given, as a share of it or of 1
_TOL, _RESTARTS = 1e-6, 100  # of the Lanczos steps for a larger one


class Growth(NamedTuple):
    """How much a loop amplifies a disturbance before its eigenvalues decide."""

    passes: np.ndarray  # (m,) int
    norms: np.ndarray  # (m,) |M^k|_2: the most by which a disturbance of (h, memories) grows in k passes; nan: open
    peak: float  # the largest of them; nan where one is open
    peak_pass: int
    residuals: np.ndarray  # (m,) of the singular pair, or what errors of J may change, as a share of max(norm, 1)


def closed_map(
    f: Any, h: Array, *, controller: Any = None, recall: float = 0.0, reference: Array | None = None
) -> tuple[PassMap, Array]:
    """Return the loop over passes as a map of its whole state z = (h, memories), and the state before pass 0.

    Parameters
    ----------
    f, h, controller, recall, reference : as for `iterate`

    Returns
    -------
    (step, start)
        start: (1 + memories, *h.shape); `step(start)[0]` is the state one pass on.

    Examples
    --------
    >>> from ctrlattn import PID
    >>> step, start = closed_map(lambda h: 0 * h, np.ones((1, 2)), controller=PID(0.25, 0.25))
    >>> start.shape, step(start)[0].tolist()
    ((2, 1, 2), [[0.5, 0.5]])
    """
    pass_map, h, loop = as_pass_map(f), require_state(h), Passes(controller, recall=recall)
    xp, start = namespace(h), loop.init(h, reference).start
    law, memory = with_read_memories(loop.controller, loop.error(h, pass_map(h), start))
    loop = Passes(law, recall=recall)

    def step(z: Array) -> Array:
        memory_state = PassState(start, None if law is None else tuple(z[1:]))
        new, _, _, after = loop.step(z[0], pass_map(z[0]), memory_state)
        return xp.stack([new, *(after.controller or ())])

    return step, xp.stack([h, *memory])


def closed_matrix(jacobian: np.ndarray, controller: Any = None, recall: float = 0.0) -> np.ndarray:
    """Return M with z' = M z for F(h) = J h: [[I + D E, C], [B E, A]], E = J - (1 + k_r) I, each letter times I.

    >>> closed_matrix(np.array([[-1.0]])).tolist()
    [[-1.0]]
    """
    loop, jacobian = Passes(controller, recall=recall), require_real("jacobian", jacobian)
    if jacobian.ndim != 2 or len(set(jacobian.shape)) != 1 or not jacobian.size or not np.all(np.isfinite(jacobian)):
        raise InputError(f"jacobian must be a square matrix of finite numbers, got shape {jacobian.shape}")
    a, b, c, d = loop.law.realization()
    unit = np.eye(len(jacobian))
    e = jacobian - (1 + loop.recall) * unit
    return np.block([[unit + d[0, 0] * e, np.kron(c, unit)], [np.kron(b, e), np.kron(a, unit)]])


def growth(f: Any, h: Array, passes: int = 64, *, controller: Any = None, recall: float = 0.0) -> Growth:
    """Return the norms of the powers of the loop's derivative at h: transients that eigenvalues do not show.

    The matrix of a state of at most 400 numbers (memories counted) is formed, and every k is measured. For a larger
    state the powers of two up to `passes` are measured, by iteration with M and its transpose; f then runs with torch.
    A matrix within delta of M has powers within delta sum_j |M^j| |M^(k-1-j)| of M^k to first order. Where J is known
    too little to give a norm to a hundredth, it is nan.

    Parameters
    ----------
    f, h, controller, recall : as for `iterate`
    passes : int

    Returns
    -------
    Growth

    Raises
    ------
    InputError
        As for `iterate`.
    ArithmeticError
        The Jacobian is not finite, or the Lanczos steps for a large state do not converge.

    Examples
    --------
    >>> shear = np.array([[0.5, 0.0], [4.0, 0.5]])
    >>> found = growth(lambda h: h @ shear, np.zeros((1, 2)), 8)
    >>> found.norms[:3].round(3).tolist(), found.peak_pass
    ([1.0, 4.062, 4.016], 1)
    """
    pass_map, h, loop = as_pass_map(f), require_state(h), Passes(controller, recall=recall)
    passes, size = require_whole("passes", passes), length(h)
    order = len(loop.law.realization()[0])
    if size * (1 + order) <= _FORMED:
        jacobian = formed(pass_products(pass_map, h), size)
        matrix = closed_matrix(jacobian, controller, loop.recall)
        norms = transient_growth(matrix, passes, bounds=False).norms
        _, b, _, d = loop.law.realization()
        off = _error_of_powers(norms, known_to(pass_map, h, jacobian) * float(np.hypot(d[0, 0], np.linalg.norm(b))))
        off = off / np.maximum(norms, 1.0)
        return _growth(np.arange(passes + 1), np.where(off <= _KNOWN, norms, np.nan), off)
    operator = _closed_operator(jacobian_operator(pass_map, h), loop)
    counts = [2**i for i in range(passes.bit_length()) if 2**i <= passes]
    pairs = [(1.0, 0.0), *(_norm_of_power(operator, k) for k in counts)]
    return _growth(np.array([0, *counts]), *np.array(pairs).T)


def _error_of_powers(norms: np.ndarray, off: float) -> np.ndarray:
    """Return off sum_j |M^j| |M^(k-1-j)| for k = 0, 1, ..., infinite where that overflows."""
    with np.errstate(all="ignore"):
        sums = np.append(0.0, np.convolve(norms, norms)[: len(norms) - 1])
        return np.where(np.isfinite(sums), sums * off, np.inf)


def _growth(passes: np.ndarray, norms: np.ndarray, residuals: np.ndarray) -> Growth:
    at = int(np.argmax(norms))  # nan, if there is one
    return Growth(passes, norms, float(norms[at]), int(passes[at]), residuals)


def _norm_of_power(operator: LinearOperator, k: int) -> tuple[float, float]:
    """Return (sigma, residual as a share of it) of the largest singular value of M^k, by Lanczos with M^k and M'^k."""

    def times(v: np.ndarray) -> np.ndarray:
        for _ in range(k):
            v = operator @ v
        return v

    def back(w: np.ndarray) -> np.ndarray:
        for _ in range(k):
            w = operator.T @ w
        return w

    power = LinearOperator(operator.shape, matvec=times, rmatvec=back, dtype=operator.dtype)
    start = np.random.default_rng(0).standard_normal(operator.shape[1])
    if not np.any(times(start)):
        return 0.0, 0.0
    try:
        u, sigma, v = svds(power, k=1, tol=_TOL, v0=start, maxiter=_RESTARTS)
    except ArpackError as error:
        raise ArithmeticError(f"the norm of {k} passes of the loop was not found: {error}") from error
    off = np.linalg.norm(back(u[:, 0]) - sigma[0] * v[0]) + np.linalg.norm(times(v[0]) - sigma[0] * u[:, 0])
    return float(sigma[0]), float(off / max(sigma[0], 1e-300))


def _closed_operator(jacobian: LinearOperator, loop: Passes) -> LinearOperator:
    """Return `closed_matrix` as products with M and its transpose."""
    a, b, c, d = loop.law.realization()
    order, size, shift = len(a), jacobian.shape[0], 1 + loop.recall

    def forward(z: np.ndarray) -> np.ndarray:
        z = z.reshape(1 + order, size)
        e = np.asarray(jacobian @ z[0], dtype=float) - shift * z[0]
        return np.vstack([z[0] + d[0, 0] * e + (c @ z[1:])[0], a @ z[1:] + b * e]).ravel()

    def backward(y: np.ndarray) -> np.ndarray:
        y = y.reshape(1 + order, size)
        e = d[0, 0] * y[0] + (b.T @ y[1:])[0]
        return np.vstack([y[0] + np.asarray(jacobian.T @ e, dtype=float) - shift * e, a.T @ y[1:] + c.T * y[0]]).ravel()

    n = size * (1 + order)
    return LinearOperator((n, n), matvec=forward, rmatvec=backward, dtype=np.float64)
