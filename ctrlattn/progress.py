"""progress(step, done, total): the function to which long work reports its progress; the caller may show it or not.

Work that nobody asked for, such as compiling at a first use, has no caller to report to. It says so by `notice`.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Progress = Callable[[str, int, int], None]


def silent(step: str, done: int, total: int) -> None:
    """The progress that nobody watches.

    >>> silent("fitting", 1, 3)
    """


def _on_a_terminal(text: str) -> None:
    """A line on stderr where a person sits before it: a log of a program that runs by itself stays as it is."""
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write(f"ctrlattn: {text}\n")
        sys.stderr.flush()


_NOTICE: ContextVar[Callable[[str], None]] = ContextVar("notice", default=_on_a_terminal)


def notice(text: str) -> None:
    """One line about what keeps a person waiting, as the block says; by default on a terminal alone.

    >>> with noticed_by(print):
    ...     notice("the kettle boils")
    the kettle boils
    """
    _NOTICE.get()(text)


@contextmanager
def noticed_by(show: Callable[[str], None]) -> Iterator[None]:
    """In the block `show` gets what `notice` says."""
    before = _NOTICE.set(show)
    try:
        yield
    finally:
        _NOTICE.reset(before)
