"""Section: the published PIDformer gains on real attention spectra: stable interval, share outside, error, Ms."""

from typing import Any

import numpy as np

from ctrlattn import presets
from ctrlattn.controllers import PID
from ctrlattn.frequency import sensitivity_peaks
from ctrlattn.linear import open_loop_pole
from ctrlattn.loop import Loop
from ctrlattn.report.pages.loops.average_mode import HORIZON, interval_text, mode_metrics
from ctrlattn.report.pages.loops.material import Material
from ctrlattn.report.section import Section, Table
from ctrlattn.report.words import layers_until, listed, number, percent, settles
from ctrlattn.stability import largest_stable_step, stability_interval
from ctrlattn.stability.modes.regions import unstable_share

CAVEAT = (
    "This is the theory of the value chain as published: attention is frozen, and there is no residual stream, "
    "re-projection or norm. The gains for text are quoted from memory and have not been checked against the source. "
    "The step h belongs to the sampled continuous law, which the ema law is not."
)


def sections(material: Material) -> list[Section]:
    """The section on the published gains, which does not depend on the loops of the report."""
    loops = {name: presets.get(name) for name in presets.PUBLISHED}
    facts = {name: _facts(loop, material) for name, loop in loops.items()}
    return [
        Section(
            key="configurations",
            title="The published PIDformer configurations on these spectra",
            sentences=_sentences(loops, facts),
            caveat=CAVEAT,
            tables=(_table(loops, facts, material),),
            numbers=facts,
        )
    ]


def _facts(loop: Loop, material: Material) -> dict[str, Any]:
    metrics = mode_metrics(loop, material)
    return {
        "interval": stability_interval(loop.controller),
        "outside": {network: float(unstable_share(loop, modes)) for network, modes in material.spectra.items()},
        "largest_step": {network: _step(loop, modes) for network, modes in material.spectra.items()},
        "steady_state_error": metrics.steady_state_error,
        "Ms": sensitivity_peaks(loop.controller, open_loop_pole(loop, material.average_mode)).ms,
        "settling": metrics.settling,
    }


def _step(loop: Loop, modes: np.ndarray) -> float:
    """Largest step with which all modes are stable; nan for a law that does not sample a continuous one."""
    pid = loop.controller
    if not isinstance(pid, PID) or pid.form != "printed":
        return float("nan")
    return largest_stable_step(pid, open_loop_pole(loop, modes))


def _table(loops: dict[str, Loop], facts: dict[str, dict[str, Any]], material: Material) -> Table:
    networks = list(material.spectra)
    header = (
        "configuration",
        "stable for real a in",
        *(f"outside, {network}" for network in networks),
        *(f"largest step h, {network}" for network in networks),
        "steady-state error",
        "Ms",
        "settling (layers)",
    )
    rows = tuple(
        (
            name,
            interval_text(loops[name]),
            *(percent(row["outside"][network]) for network in networks),
            *("–" if np.isnan(h := row["largest_step"][network]) else number(h, 3) for network in networks),
            number(row["steady_state_error"], 3),
            number(row["Ms"]),
            layers_until(row["settling"], HORIZON),
        )
        for name, row in facts.items()
    )
    mode = number(material.average_mode, 3)
    return Table(header, rows, f"Published gains; error, Ms and settling of the average mode, a = {mode}")


def _sentences(loops: dict[str, Loop], facts: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    printed, ema = facts["pidformer-printed"], facts["pidformer-ema"]
    shares = listed([f"{percent(share)} of the modes of {network}" for network, share in printed["outside"].items()])
    steps = listed([f"{number(h, 2)} ({network})" for network, h in printed["largest_step"].items()])
    return (
        "At the published gains the printed law's value chain is unstable for real modes below "
        f"{number(printed['interval'][0])}, which is {shares}; in causal attention the modes are the attention that "
        f"each token gives itself. A layer worth {steps} of a unit step would just be stable.",
        f"The law as code computes it is stable for a in {interval_text(loops['pidformer-ema'])}, which covers [0, 1], "
        f"and pays with a steady-state error of {percent(ema['steady_state_error'])} at the average mode; the printed "
        f"law's is {percent(printed['steady_state_error'])}, and it settles "
        f"{settles(printed['settling'], HORIZON)}.",
    )
