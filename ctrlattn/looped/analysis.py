"""What a loop over passes does and why, in the order in which the questions make sense.

Period first, since eigenvalues of one Jacobian answer for rest alone. Then the fixed point, the spectrum of J there,
the poles that the controller makes of it, what gains and recall can do, and growth before the poles decide.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ctrlattn.arrays import Array, machine_epsilon
from ctrlattn.design import Performance, performance
from ctrlattn.errors import require_whole
from ctrlattn.looped.closed import Growth, closed_map, growth
from ctrlattn.looped.exponents import exponents
from ctrlattn.looped.limits import Limits, limits
from ctrlattn.looped.pass_map import PassMap, as_pass_map, require_state
from ctrlattn.looped.period import Period, period
from ctrlattn.looped.rest import RestPoint, fixed_point
from ctrlattn.looped.spectrum import WHOLE, PassSpectrum, Which, formed, pass_products, some, spectrum
from ctrlattn.looped.uncertainty import Reached, eigenvalue_errors, known_to, measured_within, reached
from ctrlattn.passes import Passes
from ctrlattn.stability import Exponents, OddNumberLimit, odd_number_limit
from ctrlattn.stability.motion.tangent import length

_SMALL = 400  # numbers in a state whose whole spectrum and growth are measured without being asked for
_WHICH: tuple[Which, ...] = ("LM", "LR", "critical")
_MULTIPLE = 4.0  # times Newton's step that a point may be from rest
_OPEN = 0.01  # share of Ms that errors of the eigenvalues may leave open
_SAME = 1e-6  # relative distance below which two measured eigenvalues are one


@dataclass(frozen=True, eq=False)
class Analysis:
    """A loop over passes: what it does, where it rests, and what its spectrum says of it."""

    passes: Passes
    period: Period
    point: RestPoint | None  # None where none was found
    why_no_point: str
    spectrum: PassSpectrum  # of J at the fixed point, or at h_0 where there is none
    odd_number: OddNumberLimit
    performance: Performance  # of each distinct eigenvalue: radius of its poles, settling in passes, margins
    limits: Limits | None
    why_no_limits: str
    growth: Growth | None  # None where it was not asked for
    exponents: Exponents | None  # Lyapunov exponents, where the loop neither rests nor has a period
    multiplier: float  # largest modulus of the multipliers of an orbit of period 2 or more; nan otherwise
    reached: Reached  # the least and largest modulus of the poles of each eigenvalue of `spectrum`, within its error

    @property
    def verdict(self) -> Literal["stable", "unstable", "undecided"]:
        """What the measured eigenvalues say, with all that they may be within their errors.

        >>> [analyse(lambda h, g=g: g * h, np.ones(2)).verdict for g in (0.9, 1.0, 1.1)]
        ['stable', 'undecided', 'unstable']
        """
        if self.reached.unstable.any():
            return "unstable"
        return "undecided" if self.reached.undecided.any() else "stable"

    @property
    def ms(self) -> float:
        """The largest |S| over the passes, worst eigenvalue; infinite where one is unstable.

        It is nan where the errors of the eigenvalues leave it open by more than a hundredth.
        """
        if self.verdict != "stable":
            return float("nan" if self.verdict == "undecided" else "inf")
        least, largest = self._ranges["ms"]
        worst = 1 / self.performance.worst()["modulus_margin"]
        return worst if largest - least <= _OPEN * worst else float("nan")

    @cached_property
    def _ranges(self) -> dict[str, tuple[float, float]]:
        return measured_within(self.passes, self.spectrum.eigenvalues, self.spectrum.errors)

    def in_words(self) -> list[str]:
        """Return the verdict in sentences.

        >>> analyse(lambda h: -3.0 * h, np.ones((1, 2))).in_words()[0]
        'the loop runs away: it is no longer finite after pass 323'
        """
        sentences = [self.period.in_words()]
        if self.point is None:
            sentences.append(f"no fixed point: {self.why_no_point}")
        sentences += self._of_eigenvalues("the fixed point" if self.point is not None else "h_0")
        sentences.append(self.odd_number.in_words())
        if self.limits is not None and self.limits.gain.why:
            sentences.append(self.limits.gain.why)
        elif self.limits is not None and np.isfinite(self.limits.gain.value):
            sentences.append(f"the controller may be multiplied by up to {self.limits.gain.value:.4g}")
        if self.limits is None:
            sentences.append(f"no limits of gain and recall: {self.why_no_limits}")
        if self.exponents is not None:
            value, low, high = (float(part[0]) for part in self.exponents[:3])
            outcome = f"is {value:.4g}" if not np.isnan(value) else "is open: it lies"
            sentences.append(f"the largest Lyapunov exponent {outcome}, between {low:.4g} and {high:.4g} a pass")
        if np.isfinite(self.multiplier):
            sentences.append(f"the largest multiplier of the orbit is {self.multiplier:.4g}")
        return sentences

    def _of_eigenvalues(self, where: str) -> list[str]:
        part, of = "" if self.spectrum.whole else "measured ", f"eigenvalues of J at {where}"
        largest = float(np.max(self.performance.radius))
        if self.verdict == "stable":
            ms, settling = self._ranges["ms"], self._ranges["settling"]
            return [
                f"all {part}{of} are stable: the largest pole has the modulus {largest:.4g}, the slowest mode settles "
                f"in {_range_in_words(*settling, settling[0] == settling[1])} passes, "
                f"Ms = {_range_in_words(*ms, not np.isnan(self.ms))}"
            ]
        sentences, unstable, open_ = [], int(np.sum(self.reached.unstable)), int(np.sum(self.reached.undecided))
        if unstable:
            sentences.append(f"{unstable} {part}{of} are unstable: the largest pole is {largest:.4g}")
        if open_:
            least, most = (part[self.reached.undecided] for part in self.reached)
            among = f"all {open_}" if open_ == len(self.reached.least) else f"{open_} of {len(self.reached.least)}"
            sentences.append(
                f"{among} {part}{of} are marginal: their largest poles lie on the unit circle within "
                f"{float(max(np.max(most - 1), np.max(1 - least))):.2g}, which their errors leave open, so that "
                "linear analysis decides neither way"
            )
        return sentences


def _range_in_words(least: float, largest: float, sure: bool) -> str:
    return f"{largest:.4g}" if sure else f"{least:.4g} to {largest:.4g}, which errors of the eigenvalues leave open"


def analyse(
    f: Any,
    h: Array,
    *,
    controller: Any = None,
    recall: float = 0.0,
    passes: int = 512,
    k: int = 16,
    transients: int | None = None,
    seed: int = 0,
) -> Analysis:
    """Measure a loop: period, fixed point, spectrum, poles, limits, growth and exponents.

    Parameters
    ----------
    f, h, controller, recall : as for `iterate`
    passes : int
        Number of passes of the period test.
    k : int
        Eigenvalues of each kind (largest modulus, largest real part, least stable) of a state of more than 400
        numbers; of a smaller one all are computed.
    transients : int, optional
        Passes over which growth is measured: 64 for a state of at most 400 numbers, 0 (none) for a larger one.
    seed : int

    Returns
    -------
    Analysis
        What could not be measured says why. A state of float32 has no fixed point to 1e-10, and its spectrum is taken
        at h_0.

    Raises
    ------
    InputError
        As for `iterate`, but not for a state that runs away.
    ArithmeticError
        The spectrum does not converge.

    Examples
    --------
    >>> calm = analyse(lambda h: np.tanh(h) - 1.4 * h, np.full((1, 2), 0.1), recall=0.5)
    >>> calm.period.period, bool(calm.performance.stable.all()), round(calm.ms, 3)  # near w = 1.9, pole -.9
    (1, True, 20.139)
    """
    step, h, loop = as_pass_map(f), require_state(h), Passes(controller, recall=recall)
    k, size = require_whole("k", k), length(h)
    outcome = period(step, h, passes, controller=controller, recall=recall)
    point, why_no_point = _point(step, h, recall)
    at = h if point is None else point.x
    spectrum = _spectrum(step, at, loop, k, seed)
    if point is not None and spectrum.whole:
        spectrum = _with_wider_errors(step, point, spectrum)
    beside, why_no_limits = _limits(step, at, spectrum, loop, seed)
    transients = (
        (64 if size <= _SMALL else 0) if transients is None else require_whole("transients", transients, least=0)
    )
    grown = growth(step, at, transients, controller=controller, recall=recall) if transients else None
    rates = None
    if outcome.period == 0:
        few = min(size, 4)
        rates = exponents(step, outcome.state, passes, few, controller=controller, recall=recall, reference=h)
    return Analysis(
        loop, outcome, point, why_no_point, spectrum,
        odd_number_limit(spectrum.eigenvalues, loop.recall, errors=spectrum.errors),
        performance(loop, spectrum.eigenvalues), beside, why_no_limits, grown, rates,
        _multiplier(step, h, outcome, loop), reached(loop, spectrum.eigenvalues, spectrum.errors),
    )  # fmt: skip


def _point(step: PassMap, h: Array, recall: float) -> tuple[RestPoint | None, str]:
    if machine_epsilon(h) > 1e-10:
        return None, "the state is not float64, and a fixed point is known to 1e-10 or not at all"
    try:
        return fixed_point(step, h, recall=recall), ""
    except ArithmeticError as error:
        return None, str(error)


def _spectrum(step: PassMap, at: Array, loop: Passes, k: int, seed: int) -> PassSpectrum:
    """Return all eigenvalues of a small Jacobian, or the union of those that matter for one reason or another."""
    size = length(at)
    if size <= min(_SMALL, WHOLE):
        return spectrum(step, at)
    parts = [
        spectrum(step, at, min(k, size), which=which, controller=loop.controller, recall=loop.recall, seed=seed)
        for which in _WHICH
    ]
    values = np.concatenate([part.eigenvalues for part in parts])
    scale = max(part.norm for part in parts)
    new = [i for i, v in enumerate(values) if not np.any(np.abs(values[:i] - v) <= _SAME * scale)]
    return some(
        values[new],
        np.concatenate([part.vectors for part in parts], axis=1)[:, new],
        np.concatenate([part.residuals for part in parts])[new],
        scale,
        any(part.whole for part in parts),
        sum(part.products for part in parts),
    )


def _with_wider_errors(step: PassMap, point: RestPoint, spectrum: PassSpectrum) -> PassSpectrum:
    """Return the spectrum with errors that count how J changes on the way to where Newton's step leads.

    A fixed point of multiplicity m is m such steps away, and on the way its eigenvalue 1 + k_r seems to be decided.
    """
    size = length(point.x)
    J, J_there = (formed(pass_products(step, at), size) for at in (point.x, point.x + point.off))
    change = float(np.linalg.norm(J_there - J)) * _MULTIPLE
    if not np.isfinite(change) or change == 0:
        return spectrum
    delta = known_to(step, point.x, J) + change
    return spectrum._replace(errors=eigenvalue_errors(J, spectrum.eigenvalues, delta))


def _limits(step: PassMap, at: Array, spectrum: PassSpectrum, loop: Passes, seed: int) -> tuple[Limits | None, str]:
    try:
        return limits(step, at, spectrum, controller=loop.controller, recall=loop.recall, seed=seed), ""
    except ArithmeticError as error:
        return None, str(error)


def _multiplier(step: PassMap, h: Array, outcome: Period, loop: Passes) -> float:
    """Return max |multiplier| of an orbit: the largest eigenvalue of as many passes of the loop as its period has."""
    if outcome.period < 2 or machine_epsilon(h) > 1e-10:
        return float("nan")
    pass_with_memory, z = closed_map(step, outcome.state, controller=loop.controller, recall=loop.recall, reference=h)

    def around(z: Array) -> Array:
        for _ in range(outcome.period):
            z = pass_with_memory(z)
        return z

    # The memories of the controller have to be on the orbit too.
    for _ in range(64 * outcome.period):
        z = pass_with_memory(z)
    return float(np.abs(spectrum(around, z, 1).eigenvalues[0]))
