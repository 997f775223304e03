"""model -> Structure: a pass that finds the layers, and one in which the tensors of each kind of layer are followed."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch

from ctrlattn.checkpoints.trace.alike import Shown, first_alike, signatures_of, taken_over
from ctrlattn.checkpoints.trace.compose import held_to, within
from ctrlattn.checkpoints.trace.eager import attention
from ctrlattn.checkpoints.trace.follow import Followed, followed
from ctrlattn.checkpoints.trace.inputs import short_inputs
from ctrlattn.checkpoints.trace.kinds import kinds_of, over_tokens
from ctrlattn.checkpoints.trace.layers import Visit, inside, layers_among, lists_of, visited
from ctrlattn.checkpoints.trace.outline import outline_of
from ctrlattn.checkpoints.trace.steps import Factors, RawStep, RawTerm, coefficient, same_factor, steps_of
from ctrlattn.checkpoints.trace.structure import Call, Step, Structure, Term
from ctrlattn.checkpoints.trace.wrapped import network_in
from ctrlattn.errors import InputError, raised

_SAME = 1e-4  # of a sum in float32 and finer: a factor that depends on the text differs by more


def trace(model: Any, inputs: dict[str, Any] | None = None) -> Structure:
    """Find the layers of a residual network and what each of them adds to its stream, by running it.

    Nothing is looked up by name: a tensor that depends on the stream of a layer carries its linear parts through
    additions, scalings, views and products with what does not depend on the stream.

    Parameters
    ----------
    model : transformers model
        In evaluation mode; also inside a wrapper, or of timm, as `load` takes it. Paths lead from the network inside.
    inputs : dict, optional
        Arguments of the model; by default eight tokens of its own vocabulary, or an image of its size.

    Returns
    -------
    Structure

    Raises
    ------
    InputError
        A model in training mode, an encoder-decoder, a model that does not run on the inputs; no repeated layers;
        layers that are not residual, or that do not hand their stream on.

    Examples
    --------
    >>> import transformers
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> structure = trace(transformers.GPT2Model(config).eval())
    >>> [(term.kind, term.path) for term in structure.calls[0].terms]
    [('attention', 'attn'), ('mlp', 'mlp')]
    """
    inside = network_in(model)
    if inside is None:
        raise InputError(f"wanted is a network, a torch module: got {type(model).__name__}")
    model = inside.model
    _ready(model)
    first, second = short_inputs(model, inputs)
    with attention(model, "eager"):
        return _trace(model, first, second)


def _trace(model: Any, first: dict[str, Any], second: dict[str, Any]) -> Structure:
    lists = lists_of(model)
    members = [path for paths in lists.values() for path in paths]
    modules = inside(model, lists)
    with visited(model, modules, matrices={*modules}, repeatable=members) as visits:
        first_run(model, first)
    layers = layers_among(model, visits, lists)
    paths = list(dict.fromkeys(visit.path for visit in layers))
    x = _require_stream(layers[0].x)
    axis = _token_axis(x, second)
    results = _followed_once(model, second, visits, layers, axis) or _all_followed(model, second, visits, layers, axis)
    return Structure(
        layers=tuple(paths),
        calls=tuple(result.call for result in results),
        width=x.shape[-1],
        streams=1 if x.ndim < 4 or "pixel_values" in second else x.numel() // (x.shape[axis] * x.shape[-1]),
        causal=all(result.causal for result in results),
    )


def _all_followed(
    model: Any, second: dict[str, Any], visits: Sequence[Visit], layers: Sequence[Visit], axis: int
) -> list[Shown]:
    """Follow every call of a layer, as a second text shows it."""
    paths = list(dict.fromkeys(visit.path for visit in layers))
    with followed(model, paths) as calls:
        model(**second)
    _require_features_last(model, calls, second)
    _handed_on(calls)
    results = [_result_of_call(model, call, paths.index(call.path), axis) for call in calls]
    if [call.path for call in calls] == [visit.path for visit in layers]:
        results = [_hold_to_second(result, visits, visit) for result, visit in zip(results, layers, strict=True)]
    return results


def _followed_once(
    model: Any, second: dict[str, Any], visits: Sequence[Visit], layers: Sequence[Visit], axis: int
) -> list[Shown]:
    """Return every call, where the first of several layers alike is followed and the others do as it does.

    The list is empty where each layer is of its own kind, or is called again.
    """
    paths = [visit.path for visit in layers]
    if len([visit for visit in visits if visit.path in paths]) > len(set(paths)):
        return []
    signatures = signatures_of(model, paths)
    outlined, alike = (first_alike(signatures, by) for by in (outline_of, tuple))
    if len(set(outlined.values())) == len(paths):
        return []
    _require_features_last(model, layers, second)
    _handed_on(layers)
    results: dict[str, Shown] = {}

    def follow(selection: Sequence[str]) -> bool:
        with followed(model, selection, len(selection)) as calls:
            model(**second)
        for call in calls:
            layer = paths.index(call.path)
            results[call.path] = _hold_to_second(_result_of_call(model, call, layer, axis), visits, layers[layer])
        return [call.path for call in calls] == [*selection]

    def take_over(firsts: dict[str, str]) -> None:
        for layer, (path, visit) in enumerate(zip(paths, layers, strict=True)):
            first = firsts.get(path, path)
            if path not in results and first in results:
                like, both = layers[paths.index(first)], (signatures[first], signatures[path])
                result = taken_over(model, visits, visit, results[first], like, axis, layer, both)
                results.update({} if result is None else {path: result})

    for kinds in (outlined, alike, {path: path for path in paths}):
        remaining = [path for path in paths if path not in results]
        leaders: dict[str, str] = {}
        firsts = {path: leaders.setdefault(kinds[path], path) for path in remaining}
        # Another pass takes as long as to follow a quarter of the layers does.
        worth = not results or len(remaining) - len(leaders) > len(paths) / 4
        if remaining and not follow([*leaders.values()] if worth else remaining):
            return []
        take_over(firsts)
    return [results[path] for path in paths]


def _hold_to_second(result: Shown, visits: Sequence[Visit], visit: Visit) -> Shown:
    """Hold what a second text has shown to the first one."""
    eps = torch.finfo(result.followed.x.dtype).eps
    limit = _SAME * max(1.0, eps / torch.finfo(torch.float32).eps)
    return replace(result, call=held_to(result.call, visit, within(visits, visit), limit))


def _ready(model: Any) -> None:
    if model.training or any(module.training for module in model.modules()):
        raise InputError("the network is in training mode, where dropout would be traced with it: call model.eval()")
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise InputError(
            f"{type(model).__name__} is an encoder-decoder: trace one of its stacks, model.get_encoder() or "
            "model.get_decoder(), with inputs of its own"
        )


def _require_features_last(model: Any, calls: Sequence[Followed | Visit], inputs: dict[str, Any]) -> None:
    """Raise InputError where a stream of images has its features in front of rows and columns, as convolutions do."""
    for call in calls:
        x = _require_stream(call.x)
        convolutions = (m for m in model.get_submodule(call.path).modules() if isinstance(m, torch.nn.Conv2d))
        if "pixel_values" in inputs and x.ndim == 4 and any(m.in_channels == x.shape[1] for m in convolutions):
            raise InputError(
                f"layer {call.path} hands on images (batch, features, rows, columns), {tuple(x.shape)}: a stream has "
                "its features last"
            )


def _handed_on(calls: Sequence[Followed | Visit]) -> None:
    """Raise InputError where a layer does not read what the one before it gave."""
    for a, b in pairwise(calls):
        if a.out is None or a.out.numel() != _require_stream(b.x).numel():
            raise InputError(f"the stream changes its shape between {a.path} and {b.path}: no stream has both")
        if not torch.equal(a.out.flatten(), _require_stream(b.x).flatten()):
            raise InputError(
                f"layer {b.path} does not read what {a.path} gave: the stream is changed, or restarts, between them"
            )


def _require_stream(x: torch.Tensor | None) -> torch.Tensor:
    assert x is not None  # what was found as a layer was given a stream
    return x


def first_run(model: Any, inputs: dict[str, Any]) -> None:
    """Run a network on inputs that it may not be made for.

    Raises
    ------
    InputError
        It does not run on them, with its own reason.
    """
    try:
        model(**inputs)
    except InputError:  # of a hook: it says what it met
        raise
    except Exception as error:  # a network may raise anything on inputs that it was not made for
        names = ", ".join(inputs)
        raise InputError(f"{type(model).__name__} does not run on the inputs {names}: {raised(error)}") from error


def _token_axis(x: torch.Tensor, inputs: dict[str, Any]) -> int:
    ids = inputs.get("input_ids")
    if isinstance(ids, torch.Tensor) and x.shape[-2] != ids.shape[-1] and ids.shape[-1] in x.shape[:-1]:
        return list(x.shape).index(ids.shape[-1])
    return x.ndim - 2


def _result_of_call(model: Any, call: Followed, layer: int, axis: int) -> Shown:
    raw, error, rounding = steps_of(call)
    kinds, causal = kinds_of(model, call, raw, axis)
    call.bare = {path: matrix for path, matrix in call.bare.items() if over_tokens(model, call, path, axis)}
    remaining_kinds = iter(kinds)
    steps = [
        Step(step.skip, tuple(_term(call, term, next(remaining_kinds), raw) for term in step.terms), step.norm)
        for step in raw
    ]
    return Shown(Call(layer, tuple(steps), error, rounding), causal, call, raw)


def _term(call: Followed, term: RawTerm, kind: Any, steps: Sequence[RawStep]) -> Term:
    modules = [atom.path for atom in term.reading.chain if atom.role == "module" and len(atom.path)]
    norm = term.reading.norm
    return Term(
        kind=kind,
        path=term.path,
        module=modules[-1] if modules else "",
        norm="" if norm is None else norm.path,
        reads=_state_read(term, steps),
        coefficient=term.coefficient,
        matrix=next((path for path in modules if path in call.returned), "") or _matrix_inside(call, modules),
        layout="plain" if term.atoms[0].value.shape == call.x.shape else "other",
    )


def _matrix_inside(call: Followed, modules: Sequence[str]) -> str:
    """Return the one module inside a contribution that gives its attention matrix alone; "" for none or several."""
    inner = [path for path in call.bare if any(path.startswith(module + ".") for module in modules)]
    return inner[0] if len(inner) == 1 else ""


def _state_read(term: RawTerm, steps: Sequence[RawStep]) -> int | None:
    form = term.reading.form
    if form is None:
        return None
    factors: Factors = {atom: coefficient(atom, part) for atom, part in form.items()}
    for i, step in enumerate(steps):
        if step.start.keys() == factors.keys() and all(same_factor(factors[a], step.start[a]) for a in factors):
            return i
    return None
