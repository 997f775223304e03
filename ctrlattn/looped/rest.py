"""F(h) - h + recall (h_0 - h) = 0: where a looped network rests, by Newton-Krylov steps, and how far its basin reaches.

Newton's step d solves (J - (1 + k_r) I) d = -e without J, by GMRES. Every controller with C(1) != 0 has these fixed
points, so the controller matters for the basin alone.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator, gmres

from ctrlattn.arrays import Array, is_torch, like, machine_epsilon, require_positive, require_real
from ctrlattn.errors import InputError, require_whole
from ctrlattn.looped.anderson import anderson
from ctrlattn.looped.pass_map import PassMap, as_pass_map, require_state
from ctrlattn.looped.spectrum import pass_products
from ctrlattn.passes import Passes
from ctrlattn.stability.motion.tangent import length

_HALVINGS = 12
_DIGIT = float(np.finfo(float).eps)
_ROUNDING = 64 * _DIGIT  # of an error and of a derivative, as a share of the state and of J
_DIFFERENCES = 8 * _DIGIT ** (2 / 3)  # the same of a derivative by differences
_DENSE = 1000  # numbers in a state whose Newton step is solved with the Jacobian itself
_BASIS = 120  # directions of GMRES
_WARM, _MEMORY = 150, 8  # passes of Anderson that bring a start into reach of Newton's method


class RestPoint(NamedTuple):
    """A fixed point of a looped network."""

    x: Array  # of the kind and shape of h_0
    residual: float  # max |F(x) - x + recall (h_0 - x)|, from an evaluation of its own
    iterations: int  # of Newton's method
    warm: int  # passes of Anderson's acceleration before it
    off: Array  # Newton's next step from x, shaped as x: how far x may be from rest, and where to


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
    """Find a fixed point of h' = h + C(z) e, e = F(h) - h + recall (h_0 - h).

    Newton-Krylov steps lead from the start or, where that fails, from where Anderson's acceleration leads. The residual
    is evaluated anew at the point that is returned.

    Parameters
    ----------
    f : as for `iterate`
    h : any shape, numpy or torch, float64
        h_0, to which recall leads back.
    recall : float
    start : shaped as h, optional
        Where the search starts; h_0 by default.
    tol : float
        Bound on max |e|, as a share of the largest number in h_0, start and x; and Newton's step from x is at most
        sqrt(tol) of that, since a loop that is slow has small errors far from rest. A state that runs away does not
        come to rest by its size: max |e| is at most tol of the start, or sqrt(tol) of the error there.
    max_iterations : int
        Largest number of Newton steps.

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
    first = h if start is None else require_state(start)
    loop.init(first, h)  # refuses a start of another shape or kind
    problem = _RestEquation(step, h, loop, first, tol)
    warm = 0
    with np.errstate(all="ignore"):  # a state on its way out overflows, which its residual says
        run = problem.newton(first, max_iterations)
        if not run.rests:
            x, warm = problem.warmed(first)
            run = problem.newton(x, max_iterations)
    if not run.rests:
        raise ArithmeticError(
            f"no fixed point found from this start: the residual max |e| reached {run.residual:.2g} and Newton's step "
            f"{run.step:.2g}, {tol:.2g} and {tol**0.5:.2g} of the state's size was asked for; the loop may have none "
            "in reach (a period test says what it does), or it needs more recall"
        )
    off = like(run.direction.reshape(tuple(h.shape)), h)
    return RestPoint(run.x, problem.residual(run.x), run.iterations, warm, off)


class _Run(NamedTuple):
    """Where Newton's method ended."""

    x: Array
    residual: float  # max |e| and the last digit of x
    direction: np.ndarray  # its next step
    iterations: int
    rests: bool

    @property
    def step(self) -> float:
        return _largest(self.direction)


class _RestEquation:
    """e(x) = 0 on flat float64 vectors."""

    def __init__(self, step: PassMap, h: Array, loop: Passes, start: Array, tol: float) -> None:
        self.step, self.h, self.loop, self.size, self.tol = step, h, loop, length(h), tol
        self.scale = max(_largest(h), _largest(start))
        self.unseen = 0.0  # of the last error, along directions in which J - (1 + k_r) I is noise
        self.first = float(np.max(np.abs(self.error(start))))

    def error(self, x: Array) -> np.ndarray:
        with np.errstate(all="ignore"):
            return require_real("the error", self.loop.error(x, self.step(x), self.h)).ravel()

    def residual(self, x: Array) -> float:
        return float(np.max(np.abs(self.error(x))))

    def uncertainty(self, x: Array, e: np.ndarray) -> float:
        """Return max |e| plus the last digit of x: far out, F(x) - x vanishes by rounding alone."""
        return float(np.max(np.abs(e))) + _DIGIT * float(np.max(np.abs(require_real("x", x))))

    def newton(self, x: Array, max_iterations: int) -> _Run:
        """Take damped Newton steps until it rests or no step reduces |e|."""
        e, unknown = self.error(x), np.full(self.size, np.inf)
        for iteration in range(max_iterations + 1):
            size = self.uncertainty(x, e)
            direction = self.direction(x, e) if np.isfinite(size) else None
            if direction is None:
                return _Run(x, size, unknown, iteration, False)
            if self.rests(x, size, direction) or iteration == max_iterations:
                return _Run(x, size, direction, iteration, self.rests(x, size, direction))
            x, e, lower = self.damped(x, e, direction)
            if not lower:
                return _Run(x, size, direction, iteration, False)
        raise AssertionError("the last iteration returns")

    def rests(self, x: Array, size: float, direction: np.ndarray) -> bool:
        """Tell whether |e| and Newton's step are small beside the state, and |e| beside where it began."""
        scale, root = max(self.scale, _largest(x)), self.tol**0.5
        fallen = size <= max(self.tol * self.scale, root * self.first)
        # Where J does not tell how far it is, the error has to be rounding: on its way out a state has such a J too.
        fallen = fallen and self.unseen <= _ROUNDING * max(self.scale, self.first)
        return bool(fallen and size <= self.tol * scale and _largest(direction) <= root * scale)

    def direction(self, x: Array, e: np.ndarray) -> np.ndarray | None:
        """Return d with (J - (1 + k_r) I) d = -e, to a tenth of the last residual at least; None where J gives none."""
        self.unseen, digit = 0.0, _DIGIT * _largest(x)
        if not digit and not np.any(e):
            return np.zeros(self.size)
        products, shift = pass_products(self.step, x), 1 + self.loop.recall
        if self.size <= _DENSE:
            try:
                jacobian = products(np.eye(self.size))
            except ArithmeticError:  # differences find no derivative here, and may elsewhere
                return None
            matrix = jacobian - shift * np.eye(self.size)
            noise = _ROUNDING if is_torch(x) else _DIFFERENCES
            least = noise * max(float(np.linalg.norm(jacobian)) / self.size**0.5, shift)
            return self.solved(matrix, e, least, digit)

        def times(v: np.ndarray) -> np.ndarray:
            return products(v.reshape(-1, 1))[:, 0] - shift * v.ravel()

        operator = LinearOperator((self.size, self.size), matvec=times, dtype=np.float64)
        share = 1e-2 * min(1e-2, max(float(np.linalg.norm(e)), 1e-8))
        vanished = not np.any(e)
        if vanished:  # by rounding, whose last digit leads as far as this step
            e, share = np.full(self.size, digit), 0.1
        d, unsolved = gmres(operator, -e, rtol=share, atol=0.0, restart=_BASIS, maxiter=3)
        if vanished and unsolved:
            self.unseen, d = digit, np.zeros(self.size)
        return d if np.all(np.isfinite(d)) else None

    def solved(self, matrix: np.ndarray, e: np.ndarray, least: float, digit: float) -> np.ndarray | None:
        """Return d of A d = -e, with singular values raised to the noise of A: on a line of fixed points A is noise.

        What is left of e there by rounding leads nowhere. Its last digit is not seen there either.
        """
        if not np.all(np.isfinite(matrix)):
            return None
        try:
            u, sigma, v = np.linalg.svd(matrix)
        except np.linalg.LinAlgError:
            return None
        along = u.T @ -e
        blind = sigma < least
        self.unseen = float(np.max(np.abs(along[blind]) + digit, initial=0.0))
        along[blind & (np.abs(along) <= _ROUNDING / _DIGIT * digit)] = 0.0
        d = v.T @ (along / np.maximum(sigma, least))
        return d if np.all(np.isfinite(d)) else None

    def damped(self, x: Array, e: np.ndarray, direction: np.ndarray) -> tuple[Array, np.ndarray, bool]:
        """Return x + t d with the first t of 1, 1/2, 1/4, ... that reduces |e|, and whether there is one."""
        before, move = float(np.linalg.norm(e)), like(direction.reshape(tuple(x.shape)), x)
        for halving in range(_HALVINGS):
            trial = x + move * 0.5**halving
            new = self.error(trial)
            if np.all(np.isfinite(new)) and np.linalg.norm(new) < before:
                return trial, new, True
        return x, e, False

    def warmed(self, x: Array) -> tuple[Array, int]:
        """Return the state of least |e| among some passes of Anderson's acceleration, as far as they stay finite."""
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


def _largest(x: Any) -> float:
    return float(np.max(np.abs(require_real("the state", x))))


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
    """Return the share of random starts at given distances from which a loop returns to a fixed point.

    Parameters
    ----------
    f, controller, recall : as for `iterate`
    point : any shape
        x, a fixed point.
    radii : (m,)
        Distances |h - x| of the starts, as shares of |x| (of 1 where x = 0). Their directions are uniform.
    passes : int
        Number of passes in which a start has to return.
    reference : shaped as point, optional
        h_0, to which recall leads back; x itself by default.
    starts : int
        Number of starts for each distance.
    tol : float
        A start has returned once |h - x| is at most this share of the start's distance.
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
    counts = []
    for distance in distances * unit:
        directions = rng.standard_normal((starts, len(flat)))
        directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        ends = [_end(step, loop, x, reference, distance * d, passes, tol) for d in directions]
        counts.append(sum(ends))
    count = np.array(counts)
    from scipy.stats import beta  # half a second, which what measures no basin is spared

    low = np.where(count == 0, 0.0, beta.ppf(0.025, np.maximum(count, 1), starts - count + 1))
    high = np.where(count == starts, 1.0, beta.ppf(0.975, count + 1, np.maximum(starts - count, 1)))
    return Basin(distances, count, starts, low, high, seed)


def _end(
    step: PassMap, loop: Passes, x: Array, reference: Array | None, off: np.ndarray, passes: int, tol: float
) -> bool:
    """Tell whether the loop that starts at x + off comes back to x."""
    h = x + like(off.reshape(tuple(x.shape)), x)
    state, near, far = loop.init(h, x if reference is None else reference), tol * np.linalg.norm(off), 0.0
    for _ in range(passes):
        with np.errstate(all="ignore"):
            h, _, _, state = loop.step(h, step(h), state)
            far = float(np.linalg.norm(require_real("h", h).ravel() - require_real("x", x).ravel()))
        if not np.isfinite(far):
            return False
    return bool(far <= near)
