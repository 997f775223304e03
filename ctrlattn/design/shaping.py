"""||[I; K] (I - G K)^-1 [I, G]||_inf <= 1/eps, G = W/(z - alpha): a loop shaped by W, then made as robust as it can be.

Normalised coprime factors (Glover and McFarlane): the largest eps has a formula in two Riccati solutions, no
iteration. s = (z - 1)/(z + 1) maps the circle onto the imaginary axis and leaves the norm as it is.
"""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import solve_continuous_are

from ctrlattn.arrays import require_number
from ctrlattn.controllers import LTIController, as_controller
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.linear import mode, open_loop_pole
from ctrlattn.loop import Loop

if TYPE_CHECKING:
    import control

_EDGE = 1e-9


@dataclass(frozen=True)
class Shaped:
    """A controller of H-infinity loop shaping."""

    controller: LTIController  # W times the robust controller, negative feedback as everywhere
    loop: Loop  # the loop with it
    plant: "control.StateSpace"  # G = W/(z - alpha), what nu_gap compares
    margin: float  # eps: G may move by less than this in the nu-gap (`stability.nu_gap`)
    largest: float  # eps no controller exceeds for this W

    @property
    def gain_margin(self) -> float:
        """At least (1 + eps)/(1 - eps), up and down."""
        return (1 + self.margin) / (1 - self.margin)

    @property
    def phase_margin(self) -> float:
        """At least 2 asin(eps), in degrees."""
        return math.degrees(2 * math.asin(self.margin))


def loop_shaping(loop: Loop, a: float, weight: Any, *, excess: float = 1.1) -> Shaped:
    """Shape the loop of one mode by H-infinity: the weight says at which frequencies the loop transfer is large.

    Unlike `tune` it needs no search. It knows one mode; by `nu_gap` its margin covers the modes near it,
    and `performance(shaped.loop, spectrum)` tells what it does to all.

    Parameters
    ----------
    loop : Loop
        As for `mode`; its controller is not used.
    a : real
        Eigenvalue of attention.
    weight : PID, LTIController or python-control system with dt = 1
        W: the controller one would like to have, such as PID(0.3, 0.3) for an integral.
    excess : float, above 1
        1/eps over its smallest value; at 1 itself the formula divides by zero.

    Returns
    -------
    Shaped

    Raises
    ------
    InputTypeError
        No weight, or one that is no controller.
    InputError
        A mode that is not real, a plant or weight with a pole at z = -1, an excess that is not above 1, a loop that is
        not linear and time-invariant.

    References
    ----------
    McFarlane and Glover, IEEE Trans. Automatic Control 37 (1992) 759; Skogestad and Postlethwaite, Multivariable
    Feedback Control, 2nd edition, section 9.4.

    Examples
    --------
    >>> from ctrlattn import PID, presets
    >>> shaped = loop_shaping(presets.get("neutreno"), 0.5, PID(0.3, 0.3))
    >>> round(shaped.margin, 3), round(shaped.largest, 3)
    (0.543, 0.597)
    """
    mode(loop, a)
    if np.iscomplexobj(a):
        raise InputError(f"loop_shaping is for one real mode, got a = {a}")
    excess = float(require_number("excess", excess))
    if not excess > 1:
        raise InputError(f"excess must be above 1, got {excess}")
    if weight is None:
        raise InputTypeError(
            "loop_shaping needs a weight: the controller one would like to have, such as PID(0.3, 0.3)"
        )
    import control

    w = control.ss(*as_controller(weight).realization(), 1, remove_useless_states=False)
    plant = control.ss(float(open_loop_pole(loop, a)), 1.0, 1.0, 0.0, 1) * w
    k, largest = _robust(plant.A, plant.B, plant.C, plant.D, excess)
    controller = LTIController(w * control.ss(k[0], k[1], -k[2], -k[3], 1, remove_useless_states=False))
    return Shaped(controller, replace(loop, controller=controller), plant, largest / excess, largest)


def _robust(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray, excess: float) -> Any:
    """Return (A, B, C, D) of K with positive feedback, and the largest eps."""
    if np.min(np.abs(np.linalg.eigvals(a) + 1)) < _EDGE:
        raise InputError("loop_shaping: the plant or the weight has a pole at z = -1")
    a, b, c, d = _to_axis(a, b, c, d)
    eye = np.eye(len(a))
    s, r = np.eye(d.shape[1]) + d.T @ d, np.eye(d.shape[0]) + d @ d.T
    free = a - b @ np.linalg.solve(s, d.T @ c)
    try:
        x = solve_continuous_are(free, b, c.T @ np.linalg.solve(r, c), s)
        z = solve_continuous_are(free.T, c.T, b @ np.linalg.solve(s, b.T), r)
    except np.linalg.LinAlgError as error:
        raise InputError(
            f"loop_shaping: the Riccati equations of this mode and weight have no solution: {error}"
        ) from error
    smallest = math.sqrt(1 + float(np.max(np.linalg.eigvals(x @ z).real)))
    gamma = excess * smallest
    f = -np.linalg.solve(s, d.T @ c + b.T @ x)
    w = (1 - gamma**2) * eye + x @ z
    injection = gamma**2 * np.linalg.solve(w.T, z @ c.T)
    return _to_circle(a + b @ f + injection @ (c + d @ f), injection, b.T @ x, -d.T), 1 / smallest


def _to_axis(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return G((1 + s)/(1 - s))."""
    inverse = np.linalg.inv(a + np.eye(len(a)))
    return inverse @ (a - np.eye(len(a))), math.sqrt(2) * inverse @ b, math.sqrt(2) * c @ inverse, d - c @ inverse @ b


def _to_circle(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return G((z - 1)/(z + 1))."""
    inverse = np.linalg.inv(np.eye(len(a)) - a)
    return inverse @ (np.eye(len(a)) + a), math.sqrt(2) * inverse @ b, math.sqrt(2) * c @ inverse, d + c @ inverse @ b
