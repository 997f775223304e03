"""x' = N(s x + sum_k c_k F_k): what a traced network adds to its stream on one text, compared with the stream it gives.

Where every factor is known, hooks read the modules that return F. Where one depends on the text, or a layer hands on
several streams, the pass itself is traced.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ctrlattn.checkpoints.measure.columns import Column
from ctrlattn.checkpoints.measure.matrices import Matrices
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.proved import limit_of
from ctrlattn.checkpoints.network.repeat import pass_ends
from ctrlattn.checkpoints.network.watch import up_to_head
from ctrlattn.checkpoints.trace.compose import stages, tolerance, wanted, within
from ctrlattn.checkpoints.trace.follow import followed
from ctrlattn.checkpoints.trace.layers import Visit, visited
from ctrlattn.checkpoints.trace.steps import RawStep, RawTerm, steps_of
from ctrlattn.checkpoints.trace.structure import Call, Structure
from ctrlattn.errors import InputError

_PLAIN = ("attention", "mlp")


@dataclass(eq=False)
class Recorded:
    """One step of one call on one text; every tensor has the shape of the stream.

    Attributes
    ----------
    x, carried : tensor
        The stream in front of it, and s x.
    added : list of (kind, path, tensor)
        c F of each term.
    norm : str
        Path of the norm behind it.
    """

    x: torch.Tensor
    carried: torch.Tensor
    added: Sequence[tuple[str, str, torch.Tensor]]
    norm: str


class Pass:
    """A whole network on one text: its steps, the stream at every depth, and the attention matrices of its layers.

    Every call is copied as soon as it has run; a tensor of the network is held no longer than its layer runs.

    Attributes
    ----------
    matrices : Matrices
    calls : int
        How many calls have run so far.
    tokens : int
        Tokens of the text, once a call has run.
    certain : bool
        Whether every number is known to be finite.
    """

    def __init__(
        self, structure: Structure, *, causal: bool, plain: bool, may_scale: bool, controlled: Sequence[int] = ()
    ) -> None:
        count = len(structure.calls)
        steps = sum(len(call.steps) for call in structure.calls)
        terms = sum(len(call.terms) for call in structure.calls)
        sizes = {"state": count + 1, "carried": steps}
        sizes |= {"attention_out": count, "mlp_out": count, "mid": count} if plain else {}
        sizes |= {} if plain else {"stream": steps, "contribution": terms}
        self.matrices = Matrices(count, causal=causal)
        self.calls = self.tokens = 0
        self._structure, self._plain = structure, plain
        self._columns = {name: Column(size) for name, size in sizes.items()}
        self._steps: list[tuple[int, str, list[tuple[str, str]]]] = []
        self._out: torch.Tensor | None = None
        self._version = 0  # of `_out`: how often it had been written into
        self.certain = False
        self._controlled = bool(controlled)
        self._may_scale, self._scaled = may_scale, False

    def put(self, x: torch.Tensor, steps: Sequence[Recorded], y: torch.Tensor, matrix: torch.Tensor | None) -> None:
        """Take the next call: the stream in front of it and behind it, its steps and its matrix.

        Raises
        ------
        ArithmeticError
            It does not read what the call before it gave.
        """
        self._link(x)
        self._out, self._version = y, y._version
        self._put("state", x)
        for step in steps:
            self._step(step)
        if self._plain:
            self._put("mid", _stream_between(steps))
        self.matrices.put(self.calls, matrix)
        self.calls += 1
        if self.calls == len(self._structure.calls):
            self._put("state", y)
            # Every call was summed up: what is not finite in a part stays so in all streams behind it.
            self.certain = not self._controlled and bool(torch.isfinite(y).all())
        self.tokens = x.numel() // (self._structure.width * self._structure.streams)

    def _link(self, x: torch.Tensor) -> None:
        y = self._out
        if y is None or (y is x and y._version == self._version):
            return
        if y.numel() != x.numel() or bool((y.flatten() != x.flatten()).any()):
            name = self._structure.layers[self._structure.calls[self.calls - 1].layer]
            raise ArithmeticError(f"the stream that layer {name} gave is not the one that the next layer reads")

    def _step(self, step: Recorded) -> None:
        if self._may_scale:
            self._scaled = self._scaled or not torch.equal(step.x, step.carried)
            self._put("carried", step.carried)
        if not self._plain:
            self._put("stream", step.x)
        for kind, _, F in step.added:
            if not self._plain:
                self._put("contribution", F)
            elif kind in _PLAIN:
                self._put(f"{kind}_out", F)
        self._steps.append((self.calls, step.norm, [(kind, path) for kind, path, _ in step.added]))

    def _put(self, name: str, t: torch.Tensor) -> None:
        self._columns[name].put(_tokens(t, self._structure.width, self._structure.streams))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the signals: state, contributions, and the factors of the stream where they are not 1."""
        arrays = {name: column.array() for name, column in self._columns.items()}
        if not self._scaled:
            del arrays["carried"]
        return arrays

    def labels(self) -> dict[str, tuple[str, Sequence[Any]]]:
        """Return coordinates: the call that a step belongs to, and the step, kind and path that a contribution has."""
        layers = [self._structure.layers[call.layer] for call in self._structure.calls]
        rows = [(i, layers[call], *name) for i, (call, _, names) in enumerate(self._steps) for name in names]
        return {
            "call": ("step", [call for call, *_ in self._steps]),
            "norm_behind": ("step", [norm for _, norm, _ in self._steps]),
            "step_of": ("sublayer", [i for i, *_ in rows]),
            "kind": ("sublayer", [kind for _, _, kind, _ in rows]),
            "path": ("sublayer", [f"{layer}.{path}" if path else "" for _, layer, _, path in rows]),
        }


def recorded_pass(checkpoint: Checkpoint, structure: Structure, inputs: dict[str, Any]) -> Pass:
    """Run a network once and record it.

    Raises
    ------
    InputError
        The network calls its layers otherwise than when it was traced; factors that depend on the text under a
        controller.
    ArithmeticError
        The parts of a layer do not sum to the stream that it gives, with the layer and the largest error.
    """
    controlled = pass_ends(checkpoint.model)
    if structure.by_text and controlled:
        raise InputError(
            "the parts of a layer whose factors depend on the text are seen in its stream, which the controller of the "
            "repeated span has changed: record the network before repeat, or with naive passes"
        )
    if not structure.by_text:
        try:
            try:
                return _by_hooks(checkpoint, structure, inputs, controlled, copies=False)
            except _WrittenInto:
                return _by_hooks(checkpoint, structure, inputs, controlled, copies=True)
        except ArithmeticError:  # a factor is not known to the last digit: the traced parts are, or are refused too
            if controlled:
                raise
    return _by_tracing(checkpoint, structure, inputs)


class _WrittenInto(Exception):
    """A network adds in place, so that only copies show what a module has given."""


def _by_hooks(
    checkpoint: Checkpoint, structure: Structure, inputs: dict[str, Any], controlled: Sequence[int], *, copies: bool
) -> Pass:
    paths, matrices = wanted(structure)
    plain = structure.plain and structure.streams == 1
    scales = any(not step.skip.is_one for call in structure.calls for step in call.steps)
    record = Pass(structure, causal=checkpoint.causal, plain=plain, may_scale=scales, controlled=controlled)
    floor = tolerance(next(checkpoint.model.parameters()).dtype)
    call_paths: list[str] = []

    def ended(layer: Visit) -> None:
        if layer.path not in structure.layers:
            return
        call_paths.append(layer.path)
        if call_paths == expected[: len(call_paths)]:
            number = len(call_paths) - 1
            call = structure.calls[number]
            inner = within(visits, layer)
            if not all(visit.intact for visit in (layer, *inner.values())):
                raise _WrittenInto
            matrix = _only_matrix([inner[term.matrix].matrix for term in call.terms if term.matrix in inner])
            steps = list(_recorded_stages(structure, call, layer, inner, floor, controlled=number in controlled))
            record.put(_tensor(layer.x), steps, _tensor(layer.out), matrix)
        visits.clear()

    expected = [structure.layers[call.layer] for call in structure.calls]
    passing = up_to_head(checkpoint.model, lambda: len(call_paths) == len(expected))
    with visited(checkpoint.model, paths, matrices, ended=ended, copies=copies) as visits, passing:
        checkpoint.model(**inputs)
    _same_calls(structure, call_paths)
    return record


def _recorded_stages(
    structure: Structure, call: Call, layer: Visit, inner: Mapping[str, Visit], floor: float, *, controlled: bool
) -> Iterator[Recorded]:
    for i, stage in enumerate(stages(call, layer, inner)):
        if not controlled or i < len(call.steps) - 1:  # the last state has the control in it
            require_sum(structure, call, stage.error, floor)
        contributions = [(term.kind, term.path, F) for term, F in zip(stage.step.terms, stage.added, strict=True)]
        yield Recorded(stage.x, stage.carried, contributions, stage.step.norm)


def _by_tracing(checkpoint: Checkpoint, structure: Structure, inputs: dict[str, Any]) -> Pass:
    floor = tolerance(next(checkpoint.model.parameters()).dtype)
    with followed(checkpoint.model, structure.layers) as calls:
        checkpoint.model(**inputs)
    _same_calls(structure, [call.path for call in calls])
    recordings = []
    for call, record in zip(structure.calls, calls, strict=True):
        raw, error, _ = steps_of(record)
        require_sum(structure, call, error, floor)
        recordings.append([_raw(step, call) for step in raw])
    plain = structure.plain and structure.streams == 1
    plain = plain and all(sorted(k for step in steps for k, *_ in step.added) == list(_PLAIN) for steps in recordings)
    whole = Pass(structure, causal=checkpoint.causal, plain=plain, may_scale=True)
    for call, record, steps in zip(structure.calls, calls, recordings, strict=True):
        matrices = {**record.bare, **record.returned}
        matrix = _only_matrix([matrices[term.matrix] for term in call.terms if term.matrix in matrices])
        whole.put(record.x, steps, _tensor(record.out), matrix)
    return whole


def _only_matrix(matrices: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    return matrices[0] if len(matrices) == 1 else None


def _stream_between(steps: Sequence[Recorded]) -> torch.Tensor:
    """Return the stream behind the attention of a layer; where both sublayers are added at once, what it would be."""
    last = steps[-1]
    if [kind for kind, *_ in last.added] == ["mlp"]:
        return last.x
    return last.carried + next(F for kind, _, F in last.added if kind == "attention")


def _raw(step: RawStep, call: Call) -> Recorded:
    kinds = {term.path: term.kind for term in call.terms}
    size = step.x.shape
    contributions = [
        (kinds.get(term.path, "constant"), term.path, _sum(term, step).expand(size)) for term in step.terms
    ]
    return Recorded(step.x, step.carried, contributions, step.norm)


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


def require_sum(structure: Structure, call: Call, error: float, floor: float) -> None:
    """Raise ArithmeticError where the parts of a call do not sum to what the layer gave.

    Raises
    ------
    ArithmeticError
        The message has the layer and the largest error.
    """
    limit = limit_of(call, floor)
    if not error <= limit:
        raise ArithmeticError(
            f"the recorded parts of layer {structure.layers[call.layer]} do not sum to the stream that it gave: they "
            f"differ by {error:.1e} of the largest part, and at most {limit:.0e} is rounding"
        )


def _tokens(t: torch.Tensor, width: int, streams: int) -> torch.Tensor:
    """Return the stream of one text as (n, d), or (streams, n, d)."""
    if streams > 1:
        t = (
            t.squeeze(1) if t.shape[0] == streams else t.squeeze(0).movedim(-2, 0)
        )  # (streams, b, n, d), (b, n, streams, d)
        flat = t.reshape(streams, -1, width)
    else:
        flat = t.reshape(-1, width)
    return flat
