"""A plan of loops is judged before any training, and has the tests that its arms ask for."""

import pytest

pytest.importorskip("torch")

from ctrlattn import InputError
from ctrlattn.nn.experiment.loop_plan import loop_plan, settings_of


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seeds": ()}, "at least one arm and one seed"), ({"seeds": (1, 1)}, "each given once"),
        ({"seeds": (-1,)}, "a seed"), ({"seeds": (2**63,)}, "a seed"), ({"arms": ()}, "at least one arm"),
        ({"arms": ("plain", "planar")}, "did you mean 'plain'"), ({"stepz": 3}, "did you mean 'steps'"),
        ({"dim": 0}, "dim"), ({"passes": 1}, "passes"), ({"size": -1}, "size"), ({"rate": float("nan")}, "rate"),
        ({"layers": 4}, "layers"), ({"dim": 10**9}, "does not fit into memory"),
    ],
)  # fmt: skip
def test_plans_that_cannot_be_run_are_refused_before_any_training(change, told):
    with pytest.raises(InputError, match=told):
        loop_plan("prefix-sums", **{"seeds": (0,), **change})


def test_a_task_judges_the_size_of_its_problems():
    for task, size in (("maze", 4), ("maze", 1), ("addition", 1), ("digits", 8)):
        with pytest.raises(InputError, match=r"size|maze|patches"):
            loop_plan(task, size=size)


def test_the_settings_of_a_run_are_those_of_the_plan():
    plan = loop_plan("maze", seeds=(5,), arms=("recall", "plain-again"), size=7)
    settings = settings_of(plan, "plain-again", 5)
    assert (settings.task, settings.arm, settings.seed, settings.trained_size) == ("maze", "plain-again", 5, 7)
    assert (settings.data_seed, settings_of(plan, "recall", 5).data_seed) == (1_000_008, 5)
    assert plan.against == "recall"
