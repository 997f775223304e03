"""alpha = 1 / sup_w mu(S + (skew - 1)/2 I): every channel of a loop multiplied at once by any f of a disk stays stable.

The disk of size alpha: f = (1 + (1 - skew)/2 delta) / (1 - (1 + skew)/2 delta), |delta| < alpha, complex and dynamic.
skew = 0: balanced, |S - T|/2; skew = 1: |S|, the modulus margin; skew = -1: |T|.

mu, for one full-range complex delta per channel, is bounded above by min_D sigma_max(D M D^-1), D diagonal (equal to mu
up to three channels). The sweep over frequency is not a grid: with D frozen, the pencil of the level tells up to
which frequency the bound stays below it, and the next D takes over there.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from ctrlattn.errors import InputError
from ctrlattn.linear.realization import Realization, negative_feedback, realization, square, to_control
from ctrlattn.stability.robustness.margins import Margins, margins
from ctrlattn.stability.robustness.norms import level_crossings, level_set_peak, require_pencil


@dataclass(frozen=True)
class DiskMargin:
    """Disk margin of a negative-feedback loop; all 0 where it is unstable, inf where nothing destabilises it."""

    margin: float  # alpha: guaranteed
    attained: float  # size of the `perturbation` found that destabilises; equals alpha where the bound is tight
    skew: float
    frequency: float  # rad per sample or per unit of time, of the critical perturbation
    gain_low: float  # every channel may be multiplied, at once, by any real number of (gain_low, gain_high)
    gain_high: float
    phase: float  # degrees: and by e^{i phi}, |phi| below this; 180 where no rotation destabilises
    perturbation: np.ndarray  # (channels,) complex factors f that put a pole on the boundary at `frequency`


@dataclass(frozen=True)
class ChannelMargins:
    """Margins of one channel with all other loops closed."""

    classical: Margins
    disk: DiskMargin


def disk_margin(system: Any, *, skew: float = 0.0, tol: float = 1e-6, continuous: bool = False) -> DiskMargin:
    """The largest disk of simultaneous gain and phase changes that the closed loop survives, one factor per channel.

    Parameters
    ----------
    system : control.StateSpace, control.TransferFunction, or (A, B, C, D), real or complex
        L, square, closed by negative feedback; broken at the outputs (PC) or the inputs (CP) of the plant.
    skew : float
        0: as much increase as decrease, in the sense of f and 1/f.
    tol : float
        Relative accuracy of the sweep over frequency.
    continuous : bool
        Time domain of a tuple.

    Returns
    -------
    DiskMargin

    Raises
    ------
    InputError
        As `realization`; L not square; I + D singular; tol outside [1e-9, 1e-1]; skew that is not finite.

    References
    ----------
    Seiler, Packard, Gahinet, An introduction to disk margins, IEEE Control Systems 40 (2020) 78, arXiv 2003.04771.

    Examples
    --------
    >>> import control
    >>> disk = disk_margin(control.tf([0.5], [1, -1], 1), skew=1.0)
    >>> round(disk.margin, 4), round(float(disk.perturbation[0].real), 4)  # 0.75 = 1 - 0.25; f = 4 is the gain margin
    (0.75, 4.0)
    """
    if not 1e-9 <= tol <= 1e-1 or not math.isfinite(skew):
        raise InputError(f"tol must lie in [1e-9, 1e-1] and skew be finite, got tol={tol}, skew={skew}")
    loop = square(realization(system, "disk_margin", continuous=continuous), "disk_margin")
    require_pencil(loop, "disk_margin")
    s = negative_feedback(loop, "disk_margin")
    channels = len(s.d)
    if not s.is_stable():
        return DiskMargin(0.0, 0.0, skew, math.nan, 1.0, 1.0, 0.0, np.ones(channels, dtype=complex))
    weighted = s._replace(d=s.d + (skew - 1) / 2 * np.eye(channels))
    upper, frequency = _peak_of_bound(weighted, tol)
    if upper == 0.0:
        return _sized(math.inf, math.inf, skew, frequency, np.full(channels, np.nan + 0j))
    lower, rotation = _lower_bound(weighted.response(frequency))
    delta = rotation / lower if lower > 0 else np.full(channels, np.nan + 0j)
    with np.errstate(divide="ignore", invalid="ignore"):  # a disk that reaches an infinite gain
        factors = (1 + (1 - skew) / 2 * delta) / (1 - (1 + skew) / 2 * delta)
    return _sized(1 / upper, 1 / lower if lower > 0 else math.inf, skew, frequency, factors)


def loop_margins(system: Any) -> list[ChannelMargins]:
    """Margins loop at a time: each channel of L broken alone, all others closed.

    They say nothing of simultaneous changes: the spinning satellite has infinite gain margin in each loop and is
    destabilised by 10 % in both; `disk_margin` covers those.

    Parameters
    ----------
    system : control.StateSpace or control.TransferFunction
        L, square.

    Returns
    -------
    list of ChannelMargins, one for each channel

    Raises
    ------
    InputError
        As `disk_margin`; the other loops alone are not well posed.

    Examples
    --------
    >>> import control, numpy as np
    >>> diagonal = control.ss([[1.0, 0], [0, 0.5]], np.eye(2), 0.5 * np.eye(2), 0, 1)
    >>> [round(channel.classical.gain_margin, 6) for channel in loop_margins(diagonal)]
    [4.0, 3.0]
    """
    loop = square(realization(system, "loop_margins"), "loop_margins")
    require_pencil(loop, "loop_margins")
    dt = getattr(system, "dt", None)
    dt = dt if dt is not None else (0 if loop.continuous else 1)
    broken = (to_control(_others_closed(loop, i), dt) for i in range(len(loop.d)))
    return [ChannelMargins(margins(channel), disk_margin(channel)) for channel in broken]


def disk_gains(margin: float, skew: float = 0.0) -> tuple[float, float]:
    """The real interval of the disk: from delta = -alpha to delta = alpha.

    >>> disk_gains(1.0)
    (0.3333333333333333, 3.0)
    """
    if math.isinf(margin):
        return -math.inf, math.inf
    low, high = ((1 + (1 - skew) / 2 * d, 1 - (1 + skew) / 2 * d) for d in (-margin, margin))
    return (low[0] / low[1] if low[1] > 0 else -math.inf), (high[0] / high[1] if high[1] > 0 else math.inf)


def disk_phase(margin: float, skew: float = 0.0) -> float:
    """Degrees of rotation inside the disk: |delta(e^{i phi})| = alpha.

    >>> round(disk_phase(1.0), 6)  # skew 0: 2 atan(alpha / 2)
    53.130102
    """
    square_size = margin * margin / 2
    if 2 * square_size * skew * skew >= 4 or math.isinf(margin):
        return 180.0
    cosine = (2 - square_size * (1 + skew * skew)) / (2 + square_size * (1 - skew * skew))
    return math.degrees(math.acos(min(max(cosine, -1.0), 1.0)))


def _sized(margin: float, attained: float, skew: float, frequency: float, factors: np.ndarray) -> DiskMargin:
    return DiskMargin(
        margin, attained, skew, frequency, *disk_gains(margin, skew), disk_phase(margin, skew), factors
    )  # fmt: skip


def _others_closed(loop: Realization, i: int) -> Realization:
    """L_i, from the input of channel i to its output, the other channels closed by -1."""
    other = [j for j in range(len(loop.d)) if j != i]
    a, b, c, d = loop[:4]
    if not other:
        return loop
    direct = np.eye(len(other)) + d[np.ix_(other, other)]
    if np.linalg.cond(direct) > 1e14:
        raise InputError(f"loop_margins: with channel {i} open the other loops are not well posed")
    inverse = np.linalg.inv(direct)  # u_other = -inverse (C_other x + D_other,i u_i)
    back, out = b[:, other] @ inverse, d[np.ix_([i], other)] @ inverse
    a_i = a - back @ c[other]
    b_i = b[:, [i]] - back @ d[np.ix_(other, [i])]
    return Realization(a_i, b_i, c[[i]] - out @ c[other], d[[i]][:, [i]] - out @ d[np.ix_(other, [i])], loop.continuous)


def _peak_of_bound(g: Realization, tol: float) -> tuple[float, float]:
    """(upper, w): min_D sigma_max(D G D^-1) stays below `upper` at every frequency, and nearly attains it at w."""
    peak = level_set_peak(g, tol / 4)
    if len(g.d) == 1 or peak.value == 0.0:
        return peak.upper, peak.frequency
    start, end = (0.0, math.inf if g.continuous else math.pi) if g.real() else (-math.inf, math.inf)
    if not g.continuous and not g.real():
        start, end = -math.pi, math.pi
    best, where = max((_scaled_norm_at(g, w)[0], w) for w in (start, end, peak.frequency))
    while True:
        level = best * (1 + tol)
        higher = _sweep(g, level, start, end)
        if higher is None:
            return level, where
        best, where = _climb(g, higher)


def _sweep(g: Realization, level: float, start: float, end: float) -> float | None:
    """A frequency where the bound exceeds `level`, or None when frozen scalings cover [start, end] below it."""
    w = start
    for _ in range(20_000):
        bound, scale = _scaled_norm_at(g, w)
        if bound >= level:
            return w
        crossings = level_crossings(_scaled(g, scale), level)
        beyond = crossings[crossings > w + 1e-12 * (1 + abs(w))] if math.isfinite(w) else crossings
        # Eigenvalues near the boundary that are no crossings would only shorten the steps.
        beyond = np.array([c for c in beyond if _norm_at(g, c, scale) >= level * (1 - 1e-4)])
        following = float(np.min(beyond, initial=math.inf))
        if following >= end:
            return None
        w = following
    raise ArithmeticError("disk_margin: the sweep over frequency does not advance; take a larger tol")


def _climb(g: Realization, w: float) -> tuple[float, float]:
    """A local maximum of the bound near w."""
    width = 1e-2 * (1.0 if not g.continuous else max(abs(w), 1e-6))
    if not math.isfinite(w):
        return _scaled_norm_at(g, w)[0], w
    top = minimize_scalar(
        lambda v: -_scaled_norm_at(g, v)[0],
        bounds=(w - width, w + width),
        method="bounded",
        options={"xatol": width / 1e5},
    )
    return max((_scaled_norm_at(g, w)[0], w), (-float(top.fun), float(top.x)))


def _scaled_norm_at(g: Realization, w: float) -> tuple[float, np.ndarray]:
    """min_D sigma_max(D G D^-1) at one frequency, and log D."""
    return scaled_norm(g.response(w))


def _norm_at(g: Realization, w: float, scale: np.ndarray) -> float:
    return float(np.linalg.norm(_similar(g.response(w), scale), 2))


def scaled_norm(m: np.ndarray) -> tuple[float, np.ndarray]:
    """(min_D sigma_max(D M D^-1), log D) over positive diagonal D: an upper bound of mu, convex in log D.

    >>> value, _ = scaled_norm(np.array([[0.0, 4.0], [1.0, 0.0]]))
    >>> round(value, 6)  # the spectral radius, 2
    2.0
    """
    size = np.abs(m)
    scale = _balanced(size)
    channels = len(m)
    if channels == 1 or not np.any(size):
        return float(np.linalg.norm(m, 2)), scale

    def norm(d: np.ndarray) -> float:
        return float(np.linalg.norm(_similar(m, np.append(0.0, d)), 2))

    if channels == 2:
        centre = scale[1] - scale[0]
        optimum = minimize_scalar(
            lambda t: norm(np.array([t])), bounds=(centre - 4, centre + 4), method="bounded", options={"xatol": 1e-10}
        )
        candidate = np.array([optimum.x])
    else:
        options = {"xatol": 1e-9, "fatol": 1e-12 * norm(scale[1:] - scale[0]), "maxiter": 400 * channels}
        optimum = minimize(norm, scale[1:] - scale[0], method="Nelder-Mead", options=options)
        candidate = optimum.x
    best = min((scale[1:] - scale[0], candidate), key=norm)
    return norm(best), np.append(0.0, best)


def _balanced(size: np.ndarray) -> np.ndarray:
    """log D of Osborne's balancing: rows and columns of D |M| D^-1 of equal length, the diagonal left out."""
    off = size - np.diag(np.diag(size))
    log = np.zeros(len(size))
    floor = 1e-12 * max(float(size.max(initial=0.0)), 1e-300)
    for _ in range(20):
        for i in range(len(size)):
            shaped = off * np.exp(log[:, None] - log[None, :])
            row, column = (max(float(np.linalg.norm(v)), floor) for v in (shaped[i], shaped[:, i]))
            log[i] += 0.5 * np.log(column / row)
    return log


def _similar(m: np.ndarray, log: np.ndarray) -> np.ndarray:
    return m * np.exp(log[:, None] - log[None, :])


def _scaled(g: Realization, log: np.ndarray) -> Realization:
    d = np.exp(log)
    return Realization(g.a, g.b / d, g.c * d[:, None], _similar(g.d, log), g.continuous)


def _lower_bound(m: np.ndarray) -> tuple[float, np.ndarray]:
    """(rho, rotations q, |q_i| = 1) with det(I - diag(q) M / rho) = 0: max_q rho(diag(q) M), searched."""
    channels = len(m)

    def radius(angles: np.ndarray) -> float:
        return float(np.abs(np.linalg.eigvals(np.exp(1j * np.append(0.0, angles))[:, None] * m)).max())

    starts = [np.zeros(channels - 1), *_fan(channels - 1)]
    best = max((_refined(radius, start) for start in starts), key=radius) if channels > 1 else np.zeros(0)
    q = np.exp(1j * np.append(0.0, best))
    values = np.linalg.eigvals(q[:, None] * m)
    first = values[int(np.argmax(np.abs(values)))]
    rho = float(np.abs(first))
    return rho, q * (rho / first if rho > 0 else 1.0)


def _refined(radius: Any, start: np.ndarray) -> np.ndarray:
    return minimize(lambda t: -radius(t), start, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14}).x


def _fan(angles: int) -> list[np.ndarray]:
    """Starting points around the circle, and three directions that no symmetry of the channels shares."""
    turns = 2 * math.pi * np.arange(1, 8) / 8
    return [turn * np.ones(angles) for turn in turns] + [turn * np.sqrt(np.arange(2, angles + 2)) for turn in turns]
