"""What a person has, as linear systems by name: one or several of a Loop (with its mode) and python-control's objects.

Here a plot finds its systems, its frequencies and its unit of time; nothing is drawn here. What brings in
python-control, and with it pyplot, is imported when it is used: arrays can be drawn without it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.loop import Loop, refuse_loop_sequence

_EVEN = 240  # frequencies spread evenly, beside those that gather about poles and zeros
_INTEGRATOR = 1e-9  # a pole or zero this near to z = 1 (s = 0) stands for one there


def open_loops(systems: Any, a: Any, quantity: str) -> dict[str, Any]:
    """Return systems by name; of a Loop the transfer L(z) = C(z)/(z - alpha) of mode a, broken at the controller."""
    from ctrlattn.linear import loop_transfer

    return _systems(systems, a, quantity, loop_transfer)


def closed_loops(systems: Any, a: Any, quantity: str) -> dict[str, Any]:
    """Return systems by name; of a Loop the closed loop of mode a, from beta r to the state."""
    from ctrlattn.linear import mode

    return _systems(systems, a, quantity, mode)


def _systems(item_or_items: Any, a: Any, quantity: str, of_mode: Callable[[Loop, Any], Any]) -> dict[str, Any]:
    refuse_loop_sequence(item_or_items, quantity)
    items = dict(item_or_items) if isinstance(item_or_items, Mapping) else {"": item_or_items}
    if not items:
        raise InputError(f"{quantity} got an empty mapping: give one system, or {{name: system}}")
    systems = {str(name): _system(item, a, quantity, of_mode) for name, item in items.items()}
    if a is not None and not any(isinstance(item, Loop) for item in items.values()):
        raise InputError(f"{quantity}: a = {a} chooses the mode of a Loop, and no Loop was given")
    bases = {_base(system, quantity) for system in systems.values()}
    if len(bases) > 1:
        words = " and ".join("continuous" if base is None else f"dt = {base:g}" for base in sorted(bases, key=str))
        raise InputError(f"{quantity} draws systems of one time base, got {words}")
    return systems


def _system(item: Any, a: Any, quantity: str, of_mode: Callable[[Loop, Any], Any]) -> Any:
    import control

    if isinstance(item, Loop):
        if a is None:
            raise InputError(
                f"{quantity}: a Loop has one transfer function for each eigenvalue of its attention; "
                "give a=, for instance a=1.0 (the mean of all tokens)"
            )
        if np.iscomplexobj(a):
            raise InputError(f"{quantity}: a complex mode has two real channels; give a real a, got {a}")
        return of_mode(item, a)
    if not isinstance(item, control.StateSpace | control.TransferFunction | control.FrequencyResponseData):
        raise InputTypeError(
            f"{quantity} takes a Loop or a system of python-control (ss, tf, frd), or {{name: one of these}}, "
            f"got {type(item).__name__}"
        )
    if (item.noutputs, item.ninputs) != (1, 1):
        raise InputError(
            f"{quantity} draws one input and one output, got {item.noutputs} outputs and {item.ninputs} inputs: "
            "choose a channel, system[i, j]"
        )
    return item


def _base(system: Any, quantity: str) -> float | None:
    """Return the sampling time, 1 where it is not specified; None of continuous time."""
    from ctrlattn.linear.time_base import is_continuous

    if is_continuous(system, quantity):
        return None
    return 1.0 if system.dt is True else float(system.dt)


def sampling(systems: Mapping[str, Any], quantity: str) -> float | None:
    """Return the sampling time that all systems share; None in continuous time."""
    return _base(next(iter(systems.values())), quantity)


def with_states(systems: Mapping[str, Any], quantity: str) -> dict[str, Any]:
    """Return the same systems in state space; a measured response has no poles and is refused."""
    import control

    for name, system in systems.items():
        if isinstance(system, control.FrequencyResponseData):
            raise InputTypeError(f"{quantity} needs poles, and {name or 'the system'} is a measured frequency response")
    return {name: control.ss(system) for name, system in systems.items()}


def response(system: Any, omega: Any, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Return (frequencies in rad per unit of time, the response there); if None they gather about poles and zeros."""
    import control

    from ctrlattn.frequency import frequency_response

    if isinstance(system, control.FrequencyResponseData):
        w, values = np.asarray(system.omega), np.asarray(system.complex).reshape(-1)
        if omega is None:
            return w, values
        raise InputError(f"{quantity}: a measured response brings its frequencies; leave omega out")
    w = _frequencies(system, quantity) if omega is None else np.sort(np.atleast_1d(np.asarray(omega, dtype=float)))
    if len(w) == 0:
        raise InputError(f"{quantity}: omega holds no frequency")
    return w, np.asarray(frequency_response(system, w).complex).reshape(-1)


def _frequencies(system: Any, quantity: str) -> np.ndarray:
    from ctrlattn.stability.boundary_search import start_grid

    roots = np.concatenate([np.ravel(system.poles()), np.ravel(system.zeros())])
    base = _base(system, quantity)
    corner = 0.0 if base is None else 1.0  # what an integrator does there is the same at all low frequencies
    roots = roots[np.isfinite(roots) & (np.abs(roots - corner) > _INTEGRATOR)]
    near = start_grid(roots, continuous=base is None, finer=4)
    if base is None:
        return near
    return np.unique(np.concatenate([near, np.linspace(0, np.pi, _EVEN + 1)[1:]])) / base
