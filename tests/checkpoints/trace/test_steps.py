"""c of c F from part and atom: numbers and vectors come back, and what is none is said to depend on the text."""

import pytest
import torch

from ctrlattn.checkpoints.trace.follow import Followed
from ctrlattn.checkpoints.trace.forms import Atom, AtomPart, Form
from ctrlattn.checkpoints.trace.steps import (
    _common,
    _quotient,
    coefficient,
    in_one_row,
    reading_of,
    same_factor,
    steps_of,
)
from ctrlattn.checkpoints.trace.structure import Coefficient
from ctrlattn.errors import InputError

GENERATOR = torch.Generator().manual_seed(0)
F = torch.randn(2, 5, 3, generator=GENERATOR, dtype=torch.float64)
ATOM = Atom("module", "mlp", F)


def number(value):
    return Coefficient("number", float(value))


def vector(*values):
    return Coefficient("vector", torch.tensor(values, dtype=torch.float64))


TEXT = Coefficient("text", None)


@pytest.mark.parametrize("c", [-2.0, 0.22, 1 / 3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_number(c, dtype):
    atom = Atom("module", "mlp", F.to(dtype))
    got = coefficient(atom, AtomPart(c * atom.value))
    assert got.form == "number"
    assert got.value == pytest.approx(c, rel=4 * torch.finfo(dtype).eps)
    assert got.is_one is (c == 1.0)


def test_a_number_per_feature_and_what_depends_on_the_text():
    v = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    got = coefficient(ATOM, AtomPart(F * v))
    assert got.form == "vector"
    torch.testing.assert_close(got.value, v)
    by_token = torch.linspace(1, 2, 5, dtype=torch.float64)[:, None]
    for part in (AtomPart(F * by_token), AtomPart(F, by_text=True), AtomPart(F[:1]), AtomPart(F + 1)):
        assert coefficient(ATOM, part).form == "text"
    assert coefficient(Atom("module", "g", F[0, 0]), AtomPart(F[0, 0] * v)).form == "text"  # one token shows no vector


def test_a_factor_that_differs_from_a_number_by_a_thousandth_is_none():
    assert coefficient(ATOM, AtomPart(F * torch.tensor([1.0, 1.0, 1.001]))).form == "vector"
    low = F.to(torch.bfloat16)
    slightly = coefficient(
        Atom("module", "mlp", low), AtomPart(low * torch.tensor([1.0, 1.1, 1.0], dtype=torch.bfloat16))
    )
    assert slightly.form == "vector"


def test_a_constant_is_its_own_factor_where_all_tokens_have_it():
    row = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    atom = Atom("constant", "", row)
    assert coefficient(atom, AtomPart(row.expand(2, 5, 3))).value.tolist() == [1.0, 2.0, 3.0]
    assert coefficient(atom, AtomPart(row)).value.tolist() == [1.0, 2.0, 3.0]
    assert coefficient(atom, AtomPart(F)).form == "text"


def test_tokens_in_one_row():
    assert in_one_row(torch.zeros(10, 3), torch.zeros(2, 5, 3))
    assert in_one_row(torch.zeros(1, 12, 3), torch.zeros(1, 3, 4, 3))
    assert not in_one_row(torch.zeros(10, 3), torch.zeros(2, 4, 3))
    assert not in_one_row(torch.zeros(15, 2), torch.zeros(2, 5, 3))
    assert not in_one_row(torch.zeros(2, 5, 3), torch.zeros(2, 5, 3))
    assert coefficient(Atom("module", "mlp", F.reshape(10, 3)), AtomPart(0.5 * F)).value == 0.5


def test_the_factor_between_two_sums():
    assert _quotient(number(6), number(3)).value == 2.0
    assert _quotient(vector(2, 6), vector(1, 2)).value.tolist() == [2.0, 3.0]
    assert _quotient(vector(2, 4), vector(1, 2)).value == 2.0  # one number
    assert _quotient(number(6), number(6)).is_one
    assert _quotient(number(6), number(0)) is None
    assert _quotient(TEXT, number(2)) is None
    assert _quotient(number(2), TEXT) is None
    assert _quotient(TEXT, number(1)) is TEXT
    a, b = ATOM, Atom("module", "attention", F)
    assert _common({a: number(2)}, {a: number(6), b: number(1)}).value == 3.0
    assert _common({a: number(2), b: number(1)}, {a: number(6), b: number(3)}).value == 3.0
    assert _common({a: number(2), b: number(1)}, {a: number(6), b: number(4)}) is None
    assert _common({a: number(2), b: number(1)}, {a: number(6)}) is None
    assert same_factor(number(2), vector(2, 2))
    assert not same_factor(number(2), vector(2, 2.001))
    assert not same_factor(TEXT, TEXT)


def followed(form, out, x):
    return Followed("layers.0", x, (), {}, 0, out, form)


@pytest.mark.parametrize(("skip", "c"), [(1.0, 1.0), (0.5, 3.0), (-1.0, 1.0)])
def test_a_layer_of_two_steps_is_cut_where_the_second_reads_the_first_sum(skip, c):
    """x' = s (x + c A) + M, where M read x + c A."""
    x, A, M = (torch.randn(1, 4, 3, generator=GENERATOR, dtype=torch.float64) for _ in range(3))
    stream, attention = Atom("stream", "", x), Atom("module", "attn", A, reads=(Form({}),), born=1)
    read = Form.of(stream).plus(Form.of(attention).through(lambda p: c * p), x.shape)
    mlp = Atom("module", "mlp", M, reads=(read,), born=2)
    out = skip * (x + c * A) + M
    form = read.through(lambda p: skip * p).plus(Form.of(mlp), x.shape)
    (first, second), error, _ = steps_of(followed(form, out, x))
    assert error < 1e-15
    assert (first.skip.value, second.skip.value) == (1.0, skip)
    assert [[t.path for t in step.terms] for step in (first, second)] == [["attn"], ["mlp"]]
    assert first.terms[0].coefficient.value == pytest.approx(c)
    torch.testing.assert_close(second.x, x + c * A)
    torch.testing.assert_close(second.carried + sum(second.parts.values()), out)
    assert steps_of(followed(form, out + 0.5, x))[1] > 0.01


def test_contributions_that_read_the_same_stream_are_one_step():
    x, A, M = (torch.randn(1, 4, 3, generator=GENERATOR, dtype=torch.float64) for _ in range(3))
    stream = Atom("stream", "", x)
    both = [
        Atom("module", name, t, reads=(Form.of(stream),), born=i)
        for i, (name, t) in enumerate((("attn", A), ("mlp", M)))
    ]
    form = Form.of(stream)
    for atom in both:
        form = form.plus(Form.of(atom), x.shape)
    (step,), error, _ = steps_of(followed(form, x + A + M, x))
    assert [t.path for t in step.terms] == ["attn", "mlp"]
    assert error < 1e-15


def test_a_layer_without_its_stream_is_refused():
    x = torch.randn(1, 4, 3, generator=GENERATOR)
    with pytest.raises(InputError, match="is not residual"):
        steps_of(followed(Form.of(ATOM), F, x))
    both = Form.of(ATOM).plus(Form.of(Atom("constant", "", F, born=1)), F.shape)
    with pytest.raises(InputError, match="constant, mlp does"):  # what no module returned is named by its role
        steps_of(followed(both, 2 * F, x))
    with pytest.raises(InputError, match="does not depend"):
        steps_of(followed(None, F, x))


def test_what_reads_a_norm_alone_reads_the_stream_in_front_of_it():
    x = torch.randn(1, 4, 3, generator=GENERATOR)
    source = Form.of(Atom("stream", "", x))
    norm = Atom("norm", "ln", x, source=(x, source), born=1)
    reading = reading_of(Atom("module", "attn", x, reads=(Form.of(norm),), born=2))
    assert reading.norm is norm
    assert reading.form is source
