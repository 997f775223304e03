"""p(z) = (z - skip - feedback a) den(z) + num(z) = p_0(z) + sum_i g_i p_i(z): the closed loop in terms of its gains.

A gain is named by the loop ("kp", "ki", "kd" of its PID, "skip", "feedback") and then stands for its absolute value,
or it is any LTI system G, which acts in parallel to the controller as g G(z) with states of its own.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from ctrlattn.arrays import require_real
from ctrlattn.controllers import PID, Fraction, as_controller
from ctrlattn.errors import InputError
from ctrlattn.linear.mode_polynomial import mode_polynomial, roots
from ctrlattn.linear.modes import mode
from ctrlattn.loop import Loop, require_scalar_gains
from ctrlattn.stability.modes.gain_pencils import mode_matrices, parts, require_values

_PID = ("kp", "ki", "kd")
_LOOP = ("skip", "feedback")


class Family(NamedTuple):
    """p_0 (modes, n + 1) and p_i (gains, modes, n + 1), complex, descending powers; p is monic for all gains."""

    fixed: np.ndarray
    terms: np.ndarray
    modes: np.ndarray  # (modes,) complex: eigenvalues of the attention matrix

    def at(self, gains: Any) -> np.ndarray:
        """p for gains (..., gains): (..., modes, n + 1)."""
        return self.fixed + np.einsum("...g,gmk->...mk", require_real("gains", gains), self.terms)


class PoleSensitivity(NamedTuple):
    """d pole / d gain = -p_i(pole) / p'(pole)."""

    poles: np.ndarray  # (n,) complex, descending modulus
    derivative: np.ndarray  # (n, gains) complex; inf at a repeated pole, which moves as a root of the gain


def family(loop: Loop, axes: Sequence[Any], spectrum: Any, quantity: str) -> Family:
    """The polynomials of all modes of a spectrum in the gains `axes`."""
    mode(require_scalar_gains(loop, quantity), 0.0)  # refuses what is not linear and time-invariant
    a = np.atleast_1d(np.asarray(spectrum, dtype=complex)).ravel()
    if not len(a) or not np.all(np.isfinite(a)):
        raise InputError(f"{quantity}: the spectrum must be finite and have at least one mode")
    for axis in axes:
        if isinstance(axis, str) and axis not in (*_PID, *_LOOP):
            raise InputError(f"{quantity}: a gain is one of {(*_PID, *_LOOP)} or an LTI system, got {axis!r}")
    fractions, den = _over_one_denominator([_fixed(loop, axes, quantity), *_terms(loop, axes)])
    skip, feedback = (0.0 if name in axes else getattr(loop, name) for name in _LOOP)
    fixed = mode_polynomial(fractions[0], den, skip + feedback * a)
    moved = {"skip": -np.ones_like(a), "feedback": -a}
    terms = [
        moved[axis][:, None] * np.append(0.0, den) if axis in moved else np.append(0.0, num) * np.ones((len(a), 1))
        for axis, num in zip(axes, fractions[1:], strict=True)
    ]
    return Family(fixed, np.array(terms).reshape(len(axes), len(a), len(den) + 1), a)


def values(p: np.ndarray, z: np.ndarray) -> np.ndarray:
    """p (..., n + 1) at z (..., m), row by row."""
    result = np.zeros(np.broadcast_shapes((*p.shape[:-1], 1), z.shape), dtype=complex)
    for k in range(p.shape[-1]):
        result = result * z + p[..., k, None]
    return result


def pole_sensitivity(loop: Loop, a: complex, gains: Sequence[Any]) -> PoleSensitivity:
    """How fast each closed-loop pole of one mode moves with each gain, at the loop's own gains.

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

    References
    ----------
    Implicit differentiation of p(z; g) = 0; at repeated roots Kato, Perturbation Theory for Linear Operators, ch. 2.

    Examples
    --------
    >>> from ctrlattn import PID, CausalMean, Loop
    >>> moved = pole_sensitivity(Loop(CausalMean(), controller=PID(0.6)), 0.5, ["kp", "feedback"])
    >>> moved.poles.real.round(6).tolist(), moved.derivative.real.tolist()  # pole = 1 - 0.5 - 0.6
    ([-0.1], [[-1.0, 0.5]])
    """
    if np.ndim(a) != 0:
        raise InputError(f"pole_sensitivity is of one mode, got {np.shape(a)} eigenvalues")
    polynomials = family(loop, gains, a, "pole_sensitivity")
    p = polynomials.at(_present(loop, gains))[0]
    poles = roots(p)
    poles = poles[np.argsort(-np.abs(poles), kind="stable")]
    slope = values(p[:-1] * np.arange(len(p) - 1, 0, -1), poles)
    # Rounding parts a double root by the root of the precision: closer poles have no derivative in float64.
    repeated = np.abs(slope) <= 1e-7 * values(np.abs(p).astype(complex), np.abs(poles).astype(complex)).real
    derivative = [-values(term[0], poles) / np.where(repeated, 1.0, slope) for term in polynomials.terms]
    return PoleSensitivity(poles, np.where(repeated[:, None], np.inf, np.array(derivative).T.reshape(len(poles), -1)))


def root_locus(loop: Loop, gain: Any, a: complex, at: Any) -> np.ndarray:
    """Closed-loop poles of one mode as one gain takes the values `at`, each column a branch.

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
    values_at = require_values(at, "root_locus")[:, None]
    mode_of = family(loop, [gain], a, "root_locus").modes
    if len(mode_of) != 1:
        raise InputError(f"root_locus is of one mode, got {len(mode_of)} eigenvalues")
    value = complex(mode_of[0])
    matrices = mode_matrices(parts(loop, [gain]), value.real if value.imag == 0 else value, values_at)
    return branches(np.linalg.eigvals(matrices).astype(complex))


def branches(poles: np.ndarray) -> np.ndarray:
    """Poles (m, n), each row put into the order in which they have moved least since the row before.

    >>> branches(np.array([[0.1, 0.9], [0.8, 0.2]])).tolist()
    [[0.1, 0.9], [0.2, 0.8]]
    """
    ordered = poles.copy()
    for previous, row in pairwise(ordered):
        row[:] = row[linear_sum_assignment(np.abs(previous[:, None] - row[None, :]))[1]]
    return ordered


def _pid(loop: Loop, quantity: str) -> PID:
    controller = loop.controller or PID()
    if not isinstance(controller, PID):
        raise InputError(
            f"{quantity}: kp, ki and kd are gains of a PID, the controller is a {type(controller).__name__}: give the "
            "LTI system that the gain multiplies"
        )
    return controller


def _fixed(loop: Loop, axes: Sequence[Any], quantity: str) -> Fraction:
    """The controller without the gains that vary."""
    varied = [axis for axis in axes if isinstance(axis, str) and axis in _PID]
    if not varied:
        return (loop.controller or PID()).fraction()
    zeros: dict[str, Any] = dict.fromkeys(varied, 0.0)
    return replace(_pid(loop, quantity), **zeros).fraction()


def _terms(loop: Loop, axes: Sequence[Any]) -> list[Fraction]:
    """What each gain multiplies, as a controller; nothing for the gains of the loop."""
    none = (np.zeros(1), np.ones(1))

    def alone(axis: Any) -> Fraction:
        if not isinstance(axis, str):
            return as_controller(axis).fraction()
        if axis in _LOOP:
            return none
        unit: dict[str, Any] = {**dict.fromkeys(_PID, 0.0), axis: 1.0}
        return replace(_pid(loop, "gains"), **unit).fraction()

    return [alone(axis) for axis in axes]


def _present(loop: Loop, axes: Sequence[Any]) -> list[float]:
    controller = loop.controller or PID()
    return [
        0.0 if not isinstance(axis, str) else float(getattr(loop if axis in _LOOP else controller, axis))
        for axis in axes
    ]


def _over_one_denominator(fractions: list[Fraction]) -> tuple[list[np.ndarray], np.ndarray]:
    """Numerators over the product of all denominators, padded to its length; monic."""
    dens = [require_real("the controller", den) for _, den in fractions]
    product = np.ones(1)
    for den in dens:
        product = np.polymul(product, den)
    numerators = []
    for i, (num, _) in enumerate(fractions):
        grown = np.atleast_1d(require_real("the controller", num))
        for j, den in enumerate(dens):
            grown = grown if j == i else np.polymul(grown, den)
        numerators.append(np.pad(grown, (len(product) - len(grown), 0)) / product[0])
    return numerators, product / product[0]
