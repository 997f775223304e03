"""Poles at the trained passes -> will accuracy fall beyond them? What is said before any further pass is run.

Three rules, fixed beforehand, each a majority over a few held-out problems:

    poles      the largest |pole| at h_T is above 1
    residual   |F(h_T) - h_T|/|h_T| is above 1/10
    rest       Newton's method finds no fixed point from h_T that is stable and gives the answer of h_T

Where the spectrum of a problem cannot be measured, no rule says anything, and the reason stands in the place.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch

from ctrlattn.design import InfeasibleError, Spec, tune
from ctrlattn.looped import fixed_point, spectrum
from ctrlattn.nn.experiment.loop_settings import LoopSettings
from ctrlattn.nn.experiment.loop_tasks import Problems
from ctrlattn.nn.experiment.loop_training import copied, examples_of, sample_map, state_after
from ctrlattn.nn.modules.looped import LoopedNetwork
from ctrlattn.passes import Passes
from ctrlattn.progress import Progress, silent
from ctrlattn.stability import odd_number_limit, pass_poles

RULES = ("poles", "residual", "rest")
PROBLEMS = 3  # at which spectra are measured
EXAMPLES = 512  # whose answers are judged
HELD_OUT = 7_000_001  # seed of the problems for testing, the same for all runs of a task
MOST_RESIDUAL = 0.1
SETTLING, MOST_RECALL = 4, 8.0  # a tuned loop settles within 4 T passes; its recall is at most 8
_WHOLE = 900  # numbers in a state whose whole spectrum is computed
_LEADING = 16


def held_out(settings: LoopSettings, size: int | None = None, count: int = EXAMPLES) -> Problems:
    """Make problems for testing, the same for all arms and seeds.

    >>> held_out(LoopSettings("addition", "plain", 0), count=2)[0].shape
    torch.Size([2, 8, 2])
    """
    size = settings.trained_size if size is None else size
    return examples_of(settings, np.random.default_rng((HELD_OUT, size)), count, size, test=True)


def forecast(network: LoopedNetwork, settings: LoopSettings, progress: Progress = silent) -> dict[str, Any]:
    """Return what is measured at T passes, and what each rule says of more passes.

    Returns
    -------
    dict
        accuracy (share of problems solved after T passes), radius (largest |pole| at h_T, for each problem), residual,
        rest (largest |pole| at the fixed point reached from h_T with the same answer; None where there is none),
        eigenvalues (pairs, all problems), collapse {rule: whether it is forecast}, why. Where the spectrum of a problem
        could not be measured, its numbers are left out, every rule says None, and `why` is "no forecast, because ...".
        Elsewhere it is None.
    """
    network, passes = copied(network), settings.trained_passes
    inputs, answers = held_out(settings)
    with torch.no_grad():
        h = state_after(network, inputs, passes)
        accuracy = float(solved(network.answer(h), answers).float().mean())
    rows: list[_Trained] = []
    failed: list[str] = []
    for done, problem in enumerate(inputs[:PROBLEMS]):
        progress(f"forecast, spectrum of problem {done + 1}", done, PROBLEMS)
        try:
            rows.append(_at_trained(network, problem, passes))
        except ArithmeticError as error:
            failed.append(f"at problem {done + 1} {error}")
    radius, residual, rest = ([row.radius for row in rows], [row.residual for row in rows], [row.rest for row in rows])
    votes: dict[str, bool | None] = {
        "poles": _majority([r > 1 for r in radius]),
        "residual": _majority([r > MOST_RESIDUAL for r in residual]),
        "rest": _majority([r is None or r >= 1 for r in rest]),
    }
    why = f"no forecast, because {'; '.join(failed)}" if failed else None
    pairs = [[[v.real, v.imag] for v in row.eigenvalues.tolist()] for row in rows]
    return {
        "accuracy": accuracy, "radius": radius, "residual": residual, "rest": rest, "eigenvalues": pairs,
        "collapse": dict.fromkeys(votes) if failed else votes, "why": why,
    }  # fmt: skip


def solved(logits: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """Tell of each problem whether all its places are right, (N,)."""
    right = logits.argmax(-1) == answers
    return right if right.ndim == 1 else right.flatten(1).all(-1)


def eigenvalues_at(step: Any, h: torch.Tensor) -> np.ndarray:
    """Return the spectrum of J; of a large state the eigenvalues of largest modulus and of largest real part."""
    if h.numel() <= _WHOLE:
        return spectrum(step, h).eigenvalues
    return np.concatenate([spectrum(step, h, _LEADING, which=which).eigenvalues for which in ("LM", "LR")])


def tuned_law(measured: Mapping[str, Any], passes: int) -> dict[str, Any]:
    """Tune a P controller and the least recall with which all measured eigenvalues settle within 4 T passes.

    Returns
    -------
    dict
        gain, recall and poles (largest modulus), or why (what `tune` or `forecast` said) where there is none.

    Examples
    --------
    >>> law = tuned_law({"eigenvalues": [[[-1.5, 0.0], [0.2, 0.0]]]}, 8)
    >>> law["recall"], law["poles"] < 1
    (0.0, True)
    """
    pairs = [complex(*v) for problem in measured["eigenvalues"] for v in problem]
    if not pairs:
        return {"why": measured.get("why") or "no eigenvalue was measured"}
    values = np.unique(np.round(np.array(pairs), 9))
    spec = Spec(settling=SETTLING * passes)
    for most in (None, MOST_RECALL):  # without recall first, since recall moves the fixed point
        if most is None and odd_number_limit(values).binds:
            continue
        try:
            design = tune(Passes(), values, spec, terms="P", most_recall=most, curve=False)
        except InfeasibleError as error:
            why = str(error)
            continue
        assert isinstance(design.loop, Passes)
        poles = float(np.abs(pass_poles(design.controller, values, design.loop.recall)).max())
        return {"gain": design.controller.kp, "recall": design.loop.recall, "poles": poles}
    return {"why": why}


class _Trained(NamedTuple):
    """What is measured at h_T of one problem."""

    radius: float  # largest |pole|
    residual: float
    rest: float | None  # largest |pole| at the fixed point reached from h_T; None without one of the same answer
    eigenvalues: np.ndarray  # of J at h_T


def _at_trained(network: LoopedNetwork, problem: torch.Tensor, passes: int) -> _Trained:
    double, law = copied(network).double(), network.law
    step, start = sample_map(network, problem)
    with torch.no_grad():
        h = state_after(double, problem.double(), passes)
        residual = float((step(h) - h).norm() / h.norm())

    def largest_pole(values: np.ndarray) -> float:
        return float(np.abs(pass_poles(law.controller, values, law.recall)).max())

    values, point = eigenvalues_at(step, h), None
    with suppress(ArithmeticError):  # none in reach is an answer; a spectrum that cannot be measured is none
        point = fixed_point(step, start, recall=law.recall, start=h).x
    rest = None
    if point is not None and torch.equal(double.answer(point).argmax(-1), double.answer(h).argmax(-1)):
        rest = largest_pole(eigenvalues_at(step, point))
    return _Trained(largest_pole(values), residual, rest, values)


def _majority(votes: list[bool]) -> bool:
    return 2 * sum(votes) > len(votes)
