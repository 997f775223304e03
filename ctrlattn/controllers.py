"""u = C(z) e: a SISO discrete-time LTI system applied elementwise to the error.

A controller is a pair of pure functions, init(e_0) -> state and step(e, state) -> (u, state), and the same
system as linear algebra: realization() -> (A, B, C, D) and fraction() -> (num, den). `Tracking` lets it act
from layer 1 on; `init` receives the error of layer 0.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np

from ctrlattn.arrays import Array, namespace, require_number, require_real
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.values import Value

if TYPE_CHECKING:
    import control

ControllerState = tuple[Array, ...]
Realization = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Fraction = tuple[np.ndarray, np.ndarray]
PIDForm = Literal["printed", "ema"]


@runtime_checkable
class Controller(Protocol):
    """What a Loop and the linear analysis need from a controller C(z), alike on every feature.

    ==============  ==============================================================================================
    init(e)         memories before the first layer, a tuple of arrays of the shape of e
    step(e, state)  (u, new state): u_k of the error e_k, both (..., n, d), and of the memories; nothing in place
    realization()   (A (m, m), B (m, 1), C (1, m), D (1, 1)) of C(z)
    fraction()      (numerator, denominator) of C(z) in descending powers of z
    ==============  ==============================================================================================

    `simulate` calls the first two, linear analysis the last two: that they are one law is for its author to test.
    """

    def init(self, e: Array) -> ControllerState: ...

    def step(self, e: Array, state: ControllerState) -> tuple[Array, ControllerState]: ...

    def realization(self) -> Realization: ...

    def fraction(self) -> Fraction: ...


_METHODS = tuple(name for name in vars(Controller) if not name.startswith("_"))


@dataclass(frozen=True, eq=False, repr=False)
class PID(Value):
    """PID over depth, in two laws that are two different controllers.

    form="printed", the law of the paper, for layers k >= 1::

        u_k = kp e_k + ki sum_{m=1..k} e_m + kd (e_k - e_{k-1})
        C(z) = kp + ki z/(z-1) + kd (z-1)/z

    form="ema", the law of the code in circulation (the integral leaks and is read one layer late, the
    derivative acts one layer late)::

        u_k = kp e_k + ki s_{k-1} + kd (e_{k-1} - e_{k-2}),    s_k = g e_k + (1-g) s_{k-1},    s_0 = 0
        C(z) = kp + ki g/(z-1+g) + kd (z-1)/z^2

    Every memory of a past error starts at e_0 and the integral at 0, as in the papers. At layer 1 the
    derivative of the ema form is therefore 0.

    Parameters
    ----------
    kp, ki, kd : float, or torch scalar
        The gains; the sampling time is one layer. Scalars of torch keep their gradients in `simulate`.
    form : "printed" or "ema"
    ema : float
        g in (0, 1], the weight of the newest error; form="ema" alone uses it.

    Raises
    ------
    InputTypeError
        A gain that is not a number.
    InputError
        An unknown form, a gain that is not finite, g outside (0, 1].

    References
    ----------
    Nguyen, Uribe, Nguyen, Baraniuk, PIDformer: Transformer Meets Control Theory, ICML 2024,
    arXiv 2402.15989, section 3. The ema form is that of the code that accompanies the paper.

    Examples
    --------
    >>> import numpy as np
    >>> pid, e = PID(0.8, 0.5, 0.05), np.ones(1)
    >>> u, state = pid.step(e, pid.init(e))
    >>> u.tolist()
    [1.3]
    """

    kp: float = 0.0
    ki: float = 0.0
    kd: float = 0.0
    form: PIDForm = field(default="printed", kw_only=True)
    ema: float = field(default=0.3, kw_only=True)

    def __post_init__(self) -> None:
        if self.form not in get_args(PIDForm):
            raise InputError(f'form must be "printed" or "ema", got {self.form!r}')
        for name in ("kp", "ki", "kd", "ema"):
            object.__setattr__(self, name, require_number(name, getattr(self, name)))
        if not 0 < self.ema <= 1:
            raise InputError(f"ema must lie in (0, 1], got {self.ema}")

    def init(self, e: Array) -> ControllerState:
        """Return the memory after layer 0, whose error is `e`: (integral, e_0), and e_{-1} = e_0 in the ema form."""
        zero = namespace(e).zeros_like(e)
        return (zero, e) if self.form == "printed" else (zero, e, e)

    def step(self, e: Array, state: ControllerState) -> tuple[Array, ControllerState]:
        """Return the control of one layer k >= 1 and the memory for the next; both have the shape of `e`.

        Raises
        ------
        InputError
            The memory of another controller, or of a signal of another shape.
        """
        _require_memory(state, 2 if self.form == "printed" else 3, e)
        if self.form == "printed":
            integral, previous = state
            integral = integral + e
            u = self.kp * e + self.ki * integral + self.kd * (e - previous)
            return u, (integral, e)
        average, previous, before = state
        u = self.kp * e + self.ki * average + self.kd * (previous - before)
        return u, (self.ema * e + (1 - self.ema) * average, e, previous)

    def realization(self) -> Realization:
        """Return (A, B, C, D) of C(z); the memory of a term whose gain is 0 is left out.

        An unused integrator would be an unobservable pole at z = 1 that no gain can move.
        """
        a = np.zeros((3, 3))
        if self.form == "printed":  # memory: integral, previous error
            a[0, 0] = 1.0
            b = np.array([1.0, 1.0, 0.0])
            c = np.array([self.ki, -self.kd, 0.0])
            d = self.kp + self.ki + self.kd
            used = [self.ki != 0, self.kd != 0, False]
        else:  # memory: moving average, previous error, the one before
            a[0, 0], a[2, 1] = 1.0 - self.ema, 1.0
            b = np.array([self.ema, 1.0, 0.0])
            c = np.array([self.ki, self.kd, -self.kd])
            d = self.kp
            used = [self.ki != 0, self.kd != 0, self.kd != 0]
        return a[np.ix_(used, used)], b[used, None], c[None, used], np.array([[d]])

    def fraction(self) -> Fraction:
        """Return (num, den) of C(z), descending powers of z."""
        z = np.array([1.0, 0.0])
        if self.form == "printed":
            integral = (self.ki * z, np.array([1.0, -1.0]))
            derivative = (self.kd * np.array([1.0, -1.0]), z)
        else:
            integral = (np.array([self.ki * self.ema]), np.array([1.0, self.ema - 1.0]))
            derivative = (self.kd * np.array([1.0, -1.0]), np.array([1.0, 0.0, 0.0]))
        num, den = np.array([self.kp]), np.array([1.0])
        for gain, (term_num, term_den) in ((self.ki, integral), (self.kd, derivative)):
            if gain != 0:
                num = np.polyadd(np.polymul(num, term_den), np.polymul(term_num, den))
                den = np.polymul(den, term_den)
        return num, den

    def transfer_function(self) -> "control.TransferFunction":
        """Return C(z) as a python-control object with dt = 1; what `step` does from zero state.

        >>> float(PID(0.6).transfer_function().dcgain())
        0.6
        """
        return _transfer_function(self)


@dataclass(frozen=True, eq=False, repr=False)
class LTIController(Value):
    """Any SISO discrete-time LTI system as the controller: s' = A s + B e, u = C s + D e, elementwise.

    Parameters
    ----------
    system : control.StateSpace or control.TransferFunction
        It has one input, one output and dt = 1 (one layer); dt = True (any sampling time) is accepted, and dt = None
        for a static gain. Its coefficients are extracted once; it starts at zero state with layer 1.

    Raises
    ------
    InputTypeError
        Not a state space or a transfer function.
    InputError
        Continuous time, another sampling time, MIMO, improper, or coefficients that are not finite.

    Examples
    --------
    >>> import control, numpy as np
    >>> integrator = LTIController(control.tf([1, 0], [1, -1], 1))
    >>> e = np.ones(1)
    >>> u, state = integrator.step(e, integrator.init(e))
    >>> integrator.step(e, state)[0].tolist()
    [2.0]
    """

    system: Any = field(compare=False)  # its matrices are
    _realization: Realization = field(init=False, repr=False)
    # The same numbers as plain floats, which torch.compile takes for constants.
    _numbers: tuple[list[list[float]], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_realization", _extract(self.system))
        for name, matrix in zip("ABCD", self._realization, strict=True):
            if not np.all(np.isfinite(matrix)):
                raise InputError(f"the controller's {name} must be finite")
        object.__setattr__(self, "_numbers", tuple(matrix.tolist() for matrix in self._realization))

    def init(self, e: Array) -> ControllerState:
        """Return the zero state, one array shaped as `e` for each order of the system."""
        zero = namespace(e).zeros_like(e)
        return (zero,) * len(self._numbers[0])

    def step(self, e: Array, state: ControllerState) -> tuple[Array, ControllerState]:
        """Return u = C s + D e and the next state, by a loop over the small order.

        Raises
        ------
        InputError
            As for `PID.step`.
        """
        _require_memory(state, len(self._numbers[0]), e)
        a, b, c, d = self._numbers
        u = _combine(d[0][0] * e, c[0], state)
        return u, tuple(_combine(b_i[0] * e, a_i, state) for a_i, b_i in zip(a, b, strict=True))

    def realization(self) -> Realization:
        """Return (A, B, C, D) of the given system."""
        return self._realization

    def fraction(self) -> Fraction:
        """Return (num, den) of C(z), descending powers of z."""
        from scipy.signal import ss2tf

        if hasattr(self.system, "num"):  # as given: the way through the matrices would round it
            return _given_fraction(self.system.num[0][0], self.system.den[0][0])
        a, b, c, d = self._realization
        if not len(a):
            return d[0], np.ones(1)
        num, den = ss2tf(a, b, c, d)
        return num[0], den

    def transfer_function(self) -> "control.TransferFunction":
        """Return C(z) as a python-control object with dt = 1."""
        return _transfer_function(self)


def as_controller(controller: Any) -> Any:
    """Return a controller as it is, a python-control system as an LTIController; else raise InputTypeError."""
    if isinstance(controller, type):  # it has all methods of a controller
        raise InputTypeError(
            f"controller is the class {controller.__name__}: make one, such as {controller.__name__}(...)"
        )
    if controller is None or isinstance(controller, Controller):
        return controller
    if hasattr(controller, "ninputs") and hasattr(controller, "dt"):
        return LTIController(controller)
    missing = [name for name in _METHODS if not callable(getattr(controller, name, None))]
    lacks = f", which has no {', '.join(missing)}" if len(missing) < len(_METHODS) else ""
    raise InputTypeError(
        "controller must be a PID, an LTIController, a python-control StateSpace/TransferFunction with dt = 1, or an "
        f"object with the methods {', '.join(_METHODS)}; got {type(controller).__name__}{lacks}"
    )


def _require_memory(state: ControllerState, memories: int, e: Array) -> None:
    if len(state) != memories:
        raise InputError(f"this controller has {memories} memories, the state that it is given has {len(state)}")
    if memories and state[0].shape != e.shape:
        raise InputError(f"the memories have the shape {tuple(state[0].shape)}, the error has {tuple(e.shape)}")


def _combine(start: Array, coefficients: list[float], state: ControllerState) -> Array:
    """Return start + sum_j c_j s_j without the terms that are zero; nothing is overwritten, so that gradients flow."""
    for coefficient, s in zip(coefficients, state, strict=True):
        if coefficient != 0.0:
            start = start + coefficient * s
    return start


def _extract(system: Any) -> Realization:
    is_state_space = all(hasattr(system, name) for name in "ABCD")
    if not is_state_space and not (hasattr(system, "num") and hasattr(system, "den")):
        raise InputTypeError(f"expected a control.StateSpace or control.TransferFunction, got {type(system).__name__}")
    if (system.ninputs, system.noutputs) != (1, 1):
        raise InputError(
            f"a controller acts on each element of the error: it must be SISO, got {system.ninputs} inputs and "
            f"{system.noutputs} outputs"
        )
    realization = _matrices(system) if is_state_space else _companion(system.num[0][0], system.den[0][0])
    _require_layer_time(system.dt, static=len(realization[0]) == 0)
    return realization


def _require_layer_time(dt: Any, *, static: bool) -> None:
    if dt == 1 or (static and dt in (None, 0)):  # dt = True compares equal to 1
        return
    if dt == 0 or dt is None:
        raise InputError(
            "a controller over depth is discrete: got a continuous-time system (dt = 0) or one without a time base; "
            "use control.sample_system(system, 1) or give dt=1"
        )
    raise InputError(f"the sampling time of a controller is one layer: dt must be 1, got {dt}")


def _matrices(system: Any) -> Realization:
    a, b, c, d = (require_real(f"the controller's {name}", getattr(system, name)) for name in "ABCD")
    order = len(a)
    return a.reshape(order, order), b.reshape(order, 1), c.reshape(1, order), d.reshape(1, 1)


def _companion(num: Any, den: Any) -> Realization:
    """Return the controller form of num/den; scipy's drops coefficients below 1e-14, whatever the unit of the gain."""
    return controller_form(*_given_fraction(num, den))


def controller_form(num: np.ndarray, den: np.ndarray) -> Realization:
    """Return the matrices of num/den, A the companion matrix of den; both of one length, den monic, real or complex.

    >>> controller_form(np.array([0.2, 0.0]), np.array([1.0, -0.8]))[2].round(12).tolist()  # .2 z/(z - .8)
    [[0.16]]
    """
    order = len(den) - 1
    a = np.vstack([-den[None, 1:], np.eye(order)[:-1]]) if order else np.zeros((0, 0))
    return a, np.eye(order, 1), (num[1:] - num[0] * den[1:])[None], num[:1, None]


def _given_fraction(num: Any, den: Any) -> Fraction:
    """Return (num, den) of one length, den monic."""
    num, den = (np.trim_zeros(require_real("the controller", p), "f") for p in (num, den))
    if len(num) > len(den):
        raise InputError(
            f"the controller is improper (degree {len(num) - 1} over {len(den) - 1}): it would need the error of a "
            "later layer"
        )
    return np.pad(num, (len(den) - len(num), 0)) / den[0], den / den[0]


def _transfer_function(controller: Controller) -> "control.TransferFunction":
    import control

    num, den = controller.fraction()
    return control.tf(num, den, 1, inputs="error", outputs="control")
