"""S = 1 - mean over tokens of cos(x, x + F(norm(x))): importance of a sublayer, a block or a head for the stream x.

The norm counts as part of the sublayer, since it goes with it; the residual has to be inside, or the measure fails.
The mean hides the sublayer that builds a massive activation at one position, so that the maximum stands beside it.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import Kind, Sublayer
from ctrlattn.checkpoints.network.inputs import passes_of
from ctrlattn.checkpoints.network.watch import Hook, attention, first, stream_of, watch
from ctrlattn.errors import InputError

if TYPE_CHECKING:
    import xarray as xr


def importance(checkpoint: Checkpoint, ids: Any) -> "xr.Dataset":
    """Measure the importance of every attention, MLP and block, in one pass through the network without its head.

    Parameters
    ----------
    checkpoint : Checkpoint
        Decoder or encoder; in a post-norm network x + F is normed before it is compared with x.
    ids : (n,) or (windows, n) token ids, a str, or a BatchEncoding
        Calibration text; windows do not see each other, may have different lengths, and their pads do not count.

    Returns
    -------
    xarray.Dataset
        `attention`, `mlp`, `block` over `layer`: 0 where the stream keeps its direction, 1 where it turns by a right
        angle, 2 where it is reversed. Those with `_max` are the largest of any token instead of the mean. A traced
        network has its own kinds, such as `mixer`: they are nan in a layer without one, and the largest of several in
        one layer. The attribute `tokens` says how many tokens were read.

    Raises
    ------
    InputError
        No token, ids outside the vocabulary, weights that give NaN; a factor that depends on the text.

    References
    ----------
    He, Sun, Shen and Li, What Matters in Transformers? Not All Attention is Needed, arXiv 2406.15786, section 3:
    equation 1 with the residual of section 3.2; attention, MLP and block scored at once ("one-shot").

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> scores = importance(checkpoints.load(transformers.GPT2LMHeadModel(config)), [1, 2, 3])
    >>> sorted(scores.data_vars), scores.sizes["layer"]
    (['attention', 'attention_max', 'block', 'block_max', 'mlp', 'mlp_max'], 2)
    """
    import xarray as xr

    count = len(checkpoint.layers)
    sublayers = checkpoint.sublayers()
    turns, blocks = {sublayer: _Turns() for sublayer in sublayers}, [_Turns() for _ in range(count)]
    tokens = _pass(checkpoint, ids, turns, blocks)
    rows: dict[str, list[list[_Turns]]] = {}
    for kind in _kinds(sublayers):
        rows[kind] = [[turns[s] for s in sublayers if (s.kind, s.layer) == (kind, i)] for i in range(count)]
    rows["block"] = [[turn] for turn in blocks]
    _finite(rows)
    arrays = {}
    for name, some in rows.items():
        for suffix in ("", "_max"):
            values = [max((turn.scores(tokens)[suffix] for turn in row), default=np.nan) for row in some]
            arrays[f"{name}{suffix}"] = ("layer", np.array(values))
    return xr.Dataset(arrays, {"layer": np.arange(count)}, {"tokens": tokens})


def turns_of(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Return 1 - cos of the angle between two streams, in [0, 2], token by token: (..., d) -> (...) in float64.

    It is |x/|x| - y/|y||^2 / 2, which cannot be negative and loses nothing where the angle is small. In bfloat16,
    1 - cos of a network whose layers turn the stream by 1e-4 came out as -6e-4.

    >>> turns_of(torch.tensor([1.0, 0.0]), torch.tensor([0.0, -3.0])).item()
    1.0
    """
    x, y = (torch.nn.functional.normalize(stream.double(), dim=-1, eps=1e-300) for stream in (before, after))
    zero = (x.abs().amax(-1) == 0) | (y.abs().amax(-1) == 0)  # the zero vector has no direction: its cosine counts as 0
    return torch.where(zero, 1.0, (x - y).square().sum(-1) / 2)


class _Turns:
    """Sum and maximum of 1 - cos over tokens."""

    def __init__(self) -> None:
        self.sum, self.max = 0.0, -np.inf

    def add(self, before: torch.Tensor, after: torch.Tensor) -> None:
        turn = turns_of(before, after)
        self.sum += turn.sum().item()
        # np.maximum passes NaN on, so that it is found at the end.
        self.max = float(np.maximum(self.max, turn.max().item()))

    def scores(self, tokens: int) -> dict[str, float]:
        return {"": self.sum / tokens, "_max": self.max}


def _kinds(sublayers: Sequence[Sublayer]) -> list[Kind]:
    """Return the kinds of sublayers in the order in which a layer has them."""
    return [kind for kind in get_args(Kind) if any(sublayer.kind == kind for sublayer in sublayers)]


def _pass(checkpoint: Checkpoint, ids: Any, turns: dict[Sublayer, _Turns], blocks: list[_Turns]) -> int:
    """Send the text through the network without its head, some windows at a time; return the number of tokens."""
    passes = passes_of(checkpoint, ids)

    def on(sublayer: Sublayer, x: torch.Tensor, u: torch.Tensor, F: torch.Tensor) -> None:
        # What the norm of a post-norm network makes of x + F is the stream that goes on; it has the network's dtype.
        wide = (x, F) if sublayer.after is not None else (x.double(), F.double())
        turns[sublayer].add(x, sublayer.onto(*wide))

    watching = watch(turns, on, more=_blocks(checkpoint, blocks))
    with watching, attention(checkpoint.model, "sdpa"), torch.inference_mode():
        for inputs in passes:
            checkpoint.model.base_model(**inputs)
    return sum(part["input_ids"].numel() if "input_ids" in part else len(part["pixel_values"]) for part in passes)


def _blocks(checkpoint: Checkpoint, turns: list[_Turns]) -> list[Hook]:
    """Return hooks that compare the stream in front of a layer with the stream behind it."""
    streams: dict[int, torch.Tensor] = {}

    def reader(i: int) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            streams[i] = stream_of(args, kwargs)

        return hook

    def comparer(i: int) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            turns[i].add(streams.pop(i), first(output))

        return hook

    layers = checkpoint.layers
    before: list[Hook] = [(layer, reader(i), True) for i, layer in enumerate(layers)]
    return [*before, *((layer, comparer(i), False) for i, layer in enumerate(layers))]


def _finite(rows: dict[str, list[list[_Turns]]]) -> None:
    for name, some in rows.items():
        for layer, row in enumerate(some):
            if not all(np.isfinite(turn.max) for turn in row):
                raise InputError(f"the {name} of layer {layer} gives values that are not finite")
