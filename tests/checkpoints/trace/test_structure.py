"""The dataclasses of a structure: what they derive from their fields."""

import pytest

torch = pytest.importorskip("torch")

from ctrlattn.checkpoints.trace.structure import (  # noqa: E402  (after the skip)
    Call,
    Coefficient,
    Step,
    Structure,
    Term,
)

ONE, PART, TEXT = Coefficient("number", 1.0), Coefficient("vector", torch.tensor([2.0, 3.0])), Coefficient("text", None)


def term(kind, coefficient=ONE, path="a"):
    return Term(kind, path, path, "norm", 0, coefficient)


def call(*terms, skip=ONE):
    return Call(0, tuple(Step(skip, (t,)) for t in terms), 0.0)


def test_a_coefficient_multiplies():
    x = torch.tensor([[1.0, 2.0]])
    assert (ONE * x) is x
    assert (Coefficient("number", 0.5) * x).tolist() == [[0.5, 1.0]]
    assert (PART * x).tolist() == [[2.0, 6.0]]
    with pytest.raises(TypeError, match="traced pass"):
        TEXT * x
    assert [c.is_one for c in (ONE, PART, TEXT)] == [True, False, False]


def test_terms_and_kinds_stand_in_the_order_of_the_steps():
    two = call(term("attention"), term("mlp"))
    assert two.kinds == ("attention", "mlp")
    assert Structure(("layers.0",), (two,), 2, 1, True).plain
    assert not Structure(("layers.0",), (call(term("mixer"), term("mlp")),), 2, 1, True).plain


@pytest.mark.parametrize(
    "made", [call(term("mlp", TEXT)), call(term("mlp"), skip=TEXT), call(term("mlp", path=""))], ids=["c", "s", "path"]
)
def test_one_factor_that_depends_on_the_text_is_enough(made):
    assert made.by_text
    assert Structure(("layers.0",), (call(term("mlp", PART)), made), 2, 1, True).by_text
    assert not call(term("mlp", PART)).by_text
