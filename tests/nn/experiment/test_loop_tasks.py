"""Problems for loops: exact answers against plain references, for many problems and sizes."""

from collections import deque

import numpy as np
import pytest

pytest.importorskip("torch")

from ctrlattn import InputError
from ctrlattn.nn.experiment.loop_tasks import addition, maze, names, prefix_sums, task_of


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("size", [1, 2, 9])
def test_prefix_sums_are_the_parities_so_far(size):
    inputs, answers = prefix_sums(generator(), 50, size)
    assert set(np.unique(inputs)) <= {-1.0, 1.0}
    for bits, said in zip((inputs[..., 0] + 1) / 2, answers, strict=True):
        assert said.tolist() == [int(sum(bits[: i + 1])) % 2 for i in range(size)]
    assert 0.3 < answers.mean() < 0.7


@pytest.mark.parametrize("size", [2, 8, 40])
def test_sums_are_those_of_whole_numbers(size):
    inputs, answers = addition(generator(), 100, size)
    bits, carries = ((inputs + 1) / 2).astype(int), []
    for pair, said in zip(bits, answers, strict=True):
        first, second, total = (sum(int(b) << i for i, b in enumerate(row)) for row in (pair[:, 0], pair[:, 1], said))
        assert first + second == total
        carries.append(max(len(run) for run in "".join(map(str, (pair.sum(-1) == 1).astype(int))).split("0")))
    assert not bits[:, -1].any()
    if size == 40:  # carries run far in half of the problems
        assert np.median(carries) > 6


@pytest.mark.parametrize("size", [3, 5, 9])
def test_a_maze_is_a_tree_and_its_answer_the_shortest_path(size):
    inputs, answers = maze(generator(), 30, size)
    cells = (size + 1) // 2
    for picture, path in zip(inputs, answers, strict=True):
        free = picture[..., 0] == 0
        assert free.sum() == 2 * cells**2 - 1  # as many edges as a tree has
        (start,), (goal,) = (np.argwhere(picture[..., k]).tolist() for k in (1, 2))
        assert start != goal
        before, queue = {tuple(start): None}, deque([tuple(start)])
        while queue:
            r, c = queue.popleft()
            for at in ((r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)):
                if 0 <= at[0] < size and 0 <= at[1] < size and free[at] and at not in before:
                    before[at] = (r, c)
                    queue.append(at)
        assert len(before) == free.sum()  # all of it is joined
        at, shortest = tuple(goal), set()
        while at is not None:
            shortest.add(at)
            at = before[at]
        assert {tuple(p) for p in np.argwhere(path)} == shortest


def test_mazes_differ_and_a_seed_gives_the_same_ones():
    first, again, other = (maze(generator(seed), 20, 5)[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len({m.tobytes() for m in first}) > 15


def test_digits_are_the_shipped_images_in_patches():
    datasets = pytest.importorskip("sklearn.datasets").load_digits()
    task = task_of("digits")
    inputs, answers = task.examples(generator(), 40)
    held, _ = task.examples(generator(), 40, test=True)
    images = datasets.images[:1287] / 16
    patches = images.reshape(-1, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4)
    mean, deviation = images.mean(), images.std()
    for x, y in zip(inputs.numpy() * deviation + mean, answers.numpy(), strict=True):
        at = np.flatnonzero(abs(patches.reshape(-1, 64) - x.ravel()).max(1) < 0.01)
        assert len(at) >= 1
        assert y in datasets.target[at]
    tests = (datasets.images[-360:] / 16).reshape(-1, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 64)
    for x in held.numpy() * deviation + mean:
        assert abs(tests - x.ravel()).max(1).min() < 0.01


def test_larger_problems_and_what_is_no_size():
    assert [task_of(name).times(4) for name in names()] == [32, 32, 17, 16]
    assert task_of("maze").times(2, 9) == 17
    for name, size in (("maze", 4), ("maze", 1), ("addition", 1), ("digits", 8), ("prefix-sums", 0)):
        with pytest.raises(InputError):
            task_of(name).examples(generator(), 1, size)
    with pytest.raises(InputError, match="count"):
        task_of("maze").examples(generator(), 0)
