"""The gradient of |x - zD - b|²/(m d) for z = TopK(E(x - b) + c), through the k chosen responses of each example alone.

With r = x - zD - b, R = -2r/(m d), Z the matrix of the codes and G that of their derivatives g = R D' where z > 0:

    dD = Z'R    dE = G'(x - b)    dc = G'1    db = 1'R - (G'1)E

Z and G have k entries a row. Products with them take k of the many thousand features; automatic differentiation takes
two dense products of the size of the response.
"""

from typing import NamedTuple

import torch
from torch.nn.functional import embedding_bag

from ctrlattn.observers.dictionary import Codes, Dictionary


class SparseStep(NamedTuple):
    """Codes of a batch and the error x - zD - b that they leave, (m, width)."""

    codes: Codes
    rest: torch.Tensor


@torch.no_grad()
def set_gradients(dictionary: Dictionary, x: torch.Tensor, response: torch.Tensor) -> SparseStep:
    """Set the gradients of the mean square of x - zD - b in every parameter of a TopK dictionary.

    Parameters
    ----------
    dictionary : Dictionary
        One with k. Its gradients are overwritten.
    x : (m, width)
        Scaled examples.
    response : (m, features)
        What `dictionary.response` gives for x.

    Returns
    -------
    SparseStep

    References
    ----------
    Gao et al., arXiv 2406.04093, appendix D.1 (sparse kernels for the decoder and the gradients).

    Examples
    --------
    >>> dictionary = Dictionary(4, 8, k=2)
    >>> x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    >>> step = set_gradients(dictionary, x, dictionary.response(x).detach())
    >>> automatic = (x - dictionary.combine(dictionary.codes(dictionary.response(x))) - dictionary.bias).square().mean()
    >>> (gradient,) = torch.autograd.grad(automatic, dictionary.encoder)
    >>> torch.allclose(dictionary.encoder.grad, gradient, atol=1e-6)
    True
    """
    codes = dictionary.codes(response)
    D = dictionary.decoder.detach()
    error, R, g = _through_codes(codes, D, x - dictionary.bias.detach())
    by_feature = _Grouped(codes.features, dictionary.features)
    dictionary.decoder.grad = by_feature.sums(codes.values, R)
    dictionary.encoder.grad = by_feature.sums(g, x - dictionary.bias)
    dictionary.threshold.grad = torch.zeros_like(dictionary.threshold).index_add_(0, codes.features.ravel(), g.ravel())
    dictionary.bias.grad = R.sum(0) - dictionary.threshold.grad @ dictionary.encoder
    return SparseStep(codes, error)


def _through_codes(
    codes: Codes, D: torch.Tensor, centred: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (r, R, g): the error, the derivative of the loss by zD, and that by each chosen response."""
    with torch.enable_grad():
        values = codes.values.detach().requires_grad_()
        combined = embedding_bag(codes.features, D, per_sample_weights=values, mode="sum")
    error = centred - combined.detach()
    R = error * (-2 / error.numel())
    (g,) = torch.autograd.grad(combined, values, R)
    return error, R, g * (codes.values > 0)


class _Grouped:
    """The chosen entries (example, place) in order of their features, for sums over the examples of a feature."""

    def __init__(self, indices: torch.Tensor, features: int) -> None:
        self.order = indices.ravel().argsort()
        self.examples = self.order // indices.shape[1]
        counts = indices.ravel().bincount(minlength=features)
        self.starts = counts.cumsum(0) - counts

    def sums(self, weights: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return, for each feature, the sum of weight times row over the examples that chose it, (features, width)."""
        ordered = weights.ravel()[self.order]
        return embedding_bag(self.examples, rows, self.starts, per_sample_weights=ordered, mode="sum")
