"""text -> calibration, selection and test windows; reduce: drop sublayers, fit gains, evaluate on unseen text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch

from ctrlattn.checkpoints.measure.evaluate import Evaluation, evaluate
from ctrlattn.checkpoints.measure.importance import importance
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.inputs import one_text, windows_of
from ctrlattn.checkpoints.network.text import frame_of, windows
from ctrlattn.checkpoints.reduce.choose import Choice, choose
from ctrlattn.checkpoints.reduce.compensate import Calibration
from ctrlattn.checkpoints.reduce.drop import drop
from ctrlattn.checkpoints.reduce.request import FITTED, PARTS, WHOLE, Request, require_layers_left, require_windows
from ctrlattn.errors import InputError, require_flag
from ctrlattn.progress import Progress, silent

if TYPE_CHECKING:
    import xarray as xr

_SHARES = (0.6, 0.2)  # shares of the windows to fit and to choose by; the rest judges


class Split(NamedTuple):
    """Consecutive windows of one text, (count, length) each, with the tokenizer's BOS in front of every one."""

    fit: torch.Tensor
    choose: torch.Tensor
    judge: torch.Tensor


@dataclass(frozen=True, eq=False)
class Reduction:
    """A network made smaller, and what was measured of it.

    Attributes
    ----------
    before, after : Checkpoint
    gone : dict
        "attention", "mixer", "mlp", "blocks" -> dropped layers.
    compensated : bool
        Whether gains replace the dropped sublayers.
    memory : bool
        Whether the gains of attention layers have a memory.
    scores : xarray.Dataset
        Scores of `importance` on the fitting windows.
    choice : Choice or None
        The choice by the loss; None where importance or the user chose.
    losses : dict
        Evaluations on the judging windows: "intact", "reduced", and "published", in which as many sublayers of least
        importance are dropped bare.
    """

    before: Checkpoint
    after: Checkpoint
    gone: dict[str, tuple[int, ...]]
    compensated: bool
    memory: bool
    scores: "xr.Dataset"
    choice: Choice | None
    losses: dict[str, Evaluation]


def split_text(checkpoint: Checkpoint, ids: Any, *, window: int = 256, judge: Any = None) -> Split:
    """Cut a text into windows: the first 60 % are to fit, the next 20 % to choose by, the last 20 % to judge.

    Parameters
    ----------
    checkpoint : Checkpoint
    ids : (n,) token ids, or a str
        Where the tokenizer puts BOS in front of a text, it stands in front of every window, whether the ids begin with
        it or not.
    window : int
        Tokens per window, BOS included; the remainder of the text is not used.
    judge : (m,) token ids, optional
        Another text to judge by. The first text is then cut into 75 % to fit and 25 % to choose by.

    Raises
    ------
    InputError
        The text has fewer than five windows, or ids lie outside the vocabulary. With `judge`, the first text needs four
        windows and the second one.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> network = checkpoints.load(transformers.GPT2LMHeadModel(config))
    >>> [len(some) for some in split_text(network, [1, 2, 3, 4] * 5, window=2)]
    [6, 2, 2]
    """
    windows = _windows(checkpoint, ids, window, FITTED if judge is not None else WHOLE)
    fit = round(len(windows) * (_SHARES[0] if judge is None else 0.75))
    end = len(windows) if judge is not None else round(len(windows) * sum(_SHARES))
    last = windows[end:] if judge is None else _windows(checkpoint, judge, window, 1)
    return Split(windows[:fit], windows[fit:end], last)


def reduce(
    checkpoint: Checkpoint,
    text: Split,
    *,
    count: Mapping[str, int] | None = None,
    layers: Mapping[str, tuple[int, ...]] | None = None,
    by: str = "loss",
    compensate: bool = True,
    rank: int | None = None,
    memory: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Reduction:
    """Choose sublayers, take them out, fit gains in their place, and judge the result on text it never saw.

    Parameters
    ----------
    checkpoint : Checkpoint
        A causal network with its head.
    text : Split
        The windows that `split_text` cut.
    count : "attention", "mixer", "mlp" or "blocks" -> number of sublayers
    layers : "attention", "mixer", "mlp" or "blocks" -> layers; excludes `count`
    by : "loss", "importance" or "worst"
        "loss" takes the sublayers that gains replace at the least predicted loss (`choose`; for attention, mixers or
        MLPs alone, compensated). "importance" takes those of least mean importance, as published. "worst" takes those
        of least maximum importance over the tokens.
    compensate : bool
        Whether gains replace the dropped sublayers.
    rank : int, optional
        Rank of the gains; full by default.
    memory : bool
        Whether the gains of attention layers have a memory, see `Calibration`.
    seed : int
        Seed of the tokens that `choose` samples.
    progress : callable (step, done, total), optional

    Returns
    -------
    Reduction

    Raises
    ------
    InputError
        Nothing or too much is to be dropped, a part or layer does not exist, or a choice by loss does not apply.

    References
    ----------
    He, Sun, Shen and Li, What Matters in Transformers?, arXiv 2406.15786: importance, dropping without gains.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=3, n_embd=8, n_head=2, vocab_size=9)
    >>> network = checkpoints.load(transformers.GPT2LMHeadModel(config))
    >>> reduction = reduce(network, split_text(network, list(range(9)) * 6, window=6), count={"attention": 1})
    >>> sorted(reduction.losses), len(reduction.gone["attention"])
    (['intact', 'published', 'reduced'], 1)
    """
    compensate = require_flag("compensate", compensate)
    memory = require_flag("memory", memory)
    request = Request(count, layers, by, compensate, memory)
    numbers = request.wanted(len(checkpoint.layers))
    tell = progress or silent
    tell("importance", 0, 1)
    scores = importance(checkpoint, text.fit)
    tell("importance", 1, 1)
    calibration = Calibration(text.fit, rank=rank, memory=memory, progress=progress)
    choice = None
    if layers is not None:
        drops = {part: tuple(sorted(layers.get(part, ()))) for part in PARTS}
    elif by == "loss":
        (part,) = numbers
        choice = choose(checkpoint, numbers[part], calibration, text.choose, kind=part, seed=seed)  # type: ignore[arg-type]
        drops = {name: choice.layers if name == part else () for name in PARTS}
    else:
        drops = least_important(scores, numbers, worst=by == "worst")
    after = drop(checkpoint, **drops, compensate=calibration if compensate else None)
    published = drop(checkpoint, **least_important(scores, numbers))
    losses = {}
    for done, (name, network) in enumerate((("intact", checkpoint), ("reduced", after), ("published", published))):
        tell("judge", done, 3)
        losses[name] = evaluate(network, text.judge)
    tell("judge", 3, 3)
    return Reduction(checkpoint, after, drops, compensate, memory, scores, choice, losses)


def least_important(
    scores: "xr.Dataset", count: Mapping[str, int], *, worst: bool = False
) -> dict[str, tuple[int, ...]]:
    """Return the layers of least mean importance for each part, or of least maximum importance where `worst`.

    Raises
    ------
    InputError
        More layers are asked for than there are.

    Examples
    --------
    >>> import xarray
    >>> scores = xarray.Dataset({"attention": ("layer", [0.3, 0.1, 0.2])})
    >>> least_important(scores, {"attention": 2})["attention"]
    (1, 2)
    """
    layers: dict[str, tuple[int, ...]] = dict.fromkeys(PARTS, ())
    for part, number in count.items():
        if number == 0:
            continue
        name = ("block" if part == "blocks" else part) + ("_max" if worst else "")
        if name not in scores:
            raise InputError(f"no layer has a sublayer of the kind {part!r}")
        values = scores[name].to_numpy()
        places = np.flatnonzero(np.isfinite(values))  # a layer may have none of this kind
        order = places[np.argsort(values[places], kind="stable")]
        require_layers_left(part, number, len(order))
        layers[part] = tuple(sorted(int(i) for i in order[:number]))
    return layers


def _windows(checkpoint: Checkpoint, ids: Any, length: int, least: int) -> torch.Tensor:
    text = ids if isinstance(ids, str) else one_text(checkpoint, ids).cpu().numpy()
    frame = frame_of(checkpoint)
    rows = list(windows(checkpoint, text, length, rest=True))
    require_windows(sum(frame.body(row).size for row in rows), frame.room(length), least)
    checked = windows_of(checkpoint, np.stack([row for row in rows if len(row) == length]), cut=True)
    return cast(torch.Tensor, checked)
