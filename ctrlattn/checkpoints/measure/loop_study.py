"""loss(K) of a network whose span runs K times: by several laws, beside what the Jacobian says beforehand.

With lambda the eigenvalues of J at the stream that enters the span: every small gain is stable where all have
Re lambda < 1 + k_r, and a real lambda >= 1 + k_r forbids every stable C with C(1) > 0 (odd-number limit).
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctrlattn.checkpoints.measure.evaluate import Evaluation, evaluate, evaluation_of
from ctrlattn.checkpoints.measure.span import SpanModes, SpanPasses, span_function, span_modes, span_passes
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.inputs import windows_of
from ctrlattn.checkpoints.network.repeat import repeat
from ctrlattn.controllers import PID
from ctrlattn.errors import InputError, require_flag, require_whole
from ctrlattn.files import atomic, output_directory
from ctrlattn.parsing import read_json
from ctrlattn.passes import Passes
from ctrlattn.progress import Progress, silent

_TOKENS = 64  # of the first window, whose Jacobian is measured
_FEW = 4  # numbers of passes up to which each is measured; then they double
_RECALL = 1.1  # the recall of the law with recall, over the least that small gains need
_LEAST_RECALL = 0.5
_SETTLING, _MARGIN = 50, 0.5  # what the tuned law is asked for: passes, and min |1 + L|

# Of k, how often the span runs and by which loop.
LawOf = Callable[[int], tuple[int, Passes]]


@dataclass(frozen=True)
class Reach:
    """Whether a loop over one span has a rest point within reach, by the eigenvalues of J that were measured."""

    layers: tuple[int, int]
    modes: SpanModes
    recall: float

    @property
    def outside(self) -> np.ndarray:
        """Eigenvalues with Re lambda >= 1 + k_r by more than their errors, which no small gain holds."""
        return self.modes.eigenvalues[self.modes.eigenvalues.real - self.modes.off >= 1 + self.recall]

    @property
    def undecided(self) -> np.ndarray:
        """Eigenvalues whose real part is 1 + k_r within their errors."""
        within = np.abs(self.modes.eigenvalues.real - 1 - self.recall) <= self.modes.off
        return self.modes.eigenvalues[within & (self.modes.eigenvalues.real - self.modes.off < 1 + self.recall)]

    @property
    def forbidden(self) -> np.ndarray:
        """The real eigenvalues of `outside`, which no stable C with C(1) > 0 holds."""
        return self.outside.real[self.outside.imag == 0]

    @property
    def least_recall(self) -> float:
        """k_r has to exceed this for small gains to be stable; 0 where no eigenvalue was measured."""
        from ctrlattn.stability import odd_number_limit

        return odd_number_limit(self.modes.eigenvalues).recall if len(self.modes.eigenvalues) else 0.0

    @property
    def words(self) -> str:
        """The forecast as one sentence."""
        a, b = self.layers
        span = f"layers {a} to {b - 1}" if b - a > 1 else f"layer {a}"
        if not len(self.modes.eigenvalues):
            return f"{span}: no eigenvalue has converged, so nothing is forecast"
        rightmost = self.modes.eigenvalues.real.max()
        if not len(self.outside) and len(self.undecided):
            return (
                f"{span}: undecided, {len(self.undecided)} eigenvalues have Re = {1 + self.recall:.3g} within their "
                f"errors (rightmost {rightmost:.3g} ± {self.modes.off[self.modes.eigenvalues.real.argmax()]:.2g}), and "
                "whether small gains are stable depends on it"
            )
        if not len(self.outside):
            return f"{span}: no eigenvalue reaches 1 + recall (rightmost {rightmost:.3g}), small gains are stable here"
        kind = "no stable C with C(1) > 0 holds" if len(self.forbidden) else "no small gain holds"
        largest = self.forbidden.max() if len(self.forbidden) else self.outside.real.max()
        return (
            f"{span}: no reachable fixed point, {len(self.outside)} eigenvalues have Re >= {1 + self.recall:.3g} and "
            f"{kind} {largest:.3g}; a recall above {self.least_recall:.3g} would be needed"
        )


@dataclass(frozen=True, eq=False)
class LoopStudy:
    """A span of a network, repeated by several laws: forecast, losses and motion."""

    checkpoint: Checkpoint
    layers: tuple[int, int]
    reach: Reach
    laws: dict[str, Passes]  # at the most passes
    counts: tuple[int, ...]  # numbers of passes, ascending from 1
    intact: Evaluation
    losses: dict[str, dict[int, Evaluation]]
    diverged: dict[str, str]  # law -> why its larger numbers of passes have no loss
    motion: dict[str, SpanPasses]
    tuning: str  # what tune made of the spectrum, as a sentence
    windows: np.ndarray = field(repr=False)
    scan: tuple[Reach, ...] = ()


def loop_study(
    checkpoint: Checkpoint,
    ids: Any,
    *,
    layers: tuple[int, int],
    passes: int,
    controller: Any = None,
    recall: float = 0.0,
    scan: bool = False,
    runs: Path | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> LoopStudy:
    """Forecast and measure what repeating a span does to the loss of a network.

    Parameters
    ----------
    checkpoint : Checkpoint
        A causal network with its head.
    ids : (windows, length) token ids
        Text to judge by. The Jacobian is that of the first 64 tokens of the first window.
    layers, passes, controller, recall
        As for `repeat`: the law that is asked for, beside naive passes, damped ones (1/K), recall, and the tuned law.
        A P controller g has a control: the update of the span once, times K g.
    scan : bool
        Also forecast for all spans of the same length, side by side over depth.
    runs : path, optional
        Folder where every evaluation is kept, and not measured again.
    seed : int
        Seed of the search for eigenvalues.

    Returns
    -------
    LoopStudy

    Raises
    ------
    InputError
        What `repeat` and `evaluate` refuse.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=3, n_embd=4, n_head=2, vocab_size=9)
    >>> network = checkpoints.load(transformers.GPT2LMHeadModel(config))
    >>> study = loop_study(network, [[1, 2], [2, 1]], layers=(1, 2), passes=2)
    >>> list(study.losses), study.counts
    (['naive', 'damped', 'recall', 'tuned'], (1, 2))
    """
    scan = require_flag("scan", scan)
    windows = windows_of(checkpoint, ids)
    if not isinstance(windows, torch.Tensor):
        raise InputError("loop_study compares loops on windows of one length, and these have several")
    repeat(checkpoint, layers=layers, passes=require_whole("passes", passes), controller=controller, recall=recall)
    request = Passes(controller, recall=recall)
    text = windows[0, :_TOKENS]
    F, h = span_function(checkpoint, layers, text.cpu().numpy())
    reach = Reach(layers, _modes(F, h, seed=seed), request.recall)
    progress(reach.words, 0, 1)
    across = _scan(checkpoint, layers, text, request.recall, seed, progress) if scan else ()
    tuned, sentence = _tuned_loop(reach, seed)
    recalled = _law_with_recall(reach)
    laws: dict[str, LawOf] = {
        "naive": lambda k: (k, Passes()),
        "damped": lambda k: (k, Passes(PID(1 / k))),
        "recall": lambda k: (k, recalled),
    }
    if tuned is not None:
        laws["tuned"] = lambda k: (k, tuned)
    if controller is not None or recall:
        laws["asked"] = lambda k: (k, request)
        if (gain := _static_gain(request)) is not None:
            laws["once"] = lambda k: (1, Passes(PID(k * gain)))
    counts = counts_up_to(passes)
    losses, diverged, intact = _losses(checkpoint, windows, layers, laws, counts, runs, progress)
    last = {name: law(counts[-1]) for name, law in laws.items()}
    motion = {name: _motion(F, h, *many) for name, many in last.items() if many[0] > 1}
    return LoopStudy(
        checkpoint, layers, reach, {name: loop for name, (_, loop) in last.items()}, counts, intact, losses,
        diverged, motion, sentence, windows.cpu().numpy(), across,
    )  # fmt: skip


def counts_up_to(passes: int) -> tuple[int, ...]:
    """Return the numbers of passes that are measured: each of the first, then twice as many, and the last.

    >>> counts_up_to(3), counts_up_to(20)
    ((1, 2, 3), (1, 2, 3, 4, 8, 16, 20))
    """
    counts = list(range(1, min(passes, _FEW) + 1))
    while counts[-1] < passes:
        counts.append(min(2 * counts[-1], passes))
    return tuple(counts)


def _scan(
    checkpoint: Checkpoint, layers: tuple[int, int], text: Any, recall: float, seed: int, progress: Progress
) -> tuple[Reach, ...]:
    length = layers[1] - layers[0]
    starts = range(layers[0] % length, len(checkpoint.layers) - length + 1, length)
    across = []
    for done, a in enumerate(starts):
        span = (a, a + length)
        F, h = span_function(checkpoint, span, text.cpu().numpy())
        across.append(Reach(span, _modes(F, h, count=4, seed=seed), recall))
        progress(across[-1].words, done + 1, len(starts))
    return tuple(across)


def _modes(F: Any, h: Any, **options: int) -> SpanModes:
    """Return the outer eigenvalues; none where they have not converged, and then nothing is forecast."""
    try:
        return span_modes(F, h, **options)
    except ArithmeticError:
        return SpanModes(np.zeros(0, complex), np.zeros(0), h.numel(), 0.0)


def _law_with_recall(reach: Reach) -> Passes:
    """Return the law of `recalled` for the measured eigenvalues, with at least the recall that is asked for."""
    return recalled(reach.modes, max(_RECALL * reach.least_recall, _LEAST_RECALL, reach.recall))


def recalled(modes: SpanModes, recall: float) -> Passes:
    """Return the law of this recall with half the largest gain that is stable for the design points of the modes.

    >>> law = recalled(SpanModes(np.array([3.0 + 0j]), np.zeros(1), 9, 1.0), 3.0)
    >>> law.controller.kp  # half of 2/(1 + 3 + 1)
    0.2
    """
    from ctrlattn.stability import stable_gains

    ends = stable_gains(None, modes.design_points(), recall) if len(modes.eigenvalues) else []
    return Passes(PID(ends[0][1] / 2 if ends else 1 / (1 + recall)), recall=recall)


def _tuned_loop(reach: Reach, seed: int) -> tuple[Passes | None, str]:
    """Return the loop that `design.tune` finds for the measured eigenvalues, with the least recall, and a sentence."""
    from ctrlattn.design import InfeasibleError, Spec, tune

    if not len(reach.modes.eigenvalues):
        return None, "No eigenvalue has converged, so there is nothing to tune to."
    spec = Spec(settling=_SETTLING, modulus_margin=_MARGIN)
    most = max(4 * reach.least_recall, 2.0)
    try:
        options: dict[str, Any] = {"terms": "PD", "most_recall": most, "curve": False, "seed": seed}
        design = tune(Passes(), reach.modes.design_points(), spec, **options)
    except InfeasibleError as error:
        target = f"{_SETTLING} passes and a margin of {_MARGIN}"
        return None, f"No law met {target} with a recall up to {most:.3g}: {error.why}."
    worst = design.performance.worst()
    law = design.controller
    assert isinstance(design.loop, Passes)
    return design.loop, (
        f"Tuned to settle within {_SETTLING} passes with a margin of {_MARGIN}: P {law.kp:.3g}, D {law.kd:.3g}, recall "
        f"{design.loop.recall:.3g}. On the measured eigenvalues, and where others may be, it settles in "
        f"{worst['settling']:.0f} passes with a margin of {worst['modulus_margin']:.2f}."
    )


def _losses(
    checkpoint: Checkpoint,
    windows: Any,
    layers: tuple[int, int],
    laws: dict[str, LawOf],
    counts: tuple[int, ...],
    runs: Path | None,
    progress: Progress,
) -> tuple[dict[str, dict[int, Evaluation]], dict[str, str], Evaluation]:
    total, done = 1 + len(laws) * len(counts), 1
    intact = _evaluation_of(runs, "intact", lambda: evaluate(checkpoint, windows))
    progress("loss, intact", done, total)
    losses: dict[str, dict[int, Evaluation]] = {name: {} for name in laws}
    diverged: dict[str, str] = {}
    for name, law in laws.items():
        for k in counts:
            many, loop = law(k)
            done += 1
            if name not in diverged:
                try:
                    losses[name][k] = _loss(checkpoint, windows, layers, many, loop, runs, f"{name}-{k}", intact)
                except InputError as error:  # the stream or the loss is not finite: more passes are no better
                    diverged[name] = str(error)
            progress(f"loss, {name}, passes {k}", done, total)
    return losses, diverged, intact


def _loss(
    checkpoint: Checkpoint,
    windows: Any,
    layers: tuple[int, int],
    passes: int,
    loop: Passes,
    runs: Path | None,
    name: str,
    intact: Evaluation,
) -> Evaluation:
    if passes == 1 and _static_gain(loop) == 1:
        return intact  # it is the network itself
    options: dict[str, Any] = {"controller": loop.controller, "recall": loop.recall}
    repeated = repeat(checkpoint, layers=layers, passes=passes, **options)
    return _evaluation_of(runs, name, lambda: evaluate(repeated, windows))


def _static_gain(loop: Passes) -> float | None:
    """Return the number that a controller without memory is; None for one with memory."""
    a, _, _, d = loop.law.realization()
    return None if len(a) else float(d.item())


def _evaluation_of(runs: Path | None, name: str, work: Callable[[], Evaluation]) -> Evaluation:
    """Return the evaluation that is kept under this name, or a new one that is kept from now on."""
    if runs is None:
        return work()
    path = output_directory(runs) / f"{name}.json"
    earlier = _stored_evaluation(path) if path.exists() else None
    if earlier is not None:
        return earlier
    evaluation = work()
    with atomic(path) as temporary:
        rows = {"window_losses": evaluation.window_losses.tolist(), "tokens": evaluation.tokens}
        temporary.write_text(json.dumps(rows), encoding="utf-8")
    return evaluation


def _stored_evaluation(path: Path) -> Evaluation | None:
    """Read the evaluation in a file; return None where the file is damaged, and it is measured again."""
    with suppress(InputError, KeyError, TypeError, ValueError):
        rows = read_json(path)
        losses, tokens = np.asarray(rows["window_losses"], dtype=np.float64), rows["tokens"]
        if losses.ndim == 1 and losses.size and type(tokens) is int:
            return evaluation_of(losses, tokens)
    return None


def _motion(F: Any, h: Any, passes: int, loop: Passes) -> SpanPasses:
    """Return residual and norm as far as they are finite."""
    for count in range(passes, 0, -1):
        try:
            return span_passes(F, h, count, loop.controller, loop.recall)
        except InputError:
            continue
    return SpanPasses(np.zeros(0), np.ones(1))
