"""alpha(w) = e^{iw} + C(e^{iw}): the part of this curve that bounds the stable set, as closed polygons.

The curve is cut where it meets itself. An arc bounds the set if the loop is stable on one side of it and not on the
other. Arcs that have the stable side to their left add up to closed polygons, whichever way they are joined.
"""

import numpy as np
from matplotlib.path import Path

from ctrlattn.controllers import PID
from ctrlattn.linear.mode_polynomial import attention_eigenvalue
from ctrlattn.loop import Loop
from ctrlattn.stability import region_boundary
from ctrlattn.stability.modes.regions import spectral_radius

_STEP = 0.01  # longest chord of the curve, in units of alpha
_ROUNDS = 14  # halvings of a frequency step
_ASIDE = 1e-4  # how far beside an arc the poles are asked
_SAME = 1e-6


def stable_polygons(loop: Loop) -> list[np.ndarray]:
    """Return closed polygons, complex (k,), around the attention eigenvalues a for which the loop is stable.

    The stable side is to the left, so that holes run clockwise. There is none of them where no mode is stable, or where
    no mode decides since feedback = 0.

    >>> import numpy as np
    >>> from ctrlattn import PID, CausalMean
    >>> (disk,) = stable_polygons(Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.6)))  # |a - 0.6| < 1
    >>> bool(np.allclose(np.abs(disk - 0.6), 1.0, atol=1e-4))
    True
    """
    if loop.feedback == 0:
        return []
    controller = loop.controller or PID()
    arcs = [_with_stable_left(controller, arc) for arc in _arcs(_curve(controller))]
    return [attention_eigenvalue(loop, polygon) for polygon in _join([arc for arc in arcs if arc is not None])]


def compound_path(polygons: list[np.ndarray]) -> Path:
    """Join polygons to one path, to fill by the rule of nonzero winding."""
    return Path.make_compound_path(
        *(Path(np.column_stack([p.real, p.imag])[[*range(len(p)), 0]], closed=True) for p in polygons)
    )


def _curve(controller: object) -> list[np.ndarray]:
    """Return finite pieces of alpha(w) for -pi <= w <= pi, with chords that are short."""
    omega = np.linspace(0.0, np.pi, 513)
    for _ in range(_ROUNDS):
        alpha = region_boundary(controller, omega)
        near = np.abs(alpha) < 1e3
        long = (np.abs(np.diff(alpha)) > _STEP * (1 + np.abs(alpha[1:]))) & near[1:] & near[:-1]
        if not np.any(long):
            break
        omega = np.sort(np.concatenate([omega, ((omega[1:] + omega[:-1]) / 2)[long]]))
    alpha = region_boundary(controller, omega)
    alpha[[0, -1]] = alpha[[0, -1]].real
    points = np.concatenate([np.conj(alpha[:0:-1]), alpha])
    near = np.isfinite(points) & (np.abs(points) < 1e3)
    pieces = np.split(points, np.flatnonzero(np.diff(near.astype(int))) + 1)
    return [piece for piece in pieces if len(piece) > 1 and np.abs(piece[0]) < 1e3]


def _arcs(pieces: list[np.ndarray]) -> list[np.ndarray]:
    """Cut the pieces where they meet themselves or each other."""
    start = np.concatenate([piece[:-1] for piece in pieces])
    end = np.concatenate([piece[1:] for piece in pieces])
    cuts: list[list[tuple[float, complex]]] = [[] for _ in start]
    for i, j, t, s, point in _crossings(start, end):
        cuts[i].append((t, point))
        cuts[j].append((s, point))
    arcs, first = [], 0
    for piece in pieces:
        arc = [complex(piece[0])]
        for k in range(first, first + len(piece) - 1):
            for _, point in sorted(cuts[k], key=lambda cut: cut[0]):
                arcs.append(np.array([*arc, point]))
                arc = [point]
            arc.append(complex(end[k]))
        arcs.append(np.array(arc))
        first += len(piece) - 1
    return [arc for arc in arcs if np.sum(np.abs(np.diff(arc))) > _SAME]


def _crossings(start: np.ndarray, end: np.ndarray) -> list[tuple[int, int, float, float, complex]]:
    """Return (i, j, t, s, point) of every two chords that meet inside, chords i < j that are not neighbours."""
    hits = []
    way = end - start
    for i in range(len(start) - 2):
        later = slice(i + 2, None)
        cross = way[i].real * way[later].imag - way[i].imag * way[later].real
        gap = start[later] - start[i]
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (gap.real * way[later].imag - gap.imag * way[later].real) / cross
            s = (gap.real * way[i].imag - gap.imag * way[i].real) / cross
        for k in np.flatnonzero((t > 0) & (t < 1) & (s > 0) & (s < 1)):
            hits.append((i, int(i + 2 + k), float(t[k]), float(s[k]), complex(start[i] + t[k] * way[i])))
    return hits


def _with_stable_left(controller: object, arc: np.ndarray) -> np.ndarray | None:
    """Return the arc, or its reverse, with the stable side to its left; None where both sides are alike."""
    middle = len(arc) // 2
    way = arc[middle] - arc[middle - 1]
    point = (arc[middle] + arc[middle - 1]) / 2
    aside = min(_ASIDE, 0.05 * float(np.sum(np.abs(np.diff(arc))))) * 1j * way / np.abs(way)
    left, right = spectral_radius(controller, np.array([point + aside, point - aside])) < 1
    if left == right:
        return None
    return arc if left else arc[::-1]


def _join(arcs: list[np.ndarray]) -> list[np.ndarray]:
    """Join arcs to closed polygons: each arc goes on with one that begins where it ends."""
    polygons, remaining_arcs = [], list(arcs)
    while remaining_arcs:
        polygon = remaining_arcs.pop()
        while remaining_arcs and np.abs(polygon[-1] - polygon[0]) > _SAME:
            gaps = [abs(arc[0] - polygon[-1]) for arc in remaining_arcs]
            nearest = int(np.argmin(gaps))
            if gaps[nearest] > _SAME:
                break
            polygon = np.concatenate([polygon, remaining_arcs.pop(nearest)[1:]])
        polygons.append(polygon)
    return polygons
