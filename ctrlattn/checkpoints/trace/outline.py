"""What a layer does with what its modules return: two layers of one outline may differ inside of their attention.

A layer whose attention has a window, or reads the keys of another one, adds it to the stream in the same way. Where the
code, the settings and the modules outside of it are the same, such a layer is held to the steps of the one that was
followed. That the other module is attention too is seen by the matrix that it returns: rows of weights that sum to 1.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from ctrlattn.checkpoints.trace.layers import Visit
from ctrlattn.checkpoints.trace.structure import Call, Term
from ctrlattn.checkpoints.trace.weighted import inside

Signature = Sequence[tuple[Any, ...]]  # of a layer: its modules in order, the name of each first
MatrixShapes = dict[str, list[tuple[int, ...]]]
_SUM = 1e-3  # of a row of weights, at most so far from 1 in the types that weights are returned in


def outline_of(signature: Signature) -> tuple[Any, ...]:
    """Return the layer itself, and the names and types of the modules that it has itself.

    >>> outline_of([("", "Layer", 0), ("mlp", "MLP", 1), ("mlp.up", "Linear", 2)])
    (('', 'Layer', 0), (('mlp', 'MLP'),))
    """
    layer, *modules = signature
    return layer, tuple(each[:2] for each in modules if "." not in each[0])


def other_inside(first: Signature, other: Signature, makers: Collection[str]) -> set[str] | None:
    """Return the modules that make contributions and differ; None where the layers differ outside of these.

    >>> a = [("", "Layer"), ("attn", "Attention", "full"), ("attn.k", "Linear"), ("mlp", "MLP")]
    >>> b = [("", "Layer"), ("attn", "Attention", "window"), ("mlp", "MLP")]
    >>> other_inside(a, b, ["attn", "mlp"]), other_inside(a, b, ["attn.k", "mlp"])
    ({'attn'}, None)
    """
    if _signature_without(first, makers) != _signature_without(other, makers):
        return None
    return {maker for maker in makers if _signature_within(first, maker) != _signature_within(other, maker)}


def _signature_without(signature: Signature, makers: Collection[str]) -> Signature:
    return [each for each in signature if not inside(each[0], makers)]


def _signature_within(signature: Signature, maker: str) -> Signature:
    return [each for each in signature if inside(each[0], [maker])]


def matrices_of(
    call: Call,
    parts: Mapping[str, Collection[str]],
    others: Collection[str],
    inner: Mapping[str, Visit],
    reference: MatrixShapes,
) -> MatrixShapes | None:
    """Return the shapes of the matrices inside each module of a layer, where each one that differs is attention.

    Parameters
    ----------
    call : Call
        The call of the layer that was followed.
    parts : mapping
        Path of each term -> the modules that make it.
    others : collection of str
        Modules that differ.
    inner : mapping
        Path -> visit of the modules of the other layer, with the matrix that each returned.
    reference : dict
        The shapes inside the modules of the layer that was followed.

    Returns
    -------
    dict or None
        None where a module that differs makes no attention, or none whose matrix is returned behind a norm outside.
    """
    shapes = {path: its for path, its in reference.items() if not inside(path, others)}
    explained: set[str] = set()
    for term in call.terms:
        differing = set(parts[term.path]) & set(others)
        if not differing:
            continue
        visit = inner.get(term.matrix)
        if visit is None or not _attends(term, visit.matrix) or not term.norm or inside(term.norm, others):
            return None
        assert visit.matrix is not None
        around = [path for path in reference if inside(term.matrix, [path])]
        shapes |= {path: [tuple(visit.matrix.shape)] for path in around}
        explained |= differing
    return shapes if explained == set(others) else None


def _attends(term: Term, matrix: torch.Tensor | None) -> bool:
    """Tell whether a module that makes attention returned weights whose rows sum to 1."""
    if term.kind != "attention" or matrix is None or not matrix.is_floating_point():
        return False
    return bool((matrix >= 0).all()) and bool(((matrix.double().sum(-1) - 1).abs() <= _SUM).all())
