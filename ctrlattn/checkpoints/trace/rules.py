"""f(sum_k p_k) = sum_k f(p_k): which operations of torch are linear, and what each does to the parts of a tensor.

A rule gives the form of what an operation returned, or None: then the result is an atom of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ctrlattn.checkpoints.trace.forms import Atom, AtomPart, Form, joined

MOST_ATOMS = 64  # of one tensor: a concatenation of more is an atom of its own


@dataclass(frozen=True)
class Operation:
    """One call of an operation of torch.

    Attributes
    ----------
    function : operator of torch
    args, kwargs
    out
        What it returned.
    form : callable, tensor -> Form or None
    in_place : bool
    constant : callable, tensor -> Atom
        What does not depend on the layer's stream, as an atom.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any
    form: Callable[[Any], Form | None]
    in_place: bool
    constant: Callable[[torch.Tensor], Atom]

    @property
    def first(self) -> Form | None:
        """The form of the first argument."""
        return self.form(self.args[0])

    @property
    def second(self) -> Form | None:
        """The form of the second argument."""
        return self.form(self.args[1])

    def of(self, t: Any) -> Form:
        """Return the form of a tensor or a number, which may be a constant."""
        form = self.form(t)
        if form is not None:
            return form
        value = t if isinstance(t, torch.Tensor) else torch.as_tensor(t, dtype=self.out.dtype)
        return Form.of(self.constant(value))


Rule = Callable[[Operation], "Form | Sequence[Form | None] | None"]
RULES: dict[str, Rule] = {}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def put(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return put


@_rule("add", "sub")
def _add(op: Operation) -> Form | None:
    a, b = op.args[0], op.args[1]
    alpha = op.kwargs.get("alpha", 1) * (-1 if "sub" in op.function.__name__ else 1)
    if not isinstance(b, torch.Tensor) and b == 0:
        return op.first
    other = op.of(b)
    return op.of(a).plus(other if alpha == 1 else other.through(lambda p: p * alpha), op.out.shape)


@_rule("rsub")
def _reversed_sub(op: Operation) -> Form | None:
    alpha = op.kwargs.get("alpha", 1)
    return op.of(op.args[1]).plus(op.of(op.args[0]).through(lambda p: -alpha * p), op.out.shape)


@_rule("mul")
def _mul(op: Operation) -> Form | None:
    a, b = op.args[0], op.args[1]
    f, g = op.first, op.second
    if f is None or g is None:
        return _scale(f, b) if f is not None else _scale(g, a)
    if f.carries != g.carries:
        return f.through(lambda p: p * b, True) if f.carries else g.through(lambda p: a * p, True)
    if not f.carries and (_gate(b) != _gate(a)) and all(atom.role == "module" for atom in (f if _gate(b) else g)):
        return f.through(lambda p: p * b, True) if _gate(b) else g.through(lambda p: a * p, True)
    return None


def _scale(form: Form | None, factor: Any) -> Form | None:
    return None if form is None else form.through(lambda p: p * factor)


def _gate(t: torch.Tensor) -> bool:
    """Tell whether a tensor is one number for a token."""
    return t.ndim > 0 and t.shape[-1] == 1


@_rule("div")
def _div(op: Operation) -> Form | None:
    b, f = op.args[1], op.first
    if f is None or "rounding_mode" in op.kwargs:
        return None
    g = op.form(b)
    if g is None:
        return f.through(lambda p: p / b)
    return f.through(lambda p: p / b, True) if f.carries and not g.carries else None


@_rule("bmm")
def _mixed_streams(op: Operation) -> Form | None:
    a, b, f, g = *op.args[:2], op.first, op.second
    if f is None or g is None or f.carries == g.carries or not several(g if g.carries else f):
        return None
    return g.through(lambda p: torch.bmm(a, p), True) if g.carries else f.through(lambda p: torch.bmm(p, b), True)


def several(form: Form) -> bool:
    """Tell whether the layer hands on several streams; attention of the stream itself is no mixing of streams."""
    return all(atom.value.ndim > 3 for atom in form if atom.carries)


@_rule("lerp")
def _lerp(op: Operation) -> Form | None:
    a, b, weight = op.args[:3]
    if op.form(weight) is not None:
        return None
    return op.of(a).through(lambda p: p * (1 - weight)).plus(op.of(b).through(lambda p: p * weight), op.out.shape)


@_rule("addcmul")
def _addcmul(op: Operation) -> Form | None:
    a, b, c = op.args[:3]
    value = op.kwargs.get("value", 1)
    f, g = op.form(b), op.form(c)
    if f is not None and g is None:
        return op.of(a).plus(f.through(lambda p: p * c * value), op.out.shape)
    if f is None and g is not None:
        return op.of(a).plus(g.through(lambda p: b * p * value), op.out.shape)
    return None


@_rule("view", "_unsafe_view", "reshape", "_reshape_alias")
def _view(op: Operation) -> Form | None:
    if not isinstance(op.args[1], list | tuple) or op.first is None:  # a view as another type changes the numbers
        return None
    return op.first.through(lambda p: p.reshape(op.out.shape))


@_rule(
    "clone", "detach", "alias", "expand", "squeeze", "unsqueeze", "neg", "permute", "transpose", "t",
    "select", "slice", "sum", "mean", "roll", "flip", "repeat", "index", "gather", "index_select", "diagonal",
    "movedim", "lift_fresh",
)  # fmt: skip
def _linear(op: Operation) -> Form | None:
    operands, kwargs = op.args[1:], op.kwargs
    if op.first is None or op.in_place or any(op.form(t) is not None for t in operands):
        return None
    return op.first.through(lambda p: op.function(p, *operands, **kwargs))


@_rule("_to_copy")
def _convert(op: Operation) -> Form | None:
    form = op.first
    if form is None:
        return None
    form_after = form.through(lambda p: op.function(p, *op.args[1:], **op.kwargs))
    return form_after.rounded(torch.finfo(op.out.dtype).eps)


@_rule("constant_pad_nd")
def _pad(op: Operation) -> Form | None:
    value = op.args[2] if len(op.args) > 2 else op.kwargs.get("value", 0)
    form = op.first
    return None if value or form is None else form.through(lambda p: op.function(p, *op.args[1:], **op.kwargs))


@_rule("native_dropout")
def _dropout(op: Operation) -> Form | None:
    return op.first if op.args[2] is False else None


@_rule("split", "split_with_sizes", "chunk", "unbind", "unsafe_split")
def _split(op: Operation) -> list[Form | None] | None:
    form = op.first
    if form is None:
        return None

    def piece(i: int) -> Form:
        return form.through(lambda p: op.function(p, *op.args[1:], **op.kwargs)[i])

    return [piece(i) for i in range(len(op.out))]


@_rule("cat", "stack")
def _concatenate(op: Operation) -> Form | None:
    tensors = op.args[0]
    forms = [op.form(t) for t in tensors]
    forms = [op.of(t) if f is None and bool((t != 0).any()) else f for t, f in zip(tensors, forms, strict=True)]
    atoms = dict.fromkeys(atom for form in forms if form is not None for atom in form)
    if len(atoms) > MOST_ATOMS:
        return None
    whole = Form()
    for atom in atoms:
        pairs = zip([Form() if form is None else form for form in forms], tensors, strict=True)
        parts = [form[atom] if atom in form else AtomPart(torch.zeros_like(t)) for form, t in pairs]
        whole[atom] = joined(
            parts,
            lambda pieces: op.function(
                [p.expand(t.shape) for p, t in zip(pieces, tensors, strict=True)], *op.args[1:], **op.kwargs
            ),
        )
    return whole


@_rule("masked_fill")
def _mask(op: Operation) -> Form | None:
    _, mask, value = op.args[:3]
    if op.first is None or op.form(mask) is not None or isinstance(value, torch.Tensor) or value != 0:
        return None
    return op.first.through(lambda p: p.expand(op.out.shape).masked_fill(mask, 0))


@_rule("where")
def _where(op: Operation) -> Form | None:
    if len(op.args) < 3 or op.form(op.args[0]) is not None:
        return None
    condition, a, b = op.args
    zero = torch.zeros((), dtype=op.out.dtype)
    form = op.of(a).through(lambda p: torch.where(condition, p.to(op.out.dtype), zero))
    return form.plus(op.of(b).through(lambda p: torch.where(condition, zero, p.to(op.out.dtype))), op.out.shape)


@_rule("copy")
def _copy(op: Operation) -> Form | None:
    form = op.second
    return None if form is None else form.through(lambda p: p.expand(op.out.shape).to(op.out.dtype))
