"""How the closed-loop poles of a mode move with its gains: p(z) = p_0(z) + sum_i g_i p_i(z), coefficients exact.

A gain is named by the loop ("kp", "ki", "kd" of its PID, "skip", "feedback") and then stands for its absolute value,
or it is any LTI system G, which acts in parallel to the controller as g G(z) with states of its own.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ctrlattn.arrays import require_numbers, require_real
from ctrlattn.controllers import PID, as_controller
from ctrlattn.errors import InputError, InputTypeError, shown
from ctrlattn.linear.boundary import EPS
from ctrlattn.linear.modes import mode
from ctrlattn.linear.polynomial_roots import integer_roots
from ctrlattn.loop import Loop, require_scalar_gains
from ctrlattn.stability.modes.exact_gains import Polynomial, combined, moduli, over_integers, slope, values_at
from ctrlattn.stability.modes.gain_pencils import GainFactors, mode_matrices, mode_polynomials, parts, require_values

_PID = ("kp", "ki", "kd")
_LOOP = ("skip", "feedback")
_POLISH = 50  # steps, of which a cluster may take many
_TRACES = 1e-6  # how far the two ways may differ


class PoleSensitivity(NamedTuple):
    """d pole / d gain = -p_i(pole) / p'(pole)."""

    poles: np.ndarray  # (n,) complex, descending modulus
    derivative: np.ndarray  # (n, gains) complex; inf at a repeated pole, which moves as a root of the gain


def gain_modes(loop: Loop, axes: Sequence[Any], spectrum: Any, quantity: str) -> np.ndarray:
    """Return the complex modes (m,) of a spectrum; raise InputError unless the loop is affine in the gains `axes`."""
    mode(require_scalar_gains(loop, quantity), 0.0)  # refuses what is not linear and time-invariant
    a = require_numbers(f"{quantity}: the spectrum", spectrum).astype(complex).ravel()
    if not isinstance(axes, list | tuple | np.ndarray):
        raise InputTypeError(f"{quantity}: the gains must be a list of names or LTI systems, got {shown(axes)}")
    if not len(a) or not np.all(np.isfinite(a)):
        raise InputError(f"{quantity}: the spectrum must be finite and have at least one mode")
    for axis in axes:
        if isinstance(axis, str) and axis not in (*_PID, *_LOOP):
            raise InputError(f"{quantity}: a gain is one of {(*_PID, *_LOOP)} or an LTI system, got {axis!r}")
        if not isinstance(axis, str):
            require_real("the controller", as_controller(axis).fraction()[1])
        elif axis in _PID and not isinstance(loop.controller or PID(), PID):
            raise InputError(
                f"{quantity}: kp, ki and kd are gains of a PID, the controller is a {type(loop.controller).__name__}: "
                "give the LTI system that the gain multiplies"
            )
    return a


def real_if_real(a: complex) -> complex:
    """Return a float where the imaginary part is zero: real modes have real matrices."""
    return a.real if a.imag == 0 else a


def pole_sensitivity(loop: Loop, a: complex, gains: Sequence[Any]) -> PoleSensitivity:
    """Return how fast each closed-loop pole of one mode moves with each gain, at the loop's own gains.

    Parameters
    ----------
    loop : Loop
        Parallel order, no normalizer, as for `mode`.
    a : real or complex
        Eigenvalue of the attention matrix.
    gains : sequence
        "kp", "ki", "kd", "skip", "feedback", or LTI systems whose gain is 0 in the loop as it is.

    Returns
    -------
    PoleSensitivity

    Raises
    ------
    InputError
        A loop that is not linear and time-invariant, an unknown gain, the gain of a PID where there is none.
    ArithmeticError
        The state matrix of the closed loop contradicts a derivative: the power sums of the poles move as the traces
        of its powers.

    References
    ----------
    Implicit differentiation of p(z; g) = 0; at repeated roots Kato, Perturbation Theory for Linear Operators, ch. 2.

    Examples
    --------
    >>> from ctrlattn import PID, CausalMean, Loop
    >>> motion = pole_sensitivity(Loop(CausalMean(), controller=PID(0.6)), 0.5, ["kp", "feedback"])
    >>> motion.poles.real.round(6).tolist(), motion.derivative.real.tolist()  # pole = 1 - 0.5 - 0.6
    ([-0.1], [[-1.0, 0.5]])
    """
    if np.ndim(require_numbers("pole_sensitivity: the mode", a)) != 0:
        raise InputError(f"pole_sensitivity is of one mode, got {np.shape(a)} eigenvalues")
    alpha = real_if_real(complex(gain_modes(loop, gains, a, "pole_sensitivity")[0]))
    over, present = parts(loop, gains), _present(loop, gains)
    fixed, terms = mode_polynomials(over, alpha)
    p = combined(fixed, terms, present.tolist())
    poles = _poles(p, mode_matrices(over, alpha, present))
    falls = values_at(slope(p), poles)
    # The last digits of the given gains part a double root by their root: closer poles have no derivative.
    size = np.abs(values_at(moduli(p), np.abs(poles)))
    repeated = np.abs(falls) <= 1e-7 * size
    derivatives = np.array([-values_at(term, poles) / np.where(repeated, 1.0, falls) for term in terms])
    derivatives = derivatives.T.reshape(len(poles), len(gains))
    if not repeated.any():
        _require_traces(over, alpha, present, poles, derivatives)
    return PoleSensitivity(poles, np.where(repeated[:, None], np.inf, derivatives))


def _poles(p: Polynomial, matrix: np.ndarray) -> np.ndarray:
    """Return roots of exact numbers, by descending modulus: certified for a real mode, else polished eigenvalues."""
    (whole,), _ = over_integers(p)
    poles = np.linalg.eigvals(matrix).astype(complex) if any(whole.im) else integer_roots(whole.re)
    for _ in range(_POLISH if any(whole.im) else 0):
        step = values_at(p, poles)
        falls = values_at(slope(p), poles)
        apart = poles[:, None] - poles
        # Ehrlich and Aberth: Newton's step, which the other roots push away.
        far = np.abs(apart) > EPS * np.abs(poles)
        push = np.sum(np.divide(1, apart, out=np.zeros_like(apart), where=far), axis=1)
        below = falls - step * push
        step = np.divide(step, below, out=np.zeros_like(step), where=below != 0)
        poles = poles - step
        if np.all(np.abs(step) <= EPS * np.abs(poles)):
            break
    return poles[np.argsort(-np.abs(poles), kind="stable")]


def _require_traces(
    over: GainFactors, a: complex, gains: np.ndarray, poles: np.ndarray, derivatives: np.ndarray
) -> None:
    """Check by the state matrix that sum_k poles_k^(m-1) d poles_k / dg = tr(M^(m-1) dM/dg) for m = 1 ... n."""
    matrix, still = mode_matrices(over, a, gains), mode_matrices(over, a, np.zeros(len(gains)))
    slopes = mode_matrices(over, a, np.eye(len(gains))) - still
    power = np.eye(len(matrix))
    for m in range(len(matrix)):
        traces = np.array([np.trace(power @ slope) for slope in slopes])
        sums = poles**m @ derivatives
        size = np.abs(poles) ** m @ np.abs(derivatives) + np.linalg.norm(power) * np.linalg.norm(slopes, axis=(1, 2))
        if np.any(np.abs(traces - sums) > _TRACES * size):
            raise ArithmeticError(
                "pole_sensitivity: the polynomial and the state matrix of the closed loop give different derivatives: "
                "rounding of the state space moves its poles. Give the system in triangular (modal) form"
            )
        power = power @ matrix


def root_locus(loop: Loop, gain: Any, a: complex, at: Any) -> np.ndarray:
    """Return the closed-loop poles of one mode as one gain takes the values `at`, each column a branch.

    Parameters
    ----------
    loop, a : as for `pole_sensitivity`
    gain : one of its gains
    at : (m,)

    Returns
    -------
    (m, n) complex
        Consecutive rows are matched so that the total distance moved is smallest.

    Raises
    ------
    InputError
        As `pole_sensitivity`; values that are not (m,) or not finite.

    Examples
    --------
    >>> from ctrlattn import PID, CausalMean, Loop
    >>> root_locus(Loop(CausalMean(), controller=PID(0.6)), "kp", 0.5, [0.0, 0.25, 1.0]).real.ravel().tolist()
    [0.5, 0.25, -0.5]
    """
    gains = require_values(at, "root_locus")[:, None]
    modes = gain_modes(loop, [gain], a, "root_locus")
    if len(modes) != 1:
        raise InputError(f"root_locus is of one mode, got {len(modes)} eigenvalues")
    matrices = mode_matrices(parts(loop, [gain]), real_if_real(complex(modes[0])), gains)
    return branches(np.linalg.eigvals(matrices).astype(complex))


def branches(poles: np.ndarray) -> np.ndarray:
    """Return the poles (m, n), each row put into the order in which they have moved least since the row before.

    >>> branches(np.array([[0.1, 0.9], [0.8, 0.2]])).tolist()
    [[0.1, 0.9], [0.2, 0.8]]
    """
    from scipy.optimize import linear_sum_assignment

    ordered = poles.copy()
    for previous, row in pairwise(ordered):
        row[:] = row[linear_sum_assignment(np.abs(previous[:, None] - row[None, :]))[1]]
    return ordered


def _present(loop: Loop, axes: Sequence[Any]) -> np.ndarray:
    controller = loop.controller or PID()
    values = (
        0.0 if not isinstance(axis, str) else float(getattr(loop if axis in _LOOP else controller, axis))
        for axis in axes
    )
    return np.array([*values])
