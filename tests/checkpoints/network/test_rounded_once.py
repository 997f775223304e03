"""Rounded once, a number does not depend on what stands beside it, whatever way torch has to compute it."""

import pytest
import torch

from ctrlattn.checkpoints.network.rounded_once import InOwnType, RoundedOnce


def test_a_product_of_one_row_is_that_row_of_the_whole_product():
    a, b = torch.randn(8, 300), torch.randn(300, 5)
    with RoundedOnce(torch.float64):
        whole, alone = a @ b, a[:1] @ b
    assert torch.equal(whole[:1], alone)
    assert torch.equal(whole, (a.double() @ b.double()).float())


@pytest.mark.parametrize("coarse", [torch.float32, torch.bfloat16])
def test_each_operation_rounds_once_and_keeps_its_type(coarse):
    x = torch.linspace(-3, 3, 32).to(coarse)
    with RoundedOnce(torch.float64):
        sigmoid, (top, index), power = x.sigmoid(), x.topk(3), x.softmax(0, dtype=coarse)
    assert sigmoid.dtype == top.dtype == power.dtype == coarse
    assert torch.equal(sigmoid, x.double().sigmoid().to(coarse))
    assert torch.equal(power, x.double().softmax(0).to(coarse))
    assert index.tolist() == [31, 30, 29]


def test_its_own_type_is_left_alone():
    """Also coarser ones where the network itself is as coarse."""
    a, b = torch.randn(8, 300), torch.randn(300, 5)
    with RoundedOnce(torch.float32):
        assert torch.equal(a @ b, torch.mm(a, b))
        fine = a.double() @ b.double()
    assert torch.equal(fine, a.double() @ b.double())


def test_views_and_what_is_written_into_stay_what_they_are():
    x = torch.zeros(4, 2)
    with RoundedOnce(torch.float64):
        x[1].add_(1)
        x.view(8)[0:2].copy_(torch.tensor([2.0, 3.0]))
        x.index_add_(0, torch.tensor([3]), torch.full((1, 2), 0.5))
    assert x.tolist() == [[2, 3], [1, 1], [0, 0], [0.5, 0.5]]


def test_a_sum_in_a_coarser_type_that_is_asked_for_is_rounded_to_it():
    x = torch.randn(50, 1001, generator=torch.Generator().manual_seed(0))
    with RoundedOnce(torch.float64):
        total = x.sum(1, dtype=torch.float32)
    assert total.dtype == torch.float32
    assert torch.equal(total, x.double().sum(1).float())


def test_complex_numbers_are_rounded_once_too():
    """As rotary positions are that are complex numbers."""
    turns, x = torch.polar(torch.ones(27), torch.linspace(-3, 3, 27)), torch.randn(27, dtype=torch.complex64)
    with RoundedOnce(torch.float64):
        turned = x * turns
        assert torch.equal(torch.view_as_real(turned)[:5], torch.view_as_real(x[:5] * turns[:5]))
    assert turned.dtype == torch.complex64
    assert torch.equal(turned, (x.to(torch.complex128) * turns.to(torch.complex128)).to(torch.complex64))


def test_nothing_is_rounded_to_a_coarser_type_that_the_network_has_not():
    x, weight = torch.randn(3, 5, dtype=torch.float64), torch.randn(5, 5)
    with InOwnType(torch.float64):
        y = torch.softmax(x.float() @ weight, dim=-1, dtype=torch.float32)
        room = torch.zeros(2, dtype=torch.float32)
        half = torch.ones(2, dtype=torch.int64)
    assert y.dtype == room.dtype == torch.float64
    assert half.dtype == torch.int64
    assert torch.equal(y, torch.softmax(x @ weight.double(), dim=-1))
    with InOwnType(torch.float32):  # a finer type stays
        assert (x + 1).dtype == torch.float64
        assert weight.double().dtype == torch.float64


def test_what_is_written_into_keeps_its_type():
    state = torch.zeros(3)
    with InOwnType(torch.float64):
        state += torch.full((3,), 1 / 3, dtype=torch.float64)
    assert state.dtype == torch.float32
