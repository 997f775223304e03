"""Settling, overshoot and steady-state error of a response y_0, y_1, ..., y_K that should reach its target."""

from dataclasses import dataclass

import numpy as np

from ctrlattn.errors import InputError

BAND = 0.05  # half-width of the settling band, as a share of the whole change


@dataclass(frozen=True)
class StepMetrics:
    """Time-domain figures of one response over depth; nan where a figure has no meaning."""

    final: float  # where it ends
    settling: float  # layers until the response stays within 5 % of its change around the final value
    overshoot: float  # how far it goes beyond the final value, as a share of its change
    steady_state_error: float  # target - final
    diverged: bool  # it grew away instead of settling


def step_metrics(response: np.ndarray, target: float, *, final: float | None = None) -> StepMetrics:
    """Figures of a response that starts at y_0 and should reach `target`.

    The change is |final - y_0|; the band is 5 % of it on either side of the final value. A response that still
    moves at the end (its last quarter leaves the band) has not settled: settling is inf and the final value is
    only where it was cut. A response that never moves settles at 0 with overshoot 0.

    Parameters
    ----------
    response : (layers + 1,)
    target : float
    final : float, optional
        Where the response is known to end (the static gain of a stable loop); None: its last value.

    Returns
    -------
    StepMetrics
        Settling in layers, overshoot as a fraction.

    Raises
    ------
    InputError
        A response that is not one-dimensional or empty.

    Examples
    --------
    >>> import numpy as np
    >>> m = step_metrics(1 - 0.5 ** np.arange(20), 1.0)
    >>> m.settling, m.overshoot, round(m.steady_state_error, 5)
    (5.0, 0.0, 0.0)
    """
    y = np.asarray(response, dtype=float)
    if y.ndim != 1 or not len(y):
        raise InputError(f"a response is (layers + 1,), got shape {y.shape}")
    if not np.all(np.isfinite(y)):
        return StepMetrics(float(y[-1]), np.inf, np.nan, np.nan, diverged=True)
    final = float(y[-1]) if final is None else final
    change = abs(final - y[0])
    deviation = np.abs(y - final)
    late = len(y) - max(len(y) // 4, 1)
    if np.max(deviation) <= 1e-12 * max(1.0, np.max(np.abs(y))):
        return StepMetrics(final, 0.0, 0.0, target - final, diverged=False)
    outside = np.flatnonzero(deviation > BAND * change)
    settling = float(outside[-1] + 1) if len(outside) else 0.0
    travelled = np.abs(y - y[0])
    diverged = bool(np.max(travelled[late:]) > 2 * np.max(travelled[:late], initial=0.0))
    if settling >= late:
        return StepMetrics(final, np.inf, np.nan, target - final, diverged=diverged)
    beyond = np.max((y - final) * np.sign(final - y[0]))
    return StepMetrics(final, settling, float(max(beyond, 0.0) / change), target - final, diverged=False)
