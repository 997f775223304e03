"""alpha(w) = e^{iw} + C(e^{iw}) real: the modes at which some closed-loop pole is on the unit circle."""

from typing import Any

import numpy as np

from ctrlattn.linear.mode_matrix import controller_realization, mode_matrix
from ctrlattn.linear.transfer import BoundaryTransfer
from ctrlattn.stability.boundary_search import samples, start_grid, zeros

_POLE = 1e12  # |C| beyond which z is a pole of the controller, where alpha is infinite and no mode critical
_NOISE = 1e-13


def critical_modes(controller: Any, *, finer: int = 1) -> np.ndarray:
    """Return the real alpha at which some closed-loop pole is on the unit circle, ascending.

    Parameters
    ----------
    controller : PID, LTIController or python-control system with dt = 1
    finer : int
        Every step of the search is divided by it.

    Returns
    -------
    (m,)

    Examples
    --------
    >>> from ctrlattn import PID
    >>> critical_modes(PID(0.5)).tolist()  # z = -1 and z = 1
    [-0.5, 1.5]
    """
    g = controller_realization(controller)
    transfer = BoundaryTransfer(*g[:5])

    def response(w: np.ndarray) -> np.ndarray:
        values = transfer.at(w)[0, 0]
        return np.where(np.isfinite(values), values, np.inf)

    def imaginary(w: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return Im(z + C)/(sin w (1 + |C|)); Im C alone near a pole of C."""
        with np.errstate(all="ignore"):
            f = np.where(np.isfinite(values), (np.sin(w) + values.imag) / (1 + np.abs(values)), 0.0)
        return np.where(np.abs(f) < _NOISE, 0.0, f / np.sin(w))[None]

    roots = np.concatenate([np.linalg.eigvals(g.a), np.linalg.eigvals(mode_matrix(controller, 0.0))])
    w = start_grid(roots, continuous=False, finer=finer)
    frequencies = zeros(response, imaginary, samples(response, imaginary, w), 0)
    value = np.exp(1j * frequencies) + response(frequencies)
    frequencies = frequencies[(np.abs(value) < _POLE) & (np.abs(value.imag) < 1e-6 * (1 + np.abs(value)))]
    ends = response(np.array([0.0, np.pi]))
    at_ends = np.add(ends.real, [1.0, -1.0])[np.abs(ends) < _POLE]
    return np.unique(np.concatenate([np.cos(frequencies) + response(frequencies).real, at_ends]))
