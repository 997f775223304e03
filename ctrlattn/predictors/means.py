"""(Mx)_i = mean(x_0, ..., x_{i-1}): the mean of the earlier tokens as their prediction of the next."""

from dataclasses import dataclass

from ctrlattn.arrays import Array, arange, namespace, require_tokens, running_sum, token_sum
from ctrlattn.values import Value


@dataclass(frozen=True, eq=False, repr=False)
class CausalMean(Value):
    """(Mx)_i = mean(x_0, ..., x_{i-1}), (Mx)_0 = 0: the predictor of the prediction-error automaton.

    It is uniform attention over the earlier tokens, without the token itself.

    Examples
    --------
    >>> import numpy as np
    >>> CausalMean()(np.array([[2.0], [4.0], [9.0]])).ravel().tolist()
    [0.0, 2.0, 3.0]
    """

    causal = True

    def __call__(self, x: Array) -> Array:
        require_tokens(x)
        xp = namespace(x)
        counts = arange(x.shape[-2], x)[1:, None]
        means = running_sum(x[..., :-1, :]) / counts
        return xp.concatenate([xp.zeros_like(x[..., :1, :]), means], -2)

    def last(self, x: Array) -> Array:
        """Return the mean of all tokens but the last, (..., 1, d); zero for a single token."""
        require_tokens(x)
        return token_sum(x[..., :-1, :]) / max(x.shape[-2] - 1, 1)
