"""p(z) = (z - skip - feedback a) den(z) + num(z) = p_0(z) + sum_i g_i p_i(z): a mode in terms of its gains.

As polynomials of exact numbers, and as state matrices: the two ways that check each other.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import block_diag

from ctrlattn.arrays import require_real
from ctrlattn.controllers import PID, as_controller
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.linear.mode_matrix import controller_realization
from ctrlattn.linear.realization import Realization
from ctrlattn.loop import Loop
from ctrlattn.stability.modes.closed_loop import controller_fraction
from ctrlattn.stability.modes.exact_gains import Pencil, Polynomial, combined, pencil, plus, product

_PID = ("kp", "ki", "kd")
_LOOP = ("skip", "feedback")
_ZERO = [Fraction(0)]


class GainFactor(NamedTuple):
    """What one gain multiplies: a controller, or skip or feedback themselves."""

    name: str
    matrices: Realization
    num: list[Fraction]
    den: list[Fraction]


class GainFactors(NamedTuple):
    """The controller without the gains, and what each of them multiplies."""

    loop: Loop
    fixed: GainFactor
    axes: tuple[GainFactor, ...]


def parts(loop: Loop, axes: Sequence[Any]) -> GainFactors:
    """Return the controllers behind the gains that `gain_polynomials.family` has accepted."""
    controller = loop.controller or PID()
    varied: dict[str, Any] = {axis: 0.0 for axis in axes if isinstance(axis, str) and axis in _PID}
    fixed = replace(controller, **varied) if isinstance(controller, PID) else controller

    def part(axis: Any) -> GainFactor:
        if not isinstance(axis, str):
            return _part("", as_controller(axis))
        if axis in _LOOP:
            return _part(axis, PID())
        unit: dict[str, Any] = {**dict.fromkeys(_PID, 0.0), axis: 1.0}
        return _part("", replace(controller, **unit))

    return GainFactors(loop, _part("", fixed), tuple(part(axis) for axis in axes))


def mode_polynomials(over: GainFactors, a: complex) -> tuple[Polynomial, list[Polynomial]]:
    """Return p_0 and the p_i of the closed-loop polynomial p_0 + sum_i g_i p_i of mode a, without rounding."""
    all_parts = (over.fixed, *over.axes)
    den = [Fraction(1)]
    for part in all_parts:
        den = product(den, part.den)
    fixed, *terms = (product(part.num, _product_of_others(all_parts, i)) for i, part in enumerate(all_parts))
    slopes = {"": (_ZERO[0], _ZERO[0]), "skip": (Fraction(1), _ZERO[0]), "feedback": _parts_of(a)}
    names = {part.name for part in over.axes}
    skip, feedback = (_ZERO[0] if name in names else Fraction(float(getattr(over.loop, name))) for name in _LOOP)
    re, im = (feedback * x for x in _parts_of(a))
    first = Polynomial(plus([*den, _ZERO[0]], [-(skip + re) * x for x in den], fixed), [-im * x for x in den])
    return first, [
        Polynomial(plus([-slopes[part.name][0] * x for x in den], term), [-slopes[part.name][1] * x for x in den])
        for part, term in zip(over.axes, terms, strict=True)
    ]


def mode_pencil(over: GainFactors, a: complex, first: float) -> Pencil:
    """Return the closed-loop polynomial of mode a at the first gain as p + g q, g the second."""
    fixed, (along, across) = mode_polynomials(over, a)
    return pencil(combined(fixed, [along], [first]), across)


def mode_matrix(over: GainFactors, a: complex, first: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return the closed-loop state matrices of mode a as a function of second gains (m,)."""
    return lambda second: mode_matrices(over, a, np.stack([np.full(len(second), first), second], axis=-1))


def mode_matrices(over: GainFactors, a: complex, gains: np.ndarray) -> np.ndarray:
    """Return the closed-loop state matrices of mode a for gains (..., axes): (..., n, n)."""
    every = (over.fixed, *over.axes)
    a_c = block_diag(*(part.matrices[0] for part in every))
    b_c = np.concatenate([part.matrices[1][:, 0] for part in every])
    factors = [np.ones(gains.shape[:-1]), *np.moveaxis(gains, -1, 0)]
    loop_gains = {part.name: g for part, g in zip(over.axes, factors[1:], strict=True) if part.name}
    alpha = loop_gains.get("skip", over.loop.skip) + loop_gains.get("feedback", over.loop.feedback) * a
    direct = sum(g * part.matrices[3][0, 0] for g, part in zip(factors, every, strict=True))
    n = 1 + len(a_c)
    matrix = np.zeros((*gains.shape[:-1], n, n), dtype=np.result_type(type(a), float))
    matrix[..., 0, 0], matrix[..., 1:, 0], matrix[..., 1:, 1:] = alpha - direct, -b_c, a_c
    rows = [g[..., None] * part.matrices[2][0] for g, part in zip(factors, every, strict=True)]
    matrix[..., 0, 1:] = np.concatenate(rows, axis=-1)
    return matrix


def require_values(values: Any, quantity: str) -> np.ndarray:
    """Return the values of one gain as finite numbers (m,)."""
    array = require_gains([values], -1, quantity)[0]
    if array.ndim != 1:
        raise InputError(f"{quantity}: the values of one gain are (m,), got shape {array.shape}")
    return array


def require_gains(gains: Any, axes: int, quantity: str) -> np.ndarray:
    """Return gains as finite numbers (..., axes); any number of them for axes = -1."""
    try:
        values = require_real("gains", gains)
    except (TypeError, ValueError):
        raise InputTypeError(f"{quantity}: gains must be real numbers, got {gains!r}") from None
    if axes >= 0 and (not values.ndim or values.shape[-1] != axes):
        raise InputError(f"{quantity}: gains are (..., {axes}), one for each axis, got shape {values.shape}")
    if not np.all(np.isfinite(values)):
        raise InputError(f"{quantity}: gains must be finite")
    return values


def _part(name: str, controller: Any) -> GainFactor:
    return GainFactor(name, controller_realization(controller), *controller_fraction(controller))


def _product_of_others(all_parts: tuple[GainFactor, ...], i: int) -> list[Fraction]:
    result = [Fraction(1)]
    for j, part in enumerate(all_parts):
        if j != i:
            result = product(result, part.den)
    return result


def _parts_of(a: complex) -> tuple[Fraction, Fraction]:
    return Fraction(float(np.real(a))), Fraction(float(np.imag(a)))
