"""x, c F of every sublayer, whatever sublayers the layers have: what a traced network's profile is measured on.

A layer has its own sublayers: attention or a mixer, one MLP or two. They stand in slots, "attention", "mixer", "mlp",
"mlp 2", one for each kind and number that some layer has; a layer without one has nan there.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ctrlattn.checkpoints.measure.matrices import fault_of
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import Sublayer, at, leads
from ctrlattn.checkpoints.network.inputs import inputs_of
from ctrlattn.checkpoints.network.watch import Hook, attention, first, stream_of, watch
from ctrlattn.checkpoints.trace.follow import matrix_of
from ctrlattn.errors import InputError


class SublayerSignals(NamedTuple):
    """Signals of one text.

    Attributes
    ----------
    slots : tuple of str
    state : (L + 1, n, d)
        The stream in front of every layer, and behind the last.
    x, F : (L, slots, n, d)
        The stream that each sublayer adds to, and what it adds; nan where a layer has none.
    matrices : tuple of (heads, n, n) or None
        Attention of each layer; None where there is no matrix.
    """

    slots: tuple[str, ...]
    state: np.ndarray
    x: np.ndarray
    F: np.ndarray
    matrices: tuple[np.ndarray | None, ...]


def slots_of(sublayers: Sequence[Sublayer]) -> dict[Sublayer, str]:
    """Name the slot of each sublayer: its kind, with a number from the second of a kind in a layer on."""
    counts: Counter[tuple[int, str]] = Counter()
    slots = {}
    for sublayer in sublayers:
        counts[sublayer.layer, sublayer.kind] += 1
        number = counts[sublayer.layer, sublayer.kind]
        slots[sublayer] = sublayer.kind if number == 1 else f"{sublayer.kind} {number}"
    return slots


def in_order(slots: dict[Sublayer, str]) -> tuple[str, ...]:
    """Return all slots in the order of a layer: by step, then by name."""
    place: dict[str, int] = {}
    for sublayer, name in slots.items():
        place[name] = max(place.get(name, 0), sublayer.step)
    return tuple(sorted(place, key=lambda name: (place[name], name)))


def sublayer_signals(checkpoint: Checkpoint, ids: Any, *, with_matrices: bool = True) -> SublayerSignals:
    """Record one pass.

    Parameters
    ----------
    checkpoint : Checkpoint
    ids : (n,) token ids, str, or image
        As in `tap`.
    with_matrices : bool
        False records no attention matrix.

    Returns
    -------
    SublayerSignals
        float64, whatever the network's dtype.

    Raises
    ------
    InputError
        As `tap`; signals that are not finite; a factor that depends on the text; a layer that is called more than once.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> signals = sublayer_signals(checkpoints.load(transformers.GPT2Model(config)), [1, 2, 3])
    >>> signals.slots, signals.F.shape
    (('attention', 'mlp'), (2, 2, 3, 8))
    """
    inputs = inputs_of(checkpoint, ids)
    slots = slots_of(checkpoint.sublayers())
    names, count = in_order(slots), len(checkpoint.layers)
    pairs: dict[tuple[int, str], tuple[np.ndarray, np.ndarray]] = {}
    streams: list[np.ndarray] = []
    matrices: dict[int, np.ndarray] = {}

    def on(sublayer: Sublayer, x: torch.Tensor, u: torch.Tensor, F: torch.Tensor) -> None:
        place = (sublayer.layer, slots[sublayer])
        if place in pairs:
            raise InputError(f"layer {sublayer.layer} runs more than once: its sublayers have several signals each")
        pairs[place] = (_tokens(x), _tokens(sublayer.added(F)))

    hooks = [*_streams(checkpoint, streams), *(_matrices(slots, checkpoint, matrices) if with_matrices else ())]
    with attention(checkpoint.model, "eager"), watch(slots, on, more=hooks), torch.no_grad():
        checkpoint.model(**inputs)
    state = np.stack(streams)
    gap = np.full(state.shape[1:], np.nan)
    x, F = (
        np.stack([[pairs.get((i, name), (gap, gap))[side] for name in names] for i in range(count)]) for side in (0, 1)
    )
    for (layer, name), (_, contribution) in pairs.items():
        if not np.isfinite(contribution).all():
            raise InputError(f"the {name} of layer {layer} gives values that are not finite")
    return SublayerSignals(names, state, x, F, tuple(matrices.get(i) for i in range(count)))


def _streams(checkpoint: Checkpoint, streams: list[np.ndarray]) -> list[Hook]:
    def before(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        streams.append(_array(stream_of(args, kwargs)[0]))

    def after(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        streams.append(_array(first(output)[0]))

    layers = checkpoint.layers
    return [*((layer, before, True) for layer in layers), (layers[-1], after, False)]


def _matrices(slots: dict[Sublayer, str], checkpoint: Checkpoint, matrices: dict[int, np.ndarray]) -> list[Hook]:
    def reader(layer: int) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            a = matrix_of(output)
            if a is not None and not fault_of(a, causal=checkpoint.causal):
                matrices[layer] = _array(a[0])

        return hook

    layers, path = checkpoint.layers, checkpoint.family.matrix
    where = {s.layer: s.matrix or path for s in slots if s.kind == "attention"}
    paths = {i: name for i, name in where.items() if name and leads(layers[i], name)}
    return [(at(layers[i], name), reader(i), False) for i, name in paths.items()]


def _tokens(x: torch.Tensor) -> np.ndarray:
    """Return the (tokens, d) of one text; OPT's MLP reads all tokens of a batch in one row of them."""
    return _array(x if x.ndim == 2 else x[0])


def _array(x: torch.Tensor) -> np.ndarray:
    """Copy a tensor in float64: some networks add in place."""
    return x.detach().to("cpu", torch.float64, copy=True).numpy()
