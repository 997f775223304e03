"""One pass of a network in which every tensor that depends on a layer's stream is followed with its linear parts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ctrlattn.checkpoints.trace.forms import Atom, AtomPart, Form, joined
from ctrlattn.checkpoints.trace.norms import forgets_size
from ctrlattn.checkpoints.trace.rules import RULES, Operation, several

_NORMS = ("native_layer_norm", "_fused_rms_norm", "native_group_norm")
_SOFTMAX = ("_softmax", "_safe_softmax")
_FUSED = "_scaled_dot_product"  # attention whose matrix nobody sees


@dataclass(eq=False)
class Followed:
    """What one call of a layer did.

    Attributes
    ----------
    path : str
        Path from the model to the layer.
    x, out : tensor
        The stream in front of it and behind it.
    form : Form or None
        The parts of `out`; None where it does not depend on x.
    args, kwargs
        What the layer was called with.
    position : int
        Place of x among the tensors of args and kwargs.
    matrices : dict
        Path of a module in the layer -> shapes of the attention matrices that were seen inside it.
    returned : dict
        Path of a module -> the attention matrix that it returned, where it is the only one seen inside it.
    bare : dict
        Path of a module that returns nothing but the attention matrix, such as its dropout -> that matrix.
    """

    path: str
    x: torch.Tensor
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    position: int
    out: torch.Tensor | None = None
    form: Form | None = None
    matrices: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    returned: dict[str, torch.Tensor] = field(default_factory=dict)
    bare: dict[str, torch.Tensor] = field(default_factory=dict)


class Follower(TorchDispatchMode):
    """Keeps the form of every tensor that depends on the stream of the layer that is running."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = 0
        self._forms: dict[int, Form] = {}
        self._alive: list[torch.Tensor] = []  # an id says which tensor it is only while the tensor lives
        self.softmaxes: list[torch.Tensor] = []
        self.where: list[str] = []

    def clear(self) -> None:
        """Forget every tensor."""
        self._forms.clear()
        self._alive.clear()
        self.softmaxes.clear()
        self.where.clear()

    def form(self, t: Any) -> Form | None:
        """Return the parts of a tensor; None where it does not depend on the stream."""
        return self._forms.get(id(t)) if isinstance(t, torch.Tensor) else None

    def put(self, t: torch.Tensor, form: Form) -> None:
        """Say what the parts of a tensor are."""
        self._forms[id(t)] = form
        self._alive.append(t)

    def atom(self, role: Any, path: str, t: torch.Tensor, **more: Any) -> Atom:
        """Return a new atom, born now."""
        self.clock += 1
        return Atom(role, path, t.clone(), born=self.clock, **more)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self._follow(func, args, kwargs, result)
        return result

    def _follow(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        name = func._schema.name.split("::")[1]
        if name in _SOFTMAX:
            self.softmaxes.append(result)
        elif name.startswith(_FUSED):
            self.softmaxes.append(_unseen_matrix(*args[:2]))
        followed = [form for t in _operands(args, kwargs) if (form := self.form(t)) is not None]
        outs = [t for t in (result if isinstance(result, tuple | list) else (result,)) if isinstance(t, torch.Tensor)]
        if not followed or not outs:
            return
        forms = self._by_rule(func, name, args, kwargs, result, outs)
        for i, t in enumerate(outs):
            form = forms[i] if i < len(forms) else None
            if form is None:
                form = self._opaque(name, t, followed, args[0] if args else None, first=i == 0)
            self.put(t, form)
            if func._schema.is_mutable and i == 0:
                self._changed_under(t, form)

    def _by_rule(
        self, func: Any, name: str, args: Any, kwargs: Any, result: Any, outs: Sequence[torch.Tensor]
    ) -> Sequence[Form | None]:
        in_place = func._schema.is_mutable
        base = name if name.startswith("_") else name.rstrip("_")
        rule = RULES.get(base)
        # What an operation in place was given is gone, unless its parts are known.
        lost = in_place and base != "copy" and self.form(args[0]) is None
        if rule is None or lost or not all(t.is_floating_point() for t in outs):
            return ()
        # A rule takes parts through the operation that took the whole: a part may fail only by its memory layout.
        op = Operation(func, args, kwargs, result, self.form, in_place, self._constant)
        forms = rule(op)
        if base == "native_dropout":
            forms = [forms] if isinstance(forms, Form) else None
        return [forms] if forms is None or isinstance(forms, Form) else forms

    def _constant(self, t: torch.Tensor) -> Atom:
        return self.atom("constant", ".".join(self.where[-1:]), t)

    def _opaque(self, name: str, t: torch.Tensor, followed: list[Form], a: Any, *, first: bool) -> Form:
        path = ".".join([*self.where[-1:], name])
        form = self.form(a)
        if name in _NORMS and first and form is not None and form.carries:
            return Form.of(self.atom("norm", "", t, reads=(form,), source=(a.clone(), form)))
        return Form.of(self.atom("operation", path, t, reads=tuple(followed)))

    def _changed_under(self, t: torch.Tensor, form: Form) -> None:
        """Change the form of the tensor that a changed view looks into."""
        whole = t._base
        before = self.form(whole)
        if whole is None or whole is t or before is None:
            return
        if whole.numel() == t.numel():
            self.put(whole, form.through(lambda p: p.reshape(whole.shape)))
            return

        def put_in(pieces: Sequence[torch.Tensor]) -> torch.Tensor:
            changed = pieces[0].expand(whole.shape).clone()
            view = changed.as_strided(t.shape, t.stride(), t.storage_offset() - whole.storage_offset())
            view.copy_(pieces[1])
            return changed

        parts = Form()
        for atom in {**before, **form}:
            pair = [f[atom] if atom in f else AtomPart(torch.zeros_like(s)) for f, s in ((before, whole), (form, t))]
            parts[atom] = joined(pair, put_in)
        self.put(whole, parts)


def _operands(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Any]:
    """Yield what an operation of torch is given; lists are its only trees, and a general walk takes longer."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, list | tuple):
            yield from value
        else:
            yield value


class _Seen(BaseException):
    """Every call that was asked for has ended. No network catches it as an error of its own."""


class _Watch:
    """Hooks on the layers and on every module inside them."""

    def __init__(self, model: Any, layers: Sequence[str], most: int | None):
        self.follower = Follower()
        self.most = most
        self.calls: list[Followed] = []
        self.layers: dict[int, str] = {id(model.get_submodule(path)): path for path in layers}
        self.paths = {
            id(module): name
            for path in layers
            for name, module in model.get_submodule(path).named_modules(remove_duplicate=False)
            if name
        }
        self.entered: list[tuple[Any, int, int, list[torch.Tensor]]] = []
        self.current: Any = None
        self.judging = False  # a norm is called again to see whether it is one

    def before(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        follower = self.follower
        if self.current is None:
            if id(module) in self.layers:
                self._open(module, args, kwargs)
            return
        if id(module) in self.paths and not self.judging:
            follower.where.append(self.paths[id(module)])
            inputs = [t for t in tree_leaves((args, kwargs)) if follower.form(t) is not None]
            self.entered.append((module, follower.clock, len(follower.softmaxes), inputs))

    def _open(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        follower = self.follower
        x, position = stream_among(args, kwargs)
        if x is None:
            return
        follower.clear()
        call = Followed(self.layers[id(module)], x.clone(), args, kwargs, position)
        follower.put(x, Form.of(Atom("stream", "", call.x)))
        self.calls.append(call)
        self.current, self.entered = module, []
        follower.__enter__()

    def after(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        follower = self.follower
        if module is self.current:
            self.close()
            call = self.calls[-1]
            y = stream_in(output)
            if y is not None:
                call.out, call.form = y.clone(), follower.form(y)
            if len(self.calls) == self.most:
                raise _Seen
        elif self.current is not None and not self.judging and self.entered and self.entered[-1][0] is module:
            self.judging = True
            follower.__exit__(None, None, None)
            _, born, softmaxes, inputs = self.entered.pop()
            follower.where.pop()
            path = self.paths[id(module)]
            self._matrices(path, follower.softmaxes[softmaxes:], output)
            t = stream_in(output)
            if t is not None and all(t is not source for source in inputs):
                self._name(path, t, born, inputs)
            follower.__enter__()
            self.judging = False

    def close(self) -> None:
        """Follow no operation until the next layer."""
        if self.current is not None and not self.judging:
            self.follower.__exit__(None, None, None)
        self.current = None

    def _matrices(self, path: str, softmaxes: list[torch.Tensor], output: Any) -> None:
        call = self.calls[-1]
        call.matrices[path] = [tuple(t.shape) for t in softmaxes if t.ndim > 2]
        matrix = matrix_in(output)
        if matrix is not None and len(softmaxes) == 1 and same_matrix(matrix, softmaxes[0]):
            call.returned[path] = matrix.clone()
        last = self.follower.softmaxes[-1:]
        if isinstance(output, torch.Tensor) and last and output.ndim == 4 and same_matrix(output, last[0]):
            call.bare[path] = output.clone()

    def _name(self, path: str, t: torch.Tensor, born: int, inputs: list[torch.Tensor]) -> None:
        """Make what a module returns an atom, unless it only adds, scales or hands on what there was before it."""
        follower = self.follower
        form = follower.form(t)
        if form is None:
            return
        if form.carries:
            norm = None if not (form.bent or _nameless(form)) else self._norm(path, t, inputs)
            if norm is not None:
                follower.put(t, Form.of(norm))
            if norm is not None or not form.bent or several(form):
                return
        elif all(atom.born <= born and not part.by_text for atom, part in form.items()):
            return
        reads = tuple(f for z in inputs if (f := follower.form(z)) is not None)
        follower.put(t, Form.of(follower.atom("module", path, t, reads=reads, inner=form)))

    def _norm(self, path: str, t: torch.Tensor, inputs: list[torch.Tensor]) -> Atom | None:
        follower = self.follower
        z = next((z for z in inputs if z.shape == t.shape), None)
        form = None if z is None else follower.form(z)
        if z is not None and form is not None and form.carries and forgets_size(self._module(path), z, t):
            return follower.atom("norm", path, t, reads=(form,), source=(z.clone(), form))
        return None

    def _module(self, path: str) -> Any:
        return self.current.get_submodule(path)


def _unseen_matrix(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Make an empty stand-in of softmax(q k) inside fused attention: it equals nothing that a module returns.

    >>> _unseen_matrix(torch.ones(1, 2, 5, 3), torch.ones(1, 2, 5, 3)).shape
    torch.Size([1, 2, 5, 5])
    """
    return q.new_full((), torch.nan).expand(*q.shape[:-1], k.shape[-2])


def _nameless(form: Form) -> bool:
    """Tell whether the form is a norm that an operation made, and no module yet."""
    return all(atom.role == "norm" and not atom.path for atom in form)


def stream_among(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[torch.Tensor | None, int]:
    """Return the stream among the arguments of a layer, and its place among their tensors; (None, -1) for none."""
    stream = kwargs.get("hidden_states")
    if not isinstance(stream, torch.Tensor) and args and _streams(args[0]):
        return args[0], 0  # without a walk through all that a module is given
    leaves = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    for i, t in enumerate(leaves):
        if (t is stream) if isinstance(stream, torch.Tensor) else _streams(t):
            return t, i
    return None, -1


def _streams(t: Any) -> bool:
    return isinstance(t, torch.Tensor) and t.is_floating_point() and t.ndim > 1


def stream_in(output: Any) -> torch.Tensor | None:
    """Return the first floating tensor that a module gave."""
    if isinstance(output, torch.Tensor) and output.is_floating_point():
        return output
    return next((t for t in tree_leaves(output) if isinstance(t, torch.Tensor) and t.is_floating_point()), None)


def matrix_in(output: Any) -> torch.Tensor | None:
    """Return the one tensor (batch, heads, n, n) that a module gives beside its output; None for none or several."""
    beside = output[1:] if isinstance(output, tuple) else ()
    matrices = [t for t in beside if isinstance(t, torch.Tensor) and t.ndim == 4]
    return matrices[0] if len(matrices) == 1 else None


def matrix_of(output: Any) -> torch.Tensor | None:
    """Return the one tensor (batch, heads, n, n) that a module gives, beside its output or alone."""
    return output if isinstance(output, torch.Tensor) and output.ndim == 4 else matrix_in(output)


def same_matrix(matrix: torch.Tensor, softmax: torch.Tensor) -> bool:
    """Tell whether a returned matrix is what a softmax gave; a sink's column may be gone."""
    if matrix.ndim != softmax.ndim or matrix.shape[:-1] != softmax.shape[:-1] or matrix.shape[-1] > softmax.shape[-1]:
        return False
    return bool(torch.equal(matrix, softmax[..., : matrix.shape[-1]].to(matrix.dtype)))


@contextmanager
def followed(model: Any, layers: Sequence[str], most: int | None = None) -> Iterator[list[Followed]]:
    """Record the calls of these layers inside the block, each with the parts of what it gave.

    Parameters
    ----------
    model : torch module
    layers : sequence of str
        Paths from the model; no layer inside another.
    most : int, optional
        The block ends after so many calls.
    """
    watch = _Watch(model, layers, most)
    modules = {id(m): m for path in layers for m in model.get_submodule(path).modules()}
    handles = [m.register_forward_pre_hook(watch.before, with_kwargs=True) for m in modules.values()]
    handles += [m.register_forward_hook(watch.after, with_kwargs=True) for m in modules.values()]
    try:
        with torch.no_grad(), suppress(_Seen):
            yield watch.calls
    finally:
        watch.close()
        for handle in handles:
            handle.remove()
