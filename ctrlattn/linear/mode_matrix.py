"""x' = (alpha - D) x + C s, s' = A s - B x: one mode under its controller C(z) = D + C (zI - A)^-1 B, as matrices.

The polynomial of a mode loses slow memories that crowd: their coefficients are differences of large numbers. Here
the controller stands in coordinates that keep its digits, and where its coefficients are given, its poles are exact.
"""

from fractions import Fraction as Rational
from typing import Any

import numpy as np

from ctrlattn.arrays import require_real
from ctrlattn.controllers import PID, Fraction, LTIController, as_controller
from ctrlattn.linear.cascade import cascade
from ctrlattn.linear.polynomial_roots import accurate_roots
from ctrlattn.linear.realization import Realization


def given_fraction(controller: Any) -> Fraction | None:
    """Return (num, den) of the user's own numbers, descending powers; None for a controller given as a state space.

    >>> given_fraction(PID(0.6))
    (array([0.6]), array([1.]))
    """
    law = as_controller(controller) or PID()
    from_states = isinstance(law, LTIController) and not hasattr(law.system, "num")
    return None if from_states else law.fraction()


def controller_realization(controller: Any) -> Realization:
    """Return C(z) in coordinates that keep its digits: a transfer function as a cascade over its exact poles.

    >>> controller_realization(PID(0.6)).d.tolist()
    [[0.6]]
    """
    law = as_controller(controller) or PID()
    fraction = None if isinstance(law, PID) else given_fraction(law)
    if fraction is None:
        a, b, c, d = (require_real("the controller", m) for m in law.realization())
        return Realization(a, b, c, d, False)
    a, column, row, direct = cascade(*fraction)
    return Realization(a, column[:, None], row[None, :], np.array([[direct]]), False)


def mode_matrix(controller: Any, alpha: Any, gain: Any = 1.0) -> np.ndarray:
    """Return [[alpha - g D, C], [-g B, A]], whose eigenvalues are the closed-loop poles of the mode alpha under g C(z).

    Parameters
    ----------
    controller : PID, LTIController, python-control system with dt = 1, or None
    alpha : real or complex, (...)
    gain : real or complex, (...)
        g, a factor of the error; it broadcasts with alpha.

    Returns
    -------
    (..., order + 1, order + 1)

    Examples
    --------
    >>> mode_matrix(PID(0.6), 0.5).round(12).tolist()
    [[-0.1]]
    """
    a, b, c, d = controller_realization(controller)[:4]
    alpha, gain = np.broadcast_arrays(alpha, gain)
    matrix = np.zeros((*alpha.shape, len(a) + 1, len(a) + 1), dtype=np.result_type(alpha, gain, float))
    matrix[..., 0, 0] = alpha - gain * d[0, 0]
    matrix[..., 0, 1:], matrix[..., 1:, 0], matrix[..., 1:, 1:] = c[0], -gain[..., None] * b[:, 0], a
    return matrix


def exact_poles(controller: Any, alpha: float) -> np.ndarray | None:
    """Return the roots of (z - alpha) den + num, rounded at the end alone; None without a given fraction.

    Parameters
    ----------
    controller : as for `mode_matrix`
    alpha : real

    Returns
    -------
    (order + 1,) complex

    Examples
    --------
    >>> exact_poles(PID(0.6), 0.5).real.round(12).tolist()
    [-0.1]
    """
    fraction = given_fraction(controller)
    if fraction is None:
        return None
    num, den = fraction
    product = [-Rational(float(alpha)) * Rational(float(c)) for c in den]
    high = np.array([float(c) for c in product])
    low = np.array([float(c - Rational(h)) for c, h in zip(product, high.tolist(), strict=True)])
    return accurate_roots(np.append(den, 0.0), num, high, low)
