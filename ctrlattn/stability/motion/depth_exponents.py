"""lambda_i = ln sigma_i(J_L ... J_1) / L: singular values of a product of layer Jacobians, as depth exponents.

Forward sweeps factor J_l Q_{l-1} = Q_l R_l layer by layer; backward sweeps do the same with the transposes J_l'. They
alternate until the frame at the first layer holds the leading right singular vectors of the whole product. Then
ln |R_l,ii|, summed over the layers, is ln sigma_i, and each summand is the growth of that direction in one layer.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator

from ctrlattn.errors import InputError, require_whole


class DepthExponents(NamedTuple):
    """Finite-time Lyapunov exponents of a product of layer Jacobians, in nats per layer."""

    exponents: np.ndarray  # (k,), descending; -inf for a direction that the network annihilates
    rates: np.ndarray  # (layers, k): ln |R_ii| of each layer; their mean over the layers is the exponent
    changes: np.ndarray  # (k,): how much the last sweep changed each exponent; inf after a single sweep
    right: np.ndarray  # (k, columns): right singular vectors, at the input of the first layer
    left: np.ndarray  # (k, rows): left singular vectors, at the output of the last layer


def depth_exponents(
    layers: Sequence[Callable[[], LinearOperator]], *, k: int = 4, sweeps: int = 3, seed: int = 0
) -> DepthExponents:
    """Return the k largest finite-time Lyapunov exponents of layers that are applied one after the other.

    Parameters
    ----------
    layers : sequence of callables, each giving the Jacobian of one layer as a LinearOperator
        Each is called when its turn comes and released afterwards, so that one Jacobian at a time is in memory.
    k : int
        Number of exponents.
    sweeps : int
        Number of forward sweeps; a backward sweep lies between two of them. A single sweep starts from random
        directions and underestimates the first exponents. Each further sweep multiplies the error by
        (sigma_{k+1} / sigma_i)^2, with the singular values of the whole product.
    seed : int
        Seed of the random directions that the sweeps start from.

    Returns
    -------
    DepthExponents
        They take (sweeps k) products with each Jacobian and ((sweeps - 1) k) with each transpose.

    Raises
    ------
    InputError
        There is no layer, k or sweeps is out of range, or a product is not finite.

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
    """Return (frame at the far end, R of each layer) of one sweep through all layers."""
    triangles = []
    for i, layer in enumerate(layers):
        operator = layer().T if transposed else layer()
        with np.errstate(over="ignore", invalid="ignore"):
            images = np.asarray(operator @ frame.astype(operator.dtype), dtype=np.float64)
        if not np.all(np.isfinite(images)):
            number = len(layers) - 1 - i if transposed else i
            raise InputError(f"the products with the Jacobian of layer {number} are not finite")
        frame, r = np.linalg.qr(images)
        triangles.append(r)
    return frame, np.array(triangles)


def _principal(triangles: np.ndarray) -> np.ndarray:
    """Return the left singular vectors of R_L ... R_1, which rotate the frame into Ritz vectors of the product.

    Without this Rayleigh-Ritz rotation, exponents that lie close to each other stay mixed for many sweeps.
    """
    product = np.eye(triangles.shape[-1])
    for r in triangles:
        product = r @ product
        product = product / (np.linalg.norm(product) or 1.0)
    return np.asarray(np.linalg.svd(product)[0])


def _changes(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    annihilated = np.isneginf(after) & np.isneginf(before)
    with np.errstate(invalid="ignore"):
        return np.where(annihilated, 0.0, np.abs(after - before))
