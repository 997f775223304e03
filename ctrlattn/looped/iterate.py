"""h_{k+1} = h_k + u_k,  u = C(z) e,  e_k = F(h_k) - h_k + recall (h_0 - h_k): the scan over passes."""

from typing import Any, Literal, get_args

import numpy as np

from ctrlattn.arrays import Array, namespace, require_finite, require_number, to_numpy
from ctrlattn.errors import InputError, require_whole
from ctrlattn.loop import Trajectory
from ctrlattn.looped.pass_map import as_pass_map, require_state
from ctrlattn.passes import Passes

Record = Literal["all", "last"]


def iterate(
    f: Any,
    h: Array,
    passes: int,
    controller: Any = None,
    recall: float = 0.0,
    *,
    reference: Array | None = None,
    record: Record = "all",
    until: float | None = None,
) -> Trajectory:
    """Apply F pass after pass under a controller that acts from the first pass on.

    Parameters
    ----------
    f : callable, torch module, Loop or sequence of Loop
        F; see `as_pass_map`.
    h : any shape, numpy or torch, real floating point
        h_0.
    passes : int
        At least 1.
    controller : PID, LTIController or python-control system with dt = 1, optional
        C(z). None is plain looping, C = 1: h' = F(h) without recall. PID(g) alone is h + g e.
    recall : float
        k_r, at least 0: the pull back to h_0.
    reference : shaped as h, optional
        What recall leads back to in the place of h_0.
    record : "all" or "last"
        Whether all passes are recorded, or the last state alone.
    until : float, optional
        Stop after the pass in which max |e| is at most `until` times the largest number in h and h_0: the rule of
        networks that are run until they rest. The trajectory is then shorter.

    Returns
    -------
    Trajectory
        state (passes + 1, *h.shape); prediction F(h_k), error e_k and control u_k, (passes, *h.shape). With
        record="last" state is the final one and the others are None.

    Raises
    ------
    InputTypeError
        A map, state or controller of the wrong kind.
    InputError
        passes below 1, a controller of continuous time, recall below 0, a map that changes the shape; NaN or infinity
        in h_0 or on the way: the message names the pass.

    References
    ----------
    Looped transformers: Dehghani et al., arXiv 1807.03819; Geiping et al., arXiv 2502.05171; Zhu et al., arXiv
    2510.25741. Every published way as a named object: `looped.way`.

    Examples
    --------
    >>> import numpy as np
    >>> from ctrlattn import PID
    >>> halved = iterate(lambda h: -2.0 * h, np.array([1.0]), 3, PID(0.5))  # pole 1 + .5 (-2 - 1) = -1/2
    >>> halved.state.ravel().tolist()
    [1.0, -0.5, 0.25, -0.125]
    """
    passes = require_whole("passes", passes)
    loop, step, h = Passes(controller, recall=recall), as_pass_map(f), require_state(h)
    if record not in get_args(Record):
        raise InputError(f'record must be "all" or "last", got {record!r}')
    near = None if until is None else float(require_number("until", until))
    if near is not None and near < 0:
        raise InputError(f"until must be at least 0, got {until}")
    state, states, recorded, start = loop.init(h, reference), [h], [], h
    for k in range(passes):
        with np.errstate(all="ignore"):  # what is no longer finite is told with its pass
            prediction = step(h)
            require_finite_at("F(h)", prediction, k, passes)
            h, e, u, state = loop.step(h, prediction, state)
        require_finite_at("the state", h, k, passes)
        if record == "all":
            states.append(h)
            recorded.append((prediction, e, u))
        if near is not None and rests(e, near, h, start):
            break
    if record == "last":
        return Trajectory(h, None, None, None)
    xp = namespace(h)
    return Trajectory(xp.stack(states), *(xp.stack(signal) for signal in zip(*recorded, strict=True)))


def rests(e: Array, near: float, *states: Array) -> bool:
    """Tell whether max |e| is at most this share of the largest number in the states.

    >>> rests(np.array([1e-9]), 1e-6, np.array([1e-8]))
    False
    """
    return float(abs(to_numpy(e)).max()) <= near * max(float(abs(to_numpy(h)).max()) for h in states)


def require_finite_at(name: str, value: Array, k: int, passes: int) -> None:
    """Raise InputError that names the pass and the first NaN or infinity of `value`."""
    try:
        require_finite(name, value)
    except InputError as error:
        raise InputError(
            f"pass {k + 1} of {passes}: {error}. The loop runs away or F is not defined there: take fewer passes, a "
            "smaller gain, or more recall"
        ) from None
