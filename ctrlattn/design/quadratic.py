"""min sum q e^2 + s (sum e)^2 + r u^2 over one mode x' = alpha x + u: P and PI of the printed law as LQR.

With e = -x and S_k = e_1 + ... + e_k the printed law is a state feedback on (x_k, S_{k-1}):
u = -(kp + ki) x_k + ki S_{k-1}, and (x, S)' = [[alpha, 0], [-1, 1]] (x, S) + [1, 0] u: a Riccati equation gives it.
"""

import math
from typing import Any

import numpy as np

from ctrlattn.arrays import require_number
from ctrlattn.controllers import PID
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.linear import mode, open_loop_pole
from ctrlattn.loop import Loop


def lqr(loop: Loop, a: float, *, error: float = 1.0, integral: float = 0.0, control: float = 1.0) -> PID:
    """Return the printed law with the gains that minimise the sum of error e^2 + integral S^2 + control u^2 on mode a.

    Unlike `tune` it needs no search and knows one mode only: `performance` tells what the gains do to the
    others. Its modulus margin on mode a is at least sqrt(control/(control + X)), X the first entry of the Riccati
    solution, which `lqr_margin` returns.

    Parameters
    ----------
    loop : Loop
        As for `mode`; its controller is not used.
    a : real
        Eigenvalue of attention.
    error, integral, control : float
        Weights: error and control positive, integral 0 (a P law) or positive (a PI law).

    Returns
    -------
    PID

    Raises
    ------
    InputError
        Weights out of range, a mode that is not real and finite, a loop that is not linear and time-invariant.

    References
    ----------
    Astrom and Wittenmark, Computer-Controlled Systems, 3rd edition, section 11.2.

    Examples
    --------
    >>> from ctrlattn import presets
    >>> round(lqr(presets.get("neutreno"), 1.0).kp, 6)  # the golden ratio: X^2 - X - 1 = 0, kp = X/(1 + X)
    0.618034
    """
    _, gain = _solve_riccati(loop, a, error, integral, control)
    return PID(float(gain[0])) if not integral else PID(float(gain[0] + gain[1]), float(-gain[1]))


def lqr_margin(loop: Loop, a: float, *, error: float = 1.0, integral: float = 0.0, control: float = 1.0) -> float:
    """Return the modulus margin guaranteed by `lqr` on mode a: sqrt(control/(control + X)), as |1 + L|^2 (r + X) >= r.

    Examples
    --------
    >>> from ctrlattn import presets
    >>> round(lqr_margin(presets.get("neutreno"), 1.0), 6)
    0.618034
    """
    x, _ = _solve_riccati(loop, a, error, integral, control)
    return math.sqrt(control / (control + float(x[0, 0])))


def _solve_riccati(loop: Loop, a: Any, error: float, integral: float, control: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (X, K): the Riccati solution and u = -K (x, S)."""
    from scipy.linalg import solve_discrete_are

    mode(loop, a)
    if np.iscomplexobj(a):
        raise InputError(f"lqr is for one real mode, got a = {a}")
    weights = (error, control, integral)
    for name, weight_of in zip(("error", "control", "integral"), weights, strict=True):
        if isinstance(weight_of, bool | np.bool_):
            raise InputTypeError(f"{name} must be a number, got {weight_of!r}")
        require_number(name, weight_of)
    if not (error > 0 and control > 0 and integral >= 0):
        raise InputError(f"weights must be finite, error and control > 0, integral >= 0: got {weights}")
    alpha = float(open_loop_pole(loop, a))
    # The cost of S counts e of this layer: S_k = S_{k-1} - x_k.
    matrix, into = np.array([[alpha, 0.0], [-1.0, 1.0]]), np.array([[1.0], [0.0]])
    weight = np.array([[error + integral, -integral], [-integral, integral]])
    if not integral:
        matrix, into, weight = matrix[:1, :1], into[:1], weight[:1, :1]
    try:
        x = solve_discrete_are(matrix, into, weight, np.array([[control]]))
    except np.linalg.LinAlgError as failure:
        raise InputError(f"lqr: the Riccati equation of alpha = {alpha:g} has no solution: {failure}") from failure
    return x, (into.T @ x @ matrix / (control + into.T @ x @ into))[0]
