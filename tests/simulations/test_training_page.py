"""The page of the trained comparison: that of the numbers kept, of the plan that was fixed, in words that follow."""

import importlib.util
import json
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    specification = importlib.util.spec_from_file_location("training_page", ROOT / "simulations" / "training_page.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_page_is_that_of_the_numbers(script):
    assert script.main(check=True)


def test_the_numbers_are_of_the_plan_that_was_fixed(script):
    kept = json.loads(script.KEPT.read_text(encoding="utf-8"))
    fixed = tomllib.loads(script.PLAN.read_text(encoding="utf-8"))
    for name in ("data", "against", "seeds", "alpha", "correction", "settings"):
        assert kept["plan"][name] == fixed[name]
    assert [{"factor": 1.0, **test} for test in fixed["tests"]] == kept["plan"]["tests"]
    for test in kept["tests"]:
        arms = [kept["arms"][arm][test["score"]]["values"] for arm in (test["arm"], fixed["against"])]
        differences = [a - test["factor"] * b for a, b in zip(*arms, strict=True)]
        assert sum(differences) / len(fixed["seeds"]) == pytest.approx(test["mean"])
        assert test["holds"] == (test["p_holm"] < fixed["alpha"])


@pytest.mark.parametrize(
    ("holds", "low", "high", "words"),
    [
        (True, 0.1, 0.2, "holds at this size"),
        (False, -0.1, 0.2, "does not reproduce at this size"),
        (False, -0.2, -0.1, "does not reproduce at this size; the interval lies on the other side"),
    ],
)
def test_a_verdict_follows_the_numbers(script, holds, low, high, words):
    assert script.verdict_of({"holds": holds, "low": low, "high": high, "direction": "greater"}) == words


def test_the_estimate_counts_the_multiply_adds_of_the_network(script):
    # Counted by torch on the network itself, one image: two operations a multiply-add.
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from ctrlattn.nn import ControlledViT

    model = ControlledViT(image=32, patch=16, dim=24, depth=2, heads=3, classes=1)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(torch.zeros(1, 3, 32, 32))
    head = 24  # of one class, which the estimate leaves out
    assert counter.get_total_flops() == 2 * (script.multiply_adds(2, 24, 5) + head)
