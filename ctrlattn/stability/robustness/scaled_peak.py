"""sup_w min_D sigma_max(D G(w) D^-1): an upper bound of mu over all frequencies, by intervals and not by a grid.

With D frozen, {w: sigma_max(D G D^-1) < level} is a union of intervals whose ends are eigenvalues of one pencil
(`level_crossings`). The sweep keeps what no D has yet covered. It takes the best D in the middle of an uncovered
interval, and takes away all that this D covers. So nothing is jumped over: a frequency leaves the list only where some
D has shown the bound to be below the level, and a middle at which the best D fails to be below raises the level.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from ctrlattn.linear.lapack import eigenvalues
from ctrlattn.linear.realization import Realization
from ctrlattn.linear.transfer import BoundaryTransfer
from ctrlattn.stability.boundary_search import distinct
from ctrlattn.stability.robustness.norms import highest_point, level_crossings
from ctrlattn.stability.robustness.structured import norms, scaled_norms

_PIECES = 200  # frozen scalings before the sweep gives up
_PATIENCE = 30  # of them before the tolerance grows: where singular values coalesce a frozen D covers next to nothing
_DOUBLING = 10  # of them after which it has doubled
_SHARE = 1e-2  # of the tolerance, for the minimum over D
_ROUGH = 1e-2  # accuracy of the first look
_ROUNDS = 12  # of the zoom on a local maximum
_ZOOM = 8  # frequencies a round
_NET = np.arange(24) / 23  # shares of the logarithmic way between the poles
_CIRCLE = np.linspace(0, math.pi, 17)


class ScaledPeak(NamedTuple):
    """The supremum lies in [value, upper]; value is the bound at `frequency`."""

    value: float
    frequency: float  # rad per sample or per unit of time; inf where only the direct term attains it
    upper: float
    looked_at: np.ndarray  # every frequency at which G was evaluated alone, for those who attack the answer


class Responses:
    """G at many frequencies, again and again, and its poles, where they are not known yet."""

    def __init__(self, g: Realization, poles: np.ndarray | None = None, *, balanced: bool = False) -> None:
        self.g = g
        self.transfer = BoundaryTransfer(*g[:4], g.continuous, balanced)
        self.poles = eigenvalues(g.a) if poles is None else poles

    def __call__(self, frequencies: np.ndarray) -> np.ndarray:
        """Return the responses (k, p, m); D at an infinite frequency."""
        return self.transfer.at(np.asarray(frequencies, dtype=float)).transpose(2, 0, 1)


def scaled_peak(responses: Responses, tol: float, hints: np.ndarray | None = None) -> ScaledPeak:
    """Return the peak over frequency of the scaled norm of a stable square system.

    Parameters
    ----------
    responses : Responses
        G, stable, as many inputs as outputs; a single channel makes this the H-infinity norm.
    tol : float
        `upper` is at most value (1 + tol), unless the sweep had to raise the level to come to an end: from 30 frozen
        scalings on the tolerance doubles with every ten.
    hints : (k,)
        More frequencies for the first look.

    Returns
    -------
    ScaledPeak

    Raises
    ------
    ArithmeticError
        200 scalings do not cover the axis.

    Examples
    --------
    >>> import control
    >>> from ctrlattn.linear.realization import realization
    >>> peak = scaled_peak(Responses(realization(control.tf([1], [1, 0.5], 1), "peak")), 1e-6)
    >>> round(peak.value, 6), round(peak.frequency, 6)  # z = -1
    (2.0, 3.141593)
    """
    return _Sweep(responses, tol).peak(np.zeros(0) if hints is None else hints)


class _Sweep:
    def __init__(self, responses: Responses, tol: float) -> None:
        g = responses.g
        self.g, self.tol, self.responses = g, tol, responses
        self.unit = _typical_frequency(responses)
        end = math.inf if g.continuous else math.pi
        self.ends = (0.0 if g.real() else -end, end)
        self.value, self.frequency, self.log = -1.0, self.ends[0], np.zeros(len(g.d))
        self.looked_at = np.zeros(0)

    def peak(self, hints: np.ndarray) -> ScaledPeak:
        self._first_look(hints)
        if self.value == 0.0:  # at more frequencies than a rational function of this order has zeros
            return ScaledPeak(0.0, self.frequency, 0.0, self.looked_at)
        uncovered, log = [self.ends], self.log
        for piece in range(_PIECES):
            gap = self.tol / 2 * 2.0 ** (max(piece - _PATIENCE, 0) / _DOUBLING)
            level = self.value * (1 + gap)
            uncovered = _difference(uncovered, self._covered_intervals(log, level))
            if not uncovered:
                return ScaledPeak(self.value, self.frequency, level, self.looked_at)
            a, b = max(uncovered, key=self._width)
            middle = self._middle(a, b)
            value, logs = self._bounds(np.array([middle]), _SHARE * 2 * gap)
            log = logs[0]
            if value[0] >= level:
                self._zoom(a, middle, b)
                log = self.log
        raise ArithmeticError("disk_margin: the sweep over frequency does not come to an end; take a larger tol")

    def _first_look(self, hints: np.ndarray) -> None:
        w = distinct(np.concatenate([hints, self._grid(), self.ends]))
        w = w[(w >= self.ends[0]) & (w <= self.ends[1])]
        if len(self.log) == 1:
            self.value, self.frequency = highest_point(self.responses.transfer, w)
            self.looked_at = w
            return
        values, _ = self._bounds(w, _ROUGH)
        inner = np.pad(values, 1, constant_values=-1.0)
        tops = np.flatnonzero((values >= inner[:-2]) & (values >= inner[2:]))
        for i in tops[np.argsort(-values[tops])][:2]:
            if values[i] > 0.9 * self.value:
                self._zoom(w[max(i - 1, 0)], w[i], w[min(i + 1, len(w) - 1)])

    def _bounds(self, w: np.ndarray, accuracy: float) -> tuple[np.ndarray, np.ndarray]:
        """Return (values, logs) at several frequencies; the best of all but rough ones is remembered."""
        values, logs = scaled_norms(self.responses(w), accuracy)
        self.looked_at = np.concatenate([self.looked_at, w])
        at = int(np.argmax(values))
        if accuracy < _ROUGH and values[at] > self.value * (1 + len(self.log) * accuracy):
            self.value, self.frequency, self.log = float(values[at]), float(w[at]), logs[at]
        return values, logs

    def _zoom(self, a: float, w: float, b: float) -> None:
        """Remember the local maximum between a and b, next to w."""
        top = -1.0
        for _ in range(_ROUNDS):
            points = np.array(
                [*(self._point_between(a, w, s) for s in _INNER), w, *(self._point_between(w, b, s) for s in _INNER)]
            )
            values, _ = self._bounds(points, _SHARE * self.tol)
            at = int(np.argmax(values))
            gain, top = values[at] - top, max(top, float(values[at]))
            a, w, b = np.array([a, *points, b])[at : at + 3]
            if gain <= 1e-3 * self.tol * top or not a < b:
                break

    def _covered_intervals(self, log: np.ndarray, level: float) -> list[tuple[float, float]]:
        """Return the intervals in which sigma_max(D G D^-1) stays below the level."""
        scaled = _scale(self.g, log)
        inside = [c for c in level_crossings(scaled, level) if self.ends[0] < c < self.ends[1]]
        knots = [self.ends[0], *inside, self.ends[1]]
        middles = np.array([self._middle(a, b) for a, b in itertools.pairwise(knots)])
        below = norms(self.responses(middles), log) < level
        pieces: list[tuple[float, float]] = []
        for i in np.flatnonzero(below):
            if pieces and pieces[-1][1] == knots[i]:
                pieces[-1] = (pieces[-1][0], knots[i + 1])
            else:
                pieces.append((knots[i], knots[i + 1]))
        return pieces

    def _grid(self) -> np.ndarray:
        """Return the poles' own frequencies and their neighbours, and a net in between."""
        poles = self.responses.poles.astype(complex)
        if not self.g.continuous:
            poles = np.log(poles[np.abs(poles) > 1e-12].astype(complex))
        size = np.abs(poles[poles != 0])
        low, high = (size.min() / 10, 10 * size.max()) if len(size) else (0.1, 10.0)
        net = low * np.exp(math.log((high if self.g.continuous else math.pi) / low) * _NET)
        if not self.g.continuous:
            net = np.concatenate([net, _CIRCLE])
        w, damping = poles.imag, np.abs(poles.real)
        if self.g.real():
            w, damping = np.abs(w), damping
        else:
            net = np.concatenate([-net, net])
        return np.concatenate([w, w - damping, w + damping, w - damping / 5, w + damping / 5, net])

    def _width(self, interval: tuple[float, float]) -> float:
        """Return the length on the axis bent to an arc, so that the infinite frequency has a place."""
        a, b = (math.atan(w / self.unit) for w in interval)
        return b - a

    def _middle(self, a: float, b: float) -> float:
        return self._point_between(a, b, 0.5)

    def _point_between(self, a: float, b: float, share: float) -> float:
        """Return a point inside: by ratios where the ends have one sign and are far apart, else by differences."""
        if a == b:
            return a
        if a < 0 < b:
            return 0.0 if not (math.isfinite(a) and math.isfinite(b)) else a + share * (b - a)
        if a < 0:
            return -self._point_between(-b, -a, 1 - share)
        if b < 4 * a:
            return a + share * (b - a)
        low = a if a > 0 else min(b, self.unit) * 1e-2
        high = b if math.isfinite(b) else max(a, self.unit) * 1e2
        if a == 0 and share < 0.5:
            return 2 * share * low
        return float(low * (high / low) ** share)


_INNER = np.arange(1, _ZOOM // 2 + 1) / (_ZOOM // 2 + 1)


def _typical_frequency(responses: Responses) -> float:
    """Return the geometric mean of the poles' sizes in continuous time; 1 rad per sample in discrete time."""
    size = np.abs(responses.poles) if responses.g.continuous else np.zeros(0)
    return float(np.exp(np.mean(np.log(size[size > 0])))) if np.any(size > 0) else 1.0


def _scale(g: Realization, log: np.ndarray) -> Realization:
    d = np.exp(log)
    return g._replace(b=g.b / d, c=g.c * d[:, None], d=g.d * np.exp(log[:, None] - log[None, :]))


def _difference(intervals: list[tuple[float, float]], covered: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return closed intervals minus closed intervals; single points that stay are dropped, by continuity."""
    for low, high in covered:
        intervals = [
            piece for a, b in intervals for piece in ((a, min(b, low)), (max(a, high), b)) if piece[0] < piece[1]
        ]
    return intervals
