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
from ctrlattn.report.words import number, percent, settles
from ctrlattn.stability import largest_stable_step, stability_interval
from ctrlattn.stability.modes.regions import unstable_share

CAVEAT = (
    "This is the theory of the value chain as published: attention is frozen, and there is no residual stream, "
    "re-projection or norm. The gains for text are quoted from memory and have not been checked against the source. "
    "The step h belongs to the sampled continuous law, which the ema law is not."
)


def sections(material: Material) -> list[Section]:
    """Return the section on the published gains, which does not depend on the loops of the report."""
    loops = {name: presets.get(name) for name in presets.PUBLISHED}
    facts = {name: _facts(loop, material) for name, loop in loops.items()}
    return [
        Section(
            key="configurations",
            title=_title(facts),
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
    """Return the largest step with which all modes are stable; nan for a law that does not sample a continuous one."""
    pid = loop.controller
    if not isinstance(pid, PID) or pid.form != "printed":
        return float("nan")
    return largest_stable_step(pid, open_loop_pole(loop, modes))


def _table(loops: dict[str, Loop], facts: dict[str, dict[str, Any]], material: Material) -> Table:
    networks = list(material.spectra)
    header = (
        "configuration",
        "kp",
        "ki",
        "kd",
        "stable for real a in",
        *(f"outside, {network}" for network in networks),
        *(f"largest step h, {network}" for network in networks),
    )
    rows = tuple(
        (
            name,
            *(f"{gain:g}" for gain in _gains(loops[name].controller)),
            interval_text(loops[name]),
            *(percent(row["outside"][network]) for network in networks),
            *("–" if np.isnan(h := row["largest_step"][network]) else number(h, 3) for network in networks),
        )
        for name, row in facts.items()
    )
    return Table(header, rows, "Published gains, the modes that they leave unstable, and the step that would be stable")


def _gains(pid: Any) -> tuple[float, float, float]:
    return pid.kp, pid.ki, pid.kd


def _title(facts: dict[str, dict[str, Any]]) -> str:
    stable = sum(not any(row["outside"].values()) for row in facts.values())
    if stable == len(facts):
        return f"All {stable} published configurations are stable on every recorded mode"
    of = f"{stable or 'None'} of {len(facts)} published configurations"
    return f"{of} {'is' if stable < 2 else 'are'} stable on every recorded mode"


def _sentences(loops: dict[str, Loop], facts: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    printed, ema = facts["pidformer-printed"], facts["pidformer-ema"]
    return (
        "In causal attention the modes are the attention that each token gives itself. The printed law needs at least "
        f"{number(printed['interval'][0])} of it. A smaller step h, a layer worth less than a unit of time, helps.",
        "The law as code computes it covers more of the spectrum, and pays with an error that stays: "
        f"{percent(ema['steady_state_error'])} at the average mode, where the printed law has "
        f"{percent(abs(printed['steady_state_error']))} and settles {settles(printed['settling'], HORIZON)}.",
    )
