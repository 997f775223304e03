"""p(z) = den(z) (z - 1) - num(z) (lambda - 1 - k_r): one mode of a looped network under the controller C = num/den.

lambda is an eigenvalue of J = F'(h*), k_r the recall. The error of the mode is e = (lambda - 1 - k_r) h, and the state
adds up what the controller makes of it, so the mode is that of `mode_polynomial` with the open-loop pole 1 and the
numerator (1 + k_r - lambda) num. A disturbance of the state decays as 1 minus the step response of T = 1 - S.
"""

from typing import Any

import numpy as np

from ctrlattn.linear.mode_matrix import mode_matrix
from ctrlattn.linear.mode_polynomial import mode_polynomial

ALPHA = 1.0  # where a mode has its pole before the controller acts: the state is added to


def pull(eigenvalue: Any, recall: Any = 0.0) -> Any:
    """Return 1 + k_r - lambda: how strongly the error leads a mode back to the fixed point; a number or an array.

    >>> pull(0.25), pull(3.0, recall=2.5)
    (0.75, 0.5)
    """
    return 1 + recall - eigenvalue


def pass_numerator(num: np.ndarray, eigenvalue: Any, recall: Any = 0.0) -> np.ndarray:
    """Return (1 + k_r - lambda) num(z), (..., m), which stands for C in every function of `mode_polynomial`.

    Parameters
    ----------
    num : (..., m)
    eigenvalue, recall : real or complex, (...)
        Over the common shape of num without its last axis and both.

    Examples
    --------
    >>> pass_numerator(np.array([0.5, 0.0]), np.array([0.0, -1.0])).tolist()
    [[0.5, 0.0], [1.0, 0.0]]
    """
    return np.asarray(pull(np.asarray(eigenvalue), recall))[..., None] * np.asarray(num)


def pass_polynomial(num: np.ndarray, den: np.ndarray, eigenvalue: Any, recall: Any = 0.0) -> np.ndarray:
    """Return den (z - 1) - num (lambda - 1 - k_r), monic, descending powers: (..., order + 2).

    Parameters
    ----------
    num, den : of C(z), descending powers
    eigenvalue, recall : real or complex, (...)

    Examples
    --------
    >>> pass_polynomial(np.array([0.25]), np.array([1.0]), -1.0).tolist()  # z - 1 + .25 2: the pole is 1/2
    [1.0, -0.5]
    """
    return mode_polynomial(pass_numerator(num, eigenvalue, recall), den, ALPHA)


def pass_matrix(controller: Any, eigenvalue: Any, recall: Any = 0.0) -> np.ndarray:
    """Return [[1 - w D, C], [-w B, A]], w = 1 + k_r - lambda, of shape (..., order + 1, order + 1) with the poles.

    Parameters
    ----------
    controller : PID, LTIController or python-control system with dt = 1
    eigenvalue, recall : real or complex, (...)

    Examples
    --------
    >>> from ctrlattn import PID
    >>> pass_matrix(PID(0.25), -1.0).tolist()
    [[0.5]]
    """
    return mode_matrix(controller, ALPHA, pull(np.asarray(eigenvalue), recall))
