"""A factor that is a weight of one layer is that weight of another; what else a weight may be is not guessed."""

import pytest
import torch

from ctrlattn.checkpoints.trace.structure import Call, Coefficient, Step, Term
from ctrlattn.checkpoints.trace.weighted import steps_by_weights

ONE = Coefficient("number", 1.0)


def layer(**weights):
    module = torch.nn.Module()
    module.mlp = torch.nn.Linear(3, 3)
    for name, values in weights.items():
        setattr(module, name, torch.nn.Parameter(torch.tensor(values, dtype=torch.float64)))
    return module


def call(*factors):
    (skip, *added), terms = factors, []
    for i, factor in enumerate(added):
        terms.append(Term("mlp", f"mlp{i or ''}", "mlp", "", 0, factor))
    return Call(0, (Step(skip, tuple(terms)),), 0.0)


def values(choices):
    factors = [[step.skip, *(term.coefficient for term in step.terms)] for step in choices]
    return [[c.value if isinstance(c.value, float) else c.value.tolist() for c in each] for each in factors]


def number(value):
    return Coefficient("number", value)


def vector(*numbers):
    return Coefficient("vector", torch.tensor(numbers, dtype=torch.float64))


def choices(first, other, its_call, ran=("mlp",)):
    steps = steps_by_weights(first, other, its_call, ran, ["mlp"])
    return None if steps is None else values(steps[0])


def test_without_weights_of_its_own_a_layer_has_the_numbers_of_the_first():
    assert choices(layer(), layer(), call(ONE, number(0.22))) == [[1.0, 0.22]]


def test_a_vector_is_the_weight_of_its_name():
    first, other = layer(a=[1.0, 2, 3], b=[4.0, 5, 6]), layer(a=[7.0, 8, 9], b=[10.0, 11, 12])
    assert choices(first, other, call(vector(4, 5, 6), vector(1, 2, 3))) == [[[10, 11, 12], [7, 8, 9]]]


def test_rounding_beside_a_weight_is_none_of_another():
    first, other = layer(a=[1.0, 2, 3]), layer(a=[7.0, 8, 9])
    assert choices(first, other, call(ONE, vector(1, 2 * (1 + 1e-14), 3))) == [[1.0, [7, 8, 9]]]
    assert choices(first, other, call(ONE, vector(1, 2 * (1 + 1e-13), 3))) is None


def test_a_number_that_is_also_a_weight_may_be_either():
    assert choices(layer(a=[1.0]), layer(a=[0.9]), call(ONE, number(0.5))) == [[1.0, 0.5], [0.9, 0.5]]
    assert choices(layer(a=[1.0, 1, 1]), layer(a=[3.0, 4, 5]), call(number(0.5), ONE)) == [[0.5, 1.0], [0.5, [3, 4, 5]]]


def test_choices_of_one_value_are_one():
    same = layer(a=[1.0], b=[1.0, 1, 1])
    assert choices(same, layer(a=[0.9], b=[0.9, 0.9, 0.9]), call(ONE, number(0.5))) == [[1.0, 0.5], [0.9, 0.5]]
    assert choices(same, same, call(ONE, number(0.5))) == [[1.0, 0.5]]


@pytest.mark.parametrize(
    ("weights", "factors"),
    [
        ({}, (ONE, vector(1, 2, 3))),  # of a formula
        ({}, (ONE, Coefficient("text", None))),
        ({"a": [2.0]}, (ONE, number(0.5))),  # it says something else
        ({"a": [[1.0, 1], [1, 1]]}, (ONE, number(0.5))),  # a matrix is no factor
        ({"a": []}, (ONE, number(0.5))),
        ({name: [1.0] for name in "abcde"}, (ONE, ONE, ONE)),  # too many choices
    ],
)
def test_what_is_not_known_is_followed(weights, factors):
    other = layer(**{name: [2.0 + i] for i, name in enumerate(weights)})
    assert choices(layer(**weights), other, call(*factors)) is None


def test_weights_of_what_did_not_run_say_nothing():
    first, other = layer(), layer()
    for module in (first, other):
        module.cross = torch.nn.Linear(3, 3)
    assert choices(first, other, call(ONE, number(0.5))) == [[1.0, 0.5]]
    assert choices(first, other, call(ONE, number(0.5)), ran=["mlp", "cross"]) is None
