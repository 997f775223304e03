"""exp(logits) with rows and columns normalised in turn: from softmax to a doubly stochastic matrix."""

import torch

from ctrlattn.errors import InputError


def sinkhorn(logits: torch.Tensor, steps: int) -> torch.Tensor:
    """exp(logits), rows and columns normalised in turn, rows first: steps = 1 is softmax, many doubly stochastic.

    Parameters
    ----------
    logits : (..., n, n)
    steps : int
        Normalisations, >= 1; an odd number ends with the rows.

    Raises
    ------
    InputError
        steps below 1, a matrix that is not square.

    References
    ----------
    Sinkhorn, A relationship between arbitrary positive matrices and doubly stochastic matrices, 1964; projection of the
    stream mixing of manifold-constrained hyper-connections, arXiv 2512.24880: a doubly stochastic matrix has norm 1,
    and products of them are doubly stochastic, so that no number of layers amplifies.

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
