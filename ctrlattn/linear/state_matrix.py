"""x' = A x: the state matrix behind a system or an array, and its time domain."""

from typing import Any

import numpy as np

from ctrlattn.arrays import require_finite, require_numbers
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.lazy import loaded
from ctrlattn.linear.time_base import is_continuous
from ctrlattn.loop import Loop, refuse_loop_sequence

EPS = float(np.finfo(float).eps)
_LARGEST_ENTRY = 1e120  # its square, and products of a few of them, are still floats


def state_matrix(system: Any, quantity: str, continuous: bool | None = None) -> tuple[np.ndarray, bool]:
    """Return (A, continuous) of a StateSpace or a square matrix, in float64 or complex128.

    The time domain is that of the system (see `time_base`); a matrix is discrete unless the flag says otherwise.

    Raises
    ------
    InputError
        Not square, empty, NaN or infinity, a sequence of loops, a flag that contradicts the system.
    InputTypeError
        A transfer function or a loop, which have no matrix of their own.

    Examples
    --------
    >>> state_matrix(np.eye(2), "kreiss_constant")[1]
    False
    """
    _refuse(system, quantity)
    matrix = system
    if isinstance(system, loaded("control", "StateSpace")):
        continuous = is_continuous(system, quantity, continuous)
        matrix = system.A
    a = require_numbers(f"the matrix of {quantity}", matrix)
    if a.ndim != 2 or a.shape[0] != a.shape[1] or a.shape[0] == 0:
        raise InputError(f"{quantity} takes a square matrix (n, n) with n >= 1, got shape {a.shape}")
    require_finite(f"the matrix of {quantity}", a)
    require_scale(f"the matrix of {quantity}", a)
    return a, bool(continuous)


def discrete_matrix(system: Any, quantity: str, instead: str) -> np.ndarray:
    """Return A for a quantity that has a meaning in discrete time alone."""
    a, continuous = state_matrix(system, quantity)
    if continuous:
        raise InputError(f"{quantity} is of discrete time, the system is continuous: use {instead}")
    return a


def continuous_matrix(system: Any, quantity: str, instead: str) -> np.ndarray:
    """Return A for a quantity that has a meaning in continuous time alone; a matrix counts as continuous."""
    if isinstance(system, loaded("control", "StateSpace")) and not is_continuous(system, quantity):
        raise InputError(f"{quantity} is of continuous time, the system has dt = {system.dt}: use {instead}")
    return state_matrix(system, quantity, True)[0]


def require_scale(name: str, matrix: np.ndarray) -> None:
    """Raise InputError where squares of entries would overflow and a result silently be infinite or zero."""
    if not within_scale(matrix):
        largest = float(np.abs(matrix).max())
        raise InputError(f"{name} has an entry of {largest:.1e}: rescale the states, so that all are below 1e120")


def within_scale(matrix: np.ndarray) -> bool:
    """Tell whether all entries are numbers below 1e120.

    >>> within_scale(np.array([1.0])), within_scale(np.array([np.nan])), within_scale(np.array([1e200]))
    (True, False, False)
    """
    # Where the sum of squares says yes it is right, and takes a tenth of the time of the largest entry.
    return bool(np.vdot(matrix, matrix).real <= _LARGEST_ENTRY**2 or np.abs(matrix).max() <= _LARGEST_ENTRY)


def require_size(n: int, largest: int, quantity: str, instead: str) -> None:
    """Raise InputError where dense eigenproblems of order 2n would take hours."""
    if n > largest:
        raise InputError(
            f"{quantity} solves many dense eigenproblems of order 2n, here {2 * n}: it takes n <= {largest}, got "
            f"n = {n}. {instead}"
        )


def _refuse(system: Any, quantity: str) -> None:
    refuse_loop_sequence(system, quantity)
    if isinstance(system, Loop):
        raise InputTypeError(
            f"{quantity} takes a matrix or a StateSpace: pass pass_operator(loop, n) or linearize(loop, x)"
        )
    if isinstance(system, loaded("control", "TransferFunction")):
        raise InputTypeError(
            f"{quantity} depends on the choice of the state: give a StateSpace, not a TransferFunction"
        )
