"""p(z) = (z - alpha) den(z) + num(z), T = num/p, S = (z - alpha) den/p: one mode under the controller C = num/den.

alpha = skip + feedback a is the pole of the mode without a controller. What a polynomial says of the mode stands here
and nowhere else: its roots, whether they lie in the circle, T(1), S on the circle, the step response and its figures.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrlattn.arrays import require_real
from ctrlattn.errors import InputError
from ctrlattn.loop import Loop, require_scalar_gains

BAND = 0.02  # half-width of the settling band, as a share of the change


def open_loop_pole(loop: Loop, a: Any) -> Any:
    """Return alpha = skip + feedback a: where mode a has its pole before a controller acts; a number or an array.

    >>> from ctrlattn import CausalMean, Loop
    >>> open_loop_pole(Loop(CausalMean(), skip=1.0, feedback=-1.0), 0.25)
    0.75
    """
    loop = require_scalar_gains(loop, "open_loop_pole")
    return loop.skip + loop.feedback * a


def attention_eigenvalue(loop: Loop, alpha: Any) -> Any:
    """Return a = (alpha - skip)/feedback, whose mode has this open-loop pole; a number or an array.

    It is the inverse of `open_loop_pole`. It raises InputError where feedback = 0: then every a has the pole `skip`.

    >>> from ctrlattn import CausalMean, Loop
    >>> attention_eigenvalue(Loop(CausalMean(), skip=1.0, feedback=-1.0), 0.75)
    0.25
    """
    loop = require_scalar_gains(loop, "attention_eigenvalue")
    if loop.feedback == 0:
        raise InputError("attention_eigenvalue: with feedback = 0 the pole is skip for every eigenvalue of attention")
    return (alpha - loop.skip) / loop.feedback


def mode_polynomial(num: np.ndarray, den: np.ndarray, alpha: Any) -> np.ndarray:
    """Return (z - alpha) den(z) + num(z), monic, in descending powers.

    Parameters
    ----------
    num : (..., m), m <= order + 1
    den : (order + 1,)
    alpha : real or complex, (...)

    Returns
    -------
    (..., order + 2)
        Over the common shape of num without its last axis and alpha.

    Examples
    --------
    >>> mode_polynomial(np.array([0.6]), np.array([1.0]), 0.5).tolist()  # z - 0.5 + 0.6
    [1.0, 0.09999999999999998]
    """
    num, den = np.asarray(num) / den[0], np.asarray(den) / den[0]
    padding = np.zeros((*num.shape[:-1], len(den) + 1 - num.shape[-1]))
    without = np.append(den, 0.0) + np.concatenate([padding, num], axis=-1)
    return without - np.asarray(alpha)[..., None] * np.append(0.0, den)


def roots(p: np.ndarray) -> np.ndarray:
    """Return the roots of monic polynomials, (..., n + 1) -> (..., n) complex: eigenvalues of the companion matrices.

    >>> roots(np.array([1.0, 0.0, -0.25])).real.round(12).tolist()
    [0.5, -0.5]
    """
    order = p.shape[-1] - 1
    companion = np.zeros((*p.shape[:-1], order, order), dtype=complex)
    companion[..., 0, :] = -p[..., 1:]
    companion[..., np.arange(1, order), np.arange(order - 1)] = 1.0
    return np.linalg.eigvals(companion)


def reflection(p: np.ndarray) -> np.ndarray:
    """Return the largest |reflection coefficient| of monic polynomials, (..., n + 1) -> (...).

    It is below 1 if and only if all roots are inside the circle (Schur, Cohn), and infinite where the recursion
    divides by 0.

    >>> reflection(np.array([[1.0, -0.5], [1.0, -2.0]])).tolist()
    [0.5, 2.0]
    """
    p = np.asarray(p, dtype=complex)
    largest = np.zeros(p.shape[:-1])
    with np.errstate(all="ignore"):
        while p.shape[-1] > 1:
            k = p[..., -1:]
            largest = np.fmax(largest, np.abs(k[..., 0]))
            p = ((p - k * np.conj(p[..., ::-1])) / (1 - np.abs(k) ** 2))[..., :-1]
            largest = np.where(np.all(np.isfinite(p), axis=-1), largest, np.inf)
    return largest


def static_gain(num: np.ndarray, den: np.ndarray, alpha: Any) -> np.ndarray:
    """Return T(1) = C(1)/(1 - alpha + C(1)): the share of a constant reference that the mode reaches.

    Both sides are multiplied by den(1), which is 0 for an integrator. Without a controller no way leads from the
    reference to the state, and T(1) = 0. It is nan where a pole lies at z = 1.

    >>> float(static_gain(np.array([0.6]), np.array([1.0]), 0.5).round(12))  # .6 / (1 - .5 + .6)
    0.545454545455
    """
    top = np.sum(num, axis=-1)
    whole = (1 - np.asarray(alpha)) * np.sum(den) + top
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(whole == 0, np.nan, top / whole)
    return np.where(np.all(np.asarray(num) == 0, axis=-1), 0.0, share)


def sensitivity_of(num: np.ndarray, den: np.ndarray, alpha: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return S(z) = (z - alpha) den/p over the common shape of num[..., 0], alpha and z.

    It is multiplied by den, so that a pole of the controller at z gives S = 0 and not nan.

    >>> float(sensitivity_of(np.array([0.6]), np.array([1.0]), np.array(0.5), np.array(1.0)).round(12))
    0.454545454545
    """
    plant = (z - alpha) * np.polyval(den, z)
    return plant / (plant + np.polyval(np.moveaxis(np.asarray(num), -1, 0), z))


def step_responses(num: np.ndarray, den: np.ndarray, alpha: np.ndarray, layers: int) -> np.ndarray:
    """Return y_0 ... y_layers of T = num/p for a unit step of beta r, from rest: (layers + 1, ...).

    Parameters
    ----------
    num : (..., order + 1), den : (order + 1,), alpha : (...)
    layers : int

    Examples
    --------
    >>> step_responses(np.array([0.6]), np.array([1.0]), np.array(0.4), 3).round(12).tolist()  # pole -.2
    [0.0, 0.6, 0.48, 0.504]
    """
    p = mode_polynomial(num, den, alpha)
    driven = np.cumsum(np.broadcast_to(np.asarray(num) / den[0], (*p.shape[:-1], np.shape(num)[-1])), axis=-1)
    order = p.shape[-1] - 1
    y = [np.zeros(p.shape[:-1], dtype=p.dtype)]
    for k in range(1, layers + 1):
        new = driven[..., min(k, order) - 1]
        for j in range(1, min(k, order) + 1):
            new = new - p[..., j] * y[k - j]
        y.append(new)
    return np.stack(y)


def settling(y: np.ndarray, final: Any, *, start: Any = None, band: float = BAND) -> np.ndarray:
    """Return the first k from which |y_j - final| <= band |final - start| for all j >= k within the horizon.

    A response whose last value lies outside the band has no such k: the answer is inf, which reads "not within the
    horizon". A response that never leaves its final value settles at 0.

    Parameters
    ----------
    y : (layers + 1, ...) real or complex
    final : (...)
        Where the response is known to end.
    start : (...), optional
        What the change is counted from; None: y_0.
    band : float
        Share of the change; 2 % unless asked otherwise.

    Returns
    -------
    (...)
        Layers.

    References
    ----------
    Franklin, Powell, Emami-Naeini, Feedback Control of Dynamic Systems, section 3.4.

    Examples
    --------
    >>> response = 1 - 0.905 ** np.arange(61)
    >>> float(settling(response, 1.0)), float(settling(response[:37], 1.0))
    (40.0, inf)
    """
    y, final = np.asarray(y), np.asarray(final)
    width = band * np.abs(final - (y[0] if start is None else start))
    with np.errstate(invalid="ignore"):
        inside = np.abs(y - final) <= width + 1e-12 * np.fmax(1.0, np.abs(final))
    last = len(y) - np.argmax(~inside[::-1], axis=0)
    entered = np.where(inside.all(axis=0), 0, last).astype(float)
    return np.where(inside[-1], entered, np.inf)


def overshoot(y: np.ndarray, final: Any, *, start: Any = None) -> np.ndarray:
    """Return how far a response goes beyond its final value along its change, as a share of it; 0 where it never does.

    Parameters are those of `settling`.

    >>> float(overshoot(np.array([1.0, 3.5, 2.8, 3.0]), 3.0))
    0.25
    """
    y, final = np.asarray(y), np.asarray(final)
    change = final - (y[0] if start is None else start)
    size = np.abs(change)
    with np.errstate(divide="ignore", invalid="ignore"):
        beyond = np.max(((y - final) * np.conj(change)).real, axis=0) / size**2
    return np.where(size > 1e-12, np.where(beyond < 1e-9, 0.0, beyond), 0.0)


@dataclass(frozen=True)
class StepMetrics:
    """Time-domain figures of one response over depth; nan where a figure has no meaning."""

    final: float  # where it ends
    settling: float  # layers, by the rule of `settling`; inf: not within the horizon
    overshoot: float  # how far it goes beyond the final value, as a share of its change
    steady_state_error: float  # target - final
    diverged: bool  # it grew away instead of settling


def step_metrics(response: np.ndarray, target: float, *, final: float | None = None) -> StepMetrics:
    """Return the figures of a response that starts at y_0 and should reach `target`.

    Where the end is known, `final` is it, and `settling` decides. Where it is not, the last value stands for it. Every
    response lies inside the band around its own last value, so it then has settled only if it entered the band
    before the last quarter of the horizon.

    Parameters
    ----------
    response : (layers + 1,)
    target : float
    final : float, optional
        Where the response is known to end (the static gain of a stable loop); None: its last value.

    Returns
    -------
    StepMetrics
        Settling in layers, overshoot as a fraction; overshoot is nan for a response that has not settled.

    Raises
    ------
    InputError
        A response that is not one-dimensional or empty.

    Examples
    --------
    >>> m = step_metrics(1 - 0.5 ** np.arange(30), 1.0)
    >>> m.settling, m.overshoot, round(m.steady_state_error, 5)
    (6.0, 0.0, 0.0)
    """
    y = require_real("the response", response)
    target, final = (
        float(require_real("target", target)),
        None if final is None else float(require_real("final", final)),
    )
    if y.ndim != 1 or not len(y):
        raise InputError(f"a response is (layers + 1,), got shape {y.shape}")
    if not np.all(np.isfinite(y)):
        return StepMetrics(float(y[-1]), np.inf, np.nan, np.nan, diverged=True)
    late = len(y) - max(len(y) // 4, 1)
    end = float(y[-1]) if final is None else final
    entered = float(settling(y, end))
    if entered == 0 or entered < late or (final is not None and np.isfinite(entered)):
        return StepMetrics(end, entered, float(overshoot(y, end)), target - end, diverged=False)
    travelled = np.abs(y - y[0])
    diverged = bool(np.max(travelled[late:]) > 2 * np.max(travelled[:late], initial=0.0))
    return StepMetrics(end, np.inf, np.nan, target - end, diverged=diverged)


def outermost_modes(spectrum: np.ndarray, directions: int, quantiles: int) -> np.ndarray:
    """Return the modes farthest out in some directions of the plane, and quantiles of all by their real part.

    Parameters
    ----------
    spectrum : (m,) real or complex
    directions, quantiles : int

    Returns
    -------
    (k,)
        Distinct, by their real part.

    Examples
    --------
    >>> outermost_modes(np.array([0.1, 0.2, 0.9, 0.4]), 2, 1).tolist()
    [0.1, 0.9]
    """
    modes = np.unique(spectrum)
    turns = np.exp(2j * np.pi * np.arange(directions) / directions)
    ends = np.argmax(np.multiply.outer(turns, modes).real, axis=1)  # a turn and its conjugate are both among them
    inside = np.linspace(0, len(modes) - 1, quantiles).astype(int)
    return modes[np.unique(np.concatenate([ends, inside]))]


def upper_half(modes: np.ndarray) -> np.ndarray:
    """Return one of each complex pair; real modes as real numbers.

    >>> upper_half(np.array([0.5 + 0.1j, 0.5 - 0.1j])).tolist(), upper_half(np.array([0.5 + 0j])).tolist()
    ([(0.5+0.1j)], [0.5])
    """
    return modes.real if np.all(modes.imag == 0) else np.unique(modes.real + 1j * np.abs(modes.imag))
