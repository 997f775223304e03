"""t = sum_k p_k, p_k a linear image of atom k: the parts of a tensor, and how linear operations move them.

An atom is the stream of a layer, a norm of it, what a module returned, what an operation made, or a constant.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch

Role = Literal["stream", "norm", "module", "operation", "constant"]


@dataclass(frozen=True, eq=False)
class Atom:
    """What parts are made of.

    Attributes
    ----------
    role : "stream", "norm", "module", "operation" or "constant"
        A norm carries the stream on, as N(z) does; every other role but the stream is a contribution.
    path : str
        From the layer to the module that returned it, "" for none; of an operation its name.
    value : tensor
        A copy, which nothing changes.
    reads : tuple of Form
        What it was made of.
    source : (tensor, Form) or None
        Of a norm: z and its parts.
    inner : Form or None
        Of a module: what it returned, by what is inside it.
    born : int
        A later atom has a larger number.
    """

    role: Role
    path: str
    value: torch.Tensor
    reads: tuple["Form", ...] = ()
    source: "tuple[torch.Tensor, Form] | None" = None
    inner: "Form | None" = None
    born: int = 0
    call: Any = field(default=None, repr=False)

    @property
    def carries(self) -> bool:
        """Whether the stream goes on in it."""
        return self.role in ("stream", "norm")


class Part(NamedTuple):
    """p_k, whether a factor between it and its atom depends on the text, and the coarsest rounding on the way."""

    value: torch.Tensor
    by_text: bool = False
    rounding: float = 0.0


class Form(dict[Atom, Part]):
    """The parts of one tensor by their atoms.

    Examples
    --------
    >>> a, b = (Atom("module", name, torch.ones(2)) for name in "ab")
    >>> form = Form.of(a).plus(Form.of(b).through(lambda part: 3 * part), (2,))
    >>> form.total().tolist()
    [4.0, 4.0]
    """

    @classmethod
    def of(cls, atom: Atom) -> "Form":
        """The tensor that is the atom."""
        return cls({atom: Part(atom.value)})

    def through(self, f: Callable[[torch.Tensor], torch.Tensor], by_text: bool = False) -> "Form":
        """The parts of f(t), f linear."""
        return Form(
            {a: part._replace(value=f(part.value), by_text=part.by_text or by_text) for a, part in self.items()}
        )

    def rounded(self, eps: float) -> "Form":
        """The same after a conversion to a type that rounds by eps."""
        return Form({atom: part._replace(rounding=max(eps, part.rounding)) for atom, part in self.items()})

    def plus(self, other: "Form", shape: Iterable[int]) -> "Form":
        """The parts of a sum of this shape."""
        size = tuple(shape)
        form = self.through(lambda p: p.expand(size))
        for atom, part in other.through(lambda p: p.expand(size)).items():
            form[atom] = part if atom not in form else _sum(form[atom], part)
        return form

    def total(self) -> torch.Tensor:
        """sum_k p_k, in float64."""
        return torch.stack([part.value.double() for part in self.values()]).sum(0)

    @property
    def carries(self) -> bool:
        """Whether some atom carries the stream."""
        return any(atom.carries for atom in self)

    @property
    def bent(self) -> bool:
        """Whether the stream is in it with a factor that depends on the text, as in a norm."""
        return any(atom.carries and part.by_text for atom, part in self.items())

    def error(self, t: torch.Tensor) -> float:
        """The largest |t - sum_k p_k| of a token, relative to the largest part at it; inf where it is no number."""
        parts = torch.stack([part.value.double() for part in self.values()])
        wrong = (t.double() - parts.sum(0)).abs()
        scale = parts.abs().amax(0).maximum(t.double().abs())
        if t.ndim:
            wrong, scale = wrong.amax(-1), scale.amax(-1)
        relative = wrong / scale.clamp_min(torch.finfo(torch.float64).tiny)
        return inf_for_nan(float(relative.max())) if t.numel() else 0.0


def inf_for_nan(error: float) -> float:
    """An error that no larger one of another layer hides: max(0.0, nan) is 0.0 in Python.

    >>> inf_for_nan(float("nan")), inf_for_nan(0.5)
    (inf, 0.5)
    """
    return math.inf if math.isnan(error) else error


def _sum(a: Part, b: Part) -> Part:
    return Part(a.value + b.value, a.by_text or b.by_text, max(a.rounding, b.rounding))
