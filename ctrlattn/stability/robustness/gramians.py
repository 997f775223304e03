"""P = A P A* + B B*, Q = A* Q A + C* C: how strongly inputs reach and outputs see each state; what a small order loses.

P and Q are computed as factors, P = F F*, by doubling, F <- [F, A F], A <- A^2, with a QR after each step: no
equation is squared, so that small Hankel singular values keep their digits. Continuous time goes through the Cayley
transform, which leaves both gramians as they are. The residual of the equation itself, summed up
in the same way, is the error of the factor.
"""

from typing import Any, NamedTuple

import control
import numpy as np
from scipy.linalg import qr

from ctrlattn.arrays import require_real
from ctrlattn.errors import InputError, InputTypeError, require_whole
from ctrlattn.linear.realization import Realization, realization, require_real_system, to_control
from ctrlattn.linear.scaling import Scaled, scaled, times_power
from ctrlattn.stability.robustness.level_sets import largest_gains, pole_grid

_EPS = float(np.finfo(float).eps)
_LARGEST = 3000
_DOUBLINGS = 80  # 2^80 terms: a radius of 1 - 1e-16 has long converged
_REFINE = 1e-11  # relative error of a gramian above which it is refined
_LOST = 1e-6  # and above which it is refused
_CLEAR = 1e-8  # of the first Hankel value: those below may be rounding
_NOTHING = 1e-250  # of a system whose gain is 1
_LOST_DIGITS = "{} lost: rounding changes it by a share of {:.0e}. Give the system in triangular (modal) form"


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
    ArithmeticError
        Rounding changes the gramian, by the residual of its equation, by a share of more than 1e-6; an overflow.

    References
    ----------
    Zhou, Doyle, Glover, Robust and Optimal Control, 1996, section 3.8. Doubling: Smith, SIAM J. Appl. Math. 16 (1968).

    Examples
    --------
    >>> import control
    >>> controllability_gramian(control.ss(0.5, 1, 1, 0, 1)).round(12).tolist()  # 1/(1 - 0.25)
    [[1.333333333333]]
    """
    unit = scaled(_stable(system, "controllability_gramian", continuous))
    f = unit.states[:, None] * controllability_factor(unit.system)
    return _gramian(f, unit.into, "controllability_gramian")


def observability_gramian(system: Any, *, continuous: bool = False) -> np.ndarray:
    """Q = A* Q A + C* C (continuous time: A* Q + Q A + C* C = 0).

    Parameters, raises: as `controllability_gramian`.

    Examples
    --------
    >>> import control
    >>> observability_gramian(control.ss(-0.5, 1, 1, 0)).round(12).tolist()  # continuous: 1/(2 0.5)
    [[1.0]]
    """
    unit = scaled(_stable(system, "observability_gramian", continuous))
    f = controllability_factor(adjoint(unit.system)) / unit.states[:, None]
    return _gramian(f, unit.exponent - unit.into, "observability_gramian")


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
    ArithmeticError
        The errors of the gramians, carried to the balanced form, change a value by more than 1e-6 of the first.

    References
    ----------
    Moore, IEEE Trans. Automatic Control 26 (1981) 17. Tested on the example of SLICOT AB09AD.

    Examples
    --------
    >>> import control
    >>> hankel_singular_values(control.tf([1], [1, 0, 0], 1)).round(12).tolist()  # two pure delays
    [1.0, 1.0]
    """
    unit = scaled(_stable(system, "hankel_singular_values", continuous))
    sigma = _balancing(unit.system)[1]
    return np.array([times_power(float(s), unit.exponent, "hankel_singular_values") for s in sigma])


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
    ArithmeticError
        As `hankel_singular_values`; an error above its bound at one of the frequencies about the poles.

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
    tol = None if tol is None else float(require_real("tol", tol))
    require_real_system(realization(system, "balanced_truncation"), "balanced_truncation")
    unit = scaled(_stable(system, "balanced_truncation", False))
    (into, out), hankel = _balancing(unit.system)
    r = _order(order, None if tol is None else _in_units(tol, unit.exponent), hankel)
    scale = 1 / np.sqrt(hankel[:r])
    right, left = into[:, :r] * scale, (out[:, :r] * scale).T
    g = unit.system
    reduced = Realization(left @ g.a @ right, left @ g.b, g.c @ right, g.d, g.continuous)
    bound = float(2 * hankel[r:].sum())
    _require_bound(g, reduced, bound)
    named = to_control(_in_given_units(reduced, unit), system.dt)
    bound, *values = (times_power(float(s), unit.exponent, "balanced_truncation") for s in (bound, *hankel))
    named.set_inputs(system.input_labels)
    named.set_outputs(system.output_labels)
    return Truncation(named, bound, np.array(values))


def controllability_factor(g: Realization) -> np.ndarray:
    """F (n, n or fewer) with P = F F*, for a stable realization in good units (`scaled`).

    Raises ArithmeticError where P solves its equation too badly.
    """
    return _factor(g)[0]


def _factor(g: Realization) -> tuple[np.ndarray, np.ndarray]:
    """(F, E): P = F F* + E but for terms of second order, E from the residual of the equation itself."""
    if not len(g.a):
        return np.zeros((0, 0)), np.zeros((0, 0))
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows has an error that is no number, and is refused
        form = _DiscreteForm(g.a, g.b, None) if not g.continuous else _cayley(g.a, g.b)
        f = _doubled(form.a, form.b)
        correction = _correction(g, form, f)
        share = _share(correction, f)
        if _REFINE < share < np.inf:
            refined = _root_of(f @ f.conj().T + correction)
            again = _correction(g, form, refined)
            if _share(again, refined) < share:
                f, correction, share = refined, again, _share(again, refined)
    if not share <= _LOST:
        raise ArithmeticError(_LOST_DIGITS.format("a gramian is", share))
    return f, correction


def _share(correction: np.ndarray, f: np.ndarray) -> float:
    size, error = float(np.linalg.norm(f @ f.conj().T)), float(np.linalg.norm(correction))
    if size > 0:
        return error / size
    return np.inf if error > 0 else 0.0


class _DiscreteForm(NamedTuple):
    """A discrete equation with the same gramian; `into` (n, n) carries a residual of the continuous one there."""

    a: np.ndarray
    b: np.ndarray
    into: np.ndarray | None


def _doubled(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """F with F F* = B B* + A B B* A* + ..."""
    f = _compressed(b)
    for _ in range(_DOUBLINGS):
        step = a @ f
        if not np.all(np.isfinite(step)):
            raise ArithmeticError(_LOST_DIGITS.format("a gramian is", np.inf))  # rounding lets the powers of A grow
        if np.linalg.norm(step) <= _EPS**2 * np.linalg.norm(f):
            break
        f, a = _compressed(np.hstack([f, step])), a @ a
    return f


def _correction(g: Realization, form: _DiscreteForm, f: np.ndarray) -> np.ndarray:
    """E = R + A R A* + ... for the residual R of the equation, in its own time: F F* + E solves it."""
    p = f @ f.conj().T
    half = g.a @ p
    if form.into is None:
        error = half @ g.a.conj().T - p + g.b @ g.b.conj().T
    else:
        error = form.into @ (half + half.conj().T + g.b @ g.b.conj().T) @ form.into.conj().T
    power = form.a
    for _ in range(_DOUBLINGS):
        step = power @ error @ power.conj().T
        error = error + step
        if np.linalg.norm(step) <= _EPS * np.linalg.norm(error):
            break
        power = power @ power
    return error


def _root_of(p: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh((p + p.conj().T) / 2)
    return vectors * np.sqrt(np.maximum(values, 0.0))


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


def adjoint(g: Realization) -> Realization:
    """(A*, C*, B*, D*), whose controllability is the observability of G."""
    a, c, b, d = (m.conj().T for m in (g.a, g.c, g.b, g.d))
    return Realization(a, c, b, d, g.continuous)


def _cayley(a: np.ndarray, b: np.ndarray) -> _DiscreteForm:
    """A_d = (t + A)(t - A)^-1, B_d = sqrt(2 t)(t - A)^-1 B, t the geometric mean of the poles' extremes."""
    sizes = np.abs(np.linalg.eigvals(a))
    t = float(np.sqrt(sizes.min()) * np.sqrt(sizes.max()))
    try:
        inverse = np.sqrt(2 * t) * np.linalg.inv(t * np.eye(len(a)) - a)
    except np.linalg.LinAlgError:  # -t would be a pole in the right half plane, but for rounding
        raise ArithmeticError(f"a gramian is lost: poles of moduli {sizes.min():.0e} to {sizes.max():.0e}") from None
    return _DiscreteForm((t * np.eye(len(a)) + a) @ inverse / np.sqrt(2 * t), inverse @ b, inverse)


def _compressed(f: np.ndarray) -> np.ndarray:
    """As many columns as rows at most, F F* unchanged."""
    return qr(f.conj().T, mode="r")[0][: f.shape[0]].conj().T if f.shape[1] > f.shape[0] else f


def _gramian(f: np.ndarray, exponent: int, quantity: str) -> np.ndarray:
    """F F* 4^exponent, all of whose entries are floats."""
    with np.errstate(over="ignore", invalid="ignore"):
        half = np.exp2(exponent // 2)
        f = f * half * np.exp2(exponent - exponent // 2)
        gramian = f @ f.conj().T
    if not np.all(np.isfinite(gramian)):
        raise ArithmeticError(f"{quantity} has entries beyond the largest float: rescale inputs, outputs or states")
    return gramian


def _balancing(g: Realization) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """((F V, G U), sigma) with G* F = U sigma V*; sigma padded with zeros to the number of states."""
    n = len(g.a)
    (f, of_f), (out, of_out) = _factor(g), _factor(adjoint(g))
    u, sigma, vh = np.linalg.svd(out.conj().T @ f, full_matrices=False)
    into, back = f @ vh.conj().T, out @ u
    # In the balanced form both gramians are diag(sigma): there the errors of the gramians are those of the values.
    clear = sigma > max(_CLEAR * np.max(sigma, initial=0.0), _NOTHING)
    for error, side in ((of_f, back), (of_out, into)):
        rows = side[:, clear] / sigma[clear]
        seen = np.abs(np.sum(rows.conj() * (error @ rows), axis=0))
        if np.max(seen * sigma[clear], initial=0.0) > _LOST * np.max(sigma, initial=0.0):
            raise ArithmeticError(_LOST_DIGITS.format("the Hankel values are", float(np.max(seen))))
    return (into, out @ u.conj()), np.pad(sigma, (0, n - len(sigma)))


def _order(order: int | None, tol: float | None, hankel: np.ndarray) -> int:
    if (order is None) == (tol is None):
        raise InputError("balanced_truncation takes either an order or a tol")
    minimal = int(np.sum(hankel > len(hankel) * _EPS * np.max(hankel, initial=0.0)))
    if tol is not None:
        if not tol >= 0:
            raise InputError(f"tol must be at least 0, got {tol}")
        tails = 2 * np.append(np.cumsum(hankel[::-1])[::-1], 0.0)  # error bound of order 0, 1, ..., n
        return min(int(np.argmax(tails <= tol)), minimal)
    return require_whole("order", order, least=0, most=minimal)  # no more than that of a minimal realization


def _in_units(tol: float, exponent: int) -> float:
    return float(np.ldexp(tol, -exponent)) if np.isfinite(tol) else tol


def _in_given_units(g: Realization, unit: Scaled) -> Realization:
    """Inputs and outputs share the gain, so that the balanced form stays balanced."""
    root = 2.0 ** (unit.exponent / 2) * np.sqrt(unit.rate)
    d = g.d * 2.0**unit.exponent
    return Realization(unit.rate * g.a, root * g.b, root * g.c, d, g.continuous)


def _require_bound(g: Realization, reduced: Realization, bound: float) -> None:
    """The error keeps its bound at frequencies about every pole, but for rounding."""
    grid = pole_grid(g)
    if not g.d.size:
        return
    responses = g.responses(grid)
    excess = float(np.max(largest_gains(responses - reduced.responses(grid))))
    if excess > bound * (1 + 1e-6) + 1e-9 * float(np.max(largest_gains(responses))):
        raise ArithmeticError(
            f"balanced_truncation: the error is {excess:.3g}, the bound {bound:.3g} (both scaled): "
            "rounding takes the digits of a gramian"
        )
