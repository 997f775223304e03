"""t = sum_k p_k: what linear operations do to parts is what they do to their sum."""

import pytest
import torch

from ctrlattn.checkpoints.trace.forms import Atom, AtomPart, Form


def atoms(*names, role="module"):
    generator = torch.Generator().manual_seed(len(names))
    return [Atom(role, name, torch.randn(3, 2, generator=generator)) for name in names]


def test_a_sum_of_images_is_the_image_of_the_sum():
    a, b = atoms("a", "b")
    form = Form.of(a).plus(Form.of(b), (3, 2)).through(lambda p: -2 * p.T)
    torch.testing.assert_close(form.total(), (-2 * (a.value + b.value).T).double())


def test_the_same_atom_twice_is_one_part_with_what_either_way_knows():
    (a,) = atoms("a")
    left, right = Form({a: AtomPart(a.value, True, 1e-3)}), Form({a: AtomPart(3 * a.value, False, 1e-7)})
    for form in (left.plus(right, (3, 2)), right.plus(left, (3, 2))):
        assert list(form) == [a]
        torch.testing.assert_close(form[a].value, 4 * a.value)
        assert form[a].by_text
        assert form[a].rounding == 1e-3


def test_a_sum_spreads_its_parts():
    a, b = Atom("module", "a", torch.ones(2)), Atom("module", "b", torch.ones(3, 1))
    form = Form.of(a).plus(Form.of(b), (3, 2))
    assert {tuple(part.value.shape) for part in form.values()} == {(3, 2)}
    assert form.total().tolist() == [[2.0, 2.0]] * 3


def test_the_coarsest_rounding_and_a_factor_of_the_text_stay():
    (a,) = atoms("a")
    form = Form.of(a).rounded(1e-2).rounded(1e-4)
    assert form[a].rounding == 1e-2
    assert not form[a].by_text
    again = form.through(lambda p: 2 * p, by_text=True).through(lambda p: p)
    assert again[a].by_text
    assert again[a].rounding == 1e-2


@pytest.mark.parametrize(
    ("role", "carries"), [("stream", True), ("norm", True), ("module", False), ("constant", False)]
)
def test_what_carries_the_stream_and_where_it_is_bent(role, carries):
    (a,) = atoms("a", role=role)
    assert a.carries is carries
    assert Form.of(a).carries is carries
    assert not Form.of(a).bent
    assert Form.of(a).through(lambda p: p, by_text=True).bent is carries


def test_an_error_is_of_a_token_and_relative_to_its_largest_part():
    a, b = (
        Atom("module", "a", torch.tensor([[4.0, 1.0], [0.5, 0.0]])),
        Atom("module", "b", torch.tensor([[-4.0, 0.0], [0.0, 0.0]])),
    )
    form = Form.of(a).plus(Form.of(b), (2, 2))
    t = form.total()
    assert form.error(t) == 0
    assert form.error(t + torch.tensor([[0.2, 0.0], [0.0, 0.0]])) == pytest.approx(0.2 / 4)
    assert form.error(t + torch.tensor([[0.2, 0.0], [0.0, 0.1]])) == pytest.approx(0.1 / 0.5)
    assert form.error(t + torch.tensor([[0.0, 0.0], [1.5, 0.0]])) == pytest.approx(1.5 / 2)  # of what is recorded
    assert Form.of(Atom("module", "c", torch.tensor(2.0))).error(torch.tensor(1.0)) == 0.5
    assert Form.of(Atom("module", "c", torch.zeros(0, 2))).error(torch.zeros(0, 2)) == 0
    assert form.error(t * torch.tensor([[1.0, 1.0], [float("nan"), 1.0]])) == float("inf")
