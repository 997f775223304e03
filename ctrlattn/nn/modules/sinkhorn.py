"""exp(logits) with rows and columns normalised in turn (Sinkhorn): a doubly stochastic matrix in place of softmax."""

import torch

from ctrlattn.errors import InputError


def sinkhorn(logits: torch.Tensor, steps: int) -> torch.Tensor:
    """Return exp(logits) with rows and columns normalised in turn, rows first.

    One step is softmax. The limit of many steps is doubly stochastic.

    Parameters
    ----------
    logits : (..., n, n)
    steps : int
        Number of normalisations, at least 1; an odd number ends with the rows.

    Raises
    ------
    InputError
        steps is below 1, or the matrix is not square.

    References
    ----------
    Sinkhorn, A relationship between arbitrary positive matrices and doubly stochastic matrices, Ann. Math. Statist. 35
    (1964) 876. arXiv 2512.24880 projects the stream mixing of hyper-connections in this way: products of doubly
    stochastic matrices are doubly stochastic and have norm 1, so that no number of layers amplifies.

    Examples
    --------
    >>> sinkhorn(torch.tensor([[0.0, 0.0], [0.0, 0.0]]), 1).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    if steps < 1 or logits.shape[-1] != logits.shape[-2]:
        raise InputError(f"sinkhorn takes square matrices and at least one step, got {tuple(logits.shape)} and {steps}")
    for k in range(steps):
        logits = logits - logits.logsumexp(-1 if k % 2 == 0 else -2, keepdim=True)
    return logits.exp()
