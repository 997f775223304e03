"""rho(J) = |z^H J x/(z^H x)|, J = F'(h): the spectral radius of one pass, in a form that training can lower.

x and z are the dominant right and left eigenvectors of J, which orthogonal iteration of two directions with J v and J'w
finds, so that a complex pair is found too. With both of them held, the derivative of the quotient is that of the
eigenvalue, also where J is far from normal.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from ctrlattn.errors import require_whole
from ctrlattn.linear.jacobian import prepare_forward

Map = Callable[[torch.Tensor], torch.Tensor]
_DIRECTIONS = 2  # a complex pair needs two
_MISSED = 1e-6  # |z^H x| below which left and right vectors miss each other
_SETTLED = 0.05  # residual of a Ritz pair that counts as an eigenvector, as a share of |lambda|


class Radius(NamedTuple):
    """The spectral radius of each sample, and how far it is from that of an eigenvalue."""

    radius: torch.Tensor  # (N,) |lambda|, with a gradient
    residual: torch.Tensor  # (N,) |J x - lambda x|: lambda is an eigenvalue of a matrix this far from J


def pass_radius(f: Map, h: torch.Tensor, *, rounds: int = 4, generator: torch.Generator | None = None) -> Radius:
    """Return the spectral radius of F'(h) for each sample, with a gradient that reaches the weights of F and not h.

    Parameters
    ----------
    f : callable
        (..., N, *shape) -> the same, sample by sample and for any leading axes.
    h : (N, *shape)
        Where F is differentiated. No gradient flows into it.
    rounds : int
        Products with J and J' of both directions; the error falls as (|lambda_3|/|lambda_2|)^rounds.
    generator : torch.Generator, optional
        Source of the first directions.

    Returns
    -------
    Radius

    Raises
    ------
    InputError
        `rounds` is below 1.

    References
    ----------
    A penalty on the radius by power iteration with Jacobian-vector products: STARS, arXiv 2605.26733. Derivative of an
    eigenvalue, w'dJ v/(w'v): Horn and Johnson, Matrix Analysis, theorem 6.3.12. Ritz pairs
    of orthogonal iteration: Golub and Van Loan, Matrix Computations, section 7.3.2.

    Examples
    --------
    >>> turn = torch.tensor([[0.0, -3.0], [3.0, 0.0]], dtype=torch.float64)
    >>> pass_radius(lambda h: h @ turn, torch.ones(1, 2, dtype=torch.float64)).radius.round(decimals=9).tolist()
    [3.0]
    """
    rounds = require_whole("rounds", rounds)
    prepare_forward()
    h = h.detach()
    size = h[0].numel()
    count = min(_DIRECTIONS, size)
    both = h.expand(count, *h.shape).clone()
    v, w = (_orthonormal(torch.randn(both.shape, generator=generator).to(h)) for _ in range(2))
    with torch.no_grad():
        for _ in range(rounds):
            v = _orthonormal(torch.func.jvp(f, (both,), (v,))[1])
            w = _orthonormal(torch.func.vjp(f, both)[1](w)[0])
        JTw = torch.func.vjp(f, both)[1](w)[0]
    Jv = torch.func.jvp(f, (both,), (v,))[1]
    v, w, Jv, JTw = (each.reshape(count, len(h), size).movedim(0, -1) for each in (v, w, Jv, JTw))
    with torch.no_grad():
        value, y, residual = _ritz(v, Jv)
        x, z = _combine(v, y), _left_vector(w, JTw, value)
        overlap = _dot(z, x)
        # Where the left vector misses the right one, the right one alone still gives the value.
        z = torch.where((overlap.abs() > _MISSED)[:, None], z, x)
    return Radius((_dot(z, _combine(Jv, y)) / _dot(z, x)).abs(), residual)


def squared_norm(f: Map, h: torch.Tensor, *, probes: int = 1, generator: torch.Generator | None = None) -> torch.Tensor:
    """Return Hutchinson's estimate of |F'(h)|_F^2 for each sample: the mean of |J v|^2 over probes of signs.

    Parameters
    ----------
    f, h, generator : as for `pass_radius`
    probes : int

    Returns
    -------
    (N,)
        Its expectation is the sum of the squared singular values, which is at least rho(J)^2.

    Raises
    ------
    InputError
        `probes` is below 1.

    References
    ----------
    Hutchinson, Communications in Statistics B 19 (1990) 433; on the Jacobian of equilibrium networks, Bai et al.,
    arXiv 2106.14342.

    Examples
    --------
    >>> squared_norm(lambda h: 2 * h, torch.ones(1, 3)).tolist()
    [12.0]
    """
    prepare_forward()
    many = h.detach().expand(require_whole("probes", probes), *h.shape).clone()
    signs = (torch.randint(0, 2, many.shape, generator=generator) * 2 - 1).to(h)
    Jv = torch.func.jvp(f, (many,), (signs,))[1]
    return Jv.flatten(2).square().sum(-1).mean(0)


def _orthonormal(v: torch.Tensor) -> torch.Tensor:
    """Return (directions, N, *shape), those of each sample orthonormal."""
    flat = v.flatten(2).movedim(0, -1)
    return torch.linalg.qr(flat)[0].movedim(-1, 0).reshape(v.shape)


def _ritz(v: torch.Tensor, Jv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (lambda, y, |J x - lambda x|) of each sample's dominant Ritz pair x = V y.

    A second direction that has not settled has Ritz values of its own, as large as the field of values of J; so the
    largest counts among those whose residual is small, and the one of least residual where none is.
    """
    values, vectors = torch.linalg.eig(v.mT @ Jv)
    off = (Jv.to(values.dtype) @ vectors - v.to(values.dtype) @ vectors * values[:, None]).norm(dim=1)
    settled = off <= _SETTLED * values.abs()
    rank = torch.where(settled, values.abs(), -off)
    at = rank.argmax(-1)
    rows = torch.arange(len(at), device=at.device)
    return values[rows, at], vectors[rows, :, at], off[rows, at]


def _left_vector(w: torch.Tensor, pulled: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return the left vector z, z^H J = lambda z^H, of the Ritz value of J' nearest to conj(lambda)."""
    values, vectors = torch.linalg.eig(w.mT @ pulled)
    at = (values - value.conj()[:, None]).abs().argmin(-1)
    return _combine(w, vectors[torch.arange(len(at), device=at.device), :, at])


def _combine(v: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return V y, (N, size) complex."""
    return (v.to(y.dtype) @ y[..., None])[..., 0]


def _dot(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return z^H x of each sample."""
    return (z.conj() * x).sum(-1)
