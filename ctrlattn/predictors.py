"""y = predict(x): what the context predicts for each token. Everything here is one function, `read`.

A predictor is any callable (..., n, d) -> (..., n, d). The named ones are frozen dataclasses that know two
things more: `.causal`, whether token i is predicted from tokens 0..i alone, and `.last(x)`, the prediction of
the last token alone, (..., n, d) -> (..., 1, d), from which the sequential order is built.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ctrlattn.arrays import (
    Array,
    arange,
    attend,
    attention_weights,
    causal_bias,
    is_array,
    is_torch,
    like,
    namespace,
    require_finite,
    require_number,
    require_tokens,
    running_sum,
    token_sum,
)
from ctrlattn.errors import InputError


def read(query: Array, keys: Array, values: Array, *, temperature: float = 1.0, sink: float | None = None) -> Array:
    """Read an associative memory: softmax(q K^T / temperature) V.

    Parameters
    ----------
    query : (d,) or (..., m, d)
    keys : (..., n, d)
    values : (..., n, p)
    temperature : float
        Positive; small values read the nearest key only.
    sink : float, optional
        Similarity q.k of a null key whose value is 0: a query less similar than this to every key reads
        almost nothing. None: no null key.

    Returns
    -------
    (p,) or (..., m, p)

    Raises
    ------
    InputError
        Shapes that do not fit, an empty memory, a temperature that is not positive, a sink that is not finite.

    References
    ----------
    Graves, Wayne, Danihelka, Neural Turing Machines, arXiv 1410.5401, section 3.3.1; with keys = values one
    modern Hopfield update: Ramsauer et al., arXiv 2008.02217, equation 3.

    Examples
    --------
    >>> import numpy as np
    >>> keys = np.eye(2)
    >>> read(np.array([1.0, 0.0]), keys, keys, temperature=0.01).round(6).tolist()
    [1.0, 0.0]
    """
    xp = namespace(query, keys, values)
    if keys.ndim < 2 or values.ndim < 2 or keys.shape[-2] != values.shape[-2] or keys.shape[-2] == 0:
        raise InputError(
            "keys (..., n, d) and values (..., n, p) must share n >= 1, "
            f"got {tuple(keys.shape)} and {tuple(values.shape)}"
        )
    if query.ndim == 0 or query.shape[-1] != keys.shape[-1]:
        raise InputError(f"a query for keys of {keys.shape[-1]} features has as many, got {tuple(query.shape)}")
    temperature = _require_positive("temperature", temperature)
    if query.ndim == 1:
        return read(query[None, :], keys, values, temperature=temperature, sink=sink)[..., 0, :]
    if sink is not None:
        sink = require_number("sink", sink)
        # One more feature, 1 in the query and `sink` in the null key alone, gives that key its similarity.
        query = xp.concatenate([query, xp.ones_like(query[..., :1])], -1)
        null_key = xp.concatenate([xp.zeros_like(keys[..., :1, :]), sink * xp.ones_like(keys[..., :1, :1])], -1)
        keys = xp.concatenate([keys, xp.zeros_like(keys[..., :1])], -1)
        keys = xp.concatenate([keys, null_key], -2)
        values = xp.concatenate([values, xp.zeros_like(values[..., :1, :])], -2)
    return attend(query, keys, values, scale=1.0 / temperature)


@dataclass(frozen=True, eq=False)
class CausalMean:
    """(Mx)_i = mean(x_0, ..., x_{i-1}), (Mx)_0 = 0: the predictor of the prediction-error automaton.

    Uniform attention over the earlier tokens, without the token itself.

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
        """Mean of all tokens but the last, (..., 1, d); zero for a single token."""
        require_tokens(x)
        return token_sum(x[..., :-1, :]) / max(x.shape[-2] - 1, 1)


@dataclass(frozen=True, eq=False)
class FixedAttention:
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
        """Row i = n_x - 1 of A on the prefix x_0 ... x_i."""
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


@dataclass(frozen=True, eq=False)
class SoftmaxAttention:
    """y = softmax(x W_Q (x W_K)^T / temperature) x W_V W_O, per head.

    Parameters
    ----------
    wq, wk, wv : (d, heads * p), optional
        Projections acting from the right, x @ w; None is the identity.
    wo : (heads * p, d), optional
    heads : int
    causal : bool
        A token sees itself and earlier tokens only.
    strict : bool
        Without the token itself; implies causal. The first token then sees nothing: its prediction is 0.
    temperature : float, optional
        None: the square root of the head dimension of the queries.

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
        for name in ("wq", "wk", "wv", "wo"):
            w = getattr(self, name)
            if w is not None and (not is_array(w) or w.ndim != 2):
                shape = tuple(getattr(w, "shape", ()))
                raise InputError(f"{name} must be a matrix (d_in, d_out), got {type(w).__name__} of shape {shape}")
            if w is not None:
                require_finite(name, w)
        if not _is_count(self.heads):
            raise InputError(f"heads must be a whole number of at least 1, got {self.heads!r}")
        if self.temperature is not None:
            object.__setattr__(self, "temperature", _require_positive("temperature", self.temperature))
        if self.strict and not self.causal:
            raise InputError("strict=True hides the token itself and the future: it needs causal=True")

    def __call__(self, x: Array) -> Array:
        q, k, v = self._project(x)
        y = attend(q, k, v, scale=self._scale(q, k), bias=self._bias(x))
        if self.strict:
            y = y * _not_first(x)
        return self._output(y)

    def weights(self, x: Array) -> Array:
        """The attention matrices, (..., n, d) -> (..., heads, n, n); rows sum to 1 (strict: row 0 is zero)."""
        q, k, _ = self._project(x)
        weights = attention_weights(q, k, scale=self._scale(q, k), bias=self._bias(x))
        return weights * _not_first(x) if self.strict else weights

    def last(self, x: Array) -> Array:
        """Prediction of the last token from the tokens up to it (strict: before it)."""
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


@dataclass(frozen=True, eq=False)
class AssociativeMemory:
    """y_i = read(x_i, K, V): a constant memory read by every token on its own.

    Parameters
    ----------
    keys : (m, d) or (..., m, d)
        With batch dimensions, one memory for each signal of a batch.
    values : (m, d) or (..., m, d)
    temperature : float
    sink : float, optional
        See `read`.

    Raises
    ------
    InputError
        Keys and values that are not matrices with one value a key, or not finite; a temperature that is not positive.

    References
    ----------
    An MLP as a key-value memory: Geva et al., arXiv 2012.14913, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> memory = AssociativeMemory(np.eye(2), np.array([[0.0, 5.0], [7.0, 0.0]]), temperature=0.01)
    >>> memory(np.array([[1.0, 0.0]])).round(6).tolist()
    [[0.0, 5.0]]
    """

    keys: Array
    values: Array
    temperature: float
    sink: float | None = None
    causal = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", _require_positive("temperature", self.temperature))
        if self.sink is not None:
            object.__setattr__(self, "sink", require_number("sink", self.sink))
        for name in ("keys", "values"):
            memory = getattr(self, name)
            if not is_array(memory) or memory.ndim < 2 or 0 in memory.shape:
                shape = tuple(getattr(memory, "shape", ()))
                raise InputError(f"{name} must be (..., slots, d), got {type(memory).__name__} of shape {shape}")
            require_finite(name, memory)
        if self.keys.shape[-2] != self.values.shape[-2]:
            raise InputError(f"{self.keys.shape[-2]} keys but {self.values.shape[-2]} values: one value a key")

    def __call__(self, x: Array) -> Array:
        return read(x, self.keys, self.values, temperature=self.temperature, sink=self.sink)

    def last(self, x: Array) -> Array:
        """The memory read by the last token alone."""
        return self(x[..., -1:, :])


@dataclass(frozen=True, eq=False)
class BilateralFilter:
    """y_i = sum_j w_ij x_j, w_ij ~ exp(-|x_i - x_j|^2 / h^2 - |p_i - p_j|^2 / h_s^2): attention with tied q, k.

    softmax_j(-|x_i - x_j|^2 / h^2) = softmax_j((2 x_i.x_j - |x_j|^2) / h^2): dot-product attention whose keys
    are the queries, with a bias by key that vanishes when all norms are equal.

    Parameters
    ----------
    bandwidth : float
        h, in units of the signal (range kernel). A Gaussian of standard deviation s has h = sqrt(2) s.
    causal : bool
        Only tokens up to the token itself.
    radius : float, optional
        Window: positions farther than this along any axis are not seen.
    spatial_bandwidth : float, optional
        h_s, in units of the position (spatial kernel); None: no spatial kernel.
    grid : (height, width), optional
        Tokens are the pixels of an image in row-major order; None: positions 0, 1, ..., n - 1.

    References
    ----------
    Tomasi and Manduchi, Bilateral filtering for gray and color images, ICCV 1998, section 2; Buades, Coll and
    Morel, A non-local algorithm for image denoising, CVPR 2005.

    Examples
    --------
    >>> import numpy as np
    >>> step = np.array([[0.0], [0.2], [5.0], [5.2]])
    >>> BilateralFilter(1.0)(step).round(2).ravel().tolist()
    [0.1, 0.1, 5.1, 5.1]
    """

    bandwidth: float
    causal: bool = False
    radius: float | None = None
    spatial_bandwidth: float | None = None
    grid: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", _require_positive("bandwidth", self.bandwidth))
        if self.spatial_bandwidth is not None:
            spatial = _require_positive("spatial_bandwidth", self.spatial_bandwidth)
            object.__setattr__(self, "spatial_bandwidth", spatial)
        if self.radius is not None and not self.radius >= 0:
            raise InputError(f"radius must not be negative, got {self.radius}")
        if self.grid is not None and not (_is_pair(self.grid) and all(_is_count(side) for side in self.grid)):
            raise InputError(f"grid must be (height, width) in whole pixels, got {self.grid!r}")

    def __call__(self, x: Array) -> Array:
        z = self._centred(x)
        return attend(z, z, x, scale=self._scale, bias=self._bias(z))

    def weights(self, x: Array) -> Array:
        """The filter's matrix as attention matrices of one head, (..., n, d) -> (..., 1, n, n)."""
        z = self._centred(x)
        return attention_weights(z, z, scale=self._scale, bias=self._bias(z))[..., None, :, :]

    def last(self, x: Array) -> Array:
        """The filtered last token."""
        z = self._centred(x)
        return attend(z[..., -1:, :], z, x, scale=self._scale, bias=self._bias(z, queries=slice(-1, None)))

    @staticmethod
    def _centred(x: Array) -> Array:
        """x minus the mean token, which changes no distance and keeps 2 x.x' - |x'|^2 from cancelling.

        The weights do not depend on the mean, so no gradient passes through it: a causal filter stays exactly causal.
        """
        require_tokens(x)
        return x - token_sum(x.detach() if is_torch(x) else x) / x.shape[-2]

    @property
    def _scale(self) -> float:
        return 2.0 / self.bandwidth**2

    def _bias(self, x: Array, queries: slice = slice(None)) -> Array:
        """-|x_j|^2 / h^2 and everything that depends on the positions alone, (..., queries, n)."""
        xp = namespace(x)
        n = x.shape[-2]
        bias = -xp.sum(x * x, -1)[..., None, :] / self.bandwidth**2
        if self.causal:
            bias = bias + causal_bias(n, x)[queries]
        for position in self._positions(n):
            p = like(position, x)
            distance = xp.abs(p[queries, None] - p[None, :])
            if self.spatial_bandwidth is not None:
                bias = bias - distance * distance / self.spatial_bandwidth**2
            if self.radius is not None:
                bias = xp.where(distance <= self.radius, bias, -float("inf"))
        return bias

    def _positions(self, n: int) -> tuple[np.ndarray, ...]:
        i = np.arange(n)
        if self.grid is None:
            return (i,)
        height, width = self.grid
        # A causal filter may see a prefix of the image in row-major order: the sequential pass does.
        if n > height * width or (n < height * width and not self.causal):
            raise InputError(f"grid {self.grid} has {height * width} pixels, the signal has {n} tokens")
        return i // width, i % width


def _times(x: Array, w: Array | None) -> Array:
    """x W; None is the identity."""
    if w is None:
        return x
    namespace(x, w)
    if x.shape[-1] != w.shape[0]:
        raise InputError(f"the projection takes {w.shape[0]} features, the signal has {x.shape[-1]}")
    return x @ w


def _split_heads(x: Array, heads: int) -> Array:
    """(..., n, h p) -> (..., h, n, p)."""
    if x.shape[-1] % heads:
        raise InputError(f"{heads} heads do not divide {x.shape[-1]} features")
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).swapaxes(-2, -3)


def _merge_heads(x: Array) -> Array:
    """(..., h, n, p) -> (..., n, h p)."""
    joined = x.swapaxes(-3, -2)
    return joined.reshape(*joined.shape[:-2], joined.shape[-2] * joined.shape[-1])


def _not_first(x: Array) -> Array:
    """(n, 1): 0 for token 0, 1 for the others."""
    return like(np.arange(x.shape[-2]) > 0, x)[:, None]


def _require_positive(name: str, value: Any) -> Any:
    number = require_number(name, value)
    if not number > 0:
        raise InputError(f"{name} must be positive and finite, got {value}")
    return number


def _is_count(value: Any) -> bool:
    """A whole number of at least 1; True is none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 1


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2
