"""x' = N(s x + 0) for a dropped F: what a traced network loses with a sublayer is its contribution and nothing else.

A module may give more than its contribution: keys that other layers share, indices, the state of a router. Whether its
absence is felt elsewhere is seen by running the network on eight tokens, once with the contributions set to zero and
once without the modules. A sublayer that is missed stays, and only what it adds to the stream is replaced.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from ctrlattn.checkpoints.network.families import Answer, Sublayer, sublayers
from ctrlattn.checkpoints.network.structure import Stand, place, shared, stand_in
from ctrlattn.checkpoints.network.traced_family import Traced
from ctrlattn.checkpoints.network.watch import Hook, first, hooked, stream_of
from ctrlattn.checkpoints.trace.inputs import short_inputs
from ctrlattn.errors import InputError

_ROUNDING = 1e4  # times the spacing of numbers at the largest value of the stream


def answers_of(family: Traced, model: Any, targets: Sequence[Sublayer]) -> dict[Sublayer, Answer]:
    """Return what the modules of these sublayers return, from one short pass.

    Raises
    ------
    InputError
        A module that did not run.
    """
    outputs: dict[Sublayer, tuple[int, torch.Tensor]] = {}
    direct: dict[Sublayer, bool] = {}

    def reader(sublayer: Sublayer) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            more = len(output) - 1 if isinstance(output, tuple) else 0
            outputs[sublayer] = (more, first(output))

        return hook

    def follower(sublayer: Sublayer) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            direct[sublayer] = len(args) + len(kwargs) == 1 and stream_of(args, kwargs) is outputs[sublayer][1]

        return hook

    hooks: list[Hook] = [(s.module, reader(s), False) for s in targets]
    hooks += [(s.out, follower(s), True) for s in targets if s.out is not s.module]
    with hooked(hooks), torch.no_grad():
        model(**short_inputs(model)[0])
    for sublayer in targets:
        if sublayer not in outputs:
            raise InputError(f"the {sublayer.kind} of layer {sublayer.layer} does not run on eight tokens")
    return {s: Answer(more, y.shape[-1], direct.get(s, s.out is s.module)) for s, (more, y) in outputs.items()}


def missed(family: Traced, model: Any, targets: Sequence[Sublayer]) -> set[tuple[int, str]]:
    """Return (layer, path) of the sublayers whose absence would change more than what they add to the stream.

    Raises
    ------
    ArithmeticError
        The network differs from one without the contributions even where the modules stay.
    """
    names = [(s.layer, s.path) for s in targets]
    with _without_contributions(targets):
        reference = _last_stream(family, model)
    if _is_same(reference, _last_stream_without(family, model, dict.fromkeys(names))):
        return set()
    stay: Stand = {"kept": None}
    stays = dict.fromkeys(names, stay)
    misses = {
        name for name in names if not _is_same(reference, _last_stream_without(family, model, {**stays, name: None}))
    }
    stands = {name: stay if name in misses else None for name in names}
    if not _is_same(reference, _last_stream_without(family, model, stands)):
        layer, path = names[0]
        raise ArithmeticError(
            f"without {path} of layer {layer} the network is not the one without what this adds to the stream: "
            "something else in it reads the module"
        )
    return misses


@contextmanager
def _without_contributions(targets: Sequence[Sublayer]) -> Iterator[None]:
    """Let these sublayers run inside the block, and add nothing."""

    def silence(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        zero = torch.zeros_like(first(output))
        return (zero, *output[1:]) if isinstance(output, tuple) else zero

    with hooked([(sublayer.out, silence, False) for sublayer in targets]):
        yield


def _last_stream_without(family: Traced, model: Any, stands: dict[tuple[int, str], Stand]) -> torch.Tensor | None:
    """Return the last stream of the network with these in the place of sublayers; None where it does not run."""
    smaller = shared(model)
    for sublayer in sublayers(family, smaller):
        name = (sublayer.layer, sublayer.path)
        if name in stands:
            place(family, smaller, sublayer, stand_in(sublayer, stands[name]))
    try:
        return _last_stream(family, smaller)
    # Whatever a foreign network raises where it misses a module: the answer is that it does.
    except (AttributeError, AssertionError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return None


def _last_stream(family: Traced, model: Any) -> torch.Tensor:
    """Return what the last layer hands on for eight tokens."""
    streams: list[torch.Tensor] = []

    def read(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        streams.append(first(output).clone())

    with hooked([(family.layers_of(model)[-1], read, False)]), torch.no_grad():
        model(**short_inputs(model)[0])
    return streams[-1]


def _is_same(reference: torch.Tensor, other: torch.Tensor | None) -> bool:
    if other is None or other.shape != reference.shape:
        return False
    size = float(reference.abs().max())
    return float((reference - other).abs().max()) <= _ROUNDING * torch.finfo(reference.dtype).eps * size
