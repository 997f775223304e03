"""x' = N(s x + sum_k c_k F_k), step after step, from the parts of what a layer gave."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ctrlattn.checkpoints.trace.follow import Followed
from ctrlattn.checkpoints.trace.forms import Atom, AtomPart, Form
from ctrlattn.checkpoints.trace.structure import Coefficient
from ctrlattn.errors import InputError

_ROUNDINGS, _FEW = 32, 4  # between an atom and its part; the second holds for 16 bits, where more would hide a factor
_CLOSE = 64  # roundings of a sum
_SAME = 1e-6  # two ways of writing one factor
ONE = Coefficient("number", 1.0)
Factors = dict[Atom, Coefficient]


@dataclass(frozen=True, eq=False)
class Reading:
    """The stream that a contribution was made of: its parts, the norm in front, and the modules on the way."""

    form: Form | None
    norm: Atom | None
    chain: tuple[Atom, ...]


@dataclass(frozen=True, eq=False)
class RawTerm:
    """One contribution before its kind is known."""

    atoms: tuple[Atom, ...]
    coefficient: Coefficient
    reading: Reading

    @property
    def path(self) -> str:
        """The module that returns F; "" for none."""
        return self.atoms[0].path if self.atoms[0].role in ("module", "norm") else ""


@dataclass(frozen=True, eq=False)
class RawStep:
    """One step before the kinds of its terms are known.

    Attributes
    ----------
    start : dict
        The stream that it reads, by its atoms.
    skip, terms, norm
        As in `Step`.
    parts : dict
        Atom -> c F of it, in the stream that the step gives.
    x, carried : tensor
        The stream that it reads, and s x.
    """

    start: Factors
    skip: Coefficient
    terms: tuple[RawTerm, ...]
    norm: str
    parts: dict[Atom, torch.Tensor]
    x: torch.Tensor
    carried: torch.Tensor


def steps_of(call: Followed) -> tuple[list[RawStep], float, float]:
    """Return the steps of a call, the largest error of their sums, and the coarsest rounding of a part.

    Raises
    ------
    InputError
        The layer does not hand its stream on.
    """
    segments = list(_segments(call))[::-1]
    error = max(form.error(t) for _, form, t, _ in segments)
    rounding = max(part.rounding for _, form, *_ in segments for part in form.values())
    carriers = {carrier for carrier, *_ in segments}
    steps = [step for segment in segments for step in _split(*segment, carriers)]
    return steps, error, rounding


def _segments(call: Followed) -> Iterator[tuple[Atom, Form, torch.Tensor, str]]:
    """Yield, from the end of a layer on, (what carries the stream, parts, their sum, the norm behind it)."""
    t, form, norm = call.out, call.form, ""
    while True:
        if t is None or form is None:
            raise InputError(f"layer {call.path} gives a stream that does not depend on the one that it reads")
        stream = next((atom for atom in form if atom.role == "stream"), None)
        if stream is not None:
            yield stream, form, t, norm
            return
        norms = [atom for atom in form if atom.role == "norm"]
        if not norms:
            raise InputError(
                f"layer {call.path} is not residual: its stream does not reach its output, {_names(form)} does"
            )
        last = max(norms, key=lambda atom: atom.born)
        if len(form) > 1 or norm or not coefficient(last, form[last]).is_one:
            yield last, form, t, norm
        norm = last.path
        if not norm:
            raise InputError(f"layer {call.path} ends a step with a norm that is no module")
        assert last.source is not None
        t, form = last.source


def _names(form: Form) -> str:
    return ", ".join(sorted({atom.path or atom.role for atom in form})[:3])


def coefficient(atom: Atom, part: AtomPart) -> Coefficient:
    """Return c of a part c a: a number, a number per feature, or what depends on the text.

    >>> import torch
    >>> atom = Atom("module", "mlp", torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    >>> coefficient(atom, AtomPart(0.5 * atom.value)).value
    0.5
    >>> coefficient(atom, AtomPart(torch.tensor([1.0, 3.0]) * atom.value)).value.tolist()
    [1.0, 3.0]
    """
    if atom.role == "constant":
        return _constant(part.value.double())
    a, p = (atom.value if part.probe is None or atom.probe is None else atom.probe).double(), part.shown.double()
    if in_one_row(a, p):
        a = a.reshape(p.shape)
    if part.by_text or a.shape != p.shape:
        return Coefficient("text", None)
    if part.value is atom.value:
        return ONE
    eps = max(torch.finfo(t.dtype).eps for t in (atom.value, part.value))
    number = _ratio(a.flatten(), p.flatten(), eps)
    if number is not None:
        return Coefficient("number", 1.0 if abs(float(number) - 1) < 4 * eps else float(number))
    if a.ndim < 2:
        return Coefficient("text", None)
    vector = _ratio(a.flatten(0, -2), p.flatten(0, -2), eps)
    return Coefficient("text", None) if vector is None else Coefficient("vector", vector)


def in_one_row(a: torch.Tensor, p: torch.Tensor) -> bool:
    """Tell whether one holds the tokens of the other in one row, as (batch * n, d) or (batch, rows * columns, d)."""
    shapes = sorted((a.ndim, p.ndim))
    return shapes in ([2, 3], [3, 4]) and a.shape[-1] == p.shape[-1] and a.numel() == p.numel()


def _constant(p: torch.Tensor) -> Coefficient:
    """Return a constant as its own coefficient where it is the same for every token."""
    rows = p.flatten(0, -2) if p.ndim > 1 else p[None]
    return Coefficient("vector", rows[0]) if bool((rows == rows[0]).all()) else Coefficient("text", None)


def _ratio(a: torch.Tensor, p: torch.Tensor, eps: float) -> torch.Tensor | None:
    """Return p / a where that is the same in every row, up to rounding."""
    ratio = (a * p).sum(0) / (a * a).sum(0).clamp_min(torch.finfo(torch.float64).tiny)
    rounding = (_ROUNDINGS if eps < 1e-4 else _FEW) * eps
    wrong = (p - ratio * a).abs() > rounding * (ratio * a).abs()
    return None if bool(wrong.any()) else ratio


def _split(carrier: Atom, form: Form, t: torch.Tensor, norm: str, carriers: set[Atom]) -> list[RawStep]:
    """Split one segment into steps: another begins where a term reads the sum so far."""
    terms = _terms(carrier, form, carriers)
    total: Factors = {carrier: coefficient(carrier, form[carrier])}
    total |= {atom: term.coefficient for term in terms for atom in term.atoms}
    carrier_step = RawStep(
        start={carrier: ONE},
        skip=total[carrier],
        terms=tuple(terms),
        norm=norm,
        parts={atom: part.value for atom, part in form.items()},
        x=carrier.value,
        carried=form[carrier].value,
    )
    if any(factor.value is None for factor in total.values()):
        return [carrier_step]
    ends = [end for end in _sums_read(carrier, terms, total) if _common(end, total) is not None]
    steps: list[RawStep] = []
    done: Factors = {carrier: ONE}
    for end in [*ends, total]:
        skip = _common(done, end)
        if skip is None:  # this sum is no stage on the way from the one before
            continue
        new = [term for term in terms if term.atoms[0] in end and term.atoms[0] not in done]
        if new or not skip.is_one:
            steps.append(_stage(done, end, skip, new, steps[-1] if steps else carrier_step, first=not steps))
        done = end
    if done is not total:
        return [carrier_step]
    steps = steps or [carrier_step]
    if _misses(steps[-1], t):  # what is known of the factors is not enough to the last digit
        return [carrier_step]
    return [*steps[:-1], replace(steps[-1], norm=norm)]


def _misses(step: RawStep, t: torch.Tensor) -> bool:
    """Tell whether the parts of the last step do not sum to what the layer gave."""
    terms = [step.carried, *step.parts.values()]
    parts = torch.stack([part.expand(t.shape).double() for part in terms])
    scale = parts.abs().amax(0).amax(-1)
    return bool(((parts.sum(0) - t.double()).abs().amax(-1) > _CLOSE * torch.finfo(t.dtype).eps * scale).any())


def _stage(
    done: Factors, end: Factors, skip: Coefficient, new: Sequence[RawTerm], before: RawStep, *, first: bool
) -> RawStep:
    """Return the step from one sum to the next."""
    x = before.x if first else sum(before.parts.values(), before.carried)
    parts = {a: end[a] * (torch.ones_like(x) if a.role == "constant" else _shape_like(a.value, x)) for a in _atoms(new)}
    return RawStep(done, skip, tuple(_scale_term(term, end) for term in new), "", parts, x, skip * x)


def _atoms(terms: Sequence[RawTerm]) -> list[Atom]:
    return [term.atoms[0] for term in terms]


def _shape_like(a: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return a.reshape(x.shape) if a.numel() == x.numel() else a.expand(x.shape)


def _scale_term(term: RawTerm, end: Factors) -> RawTerm:
    return replace(term, coefficient=end[term.atoms[0]])


def _sums_read(carrier: Atom, terms: Sequence[RawTerm], total: Factors) -> list[Factors]:
    """Return the sums with the carrier in them that terms read, the shorter first."""
    sums: list[Factors] = []
    for term in terms:
        origin = term.reading.form
        if origin is None or carrier not in origin or len(origin) < 2 or not origin.keys() <= total.keys():
            continue
        factors = {atom: coefficient(atom, part) for atom, part in origin.items()}
        if all(set(factors) != set(other) for other in sums):
            sums.append(factors)
    return sorted(sums, key=len)


def _common(a: Factors, b: Factors) -> Coefficient | None:
    """Return the one factor from a to b of all atoms of a."""
    if not a.keys() <= b.keys():
        return None
    factors = [_quotient(b[atom], a[atom]) for atom in a]
    first = factors[0]
    if first is None or any(f is None or not same_factor(f, first) for f in factors[1:]):
        return None
    return first


def _quotient(b: Coefficient, a: Coefficient) -> Coefficient | None:
    if a.is_one:
        return b
    if a.value is None or b.value is None:
        return None
    quotient = torch.as_tensor(b.value, dtype=torch.float64) / torch.as_tensor(a.value, dtype=torch.float64)
    if not torch.isfinite(quotient).all():
        return None
    if quotient.ndim and float(quotient.max() - quotient.min()) > _SAME * float(quotient.abs().max()):
        return Coefficient("vector", quotient)
    number = float(quotient.mean())
    return Coefficient("number", 1.0 if abs(number - 1) < _SAME else number)


def same_factor(a: Coefficient, b: Coefficient) -> bool:
    if a.value is None or b.value is None:
        return False
    x, y = torch.broadcast_tensors(*(torch.as_tensor(c.value, dtype=torch.float64) for c in (a, b)))
    return bool(torch.allclose(x, y, rtol=_SAME, atol=0))


def _terms(carrier: Atom, form: Form, carriers: set[Atom]) -> list[RawTerm]:
    """Return the contributions of a sum in order; what one module returned in several calls is one term."""
    groups: dict[Any, list[Atom]] = {}
    for atom in sorted(form, key=lambda atom: atom.born):
        if atom is not carrier:
            key = atom.path if atom.role in ("module", "norm") and atom.path else atom
            groups.setdefault(key, []).append(atom)
    terms: list[RawTerm] = []
    for atoms in groups.values():
        alone = coefficient(atoms[0], form[atoms[0]]) if len(atoms) == 1 else Coefficient("text", None)
        reading = reading_of(atoms[0])
        if reading.norm in carriers:  # the norm that ended a step gave the stream itself
            reading = Reading(Form.of(reading.norm), None, reading.chain)
        terms.append(RawTerm(tuple(atoms), alone, reading))
    return terms


def reading_of(atom: Atom) -> Reading:
    """Return what of the stream an atom was made of, by the shortest way."""
    chain: list[Atom] = []
    raw: Reading | None = None
    todo, atoms = [atom], {atom}
    while todo:
        at = todo.pop(0)
        chain.append(at)
        for form in at.reads:
            norms = [a for a in form if a.role == "norm"]
            if norms and len(norms) == len(form):
                assert norms[0].source is not None
                # A norm that ends the step before is the stream itself.
                return Reading(norms[0].source[1], norms[0], tuple(chain))
            if form.carries:
                raw = raw or Reading(form, None, tuple(chain))
                continue
            fresh = [a for a in form if a not in atoms]
            atoms.update(fresh)
            todo += fresh
    if raw is None:
        return Reading(None, None, tuple(chain))
    norm = _norm_inside(atom, raw.form)
    return Reading(raw.form, norm, raw.chain)


def _norm_inside(atom: Atom, form: Form | None) -> Atom | None:
    """Return the norm through which a module itself sends the stream."""
    todo, atoms = [atom], {atom}
    while todo:
        at = todo.pop()
        for inner in [*at.reads, *([] if at.inner is None else [at.inner])]:
            for a in inner:
                if a.role == "norm" and a.source is not None and form is not None and set(a.source[1]) == set(form):
                    return a
                if a not in atoms and not a.carries:
                    atoms.add(a)
                    todo.append(a)
    return None
