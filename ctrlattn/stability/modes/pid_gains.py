"""(1 - D + 2 D c)(1 + q^2 - 2 q c) = I g, c = cos w, q = 1 - g: intervals and shares of many PID gains at once.

The equation says where the ema law puts a pole of a real mode on the circle between z = 1 and z = -1. It has two roots
at most, so that all critical modes of a cell are known in closed form. What a closed form leaves near a tie is not
decided here: the answer says so, and the functions for one controller decide it.
"""

from typing import NamedTuple

import numpy as np

from ctrlattn.controllers import PID, PIDForm
from ctrlattn.errors import InputError
from ctrlattn.linear.lapack import spectral_radii
from ctrlattn.linear.mode_polynomial import mode_polynomial, open_loop_pole, reflection
from ctrlattn.loop import Loop
from ctrlattn.stability.modes.regions import MARGINAL, printed_interval

_NEAR = 1e-6  # a reflection coefficient this near the circle, or a tie this near, decides nothing
_BESIDE = 1e-4  # how near an end its two sides are checked, as a share of the interval


class PIDTerms(NamedTuple):
    """C(z) of one law over one denominator: numerator and realization are linear in the gains (kp, ki, kd).

    Terms whose gain is 0 in every cell have no memory, as in `PID`.
    """

    num: np.ndarray  # (3, order + 1)
    den: np.ndarray  # (order + 1,)
    a: np.ndarray  # (order, order)
    b: np.ndarray  # (order, 1)
    c: np.ndarray  # (3, order)
    d: np.ndarray  # (3,)

    def matrices(self, gains: np.ndarray, alpha: np.ndarray) -> np.ndarray:
        """Return `mode_matrix` of every pair of gains (k, 3) and mode (k,): (k, order + 1, order + 1)."""
        matrix = np.zeros((len(gains), len(self.a) + 1, len(self.a) + 1), dtype=np.result_type(alpha, float))
        matrix[:, 0, 0] = alpha - gains @ self.d
        matrix[:, 0, 1:], matrix[:, 1:, 0], matrix[:, 1:, 1:] = gains @ self.c, -self.b[:, 0], self.a
        return matrix


def pid_terms(form: PIDForm, ema: float, *, integral: bool, derivative: bool) -> PIDTerms:
    """Return the terms of a law; `integral` and `derivative` say which of its gains are not 0.

    >>> pid_terms("printed", 0.3, integral=True, derivative=False).num.tolist()  # kp (z - 1) + ki z over z - 1
    [[1.0, -1.0], [1.0, 0.0], [0.0, 0.0]]
    """

    def law(kp: float, more_integral: float = 0.0, more_derivative: float = 0.0) -> PID:
        return PID(kp, integral + more_integral, derivative + more_derivative, form=form, ema=ema)

    # The law is linear in each gain that is not 0: the differences of two laws are its terms.
    steps = (law(1.0), law(0.0, float(integral)), law(0.0, 0.0, float(derivative)))
    base, den = law(0.0).fraction()
    num = np.stack([_pad(step.fraction()[0], len(den)) - _pad(base, len(den)) for step in steps])
    a, b, c, d = law(0.0).realization()
    rows, direct = zip(*((step.realization()[2] - c, step.realization()[3] - d) for step in steps), strict=True)
    return PIDTerms(num, den, a, b, np.concatenate(rows), np.concatenate(direct)[:, 0])


def pid_intervals(gains: np.ndarray, form: PIDForm, ema: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `stability_interval` of many PID gains at once.

    Parameters
    ----------
    gains : (k, 3)
        kp, ki, kd.
    form, ema : as for `PID`

    Returns
    -------
    low, high : (k,)
        nan where no real mode is stable.
    sure : (k,) bool
        False where a tie, several intervals or a failed check leave the answer to `stability_interval`.

    Raises
    ------
    InputError
        Gains of another shape, or not finite.

    References
    ----------
    Jury, Theory and Application of the z-Transform Method, 1964, chapter 3 (printed law); Neimark's D-decomposition,
    Gryazina and Polyak, Automatica 42, 2006 (ema law).

    Examples
    --------
    >>> low, high, sure = pid_intervals(np.array([[0.8, 0.5, 0.05], [0.0, -0.1, 0.0]]), "printed")
    >>> low.round(6).tolist(), high.round(6).tolist(), sure.tolist()
    ([0.15, nan], [1.82381, nan], [True, True])
    """
    gains = _gains(gains)
    if form == "printed":
        low, high = printed_interval(*gains.T)
        return low, high, np.ones(len(gains), bool)
    ema = PID(form=form, ema=ema).ema
    return _ema_intervals(gains, ema)


def pid_unstable_share(
    loop: Loop, modes: np.ndarray, gains: np.ndarray, form: PIDForm = "printed", ema: float = 0.3
) -> np.ndarray:
    """Return `unstable_share` of the loop under many PID gains at once.

    The reflection coefficients of p(rho z), rho = 1 + 1e-9, decide; where one is within 1e-6 of the circle, the
    eigenvalues of the closed loop do, as in `unstable_share`.

    Parameters
    ----------
    loop : Loop
        Its controller is replaced by each of the gains.
    modes : (m,) real or complex
        Eigenvalues of attention.
    gains : (k, 3)
        kp, ki, kd.
    form, ema : as for `PID`

    Returns
    -------
    (k,)

    Raises
    ------
    InputError
        Gains of another shape, or not finite; no mode.

    Examples
    --------
    >>> from ctrlattn import presets
    >>> gains = np.array([[0.8, 0.5, 0.05]])
    >>> pid_unstable_share(presets.get("pidformer-printed"), np.array([0.0, 1.0]), gains).tolist()
    [0.5]
    """
    gains, modes = _gains(gains), np.asarray(modes).ravel()
    if not len(modes):
        raise InputError("the share of unstable modes needs at least one mode")
    folded = modes.real if np.all(modes.imag == 0) else modes.real + 1j * np.abs(modes.imag)
    distinct, count = np.unique(folded, return_counts=True)
    alpha = open_loop_pole(loop, distinct)
    share = np.empty(len(gains))
    for terms, cells in by_memory(gains, form, ema):
        share[cells] = _outside(terms, gains[cells], alpha) @ count / len(modes)
    return share


def by_memory(gains: np.ndarray, form: PIDForm, ema: float) -> list[tuple[PIDTerms, np.ndarray]]:
    """Group the cells that have the same memory, by which of ki and kd are 0: (terms, their places)."""
    pattern = 2 * (gains[:, 1] != 0) + (gains[:, 2] != 0)
    groups = [(int(k), np.flatnonzero(pattern == k)) for k in np.unique(pattern)]
    return [(pid_terms(form, ema, integral=k >= 2, derivative=k % 2 == 1), cells) for k, cells in groups]


def _outside(terms: PIDTerms, gains: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Tell whether the closed loop of these gains and this mode has a pole outside the circle, (k, m) bool."""
    from ctrlattn.kernels.schur_cohn import OUTSIDE, UNSURE, verdicts

    fixed = mode_polynomial(gains @ terms.num, terms.den, 0.0)
    shrink = (1 + MARGINAL) ** -np.arange(fixed.shape[1], dtype=float)
    slope = np.append(0.0, terms.den) * shrink
    verdict = verdicts((fixed * shrink).astype(alpha.dtype), slope.astype(alpha.dtype), alpha, _NEAR)
    cell, mode = np.nonzero(verdict == UNSURE)
    outside = verdict == OUTSIDE
    if len(cell):
        outside[cell, mode] = spectral_radii(terms.matrices(gains[cell], alpha[mode])) > 1 + MARGINAL
    return outside


def _ema_intervals(gains: np.ndarray, g: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (low, high, sure) by critical modes and one check of each segment: within _NEAR of a tie none is sure."""
    kp, ki, kd = gains.T
    with np.errstate(all="ignore"):
        c, tie = _crossings(ki, kd, g)
        inner = _critical(gains, c, g)
        cuts = np.sort(np.stack([1 + kp + ki, kp - 1 - ki * g / (2 - g) - 2 * kd, *inner], axis=1), axis=1)  # nan last
        size = 1 + np.nanmax(np.abs(cuts), axis=1)
        width = np.diff(cuts, axis=1)
        tie |= np.any(width < _NEAR * size[:, None], axis=1)
        stable, unsure = _stability_of(gains, g, cuts[:, :-1] + width / 2)
        tie |= np.any(unsure & np.isfinite(width), axis=1)
        stable &= np.isfinite(width)
        several = np.sum(stable, axis=1) > 1
        at = np.argmax(stable, axis=1)[:, None]
        low, high = (np.take_along_axis(cuts[:, s], at, axis=1)[:, 0] for s in (slice(0, -1), slice(1, None)))
        holds = _ends_hold(gains, g, low, high)
    any_stable = np.any(stable, axis=1)
    low, high = (np.where(any_stable, end, np.nan) for end in (low, high))
    return low, high, ~tie & ~several & (holds | ~any_stable)


def _crossings(ki: np.ndarray, kd: np.ndarray, g: float) -> tuple[np.ndarray, np.ndarray]:
    """Return cos w of the two crossings, (2, k), nan where there is none; and where rounding could add or lose one."""
    q = 1 - g
    a, b, e = -4 * q * kd, 2 * kd * (1 + q * q) - 2 * q * (1 - kd), (1 - kd) * (1 + q * q) - ki * g
    root = b * b - 4 * a * e
    large = -(b + np.copysign(np.sqrt(root), b)) / 2  # no difference of near numbers
    c = np.stack([large / a, e / large])
    near_end = np.any(np.abs(np.abs(c) - 1) < _NEAR, axis=0)
    scale = b * b + np.abs(4 * a * e)
    tie = near_end | (np.abs(root) < _NEAR * scale) | ((scale == 0) & (e == 0))
    return np.where(np.abs(c) < 1, c, np.nan), tie


def _critical(gains: np.ndarray, c: np.ndarray, g: float) -> np.ndarray:
    """Return Re(z + C(z)) at z = e^{iw}, cos w = c: (2, k)."""
    kp, ki, kd = gains.T
    q = 1 - g
    return np.asarray(c + kp + ki * g * (c - q) / (1 + q * q - 2 * q * c) + kd * (c - (2 * c * c - 1)))


def _stability_of(gains: np.ndarray, g: float, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tell whether the mode is stable, and whether that is not sure, (k, s) bool each, by reflection coefficients."""
    largest = np.full(alpha.shape, np.inf)
    for terms, cells in by_memory(gains, "ema", g):
        p = mode_polynomial((gains[cells] @ terms.num)[:, None, :], terms.den, np.nan_to_num(alpha[cells]))
        largest[cells] = reflection(p)
    return largest < 1, np.abs(largest - 1) < _NEAR


def _ends_hold(gains: np.ndarray, g: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Tell whether the loop is stable on this side of both ends, and not stable on the other."""
    near = _BESIDE * np.minimum(high - low, 1.0)
    stable, unsure = _stability_of(gains, g, np.stack([low + near, high - near, low - near, high + near], axis=1))
    del unsure  # reflection coefficients near an end are near 1, on the side that they should be
    return np.asarray(np.all(stable == [True, True, False, False], axis=1))


def _gains(gains: np.ndarray) -> np.ndarray:
    gains = np.asarray(gains, dtype=float)
    if gains.ndim != 2 or gains.shape[1] != 3 or not np.all(np.isfinite(gains)):
        raise InputError(f"gains are (k, 3), kp, ki, kd, all finite, got shape {gains.shape}")
    return gains


def _pad(num: np.ndarray, size: int) -> np.ndarray:
    return np.pad(num, (size - len(num), 0))
