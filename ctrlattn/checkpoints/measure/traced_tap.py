"""x' = N(s x + sum_k c_k F_k): what a traced network adds to its stream on one text, compared with the stream it gives.

Where every factor is known, hooks read the modules that return F. Where one depends on the text, or a layer hands on
several streams, the pass itself is traced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.proved import limit_of, tolerance
from ctrlattn.checkpoints.trace.compose import stages, wanted, within
from ctrlattn.checkpoints.trace.follow import followed
from ctrlattn.checkpoints.trace.layers import visited
from ctrlattn.checkpoints.trace.steps import RawStep, RawTerm, steps_of
from ctrlattn.checkpoints.trace.structure import Call, Structure
from ctrlattn.errors import InputError


@dataclass(eq=False)
class Recorded:
    """One step of one call on one text; every tensor has the shape of the stream.

    Attributes
    ----------
    call, step : int
        Depth, and number of the step in its call.
    x, carried : tensor
        The stream in front of it, and s x.
    added : list of (kind, path, tensor)
        c F of each term.
    norm : str
        Path of the norm behind it.
    """

    call: int
    step: int
    x: torch.Tensor
    carried: torch.Tensor
    added: Sequence[tuple[str, str, torch.Tensor]]
    norm: str


@dataclass(eq=False)
class Pass:
    """A whole network on one text: its steps, the stream at every depth, and the attention matrices of its layers."""

    steps: list[Recorded]
    state: list[torch.Tensor]
    matrices: list[torch.Tensor | None]


def recorded_pass(checkpoint: Checkpoint, structure: Structure, inputs: dict[str, Any]) -> Pass:
    """Run a network once and record it.

    Raises
    ------
    InputError
        The network calls its layers otherwise than when it was traced.
    ArithmeticError
        The parts of a layer do not sum to the stream that it gives, with the layer and the largest error.
    """
    own = tolerance(next(checkpoint.model.parameters()).dtype)
    if not structure.by_text:
        try:
            return _by_hooks(checkpoint.model, structure, inputs, own)
        except ArithmeticError:  # a factor is not known to the last digit: the traced parts are, or are refused too
            pass
    return _by_tracing(checkpoint.model, structure, inputs, own)


def _by_hooks(model: Any, structure: Structure, inputs: dict[str, Any], own: float) -> Pass:
    paths, matrices = wanted(structure)
    with visited(model, paths, matrices) as visits:
        model(**inputs)
    layers = [visit for visit in visits if visit.path in structure.layers]
    _same_calls(structure, [visit.path for visit in layers])
    whole = Pass([], [], [])
    for depth, (call, layer) in enumerate(zip(structure.calls, layers, strict=True)):
        inner = within(visits, layer)
        for number, stage in enumerate(stages(call, layer, inner)):
            require_sum(structure, call, stage.error, own)
            names = [(term.kind, term.path) for term in stage.step.terms]
            added = [(*name, F) for name, F in zip(names, stage.added, strict=True)]
            whole.steps.append(Recorded(depth, number, stage.x, stage.carried, added, stage.step.norm))
        whole.state.append(_tensor(layer.x))
        given = [inner[term.matrix].matrix for term in call.terms if term.matrix and term.matrix in inner]
        whole.matrices.append(given[0] if len(given) == 1 else None)
    whole.state.append(_tensor(layers[-1].out))
    return _linked(structure, whole, [_tensor(layer.out) for layer in layers])


def _by_tracing(model: Any, structure: Structure, inputs: dict[str, Any], own: float) -> Pass:
    with followed(model, structure.layers) as calls:
        model(**inputs)
    _same_calls(structure, [call.path for call in calls])
    whole = Pass([], [], [])
    for depth, (call, given) in enumerate(zip(structure.calls, calls, strict=True)):
        raw, error, _ = steps_of(given)
        require_sum(structure, call, error, own)
        whole.steps += [_raw(depth, number, step, call) for number, step in enumerate(raw)]
        whole.state.append(given.x)
        matrices = [
            seen[term.matrix] for term in call.terms if term.matrix in (seen := {**given.bare, **given.returned})
        ]
        whole.matrices.append(matrices[0] if len(matrices) == 1 else None)
    whole.state.append(_tensor(calls[-1].out))
    return _linked(structure, whole, [_tensor(call.out) for call in calls])


def _raw(depth: int, number: int, step: RawStep, call: Call) -> Recorded:
    kinds = {term.path: term.kind for term in call.terms}
    size = step.x.shape
    added = [(kinds.get(term.path, "constant"), term.path, _sum(term, step).expand(size)) for term in step.terms]
    return Recorded(depth, number, step.x, step.carried, added, step.norm)


def _sum(term: RawTerm, step: RawStep) -> torch.Tensor:
    return torch.stack([step.parts[atom] for atom in term.atoms]).sum(0)


def _tensor(t: torch.Tensor | None) -> torch.Tensor:
    assert t is not None
    return t


def _same_calls(structure: Structure, paths: Sequence[str]) -> None:
    expected = [structure.layers[call.layer] for call in structure.calls]
    if list(paths) != expected:
        raise InputError(
            f"the network called its layers {len(paths)} times, and {len(expected)} times when it was traced: its "
            "depth depends on the text"
        )


def require_sum(structure: Structure, call: Call, error: float, own: float) -> None:
    """Raise ArithmeticError where the parts of a call do not sum to what the layer gave.

    Raises
    ------
    ArithmeticError
        With the layer and the largest error.
    """
    limit = limit_of(call, own)
    if not error <= limit:
        raise ArithmeticError(
            f"the recorded parts of layer {structure.layers[call.layer]} do not sum to the stream that it gave: they "
            f"differ by {error:.1e} of the largest part, and at most {limit:.0e} is rounding"
        )


def _linked(structure: Structure, whole: Pass, outs: list[torch.Tensor]) -> Pass:
    """The pass, once every layer reads what the one before it gave."""
    for depth, (given, read) in enumerate(zip(outs, whole.state[1:], strict=True)):
        if given.numel() != read.numel() or not torch.equal(given.flatten(), read.flatten()):
            name = structure.layers[structure.calls[depth].layer]
            raise ArithmeticError(f"the stream that layer {name} gave is not the one that the next layer reads")
    return whole


def stacked(tensors: Sequence[torch.Tensor], width: int, streams: int) -> np.ndarray:
    """Streams of one text as (count, n, d), or (count, streams, n, d); numpy has no bfloat16."""
    return np.stack([_tokens(t, width, streams) for t in tensors])


def _tokens(t: torch.Tensor, width: int, streams: int) -> np.ndarray:
    if streams > 1:
        t = (
            t.squeeze(1) if t.shape[0] == streams else t.squeeze(0).movedim(-2, 0)
        )  # (streams, b, n, d), (b, n, streams, d)
        flat = t.reshape(streams, -1, width)
    else:
        flat = t.reshape(-1, width)
    return flat.to(torch.promote_types(flat.dtype, torch.float32)).numpy(force=True)


def traced_arrays(whole: Pass, structure: Structure) -> dict[str, np.ndarray]:
    """The signals of a pass: state, contributions, and the factors of the stream where they are not 1."""
    size = (structure.width, structure.streams)
    arrays = {"state": stacked(whole.state, *size)}
    parts = {kind: [F for step in whole.steps for k, _, F in step.added if k == kind] for kind in ("attention", "mlp")}
    plain = structure.plain and structure.streams == 1 and all(len(p) == len(whole.state) - 1 for p in parts.values())
    if plain:
        arrays |= {f"{kind}_out": stacked(given, *size) for kind, given in parts.items()}
        arrays["mid"] = _between(whole, arrays, size)
    else:
        arrays["stream"] = stacked([step.x for step in whole.steps], *size)
        arrays["contribution"] = stacked([F for step in whole.steps for _, _, F in step.added], *size)
    if any(not torch.equal(step.x, step.carried) for step in whole.steps):
        arrays["carried"] = stacked([step.carried for step in whole.steps], *size)
    return arrays


def _between(whole: Pass, arrays: dict[str, np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The stream behind the attention of each layer; where both are added at once, what it would be."""
    mids = []
    for depth in range(len(whole.state) - 1):
        steps = [step for step in whole.steps if step.call == depth]
        last = steps[-1]
        alone = [kind for kind, _, _ in last.added] == ["mlp"]
        x = last.x if alone else last.carried + next(F for kind, _, F in last.added if kind == "attention")
        mids.append(x)
    return stacked(mids, *size)


def labels_of(whole: Pass, structure: Structure) -> dict[str, tuple[str, Sequence[Any]]]:
    """Coordinates: which call a step belongs to; which step, kind and path a contribution has."""
    rows = [(i, kind, path) for i, step in enumerate(whole.steps) for kind, path, _ in step.added]
    names = [structure.layers[structure.calls[whole.steps[i].call].layer] for i, *_ in rows]
    return {
        "call": ("step", [step.call for step in whole.steps]),
        "norm_behind": ("step", [step.norm for step in whole.steps]),
        "step_of": ("sublayer", [i for i, *_ in rows]),
        "kind": ("sublayer", [kind for _, kind, _ in rows]),
        "path": (
            "sublayer",
            [f"{name}.{path}" if path else "" for name, (_, _, path) in zip(names, rows, strict=True)],
        ),
    }
