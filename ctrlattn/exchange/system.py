"""x' = A x + B u, y = C x + D u with names and a sampling time: what other tools hold, as one record.

python-control keeps no complex matrices, MATLAB keeps them, and scipy has no names. The record has them all. A system
over depth is discrete: one sample is one layer. Continuous systems are refused, since sampling them is a choice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from ctrlattn.controllers import controller_form
from ctrlattn.design import Design
from ctrlattn.errors import InputError, InputTypeError, require_known, shown
from ctrlattn.linear import loop_transfer, mode
from ctrlattn.linear.cascade import cascade_of_roots
from ctrlattn.linear.realization import realization, to_control
from ctrlattn.linear.transfer import boundary_values
from ctrlattn.loop import Loop, refuse_loop_sequence
from ctrlattn.passes import Passes

LoopPart = Literal["closed", "control", "prediction", "controller"]
UNKNOWN_TIME = -1.0  # a sampling time that MATLAB and Octave know as "not said", and python-control as True
SAMPLE = "sample it first, c2d(G, Ts) in MATLAB or control.sample_system(G, Ts), with one sample for one layer"


@dataclass(frozen=True, eq=False)
class System:
    """A discrete linear system, real or complex.

    Attributes
    ----------
    A, B, C, D : (n, n), (n, m), (p, n), (p, m)
        float64 or complex128.
    dt : float
        Sampling time; 1 is a layer, and -1 one that nobody says.
    inputs, outputs, states : tuples of str
        Names; without any they are u1, y1, x1, ...
    name : str

    Examples
    --------
    >>> system = System([[0.5]], [[1.0]], [[1.0]], [[0.0]])
    >>> system.inputs, system.response([0.0]).tolist()
    (('u1',), [[[(2+0j)]]])
    """

    A: Any
    B: Any
    C: Any
    D: Any
    dt: float = 1.0
    inputs: tuple[str, ...] = field(default=())
    outputs: tuple[str, ...] = field(default=())
    states: tuple[str, ...] = field(default=())
    name: str = "G"

    def __post_init__(self) -> None:
        g = realization((self.A, self.B, self.C, self.D), "a system")
        for name, matrix in zip("ABCD", g[:4], strict=True):
            object.__setattr__(self, name, matrix)
        object.__setattr__(self, "dt", _sampling_time(self.dt))
        for name, letter, count in (
            ("inputs", "u", g.d.shape[1]), ("outputs", "y", g.d.shape[0]), ("states", "x", len(g.a)),
        ):  # fmt: skip
            names = tuple(str(label) for label in getattr(self, name)) or tuple(
                f"{letter}{i + 1}" for i in range(count)
            )
            if len(names) != count:
                raise InputError(f"{name}: {len(names)} names for {count}")
            object.__setattr__(self, name, names)

    @property
    def matrices(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(A, B, C, D), which every function of `stability` and `frequency` takes."""
        return self.A, self.B, self.C, self.D

    @property
    def is_complex(self) -> bool:
        """Whether an element has an imaginary part."""
        return any(np.iscomplexobj(m) and bool(np.any(m.imag)) for m in self.matrices)

    def response(self, omega: Any) -> np.ndarray:
        """Return G(e^{iw}) at the frequencies omega in radians a sample, (p, m, n_omega)."""
        return boundary_values(*self.matrices, np.atleast_1d(np.asarray(omega, dtype=float)), continuous=False)

    def to_control(self) -> Any:
        """Return the control.StateSpace with these names.

        Raises
        ------
        InputError
            A complex system: python-control would drop the imaginary parts.
        """
        system = to_control(realization(self.matrices, self.name), True if self.dt == UNKNOWN_TIME else self.dt)
        system.input_labels, system.output_labels = list(self.inputs), list(self.outputs)
        system.state_labels = list(self.states)
        return system


def as_system(given: Any, *, a: complex | None = None, part: LoopPart = "closed", name: str = "G") -> System:
    """Return anything that describes a discrete linear system as a System.

    Parameters
    ----------
    given : object
        A python-control system; a scipy.signal.dlti; (num, den, dt), (zeros, poles, gain, dt) or (A, B, C, D, dt), as
        scipy orders them; the same by name in a dict; a controller; a Loop, or a Design of one.
    a : real or complex, optional
        Of a Loop: the eigenvalue of attention.
    part : "closed", "control", "prediction" or "controller"
        Of a Loop: the closed loop of `mode`, `loop_transfer` broken at one of two places, or C(z) alone.
    name : str

    Returns
    -------
    System

    Raises
    ------
    InputError
        A continuous system, one whose sampling time is not said, an improper one, or a Loop without `a`.
    InputTypeError
        Anything else.

    Examples
    --------
    >>> as_system(([1.0], [1.0, -0.5], 1)).A.tolist()
    [[0.5]]
    >>> from ctrlattn import presets
    >>> as_system(presets.get("pidformer-ema"), a=0.5).outputs
    ('state',)
    """
    import control
    from scipy.signal import dlti, lti

    require_known("part", part, get_args(LoopPart))
    refuse_loop_sequence(given, "an export")
    if isinstance(given, System):
        return given
    if isinstance(given, Loop | Passes | Design):
        return _of_loop(given.loop if isinstance(given, Design) else given, a, part, name)
    if isinstance(given, control.StateSpace | control.TransferFunction):
        return _of_control(given, name)
    if isinstance(given, lti):
        raise InputError(f"a scipy.signal.lti is continuous, and layers are samples: {SAMPLE}")
    if isinstance(given, dlti):
        return _of_dlti(given, name)
    if hasattr(given, "realization"):
        A, B, C, D = given.realization()
        return System(A, B, C, D, inputs=("error",), outputs=("control",), name=name)
    if isinstance(given, tuple | list) and len(given) in _TUPLES:
        given = dict(zip(_TUPLES[len(given)], given, strict=True))
    if isinstance(given, Mapping):
        return of_parts(given, name)
    raise InputTypeError(
        "a system is a python-control object, a scipy.signal.dlti, (num, den, dt), (zeros, poles, gain, dt), "
        f"(A, B, C, D, dt), a controller or a Loop, got {shown(given)}"
    )


_TUPLES = {3: ("num", "den", "dt"), 4: ("z", "p", "k", "dt"), 5: ("A", "B", "C", "D", "dt")}
_TIMES = ("dt", "Ts", "ts", "tsam")


def of_parts(parts: Mapping[str, Any], name: str) -> System:
    """Return a System from named parts: A, B, C, D; num, den; or z, p, k; with dt or Ts, and names where there are any.

    Raises
    ------
    InputError
        No such parts, or no sampling time.

    Examples
    --------
    >>> of_parts({"z": [], "p": [0.5], "k": 2.0, "Ts": 1}, "G").response([0.0]).item()
    (4+0j)
    """
    if not any(all(key in parts for key in form) for form in ("ABCD", ("num", "den"), "zpk")):
        names_there = ", ".join(parts) or "nothing"
        raise InputError(f"{name}: a system has A, B, C, D, or num and den, or z, p and k; got {names_there}")
    times = [key for key in _TIMES if parts.get(key) is not None]
    if not times:
        raise InputError(f"{name}: the sampling time is missing: give dt (or Ts), 1 for one sample a layer")
    dt = _sampling_time(parts[times[0]])
    names: dict[str, Any] = {key: _labels(key, parts[key]) for key in ("inputs", "outputs", "states") if key in parts}
    for key in ("A", "B", "C", "D", "z", "p", "k", "num", "den"):
        _require_numbers(f"{name}: {key}", parts.get(key, 0.0))
    if all(key in parts for key in "ABCD"):
        return System(parts["A"], parts["B"], parts["C"], parts["D"], dt=dt, name=name, **names)
    if "num" in parts and "den" in parts:
        matrices = _of_fraction(parts["num"], parts["den"])
    else:
        if np.size(parts["k"]) != 1:
            raise InputError(f"{name}: k must be one number, since zeros and poles are of one input and one output")
        a, b, c, d = cascade_of_roots(parts["z"], parts["p"], np.asarray(parts["k"]).item())
        matrices = (a, b[:, None], c[None, :], np.atleast_2d(d))
    A, B, C, D = matrices
    return System(A, B, C, D, dt=dt, name=name, **names)


def _labels(key: str, names: Any) -> tuple[str, ...]:
    if not isinstance(names, list | tuple) or not all(isinstance(label, str) for label in names):
        raise InputTypeError(f"{key} must be a list of names, got {shown(names)}")
    return tuple(names)


def _of_fraction(num: Any, den: Any) -> tuple[np.ndarray, ...]:
    """Return the matrices of num/den: a cascade of its exact roots, or the companion form of complex coefficients."""
    import control

    tops, bottoms = _polynomials(num), _polynomials(den)
    if not any(np.iscomplexobj(p) for p in (*tops, *bottoms)):
        try:
            fraction = control.tf(num, den, 1)
        except (ValueError, TypeError) as error:
            raise InputError(f"num and den are no transfer function: {error}") from error
        return realization(fraction, "a transfer function")[:4]
    if len(tops) != 1 or len(bottoms) != 1:
        raise InputError("complex transfer functions have one input and one output: give the matrices of several")
    num, den = (np.trim_zeros(p.astype(np.complex128).ravel(), "f") for p in (tops[0], bottoms[0]))
    if not len(den) or len(num) > len(den):
        raise InputError(
            f"a transfer function has at most as many zeros as poles, got {len(num)} over {len(den)} terms"
        )
    num = np.concatenate([np.zeros(len(den) - len(num)), num]) / den[0]
    return controller_form(num, den / den[0])


def _polynomials(coefficients: Any) -> list[np.ndarray]:
    """Return the polynomials of a transfer function: one, or one for each entry of nested lists."""
    rows = list(coefficients) if isinstance(coefficients, list | tuple) else list(np.atleast_1d(coefficients))
    if all(np.isscalar(entry) or (isinstance(entry, np.ndarray) and not entry.ndim) for entry in rows):
        return [np.asarray(rows)]
    return [np.asarray(polynomial) for row in rows for polynomial in (row if isinstance(row, list | tuple) else [row])]


def _require_numbers(quantity: str, entries: Any) -> None:
    """Raise InputTypeError for texts and other objects in the place of numbers, lists within lists included."""
    if isinstance(entries, list | tuple):
        for entry in entries:
            _require_numbers(quantity, entry)
    elif np.asarray(entries).dtype.kind not in "iufcb":
        raise InputTypeError(f"{quantity} must be numbers, got {shown(entries)}")


def _of_loop(loop: Loop | Passes, a: complex | None, part: LoopPart, name: str) -> System:
    if part == "controller":
        controller: Any = loop.controller
        if controller is None:
            raise InputError("this loop has no controller to export")
        return as_system(controller, name=name)
    if not isinstance(loop, Loop):
        raise InputError(f"of Passes the controller alone is exported: part='controller', got {part!r}")
    if a is None:
        raise InputError("a loop has a linear system for each eigenvalue of attention: give a")
    return _of_control(mode(loop, a) if part == "closed" else loop_transfer(loop, a, at=part), name)


def _of_control(system: Any, name: str) -> System:
    import control

    g = realization(system, "an import", continuous=system.dt == 0)
    if system.dt is None and len(g.a):
        raise InputError("the python-control system has no time base: give it dt, 1 for one sample a layer")
    states = tuple(system.state_labels) if isinstance(system, control.StateSpace) else ()
    dt = UNKNOWN_TIME if system.dt is None else system.dt
    inputs, outputs = tuple(system.input_labels), tuple(system.output_labels)
    return System(g.a, g.b, g.c, g.d, dt, inputs, outputs, states, name)


def _of_dlti(system: Any, name: str) -> System:
    from scipy.signal import TransferFunction, ZerosPolesGain

    if isinstance(system, TransferFunction):
        return of_parts({"num": system.num, "den": system.den, "dt": system.dt}, name)
    if isinstance(system, ZerosPolesGain):
        return of_parts({"z": system.zeros, "p": system.poles, "k": system.gain, "dt": system.dt}, name)
    return of_parts({**{key: getattr(system, key) for key in "ABCD"}, "dt": system.dt}, name)


def _sampling_time(dt: Any) -> float:
    """Return dt as a number; a continuous system has 0, and True is a time that nobody says."""
    if dt is True or (isinstance(dt, np.bool_) and bool(dt)):
        return UNKNOWN_TIME
    array = np.asarray(dt)
    if array.size != 1 or array.dtype.kind not in "iuf":
        raise InputTypeError(f"the sampling time must be a number, got {shown(dt)}")
    value = float(array.item())
    if value == 0:
        raise InputError(f"the system is continuous (its sampling time is 0), and layers are samples: {SAMPLE}")
    if not (np.isfinite(value) and (value > 0 or value == UNKNOWN_TIME)):
        raise InputError(f"the sampling time must be positive, or -1 where nobody says it, got {value}")
    return value
