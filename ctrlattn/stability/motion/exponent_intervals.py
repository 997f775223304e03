"""[low_j, high_j] around lambda_j = lim 1/T sum_t ln |R_jj(t)|: Lyapunov exponents with what a run leaves open.

Two things are open after T steps. The mean may still move: growth by powers of t beside that of an eigenvalue changes
a rate by m/t, so that windows which double in length differ by as much as the last one is off; chaos scatters; and
directions that grow nearly alike take long to be told apart. The derivatives are known to some delta alone, which a
Jordan block of size m turns into delta^(1/m). So the same run carries two more frames, whose tangents are disturbed by
delta and by 100 delta at each step. From the two a model of such a root is continued to delta = 0.
"""

import math
from typing import NamedTuple

import numpy as np

from ctrlattn.arrays import Array, is_torch
from ctrlattn.errors import InputError, require_whole
from ctrlattn.stability.motion.lyapunov import convergence, first_frame, refilled, reorthonormalise, require_bounded
from ctrlattn.stability.motion.tangent import Jvp, StepMap, Tangent, as_state, length, require_callable

_KNOWN = 0.1  # farthest end of an interval, in nats a step, at which an exponent is still given
_NOTHING = math.log(0.01)  # end of the interval of what is annihilated
_TOL = 0.02  # that at which a run ends, as a share of the larger of 1 and the exponent
_ROUNDING = 64.0  # last digits by which an exact derivative is off
_DIFFERENCES = 10.0  # central differences are off by this multiple of eps^(2/3)
_DISTURBED = np.array([0.0, 1.0, 100.0])  # multiples of delta by which the tangents of the three frames are disturbed
_BLOCK = 32  # largest Jordan block that is looked for
_SPREAD = 64  # numbers in a state up to which a probe of |J| counts as one direction of so many
_SIGMAS = 4.0  # standard errors of a mean
_FEWEST = 5  # steps
_ALIGNED = 2.0  # nats by which a direction grows more or less until it is aligned, however slowly that goes
_FOLLOWS = 0.05  # nats by which a direction that is annihilated grows with 100 times the disturbance; at most ln 100


class Exponents(NamedTuple):
    """Lyapunov exponents in nats a step, each in its interval."""

    values: np.ndarray  # (k,) descending; -inf: annihilated, or below rounding; nan: `why` says what is open
    low: np.ndarray  # (k,)
    high: np.ndarray  # (k,)
    running: np.ndarray  # (steps, k) running estimate of the averaged steps
    why: str


def exponent_intervals(
    step: StepMap, x: Array, steps: int, k: int | None = None, *, transient: int = 100, most: int = 4,
    jvp: Jvp | None = None, seed: int = 0,
) -> Exponents:  # fmt: skip
    """Return the k largest Lyapunov exponents of x' = step(x), each in an interval, or nan where a run tells none.

    Parameters
    ----------
    step : callable x -> x'
    x : any shape, numpy or torch
    steps, k, transient, jvp, seed : as for `lyapunov_exponents`
    most : int
        The run goes on for up to `most` times as many steps while an end of an interval is farther from its exponent
        than 2 % of the larger of 1 and the exponent.

    Returns
    -------
    Exponents
        An exponent is nan where it may be off by more than 0.1. One of -inf has an interval from there up to
        what rounding may hide, and is given where that is at most ln 0.01.

    Raises
    ------
    InputTypeError, InputError, ArithmeticError
        As for `lyapunov_exponents`.

    Notes
    -----
    The intervals are estimates. They cover four standard errors, growth by powers of the steps, and Jordan blocks of
    size up to 32. What a run never comes to, such as a regime that it reaches later, is not in them. A step takes
    3 k + 1 products with the Jacobian.

    References
    ----------
    Dieci, Van Vleck, SIAM J. Numer. Anal. 40 (2002) 516 (errors of QR methods for exponents); Trefethen and Embree,
    Spectra and Pseudospectra, 2005, section 52 (delta^(1/m)).

    Examples
    --------
    >>> half = exponent_intervals(lambda x: 0.5 * x, np.ones(2), 50)
    >>> half.values.round(6).tolist(), bool(np.all(half.high - half.low < 0.03))
    ([-0.693147, -0.693147], True)
    """
    require_callable("step", step, "layer_map(loop, x)[0] is one")
    steps, most = require_whole("steps", steps), require_whole("most", most)
    run = ExponentRun(step, x, k, transient=transient, jvp=jvp, seed=seed)
    run.advance(steps)
    return run.lengthened(most)


class ExponentRun:
    """Three frames on one trajectory: of the tangents as they are, disturbed by delta, and by 100 delta."""

    def __init__(
        self, step: StepMap, x: Array, k: int | None = None, *, transient: int = 100, jvp: Jvp | None = None,
        seed: int = 0, keep: bool = False,
    ) -> None:  # fmt: skip
        self.step, self.x = step, as_state(x)
        self.size = length(self.x)
        self.k = require_whole("k", self.size if k is None else k, most=self.size)
        self.transient = require_whole("transient", transient, least=0)
        self.tangent = Tangent(self.x, jvp)
        self.exact = jvp is not None or is_torch(self.x)
        eps = self.tangent.eps
        self.known = _ROUNDING * eps if self.exact else _DIFFERENCES * eps ** (2 / 3)
        self.rng = np.random.default_rng(seed)
        frame = first_frame(self.tangent, step, self.x, self.k, self.transient, seed)
        self.frames = [frame] * len(_DISTURBED)
        self.rates: list[np.ndarray] = []  # (frames, k) of each step, those of the transient first
        self.shares: list[float] = []  # delta of each step, as a share of the longest product
        self.keep = keep
        self.visited: list[Array] = []  # the state before each averaged step, where they are kept

    def advance(self, steps: int) -> None:
        """Run the transient, if it has not been run, and more averaged steps.

        The state before a step that overflows stays, and with it what was measured.
        """
        total = len(self.rates) + (steps if self.rates else self.transient + steps)
        for t in range(len(self.rates), total):
            if t == self.transient // 2:
                self.frames = [refilled(frame, self.k, self.rng) for frame in self.frames]
            with np.errstate(over="ignore", invalid="ignore"):  # what is no longer finite is told by its step
                new, images, probed = self._push()
            require_bounded(new, np.hstack(images), t + 1, total)
            delta = self._delta(images, probed)
            if t >= self.transient:
                longest = float(np.linalg.norm(np.hstack(images), axis=0).max(initial=0.0))
                self.shares.append(min(delta / longest, 1.0) if longest > 0 else float(delta > 0))
                if self.keep:
                    self.visited.append(self.x)
            self.x = new
            self.rates.append(np.stack([self._rates(i, part, delta) for i, part in enumerate(images)]))

    def lengthened(self, most: int) -> Exponents:
        """Return what the run says, after as many more steps as its widest interval asks for."""
        steps = averaged = len(self.rates) - self.transient
        estimate = self.intervals()
        while _wide(estimate) and 2 * averaged <= most * steps:
            try:
                self.advance(averaged)
            except InputError:  # it runs away later on
                break
            averaged *= 2
            estimate = self.intervals()
        return estimate

    def intervals(self) -> Exponents:
        """Return the exponents and their intervals from all steps so far."""
        rates = np.array(self.rates)
        averaged = rates[self.transient :]
        order = np.argsort(-averaged[:, 0].mean(axis=0), kind="stable")
        undisturbed = rates[:, 0][:, order]
        values = undisturbed[self.transient :].mean(axis=0)
        others = -np.sort(-averaged[:, 1:].mean(axis=0), axis=-1)
        # Errors of derivatives that are the same at each step do not cancel in the mean, as disturbances do.
        off = _drift(undisturbed, self.transient) + float(np.mean(self.shares))
        off = off + (_ALIGNED / len(rates) if self.size > 1 else 0.0)
        below, above = _interval_by_disturbance(values, others, min(self.size, _BLOCK))
        running = np.cumsum(undisturbed[self.transient :], axis=0) / np.arange(1, len(averaged) + 1)[:, None]
        off = np.where(np.isneginf(values), 0.0, off)
        values = np.where(np.isneginf(values) & ~_annihilated(others), np.nan, values)
        return _judge(values, below - off, above + off, running)

    def _push(self) -> tuple[Array, list[np.ndarray], np.ndarray]:
        """Return (f(x), J V of each frame, J r of one random direction r)."""
        probe = self.rng.standard_normal((self.size, 1))
        new, images = self.tangent.advance(self.step, self.x, np.hstack([*self.frames, probe / np.linalg.norm(probe)]))
        ends = np.cumsum([frame.shape[1] for frame in self.frames])
        parts = np.split(images, ends, axis=1)
        if not self.exact:
            longer = self.tangent.longer().advance(self.step, self.x, probe / np.linalg.norm(probe))[1]
            return new, parts[:-1], np.hstack([parts[-1], longer - parts[-1]])
        return new, parts[:-1], np.hstack([parts[-1], 0 * parts[-1]])

    def _delta(self, images: list[np.ndarray], probed: np.ndarray) -> float:
        """Return how well the products are known: a share of |J|, or what a difference step twice as long changes."""
        spread = math.sqrt(min(self.size, _SPREAD))
        lengths = np.linalg.norm(np.hstack([*images, probed[:, :1]]), axis=0)
        delta = spread * max(self.known * float(lengths.max()), 2 * float(np.linalg.norm(probed[:, 1])))
        return delta if math.isfinite(delta) else math.inf

    def _rates(self, i: int, images: np.ndarray, delta: float) -> np.ndarray:
        """Return ln |R_jj| of one frame, which goes on as Q; -inf of directions that are lost."""
        least_share, noise = self.tangent.lost, self.tangent.noise
        if i:
            least_share = noise = 0.0
            off = self.rng.standard_normal(images.shape)
            images = images + _DISTURBED[i] * delta * off / np.linalg.norm(off, axis=0)
        self.frames[i], rates = reorthonormalise(images, least_share, noise)
        return np.concatenate([rates, np.full(self.k - len(rates), -math.inf)])


def _drift(rates: np.ndarray, transient: int) -> np.ndarray:
    """Return how far means (k,) may still move: four standard errors, or twice the change between doubled windows."""
    steps, first = len(rates), transient // 2
    early, late = rates[max(steps // 4, first) : steps // 2], rates[steps // 2 :]
    averaged = rates[transient:]
    if min(len(early), len(late), len(averaged)) < _FEWEST:
        return np.full(rates.shape[1], math.inf)
    with np.errstate(invalid="ignore"):
        running = np.cumsum(averaged, axis=0) / np.arange(1, len(averaged) + 1)[:, None]
        scatter = _SIGMAS * convergence(running).standard_error
        last, mean = late.mean(axis=0), averaged.mean(axis=0)
        off = np.maximum(scatter, 2 * np.abs(last - early.mean(axis=0))) + np.abs(mean - last)
    return np.where(np.isfinite(off), off, math.inf)


def _interval_by_disturbance(values: np.ndarray, others: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (low, high) of exp(lambda) = mu_0 + a delta^(1/m), m <= block, by frames disturbed by delta, 100 delta."""
    ratio = (_DISTURBED[2] / _DISTURBED[1]) ** (1 / block)
    with np.errstate(all="ignore"):
        near, far = np.exp(others - values)
        off = np.abs(near - 1) + np.abs(far - near) / (ratio - 1)
        low = np.where(off < 1, values + np.log1p(-np.minimum(off, 1.0)), -math.inf)
        high = values + np.log1p(off)
    annihilated = np.isneginf(values)
    return np.where(annihilated, -math.inf, low), np.where(annihilated, others.max(axis=0), high)


def known_within(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return (k,) how far an exponent may be from its value; 0 for -inf, whose interval has no other end than `high`.

    >>> known_within(np.array([0.5, -np.inf]), np.array([0.25, -np.inf]), np.array([0.5, -30.0])).tolist()
    [0.25, 0.0]
    """
    with np.errstate(invalid="ignore"):
        return np.where(np.isneginf(values), 0.0, np.maximum(high - values, values - low))


def opened(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Tell which exponents (k,) are not given: off by more than 0.1, or -inf of what may not shrink to a hundredth."""
    return ~(known_within(values, low, high) <= _KNOWN) | (np.isneginf(values) & (high > _NOTHING))


def _annihilated(others: np.ndarray) -> np.ndarray:
    """Tell whether what is left of a lost direction follows the disturbance, (k,); else a step lost it by chance."""
    near, far = others
    with np.errstate(invalid="ignore"):
        return np.isneginf(near) | (far - near > _FOLLOWS)


def _judge(values: np.ndarray, low: np.ndarray, high: np.ndarray, running: np.ndarray) -> Exponents:
    """Return the exponents whose intervals are narrow enough."""
    undecided = opened(values, low, high)
    why = ""
    if undecided.any():
        j = int(np.argmax(undecided))
        why = (
            f"{int(undecided.sum())} of {len(values)} Lyapunov exponents are open: number {j + 1} lies between "
            f"{low[j]:.4g} and {high[j]:.4g} after {len(running)} steps. More steps help where it still moves; where "
            "rounding decides, as on large Jordan blocks, a torch map of float64 has more digits than differences"
        )
    return Exponents(np.where(undecided, np.nan, values), low, high, running, why)


def _wide(estimate: Exponents) -> bool:
    mean = estimate.running[-1]
    return bool(np.any(~(known_within(mean, estimate.low, estimate.high) <= _TOL * np.maximum(1.0, np.abs(mean)))))
