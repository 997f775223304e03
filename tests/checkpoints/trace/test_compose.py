"""x' = N(s x + sum_k c_k F_k): the error of a recorded layer is the one that was put into it, token by token."""

import math

import pytest
import torch

from ctrlattn.checkpoints.trace.compose import difference, held_to, stages, wanted, within
from ctrlattn.checkpoints.trace.layers import Visit
from ctrlattn.checkpoints.trace.structure import Call, Coefficient, Step, Structure, Term

ONE = Coefficient("number", 1.0)


def test_an_error_is_relative_to_the_largest_part_of_its_token():
    total = torch.tensor([[1.0, 8.0], [3.0, 0.5]])
    recorded = total + torch.tensor([[0.5, 0.0], [0.0, -0.25]])
    large = torch.tensor([[0.0, 0.0], [0.0, -4.0]])
    assert difference(total, recorded, recorded, ()) == 0.25 / 3  # 0.5 of 8, 0.25 of 3
    assert difference(total, recorded, large, ()) == 0.25 / 4  # the stream counts by its size
    assert difference(total, recorded, recorded, (large, 4 * large)) == 0.5 / 8  # and so does what is added
    assert difference(total, recorded, recorded, (100 * total,)) == 0.25 / 300


def test_an_error_of_one_element_of_one_token_is_never_missed():
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for _ in range(30):
            total = torch.randn(2, 5, 7, generator=generator).to(dtype)
            place = tuple(int(torch.randint(0, size, (), generator=generator)) for size in total.shape)
            recorded = total.clone()
            recorded[place] += 1
            scale = torch.maximum(recorded[place[:2]].abs().max(), torch.tensor(0.0)).double()
            wrong = (recorded[place] - total[place]).double()
            assert difference(total, recorded, recorded, ()) == pytest.approx(float(wrong / scale), rel=1e-12)


def test_sums_that_are_equal_differ_by_nothing_also_where_they_are_infinite():
    x = torch.tensor([[1.0, math.inf], [2.0, 3.0]])
    assert difference(x, x.clone(), x, ()) == 0.0
    assert difference(x, x, x, ()) == 0.0
    assert not difference(x, torch.tensor([[1.0, 2.0], [2.0, 3.0]]), x, ()) <= 1e300
    nan = torch.full((1, 2), math.nan)
    assert difference(nan, nan.clone(), nan, ()) == math.inf  # Python's max(0.0, nan) would hide a nan
    assert difference(nan, torch.zeros(1, 2), nan, ()) == math.inf
    assert difference(x[:0], x[:0].clone(), x[:0], ()) == 0.0
    assert difference(x, x[:1], x, ()) == math.inf


def test_a_weight_that_learns_gives_no_warning():
    x = torch.ones(1, 2, requires_grad=True)
    assert difference(2 * x, torch.full((1, 2), 4.0), 2 * x, (x,)) == 0.5


def term(path, c=ONE, kind="mlp", **more):
    return Term(kind=kind, path=path, module=path, norm="", reads=0, coefficient=c, **more)


def visit(path, began, ended, x=None, out=None):
    return Visit(path, began, ended, x=x, out=out)


def layer_of_two_steps():
    """x' = 3 (0.5 x + v F) + 2 G + b, by hand."""
    x, F, G = torch.tensor([[1.0, 2.0], [4.0, 8.0]]), torch.tensor([[1.0, 1.0], [0.0, 2.0]]), torch.ones(2, 2)
    v, b = torch.tensor([1.0, -1.0], dtype=torch.float64), torch.tensor([10.0, 20.0], dtype=torch.float64)
    first = Step(Coefficient("number", 0.5), (term("a", Coefficient("vector", v), "attention"),))
    second = Step(
        Coefficient("number", 3.0),
        (term("m", Coefficient("number", 2.0)), term("", Coefficient("vector", b), "constant")),
    )
    out = torch.tensor([[16.5, 22.0], [18.0, 28.0]])
    inner = {"a": visit("l.a", 1, 2, out=F), "m": visit("l.m", 3, 4, out=G.reshape(1, 2, 2))}
    return Call(0, (first, second), 0.0), visit("l", 0, 5, x=x, out=out), inner


def test_the_steps_of_a_layer_by_hand():
    call, layer, inner = layer_of_two_steps()
    first, second = stages(call, layer, inner)
    assert first.x is layer.x
    assert first.carried.tolist() == [[0.5, 1.0], [2.0, 4.0]]
    assert first.added[0].tolist() == [[1.0, -1.0], [0.0, -2.0]]
    assert first.out.tolist() == second.x.tolist() == [[1.5, 0.0], [2.0, 2.0]]
    assert second.carried.tolist() == [[4.5, 0.0], [6.0, 6.0]]
    assert [part.tolist() for part in second.added] == [[[2.0, 2.0]] * 2, [[10.0, 20.0]] * 2]
    assert (first.error, second.error) == (0.0, 0.0)
    assert second.out is layer.out
    layer.out = layer.out + torch.tensor([[0.0, 0.0], [0.0, 2.8]])
    assert [stage.error for stage in stages(call, layer, inner)] == [0.0, pytest.approx(2.8 / 30.8)]


def test_a_module_that_did_not_run_adds_nothing():
    call, layer, inner = layer_of_two_steps()
    del inner["m"]
    layer.out = layer.out - 2
    assert [stage.error for stage in stages(call, layer, inner)] == [0.0, 0.0]


def test_a_norm_behind_a_step_is_compared_with_what_it_read_and_gave():
    x, F = torch.ones(1, 2), torch.tensor([[2.0, 4.0]])
    call = Call(0, (Step(ONE, (term("m"),), "n"),), 0.0)
    read, gave = x + F, torch.tensor([[0.6, 1.0]])
    inner = {"m": visit("l.m", 1, 2, out=F), "n": visit("l.n", 3, 4, x=read, out=gave)}
    errors = []
    for layer_out, norm_read in ((gave, read), (gave + 0.1, read), (gave, read + 0.5)):
        inner["n"].x = norm_read
        (stage,) = stages(call, visit("l", 0, 5, x=x, out=layer_out), inner)
        errors.append(stage.error)
    assert errors[0] == 0
    assert errors[1] == pytest.approx(0.1 / 1.1, rel=1e-5)  # of what the layer gave
    assert errors[2] == pytest.approx(0.5 / 5.5, rel=1e-5)  # of what the norm read


def test_the_first_visit_inside_a_layer_counts():
    layer = visit("l", 2, 9)
    visits = [visit("l.a", 0, 1), visit("l.a", 3, 4), visit("l.a", 5, 6), visit("lx.b", 7, 8), visit("l.c", 8, 12)]
    assert within(visits, layer) == {"a": visits[1]}
    assert within([visit("l.a", 2, 3), visit("l.b", 3, 9)], layer) == {}


def test_what_is_watched():
    call = Call(0, (Step(ONE, (term("a", matrix="a.s"), term("", kind="constant"))), Step(ONE, (term("m"),), "n")), 0.0)
    structure = Structure(("x.0", "x.1"), (call,), 2, 1, causal=True)
    assert wanted(structure) == (["x.0", "x.1", "x.0.a", "x.0.n", "x.0.m", "x.0.a.s"], ["x.0.a.s"])


def test_factors_that_another_text_does_not_hold_depend_on_the_text():
    call, layer, inner = layer_of_two_steps()
    assert held_to(call, layer, inner, 1e-9) is call
    layer.out = layer.out * 1.01
    assert held_to(call, layer, inner, 0.02) is call
    changed = held_to(call, layer, inner, 0.001)
    assert changed.by_text
    assert {t.coefficient.form for t in changed.terms} == {"text"} == {step.skip.form for step in changed.steps}
    assert held_to(changed, layer, inner, 0.0) is changed
    layer.out = layer.out * math.nan
    assert held_to(call, layer, inner, 0.02) is not call
