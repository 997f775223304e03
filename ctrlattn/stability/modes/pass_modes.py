"""den(z) (z - 1) - num(z) (lambda - 1 - k_r) = 0: which eigenvalues of J does a controller over passes leave stable?

Region boundary: lambda(w) = 1 + k_r + (e^{iw} - 1)/C(e^{iw}). For C = g it is the circle of radius 1/g around
1 + k_r - 1/g, and it grows into the half plane Re lambda < 1 + k_r as g falls.

Odd-number limit. At z = 1 the monic polynomial is (1 + k_r - lambda) num(1), and it is positive at infinity. A real
lambda > 1 + k_r thus has a pole beyond 1 under every C with num(1) > 0, as every stable C with C(1) > 0 has. Since
num(1) is of one sign, no C whatever stabilises a real lambda above 1 + k_r together with another below it.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from ctrlattn.arrays import require_number, require_real
from ctrlattn.controllers import PID, as_controller
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.linear.lapack import spectral_radii
from ctrlattn.linear.mode_matrix import mode_matrix
from ctrlattn.linear.mode_polynomial import upper_half
from ctrlattn.linear.pass_polynomial import ALPHA, pass_matrix, pull
from ctrlattn.stability.modes.closed_loop import controller_fraction, controller_response
from ctrlattn.stability.modes.exact_gains import Pencil, Polynomial, pencil, plus, product, stable_at
from ctrlattn.stability.modes.intervals import Interval, MatricesAt, intersection, stable_intervals, unsure

_ONE = Fraction(1)
_NEXT = 1e-6  # how near an end of a closed form its two sides are checked, as a share of the interval


class OddNumberLimit(NamedTuple):
    """Real eigenvalues of J that a controller on e cannot hold, and the recall that would bring them within reach."""

    above: np.ndarray  # real lambda >= 1 + k_r, descending
    below: np.ndarray  # real lambda < 1 + k_r, descending
    edge: float  # 1 + k_r, where the pole is 1 whatever the controller
    recall: float  # k_r has to exceed this for a small gain to be stable: max Re lambda - 1, at least 0
    undecided: np.ndarray  # real lambda that may lie on either side of 1 + k_r by their errors, descending

    @property
    def binds(self) -> bool:
        """Whether an eigenvalue forbids every controller whose numerator is positive at z = 1."""
        return len(self.above) > 0

    @property
    def forbids_every_controller(self) -> bool:
        """Whether not even an unstable controller, or one with C(1) < 0, holds all modes."""
        return self.binds and (len(self.below) > 0 or bool(self.above[-1] == self.edge))

    def in_words(self) -> str:
        """Say what is forbidden, by which eigenvalue, and what would help."""
        if not self.binds and len(self.undecided):
            return (
                f"the real eigenvalue {self.undecided[0]:.6g} of J is at 1 + recall within its error: whether the "
                "odd-number limit forbids a controller is undecided"
            )
        if not self.binds:
            return "no real eigenvalue reaches 1 + recall: the odd-number limit forbids nothing"
        words = (
            f"the real eigenvalue {self.above[0]:.6g} of J is at or above 1 + recall, so no stable controller with "
            "C(1) > 0 stabilises it (odd-number limit)"
        )
        if len(self.below):
            words += f", and no other does so together with {self.below[0]:.6g} below"
        return f"{words}; a recall above {self.recall:.6g} would"


def pass_poles(controller: Any, spectrum: Any, recall: float = 0.0) -> np.ndarray:
    """Return the closed-loop poles of every eigenvalue of J under a controller over passes.

    Parameters
    ----------
    controller : PID, LTIController, python-control system with dt = 1, or None for C = 1
    spectrum : real or complex, any shape
    recall : float, at least 0

    Returns
    -------
    (..., order + 1) complex

    Raises
    ------
    InputError
        An eigenvalue that is not finite, a recall below 0.

    Examples
    --------
    >>> pass_poles(PID(0.25), [-3.0, 3.0]).real.tolist()  # 1 + .25 (lambda - 1)
    [[0.0], [1.5]]
    """
    return np.linalg.eigvals(pass_matrix(_law(controller), _spectrum(spectrum), _recall(recall))).astype(complex)


def passes_stable(controller: Any, spectrum: Any, recall: float = 0.0) -> np.ndarray:
    """Tell whether all poles of each eigenvalue lie strictly inside the unit circle, shaped as the spectrum.

    Certified roots of the exact polynomial decide wherever rounding of the eigenvalues could.

    >>> passes_stable(None, [0.5, -1.0, 1.0]).tolist()
    [True, False, False]
    """
    law, modes, recall = _law(controller), _spectrum(spectrum), _recall(recall)
    flat = modes.ravel()
    size = spectral_radii(pass_matrix(law, flat, recall))
    stable = size < 1.0
    order = len(pass_matrix(law, 0.0)) - 1
    for at in np.flatnonzero(np.abs(size - 1) <= unsure(order + 1)):
        stable[at] = stable_at(gain_pencil(law, complex(flat[at]), recall), 1.0)
    return stable.reshape(modes.shape)


def pass_boundary(controller: Any, omega: Any, recall: float = 0.0) -> np.ndarray:
    """lambda(w) = 1 + k_r + (e^{iw} - 1)/C(e^{iw}): the eigenvalues that have a pole on the circle at angle w.

    Parameters
    ----------
    controller : as for `pass_poles`
    omega : (m,)
        rad/pass.
    recall : float

    Returns
    -------
    (m,) complex
        1 + k_r where the controller has a pole on the circle, infinite where it has a zero there.

    Examples
    --------
    >>> pass_boundary(PID(0.5), np.array([0.0, np.pi])).real.tolist()  # the disk of radius 2 around -1
    [1.0, -3.0]
    """
    omega = require_real("omega", omega)
    if not np.all(np.isfinite(omega)):
        raise InputError("omega must be finite")
    response = controller_response(_law(controller), omega.ravel())
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.where(response == 0, complex(np.inf, 0.0), (np.exp(1j * omega.ravel()) - 1) / response)
    away = np.where(np.isinf(response), 0.0, away)
    return (1 + _recall(recall) + away).reshape(omega.shape)


def stable_gains(controller: Any, spectrum: Any, recall: float = 0.0) -> list[Interval]:
    """Return every real factor g for which g C(z) leaves all eigenvalues stable, as open intervals, ascending.

    A static controller has the closed form 0 < g C < 2 Re w/|w|^2, w = 1 + k_r - lambda, over all eigenvalues. For
    any other the ends come from exact numbers, mode by mode. Both are checked on the poles: stable inside, not outside.

    Parameters
    ----------
    controller, spectrum, recall : as for `pass_poles`

    Returns
    -------
    list of (low, high)
        Empty where none is stable: `odd_number_limit` says whether an eigenvalue forbids it.

    Raises
    ------
    ArithmeticError
        The poles contradict an end.

    Examples
    --------
    >>> stable_gains(None, [-3.0, 0.5])  # 2/(1 + 3)
    [(0.0, 0.5)]
    """
    law, modes, recall = _law(controller), _upper_modes(spectrum), _recall(recall)
    static = _static_gain(law)
    if static is None:
        return _common(
            modes,
            lambda mode: (gain_pencil(law, mode, recall), lambda g: mode_matrix(law, ALPHA, g * pull(mode, recall))),
            "stable_gains",
        )
    if static == 0:
        return []
    w = pull(modes, recall)
    sign = 1.0 if np.all(w.real > 0) else -1.0
    if np.any(sign * w.real <= 0):
        return []
    end = sign * float(np.min(2 * np.abs(w.real) / np.abs(w) ** 2)) / static
    interval = (min(0.0, end), max(0.0, end))
    return _checked_intervals([interval], lambda g: 1 - g * static * w, "stable_gains")


def stable_recalls(controller: Any, spectrum: Any) -> list[Interval]:
    """Return every recall k_r >= 0 with which C(z) leaves all eigenvalues stable, as intervals, ascending.

    A static controller g has the closed form |Re lambda - 1 - k_r + 1/g| < sqrt(1/g^2 - Im^2 lambda). Any other is
    treated as in `stable_gains`. An interval that begins at 0 has 0 in it.

    Parameters
    ----------
    controller, spectrum : as for `pass_poles`

    Examples
    --------
    >>> stable_recalls(PID(0.5), [3.0, 0.0])  # 3 - 1 < k_r < 2/g - 1
    [(2.0, 3.0)]
    """
    law, modes = _law(controller), _upper_modes(spectrum)
    static = _static_gain(law)
    half_line: list[Interval] = [(0.0, math.inf)]
    if static is None:
        intervals = _common(
            modes, lambda mode: (recall_pencil(law, mode), lambda k: pass_matrix(law, mode, k)), "stable_recalls"
        )
        return intersection(half_line, intervals)
    if static == 0 or np.any(np.abs(modes.imag * static) >= 1):  # recall moves a mode along the real axis alone
        return []
    return _static_recalls(static, modes)


def odd_number_limit(spectrum: Any, recall: float = 0.0, *, errors: Any = None) -> OddNumberLimit:
    """Return the real eigenvalues of J that no controller on e can hold.

    Parameters
    ----------
    spectrum : real or complex, any shape
    recall : float
    errors : shaped as spectrum, optional
        How far each eigenvalue may be off. A real one that is no farther from 1 + k_r decides nothing, and neither does
        a complex one beyond it that may be real.

    Returns
    -------
    OddNumberLimit

    References
    ----------
    The same parity argument for delayed feedback: Hooton and Amann, Phys. Rev. Lett. 109 (2012) 154101.

    Examples
    --------
    >>> limit = odd_number_limit([3.3, 0.2, 2.0 + 1.0j, 2.0 - 1.0j])
    >>> limit.above.tolist(), round(limit.recall, 6)
    ([3.3], 2.3)
    """
    modes, recall = _spectrum(spectrum).ravel(), _recall(recall)
    off = np.zeros(len(modes)) if errors is None else require_real("errors", errors).ravel()
    if off.shape != modes.shape or not np.all(off >= 0):
        raise InputError(f"errors must be at least 0, one for each of {len(modes)} eigenvalues")
    real, edge = np.imag(modes) == 0, 1 + recall
    above = real & (modes.real - off >= edge)
    below = real & (modes.real + off < edge)
    open_ = ~above & ~below & (np.abs(np.imag(modes)) <= off) & (modes.real + off >= edge)
    least = max(float(np.max(modes.real)) - 1, 0.0)
    at_edge, stable, holds_not = (np.sort(modes.real[part])[::-1] for part in (open_, below, above))
    return OddNumberLimit(holds_not, stable, edge, least, at_edge)


def gain_pencil(controller: Any, mode: complex, recall: float = 0.0) -> Pencil:
    """Return (z - 1) den + g (1 + k_r - lambda) num, exact, as p + g q."""
    num, den = controller_fraction(controller)
    re, im = _exact_pull(mode, recall)
    return pencil(Polynomial(product([_ONE, -_ONE], den), []), Polynomial([re * x for x in num], [im * x for x in num]))


def recall_pencil(controller: Any, mode: complex) -> Pencil:
    """Return (z - 1) den + (1 - lambda) num + k_r num, exact, as p + k_r q."""
    num, den = controller_fraction(controller)
    re, im = _exact_pull(mode, 0.0)
    p = plus(product([_ONE, -_ONE], den), [re * x for x in num])
    return pencil(Polynomial(p, [im * x for x in num]), Polynomial(num, []))


def _exact_pull(mode: complex, recall: float) -> tuple[Fraction, Fraction]:
    return _ONE + Fraction(float(recall)) - Fraction(float(np.real(mode))), -Fraction(float(np.imag(mode)))


def _common(
    modes: np.ndarray, of_mode: Callable[[complex], tuple[Pencil, MatricesAt]], quantity: str
) -> list[Interval]:
    """Return what the stable intervals of all modes have in common."""
    inside: list[Interval] = [(-math.inf, math.inf)]
    for mode in modes.tolist():
        exact, matrix = of_mode(mode)
        inside = intersection(inside, stable_intervals(exact, matrix, quantity))
        if not inside:
            break
    return inside


def _static_recalls(static: float, modes: np.ndarray) -> list[Interval]:
    """Return k_r within sqrt(1/g^2 - Im^2) of Re lambda - 1 + 1/g: 1 - g w inside the circle, w = 1 - lambda + k_r."""
    half = np.sqrt(1 / static**2 - modes.imag**2)
    middle = modes.real - 1 + 1 / static
    low, high = max(float(np.max(middle - half)), 0.0), float(np.min(middle + half))
    if not low < high:
        return []
    return _checked_intervals([(low, high)], lambda k: 1 - static * pull(modes, k), "stable_recalls")


def _checked_intervals(
    intervals: list[Interval], poles: Callable[[float], np.ndarray], quantity: str
) -> list[Interval]:
    """Return the intervals of a closed form, once the poles are inside the circle within each and not beyond ends."""
    for low, high in intervals:
        near = _NEXT * (high - low)
        outside = [x for x in (low - near, high + near) if quantity == "stable_gains" or x > 0]
        inside = [low + near, (low + high) / 2, high - near]
        sizes = [float(np.max(np.abs(poles(x)))) for x in inside]
        beyond = [float(np.max(np.abs(poles(x)))) for x in outside if x not in inside]
        if max(sizes) >= 1 or min(beyond, default=2.0) < 1:
            raise ArithmeticError(
                f"{quantity}: the closed form gives ({low}, {high}), and the poles beside its ends contradict it: the "
                "eigenvalues are too near 1 + recall for double precision"
            )
    return intervals


def _static_gain(law: Any) -> float | None:
    """Return the number that a controller without memory is; None for one with memory."""
    a, _, _, d = law.realization()
    return float(d[0, 0]) if not len(a) else None


def _law(controller: Any) -> Any:
    law = as_controller(controller)
    return PID(1.0) if law is None else law


def _recall(recall: Any) -> float:
    number = float(require_number("recall", recall))
    if number < 0:
        raise InputError(f"recall must be at least 0, got {recall}")
    return number


def _spectrum(spectrum: Any) -> np.ndarray:
    try:
        modes = np.asarray(spectrum)
    except ValueError:
        modes = np.asarray(None)
    if modes.dtype.kind not in "iufc":
        raise InputTypeError(f"a spectrum is an array of numbers, got {type(spectrum).__name__}")
    if not modes.size or not np.all(np.isfinite(modes)):
        raise InputError("a spectrum needs at least one eigenvalue, all of them finite")
    return modes if modes.dtype.kind == "c" else modes.astype(float)


def _upper_modes(spectrum: Any) -> np.ndarray:
    return np.unique(upper_half(_spectrum(spectrum).ravel()))
