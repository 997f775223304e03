"""low |v|^2 <= v phi(v) <= high |v|^2: what is sure, and what is likely, of a loop that closes through a saturation.

Sure: the circle criterion, r ||G/(1 + c G)||_inf < 1 with c, r the middle and the half width of the sector. Likely:
harmonic balance, 1 + N(A) G(e^{iw}) = 0 with the describing function N(A).

The saturations of a transformer and the sectors of their slopes (differences of outputs against differences of
inputs): a softmax of temperature T lies in [0, 1/(2T)], a norm v/size(v) in [0, 1/lowest size].
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ctrlattn.arrays import require_number, require_positive, require_real
from ctrlattn.errors import InputError, require_flag
from ctrlattn.linear.realization import Realization, negative_feedback, realization, square
from ctrlattn.stability.modes.exact_gains import characteristic_roots
from ctrlattn.stability.motion.tangent import require_callable
from ctrlattn.stability.robustness.level_sets import pole_grid
from ctrlattn.stability.robustness.margins import crossings, siso_loop
from ctrlattn.stability.robustness.norms import level_set_peak, require_pencil

_SAMPLES = 4096
_POSITIVE = 1e-12  # a real part this far below 0, relative to the response, is 0 within rounding
_CHECKED = 1e6  # widths beyond which the peak gain is 1 within its own tolerance
_NEAR = 1e-6
_FINER = 4
_ZOOMS = 10
_LAST_DIGITS = 4 * float(np.finfo(float).eps)


class CircleCriterion(NamedTuple):
    """The loop is stable for every nonlinearity of the sector, time-varying too, where `gain` < 1."""

    holds: bool
    gain: float  # r ||G/(1 + c G)||_inf; inf where the loop is unstable at the middle of the sector
    frequency: float  # of the peak


class LimitCycle(NamedTuple):
    """An oscillation that harmonic balance predicts: v = amplitude cos(frequency k)."""

    amplitude: float
    frequency: float  # rad per sample or per unit of time
    exact: bool  # at w = 0 and pi of discrete time the balance is the orbit itself, no approximation


def softmax_sector(temperature: float = 1.0) -> tuple[float, float]:
    """Return [0, 1/(2T)], which holds the eigenvalues of d softmax(s/T)/ds = (diag p - p p^T)/T, whatever the scores.

    The largest eigenvalue of diag p - p p^T is at most 1/2, attained at p = (1/2, 1/2); a sink changes nothing.

    Parameters
    ----------
    temperature : float, positive

    Examples
    --------
    >>> softmax_sector(0.5)
    (0.0, 1.0)
    """
    return 0.0, 0.5 / float(require_positive("temperature", temperature))


def normalizer_sector(lowest: float, *, eps: float = 0.0) -> tuple[float, float]:
    """Return [0, 1/sqrt(lowest^2 + eps)] for v/sqrt(size(v)^2 + eps) where every token has size(v) >= lowest.

    It holds between any two points of that set, although the set is not convex: with unit vectors p, q,
    <p - q, v - w> = (|v| + |w|)/2 |p - q|^2. The size is the root mean square for rms_norm, the length for unit_norm,
    the standard deviation for layer_norm; weights come on top.

    Parameters
    ----------
    lowest : float, >= 0
        Smallest size before the norm.
    eps : float, >= 0
        As the norm adds it to the squared size; with it, lowest = 0 is the whole space.

    Examples
    --------
    >>> normalizer_sector(2.0)
    (0.0, 0.5)
    """
    lowest, eps = (float(require_number(name, value)) for name, value in (("lowest", lowest), ("eps", eps)))
    if not (lowest >= 0 and eps >= 0 and lowest * lowest + eps > 0 and math.isfinite(lowest + eps)):
        raise InputError(
            f"lowest and eps must be >= 0 and not both 0 (at 0 the slope of a norm is infinite), got {lowest}, {eps}"
        )
    return 0.0, 1 / math.sqrt(lowest * lowest + eps)


def circle_criterion(system: Any, low: float, high: float, *, continuous: bool = False) -> CircleCriterion:
    """Tell whether the loop w = -phi(v), v = G w, is stable for every phi in the sector [low, high].

    With c = (low + high)/2 and r = (high - low)/2 the criterion is that G/(1 + c G) is stable and r ||G/(1 + c G)||_inf
    < 1. For one channel this is the circle criterion; for several, phi maps vectors to vectors. If the sector bounds
    slopes (as those of `softmax_sector`, `normalizer_sector` do), any two motions of the loop approach each other. The
    criterion is sufficient, not necessary.

    Parameters
    ----------
    system : control.StateSpace, control.TransferFunction, or (A, B, C, D), real or complex
        G, square, from the output of the nonlinearity to its input; negative feedback.
    low, high : float
    continuous : bool
        Time domain of a tuple.

    Returns
    -------
    CircleCriterion

    Raises
    ------
    InputError
        As `realization`; G not square; low > high; 1 + c D singular.

    References
    ----------
    Zames 1966; Khalil, Nonlinear Systems, 3rd edition, section 7.1; discrete time: Tsypkin 1964.

    Examples
    --------
    >>> import control
    >>> [circle_criterion(control.tf([1], [1, -0.5], 1), 0.0, k).holds for k in (1.4, 1.6)]  # gain margin 1.5
    [True, False]
    """
    continuous = require_flag("continuous", continuous)
    low, high = (float(require_number(name, value)) for name, value in (("low", low), ("high", high)))
    if low > high:
        raise InputError(f"a sector needs finite low <= high, got [{low}, {high}]")
    g = square(realization(system, "circle_criterion", continuous=continuous), "circle_criterion")
    require_pencil(g, "circle_criterion")
    shifted = _shift_sector(g, (low + high) / 2, "circle_criterion")
    if not _is_stable(shifted):
        return CircleCriterion(False, math.inf, math.nan)
    peak = level_set_peak(shifted, 1e-9)
    half = (high - low) / 2
    return CircleCriterion(bool(half * peak.upper < 1), half * peak.value, peak.frequency)


def sector_limit(system: Any, low: float = 0.0, *, continuous: bool = False) -> float:
    """Return the largest high for which `circle_criterion` holds on [low, high].

    high = low - 1/min_w lambda((H + H*)/2), H = G/(1 + low G) and lambda the smallest eigenvalue. `circle_criterion`
    checks it from both sides, by a peak gain.

    Parameters
    ----------
    system, continuous : as for `circle_criterion`
    low : float

    Returns
    -------
    float
        inf where every high holds: the real part of H is not negative, 1e-12 of its size apart; nan where the loop is
        unstable at `low` itself.

    Raises
    ------
    InputError
        As `circle_criterion`.
    ArithmeticError
        The check fails, or rounding decides whether the loop is stable.

    Examples
    --------
    >>> import control
    >>> round(sector_limit(control.tf([1], [1, -0.5], 1)), 6)  # -1/min Re G, here at z = -1
    1.5
    """
    continuous = require_flag("continuous", continuous)
    low = float(require_number("low", low))
    g = square(realization(system, "sector_limit", continuous=continuous), "sector_limit")
    require_pencil(g, "sector_limit")
    shifted = _shift_sector(g, low, "sector_limit")
    if not _is_stable(shifted):
        return math.nan
    # On [low, low + k] the criterion says that I + k G/(1 + low G) is positive real.
    lowest, size = _smallest_real_part(shifted)
    if lowest >= -_POSITIVE * size:
        return math.inf
    width = -1 / lowest
    if width * size < _CHECKED:
        near = width * _NEAR
        holds = [
            circle_criterion(system, low, low + k, continuous=continuous).holds for k in (width - near, width + near)
        ]
        if holds != [True, False]:
            raise ArithmeticError(
                f"sector_limit: the real part of the response allows {low + width:.9g}, and the peak gain of "
                "circle_criterion contradicts it: rounding of A decides. Give the system in triangular (modal) form"
            )
    return low + width


def _smallest_real_part(g: Realization) -> tuple[float, float]:
    """Return (smallest eigenvalue of (G + G*)/2 over all frequencies, largest entry of G there)."""
    w = np.unique(pole_grid(g))
    w = np.interp(np.arange(_FINER * (len(w) - 1) + 1) / _FINER, np.arange(len(w)), w) if np.isfinite(w[-1]) else w
    value, size = _real_parts(g, w)
    best = float(value.min())
    padded = np.concatenate([[np.inf], value, [np.inf]])
    for at in np.flatnonzero((padded[1:-1] <= padded[:-2]) & (padded[1:-1] <= padded[2:])).tolist():
        start, end = float(w[max(at - 1, 0)]), float(w[min(at + 1, len(w) - 1)])
        end = end if math.isfinite(end) else 1e3 * max(abs(start), abs(float(w[0])), 1e-300)
        for _ in range(_ZOOMS):
            inner = np.linspace(start, end, 17)
            lower, _ = _real_parts(g, inner)
            lowest = int(np.argmin(lower))
            start, end = float(inner[max(lowest - 1, 0)]), float(inner[min(lowest + 1, 16)])
            best = min(best, float(lower[lowest]))
    return best, size


def _real_parts(g: Realization, w: np.ndarray) -> tuple[np.ndarray, float]:
    values = np.moveaxis(g.responses(w), -1, 0)
    return np.linalg.eigvalsh((values + values.conj().swapaxes(-1, -2)) / 2)[:, 0], float(np.max(np.abs(values)))


def _is_stable(g: Realization) -> bool:
    """Tell whether G is stable, by eigenvalues; where rounding decides those, by certified roots of exact numbers."""
    try:
        return g.is_stable()
    except ArithmeticError:
        if not g.real() or g.continuous:
            raise
        return bool(np.max(np.abs(characteristic_roots(g.a)), initial=0.0) < 1 - _LAST_DIGITS)


def describing_function(phi: Callable[[np.ndarray], np.ndarray], amplitude: Any, *, omega: float | None = None) -> Any:
    """Return N(A) = (1/(pi A)) int_0^{2 pi} phi(A cos t) e^{-it} dt: the gain of phi for the first harmonic.

    Parameters
    ----------
    phi : function of an array, elementwise, without memory
    amplitude : float or (m,), positive
    omega : float, optional
        Discrete time: at omega = 0 and pi a sampled sinusoid is A or A (-1)^k, whose gain is phi(A)/A exactly.

    Returns
    -------
    complex or (m,) complex
        Real where phi is odd.

    Raises
    ------
    InputError
        Amplitudes that are not positive and finite.
    InputTypeError
        phi is no function, or amplitudes and omega are no numbers.

    References
    ----------
    Gelb and Vander Velde, Multiple-Input Describing Functions, 1968.

    Examples
    --------
    >>> import numpy as np
    >>> round(describing_function(lambda v: v**3, 2.0).real, 12)  # 3 A^2/4
    3.0
    """
    size = require_real("amplitudes", amplitude)
    require_callable("phi", phi, "numpy.tanh is one")
    if not np.all(np.isfinite(size) & (size > 0)):
        raise InputError("amplitudes must be positive and finite")
    if omega is not None and require_number("omega", omega) in (0.0, math.pi):
        n = np.asarray(phi(size), dtype=complex) / size
    else:
        t = 2 * np.pi * (np.arange(_SAMPLES) + 0.5) / _SAMPLES
        n = 2 * np.mean(np.asarray(phi(size[..., None] * np.cos(t))) * np.exp(-1j * t), axis=-1) / size
    return complex(n) if n.ndim == 0 else n


def limit_cycles(system: Any, phi: Callable[[np.ndarray], np.ndarray], amplitudes: Any) -> list[LimitCycle]:
    """Return the oscillations v = A cos(w k) of the loop w = -phi(v) that satisfy 1 + N(A) G = 0, for an odd phi.

    N is real, so that w is a crossing of the real axis and N(A) its gain factor: the exact crossings of `margins`. It
    is a prediction, not a proof: harmonics are neglected, except at w = 0 and pi of discrete time, where there are
    none.

    Parameters
    ----------
    system : control.StateSpace or control.TransferFunction
        G, SISO.
    phi : odd function of an array, elementwise
    amplitudes : (m,), ascending
        Where to look; between neighbours at most one solution for each frequency is found.

    Returns
    -------
    list of LimitCycle

    Raises
    ------
    InputError
        As `crossings`; phi is complex or not odd; amplitudes that do not ascend.
    InputTypeError
        Not a python-control system.

    Examples
    --------
    >>> import control, numpy as np
    >>> cycles = limit_cycles(control.tf([2.0], [1, 0], 1), np.tanh, np.geomspace(1e-3, 10, 50))  # x' = -2 tanh(x)
    >>> round(cycles[0].amplitude, 6), round(cycles[0].frequency, 4), cycles[0].exact
    (1.915008, 3.1416, True)
    """
    from scipy.optimize import brentq

    a = require_real("amplitudes", amplitudes)
    if a.ndim != 1 or len(a) < 2 or not np.all(np.diff(a) > 0) or not a[0] > 0:
        raise InputError("amplitudes must be positive and ascending, at least two")
    if not np.allclose(require_real("phi", phi(-a)), -require_real("phi", phi(a)), rtol=1e-9, atol=1e-12):
        raise InputError("limit_cycles balances the first harmonic alone, which is complete for odd functions only")
    discrete = not siso_loop(system, "limit_cycles").continuous
    real = crossings(system)
    cycles = []
    for w, factor in zip(real.gain_frequency, real.gain_factor, strict=True):
        exact = discrete and w in (0.0, math.pi)

        def excess(size: Any, w: float = w, factor: float = factor, exact: bool = exact) -> Any:
            return np.real(describing_function(phi, size, omega=w if exact else None)) - factor

        sign = np.sign(excess(a))
        beside = np.pad(sign, 1, mode="edge")
        # A solution may be one of the amplitudes itself.
        solutions = a[(sign == 0) & ((beside[:-2] != 0) | (beside[2:] != 0))]
        opposite = np.flatnonzero(sign[:-1] * sign[1:] < 0)
        sizes = [*solutions.tolist(), *(float(brentq(excess, a[i], a[i + 1], xtol=1e-13)) for i in opposite)]
        cycles += [LimitCycle(size, float(w), bool(exact)) for size in sorted(sizes)]
    return cycles


def _shift_sector(g: Realization, centre: float, quantity: str) -> Realization:
    """Return G/(1 + c G)."""
    s = negative_feedback(g._replace(c=centre * g.c, d=centre * g.d), quantity)  # 1/(1 + c G)
    direct = s.d @ g.d
    return Realization(s.a, g.b @ s.d, s.d @ g.c, direct, g.continuous)
