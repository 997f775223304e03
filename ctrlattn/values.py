"""a == b where every field of a equals that of b: things that are made of numbers, arrays and functions.

The field's words: value semantics. A law or a loop has no identity beyond its numbers, so that two of them with equal
numbers are one dictionary key, and both are told in one short line: arrays by their shapes, defaults left out.
"""

from dataclasses import MISSING, Field, fields
from functools import partial
from typing import Any

import numpy as np

from ctrlattn.arrays import is_array, is_torch

_LONGEST = 60  # characters of what is shown as its own repr


class Value:
    """A frozen dataclass (eq=False, repr=False) that is compared by its fields and shown in short.

    Fields with compare=False take no part. Arrays are equal where kind, dtype, device, shape and every number are; a
    function or a module is equal to itself alone. The hash knows of an array only its shape, since arrays can be
    written to.

    Examples
    --------
    >>> from ctrlattn import PID, Loop, CausalMean
    >>> PID(0.5, ki=0.1) == PID(0.5, 0.1), PID(0.5) == PID(0.5, form="ema")
    (True, False)
    >>> {Loop(CausalMean(), controller=PID(0.5)): "one key"}[Loop(CausalMean(), controller=PID(0.5))]
    'one key'
    >>> PID(0.5, kd=-0.1)
    PID(kp=0.5, kd=-0.1)
    """

    def __eq__(self, other: object) -> bool:
        """Tell whether `other` is of the same class and equal in every field that is compared."""
        if type(other) is not type(self):
            return NotImplemented
        return all(same(getattr(self, entry.name), getattr(other, entry.name)) for entry in _compared_fields(self))

    def __hash__(self) -> int:
        """Return a hash that is equal for equal values."""
        return hash((type(self), *(_key(getattr(self, entry.name)) for entry in _compared_fields(self))))

    def __repr__(self) -> str:
        """Name the class with what differs from its defaults."""
        parts = []
        for entry in fields(self):  # type: ignore[arg-type]
            value = getattr(self, entry.name)
            if not entry.repr or same(value, entry.default):
                continue
            parts.append(short(value) if entry.default is MISSING else f"{entry.name}={short(value)}")
        return f"{type(self).__name__}({', '.join(parts)})"


def same(a: Any, b: Any) -> bool:
    """Tell whether two values are equal; arrays and sequences of arrays have one answer too.

    >>> import numpy as np
    >>> same(np.ones(2), np.ones(2)), same(np.ones(2), np.ones(2, np.float32)), same([np.ones(2)], [np.zeros(2)])
    (True, False, False)
    """
    if a is b:
        return True
    if is_array(a) or is_array(b):
        return _same_array(a, b)
    if isinstance(a, list | tuple) and type(a) is type(b):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return (a == b) is True or ((isinstance(a, np.generic) or isinstance(b, np.generic)) and bool(a == b))


def short(value: Any) -> str:
    """Return a value in a few characters: an array as its shape, a function as its name, a system as its size.

    >>> import numpy as np
    >>> from ctrlattn import rms_norm
    >>> short(np.ones((12, 30, 30))), short(rms_norm), short(np.float64(0.25))
    ('array(12, 30, 30)', 'rms_norm', '0.25')
    """
    if isinstance(value, np.generic):
        return repr(value.item())
    if is_array(value):
        if value.ndim == 0:
            return f"{value.item():.6g}"
        return f"{'tensor' if is_torch(value) else 'array'}({', '.join(map(str, value.shape))})"
    if isinstance(value, partial):
        bound = [short(item) for item in value.args] + [f"{k}={short(v)}" for k, v in value.keywords.items()]
        return f"partial({', '.join([short(value.func), *bound])})"
    if isinstance(value, type) or not hasattr(value, "ninputs"):
        text = repr(value) if isinstance(value, Value) else getattr(value, "__name__", None) or repr(value)
        return text if isinstance(value, Value) or len(text) <= _LONGEST else f"{type(value).__name__}(...)"
    order = value.nstates if getattr(value, "nstates", None) is not None else len(value.den[0][0]) - 1
    return f"{type(value).__name__} of order {order}, dt={value.dt}"


def _compared_fields(value: Any) -> list[Field[Any]]:
    return [entry for entry in fields(value) if entry.compare]


def _same_array(a: Any, b: Any) -> bool:
    if not (is_array(a) and is_array(b)) or is_torch(a) != is_torch(b):
        return False
    if a.dtype != b.dtype or tuple(a.shape) != tuple(b.shape) or (is_torch(a) and a.device != b.device):
        return False
    return bool((a == b).all())


def _key(value: Any) -> Any:
    """Return the part of a value that goes into a hash."""
    if is_array(value):
        return tuple(value.shape)
    if isinstance(value, list | tuple):
        return tuple(map(_key, value))
    try:
        hash(value)
    except TypeError:
        return type(value)
    return value
