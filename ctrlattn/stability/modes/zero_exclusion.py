"""0 != z - alpha + C(z; gains) for all |z| = 1: every gain of a box and every mode of an interval is stable.

The closed-loop poles move continuously with the gains. Where the middle of the box is stable, a gain of the box can be
unstable only if a pole crosses the circle on the way to it (zero exclusion).
"""

import math

import numpy as np

from ctrlattn.controllers import PID
from ctrlattn.errors import InputError
from ctrlattn.stability.modes.regions import Interval, stability_set

# Near z = 1 an integral is large and the frequencies have to be dense on a logarithmic scale.
_OMEGA = np.concatenate([np.geomspace(1e-6, 1e-2, 200), np.linspace(1e-2, math.pi, 4000, endpoint=False)])


def stable_spread(pid: PID, region: Interval, largest: float = 0.5) -> float:
    """The largest s <= largest for which all gains within (1 - s, 1 + s) times those of `pid` are stable on the region.

    Zero exclusion is evaluated on 4,201 frequencies; s is bisected 40 times.

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
    if _box_is_stable(pid, region, largest):
        return largest
    low, high = 0.0, largest
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _box_is_stable(pid, region, middle) else (low, middle)
    return low


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
    """Zero exclusion: z - alpha + C(z) is 0 nowhere on the circle, for no alpha of the region and no gain of the box.

    At each frequency its values over the box fill a zonotope in the plane. The point 0 is outside if a line parallel to
    one of the sides separates the two; where all sides are real, the line is vertical.
    """
    z = np.append(np.exp(1j * _OMEGA), -1.0)
    parts = [_response(pid, name, z) for name in ("kp", "ki", "kd")]
    middle = z - (region[0] + region[1]) / 2 + sum(parts)
    sides = np.stack([np.full_like(z, (region[1] - region[0]) / 2), *(spread * part for part in parts)])
    directions = np.concatenate([sides, np.full_like(z, 1j)[None]])
    distance = np.abs(_cross(directions, middle))
    width = np.abs(_cross(directions[:, None], sides[None])).sum(1)
    return bool(np.all(np.any(distance > width * (1 + 1e-12), axis=0)))


def _response(pid: PID, name: str, z: np.ndarray) -> np.ndarray:
    """The part of C(z) that belongs to one gain."""
    num, den = PID(**{name: getattr(pid, name)}, form=pid.form, ema=pid.ema).fraction()
    return np.polyval(num, z) / np.polyval(den, z)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Re a Im b - Im a Re b: the cross product of two vectors of the plane."""
    return a.real * b.imag - a.imag * b.real
