"""max over gains of min over requirements of slack, worst over a measured spectrum: PID gains from a specification.

The slack of a requirement stands in `specification`. A seeded global search (differential evolution) runs on a few
modes; every mode is certified, and what fails joins the search.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ctrlattn.arrays import require_real
from ctrlattn.controllers import PID, PIDForm
from ctrlattn.design.performance import MEASURES, Performance, in_words, modes_of, performance, plant
from ctrlattn.design.specification import Design, InfeasibleError, Spec, TradeOff
from ctrlattn.errors import InputError, InputTypeError, require_flag
from ctrlattn.linear.mode_polynomial import (
    mode_polynomial,
    outermost_modes,
    overshoot,
    reflection,
    sensitivity_of,
    settling,
    static_gain,
    step_responses,
)
from ctrlattn.linear.pass_polynomial import pull
from ctrlattn.loop import Loop
from ctrlattn.passes import Passes
from ctrlattn.stability import odd_number_limit

BOUNDS = {"P": (-2.0, 3.0), "I": (1e-3, 4.0), "D": (-0.95, 0.95)}
PASS_BOUNDS = {"P": (0.0, 3.0), "I": (1e-3, 2.0), "D": (-1.0, 1.0)}  # over max |1 + recall - lambda|
_UNITS = {"modulus_margin": "", "disk_margin": "", "settling": " layers", "overshoot": "", "steady_state_error": ""}
_MOST = 1.0  # slack beyond which a requirement no longer steers the search
_MODES, _ROUNDS, _GENERATIONS, _POPULATION = 12, 4, 60, 48
_RECALL_SHARE = 0.02  # how near the least recall is looked for, as a share of the way to the most


def tune(
    loop: Loop | Passes,
    spectrum: Any,
    spec: Spec,
    *,
    terms: str = "PID",
    form: PIDForm = "printed",
    ema: float = 0.3,
    bounds: dict[str, tuple[float, float]] | None = None,
    most_recall: float | None = None,
    curve: bool = True,
    seed: int = 0,
) -> Design:
    """Find PID gains that meet a specification in every mode of a spectrum, by the largest common factor that has room.

    Parameters
    ----------
    loop : Loop or Passes
        A Loop as for `mode`, or the Passes of a looped network; its controller is replaced.
    spectrum : real or complex, any shape
        Eigenvalues of attention, such as `attention_spectrum` of recorded matrices; for Passes those of J = F'(h*).
    spec : Spec
        Layers are passes for Passes.
    terms : "P", "I", "PI", "PD", "PID", ...
        The terms that may be used.
    form, ema : as for `PID`
    bounds : term -> (low, high), optional
        Where the gains are looked for; the default is P in [-2, 3], I in [0.001, 4], D in [-0.95, 0.95]. For Passes it
        is P in [0, 3], I in [0.001, 2], D in [-1, 1], all over the largest |1 + recall - lambda|: gains below 0 hold
        what lies beyond the edge and lose what does not, so that they have to be asked for.
    most_recall : float, optional
        For Passes: the recall may rise from that of `loop` up to this, and the least with which gains were found to
        meet the specification is taken, to 2 % of the way. Recall moves the fixed point, so less is better.
    curve : bool
        Also the trade-off curve, whose every point is certified on all modes.
    seed : int

    Returns
    -------
    Design

    Raises
    ------
    InfeasibleError
        No gains within the bounds were found to meet the specification. The message names the requirements that bind,
        says how near the best gains came, and which single requirement would have to go. Where the odd-number limit
        forbids every controller, it names the eigenvalue, before any search.
    InputError
        The loop is not linear and time-invariant, or the terms, the bounds or the spectrum are none.
    InputTypeError
        No Spec.

    Examples
    --------
    >>> from ctrlattn import presets
    >>> design = tune(presets.get("neutreno"), [0.0, 0.5, 1.0], Spec(modulus_margin=0.6), terms="P")
    >>> design.controller.ki, design.slack["modulus_margin"] > 0
    (0.0, True)
    >>> from ctrlattn.passes import Passes
    >>> design = tune(Passes(), [0.5, -2.0], Spec(settling=20), terms="P", curve=False)  # a loop that flips and grows
    >>> design.performance.worst()["settling"]  # the gain is near 2/(w_1 + w_2) = .571, which makes both poles .714
    12.0
    """
    curve = require_flag("curve", curve)
    modes = np.unique(modes_of(loop, spectrum))
    if not isinstance(spec, Spec):
        raise InputTypeError(f"tune needs a Spec, such as Spec(settling=20), got {type(spec).__name__}")
    problem = _Problem(loop, modes, spec, _terms(terms), form, ema, bounds or {})
    if isinstance(loop, Passes):
        problem, best = _least_recall(problem, loop.recall if most_recall is None else most_recall, seed)
    elif most_recall is not None:
        raise InputError("most_recall is for the Passes of a looped network: a Loop has a reference gain instead")
    else:
        best = problem.search(seed)
    if best.slack < 0:
        raise _infeasible(problem, best, seed)
    better = replace(problem.loop, controller=best.controller)
    return Design(
        best.controller, better, spec, performance(better, spectrum), problem.trade_off(best) if curve else None
    )


class _Candidate(NamedTuple):
    controller: PID
    slack: float
    worst: dict[str, float]


@dataclass
class _Problem:
    """The search: it takes all gains of a generation at once to their worst slack on a few modes."""

    loop: Loop | Passes
    modes: np.ndarray
    spec: Spec
    terms: str
    form: PIDForm
    ema: float
    given_bounds: dict[str, tuple[float, float]]

    def __post_init__(self) -> None:
        self.bounds = {**_usual_bounds(self.loop, self.modes), **self.given_bounds}
        self.box = require_real("bounds", [self.bounds[term] for term in self.terms])
        if not (np.all(np.isfinite(self.box)) and np.all(self.box[:, 0] < self.box[:, 1])):
            raise InputError(f"bounds must be term -> (low, high), finite and low < high, got {self.bounds}")
        # C = sum of gains times terms: over one denominator, the numerator is linear in the gains.
        parts = [
            PID(*(float(t == term) for t in "PID"), form=self.form, ema=self.ema).fraction() for term in self.terms
        ]
        self.den: np.ndarray = np.ones(1)
        for _, den in parts:
            self.den = np.polymul(self.den, den)
        numerators = [np.polymul(num, np.polydiv(self.den, den)[0]) for num, den in parts]
        self.basis = np.stack([np.pad(num, (len(self.den) - len(num), 0)) for num in numerators])
        settling = self.spec.asked().get("settling", 40.0)
        self.layers = int(np.clip(3 * settling, 32, 400))
        by_disk = self.spec.modulus_margin is None and self.spec.disk_margin
        self.margin = "disk_margin" if by_disk else "modulus_margin"
        # Figures that are measured: what is asked for, and what the trade-off is between.
        self.needed = tuple(dict.fromkeys([*self.spec.asked(), self.margin, "settling"]))
        self.seen: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []

    def controller(self, gains: np.ndarray) -> PID:
        values = dict(zip(self.terms, (float(g) for g in gains), strict=True))
        return PID(*(values.get(term, 0.0) for term in "PID"), form=self.form, ema=self.ema)

    def measures(self, gains: np.ndarray, modes: np.ndarray, points: int) -> dict[str, np.ndarray]:
        """Return the worst figures over the modes, (candidates,) each; `penalty` > 0 says how far from stable.

        Nothing is asked of a loop that is not stable: its other figures are 1e9.
        """
        num, alpha = plant(self.loop, (gains @ self.basis)[:, None, :], modes)
        p = mode_polynomial(num, self.den, alpha)
        penalty = np.max(np.log(np.clip(reflection(p), 1e-12, 1e12)), axis=-1)
        stable = penalty < 0
        worst = {name: np.full(len(gains), 1e9) for name in self.needed}
        if np.any(stable):
            omega = np.linspace(-np.pi if np.any(modes.imag) else 0.0, np.pi, points)
            for name, values in self._figures(num[stable], alpha, omega).items():
                worst[name][stable] = np.nan_to_num(values, nan=1e9, posinf=1e9)
        return {"penalty": penalty, **worst}

    def _figures(self, num: np.ndarray, alpha: np.ndarray, omega: np.ndarray) -> dict[str, np.ndarray]:
        """Return the needed figures of stable loops, (candidates, modes, order + 1) -> (candidates,) each."""
        with np.errstate(all="ignore"):
            final = static_gain(num, self.den, alpha)
            y = step_responses(num, self.den, alpha, self.layers)
            late = settling(y, final)
            size = np.abs(y[-1] - final) / np.abs(final)
            late = np.where(np.isfinite(late), late, self.layers * (1 + np.clip(size, 0, 10)))
            s = sensitivity_of(num[..., None, :], self.den, alpha[:, None], np.exp(1j * omega))
            figures: dict[str, Callable[[], np.ndarray]] = {
                "modulus_margin": lambda: 1 / np.max(np.abs(s), axis=(-2, -1)),
                "disk_margin": lambda: 1 / np.max(np.abs(s - 0.5), axis=(-2, -1)),
                "settling": lambda: np.max(late, axis=-1),
                "overshoot": lambda: np.max(overshoot(y, final), axis=-1),
                "steady_state_error": lambda: np.max(np.abs(1 - final), axis=-1),
            }
            return {name: figures[name]() for name in self.needed}

    def objective(self, gains: np.ndarray, modes: np.ndarray, points: int, spec: Spec) -> np.ndarray:
        """Return the value to minimise for gains (terms, candidates): minus the least slack, large where unstable."""
        figures = self.measures(gains.T, modes, points)
        self.seen.append((gains.T.copy(), figures))
        return np.where(figures["penalty"] < 0, -_least_slack(spec.slack(figures)), 1e3 + figures["penalty"])

    def search(self, seed: int, spec: Spec | None = None, generations: int = _GENERATIONS) -> _Candidate:
        """Search the best gains, certified on all modes; rounds add the modes that fail."""
        from scipy.optimize import differential_evolution

        spec = spec or self.spec
        few, points = outermost_modes(self.modes, 8, _MODES), 97
        best: _Candidate | None = None
        for _ in range(_ROUNDS):
            result = differential_evolution(
                lambda g, few=few, points=points: self.objective(g, few, points, spec),
                self.box,
                popsize=max(_POPULATION // len(self.terms), 5),
                maxiter=generations,
                init="sobol",
                rng=np.random.default_rng(seed),
                vectorized=True,
                updating="deferred",
                polish=False,
                tol=1e-6,
            )
            controller = self.controller(result.x)
            everywhere = performance(replace(self.loop, controller=controller), self.modes)
            candidate = _Candidate(controller, float(_least_slack(spec.slack(everywhere.worst()))), everywhere.worst())
            best = candidate if best is None or candidate.slack > best.slack else best
            if candidate.slack >= min(-result.fun, 0.0) - 1e-3:
                break
            few, points = np.union1d(few, _worst_modes(everywhere, spec)), 2 * points
        assert best is not None
        return best

    def trade_off(self, best: _Candidate, most: int = 8) -> TradeOff:
        """Return the margin against settling among all gains met on the way that keep the other requirements."""
        gains = np.vstack([g for g, _ in self.seen])
        figures = {k: np.concatenate([m[k] for _, m in self.seen]) for k in ("penalty", *self.needed)}
        requirements = {k: v for k, v in self.spec.asked().items() if k not in (self.margin, "settling")}

        def meets_others(values: Any) -> np.ndarray:
            """Tell whether the other requirements are met."""
            slack = Spec(**requirements).slack(values).values() if requirements else ()
            return np.all([np.asarray(v) >= 0 for v in slack], axis=0)

        good = (figures["penalty"] < 0) & meets_others(figures) & (figures["settling"] < self.layers)
        front = _front(gains[good], figures[self.margin][good], figures["settling"][good], most)
        controllers = [best.controller, *(self.controller(g) for g in front)]
        worst = [best.worst]
        worst += [performance(replace(self.loop, controller=c), self.modes).worst() for c in controllers[1:]]
        order: list[int] = []
        for i in sorted(range(len(worst)), key=lambda i: (worst[i]["settling"], -worst[i][self.margin])):
            rises = not order or worst[i][self.margin] > worst[order[-1]][self.margin]
            if rises and np.isfinite(worst[i]["settling"]) and meets_others(worst[i]):
                order.append(i)
        values = {name: np.array([worst[i][name] for i in order]) for name in MEASURES}
        return TradeOff(np.array([[c.kp, c.ki, c.kd] for c in (controllers[i] for i in order)]), values)


def _usual_bounds(loop: Loop | Passes, modes: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return the bounds of the search. Over passes the modes set the scale: P = 2/|w| is the most that one bears."""
    if not isinstance(loop, Passes):
        return BOUNDS
    largest = float(np.max(np.abs(pull(modes, loop.recall)))) or 1.0
    return {term: (low / largest, high / largest) for term, (low, high) in PASS_BOUNDS.items()}


def _least_recall(problem: _Problem, most: float, seed: int) -> tuple[_Problem, _Candidate]:
    """Return the problem with the least recall that has gains, and these; without any, that with the most recall."""
    passes = problem.loop
    assert isinstance(passes, Passes)
    highest = Passes(recall=most).recall
    if highest < passes.recall:
        raise InputError(f"most_recall must be at least the recall of the passes, {passes.recall}, got {most}")
    _require_reachable(problem, highest)
    low, high = passes.recall, highest
    best = problem.search(seed) if _reachable(problem, low) else None
    if best is not None and (best.slack >= 0 or low == high):
        return problem, best
    problem = replace(problem, loop=replace(passes, recall=high))
    best = problem.search(seed)
    while best.slack >= 0 and high - low > _RECALL_SHARE * (highest - passes.recall):
        middle = (low + high) / 2
        trial = replace(problem, loop=replace(passes, recall=middle))
        candidate = trial.search(seed) if _reachable(problem, middle) else None
        if candidate is None or candidate.slack < 0:
            low = middle
        else:
            problem, best, high = trial, candidate, middle
    return problem, best


def _reachable(problem: _Problem, recall: float) -> bool:
    """Tell whether the odd-number limit leaves room.

    A part of a spectrum may lie wholly beyond the edge, and a gain below 0 would hold it and lose all the rest. Such
    gains are looked for where bounds of the caller ask for them.
    """
    limit = odd_number_limit(problem.modes, recall)
    return not (limit.forbids_every_controller or (limit.binds and not problem.given_bounds))


def _require_reachable(problem: _Problem, recall: float) -> None:
    """Raise InfeasibleError that names the eigenvalue which no controller holds."""
    if not _reachable(problem, recall):
        raise InfeasibleError(
            f"no controller over passes stabilises all {len(problem.modes)} modes with recall {recall:.6g}",
            odd_number_limit(problem.modes, recall).in_words(),
        )


def _terms(terms: str) -> str:
    if not terms or len(set(terms)) != len(terms) or set(terms) - set("PID"):
        raise InputError(f'terms must be of the letters P, I, D, such as "PI", got {terms!r}')
    return "".join(t for t in "PID" if t in terms)


def _least_slack(slack: dict[str, np.ndarray]) -> np.ndarray:
    """Return the least slack; beyond _MOST the mean breaks the tie."""
    stacked = np.stack([np.minimum(np.asarray(v, dtype=float), _MOST) for v in slack.values()])
    return np.min(stacked, axis=0) + 1e-3 * np.mean(np.clip(stacked, -1, 1), axis=0) * (np.min(stacked, axis=0) >= 0)


def _worst_modes(figures: Performance, spec: Spec) -> np.ndarray:
    """Return the worst mode of each requirement, and the least stable one."""
    at = [int(np.argmin(slack)) for slack in spec.slack(figures).values()]
    return figures.a[[*at, int(np.argmax(figures.radius))]]


def _front(gains: np.ndarray, margin: np.ndarray, settling: np.ndarray, most: int) -> np.ndarray:
    """Return, for each settling time, the gains of the largest margin, where no shorter time has as large a one."""
    front, best = [], 0.0
    for i in np.lexsort((-margin, np.ceil(settling))):
        if margin[i] > best + 1e-3:
            front.append(i)
            best = margin[i]
    if len(front) > most:
        front = [front[i] for i in np.unique(np.linspace(0, len(front) - 1, most).astype(int))]
    return gains[front]


def _infeasible(problem: _Problem, nearest: _Candidate, seed: int) -> InfeasibleError:
    """Return the error with what the best gains miss and which requirements bind: without those the rest is met."""
    requirements = problem.spec.asked()
    slack = {name: float(value) for name, value in problem.spec.slack(nearest.worst).items()}
    binding = [name for name, value in slack.items() if value <= max(min(slack.values()) + 0.05, 1e-3)]
    near = ", ".join(
        f"{in_words(name, nearest.worst[name])} (asked {'>=' if 'margin' in name else '<='} "
        f"{requirements[name]:.3g}{_UNITS[name]})"
        for name in binding
    )
    alone = []
    for name in requirements if len(requirements) > 1 else ():
        relaxed = Spec(**{k: v for k, v in requirements.items() if k != name})
        if problem.search(seed, relaxed, _GENERATIONS // 2).slack >= 0:
            alone.append(name)
    relief = "no single requirement binds: without any one of them the rest cannot be met either"
    if alone:
        relief = f"{' or '.join(alone)} binds: without it the rest can be met"
    if len(requirements) == 1:
        relief = "it is the only requirement"
    c = nearest.controller
    recall = f" with recall {problem.loop.recall:.6g}" if isinstance(problem.loop, Passes) else ""
    return InfeasibleError(
        f"no {problem.terms} gains of the {problem.form} law within {problem.bounds} were found to meet {requirements} "
        f"on all {len(problem.modes)} modes{recall}",
        f"{near}, at the nearest gains, kp = {c.kp:.3g}, ki = {c.ki:.3g}, kd = {c.kd:.3g}; {relief}",
    )
