"""N(a z) - N(0) = k_a (N(z) - N(0)), k_a -> a limit: how a norm is told from every other function of a token."""

from typing import Any

import torch

_LARGE = (1e3, 1e4)  # large enough for the constant under the root to vanish
_SAME, _TURNED = 1e-2, 1e-4


def forgets_size(module: Any, z: torch.Tensor, n: torch.Tensor) -> bool:
    """Tell whether a module forgets the size of z, and treats each token alone.

    Parameters
    ----------
    module : torch module
    z, n : tensors
        What it was given, and what it returned.

    Examples
    --------
    >>> z = torch.tensor([[1.0, 2.0, 4.0]])
    >>> norm, bend = torch.nn.LayerNorm(3), torch.nn.Tanh()
    >>> forgets_size(norm, z, norm(z)), forgets_size(bend, z, bend(z))
    (True, False)
    """
    with torch.no_grad():
        try:
            zero, small, large = (_first(module.forward(z * factor)) for factor in (0.0, *_LARGE))
            token = _first(module.forward(z[..., :1, :] * _LARGE[0]))
        except (TypeError, RuntimeError):  # it needs more than z: no norm
            return False
        if small.shape != n.shape or not torch.isfinite(large).all():
            return False
        scale = large.abs().max()
        same = (small - large).abs().max() <= _SAME * scale
        alone = token.shape == small[..., :1, :].shape and (token - small[..., :1, :]).abs().max() <= _SAME * scale
        # The constant under the root shortens a small token, and does not turn it.
        turn = 1 - torch.cosine_similarity((n - zero).double(), (large - zero).double(), dim=-1)
        return bool(same and alone and scale > 0 and turn.max() <= _TURNED)


def _first(output: Any) -> torch.Tensor:
    result = output[0] if isinstance(output, tuple) else output
    if not isinstance(result, torch.Tensor):
        raise TypeError("it returns no tensor")
    return result
