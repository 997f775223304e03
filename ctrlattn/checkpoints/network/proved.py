"""|x' - N(s x + sum_k c_k F_k)| <= tolerance: nothing is loaded unless the sums of its layers hold.

A traced network carries its errors with it. A row that the user gives is held to the same sums, by recording what it
names on a short text.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import Sublayer
from ctrlattn.checkpoints.network.repeat import pass_ends
from ctrlattn.checkpoints.network.traced_family import Traced
from ctrlattn.checkpoints.network.watch import Hook, Watcher, first, stream_of, watch
from ctrlattn.checkpoints.trace.compose import TOLERANCE, difference, tolerance
from ctrlattn.checkpoints.trace.inputs import short_inputs
from ctrlattn.checkpoints.trace.run import first_run, trace
from ctrlattn.checkpoints.trace.structure import Call, Structure
from ctrlattn.errors import InputError

Signal = dict[str, list[torch.Tensor]]


def proved(model: Any, inputs: dict[str, Any] | None = None) -> Structure:
    """Return the traced structure of a network, once the sum of every layer holds on its own weights.

    Raises
    ------
    InputError
        What `trace` refuses; a sum that does not hold, with the layer and the largest error.
    """
    structure = trace(model, inputs)
    floor = tolerance(next(model.parameters()).dtype)
    worst = max(structure.calls, key=lambda call: call.error / limit_of(call, floor))
    if not worst.error <= limit_of(worst, floor):
        raise InputError(
            f"the parts of layer {structure.layers[worst.layer]} do not sum to what it gives: they differ by "
            f"{worst.error:.1e} of the largest, and at most {limit_of(worst, floor):.0e} is rounding"
        )
    return structure


def limit_of(call: Call, floor: float) -> float:
    """Return the largest error of a call that is rounding, where `floor` is the tolerance of the network's type."""
    return max([floor, *(limit for dtype, limit in TOLERANCE.items() if torch.finfo(dtype).eps <= call.rounding)])


def require_row(checkpoint: Checkpoint, inputs: dict[str, Any] | None = None) -> Checkpoint:
    """Return the checkpoint, once what its row names sums to its stream on its own weights.

    A row that only looks right, such as a renamed one, may fit every path of a network that scales what it adds, norms
    it, or sees both ways.

    Raises
    ------
    InputError
        A network that does not run on the inputs; a module of the row that does not run, or not in the order that the
        row says; a sum that does not hold, with the layer and the largest error; a network that sees ahead under a
        causal row.
    """
    if isinstance(checkpoint.family, Traced):
        return checkpoint
    arguments = short_inputs(checkpoint.model, inputs)[0]
    signal, distances = _signal_and_distances(checkpoint, arguments)
    errors = list(_errors(checkpoint, signal))
    layer, limit = int(np.argmax(errors)), tolerance(next(checkpoint.model.parameters()).dtype)
    if not errors[layer] <= limit:
        raise InputError(
            f"{_row(checkpoint)} does not say what layer {layer} adds to its stream: the sum differs by "
            f"{errors[layer]:.1e} of the largest part, and at most {limit:.0e} is rounding. Without family= the "
            "network is traced"
        )
    for sublayer, error in distances.items():
        if not error <= limit:
            raise InputError(
                f"{_row(checkpoint)}: the {sublayer.kind} of layer {sublayer.layer} does not read what the norm gives "
                f"that the row names for it: they differ by {error:.1e}"
            )
    ids = arguments.get("input_ids")
    if checkpoint.causal and isinstance(ids, torch.Tensor) and ids.shape[-1] > 1:
        other_ids = ids.clone()
        other_ids[..., -1] = ids[..., 0] if bool((ids[..., 0] != ids[..., -1]).any()) else ids[..., -1] // 2
        _require_causal(checkpoint, signal, _signal_and_distances(checkpoint, {**arguments, "input_ids": other_ids})[0])
    return checkpoint


def require_sums(checkpoint: Checkpoint, errors: Iterable[float]) -> None:
    """Raise ArithmeticError where the recorded parts of a layer do not sum to the stream that it gave.

    Parameters
    ----------
    checkpoint : Checkpoint
    errors : floats
        `Sums.error` of each layer.

    Raises
    ------
    ArithmeticError
        The message has the layer and the largest error.
    """
    limit = tolerance(next(checkpoint.model.parameters()).dtype)
    for layer, error in enumerate(errors):
        if not error <= limit:
            raise ArithmeticError(
                f"the recorded parts of layer {layer} do not sum to the stream that it gave: they differ by "
                f"{error:.1e} of the largest part, and at most {limit:.0e} is rounding. The row "
                f"{checkpoint.family.name!r} does not say what this network adds; without a row it is traced"
            )


def recorder(signal: Signal) -> Watcher:
    """Return a function for `watch` that appends each sublayer's stream, and what it adds, to a signal."""

    def record(sublayer: Sublayer, x: torch.Tensor, u: torch.Tensor, F: torch.Tensor) -> None:
        signal[f"{sublayer.kind}_out"].append(F)
        signal["state" if sublayer.kind == "attention" else "mid"].append(x)

    return record


def _signal_and_distances(checkpoint: Checkpoint, arguments: dict[str, Any]) -> tuple[Signal, dict[Sublayer, float]]:
    """Record what a row names, on one text, and how far each sublayer reads from its norm."""
    signal: Signal = {name: [] for name in ("state", "mid", "attention_out", "mlp_out")}
    record, inputs = recorder(signal), dict[Sublayer, torch.Tensor]()
    distances: dict[Sublayer, float] = {}

    def proof(sublayer: Sublayer, x: torch.Tensor, u: torch.Tensor, F: torch.Tensor) -> None:
        distances[sublayer] = _distance(sublayer, inputs.pop(sublayer, None), u)
        record(sublayer, x, u, F)

    def reader(sublayer: Sublayer) -> Hook:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            inputs[sublayer] = stream_of(args, kwargs)

        return sublayer.module, hook, True

    def end(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        signal["state"].append(first(output))

    sublayers = checkpoint.sublayers()
    more = [*map(reader, sublayers), (checkpoint.layers[-1], end, False)]
    with watch(sublayers, proof, more=more), torch.no_grad():
        first_run(checkpoint.model, arguments)
    count = len(checkpoint.layers)
    for name, layers in signal.items():
        if len(layers) != count + (name == "state"):
            raise InputError(
                f"{_row(checkpoint)} names modules that give {len(layers)} signals {name} in one pass, and the "
                f"network has {count} layers: something else runs in their place"
            )
    return signal, distances


def _distance(sublayer: Sublayer, x: torch.Tensor | None, u: torch.Tensor) -> float:
    """Return how far what a pre-norm sublayer reads is from what its norm gives, relative to its size."""
    if x is None:
        return float("inf")
    # The last linear map of a sublayer, which some rows replace, reads other features.
    if sublayer.after is not None or x.shape[-1] != u.shape[-1] or not torch.isfinite(u).all():
        return 0.0
    return difference(x.reshape(u.shape), u, u, ()) if x.numel() == u.numel() else float("inf")


def _errors(checkpoint: Checkpoint, signal: Signal) -> Iterator[float]:
    sums = Sums(checkpoint, checkpoint.sublayers())
    return (sums.error(i, signal) for i in range(len(checkpoint.layers)))


class Sums:
    """The sums that the row of a checkpoint says of its layers.

    Parameters
    ----------
    checkpoint : Checkpoint
    sublayers : sequence of Sublayer
        All sublayers of the checkpoint, since looking them up takes longer than comparing a sum of a short text.

    Attributes
    ----------
    complete : bool
        Whether every part is in a sum that was compared: where the last stream is finite, all of them are.
    """

    def __init__(self, checkpoint: Checkpoint, sublayers: Sequence[Sublayer]) -> None:
        self._controlled = tuple(pass_ends(checkpoint.model))
        both = ([s for s in sublayers if s.kind == kind] for kind in ("attention", "mlp"))
        self._sublayers = list(zip(*both, strict=True))
        self.complete = not self._controlled

    def error(self, i: int, signal: Signal) -> float:
        """Return the largest error of a sum in layer i, relative to its largest part; 0 for a stream of no numbers."""
        x, mid, y = signal["state"][i], signal["mid"][i], signal["state"][i + 1]
        F, G = signal["attention_out"][i], signal["mlp_out"][i]
        sums: list[tuple[tuple[torch.Tensor, ...], torch.Tensor]] = [((x, F), mid), ((mid, G), y)]
        if self._sublayers[i][0].parallel:
            sums = [((x,), mid), ((x, F, G), y)]  # both read one stream
        sums = sums[:-1] if i in self._controlled else sums  # its last state has the control in it
        return max(_error(*part, sublayer) for part, sublayer in zip(sums, self._sublayers[i], strict=False))


def _error(parts: tuple[torch.Tensor, ...], recorded: torch.Tensor, sublayer: Sublayer) -> float:
    if any(part.shape != recorded.shape for part in parts):
        return float("inf")
    total = sum(parts[1:], parts[0])
    # The norm behind a post-norm sum can only be compared through itself.
    error = difference(total if sublayer.after is None else sublayer.after(total), recorded, recorded, parts)
    # `signals.dataset` says of a whole text that it is not finite.
    return error if math.isfinite(error) or bool(torch.isfinite(recorded).all()) else 0.0


def _require_causal(checkpoint: Checkpoint, signal: Signal, other: Signal) -> None:
    """Raise InputError where a token of the last stream changes when one behind it does."""
    a, b = signal["state"][-1][..., :-1, :], other["state"][-1][..., :-1, :]
    error, limit = difference(a, b, b, ()), tolerance(a.dtype)
    if torch.isfinite(b).all() and not error <= limit:
        raise InputError(
            f"{_row(checkpoint)} says that no token sees those behind it, and they change by {error:.1e} when the last "
            "token does: causal=False"
        )


def _row(checkpoint: Checkpoint) -> str:
    return f"the row {checkpoint.family.name!r} given for {type(checkpoint.model).__name__}"
