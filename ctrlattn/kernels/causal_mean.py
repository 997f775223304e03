"""x_i <- scale(skip x_i + feedback S_i / i + u_i),  S_i = x_0 + ... + x_{i-1} as updated: every pass in one sweep.

Token i in pass p needs the running sum of pass p over the tokens before it, and token i as pass p - 1 left it. So the
sums of all passes, (passes, d) numbers, are the whole memory, and one sweep over the tokens does every pass. A pass
ends in a square root that the next one waits for; two tokens run a pass apart, so that one works while the other waits.

Reference: ctrlattn.sequential.wavefront.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np

# Sums may be reordered and multiplications fused; NaN and infinity keep their meaning.
_FAST = {"reassoc", "contract", "nsz", "arcp"}


class Scaling(NamedTuple):
    """The norm x -> weight x / sqrt(power |x|^2 + eps) of each token; before the predictor (pre) or behind it."""

    power: float
    eps: float
    weight: np.ndarray | None = None
    pre: bool = False


def sweep(
    x: np.ndarray,
    sums: np.ndarray,
    *,
    skip: float,
    feedback: float,
    scaling: Scaling | None,
    control: np.ndarray | None = None,
    start: int = 0,
    hold_first: bool = False,
    record: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Run all passes over the tokens start, start + 1, ... of each sequence of a batch; `sums` is updated in place.

    Parameters
    ----------
    x : (batch, n, d), float32 or float64, C-contiguous
    sums : (batch, passes, d), float64
        Sum over the tokens before `start` as each pass left them; zeros for a new sequence. All inside is float64: a
        sum of many equal float32 numbers stops growing long before their mean is right.
    skip, feedback : float
    scaling : Scaling, optional
    control : (batch, n, d), optional
        u, for one pass.
    start : int
        Number of tokens that came before.
    hold_first : bool
        Token 0 is not updated.
    record : bool

    Returns
    -------
    (states, predictions)
        The state after the last pass, (1, batch, n, d), and None; with `record` the states from x on,
        (passes + 1, batch, n, d), and what was predicted in each pass, (passes, batch, n, d).
    """
    batch, passes = x.shape[0], sums.shape[1]
    states = np.empty((passes + 1 if record else 1, *x.shape), x.dtype)
    predictions = np.empty((passes, *x.shape), x.dtype) if record else None
    power, eps, weight, pre = scaling or (None, 1.0, None, False)
    plain = True if power is None else None
    gains = (float(skip), float(feedback), None if power is None else float(power), float(eps))

    first = int(hold_first and start == 0 and x.shape[1] > 0)
    if first:
        _hold_first(x, sums, states, predictions, scaling)

    def run(part: slice) -> None:
        # Memory is made here, since an allocation takes the compiler as long as a loop.
        memory = np.zeros((passes + 4, x.shape[2])), np.zeros((2, x.shape[2])), np.arange(passes + 4)
        _sweep_batch(
            *memory, x[part], sums[part], states[:, part], None if predictions is None else predictions[:, part],
            None if control is None else control[part], weight, *gains, pre, start, first, plain,
        )  # fmt: skip

    # Below this much work a thread costs more than it brings.
    threads = min(batch, _threads(), x.size * passes // 2**18 + 1)
    if threads == 1:
        run(slice(None))
    else:
        bounds = np.linspace(0, batch, threads + 1).astype(int).tolist()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, map(slice, bounds[:-1], bounds[1:])))
    return states, predictions


def _hold_first(
    x: np.ndarray, sums: np.ndarray, states: np.ndarray, predictions: np.ndarray | None, scaling: Scaling | None
) -> None:
    """Keep token 0 as it is, after every pass and in every sum; plain code, since it is one token for any length."""
    token = x[:, 0].astype(np.float64)
    states[:, :, 0] = x[:, 0]
    if predictions is not None:
        predictions[:, :, 0] = 0
    if scaling is not None and scaling.pre:
        token /= np.sqrt(scaling.power * np.sum(token * token, -1, keepdims=True) + scaling.eps)
    sums += token[:, None]


def _threads() -> int:
    """Return how many cores this process may use; OMP_NUM_THREADS lowers it, as for every numerical library."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    setting = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, min(available, int(setting) if setting.isdigit() else available))


@numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _sweep_batch(
    rows, work, place, x, sums, states, predictions, control, weight, skip, feedback, power, eps, pre, start, first,
    plain,
):  # fmt: skip
    """Sweep one sequence after the other; rows of zeros frame the sums, for the steps in which a token begins or ends.

    `place` counts the rows: looked up, the compiler tests three rows for overlap, not the range of all steps, which
    does overlap. `plain` is True where there is no norm, else None: only a branch on None is left out when this is
    compiled, and each of the two kinds of step takes the compiler as long as all the rest.
    """
    batch, n, d = x.shape
    passes = sums.shape[1]
    for b in range(batch):
        # Element by element: an assignment of slices takes the compiler seconds, for the message of its shapes.
        for p in range(passes):
            for j in range(d):
                rows[p + 2, j] = sums[b, p, j]
        for i in range(first, n, 2):
            if plain is not None:
                _two_plain_tokens(x, b, i, rows, place, work, states, predictions, control, skip, feedback, start + i)
            if power is not None:
                _two_tokens(
                    x, b, i, rows, place, work, states, predictions, control, weight, skip, feedback, power, eps, pre,
                    start + i,
                )  # fmt: skip
        for p in range(passes):
            for j in range(d):
                sums[b, p, j] = rows[p + 2, j]


@numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _two_plain_tokens(x, b, i, rows, place, work, states, predictions, control, skip, feedback, index):
    """Take two tokens through each pass at once, the second with the first in the sum: without a norm none waits.

    Where no pass between is asked for, three passes are done while the tokens are at hand.
    """
    d, passes, pair = x.shape[2], rows.shape[0] - 4, i + 1 < x.shape[1]
    recorded = states.shape[0] > 1
    second, enters = (i + 1, 1.0) if pair else (i, 0.0)
    mean_0 = 1.0 / index if index > 0 else 0.0
    mean_1 = 1.0 / (index + 1)
    gain_0, gain_1 = feedback * mean_0, feedback * mean_1
    for j in range(d):
        work[0, j] = x[b, i, j]
        work[1, j] = x[b, second, j]
        if recorded:
            states[0, b, i, j] = x[b, i, j]
            states[0, b, second, j] = x[b, second, j]
    done = 0
    if not recorded and control is None:
        while done + 3 <= passes:
            p, q, r = place[done + 2], place[done + 3], place[done + 4]
            for j in range(d):
                token_0, token_1 = work[0, j], work[1, j]
                rows[p, j], token_0, token_1 = _pass(rows[p, j], token_0, token_1, skip, gain_0, gain_1, enters)
                rows[q, j], token_0, token_1 = _pass(rows[q, j], token_0, token_1, skip, gain_0, gain_1, enters)
                rows[r, j], token_0, token_1 = _pass(rows[r, j], token_0, token_1, skip, gain_0, gain_1, enters)
                work[0, j] = token_0
                work[1, j] = token_1
            done += 3
    for p in range(done, passes):
        for j in range(d):
            total = rows[p + 2, j]
            token_0 = skip * work[0, j] + gain_0 * total
            if control is not None:
                token_0 += control[b, i, j]
            if predictions is not None:
                predictions[p, b, second, j] = (total + token_0) * mean_1
                predictions[p, b, i, j] = total * mean_0
            total += token_0
            token_1 = skip * work[1, j] + gain_1 * total
            if control is not None:
                token_1 += control[b, second, j]
            rows[p + 2, j] = total + token_1 * enters
            work[0, j] = token_0
            work[1, j] = token_1
        if recorded:
            for j in range(d):
                states[p + 1, b, second, j] = work[1, j]
                states[p + 1, b, i, j] = work[0, j]
    if not recorded:
        for j in range(d):
            states[0, b, second, j] = work[1, j]
            states[0, b, i, j] = work[0, j]


@numba.njit(cache=True, nogil=True, fastmath=_FAST, inline="always")
def _pass(total, token_0, token_1, skip, gain_0, gain_1, enters):
    """Take one feature of two tokens through one pass, and return (its sum, both tokens)."""
    token_0 = skip * token_0 + gain_0 * total
    total += token_0
    token_1 = skip * token_1 + gain_1 * total
    return total + token_1 * enters, token_0, token_1


@numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _two_tokens(
    x, b, i, rows, place, work, states, predictions, control, weight, skip, feedback, power, eps, pre, index
):  # fmt: skip
    """Take token i of sequence b and the one behind it through all passes, the second one pass later.

    In step p the first one ends pass p - 1 (scale it, add it to that pass's sum) and begins pass p (compare it with the
    mean of that pass). Row p + 2 of `rows` is the sum of pass p. The last token may be alone.
    """
    d, passes, pair = x.shape[2], rows.shape[0] - 4, i + 1 < x.shape[1]
    recorded = states.shape[0] > 1
    zero, unit = 0.0, 1.0
    mean_0 = unit / index if index > 0 else zero
    mean_1 = unit / (index + 1) if pair else zero
    gain_0, gain_1 = feedback * mean_0, feedback * mean_1
    square_0 = square_1 = zero
    for p in range(passes + 2):
        state_0, enters_0 = _factors(square_0, power, eps, pre, unit)
        state_1, enters_1 = _factors(square_1, power, eps, pre, unit)
        if p == 0:
            for j in range(d):
                work[0, j] = x[b, i, j]
                work[1, j] = zero
            state_0, enters_0, state_1, enters_1 = unit, zero, unit, zero
        elif p == 1:
            if pair:
                for j in range(d):
                    work[1, j] = x[b, i + 1, j]
            state_1, enters_1 = unit, zero
        if p > passes:
            enters_0 = zero
        if not pair:
            enters_1 = zero
        if p == passes or (recorded and p < passes):
            for j in range(d):
                states[p if recorded else 0, b, i, j] = work[0, j] * state_0
        if pair and (p > passes or (recorded and p > 0)):
            for j in range(d):
                states[p - 1 if recorded else 0, b, i + 1, j] = work[1, j] * state_1
        older, newer, ahead = place[p], place[p + 1], place[p + 2]
        square_0 = square_1 = zero
        for j in range(d):
            token_0 = work[0, j] * state_0
            token_1 = work[1, j] * state_1
            total = rows[newer, j] + token_0 * enters_0
            rows[newer, j] = total
            rows[older, j] += token_1 * enters_1
            token_0 = skip * token_0 + gain_0 * rows[ahead, j]
            token_1 = skip * token_1 + gain_1 * total
            if control is not None:
                token_0 += control[b, i, j]
                token_1 += control[b, i + 1 if pair else i, j]
            square_0 += token_0 * token_0
            square_1 += token_1 * token_1
            if weight is not None:
                token_0 *= weight[j]
                token_1 *= weight[j]
            work[0, j] = token_0
            work[1, j] = token_1
        if predictions is not None:
            for j in range(d):
                if p < passes:
                    predictions[p, b, i, j] = rows[p + 2, j] * mean_0
                if pair and 0 < p <= passes:
                    predictions[p - 1, b, i + 1, j] = rows[p + 1, j] * mean_1


@numba.njit(cache=True, nogil=True, inline="always")
def _factors(square, power, eps, pre, unit):
    """Return (the factor of a token, the factor with which it enters the sum beside that)."""
    if power is None:
        return unit, unit
    scale = unit / np.sqrt(power * square + eps)
    return (unit, scale) if pre else (scale, unit)
