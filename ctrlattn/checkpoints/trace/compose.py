"""x' = N(s x + sum_k c_k F_k) evaluated: a recorded layer against the sum of its recorded parts, step after step."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ctrlattn.checkpoints.trace.forms import inf_for_nan
from ctrlattn.checkpoints.trace.layers import Visit
from ctrlattn.checkpoints.trace.structure import Call, Coefficient, Step, Structure, Term

TEXT = Coefficient("text", None)
# Of the sum of a layer, relative to its largest part.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}


@dataclass(frozen=True, eq=False)
class Stage:
    """One step on one text.

    Attributes
    ----------
    step : Step
    x : tensor
        The stream in front of it.
    carried : tensor
        s x.
    added : tuple of tensors
        c F of each term.
    out : tensor
        The recorded stream behind it, or the sum where nothing recorded it.
    error : float
        The largest difference of a token between the sum and what is recorded of it, relative to the largest part.
    """

    step: Step
    x: torch.Tensor
    carried: torch.Tensor
    added: tuple[torch.Tensor, ...]
    out: torch.Tensor
    error: float


def stages(call: Call, layer: Visit, inner: Mapping[str, Visit]) -> Iterator[Stage]:
    """Yield the steps of a call whose factors do not depend on the text.

    Parameters
    ----------
    call : Call
    layer : Visit
        The visit of the layer.
    inner : mapping
        Path -> visit, for the modules that return contributions and the norms behind steps.
    """
    assert layer.x is not None
    x = layer.x
    for i, step in enumerate(call.steps):
        stage = staged(step, x, layer, inner, last=i == len(call.steps) - 1)
        yield stage
        x = stage.out


def staged(step: Step, x: torch.Tensor, layer: Visit, inner: Mapping[str, Visit], *, last: bool) -> Stage:
    """Evaluate one step on the stream in front of it; the last one gives what the layer does."""
    assert layer.out is not None
    carry = step.skip * x
    contributions = tuple(_contribution(term, inner, x) for term in step.terms)
    total = sum(contributions, carry)
    norm = inner.get(step.norm) if step.norm else None
    recorded, y = (norm.x, norm.out) if norm is not None else (layer.out if last else total,) * 2
    assert recorded is not None
    assert y is not None
    error = max(difference(total, recorded, carry, contributions), difference(y, layer.out, y, ()) if last else 0.0)
    return Stage(step, x, carry, contributions, y, error)


def _contribution(term: Term, inner: Mapping[str, Visit], x: torch.Tensor) -> torch.Tensor:
    if not term.path:
        return (term.coefficient * torch.ones_like(x)).to(x.dtype)
    visit = inner.get(term.path)
    if visit is None or visit.out is None:  # it did not run on this text
        return torch.zeros_like(x)
    F = visit.out if visit.out.shape == x.shape else visit.out.reshape(x.shape)
    return term.coefficient * F


def tolerance(dtype: torch.dtype) -> float:
    """Return the largest error that the sum of a layer may have in this type.

    >>> tolerance(torch.float32)
    0.0001
    """
    return TOLERANCE.get(dtype, TOLERANCE[torch.bfloat16])


def difference(
    total: torch.Tensor, recorded: torch.Tensor, carry: torch.Tensor, contributions: Sequence[torch.Tensor]
) -> float:
    """Return the largest |total - recorded| of a token, relative to its largest part; inf where it is no number.

    >>> x = torch.tensor([[1.0, 4.0]])
    >>> difference(x, x + 1, x, ())
    0.2
    """
    if total is recorded:
        return 0.0
    if total.shape != recorded.shape:
        return float("inf")
    # A difference is rounded to the last digit of its own size in every type: nothing is lost by taking it in theirs.
    gap = (total - recorded).detach().abs_()
    largest = float(gap.amax()) if gap.numel() else 0.0
    # The network has added up in the same order; or both are infinite at the same places.
    if largest == 0 or (math.isnan(largest) and torch.equal(total, recorded)):
        return 0.0
    wrong = gap.amax(-1).double()
    scale = torch.stack([_largest(part.detach()) for part in (recorded, carry, *contributions)]).amax(0)
    worst = (wrong / scale.clamp_min(torch.finfo(torch.float64).tiny)).max()
    return inf_for_nan(float(worst))


def _largest(x: torch.Tensor) -> torch.Tensor:
    """Return max |x| of each token, in float64."""
    return x.abs().amax(-1).double()


def within(visits: Sequence[Visit], layer: Visit) -> dict[str, Visit]:
    """Map each path from the layer to the first visit of its module during this visit of the layer."""
    inner: dict[str, Visit] = {}
    for visit in visits:
        if layer.began < visit.began and visit.ended < layer.ended and visit.path.startswith(layer.path + "."):
            inner.setdefault(visit.path.removeprefix(layer.path + "."), visit)
    return inner


def wanted(structure: Structure) -> tuple[list[str], list[str]]:
    """Return (paths of the modules whose visits `stages` needs, paths of those that return a matrix)."""
    paths: dict[str, None] = dict.fromkeys(structure.layers)
    matrices: dict[str, None] = {}
    for call in structure.calls:
        layer = structure.layers[call.layer]
        for step in call.steps:
            names = [step.norm, *(term.path for term in step.terms)]
            paths |= dict.fromkeys(f"{layer}.{name}" for name in names if name)
            matrices |= dict.fromkeys(f"{layer}.{term.matrix}" for term in step.terms if term.matrix)
    return [*(paths | matrices)], [*matrices]


def held_to(call: Call, layer: Visit, inner: Mapping[str, Visit], limit: float) -> Call:
    """Return the call, with its factors called dependent on the text where they do not hold on another one."""
    if call.by_text or not _differs(call, layer, inner, limit):
        return call
    steps = []
    for step in call.steps:
        terms = tuple(replace(term, coefficient=TEXT) for term in step.terms)
        steps.append(replace(step, skip=step.skip if step.skip.is_one else TEXT, terms=terms))
    return replace(call, steps=tuple(steps))


def _differs(call: Call, layer: Visit, inner: Mapping[str, Visit], limit: float) -> bool:
    return not max(stage.error for stage in stages(call, layer, inner)) <= limit
