"""y = finish(mix(A) v): attention laws of published relatives of PIDformer, as `mixing` modules.

    attnscale        A <- 1/n + (1 + w_h)(A - 1/n)
    centered         A <- A - 1/n
    shaped           A <- I + A - 1/n
    differential     A <- A_1 - lambda A_2;  y <- (1 - lambda_init) RMSnorm_head(y)
    value-residual   v <- (v_0 + v)/2 before A
    sinkformer       A <- Sinkhorn(q k^T / sqrt(D)), doubly stochastic

1/n is uniform attention over the tokens that a token sees. A network takes a class, `mixing=AttnScale`, and each layer
makes its own instance, `AttnScale(layer, heads, head_dim)`. ContraNorm and PID steering are loops: see `presets`.
"""

import math
from collections.abc import Callable
from typing import Protocol

import torch

from ctrlattn.errors import InputError
from ctrlattn.nn.modules import names
from ctrlattn.nn.modules.sinkhorn import sinkhorn

Read = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Mixing(Protocol):
    """An attention law in the place of softmax attention; all arrays are (..., heads, n, D) except in `values`."""

    masks: bool  # whether the law reads through `read` alone, which applies the mask

    def values(self, v: torch.Tensor, v0: torch.Tensor) -> torch.Tensor: ...

    def __call__(self, read: Read, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor: ...

    def finish(self, y: torch.Tensor) -> torch.Tensor: ...


class _Plain(torch.nn.Module):
    """A law that changes neither the values nor the output."""

    masks = True

    def values(self, v: torch.Tensor, v0: torch.Tensor) -> torch.Tensor:
        """Return v, (..., n, heads, D)."""
        return v

    def finish(self, y: torch.Tensor) -> torch.Tensor:
        """Return y, (..., heads, n, D)."""
        return y


class AttnScale(_Plain):
    """A v <- mean + (1 + w)(A v - mean): the deviation from the mean is amplified by a learned w per head, initially 0.

    Parameters
    ----------
    layer, heads, head_dim : int

    References
    ----------
    Wang, Zheng, Chen, Wang, Anti-oversmoothing in deep vision transformers via the Fourier domain analysis, ICLR 2022,
    arXiv 2203.05962, section 4.

    Examples
    --------
    >>> mixing = AttnScale(0, 2, 4)
    >>> v = torch.tensor([1.0, 3.0]).reshape(1, 1, 2, 1)
    >>> def read(q, k, v):
    ...     return v if q.any() else v.mean(-2, keepdim=True).expand(v.shape)
    >>> mixing.w.data.fill_(1.0).tolist(), mixing(read, v, v, v)[0, 0].flatten().tolist()
    ([1.0, 1.0], [0.0, 4.0])
    """

    def __init__(self, layer: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(heads))

    def forward(self, read: Read, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Map (..., heads, n, D) to (..., heads, n, D)."""
        mean = uniform(read, q, k, v)
        return mean + (1 + self.w[:, None, None]) * (read(q, k, v) - mean)


class Centered(_Plain):
    """A v - mean: the constant mode is removed.

    References
    ----------
    Ali, Galanti, Wolf, Centered self-attention layers, arXiv 2306.01610.

    Examples
    --------
    >>> v = torch.ones(1, 1, 3, 1)
    >>> Centered(0, 1, 1)(lambda q, k, v: v, v, v, v).flatten().tolist()
    [0.0, 0.0, 0.0]
    """

    def __init__(self, layer: int, heads: int, head_dim: int) -> None:
        super().__init__()

    def forward(self, read: Read, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Map (..., heads, n, D) to (..., heads, n, D)."""
        return read(q, k, v) - uniform(read, q, k, v)


class ShapedAttention(_Plain):
    """v + A v - mean: the identity plus the part of attention that is not uniform.

    The gains of the three terms are 1, as in the paper's formula. Its temperature is left to the query weights.

    References
    ----------
    Noci et al., The shaped transformer: attention models in the infinite depth-and-width limit, arXiv 2306.17759.

    Examples
    --------
    >>> v = torch.tensor([1.0, 2.0]).reshape(1, 1, 2, 1)
    >>> ShapedAttention(0, 1, 1)(lambda q, k, v: v, v, v, v).flatten().tolist()
    [1.0, 2.0]
    """

    def __init__(self, layer: int, heads: int, head_dim: int) -> None:
        super().__init__()

    def forward(self, read: Read, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Map (..., heads, n, D) to (..., heads, n, D)."""
        identity = v[..., -q.shape[-2] :, :]  # with a cache there are more values than queries, which are the last
        return identity + read(q, k, v) - uniform(read, q, k, v)


class Differential(_Plain):
    """(A_1 - lambda A_2) v, where each A has one half of the features of q and k; then (1 - lambda_init) RMSnorm.

        lambda = exp(l_q1 l_k1) - exp(l_q2 l_k2) + lambda_init,    lambda_init = .8 - .6 exp(-.3 layer)

    The norm is taken per head. The initial l are normal with deviation .1. They come from a generator of their own, so
    that all other weights of a seed are those of every other arm. In the paper a head has twice as many features, and
    is not split in two.

    Raises
    ------
    InputError
        A head has an odd number of features.

    References
    ----------
    Ye et al., Differential transformer, arXiv 2410.05258, section 2.1.

    Examples
    --------
    >>> round(Differential(0, 1, 4).initial, 12), Differential(0, 1, 4).amount().shape
    (0.2, torch.Size([]))
    """

    def __init__(self, layer: int, heads: int, head_dim: int) -> None:
        super().__init__()
        if head_dim % 2:
            raise InputError(
                f"differential attention splits q and k of a head in two: {head_dim} features are odd, take an even "
                "number per head"
            )
        self.initial = 0.8 - 0.6 * math.exp(-0.3 * layer)
        generator = torch.Generator(device="cpu").manual_seed(layer)
        start = 0.1 * torch.randn(4, head_dim // 2, generator=generator, device="cpu")
        self.vectors = torch.nn.Parameter(start)  # l_q1, l_k1, l_q2, l_k2
        self.norm = torch.nn.RMSNorm(head_dim, eps=1e-5)

    def amount(self) -> torch.Tensor:
        """Return lambda, a scalar."""
        q1, k1, q2, k2 = self.vectors.unbind()
        return (q1 @ k1).exp() - (q2 @ k2).exp() + self.initial

    def forward(self, read: Read, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Map (..., heads, n, D) to (..., heads, n, D)."""
        (q1, q2), (k1, k2) = q.chunk(2, -1), k.chunk(2, -1)
        return read(q1, k1, v) - self.amount() * read(q2, k2, v)

    def finish(self, y: torch.Tensor) -> torch.Tensor:
        """Return (1 - lambda_init) RMSnorm(y), head by head."""
        return (1 - self.initial) * self.norm(y)


class ValueResidual(_Plain):
    """v <- (v_0 + v)/2 before A.

    References
    ----------
    Zhou et al., Value residual learning, arXiv 2410.17897 (ResFormer, its identity variant).

    Examples
    --------
    >>> ValueResidual(1, 1, 1).values(torch.ones(1), torch.zeros(1)).item()
    0.5
    """

    def __init__(self, layer: int, heads: int, head_dim: int) -> None:
        super().__init__()

    def values(self, v: torch.Tensor, v0: torch.Tensor) -> torch.Tensor:
        """Return (v_0 + v)/2."""
        return (v0 + v) / 2

    def forward(self, read: Read, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Map (..., heads, n, D) to (..., heads, n, D)."""
        return read(q, k, v)


class Sinkformer(_Plain):
    """Sinkhorn(q k^T / sqrt(D)) v: rows and columns of attention are normalised in turn. It allocates n x n matrices.

    References
    ----------
    Sander, Ablin, Blondel, Peyré, Sinkformers: transformers with doubly stochastic attention, arXiv 2110.11773,
    section 3. The number of steps is a choice of this package.

    Examples
    --------
    >>> v = torch.eye(3)[None, None]
    >>> Sinkformer(0, 1, 3)(None, v, v, v).sum(-1).allclose(torch.ones(3))
    True
    """

    masks = False

    def __init__(self, layer: int, heads: int, head_dim: int, *, steps: int = 9) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, read: Read, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Map (..., heads, n, D) to (..., heads, n, D)."""
        return sinkhorn(q @ k.mT / math.sqrt(q.shape[-1]), self.steps) @ v


RELATIVES: dict[str, type[_Plain]] = dict(
    zip(names.RELATIVES, (AttnScale, Centered, ShapedAttention, Differential, ValueResidual, Sinkformer), strict=True)
)


def uniform(read: Read, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return the mean of the values that each token sees: this is what a query of zeros reads."""
    return read(torch.zeros_like(q), k, v)
