"""P = A P A* + B B*, Q = A* Q A + C* C: how strongly inputs reach and outputs see each state; what a small order loses.

P and Q are computed as factors, P = F F*, by doubling, F <- [F, A F], A <- A^2, with a QR after each step: no
equation is squared, so that small Hankel singular values keep their digits. Continuous time goes through the Cayley
transform, which leaves both gramians as they are.
"""

from typing import Any, NamedTuple

import control
import numpy as np
from scipy.linalg import qr

from ctrlattn.errors import InputError, InputTypeError, require_whole
from ctrlattn.linear.realization import Realization, realization, to_control

_EPS = float(np.finfo(float).eps)
_LARGEST = 3000


class Truncation(NamedTuple):
    """A balanced truncation: ||G - G_r||_inf <= error_bound, twice the sum of the Hankel values left out."""

    system: control.StateSpace
    error_bound: float
    hankel: np.ndarray  # (n,) all Hankel singular values, descending


def controllability_gramian(system: Any, *, continuous: bool = False) -> np.ndarray:
    """P = A P A* + B B* (continuous time: A P + P A* + B B* = 0).

    Parameters
    ----------
    system : control.StateSpace, or (A, B, C, D), real or complex
    continuous : bool
        Time domain of a tuple.

    Returns
    -------
    (n, n)
        Hermitian, positive semidefinite.

    Raises
    ------
    InputError
        An unstable or marginal system: the sum does not converge.

    References
    ----------
    Zhou, Doyle, Glover, Robust and Optimal Control, 1996, section 3.8. Doubling: Smith, SIAM J. Appl. Math. 16 (1968).

    Examples
    --------
    >>> import control
    >>> controllability_gramian(control.ss(0.5, 1, 1, 0, 1)).round(12).tolist()  # 1/(1 - 0.25)
    [[1.333333333333]]
    """
    f = controllability_factor(_stable(system, "controllability_gramian", continuous))
    return f @ f.conj().T


def observability_gramian(system: Any, *, continuous: bool = False) -> np.ndarray:
    """Q = A* Q A + C* C (continuous time: A* Q + Q A + C* C = 0).

    Parameters, raises: as `controllability_gramian`.

    Examples
    --------
    >>> import control
    >>> observability_gramian(control.ss(-0.5, 1, 1, 0)).round(12).tolist()  # continuous: 1/(2 0.5)
    [[1.0]]
    """
    f = controllability_factor(_adjoint(_stable(system, "observability_gramian", continuous)))
    return f @ f.conj().T


def hankel_singular_values(system: Any, *, continuous: bool = False) -> np.ndarray:
    """sigma_i = sqrt(eig_i(P Q)), descending: what each state of the balanced form carries from past to future.

    Parameters
    ----------
    system : control.StateSpace, control.TransferFunction, or (A, B, C, D), real or complex
    continuous : bool
        Time domain of a tuple.

    Returns
    -------
    (n,)

    Raises
    ------
    InputError
        An unstable or marginal system.

    References
    ----------
    Moore, IEEE Trans. Automatic Control 26 (1981) 17. Tested on the example of SLICOT AB09AD.

    Examples
    --------
    >>> import control
    >>> hankel_singular_values(control.tf([1], [1, 0, 0], 1)).round(12).tolist()  # two pure delays
    [1.0, 1.0]
    """
    g = _stable(system, "hankel_singular_values", continuous)
    return _balancing(g)[1]


def balanced_truncation(system: Any, order: int | None = None, *, tol: float | None = None) -> Truncation:
    """The `order` states of the balanced form that carry most; stable again, with an error bound.

    ||G - G_r||_inf <= 2 (sigma_{r+1} + ... + sigma_n), in discrete time too.

    Parameters
    ----------
    system : control.StateSpace or control.TransferFunction
        Stable.
    order : int, optional
        r; give it or `tol`.
    tol : float, optional
        The smallest order whose error bound is at most tol.

    Returns
    -------
    Truncation
        The reduced system has the time base and the signal names of the given one.

    Raises
    ------
    InputError
        Unstable; neither or both of order and tol; an order beyond that of a minimal realization.

    References
    ----------
    Zhou, Doyle, Glover, Robust and Optimal Control, 1996, chapter 7; square-root method: Tombs and Postlethwaite,
    Int. J. Control 46 (1987) 1319.

    Examples
    --------
    >>> import control
    >>> reduced = balanced_truncation(control.tf([1, 0.2], [1, -0.5, 0.06], 1), order=1)
    >>> reduced.system.nstates, round(reduced.error_bound, 6) == round(2 * float(reduced.hankel[1]), 6)
    (1, True)
    """
    if isinstance(system, tuple | np.ndarray):  # what goes in comes out, and matrices say no time base
        raise InputTypeError(f"balanced_truncation takes a python-control system, got {type(system).__name__}")
    g = _stable(system, "balanced_truncation", False)
    (into, out), hankel = _balancing(g)
    r = _order(order, tol, hankel)
    scale = 1 / np.sqrt(hankel[:r])
    right, left = into[:, :r] * scale, (out[:, :r] * scale).T
    reduced = Realization(left @ g.a @ right, left @ g.b, g.c @ right, g.d, g.continuous)
    named = to_control(reduced, system.dt)
    named.set_inputs(system.input_labels)
    named.set_outputs(system.output_labels)
    return Truncation(named, float(2 * hankel[r:].sum()), hankel)


def controllability_factor(g: Realization) -> np.ndarray:
    """F (n, n or fewer) with P = F F*, for a stable realization."""
    a, f = (g.a, g.b) if not g.continuous else _cayley(g.a, g.b)
    if not len(a):
        return np.zeros((0, 0))
    f = _compressed(f)
    for _ in range(80):  # 2^80 terms: a radius of 1 - 1e-16 has long converged
        step = a @ f
        if np.linalg.norm(step) <= _EPS**2 * np.linalg.norm(f):
            break
        f, a = _compressed(np.hstack([f, step])), a @ a
    return f


def require_dense(g: Realization, quantity: str) -> None:
    """Raise InputError where dense doubling would take hours."""
    if len(g.a) > _LARGEST:
        raise InputError(
            f"{quantity} works with dense matrices of the size of the state: it takes at most {_LARGEST} states, got "
            f"{len(g.a)}; where the loop acts alike on all features, take the system of one feature"
        )


def _stable(system: Any, quantity: str, continuous: bool) -> Realization:
    g = realization(system, quantity, continuous=continuous)
    require_dense(g, quantity)
    if not g.is_stable():
        raise InputError(f"{quantity} needs a stable system: a pole is on or beyond the boundary, the sum diverges")
    return g


def _adjoint(g: Realization) -> Realization:
    a, c, b, d = (m.conj().T for m in (g.a, g.c, g.b, g.d))
    return Realization(a, c, b, d, g.continuous)


def _cayley(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A_d = (t + A)(t - A)^-1, B_d = sqrt(2 t)(t - A)^-1 B, t the geometric mean of the poles' extremes."""
    if not len(a):
        return a, b
    sizes = np.abs(np.linalg.eigvals(a))
    t = float(np.sqrt(sizes.min()) * np.sqrt(sizes.max()))
    inverse = np.linalg.inv(t * np.eye(len(a)) - a)
    return (t * np.eye(len(a)) + a) @ inverse, np.sqrt(2 * t) * inverse @ b


def _compressed(f: np.ndarray) -> np.ndarray:
    """As many columns as rows at most, F F* unchanged."""
    return qr(f.conj().T, mode="r")[0][: f.shape[0]].conj().T if f.shape[1] > f.shape[0] else f


def _balancing(g: Realization) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """((F V, G U), sigma) with G* F = U sigma V*; sigma padded with zeros to the number of states."""
    n = len(g.a)
    f, out = controllability_factor(g), controllability_factor(_adjoint(g))
    u, sigma, vh = np.linalg.svd(out.conj().T @ f, full_matrices=False)
    return (f @ vh.conj().T, out @ u.conj()), np.pad(sigma, (0, n - len(sigma)))


def _order(order: int | None, tol: float | None, hankel: np.ndarray) -> int:
    if (order is None) == (tol is None):
        raise InputError("balanced_truncation takes either an order or a tol")
    minimal = int(np.sum(hankel > len(hankel) * _EPS * np.max(hankel, initial=0.0)))
    if tol is not None:
        tails = 2 * np.append(np.cumsum(hankel[::-1])[::-1], 0.0)  # error bound of order 0, 1, ..., n
        return min(int(np.argmax(tails <= tol)), minimal)
    return require_whole("order", order, least=0, most=minimal)  # no more than that of a minimal realization
