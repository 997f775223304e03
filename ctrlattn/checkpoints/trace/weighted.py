"""c = w: a factor that is a weight of a layer is, in a layer of the same code, the weight of the same name there.

A number that no weight says is the same in both. Where a weight of the first layer has a value that a factor also has
by itself, such as 1, both are possible, and the sum of the other layer decides.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import torch

from ctrlattn.checkpoints.trace.structure import Call, Coefficient, Step

_CLOSE = 64  # roundings between a weight and the factor that it is
MOST = 64  # choices of one step: a layer with more is followed


def steps_by_weights(
    first: Any, other: Any, call: Call, modules: Collection[str], makers: Collection[str]
) -> list[list[Step]] | None:
    """Return what each step of a call may be in another layer of the same code.

    Parameters
    ----------
    first, other : torch module
        The layer that was followed, and one of the same modules and switches.
    call : Call
        The call of the first layer.
    modules : collection of str
        Modules that ran in both, but for those inside a contribution.
    makers : collection of str
        Modules that make the contributions and norms, whose weights are in what they give.

    Returns
    -------
    list of lists of Step, or None
        None where a factor depends on the text, or is a vector that no weight says; where a weight outside of what
        makes the contributions says no factor, and so something else; where there are too many choices.

    Examples
    --------
    >>> from ctrlattn.checkpoints.trace.structure import Term
    >>> first, other = torch.nn.Module(), torch.nn.Module()
    >>> first.s, other.s = (torch.nn.Parameter(torch.tensor([value])) for value in (0.5, 0.25))
    >>> term = Term("mlp", "mlp", "mlp", "", 0, Coefficient("number", 0.5))
    >>> call = Call(0, (Step(Coefficient("number", 1.0), (term,)),), 0.0)
    >>> [choices] = steps_by_weights(first, other, call, ["mlp"], ["mlp"])
    >>> [step.terms[0].coefficient.value for step in choices]
    [0.5, 0.25]
    """
    weights = dict(_weights_outside(first, modules, makers))
    if any(w.is_meta for w in weights.values()):  # they stay in their file between two calls: no number to compare
        return None
    factors = [factor for step in call.steps for factor in (step.skip, *(term.coefficient for term in step.terms))]
    names = {factor: [name for name, w in weights.items() if _is_weight(factor, w)] for factor in factors}
    if {name for each in names.values() for name in each} != weights.keys():
        return None
    other_weights = dict(_weights_outside(other, modules, makers)) if weights else {}
    options = []
    for step in call.steps:
        skips, *coefficients = (
            _choices(factor, [other_weights[name] for name in names[factor]])
            for factor in (step.skip, *(term.coefficient for term in step.terms))
        )
        choices = [
            Step(skip, tuple(replace(term, coefficient=c) for term, c in zip(step.terms, cs, strict=True)), step.norm)
            for skip, *cs in product(skips, *coefficients)
        ]
        if not 0 < len(choices) <= MOST:
            return None
        options.append(choices)
    return options


def inside(name: str, modules: Iterable[str]) -> bool:
    """Tell whether a module is one of these or inside one.

    >>> inside("mlp.up", ["mlp"]), inside("mlp2", ["mlp"])
    (True, False)
    """
    return f"{name}.".startswith(tuple(f"{module}." for module in modules))


def _weights_outside(
    layer: Any, modules: Collection[str], makers: Collection[str]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights of a layer and of what ran in it, but for those of the contributions and norms."""
    for name, module in layer.named_modules():
        if not inside(name, makers) and (not name or name in modules):
            for key, t in (*module._parameters.items(), *module._buffers.items()):
                if t is not None:
                    yield f"{name}.{key}".lstrip("."), t


def _choices(factor: Coefficient, weights: Iterable[torch.Tensor]) -> list[Coefficient]:
    """Return the values that a factor may have in the other layer, where these are the weights, each once."""
    choices = [factor] if factor.form == "number" else []
    for w in weights:
        value = _as_factor(w)
        choices += [] if value is None or any(_equal(value, c) for c in choices) else [value]
    return choices


def _as_factor(w: torch.Tensor) -> Coefficient | None:
    """Return a weight as a number, or a number per feature; None for another shape."""
    if w.numel() == 0 or w.numel() != w.shape[-1:].numel() or not w.is_floating_point():
        return None
    values = w.detach().double().flatten()
    if bool((values == values[0]).all()):
        return Coefficient("number", float(values[0]))
    return Coefficient("vector", values)


def _is_weight(factor: Coefficient, w: torch.Tensor) -> bool:
    """Tell whether a factor is this weight, up to rounding."""
    value = _as_factor(w)
    return value is not None and _equal(factor, value, _CLOSE * torch.finfo(w.dtype).eps)


def _equal(a: Coefficient, b: Coefficient, limit: float = 0.0) -> bool:
    if a.value is None or b.value is None:
        return False
    x, y = (torch.as_tensor(c.value, dtype=torch.float64).flatten() for c in (a, b))
    if x.numel() != y.numel():
        return False
    return bool(((x - y).abs() <= limit * y.abs()).all())
