"""F(h) - h + recall (h_0 - h) = 0: where a looped network rests, by Newton-Krylov steps, and how far its basin reaches.

Newton's step d solves (J - (1 + k_r) I) d = -e without J, by GMRES. Every controller with C(1) != 0 has these fixed
points, so the controller matters for the basin alone.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator, gmres
from scipy.stats import beta

from ctrlattn.arrays import Array, like, machine_epsilon, require_positive, require_real
from ctrlattn.errors import InputError, require_whole
from ctrlattn.looped.anderson import anderson, least_squares
from ctrlattn.looped.pass_map import PassMap, as_pass_map, require_state
from ctrlattn.looped.spectrum import pass_products
from ctrlattn.passes import Passes
from ctrlattn.stability.motion.tangent import length

_HALVINGS = 12
_DIGIT = float(np.finfo(float).eps)
_DENSE = 1000  # numbers in a state whose Newton step is solved with the Jacobian itself
_BASIS = 120  # directions of GMRES
_WARM, _MEMORY = 150, 8  # passes of Anderson that bring a start into reach of Newton's method


class RestPoint(NamedTuple):
    """A fixed point of a looped network."""

    x: Array  # of the kind and shape of h_0
    residual: float  # max |F(x) - x + recall (h_0 - x)|, from an evaluation of its own
    iterations: int  # of Newton's method
    warm: int  # passes of Anderson's acceleration before it


class Basin(NamedTuple):
    """From how far away a loop returns to its fixed point, by random starts."""

    radii: np.ndarray  # (m,) distance of the starts, as a share of |x|
    returned: np.ndarray  # (m,) int, of `starts`
    starts: int
    low: np.ndarray  # (m,) 95 % interval of the share that returns (Clopper and Pearson)
    high: np.ndarray  # (m,)
    seed: int


def fixed_point(
    f: Any,
    h: Array,
    *,
    recall: float = 0.0,
    start: Array | None = None,
    tol: float = 1e-10,
    max_iterations: int = 40,
) -> RestPoint:
    """A fixed point of h' = h + C(z) e, e = F(h) - h + recall (h_0 - h).

    Newton-Krylov from the start; where that fails, from where Anderson's acceleration leads. The residual is
    evaluated anew at the point that is returned.

    Parameters
    ----------
    f : as for `iterate`
    h : any shape, numpy or torch, float64
        h_0, to which recall leads back.
    recall : float
    start : shaped as h, optional
        Where the search starts; h_0 by default.
    tol : float
        Bound on max |e|, relative to max(1, max |h_0|, max |start|): a state that runs away does not come to rest by
        its size.
    max_iterations : int
        Of Newton's method.

    Returns
    -------
    RestPoint

    Raises
    ------
    InputError
        As for `iterate`; a state that is not float64.
    ArithmeticError
        No fixed point was found from this start. The message gives the least residual.

    References
    ----------
    Knoll and Keyes, J. Comput. Phys. 193 (2004) 357.

    Examples
    --------
    >>> fixed_point(lambda h: np.cos(h), np.array([0.5])).x.round(9).tolist()
    [0.739085133]
    """
    step, h, loop = as_pass_map(f), require_state(h), Passes(recall=recall)
    tol, max_iterations = require_positive("tol", tol), require_whole("max_iterations", max_iterations)
    if machine_epsilon(h) > 1e-10:
        raise InputError(
            f"a fixed point to {tol:.2g} needs float64, got {h.dtype}: convert the state and the network by .double()"
        )
    problem = _Problem(step, h, loop)
    first = h if start is None else require_state(start)
    loop.init(first, h)  # refuses a start of another shape or kind
    near = tol * max(1.0, *(float(np.max(np.abs(require_real("h", a)))) for a in (h, first)))
    warm = 0
    with np.errstate(all="ignore"):  # a state on its way out overflows, which its residual says
        x, residual, iterations = problem.newton(first, near, max_iterations)
        if not residual <= near:
            x, warm = problem.warmed(first)
            x, residual, iterations = problem.newton(x, near, max_iterations)
    if not residual <= near:
        raise ArithmeticError(
            f"no fixed point found from this start: the residual max |e| reached {residual:.2g}, {tol:.2g} was asked "
            "for; the loop may have none in reach (a period test says what it does), or it needs more recall"
        )
    return RestPoint(x, problem.residual(x), iterations, warm)


class _Problem:
    """e(x) = 0 on flat float64 vectors."""

    def __init__(self, step: PassMap, h: Array, loop: Passes) -> None:
        self.step, self.h, self.loop, self.size = step, h, loop, length(h)

    def error(self, x: Array) -> np.ndarray:
        with np.errstate(all="ignore"):
            return require_real("the error", self.loop.error(x, self.step(x), self.h)).ravel()

    def residual(self, x: Array) -> float:
        return float(np.max(np.abs(self.error(x))))

    def uncertainty(self, x: Array, e: np.ndarray) -> float:
        """max |e| and the last digit of x: far out, F(x) - x vanishes by rounding alone."""
        return float(np.max(np.abs(e))) + _DIGIT * float(np.max(np.abs(require_real("x", x))))

    def newton(self, x: Array, near: float, max_iterations: int) -> tuple[Array, float, int]:
        """(x, max |e|, iterations): damped Newton steps until it rests or no step reduces |e|."""
        e = self.error(x)
        for iteration in range(max_iterations):
            size = self.uncertainty(x, e)
            if not np.isfinite(size) or size <= near:
                return x, size, iteration
            direction = self.direction(x, e)
            if direction is None:
                return x, size, iteration
            x, e, lower = self.damped(x, e, direction)
            if not lower:
                return x, self.uncertainty(x, e), iteration + 1
        return x, self.uncertainty(x, e), max_iterations

    def direction(self, x: Array, e: np.ndarray) -> np.ndarray | None:
        """d with (J - (1 + k_r) I) d = -e, to a tenth of the last residual at least; None where J gives none."""
        products, shift = pass_products(self.step, x), 1 + self.loop.recall
        if self.size <= _DENSE:
            matrix = products(np.eye(self.size)) - shift * np.eye(self.size)
            return least_squares(matrix, -e)

        def times(v: np.ndarray) -> np.ndarray:
            return products(v.reshape(-1, 1))[:, 0] - shift * v.ravel()

        operator = LinearOperator((self.size, self.size), matvec=times, dtype=np.float64)
        share = 1e-2 * min(1e-2, max(float(np.linalg.norm(e)), 1e-8))
        d = gmres(operator, -e, rtol=share, atol=0.0, restart=_BASIS, maxiter=3)[0]
        return d if np.all(np.isfinite(d)) else None

    def damped(self, x: Array, e: np.ndarray, direction: np.ndarray) -> tuple[Array, np.ndarray, bool]:
        """x + t d with the first t of 1, 1/2, 1/4, ... that reduces |e|, and whether there is one."""
        before, move = float(np.linalg.norm(e)), like(direction.reshape(tuple(x.shape)), x)
        for halving in range(_HALVINGS):
            trial = x + move * 0.5**halving
            new = self.error(trial)
            if np.all(np.isfinite(new)) and np.linalg.norm(new) < before:
                return trial, new, True
        return x, e, False

    def warmed(self, x: Array) -> tuple[Array, int]:
        """The state of least |e| among some passes of Anderson's acceleration, as far as they stay finite."""
        best, least, h = x, self.uncertainty(x, self.error(x)), x
        shift = 1 + self.loop.recall

        def relaxed(h: Array) -> Array:  # the same fixed points, with the recall inside the map
            return (self.step(h) + self.loop.recall * self.h) / shift

        try:
            run = anderson(relaxed, h, _WARM, memory=_MEMORY, gain=0.5)
        except InputError:  # it ran away; what it had found is not kept, and Newton starts where it did
            return best, 0
        for k in range(1, len(run.state)):
            residual = self.uncertainty(run.state[k], self.error(run.state[k]))
            if residual < least:
                best, least = run.state[k], residual
        return best, len(run.state) - 1


def basin(
    f: Any,
    point: Array,
    radii: Any,
    *,
    passes: int = 200,
    controller: Any = None,
    recall: float = 0.0,
    reference: Array | None = None,
    starts: int = 32,
    tol: float = 1e-6,
    seed: int = 0,
) -> Basin:
    """The share of random starts at given distances from which a loop returns to a fixed point.

    Parameters
    ----------
    f, controller, recall : as for `iterate`
    point : any shape
        x, a fixed point.
    radii : (m,)
        Distances |h - x| of the starts, as shares of |x| (of 1 where x = 0). Their directions are uniform.
    passes : int
        In which it has to return.
    reference : shaped as point, optional
        h_0, to which recall leads back; x itself by default.
    starts : int
        For each distance.
    tol : float
        It has returned once |h - x| is at most this share of the start's distance.
    seed : int

    Returns
    -------
    Basin

    Raises
    ------
    InputError
        As for `iterate`; a radius or tol that is not positive.

    Examples
    --------
    >>> cubic = lambda h: 0.5 * h + h**3  # basin |h| < sqrt(1/2)
    >>> basin(cubic, np.zeros(1), [0.6, 0.8]).returned.tolist()
    [32, 0]
    """
    step, x, loop = as_pass_map(f), require_state(point), Passes(controller, recall=recall)
    distances = require_real("radii", radii)
    if distances.ndim != 1 or not len(distances) or not np.all(distances > 0) or not np.all(np.isfinite(distances)):
        raise InputError(f"radii must be (m,), positive and finite, got {radii!r}")
    passes, starts = require_whole("passes", passes), require_whole("starts", starts)
    tol, seed = require_positive("tol", tol), require_whole("seed", seed, least=0)
    rng, flat = np.random.default_rng(seed), require_real("point", x).ravel()
    unit = float(np.linalg.norm(flat)) or 1.0
    returned = []
    for distance in distances * unit:
        directions = rng.standard_normal((starts, len(flat)))
        directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        ends = [_end(step, loop, x, reference, distance * d, passes, tol) for d in directions]
        returned.append(sum(ends))
    count = np.array(returned)
    low = np.where(count == 0, 0.0, beta.ppf(0.025, np.maximum(count, 1), starts - count + 1))
    high = np.where(count == starts, 1.0, beta.ppf(0.975, count + 1, np.maximum(starts - count, 1)))
    return Basin(distances, count, starts, low, high, seed)


def _end(
    step: PassMap, loop: Passes, x: Array, reference: Array | None, off: np.ndarray, passes: int, tol: float
) -> bool:
    """Whether the loop that starts at x + off comes back to x."""
    h = x + like(off.reshape(tuple(x.shape)), x)
    state, near, far = loop.init(h, x if reference is None else reference), tol * np.linalg.norm(off), 0.0
    for _ in range(passes):
        with np.errstate(all="ignore"):
            h, _, _, state = loop.step(h, step(h), state)
            far = float(np.linalg.norm(require_real("h", h).ravel() - require_real("x", x).ravel()))
        if not np.isfinite(far):
            return False
    return bool(far <= near)
