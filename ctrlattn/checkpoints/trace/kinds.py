"""dF_t / dx_0, t > 0: what a contribution is, by what changes when one token of the stream that it reads does."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_map

from ctrlattn.checkpoints.trace.follow import Followed, stream_in
from ctrlattn.checkpoints.trace.steps import RawTerm
from ctrlattn.checkpoints.trace.structure import TermKind

_ROUNDINGS, _LEAST = 64, 0.05  # of what counts as a change; the second holds for bfloat16


def called_again(
    layer: Any, call: Followed, x: torch.Tensor, paths: Iterable[str], put: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """What modules of a layer return first when the layer is called again with another stream.

    Parameters
    ----------
    layer : torch module
    call : Followed
    x : tensor
        In the place of the stream.
    paths : iterable of str
        Modules of the layer.
    put : dict
        What goes on in the place of what a module returned, so that the stream behind it is the same as before.
    """
    values: dict[str, torch.Tensor] = {}

    def reader(path: str) -> Any:
        def hook(module: Any, args: Any, output: Any) -> Any:
            t = stream_in(output)
            if t is None:
                return None
            values.setdefault(path, t.clone())
            return None if path not in put else replaced(output, t, put[path])

        return hook

    handles = [layer.get_submodule(path).register_forward_hook(reader(path)) for path in paths]
    places = iter(range(1 << 30))

    def given(t: Any) -> Any:
        if not isinstance(t, torch.Tensor):
            return t
        return x.clone() if next(places) == call.position else t

    args, kwargs = tree_map(given, (call.args, call.kwargs))
    try:
        with torch.no_grad():
            values[""] = stream_in(layer(*args, **kwargs))  # type: ignore[assignment]
    finally:
        for handle in handles:
            handle.remove()
    return values


def replaced(output: Any, t: torch.Tensor, new: torch.Tensor) -> Any:
    """What a module returned, with another tensor in the place of t."""
    return tree_map(lambda leaf: new.clone() if leaf is t else leaf, output)


def other_token(x: torch.Tensor, axis: int, token: int) -> torch.Tensor:
    """x with another vector of the same size at one token.

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
    """Whether some of these tokens are not the same up to rounding."""
    start, stop, _ = tokens.indices(a.shape[axis])
    if a.shape != b.shape or stop <= start:
        return False
    a, b = (t.narrow(axis, start, stop - start).double().flatten(0, -2) for t in (a, b))
    eps = min(_ROUNDINGS * torch.finfo(torch.float32).eps, _LEAST)
    scale = a.abs().amax(-1).maximum(b.abs().amax(-1))
    return bool(((a - b).abs().amax(-1) > eps * scale).any())


def kinds_of(layer: Any, call: Followed, terms: Sequence[RawTerm], axis: int) -> tuple[list[TermKind], bool]:
    """The kind of each term, and whether no token changes when the last one does."""
    values = {term.path: term.atoms[0].value for term in terms if term.path and len(term.atoms) == 1}
    first = called_again(layer, call, other_token(call.x, axis, 0), values, values)
    last = called_again(layer, call, other_token(call.x, axis, -1), values, values)
    kinds: list[TermKind] = []
    causal = True
    for term in terms:
        before = term.atoms[0].value
        own = axis if before.shape == call.x.shape else -2
        mixes = term.path in values and differs(first[term.path], before, own, slice(1, None))
        causal = causal and not (term.path in values and differs(last[term.path], before, own, slice(0, -1)))
        kinds.append(_kind(call, term, mixes))
    return kinds, causal


def _kind(call: Followed, term: RawTerm, mixes: bool) -> TermKind:
    shapes = [shape for atom in term.reading.chain for shape in call.matrices.get(atom.path, [])]
    square = [shape for shape in shapes if shape[-2] in (shape[-1], shape[-1] - 1)]
    if term.reading.form is None:
        return "constant"
    if square:
        return "attention"
    if mixes:
        return "mixer"
    return "cross" if shapes else "mlp"
