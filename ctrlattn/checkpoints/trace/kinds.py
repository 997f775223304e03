"""dF_t / dx_0, t > 0: what a contribution is, by what changes when one token of the stream that it reads does."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from ctrlattn.checkpoints.trace.follow import Followed, stream_in
from ctrlattn.checkpoints.trace.steps import RawStep, RawTerm
from ctrlattn.checkpoints.trace.structure import TermKind
from ctrlattn.errors import InputError

_MIXING = (
    "bmm",
    "matmul",
    "einsum",
    "convolution",
    "cumsum",
    "_fft",
    "_softmax",
    "_scaled_dot",
    "roll",
    "flip",
    "scatter",
)
_FINE, _COARSE = 1e-5, 0.03  # of a token: less is rounding, in float32 and finer, and in 16 bits


def called_again(
    layer: Any, call: Followed, x: torch.Tensor, paths: Iterable[str], put: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return what modules of a layer give first when the layer is called again with another stream.

    Parameters
    ----------
    layer : torch module
    call : Followed
    x : tensor
        It goes in the place of the stream.
    paths : iterable of str
        Modules of the layer.
    put : dict
        What goes on in the place of what a module returned, so that the stream behind it is the same as before.
    """
    values: dict[str, torch.Tensor] = {}

    def reader(path: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            t = stream_in(output)
            if t is not None:
                values.setdefault(path, t.clone())

        return hook

    handles = [layer.get_submodule(path).register_forward_hook(reader(path)) for path in paths]
    args, kwargs = with_stream(call, x)
    try:
        with torch.no_grad(), substituted(layer, put):
            y = stream_in(layer(*args, **kwargs))
    except Exception as error:  # a layer may raise anything when its call has changed what it was given
        raise InputError(
            f"layer {call.path} cannot be called again with another stream ({type(error).__name__}): its call changes "
            "what it was given, so that the kinds of its parts cannot be judged"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    values[""] = call.x if y is None else y
    return values


def with_stream(call: Followed, x: torch.Tensor) -> Any:
    """Return the arguments of a call with another stream, wherever it was given: as query, key and value, say."""
    leaves = [t for t in tree_leaves((call.args, call.kwargs)) if isinstance(t, torch.Tensor)]
    stream = leaves[call.position]
    return tree_map(lambda t: x.clone() if t is stream else t, (call.args, call.kwargs))


def replaced(output: Any, t: torch.Tensor, new: torch.Tensor) -> Any:
    """Return what a module gave, with another tensor in the place of t."""
    return tree_map(lambda leaf: new.clone() if leaf is t else leaf, output)


def other_token(x: torch.Tensor, axis: int, token: int) -> torch.Tensor:
    """Return x with another vector of the same size at one token.

    >>> x = torch.ones(1, 3, 2)
    >>> (other_token(x, 1, 0) != x).any(-1).tolist()
    [[True, False, False]]
    """
    changed = x.clone()
    place = changed.select(axis, token)
    noise = torch.randn(place.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    place.copy_(noise.to(x) * place.double().square().mean().sqrt().to(x))
    return changed


def differs(a: torch.Tensor, b: torch.Tensor, axis: int, tokens: slice) -> bool:
    """Tell whether some of these tokens are not the same up to rounding."""
    start, stop, _ = tokens.indices(a.shape[axis])
    if a.shape != b.shape or stop <= start:
        return False
    eps = _COARSE if torch.finfo(a.dtype).eps > _FINE else _FINE
    a, b = (t.narrow(axis, start, stop - start).double().flatten(0, -2) for t in (a, b))
    scale = a.abs().amax(-1).maximum(b.abs().amax(-1))
    return bool(((a - b).abs().amax(-1) > eps * scale).any())


def kinds_of(model: Any, call: Followed, steps: Sequence[RawStep], axis: int) -> tuple[list[TermKind], bool]:
    """Return the kind of each term, and whether no token changes when the last one does.

    Raises
    ------
    InputError
        The layer cannot be called again; what mixes tokens without a module of its own hides what comes behind it.
    """
    terms = [term for step in steps for term in step.terms]
    values = {term.path: term.atoms[0].value for term in terms if term.path and len(term.atoms) == 1}
    first, last = (_changes(model, call, steps, values, axis, token) for token in (0, -1))
    kinds: list[TermKind] = []
    causal = True
    for term in terms:
        is_named = term.path in values and term.reading.form is not None
        mixes = _has_changed(call, term, first, axis, slice(1, None)) if is_named else _mixes_by_operations(term)
        kinds.append(_kind(call, term, axis, mixes))
        causal = causal and not (is_named and _has_changed(call, term, last, axis, slice(0, -1)))
    _require_apart(call, steps, kinds, values)
    if any(term.path not in values for term in terms) and call.out is not None:
        outputs = called_again(model.get_submodule(call.path), call, other_token(call.x, axis, -1), (), {})
        causal = causal and not differs(outputs[""], call.out, axis, slice(0, -1))
    return kinds, causal


def _changes(
    model: Any, call: Followed, steps: Sequence[RawStep], values: dict[str, torch.Tensor], axis: int, token: int
) -> dict[str, torch.Tensor]:
    """Return what the contributions are when one token of every stream that they read is another one."""
    put = dict(values)
    for step, after in pairwise(steps):
        if step.norm and after.x.shape == call.x.shape:
            put.setdefault(step.norm, other_token(after.x, axis, token))
    return called_again(model.get_submodule(call.path), call, other_token(call.x, axis, token), put, put)


def _has_changed(call: Followed, term: RawTerm, values: dict[str, torch.Tensor], axis: int, tokens: slice) -> bool:
    """Tell whether some of these tokens of a contribution are others than they were."""
    before, after = term.atoms[0].value, values[term.path]
    if before.shape != after.shape:
        return False
    if before.shape[-1] == call.x.shape[-1] and before.numel() == call.x.numel():
        return differs(after.reshape(call.x.shape), before.reshape(call.x.shape), axis, tokens)
    return differs(after, before, -2, tokens)


def _mixes_by_operations(term: RawTerm) -> bool:
    """Tell whether some operation behind a contribution that no module returns can mix tokens."""
    names = {atom.path.rpartition(".")[2] for atom in term.reading.chain if atom.role == "operation"}
    return any(name.startswith(_MIXING) for name in names)


def _require_apart(
    call: Followed, steps: Sequence[RawStep], kinds: Sequence[TermKind], values: dict[str, torch.Tensor]
) -> None:
    terms = iter(kinds)
    hidden = False
    for step in steps:
        pairs = [(term, next(terms)) for term in step.terms]
        if hidden and any(kind == "mixer" for _, kind in pairs):
            raise InputError(
                f"layer {call.path} mixes tokens in operations of its own, outside a module: what comes behind them "
                "cannot be told from attention"
            )
        hidden = hidden or any(term.path not in values and kind in ("attention", "mixer") for term, kind in pairs)
        hidden = hidden and not step.norm


@contextmanager
def substituted(layer: Any, put: dict[str, torch.Tensor]) -> Iterator[None]:
    """Let the first call of each of these modules inside the block return another tensor first."""

    def hook_of(path: str) -> Any:
        queue = [put[path]]

        def hook(module: Any, args: Any, output: Any) -> Any:
            t = stream_in(output)
            return None if t is None or not queue else replaced(output, t, queue.pop())

        return hook

    handles = [layer.get_submodule(path).register_forward_hook(hook_of(path)) for path in put]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _kind(call: Followed, term: RawTerm, axis: int, mixes: bool) -> TermKind:
    if term.reading.form is None:
        return "constant"
    inner, around = (
        over_rows([s for atom in term.reading.chain for s in call.matrices.get(of(atom.path), [])], call.x.shape, axis)
        for of in (str, lambda path: path.rpartition(".")[0])
    )
    # (heads, n, n) may also be the gate of n experts, and what is around a part may be that of another one: neither
    # mixes the tokens of this one.
    if any(_square(shape) and (len(shape) > 3 or mixes) for shape in inner):
        return "attention"
    if mixes and any(_square(shape) for shape in around):
        return "attention"
    if mixes:
        return "mixer"
    return "cross" if any(len(shape) > 3 for shape in inner) else "mlp"


def over_rows(shapes: Sequence[tuple[int, ...]], x: Sequence[int], axis: int) -> list[tuple[int, ...]]:
    """Leave out the matrices (batch, heads, m, m) that have fewer rows than there are tokens: they mix features.

    Several matrices may have a row for each token together, and a stream of several copies of a token has one for all.

    >>> over_rows([(1, 2, 4, 4)], x=(1, 8, 16), axis=1), over_rows([(1, 2, 4, 4)], x=(1, 4, 3, 16), axis=1)
    ([], [(1, 2, 4, 4)])
    >>> over_rows([(1, 2, 4, 4), (1, 2, 2, 4, 8)], x=(1, 12, 16), axis=1)
    [(1, 2, 4, 4), (1, 2, 2, 4, 8)]
    """
    count = math.prod(x[:-1])
    together = sum(math.prod(shape[:-3]) * shape[-2] for shape in set(shapes))
    copied = len(x) > 3
    return [s for s in shapes if len(s) != 4 or together >= count or (copied and s[-2] == x[axis])]


def over_tokens(model: Any, call: Followed, path: str, axis: int) -> bool:
    """Tell whether a matrix returned alone is over tokens: another token 0 leaves the rest in proportion.

    A softmax of q_i k_j has the same ratios between keys 1, 2, ... in the rows of all other tokens. One over features
    has sums over all tokens in its logits.
    """
    before = call.bare[path].double()
    after = called_again(model.get_submodule(call.path), call, other_token(call.x, axis, 0), [path], {}).get(path)
    if after is None or after.shape != before.shape or before.shape[-2] < 2:
        return False
    a, b = (t[..., 1:, 1:] / t[..., 1:, 1:].sum(-1, keepdim=True) for t in (before, after.double()))
    return bool(torch.allclose(a, b, rtol=0, atol=_COARSE if torch.finfo(after.dtype).eps > _FINE else _FINE))


def _square(shape: tuple[int, ...]) -> bool:
    """Tell whether a matrix is (n, n), or has one more column for a sink."""
    return shape[-2] in (shape[-1], shape[-1] - 1)
