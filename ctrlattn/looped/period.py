"""h_{k+p} = h_k: what a loop does in the end, asked before any spectrum: rest, an orbit, drift, or none of these.

On an orbit of period 2 the eigenvalues of one Jacobian answer the wrong question, and where a loop drifts there is no
point to take them at.
"""

from typing import Any, NamedTuple

import numpy as np

from ctrlattn.arrays import Array, machine_epsilon, require_positive, require_real
from ctrlattn.errors import InputError, require_whole
from ctrlattn.looped.pass_map import as_pass_map, require_state
from ctrlattn.passes import Passes

_FALLING = 0.7  # a distance that falls to this share in the third quarter and again in the last goes to 0,
_SMALL = 0.05  # if it is this small by then: chaos comes near to itself by chance
_ALIKE = 0.01  # relative difference of the rates of a distance that falls as a power of one number, however slowly
_SAME = 0.1  # of those of two distances that fall together
_STEADY = 0.5  # share of its path by which a drifting state moves away


class Period(NamedTuple):
    """What a loop does in the end."""

    period: int  # 1 rest, p an orbit of p passes, 0 neither within `most`, -1 drift
    settled: bool  # whether the distance is below tol; False: it falls towards 0 at `rate`, or there is no period
    distances: np.ndarray  # (most,) max over the last passes of |h_k - h_{k-p}|, as a share of |h|; nan: overflow
    rate: float  # share by which the distance of that period changes in each pass of the second half; nan without
    escaped: int | None  # the pass (from 1) after which the state was no longer finite
    state: Array  # the last finite state

    def in_words(self) -> str:
        """Say it in one sentence.

        >>> period(lambda h: -1.0 * h, np.ones(2)).in_words()
        'the loop settles on an orbit of period 2'
        """
        if self.escaped is not None:
            return f"the loop runs away: it is no longer finite after pass {self.escaped}"
        if self.period < 0:
            return "the loop drifts: it keeps moving away"
        if self.period == 0:
            return f"the loop stays bounded and has no period up to {len(self.distances)}"
        motion = "a fixed point" if self.period == 1 else f"an orbit of period {self.period}"
        if self.settled:
            return f"the loop settles on {motion}"
        return f"the loop approaches {motion}, by a factor of {self.rate:.6g} in each pass"


def period(
    f: Any,
    h: Array,
    passes: int = 512,
    *,
    controller: Any = None,
    recall: float = 0.0,
    reference: Array | None = None,
    most: int = 8,
    tol: float | None = None,
) -> Period:
    """Run a loop and say whether it rests, has a period, drifts, or does none of these.

    Parameters
    ----------
    f, h, controller, recall, reference : as for `iterate`
    passes : int
        At least 8 times `most`.
    most : int
        The longest period that is looked for.
    tol : float, optional
        Share of |h| below which two states are equal: 1e-9 in float64, 1e-5 in float32.

    Returns
    -------
    Period
        It drifts where it ceases to be finite, where |h| doubles in the second half of the passes, or where it moves
        away along its path without slowing down.

    Raises
    ------
    InputError
        As for `iterate`, but not for a state that runs away; fewer passes than 8 times `most`.

    Examples
    --------
    >>> logistic = lambda g: period(lambda h: g * h * (1 - h), np.array([0.3]), most=4).period
    >>> [logistic(g) for g in (2.5, 3.2, 3.5, 4.0, 5.0)]
    [1, 2, 4, 0, -1]
    """
    step, h, loop = as_pass_map(f), require_state(h), Passes(controller, recall=recall)
    most, passes = require_whole("most", most), require_whole("passes", passes)
    if passes < 8 * most:
        raise InputError(f"a period of up to {most} passes needs at least {8 * most} of them, got {passes}")
    near = (1e-5 if machine_epsilon(h) > 1e-10 else 1e-9) if tol is None else require_positive("tol", tol)
    state, half = loop.init(h, reference), passes // 2
    window: list[np.ndarray] = [_flat(h)]
    marks: list[list[np.ndarray]] = []  # the last states at a half and at three quarters of the passes
    sizes, steps = [_size(window[0])], []
    for k in range(passes):
        with np.errstate(all="ignore"):
            new, _, _, state = loop.step(h, step(h), state)
            flat = _flat(new)
            finite = bool(np.isfinite(np.sum(flat * flat)))
        if not finite:
            return Period(-1, False, np.full(most, np.nan), float("nan"), k + 1, h)
        h = new
        steps.append(_size(flat - window[-1]))
        window = [*window[-2 * most :], flat]
        sizes.append(_size(flat))
        if k + 1 in (half, half + (passes - half) // 2):
            marks.append(window)
    distances = np.array([_distances(part, most) for part in (*marks, window)])
    # A state that comes to rest at 0 is measured against where it was.
    scale = max(sizes[-1], sizes[half], near * sizes[0], 1e-300)
    displacement = _size(window[-1] - marks[0][-1])
    return _verdict(distances / scale, near, displacement, sizes, steps, h)


def _verdict(
    at: np.ndarray, near: float, displacement: float, sizes: list[float], steps: list[float], h: Array
) -> Period:
    """Tell what the loop does from the distances at a half, three quarters and the end of the passes, (3, most)."""
    half, distances = len(steps) // 2, at[-1]
    passes = len(steps) - half
    still = np.flatnonzero(distances <= near)
    if len(still):
        p = int(still[0]) + 1
        return Period(p, True, distances, _rate(at, p, passes), None, h)
    rates = _geometric(at, passes, machine_epsilon(h))
    slow = (rates > 0) & (at[2] <= _SMALL)
    if np.any(slow):
        # Longer ones that fall at the same rate go to 0 with it: h' = -.999 h comes to rest.
        p = int(np.argmax((rates > 0) & (np.abs(rates / rates[slow][0] - 1) <= _SAME))) + 1
        return Period(p, False, distances, _rate(at, p, passes), None, h)
    path, late = sum(steps[half:]), max(passes // 4, 1)
    grows = max(sizes[-late:]) > 2 * max(sizes[half - late : half + 1])
    slowing = steps[-1] <= _FALLING * steps[half]
    if grows or (displacement >= _STEADY * path and not slowing):
        return Period(-1, False, distances, float("nan"), None, h)
    falling = (at[1] <= _FALLING * at[0]) & (at[2] <= _FALLING * at[1])
    small = falling & (at[2] <= _SMALL)
    if np.any(small):
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = at[2] / at[1]
        p = int(np.argmax(small | (falling & (np.abs(shares / shares[small][0] - 1) <= _SAME)))) + 1
        return Period(p, False, distances, _rate(at, p, passes), None, h)
    return Period(0, False, distances, float("nan"), None, h)


def _geometric(at: np.ndarray, passes: int, eps: float) -> np.ndarray:
    """Return -ln of the rate at which a distance falls in both quarters, as beside an eigenvalue of almost 1; else 0.

    A state that drifts ever more slowly, as the root of the passes, has rates that differ.
    """
    first = passes // 2
    with np.errstate(divide="ignore", invalid="ignore"):
        before, after = (
            -np.log(end / start) / count
            for start, end, count in ((at[0], at[1], first), (at[1], at[2], passes - first))
        )
        visible = before * first > 100 * eps / at[2]  # more than rounding changes a distance
        return np.where(visible & (np.abs(before - after) <= _ALIKE * before), after, 0.0)


def _rate(at: np.ndarray, p: int, passes: int) -> float:
    if at[0, p - 1] == 0:
        return 0.0
    return float((at[-1, p - 1] / at[0, p - 1]) ** (1 / passes))


def _distances(window: list[np.ndarray], most: int) -> np.ndarray:
    """Return max over the last `most` states of |h_k - h_{k-p}|, p = 1 ... most."""
    last = window[-most:]
    return np.array(
        [max(_size(x - window[len(window) - most + i - p]) for i, x in enumerate(last)) for p in range(1, most + 1)]
    )


def _flat(h: Array) -> np.ndarray:
    return require_real("the state", h).ravel()


def _size(flat: np.ndarray) -> float:
    """Return |x| whose squares neither overflow nor vanish."""
    largest = float(np.max(np.abs(flat)))
    return largest * float(np.linalg.norm(flat / largest)) if 1e-300 < largest < np.inf else largest
