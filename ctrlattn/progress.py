"""progress(step, done, total): how long work says where it stands. The caller decides who shows it."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]


def silent(step: str, done: int, total: int) -> None:
    """The progress that nobody watches.

    >>> silent("fitting", 1, 3)
    """
