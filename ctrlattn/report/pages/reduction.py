"""reduction -> the page of `ctrlattn drop`: loss on held-out text, savings, importance and choice of sublayers."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ctrlattn import plots
from ctrlattn.report import folder
from ctrlattn.report.folder import Report
from ctrlattn.report.page import Heading, Page
from ctrlattn.report.section import Picture, Section, Table
from ctrlattn.report.words import change, count, layer_list, listed, number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ctrlattn.checkpoints import Cost, Evaluation, Reduction
    from ctrlattn.checkpoints.network.reloaded import Saved

_NOUNS = {"attention": "attention layer", "mixer": "mixer", "mlp": "MLP", "blocks": "whole layer"}
_KINDS = {"attention": "attention", "mixer": "mixers", "mlp": "MLP"}
_A = {"attention": "an attention layer", "mixer": "a mixer", "mlp": "an MLP"}
_WORDS = {"intact": "whole network", "reduced": "this network", "published": "least important, bare"}


class Drop(NamedTuple):
    """The material of the page: a reduction, and both networks measured on text to which neither was fitted."""

    reduction: "Reduction"
    cost: "Mapping[str, Cost]"  # "intact", "reduced"
    sliding: "Mapping[str, Evaluation]"  # "intact", "reduced", on the judging text in one piece
    saved: "Saved | None"  # what was written, where it was


def write_drop(
    out: str | Path,
    reduction: "Reduction",
    cost: "Mapping[str, Cost]",
    sliding: "Mapping[str, Evaluation]",
    saved: "Saved | None" = None,
    *,
    formats: "Sequence[str]" = (),
) -> Report:
    """Write the page of a reduction.

    Parameters
    ----------
    out : path
        Directory for report.html, figures/, results.nc and summary.json; made if absent.
    reduction : Reduction
        Result of checkpoints.reduce.
    cost : "intact", "reduced" -> Cost
        Result of checkpoints.cost.
    sliding : "intact", "reduced" -> Evaluation
        Results of checkpoints.perplexity on the judging text in one piece.
    saved : Saved, optional
        What was written and loaded again.
    formats : names, optional
        Formats of `tables.export` in which results.nc is written as well.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        The output directory cannot be written.

    Examples
    --------
    >>> import tempfile, transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=3, n_embd=8, n_head=2, vocab_size=9)
    >>> network = checkpoints.load(transformers.GPT2LMHeadModel(config))
    >>> text = checkpoints.split_text(network, list(range(9)) * 6, window=6)
    >>> reduction = checkpoints.reduce(network, text, count={"attention": 1})
    >>> networks = {"intact": reduction.before, "reduced": reduction.after}
    >>> cost = checkpoints.cost(networks, text.judge[:1], repeat=1)
    >>> judge = text.judge.flatten()
    >>> whole = {name: checkpoints.perplexity(n, judge, window=6, stride=3) for name, n in networks.items()}
    >>> write_drop(tempfile.mkdtemp(), reduction, cost, whole).path.name
    'report.html'
    """
    return folder.write(out, PAGE, Drop(reduction, cost, sliding, saved), formats=formats)


def _name(reduction: "Reduction") -> str:
    return reduction.before.name


def _facts(drop: Drop) -> dict[str, Any]:
    reduction = drop.reduction
    return {
        "model": _name(reduction),
        "gone": {part: list(layers) for part, layers in reduction.gone.items()},
        "compensated": reduction.compensated,
        "memory": reduction.memory,
    }


def _heading(drop: Drop) -> Heading:
    reduction = drop.reduction
    name, tokens = _name(reduction), count(reduction.scores.attrs["tokens"], "token")
    return Heading(
        title=f"{name}, made smaller",
        lead=f"Without {_dropped_in_words(reduction)}; {_stand(reduction)}.",
        networks=[{"name": name, "summary": f"{tokens} to fit the gains", "texts": []}],
        provenance={"Network": {"source": reduction.before.source, "family": reduction.before.family.name}},
    )


def _stand(reduction: "Reduction") -> str:
    """Return the part of a sentence on what replaces the dropped sublayers."""
    if not reduction.compensated:
        return "bare"
    kind = "gain that keeps a memory of constant size" if reduction.memory else "static gain"
    return f"a {kind}, fitted without gradients, stands in for each"


def _dropped_in_words(reduction: "Reduction") -> str:
    """Return the part of a sentence on which sublayers were dropped."""
    return listed(
        [
            f"{count(len(layers), _NOUNS[part])} ({layer_list(layers)})"
            for part, layers in reduction.gone.items()
            if layers
        ]
    )


def _outcome(drop: Drop) -> list[Section]:
    from ctrlattn.checkpoints.measure.evaluate import standard_error

    losses, sliding = drop.reduction.losses, drop.sliding
    reduced, published = (losses[name].loss - losses["intact"].loss for name in ("reduced", "published"))
    paired = losses["reduced"].window_losses - losses["intact"].window_losses
    windows = len(paired)
    error = standard_error(paired)
    rows = tuple(
        (
            _WORDS[name],
            number(evaluation.loss, 3),
            number(evaluation.standard_error, 3),
            number(evaluation.perplexity, 2),
            number(sliding[name].perplexity, 2) if name in sliding else "–",
        )
        for name, evaluation in losses.items()
    )
    return [
        Section(
            key="outcome",
            title=f"The loss {change(reduced, 3)} nats per token"
            + (", within two standard errors of no change" if abs(reduced) <= 2 * error else ""),
            sentences=(
                f"On {count(windows, 'window')} of text that neither fitted nor chose anything, the loss "
                f"{change(reduced, 3)} nats per token (standard error of the paired difference {number(error, 3)}).",
                "Where as many sublayers are taken out by least importance and nothing is put in their place, as "
                f"published, it {change(published, 3)}.",
                "When a sliding window reads the text in one piece and predicts each of its "
                f"{count(sliding['intact'].tokens, 'token')} once, the perplexity goes from "
                f"{number(sliding['intact'].perplexity)} to "
                f"{number(sliding['reduced'].perplexity)}.",
            ),
            tables=(
                Table(
                    ("network", "loss (nats/token)", "standard error", "perplexity", "perplexity, sliding window"),
                    rows,
                    "On held-out text",
                ),
            ),
            numbers={
                **{name: {"loss": e.loss, "standard_error": e.standard_error} for name, e in losses.items()},
                "sliding_perplexity": {name: e.perplexity for name, e in sliding.items()},
                "rise": reduced,
                "rise_standard_error": error,
            },
            variables={
                f"window_loss_{name}": (("window",), e.window_losses, {"units": "nat/token", "long_name": _WORDS[name]})
                for name, e in losses.items()
            },
        )
    ]


def _savings(drop: Drop) -> list[Section]:
    cost = drop.cost
    before, after = cost["intact"], cost["reduced"]
    rows = tuple(
        (
            _WORDS[name],
            f"{c.parameters / 1e6:.1f}",
            f"{c.cache_bytes / 1024:.1f}",
            f"{c.prefill:.0f}",
            f"{c.generation:.1f}",
        )
        for name, c in cost.items()
    )
    return [
        Section(
            key="savings",
            title=f"The memory of a token takes {number(after.cache_bytes / 1024, 1)} KiB instead of "
            f"{number(before.cache_bytes / 1024, 1)} KiB",
            sentences=(
                f"The KV cache takes {number(100 * (1 - after.cache_bytes / before.cache_bytes), 0)} % less for each "
                f"token, and the network has {number(100 * (1 - after.parameters / before.parameters), 1)} % fewer "
                f"parameters. On this machine prefill is {number(after.prefill / before.prefill)} times and cached "
                f"generation {number(after.generation / before.generation)} times as fast.",
                *_saved_sentences(drop),
            ),
            tables=(
                Table(
                    (
                        "network",
                        "parameters (millions)",
                        "KV cache (KiB/token)",
                        "prefill (tokens/s)",
                        "generation (tokens/s)",
                    ),
                    rows,
                    "Measured in turn on this machine",
                ),
            ),
            numbers={
                **{name: c._asdict() for name, c in cost.items()},
                **({} if drop.saved is None else {"saved": drop.saved._asdict()}),
            },
        )
    ]


def _saved_sentences(drop: Drop) -> tuple[str, ...]:
    """Return sentences on the directory that was written, and on what it gives when it is loaded again."""
    if drop.saved is None:
        return ()
    difference, tolerance, before, after = drop.saved
    zeros = "" if drop.reduction.compensated else " Zeros stand in the files where a sublayer was."
    return (
        f"The weights take {before:,} bytes in the source and {after:,} bytes in what was written.{zeros}",
        f"What was written was loaded again. On one window its logits differ from those that were measured by at most "
        f"{difference:.2g}, where {tolerance:.2g} is accepted.",
    )


def _importance(drop: Drop) -> list[Section]:
    reduction = drop.reduction
    scores = {str(name): reduction.scores[name].to_numpy() for name in reduction.scores.data_vars}
    nouns = {name: noun for name, noun in _KINDS.items() if name in scores}
    least = listed([f"{layer_list((int(np.nanargmin(scores[name])),))} ({noun})" for name, noun in nouns.items()])
    last = next(reversed(nouns))
    peak = int(np.nanargmax(scores[f"{last}_max"]))
    return [
        Section(
            key="importance",
            title=f"Attention matters least in {layer_list((int(scores['attention'].argmin()),))}, the MLP in "
            f"{layer_list((int(scores['mlp'].argmin()),))}",
            sentences=(
                "Importance is 1 − cos(x, x + F(x)), averaged over positions. The largest value of any position is "
                "shown as well, since a sublayer may matter at one position alone.",
                f"The mean is least for {least}; the worst position of {_A[last]} is in layer {peak} "
                f"({number(scores[f'{last}_max'][peak])}, where the mean is {number(scores[last][peak])}).",
            ),
            pictures=(
                Picture(
                    "importance",
                    "Importance of every kind of sublayer and of whole layers over depth, with what was taken out",
                    plots.reduction.importance(scores, reduction.gone),
                ),
            ),
            numbers=scores,
            variables={
                f"importance_{name}": (("layer",), values, {"units": "1", "long_name": f"importance, {name}"})
                for name, values in scores.items()
            },
        )
    ]


def _choice(drop: Drop) -> list[Section]:
    choice, losses = drop.reduction.choice, drop.reduction.losses
    if choice is None:
        return []
    increase = losses["reduced"].loss - losses["intact"].loss
    kind: Any = next(part for part, layers in drop.reduction.gone.items() if layers)
    slope = np.full(drop.reduction.scores.sizes["layer"], np.nan)
    slope[[sublayer.layer for sublayer in drop.reduction.before.sublayers(kind)]] = choice.slope
    return [
        Section(
            key="choice",
            title=f"Before any was taken out, a change of {number(float(choice.predicted[-1]), 3)} nats per token was "
            "predicted",
            sentences=(
                "One pass with gradients predicts, to second order, what every gain and every pair of gains costs; the "
                f"layers were taken greedily in the order {', '.join(map(str, choice.order))}.",
                f"The prediction for all of them is {number(float(choice.predicted[-1]), 3)} nats per token; the "
                f"measurement on the held-out text is {number(increase, 3)}.",
            ),
            pictures=(
                Picture(
                    "predicted",
                    "Predicted change of the loss against the number of sublayers replaced",
                    plots.figure_of(plots.reduction.predicted(choice.predicted)),
                ),
            ),
            caveat="The expansion holds near the whole network. It orders the layers well, and understates the cost of "
            "many.",
            numbers={"order": list(choice.order), "predicted": choice.predicted},
            variables={
                "predicted_cost": (
                    ("replaced",),
                    choice.predicted,
                    {"units": "nat/token", "long_name": "predicted change"},
                ),
                "slope": (("layer",), slope, {"units": "nat/token", "long_name": "first-order change"}),
            },
        )
    ]


PAGE = Page(
    heading=_heading,
    facts=_facts,
    sections={"outcome": _outcome, "savings": _savings, "importance": _importance, "choice": _choice},
)
