"""g C(z): for which common factors g of a law's gains is every recorded mode stable?"""

import math
from dataclasses import replace

import numpy as np

from ctrlattn.linear.mode_polynomial import mode_polynomial, open_loop_pole, outermost_modes, reflection, upper_half
from ctrlattn.loop import Loop
from ctrlattn.stability.modes.decomposition import gain_intervals
from ctrlattn.stability.modes.intervals import Interval

_ROUNDS = 40  # each adds the mode that the last answer forgot
_INSIDE = 1e-6  # how far inside an interval all modes are tested, as a share of its width
_FAR = 1e3  # where an interval without an end is tested


def stable_factors(loop: Loop, spectrum: np.ndarray) -> Interval | None:
    """Return the open interval of factors g > 0 for which the controller g C leaves every mode stable, or None.

    There may be none. Of several intervals the one around 1 is taken, else the highest. The intervals are exact for the
    modes at the rim of the spectrum; all modes are then tested next to both ends, and one that is unstable there joins
    the rim.

    >>> from ctrlattn import presets
    >>> low, high = stable_factors(presets.get("neutreno"), np.array([0.0, 0.5, 1.0]))  # |a - 0.6 g| < 1
    >>> round(low, 9), round(high, 9)
    (0.0, 1.666666667)
    """
    if loop.controller is None:
        return None
    num, den = loop.controller.fraction()
    modes = np.unique(spectrum)
    alpha = open_loop_pole(loop, modes)
    rim = upper_half(outermost_modes(modes, 16, 8))
    for _ in range(_ROUNDS):
        intervals = gain_intervals(replace(loop, controller=None), ("skip", loop.controller), rim, loop.skip)
        positive = [(max(low, 0.0), high) for low, high in intervals if high > 0]
        if not positive:
            return None
        low, high = next((pair for pair in positive if pair[0] < 1 < pair[1]), positive[-1])
        end = high if math.isfinite(high) else low + _FAR
        near = _INSIDE * (end - low)
        size = np.max([reflection(mode_polynomial(g * num, den, alpha)) for g in (low + near, end - near)], axis=0)
        if np.all(size < 1):
            return low, high
        rim = np.append(rim, modes[np.argmax(size)])
    raise ArithmeticError(f"no factor of the gains is stable on all modes after {_ROUNDS} rounds")
