"""A verdict on each loop in words: is it stable on the recorded modes, and does it track its reference?"""

import numpy as np

from ctrlattn.frequency import mean_cosine
from ctrlattn.loop import Loop
from ctrlattn.report.pages.loops.average_mode import reached
from ctrlattn.report.pages.loops.material import Material, why_not_linear
from ctrlattn.report.section import Section
from ctrlattn.report.words import percent
from ctrlattn.stability.modes.regions import unstable_share

TOLERATED = 0.05  # a steady-state error below this share of the reference counts as tracking


def sections(material: Material) -> list[Section]:
    """Judge each loop; the first screen of the page shows the verdicts, so that they have no section of their own."""
    verdicts = {}
    for name, loop in material.loops.items():
        verdict, state = _verdict_on(loop, material)
        verdicts[name] = {"verdict": verdict, "state": state, "mean_cosine_at_the_end": _final_cosine(name, material)}
    return [Section("comparison", "", (), numbers=verdicts)]


def _verdict_on(loop: Loop, material: Material) -> tuple[str, str]:
    reason = why_not_linear(loop)
    if reason is not None:
        return f"no linear verdict: {reason}", "warn"
    shares = {name: float(unstable_share(loop, modes)) for name, modes in material.spectra.items()}
    return _verdict(loop, max(shares.values()), reached(loop, material.average_mode))


def _verdict(loop: Loop, share: float, gain: float) -> tuple[str, str]:
    if share > 0:
        return "unstable on part of the recorded modes", "bad"
    if loop.controller is None:
        return "marginal: the mean is kept, every difference between tokens dies out; nothing is tracked", "warn"
    if abs(1 - gain) > TOLERATED:
        return f"stable on all recorded modes, steady-state error {percent(abs(1 - gain))}", "warn"
    return "stable on all recorded modes, and tracks its reference", "good"


def _final_cosine(name: str, material: Material) -> float:
    runs = material.trajectories.get(name)
    if runs is None:
        return float("nan")
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.mean([mean_cosine(x[-1]) for x in runs]))
