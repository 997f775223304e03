"""judge(gains): the specification that given gains meet on a measured spectrum, and gains that are better in all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrlattn import presets
from ctrlattn.controllers import PID
from ctrlattn.design.performance import MEASURES, Performance, in_words, performance
from ctrlattn.design.specification import Design, InfeasibleError, Spec
from ctrlattn.design.tuning import tune
from ctrlattn.errors import InputTypeError, require_flag
from ctrlattn.loop import Loop, require_scalar_gains

_RESCUE = {"modulus_margin": 0.1, "settling": 100.0}  # asked of gains that replace unstable ones


@dataclass(frozen=True)
class Judgement:
    """What a loop achieves on a spectrum, and what the same law with other gains would."""

    controller: PID
    performance: Performance
    meets: Spec | None  # the sharpest specification that every mode meets; None where a mode is unstable
    stable_part: Spec | None  # the same over the modes that are stable; None where none is
    better: Design | None  # gains of the same law that are at least as good in everything, on every mode
    why_not: str  # what binds where there are none

    def in_words(self) -> str:
        """Return one line that says what is met, and what would meet more."""
        c = self.controller
        words = f"kp {c.kp:g}, ki {c.ki:g}, kd {c.kd:g} ({c.form}): "
        if self.meets is None:
            words += f"unstable on {1 - self.performance.stable_share:.1%} of the modes"
        else:
            words += "every mode meets " + _figures(self.meets.asked())
        if self.better is None:
            return f"{words}; {self.why_not}"
        g = self.better.controller
        achieved = {k: v for k, v in self.better.performance.worst().items() if k != "disk_margin"}
        return f"{words}; kp {g.kp:.3g}, ki {g.ki:.3g}, kd {g.kd:.3g} meet {_figures(achieved)} on all of them"


def judge(
    loop: Loop, spectrum: Any, *, improve: bool = True, terms: Sequence[str] = ("PID", "PD"), seed: int = 0
) -> Judgement:
    """Tell the specification that a loop's gains meet on a spectrum and, with improve, gains that meet it with room.

    To improve is to be at least as good in every figure, in the worst mode. Where a mode is unstable, it is to be
    stable on all of them: with a modulus margin of 0.1, within 100 layers, and with the error that the gains keep over
    their stable modes. Of the two margins only the modulus margin is asked, since the disk margin follows it.

    Parameters
    ----------
    loop : Loop
        With a PID controller.
    spectrum : real or complex, any shape
    improve : bool
        Search for better gains of the same law.
    terms : sequence of str
        The terms that the better gains may use, tried in turn: with the printed law any integral, however small, has
        a slow mode of its own, so that PID does not contain PD.
    seed : int

    Returns
    -------
    Judgement

    Raises
    ------
    InputTypeError
        A loop whose controller is no PID.
    InputError
        A sequence of loops, and as `performance`.

    Examples
    --------
    >>> measured = judge(presets.get("neutreno"), [0.0, 0.5, 1.0], improve=False)
    >>> round(measured.meets.steady_state_error, 6), measured.meets.settling
    (0.625, 8.0)
    """
    improve = require_flag("improve", improve)
    require_scalar_gains(loop, "judge")
    if not isinstance(loop.controller, PID):
        raise InputTypeError(f"judge is about PID gains, got a {type(loop.controller).__name__}")
    figures = performance(loop, spectrum)
    part = _achieved_spec(figures.where(figures.stable)) if figures.stable.any() else None
    meets = part if figures.stable.all() else None
    better, why_not = None, "" if improve else "no other gains were looked for"
    if improve:
        better, why_not = _better_design(loop, spectrum, meets or _rescue(part), terms, seed)
    return Judgement(loop.controller, figures, meets, part, better, why_not)


def judge_published(
    spectra: Mapping[str, Any],
    names: Sequence[str] = presets.PUBLISHED,
    *,
    improve: bool = True,
    terms: Sequence[str] = ("PID", "PD"),
    seed: int = 0,
) -> dict[str, dict[str, Judgement]]:
    """Apply `judge` to each published configuration on each spectrum: name -> network -> Judgement.

    Parameters
    ----------
    spectra : network -> eigenvalues of its attention
    names : names of presets with a PID controller
    improve, terms, seed : as for `judge`

    Examples
    --------
    >>> judgements = judge_published({"uniform": [0.0, 1.0]}, ["pidformer-printed"], improve=False)
    >>> judgements["pidformer-printed"]["uniform"].in_words()
    'kp 0.8, ki 0.5, kd 0.05 (printed): unstable on 50.0% of the modes; no other gains were looked for'
    """
    improve = require_flag("improve", improve)
    return {
        name: {
            network: judge(presets.get(name), spectrum, improve=improve, terms=terms, seed=seed)
            for network, spectrum in spectra.items()
        }
        for name in names
    }


def _achieved_spec(measured: Performance) -> Spec | None:
    """Return the worst figures as a specification; an infinite or vanishing one is no requirement."""
    worst = measured.worst()
    figures = {k: v for k, v in worst.items() if k != "disk_margin" and np.isfinite(v) and (v > 0 or "margin" not in k)}
    return (
        Spec(**{k: 0.0 if k == "steady_state_error" and v < 1e-9 else v for k, v in figures.items()})
        if figures
        else None
    )


def _better_design(loop: Loop, spectrum: Any, goal: Spec, terms: Sequence[str], seed: int) -> tuple[Design | None, str]:
    """Return the first design that meets the goal; else say why the last one does not."""
    why_not = "no terms to try"
    for letters in terms:
        try:
            law = {"form": loop.controller.form, "ema": loop.controller.ema}
            return tune(loop, spectrum, goal, terms=letters, seed=seed, curve=False, **law), ""
        except InfeasibleError as error:
            why_not = f"no {letters} gains found at least as good in everything: {error.why}"
    return None, why_not


def _rescue(part: Spec | None) -> Spec:
    """Return the specification to ask for where the gains leave a mode unstable."""
    return Spec(**_RESCUE, steady_state_error=None if part is None else part.steady_state_error)


def _figures(values: dict[str, float]) -> str:
    figures = (in_words(name, _drop_rounding(values[name])) for name in MEASURES if name in values)
    return ", ".join(text.replace("_", " ") for text in figures)


def _drop_rounding(value: float) -> float:
    """Return an error, or 0 where it is of the size of rounding."""
    return value if value > 1e-9 else 0.0
