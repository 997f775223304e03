"""progress(step, done, total): the function to which long work reports its progress; the caller may show it or not."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]


def silent(step: str, done: int, total: int) -> None:
    """The progress that nobody watches.

    >>> silent("fitting", 1, 3)
    """
