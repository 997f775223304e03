"""||G||_2^2 = tr(C P C* + D D*), ||G||_inf = sup_w sigma_max(G(e^{iw})): size of a stable system, in either time.

The peak is found by level sets: sigma_max(G) = gamma at w if and only if e^{iw} (iw) is an eigenvalue of the
symplectic (Hamiltonian) pencil of gamma. The pencil is never inverted, so that poles at 0 (pure delays) do no harm.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import eigvals

from ctrlattn.errors import InputError
from ctrlattn.linear.realization import Realization, realization
from ctrlattn.linear.state_matrix import require_size
from ctrlattn.stability.robustness.gramians import controllability_factor, require_dense

# How far from the boundary an eigenvalue may lie and still be tried as a crossing: trying costs one response.
_NEAR = 1e-3
_LARGEST = 1000


class PeakGain(NamedTuple):
    """sup_w sigma_max(G) lies in [value, upper]; value is attained at `frequency`."""

    value: float
    frequency: float  # rad per sample or per unit of time; inf where only the direct term attains it
    upper: float


def h2_norm(system: Any, *, continuous: bool = False) -> float:
    """||G||_2, the root of the output variance under white noise of unit variance (intensity in continuous time).

    Parameters
    ----------
    system : control.StateSpace, control.TransferFunction, or (A, B, C, D), real or complex
    continuous : bool
        Time domain of a tuple.

    Returns
    -------
    float
        inf for an unstable or marginal system, hidden modes included, and for a continuous one with a direct term.

    Raises
    ------
    InputError
        As `realization`: improper, not finite, misshapen.

    References
    ----------
    Zhou, Doyle, Glover, Robust and Optimal Control, 1996, sections 4.3 and 21.

    Examples
    --------
    >>> import control
    >>> round(h2_norm(control.tf([1], [1, -0.5], 1)), 12)  # 1/sqrt(1 - 0.25)
    1.154700538379
    """
    g = realization(system, "h2_norm", continuous=continuous)
    require_dense(g, "h2_norm")
    if not g.is_stable() or (g.continuous and np.any(g.d)):
        return math.inf
    direct = np.linalg.norm(g.d)
    return float(np.hypot(np.linalg.norm(g.c @ controllability_factor(g)), direct))


def hinf_norm(system: Any, *, tol: float = 1e-9, continuous: bool = False) -> float:
    """||G||_inf = sup_w sigma_max(G): the peak gain, over all frequencies and directions.

    Parameters
    ----------
    system, continuous : as for `h2_norm`
    tol : float
        Relative accuracy: no frequency exceeds the result by more than the factor 1 + 2 tol.

    Returns
    -------
    float
        inf for an unstable or marginal system, hidden modes included.

    Raises
    ------
    InputError
        As `realization`; a tol that is not in [1e-12, 1); more than 1000 states.
    ArithmeticError
        A matrix whose stability rounding decides, see `Realization.is_stable`.

    References
    ----------
    Bruinsma and Steinbuch, Systems & Control Letters 14 (1990) 287; Boyd and Balakrishnan, 15 (1990) 1.

    Examples
    --------
    >>> import control
    >>> hinf_norm(control.tf([1], [1, -0.5, 0, 0], 1))  # two pure delays: poles at 0
    2.0
    """
    return peak_gain(system, tol=tol, continuous=continuous).value


def peak_gain(system: Any, *, tol: float = 1e-9, continuous: bool = False) -> PeakGain:
    """||G||_inf with the frequency at which it is attained and the level that the pencil shows nobody reaches.

    Parameters
    ----------
    system, tol, continuous : as for `hinf_norm`

    Returns
    -------
    PeakGain

    Examples
    --------
    >>> import control
    >>> peak_gain(control.tf([1], [1, 0.5], 1))[:2]  # z = -1
    (2.0, 3.141592653589793)
    """
    if not 1e-12 <= tol < 1:
        raise InputError(f"tol must lie in [1e-12, 1), got {tol}")
    g = realization(system, "hinf_norm", continuous=continuous)
    require_pencil(g, "hinf_norm")
    if not g.is_stable():
        return PeakGain(math.inf, math.nan, math.inf)
    return level_set_peak(g, tol)


def require_pencil(g: Realization, quantity: str) -> None:
    """Raise InputError where the pencil of `level_crossings` would take hours."""
    require_size(len(g.a), _LARGEST, quantity, "Reduce the order with balanced_truncation.")


def level_set_peak(g: Realization, tol: float) -> PeakGain:
    """`peak_gain` of a realization known to be stable."""
    value, frequency = _best(g, _first_guesses(g))
    for _ in range(60):
        level = value * (1 + 2 * tol)
        if level == 0.0:  # a zero system, or one that is zero wherever we looked
            level = float(1e-300 + tol * np.linalg.norm(g.b) * np.linalg.norm(g.c))
            if level <= 1e-300:
                return PeakGain(0.0, 0.0, 0.0)
        crossings = level_crossings(g, level)
        middles = (crossings[1:] + crossings[:-1]) / 2
        higher, where = _best(g, np.concatenate([crossings, middles]))
        if higher <= level:
            return PeakGain(max(value, higher), where if higher > value else frequency, level)
        value, frequency = higher, where
    raise ArithmeticError("the level sets do not close in on the peak: rescale the system")  # 60 doublings of accuracy


def level_crossings(g: Realization, level: float) -> np.ndarray:
    """Ascending frequencies at which some singular value of G may equal `level`; no crossing is left out.

    x' = A x + B u, y = C x + D u, and the adjoint p driven by y, closed by level^2 u = adjoint output.
    """
    n, m = g.b.shape
    a, b, c, d = g.a, g.b / level, g.c, g.d / level  # u in units of the level: a better scaled pencil
    ah, bh, ch, dh = (x.conj().T for x in (a, b, c, d))
    last = np.hstack([dh @ c, bh, dh @ d - np.eye(m)])
    eye, zero = np.eye(n), np.zeros((n, n))
    if g.continuous:
        left = np.vstack([np.hstack([a, zero, b]), np.hstack([-ch @ c, -ah, -ch @ d]), last])
        right = np.diag(np.repeat([1.0, 0.0], [2 * n, m]))
    else:
        left = np.vstack([np.hstack([a, zero, b]), np.hstack([zero, eye, np.zeros((n, m))]), last])
        right = np.zeros_like(left)
        right[:n, :n] = eye
        right[n : 2 * n] = np.hstack([ch @ c, ah, ch @ d])
    top, bottom = eigvals(left, right, homogeneous_eigvals=True)
    return _on_boundary(g, top, bottom)


def largest_gain(g: Realization, frequency: float) -> float:
    """sigma_max(G) at one frequency."""
    return float(np.linalg.norm(g.response(frequency), 2)) if g.d.size else 0.0


def _on_boundary(g: Realization, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    finite = np.abs(bottom) > 1e-14 * np.hypot(np.abs(top), np.abs(bottom))
    roots = top[finite] / bottom[finite]
    if g.continuous:
        near = np.abs(roots.real) <= _NEAR * np.abs(roots) + 1e-9 * np.linalg.norm(g.a)
        frequencies = roots[near].imag
    else:
        frequencies = np.angle(roots[np.abs(np.abs(roots) - 1) < _NEAR])
    return np.unique(np.abs(frequencies) if g.real() else frequencies)


def _first_guesses(g: Realization) -> np.ndarray:
    """Both ends, and the frequencies of the poles closest to the boundary."""
    poles = np.linalg.eigvals(g.a) if len(g.a) else np.zeros(0)
    if g.continuous:
        return np.concatenate([[0.0, np.inf], poles.imag, np.sqrt(np.abs(np.abs(poles) ** 2 - 2 * poles.real**2))])
    return np.concatenate([[0.0, np.pi], np.angle(poles[poles != 0])])


def _best(g: Realization, frequencies: np.ndarray) -> tuple[float, float]:
    if not len(frequencies):
        return 0.0, 0.0
    tried = np.unique(np.abs(frequencies) if g.real() else frequencies)
    peaks = [largest_gain(g, w) for w in tried]
    at = int(np.argmax(peaks))
    return peaks[at], float(tried[at])
