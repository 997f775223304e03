"""|T(a) - T(b)| <= rate |a - b| on a ball around x, T(h) = h + g (F(h) - h + recall (h_0 - h)): contraction, certified.

|T'(h)| <= |M| + g L |h - x| with M = T'(x) and L a Lipschitz constant of F' on the ball. If T moves x by less than
(1 - rate) times the radius, the ball is mapped into itself, and Banach's theorem gives exactly one fixed point there,
reached from everywhere in it. Where |M| >= 1 and the spectral radius is below 1, a metric of its own may contract.
"""

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import LinAlgWarning, cholesky, solve_discrete_lyapunov

from ctrlattn.arrays import Array, is_torch, like, machine_epsilon, require_number, require_positive, require_real
from ctrlattn.errors import InputError
from ctrlattn.looped.pass_map import PassMap, as_pass_map, require_state
from ctrlattn.looped.spectrum import WHOLE, formed, pass_products
from ctrlattn.passes import Passes
from ctrlattn.stability.motion.tangent import difference_step, length

_PAIRS = 64  # random pairs on which the certificate is tried
_ROUNDING = 64.0  # last digits that a value of F may be off by


class Ball(NamedTuple):
    """A certificate: within `radius` of x, in the metric |T_m .|, the loop contracts by `rate` and stays inside."""

    rate: float  # below 1
    radius: float  # of the ball in the metric; every h with |h - x|_2 <= inner lies in it
    inner: float
    metric: np.ndarray | None  # (N, N) T_m, upper triangular; None: the Euclidean norm
    seen: float  # the largest share by which a random pair of the ball came nearer, at most `rate`


def contraction_ball(
    f: Any,
    x: Array,
    lipschitz: float,
    *,
    gain: float = 1.0,
    recall: float = 0.0,
    reference: Array | None = None,
    largest: float = 1e6,
    seed: int = 0,
) -> Ball:
    """A ball around x on which the loop with C = gain provably contracts to exactly one fixed point.

    Parameters
    ----------
    f, recall, reference : as for `iterate`; the reference is x by default
    x : any shape, at most 2000 numbers
        A fixed point, or near one.
    lipschitz : float
        L with |F'(a) - F'(b)|_2 <= L |a - b|_2: the one thing that no sample can give. 0 for an affine map.
    gain : float
        g, positive.
    largest : float
        The radius is not looked for beyond this.
    seed : int

    Returns
    -------
    Ball
        The largest radius for which the rate stays below the middle between |M| and 1.

    Raises
    ------
    InputError
        As for `iterate`; a lipschitz that is negative, a gain that is not positive, a state too large to be certified.
    ArithmeticError
        No ball: the loop does not contract at x, or x is too far from rest. Or random pairs contradict `lipschitz`.

    References
    ----------
    Lohmiller and Slotine, Automatica 34 (1998) 683; Banach's theorem for a map of a ball into itself.

    Examples
    --------
    >>> ball = contraction_ball(lambda h: 0.5 * np.sin(h), np.zeros(1), 0.5)  # |F''| <= 1/2
    >>> round(ball.rate, 3), round(ball.radius, 3)
    (0.75, 0.5)
    """
    step, x, loop = as_pass_map(f), require_state(x), Passes(recall=recall)
    gain, size = require_positive("gain", gain), length(x)
    bound = float(require_number("lipschitz", lipschitz))
    if bound < 0:
        raise InputError(f"lipschitz must be at least 0, got {lipschitz}")
    if size > WHOLE:
        raise InputError(f"a state of {size} numbers: a certificate forms its Jacobian, of at most {WHOLE}")
    start = loop.init(x, reference).start
    flat = require_real("x", x).ravel()

    def moved(h: np.ndarray) -> np.ndarray:
        at = like(h.reshape(tuple(x.shape)), x)
        with np.errstate(all="ignore"):
            return h + gain * require_real("e", loop.error(at, step(at), start)).ravel()

    jacobian = formed(pass_products(step, x), size)
    m = np.eye(size) + gain * (jacobian - (1 + loop.recall) * np.eye(size))
    metric, norm, stretch = _metric(m, gain * _uncertainty(step, x, jacobian, bound))
    rate = (1 + norm) / 2
    # In the metric the second derivative is larger by what the metric stretches.
    slope = gain * bound * stretch
    radius = min((rate - norm) / slope if slope > 0 else math.inf, largest)
    off = _length(metric, moved(flat) - flat)
    if off > (1 - rate) * radius:
        raise ArithmeticError(
            f"no ball: the loop moves x by {off:.2g}, and the ball of radius {radius:.2g} bears "
            f"{(1 - rate) * radius:.2g}: give a point nearer to rest"
        )
    seen = _tried(moved, flat, metric, radius, rate, seed)
    return Ball(rate, radius, radius / (1.0 if metric is None else float(np.linalg.norm(metric, 2))), metric, seen)


def _uncertainty(step: PassMap, x: Array, jacobian: np.ndarray, bound: float) -> float:
    """A bound of |error of J|_2: rounding, and for a difference quotient over d the curvature on its way, L d/2."""
    size = float(np.max(np.abs(require_real("x", x)))) or 1.0
    away = difference_step(size, machine_epsilon(x))
    rounding = _ROUNDING * machine_epsilon(x)
    error = rounding * float(np.linalg.norm(jacobian))
    if not is_torch(x):
        ends = float(np.linalg.norm(require_real("x", x)) + np.linalg.norm(require_real("F(x)", step(x))))
        error += bound * away / 2 + rounding * ends / away
    return math.sqrt(len(jacobian)) * error  # each column may be off by so much


def _metric(m: np.ndarray, off: float) -> tuple[np.ndarray | None, float, float]:
    """(T_m, |T_m M T_m^-1|_2, how much T_m multiplies a Lipschitz constant): Euclidean where that contracts.

    M is known to `off`, and the norm is that of the worst such M.
    """
    if off >= 1:
        raise _unknown(off)
    norm = float(np.linalg.norm(m, 2)) + off
    if norm < 1:
        return None, norm, 1.0
    radius = float(np.max(np.abs(np.linalg.eigvals(m))))
    if radius >= 1:
        raise ArithmeticError(
            f"no ball: the loop does not contract at x, its spectral radius there is {radius:.6g}; a smaller gain or "
            "more recall may help (see limits)"
        )
    # P - M'PM/s^2 = I gives |T M T^-1| <= s for any s above the spectral radius.
    s = (1 + radius) / 2
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", LinAlgWarning)  # the norm below judges what came out
            p = solve_discrete_lyapunov((m / s).T, np.eye(len(m)))
            metric = cholesky((p + p.T) / 2)
            inverse = np.linalg.inv(metric)
    except (np.linalg.LinAlgError, ValueError) as error:
        raise ArithmeticError(f"no ball: no quadratic metric was found, M is too far from normal ({error})") from error
    # |T (J_a - J_b) T^-1| <= |T| |T^-1| L |a - b|, and |a - b| <= |T^-1| |a - b|_T.
    inner = float(np.linalg.norm(inverse, 2))
    stretch = float(np.linalg.norm(metric, 2)) * inner
    norm = float(np.linalg.norm(metric @ m @ inverse, 2)) + stretch * off
    if not norm < 1:
        raise _unknown(off)
    return metric, norm, stretch * inner


def _unknown(off: float) -> ArithmeticError:
    return ArithmeticError(
        f"no ball: the derivative is known to {off:.2g}, and no metric contracts all that this leaves open; a torch "
        "map has no error of differences"
    )


def _length(metric: np.ndarray | None, d: np.ndarray) -> float:
    return float(np.linalg.norm(d if metric is None else metric @ d))


def _tried(moved: Any, x: np.ndarray, metric: np.ndarray | None, radius: float, rate: float, seed: int) -> float:
    """The largest ratio over random pairs of the ball; an ArithmeticError where it is above the rate."""
    rng, seen = np.random.default_rng(seed), 0.0
    unit = np.eye(len(x)) if metric is None else np.linalg.inv(metric)
    for _ in range(_PAIRS):
        a, b = (x + radius * unit @ _in_ball(rng, len(x)) for _ in range(2))
        apart = _length(metric, a - b)
        if apart > 0:
            seen = max(seen, _length(metric, moved(a) - moved(b)) / apart)
    if not seen <= rate * (1 + 1e-9):
        raise ArithmeticError(
            f"the certificate of rate {rate:.6g} is contradicted: a random pair of the ball came nearer by {seen:.6g} "
            "only. The given lipschitz is too small for this map"
        )
    return seen


def _in_ball(rng: np.random.Generator, size: int) -> np.ndarray:
    direction = rng.standard_normal(size)
    return direction / np.linalg.norm(direction) * rng.uniform(0.5, 1.0)
