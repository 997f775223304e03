"""t = sum_k p_k, p_k a linear image of atom k: the parts of a tensor, and how linear operations move them.

An atom is the stream of a layer, a norm of it, what a module returned, what an operation made, or a constant. Where it
is zero it does not show its factor, as the output of experts without weights: a probe without zeros takes the same way.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
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
        Path from the layer to the module that returned it, "" for none; for an operation its name.
    value : tensor
        A copy, which nothing changes.
    reads : tuple of Form
        What it was made of.
    source : (tensor, Form) or None
        For a norm, z and its parts.
    inner : Form or None
        For a module, what it returned, by what is inside it.
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

    @cached_property
    def probe(self) -> torch.Tensor | None:
        """The value with 1 in the place of what is zero, or would lose digits by underflow; None where nothing is.

        >>> Atom("module", "mlp", torch.tensor([2.0, 0.0])).probe
        tensor([2., 1.])
        """
        if not self.value.is_floating_point():
            return None
        bounds = torch.finfo(self.value.dtype)
        small = self.value.abs() < bounds.tiny / bounds.eps
        return torch.where(small, torch.ones((), dtype=self.value.dtype), self.value) if bool(small.any()) else None


class AtomPart(NamedTuple):
    """p_k, whether a factor between it and its atom depends on the text, the coarsest rounding on the way, a probe."""

    value: torch.Tensor
    by_text: bool = False
    rounding: float = 0.0
    probe: torch.Tensor | None = None

    @property
    def shown(self) -> torch.Tensor:
        """What shows the factor: the image of the atom's probe, or of the atom where it has no zeros."""
        return self.value if self.probe is None else self.probe

    def through(self, f: Callable[[torch.Tensor], torch.Tensor]) -> "AtomPart":
        """Return the part of f(t), f linear."""
        return self._replace(value=f(self.value), probe=None if self.probe is None else f(self.probe))


def joined(parts: Sequence[AtomPart], f: Callable[[Sequence[torch.Tensor]], torch.Tensor]) -> AtomPart:
    """Return one part for several of one atom: f, linear in all of them at once, of their values and their probes."""
    probed = any(part.probe is not None for part in parts)
    return AtomPart(
        f([part.value for part in parts]),
        any(part.by_text for part in parts),
        max(part.rounding for part in parts),
        f([part.shown for part in parts]) if probed else None,
    )


class Form(dict[Atom, AtomPart]):
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
        """Return the form of the tensor that is the atom."""
        return cls({atom: AtomPart(atom.value, probe=atom.probe)})

    def through(self, f: Callable[[torch.Tensor], torch.Tensor], by_text: bool = False) -> "Form":
        """Return the parts of f(t), f linear."""
        return Form({a: part.through(f)._replace(by_text=part.by_text or by_text) for a, part in self.items()})

    def rounded(self, eps: float) -> "Form":
        """Return the form after a conversion to a type that rounds by eps."""
        return Form({atom: part._replace(rounding=max(eps, part.rounding)) for atom, part in self.items()})

    def plus(self, other: "Form", shape: Iterable[int]) -> "Form":
        """Return the parts of a sum of this shape."""
        size = tuple(shape)
        form = self.through(lambda p: p.expand(size))
        for atom, part in other.through(lambda p: p.expand(size)).items():
            form[atom] = part if atom not in form else joined((form[atom], part), lambda both: both[0] + both[1])
        return form

    def total(self) -> torch.Tensor:
        """Return sum_k p_k, in float64."""
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
        """Return the largest |t - sum_k p_k| of a token, relative to its largest part; inf where it is no number."""
        parts = torch.stack([part.value.double() for part in self.values()])
        wrong = (t.double() - parts.sum(0)).abs()
        scale = parts.abs().amax(0).maximum(t.double().abs())
        if t.ndim:
            wrong, scale = wrong.amax(-1), scale.amax(-1)
        relative = wrong / scale.clamp_min(torch.finfo(torch.float64).tiny)
        return inf_for_nan(float(relative.max())) if t.numel() else 0.0


def inf_for_nan(error: float) -> float:
    """Return an error, inf for nan, so that no larger one of another layer hides it: max(0.0, nan) is 0.0.

    >>> inf_for_nan(float("nan")), inf_for_nan(0.5)
    (inf, 0.5)
    """
    return math.inf if math.isnan(error) else error
