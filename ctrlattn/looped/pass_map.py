"""F: h -> F(h), one pass of a looped network, from a callable, a Loop, a sequence of loops, or a torch module."""

from collections.abc import Callable, Sequence
from typing import Any

from ctrlattn.arrays import Array, is_array, is_torch, namespace, require_finite
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.loop import Loop, simulate

PassMap = Callable[[Array], Array]


def as_pass_map(f: Any) -> PassMap:
    """Return the map of one pass, whose result is checked against its argument at every call.

    Parameters
    ----------
    f : callable, torch module, Loop or sequence of Loop
        A Loop stands for one of its layers, a sequence for all its layers, one after the other. A layer of a network
        of transformers returns a tuple; its first array counts.

    Returns
    -------
    callable h -> F(h)
        It raises an InputError where F returns another shape, kind, dtype or device, or writes into its argument.

    Raises
    ------
    InputTypeError
        Nothing that can be called; a class in the place of an object.
    InputError
        A Loop with a controller (the controller of a looped network acts over passes); an empty sequence.

    Examples
    --------
    >>> import numpy as np
    >>> from ctrlattn import CausalMean
    >>> as_pass_map(Loop(CausalMean()))(np.ones((3, 1))).ravel().tolist()
    [1.0, 0.0, 0.0]
    """
    if isinstance(f, type):
        raise InputTypeError(f"the pass map is the class {f.__name__}: make an object of it")
    if isinstance(f, Loop):
        return _checked_map(_one_layer(f))
    if isinstance(f, Sequence) and not isinstance(f, str | bytes):
        return _checked_map(_all_layers(f))
    if not callable(f):
        raise InputTypeError(
            f"a pass map is a function h -> F(h), a torch module, a Loop or a sequence of Loops, got {type(f).__name__}"
        )
    return _checked_map(f)


def require_state(h: Any) -> Array:
    """Return h_0 as a signal of real numbers, of any shape, finite and not empty."""
    parts = list(h.values() if isinstance(h, dict) else h) if isinstance(h, list | tuple | dict) else []
    if any(is_array(part) for part in parts):
        raise InputTypeError(
            f"the state of a loop is one stream, and this one has {len(parts)}: stack them into one array, or take "
            'looped.way("hrm", ...) for two levels'
        )
    namespace(h)
    if "complex" in str(h.dtype):
        raise InputTypeError(f"the state of a looped network is real, got {h.dtype}: stack real and imaginary part")
    if 0 in tuple(h.shape):
        raise InputError(f"the state must hold at least one number, got shape {tuple(h.shape)}")
    require_finite("h_0", h)
    return h


def _one_layer(loop: Loop) -> PassMap:
    if loop.controller is not None:
        raise InputError(
            "this Loop has a controller over layers, which has a memory of its own: give it without, and the "
            "controller over passes to iterate(controller=...)"
        )
    return lambda h: loop.step(h, loop.init(h))[0]


def _all_layers(loops: Sequence[Any]) -> PassMap:
    if not loops:
        raise InputError("a pass needs at least one layer: the sequence of loops is empty")
    return lambda h: simulate(loops, h, len(loops), record="last").state


def _checked_map(f: Callable[[Array], Any]) -> PassMap:
    def pass_map(h: Array) -> Array:
        before = _mark(h)
        new = f(h)
        if _mark(h) != before:
            raise InputError("the pass map writes into its argument, which is the state of the loop: let it copy first")
        new = new[0] if isinstance(new, tuple) and new else new
        if not is_array(new) or is_torch(new) != is_torch(h):
            raise InputTypeError(
                f"the pass map must return what it takes, {type(h).__name__}: got {type(new).__name__}"
            )
        if tuple(new.shape) != tuple(h.shape):
            raise InputError(
                f"a pass must end with the shape it begins with, {tuple(h.shape)}: the map returned {tuple(new.shape)}"
            )
        namespace(h, new)
        return new

    return pass_map


def _mark(h: Array) -> Any:
    """Return what changes where a function writes into h: numpy's bytes, or the count of writes of a torch tensor."""
    if not is_torch(h):
        return h.tobytes()
    try:
        return h._version
    except RuntimeError:  # a tensor of inference mode has no count
        return 0
