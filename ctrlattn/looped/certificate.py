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
from ctrlattn.errors import InputError, require_whole
from ctrlattn.linear.lapack import spectral_radii
from ctrlattn.looped.pass_map import PassMap, as_pass_map, require_state
from ctrlattn.looped.spectrum import WHOLE, formed, pass_products
from ctrlattn.passes import Passes
from ctrlattn.stability.motion.difference_scale import difference_size
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
    """Return a ball around x on which the loop with C = gain provably contracts to exactly one fixed point.

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
        The radius is not looked for beyond this, positive and finite.
    seed : int

    Returns
    -------
    Ball
        The largest radius for which the rate stays below the middle between |M| and 1.

    Raises
    ------
    InputError
        As for `iterate`; a lipschitz or seed that is negative, a gain or `largest` that is not positive and finite, a
        state too large to be certified.
    ArithmeticError
        No ball: the loop does not contract at x, x is too far from rest, or the loop is not finite within the ball. Or
        random pairs contradict `lipschitz` or the Jacobian.

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
    gain, size, largest = require_positive("gain", gain), length(x), require_positive("largest", largest)
    seed = require_whole("seed", seed, least=0)
    bound = float(require_number("lipschitz", lipschitz))
    if bound < 0:
        raise InputError(f"lipschitz must be at least 0, got {lipschitz}")
    if size > WHOLE:
        raise InputError(f"a state of {size} numbers: a certificate forms its Jacobian, of at most {WHOLE}")
    start = loop.init(x, reference).start
    flat = require_real("x", x).ravel()

    def one_pass(h: np.ndarray) -> np.ndarray:
        at = like(h.reshape(tuple(x.shape)), x)
        with np.errstate(all="ignore"):
            return h + gain * require_real("e", loop.error(at, step(at), start)).ravel()

    jacobian = formed(pass_products(step, x), size)
    m = np.eye(size) + gain * (jacobian - (1 + loop.recall) * np.eye(size))
    delta = gain * _uncertainty(step, x, jacobian, bound)
    metric, norm, stretch = _metric(m, delta)
    rate = (1 + norm) / 2
    # In the metric the second derivative is larger by what the metric stretches.
    slope = gain * bound * stretch
    radius = min((rate - norm) / slope if slope > 0 else math.inf, largest)
    off = _length(metric, one_pass(flat) - flat)
    if not off <= (1 - rate) * radius:
        raise ArithmeticError(
            f"no ball: the loop moves x by {off:.2g}, and the ball of radius {radius:.2g} bears "
            f"{(1 - rate) * radius:.2g}: give a point nearer to rest"
        )
    rounding = _ROUNDING * machine_epsilon(x) * (1 + gain * (1 + 2 * loop.recall))
    bent = _Bent(m, gain * bound, delta, rounding, float(np.linalg.norm(require_real("h_0", start))))
    ratio = _largest_ratio(one_pass, flat, metric, radius, rate, bent, seed)
    return Ball(rate, radius, radius / (1.0 if metric is None else float(np.linalg.norm(metric, 2))), metric, ratio)


def _uncertainty(step: PassMap, x: Array, jacobian: np.ndarray, bound: float) -> float:
    """Bound |error of J|_2: rounding, and for a difference quotient over d the curvature on its way, L d/2."""
    rounding = _ROUNDING * machine_epsilon(x)
    error = rounding * float(np.linalg.norm(jacobian))
    if not is_torch(x):
        away = difference_step(difference_size(step, x), machine_epsilon(x))
        ends = float(np.linalg.norm(require_real("x", x)) + np.linalg.norm(require_real("F(x)", step(x))))
        error += bound * away / 2 + rounding * ends / away
    return math.sqrt(len(jacobian)) * error  # each column may be off by so much


def _metric(m: np.ndarray, off: float) -> tuple[np.ndarray | None, float, float]:
    """Return (T_m, |T_m M T_m^-1|_2, how much T_m multiplies a Lipschitz constant): Euclidean where that contracts.

    M is known to `off`, and the norm is that of the worst such M.
    """
    if off >= 1:
        raise _derivative_error(off)
    norm = float(np.linalg.norm(m, 2)) + off
    if norm < 1:
        return None, norm, 1.0
    radius = float(spectral_radii(m))
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
        raise _derivative_error(off)
    return metric, norm, stretch * inner


def _derivative_error(off: float) -> ArithmeticError:
    return ArithmeticError(
        f"no ball: the derivative is known to {off:.2g}, and no metric contracts all that this leaves open; a torch "
        "map has no error of differences"
    )


def _length(metric: np.ndarray | None, d: np.ndarray) -> float:
    return float(np.linalg.norm(d if metric is None else metric @ d))


class _Bent(NamedTuple):
    """How far T(a) - T(b) may be from M (a - b): the curvature, the error of M, and the last digits."""

    m: np.ndarray
    slope: float  # g L
    known: float  # |error of M|_2
    rounding: float
    reference: float  # |h_0|, which recall adds

    def allows(self, off: tuple[np.ndarray, np.ndarray], ends: tuple[np.ndarray, np.ndarray], x: np.ndarray) -> bool:
        """Tell whether T leads x + off to `ends`: |T(a) - T(b) - M (a - b)| <= g L max(|a - x|, |b - x|) |a - b|."""
        away = off[0] - off[1]
        farthest, sizes = max(map(np.linalg.norm, off)), 2 * float(np.linalg.norm(x)) + self.reference
        sizes += sum(float(np.linalg.norm(part)) for part in (*off, *ends))
        bound = (self.slope * farthest + self.known) * np.linalg.norm(away) + self.rounding * sizes
        return bool(np.linalg.norm(ends[0] - ends[1] - self.m @ away) <= bound * (1 + 1e-9))


def _largest_ratio(
    one_pass: Any, x: np.ndarray, metric: np.ndarray | None, radius: float, rate: float, bent: _Bent, seed: int
) -> float:
    """Return the largest ratio over random pairs of the ball; raise ArithmeticError where it is above the rate.

    Random pairs rarely see a single direction that grows among many. They do see that M leaves it out: near x, where
    curvature moves nothing, T(a) - T(b) is M (a - b).
    """
    rng, ratio = np.random.default_rng(seed), 0.0
    unit = np.eye(len(x)) if metric is None else np.linalg.inv(metric)
    for scale in (*np.ones(_PAIRS // 2), *10.0 ** rng.uniform(-6, 0, _PAIRS // 2)):
        off = [scale * radius * unit @ _in_ball(rng, len(x)) for _ in range(2)]
        apart = _length(metric, off[0] - off[1])
        ends = [one_pass(x + d) for d in off]
        if not all(np.all(np.isfinite(end)) for end in ends):
            raise ArithmeticError("no ball: the loop is not finite at a random point of it")
        if scale == 1 and apart > 0:
            ratio = max(ratio, _length(metric, ends[0] - ends[1]) / apart)
        if not bent.allows((off[0], off[1]), (ends[0], ends[1]), x):
            raise ArithmeticError(
                "the certificate is contradicted: the loop moves a random pair of the ball otherwise than its Jacobian "
                "and the given lipschitz allow. Either lipschitz is too small for this map, or its derivative is not "
                "what differentiation takes for it (a part under no_grad or detach)"
            )
    if not ratio <= rate * (1 + 1e-9):
        raise ArithmeticError(
            f"the certificate of rate {rate:.6g} is contradicted: a random pair of the ball came nearer by {ratio:.6g} "
            "only. The given lipschitz is too small for this map"
        )
    return ratio


def _in_ball(rng: np.random.Generator, size: int) -> np.ndarray:
    direction = rng.standard_normal(size)
    return direction / np.linalg.norm(direction) * rng.uniform(0.5, 1.0)
