"""0 != z - alpha + C(z; gains) for all |z| = 1: every gain of a box and every mode of an interval is stable.

The closed-loop poles move continuously with the gains. Where the middle of the box is stable, a gain of the box can be
unstable only if a pole crosses the circle on the way to it (zero exclusion).
"""

import math
from itertools import product

import numpy as np

from ctrlattn.controllers import PID
from ctrlattn.errors import InputError
from ctrlattn.stability.modes.decomposition import cross_product
from ctrlattn.stability.modes.intervals import Interval
from ctrlattn.stability.modes.regions import spectral_radius, stability_set

# Near z = 1 an integral is large and the frequencies have to be dense on a logarithmic scale.
_OMEGA = np.concatenate([np.geomspace(1e-6, 1e-2, 200), np.linspace(1e-2, math.pi, 4000, endpoint=False)])

_ZOOMS = 6  # rounds of 17 frequencies, each an eighth of the one before
_ATTACKS = 48  # on the edges of the box
_INSIDE = 1e-6  # share of the spread by which the attacked gains stay inside the box
_ROUNDING = 1e-9


def stable_spread(pid: PID, region: Interval, largest: float = 0.5) -> float:
    """Return the largest s <= largest for which gains within (1 - s, 1 + s) times `pid` are all stable on the region.

    Zero exclusion is evaluated on 4,201 frequencies, and between them where it is close; s is bisected 40 times. Gains
    at the corners and on the edges of the box are checked to be stable by their poles.

    Parameters
    ----------
    pid : PID
    region : (low, high)
        Real modes alpha, ends included.
    largest : float

    Returns
    -------
    float
        Share of each gain.

    Raises
    ------
    InputError
        The region has low > high, or the gains themselves are not stable on it.
    ArithmeticError
        The poles contradict all frequencies.

    References
    ----------
    Zero exclusion over a polytope of polynomials: Bhattacharyya, Chapellat, Keel, Robust Control: The Parametric
    Approach, 1995.

    Examples
    --------
    >>> round(stable_spread(PID(0.8, 0.5, 0.05), (0.2, 1.0)), 4)         # 1.2 / 1.15 - 1
    0.0435
    """
    _require_inside(pid, region)
    spread = _largest_spread(pid, region, largest)
    if not _survives(pid, region, spread):
        raise ArithmeticError(
            f"stable_spread: gains within {spread:.3g} of {pid.kp:g}/{pid.ki:g}/{pid.kd:g} are unstable by "
            "their poles, though no frequency shows it: the region touches the boundary of stability"
        )
    return spread


def _largest_spread(pid: PID, region: Interval, largest: float) -> float:
    if _box_is_stable(pid, region, largest):
        return largest
    low, high = 0.0, largest
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _box_is_stable(pid, region, middle) else (low, middle)
    return low


def _survives(pid: PID, region: Interval, spread: float) -> bool:
    """Tell whether gains at the corners of the box and on its edges, seeded, are stable at both ends of the region."""
    edges = np.sign(np.random.default_rng(0).uniform(-1, 1, (_ATTACKS, 3)))
    edges[np.arange(_ATTACKS), np.arange(_ATTACKS) % 3] = np.linspace(-1, 1, _ATTACKS)
    corners = np.array(list(product((-1.0, 1.0), repeat=3)))
    for direction in np.concatenate([corners, edges]):
        gains = (1 + spread * (1 - _INSIDE) * direction) * np.array([pid.kp, pid.ki, pid.kd])
        sample = PID(*(float(gain) for gain in gains), form=pid.form, ema=pid.ema)
        if np.any(spectral_radius(sample, np.array(region)) >= 1 + _ROUNDING):
            return False
    return True


def _require_inside(pid: PID, region: Interval) -> None:
    low, high = region
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise InputError(f"a region is (low, high) with low <= high, got {region}")
    intervals = stability_set(pid)
    if not any(left < low and high < right for left, right in intervals):
        stable = " or ".join(f"{left:.6g} < alpha < {right:.6g}" for left, right in intervals) or "no alpha"
        raise InputError(
            f"the gains {pid.kp:g}/{pid.ki:g}/{pid.kd:g} ({pid.form}) are not stable on the region ({low}, {high}): "
            f"they are for {stable}; take smaller gains or a smaller region"
        )


def _box_is_stable(pid: PID, region: Interval, spread: float) -> bool:
    """Tell by zero exclusion whether z - alpha + C(z) is 0 nowhere on the circle, for all of the region and the box.

    Between the frequencies of the grid the slack is followed down into each of its valleys.
    """
    w = np.append(_OMEGA, math.pi)
    slack = _slack(pid, region, spread, w)
    if np.any(slack <= 0):
        return False
    valleys = np.flatnonzero((slack[1:-1] <= slack[:-2]) & (slack[1:-1] <= slack[2:])) + 1
    left, right = w[valleys - 1], w[valleys + 1]
    for _ in range(_ZOOMS):
        inside = np.linspace(left, right, 17)
        slack = _slack(pid, region, spread, inside.ravel()).reshape(inside.shape)
        if np.any(slack <= 0):
            return False
        lowest, columns = np.argmin(slack, axis=0), np.arange(len(valleys))
        left, right = inside[np.maximum(lowest - 1, 0), columns], inside[np.minimum(lowest + 1, 16), columns]
    return True


def _slack(pid: PID, region: Interval, spread: float, w: np.ndarray) -> np.ndarray:
    """Return how far 0 is outside the values at each frequency, in their widths; below 0 some gain puts a pole there.

    The values over the box fill a zonotope in the plane. The point 0 is outside if a line parallel to one of the
    sides separates the two; where all sides are real, the line is vertical.
    """
    z = np.where(w == math.pi, -1.0, np.exp(1j * w))
    parts = [_response(pid, name, z) for name in ("kp", "ki", "kd")]
    middle = z - (region[0] + region[1]) / 2 + sum(parts)
    sides = np.stack([np.full_like(z, (region[1] - region[0]) / 2), *(spread * part for part in parts)])
    directions = np.concatenate([sides, np.full_like(z, 1j)[None]])
    distance = np.abs(cross_product(directions, middle))
    width = np.abs(cross_product(directions[:, None], sides[None])).sum(1)
    apart = distance - width * (1 + 1e-12)
    return np.max(apart / np.maximum(np.abs(directions), 1e-300), axis=0)


def _response(pid: PID, name: str, z: np.ndarray) -> np.ndarray:
    """Return the part of C(z) that belongs to one gain."""
    num, den = PID(**{name: getattr(pid, name)}, form=pid.form, ema=pid.ema).fraction()
    return np.polyval(num, z) / np.polyval(den, z)
