"""perplexity = exp(loss in nats per token): among how many equally likely tokens a network would be as unsure."""

import math

_HIGHEST = 700.0  # nats; shortly above, exp overflows


def perplexity_of(loss: float) -> float:
    """Return exp(loss in nats per token); inf from 700 nats on, shortly before that overflows.

    >>> perplexity_of(0.0)
    1.0
    """
    return math.exp(loss) if loss < _HIGHEST else math.inf
