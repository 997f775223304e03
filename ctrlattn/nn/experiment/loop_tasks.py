"""(inputs, answers) of a size: prefix sums, addition, mazes and digits, problems for networks that loop.

The first three are made by exact rules at any size, so that a network trained on small problems can be
asked large ones. How many passes a problem needs grows with its size, since a layer sees only the neighbours of a
place. Torch is imported once problems are made, so that a task and its sizes are judged before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from ctrlattn.errors import InputError, require_known, require_whole

if TYPE_CHECKING:
    import torch

Problems = tuple["torch.Tensor", "torch.Tensor"]
Arrays = tuple[np.ndarray, np.ndarray]
Maker = Callable[[np.random.Generator, int, int], Arrays]


@dataclass(frozen=True)
class Task:
    """A kind of problem.

    Parameters
    ----------
    name : str
    features, classes : int
        Numbers at each place of the input, and answers to choose from.
    axes : 1 or 2
        A line, or a grid.
    size : int
        Default size of the problems of training.
    passes : int
        Default number of passes in training.
    pooled : bool
        Whether there is one answer for all places.
    make : callable (generator, count, size) -> (inputs, answers)
    require : callable (size) -> None
        Raises InputError where there are no problems of that size.
    """

    name: str
    features: int
    classes: int
    axes: int
    size: int
    passes: int
    pooled: bool
    make: Maker
    require: Callable[[int], None] = lambda size: None
    make_test: Maker | None = None  # where problems for testing are others by their source and not by the generator

    def examples(
        self, generator: np.random.Generator, count: int, size: int | None = None, *, test: bool = False
    ) -> Problems:
        """Make `count` problems.

        Parameters
        ----------
        generator : numpy Generator
        count : int
        size : int, optional
            Size of the problems, by default that of the task.
        test : bool
            Whether the problems are those for testing.

        Returns
        -------
        (inputs, answers)
            inputs (count, *grid, features) float32; answers (count, *grid) or (count,) whole numbers.

        Raises
        ------
        InputError
            The count or size is below 1, or the task does not have the size.
        """
        import torch

        count, size = require_whole("count", count), require_whole("size", self.size if size is None else size)
        self.require(size)
        make = self.make_test if test and self.make_test is not None else self.make
        inputs, answers = make(generator, count, size)
        return torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(answers.astype(np.int64))

    def times(self, factor: int, size: int | None = None) -> int:
        """Return the size of problems that are so many times as long as those of `size`.

        >>> task_of("maze").times(2), task_of("addition").times(2)
        (9, 16)
        """
        size = self.size if size is None else size
        return factor * (size - 1) + 1 if self.name == "maze" else factor * size


def task_of(name: str) -> Task:
    """Return the task of that name: prefix-sums, addition, maze or digits.

    Raises
    ------
    InputError
        The name is unknown.

    Examples
    --------
    >>> inputs, answers = task_of("prefix-sums").examples(np.random.default_rng(0), 2)
    >>> inputs.shape, answers.shape
    (torch.Size([2, 8, 1]), torch.Size([2, 8]))
    >>> task_of("prefix-sum")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: unknown task 'prefix-sum': did you mean 'prefix-sums'?
    """
    return _TASKS[require_known("task", name, _TASKS)]


def names() -> list[str]:
    """Return the names of the tasks.

    >>> names()
    ['prefix-sums', 'addition', 'maze', 'digits']
    """
    return list(_TASKS)


def prefix_sums(generator: np.random.Generator, count: int, size: int) -> Arrays:
    """Draw bits as -1 and 1, (count, size, 1); return them with the parity of each bit and all before it.

    >>> inputs, answers = prefix_sums(np.random.default_rng(1), 1, 5)
    >>> inputs.ravel().tolist(), answers.ravel().tolist()
    ([-1.0, 1.0, 1.0, 1.0, -1.0], [0, 1, 0, 1, 1])
    """
    bits = generator.integers(0, 2, (count, size))
    return 2.0 * bits[..., None] - 1, np.cumsum(bits, axis=1) % 2


def addition(generator: np.random.Generator, count: int, size: int) -> Arrays:
    """Draw two numbers of size - 1 bits, least bit first, (count, size, 2) as -1 and 1, and the bits of their sum.

    Half of the pairs are complements of each other but for one bit in four at most, so that carries run far; among
    uniform pairs a carry over more than a few places is rare.
    """
    first = generator.integers(0, 2, (count, size - 1))
    second = generator.integers(0, 2, (count, size - 1))
    far = generator.random((count, 1)) < 0.5
    second = np.where(far & (generator.random(second.shape) < 0.75), 1 - first, second)
    bits = np.zeros((2, count, size), dtype=np.int64)
    bits[0, :, :-1], bits[1, :, :-1] = first, second
    answers, carry = np.zeros((count, size), dtype=np.int64), np.zeros(count, dtype=np.int64)
    for i in range(size):
        total = bits[0, :, i] + bits[1, :, i] + carry
        answers[:, i], carry = total % 2, total // 2
    return np.moveaxis(2.0 * bits - 1, 0, -1), answers


def maze(generator: np.random.Generator, count: int, size: int) -> Arrays:
    """Draw mazes without circles on an odd square, (count, size, size, 3): wall, start, goal; with the path's places.

    Cells stand at the places of two even coordinates, and a random depth-first walk opens the places between them, so
    that any two cells are joined by one path. Start and goal are two different cells.
    """
    inputs, answers = np.zeros((count, size, size, 3)), np.zeros((count, size, size), dtype=np.int64)
    cells = (size + 1) // 2
    for i in range(count):
        parent, free = _tree(generator, cells)
        start, goal = generator.choice(cells * cells, 2, replace=False)
        inputs[i, ..., 0] = 1 - free
        inputs[i, 2 * (start // cells), 2 * (start % cells), 1] = 1
        inputs[i, 2 * (goal // cells), 2 * (goal % cells), 2] = 1
        answers[i] = _path(parent, int(start), int(goal), cells)
    return inputs, answers


def _tree(generator: np.random.Generator, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (parent of each cell, -1 for the root; which places are free) of a random depth-first walk."""
    parent = np.full(cells * cells, -2)
    free = np.zeros((2 * cells - 1, 2 * cells - 1))
    root = int(generator.integers(cells * cells))
    parent[root], stack = -1, [root]
    free[2 * (root // cells), 2 * (root % cells)] = 1
    while stack:
        row, column = divmod(stack[-1], cells)
        beside = [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
        unseen = [(r, c) for r, c in beside if 0 <= r < cells and 0 <= c < cells and parent[r * cells + c] == -2]
        if not unseen:
            stack.pop()
            continue
        r, c = unseen[int(generator.integers(len(unseen)))]
        parent[r * cells + c] = stack[-1]
        free[2 * r, 2 * c] = free[r + row, c + column] = 1
        stack.append(r * cells + c)
    return parent, free


def _path(parent: np.ndarray, start: int, goal: int, cells: int) -> np.ndarray:
    """Put 1 at the places of the only path between two cells of a tree."""
    above = {}
    for end in (start, goal):
        above[end] = [end]
        while parent[above[end][-1]] >= 0:
            above[end].append(int(parent[above[end][-1]]))
    shared = set(above[start]) & set(above[goal])
    meeting = next(cell for cell in above[start] if cell in shared)
    path = [*above[start][: above[start].index(meeting) + 1], *above[goal][: above[goal].index(meeting)][::-1]]
    marked = np.zeros((2 * cells - 1, 2 * cells - 1), dtype=np.int64)
    at = np.array([divmod(cell, cells) for cell in path])
    marked[2 * at[:, 0], 2 * at[:, 1]] = 1
    marked[at[1:, 0] + at[:-1, 0], at[1:, 1] + at[:-1, 1]] = 1
    return marked


def digits(generator: np.random.Generator, count: int, size: int, *, test: bool = False) -> Arrays:
    """Draw digits as 4 x 4 patches of 2 x 2 pixels, (count, 4, 4, 4), and their values; `count` of them at random.

    The images for training and for testing are those of `nn.experiment.data`, of size 4: images are not made.
    """
    patches, values = _patches(test)
    rows = generator.choice(len(patches), count, replace=count > len(patches))
    return patches[rows], values[rows]


@cache
def _patches(test: bool) -> tuple[np.ndarray, np.ndarray]:
    from ctrlattn.nn.experiment import data

    digits = data.load("digits")
    part = digits.test if test else digits.train
    pixels = digits.prepare(part.inputs).numpy()[:, 0]
    return pixels.reshape(-1, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 4, 4, 4), part.targets.numpy()


def _require_bits(size: int) -> None:
    if size < 2:
        raise InputError(f"addition needs a size of at least 2, one bit and its carry, got {size}")


def _require_maze(size: int) -> None:
    if size % 2 == 0 or size < 3:
        raise InputError(f"the side of a maze is odd and at least 3, got {size}")


def _require_digits(size: int) -> None:
    if size != 4:
        raise InputError(f"digits have 4 x 4 patches and no other size, got {size}")


_TASKS = {
    "prefix-sums": Task("prefix-sums", 1, 2, 1, 8, 10, False, prefix_sums),
    "addition": Task("addition", 2, 2, 1, 8, 10, False, addition, _require_bits),
    "maze": Task("maze", 3, 2, 2, 5, 12, False, maze, _require_maze),
    "digits": Task("digits", 4, 10, 2, 4, 8, True, digits, _require_digits, partial(digits, test=True)),
}
