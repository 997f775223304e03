"""f(x, g) = x: fixed points of a layer map by Newton's method, and their continuation along a gain g.

Newton's step d solves (J - I) d = x - f(x). Continuation is by pseudo-arclength: the unknowns are (x, g), and a step
goes along the branch. A fold, where the branch turns back in g, is then a point like any other.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ctrlattn.arrays import Array, like, namespace, require_real
from ctrlattn.controllers import PID, LTIController
from ctrlattn.errors import InputError, shown
from ctrlattn.loop import Loop, LoopState, require_single_loop
from ctrlattn.stability.motion.tangent import Jvp, StepMap, Tangent, as_state, dense_jacobian, length, require_callable

StepFamily = Callable[[float], StepMap]

_DENSE = 2000  # numbers in a state whose Jacobian is still formed
_HALVINGS = 12


class FixedPoint(NamedTuple):
    """A point with f(x) = x, and how perturbations of it evolve."""

    x: Array  # of the same kind, dtype and shape as the start
    residual: float  # max |f(x) - x|
    iterations: int
    multipliers: np.ndarray  # (N,) complex, eigenvalues of the Jacobian, by descending modulus
    stable: bool  # all of them inside the unit circle


class Branch(NamedTuple):
    """Fixed points along a gain, in the order in which the branch passes them."""

    gain: np.ndarray  # (m,)
    x: np.ndarray  # (m, *shape)
    multipliers: np.ndarray  # (m, N) complex, by descending modulus
    stable: np.ndarray  # (m,) bool
    bifurcations: tuple[tuple[str, float], ...]  # kind and gain, in order


def layer_map(loop: Loop, x: Array, *, reference: Array | None = None) -> tuple[StepMap, Array]:
    """Return one layer of a loop as a map of its whole state z = (x, controller's memories), and the state at layer 0.

    Parameters
    ----------
    loop : Loop
        The controller acts. A memory whose gain is 0 is left out: it would add an exponent and a multiplier to which
        the loop does not respond.
    x : (..., n, d)
    reference : (..., n, d), optional
        r, which is x by default.

    Returns
    -------
    (step, start)
        start: (1 + memories, ..., n, d); `step(start)[0]` is the state one layer on.

    Raises
    ------
    InputError
        A sequence of loops is given.

    Examples
    --------
    >>> from ctrlattn import PID, CausalMean
    >>> step, start = layer_map(Loop(CausalMean(), controller=PID(0.5, 0.1)), np.ones((2, 1)))
    >>> start.shape, step(start)[0].ravel().tolist()
    ((2, 2, 1), [1.0, 0.0])
    """
    loop = require_single_loop(loop, "layer_map")
    xp = namespace(x)
    initial = loop.init(x, reference)
    controller, memory = with_read_memories(loop.controller, loop.tracking.error(x, initial.reference))
    loop = replace(loop, controller=controller)

    def step(z: Array) -> Array:
        memory_state = tuple(z[1:]) if loop.controller is not None else None
        new, after, _ = loop.step(z[0], LoopState(initial.reference, memory_state, acting=True))
        return xp.stack([new, *(after.controller or ())])

    return step, xp.stack([x, *memory])


def fixed_point(
    step: StepMap, x: Array, *, tol: float = 1e-10, max_iterations: int = 50, jvp: Jvp | None = None
) -> FixedPoint:
    """Solve f(x) = x by damped Newton steps; they are least-squares steps where the Jacobian of f(x) - x is singular.

    The Jacobian is singular on a continuum of fixed points. The search then ends at one of them near the start.

    Parameters
    ----------
    step : callable x -> x'
    x : any shape, numpy or torch
        Where the search starts.
    tol : float
        Bound on max |f(x) - x|, relative to max(1, |x|).
    max_iterations : int
    jvp : callable, optional
        As for `lyapunov_exponents`.

    Returns
    -------
    FixedPoint

    Raises
    ------
    InputTypeError
        `step` is not a function.
    InputError
        The state has more than 2000 numbers: its Jacobian is not formed.
    ArithmeticError
        Newton's method does not converge. The message gives the least residual.

    Examples
    --------
    >>> point = fixed_point(lambda x: 2.5 * x * (1 - x), np.array([0.4]))
    >>> point.x.round(9).tolist(), point.multipliers.real.round(6).tolist()
    ([0.6], [-0.5])
    """
    require_callable("step", step, "layer_map(loop, x)[0] is one")
    x = as_state(x)
    _require_small(x)
    tangent, best = Tangent(x, jvp), np.inf
    for iteration in range(max_iterations + 1):
        new, jacobian = tangent.advance(step, x, np.eye(length(x)))
        off = _flat(new) - _flat(x)
        residual = float(np.max(np.abs(off)))
        if residual <= tol * max(1.0, float(np.max(np.abs(_flat(x))))):
            values = _multipliers(jacobian)
            return FixedPoint(x, residual, iteration, values, bool(np.abs(values[0]) < 1))
        best = min(best, residual)
        if not (np.isfinite(residual) and np.all(np.isfinite(jacobian))):
            break
        direction = np.linalg.lstsq(jacobian - np.eye(len(off)), -off, rcond=tangent.noise or 1e-13)[0]
        x = _damped_step(step, x, direction, float(np.linalg.norm(off)))
    raise ArithmeticError(
        f"no fixed point found from this start: the residual reached {best:.2g} in {max_iterations} iterations, "
        f"{tol:.2g} was asked for; start nearer, or the map has none"
    )


def continue_fixed_point(
    family: StepFamily,
    x: Array,
    gains: tuple[float, float],
    *,
    step_length: float = 0.05,
    max_points: int = 500,
    tol: float = 1e-10,
    jvp: Callable[[float], Jvp] | None = None,
) -> Branch:
    """Follow a fixed point of family(g) from gains[0] until g leaves the interval between the two.

    A bifurcation is where a multiplier crosses the unit circle. At a "fold" it crosses at 1 and the branch turns; at
    "+1" it crosses at 1 and the branch goes on (transcritical or pitchfork); at a "flip" it crosses at -1 (period
    doubling); at a "rotation" a complex pair crosses (Neimark-Sacker). The gain is bisected along the branch, to 1e-8
    of the step length. Two crossings of one kind within a step cancel each other and are not seen.

    Parameters
    ----------
    family : callable g -> (callable x -> x')
    x : any shape, numpy or torch
        Near a fixed point at gains[0].
    gains : (start, end)
    step_length : float
        Length of a step along the branch in (x, g), where x counts by its root mean square.
    max_points : int
        Largest number of points on the branch.
    tol : float
        As for `fixed_point`.
    jvp : callable g -> jvp, optional

    Returns
    -------
    Branch

    Raises
    ------
    InputError
        The two gains are equal, the step length is not positive, or the state has more than 2000 numbers.
    ArithmeticError
        There is no fixed point at the start, or the branch is lost, as where the map ceases to be finite.

    References
    ----------
    Kuznetsov, Elements of Applied Bifurcation Theory, 3rd edition, section 10.2.

    Examples
    --------
    >>> logistic = lambda g: lambda x: g * x * (1 - x)
    >>> branch = continue_fixed_point(logistic, np.array([0.6]), (2.5, 3.5))
    >>> [(kind, round(gain, 6)) for kind, gain in branch.bifurcations]  # period doubling at r = 3
    [('flip', 3.0)]
    """
    require_callable("family", family, "lambda g: layer_map(replace(loop, feedback=-g), x)[0] is one")
    ends = require_real("gains", gains)
    if ends.shape != (2,) or not np.all(np.isfinite(ends)):
        raise InputError(f"gains must be two finite ends (start, end), got {shown(gains)}")
    start, end = ends.tolist()
    if start == end or not step_length > 0:
        raise InputError(f"gains need two different ends and step_length > 0, got {gains} and {step_length}")
    first = fixed_point(family(start), x, tol=tol, jvp=None if jvp is None else jvp(start))
    curve = _Curve(family, first.x, tol, jvp)
    point = np.append(_flat(first.x), start)
    ahead = curve.tangent(point, np.append(np.zeros(len(point) - 1), np.sign(end - start)))
    if ahead is None:
        raise ArithmeticError(f"the derivative of the map is not finite at the start, gain {start:.6g}")
    low, high = min(start, end), max(start, end)
    points, tangents, events = [point], [ahead], []
    size = step_length
    while len(points) < max_points:
        following = curve.corrected(points[-1] + size * curve.scaled(ahead), ahead)
        direction = None if following is None else curve.tangent(following, ahead)
        if following is None or direction is None:
            size /= 2
            if size < 1e-6 * step_length:
                raise ArithmeticError(f"the branch is lost near gain {points[-1][-1]:.6g}: take a shorter step_length")
            continue
        events += curve.crossings(points[-1], following, ahead, direction)
        points.append(following)
        tangents.append(direction)
        ahead, size = direction, min(2 * size, step_length)
        if not low <= following[-1] <= high:
            break
    values = np.array([_multipliers(curve.jacobian(p)[:, :-1]) for p in points])
    shape = tuple(first.x.shape)
    return Branch(
        np.array([p[-1] for p in points]),
        np.array([p[:-1].reshape(shape) for p in points]),
        values,
        np.abs(values[:, 0]) < 1,
        tuple(event for event in events if low <= event[1] <= high),
    )


class _Curve:
    """The branch as the zero set of F(x, g) = f(x, g) - x, with x flat and float64."""

    def __init__(self, family: StepFamily, template: Array, tol: float, jvp: Callable[[float], Jvp] | None) -> None:
        self.family, self.template, self.tol, self.jvp = family, template, tol, jvp
        # |(x, g)|^2 = mean x^2 + g^2: many tokens must not make the gain stand still.
        self.weight = np.append(np.full(length(template), 1 / np.sqrt(length(template))), 1.0)

    def scaled(self, tangent: np.ndarray) -> np.ndarray:
        return tangent / self.weight

    def value(self, p: np.ndarray) -> np.ndarray:
        return _flat(self.family(float(p[-1]))(self._state(p))) - p[:-1]

    def jacobian(self, p: np.ndarray) -> np.ndarray:
        """Return [df/dx, df/dg], (N, N + 1); the gain by central differences."""
        gain = float(p[-1])
        jvp = None if self.jvp is None else self.jvp(gain)
        inside = dense_jacobian(self.family(gain), self._state(p), jvp)[1]
        h = 6e-6 * max(1.0, abs(gain))
        sides = [_flat(self.family(gain + s * h)(self._state(p))) for s in (1, -1)]
        return np.column_stack([inside, (sides[0] - sides[1]) / (2 * h)])

    def derivative(self, p: np.ndarray) -> np.ndarray:
        """Return dF in weighted coordinates."""
        full = self.jacobian(p)
        full[:, :-1] -= np.eye(len(full))
        return full / self.weight

    def tangent(self, p: np.ndarray, along: np.ndarray) -> np.ndarray | None:
        """Return the unit null vector of dF in weighted coordinates, with the sign that continues the last tangent.

        It is None where dF is not finite, as it is beside the end of the gains for which the map exists.
        """
        derivative = self.derivative(p)
        if not np.all(np.isfinite(derivative)):
            return None
        null = np.linalg.svd(derivative)[2][-1]
        return null if null @ along >= 0 else -null

    def corrected(self, guess: np.ndarray, ahead: np.ndarray) -> np.ndarray | None:
        """Take Newton steps in the plane through the guess, normal to the tangent; None where they do not converge."""
        p = guess
        for _ in range(8):
            off = self.value(p)
            if not np.all(np.isfinite(off)):
                return None
            if np.max(np.abs(off)) <= self.tol * max(1.0, float(np.max(np.abs(p[:-1])))):
                return p
            matrix = np.vstack([self.derivative(p), ahead])
            if not np.all(np.isfinite(matrix)):
                return None
            move = np.linalg.lstsq(matrix, -np.append(off, ahead @ (self.weight * (p - guess))), rcond=1e-13)[0]
            p = p + move / self.weight
        return None

    def tests(self, p: np.ndarray, ahead: np.ndarray) -> dict[str, float]:
        """Return the test functions, each of which changes sign at one kind of bifurcation: det(J + I) at a flip."""
        values = np.linalg.eigvals(self.jacobian(p)[:, :-1])
        real = values[np.abs(values.imag) < 1e-9].real
        # prod (l_i l_j - 1) over all pairs; a pair of a real and a complex multiplier has a conjugate pair beside it.
        products = np.append(
            np.outer(real, real)[np.triu_indices(len(real), 1)], np.abs(values[values.imag >= 1e-9]) ** 2
        )
        return {
            "fold": float(ahead[-1]),
            "+1": _smallest(real - 1),
            "flip": _smallest(real + 1),
            "rotation": _smallest(products - 1),
        }

    def crossings(
        self, old: np.ndarray, new: np.ndarray, ahead: np.ndarray, direction: np.ndarray
    ) -> list[tuple[str, float]]:
        """Return bifurcations between two points of the branch; a fold does not list the crossing at +1 once more."""
        before, after = self.tests(old, ahead), self.tests(new, direction)
        kinds = [kind for kind in before if before[kind] * after[kind] < 0]
        if "fold" in kinds:
            kinds = [kind for kind in kinds if kind != "+1"]
        located = [(kind, self._locate(kind, old, new, ahead, before[kind])) for kind in kinds]
        return [(kind, float(p[-1])) for kind, p in located if kind != "rotation" or self._turns(p)]

    def _turns(self, p: np.ndarray) -> bool:
        """Tell whether a complex pair is on the circle, rather than two real multipliers of product 1."""
        values = np.linalg.eigvals(self.jacobian(p)[:, :-1])
        return bool(np.any((np.abs(values.imag) > 1e-6) & (np.abs(np.abs(values) - 1) < 1e-5)))

    def _locate(self, kind: str, old: np.ndarray, new: np.ndarray, ahead: np.ndarray, before: float) -> np.ndarray:
        """Bisect along the chord, each point brought back to the branch."""
        chord = new - old
        low, high = 0.0, 1.0
        direction = self.weight * chord / np.linalg.norm(self.weight * chord)
        for _ in range(27):
            middle = (low + high) / 2
            p = self.corrected(old + middle * chord, direction)
            onward = None if p is None else self.tangent(p, ahead)
            if p is None or onward is None:
                break
            same = self.tests(p, onward)[kind] * before > 0
            low, high = (middle, high) if same else (low, middle)
        last = old + (low + high) / 2 * chord
        p = self.corrected(last, direction)
        return last if p is None else p

    def _state(self, p: np.ndarray) -> Array:
        return like(p[:-1].reshape(tuple(self.template.shape)), self.template)


def with_read_memories(controller: Any, e: Array) -> tuple[Any, tuple[Array, ...]]:
    """Return (a controller of only those memories that its gains read, their values after the first error e).

    >>> with_read_memories(PID(0.5, 0.1), np.ones((1, 1)))[1]  # the integral; no derivative reads the last error
    (array([[0.]]),)
    """
    if controller is None:
        return None, ()
    memory = controller.init(e)
    if not isinstance(controller, PID):
        return controller, memory
    import control

    reads = (controller.ki != 0, controller.kd != 0, controller.kd != 0)
    memories = tuple(m for m, is_read in zip(memory, reads, strict=False) if is_read)
    system = control.ss(*controller.realization(), 1, remove_useless_states=False)
    return LTIController(system), memories


def _require_small(x: Array) -> None:
    if length(x) > _DENSE:
        raise InputError(f"a state of {length(x)} numbers: the Jacobian is formed for at most {_DENSE}")


def _flat(x: Any) -> np.ndarray:
    return require_real("the state after a step", x).reshape(-1)


def _multipliers(jacobian: np.ndarray) -> np.ndarray:
    values = np.linalg.eigvals(jacobian).astype(complex)
    return values[np.argsort(-np.abs(values), kind="stable")]


def _smallest(factors: np.ndarray) -> float:
    """Return the sign of a product of real factors times its smallest one, which has the same zeros, no overflow."""
    return float(np.prod(np.sign(factors)) * np.min(np.abs(factors), initial=1.0))


def _damped_step(step: StepMap, x: Array, direction: np.ndarray, before: float) -> Array:
    """Return x + t d with the first t of 1, 1/2, 1/4, ... that reduces the residual."""
    move = like(direction.reshape(tuple(x.shape)), x)
    for halving in range(_HALVINGS):
        trial = x + move * 0.5**halving
        off = np.linalg.norm(_flat(step(trial)) - _flat(trial))
        if np.isfinite(off) and off < before:
            return trial
    return trial
