"""T = num/p, S = (z - alpha) den/p, p = (z - alpha) den + num: measures of one controller on every mode.

The step response is that of T, from beta r to the state, from rest; the margins are those of the loop broken at the
controller. Over the passes of a looped network (`Passes`) the same holds with alpha = 1 and (1 + recall - lambda) num
in the place of num: the step response then is the way to the fixed point.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ctrlattn.arrays import require_numbers, require_real
from ctrlattn.controllers import PID
from ctrlattn.errors import InputError, require_whole
from ctrlattn.linear import mode
from ctrlattn.linear.mode_polynomial import (
    open_loop_pole,
    overshoot,
    sensitivity_of,
    settling,
    static_gain,
    step_responses,
)
from ctrlattn.linear.pass_polynomial import ALPHA, pass_numerator
from ctrlattn.loop import Loop
from ctrlattn.passes import Passes
from ctrlattn.stability import closed_loop_poles, pass_poles

MEASURES = ("modulus_margin", "disk_margin", "settling", "overshoot", "steady_state_error")
SMALLEST = ("modulus_margin", "disk_margin")  # whose worst mode has the smallest; of the others it has the largest
_GOLDEN = (5**0.5 - 1) / 2
_SHIFTS = np.array([0.0, 0.5])[:, None, None]  # of S: the modulus margin and the balanced disk margin
_CHUNK, _GRID = 256, 193
HORIZON = 1000  # layers in which a response has to settle, unless asked otherwise


@dataclass(frozen=True)
class Performance:
    """Figures of one loop for each distinct mode; of an unstable mode the margins are 0 and the others inf."""

    a: np.ndarray  # (m,) complex: eigenvalues of attention, or of the Jacobian of a pass, distinct
    count: np.ndarray  # (m,) int: how often each occurs in the spectrum
    radius: np.ndarray  # (m,) largest modulus of its closed-loop poles
    modulus_margin: np.ndarray  # (m,) min |1 + L| = 1/Ms
    disk_margin: np.ndarray  # (m,) balanced: 1/max |S - 1/2|
    settling: np.ndarray  # (m,) layers until the step response stays within 2 % of its end; inf: not within the horizon
    overshoot: np.ndarray  # (m,) share of the end by which it goes beyond it
    steady_state_error: np.ndarray  # (m,) |1 - T(1)|

    @property
    def stable(self) -> np.ndarray:
        """(m,) bool."""
        return self.radius < 1

    @property
    def stable_share(self) -> float:
        """Share of the spectrum, occurrences counted, that the loop leaves stable."""
        return float(np.sum(self.count[self.stable]) / np.sum(self.count))

    def worst(self) -> dict[str, float]:
        """Return the worst mode of each figure."""
        return {name: float((np.min if name in SMALLEST else np.max)(getattr(self, name))) for name in MEASURES}

    def where(self, chosen: np.ndarray) -> "Performance":
        """Return the figures of the chosen modes alone."""
        return Performance(*(getattr(self, f.name)[chosen] for f in fields(self)))


def performance(loop: Loop | Passes, spectrum: Any, *, horizon: int = HORIZON) -> Performance:
    """Return the stability, the margins and the step response of every mode of a measured spectrum.

    Parameters
    ----------
    loop : Loop or Passes
        A Loop as for `mode`: parallel order, no normalizer, no held token. The predictor is not used. Passes are the
        loop of a looped network, with layers read as passes.
    spectrum : real or complex, any shape
        Eigenvalues of attention, such as `attention_spectrum` of recorded matrices; for Passes those of J = F'(h*).
        Both of a complex pair.
    horizon : int
        At least 1: the layers in which the response has to settle; else settling is inf.

    Returns
    -------
    Performance

    Raises
    ------
    InputError
        A loop that is not linear and time-invariant; no mode, or one that is not finite.

    Notes
    -----
    A peak over frequency is looked for on a grid and at the angles of the closed-loop poles, where a narrow one must
    be, and refined; the tests hold the margins of real modes to 1e-7 of the exact ones.

    Examples
    --------
    >>> from ctrlattn import presets
    >>> worst = performance(presets.get("neutreno"), [0.0, 0.5, 1.0]).worst()
    >>> round(worst["steady_state_error"], 6), round(worst["modulus_margin"], 6)  # 1 - .6/1.6; 1 - .6 at a = 0, z = -1
    (0.625, 0.4)
    """
    horizon = require_whole("horizon", horizon)
    a, count = np.unique(modes_of(loop, spectrum), return_counts=True)
    law = loop.law if isinstance(loop, Passes) else loop.controller or PID()
    num, den = law.fraction()
    num = np.pad(require_real("the controller", num), (max(len(den) - len(num), 0), 0))
    num, alpha = plant(loop, num, a)
    poles = pass_poles(law, a, loop.recall) if isinstance(loop, Passes) else closed_loop_poles(law, alpha)
    radius = np.abs(poles).max(axis=-1)
    measures = {name: np.full(len(a), 0.0 if "margin" in name else np.inf) for name in MEASURES}
    # In order of their radius, so that those which settle soon are not simulated as long as those which do not.
    good = np.argsort(radius, kind="stable")[: int(np.sum(radius < 1))]
    for modes in np.array_split(good, max(len(good) // _CHUNK, 1)):
        if len(modes):
            for name, values in measured(num[modes], den, alpha[modes], poles[modes], horizon).items():
                measures[name][modes] = values
    return Performance(a, count, radius, **measures)


def in_words(measure: str, value: float) -> str:
    """Return the figure of a measure as text; a response that has not settled in the horizon has no number of layers.

    >>> in_words("settling", 8.0), in_words("settling", np.inf)
    ('settling 8', 'settling not within 1000 layers')
    """
    if measure == "settling" and np.isinf(value):
        return f"settling not within {HORIZON} layers"
    return f"{measure} {value:.3g}"


def plant(loop: Loop | Passes, num: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (numerator, alpha) of every mode, (..., m, order + 1) and (m,), which its polynomials are made of.

    Parameters
    ----------
    num : (..., order + 1) or (..., 1, order + 1)
        Of C(z).
    a : (m,)

    Examples
    --------
    >>> plant(Passes(), np.array([0.5]), np.array([0.0, 3.0]))[0].tolist()
    [[0.5], [-1.0]]
    """
    if isinstance(loop, Passes):
        return pass_numerator(num, a, loop.recall), np.full(len(a), ALPHA)
    alpha = open_loop_pole(loop, a)
    return np.broadcast_to(num, (*num.shape[:-2], len(a), num.shape[-1])), alpha


def modes_of(loop: Loop | Passes, spectrum: Any) -> np.ndarray:
    """Return the eigenvalues, flat and complex, checked with the loop they belong to."""
    if not isinstance(loop, Passes):
        mode(loop, 1.0)  # refuses what has no modes, and says why
    a = require_numbers("a spectrum", spectrum).astype(complex).ravel()
    if not len(a) or not np.all(np.isfinite(a)):
        raise InputError("a spectrum needs at least one eigenvalue, all of them finite")
    return a


def measured(
    num: np.ndarray,
    den: np.ndarray,
    alpha: np.ndarray,
    poles: np.ndarray,
    horizon: int,
    measures: Collection[str] = MEASURES,
) -> dict[str, np.ndarray]:
    """Return the asked figures of stable modes, (m,) each; of modes with similar radii the slowest decides the horizon.

    Parameters
    ----------
    num : (m, order + 1), den : (order + 1,), alpha : (m,), poles : (m, order + 1)
    horizon : int
    measures : names among MEASURES
    """
    figures: dict[str, np.ndarray] = {}
    if not set(measures) <= set(SMALLEST):
        slowest = float(np.abs(poles).max())
        # Long enough for the slowest pole to decay to 1e-6, three times over.
        enough = 64 + 3 * int(np.log(1e-6) / np.log(max(slowest, 1e-6)))
        final = static_gain(num, den, alpha)
        y = step_responses(num, den, alpha, min(horizon, enough))
        figures = {
            "settling": settling(y, final),
            "overshoot": overshoot(y, final),
            "steady_state_error": np.abs(1 - final),
        }
    if not set(measures).isdisjoint(SMALLEST):
        # Without a controller S = 1, and a cancelled pole of the plant must not say otherwise.
        peaks = _peaks(num, den, alpha, poles) if np.any(num) else np.broadcast_to([[1.0], [0.5]], (2, len(alpha)))
        figures |= {"modulus_margin": 1 / peaks[0], "disk_margin": 1 / peaks[1]}
    return {name: figures[name] for name in measures}


def _peaks(num: np.ndarray, den: np.ndarray, alpha: np.ndarray, poles: np.ndarray) -> np.ndarray:
    """Return max |S| and max |S - 1/2| on the circle, (2, modes): golden section from a grid and the poles' angles."""

    def gains(omega: np.ndarray) -> np.ndarray:
        return np.abs(sensitivity_of(num[:, None, :], den, alpha[:, None], np.exp(1j * omega)) - _SHIFTS)

    real = np.all(alpha.imag == 0) and np.all(num.imag == 0)
    grid = np.linspace(0.0 if real else -np.pi, np.pi, _GRID)
    starts = [_best(omega, gains(omega)) for omega in (grid[None, :], np.angle(poles))]
    middle, height = (np.concatenate(both, axis=-1) for both in zip(*starts, strict=True))
    narrow = 1 - np.abs(poles).max(axis=1)[:, None]
    width = np.concatenate([np.full_like(narrow, grid[1] - grid[0]), narrow], axis=-1)
    return np.maximum(height, _golden(gains, middle - width, middle + width)).max(axis=-1)


def _best(omega: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the place of the largest of heights (2, modes, candidates) and that height, both (2, modes, 1)."""
    at = np.argmax(heights, axis=-1)[..., None]
    where = np.take_along_axis(np.broadcast_to(omega, heights.shape), at, axis=-1)
    return where, np.take_along_axis(heights, at, axis=-1)


def _golden(f: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the maximum of a function with one between low and high; golden section takes one evaluation a step."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = f(left), f(right)
    for _ in range(24):  # to 1e-5 of the width, 1e-10 of a smooth peak
        rising = at_left < at_right
        low, high = np.where(rising, left, low), np.where(rising, high, right)
        new = np.where(rising, low + _GOLDEN * (high - low), high - _GOLDEN * (high - low))
        at_new = f(new)
        left, right = np.where(rising, right, new), np.where(rising, new, left)
        at_left, at_right = np.where(rising, at_right, at_new), np.where(rising, at_new, at_left)
    return np.maximum(at_left, at_right)
