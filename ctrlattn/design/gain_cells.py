"""max over modes of the figures of T = num/p and S, for many PID gains at once: `performance` of a whole grid.

All cells that share a memory have one denominator, and their numerators are linear in the gains.
"""

from collections.abc import Collection
from typing import Any

import numpy as np

from ctrlattn.controllers import PIDForm
from ctrlattn.design.performance import HORIZON, MEASURES, SMALLEST, measured, modes_of, plant
from ctrlattn.errors import require_known, require_whole
from ctrlattn.linear.mode_polynomial import upper_half
from ctrlattn.loop import Loop
from ctrlattn.stability.modes.pid_gains import PIDTerms, by_memory

_CHUNK = 1 << 12  # cells times modes that are in memory at once: the frequency grid has 193 points for each


def worst_of_gains(
    loop: Loop,
    spectrum: Any,
    gains: np.ndarray,
    form: PIDForm = "printed",
    ema: float = 0.3,
    *,
    measures: Collection[str] = MEASURES,
    horizon: int = HORIZON,
) -> dict[str, np.ndarray]:
    """Return `performance(...).worst()` of the loop under many PID gains.

    Parameters
    ----------
    loop : Loop
        As for `performance`; its controller is replaced by each of the gains.
    spectrum : real or complex, any shape
        Eigenvalues of attention; both of a complex pair.
    gains : (k, 3)
        kp, ki, kd.
    form, ema : as for `PID`
    measures : names among MEASURES
        What is computed: a peak over frequency takes ten times as long as a step response.
    horizon : int
        Layers in which a response has to settle.

    Returns
    -------
    dict of (k,)
        The worst mode; where a mode is unstable the margins are 0 and the others inf.

    Raises
    ------
    InputError
        As `performance`; an unknown measure.

    Examples
    --------
    >>> from ctrlattn import presets
    >>> worst = worst_of_gains(presets.get("neutreno"), [0.0, 0.5, 1.0], np.array([[0.6, 0.0, 0.0], [0.4, 0.0, 0.0]]))
    >>> worst["steady_state_error"].round(6).tolist()  # 1 - .6/1.6 and 1 - .4/1.4 at a = 0
    [0.625, 0.714286]
    """
    names = [require_known("measure", name, MEASURES) for name in measures]
    horizon = require_whole("horizon", horizon)
    modes = upper_half(np.unique(modes_of(loop, spectrum)))  # T and S of a conjugate mode are the conjugate ones
    result = {name: np.empty(len(gains)) for name in names}
    size = max(_CHUNK // len(modes), 1)
    for terms, cells in by_memory(gains, form, ema):
        for part in np.split(cells, range(size, len(cells), size)):
            for name, values in _worst_figures(loop, modes, terms, gains[part], names, horizon).items():
                result[name][part] = values
    return result


def _worst_figures(
    loop: Loop, modes: np.ndarray, terms: PIDTerms, gains: np.ndarray, names: list[str], horizon: int
) -> dict[str, np.ndarray]:
    """Return the worst mode of each cell of one memory."""
    num, alpha = plant(loop, (gains @ terms.num)[:, None, :], modes)
    cell, mode = (index.ravel() for index in np.indices((len(gains), len(modes))))
    flat, alpha = num.reshape(-1, num.shape[-1]), alpha[mode]
    poles = np.linalg.eigvals(terms.matrices(gains[cell], alpha)).astype(complex)
    radius = np.abs(poles).max(axis=-1)
    values = {name: np.full(len(flat), 0.0 if name in SMALLEST else np.inf) for name in names}
    good = np.argsort(radius, kind="stable")[: int(np.sum(radius < 1))]
    # A cell with an unstable mode is decided: its other modes need no figures.
    whole = np.all(radius.reshape(len(gains), -1) < 1, axis=1)
    good = good[whole[cell[good]]]
    for part in np.array_split(good, max(len(good) // 256, 1)):
        if len(part):
            for name, figures in measured(flat[part], terms.den, alpha[part], poles[part], horizon, names).items():
                values[name][part] = figures
    shape = (len(gains), len(modes))
    return {
        name: np.where(whole, (np.min if name in SMALLEST else np.max)(each.reshape(shape), axis=1), _worst_value(name))
        for name, each in values.items()
    }


def _worst_value(name: str) -> float:
    return 0.0 if name in SMALLEST else np.inf
