"""x_i -> token i after all layers, one token at a time: the running sum of each layer is the whole memory.

A sequential loop whose prediction is a running mean is a recurrent filter along the tokens: its state, (layers, d)
numbers, and its work for a token do not grow with the context.
"""

import math
from typing import Any

import numpy as np

from ctrlattn.arrays import Array, is_torch, like, namespace, require_features, require_finite, to_numpy
from ctrlattn.errors import InputError
from ctrlattn.loop import Loop, require_layers, require_single_loop
from ctrlattn.sequential import is_compilable, is_running, sweep_options


def stream(loop: Loop, layers: int) -> "Stream":
    """Begin a sequential loop fed token by token: push(x_0), push(x_1), ... as `simulate` does the whole sequence.

    Parameters
    ----------
    loop : Loop
        It has order="sequential" and the predictor CausalMean, with any norm and controller.
    layers : int

    Raises
    ------
    InputError
        Another order or predictor, which would need the whole sequence; layers that are no whole number of at least 0.

    Examples
    --------
    >>> import numpy as np
    >>> from ctrlattn import CausalMean, Loop
    >>> automaton = stream(Loop(CausalMean(), order="sequential"), 2)
    >>> [automaton.push(np.ones(1)).round(3).item() for _ in range(4)]
    [1.0, -1.0, 0.5, 0.333]
    """
    return Stream(loop, layers)


class Stream:
    """What `stream` makes: the number of tokens so far and, for each layer, their sum as the layer left them."""

    def __init__(self, loop: Loop, layers: int) -> None:
        loop = require_single_loop(loop, "stream")
        if not is_running(loop.predictor, loop.order):
            raise InputError(
                'stream needs order="sequential" and the predictor CausalMean, whose running sum is all it keeps of '
                f"the earlier tokens; got order={loop.order!r} and {loop.predictor!r}"
            )
        self._loop, self._layers = loop, require_layers(layers)
        self._first: Array = None
        self._sums: Any = None
        self.tokens = 0

    def push(self, token: Array, reference: Array | None = None) -> Array:
        """Return the token after all layers.

        Parameters
        ----------
        token : (..., d)
            One token, or one for each sequence of a batch; shape, kind and dtype as at the first push.
        reference : (..., d), optional
            r for this token; None stands for the token itself.

        Returns
        -------
        (..., d)

        Raises
        ------
        InputTypeError
            Another kind, dtype or device than the first token's.
        InputError
            Another shape than the first token's, another number of features than a gain of the loop, NaN or infinity.
        """
        x, r = (
            self._checked_token("token", token),
            None if reference is None else self._checked_token("reference", reference),
        )
        compiled = self._loop.controller is None and is_compilable(self._loop.terms, x)
        push = self._push_compiled if compiled else self._push
        result = push(x, r)
        self.tokens += 1
        return result[..., 0, :]

    def _checked_token(self, name: str, token: Array) -> Array:
        """Return the token as (..., 1, d), checked."""
        first = token if self._first is None else self._first
        namespace(first, token)
        if token.ndim == 0 or tuple(token.shape) != tuple(first.shape):
            raise InputError(
                f"the {name} must be (..., d) and shaped as the first token, {tuple(first.shape)}, "
                f"got {tuple(token.shape)}"
            )
        require_features(token, skip=self._loop.skip, feedback=self._loop.feedback)
        require_finite(f"the {name}", token)
        self._first = first
        return token[..., None, :]

    def _push(self, x: Array, reference: Array | None) -> Array:
        """Push layer by layer; the sums are a list of (..., 1, d), replaced and never overwritten."""
        loop, sums = self._loop, self._sums_as(list, x)
        state = loop.init(x, reference)
        for k in range(self._layers):
            _, u, state = loop.tracking.step(x, state)
            new = loop.compare(x, sums[k] / max(self.tokens, 1), u)
            x = x if loop.hold_first and self.tokens == 0 else new
            sums[k] = sums[k] + loop.seen(x)
        return x

    def _push_compiled(self, x: Array, reference: Array | None) -> Array:
        """Push through all layers in one call; the sums are one (batch, layers, d) array, updated in place."""
        if self._layers == 0:
            return x
        from ctrlattn.kernels import sweep

        flat = np.ascontiguousarray(to_numpy(x)).reshape(-1, 1, x.shape[-1])
        states, _ = sweep(flat, self._sums_as(np.ndarray, x), start=self.tokens, **sweep_options(self._loop.terms, x))
        shaped = states[0].reshape(x.shape)
        return namespace(x).from_numpy(shaped) if is_torch(x) else shaped

    def _sums_as(self, form: type, x: Array) -> Any:
        """Return the sums in the form that a push needs; a gradient may begin or end between two tokens."""
        if self._sums is None:
            self._sums = np.zeros((math.prod(x.shape[:-2]), self._layers, x.shape[-1]))
        if form is list and not isinstance(self._sums, list):
            self._sums = [like(self._sums[:, k], x).reshape(x.shape) for k in range(self._layers)]
        elif form is np.ndarray and isinstance(self._sums, list):
            self._sums = np.stack([to_numpy(s).reshape(-1, x.shape[-1]) for s in self._sums], 1).astype(np.float64)
        return self._sums
