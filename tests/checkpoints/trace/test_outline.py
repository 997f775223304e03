"""Layers of one outline differ inside of attention alone, and attention is seen by the weights that it returns."""

import pytest
import torch

from ctrlattn.checkpoints.trace.layers import Visit
from ctrlattn.checkpoints.trace.outline import matrices_of, other_inside, outline_of
from ctrlattn.checkpoints.trace.structure import Call, Coefficient, Step, Term

ONE = Coefficient("number", 1.0)
FULL = [("", "Layer", 1), ("norm", "Norm"), ("attn", "Attn", "full"), ("attn.k", "Linear"), ("mlp", "MLP")]
MAKERS = ["attn", "norm", "mlp"]


def changed(place, *entry):
    signature = list(FULL)
    signature[place : place + 1] = [entry] if entry else []
    return signature


@pytest.mark.parametrize(
    ("other", "same", "inside"),
    [
        (FULL, True, set()),
        (changed(2, "attn", "Attn", "window"), True, {"attn"}),
        (changed(3), True, {"attn"}),
        (changed(2, "attn", "Mixer", "full"), False, {"attn"}),
        (changed(4, "mlp", "MLP", "gated"), True, {"mlp"}),
        (changed(0, "", "Layer", 2), False, None),
        ([*FULL, ("gate", "Linear")], False, None),
    ],
)
def test_what_counts_is_outside_of_the_modules_that_make_contributions(other, same, inside):
    assert (outline_of(FULL) == outline_of(other)) is same
    assert other_inside(FULL, other, MAKERS) == inside


def matrices(kind="attention", *, norm="norm", matrix="attn", weights=None, others=("attn",)):
    terms = Term(kind, "attn.out", "attn", norm, 0, ONE, matrix), Term("mlp", "mlp", "mlp", "norm", 0, ONE)
    call = Call(0, (Step(ONE, terms),), 0.0)
    given = torch.full((1, 2, 4, 4), 0.25) if weights is None else weights
    visits = {"attn": Visit("l.attn", 0, matrix=given), "mlp": Visit("l.mlp", 1, matrix=given)}
    seen = {"attn": [(1, 9, 4, 4)], "attn.soft": [(1, 9, 4, 4)], "mlp": [(7, 7, 7)], "attn2": [(5, 5, 5)]}
    return matrices_of(call, {"attn.out": {"attn.out", "attn"}, "mlp": {"mlp"}}, set(others), visits, seen)


def test_a_module_that_differs_has_the_matrix_that_it_returned_and_others_have_those_of_the_first():
    assert matrices() == {"attn": [(1, 2, 4, 4)], "mlp": [(7, 7, 7)], "attn2": [(5, 5, 5)]}


def test_without_a_module_that_differs_all_are_those_of_the_first():
    assert matrices(others=())["attn"] == [(1, 9, 4, 4)]


@pytest.mark.parametrize(
    "what",
    [
        {"kind": "mixer"},
        {"norm": ""},  # it may be inside of either
        {"norm": "attn.norm"},
        {"matrix": ""},
        {"others": ("mlp",)},  # no attention
        {"others": ("attn", "norm")},  # that which differs makes no contribution
        {"weights": torch.full((1, 2, 4, 4), 0.5)},  # rows sum to 2
        {"weights": torch.tensor([[[[2.0, -1.0], [0.5, 0.5]]]])},
        {"weights": torch.ones(1, 1, 1, 1, dtype=torch.long)},
    ],
)
def test_what_is_not_known_is_followed(what):
    assert matrices(**what) is None
