"""vel <- vel + t (predict(x) - x);  x <- x + t vel: attention as a force, a second-order loop over depth."""

import math
from collections.abc import Callable

import torch

from ctrlattn.errors import InputError


def wave(predict: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, layers: int, step: float) -> torch.Tensor:
    """Return the states of the second-order loop, layer by layer.

    A mode a of attention has the characteristic polynomial z^2 - (2 - t^2 (1 - a)) z + 1, whose roots have product 1.
    While 0 < t^2 (1 - a) < 4 they lie on the unit circle: the mode oscillates without damping.

    Parameters
    ----------
    predict : callable
        (..., n, d) -> (..., n, d), for instance SoftmaxAttention.
    x : (..., n, d)
    layers : int
    step : float
        t; 0 is the identity.

    Returns
    -------
    (layers + 1, ..., n, d)

    Raises
    ------
    InputError
        The step is not finite, or the number of layers is below 0.

    References
    ----------
    Noguchi, Kawahara, Wavy transformer, arXiv 2508.12787, for the wave equation; Nguyen et al., Momentum transformer,
    arXiv 2208.00579, for momentum over depth. The discretisation, semi-implicit Euler, is a choice of this package.

    Examples
    --------
    >>> x = torch.tensor([[1.0]])
    >>> wave(lambda x: 0 * x, x, 6, 1.0).flatten().tolist()  # a = 0, t = 1: z^2 - z + 1, a circle in six layers
    [1.0, 0.0, -1.0, -1.0, 0.0, 1.0, 1.0]
    """
    if not math.isfinite(step) or layers < 0:
        raise InputError(f"a finite step and layers >= 0 are needed, got {step} and {layers}")
    states, velocity = [x], torch.zeros_like(x)
    for _ in range(layers):
        velocity = velocity + step * (predict(states[-1]) - states[-1])
        states.append(states[-1] + step * velocity)
    return torch.stack(states)
