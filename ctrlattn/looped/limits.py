"""The largest gain and the smallest recall of a loop over passes, from the spectrum of J, each verified by running it.

A limit of linear theory is a number about eigenvalues. Here the loop itself then runs beside it: F with its value at x
moved to x, so that x is a fixed point with the same J, from small disturbances. Just inside the limit they have to
shrink along the mode that decides, just outside they have to grow.

The length of a disturbance swings while it turns, often by more than it changes in a pass beside a limit. So the
growth is that of the matrix which passes of the loop show on the plane of the mode. A long run from a disturbance with
noise, scaled back after each pass, must not contradict it: another eigenvalue might decide.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ctrlattn.arrays import Array, like, machine_epsilon, require_real
from ctrlattn.controllers import PID, LTIController
from ctrlattn.errors import InputError, require_whole
from ctrlattn.looped.pass_map import PassMap, as_pass_map, require_state
from ctrlattn.looped.spectrum import PassSpectrum
from ctrlattn.passes import Passes, PassState
from ctrlattn.stability import OddNumberLimit, odd_number_limit, pass_poles, stable_gains, stable_recalls
from ctrlattn.stability.motion.fixed_points import with_read_memories
from ctrlattn.stability.motion.tangent import length

_BESIDE = 0.05  # how far from the limit the loop runs, as a share of it
_LEAST = 1e-3  # and at least so far, for a recall near 0
_BURST = 30.0  # a change of length in half a run that no turning explains


class Limit(NamedTuple):
    """A number up to which, or from which, a loop is stable, and what the loop does beside it."""

    value: float  # nan where there is none
    eigenvalue: complex  # of J: the one that becomes unstable there
    inside: float  # growth along its mode in each pass of the loop, just inside; below 1
    outside: float  # just outside; above 1. nan where nothing lies outside (a recall of 0)


class Limits(NamedTuple):
    """What gains and recall can do for a loop with these eigenvalues."""

    gain: Limit  # the largest stable factor of the controller; of several intervals that with 1 in it, or the last
    recall: Limit  # the smallest recall at which the given controller is stable
    least_recall: Limit  # the smallest recall at which any small gain is
    odd_number: OddNumberLimit  # the real eigenvalues that forbid what is missing


def limits(
    f: Any,
    x: Array,
    measured: PassSpectrum,
    *,
    controller: Any = None,
    recall: float = 0.0,
    passes: int = 300,
    seed: int = 0,
) -> Limits:
    """Largest gain and smallest recall that leave every measured eigenvalue stable, verified by running the loop.

    Parameters
    ----------
    f, controller, recall : as for `iterate`
    x : any shape
        Where `measured` was measured.
    measured : PassSpectrum
        The whole spectrum, or what matters of it: "LM" for large gains, "LR" for recall.
    passes : int
        That the loop runs beside each limit. With 300 a pole beyond 1.03 is seen that was not among those measured.
    seed : int

    Returns
    -------
    Limits

    Raises
    ------
    InputError
        As for `iterate`; a spectrum of a state of another size.
    ArithmeticError
        The loop contradicts a limit: an eigenvalue that is not among those measured decides, or the map is far from
        linear in a small neighbourhood of x. Or a mode beside a limit is too slow for rounding to show it.

    Examples
    --------
    >>> from ctrlattn.looped import spectrum
    >>> j = np.diag([-3.0, 1.5])
    >>> beside = limits(lambda h: h @ j, np.zeros((1, 2)), spectrum(lambda h: h @ j, np.zeros((1, 2))), recall=1.0)
    >>> round(beside.gain.value, 6), round(beside.least_recall.value, 6)  # 2/(1 + 1 + 3), 1.5 - 1
    (0.4, 0.5)
    """
    step, x, loop = as_pass_map(f), require_state(x), Passes(controller, recall=recall)
    if len(getattr(measured, "vectors", ())) != length(x):  # None and other results have none
        raise InputError(f"measured must be what spectrum(f, x) returned for this x of {length(x)} numbers")
    seed = require_whole("seed", seed, least=0)
    runner = _Runner(step, x, measured, require_whole("passes", passes, least=20), seed)
    odd = odd_number_limit(measured.eigenvalues, loop.recall)
    return Limits(_gain(runner, loop), _recall(runner, loop), _least_recall(runner, odd), odd)


def scaled(controller: Any, factor: float) -> Any:
    """The controller factor C(z).

    >>> scaled(PID(0.5, 0.1), 2.0).ki
    0.2
    """
    if isinstance(controller, PID):
        gains = (factor * controller.kp, factor * controller.ki, factor * controller.kd)
        return PID(*gains, form=controller.form, ema=controller.ema)
    import control

    a, b, c, d = controller.realization()
    return LTIController(control.ss(a, b, factor * c, factor * d, 1, remove_useless_states=False))


def _gain(runner: "_Runner", loop: Passes) -> Limit:
    intervals = stable_gains(loop.law, runner.measured.eigenvalues, loop.recall)
    above = [pair for pair in intervals if pair[1] > 0 and math.isfinite(pair[1])]
    if not above:
        return _none()
    low, high = next((pair for pair in above if pair[0] < 1 < pair[1]), above[-1])
    near = min(_BESIDE * high, 0.25 * (high - low))
    beside = [Passes(scaled(loop.law, high + side * near), recall=loop.recall) for side in (-1, 1)]
    return runner.limit("gain", high, beside[0], beside[1])


def _recall(runner: "_Runner", loop: Passes) -> Limit:
    intervals = stable_recalls(loop.law, runner.measured.eigenvalues)
    if not intervals:
        return _none()
    low, high = intervals[0]
    near = min(max(_BESIDE * low, _LEAST), 0.25 * (high - low))
    outside = Passes(loop.law, recall=low - near) if low > near else None
    return runner.limit("recall", low, Passes(loop.law, recall=low + near), outside)


def _least_recall(runner: "_Runner", odd: OddNumberLimit) -> Limit:
    """Re lambda < 1 + k_r, at a gain that is stable just above it."""
    near = max(_BESIDE * odd.recall, _LEAST)
    gain = stable_gains(None, runner.measured.eigenvalues, odd.recall + near)[0][1] / 2
    outside = Passes(PID(gain), recall=odd.recall - near) if odd.recall > near else None
    return runner.limit("least recall", odd.recall, Passes(PID(gain), recall=odd.recall + near), outside)


def _none() -> Limit:
    return Limit(math.nan, complex(math.nan, math.nan), math.nan, math.nan)


class _Runner:
    """The loop around x, from small disturbances."""

    def __init__(self, step: PassMap, x: Array, measured: PassSpectrum, passes: int, seed: int) -> None:
        self.measured, self.passes, self.x, self.rng = measured, passes, x, np.random.default_rng(seed)
        moved = x - step(x)
        self.step = lambda h: step(h) + moved
        flat = require_real("x", x).ravel()
        # Curvature and rounding are both small where the disturbance is between them.
        self.size = machine_epsilon(x) ** 0.4 * (float(np.linalg.norm(flat)) or 1.0)

    def limit(self, name: str, value: float, inside: Passes, outside: Passes | None) -> Limit:
        beyond = inside if outside is None else outside
        at = int(np.argmax(np.abs(pass_poles(beyond.law, self.measured.eigenvalues, beyond.recall)).max(axis=-1)))
        grows = math.nan if outside is None else self.along(outside, at)
        shrinks = self.along(inside, at)
        ran = (self.rate(inside, at), math.nan if outside is None else self.rate(outside, at))
        burst = _BURST ** (1 / (self.passes - self.passes // 2))
        if shrinks >= 1 or grows <= 1 or ran[0] > burst or ran[1] < 1 / burst:
            raise ArithmeticError(
                f"the {name} {value:.6g} follows from the measured eigenvalues, and the loop contradicts it: along the "
                f"mode that decides, a disturbance changes by {shrinks:.9g} in each pass just inside and by "
                f"{grows:.9g} just outside, and any disturbance by {ran[0]:.6g} and {ran[1]:.6g}. Measure more "
                "eigenvalues; the loop may also be far from linear at x, or too slow there for rounding"
            )
        return Limit(value, complex(self.measured.eigenvalues[at]), shrinks, grows)

    def along(self, loop: Passes, at: int) -> float:
        """The spectral radius of what one pass does to disturbances of (h, memories) in the plane of one mode."""
        v = self.measured.vectors[:, at]
        parts = [v.real] if self.measured.eigenvalues[at].imag == 0 else [v.real, v.imag]
        plane = np.linalg.qr(np.stack(parts, axis=1))[0]
        law, memory = with_read_memories(loop.law, 0 * self.x)
        loop, width, columns = Passes(law, recall=loop.recall), plane.shape[1], []
        for start in self.size * np.eye(width * (1 + len(memory))):
            ends = [self._pass(loop, plane, sign * start.reshape(-1, width)) for sign in (1, -1)]
            columns.append((ends[0] - ends[1]).ravel() / (2 * self.size))
        matrix = np.stack(columns, axis=1)
        return float(np.max(np.abs(np.linalg.eigvals(matrix)))) if np.all(np.isfinite(matrix)) else math.inf

    def _pass(self, loop: Passes, plane: np.ndarray, start: np.ndarray) -> np.ndarray:
        """The coordinates in the plane of (h - x, memories) after one pass from those at `start`, one row for each."""
        h, *memory = (like((plane @ row).reshape(tuple(self.x.shape)), self.x) for row in start)
        h = self.x + h
        with np.errstate(all="ignore"):
            h, _, _, state = loop.step(h, self.step(h), PassState(self.x, tuple(memory)))
        moved = (h - self.x, *(state.controller or ()))
        return np.stack([plane.T @ require_real("d", part).ravel() for part in moved])

    def rate(self, loop: Passes, at: int) -> float:
        """exp of the mean of ln |d'|/|d| over the second half of the passes, d the disturbance of (h, memories)."""
        along = self.measured.vectors[:, at].real
        d = along / (np.linalg.norm(along) or 1.0) + 0.1 * self._noise(len(along))
        h = self.x + like((self.size / np.linalg.norm(d) * d).reshape(tuple(self.x.shape)), self.x)
        e = loop.error(h, self.step(h), self.x)
        # A memory that no gain reads would grow or stay without a meaning.
        law, memory = with_read_memories(loop.law, 0 * e)
        loop, logs = Passes(law, recall=loop.recall), []
        before = self.size
        for _ in range(self.passes):
            with np.errstate(all="ignore"):
                h, _, _, state = loop.step(h, self.step(h), PassState(self.x, memory))
            memory = state.controller or ()
            parts = [require_real("d", part).ravel() for part in (h - self.x, *memory)]
            size = math.sqrt(sum(float(part @ part) for part in parts))
            if not math.isfinite(size):
                return math.inf
            if size == 0:
                return 0.0
            logs.append(math.log(size / before))
            shrink = self.size / size
            h, memory, before = self.x + shrink * (h - self.x), tuple(shrink * m for m in memory), self.size
        return math.exp(float(np.mean(logs[self.passes // 2 :])))

    def _noise(self, size: int) -> np.ndarray:
        noise = self.rng.standard_normal(size)
        return noise / np.linalg.norm(noise)
