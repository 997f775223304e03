"""Processes that work for this one: they see no interrupt of the terminal, and end when it ends, however it does."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from threading import Thread, current_thread, main_thread


@contextmanager
def no_interrupts() -> Iterator[None]:
    """Processes that begin inside the block never see an interrupt of the terminal; this one sees it at the end.

    >>> with no_interrupts():
    ...     pass
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    seen: list[int] = []
    # A process inherits the mask of the thread that begins it. The mask of this thread does not keep a signal from the
    # other ones, whose handler runs here: it is noted, and raised again at the end.
    may_handle = current_thread() is main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: seen.append(number)) if may_handle else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if may_handle:
            signal.signal(signal.SIGINT, signal.SIG_DFL if handler is None else handler)
            if seen:
                signal.raise_signal(signal.SIGINT)


def end_with_parent() -> None:
    """End when the parent process ends: a signal that kills the parent does not reach its workers."""
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    Thread(target=follow, daemon=True).start()
