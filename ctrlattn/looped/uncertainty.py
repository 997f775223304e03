"""sigma_min(zI - J) > delta on a circle about lambda: how far an eigenvalue of a Jacobian known to delta may be.

Every matrix within delta of J in the 2-norm has as many eigenvalues inside such a circle as J has. A simple one of
condition kappa moves by kappa delta, one of a Jordan block of size k by about delta^(1/k): no formula of the eigenvalue
alone says which, and the circle does. What a controller makes of the disk decides what the eigenvalue allows to say.
"""

from typing import Any, NamedTuple

import numpy as np

from ctrlattn.arrays import Array, is_torch, machine_epsilon, require_real
from ctrlattn.design import performance
from ctrlattn.passes import Passes
from ctrlattn.stability import pass_boundary, pass_poles, pseudospectrum
from ctrlattn.stability.motion.difference_scale import difference_size
from ctrlattn.stability.motion.tangent import Tangent, difference_step

_ROUNDING = 64.0  # last digits by which a derivative and its eigenvalues are off, as a share of |J|
_CLEAR = 3.0  # sigma_min on the circle over delta, which is itself an estimate
_SIMPLE = 1e-6  # kappa^2 delta / |J| below which an eigenvalue moves by kappa delta
_ANGLES = np.exp(2j * np.pi * np.arange(16) / 16)
_LARGE = 0.1  # errors beyond this share of the extent of the stable region may hide a part of it between the angles
_NEIGHBOURS = 6  # whose directions are looked at as well
_LOOKED = 400  # numbers in a state up to which circles are looked at; beyond, kappa delta alone counts


class Reached(NamedTuple):
    """Over the disk of each eigenvalue: the least and the largest modulus of its largest pole, (m,) each."""

    least: np.ndarray
    largest: np.ndarray

    @property
    def stable(self) -> np.ndarray:
        """(m,) bool: whether all of the disk is."""
        return self.largest < 1

    @property
    def unstable(self) -> np.ndarray:
        """(m,) bool: whether all of the disk is, with poles outside the circle."""
        return self.least > 1

    @property
    def undecided(self) -> np.ndarray:
        """(m,) bool: whether a pole may be on the circle."""
        return ~(self.stable | self.unstable)


def reached(loop: Passes, eigenvalues: np.ndarray, errors: np.ndarray) -> Reached:
    """Return what a controller makes of disks of eigenvalues.

    The largest modulus of the poles is subharmonic in lambda, so that its maximum over a disk is on the edge of it. Its
    minimum need not be: a disk that holds 1 + k_r, where a pole is 1, decides nothing, and a large one that the stable
    region may reach into counts as having stable points.

    Parameters
    ----------
    loop : Passes
    eigenvalues : (m,) complex
    errors : (m,)
        Radii of the disks.

    Examples
    --------
    >>> reached(Passes(), np.array([1.0, 0.9]), np.array([1e-9, 1e-9])).undecided.tolist()
    [True, False]
    """
    disk = eigenvalues[:, None] + errors[:, None] * np.append(0.0, _ANGLES)
    sizes = np.abs(pass_poles(loop.law, disk, loop.recall)).max(axis=-1)
    least, edge = sizes.min(axis=-1), 1 + loop.recall
    away, extent = np.abs(eigenvalues - edge), _extent(loop)
    meets = (away <= errors) | ((errors > _LARGE * extent) & (away - errors <= extent))
    return Reached(np.where(meets, np.minimum(least, 1.0), least), sizes.max(axis=-1))


def measured_within(loop: Passes, eigenvalues: np.ndarray, errors: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return (least, largest) that Ms and the settling passes of the worst eigenvalue may be, each within its disk.

    All disks have to be stable. There |S| at a point of the circle is subharmonic in lambda, so that Ms is largest on
    the edge.

    Examples
    --------
    >>> from ctrlattn import PID
    >>> measured_within(Passes(PID(0.5)), np.array([-1.0]), np.array([0.0]))  # the pole 0
    {'ms': (2.0, 2.0), 'settling': (1.0, 1.0)}
    """
    disk = eigenvalues[:, None] + errors[:, None] * np.append(0.0, _ANGLES)
    points, back = np.unique(disk.ravel(), return_inverse=True)
    figures = performance(loop, points)
    with np.errstate(divide="ignore"):
        values = {"ms": 1 / figures.modulus_margin, "settling": figures.settling}
    spread = {name: part[back].reshape(disk.shape) for name, part in values.items()}
    return {name: (float(part.min(axis=1).max()), float(part.max())) for name, part in spread.items()}


def _extent(loop: Passes) -> float:
    """Return how far from 1 + k_r the boundary of the stable region goes: infinite with a zero of C on the circle."""
    boundary = pass_boundary(loop.law, np.linspace(0.0, np.pi, 129), loop.recall)
    return float(np.max(np.abs(boundary - (1 + loop.recall))))


def eigenvalue_errors(
    matrix: np.ndarray, values: np.ndarray, delta: float, pairs: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """Return the radii of disks around eigenvalues of a matrix that hold those of every matrix within `delta` of it.

    Parameters
    ----------
    matrix : (n, n)
    values : (m,) complex
        All or some of its eigenvalues.
    delta : float
        Bound in the 2-norm; positive.
    pairs : ((n,), (n, n)), optional
        All eigenvalues and eigenvectors, where they are known already.

    Returns
    -------
    (m,)
        An estimate, since a circle is looked at in some directions, and for n > 400 kappa delta alone; at most
        2 (|J| + delta).

    References
    ----------
    Trefethen and Embree, Spectra and Pseudospectra, 2005, sections 2 and 52.

    Examples
    --------
    >>> block = np.array([[0.5, 1.0], [0.0, 0.5]])  # sqrt(3 delta), delta^(1/2) of a block of size 2
    >>> bool(1e-5 < eigenvalue_errors(block, np.array([0.5]), 1e-10)[0] < 4e-5)
    True
    """
    # Both of a conjugate pair of a real matrix move alike.
    upper = values.real + 1j * np.abs(values.imag) if np.isrealobj(matrix) else values
    distinct, back = np.unique(upper, return_inverse=True)
    norm = float(np.linalg.norm(matrix, 2)) + delta
    every, kappa = _conditions(*(np.linalg.eig(matrix) if pairs is None else pairs))
    kappa = kappa[np.argmin(np.abs(distinct[:, None] - every), axis=1)]
    radius = np.where(np.isfinite(kappa), _CLEAR * kappa * delta, np.inf)
    if len(matrix) <= _LOOKED:
        bent = np.flatnonzero(~(kappa**2 * delta < _SIMPLE * norm))
        radius[bent] = np.where(radius[bent] < 1e-3 * norm, radius[bent], _CLEAR * delta)
        radius[bent] = _clear_radii(matrix, distinct[bent], every, radius[bent], delta, norm)
    return np.minimum(radius, 2 * norm)[back]  # no eigenvalue of such a matrix is farther from 0 than its norm


def _clear_radii(
    matrix: np.ndarray, values: np.ndarray, every: np.ndarray, radius: np.ndarray, delta: float, norm: float
) -> np.ndarray:
    """Return the radii, doubled until sigma_min is clear of `delta` on the circle."""
    radius, pending = radius.copy(), np.arange(len(values))
    while len(pending):
        fixed = np.broadcast_to(_ANGLES, (len(pending), len(_ANGLES)))
        directions = np.concatenate([fixed, _directions_to(values[pending], every)], axis=1)
        clear = pseudospectrum(matrix, values[pending, None] + radius[pending, None] * directions).min(axis=1)
        pending = pending[clear <= _CLEAR * delta]
        radius[pending] *= 2
        pending = pending[radius[pending] <= 2 * norm]
    return radius


def known_to(f: Any, x: Array, jacobian: np.ndarray) -> float:
    """Estimate a bound on |error of J|_2: rounding, and of differences what a step twice as long changes.

    Parameters
    ----------
    f : callable
    x : any shape
    jacobian : (N, N)
        As `formed` gives it.
    """
    eps = machine_epsilon(x)
    bound = _ROUNDING * eps * float(np.linalg.norm(jacobian))
    if not is_torch(x):
        flat, image = require_real("x", x).ravel(), require_real("F(x)", f(x)).ravel()
        size = difference_size(f, x)
        tangent = Tangent(x, None)
        tangent.size, tangent.at = size, float(np.max(np.abs(flat)))
        change = tangent.longer().advance(f, x, np.eye(len(flat)))[1] - jacobian
        # Differences round alike now and then, so that the digits of the ends count too.
        rounding = 4 * eps * (size + float(np.max(np.abs(image)))) / difference_step(size, eps)
        bound += 2 * float(np.linalg.norm(change)) + rounding * len(flat) ** 0.5
    return bound if np.isfinite(bound) and bound > 0 else max(bound, float(np.finfo(float).tiny))


def compressed(values: np.ndarray, vectors: np.ndarray, residuals: np.ndarray) -> tuple[np.ndarray, float]:
    """Return (S, delta): J on the span of some of its eigenvectors, and how well residuals know it there.

    J V = V L + R gives J Q = Q S + R W with V = Q T, S = T L T^-1 and W = T^-1. What the directions that were not
    measured add to the sensitivity of an eigenvalue is not in it.
    """
    t = np.linalg.qr(vectors, mode="r")
    scale = max(float(np.max(np.abs(values), initial=0.0)), float(np.max(residuals, initial=0.0)))
    try:
        inverse = np.linalg.inv(t)
    except np.linalg.LinAlgError:
        return np.diag(values), np.inf
    delta = float(np.linalg.norm(residuals)) * float(np.linalg.norm(inverse, 2))
    delta += _ROUNDING * np.finfo(float).eps * scale * float(np.linalg.cond(t))
    return t @ np.diag(values) @ inverse, delta


def _conditions(every: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (eigenvalues, 1/|w'v| of each with |v| = |w| = 1), infinite where there are not enough eigenvectors."""
    try:
        kappa = np.linalg.norm(np.linalg.inv(vectors), axis=1)
    except np.linalg.LinAlgError:
        kappa = np.full(len(every), np.inf)
    return every, np.where(np.isfinite(kappa), kappa, np.inf)


def _directions_to(values: np.ndarray, every: np.ndarray) -> np.ndarray:
    """Return unit directions from each value to its nearest eigenvalues, on whose side a circle comes near to them."""
    away = every[None, :] - values[:, None]
    nearest = np.argsort(np.abs(away), axis=1)[:, :_NEIGHBOURS]
    away = np.take_along_axis(away, nearest, axis=1)
    size = np.abs(away)
    return np.where(size > 0, away / np.where(size > 0, size, 1.0), 1.0)
