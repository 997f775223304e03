"""x'_l = N(s x_l + sum_k c_k F_k), s and c of another layer: layers of the same modules and switches are followed once.

Which modules add to the stream, and with which factors, is said by the code of a layer, by its settings, and by what
it holds outside of the modules that make its contributions and norms. Where the modules are the same as those of a
layer that was followed, and all settings but numbers, its steps are taken over; a factor that is a weight of the one is
the weight of the same name of the other. Whether they hold is decided by the layer's own sum, by the streams that its
modules were given, and by what changes when a token does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from ctrlattn.checkpoints.trace.compose import Stage, difference, staged, within
from ctrlattn.checkpoints.trace.follow import Followed, stream_among
from ctrlattn.checkpoints.trace.kinds import kinds_of
from ctrlattn.checkpoints.trace.layers import Visit
from ctrlattn.checkpoints.trace.outline import MatrixShapes, Signature, matrices_of, other_inside
from ctrlattn.checkpoints.trace.steps import RawStep, RawTerm
from ctrlattn.checkpoints.trace.structure import Call, Step, Term
from ctrlattn.checkpoints.trace.weighted import inside, steps_by_weights

_CLOSE = 64  # roundings of a sum
_SEEN = 1e-3  # of the stream: a smaller contribution is followed, since its factor hardly shows in the sum
_NUMBERS = (int, float, complex)
_PLAIN = (bool, str, bytes, type(None), type, torch.dtype, torch.device)
# transformers notes on a module whether it has set the weights.
_OF_EVERY_MODULE = frozenset([*vars(torch.nn.Module()), "_is_hf_initialized"])


def first_alike(
    signatures: Mapping[str, Signature], by: Callable[[Signature], tuple[Any, ...]] = tuple
) -> dict[str, str]:
    """Map the path of each layer to that of the first one of the same signature, or of equal `by(signature)`.

    Examples
    --------
    >>> layers = [torch.nn.Linear(1, 1), torch.nn.Linear(1, 2), torch.nn.Linear(1, 1, bias=False)]
    >>> first_alike(signatures_of(torch.nn.ModuleList(layers), ["0", "1", "2"]))
    {'0': '0', '1': '0', '2': '2'}
    """
    firsts: dict[Any, str] = {}
    return {path: firsts.setdefault(by(signature), path) for path, signature in signatures.items()}


def signatures_of(model: Any, paths: Sequence[str]) -> dict[str, Signature]:
    """Map the path of each layer to its modules, switches and types, whatever weights, sizes and numbers it has."""
    return {path: _signature(model.get_submodule(path)) for path in paths}


def _signature(layer: Any) -> Signature:
    return tuple(
        (
            name,
            type(module),
            tuple((key, _kind_of(t)) for key, t in (*module._parameters.items(), *module._buffers.items())),
            tuple((key, _comparable(value)) for key, value in vars(module).items() if key not in _OF_EVERY_MODULE),
            tuple(id(getattr(hook, "__code__", hook)) for hook in _hooks(module)),
        )
        for name, module in layer.named_modules(remove_duplicate=False)
    )


def _hooks(module: Any) -> list[Any]:
    return [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]


def _kind_of(t: torch.Tensor | None) -> Any:
    return None if t is None else (t.ndim, t.dtype)


def _comparable(value: Any) -> Any:
    """Return a number as one of its type, another plain value as it is, anything else as the one object that it is.

    An object that reads weights on demand has `brings`, which says what it is but for its numbers.
    """
    if isinstance(value, _NUMBERS) and not isinstance(value, bool):
        return type(value)
    if isinstance(value, list | tuple):
        return type(value), tuple(map(_comparable, value))
    if isinstance(value, partial):
        return partial, _comparable((value.func, value.args, *value.keywords.items()))
    if hasattr(type(value), "brings"):
        return type(value), value.brings
    return (type(value), value) if isinstance(value, _PLAIN) else id(value)


@dataclass(frozen=True, eq=False)
class Shown:
    """What one call of a layer has shown: itself, whether it is causal, and from what this is known."""

    call: Call
    causal: bool
    followed: Followed
    raw: Sequence[RawStep]


def taken_over(
    model: Any,
    visits: Sequence[Visit],
    visit: Visit,
    example: Shown,
    first: Visit,
    axis: int,
    layer: int,
    signatures: tuple[Signature, Signature],
) -> Shown | None:
    """Return the call of a layer by the steps of one like it; None where they do not hold.

    Parameters
    ----------
    model : torch module
    visits : sequence of Visit
        The visits of all modules in one pass.
    visit : Visit
        The visit of the layer, with the arguments of its call.
    example : Shown
        What the first layer like it has shown, on another text.
    first : Visit
        The visit of that layer.
    axis : int
        The axis of tokens.
    layer : int
        The number of this layer.
    signatures : two sequences
        The signatures of the first layer and of this one.
    """
    paths = _names_in_order(visits, visit, example)
    if visit.arguments is None or paths is None or paths != _names_in_order(visits, first, example):
        return None
    if any(not term.path or len(term.atoms) > 1 for step in example.raw for term in step.terms):
        return None
    modules = model.get_submodule(first.path), model.get_submodule(visit.path)
    steps = steps_by_weights(*modules, example.call, paths, _makers(example))
    if steps is None:
        return None
    inner = within(visits, visit)
    matrices = _matrices(*signatures, example, inner)
    if matrices is None:
        return None
    summed = _stages_of_sums(steps, visit, inner, example.call.rounding)
    if summed is None:
        return None
    raw = [_with_values(step, inner, stage.x) for step, stage in zip(example.raw, summed, strict=True)]
    rerun = _call_of_visit(visit, matrices)
    kinds, causal = kinds_of(model, rerun, raw, axis)
    if tuple(kinds) != example.call.kinds:
        return None
    error = max(stage.error for stage in summed)
    call = replace(example.call, layer=layer, error=error, steps=tuple(stage.step for stage in summed))
    return Shown(call, causal, rerun, raw)


def _stages_of_sums(
    steps: Sequence[Sequence[Step]], visit: Visit, inner: Mapping[str, Visit], rounding: float
) -> list[Stage] | None:
    """Return the stages of the one choice of steps with which the sums hold; None where no or several choices do."""
    assert visit.x is not None
    limit = _CLOSE * max(torch.finfo(visit.x.dtype).eps, rounding)
    chains: list[list[Stage]] = [[]]
    for i, choices in enumerate(steps):
        longer = []
        for before in chains:
            x = before[-1].out if before else visit.x
            stages = [staged(step, x, visit, inner, last=i == len(steps) - 1) for step in choices]
            longer += [[*before, stage] for stage in stages if _holds(stage, before, inner, limit)]
        chains = longer
    return chains[0] if len(chains) == 1 else None


def _holds(stage: Stage, before: Sequence[Stage], inner: Mapping[str, Visit], limit: float) -> bool:
    """Tell whether a stage gives what is recorded, from contributions that show their factors and read what is said."""
    if not stage.error <= limit or not _shows_factors(stage):
        return False
    return all(_reads_as_said(term, inner, [*before, stage], limit) for term in stage.step.terms)


def _shows_factors(stage: Stage) -> bool:
    """Tell whether each contribution is large enough, at some token, for another factor to change the sum."""
    size = stage.x.abs().amax(-1)
    return all(bool((part.abs().amax(-1) > _SEEN * size).any()) for part in stage.added)


def _reads_as_said(term: Term, inner: Mapping[str, Visit], summed: Sequence[Stage], limit: float) -> bool:
    """Tell whether the module of a contribution was given the stream that the term says, through the norm it says.

    Contributions that stand one behind the other and contributions beside each other have the same sum.
    """
    if term.reads is None:
        return term.kind == "constant"
    maker = inner.get(term.module or term.path)
    entry = inner.get(term.norm) if term.norm else maker
    if maker is None or entry is None or not _same(entry.x, summed[term.reads].x, limit):
        return False
    outside = bool(term.norm) and not inside(term.norm, [term.module or term.path])
    return not outside or _same(maker.x, entry.out, limit)


def _same(a: torch.Tensor | None, b: torch.Tensor | None, limit: float) -> bool:
    """Tell whether two tensors are the same in any layout, up to the rounding of a sum."""
    if a is None or b is None or a.numel() != b.numel():
        return False
    a = a.reshape(b.shape)
    return difference(a, b, b, ()) <= limit


def _makers(example: Shown) -> set[str]:
    """Return the modules that make the contributions of a call, and its norms."""
    terms = [term for step in example.raw for term in step.terms]
    chain = {atom.path for term in terms for atom in term.reading.chain if atom.role in ("module", "norm")}
    names = {name for term in example.call.terms for name in (term.path, term.module, term.norm)}
    return {name for name in (*chain, *names, *(step.norm for step in example.call.steps)) if name}


def _names_in_order(visits: Sequence[Visit], layer: Visit, example: Shown) -> list[str] | None:
    """Return what ran in a layer, in order, but for what is inside a contribution; None where one of these ran twice.

    How often an expert runs inside a contribution is up to the text.
    """
    paths = [term.path for term in example.call.terms]
    wholes = [name for term in example.call.terms for name in (term.path, term.module) if name]
    start = len(layer.path) + 1
    inner = [v.path[start:] for v in visits if layer.began < v.began and v.ended < layer.ended]
    names = [path for path in inner if path in wholes or not inside(path, wholes)]
    return names if all(names.count(path) == 1 for path in paths) else None


def _with_values(step: RawStep, inner: Mapping[str, Visit], x: torch.Tensor) -> RawStep:
    """Return a step with what another layer has added."""

    def replaced_term(term: RawTerm) -> RawTerm:
        value = inner[term.path].out
        assert value is not None
        return replace(term, atoms=(replace(term.atoms[0], value=value),))

    return replace(step, terms=tuple(map(replaced_term, step.terms)), x=x)


def _call_of_visit(visit: Visit, matrices: MatrixShapes) -> Followed:
    """Return the call of a layer that was visited, with the matrices inside its modules."""
    assert visit.x is not None
    assert visit.arguments is not None
    args, kwargs = visit.arguments
    position = stream_among(args, kwargs)[1]
    return Followed(visit.path, visit.x, args, kwargs, position, out=visit.out, matrices=matrices)


def _matrices(first: Signature, other: Signature, example: Shown, inner: Mapping[str, Visit]) -> MatrixShapes | None:
    """Return the matrices inside a layer that may differ from the first in its attention alone; None elsewhere."""
    if first == other:
        return example.followed.matrices
    others = other_inside(first, other, _makers(example))
    terms = [term for step in example.raw for term in step.terms]
    outs = [(term.atoms[0].value, inner[term.path].out) for term in terms]
    if others is None or any(after is None or after.shape != before.shape for before, after in outs):
        return None
    parts = {term.path: {term.path, *(atom.path for atom in term.reading.chain)} for term in terms}
    return matrices_of(example.call, parts, others, inner, example.followed.matrices)
