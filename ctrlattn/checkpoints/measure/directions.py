"""||A_l B_m'||_F^2 / k: overlaps between subspaces of directions over n tokens and d features, and token shares."""

import numpy as np
from scipy.linalg import eigh

_DEFINITE = 1e-8  # a square below this share of the largest says too little of its direction


def token_energy(vectors: np.ndarray, n: int) -> np.ndarray:
    """Return the share of each token in the square of each vector, (m, n d) -> (m, n); 0 for a zero vector.

    >>> token_energy(np.array([[1.0, 1.0, 0.0, 2.0]]), 2).round(3).tolist()
    [[0.333, 0.667]]
    """
    square = np.sum(vectors.astype(np.float64).reshape(len(vectors), n, -1) ** 2, axis=-1)
    total = square.sum(-1, keepdims=True)
    return square / np.where(total > 0, total, 1.0)


def feature_directions(vectors: np.ndarray, n: int) -> np.ndarray:
    """Return orthonormal feature directions that hold most of each layer's k vectors, (L, k, n d) -> (L, k, d).

    >>> feature_directions(np.array([[[0.0, 0.0, 3.0, 0.0]]]), 2).tolist()  # whatever the token
    [[[1.0, 0.0]]]
    """
    return np.array(
        [_leading(layer.reshape(-1, layer.shape[-1] // n).astype(np.float64), len(layer)) for layer in vectors]
    )


def _leading(rows: np.ndarray, k: int) -> np.ndarray:
    """Return the k leading right singular vectors of the rows (m, d), by the smaller of their two Gram matrices."""
    if k <= len(rows) < rows.shape[1]:
        squares, combinations = _largest(rows @ rows.T, k)
        if squares[0] > _DEFINITE * squares[-1]:
            return np.asarray((combinations / np.sqrt(squares)).T @ rows)
    return np.asarray(_largest(rows.T @ rows, min(k, rows.shape[1]))[1].T)


def _largest(symmetric: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k largest eigenvalues, ascending, and their vectors; they take a third of the time of all of them."""
    last = len(symmetric) - 1
    squares, vectors = eigh(symmetric, subset_by_index=[last + 1 - k, last], check_finite=False)
    return squares, vectors


def subspace_overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ||A_l B_m'||_F^2 / k of the row spaces of orthonormal rows (L, k, N): (L, L).

    It is 1 for the same space, and k/N on average for unrelated ones.

    >>> subspace_overlap(np.eye(3)[None, :2], np.eye(3)[None, 1:]).tolist()
    [[0.5]]
    """
    products = a.reshape(-1, a.shape[-1]) @ b.reshape(-1, b.shape[-1]).T
    squares = np.sum(products.reshape(*a.shape[:2], *b.shape[:2]).astype(np.float64) ** 2, axis=(1, 3))
    return np.minimum(squares / a.shape[1], 1.0)  # rows in float32 are orthonormal but for rounding
