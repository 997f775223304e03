"""x'_l = N(s x_l + sum_k c_k F_k), s and c of another layer: layers of the same code and settings are followed once.

Which modules add to the stream, and with which factors, is said by the code of a layer, by its settings, and by what
it holds outside of the modules that make its contributions and norms. Where these are the same as those of a layer
that was followed, its steps are taken over, and its own sum decides whether they hold.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from ctrlattn.checkpoints.trace.compose import Stage, stages, within
from ctrlattn.checkpoints.trace.follow import Followed, stream_among
from ctrlattn.checkpoints.trace.kinds import kinds_of
from ctrlattn.checkpoints.trace.layers import Visit
from ctrlattn.checkpoints.trace.steps import RawStep, RawTerm
from ctrlattn.checkpoints.trace.structure import Call

_CLOSE = 64  # roundings of a sum
_SEEN = 1e-3  # of the stream: a smaller contribution is followed, since its factor hardly shows in the sum
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type, torch.dtype, torch.device)
_OF_EVERY_MODULE = frozenset(vars(torch.nn.Module()))


def first_alike(model: Any, paths: Sequence[str]) -> dict[str, str]:
    """Path of each layer -> that of the first one whose modules, shapes, types and settings are the same.

    Examples
    --------
    >>> layers = torch.nn.ModuleList([torch.nn.Dropout(0.1), torch.nn.Dropout(0.1), torch.nn.Dropout(0.2)])
    >>> first_alike(layers, ["0", "1", "2"])
    {'0': '0', '1': '0', '2': '2'}
    """
    layers = {path: dict(model.get_submodule(path).named_modules(remove_duplicate=False)) for path in paths}
    numbers = _numbers(layers)
    firsts: dict[Any, str] = {}
    return {path: firsts.setdefault(_signature(modules, numbers), path) for path, modules in layers.items()}


def _numbers(layers: Mapping[str, Mapping[str, Any]]) -> set[tuple[str, str]]:
    """The settings (module, name) that are the number of the layer in every layer that has them."""
    equal: dict[tuple[str, str], bool] = {}
    for path, modules in layers.items():
        number = path.rpartition(".")[2]
        for name, module in modules.items():
            for setting, value in _settings(module).items():
                own = type(value) is int and str(value) == number
                equal[name, setting] = own and equal.get((name, setting), True)
    return {setting for setting, holds in equal.items() if holds}


def _settings(module: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name not in _OF_EVERY_MODULE}


def _signature(modules: Mapping[str, Any], numbers: Collection[tuple[str, str]]) -> tuple[Any, ...]:
    """What the modules of a layer are, but for their weights and the number of the layer."""
    return tuple(
        (
            name,
            type(module),
            tuple((key, _shape(t)) for key, t in (*module._parameters.items(), *module._buffers.items())),
            tuple((key, _plain(value)) for key, value in _settings(module).items() if (name, key) not in numbers),
            tuple(id(getattr(hook, "__code__", hook)) for hook in _hooks(module)),
        )
        for name, module in modules.items()
    )


def _hooks(module: Any) -> list[Any]:
    return [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]


def _shape(t: torch.Tensor | None) -> Any:
    return None if t is None else (tuple(t.shape), t.dtype)


def _plain(value: Any) -> Any:
    """A plain value as it is, anything else as the one object that it is."""
    if isinstance(value, list | tuple):
        return type(value), tuple(map(_plain, value))
    if isinstance(value, partial):
        return partial, _plain((value.func, value.args, *value.keywords.items()))
    return (type(value), value) if isinstance(value, _PLAIN) else id(value)


@dataclass(frozen=True, eq=False)
class Shown:
    """What one call of a layer has shown: itself, whether it is causal, and from what this is known."""

    call: Call
    causal: bool
    followed: Followed
    raw: Sequence[RawStep]


def taken_over(
    model: Any, visits: Sequence[Visit], visit: Visit, shown: Shown, first: Visit, axis: int, layer: int
) -> Shown | None:
    """The call of a layer by the steps of one like it; None where they do not hold.

    Parameters
    ----------
    model : torch module
    visits : sequence of Visit
        Of all modules, in one pass.
    visit : Visit
        Of the layer, with the arguments of its call.
    shown : Shown
        What the first layer like it has shown, on another text.
    first : Visit
        Of that layer.
    axis : int
        Of tokens.
    layer : int
        The number of this layer.
    """
    ran = _ran(visits, visit, shown)
    if visit.arguments is None or ran is None or not _said_by_names(model.get_submodule(first.path), shown):
        return None
    if ran != _ran(visits, first, shown):
        return None
    inner = within(visits, visit)
    summed = list(stages(shown.call, visit, inner))
    error = max(stage.error for stage in summed)
    if not error <= _CLOSE * torch.finfo(summed[0].x.dtype).eps or not all(map(_shows_factors, summed)):
        return None
    raw = [_with_values(step, inner, stage.x) for step, stage in zip(shown.raw, summed, strict=True)]
    again = _again(visit, shown.followed)
    kinds, causal = kinds_of(model, again, raw, axis)
    if tuple(kinds) != shown.call.kinds:
        return None
    return Shown(replace(shown.call, layer=layer, error=error), causal, again, raw)


def _shows_factors(stage: Stage) -> bool:
    """Whether each contribution is large enough, at some token, for another factor to change the sum."""
    size = stage.x.abs().amax(-1)
    return all(bool((part.abs().amax(-1) > _SEEN * size).any()) for part in stage.added)


def _said_by_names(layer: Any, shown: Shown) -> bool:
    """Whether each term is what one call of a module returns, times a number that no weight of this layer says."""
    numbers = all(step.skip.form == "number" for step in shown.call.steps)
    terms = [term for step in shown.raw for term in step.terms]
    if not numbers or any(not t.path or len(t.atoms) > 1 or t.coefficient.form != "number" for t in terms):
        return False
    named = _named(shown.call)
    return all(
        _inside(name, named)
        for name, module in layer.named_modules()
        if any(t is not None for t in (*module._parameters.values(), *module._buffers.values()))
    )


def _named(call: Call) -> set[str]:
    """The modules that make the contributions of a call, and its norms."""
    of_terms = {name for term in call.terms for name in (term.path, term.module, term.norm)}
    return {name for name in (*of_terms, *(step.norm for step in call.steps)) if name}


def _inside(name: str, modules: Iterable[str]) -> bool:
    return any(f"{name}.".startswith(f"{module}.") for module in modules)


def _ran(visits: Sequence[Visit], layer: Visit, shown: Shown) -> list[str] | None:
    """What ran in a layer, in order, but for what is inside a contribution; None where a contribution ran twice."""
    paths = [term.path for term in shown.call.terms]
    start = len(layer.path) + 1
    inner = [v.path[start:] for v in visits if layer.began < v.began and v.ended < layer.ended]
    ran = [path for path in inner if path in paths or not _inside(path, paths)]
    return ran if all(ran.count(path) == 1 for path in paths) else None


def _with_values(step: RawStep, inner: Mapping[str, Visit], x: torch.Tensor) -> RawStep:
    """A step with what another layer has added."""

    def own(term: RawTerm) -> RawTerm:
        out = inner[term.path].out
        assert out is not None
        return replace(term, atoms=(replace(term.atoms[0], value=out),))

    return replace(step, terms=tuple(map(own, step.terms)), x=x)


def _again(visit: Visit, first: Followed) -> Followed:
    """The call of a layer that was visited, with the matrices that were seen in the first one like it."""
    assert visit.x is not None
    assert visit.arguments is not None
    args, kwargs = visit.arguments
    position = stream_among(args, kwargs)[1]
    return Followed(visit.path, visit.x, args, kwargs, position, out=visit.out, matrices=first.matrices)
