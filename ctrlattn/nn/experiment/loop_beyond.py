"""accuracy against passes up to 8 T and against size, residuals, exponents, basins: a trained loop beyond its training.

Also whether a controller keeps what the plain loop loses: the tuned one of the forecast, and one chosen blindly.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch

from ctrlattn.controllers import PID
from ctrlattn.looped import basin, exponents, fixed_point
from ctrlattn.nn.experiment.loop_forecast import held_out, solved
from ctrlattn.nn.experiment.loop_settings import LoopSettings
from ctrlattn.nn.experiment.loop_tasks import task_of
from ctrlattn.nn.experiment.loop_training import copied, sample_map, state_after
from ctrlattn.nn.modules.looped import LoopedNetwork
from ctrlattn.passes import Passes

BEYOND = 8  # times the trained passes
FACTORS = (1, 2, 4)  # of the trained size
EXAMPLES = {1: 512, 2: 256, 4: 128}
FALL = 0.1  # of accuracy, from which on it is a collapse
LEARNED = 0.5  # accuracy at T, below which there is nothing to lose
BLIND = 0.5  # gain of the controller that nobody chose
_RADII, _STARTS, _RETURN = (0.1, 0.5), 8, 200


def over_passes(
    network: LoopedNetwork,
    inputs: torch.Tensor,
    answers: torch.Tensor,
    passes: int,
    law: Passes | None = None,
    *,
    after: int = 0,
) -> dict[str, list[float]]:
    """Measure accuracy and residual after 0, 1, ..., `passes` passes.

    Parameters
    ----------
    law : Passes, optional
        It takes the place of the network's own law from pass `after` on. Recall then leads back to the state at that
        pass.

    Returns
    -------
    dict of accuracy (all places right), places (share of places right) and residual (median of |F(h) - h|/|h| over the
    problems), each (passes + 1,)
    """
    curves: dict[str, list[float]] = {"accuracy": [], "places": [], "residual": []}
    inputs, answers = (part.to(next(network.parameters()).device) for part in (inputs, answers))
    with torch.no_grad():
        e = network.embed(inputs)
        step, h, loop = network.pass_map(e), e, network.law if after or law is None else law
        state = loop.init(h)
        for k in range(passes + 1):
            if law is not None and k == after:
                loop, state = law, law.init(h)
            prediction = step(h)
            logits = network.answer(h)
            curves["accuracy"].append(float(solved(logits, answers).float().mean()))
            curves["places"].append(float((logits.argmax(-1) == answers).float().mean()))
            away, size = ((x.flatten(1).norm(dim=1)) for x in (prediction - h, h))
            curves["residual"].append(float((away / size).median()))
            h, _, _, state = loop.step(h, prediction, state)
    return curves


def beyond(network: LoopedNetwork, settings: LoopSettings) -> dict[str, Any]:
    """Measure accuracy and residual over passes, at the trained size and larger ones, and tell whether it collapsed."""
    network, passes, task = copied(network), settings.trained_passes, task_of(settings.task)
    sizes = {}
    for factor in FACTORS[:1] if task.pooled else FACTORS:  # images have one size
        inputs, answers = held_out(settings, task.times(factor, settings.trained_size), EXAMPLES[factor])
        sizes[str(factor)] = over_passes(network, inputs, answers, BEYOND * passes)
    return {"task": task.name, "sizes": sizes, "collapsed": collapsed(sizes["1"]["accuracy"], passes)}


def collapsed(accuracy: list[float], passes: int) -> bool | None:
    """Tell whether accuracy falls by more than .1 at 2, 4 or 8 times the trained passes; None if it had not learned.

    >>> collapsed([0.0, 1.0, 1.0, 1.0, 0.8, 1.0, 1.0, 1.0, 1.0], 1), collapsed([0.0, 0.4, 0.1] + [0.1] * 6, 1)
    (True, None)
    """
    if accuracy[passes] < LEARNED:
        return None
    return any(accuracy[factor * passes] < accuracy[passes] - FALL for factor in (2, 4, 8))


def rescued(network: LoopedNetwork, settings: LoopSettings, tuned: Mapping[str, Any]) -> dict[str, list[float]]:
    """Measure accuracy over passes under other controllers than the trained loop's, at the trained size.

    `from T` acts after the trained passes, with recall to the state there. `blind` is C = 1/2, which nobody chose by a
    measurement. Stopping after T passes is the controller that does nothing more; it needs no curve.
    """
    network, passes = copied(network), settings.trained_passes
    inputs, answers = held_out(settings)
    laws = {"blind": Passes(PID(BLIND))}
    if "gain" in tuned:
        laws["tuned"] = Passes(PID(tuned["gain"]), recall=tuned["recall"])
    curves = {}
    for name, law in laws.items():
        for where, after in (("", 0), (" from T", passes)):
            run = over_passes(network, inputs, answers, BEYOND * passes, law, after=after)
            curves[name + where] = run["accuracy"]
    return curves


def motion(network: LoopedNetwork, settings: LoopSettings) -> dict[str, Any]:
    """Return the largest Lyapunov exponent over passes of one problem, and the basin of its fixed point, if any.

    Returns
    -------
    dict
        exponent in nats a pass, nan where the run does not tell it; basin, the share of 8 starts that return from 1/10
        and from 1/2 of |h|; None without a fixed point.
    """
    passes, law = settings.trained_passes, network.law
    problem = held_out(settings)[0][0]
    step, start = sample_map(network, problem)
    options = {"controller": law.controller, "recall": law.recall}
    double = copied(network).cpu().double()
    with torch.no_grad():
        h, last = (state_after(double, problem.double(), k * passes) for k in (1, 2 * BEYOND + 1))
    rate = math.inf  # of a loop that runs away
    if torch.isfinite(last).all():
        run = exponents(step, start, BEYOND * passes, transient=BEYOND * passes, reference=start, most=1, **options)
        rate = run.values[0]
    try:
        point = fixed_point(step, start, recall=law.recall, start=h).x
    except ArithmeticError:
        return {"exponent": float(rate), "basin": None}
    near = basin(step, point, _RADII, passes=_RETURN, reference=start, starts=_STARTS, tol=1e-3, **options)
    return {"exponent": float(rate), "basin": (near.returned / near.starts).tolist()}
