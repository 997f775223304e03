"""Section: one table with a row per loop, its figures in columns, and a verdict in words."""

from typing import Any

import numpy as np

from ctrlattn.frequency import mean_cosine
from ctrlattn.loop import Loop
from ctrlattn.report.pages.loops.average_mode import HORIZON, interval_text, mode_metrics, reached
from ctrlattn.report.pages.loops.material import Material, why_not_linear
from ctrlattn.report.section import Section, Table
from ctrlattn.report.words import layers_until, listed, number, percent
from ctrlattn.stability.modes.regions import mode_radius, unstable_share

HEADER = (
    "loop",
    "stable for real a in",
    "modes unstable",
    "largest pole",
    "T(1), average mode",
    "settling (layers)",
    "mean cosine at the end",
    "verdict",
)
TOLERATED = 0.05  # a steady-state error below this share of the reference counts as tracking


def sections(material: Material) -> list[Section]:
    """The section that compares all loops."""
    rows, verdicts = [], {}
    for name, loop in material.loops.items():
        cells, verdict = _row(name, loop, material)
        rows.append((name, *cells, verdict))
        verdicts[name] = {"verdict": verdict[0], "state": verdict[1]}
    return [
        Section(
            key="comparison",
            title="The loops side by side",
            sentences=_sentences(verdicts),
            caveat=(
                "Intervals, poles, T(1) and settling are those of frozen modes (linear, time-invariant). The cosine is "
                "simulated with the recorded matrices, layer by layer. A verdict holds for the value chain alone, not "
                "for a trained network around it."
            ),
            tables=(Table(HEADER, tuple(rows), f"Loops driven by {material.network}"),),
            numbers=verdicts,
        )
    ]


def _row(name: str, loop: Loop, material: Material) -> tuple[tuple[str, ...], tuple[str, str]]:
    cosine = _final_cosine(name, material)
    reason = why_not_linear(loop)
    if reason is not None:
        nothing = ("not LTI", "–", "–", "–", "–", number(cosine))
        return nothing, (f"no linear verdict: {reason}", "warn")
    modes = material.spectra[material.network]
    share, largest = float(unstable_share(loop, modes)), float(mode_radius(loop, modes).max())
    metrics = mode_metrics(loop, material)
    gain = reached(loop, material.average_mode)
    cells = (
        interval_text(loop),
        percent(share),
        number(largest),
        number(gain),
        layers_until(metrics.settling, HORIZON),
        number(cosine),
    )
    return cells, _verdict(loop, share, gain)


def _verdict(loop: Loop, share: float, gain: float) -> tuple[str, str]:
    if share > 0:
        return f"unstable for {percent(share)} of the real modes", "bad"
    if loop.controller is None:
        return "marginal: the mean is kept, every difference between tokens dies out; nothing is tracked", "warn"
    if abs(1 - gain) > TOLERATED:
        return f"stable on all real modes, steady-state error {percent(abs(1 - gain))}", "warn"
    return "stable on all real modes and tracks its reference", "good"


def _final_cosine(name: str, material: Material) -> float:
    runs = material.trajectories.get(name)
    if runs is None:
        return float("nan")
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.mean([mean_cosine(x[-1]) for x in runs]))


def _sentences(verdicts: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    by_state = {state: [n for n, v in verdicts.items() if v["state"] == state] for state in ("good", "warn", "bad")}
    words = {
        "good": "stable and tracking",
        "warn": "with a reservation",
        "bad": "unstable on part of the real spectrum",
    }
    parts = [f"{words[state]}: {listed(names)}" for state, names in by_state.items() if names]
    return (f"{'; '.join(parts)[:1].upper()}{'; '.join(parts)[1:]}.",)
