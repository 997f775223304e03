"""lambda_j = ln |mu_j|, mu the poles, where the derivative of a loop stays the same: exponents over passes, two ways.

The run itself gives exponents with intervals, whatever the loop does. Where its derivative is one matrix all along, as
at rest or of a linear map, the eigenvalues of that matrix are a second answer with errors of their own.
"""

from typing import Any

import numpy as np

from ctrlattn.arrays import Array
from ctrlattn.errors import require_whole
from ctrlattn.looped.closed import closed_map
from ctrlattn.looped.pass_map import PassMap
from ctrlattn.looped.spectrum import formed, pass_products
from ctrlattn.looped.uncertainty import eigenvalue_errors, known_to
from ctrlattn.stability import Exponents
from ctrlattn.stability.motion.exponent_intervals import ExponentRun, opened
from ctrlattn.stability.motion.tangent import length

_FORMED = 400  # numbers in the whole state of a loop whose derivative is formed
_ASKED = (0.0, 0.37, 0.5, 1.0)  # shares of the run at which it is, and a pass after the first half


def exponents(
    f: Any,
    h: Array,
    passes: int,
    k: int = 1,
    *,
    controller: Any = None,
    recall: float = 0.0,
    reference: Array | None = None,
    transient: int = 100,
    most: int = 4,
) -> Exponents:
    """Return the k largest Lyapunov exponents of the loop over passes, in nats a pass: poles of a loop without rest.

    At a fixed point the largest is ln max |pole|. On an orbit it is negative or 0, and above 0 the loop is chaotic.

    Parameters
    ----------
    f, h, controller, recall, reference : as for `iterate`
    passes, k, transient : as for `lyapunov_exponents`
    most : int
        Largest factor by which the passes grow where an interval is wide.

    Returns
    -------
    Exponents
        `values` with the intervals [low, high]. A value is nan where it may be off by more than 0.1, or where the run
        and the eigenvalues of its derivative contradict each other; `why` says so. The eigenvalues are asked
        where state and memories have at most 400 numbers.

    Raises
    ------
    InputTypeError, InputError, ArithmeticError
        As for `lyapunov_exponents`.

    References
    ----------
    Of looped language models: Lyapunov spectra of Ouro and Huginn, OpenReview enDyNuSD3L.

    Examples
    --------
    >>> exponents(lambda h: 0.5 * h, np.ones(2), 10).values.round(6).tolist()
    [-0.693147]
    """
    step, start = closed_map(f, h, controller=controller, recall=recall, reference=reference)
    passes, most = require_whole("passes", passes), require_whole("most", most)
    small = length(start) <= _FORMED
    run = ExponentRun(step, start, k, transient=transient, keep=small)
    run.advance(passes)
    circles = _one_matrix(step, run.visited) if small else None
    return run.lengthened(most) if circles is None else _agreement(run.intervals(), *circles)


def _one_matrix(step: PassMap, visited: list[Array]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return (moduli of the eigenvalues, their errors) where the derivative stays the same; None where it changes."""
    last = len(visited) - 1
    points = [*(round(share * last) for share in _ASKED), last // 2 + 1]
    try:
        first, *matrices = (formed(pass_products(step, visited[min(i, last)]), length(visited[0])) for i in points)
        delta = known_to(step, visited[0], first)
    except ArithmeticError:
        return None
    # Each of the two is known so well.
    if any(float(np.linalg.norm(J - first)) > 2 * delta for J in matrices):
        return None
    values = np.linalg.eigvals(first)
    return np.abs(values), eigenvalue_errors(first, values, 2 * delta)


def _agreement(run: Exponents, moduli: np.ndarray, errors: np.ndarray) -> Exponents:
    """Return the eigenvalues' exponents, if those of the run do not contradict them."""
    k = len(run.values)
    with np.errstate(divide="ignore"):
        values, low, high = (
            np.log(-np.sort(-part)[:k]) for part in (moduli, np.maximum(moduli - errors, 0.0), moduli + errors)
        )
    annihilated = np.isneginf(run.values) & np.isneginf(low)
    values, high = np.where(annihilated, -np.inf, values), np.where(annihilated, np.minimum(high, run.high), high)
    apart = (low > run.high) | (run.low > high)
    undecided = apart | opened(values, low, high)
    why = ""
    if undecided.any():
        j = int(np.argmax(undecided))
        why = (
            f"{int(undecided.sum())} of {k} Lyapunov exponents are open: number {j + 1} lies between {low[j]:.4g} and "
            f"{high[j]:.4g} by the eigenvalues of the derivative with their errors, and between {run.low[j]:.4g} and "
            f"{run.high[j]:.4g} by {len(run.running)} passes. Eigenvalues that share their eigenvector cost digits"
        )
    low = np.where(apart, np.minimum(low, run.low), low)
    high = np.where(apart, np.maximum(high, run.high), high)
    return Exponents(np.where(undecided, np.nan, values), low, high, run.running, why)
