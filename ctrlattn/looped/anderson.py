"""h_{k+1} = sum_i a_i (h_{k-i} + g e_{k-i}),  sum_i a_i = 1, min |sum_i a_i e_{k-i}|: Anderson's acceleration.

It is no controller: the weights a depend on the errors. It finds fixed points that no damping reaches, and is the
reference that loops are compared with.
"""

from typing import Any

import numpy as np

from ctrlattn.arrays import Array, namespace, require_positive, require_real
from ctrlattn.errors import require_whole
from ctrlattn.loop import Trajectory
from ctrlattn.looped.iterate import require_finite_at, rests
from ctrlattn.looped.pass_map import as_pass_map, require_state
from ctrlattn.passes import Passes

_NEGLIGIBLE = 1e-10  # directions whose share of the error differences is smaller are rounding


def anderson(
    f: Any,
    h: Array,
    passes: int,
    *,
    memory: int = 5,
    gain: float = 1.0,
    recall: float = 0.0,
    until: float | None = None,
) -> Trajectory:
    """Iterate F by Anderson's acceleration, type II, on the error e = F(h) - h + recall (h_0 - h).

    Parameters
    ----------
    f, h, passes, recall, until
        As for `iterate`.
    memory : int
        Number of earlier passes that are combined, at least 1.
    gain : float
        g, positive: the step along the combined error.

    Returns
    -------
    Trajectory
        That of `iterate`, whose control is h_{k+1} - h_k.

    Raises
    ------
    InputError
        As for `iterate`; memory below 1, gain not positive.

    References
    ----------
    Anderson, J. ACM 12 (1965) 547; Walker and Ni, SIAM J. Numer. Anal. 49 (2011) 1715, section 2; as the solver of
    deep equilibrium networks: Bai, Kolter, Koltun, arXiv 1909.01377.

    Examples
    --------
    >>> run = anderson(lambda h: 3.0 * h - 4.0, np.array([0.0]), 3)  # the eigenvalue 3 is out of reach of any gain
    >>> run.state.ravel().round(9).tolist()
    [0.0, -4.0, 2.0, 2.0]
    """
    passes, memory = require_whole("passes", passes), require_whole("memory", memory)
    gain, step, start = require_positive("gain", gain), as_pass_map(f), require_state(h)
    loop, xp, h = Passes(recall=recall), namespace(start), start
    states, predictions = [h], []
    errors: list[Array] = []
    for k in range(passes):
        with np.errstate(all="ignore"):  # what is no longer finite is told with its pass
            prediction = step(h)
            require_finite_at("F(h)", prediction, k, passes)
            e = loop.error(h, prediction, start)
            states.append(_next_iterate(h, e, states[-memory - 1 : -1], errors[-memory:], gain))
        predictions.append(prediction)
        errors.append(e)
        h = states[-1]
        require_finite_at("the state", h, k, passes)
        if until is not None and rests(e, until, h, start):
            break
    state = xp.stack(states)
    return Trajectory(state, xp.stack(predictions), xp.stack(errors), state[1:] - state[:-1])


def _next_iterate(h: Array, e: Array, states: list[Array], errors: list[Array], gain: float) -> Array:
    """Return h + g e - sum_j gamma_j (dh_j + g de_j), gamma the least-squares weights of the error differences."""
    new = h + gain * e
    if not errors:
        return new
    differences = [e - before for before in errors]
    columns = np.stack([require_real("an error", d).ravel() for d in differences], axis=1)
    sizes = np.linalg.norm(columns, axis=0)
    nonzero = sizes > 0
    if not nonzero.any() or not np.all(np.isfinite(columns)):
        return new
    solution = least_squares(columns[:, nonzero] / sizes[nonzero], require_real("e", e).ravel(), rcond=_NEGLIGIBLE)
    if solution is None:
        return new
    weights = np.zeros(len(errors))
    weights[nonzero] = solution / sizes[nonzero]
    for weight, before, difference in zip(weights.tolist(), states, differences, strict=True):
        new = new - weight * ((h - before) + gain * difference)
    return new


def least_squares(matrix: np.ndarray, b: np.ndarray, rcond: float = 1e-13) -> np.ndarray | None:
    """Return x of least |A x - b|; None where A is not finite, or its singular values do not converge.

    >>> least_squares(np.diag([2.0, 4.0]), np.ones(2)).tolist()
    [0.5, 0.25]
    """
    if not np.all(np.isfinite(matrix)):
        return None
    try:
        x = np.linalg.lstsq(matrix, b, rcond=rcond)[0]
    except np.linalg.LinAlgError:
        return None
    return x if np.all(np.isfinite(x)) else None
