"""y = softmax(q K^T / temperature) V: an associative memory, and the one function `read` that every predictor is."""

from dataclasses import dataclass

from ctrlattn.arrays import (
    Array,
    attend,
    is_array,
    namespace,
    require_batches,
    require_finite,
    require_number,
    require_positive,
)
from ctrlattn.errors import InputError
from ctrlattn.values import Value


def read(query: Array, keys: Array, values: Array, *, temperature: float = 1.0, sink: float | None = None) -> Array:
    """Read an associative memory: softmax(q K^T / temperature) V.

    Parameters
    ----------
    query : (d,) or (..., m, d)
    keys : (..., n, d)
    values : (..., n, p)
    temperature : float
        It is positive; a small one reads the nearest key only.
    sink : float, optional
        Similarity q.k of a null key whose value is 0: a query less similar than this to every key reads
        almost nothing. With None there is no null key.

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
    require_batches(query=query if query.ndim > 1 else None, keys=keys, values=values)
    temperature = require_positive("temperature", temperature)
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


@dataclass(frozen=True, eq=False, repr=False)
class AssociativeMemory(Value):
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
        Keys and values that are not matrices with one value for each key, or not finite; batches that do not fit; a
        temperature that is not positive.

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
        object.__setattr__(self, "temperature", require_positive("temperature", self.temperature))
        if self.sink is not None:
            object.__setattr__(self, "sink", require_number("sink", self.sink))
        for name in ("keys", "values"):
            memory = getattr(self, name)
            if not is_array(memory) or memory.ndim < 2 or 0 in memory.shape:
                shape = tuple(getattr(memory, "shape", ()))
                raise InputError(f"{name} must be (..., slots, d), got {type(memory).__name__} of shape {shape}")
            require_finite(name, memory)
        if self.keys.shape[-2] != self.values.shape[-2]:
            raise InputError(f"{self.keys.shape[-2]} keys but {self.values.shape[-2]} values: every key has one value")
        require_batches(keys=self.keys, values=self.values)

    def __call__(self, x: Array) -> Array:
        return read(x, self.keys, self.values, temperature=self.temperature, sink=self.sink)

    def last(self, x: Array) -> Array:
        """Return the memory read by the last token alone."""
        return self(x[..., -1:, :])
