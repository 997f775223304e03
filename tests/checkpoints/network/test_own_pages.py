"""Room that is used again is never that of a tensor that lives, and no more than a little of it is kept."""

import mmap
import weakref

import pytest
import torch

from ctrlattn.checkpoints.network import own_pages

SHAPES = ((512, 1024), (1024, 512), (1024, 1024), (3, 4), (0, 5))
HOLDERS = {
    "the tensor": lambda t: t,
    "a view": lambda t: t[-1:],
    "a parameter": lambda t: torch.nn.Parameter(t, requires_grad=False),
    "a graph": lambda t: t.sum() if t.ndim < 2 else torch.ones(1, t.shape[0], requires_grad=True) @ t,
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_no_tensor_changes_while_others_come_and_go(seed):
    pages, draw = own_pages.OwnPages(), torch.Generator().manual_seed(seed)
    alive = []
    for number in range(40):
        t = pages.room(SHAPES[int(torch.randint(len(SHAPES), (), generator=draw))])
        alive.append((t.fill_(number), number))
        if int(torch.randint(2, (), generator=draw)):
            del alive[int(torch.randint(len(alive), (), generator=draw))]
        del t
        assert all(bool((t == number).all()) for t, number in alive)


@pytest.mark.parametrize("name", HOLDERS)
def test_whatever_holds_the_numbers_keeps_the_room(name):
    pages = own_pages.OwnPages()
    held = HOLDERS[name](pages.room(SHAPES[0]).fill_(1.0))
    for _ in range(4):
        pages.room(SHAPES[0]).fill_(7.0)
    if name == "a graph":
        held.sum().backward()
        left = held.grad_fn.next_functions[0][0].variable.grad
        assert left.eq(SHAPES[0][1]).all()
    else:
        assert held.eq(1.0).all()


def test_two_rooms_of_a_size_are_kept_and_the_others_go_back(monkeypatch):
    made = []

    class Counted(mmap.mmap):
        def __new__(cls, *given):
            memory = super().__new__(cls, *given)
            made.append(weakref.ref(memory))
            return memory

    monkeypatch.setattr(own_pages.mmap, "mmap", Counted)
    pages = own_pages.OwnPages()
    for _ in range(2):
        tensors = [pages.room(SHAPES[0]) for _ in range(5)]
        assert len({t.data_ptr() for t in tensors}) == 5
        del tensors
        assert sum(memory() is not None for memory in made) == 2
    assert len(made) == 8  # two of the second five were there
    pages.room(SHAPES[-2])
    assert len(made) == 8
