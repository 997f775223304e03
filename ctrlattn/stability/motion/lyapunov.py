"""lambda_j = lim 1/T sum_t ln |R_jj(t)|,  J(x_t) Q_{t-1} = Q_t R(t): Lyapunov exponents along a trajectory, by QR.

The method is matrix-free: only k directions are pushed through each step, never the whole Jacobian.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ctrlattn.arrays import Array, require_real, to_numpy
from ctrlattn.errors import InputError, require_flag, require_whole
from ctrlattn.stability.motion.tangent import Jvp, StepMap, Tangent, as_state, length, require_callable

_ALIGNING = 200  # at most so many subspace iterations with the Jacobian at the start
_ALIGNED = 1e-12


class Convergence(NamedTuple):
    """Error measures of a running estimate of k exponents, (k,) each."""

    standard_error: np.ndarray  # standard error of the mean, from batches of consecutive steps
    drift: np.ndarray  # range of the running estimate over its second half


def lyapunov_exponents(
    step: StepMap | Sequence[StepMap],
    x: Array,
    steps: int,
    *,
    k: int | None = None,
    transient: int = 0,
    history: bool = False,
    jvp: Jvp | None = None,
    seed: int = 0,
) -> Any:
    """Return the k largest Lyapunov exponents of x' = step(x) along the trajectory from x, in nats per step.

    J(x_t) Q_{t-1} = Q_t R(t);  lambda_j = 1/T sum_t ln |R_jj(t)|.

    This is the mean over T steps, with nothing said of its error. `exponent_intervals` gives the limit of one map with
    an interval, or none: on a Jordan block the mean takes long, and rounding moves the limit itself.

    A direction that a step annihilates has the exponent -inf. The same holds for a direction that falls below
    rounding: below 16 sqrt(N) eps of its own column for exact derivatives, below 1e2 eps^(2/3) of the longest column
    for differences.

    Parameters
    ----------
    step : callable x -> x', or a sequence of transient + steps of them
        A sequence is a time-varying network and has finite-time exponents. `layer_map` turns a Loop into a step. A
        torch step is differentiated by forward-mode autodiff. A numpy step is differentiated by central differences,
        with a relative accuracy of 4e-11 in float64, unless `jvp` is given.
    x : any shape, numpy or torch
        Initial state of N numbers.
    steps : int
        Number T >= 1 of averaged steps.
    k : int, optional
        Number of exponents, 1 <= k <= N; all N by default.
    transient : int
        Steps before the average, in which the state approaches its attractor and the frame its directions. With
        transient = 0 the frame is aligned with the Jacobian at x alone, and on a nonlinear map the estimate has a
        bias of order 1/T.
    history : bool
        Whether the running estimate is returned as well.
    jvp : callable (x, directions) -> (k, *x.shape), optional
        The derivative: J(x) times each of `directions`, (k, *x.shape).
    seed : int
        Seed of the random frame that is used for k < N.

    Returns
    -------
    (k,) float64, descending; with history the pair of that array and the running estimate (steps, k)

    Raises
    ------
    InputTypeError
        The state holds integers, or a step is not a function.
    InputError
        k, steps or transient is out of range, a step returns another shape, or the trajectory overflows.
    ArithmeticError
        Differences do not find the derivative of a numpy step at the start.

    References
    ----------
    Benettin, Galgani, Giorgilli, Strelcyn, Meccanica 15 (1980) 9; Dieci, Russell, Van Vleck, SIAM J. Numer. Anal. 34
    (1997) 402.

    Examples
    --------
    >>> import numpy as np
    >>> exponents = lyapunov_exponents(lambda x: np.array([0.5, 2.0, 0.0]) * x, np.zeros(3), 10, k=3)
    >>> exponents.round(6).tolist()
    [0.693147, -0.693147, -inf]
    """
    history = require_flag("history", history)
    x = as_state(x)
    size = length(x)
    k = require_whole("k", size if k is None else k, most=size)
    steps, transient = require_whole("steps", steps), require_whole("transient", transient, least=0)
    maps = list(step) if isinstance(step, Iterable) and not callable(step) else [step] * (transient + steps)
    for f in maps:
        require_callable(
            "step", f, "layer_map(loop, x)[0] is one, a list of such steps is a network whose layers differ"
        )
    if len(maps) != transient + steps:
        raise InputError(
            f"a sequence needs one map for each step: it has {len(maps)} maps for {transient} + {steps} steps"
        )
    tangent = Tangent(x, jvp)
    frame = first_frame(tangent, maps[0], x, k, transient, seed)
    growth = []
    for t, advance in enumerate(maps):
        if t == transient // 2:
            frame = refilled(frame, k, np.random.default_rng(seed))
        x, images = tangent.advance(advance, x, frame)
        require_bounded(x, images, t + 1, len(maps))
        frame, rates = reorthonormalise(images, tangent.lost, tangent.noise)
        if t >= transient:
            growth.append(np.concatenate([rates, np.full(k - len(rates), -math.inf)]))
    running = np.cumsum(growth, axis=0) / np.arange(1, steps + 1)[:, None]
    order = np.argsort(-running[-1], kind="stable")
    return (running[-1, order], running[:, order]) if history else running[-1, order]


def convergence(running: np.ndarray, *, batches: int = 20) -> Convergence:
    """Return the accuracy of a running estimate that `lyapunov_exponents(..., history=True)` returned.

    The standard error is computed from the means of `batches` consecutive stretches, which allows for correlation
    within them. The drift shows a trend, which a standard error does not show. An exponent of -inf has 0 for both.

    Parameters
    ----------
    running : (steps, k)
    batches : int
        Number of batches, at least 2. It is reduced to the number of steps where there are fewer steps.

    Raises
    ------
    InputError
        There are fewer than 2 steps or batches, or the array has another shape.

    Examples
    --------
    >>> convergence(np.full((40, 1), 0.5)).standard_error.tolist()
    [0.0]
    """
    running = require_real("the running estimate", running)
    batches = require_whole("batches", batches, least=2)
    if running.ndim != 2 or len(running) < 2:
        raise InputError(f"a running estimate is (steps, k) with at least 2 steps, got shape {running.shape}")
    finite = np.where(np.isfinite(running), running, 0.0)
    ends = np.linspace(0, len(running), min(batches, len(running)) + 1).astype(int)
    sums = np.vstack([np.zeros(running.shape[1]), finite * np.arange(1, len(running) + 1)[:, None]])
    means = np.diff(sums[ends], axis=0) / np.diff(ends)[:, None]
    half = finite[len(running) // 2 :]
    error = np.std(means, axis=0, ddof=1) / math.sqrt(len(means))
    annihilated = ~np.isfinite(running[-1])
    return Convergence(np.where(annihilated, 0.0, error), np.where(annihilated, 0.0, np.ptp(half, axis=0)))


def kaplan_yorke_dimension(exponents: np.ndarray) -> float:
    """Return j + (lambda_1 + ... + lambda_j) / |lambda_{j+1}|, where j is the largest index whose sum is not negative.

    The dimension is 0 where all exponents are negative. It is the number of exponents where no sum is negative.

    Parameters
    ----------
    exponents : (k,)
        Exponents in descending order, enough of them for the sum to become negative.

    References
    ----------
    Kaplan, Yorke, Lecture Notes in Mathematics 730 (1979) 204.

    Examples
    --------
    >>> round(kaplan_yorke_dimension(np.array([0.4192, -1.6232])), 4)  # Henon
    1.2583
    """
    values = require_real("exponents", exponents)
    if values.ndim != 1:
        raise InputError(f"exponents are (k,), got shape {values.shape}")
    values = np.sort(values)[::-1]
    if np.any(np.isnan(values)):
        raise InputError("kaplan_yorke_dimension: an exponent is not a number")
    sums = np.cumsum(values)
    positive = int(np.sum(sums >= 0))
    if positive in (0, len(values)):
        return float(positive)
    return positive + float(sums[positive - 1] / abs(values[positive]))


def first_frame(tangent: Tangent, step: StepMap, x: Array, k: int, transient: int, seed: int) -> np.ndarray:
    """Return the frame (N, k) in which the directions start.

    For all N directions it is the identity, which is exact on diagonal maps. For fewer it is random, since a random
    frame almost surely has a part along each of the largest directions.
    """
    size = length(x)
    if k == size:
        return np.eye(size)
    frame = _orthonormal(np.random.default_rng(seed).standard_normal((size, k)))
    return frame if transient else _align(tangent, step, x, frame)


def refilled(frame: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Return the frame with k directions again, half-way through a transient.

    What a saturated map annihilates far out is not what its attractor annihilates.
    """
    missing = k - frame.shape[1]
    if missing <= 0:
        return frame
    new = rng.standard_normal((len(frame), missing))
    return _orthonormal(np.hstack([frame, new - frame @ (frame.T @ new)]))


def require_bounded(x: Array, images: np.ndarray, t: int, steps: int) -> None:
    """Raise InputError where the state or a tangent is no longer finite after step t."""
    if not (_measurable(images) and np.all(np.isfinite(to_numpy(x)))):
        raise InputError(
            f"the trajectory is no longer finite after step {t} of {steps}: an exponent needs one that "
            "stays bounded; start nearer to the attractor, or a linear map at 0"
        )


def _measurable(images: np.ndarray) -> bool:
    """Tell whether every column is finite and has a finite length."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.sum(images * images)))


def _orthonormal(columns: np.ndarray) -> np.ndarray:
    return np.linalg.qr(columns)[0]


def _align(tangent: Tangent, step: StepMap, x: Array, frame: np.ndarray) -> np.ndarray:
    """Return the frame after subspace iteration with the Jacobian at x, which stops where a direction is lost."""
    rates = np.full(frame.shape[1], np.inf)
    for _ in range(_ALIGNING):
        images = tangent.advance(step, x, frame)[1]
        if not _measurable(images):
            return frame
        following, grown = reorthonormalise(images, tangent.lost, tangent.noise)
        if following.shape != frame.shape:
            return frame
        frame, rates, before = following, grown, rates
        if np.max(np.abs(rates - before)) < _ALIGNED:
            break
    return frame


def reorthonormalise(images: np.ndarray, least_share: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (Q, ln |R_jj|) without lost columns: below `least_share` of their length, or `noise` of the longest.

    A lost column is left out before the next one is measured. Whatever filled its place in Q would be arbitrary, and
    projecting it away would shorten the other columns.
    """
    while images.shape[1]:
        lengths = np.linalg.norm(images, axis=0)
        q, r = np.linalg.qr(images)
        diagonal = np.abs(np.diag(r))
        small = diagonal <= np.maximum(least_share * lengths, noise * lengths.max())
        if not small.any():
            return q, np.log(diagonal)
        images = np.delete(images, int(np.argmax(small)), axis=1)
    return images, np.empty(0)
