"""progress(step, done, total): the function to which long work reports its progress; the caller may show it or not.

Work that nobody asked for, such as compiling at a first use, has no caller to report to. It says so by `notice`.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Progress = Callable[[str, int, int], None]


def silent(step: str, done: int, total: int) -> None:
    """Take progress that nobody watches, and do nothing.

    >>> silent("fitting", 1, 3)
    """


def seldom(progress: Progress, first: float = 1.0, then: float = 0.1) -> Progress:
    """Make a progress that says only what somebody can read: of work that ends within a second it says nothing.

    Parameters
    ----------
    progress : Progress
        It is told.
    first, then : float
        Seconds from now until it is told first, and between two of its steps. If it is told at all, it hears the end.

    Examples
    --------
    >>> lasting, brief = (seldom(print, first) for first in (0.0, 60.0))
    >>> for tell in (lasting, brief):
    ...     tell("fitting", 1, 3)
    ...     tell("fitting", 2, 3)
    ...     tell("fitting", 3, 3)
    fitting 1 3
    fitting 3 3
    """
    due, has_begun = time.monotonic() + first, False

    def tell(step: str, done: int, total: int) -> None:
        nonlocal due, has_begun
        now = time.monotonic()
        if now >= due or (has_begun and done == total):
            due, has_begun = now + then, True
            progress(step, done, total)

    return tell


def _on_a_terminal(text: str) -> None:
    """Write a line on stderr where a person sits before it: a log of a program that runs by itself stays as it is."""
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write(f"ctrlattn: {text}\n")
        sys.stderr.flush()


_NOTICE: ContextVar[Callable[[str], None]] = ContextVar("notice", default=_on_a_terminal)


def notice(text: str) -> None:
    """Tell in one line what keeps a person waiting, as the block says; by default on a terminal alone.

    >>> with noticed_by(print):
    ...     notice("the kettle boils")
    the kettle boils
    """
    _NOTICE.get()(text)


@contextmanager
def noticed_by(show: Callable[[str], None]) -> Iterator[None]:
    """Hand `show` the lines of `notice` inside the block."""
    before = _NOTICE.set(show)
    try:
        yield
    finally:
        _NOTICE.reset(before)
