"""alpha = 1 / sup_w mu(S + (skew - 1)/2 I): every channel of a loop multiplied at once by any f of a disk stays stable.

The disk of size alpha: f = (1 + (1 - skew)/2 delta) / (1 - (1 + skew)/2 delta), |delta| < alpha, complex and dynamic.
skew = 0: balanced, |S - T|/2; skew = 1: |S|, the modulus margin; skew = -1: |T|. This is D(alpha, sigma) of Seiler,
Packard and Gahinet with sigma = skew, delta in their units.

Two bounds enclose alpha. The lower one is the supremum of the scaled norm, swept over intervals of frequency
(`scaled_peak`). The upper one is the size of factors that destabilise (`attack`). Each is checked by what the other
does not use: the pole is looked up in the attacked loop, and attacks below the margin must leave the loop stable.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse.csgraph import connected_components

from ctrlattn import showing
from ctrlattn.arrays import require_number
from ctrlattn.errors import InputError, require_flag
from ctrlattn.linear.balancing import scales, state_scaling
from ctrlattn.linear.realization import Realization, negative_feedback, realization, square, to_control
from ctrlattn.linear.state_matrix import require_scale
from ctrlattn.stability.robustness.attack import Attack, pole_miss, require_sound, strongest_attack
from ctrlattn.stability.robustness.margins import Margins, margins
from ctrlattn.stability.robustness.norms import require_pencil
from ctrlattn.stability.robustness.scaled_peak import Responses, scaled_peak
from ctrlattn.stability.robustness.structured import NOTHING
from ctrlattn.values import Value

_ROUNDING = 1e-9  # an attack may be smaller than the margin by this share before the sweep counts as wrong


@dataclass(frozen=True, eq=False)
class DiskMargin(Value):
    """Disk margin of a negative-feedback loop; all 0 where it is unstable, inf where nothing destabilises it."""

    margin: float  # alpha: guaranteed
    attained: float  # size of the `perturbation` found that destabilises; equals alpha where the bound is tight
    skew: float
    frequency: float  # rad per sample or per unit of time, of the critical perturbation
    gain_low: float  # every channel may be multiplied, at once, by any real number of (gain_low, gain_high)
    gain_high: float
    phase: float  # degrees: and by e^{i phi}, |phi| below this; 180 where no rotation destabilises
    perturbation: np.ndarray  # (channels,) complex factors f that put a pole on the boundary at `frequency`
    residual: float  # how far from there the pole was seen, as a share of the way it came; nan without a perturbation
    system = None  # the loop L that was given; no field, since it is no figure

    def plot(self, **options: Any) -> Any:
        """Plot the Nyquist curve of a single loop beside its disk; options as for `plots.nyquist_disk`."""
        return showing.plot(self, **options)


@dataclass(frozen=True)
class ChannelMargins:
    """Margins of one channel with all other loops closed."""

    classical: Margins
    disk: DiskMargin


def disk_margin(system: Any, *, skew: float = 0.0, tol: float = 1e-6, continuous: bool = False) -> DiskMargin:
    """Return the largest disk of gain and phase changes at once that the closed loop survives, one factor per channel.

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
    ArithmeticError
        A check fails: rounding hides the destabilised pole, or decides whether the loop is stable at all.

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
    continuous = require_flag("continuous", continuous)
    disk = _disk_margin(system, float(require_number("skew", skew)), float(require_number("tol", tol)), continuous)
    return showing.about(disk, system)


def _disk_margin(system: Any, skew: float, tol: float, continuous: bool) -> DiskMargin:
    if not 1e-9 <= tol <= 1e-1:
        raise InputError(f"tol must lie in [1e-9, 1e-1], got {tol}")
    loop = square(realization(system, "disk_margin", continuous=continuous), "disk_margin")
    require_pencil(loop, "disk_margin")
    loop = _in_own_units(loop)
    s = negative_feedback(loop, "disk_margin")
    require_scale("disk_margin: the closed loop", s.a)
    channels = len(s.d)
    stable, poles = s.stable_poles()
    if not stable:
        return DiskMargin(0.0, 0.0, skew, math.nan, 1.0, 1.0, 0.0, np.ones(channels, dtype=complex), math.nan)
    scale = state_scaling(s.a, s.b, s.c)
    weighted = Realization(
        s.a * scale / scale[:, None], s.b / scale[:, None], s.c * scale, s.d + (skew - 1) / 2 * np.eye(channels),
        s.continuous,
    )  # fmt: skip
    upper, attack = _worst_attack(weighted, poles, _coupled_groups(loop), tol)
    if upper <= NOTHING:
        return _margin_of(math.inf, math.inf, skew, attack.frequency, np.full(channels, np.nan + 0j), math.nan)
    if attack.size == math.inf:
        return _margin_of(1 / upper, math.inf, skew, attack.frequency, np.full(channels, np.nan + 0j), math.nan)
    with np.errstate(divide="ignore", invalid="ignore"):  # a disk that reaches an infinite gain
        factors = (1 + (1 - skew) / 2 * attack.delta) / (1 - (1 + skew) / 2 * attack.delta)
    residual = pole_miss(loop, weighted, attack, factors)
    require_sound(weighted, 1 / upper, attack, residual)
    return _margin_of(1 / upper, attack.size, skew, attack.frequency, factors, residual)


def loop_margins(system: Any) -> list[ChannelMargins]:
    """Return the margins loop at a time: each channel of L broken alone, all others closed.

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
        As `disk_margin`; complex matrices; the other loops alone are not well posed.

    Examples
    --------
    >>> import control, numpy as np
    >>> diagonal = control.ss([[1.0, 0], [0, 0.5]], np.eye(2), 0.5 * np.eye(2), 0, 1)
    >>> [round(channel.classical.gain_margin, 6) for channel in loop_margins(diagonal)]
    [4.0, 3.0]
    """
    loop = square(realization(system, "loop_margins"), "loop_margins")
    if not loop.real():
        raise InputError(
            "loop_margins: classical gain and phase margins are of a real loop, and these matrices are complex: use "
            "disk_margin, which takes complex factors in all channels at once"
        )
    require_pencil(loop, "loop_margins")
    dt = getattr(system, "dt", None)
    dt = dt if dt is not None else (0 if loop.continuous else 1)
    broken = (to_control(_others_closed(loop, i), dt) for i in range(len(loop.d)))
    return [ChannelMargins(margins(channel), disk_margin(channel)) for channel in broken]


def disk_gains(margin: float, skew: float = 0.0) -> tuple[float, float]:
    """Return the real interval of the disk: from delta = -alpha to delta = alpha.

    >>> disk_gains(1.0)
    (0.3333333333333333, 3.0)
    """
    if math.isinf(margin):
        return -math.inf, math.inf
    low, high = ((1 + (1 - skew) / 2 * d, 1 - (1 + skew) / 2 * d) for d in (-margin, margin))
    return (low[0] / low[1] if low[1] > 0 else -math.inf), (high[0] / high[1] if high[1] > 0 else math.inf)


def disk_phase(margin: float, skew: float = 0.0) -> float:
    """Return the degrees of rotation inside the disk, at which |delta(e^{i phi})| = alpha.

    >>> round(disk_phase(1.0), 6)  # skew 0: 2 atan(alpha / 2)
    53.130102
    """
    square_size = margin * margin / 2
    if 2 * square_size * skew * skew >= 4 or math.isinf(margin):
        return 180.0
    cosine = (2 - square_size * (1 + skew * skew)) / (2 + square_size * (1 - skew * skew))
    return math.degrees(math.acos(min(max(cosine, -1.0), 1.0)))


def _margin_of(
    margin: float, attained: float, skew: float, frequency: float, factors: np.ndarray, residual: float
) -> DiskMargin:
    gains, phase = disk_gains(margin, skew), disk_phase(margin, skew)
    return DiskMargin(margin, attained, skew, frequency, *gains, phase, factors, residual)


def _others_closed(loop: Realization, i: int) -> Realization:
    """Return L_i, from the input of channel i to its output, the other channels closed by -1."""
    other = [j for j in range(len(loop.d)) if j != i]
    a, b, c, d = loop[:4]
    if not other:
        return loop
    direct = np.eye(len(other)) + d[np.ix_(other, other)]
    if np.linalg.cond(direct) > 1e14:
        raise InputError(f"loop_margins: with channel {i} open the other loops are not well posed")
    inverse = np.linalg.inv(direct)  # u_other = -inverse (C_other x + D_other,i u_i)
    back, row = b[:, other] @ inverse, d[np.ix_([i], other)] @ inverse
    a_i = a - back @ c[other]
    b_i = b[:, [i]] - back @ d[np.ix_(other, [i])]
    return Realization(a_i, b_i, c[[i]] - row @ c[other], d[[i]][:, [i]] - row @ d[np.ix_(other, [i])], loop.continuous)


def _in_own_units(loop: Realization) -> Realization:
    """Return T^-1 L T with diagonal T, and balanced states: a channel's factor does not depend on its signals' unit."""
    n = len(loop.a)
    scale = scales(np.abs(_matrix_of(loop)))
    x, t = scale[:n], scale[n:]
    return loop._replace(
        a=loop.a * x / x[:, None], b=loop.b * t / x[:, None], c=loop.c * x / t[:, None], d=loop.d * t / t[:, None]
    )


def _matrix_of(loop: Realization) -> np.ndarray:
    """Return [[A, B], [C, D]]."""
    return np.vstack([np.hstack([loop.a, loop.b]), np.hstack([loop.c, loop.d])])


def _coupled_groups(loop: Realization) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (states, channels) of each group that feeds itself: mu of a block triangular system is that of a block."""
    n = len(loop.a)
    if n and loop.a.all() and loop.b.any(axis=0).all() and loop.c.any(axis=1).all():  # no graph is needed to see it
        return [(np.arange(n), np.arange(len(loop.d)))]
    ways = _matrix_of(loop) != 0
    labels = connected_components(ways, directed=True, connection="strong")[1]
    return [(np.flatnonzero(labels[:n] == k), np.flatnonzero(labels[n:] == k)) for k in np.unique(labels[n:])]


def _worst_attack(
    g: Realization, poles: np.ndarray, groups: list[tuple[np.ndarray, np.ndarray]], tol: float
) -> tuple[float, Attack]:
    """Return (upper bound of mu, strongest attack) over all groups; where an attack beats the bound, sweep again."""
    upper, strongest = 0.0, Attack(math.inf, np.zeros(len(g.d)), math.nan, math.nan)
    for states, channels in groups:
        responses = Responses(g, poles, balanced=True)
        if len(groups) > 1 or len(states) < len(g.a):
            part = Realization(
                g.a[np.ix_(states, states)], g.b[np.ix_(states, channels)], g.c[np.ix_(channels, states)],
                g.d[np.ix_(channels, channels)], g.continuous,
            )  # fmt: skip
            responses = Responses(part)
        peak = scaled_peak(responses, tol)
        attack = strongest_attack(responses, peak)
        if attack.size * peak.upper < 1 - _ROUNDING:
            peak = scaled_peak(responses, tol, np.array([attack.frequency]))
            attack = min(attack, strongest_attack(responses, peak), key=lambda a: a.size)
            if attack.size * peak.upper < 1 - _ROUNDING:
                raise ArithmeticError(
                    f"disk_margin: the sweep says {1 / peak.upper:.6g} and factors of size {attack.size:.6g} "
                    "destabilise: rescale the states"
                )
        upper = max(upper, peak.upper)
        if attack.size < strongest.size or math.isnan(strongest.frequency):
            delta = np.zeros(len(g.d), dtype=complex)
            delta[channels] = attack.delta
            strongest = attack._replace(delta=delta)
    return upper, strongest
