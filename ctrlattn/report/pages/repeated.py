"""loop study -> the page of `ctrlattn loop`: forecast, loss against passes, motion of the stream, and the verdict."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlattn import plots
from ctrlattn.report import folder
from ctrlattn.report.folder import Report
from ctrlattn.report.page import Heading, Page
from ctrlattn.report.section import Picture, Section, Table
from ctrlattn.report.words import change, count, layer_list, listed, number

if TYPE_CHECKING:
    from ctrlattn.checkpoints import Evaluation, LoopStudy
    from ctrlattn.checkpoints.measure.loop_study import Reach
    from ctrlattn.passes import Passes

_WORDS = {
    "naive": "naive, C = 1",
    "damped": "damped, C = 1/K",
    "recall": "with recall",
    "tuned": "tuned to the eigenvalues",
    "asked": "as asked for",
    "once": "control: once, times K g",
}


def write_repeated(out: str | Path, study: "LoopStudy", *, formats: Sequence[str] = ()) -> Report:
    """Write the page of a repeated span.

    Parameters
    ----------
    out : path
        Directory for report.html, figures/, results.nc and summary.json; made if absent.
    study : LoopStudy
        Result of checkpoints.loop_study.
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
    >>> config = transformers.GPT2Config(n_layer=3, n_embd=4, n_head=2, vocab_size=9)
    >>> network = checkpoints.load(transformers.GPT2LMHeadModel(config))
    >>> study = checkpoints.loop_study(network, [[1, 2], [2, 1]], layers=(1, 2), passes=2)
    >>> write_repeated(tempfile.mkdtemp(), study).path.name
    'report.html'
    """
    return folder.write(out, PAGE, study, formats=formats)


def _name(study: "LoopStudy") -> str:
    return study.checkpoint.name


def _span(study: "LoopStudy") -> str:
    return layer_list(range(*study.layers))


def _law_numbers(law: "Passes") -> dict[str, Any]:
    num, den = law.law.fraction()
    return {"numerator": num, "denominator": den, "recall": law.recall}


def _facts(study: "LoopStudy") -> dict[str, Any]:
    laws = {name: _law_numbers(law) for name, law in study.laws.items()}
    return {"model": _name(study), "layers": list(study.layers), "passes": study.counts[-1], "laws": laws}


def _heading(study: "LoopStudy") -> Heading:
    windows, length = study.windows.shape
    return Heading(
        title=f"{_name(study)} with {_span(study)} as a loop",
        lead=f"The span runs up to {count(study.counts[-1], 'time')}: what its Jacobian forecasts, and what it costs.",
        networks=[
            {"name": _name(study), "summary": f"{count(windows, 'window')} of {count(length, 'token')}", "texts": []}
        ],
        provenance={"Network": {"source": study.checkpoint.source, "family": study.checkpoint.family.name}},
    )


def _change(study: "LoopStudy", evaluation: "Evaluation") -> tuple[float, float]:
    """Return the paired mean over windows and its standard error."""
    from ctrlattn.checkpoints.measure.evaluate import standard_error

    paired = evaluation.window_losses - study.intact.window_losses
    return float(paired.mean()), standard_error(paired)


def _changes(study: "LoopStudy") -> dict[str, dict[int, tuple[float, float]]]:
    return {name: {k: _change(study, e) for k, e in each.items()} for name, each in study.losses.items()}


def _verdict(study: "LoopStudy") -> list[Section]:
    loops = {
        (name, k): value
        for name, each in _changes(study).items()
        for k, value in each.items()
        if name != "once" and (k > 1 or name in ("recall", "tuned"))
    }
    title = "No loop was measured"
    sentences = [f"Forecast, before any loss was measured. {_sentence(study.reach.words)}"]
    numbers: dict[str, Any] = {"intact": study.intact.loss}
    if loops:
        name, k = min(loops, key=lambda at: loops[at][0])
        mean, error = loops[name, k]
        often = "1 pass" if k == 1 else f"{k} passes"
        sentences.append(
            f"On this text the loss of the network, {number(study.intact.loss, 3)} nats per token, {change(mean, 3)} "
            f"under the best of {count(len(loops), 'loop')}: {_WORDS[name]}, {often} (standard error of the paired "
            f"difference {number(error, 3)}). {_gain_sentence(mean, error)}"
        )
        title = f"At best the loss {change(mean, 3)} nats per token: {_WORDS[name]}, {often}"
        numbers["best"] = {"law": name, "passes": k, "change": mean, "standard_error": error}
    naive = _changes(study)["naive"]
    if len(naive) > 1:
        most = max(naive)
        sentences.append(f"Naive looping, {most} passes: the loss {change(naive[most][0], 3)}.")
    sentences += [f"{_WORDS[name].capitalize()}: {why}." for name, why in study.diverged.items()]
    return [Section("verdict", title, tuple(sentences), numbers=numbers)]


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _gain_sentence(mean: float, error: float) -> str:
    if mean >= 0:
        return "No loop lowers it."
    if np.isnan(error) or mean + 2 * error >= 0:
        return "That is within the error of this text."
    return (
        "The best of several is chosen on the text it is judged by: only other text can show that it helps, and the "
        "update of the span once, times the same total gain, is what it has to beat."
    )


def _forecast(study: "LoopStudy") -> list[Section]:
    from ctrlattn.looped.uncertainty import reached
    from ctrlattn.stability import odd_number_limit, pass_poles

    modes = study.reach.modes
    if not len(modes.eigenvalues):
        return [
            Section("forecast", "The Jacobian has no eigenvalue that was measured", (_sentence(study.reach.words),))
        ]
    laws = {name: law for name, law in study.laws.items() if name != "once"}
    re, im = plots.repeated.plane_around(modes.eigenvalues, 1 + max(law.recall for law in laws.values()))
    grid = re[None, :] + 1j * im[:, None]
    regions = {
        _WORDS[name]: (re, im, np.abs(pass_poles(law.controller, grid, law.recall)).max(-1))
        for name, law in laws.items()
    }
    edges = {_WORDS[name]: 1 + law.recall for name, law in laws.items()}
    outcome = {name: reached(law, modes.eigenvalues, modes.off) for name, law in laws.items()}
    unstable = {name: int(np.sum(disks.unstable)) for name, disks in outcome.items()}
    words = listed([f"{_WORDS[name]} leaves {many}" for name, many in unstable.items()])
    near = [f"{_WORDS[name]} {sum(disks.undecided)}" for name, disks in outcome.items() if any(disks.undecided)]
    return [
        Section(
            key="forecast",
            title=f"{sum(many > 0 for many in unstable.values())} of {count(len(unstable), 'law')} would not bring "
            "every measured direction to rest",
            sentences=(
                _sentence(study.reach.words),
                _sentence(odd_number_limit(modes.eigenvalues, study.reach.recall, errors=modes.off).in_words()),
                f"Of {count(len(modes.eigenvalues), 'eigenvalue')} that were measured, of largest modulus "
                f"{number(float(np.abs(modes.eigenvalues).max()))} and largest real part "
                f"{number(float(modes.eigenvalues.real.max()))}: {words} outside its region."
                + (f" Undecided by the errors of the eigenvalues: {listed(near)} at the edge." if near else ""),
                study.tuning,
            ),
            pictures=(
                Picture(
                    "modes",
                    "Outer eigenvalues of the Jacobian of the span over the region that each law leaves stable",
                    plots.repeated.modes_over_regions(modes.eigenvalues, regions, edges),
                ),
            ),
            caveat="The Jacobian is that of the stream which enters the span in one text, and not of a fixed point, of "
            f"which there may be none. Of its {modes.size} eigenvalues the outer ones that have converged are shown.",
            numbers={
                "rightmost": float(modes.eigenvalues.real.max()),
                "largest": float(np.abs(modes.eigenvalues).max()),
                "measured": len(modes.eigenvalues),
                "outside": len(study.reach.outside),
                "least_recall": study.reach.least_recall,
                "outside_the_region": unstable,
                "undecided": {name: int(sum(disks.undecided)) for name, disks in outcome.items()},
            },
            variables={
                "eigenvalue": (("mode",), modes.eigenvalues, {"units": "1", "long_name": "eigenvalue of J"}),
                "eigenvalue_residual": (("mode",), modes.residuals, {"units": "1", "long_name": "|J v - lambda v|"}),
                "eigenvalue_error": (("mode",), modes.off, {"units": "1", "long_name": "how far it may be off"}),
            },
        )
    ]


def _loss(study: "LoopStudy") -> list[Section]:
    changes = _changes(study)
    by_words = {_WORDS[name]: each for name, each in changes.items()}
    rows = tuple(
        (
            _WORDS[name],
            *(
                f"{number(each[k][0], 3)} ± {number(each[k][1], 3)}" if k in each else "not finite"
                for k in study.counts
            ),
        )
        for name, each in changes.items()
    )
    ks = tuple(f"{k}" for k in study.counts)
    return [
        Section(
            key="loss",
            title=_largest_change(changes),
            sentences=(
                "The change of the loss by law and number of passes, in nats per token, with the standard error over "
                "windows of the paired difference.",
            ),
            pictures=(
                Picture(
                    "loss",
                    "Change of the loss against the number of passes, one curve for each law",
                    plots.figure_of(
                        plots.repeated.loss_over_passes(
                            {name: {k: v[0] for k, v in each.items()} for name, each in by_words.items()},
                            {name: {k: v[1] for k, v in each.items()} for name, each in by_words.items()},
                        )
                    ),
                ),
            ),
            tables=(Table(("law; passes", *ks), rows, "Change of the loss (nats/token)"),),
            numbers={name: {str(k): e.loss for k, e in each.items()} for name, each in study.losses.items()},
            variables={
                f"loss_{name}": (
                    ("passes",),
                    np.array([each[k].loss if k in each else np.nan for k in study.counts]),
                    {"units": "nat/token", "long_name": _WORDS[name]},
                )
                for name, each in study.losses.items()
            }
            | {"passes": (("passes",), np.array(study.counts), {"units": "1", "long_name": "passes through the span"})},
        )
    ]


def _largest_change(changes: dict[str, dict[int, tuple[float, float]]]) -> str:
    """Say where the loss moved most, by law and number of passes."""
    change_by_run = {(name, k): value[0] for name, each in changes.items() for k, value in each.items()}
    name, k = max(change_by_run, key=lambda at: abs(change_by_run[at]))
    most = change_by_run[name, k]
    often = "1 pass" if k == 1 else f"{k} passes"
    return f"The loss moves most under {_WORDS[name]}: with {often} it {change(most, 3)} nats per token"


def _motion(study: "LoopStudy") -> list[Section]:
    motion = {name: run for name, run in study.motion.items() if len(run.residual)}
    if not motion:
        return []
    ends = listed([f"{number(run.residual[-1], 3)} ({_WORDS[name]})" for name, run in motion.items()])
    return [
        Section(
            key="motion",
            title=_residual_sentence(motion),
            sentences=(
                "At a fixed point |F(h) − h|/|h| is 0 (without recall). Before the last pass its median over tokens is "
                f"{ends}.",
            ),
            pictures=(
                Picture(
                    "motion",
                    "Residual and norm of the stream over passes, one curve for each law",
                    plots.repeated.motion_over_passes(
                        {_WORDS[name]: run.residual for name, run in motion.items()},
                        {_WORDS[name]: run.norm for name, run in motion.items()},
                    ),
                ),
            ),
            numbers={name: {"residual": run.residual, "norm": run.norm} for name, run in motion.items()},
        )
    ]


def _residual_sentence(motion: dict[str, Any]) -> str:
    """Say which law comes nearest to a fixed point."""
    ends = {name: float(run.residual[-1]) for name, run in motion.items() if np.isfinite(run.residual[-1])}
    if not ends:
        return "No law comes near a fixed point"
    name = min(ends, key=lambda law: ends[law])
    return f"Nearest to a fixed point comes {_WORDS[name]}, with a residual of {number(ends[name], 3)}"


def _scan(study: "LoopStudy") -> list[Section]:
    if not study.scan:
        return []
    modes = [reach.modes.eigenvalues for reach in study.scan]
    rightmost = np.array([values.real.max() if len(values) else np.nan for values in modes])
    largest = np.array([np.abs(values).max() if len(values) else np.nan for values in modes])
    rows = tuple(
        (
            layer_list(range(*reach.layers)),
            number(float(real)),
            number(float(most)),
            str(len(reach.outside)),
            number(reach.least_recall),
            _forecast_cell(reach),
        )
        for reach, real, most in zip(study.scan, rightmost, largest, strict=True)
    )
    beyond = [reach for reach in study.scan if len(reach.outside)]
    return [
        Section(
            key="scan",
            title=f"No small gain leads {len(beyond)} of {count(len(study.scan), 'span')} to a fixed point",
            sentences=(
                f"Of {count(len(study.scan), 'span')} of this length side by side, {len(beyond)} have eigenvalues with "
                f"a real part of 1 + recall or more at their own input: no small gain leads them to a fixed point.",
            ),
            pictures=(
                Picture(
                    "scan",
                    "Largest real part and largest modulus of the eigenvalues of J over depth",
                    plots.figure_of(
                        plots.repeated.rightmost_over_depth(
                            [reach.layers for reach in study.scan], rightmost, largest, edge=1 + study.reach.recall
                        )
                    ),
                ),
            ),
            tables=(
                Table(
                    ("span", "largest Re", "largest modulus", "with Re ≥ 1 + recall", "recall needed", "forecast"),
                    rows,
                    "The four rightmost and the four largest eigenvalues of each span",
                ),
            ),
            numbers={
                "spans": [list(reach.layers) for reach in study.scan],
                "rightmost": rightmost,
                "largest": largest,
            },
        )
    ]


def _forecast_cell(reach: "Reach") -> tuple[str, str]:
    if not len(reach.modes.eigenvalues):
        return "no eigenvalue", "warn"
    if len(reach.outside):
        return "no reachable fixed point", "bad"
    return ("undecided", "warn") if len(reach.undecided) else ("small gains are stable", "good")


PAGE = Page(
    heading=_heading,
    facts=_facts,
    sections={"verdict": _verdict, "forecast": _forecast, "loss": _loss, "motion": _motion, "scan": _scan},
)
