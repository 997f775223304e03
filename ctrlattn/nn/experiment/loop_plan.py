"""arms x seeds, settings, and the tests fixed beforehand: the plan of a comparison of looped networks.

Nothing here needs torch: a plan is judged before it is imported.
"""

from dataclasses import fields
from typing import Any

from ctrlattn.errors import InputError, require_known, require_whole
from ctrlattn.nn.experiment.loop_arms import DEFAULT, loop_arm
from ctrlattn.nn.experiment.loop_settings import LoopSettings, require_loop_settings
from ctrlattn.nn.experiment.loop_tasks import task_of
from ctrlattn.nn.experiment.plan import LARGEST_SEED, Claim, ComparisonPlan

QUESTIONS = {
    "recall": "2604.15259: without recall fixed points do not depend on the input; recall with outer norm extrapolates",
    "outer": "2605.26733: the inner norm is effective and unstable, the outer bounded and weak",
    "penalty": "2605.26733: a penalty on the radius with random passes reduces the fall beyond training",
    "random": "reports of users: with a fixed number of passes quality over passes is U-shaped, with random ones flat",
    "parcae": "2604.12946: A h + B e with 0 < A < 1 keeps the loop stable",
    "held": "ours: gain and recall inside the measured stability region keep accuracy beyond the trained passes",
    "forecast": "ours: poles at the trained passes say whether accuracy falls beyond them",
    "rescue": "ours: a controller tuned on the measured spectrum keeps accuracy where the plain loop collapses",
}

# accuracy_8 is that after 8 T passes at the trained size; size_2 that at twice the size after 2 T passes.
CLAIMS = (
    Claim("plain-again", "accuracy_8", "two-sided"),
    Claim("outer", "accuracy_8", "greater"),
    Claim("random", "accuracy_8", "greater"),
    Claim("recall", "accuracy_8", "greater"),
    Claim("recall-outer", "accuracy_8", "greater"),
    Claim("parcae", "accuracy_8", "greater"),
    Claim("penalty", "accuracy_8", "greater"),
    Claim("held", "accuracy_8", "greater"),
    Claim("outer", "radius", "less"),
    Claim("recall-outer", "size_2", "greater"),
    Claim("recall-outer", "size_4", "greater"),
    Claim("penalty", "radius", "less"),
)


def loop_plan(
    task: str, *, seeds: tuple[int, ...] = (0, 1, 2), arms: tuple[str, ...] = DEFAULT, **settings: Any
) -> ComparisonPlan:
    """Return the plan of a comparison of loops: arms, seeds, settings, and the tests that are fixed before the runs.

    Parameters
    ----------
    task : str
    seeds : tuple of int
    arms : tuple of str
        The first is what the others are compared with.
    **settings
        Fields of LoopSettings, other than task, arm and seed.

    Raises
    ------
    InputError
        A task, arm or setting is unknown, seeds are missing or repeated, or a network cannot be made.

    Examples
    --------
    >>> plan = loop_plan("addition", seeds=(0,), arms=("plain", "recall"), steps=10)
    >>> [test.name for test in plan.tests]
    ['recall: accuracy_8 >']
    """
    pooled = task_of(task).pooled
    names = [f.name for f in fields(LoopSettings) if f.name not in ("task", "arm", "seed")]
    for name in settings:
        require_known("setting", name, names)
    if not seeds or len(set(seeds)) != len(seeds) or not arms or len(set(arms)) != len(arms):
        raise InputError("a comparison needs at least one arm and one seed, each given once")
    for seed in seeds:
        require_whole("a seed", seed, least=0, most=LARGEST_SEED)
    for arm in arms:
        loop_arm(arm)
    claims = [claim for claim in CLAIMS if claim.arm in arms and claim.arm != arms[0]]
    tests = tuple(claim for claim in claims if not (pooled and claim.score.startswith("size")))  # images have one size
    plan = ComparisonPlan(task, tuple(arms), tuple(seeds), arms[0], settings=settings, tests=tests)
    for arm in arms:
        require_loop_settings(settings_of(plan, arm, seeds[0]))
    return plan


def settings_of(plan: ComparisonPlan, arm: str, seed: int) -> LoopSettings:
    """Return the settings of one run of a plan."""
    return LoopSettings(plan.data, arm, seed, **plan.settings)
