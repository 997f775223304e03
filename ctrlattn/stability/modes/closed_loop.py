"""z - alpha + C(z) = 0 without rounding: the closed-loop polynomial of a mode as exact numbers, and C on the circle."""

from fractions import Fraction
from typing import Any

import numpy as np

from ctrlattn.controllers import PID, as_controller
from ctrlattn.errors import InputTypeError
from ctrlattn.linear.mode_matrix import controller_realization, given_fraction
from ctrlattn.stability.modes.exact_gains import Pencil, Polynomial, as_fractions, exact_fraction, pencil, plus, product


def known_controller(controller: Any, quantity: str) -> Any:
    """Return the controller; None is no controller, and is refused where one is asked for."""
    law = as_controller(controller)
    if law is None:
        raise InputTypeError(f"{quantity} needs a controller, got None; without one a mode is stable for |alpha| < 1")
    return law


def controller_fraction(controller: Any) -> tuple[list[Fraction], list[Fraction]]:
    """Return (num, den) of C(z), exact."""
    controller = as_controller(controller) or PID()
    fraction = given_fraction(controller) if not isinstance(controller, PID) else None
    if fraction is None:
        return exact_fraction(*(np.asarray(m, dtype=float) for m in controller.realization()))
    return as_fractions(fraction[0]), as_fractions(fraction[1])


def controller_response(controller: Any, omega: np.ndarray) -> np.ndarray:
    """Return C(e^{iw}), (m,); infinite at a pole."""
    values = controller_realization(controller).responses(omega)[0, 0]
    return np.where(np.isfinite(values), values, complex(np.inf, 0.0))


def pencil_in_alpha(controller: Any) -> Pencil:
    """Return z den + num - alpha den as a pencil in alpha."""
    num, den = controller_fraction(controller)
    return pencil(Polynomial(plus([*den, Fraction(0)], num), []), Polynomial([-x for x in den], []))


def mode_pencil(controller: Any, alpha: complex) -> Pencil:
    """Return (z - alpha) den + num as a pencil without a gain."""
    num, den = controller_fraction(controller)
    re = plus(product([Fraction(1), -Fraction(float(np.real(alpha)))], den), num)
    im = [-Fraction(float(np.imag(alpha))) * x for x in den]
    return pencil(Polynomial(re, im), Polynomial([], []))
