"""Processes that work for this one: they see no interrupt of the terminal, and end when it ends, however it does."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from threading import Thread


@contextmanager
def no_interrupts() -> Iterator[None]:
    """Processes that begin inside the block never see an interrupt of the terminal; this one sees it at the end.

    >>> with no_interrupts():
    ...     pass
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """End when the parent process ends: a signal that kills the parent does not reach its workers."""
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    Thread(target=follow, daemon=True).start()
