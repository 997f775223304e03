"""x' = normalize(skip x + feedback y + u),  y = predict(x),  e = beta r - x,  u = C(z) e: the feedback loop.

Feedback closes here and nowhere else, and no other function scans the layers.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from ctrlattn import showing
from ctrlattn.arrays import Array, combined, is_vector, move, namespace, require_features, require_finite, require_gain
from ctrlattn.controllers import ControllerState
from ctrlattn.diagram import DIAGRAM, drawn
from ctrlattn.errors import InputError, InputTypeError, require_flag, require_whole
from ctrlattn.recording import recording
from ctrlattn.sequential import Terms, is_running, run_passes
from ctrlattn.tracking import Tracking, TrackingState, require_one_memory
from ctrlattn.values import Value, short

Order = Literal["parallel", "sequential"]
Record = Literal["all", "last"]
LoopState = TrackingState  # beside x a loop carries what its Tracking carries, and nothing more


class Signals(NamedTuple):
    """The signals inside one layer, each shaped as x."""

    prediction: Array
    error: Array
    control: Array


class Trajectory(NamedTuple):
    """What `simulate` records.

    With record="all" state is (layers + 1, ..., n, d) and the others (layers, ..., n, d); with record="last"
    state is the final one, (..., n, d), and the others are None.
    """

    state: Array
    prediction: Array | None
    error: Array | None
    control: Array | None

    def __repr__(self) -> str:
        """Name each signal with its shape."""
        parts = (f"{name}={short(signal)}" for name, signal in zip(self._fields, self, strict=True))
        return f"Trajectory({', '.join(parts)})"

    def plot(self, **options: Any) -> Any:
        """Draw the size of state, error and control over depth; options as for `plots.time_response`."""
        return showing.plot(self, **options)

    def to_xarray(self, **facts: Any) -> Any:
        """Return a labelled dataset; facts as for `results.to_xarray`."""
        return showing.to_xarray(self, **facts)


@dataclass(frozen=True, eq=False, repr=False)
class Loop(Value):
    """One layer as a feedback loop; depth is time.
    {diagram}
        x' = normalize(skip x + feedback y + u),  y = predict(x),  e = beta r - x,  u = controller(e)

        Parameters
        ----------
        predictor : callable
            It maps (..., n, d) -> (..., n, d); see ctrlattn.predictors.
        skip : float or (d,)
            Gain of the residual connection; a vector has one number for each feature, such as the scales of LayerScale.
        feedback : float or (d,)
            Gain of the prediction: -1 subtracts it (negative feedback), +1 adds it as the usual transformer does.
        controller : PID, LTIController or python-control system with dt = 1, optional
            It is SISO, acts on each element of the error, and does so from layer 1 on.
        reference_gain : float
            beta; the reference r is the state at layer 0 unless `simulate` is given another.
        normalizer : callable, optional
            It is applied to each token of the result, or with normalize_input to the predictor's input.
        order : "parallel" or "sequential"
            In parallel order (Jacobi) all tokens are predicted from the old state. In sequential order (Gauss-Seidel)
            the prediction for token i reads the tokens before it as this layer has already updated them.
        normalize_input : bool
            A pre-norm loop: the predictor reads normalize(x), and the result is not normalised.
        hold_first : bool
            Token 0 is never updated.

        Raises
        ------
        InputTypeError
            A predictor, normalizer or controller of the wrong kind, a gain that is neither a number nor a vector of
            them.
        InputError
            A gain that is not finite, two vectors of unequal length, an unknown order, sequential order with a
            predictor that is not causal.

        Examples
        --------
        >>> import numpy as np
        >>> from ctrlattn import CausalMean
        >>> loop = Loop(CausalMean(), order="sequential")
        >>> x = np.array([[1.0], [1.0], [1.0]])
        >>> loop.step(x, loop.init(x))[0].ravel().tolist()
        [1.0, 0.0, 0.5]
    """

    predictor: Any
    _: KW_ONLY
    skip: Any = 1.0  # a float, or (d,)
    feedback: Any = -1.0
    controller: Any = None
    reference_gain: float = 1.0
    normalizer: Any = None
    order: Order = "parallel"
    normalize_input: bool = False
    hold_first: bool = False
    tracking: Tracking = field(init=False, repr=False, compare=False)  # e and u, made of controller and reference_gain

    def __post_init__(self) -> None:
        object.__setattr__(self, "normalize_input", require_flag("normalize_input", self.normalize_input))
        object.__setattr__(self, "hold_first", require_flag("hold_first", self.hold_first))
        _require_function("predictor", self.predictor)
        if self.normalizer is not None:
            _require_function("normalizer", self.normalizer)
        if self.normalize_input and self.normalizer is None:
            raise InputError("normalize_input=True needs a normalizer, such as ctrlattn.rms_norm")
        for name in ("skip", "feedback"):
            object.__setattr__(self, name, require_gain(name, getattr(self, name)))
        _require_one_length(self.skip, self.feedback)
        tracking = Tracking(self.controller, self.reference_gain)
        object.__setattr__(self, "tracking", tracking)
        object.__setattr__(self, "controller", tracking.controller)
        object.__setattr__(self, "reference_gain", tracking.reference_gain)
        if self.order not in get_args(Order):
            raise InputError(f'order must be "parallel" or "sequential", got {self.order!r}')
        if self.order == "sequential" and not getattr(self.predictor, "causal", False):
            raise InputError(
                "sequential order updates the tokens from left to right, so the prediction for a token may read "
                f"only tokens up to it: {type(self.predictor).__name__} is not causal (a predictor says so by "
                "causal = True)"
            )

    def init(self, x: Array, reference: Array | None = None) -> LoopState:
        """Return the state before layer 0, once x and r fit; `reference` is r, and None means x."""
        return Tracking.init(x, reference)

    def step(self, x: Array, state: LoopState) -> tuple[Array, LoopState, Signals]:
        """Run one layer: (x, state) -> (x', state', signals). It is pure and compiles with fullgraph=True."""
        e, u, state = self.tracking.step(x, state)
        new, y = self.advance(x, u)
        return new, state, Signals(y, e, u)

    def advance(self, x: Array, u: Array | None = None) -> tuple[Array, Array]:
        """Return (x', y) of one layer under the control u, or where nothing acts."""
        return self._sequential(x, u) if self.order == "sequential" else self._parallel(x, u)

    def __repr__(self) -> str:
        """Draw the diagram with this loop's numbers in it."""
        return drawn(self)

    def _repr_html_(self) -> str:
        return showing.as_html(drawn(self))

    def to(self, like: Array) -> "Loop":
        """Return the same loop with its arrays, except those of modules, of the kind, dtype and device of `like`."""
        namespace(like)
        return move(self, like)

    def control(self, x: Array, state: LoopState) -> tuple[Array, Array, ControllerState | None]:
        """Return (e, u, memory of the controller): e = beta r - x, u = C(z) e, and u = 0 at layer 0."""
        e, u, state = self.tracking.step(x, state)
        return e, u, state.controller

    def compare(self, x: Array, y: Array, u: Array | None = None) -> Array:
        """Return the output of the comparator and its norm: normalize(skip x + feedback y + u), u = 0 if None."""
        if type(self.skip) is not float or type(self.feedback) is not float:  # the usual kind needs no look
            require_features(x, skip=self.skip, feedback=self.feedback)
        new = combined(self.skip, x, self.feedback, y)
        new = new if u is None else new + u
        if self.normalizer is None or self.normalize_input:
            return new
        return _like_input("normalizer", self.normalizer(new), new)

    def seen(self, x: Array) -> Array:
        """Return the predictor's input: x, or normalize(x) with normalize_input."""
        return _like_input("normalizer", self.normalizer(x), x) if self.normalize_input else x

    @property
    def terms(self) -> Terms:
        """What `compare` and `seen` are made of, for compiled code."""
        return Terms(self.skip, self.feedback, self.normalizer, self.normalize_input, self.hold_first)

    def _parallel(self, x: Array, u: Array | None) -> tuple[Array, Array]:
        y = _like_input("predictor", self.predictor(self.seen(x) if self.normalize_input else x), x)
        new = self.compare(x, y, u)
        if self.hold_first:
            new = namespace(x).concatenate([x[..., :1, :], new[..., 1:, :]], -2)
        return new, y

    def _sequential(self, x: Array, u: Array | None) -> tuple[Array, Array]:
        if is_running(self.predictor, self.order):
            control = None if self.controller is None else u
            states, predictions = run_passes(self.compare, self.seen, self.terms, x, 1, control=control, record=True)
            return states[1], predictions[0]  # type: ignore[index]
        xp = namespace(x)
        updated: list[Array] = []
        predicted: list[Array] = []
        for i in range(x.shape[-2]):
            token = x[..., i : i + 1, :]
            # The prefix as this pass has left it, and the token itself as the last pass left it.
            y = _like_input("predictor", self._predict_last(self.seen(xp.concatenate([*updated, token], -2))), token)
            is_held = self.hold_first and i == 0
            updated.append(token if is_held else self.compare(token, y, None if u is None else u[..., i : i + 1, :]))
            predicted.append(y)
        return xp.concatenate(updated, -2), xp.concatenate(predicted, -2)

    def _predict_last(self, prefix: Array) -> Array:
        if hasattr(self.predictor, "last"):
            return self.predictor.last(prefix)
        return self.predictor(prefix)[..., -1:, :]


def simulate(
    loop: Loop | Sequence[Loop],
    x: Array,
    layers: int,
    *,
    reference: Array | None = None,
    disturbance: Array | None = None,
    record: Record = "all",
) -> Trajectory:
    """Run the loop over depth: x_{k+1} = normalize(skip x_k + feedback y_k + u_k) + w_k.
    {diagram}
        Parameters
        ----------
        loop : Loop or sequence of Loop
            One loop for all layers, or one for each layer: a time-varying network, across whose layers the state of the
            controller carries.
        x : (..., n, d)
            State at layer 0, numpy or torch.
        layers : int
            Number of layers.
        reference : (..., n, d), optional
            r; None stands for x.
        disturbance : (layers, ..., n, d), optional
            w, added to the state that layer k hands on.
        record : "all" or "last"
            Whether all layers are recorded, or the last state alone.

        Returns
        -------
        Trajectory
            Its arrays have the kind, dtype and device of `x`.

        Raises
        ------
        InputTypeError
            Mixed kinds, dtypes or devices, also between x and what a predictor or normalizer returns; integers.
        InputError
            Shapes that do not fit (also of a vector of gains), no token, NaN or infinity in x, reference or
            disturbance, a sequence of loops whose length is not `layers` or whose controllers cannot share one memory.

        Examples
        --------
        >>> import numpy as np
        >>> from ctrlattn import CausalMean
        >>> run = simulate(Loop(CausalMean(), order="sequential"), np.ones((4, 1)), 2)
        >>> run.state.shape, run.state[-1].ravel().round(3).tolist()
        ((3, 4, 1), [1.0, -1.0, 0.5, 0.333])
    """
    layers = require_layers(layers)
    loops = _loop_of_each_layer(loop, layers)
    if record not in get_args(Record):
        raise InputError(f'record must be "all" or "last", got {record!r}')
    state = Tracking.init(x, reference)
    _require_signals(x, layers, reference=reference, disturbance=disturbance)
    for each in loops:
        require_features(x, skip=each.skip, feedback=each.feedback)
    if not isinstance(loop, Loop):
        _require_one_memory(loops, x)
    elif layers > 0 and disturbance is None and loop.controller is None and is_running(loop.predictor, loop.order):
        return _all_passes(loop, x, layers, state, record)
    return _layer_by_layer(loops, x, state, disturbance, record)


def _layer_by_layer(
    loops: list[Loop], x: Array, state: LoopState, disturbance: Array | None, record: Record
) -> Trajectory:
    """Run one step after the other: the scan."""
    if any(loop.controller is not None for loop in loops):
        record_to = recording(x, len(loops), acts=True) if record == "all" else None
        for k, loop in enumerate(loops):
            x, state, (y, e, u) = loop.step(x, state)
            x = x if disturbance is None else x + disturbance[k]
            if record_to is not None:
                record_to.add(x, y, e, None if loop.controller is None else u)
        return Trajectory(x, None, None, None) if record_to is None else Trajectory(*record_to.whole())
    return _without_control(loops, x, state.reference, disturbance, record)


def _without_control(
    loops: list[Loop], x: Array, reference: Array, disturbance: Array | None, record: Record
) -> Trajectory:
    """Run the scan where nothing acts: no layer reads its error, so that those of one loop are made at the end."""
    tracking = loops[0].tracking if loops else None
    alike = all(loop.tracking is tracking for loop in loops)
    target = tracking.target(reference) if tracking and alike else None
    record_to = recording(x, len(loops), acts=False, target=target) if record == "all" else None
    for k, loop in enumerate(loops):
        before = x
        x, y = loop.advance(x)
        x = x if disturbance is None else x + disturbance[k]
        if record_to is not None:
            record_to.add(x, y, loop.tracking.error(before, reference) if target is None else None, None)
    return Trajectory(x, None, None, None) if record_to is None else Trajectory(*record_to.whole())


def _all_passes(loop: Loop, x: Array, layers: int, state: LoopState, record: Record) -> Trajectory:
    """Run the scan of a loop whose passes need not wait for each other."""
    states, predictions = run_passes(loop.compare, loop.seen, loop.terms, x, layers, record=record == "all")
    if record == "last":
        return Trajectory(states, None, None, None)
    errors = loop.tracking.error(states[:-1], state.reference)
    return Trajectory(states, predictions, errors, namespace(x).zeros_like(errors))


for _documented in (Loop, simulate):
    if _documented.__doc__:  # absent under python -OO
        _documented.__doc__ = _documented.__doc__.replace("{diagram}", DIAGRAM)


def require_single_loop(loop: Any, quantity: str) -> Loop:
    """Return the loop itself; raise InputError where a sequence of loops meets a quantity of LTI systems only."""
    if isinstance(loop, Loop):
        return loop
    refuse_loop_sequence(loop, quantity)
    raise InputTypeError(f"{quantity} takes a Loop, got {type(loop).__name__}")


def require_scalar_gains(loop: Any, quantity: str) -> Loop:
    """Return the loop itself; raise InputError where its gains are vectors and the quantity is defined for numbers.

    Features with gains of their own have modes of their own: no one pole belongs to an eigenvalue of attention.
    """
    loop = require_single_loop(loop, quantity)
    for name in ("skip", "feedback"):
        if is_vector(gain := getattr(loop, name)):
            raise InputError(
                f"{quantity} needs numbers as gains, and {name} is a vector of {gain.shape[0]}, one number a feature. "
                "Where the predictor acts alike on every feature, dataclasses.replace(loop, skip=..., feedback=...) "
                "with the numbers of feature j is the loop of that feature; linearize takes all features at once"
            )
    return loop


def refuse_loop_sequence(system: Any, quantity: str) -> None:
    """Raise InputError if `system` is a sequence of loops; for functions that take linear systems of any kind."""
    if isinstance(system, Sequence) and system and all(isinstance(loop, Loop) for loop in system):
        raise InputError(
            f"{quantity} is defined for one linear time-invariant loop, not for a sequence of {len(system)} different "
            "layers: analyse one layer (frozen or weight-tied); of layers that differ simulate gives the response, "
            "lyapunov_exponents over the layer_map of each the growth, jacobian_operator over all of them the gain"
        )


def require_layers(layers: Any) -> int:
    """Return a whole number of layers, at least 0, of Python or numpy; raise InputError for anything else."""
    return require_whole("layers", layers, least=0)


def _loop_of_each_layer(loop: Loop | Sequence[Loop], layers: int) -> list[Loop]:
    if isinstance(loop, Loop):
        return [loop] * layers
    if not isinstance(loop, Sequence):
        raise InputTypeError(
            f"simulate takes a Loop, or a sequence with one Loop for each layer, got {type(loop).__name__}"
        )
    for k, item in enumerate(loop):
        if not isinstance(item, Loop):
            raise InputTypeError(f"loop {k} of the sequence is a {type(item).__name__}, not a Loop")
    if len(loop) != layers:
        raise InputError(f"a sequence needs one loop for each layer: it has {len(loop)} loops for {layers} layers")
    return list(loop)


def _require_signals(x: Array, layers: int, *, reference: Array | None, disturbance: Array | None) -> None:
    """Raise InputError unless x, r, w are finite and of one kind, and w has one signal shaped as x for each layer."""
    for name, signal in (("x", x), ("reference", reference), ("disturbance", disturbance)):
        if signal is not None:
            namespace(x, signal)
            require_finite(name, signal)
    if disturbance is not None and tuple(disturbance.shape) != (layers, *x.shape):
        raise InputError(
            f"disturbance must be (layers, ..., n, d) = {(layers, *x.shape)}, got {tuple(disturbance.shape)}"
        )


def _require_one_memory(loops: list[Loop], x: Array) -> None:
    controllers = {k: loop.controller for k, loop in enumerate(loops) if loop.controller is not None}
    require_one_memory({k: f"{type(c).__name__} with {len(c.init(x))} memories" for k, c in controllers.items()})


def _require_one_length(skip: Any, feedback: Any) -> None:
    if is_vector(skip) and is_vector(feedback) and skip.shape[0] != feedback.shape[0]:
        raise InputError(
            f"skip and feedback must have one number for each feature, got {skip.shape[0]} and {feedback.shape[0]}"
        )


def _require_function(name: str, function: Any) -> None:
    if isinstance(function, type):
        raise InputTypeError(f"{name} is the class {function.__name__}: make one, such as {function.__name__}(...)")
    if not callable(function):
        raise InputTypeError(f"{name} must be a callable (..., n, d) -> (..., n, d), got {type(function).__name__}")


def _like_input(name: str, result: Array, x: Array) -> Array:
    """Return the output of a predictor or normalizer, once it has the kind, dtype, device and shape of `x`."""
    try:
        namespace(x, result)
    except InputTypeError as error:
        raise InputTypeError(f"the {name} must return a signal like its input: {error}") from None
    if result.shape != x.shape:
        raise InputError(f"the {name} must keep the shape {tuple(x.shape)}, it returned {tuple(result.shape)}")
    return result
