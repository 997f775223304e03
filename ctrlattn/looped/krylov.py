"""A V = V H + Q C, V'V = I, V'Q = 0: the eigenvalues of a large real matrix that matter, by block Krylov and Schur.

The basis V grows by a block of directions at a time, so that the products with A are taken together. When it is full,
H is brought into Schur form with the wanted eigenvalues first, and V keeps their directions alone (thick restart).
Products may be of single precision; the basis is orthogonal to double precision, and every residual is taken anew.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.linalg

_LOST = 1e-13  # a direction that shrinks to this share when it is made orthogonal is in the span already
_PATIENCE, _LARGEST = 8, 512  # restarts after which the basis doubles, and how far
_ASKED = 6  # blocks between two questions whether all has converged
Products = Callable[[np.ndarray], np.ndarray]
Score = Callable[[np.ndarray], np.ndarray]


class RitzPairs(NamedTuple):
    """Eigenvalues with eigenvectors, best first, and how they were come by."""

    values: np.ndarray  # (m,) complex; conjugate pairs are complete
    vectors: np.ndarray  # (N, m) complex, of length 1
    residuals: np.ndarray  # (m,) |A v - lambda v|, from products of their own
    norm: float  # |H|_2, a lower bound of |A|_2
    products: int


def leading_pairs(
    products: Products,
    size: int,
    k: int,
    score: Score,
    *,
    tol: float,
    block: int = 4,
    basis: int | None = None,
    restarts: int = 60,
    seed: int = 0,
) -> RitzPairs:
    """Return the k eigenpairs of largest score, once the residuals of all are at most tol |H|_2.

    Parameters
    ----------
    products : callable (N, b) -> (N, b)
        A V.
    size : int
        N, larger than the basis.
    k : int
    score : callable (m,) complex -> (m,) real
        Equal for both of a conjugate pair.
    tol : float
    block, basis, restarts : int
        Directions of a product; the largest number of directions of the basis, 3 k + 8 blocks by default, which
        doubles up to 512 where that does not suffice; restarts at most.
    seed : int

    Raises
    ------
    ArithmeticError
        Not all converged, or a product is not finite. The message says how many, and the largest residual.

    References
    ----------
    Stewart, SIAM J. Matrix Anal. Appl. 23 (2002) 601; Zhou and Saad, Numer. Algorithms 47 (2008) 341 (blocks).

    Examples
    --------
    >>> diagonal = np.append(np.linspace(0, 0.9, 199), -1.5)
    >>> pairs = leading_pairs(lambda v: diagonal[:, None] * v, 200, 2, np.abs, tol=1e-10)
    >>> pairs.values.real.round(9).tolist()
    [-1.5, 0.9]
    """
    basis = min(3 * k + 8 * block if basis is None else basis, size - block)
    rng = np.random.default_rng(seed)
    state = _State(products, size, block, rng)
    for restart in range(restarts):
        if restart % _PATIENCE == _PATIENCE - 1:  # eigenvalues that crowd need more directions to part them
            basis = min(2 * basis, max(_LARGEST, basis), size - block)
        while True:
            # Products cost most, so that it is asked between them whether more are needed.
            state.grow(min(basis, max(len(state.h) + _ASKED * block, 2 * k)))
            indices, unsettled = state.converged(k, score, tol)
            if not unsettled:
                pairs = state.pairs(indices)
                if np.all(pairs.residuals <= tol * pairs.norm):
                    return pairs
            if len(state.h) + block > basis:
                break
        if restart + 1 < restarts:
            state.shrink(min((len(indices) + basis) // 2, basis - block), score)
    raise ArithmeticError(
        f"{len(indices) - unsettled} of {len(indices)} eigenvalues have residuals of at most {tol:.2g} of the norm "
        f"after {state.count} products with the Jacobian: ask for fewer, a larger tol, or a larger basis"
    )


class _State:
    """V (N, m), H (m, m), Q (N, b) and C (b, m) of the Krylov decomposition."""

    def __init__(self, products: Products, size: int, block: int, rng: np.random.Generator) -> None:
        self.products, self.rng, self.block, self.count = products, rng, block, 0
        self.room = np.zeros((size, 0), order="F")  # V is its first columns: a basis that grows is never copied
        self.h, self.c = np.zeros((0, 0)), np.zeros((block, 0))
        self.q = np.linalg.qr(rng.standard_normal((size, block)))[0]
        self.values, self.small, self.norm = np.zeros(0, complex), np.zeros((0, 0)), 0.0  # of H

    @property
    def v(self) -> np.ndarray:
        """V, (N, m)."""
        return self.room[:, : len(self.h)]

    def grow(self, basis: int) -> None:
        """Add blocks of products until V has as many directions as it may."""
        if basis > self.room.shape[1]:
            larger = np.zeros((len(self.room), basis), order="F")
            larger[:, : len(self.h)] = self.v
            self.room = larger
        while len(self.h) + self.block <= basis:
            w, m = self.times(self.q), len(self.h)
            self.room[:, m : m + self.block] = self.q
            v = self.room[:, : m + self.block]
            inside, self.q, r = self.orthogonalised(w, v)
            self.h = np.hstack([np.vstack([self.h, self.c]), inside])
            self.c = np.hstack([np.zeros((self.block, len(self.h) - self.block)), r])

    def times(self, v: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            w = self.products(v)
        self.count += v.shape[1]
        if not np.all(np.isfinite(w)):
            raise ArithmeticError("a product with the Jacobian is not finite: the map has no derivative at this point")
        return w

    def orthogonalised(self, w: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (V'W, Q, R) with W = V (V'W) + Q R; a lost direction is replaced by a random one with R = 0."""
        inside = v.T @ w
        remainder = w - v @ inside
        before = np.linalg.norm(remainder, axis=0)
        correction = v.T @ remainder
        inside, remainder = inside + correction, remainder - v @ correction
        sizes = np.linalg.norm(w, axis=0)
        q, r = np.zeros_like(w), np.zeros((w.shape[1], w.shape[1]))
        for j in range(w.shape[1]):
            column, r[:j, j] = _project_out(remainder[:, j], q[:, :j])
            length = float(np.linalg.norm(column))
            if length > _LOST * sizes[j]:
                r[j, j] = length
            else:
                column = self.rng.standard_normal(len(w))
                length = 0.0
            if length <= before[j] / 2:  # it shrank again: what is left need not be orthogonal to the digits it has
                for span in (v, q[:, :j], v, q[:, :j]):
                    column = _project_out(column / np.linalg.norm(column), span)[0]
            q[:, j] = column / np.linalg.norm(column)
        return inside, q, r

    def converged(self, k: int, score: Score, tol: float) -> tuple[np.ndarray, int]:
        """Return (indices of the wanted eigenvalues of H, how many of them are not converged)."""
        self.values, self.small = np.linalg.eig(self.h)
        self.norm = float(np.linalg.norm(self.h, 2))
        indices = leading(self.values, score(self.values), k)
        residuals = np.linalg.norm(self.c @ self.small[:, indices], axis=0)
        return indices, int(np.sum(residuals > tol * self.norm / 2))

    def pairs(self, indices: np.ndarray) -> RitzPairs:
        """Return the chosen eigenpairs; their residuals are those of products of their own."""
        values, y = self.values[indices].astype(complex), self.small[:, indices]
        vectors = (self.v @ y).astype(complex)
        vectors = vectors / np.linalg.norm(vectors, axis=0)
        residuals = self._residuals(values, vectors)
        return RitzPairs(values, vectors, residuals, self.norm, self.count)

    def _residuals(self, values: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Return |A v - lambda v|; of a conjugate pair one is multiplied, since A is real."""
        first = np.flatnonzero(values.imag >= 0)
        turning = first[values.imag[first] > 0]
        images = np.zeros_like(vectors)
        both = self.times(np.hstack([vectors.real[:, first], vectors.imag[:, turning]]))
        images[:, first] = both[:, : len(first)]
        images[:, turning] += 1j * both[:, len(first) :]
        lengths = np.linalg.norm(images - vectors * values, axis=0)
        below = np.flatnonzero(values.imag < 0)
        partner = [int(turning[np.argmin(np.abs(values[turning] - np.conj(values[i])))]) for i in below]
        lengths[below] = lengths[partner]
        return lengths

    def shrink(self, size: int, score: Score) -> None:
        """Keep about `size` directions of V, those of the eigenvalues of largest score."""
        values = np.linalg.eigvals(self.h)
        indices = leading(values, score(values), size)
        least = float(np.min(score(values[indices])))
        width = 1e-10 * max(abs(least), 1e-300)
        t, u, m = scipy.linalg.schur(
            self.h, sort=lambda re, im: bool(score(np.array([complex(re, im)]))[0] >= least - width)
        )
        m = max(min(m, len(self.h) - self.block - 1), 1)  # equal scores must leave room to grow
        m += int(t[m, m - 1] != 0)  # a pair stays together
        self.room[:, :m] = self.v @ u[:, :m]
        self.h, self.c = t[:m, :m], self.c @ u[:, :m]


def leading(values: np.ndarray, scores: np.ndarray, k: int) -> np.ndarray:
    """Return the indices of the k values of largest score, best first; a conjugate that is left out joins them.

    >>> leading(np.array([0.1, 0.5 + 1j, 0.5 - 1j]), np.array([0.1, 0.5, 0.5]), 1).tolist()
    [1, 2]
    """
    order = np.lexsort((-values.imag, -values.real, -scores))
    indices = order[:k].tolist()
    for i in order[:k].tolist():
        partner = np.flatnonzero(values == np.conj(values[i]))
        if values[i].imag != 0 and len(partner) and not set(partner.tolist()) & set(indices):
            indices.append(int(partner[0]))
    return np.array(indices)


def _project_out(column: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (what is left of the column beside the span of q, its components), by two projections."""
    inside = q.T @ column
    remainder = column - q @ inside
    correction = q.T @ remainder
    return remainder - q @ correction, inside + correction
