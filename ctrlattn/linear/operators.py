"""L with x' = L x: the (n, n) matrix of one layer of a linear loop, found by running the layer on the identity.

With M the strict causal mean, a sequential pass of the automaton is (I + g M)^-1 and a parallel one is I - g M.
"""

import numpy as np

from ctrlattn.errors import InputError, require_whole
from ctrlattn.loop import Loop, require_scalar_gains

_TOLERANCE = 1e-9


def pass_operator(loop: Loop, n: int) -> np.ndarray:
    """Return the matrix of one layer of a linear loop on n tokens.

    Column j is the layer's answer to the unit signal at token j, so that the same code that simulates also gives
    the operator, in either order. Superposition is verified on a random probe.

    Parameters
    ----------
    loop : Loop
        A linear predictor that acts alike on every feature (CausalMean, FixedAttention of one head), no
        normalizer, no controller.
    n : int
        Number of tokens.

    Returns
    -------
    (n, n) float64

    Raises
    ------
    InputError
        A normalizer, a controller, or a layer that is not the same linear map on every feature.

    Examples
    --------
    >>> from ctrlattn import CausalMean, Loop
    >>> pass_operator(Loop(CausalMean(), order="sequential"), 3)
    array([[ 1. ,  0. ,  0. ],
           [-1. ,  1. ,  0. ],
           [ 0. , -0.5,  1. ]])
    """
    require_scalar_gains(loop, "pass_operator")
    if loop.normalizer is not None:
        raise InputError("pass_operator: a loop with a normalizer is nonlinear; use linearize at a state")
    if loop.controller is not None:
        raise InputError("pass_operator: a controller has memory, one layer is no matrix; use mode or linearize")
    n = require_whole("n", n)
    loop = loop.to(np.empty(0))
    matrix = _layer(loop, np.eye(n))
    probe = np.random.default_rng(0).standard_normal((n, n))
    expected, actual = matrix @ probe, _layer(loop, probe)
    if not np.max(np.abs(actual - expected)) <= _TOLERANCE * max(1.0, np.max(np.abs(expected))):
        raise InputError(
            f"pass_operator: {loop.predictor!r} is not one linear map of the tokens, the same for every feature "
            "(softmax attention depends on the signal: freeze its weights in FixedAttention, one head at a time)"
        )
    return matrix


def _layer(loop: Loop, x: np.ndarray) -> np.ndarray:
    return loop.step(x, loop.init(x))[0]
