"""|x_1' - x_2'|_P <= rate |x_1 - x_2|_P, |x|_P^2 = x^T P x: any two motions of a nonlinear loop approach each other.

x' = A x - B phi(C x) + input, with the slopes of phi in a sector [low, high] on a set. With c and r the middle and
half width of the sector, the rate is the smallest lambda with r ||C (lambda z - A + c B C)^-1 B||_inf < 1, and P solves
the Riccati equation of that bound. The matrix inequality that proves it is then checked by itself.
"""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, solve_discrete_are

from ctrlattn.arrays import require_real
from ctrlattn.controllers import PID
from ctrlattn.errors import InputError
from ctrlattn.linear.lapack import spectral_radii
from ctrlattn.linear.operators import pass_operator
from ctrlattn.linear.realization import Realization, realization, square
from ctrlattn.loop import Loop, require_scalar_gains
from ctrlattn.predictors import AssociativeMemory
from ctrlattn.stability.robustness.norms import level_set_peak, require_pencil
from ctrlattn.stability.robustness.sectors import normalizer_sector, softmax_sector

if TYPE_CHECKING:
    import control

_FLOOR = 1e-3


class Contraction(NamedTuple):
    """A certificate: as long as both motions stay where the sector holds, |x_1 - x_2|_P shrinks by `rate` per layer."""

    rate: float  # below 1: contracting
    metric: np.ndarray  # P (n, n), positive definite, largest eigenvalue 1
    slack: float  # largest eigenvalue of the matrix inequality, at most 0


def contraction_certificate(system: Any, low: float, high: float, *, tol: float = 1e-6) -> Contraction:
    """Return the smallest rate of contraction that one quadratic metric proves for a loop closed through a sector.

    Parameters
    ----------
    system : control.StateSpace or (A, B, C, D) with D = 0, real, discrete
        It leads from the output of the nonlinearity to its input, by negative feedback, as for `circle_criterion`.
    low, high : float
        Sector of the slopes: <d phi - low d v, d phi - high d v> <= 0.
    tol : float
        Relative accuracy of the rate.

    Returns
    -------
    Contraction
        A rate of 1 or more certifies nothing but a bound of the growth. Below 1/1000 of the norms of the matrices
        no smaller rate is looked for.

    Raises
    ------
    InputError
        As `realization`; continuous time, complex, a direct term, a sector that is none.
    ArithmeticError
        No Riccati solution passes the check (badly scaled matrices).

    References
    ----------
    Lohmiller and Slotine, Automatica 34 (1998) 683; bounded real lemma: Zhou, Doyle, Glover 1996, section 21.7.

    Examples
    --------
    >>> import control
    >>> certificate = contraction_certificate(control.ss(0.9, 0.5, 1.0, 0, 1), 0.0, 1.0)  # |0.9 - 0.5 s|, 0 <= s <= 1
    >>> round(certificate.rate, 4)
    0.9
    """
    g = square(realization(system, "contraction_certificate"), "contraction_certificate")
    if g.continuous or not g.real() or np.any(g.d):
        raise InputError("contraction_certificate takes a real discrete-time system without a direct term")
    low, high, tol = (float(require_real(*pair)) for pair in (("low", low), ("high", high), ("tol", tol)))
    if not (math.isfinite(low) and math.isfinite(high) and low <= high) or not len(g.a):
        raise InputError(f"a certificate needs at least one state and finite low <= high, got [{low}, {high}]")
    require_pencil(g, "contraction_certificate")
    centre, half = (low + high) / 2, (high - low) / 2
    shifted = Realization(g.a - centre * g.b @ g.c, half * g.b, g.c, g.d, False)
    rate = _smallest_rate(shifted, tol)
    # The bound itself is attained by no finite metric; one of a nearly nilpotent loop is beyond double precision.
    for widened in (1.0, 1 + tol, 1 + 30 * tol, 1 + 1e3 * tol, *np.geomspace(1.02, 2 / _FLOOR, 40).tolist()):
        certificate = _metric(shifted, rate * widened)
        if certificate is not None:
            return Contraction(rate * widened, *certificate)
    raise ArithmeticError(
        "no metric passes the check of its matrix inequality: rescale the system or take a larger tol"
    )


def sector_form(
    loop: Loop, *, tokens: int = 1, lowest: float | None = None
) -> "tuple[control.StateSpace, float, float]":
    """Return a loop as x' = A x - B phi(C x) with the sector of phi: (system, low, high) for `contraction_certificate`.

    Two kinds of loop have one saturation. For an AssociativeMemory without normalizer, phi is its softmax and x is one
    token, and the sector holds everywhere. For a linear predictor with a normalizer without weight, phi is the norm and
    one number stands for the d features of a token (all alike), and the sector holds where every token has at least the
    size `lowest` before the norm.

    Parameters
    ----------
    loop : Loop
        Parallel order, with any controller (acting).
    tokens : int
        n, for a linear predictor.
    lowest : float
        Needed with a normalizer; see `normalizer_sector`.

    Returns
    -------
    (control.StateSpace, low, high)

    Raises
    ------
    InputError
        A loop of another kind, sequential order, `lowest` missing.

    Examples
    --------
    >>> import numpy as np
    >>> from ctrlattn import AssociativeMemory, Loop
    >>> memory = AssociativeMemory(np.eye(2), np.eye(2), temperature=1.0)
    >>> system, low, high = sector_form(Loop(memory, skip=0.5, feedback=-0.4))
    >>> round(contraction_certificate(system, low, high).rate, 4)
    0.5
    """
    require_scalar_gains(loop, "sector_form")
    if loop.order == "sequential" or loop.normalize_input or loop.hold_first:
        raise InputError("sector_form takes parallel order, a norm on the result, no held token")
    memory = isinstance(loop.predictor, AssociativeMemory)
    if memory and loop.normalizer is None and loop.predictor.keys.ndim == 2:
        keys, values = (require_real(name, getattr(loop.predictor, name)) for name in ("keys", "values"))
        a, b, c, d = (np.kron(m, np.eye(keys.shape[1])) for m in (loop.controller or PID()).realization())
        matrix = np.block([[loop.skip * np.eye(len(d)) - d, c], [-b, a]])
        into = np.vstack([-loop.feedback * values.T, np.zeros((len(a), len(values)))])
        return _system(matrix, into, np.hstack([keys, np.zeros((len(keys), len(a)))])), *softmax_sector(
            float(loop.predictor.temperature)
        )
    if loop.normalizer is None or memory:
        raise InputError(
            "sector_form knows a memory without normalizer and a linear predictor with one: use linearize at a state"
        )
    if lowest is None:
        raise InputError(
            "give lowest, the smallest size of a token before the norm on the set: at 0 no slope is finite"
        )
    without_control = Loop(loop.predictor, skip=loop.skip, feedback=loop.feedback)
    h = require_real("the operator of a pass", pass_operator(without_control, tokens))
    a, b, c, d = (np.kron(m, np.eye(tokens)) for m in (loop.controller or PID()).realization())
    matrix = np.block([[np.zeros_like(h), np.zeros_like(c)], [-b, a]])
    into = np.vstack([-np.eye(tokens), np.zeros((len(a), tokens))])
    return _system(matrix, into, np.hstack([h - d, c])), *normalizer_sector(lowest)


def _system(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> "control.StateSpace":
    import control

    return control.ss(a, b, c, np.zeros((len(c), b.shape[1])), 1, remove_useless_states=False)


def _smallest_rate(g: Realization, tol: float) -> float:
    """Return min lambda with ||C (lambda z - A)^-1 B||_inf < 1; above the spectral radius of A."""
    radius = float(spectral_radii(g.a))
    good = max(float(np.linalg.norm(g.a, 2) + np.linalg.norm(g.b, 2) * np.linalg.norm(g.c, 2)), 1e-12) * (1 + tol)
    bad = radius
    floor = _FLOOR * good  # a pure delay contracts at any rate above 0, each with its own metric
    while good - bad > tol * good / 2 and good > floor:
        middle = (good + bad) / 2
        good, bad = (middle, bad) if _bounded(g, middle) else (good, middle)
    return good


def _bounded(g: Realization, rate: float) -> bool:
    scaled = Realization(g.a / rate, g.b / rate, g.c, g.d, False)
    return scaled.is_stable() and level_set_peak(scaled, 1e-9).upper < 1


def _metric(g: Realization, rate: float) -> tuple[np.ndarray, float] | None:
    """Return (P, slack) with [A'PA - rate^2 P + C'C, A'PB; B'PA, B'PB - I] <= 0 and P > 0, or None."""
    a, b = g.a / rate, g.b / rate
    n, m = b.shape
    q = g.c.T @ g.c
    q = q + 1e-9 * max(float(np.linalg.norm(q, 2)), 1e-12) * np.eye(n)
    if not np.any(b):  # no nonlinearity reaches the state
        b = np.zeros((n, m))
    try:
        p = solve_discrete_are(a, b, q, -np.eye(m))
    except LinAlgError:
        return None
    except ValueError as error:
        if "Reordering" not in str(error):  # the words of scipy's ordqz for a pencil that it cannot order
            raise
        return None
    p = (p + p.T) / 2
    inequality = np.block([[a.T @ p @ a - p + g.c.T @ g.c, a.T @ p @ b], [b.T @ p @ a, b.T @ p @ b - np.eye(m)]])
    slack, smallest = float(np.linalg.eigvalsh(inequality)[-1]), float(np.linalg.eigvalsh(p)[0])
    if not (smallest > 0 and slack <= 0):
        return None
    size = float(np.linalg.norm(p, 2))
    return p / size, slack / size
