"""P = A P A* + B B*, Q = A* Q A + C* C: how strongly inputs reach and outputs see each state; what a small order loses.

P and Q are computed as factors, P = F F*, by doubling, F <- [F, A F], A <- A^2, with a QR after each step: no
equation is squared, so that small Hankel singular values keep their digits. Continuous time goes through the Cayley
transform, which leaves both gramians as they are. The residual of the equation itself, summed up
in the same way, is the error of the factor. In discrete time the squares that the sums need prove the system stable
as well (`power_sums`), so that an easy one is asked for no eigenvalue.
"""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ctrlattn.arrays import require_real
from ctrlattn.errors import InputError, InputTypeError, require_flag, require_whole
from ctrlattn.linear.boundary import clear_distance
from ctrlattn.linear.lapack import frobenius, singular_values, singular_vectors
from ctrlattn.linear.realization import Realization, realization, require_real_system, to_control
from ctrlattn.linear.scaling import Scaled, scaled, times_power
from ctrlattn.stability.robustness.level_sets import largest_gains, pole_grid
from ctrlattn.stability.robustness.power_sums import LOST_DIGITS, PowerSums

if TYPE_CHECKING:
    import control

_EPS = float(np.finfo(float).eps)
_LARGEST = 3000
_REFINE = 1e-11  # relative error of a gramian above which it is refined
_LOST = 1e-6  # and above which it is refused
_CLEAR = 1e-8  # of the first Hankel value: those below may be rounding
_NOTHING = 1e-250  # of a system whose gain is 1


class Truncation(NamedTuple):
    """A balanced truncation: residual <= ||G - G_r||_inf <= error_bound, twice the sum of the values left out."""

    system: "control.StateSpace"
    error_bound: float
    hankel: np.ndarray  # (n,) all Hankel singular values, descending
    residual: float  # the largest error seen at frequencies about the poles, a lower bound of ||G - G_r||_inf


def controllability_gramian(system: Any, *, continuous: bool = False) -> np.ndarray:
    """Return P with P = A P A* + B B* (continuous time: A P + P A* + B B* = 0).

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
    continuous = require_flag("continuous", continuous)
    unit = _scale(_dense(system, "controllability_gramian", continuous), "controllability_gramian")[0]
    f = unit.states[:, None] * controllability_factor(unit.system)
    return _gramian(f, unit.into, "controllability_gramian")


def observability_gramian(system: Any, *, continuous: bool = False) -> np.ndarray:
    """Return Q with Q = A* Q A + C* C (continuous time: A* Q + Q A + C* C = 0).

    It has the parameters and raises the errors of `controllability_gramian`.

    Examples
    --------
    >>> import control
    >>> observability_gramian(control.ss(-0.5, 1, 1, 0)).round(12).tolist()  # continuous: 1/(2 0.5)
    [[1.0]]
    """
    continuous = require_flag("continuous", continuous)
    unit = _scale(_dense(system, "observability_gramian", continuous), "observability_gramian")[0]
    f = controllability_factor(adjoint(unit.system)) / unit.states[:, None]
    return _gramian(f, unit.exponent - unit.into, "observability_gramian")


def hankel_singular_values(system: Any, *, continuous: bool = False) -> np.ndarray:
    """Return sigma_i = sqrt(eig_i(P Q)), descending: what each balanced state carries from past to future.

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
    continuous = require_flag("continuous", continuous)
    g = _dense(system, "hankel_singular_values", continuous)
    unit, sigma = _proven_values(g) or _values(g)
    return np.array([times_power(s, unit.exponent, "hankel_singular_values") for s in sigma.tolist()])


def balanced_truncation(system: Any, order: int | None = None, *, tol: float | None = None) -> Truncation:
    """Keep the `order` states of the balanced form that carry most: a stable system again, with an error bound.

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
    unit, poles = _scale(_dense(system, "balanced_truncation", False), "balanced_truncation")
    (forward, backward), hankel = _balancing(unit.system, poles)
    r = _order(order, None if tol is None else _in_units(tol, unit.exponent), hankel)
    scale = 1 / np.sqrt(hankel[:r])
    right, left = forward[:, :r] * scale, (backward[:, :r] * scale).T
    g = unit.system
    reduced = Realization(left @ g.a @ right, left @ g.b, g.c @ right, g.d, g.continuous)
    bound = float(2 * hankel[r:].sum())
    error = _largest_error(g, reduced, bound)
    result = to_control(_in_given_units(reduced, unit), system.dt)
    bound, error, *values = (
        times_power(float(s), unit.exponent, "balanced_truncation") for s in (bound, error, *hankel)
    )
    result.set_inputs(system.input_labels)
    result.set_outputs(system.output_labels)
    return Truncation(result, bound, np.array(values), error)


def controllability_factor(g: Realization) -> np.ndarray:
    """Return F (n, n or fewer) with P = F F*, for a stable realization in good units (`scaled`).

    It raises ArithmeticError where P solves its equation too badly.
    """
    return _factor(g, _series(g))[0]


def gramian_factors(g: Realization, poles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (F, G) with P = F F* and Q = G G*, as `controllability_factor`, from the powers of one A and its poles."""
    series = _series(g, poles)
    return _factor(g, series)[0], _factor(adjoint(g), series.adjoint())[0]


def proven_factors(g: Realization) -> tuple[Scaled, np.ndarray, np.ndarray] | None:
    """Return (units, F, G) as `gramian_factors`, of a discrete-time system that needs neither poles nor a refinement.

    The squares of A that the sums need prove it stable, and bound their errors. The result is None where they prove too
    little.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sides = _sides(g)
        if sides is None:
            return None
        unit, p_side, q_side = sides
        if all(side.error(side.enough) <= side.enough for side in (p_side, q_side)):
            return unit, p_side.f, q_side.f
    return None


class _GramianSide:
    """F with P = F F* but for an error that is not known yet."""

    def __init__(self, g: Realization, series: PowerSums) -> None:
        self.g, self.series = g, series
        self.f = series.factor(g.b)
        self.p = self.f @ self.f.conj().T
        self.enough = _REFINE * frobenius(self.p)

    def error(self, enough: float) -> float:
        """Bound ||P - F F*||_F but for terms of second order, from the residual of the equation itself."""
        a, b = self.g.a, self.g.b
        return self.series.bounded(a @ self.p @ a.conj().T - self.p + b @ b.conj().T, enough)


def _sides(g: Realization) -> tuple[Scaled, _GramianSide, _GramianSide] | None:
    """Return (units, side of P, side of Q), or None where the powers of A do not prove all poles inside.

    As in `is_stable_matrix`, poles count as inside if they are many roundings from the boundary.
    """
    if g.continuous or g.marginal or not len(g.a):
        return None
    unit = scaled(g, by_entries=True)
    series = PowerSums(unit.system.a, proving=True)
    if not series.distance() > clear_distance(unit.system.a):
        return None
    return unit, _GramianSide(unit.system, series), _GramianSide(adjoint(unit.system), series.adjoint())


def _proven_values(g: Realization) -> tuple[Scaled, np.ndarray] | None:
    """Return (units, sigma), where the errors of both gramians are too small to be carried to the balanced form.

    sigma_i^2 is an eigenvalue of G* P G. An error E of P moves it by ||G* E G|| <= ||E|| ||G||^2 at most (Weyl), and
    sigma_i by at most the root of that, however small it is; so does one of Q.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sides = _sides(g)
        if sides is None:
            return None
        unit, p_side, q_side = sides
        product = q_side.f.conj().T @ p_side.f
        if not math.isfinite(frobenius(product)):
            return None
        sigma = singular_values(product)
        largest = float(sigma[0]) if len(sigma) else 0.0
        allowed = 0.5 * (_LOST * largest) ** 2
        for side, other in ((p_side, q_side), (q_side, p_side)):
            weight = frobenius(other.f) ** 2  # >= ||G||^2
            enough = min(side.enough, allowed / weight) if weight else side.enough
            if not side.error(enough) <= enough:
                return None
    missing = len(g.a) - len(sigma)
    return unit, np.pad(sigma, (0, missing)) if missing else sigma


def _values(g: Realization) -> tuple[Scaled, np.ndarray]:
    unit, poles = _scale(g, "hankel_singular_values")
    return unit, _balancing(unit.system, poles)[1]


def _factor(g: Realization, series: PowerSums) -> tuple[np.ndarray, np.ndarray]:
    """Return (F, E): P = F F* + E but for terms of second order, E from the residual of the equation itself."""
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
            next_correction = _correction(g, series, p)
            if _share(next_correction, p) < share:
                f, correction, share = refined, next_correction, _share(next_correction, p)
    if not share <= _LOST:
        raise ArithmeticError(LOST_DIGITS.format("a gramian is", share))
    return f, correction


def _share(correction: np.ndarray, p: np.ndarray) -> float:
    size, error = frobenius(p), frobenius(correction)
    if size > 0:
        return error / size
    return np.inf if error > 0 else 0.0


def _correction(g: Realization, series: PowerSums, p: np.ndarray) -> np.ndarray:
    """Return E = R + A R A* + ... for the residual R of the equation of P, in its own time: P + E solves it."""
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


def _dense(system: Any, quantity: str, continuous: bool) -> Realization:
    g = realization(system, quantity, continuous=continuous)
    require_dense(g, quantity)
    return g


def _scale(g: Realization, quantity: str) -> tuple[Scaled, np.ndarray]:
    """Return a stable system in good units, and its poles there."""
    stable, poles = g.stable_poles()
    if not stable:
        raise InputError(f"{quantity} needs a stable system: a pole is on or beyond the boundary, the sum diverges")
    unit = scaled(g, poles=poles)
    return unit, poles / unit.rate


def adjoint(g: Realization) -> Realization:
    """Return (A*, C*, B*, D*), whose controllability is the observability of G."""
    a, c, b, d = (m.conj().T for m in (g.a, g.c, g.b, g.d))
    return Realization(a, c, b, d, g.continuous)


def _series(g: Realization, poles: np.ndarray | None = None) -> PowerSums:
    """Return A_d = (t + A)(t - A)^-1, B_d = sqrt(2 t)(t - A)^-1 B in continuous time, t the geometric mean of the
    poles' extremes."""
    if not g.continuous or not len(g.a):
        return PowerSums(g.a)
    a = g.a
    sizes = np.abs(np.linalg.eigvals(a) if poles is None else poles)
    t = float(np.sqrt(sizes.min()) * np.sqrt(sizes.max()))
    try:
        inverse = np.sqrt(2 * t) * np.linalg.inv(t * np.eye(len(a)) - a)
    except np.linalg.LinAlgError:  # -t would be a pole in the right half plane, but for rounding
        raise ArithmeticError(f"a gramian is lost: poles of moduli {sizes.min():.0e} to {sizes.max():.0e}") from None
    return PowerSums((t * np.eye(len(a)) + a) @ inverse / np.sqrt(2 * t), inverse)


def _gramian(f: np.ndarray, exponent: int, quantity: str) -> np.ndarray:
    """Return F F* 4^exponent, all of whose entries are floats."""
    with np.errstate(over="ignore", invalid="ignore"):
        half = np.exp2(exponent // 2)
        f = f * half * np.exp2(exponent - exponent // 2)
        gramian = f @ f.conj().T
    if not np.all(np.isfinite(gramian)):
        raise ArithmeticError(f"{quantity} has entries beyond the largest float: rescale inputs, outputs or states")
    return gramian


def _balancing(g: Realization, poles: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Return ((F V, G U), sigma) with G* F = U sigma V*; sigma padded with zeros to the number of states."""
    n = len(g.a)
    series = _series(g, poles)
    (f, of_f), (q_factor, of_q) = _factor(g, series), _factor(adjoint(g), series.adjoint())
    u, sigma, vh = singular_vectors(q_factor.conj().T @ f)
    into, back = f @ vh.conj().T, q_factor @ u
    # In the balanced form both gramians are diag(sigma): there the errors of the gramians are those of the values.
    clear = sigma > max(_CLEAR * np.max(sigma, initial=0.0), _NOTHING)
    for error, side in ((of_f, back), (of_q, into)):
        rows = side[:, clear] / sigma[clear]
        changes = np.abs(np.sum(rows.conj() * (error @ rows), axis=0))
        if np.max(changes * sigma[clear], initial=0.0) > _LOST * np.max(sigma, initial=0.0):
            raise ArithmeticError(LOST_DIGITS.format("the Hankel values are", float(np.max(changes))))
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
    bound = require_real("tol", tol)
    if bound.ndim or not bound >= 0:
        raise InputError(f"tol must be at least 0, got {tol}")
    return float(bound)


def _in_units(tol: float, exponent: int) -> float:
    return float(np.ldexp(tol, -exponent)) if np.isfinite(tol) else tol


def _in_given_units(g: Realization, unit: Scaled) -> Realization:
    """Share the gain between inputs and outputs, so that the balanced form stays balanced."""
    root = 2.0 ** (unit.exponent / 2) * np.sqrt(unit.rate)
    d = g.d * 2.0**unit.exponent
    return Realization(unit.rate * g.a, root * g.b, root * g.c, d, g.continuous)


def _largest_error(g: Realization, reduced: Realization, bound: float) -> float:
    """Return the error at frequencies about every pole; raise ArithmeticError where it is above its bound."""
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
