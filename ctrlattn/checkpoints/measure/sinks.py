"""max_t |x_t| / median_t |x_t|, mean_i A_ij: massive activations of the stream, and attention sinks."""

from typing import NamedTuple

import numpy as np

MASSIVE = 10.0  # times the median norm of the tokens; left out where a few tokens would decide a mean


class MassiveActivation(NamedTuple):
    """The largest token of each depth, and the feature that makes it so; each (depth,)."""

    token: np.ndarray
    feature: np.ndarray
    value: np.ndarray  # x[token, feature]
    ratio: np.ndarray  # |x_token| over the median of all tokens


def massive_activation(state: np.ndarray) -> MassiveActivation:
    """Find which token has the largest stream, in which feature, and how many times the median.

    Parameters
    ----------
    state : (depth, n, d)

    Returns
    -------
    MassiveActivation
        The ratio is inf where more than half of the tokens are zero, 1 where all are.

    References
    ----------
    Sun et al., Massive Activations in Large Language Models, arXiv 2402.17762, section 2.

    Examples
    --------
    >>> massive = massive_activation(np.array([[[1.0, 0.0], [0.0, -30.0], [2.0, 0.0]]]))
    >>> massive.token.item(), massive.feature.item(), massive.value.item(), massive.ratio.item()
    (1, 1, -30.0, 15.0)
    """
    x = np.asarray(state, dtype=np.float64)
    size = np.linalg.norm(x, axis=-1)
    token = size.argmax(-1)
    rows = np.take_along_axis(x, token[:, None, None], 1)[:, 0]
    feature = np.abs(rows).argmax(-1)
    median, largest = np.median(size, axis=-1), size.max(-1)
    with np.errstate(divide="ignore"):
        ratio = np.where(largest > 0, np.divide(largest, median, where=largest > 0, out=np.ones_like(median)), 1.0)
    return MassiveActivation(token, feature, np.take_along_axis(rows, feature[:, None], 1)[:, 0], ratio)


def ordinary_tokens(state: np.ndarray) -> np.ndarray:
    """Tell which tokens are nowhere massive: (n,) of bool for a stream (depth, n, d).

    >>> ordinary_tokens(np.array([[[1.0], [30.0], [2.0]]])).tolist()
    [True, False, True]
    """
    size = np.stack([np.linalg.norm(np.asarray(x, dtype=np.float64), axis=-1) for x in state])
    return np.asarray(np.all(size <= MASSIVE * np.median(size, axis=-1, keepdims=True), axis=0))


def attention_sink(attention: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the key that draws most attention in each head, and its share of all attention.

    Parameters
    ----------
    attention : (..., n, n)
        Rows sum to 1, or to less where a null key takes the rest (`ctrlattn.signals.sink_mass`), which is no token.

    Returns
    -------
    token, share : (...)
        1/n is what uniform attention over all tokens gives; uniform causal attention gives the first token more, the
        mean of 1/i.

    References
    ----------
    Xiao et al., Efficient Streaming Language Models with Attention Sinks, arXiv 2309.17453, section 3.

    Examples
    --------
    >>> token, share = attention_sink(np.array([[1.0, 0.0], [0.5, 0.5]]))
    >>> token.item(), share.item()
    (0, 0.75)
    """
    received = np.asarray(attention, dtype=np.float64).mean(axis=-2)
    return received.argmax(-1), received.max(-1)
