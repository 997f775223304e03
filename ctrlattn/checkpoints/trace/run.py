"""model -> Structure: two short passes, one that finds the layers and one in which every tensor is followed."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from ctrlattn.checkpoints.trace.compose import held_to, within
from ctrlattn.checkpoints.trace.eager import attention
from ctrlattn.checkpoints.trace.follow import Followed, followed
from ctrlattn.checkpoints.trace.inputs import short_inputs
from ctrlattn.checkpoints.trace.kinds import kinds_of, over_tokens
from ctrlattn.checkpoints.trace.layers import inside, layers_among, lists_of, visited
from ctrlattn.checkpoints.trace.steps import Factors, RawStep, RawTerm, coefficient, same_factor, steps_of
from ctrlattn.checkpoints.trace.structure import Call, Step, Structure, Term
from ctrlattn.checkpoints.trace.wrapped import network_in
from ctrlattn.errors import InputError

_SAME = 1e-4  # of a sum in float32 and finer: a factor that depends on the text differs by more


def trace(model: Any, inputs: dict[str, Any] | None = None) -> Structure:
    """The layers of a residual network and what each of them adds to its stream, found by running it.

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
        return _traced(model, first, second)


def _traced(model: Any, first: dict[str, Any], second: dict[str, Any]) -> Structure:
    lists = lists_of(model)
    with visited(model, inside(model, lists)) as visits:
        first_run(model, first)
    layers = layers_among(model, visits, lists)
    paths = list(dict.fromkeys(visit.path for visit in layers))
    with followed(model, paths) as calls:
        model(**second)
    axis = _token_axis(calls[0].x, second)
    _require_features_last(model, calls, second)
    _handed_on(calls)
    made = [_call(model, call, paths.index(call.path), axis) for call in calls]
    if [call.path for call in calls] == [visit.path for visit in layers]:
        # The first text holds what the second one has shown.
        limits = [_SAME * max(1.0, torch.finfo(call.x.dtype).eps / torch.finfo(torch.float32).eps) for call in calls]
        made = [
            (held_to(call, visit, within(visits, visit), limit), causal)
            for (call, causal), visit, limit in zip(made, layers, limits, strict=True)
        ]
    x = calls[0].x
    return Structure(
        layers=tuple(paths),
        calls=tuple(call for call, _ in made),
        width=x.shape[-1],
        streams=1 if x.ndim < 4 or "pixel_values" in second else x.numel() // (x.shape[axis] * x.shape[-1]),
        causal=all(causal for _, causal in made),
    )


def _ready(model: Any) -> None:
    if model.training or any(module.training for module in model.modules()):
        raise InputError("the network is in training mode, where dropout would be traced with it: call model.eval()")
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise InputError(
            f"{type(model).__name__} is an encoder-decoder: trace one of its stacks, model.get_encoder() or "
            "model.get_decoder(), with inputs of its own"
        )


def _require_features_last(model: Any, calls: Sequence[Followed], inputs: dict[str, Any]) -> None:
    """Raise InputError where a stream of images has its features in front of rows and columns, as convolutions do."""
    for call in calls:
        x = call.x
        convolutions = (m for m in model.get_submodule(call.path).modules() if isinstance(m, torch.nn.Conv2d))
        if "pixel_values" in inputs and x.ndim == 4 and any(m.in_channels == x.shape[1] for m in convolutions):
            raise InputError(
                f"layer {call.path} hands on images (batch, features, rows, columns), {tuple(x.shape)}: a stream has "
                "its features last"
            )


def _handed_on(calls: Sequence[Followed]) -> None:
    """Raise InputError where a layer does not read what the one before it gave."""
    for a, b in pairwise(calls):
        if a.out is None or a.out.numel() != b.x.numel():
            raise InputError(f"the stream changes its shape between {a.path} and {b.path}: no stream has both")
        if not torch.equal(a.out.flatten(), b.x.flatten()):
            raise InputError(
                f"layer {b.path} does not read what {a.path} gave: the stream is changed, or restarts, between them"
            )


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
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(f"{type(model).__name__} does not run on the inputs {names}: {reason}") from error


def _token_axis(x: torch.Tensor, inputs: dict[str, Any]) -> int:
    ids = inputs.get("input_ids")
    if isinstance(ids, torch.Tensor) and x.shape[-2] != ids.shape[-1] and ids.shape[-1] in x.shape[:-1]:
        return list(x.shape).index(ids.shape[-1])
    return x.ndim - 2


def _call(model: Any, call: Followed, layer: int, axis: int) -> tuple[Call, bool]:
    raw, error, rounding = steps_of(call)
    kinds, causal = kinds_of(model, call, raw, axis)
    call.bare = {path: matrix for path, matrix in call.bare.items() if over_tokens(model, call, path, axis)}
    named = iter(kinds)
    steps = [
        Step(step.skip, tuple(_term(call, term, next(named), raw) for term in step.terms), step.norm) for step in raw
    ]
    return Call(layer, tuple(steps), error, rounding), causal


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
    """The one module inside a contribution that returns its attention matrix alone; "" for none or several."""
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
