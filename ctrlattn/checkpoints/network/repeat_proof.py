"""h_K by hand and by `repeat`: what a repeated network computes is what its span gives when it is run K times.

A network that no row of the table describes may hand more from layer to layer than the stream, or look something up by
the number of a layer. Both are seen on eight tokens, and the network is refused.
"""

from collections.abc import Callable
from typing import Any

import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.rounded_once import InOwnType, RoundedOnce
from ctrlattn.checkpoints.network.unrolled import unrolled
from ctrlattn.checkpoints.network.watch import Hook, first, hooked, stream_of, watch_calls, with_first
from ctrlattn.checkpoints.trace.compose import difference
from ctrlattn.checkpoints.trace.inputs import short_inputs
from ctrlattn.errors import InputError, raised
from ctrlattn.passes import Passes

_ROOM = 10.0  # times the error that a cache makes in the source


def require_repeated(
    source: Checkpoint, model: Any, span: tuple[int, int], passes: int, loop: Passes, limit: float
) -> None:
    """Raise InputError where a repeated network computes something else than its span, run by hand on the source.

    Parameters
    ----------
    source : Checkpoint
        The network before.
    model : transformers model
        The network in which the layers span[0] ... span[1] - 1 run `passes` times.
    span, passes, loop
        The law.
    limit : float
        The largest difference that is rounding, relative to the largest number of a token.

    Raises
    ------
    InputError
        It does not run; other numbers, on a whole text or token by token with a cache.
    """
    arguments = short_inputs(source.model, None)[0]
    _require_running(source.model, arguments)
    expected = _by_hand(source, arguments, span, passes, loop)
    output = _output(_run(model, arguments))
    error = difference(output, expected, expected, ())
    if not error <= limit:
        _require_repeatable(source, arguments)
        raise InputError(
            f"the repeated network and its span run by hand differ by {error:.1e} of the largest number, and at most "
            f"{limit:.0e} is rounding: layers of this network read more than the stream, or depend on their number"
        )
    _require_stream_alone(source, model, arguments, span, passes)
    _require_cache(source, model, arguments, limit)


def _require_running(model: Any, arguments: dict[str, Any]) -> None:
    """Raise InputError where the network itself does not run on what its repetition would be proved on."""
    try:
        with torch.no_grad():
            model(**arguments)
    except Exception as error:  # a network may raise anything on inputs that it was not made for
        raise InputError(
            f"a repeated network is compared with its span on inputs of its own kind, {', '.join(arguments)}, and "
            f"{type(model).__name__} does not run on them, without any repetition: {raised(error)}"
        ) from error


def _require_repeatable(source: Checkpoint, arguments: dict[str, Any]) -> None:
    """Raise InputError for a network whose output is drawn anew, or is no number."""
    name = type(source.model).__name__
    output, second = (_output(_run(source.model, arguments)) for _ in range(2))
    if not torch.equal(output.nan_to_num(), second.nan_to_num()):
        raise InputError(f"{name} gives another output each time: no repetition of its layers can be proved")
    if not torch.isfinite(output).all():
        raise InputError(f"{name} gives numbers that are not finite: no repetition of its layers can be proved")


def _require_stream_alone(
    source: Checkpoint, model: Any, arguments: dict[str, Any], span: tuple[int, int], passes: int
) -> None:
    """Raise InputError where a later pass is given another tensor beside the stream, and its layer reads it.

    Eight tokens need not show this in the output: which tokens a layer attends to, as an earlier one has chosen them,
    matters where there are more tokens than it takes.
    """
    a, b = span
    origins = [*range(b), *list(range(a, b)) * (passes - 1), *range(b, len(source.layers))]
    layers = unrolled(source.family, origins).layers_of(model)
    places = range(b, b + (b - a) * (passes - 1))
    with watch_calls(layers, places) as later, watch_calls(source.layers, range(a, b)) as before:
        _run(source.model, arguments)
        _run(model, arguments)
    for place in places:
        i = origins[place]
        name = _read_and_other(source.layers[i], before[i], later[place])
        if name:
            raise InputError(
                f"layer {i} reads {name} beside the stream, and pass {(place - a) // (b - a) + 1} hands it another "
                "one: layers of this network hand on more than the stream"
            )


def _read_and_other(layer: Any, before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return the argument beside the stream that a later pass changes and that the layer reads; "" for none."""
    stream, *others = before
    for name in others:
        a, b = before[name], after.get(name)
        if not isinstance(a, torch.Tensor) or (isinstance(b, torch.Tensor) and torch.equal(a, b)):
            continue
        if _reads(layer, before, stream, name):
            return name
    return ""


def _reads(layer: Any, arguments: dict[str, Any], stream: str, name: str) -> bool:
    """Tell whether zeros in the place of an argument change what the layer gives, or are refused by it."""
    with torch.no_grad():
        reference = first(layer(**{**arguments, stream: arguments[stream].clone()}))
        try:
            other = first(
                layer(**{**arguments, stream: arguments[stream].clone(), name: torch.zeros_like(arguments[name])})
            )
        except Exception:  # a layer that checks the argument reads it
            return True
    return not torch.equal(reference, other)


def _by_hand(source: Checkpoint, arguments: dict[str, Any], span: tuple[int, int], passes: int, loop: Passes) -> Any:
    """Return the output of the source in which the stream behind the span is h_K."""
    layers = source.layers[span[0] : span[1]]
    entered: list[torch.Tensor] = []
    closing = False

    def enter(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not closing:
            entered.append(stream_of(args, kwargs).clone())  # some layers add in place

    def close(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        nonlocal closing
        if closing:
            return None
        closing = True
        h, y = entered[0], first(output)
        state = loop.init(h)
        for k in range(passes):
            y = y if k == 0 else _stream_behind(layers, [calls[i] for i in range(*span)], h.clone())
            h, _, _, state = loop.step(h, y, state)
        closing = False
        return with_first(output, h)

    hooks: list[Hook] = [(layers[0], enter, True), (layers[-1], close, False)]
    with watch_calls(source.layers, range(*span)) as calls, hooked(hooks):
        return _output(_run(source.model, arguments))


def _stream_behind(layers: list[Any], calls: list[dict[str, Any]], h: torch.Tensor) -> torch.Tensor:
    """Return the stream behind layers that are called as before on another stream."""
    for layer, arguments in zip(layers, calls, strict=True):
        name = next(iter(arguments))
        h = first(layer(**{**arguments, name: h}))
    return h


def _require_cache(source: Checkpoint, model: Any, arguments: dict[str, Any], limit: float) -> None:
    ids = arguments.get("input_ids")
    if not (source.causal and isinstance(ids, torch.Tensor) and ids.shape[-1] > 2):
        return
    try:
        source_error = _error_of_a_cache(source.model, ids)
    except InputError:  # the network itself does not run with one
        return
    if source_error is None:  # it has none
        return
    error = _error_of_a_cache(model, ids)
    if error is not None and error <= limit:
        return
    finer = None
    if error is not None:
        source_error, error = _errors_computed(RoundedOnce, source.model, model, ids) or (source_error, error)
        if error <= max(limit, _ROOM * source_error):
            return
        finer = _errors_computed(InOwnType, source.model, model, ids)
        if finer is not None and finer[1] <= _ROOM * max(finer[0], torch.finfo(_type_of(source.model)).eps):
            return  # both ways are one function: what they differ by is rounding to the coarser type
    amount = "numbers that it does not give" if error is None else f"{error:.1e} of the largest number"
    raise InputError(
        f"token by token, with a cache, the repeated network differs from itself on the whole text by {amount}, "
        f"and the source by {source_error:.1e}: its layers share places in the cache, or do something else when "
        f"tokens come one by one{_in_own_type(source.model, finer)}"
    )


def _in_own_type(source: Any, errors: tuple[float, float] | None) -> str:
    """Say how large the errors of a cache are where nothing is computed or held in a coarser type; "" if unknown."""
    if errors is None:
        return ""
    dtype = str(_type_of(source)).removeprefix("torch.")
    return (
        f". With all that it computes or holds in a coarser type in {dtype} it is {errors[1]:.1e} and {errors[0]:.1e}"
    )


def _errors_computed(way: type[RoundedOnce], source: Any, model: Any, ids: torch.Tensor) -> tuple[float, float] | None:
    """Return the errors of a cache where what is computed in a coarser type is done another way; None if it cannot be.

    Some networks compute in a coarser type than their own, such as the scores of a router or the state of linear
    attention. `RoundedOnce` takes out that digits depend on how many tokens come at once, and `InOwnType` all rounding
    to that type. An error that remains is none of rounding.
    """
    try:
        with way(_type_of(source)):
            source_error, error = (_error_of_a_cache(network, ids) for network in (source, model))
    except InputError:  # an operation that the network's own type does not have
        return None
    return None if source_error is None or error is None else (source_error, error)


def _type_of(model: Any) -> torch.dtype:
    dtype: torch.dtype = next(model.parameters()).dtype
    return dtype


def _error_of_a_cache(model: Any, ids: torch.Tensor) -> float | None:
    """Return how far the last token is from the whole text's if the last two come one by one; None without a cache."""
    from transformers import Cache

    output = _output(_run(model, {"input_ids": ids, "use_cache": False}))
    step = _run(model, {"input_ids": ids[:, :-2], "use_cache": True})
    for i in (-2, -1):
        cache = {name: value for name, value in step.items() if isinstance(value, Cache)}
        if not cache:
            return None
        token = ids[:, i : ids.shape[-1] + i + 1]
        step = _run(model, {"input_ids": token, "use_cache": True, **cache})
    last = _output(step)[:, -1:]
    return difference(last, output[:, -1:], output[:, -1:], ())


def _run(model: Callable[..., Any], inputs: dict[str, Any]) -> Any:
    try:
        with torch.no_grad():
            return model(**inputs)
    except InputError:  # of a hook: it says what it met
        raise
    except Exception as error:  # a network may raise anything where a layer has another number
        raise InputError(
            f"{type(model).__name__} does not run with layers repeated on {', '.join(inputs)}: {raised(error)}"
        ) from error


def _output(output: Any) -> torch.Tensor:
    """Return the first tensor that a model returns."""
    tensor: torch.Tensor = output if isinstance(output, torch.Tensor) else output[0]
    return tensor
