"""lambda_i = ln sigma_i(J_L ... J_1) / L: the finite-time Lyapunov exponents of a network over its depth.

QR over products with the Jacobians, forwards and backwards: J_l Q_{l-1} = Q_l R_l upwards, then the same with J_l'
downwards, until the frame at the bottom holds the leading right singular vectors of the whole product. Then
ln |R_l,ii|, summed over the layers, is ln sigma_i, and each summand is what one layer does to that direction.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator

from ctrlattn.errors import InputError, require_whole


class DepthExponents(NamedTuple):
    """Exponents of a product of Jacobians, in nats per layer."""

    exponents: np.ndarray  # (k,), descending; -inf for a direction that the network annihilates
    rates: np.ndarray  # (layers, k): ln |R_ii| of each layer; their mean over the layers is the exponent
    changes: np.ndarray  # (k,): by how much the last sweep moved each exponent; inf after a single one
    right: np.ndarray  # (k, columns): the directions at the bottom
    left: np.ndarray  # (k, rows): what becomes of them at the top


def depth_exponents(
    layers: Sequence[Callable[[], LinearOperator]], *, k: int = 4, sweeps: int = 3, seed: int = 0
) -> DepthExponents:
    """The k largest finite-time Lyapunov exponents of layers one after the other.

    Parameters
    ----------
    layers : sequence of callables, each giving the Jacobian of one layer as a LinearOperator
        Called when its turn comes and let go afterwards, so that memory is that of one layer.
    k : int
    sweeps : int
        Forward sweeps; between two of them one backward. One alone, from random directions, underestimates the
        first exponents; with each more the error falls by (sigma_{k+1} / sigma_i)^2 of the whole product.
    seed : int
        It draws the directions that the sweeps start from.

    Returns
    -------
    DepthExponents
        sweeps k products with each Jacobian and (sweeps - 1) k with each transpose.

    Raises
    ------
    InputError
        No layer; k or sweeps out of range; a product that is not finite.

    References
    ----------
    Benettin et al., Meccanica 15 (1980) 9; Ershov and Potapov, Physica D 118 (1998) 167 (backward and forward
    iteration); of transformers: Cowsik et al., arXiv 2403.02579.

    Examples
    --------
    >>> from scipy.sparse.linalg import aslinearoperator
    >>> halved = lambda: aslinearoperator(np.diag([2.0, 0.5]))
    >>> depth_exponents([halved] * 5, k=2).exponents.round(6).tolist()  # ln 2, -ln 2
    [0.693147, -0.693147]
    """
    if not layers:
        raise InputError("depth_exponents needs at least one layer")
    sweeps = require_whole("sweeps", sweeps)
    frame, before = _start(layers[0](), k, seed), np.full(k, np.inf)
    for sweep in range(sweeps):
        top, triangles = _sweep(layers, frame, transposed=False)
        with np.errstate(divide="ignore"):
            rates = np.log(np.abs(np.diagonal(triangles, axis1=1, axis2=2)))
        exponents = rates.mean(axis=0)
        changes, before = _changes(exponents, before), exponents
        if sweep + 1 < sweeps:
            bottom, triangles = _sweep(layers[::-1], top, transposed=True)
            frame = bottom @ _principal(triangles)
    order = np.argsort(-exponents, kind="stable")
    return DepthExponents(exponents[order], rates[:, order], changes[order], frame.T[order], top.T[order])


def _start(operator: LinearOperator, k: int, seed: int) -> np.ndarray:
    k = require_whole("k", k, most=operator.shape[1])
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((operator.shape[1], k)))[0]


def _sweep(
    layers: Sequence[Callable[[], LinearOperator]], frame: np.ndarray, *, transposed: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(frame at the other end, R of each layer)."""
    triangles = []
    for i, layer in enumerate(layers):
        operator = layer().T if transposed else layer()
        with np.errstate(over="ignore", invalid="ignore"):
            moved = np.array([operator @ v.astype(operator.dtype) for v in frame.T], dtype=np.float64).T
        if not np.all(np.isfinite(moved)):
            number = len(layers) - 1 - i if transposed else i
            raise InputError(f"the products with the Jacobian of layer {number} are not finite")
        frame, r = np.linalg.qr(moved)
        triangles.append(r)
    return frame, np.array(triangles)


def _principal(triangles: np.ndarray) -> np.ndarray:
    """Left singular vectors of R_L ... R_1: with J'Q = Q' R they turn Q' into the Ritz vectors of JJ' (Rayleigh-Ritz).

    Without them, exponents that lie close to each other stay mixed for many sweeps.
    """
    product = np.eye(triangles.shape[-1])
    for r in triangles:
        product = r @ product
        product = product / (np.linalg.norm(product) or 1.0)
    return np.asarray(np.linalg.svd(product)[0])


def _changes(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    lost = np.isneginf(now) & np.isneginf(before)
    with np.errstate(invalid="ignore"):
        return np.where(lost, 0.0, np.abs(now - before))
