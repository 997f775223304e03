"""(g, y(x_t)), t beyond the transient: the bifurcation diagram of a family of maps over a gain g, its periods."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ctrlattn.arrays import Array, require_number, require_real, to_numpy
from ctrlattn.errors import InputError, require_flag, require_whole
from ctrlattn.stability.motion.exponent_intervals import exponent_intervals
from ctrlattn.stability.motion.fixed_points import StepFamily
from ctrlattn.stability.motion.tangent import Jvp, StepMap, as_state, require_callable

_ALIGNING = 50  # steps, at most, before the growth of a direction is measured


class Bifurcation(NamedTuple):
    """What remains of the trajectories of a family of maps."""

    gains: np.ndarray  # (m,)
    values: np.ndarray  # (m, keep), nan where the state overflows
    period: np.ndarray  # (m,) int: 1 fixed, p periodic, 0 neither within `keep`, -1 overflow
    exponent: np.ndarray  # (m,) largest Lyapunov exponent per step; nan: not asked for, open, or after an overflow


def bifurcation_diagram(
    family: StepFamily,
    x: Array,
    gains: Sequence[float] | np.ndarray,
    *,
    observe: Callable[[Array], Any],
    transient: int = 500,
    keep: int = 64,
    follow: bool = False,
    tol: float = 1e-6,
    exponent_steps: int = 0,
    jvp: Callable[[float], Jvp] | None = None,
) -> Bifurcation:
    """Run family(g) for each gain, discard the transient, and record one observed number of each state that follows.

    Parameters
    ----------
    family : callable g -> (callable x -> x')
        For a loop: `lambda g: layer_map(replace(loop, feedback=-g), x)[0]`.
    x : any shape, numpy or torch
        Where each trajectory starts.
    gains : (m,)
    observe : callable x -> number
    transient, keep : int
        Steps discarded and kept.
    follow : bool
        Whether each gain starts from the last state of the gain before. A sweep up and one down then show hysteresis.
    tol : float
        Two observations are equal within this share of the larger of 1 and the largest one.
    exponent_steps : int
        Steps over which the largest Lyapunov exponent is measured, from the last recorded state on. 0 measures none.
        It is nan where `exponent_intervals` leaves it open.
    jvp : callable g -> jvp, optional
        The derivative of family(g), as `lyapunov_exponents` takes it.

    Returns
    -------
    Bifurcation

    Raises
    ------
    InputTypeError
        `family` is not a function.
    InputError
        There is no gain, a gain is not finite, keep < 2, or the transient is negative.

    Examples
    --------
    >>> logistic = lambda g: lambda x: g * x * (1 - x)
    >>> diagram = bifurcation_diagram(logistic, np.array([0.3]), [2.5, 3.2, 3.5, 5.0], observe=lambda x: x[0])
    >>> diagram.period.tolist(), round(float(diagram.values[0, -1]), 6)
    ([1, 2, 4, -1], 0.6)
    """
    follow = require_flag("follow", follow)
    require_callable("family", family, "lambda g: layer_map(replace(loop, feedback=-g), x)[0] is one")
    start = as_state(x)
    gains = require_real("gains", gains)
    if gains.ndim != 1 or not len(gains) or not np.all(np.isfinite(gains)):
        raise InputError(f"gains must be (m,), finite and at least one, got {gains!r}")
    keep = require_whole("keep", keep, least=2)
    transient = require_whole("transient", transient, least=0)
    exponent_steps = require_whole("exponent_steps", exponent_steps, least=0)
    values, exponents = [], []
    for gain in gains:
        step = family(float(gain))
        row, last = _observe(step, start, observe, transient, keep)
        values.append(row)
        exponents.append(_exponent(step, last, exponent_steps, None if jvp is None else jvp(float(gain))))
        start = last if follow and last is not None else start
    observations = np.array(values)
    return Bifurcation(gains, observations, np.array([_period(row, tol) for row in observations]), np.array(exponents))


def _observe(
    step: StepMap, x: Array, observe: Callable[[Array], Any], transient: int, keep: int
) -> tuple[np.ndarray, Array | None]:
    """Return (observations, last state); the observations are nan and the state is None once it is no longer finite."""
    observed = []
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(transient + keep):
            x = step(x)
            if not np.all(np.isfinite(to_numpy(x))):
                return np.full(keep, np.nan), None
            if t >= transient:
                observed.append(float(require_number("an observation", observe(x))))
    return np.array(observed), x


def _exponent(step: StepMap, x: Array | None, steps: int, jvp: Jvp | None) -> float:
    if x is None or not steps:
        return float("nan")
    return float(exponent_intervals(step, x, steps, 1, transient=min(steps // 4, _ALIGNING), most=1, jvp=jvp).values[0])


def _period(row: np.ndarray, tol: float) -> int:
    """Return the smallest p <= keep/2 after which the observations repeat."""
    if not np.all(np.isfinite(row)):
        return -1
    near = tol * max(1.0, float(np.max(np.abs(row))))
    for p in range(1, len(row) // 2 + 1):
        if np.max(np.abs(row[p:] - row[:-p])) <= near:
            return p
    return 0
