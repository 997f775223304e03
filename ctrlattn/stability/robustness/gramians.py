"""P = A P A* + B B*, Q = A* Q A + C* C: how strongly inputs reach and outputs see each state; what a small order loses.

P and Q are computed as factors, P = F F*, by doubling, F <- [F, A F], A <- A^2, with a QR after each step: no
equation is squared, so that small Hankel singular values keep their digits. Continuous time goes through the Cayley
transform, which leaves both gramians as they are. The residual of the equation itself, summed up
in the same way, is the error of the factor.
"""

from typing import Any, NamedTuple

import control
import numpy as np
from scipy.linalg.lapack import dgeqrf, zgeqrf

from ctrlattn.arrays import require_real
from ctrlattn.errors import InputError, InputTypeError, require_whole
from ctrlattn.linear.lapack import frobenius, singular_vectors
from ctrlattn.linear.realization import Realization, realization, require_real_system, to_control
from ctrlattn.linear.scaling import Scaled, scaled, times_power
from ctrlattn.stability.robustness.level_sets import largest_gains, pole_grid

_EPS = float(np.finfo(float).eps)
_LARGEST = 3000
_FEW = 32  # states up to which compiled loops are faster than calls of a library
_DOUBLINGS = 80  # 2^80 terms: a radius of 1 - 1e-16 has long converged
_REFINE = 1e-11  # relative error of a gramian above which it is refined
_LOST = 1e-6  # and above which it is refused
_CLEAR = 1e-8  # of the first Hankel value: those below may be rounding
_NOTHING = 1e-250  # of a system whose gain is 1
_LOST_DIGITS = "{} lost: rounding changes it by a share of {:.0e}. Give the system in triangular (modal) form"


class Truncation(NamedTuple):
    """A balanced truncation: residual <= ||G - G_r||_inf <= error_bound, twice the sum of the values left out."""

    system: control.StateSpace
    error_bound: float
    hankel: np.ndarray  # (n,) all Hankel singular values, descending
    residual: float  # the largest error seen at frequencies about the poles, a lower bound of ||G - G_r||_inf


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
    unit = _scaled(system, "controllability_gramian", continuous)[0]
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
    unit = _scaled(system, "observability_gramian", continuous)[0]
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
    unit, poles = _scaled(system, "hankel_singular_values", continuous)
    sigma = _balancing(unit.system, poles)[1]
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
    tol = None if tol is None else _at_least_zero(tol)
    require_real_system(realization(system, "balanced_truncation"), "balanced_truncation")
    unit, poles = _scaled(system, "balanced_truncation", False)
    (into, out), hankel = _balancing(unit.system, poles)
    r = _order(order, None if tol is None else _in_units(tol, unit.exponent), hankel)
    scale = 1 / np.sqrt(hankel[:r])
    right, left = into[:, :r] * scale, (out[:, :r] * scale).T
    g = unit.system
    reduced = Realization(left @ g.a @ right, left @ g.b, g.c @ right, g.d, g.continuous)
    bound = float(2 * hankel[r:].sum())
    error = _largest_error(g, reduced, bound)
    named = to_control(_in_given_units(reduced, unit), system.dt)
    bound, error, *values = (
        times_power(float(s), unit.exponent, "balanced_truncation") for s in (bound, error, *hankel)
    )
    named.set_inputs(system.input_labels)
    named.set_outputs(system.output_labels)
    return Truncation(named, bound, np.array(values), error)


def controllability_factor(g: Realization) -> np.ndarray:
    """F (n, n or fewer) with P = F F*, for a stable realization in good units (`scaled`).

    Raises ArithmeticError where P solves its equation too badly.
    """
    return _factor(g, _series(g))[0]


def gramian_factors(g: Realization, poles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(F, G) with P = F F* and Q = G G*, as `controllability_factor`, from the powers of one A and its poles."""
    series = _series(g, poles)
    return _factor(g, series)[0], _factor(adjoint(g), series.adjoint())[0]


def _factor(g: Realization, series: "_Series") -> tuple[np.ndarray, np.ndarray]:
    """(F, E): P = F F* + E but for terms of second order, E from the residual of the equation itself."""
    if not len(g.a):
        return np.zeros((0, 0)), np.zeros((0, 0))
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows has an error that is no number, and is refused
        f = series.factor(g.b if series.into is None else series.into @ g.b)
        p = f @ f.conj().T
        correction = _correction(g, series, p)
        share = _share(correction, p)
        if _REFINE < share < np.inf:
            refined = _root_of(p + correction)
            p = refined @ refined.conj().T
            again = _correction(g, series, p)
            if _share(again, p) < share:
                f, correction, share = refined, again, _share(again, p)
    if not share <= _LOST:
        raise ArithmeticError(_LOST_DIGITS.format("a gramian is", share))
    return f, correction


def _share(correction: np.ndarray, p: np.ndarray) -> float:
    size, error = frobenius(p), frobenius(correction)
    if size > 0:
        return error / size
    return np.inf if error > 0 else 0.0


class _Series:
    """Sums over the powers of A in discrete time, A^2, A^4 ... kept for all of them.

    In continuous time A is that of a discrete equation with the same gramians, and `into` (n, n) carries inputs and
    residuals there.
    """

    def __init__(self, a: np.ndarray, into: np.ndarray | None = None, squares: list[np.ndarray] | None = None) -> None:
        self.a, self.into = np.ascontiguousarray(a), into
        self._squares = squares or [self.a]
        self._few = np.zeros((0, *self.a.shape))

    def adjoint(self) -> "_Series":
        """The same for A*."""
        into = None if self.into is None else self.into.conj().T
        series = _Series(self.a.conj().T, into, [square.conj().T for square in self._squares])
        series._few = np.ascontiguousarray(self._few.transpose(0, 2, 1))
        return series

    def square(self, k: int) -> np.ndarray:
        """A^(2^k)."""
        while len(self._squares) <= k:
            self._squares.append(self._squares[-1] @ self._squares[-1])
        return self._squares[k]

    def factor(self, b: np.ndarray) -> np.ndarray:
        """F with F F* = B B* + A B B* A* + ..."""
        if self._is_small() and not np.iscomplexobj(b):
            return self._compiled_factor(b)
        f = _compressed(b)
        for k in range(_DOUBLINGS):
            step = self.square(k) @ f
            if not np.all(np.isfinite(step)):
                raise ArithmeticError(_LOST_DIGITS.format("a gramian is", np.inf))  # rounding lets the powers grow
            if frobenius(step) <= _EPS**2 * frobenius(f):
                break
            f = _compressed(np.hstack([f, step]))
        return f

    def summed(self, error: np.ndarray) -> np.ndarray:
        """R + A R A* + ..."""
        if len(self._few) and not np.iscomplexobj(error):
            from ctrlattn.kernels import doubling

            return doubling.summed(np.ascontiguousarray(error), self._few)
        for k in range(_DOUBLINGS):
            power = self.square(k)
            step = power @ error @ power.conj().T
            error = error + step
            if frobenius(step) <= _EPS * frobenius(error):
                break
        return error

    def _is_small(self) -> bool:
        return len(self.a) <= _FEW and not np.iscomplexobj(self.a)

    def _compiled_factor(self, b: np.ndarray) -> np.ndarray:
        from ctrlattn.kernels import doubling

        powers = np.empty((_DOUBLINGS, *self.a.shape))
        powers[: len(self._few)] = self._few
        transposed, count = doubling.factor(self.a, np.ascontiguousarray(b), powers, len(self._few))
        if count == 0:
            raise ArithmeticError(_LOST_DIGITS.format("a gramian is", np.inf))  # rounding lets the powers of A grow
        self._few = powers[:count]
        return transposed.T


def _correction(g: Realization, series: _Series, p: np.ndarray) -> np.ndarray:
    """E = R + A R A* + ... for the residual R of the equation of P, in its own time: P + E solves it."""
    half = g.a @ p
    if series.into is None:
        return series.summed(half @ g.a.conj().T - p + g.b @ g.b.conj().T)
    return series.summed(series.into @ (half + half.conj().T + g.b @ g.b.conj().T) @ series.into.conj().T)


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


def _scaled(system: Any, quantity: str, continuous: bool) -> tuple[Scaled, np.ndarray]:
    """A stable system in good units, and its poles there."""
    g = realization(system, quantity, continuous=continuous)
    require_dense(g, quantity)
    stable, poles = g.stable_poles()
    if not stable:
        raise InputError(f"{quantity} needs a stable system: a pole is on or beyond the boundary, the sum diverges")
    unit = scaled(g, poles=poles)
    return unit, poles / unit.rate


def adjoint(g: Realization) -> Realization:
    """(A*, C*, B*, D*), whose controllability is the observability of G."""
    a, c, b, d = (m.conj().T for m in (g.a, g.c, g.b, g.d))
    return Realization(a, c, b, d, g.continuous)


def _series(g: Realization, poles: np.ndarray | None = None) -> _Series:
    """In continuous time A_d = (t + A)(t - A)^-1, B_d = sqrt(2 t)(t - A)^-1 B, t the geometric mean of the poles'
    extremes."""
    if not g.continuous or not len(g.a):
        return _Series(g.a)
    a = g.a
    sizes = np.abs(np.linalg.eigvals(a) if poles is None else poles)
    t = float(np.sqrt(sizes.min()) * np.sqrt(sizes.max()))
    try:
        inverse = np.sqrt(2 * t) * np.linalg.inv(t * np.eye(len(a)) - a)
    except np.linalg.LinAlgError:  # -t would be a pole in the right half plane, but for rounding
        raise ArithmeticError(f"a gramian is lost: poles of moduli {sizes.min():.0e} to {sizes.max():.0e}") from None
    return _Series((t * np.eye(len(a)) + a) @ inverse / np.sqrt(2 * t), inverse)


def _compressed(f: np.ndarray) -> np.ndarray:
    """As many columns as rows at most, F F* unchanged."""
    n, columns = f.shape
    if columns <= n:
        return f
    if np.iscomplexobj(f):
        return np.triu(zgeqrf(f.conj().T)[0][:n]).conj().T
    return np.triu(dgeqrf(f.T)[0][:n]).T


def _gramian(f: np.ndarray, exponent: int, quantity: str) -> np.ndarray:
    """F F* 4^exponent, all of whose entries are floats."""
    with np.errstate(over="ignore", invalid="ignore"):
        half = np.exp2(exponent // 2)
        f = f * half * np.exp2(exponent - exponent // 2)
        gramian = f @ f.conj().T
    if not np.all(np.isfinite(gramian)):
        raise ArithmeticError(f"{quantity} has entries beyond the largest float: rescale inputs, outputs or states")
    return gramian


def _balancing(g: Realization, poles: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """((F V, G U), sigma) with G* F = U sigma V*; sigma padded with zeros to the number of states."""
    n = len(g.a)
    series = _series(g, poles)
    (f, of_f), (out, of_out) = _factor(g, series), _factor(adjoint(g), series.adjoint())
    u, sigma, vh = singular_vectors(out.conj().T @ f)
    into, back = f @ vh.conj().T, out @ u
    # In the balanced form both gramians are diag(sigma): there the errors of the gramians are those of the values.
    clear = sigma > max(_CLEAR * np.max(sigma, initial=0.0), _NOTHING)
    for error, side in ((of_f, back), (of_out, into)):
        rows = side[:, clear] / sigma[clear]
        seen = np.abs(np.sum(rows.conj() * (error @ rows), axis=0))
        if np.max(seen * sigma[clear], initial=0.0) > _LOST * np.max(sigma, initial=0.0):
            raise ArithmeticError(_LOST_DIGITS.format("the Hankel values are", float(np.max(seen))))
    return (into, back), np.pad(sigma, (0, n - len(sigma)))


def _order(order: int | None, tol: float | None, hankel: np.ndarray) -> int:
    if (order is None) == (tol is None):
        raise InputError("balanced_truncation takes either an order or a tol")
    minimal = int(np.sum(hankel > len(hankel) * _EPS * np.max(hankel, initial=0.0)))
    if tol is not None:
        tails = 2 * np.append(np.cumsum(hankel[::-1])[::-1], 0.0)  # error bound of order 0, 1, ..., n
        return min(int(np.argmax(tails <= tol)), minimal)
    return require_whole("order", order, least=0, most=minimal)  # no more than that of a minimal realization


def _at_least_zero(tol: Any) -> float:
    bound = float(require_real("tol", tol))
    if not bound >= 0:
        raise InputError(f"tol must be at least 0, got {tol}")
    return bound


def _in_units(tol: float, exponent: int) -> float:
    return float(np.ldexp(tol, -exponent)) if np.isfinite(tol) else tol


def _in_given_units(g: Realization, unit: Scaled) -> Realization:
    """Inputs and outputs share the gain, so that the balanced form stays balanced."""
    root = 2.0 ** (unit.exponent / 2) * np.sqrt(unit.rate)
    d = g.d * 2.0**unit.exponent
    return Realization(unit.rate * g.a, root * g.b, root * g.c, d, g.continuous)


def _largest_error(g: Realization, reduced: Realization, bound: float) -> float:
    """The error at frequencies about every pole, which keeps its bound but for rounding."""
    grid = pole_grid(g)
    if not g.d.size:
        return 0.0
    responses = g.responses(grid)
    excess = float(np.max(largest_gains(responses - reduced.responses(grid))))
    if excess > bound * (1 + 1e-6) + 1e-9 * float(np.max(largest_gains(responses))):
        raise ArithmeticError(
            f"balanced_truncation: the error is {excess:.3g}, the bound {bound:.3g} (both scaled): "
            "rounding takes the digits of a gramian"
        )
    return excess
