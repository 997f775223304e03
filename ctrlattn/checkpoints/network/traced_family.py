"""x' = N(s x + sum_k c_k F_k) as modules: the sublayers of a network whose structure was traced, as a row of the table.

A traced structure stands where a row of FAMILIES stands for a known network. It is kept with a changed network, whose
own trace would no longer show what a replaced sublayer was.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch

from ctrlattn.checkpoints.network.families import Answer, Kind, Sublayer
from ctrlattn.checkpoints.trace.structure import Call, Coefficient, Step, Structure, Term
from ctrlattn.errors import InputError


@dataclass(frozen=True, eq=False)
class Traced:
    """Where the sublayers of one network are, by its structure; what a `Family` is for a known architecture.

    Attributes
    ----------
    name : str
        The `model_type`.
    structure : Structure
        Structure of the whole network: a sublayer that was dropped since is still named in it.
    answers : dict
        "layer/path" of a module -> what it returns, for the sublayers that were dropped.
    matrix, value, output, fused
        As in `Family`; "" where heads cannot be told apart.
    """

    name: str
    structure: Structure
    answers: dict[str, Answer] = field(default_factory=dict)
    matrix: str = ""
    value: str = ""
    output: str = ""
    fused: Literal["", "blocks", "interleaved", "grouped"] = ""

    @property
    def norm(self) -> Literal["pre", "post"]:
        """Whether a norm stands behind the sum somewhere."""
        return "post" if any(step.norm for call in self.structure.calls for step in call.steps) else "pre"

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it."""
        return self.structure.causal

    def layers_of(self, model: Any) -> list[Any]:
        """Return the layers in order of their first call."""
        try:
            return [model.get_submodule(path) for path in self.structure.layers]
        except AttributeError as error:
            raise InputError(f"the structure of {self.name!r} does not fit {type(model).__name__}: {error}") from None

    def sublayers_of(self, model: Any) -> tuple[Sublayer, ...]:
        """Return the sublayers that a module returns and a module stands for, layer by layer; once for a tied layer."""
        layers = self.layers_of(model)
        calls = {call.layer: call for call in reversed(self.structure.calls)}
        return tuple(
            sublayer for i, layer in enumerate(layers) if i in calls for sublayer in _sublayers(self, layer, calls[i])
        )

    def answering(self, answers: dict[Sublayer, Answer]) -> "Traced":
        """Return the same family, with what the modules of some sublayers return."""
        entries = {f"{sublayer.layer}/{sublayer.path}": answer for sublayer, answer in answers.items()}
        return replace(self, answers={**self.answers, **entries})

    def as_dict(self) -> dict[str, Any]:
        """Return the structure as config.json holds it; `traced_from` reads it."""
        fields = asdict(replace(self, answers={}))
        fields["answers"] = {name: list(answer) for name, answer in self.answers.items()}
        for call in fields["structure"]["calls"]:
            for step in call["steps"]:
                for part in (step["skip"], *(term["coefficient"] for term in step["terms"])):
                    if isinstance(part["value"], torch.Tensor):
                        part["value"] = part["value"].tolist()
        return fields


def traced_from(entry: dict[str, Any]) -> Traced:
    """Read what `Traced.as_dict` has written.

    Raises
    ------
    InputError
        An entry that is none.
    """
    try:
        fields = dict(entry)
        structure = dict(fields.pop("structure"))
        calls = tuple(_call(call) for call in structure.pop("calls"))
        layers = tuple(structure.pop("layers"))
        answers = {name: Answer(*answer) for name, answer in fields.pop("answers").items()}
        return Traced(structure=Structure(layers=layers, calls=calls, **structure), answers=answers, **fields)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"config.json holds a structure that cannot be read: {error}") from None


def _call(entry: dict[str, Any]) -> Call:
    return Call(**{**entry, "steps": tuple(_step(step) for step in entry["steps"])})


def _step(entry: dict[str, Any]) -> Step:
    terms = tuple(Term(**{**term, "coefficient": _coefficient(term["coefficient"])}) for term in entry["terms"])
    return Step(**{**entry, "skip": _coefficient(entry["skip"]), "terms": terms})


def _coefficient(entry: dict[str, Any]) -> Coefficient:
    value = entry["value"]
    return Coefficient(entry["form"], torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else value)


def _sublayers(traced: Traced, layer: Any, call: Call) -> Iterator[Sublayer]:
    number = 0
    for step in call.steps:
        terms = [term for term in step.terms if term.module and term.path and term.kind != "constant"]
        for term in terms:
            norm = layer.get_submodule(term.norm) if term.norm else None
            yield Sublayer(
                layer=call.layer,
                kind=_kind(term),
                norm=norm,
                module=layer.get_submodule(term.module),
                out=layer.get_submodule(term.path),
                stream=norm if norm is not None else layer if term.reads == 0 else None,
                path=term.module,
                out_path=term.path,
                parallel=len(terms) > 1,
                skip=step.skip,
                coefficient=term.coefficient,
                after=layer.get_submodule(step.norm) if step.norm else None,
                step=number,
                width=traced.structure.width,
                answer=traced.answers.get(f"{call.layer}/{term.module}"),
                matrix=term.matrix,
            )
        # A hole in the numbers says that the stream behind this step is no sum of what its sublayers give.
        number += 1 if len(terms) == len(step.terms) else 2


def _kind(term: Term) -> Kind:
    if term.kind == "constant":
        raise AssertionError("a constant is no sublayer")
    return term.kind
