"""Eigenvalues of attention matrices, structure first: a causal matrix has its diagonal as spectrum."""

import numpy as np

from ctrlattn.arrays import Array, require_attention


def attention_spectrum(matrices: Array) -> np.ndarray:
    """Return the eigenvalues of attention matrices.

    A lower triangular (causal) matrix gives its diagonal, exactly: the weight that each token gives to itself.
    Rows that sum to 1 give the eigenvalue 1, of the constant mode. Where a null key takes the share s_i of row i, rows
    sum to 1 - s_i, and no eigenvalue is larger than 1 - min s_i: a causal matrix then begins with 1 - s_0 in the place
    of 1, and the constant signal is no mode any more unless all s_i are alike.

    `eigvals` is used for the others alone, since on clustered eigenvalues of a triangular matrix it lies.

    Parameters
    ----------
    matrices : (..., n, n)
        numpy or torch; computed in float64.

    Returns
    -------
    (..., n) complex128
        In the order of the tokens for causal matrices, else by descending modulus.

    Raises
    ------
    InputError
        Matrices that are complex, not square or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> attention_spectrum(np.array([[1.0, 0.0], [0.7, 0.3]])).tolist()
    [(1+0j), (0.3+0j)]
    """
    a = require_attention(matrices)
    flat = a.reshape(-1, *a.shape[-2:])
    causal = np.all(np.triu(flat, 1) == 0, axis=(-2, -1))
    spectra = np.diagonal(flat, axis1=-2, axis2=-1).astype(complex)
    if not causal.all():
        general = np.linalg.eigvals(flat[~causal])
        order = np.argsort(-np.abs(general), axis=-1, kind="stable")
        spectra[~causal] = np.take_along_axis(general, order, -1)
    return spectra.reshape(a.shape[:-1])
