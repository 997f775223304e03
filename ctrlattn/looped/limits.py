"""The largest gain and the smallest recall of a loop over passes, from the spectrum of J, each verified by running it.

A limit of linear theory is a number about eigenvalues. Here the loop itself then runs beside it: F with its value at x
moved to x, so that x is a fixed point with the same J, from small disturbances. Just inside the limit they have to
shrink along the mode that decides, just outside they have to grow.

The length of a disturbance swings while it turns, often by more than it changes in a pass beside a limit. So the
growth is that of the matrix which passes of the loop show on the plane of the mode. A long run from a disturbance with
noise, scaled back after each pass, must not contradict it: another eigenvalue might decide.

Eigenvalues are known to their errors alone, on a Jordan block of size k to the k-th root of the last digit. A limit
comes with the interval in which it lies for every spectrum within them, and none is given where that is too wide.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ctrlattn.arrays import Array, like, machine_epsilon, require_real
from ctrlattn.controllers import PID, LTIController
from ctrlattn.errors import InputError, require_whole
from ctrlattn.linear.lapack import spectral_radii
from ctrlattn.looped.pass_map import PassMap, as_pass_map, require_state
from ctrlattn.looped.spectrum import PassSpectrum
from ctrlattn.looped.uncertainty import Reached, reached
from ctrlattn.passes import Passes, PassState
from ctrlattn.stability import OddNumberLimit, odd_number_limit, pass_poles, stable_gains, stable_recalls
from ctrlattn.stability.motion.difference_scale import difference_size
from ctrlattn.stability.motion.fixed_points import with_read_memories
from ctrlattn.stability.motion.tangent import length

_BESIDE = 0.05  # how far from the limit the loop runs, as a share of it
_LEAST = 1e-3  # and at least so far, for a recall near 0
_BURST = 30.0  # a change of length in half a run that no turning explains
_CLOSE = 0.25  # the largest error of a limit, as a share of how far from it the loop runs
_LADDER = 0.25 ** np.arange(22, -1, -1)  # errors that are tried, as shares of the largest
_FAVOURS = (-1.0, 0.0, 1.0)  # by how much of their errors all eigenvalues are moved where no limit was found


class Limit(NamedTuple):
    """A number up to which, or from which, a loop is stable, and what the loop does beside it."""

    value: float  # nan where there is none, or where `why` says that it is open
    eigenvalue: complex  # of J: the one that becomes unstable there
    inside: float  # growth along its mode in each pass of the loop, just inside; below 1
    outside: float  # just outside; above 1. nan where nothing lies outside (a recall of 0)
    error: float  # every spectrum within the errors of the measured one has its limit so near to `value`
    why: str = ""  # the limit is open: what the eigenvalues and their errors leave


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
    """Return the largest gain and smallest recall that keep all measured eigenvalues stable, tried by running the loop.

    Parameters
    ----------
    f, controller, recall : as for `iterate`
    x : any shape
        Where `measured` was measured.
    measured : PassSpectrum
        The whole spectrum, or what matters of it: "LM" for large gains, "LR" for recall.
    passes : int
        Number of passes that the loop runs beside each limit. With 300 a pole beyond 1.03 is seen that was not among
        those measured.
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

    Notes
    -----
    A limit that the errors of the measured eigenvalues leave open by more than an eightieth of it is not given, as it
    happens on large Jordan blocks; nor one where they leave open whether there is any. Its `why` says so.

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
    odd = odd_number_limit(measured.eigenvalues, loop.recall, errors=measured.errors)
    return Limits(
        _limit_or_reason(lambda: _gain(runner, loop)),
        _limit_or_reason(lambda: _recall(runner, loop)),
        _limit_or_reason(lambda: _least_recall(runner, odd)),
        odd,
    )


def scaled(controller: Any, factor: float) -> Any:
    """Return the controller factor C(z).

    >>> scaled(PID(0.5, 0.1), 2.0).ki
    0.2
    """
    if isinstance(controller, PID):
        gains = (factor * controller.kp, factor * controller.ki, factor * controller.kd)
        return PID(*gains, form=controller.form, ema=controller.ema)
    import control

    a, b, c, d = controller.realization()
    return LTIController(control.ss(a, b, factor * c, factor * d, 1, remove_useless_states=False))


class _OpenError(ArithmeticError):
    """A limit that the errors of the eigenvalues leave open."""


def _limit_or_reason(limit: Callable[[], Limit]) -> Limit:
    try:
        return limit()
    except _OpenError as error:
        return _no_limit(str(error))


def _no_limit(why: str = "") -> Limit:
    return Limit(math.nan, complex(math.nan, math.nan), math.nan, math.nan, math.nan, why)


def _intervals(of: Callable[[np.ndarray], list[Any]], eigenvalues: np.ndarray) -> list[Any]:
    try:
        return of(eigenvalues)
    except ArithmeticError as error:
        raise _OpenError(str(error)) from error


def _gain(runner: "_Runner", loop: Passes) -> Limit:
    def intervals(eigenvalues: np.ndarray) -> list[tuple[float, float]]:
        stable = _intervals(lambda part: stable_gains(loop.law, part, loop.recall), eigenvalues)
        return [pair for pair in stable if pair[1] > 0 and math.isfinite(pair[1])]

    above = intervals(runner.measured.eigenvalues)
    if not above:
        return runner.none("largest gain", intervals)
    low, high = next((pair for pair in above if pair[0] < 1 < pair[1]), above[-1])
    near = min(_BESIDE * high, 0.25 * (high - low))
    return runner.limit("largest gain", high, -near, lambda g: Passes(scaled(loop.law, g), recall=loop.recall))


def _recall(runner: "_Runner", loop: Passes) -> Limit:
    def intervals(eigenvalues: np.ndarray) -> list[tuple[float, float]]:
        return _intervals(lambda part: stable_recalls(loop.law, part), eigenvalues)

    stable = intervals(runner.measured.eigenvalues)
    if not stable:
        return runner.none("least recall of this controller", intervals)
    low, high = stable[0]
    near = min(max(_BESIDE * low, _LEAST), 0.25 * (high - low))
    return runner.limit("least recall of this controller", low, near, lambda k: Passes(loop.law, recall=k), least=0.0)


def _least_recall(runner: "_Runner", odd: OddNumberLimit) -> Limit:
    """Return the limit Re lambda < 1 + k_r, tried at a gain that is stable just above it."""
    near = max(_BESIDE * odd.recall, _LEAST)
    gain = stable_gains(None, runner.measured.eigenvalues, odd.recall + near)[0][1] / 2
    # At this gain the limit is another; as the gain falls it is where the largest real part lies.
    rightmost, errors = runner.measured.eigenvalues.real, runner.measured.errors
    ends = [max(float(np.max(rightmost + side * errors)) - 1, 0.0) for side in (-1, 1)]
    off = max(odd.recall - ends[0], ends[1] - odd.recall)
    if not off <= _CLOSE * near:
        raise runner.open("least recall", odd.recall, near)
    return runner.limit("least recall", odd.recall, near, lambda k: Passes(PID(gain), recall=k), least=0.0, error=off)


class _Runner:
    """The loop around x, from small disturbances."""

    def __init__(self, step: PassMap, x: Array, measured: PassSpectrum, passes: int, seed: int) -> None:
        self.measured, self.passes, self.x, self.rng = measured, passes, x, np.random.default_rng(seed)
        shift = x - step(x)
        self.step = lambda h: step(h) + shift
        flat = require_real("x", x).ravel()
        # Curvature and rounding are both small where the disturbance is between them.
        scale = float(np.linalg.norm(flat)) or difference_size(step, x)  # the norm of tiny numbers is 0
        self.size = machine_epsilon(x) ** 0.4 * scale

    def limit(
        self,
        name: str,
        value: float,
        near: float,
        law: Callable[[float], Passes],
        least: float = -math.inf,
        error: float | None = None,
    ) -> Limit:
        """Return the limit, tried inside, at `value` + `near`, and at `value` - `near` if that is above `least`."""
        error = self.error(name, value, near, law, least) if error is None else error
        inside, outside = law(value + near), law(value - near) if value - near > least else None
        beyond = inside if outside is None else outside
        at = int(np.argmax(np.abs(pass_poles(beyond.law, self.measured.eigenvalues, beyond.recall)).max(axis=-1)))
        grows = math.nan if outside is None else self.along(outside, at)
        shrinks = self.along(inside, at)
        rates = (self.rate(inside, at), math.nan if outside is None else self.rate(outside, at))
        burst = _BURST ** (1 / (self.passes - self.passes // 2))
        if shrinks >= 1 or grows <= 1 or rates[0] > burst or rates[1] < 1 / burst:
            raise ArithmeticError(
                f"the {name} {value:.6g} follows from the measured eigenvalues, and the loop contradicts it: along the "
                f"mode that decides, a disturbance changes by {shrinks:.9g} in each pass just inside and by "
                f"{grows:.9g} just outside, and any disturbance by {rates[0]:.6g} and {rates[1]:.6g}. Measure more "
                "eigenvalues; the loop may also be far from linear at x, or too slow there for rounding"
            )
        return Limit(value, complex(self.measured.eigenvalues[at]), shrinks, grows, error)

    def error(self, name: str, value: float, near: float, law: Callable[[float], Passes], least: float) -> float:
        """Return the least distance from `value` beyond which all or none of what the eigenvalues may be is stable."""
        for share in _CLOSE * _LADDER:
            inside, outside = value + share * near, value - share * near
            if not self.within(law(inside)).stable.all():
                continue
            if outside <= least or self.within(law(outside)).unstable.any():
                return float(share * abs(near))
        raise self.open(name, value, near)

    def open(self, name: str, value: float, near: float) -> _OpenError:
        return _OpenError(
            f"the {name} would be {value:.6g} by the measured eigenvalues. Their errors of up to {self.worst} leave "
            f"it open by more than {_CLOSE * abs(near):.2g}. An eigenvalue may lie at the edge of what a controller "
            "holds, or share its eigenvector with others, which costs digits (a torch map of float64 has more of them)"
        )

    def within(self, loop: Passes) -> Reached:
        return reached(loop, self.measured.eigenvalues, self.measured.errors)

    @property
    def worst(self) -> str:
        return f"{float(np.max(self.measured.errors)):.2g}"

    def none(self, name: str, intervals: Callable[[np.ndarray], list[Any]]) -> Limit:
        """Return no limit, once no eigenvalues within the errors have one."""
        values, errors = self.measured.eigenvalues, self.measured.errors
        # Eigenvalues of one block are measured on a ring, and are one in its middle.
        touching = np.abs(values[:, None] - values) <= errors[:, None] + errors
        merged = (touching @ values) / touching.sum(axis=1)
        spectra = [
            part.real + share * errors + 1j * np.sign(part.imag) * np.maximum(np.abs(part.imag) - flat * errors, 0.0)
            for part in (values, merged)
            for share in _FAVOURS
            for flat in (0.0, 1.0)
        ]
        if not np.all(np.isfinite(errors)) or any(intervals(part) for part in spectra):
            raise _OpenError(
                f"whether there is a {name} is open: the measured eigenvalues have none, and within their errors of up "
                f"to {self.worst} there is one"
            )
        return _no_limit()

    def along(self, loop: Passes, at: int) -> float:
        """Return the spectral radius of what a pass does to disturbances of (h, memories) in the plane of one mode."""
        v = self.measured.vectors[:, at]
        parts = [v.real] if self.measured.eigenvalues[at].imag == 0 else [v.real, v.imag]
        plane = np.linalg.qr(np.stack(parts, axis=1))[0]
        law, memory = with_read_memories(loop.law, 0 * self.x)
        loop, width, columns = Passes(law, recall=loop.recall), plane.shape[1], []
        for start in self.size * np.eye(width * (1 + len(memory))):
            ends = [self._pass(loop, plane, sign * start.reshape(-1, width)) for sign in (1, -1)]
            columns.append((ends[0] - ends[1]).ravel() / (2 * self.size))
        matrix = np.stack(columns, axis=1)
        return float(spectral_radii(matrix)) if np.all(np.isfinite(matrix)) else math.inf

    def _pass(self, loop: Passes, plane: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return the plane coordinates of (h - x, memories) after one pass from those at `start`, one row for each."""
        h, *memory = (like((plane @ row).reshape(tuple(self.x.shape)), self.x) for row in start)
        h = self.x + h
        with np.errstate(all="ignore"):
            h, _, _, state = loop.step(h, self.step(h), PassState(self.x, tuple(memory)))
        disturbances = (h - self.x, *(state.controller or ()))
        return np.stack([plane.T @ require_real("d", part).ravel() for part in disturbances])

    def rate(self, loop: Passes, at: int) -> float:
        """Return exp of the mean of ln |d'|/|d| over the second half of passes, d the disturbance of (h, memories)."""
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
