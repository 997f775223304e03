"""y = A x, with A given or A = softmax(x W_Q (x W_K)^T / temperature): attention among the tokens, per head."""

import math
from dataclasses import dataclass, field

import numpy as np

from ctrlattn.arrays import (
    Array,
    arange,
    attend,
    attention_weights,
    causal_bias,
    is_array,
    like,
    namespace,
    require_finite,
    require_positive,
    require_tokens,
)
from ctrlattn.errors import InputError, require_flag, require_whole
from ctrlattn.values import Value


@dataclass(frozen=True, eq=False, repr=False)
class FixedAttention(Value):
    """y = A x for a given attention matrix: attention frozen, as recorded or as assumed.

    Parameters
    ----------
    matrix : (n, n) or (heads, n, n)
        With heads, head h acts on features h d/heads ... (h + 1) d/heads - 1. Rows need not sum to 1.

    Raises
    ------
    InputError
        A matrix that is not square or not finite; at the call, another number of tokens or features that the
        heads do not divide.

    Examples
    --------
    >>> import numpy as np
    >>> FixedAttention(np.array([[1.0, 0.0], [0.5, 0.5]]))(np.array([[2.0], [4.0]])).ravel().tolist()
    [2.0, 3.0]
    """

    matrix: Array
    causal: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shape = tuple(getattr(self.matrix, "shape", ()))
        if len(shape) not in (2, 3) or shape[-1] != shape[-2] or 0 in shape:
            kind = type(self.matrix).__name__
            raise InputError(f"an attention matrix is an array (n, n) or (heads, n, n), got {kind} of shape {shape}")
        require_finite("the attention matrix", self.matrix)
        try:
            causal = bool((namespace(self.matrix).triu(self.matrix, 1) == 0).all())
        except RuntimeError:  # inside torch.func.vmap a matrix has no single truth value
            causal = False
        object.__setattr__(self, "causal", causal)

    def __call__(self, x: Array) -> Array:
        require_tokens(x)
        if x.shape[-2] != self.matrix.shape[-1]:
            raise InputError(
                f"the attention matrix is for {self.matrix.shape[-1]} tokens, the signal has {x.shape[-2]}"
            )
        return self._apply(self.matrix, x)

    def last(self, x: Array) -> Array:
        """Return the prediction of the last token of the prefix x_0 ... x_i, by row i = n_x - 1 of A."""
        require_tokens(x)
        i = x.shape[-2] - 1
        if i >= self.matrix.shape[-1]:
            raise InputError(f"the attention matrix is for {self.matrix.shape[-1]} tokens, the prefix has {i + 1}")
        return self._apply(self.matrix[..., i : i + 1, : i + 1], x)

    @staticmethod
    def _apply(rows: Array, x: Array) -> Array:
        namespace(x, rows)
        if rows.ndim == 2:
            return rows @ x
        return _merge_heads(rows @ _split_heads(x, rows.shape[0]))


@dataclass(frozen=True, eq=False, repr=False)
class SoftmaxAttention(Value):
    """y = softmax(x W_Q (x W_K)^T / temperature) x W_V W_O, per head.

    Parameters
    ----------
    wq, wk, wv : (d, heads * p), optional
        The projections act from the right, x @ w; None is the identity.
    wo : (heads * p, d), optional
    heads : int
    causal : bool
        A token sees itself and earlier tokens only.
    strict : bool
        A token does not see itself either, which needs causal. The first token then sees nothing and is predicted as 0.
    temperature : float, optional
        None stands for the square root of the head dimension of the queries.

    References
    ----------
    Vaswani et al., Attention Is All You Need, arXiv 1706.03762, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 0.0], [1.0, 0.0]])
    >>> SoftmaxAttention().weights(x).round(3).tolist()
    [[[1.0, 0.0], [0.5, 0.5]]]
    """

    wq: Array | None = None
    wk: Array | None = None
    wv: Array | None = None
    wo: Array | None = None
    heads: int = 1
    causal: bool = True
    strict: bool = False
    temperature: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "causal", require_flag("causal", self.causal))
        object.__setattr__(self, "strict", require_flag("strict", self.strict))
        for name in ("wq", "wk", "wv", "wo"):
            w = getattr(self, name)
            if w is not None and (not is_array(w) or w.ndim != 2):
                shape = tuple(getattr(w, "shape", ()))
                raise InputError(f"{name} must be a matrix (d_in, d_out), got {type(w).__name__} of shape {shape}")
            if w is not None:
                require_finite(name, w)
        object.__setattr__(self, "heads", require_whole("heads", self.heads))
        if self.temperature is not None:
            object.__setattr__(self, "temperature", require_positive("temperature", self.temperature))
        if self.strict and not self.causal:
            raise InputError("strict=True hides the token itself and the future: it needs causal=True")

    def __call__(self, x: Array) -> Array:
        q, k, v = self._project(x)
        y = attend(q, k, v, scale=self._scale(q, k), bias=self._bias(x))
        if self.strict:
            y = y * _not_first(x)
        return self._output(y)

    def weights(self, x: Array) -> Array:
        """Return the attention matrices, (..., n, d) -> (..., heads, n, n); rows sum to 1 (strict: row 0 is zero)."""
        q, k, _ = self._project(x)
        weights = attention_weights(q, k, scale=self._scale(q, k), bias=self._bias(x))
        return weights * _not_first(x) if self.strict else weights

    def last(self, x: Array) -> Array:
        """Return the prediction of the last token from the tokens up to it (strict: before it)."""
        require_tokens(x)
        context = x[..., :-1, :] if self.strict else x
        if context.shape[-2] == 0:
            return 0.0 * self._output(self._heads(x, self.wv))
        q = self._heads(x[..., -1:, :], self.wq)
        k, v = self._heads(context, self.wk), self._heads(context, self.wv)
        return self._output(attend(q, k, v, scale=self._scale(q, k)))

    def _project(self, x: Array) -> tuple[Array, Array, Array]:
        require_tokens(x)
        return self._heads(x, self.wq), self._heads(x, self.wk), self._heads(x, self.wv)

    def _heads(self, x: Array, w: Array | None) -> Array:
        return _split_heads(_times(x, w), self.heads)

    def _scale(self, q: Array, k: Array) -> float:
        if q.shape[-1] != k.shape[-1]:
            raise InputError(f"queries have {q.shape[-1]} features a head, keys {k.shape[-1]}: wq and wk must agree")
        return 1.0 / (math.sqrt(q.shape[-1]) if self.temperature is None else self.temperature)

    def _bias(self, x: Array) -> Array | None:
        if not self.causal:
            return None
        bias = causal_bias(x.shape[-2], x)
        if not self.strict:
            return bias
        # The first token keeps itself so that its row stays finite; `_not_first` takes it out again.
        i = arange(x.shape[-2], x)
        hidden = (i[None, :] == i[:, None]) & (i[:, None] > 0)
        return namespace(x).where(hidden, -float("inf"), bias)

    def _output(self, y: Array) -> Array:
        return _times(_merge_heads(y), self.wo)


def _times(x: Array, w: Array | None) -> Array:
    """Return x W, where None is the identity."""
    if w is None:
        return x
    namespace(x, w)
    if x.shape[-1] != w.shape[0]:
        raise InputError(f"the projection takes {w.shape[0]} features, the signal has {x.shape[-1]}")
    return x @ w


def _split_heads(x: Array, heads: int) -> Array:
    """Return (..., n, h p) as (..., h, n, p)."""
    if x.shape[-1] % heads:
        raise InputError(f"{heads} heads do not divide {x.shape[-1]} features")
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).swapaxes(-2, -3)


def _merge_heads(x: Array) -> Array:
    """Return (..., h, n, p) as (..., n, h p)."""
    joined = x.swapaxes(-3, -2)
    return joined.reshape(*joined.shape[:-2], joined.shape[-2] * joined.shape[-1])


def _not_first(x: Array) -> Array:
    """Return a column (n, 1): 0 for token 0, 1 for the others."""
    return like(np.arange(x.shape[-2]) > 0, x)[:, None]
