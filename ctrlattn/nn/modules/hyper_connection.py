"""X <- H X + p f(r X), H doubly stochastic: a hyper-connection, the residual connection of several streams.

The residual connection x + f(x) has one stream. Here a layer f reads a mixture r X of S streams and adds its result to
all of them with weights p, and H mixes the streams. Doubly stochastic matrices have norm 1, and so have their products.
"""

import math
from collections.abc import Callable

import torch

from ctrlattn.errors import InputError, require_whole
from ctrlattn.nn.modules.sinkhorn import sinkhorn


class HyperConnection(torch.nn.Module):
    """Manifold-constrained hyper-connection around one layer; its weights are learned and the same for every token.

        H = Sinkhorn(M);    r = sigmoid(a);    p = 2 sigmoid(b)

    Initially r is 1/S and p is 1. The mean of the streams then follows x + f(x) for every H, since the columns of H
    sum to 1. In the paper M, a and b also depend on the token; here they do not.

    Parameters
    ----------
    streams : int
        Number S of streams, at least 2.
    stay : float
        Initial diagonal of M. With 4 and four streams, each stream keeps .95 of itself.
    steps : int
        Number of normalisations in the projection, at least 1; an odd number ends with the rows.

    Raises
    ------
    InputError
        There are fewer than two streams, or the call gives another number of them.

    References
    ----------
    mHC: manifold-constrained hyper-connections, arXiv 2512.24880; Zhu et al., Hyper-connections, arXiv 2409.19606, for
    the connection without the constraint.

    Examples
    --------
    >>> connection, x = HyperConnection(4), torch.ones(2, 4, 3)
    >>> connection(x, lambda x: 2 * x).mean(-2).allclose(torch.tensor(3.0))
    True
    """

    def __init__(self, streams: int, *, stay: float = 4.0, steps: int = 21) -> None:
        super().__init__()
        streams = require_whole("streams", streams, least=2)
        self.steps = steps
        self.mixing = torch.nn.Parameter(stay * torch.eye(streams))
        self.reading = torch.nn.Parameter(torch.full((streams,), -math.log(streams - 1)))
        self.writing = torch.nn.Parameter(torch.zeros(streams))

    def matrix(self) -> torch.Tensor:
        """Return H, (S, S)."""
        return sinkhorn(self.mixing, self.steps)

    def forward(self, x: torch.Tensor, layer: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Map (..., S, d) to (..., S, d); layer: (..., d) -> (..., d), such as an attention or MLP with its norm."""
        if x.shape[-2] != len(self.reading):
            raise InputError(f"{len(self.reading)} streams are mixed, got shape {tuple(x.shape)}")
        y = layer((torch.sigmoid(self.reading)[:, None] * x).sum(-2))
        return self.matrix() @ x + 2 * torch.sigmoid(self.writing)[:, None] * y[..., None, :]
